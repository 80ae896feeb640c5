//! OTLP answers, in the encoding of the request: `google.rpc.Status` for errors, `Export…ServiceResponse` else.
//!
//! Two messages with two fields each are written by hand here; a protobuf library would be more to read.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use verdict_ledger::ingest::Signal;

use super::refusal::{Code, RETRY_SECONDS};

/// Encoding of a request and of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// `application/x-protobuf`
    Protobuf,
    /// `application/json`
    Json,
}

impl Encoding {
    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        })
    }

    fn respond(self, status: StatusCode, protobuf: Vec<u8>, json: &Value) -> Response {
        let body = match self {
            Self::Protobuf => protobuf,
            Self::Json => json.to_string().into_bytes(),
        };
        (status, [(header::CONTENT_TYPE, self.content_type())], body).into_response()
    }

    /// Answers with an error.
    pub(crate) fn error(self, status: StatusCode, code: Code, message: &str) -> Response {
        let json = json!({"code": code as u8, "message": message});
        let mut response = self.respond(status, status_message(code, message, false), &json);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
        }
        response
    }

    /// Answers that the request was taken, but for `rejected` records.
    pub(super) fn accepted(self, signal: Signal, rejected: u64, message: &str) -> Response {
        let mut json = Map::new();
        if rejected > 0 || !message.is_empty() {
            let name = match signal {
                Signal::Traces => "rejectedSpans",
                Signal::Logs => "rejectedLogRecords",
                Signal::Metrics => "rejectedDataPoints",
            };
            // 64-bit integers are strings in OTLP/JSON.
            json.insert(
                "partialSuccess".to_owned(),
                json!({name: rejected.to_string(), "errorMessage": message}),
            );
        }
        self.respond(StatusCode::OK, accepted_message(rejected, message), &Value::Object(json))
    }
}

/// Writes `Export…ServiceResponse`, which is the same message for each signal. A message with no rejected records is
/// a warning.
pub(super) fn accepted_message(rejected: u64, message: &str) -> Vec<u8> {
    let mut body = Vec::new();
    if rejected > 0 || !message.is_empty() {
        let mut partial = Vec::new();
        if rejected > 0 {
            field_varint(&mut partial, 1, rejected);
        }
        field_bytes(&mut partial, 2, message.as_bytes());
        field_bytes(&mut body, 1, &partial);
    }
    body
}

/// Writes `google.rpc.Status`; with a `RetryInfo` when the request may be sent again.
pub(super) fn status_message(code: Code, message: &str, retry: bool) -> Vec<u8> {
    let mut status = Vec::new();
    field_varint(&mut status, 1, u64::from(code as u8));
    field_bytes(&mut status, 2, message.as_bytes());
    if retry {
        let mut delay = Vec::new();
        field_varint(&mut delay, 1, RETRY_SECONDS);
        let mut info = Vec::new();
        field_bytes(&mut info, 1, &delay);
        let mut any = Vec::new();
        field_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
        field_bytes(&mut any, 2, &info);
        field_bytes(&mut status, 3, &any);
    }
    status
}

fn field_varint(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

fn field_bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.push(low);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_those_of_the_specification() {
        let mut out = Vec::new();
        varint(&mut out, 300);
        assert_eq!(out, [0xac, 0x02]);
        out.clear();
        field_bytes(&mut out, 2, b"testing");
        assert_eq!(out, *b"\x12\x07testing");
    }
}
