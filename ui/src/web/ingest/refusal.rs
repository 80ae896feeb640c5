//! Every way in which a request is not taken, and what HTTP and gRPC call it.
//!
//! Clients send again what is answered with 429, 502, 503 or 504, and with UNAVAILABLE and some more in gRPC (some
//! SDKs count RESOURCE_EXHAUSTED among them). So these are for what sending again can cure, and for nothing else:
//! content is answered with something that no client repeats.

use axum::http::StatusCode;
use verdict_ledger::AppendError;
use verdict_ledger::ingest::IngestError;

use crate::web::error::chain;

/// Seconds after which a request may be sent again.
pub(crate) const RETRY_SECONDS: u64 = 5;

/// Codes of `google.rpc.Code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The body is at fault.
    InvalidArgument = 3,
    /// It took too long.
    DeadlineExceeded = 4,
    /// Nothing of that name.
    NotFound = 5,
    /// The caller may not.
    PermissionDenied = 7,
    /// A limit was passed.
    ResourceExhausted = 8,
    /// The content type, encoding or method is not supported.
    Unimplemented = 12,
    /// A fault of ours that repeating does not cure.
    Internal = 13,
    /// Not durable, or not taken; send it again.
    Unavailable = 14,
    /// Nobody knows the caller.
    Unauthenticated = 16,
}

/// Why a request is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
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
    /// The client went away.
    #[error("the body did not arrive completely")]
    Incomplete,
    /// The client was too slow.
    #[error("the body took too long to arrive")]
    Slow,
    /// A content type that is not taken here.
    #[error("{detail}")]
    MediaType {
        /// Which, and which would be taken.
        detail: String,
    },
    /// A body or headers that are not what they are said to be.
    #[error("{detail}")]
    Malformed {
        /// What is wrong.
        detail: String,
    },
    /// No room for the body now; nothing of it was taken.
    #[error("the server is taking in as much as it can; nothing of this request was taken, send it again")]
    Saturated,
    /// The mappers do not take the body.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The ledger does not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The caller's own deadline is over.
    #[error("the deadline of the request is over; what was durable by then is kept")]
    Deadline,
    /// A fault of ours.
    #[error("the request could not be processed and nothing of it is acknowledged")]
    Panicked,
}

impl Refusal {
    /// Tells whether sending the request again can help.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Saturated
                | Self::Append(
                    AppendError::Storage { .. } | AppendError::Poisoned { .. } | AppendError::Entropy(_)
                )
        )
    }

    /// Returns what the client is told.
    pub(crate) fn message(&self) -> String {
        match self {
            // What the store says is for the operator's log.
            Self::Append(_) if self.is_passing() => "the records are not durable; send them again".to_owned(),
            _ => chain(self),
        }
    }

    /// Returns the HTTP status and the code in the body of an OTLP answer.
    pub(crate) const fn http(&self) -> (StatusCode, Code) {
        match self {
            _ if self.is_passing() => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
            Self::TooLarge { .. }
            | Self::Ingest(
                IngestError::BodyTooLarge { .. }
                | IngestError::DecompressedTooLarge { .. }
                | IngestError::TooManyEvents { .. }
                | IngestError::TooManyMessages { .. },
            )
            | Self::Append(AppendError::BatchTooLarge { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted)
            }
            Self::Encoding { .. } | Self::MediaType { .. } => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented)
            }
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded),
            Self::NotGzip | Self::Incomplete | Self::Malformed { .. } | Self::Ingest(_) => {
                (StatusCode::BAD_REQUEST, Code::InvalidArgument)
            }
            Self::Deadline | Self::Append(_) | Self::Panicked | Self::Saturated => {
                (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal)
            }
        }
    }

    /// Returns the gRPC status.
    pub(super) const fn grpc(&self) -> Code {
        match (self, self.http().1) {
            (Self::Deadline, _) => Code::DeadlineExceeded,
            // Content, and some SDKs would repeat it for ever.
            (_, Code::ResourceExhausted) => Code::InvalidArgument,
            (_, code) => code,
        }
    }

    /// Writes what the operator must know.
    pub(super) fn log(&self) {
        match self {
            Self::Append(error) => tracing::error!(error = %chain(error), "append failed"),
            Self::Saturated => tracing::warn!("saturated: a request was asked to come back"),
            Self::Panicked => tracing::error!("a worker panicked"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_is_answered_with_a_status_that_clients_repeat() {
        let content = [
            Refusal::TooLarge { limit: 1 },
            Refusal::Encoding { encoding: "br".to_owned() },
            Refusal::NotGzip,
            Refusal::Incomplete,
            Refusal::MediaType { detail: String::new() },
            Refusal::Malformed { detail: String::new() },
            Refusal::Ingest(IngestError::TooManyEvents { limit: 1 }),
            Refusal::Ingest(IngestError::NestedGzip),
            Refusal::Append(AppendError::BatchTooLarge { what: "records", got: 2, max: 1 }),
            Refusal::Panicked,
        ];
        for refusal in content {
            assert!(![429, 502, 503, 504].contains(&refusal.http().0.as_u16()), "{refusal}");
            let repeated = [1, 4, 8, 10, 11, 14, 15];
            assert!(!repeated.contains(&(refusal.grpc() as u8)), "{refusal}");
        }
        let disk = AppendError::Storage { detail: "secret/path".into(), full: true };
        for refusal in [Refusal::Saturated, Refusal::Append(disk)] {
            assert_eq!(refusal.http().0, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(refusal.grpc(), Code::Unavailable);
            assert!(!refusal.message().contains("secret"), "{}", refusal.message());
        }
    }
}
