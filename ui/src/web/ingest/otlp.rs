//! OTLP/HTTP: `/v1/traces`, `/v1/logs` and `/v1/metrics`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use verdict_ledger::AppendError;
use verdict_ledger::ingest::{self, Format, IngestError, Signal};

use super::append::{self, Stored};
use super::body::{self, BodyError};
use super::status::{Code, Encoding};
use crate::web::AppState;

/// Reasons that an answer spells out; the rest is counted.
const REASONS_MAX: usize = 3;

/// `POST /v1/traces`
pub(crate) async fn otlp_traces(State(state): State<AppState>, headers: HeaderMap, body: Body) -> Response {
    take(state, Signal::Traces, headers, body).await
}

/// `POST /v1/logs`
pub(crate) async fn otlp_logs(State(state): State<AppState>, headers: HeaderMap, body: Body) -> Response {
    take(state, Signal::Logs, headers, body).await
}

/// `POST /v1/metrics`: read, so that a broken sender learns of it, and not kept.
pub(crate) async fn otlp_metrics(State(state): State<AppState>, headers: HeaderMap, body: Body) -> Response {
    take(state, Signal::Metrics, headers, body).await
}

/// What can go wrong after the body has arrived.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Ingest(#[from] IngestError),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What was done with a body.
#[derive(Debug)]
struct Taken {
    stored: Stored,
    rejected: Vec<String>,
}

async fn take(state: AppState, signal: Signal, headers: HeaderMap, request: Body) -> Response {
    let (encoding, format) = match body::media_type(&headers).as_str() {
        "application/x-protobuf" | "application/protobuf" => {
            (Encoding::Protobuf, Format::OtlpProtobuf(signal))
        }
        "application/json" => (Encoding::Json, Format::OtlpJson),
        other => {
            let message =
                format!("content-type `{other}` is not OTLP; use application/x-protobuf or application/json");
            return Encoding::Json.error(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, &message);
        }
    };
    let bytes = match body::read(&state, &headers, request).await {
        Ok(bytes) => bytes,
        Err(error) => return body_error(encoding, &error),
    };
    let work = tokio::task::spawn_blocking(move || -> Result<Taken, TakeError> {
        let mapped = ingest::map(format, &bytes, &body::limits(&state))?;
        drop(bytes);
        let rejected = mapped.rejected.iter().map(ToString::to_string).collect();
        let stored = append::append(state.ledger(), mapped.into_batch(None)?)?;
        Ok(Taken { stored, rejected })
    });
    match work.await {
        Ok(Ok(taken)) => answer(encoding, signal, taken),
        Ok(Err(TakeError::Ingest(error))) => ingest_error(encoding, &error),
        Ok(Err(TakeError::Append(error))) => append_error(encoding, &error),
        Err(_panicked) => encoding.error(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Internal,
            "the request could not be processed and nothing of it is acknowledged",
        ),
    }
}

fn answer(encoding: Encoding, signal: Signal, taken: Taken) -> Response {
    let mut reasons = taken.rejected;
    reasons.extend(taken.stored.refused);
    let count = u64::try_from(reasons.len()).unwrap_or(u64::MAX);
    let mut message = reasons.iter().take(REASONS_MAX).map(String::as_str).collect::<Vec<_>>().join("; ");
    if reasons.len() > REASONS_MAX {
        message.push_str(&format!("; and {} more", reasons.len() - REASONS_MAX));
    }
    if signal == Signal::Metrics {
        "metrics are not stored by this server; point the metrics exporter elsewhere"
            .clone_into(&mut message);
    }
    if count > 0 {
        tracing::warn!(%signal, count, "records were rejected");
    }
    encoding.accepted(signal, count, &message)
}

fn body_error(encoding: Encoding, error: &BodyError) -> Response {
    let (status, code) = match error {
        BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
        BodyError::Encoding { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented),
        BodyError::NotGzip | BodyError::Incomplete => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
    };
    encoding.error(status, code, &error.to_string())
}

fn ingest_error(encoding: Encoding, error: &IngestError) -> Response {
    let (status, code) = match error {
        IngestError::BodyTooLarge { .. }
        | IngestError::DecompressedTooLarge { .. }
        | IngestError::TooManyEvents { .. }
        | IngestError::TooManyMessages { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
        _ => (StatusCode::BAD_REQUEST, Code::InvalidArgument),
    };
    encoding.error(status, code, &crate::web::error::chain(error))
}

/// Only a write that is not durable is worth sending again; the rest would loop for ever.
fn append_error(encoding: Encoding, error: &AppendError) -> Response {
    tracing::error!(error = %crate::web::error::chain(error), "append failed");
    match error {
        AppendError::Storage { .. } | AppendError::Poisoned { .. } | AppendError::Entropy(_) => encoding
            .error(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                "the records are not durable; send them again",
            ),
        AppendError::BatchTooLarge { .. } => {
            encoding.error(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, &error.to_string())
        }
        _ => encoding.error(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, &error.to_string()),
    }
}
