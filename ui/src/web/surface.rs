//! For whom a route is, which decides the form of an answer that its handler does not give.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::ingest::{self, Code, RETRY_SECONDS};

/// For whom a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    /// People: an HTML page, and a way to sign in.
    Page,
    /// Programs: an RFC 9457 problem document.
    Api,
    /// OTLP/HTTP: `google.rpc.Status` in the encoding of the request.
    Otlp,
    /// gRPC: a status in the trailers.
    Grpc,
}

impl Surface {
    /// Answers a program that its request is not taken. Pages have their own errors.
    pub(crate) fn refuse(
        self,
        headers: &HeaderMap,
        status: StatusCode,
        code: Code,
        message: &str,
    ) -> Response {
        match self {
            Self::Page | Self::Api => {
                let mut response = ingest::problem(status, message, Vec::new(), 0);
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
                }
                response
            }
            Self::Otlp => ingest::otlp_refuse(headers, status, code, message),
            Self::Grpc => ingest::grpc_failure(code, message, code == Code::Unavailable),
        }
    }
}
