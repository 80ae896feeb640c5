//! Every way a page can fail, what the reader is told, and where they can go from there.
//!
//! The outside message never holds the inside one: details of the store go to the operator's log, with the
//! request id that the page shows.

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use verdict_ledger::{AppendError, LedgerError};

use super::assets;

/// Seconds after which a busy server may be asked again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Why a page is not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PageError {
    /// The thing is not in the ledger.
    #[error("no {what} `{id}`")]
    NotFound {
        /// Sort of thing.
        what: &'static str,
        /// Its name as asked for.
        id: String,
    },
    /// The address or a parameter cannot be read.
    #[error("{detail}")]
    BadRequest {
        /// What is wrong with which part.
        detail: String,
    },
    /// The method is not one that the address has.
    #[error("this address does not take that method")]
    MethodNotAllowed,
    /// A form came from another site, or a request names another host.
    #[error("{detail}")]
    Forbidden {
        /// What did not match.
        detail: String,
    },
    /// Too much heavy work at once.
    #[error("too many {what} are running")]
    Busy {
        /// Sort of work.
        what: &'static str,
    },
    /// The time for the request is over.
    #[error("the request took longer than allowed")]
    TimedOut,
    /// The ledger could not be read.
    #[error("the ledger could not be read")]
    Ledger(#[from] LedgerError),
    /// A change was not made durable.
    #[error("the ledger did not take it: nothing was changed")]
    NotKept(#[source] AppendError),
    /// A published policy cannot be loaded or run.
    #[error("{detail}")]
    Policy {
        /// What failed, with the bundle or file.
        detail: String,
    },
    /// A handler panicked; the ledger is not affected.
    #[error("a part of this page failed unexpectedly")]
    Panicked,
    /// A template could not be written.
    #[error("the page could not be written")]
    Render(#[from] askama::Error),
}

/// What a page says about an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ErrorInfo {
    /// Status.
    pub(crate) status: StatusCode,
    /// Heading.
    pub(crate) title: &'static str,
    /// What happened.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) advice: &'static str,
}

impl PageError {
    /// Makes a not-found error.
    pub(crate) fn not_found(what: &'static str, id: impl std::fmt::Display) -> Self {
        Self::NotFound { what, id: format!("{id}") }
    }

    /// Returns what to tell the reader.
    pub(crate) fn info(&self) -> ErrorInfo {
        let message = self.to_string();
        let (status, title, advice) = match self {
            Self::NotFound { .. } => (
                StatusCode::NOT_FOUND,
                "Not found",
                "Check the address. An event or trace that was ever here is still here: the log only grows.",
            ),
            Self::BadRequest { .. } => (
                StatusCode::BAD_REQUEST,
                "That address cannot be read",
                "Correct the named part and try again.",
            ),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "Wrong method",
                "Open the page from its link; API clients find the methods in the documentation.",
            ),
            Self::Forbidden { .. } => (
                StatusCode::FORBIDDEN,
                "Refused",
                "Open this server by the address that it printed when it started, and use its own forms.",
            ),
            Self::Busy { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Busy",
                "Nothing is wrong and nothing was lost. Reload the page in a few seconds.",
            ),
            Self::TimedOut => (
                StatusCode::GATEWAY_TIMEOUT,
                "Took too long",
                "Choose a smaller range or one trace, or run the same command on the command line, which has no limit.",
            ),
            Self::Ledger(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "The ledger could not be read",
                "Run `verdict verify` on the ledger directory. The server's log has the details under this request id.",
            ),
            Self::NotKept(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Not kept",
                "See /readyz for what is wrong, and try again. The server's log has the details under this request id.",
            ),
            Self::Policy { .. } => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "The policy cannot be run",
                "See the published versions, or publish a corrected bundle with `verdict policy publish`.",
            ),
            Self::Panicked | Self::Render(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "This page failed",
                "The ledger is not affected. The server's log has the details under this request id.",
            ),
        };
        ErrorInfo { status, title, message, advice }
    }

    /// Writes the details to the operator's log, where the reader gets only the outside message.
    pub(crate) fn log(&self) {
        match self {
            Self::Ledger(source) => tracing::error!(error = %chain(source), "ledger read failed"),
            Self::NotKept(source) => tracing::error!(error = %chain(source), "a change was not kept"),
            Self::Render(source) => tracing::error!(error = %source, "template failed"),
            Self::Panicked => tracing::error!("a worker panicked"),
            Self::Policy { detail } => tracing::warn!(detail, "policy failed"),
            _ => {}
        }
    }
}

/// Writes an error with its sources on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// An error as a page. It stands alone: it must render when everything else fails.
#[derive(Debug, Template)]
#[template(path = "error.html")]
struct ErrorPage {
    info: ErrorInfo,
    style: String,
    icon: String,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        self.log();
        let info = self.info();
        let status = info.status;
        let busy = matches!(self, Self::Busy { .. });
        let page = ErrorPage { info, style: assets::style_path(), icon: assets::icon_path() };
        let mut response = match page.render() {
            Ok(html) => (status, Html(html)).into_response(),
            Err(error) => {
                tracing::error!(%error, "the error page could not be written");
                (status, "the error page could not be written").into_response()
            }
        };
        if busy {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
