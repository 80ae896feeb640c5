//! A number for every request, in the log and on the response; no query strings and no payloads in the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use crate::web::AppState;

/// Name of the response header that carries the number.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

static NEXT: AtomicU64 = AtomicU64::new(1);

/// Numbers and logs a request.
pub(crate) async fn requests(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let span =
        tracing::info_span!("request", id = number, method = %request.method(), route = route.as_deref());
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
    response.headers_mut().insert(REQUEST_ID, HeaderValue::from(number));
    response
}
