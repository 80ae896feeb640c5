//! OTLP/HTTP: `/v1/traces`, `/v1/logs` and `/v1/metrics`.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use verdict_ledger::contract::AtIngest;
use verdict_ledger::ingest::{Format, Signal};

use super::body;
use super::refusal::Code;
use super::status::Encoding;
use super::take::{self, Rule, Taken};
use crate::auth::gate::Caller;
use crate::web::AppState;

/// Reasons that an answer spells out; the rest is counted.
const REASONS_MAX: usize = 3;

/// `POST /v1/traces`
pub(crate) async fn otlp_traces(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&state, Signal::Traces, caller, &headers, body).await
}

/// `POST /v1/logs`
pub(crate) async fn otlp_logs(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&state, Signal::Logs, caller, &headers, body).await
}

/// `POST /v1/metrics`: read, so that a broken sender learns of it, and declined point by point: every one counts as
/// rejected.
pub(crate) async fn otlp_metrics(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&state, Signal::Metrics, caller, &headers, body).await
}

/// Returns the encoding of a request; an answer to something else is JSON, which people can read.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<Encoding, String> {
    match body::media_type(headers).as_str() {
        "application/x-protobuf" | "application/protobuf" => Ok(Encoding::Protobuf),
        "application/json" => Ok(Encoding::Json),
        other => {
            Err(format!("content-type `{other}` is not OTLP; use application/x-protobuf or application/json"))
        }
    }
}

async fn answer(
    state: &AppState,
    signal: Signal,
    caller: Caller,
    headers: &HeaderMap,
    request: Body,
) -> Response {
    let encoding = match encoding(headers) {
        Ok(encoding) => encoding,
        Err(message) => {
            state.metrics().refused("media_type");
            return Encoding::Json.error(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, &message);
        }
    };
    let format = match encoding {
        Encoding::Protobuf => Format::OtlpProtobuf(signal),
        Encoding::Json => Format::OtlpJson,
    };
    let taken = async {
        let received = body::read(state, headers, request).await?;
        take::take(state, received, caller, Rule::Partial, move |_| Ok(format)).await
    };
    match taken.await {
        Ok(taken) => {
            let (rejected, message) = partial_success(signal, &taken);
            encoding.accepted(signal, rejected, &message)
        }
        Err(refusal) => {
            state.metrics().refusal(&refusal);
            let (status, code) = refusal.http();
            encoding.error(status, code, &refusal.message())
        }
    }
}

/// Returns what a partial success says: how many records were rejected and why, or, with none, what was odd.
pub(super) fn partial_success(signal: Signal, taken: &Taken) -> (u64, String) {
    if signal == Signal::Metrics {
        // They sum up what spans and log records say one by one: kept beside those, everything would be there twice, and
        // nobody could say which sum is which.
        let message = "metrics are not stored by this server, and nothing is counted from them: it keeps the spans and log \
                       records that they sum up; point the metrics exporter elsewhere, or set OTEL_METRICS_EXPORTER=none";
        return (taken.metric_points, message.to_owned());
    }
    let reasons = taken.reasons();
    let count = u64::try_from(reasons.len()).unwrap_or(u64::MAX);
    // Kept in quarantine, and for the sender as good as rejected.
    let quarantined = taken.contract.as_ref().map_or(0, AtIngest::rejected);
    let unmet = taken.contract.as_ref().and_then(AtIngest::message);
    let count = count.saturating_add(u64::try_from(quarantined).unwrap_or(0));
    let mut said = if count > 0 {
        tracing::warn!(%signal, count, "records were rejected or quarantined");
        reasons
    } else {
        taken.warnings.iter().map(ToString::to_string).collect()
    };
    said.splice(0..0, unmet);
    (count, first_few(&said))
}

fn first_few(texts: &[String]) -> String {
    let mut message = texts.iter().take(REASONS_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
    if texts.len() > REASONS_MAX {
        message.push_str(&format!("; and {} more", texts.len() - REASONS_MAX));
    }
    message
}

/// Turns a refusal at the door into an answer in the encoding of the request.
pub(crate) fn refuse(headers: &HeaderMap, status: StatusCode, code: Code, message: &str) -> Response {
    encoding(headers).unwrap_or(Encoding::Json).error(status, code, message)
}
