//! OTLP/gRPC: the same requests as OTLP/HTTP protobuf, in the frames of gRPC over HTTP/2.
//!
//! A unary call is one message with a prefix of five bytes, and the answer is another with the status in the
//! trailers. That is done here and not by a gRPC library because the message must stay bytes: the ledger keeps the
//! body by its digest and decodes it once, with a scan that knows its own limits; it counts towards the same budget
//! of memory as every other body; and it is decompressed on the same threads. The protocol is that of
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>; tests use a client that we did not write.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use verdict_ledger::ingest::{Format, Signal};

use super::body::{self, Received};
use super::otlp::partial_success;
use super::refusal::{Code, RETRY_SECONDS, Refusal};
use super::status::{accepted_message, status_message};
use super::take::{self, Rule};
use crate::auth::gate::Caller;
use crate::web::AppState;

/// Compressed flag and length.
const PREFIX_BYTES: usize = 5;
/// Largest request of the health service.
const HEALTH_BYTES_MAX: usize = 1_024;
/// Longest status message: trailers have a limit too.
const MESSAGE_BYTES_MAX: usize = 1_024;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// Names of the services that are answered for.
const SERVICES: [&str; 4] = [
    "",
    "opentelemetry.proto.collector.trace.v1.TraceService",
    "opentelemetry.proto.collector.logs.v1.LogsService",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
];

/// `TraceService/Export`
pub(crate) async fn grpc_traces(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&state, Signal::Traces, caller, &headers, body).await
}

/// `LogsService/Export`
pub(crate) async fn grpc_logs(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&state, Signal::Logs, caller, &headers, body).await
}

/// `MetricsService/Export`
pub(crate) async fn grpc_metrics(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    answer(&state, Signal::Metrics, caller, &headers, body).await
}

async fn answer(
    state: &AppState,
    signal: Signal,
    caller: Caller,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    if let Some(refused) = not_grpc(headers) {
        return refused;
    }
    let deadline = match timeout(headers) {
        Ok(deadline) => deadline,
        Err(refusal) => return refuse(state, &refusal),
    };
    let taken = async {
        let limit = state.limits().body_bytes_max;
        let received = message(state, headers, body, limit).await?;
        take::take(state, received, caller, Rule::Partial, move |_| Ok(Format::OtlpProtobuf(signal))).await
    };
    let taken = match deadline {
        // The append may still become durable; sent again it adds nothing.
        Some(time) => tokio::time::timeout(time, taken).await.unwrap_or(Err(Refusal::Deadline)),
        None => taken.await,
    };
    match taken {
        Ok(taken) => {
            let (rejected, message) = partial_success(signal, &taken);
            success(&accepted_message(rejected, &message))
        }
        Err(refusal) => refuse(state, &refusal),
    }
}

/// `grpc.health.v1.Health/Check`
pub(crate) async fn health(State(state): State<AppState>, headers: HeaderMap, body: Body) -> Response {
    if let Some(refused) = not_grpc(&headers) {
        return refused;
    }
    let request = match message(&state, &headers, body, HEALTH_BYTES_MAX).await {
        Ok(received) => received.bytes,
        Err(refusal) => return refuse(&state, &refusal),
    };
    // HealthCheckRequest { string service = 1; }
    let service = match request.split_first() {
        None => Some(&[][..]),
        Some((0x0a, rest)) => rest.split_first().and_then(|(length, name)| {
            (*length < 0x80 && usize::from(*length) == name.len()).then_some(name)
        }),
        Some(_) => None,
    };
    let Some(service) = service.and_then(|name| std::str::from_utf8(name).ok()) else {
        return failure(Code::InvalidArgument, "this is not a HealthCheckRequest", false);
    };
    if !SERVICES.contains(&service) {
        return failure(Code::NotFound, "there is no such service here", false);
    }
    // HealthCheckResponse { ServingStatus status = 1; } SERVING = 1, NOT_SERVING = 2
    success(&[0x08, if state.not_ready().await.is_none() { 1 } else { 2 }])
}

/// Everything else.
pub(crate) async fn unknown() -> Response {
    failure(Code::Unimplemented, "there is no such service or method here", false)
}

/// What does not even speak gRPC is answered in HTTP.
fn not_grpc(headers: &HeaderMap) -> Option<Response> {
    let media = body::media_type(headers);
    if matches!(media.as_str(), "application/grpc" | "application/grpc+proto") {
        return None;
    }
    let text = format!("content-type `{media}` is not gRPC; this port speaks OTLP/gRPC\n");
    Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response())
}

