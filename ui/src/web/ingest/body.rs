//! Reading a request body within its limits.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use verdict_ledger::ingest::Limits;

use crate::web::AppState;

/// Longest time that a client may take to send its body.
const RECEIVE: Duration = Duration::from_mins(1);

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// Larger than the limit.
    #[error("the body is larger than {limit} bytes; send smaller batches")]
    TooLarge {
        /// Limit.
        limit: usize,
    },
    /// Encoded in a way that is not understood.
    #[error("content-encoding `{encoding}` is not supported; use gzip or none")]
    Encoding {
        /// As stated.
        encoding: String,
    },
    /// Said to be gzip and is not.
    #[error("the body is said to be gzip and does not start like it")]
    NotGzip,
    /// The client went away or was too slow.
    #[error("the body did not arrive completely")]
    Incomplete,
}

/// Returns the limits of the mappers for this server.
pub(super) fn limits(state: &AppState) -> Limits {
    Limits {
        body_bytes_max: state.limits().body_bytes_max,
        decompressed_bytes_max: state.limits().decoded_bytes_max,
        ..Limits::default()
    }
}

/// Reads a body to its end. Decompression is the mapper's, which knows the limit for it.
pub(super) async fn read(state: &AppState, headers: &HeaderMap, body: Body) -> Result<Bytes, BodyError> {
    let limit = state.limits().body_bytes_max;
    let gzip = is_gzip(headers)?;
    let stated =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if stated.is_some_and(|stated| usize::try_from(stated).map_or(true, |stated| stated > limit)) {
        // No need to read what will not be taken.
        return Err(BodyError::TooLarge { limit });
    }
    let bytes = match tokio::time::timeout(RECEIVE, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(BodyError::TooLarge { limit }),
        Ok(Err(_)) | Err(_) => return Err(BodyError::Incomplete),
    };
    if gzip && !bytes.is_empty() && !bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(BodyError::NotGzip);
    }
    Ok(bytes)
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, BodyError> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(false) };
    let encoding = String::from_utf8_lossy(encoding.as_bytes()).trim().to_ascii_lowercase();
    match encoding.as_str() {
        "gzip" | "x-gzip" => Ok(true),
        "" | "identity" => Ok(false),
        _ => Err(BodyError::Encoding { encoding }),
    }
}

/// Returns the media type without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value =
        headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
