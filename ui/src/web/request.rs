//! Reading query strings and path segments, with answers that say what was wrong.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use verdict_ledger::id::TraceId;

use super::AppState;
use super::error::PageError;
use super::view::page::Shell;

/// A query string; what does not parse is a page, not a bare line of text.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, PageError> {
        let Query(value) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|error| PageError::BadRequest { detail: error.body_text() })?;
        Ok(Self(value))
    }
}

impl FromRequestParts<AppState> for Shell {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Self::Rejection> {
        Ok(Self::new(parts, state))
    }
}

/// Returns the name by which the client reached this server; the host check has let it through.
pub(crate) fn host(headers: &HeaderMap) -> String {
    headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost").to_owned()
}

/// Reads a trace id from a path segment.
pub(crate) fn trace_id(text: &str) -> Result<TraceId, PageError> {
    text.parse()
        .map_err(|error| PageError::BadRequest { detail: format!("`{text}` is not a trace id: {error}") })
}

/// Reads a position from a path segment or a parameter.
pub(crate) fn position(name: &'static str, text: &str) -> Result<u64, PageError> {
    text.parse().map_err(|_| PageError::BadRequest {
        detail: format!("{name} must be a position in the log (a whole number from 0), got `{text}`"),
    })
}

/// Reads an optional position: absent and empty are the same, because forms send empty fields.
pub(crate) fn optional_position(name: &'static str, text: Option<&str>) -> Result<Option<u64>, PageError> {
    text.map(str::trim).filter(|text| !text.is_empty()).map(|text| position(name, text)).transpose()
}