/// Reads the one message of a unary call. It stays compressed.
async fn message(
    state: &AppState,
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
) -> Result<Received, Refusal> {
    let encoding = headers.get(GRPC_ENCODING).map_or("identity", |value| value.to_str().unwrap_or("?"));
    if !matches!(encoding, "identity" | "gzip") {
        return Err(Refusal::Encoding { encoding: encoding.to_owned() });
    }
    let patience = Duration::from_secs(state.limits().ingest_wait_seconds_max);
    let malformed = |detail: &str| Refusal::Malformed { detail: detail.to_owned() };
    body::in_time(state, async {
        // The prefix says how much there will be: room is made for it before it is read.
        let mut bytes = BytesMut::new();
        while bytes.len() < PREFIX_BYTES {
            let Some(data) = body::next(state, &mut body).await? else {
                return Err(malformed("the call ended before its message"));
            };
            bytes.extend_from_slice(&data);
        }
        let compressed = match bytes.get_u8() {
            0 => false,
            1 if encoding == "gzip" => true,
            1 => return Err(malformed("the message is compressed and no grpc-encoding says how")),
            _ => return Err(malformed("the compressed flag is neither 0 nor 1")),
        };
        let length = usize::try_from(bytes.get_u32()).unwrap_or(usize::MAX);
        if length > limit {
            return Err(Refusal::TooLarge { limit });
        }
        let share = state.budget().take(length, patience).await.map_err(|_| Refusal::Saturated)?;
        bytes.reserve(length.saturating_sub(bytes.len()));
        while bytes.len() <= length {
            let Some(data) = body::next(state, &mut body).await? else { break };
            if bytes.len().saturating_add(data.len()) > length {
                return Err(malformed("the call holds more than one message"));
            }
            bytes.extend_from_slice(&data);
        }
        if bytes.len() != length {
            return Err(malformed("the call does not hold exactly one whole message"));
        }
        if compressed && !bytes.starts_with(&[0x1f, 0x8b]) {
            return Err(Refusal::NotGzip);
        }
        if !compressed && bytes.starts_with(&[0x1f, 0x8b]) {
            return Err(malformed("the message is gzip and its compressed flag is not set"));
        }
        Ok(Received { bytes: bytes.freeze(), share })
    })
    .await
}

/// Reads `grpc-timeout`: at most eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let read = || {
        let text = value.to_str().ok()?;
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(number.checked_mul(3_600)?),
            "M" => Duration::from_secs(number.checked_mul(60)?),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    let malformed = || Refusal::Malformed { detail: "grpc-timeout is not a number with a unit".to_owned() };
    read().map(Some).ok_or_else(malformed)
}

fn success(message: &[u8]) -> Response {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let frame = [&[0][..], &length.to_be_bytes(), message].concat();
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(frame)).with_trailers(std::future::ready(Some(Ok(trailers))));
    let headers =
        [(header::CONTENT_TYPE, CONTENT_TYPE), (GRPC_ACCEPT, HeaderValue::from_static("identity,gzip"))];
    (headers, Body::new(body)).into_response()
}

fn refuse(state: &AppState, refusal: &Refusal) -> Response {
    state.metrics().refusal(refusal);
    failure(refusal.grpc(), &refusal.message(), refusal.is_passing())
}

/// Answers with a status and nothing else. The HTTP status is 200, as gRPC has it.
pub(crate) fn failure(code: Code, message: &str, retry: bool) -> Response {
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let message = message.get(..end).unwrap_or_default();
    let headers = [
        (header::CONTENT_TYPE, CONTENT_TYPE),
        (GRPC_STATUS, HeaderValue::from(u16::from(code as u8))),
        (GRPC_MESSAGE, percent(message)),
        (GRPC_ACCEPT, HeaderValue::from_static("identity,gzip")),
    ];
    let mut response = (headers, Body::empty()).into_response();
    if retry {
        // What OTLP asks of a server that wants the request again, and what gRPC libraries read.
        let details =
            base64::engine::general_purpose::STANDARD_NO_PAD.encode(status_message(code, message, true));
        if let Ok(details) = HeaderValue::try_from(details) {
            response.headers_mut().insert(GRPC_DETAILS, details);
        }
        response.headers_mut().insert(GRPC_PUSHBACK, HeaderValue::from(RETRY_SECONDS * 1_000));
    }
    response
}

/// Writes a status message: everything but printable ASCII is percent-encoded.
fn percent(message: &str) -> HeaderValue {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn deadlines_are_read_as_the_protocol_writes_them() {
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
        assert_eq!(timeout(&with("10S")).unwrap(), Some(Duration::from_secs(10)));
        assert_eq!(timeout(&with("250m")).unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(timeout(&with("99999999H")).unwrap(), Some(Duration::from_hours(99_999_999)));
        for bad in ["", "S", "10", "123456789S", "1.5S", "-1S", "10s"] {
            assert!(timeout(&with(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_are_ascii_on_the_wire() {
        assert_eq!(percent("a b%\n\u{e9}"), "a b%25%0A%C3%A9");
    }
}
