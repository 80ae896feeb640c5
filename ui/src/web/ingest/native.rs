//! `POST /api/v1/events`: native events, one JSON object a line; all lines or none.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use verdict_ledger::AppendError;
use verdict_ledger::ingest::{self, Format, IngestError, Mapped};

use super::append::{self, Stored};
use super::body::{self, BodyError};
use crate::web::AppState;
use crate::web::error::chain;

/// Errors that an answer lists; the rest is counted.
const ERRORS_MAX: usize = 100;
/// Media types that say "lines of JSON" or leave it open.
const MEDIA_TYPES: [&str; 7] = [
    "",
    "application/json",
    "application/jsonl",
    "application/ndjson",
    "application/x-ndjson",
    "application/octet-stream",
    "text/plain",
];

enum Answer {
    Stored(Stored, Vec<String>),
    Rejected(Mapped),
    Format,
    Ingest(IngestError),
    Append(AppendError),
}

/// Takes native events; the audit log of the AISecOps Interceptor is told by its content and taken too.
pub(crate) async fn native(State(state): State<AppState>, headers: HeaderMap, request: Body) -> Response {
    let media = body::media_type(&headers);
    if !MEDIA_TYPES.contains(&media.as_str()) {
        let detail = format!("content-type `{media}` is not taken here; use application/x-ndjson");
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, &detail, Vec::new(), 0);
    }
    let bytes = match body::read(&state, &headers, request).await {
        Ok(bytes) => bytes,
        Err(error) => {
            let status = match error {
                BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                BodyError::Encoding { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
                BodyError::NotGzip | BodyError::Incomplete => StatusCode::BAD_REQUEST,
            };
            return problem(status, &error.to_string(), Vec::new(), 0);
        }
    };
    match tokio::task::spawn_blocking(move || process(&state, &bytes)).await {
        Ok(answer) => respond(answer),
        Err(_panicked) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the request could not be processed and nothing of it is acknowledged",
            Vec::new(),
            0,
        ),
    }
}

fn process(state: &AppState, bytes: &[u8]) -> Answer {
    let format = match Format::detect(None, Some("application/x-ndjson"), bytes) {
        Some(format @ (Format::Native | Format::AiSecOps)) => format,
        Some(_) => return Answer::Format,
        None => Format::Native,
    };
    let mapped = match ingest::map(format, bytes, &body::limits(state)) {
        Ok(mapped) => mapped,
        Err(error) => return Answer::Ingest(error),
    };
    if !mapped.rejected.is_empty() {
        return Answer::Rejected(mapped);
    }
    let warnings = mapped.warnings.iter().map(ToString::to_string).collect();
    let batch = match mapped.into_batch(None) {
        Ok(batch) => batch,
        Err(error) => return Answer::Ingest(error),
    };
    match append::append(state.ledger(), batch) {
        Ok(stored) => Answer::Stored(stored, warnings),
        Err(error) => Answer::Append(error),
    }
}

fn respond(answer: Answer) -> Response {
    match answer {
        Answer::Stored(stored, warnings) => {
            let body = json!({
                "appended": stored.appended,
                "duplicates": stored.duplicates,
                "conflicts": stored.conflicts,
                "size": stored.size.to_string(),
                "refused": stored.refused,
                "warnings": warnings,
            });
            Json(body).into_response()
        }
        Answer::Rejected(mapped) => {
            let errors = mapped.rejected.iter().take(ERRORS_MAX).map(|rejected| {
                json!({
                    "place": rejected.place,
                    "offset": rejected.offset,
                    "reason": rejected.reason.to_string(),
                })
            });
            let detail = format!("{} lines cannot be taken; nothing was appended", mapped.rejected.len());
            problem(StatusCode::UNPROCESSABLE_ENTITY, &detail, errors.collect(), mapped.rejected.len())
        }
        Answer::Format => problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "this is OTLP; send it to /v1/traces or /v1/logs",
            Vec::new(),
            0,
        ),
        Answer::Ingest(error) => {
            let status = match error {
                IngestError::BodyTooLarge { .. }
                | IngestError::DecompressedTooLarge { .. }
                | IngestError::TooManyEvents { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_REQUEST,
            };
            problem(status, &chain(&error), Vec::new(), 0)
        }
        Answer::Append(error) => {
            tracing::error!(error = %chain(&error), "append failed");
            let not_durable = matches!(
                error,
                AppendError::Storage { .. } | AppendError::Poisoned { .. } | AppendError::Entropy(_)
            );
            if not_durable {
                let detail = "the events are not durable; send them again";
                let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail, Vec::new(), 0);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
                response
            } else {
                problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string(), Vec::new(), 0)
            }
        }
    }
}

/// Writes an RFC 9457 problem document.
fn problem(status: StatusCode, detail: &str, errors: Vec<Value>, count: usize) -> Response {
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(),
        "detail": detail,
    });
    if let (Some(object), true) = (body.as_object_mut(), count > 0) {
        object.insert("errors".to_owned(), Value::from(errors));
        object.insert("error_count".to_owned(), Value::from(count));
    }
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
    (status, content_type, body.to_string()).into_response()
}
