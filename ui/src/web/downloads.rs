//! Bytes to take away: entries, proofs and raw bodies.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::error::PageError;
use super::inclusion::{self, Inclusion};
use super::middleware::headers::SANDBOX_POLICY;
use super::request::position;
use super::{AppState, blocking};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers with a file that no browser runs or shows as ours.
fn attachment(name: &str, content_type: HeaderValue, bytes: Vec<u8>) -> Result<Response, PageError> {
    let disposition = HeaderValue::try_from(format!("attachment; filename=\"{name}\""))
        .map_err(|_| PageError::BadRequest { detail: "the file has no name".to_owned() })?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.insert(header::CONTENT_SECURITY_POLICY, SANDBOX_POLICY);
    Ok((headers, bytes).into_response())
}

/// `GET /events/{seq}/entry`: the exact bytes that are hashed.
pub(crate) async fn entry(
    State(state): State<AppState>,
    Path(seq): Path<String>,
) -> Result<Response, PageError> {
    let seq = position("the event", &seq)?;
    let bytes =
        blocking::run(move || state.ledger().entry(seq)?.ok_or_else(|| PageError::not_found("entry", seq)))
            .await?;
    attachment(&format!("entry-{seq}.json"), JSON, bytes)
}

/// `GET /events/{seq}/proof`: a C2SP tlog-proof against the newest checkpoint.
pub(crate) async fn proof(
    State(state): State<AppState>,
    Path(seq): Path<String>,
) -> Result<Response, PageError> {
    let seq = position("the event", &seq)?;
    let text = blocking::run(move || {
        let ledger = state.ledger();
        let entry = ledger.entry(seq)?.ok_or_else(|| PageError::not_found("entry", seq))?;
        match inclusion::check(ledger, seq, &entry)? {
            Inclusion::Verified { proof, .. } => Ok(proof.to_string()),
            Inclusion::NotCovered { .. } => Err(PageError::not_found("checkpoint that covers entry", seq)),
            Inclusion::Failed { error, .. } => {
                tracing::error!(seq, %error, "an inclusion proof failed");
                Err(PageError::not_found("valid proof for entry", seq))
            }
        }
    })
    .await?;
    attachment(&format!("entry-{seq}.tlog-proof"), TEXT, text.into_bytes())
}

/// `GET /events/{seq}/body`: the request body that the event was read from, as received.
pub(crate) async fn body(
    State(state): State<AppState>,
    Path(seq): Path<String>,
) -> Result<Response, PageError> {
    let seq = position("the event", &seq)?;
    let (digest, bytes) = blocking::run(move || {
        let ledger = state.ledger();
        let record = ledger.record(seq)?.ok_or_else(|| PageError::not_found("entry", seq))?;
        let digest = record
            .event
            .and_then(|event| event.source.raw)
            .ok_or_else(|| PageError::not_found("raw body named by entry", seq))?;
        let bytes =
            ledger.blob(&digest)?.ok_or_else(|| PageError::not_found("raw body (not held)", digest))?;
        Ok((digest, bytes))
    })
    .await?;
    attachment(&format!("body-{}.bin", digest.to_hex().get(..16).unwrap_or_default()), BYTES, bytes)
}
