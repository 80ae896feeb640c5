//! A number for every request, in the log and on the response; no query strings and no payloads in the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use crate::telemetry::{Attribute, Context, Ended};
use crate::web::AppState;

/// Name of the response header that carries the number.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Routes that are asked every few seconds and say nothing about anybody's work.
const UNTRACED: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/grpc.health.v1.Health/Check"];

/// Numbers, counts and logs a request, and traces it when the server traces itself.
pub(crate) async fn requests(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let above = request
        .headers()
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .and_then(Context::from_traceparent);
    let own = state
        .telemetry()
        .filter(|_| !route.as_deref().is_some_and(|route| UNTRACED.contains(&route)))
        .and_then(|telemetry| telemetry.begin(above));
    if let Some(own) = own {
        request.extensions_mut().insert(own);
    }
    let trace = own.or(above).map(|context| hex::encode(context.trace_id));
    let span = tracing::info_span!(
        "request",
        id = number,
        method = %method,
        route = route.as_deref(),
        trace_id = trace.as_deref()
    );
    let start_ns = state.now_ns();
    #[expect(clippy::disallowed_methods, reason = "latency of a request, for the operator's log only")]
    let (mut response, took) = {
        let started = Instant::now();
        let response = next.run(request).instrument(span.clone()).await;
        (response, started.elapsed())
    };
    let status = response.status().as_u16();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| tracing::debug!(status, took_ms, "answered"));
    state.metrics().answered(route.as_deref(), &method, status, took.as_secs_f64());
    if let (Some(telemetry), Some(context)) = (state.telemetry(), own) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let name = route.as_deref().map_or_else(|| method.to_string(), |route| format!("{method} {route}"));
        let mut attributes = vec![
            ("http.request.method", Attribute::Text(method.to_string())),
            ("http.response.status_code", Attribute::Number(status.into())),
        ];
        attributes.extend(route.map(|route| ("http.route", Attribute::Text(route))));
        telemetry.end(Ended {
            context,
            parent: above.map(|above| above.span_id),
            name,
            is_server: true,
            start_ns,
            end_ns: start_ns.saturating_add(took_ns),
            is_error: status >= 500,
            attributes,
        });
    }
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from(number));
    response
}
