//! Taking in what agents send.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::Write as _;

use axum::http::StatusCode;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use serde_json::json;
use verdict_ui::web::Limits;

use crate::site::{Answer, Site, testdata};

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn spans(trace: u8) -> ExportTraceServiceRequest {
    let span = Span {
        trace_id: vec![trace; 16],
        span_id: vec![7; 8],
        name: "execute_tool issue_refund".to_owned(),
        start_time_unix_nano: 1_793_700_000_000_000_000,
        end_time_unix_nano: 1_793_700_000_500_000_000,
        attributes: vec![
            attribute("gen_ai.operation.name", "execute_tool"),
            attribute("gen_ai.tool.name", "issue_refund"),
        ],
        ..Span::default()
    };
    let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() }],
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Reads `google.rpc.Status` by hand: field 1 is the code, field 2 the message.
fn status(answer: &Answer) -> (u8, String) {
    assert_eq!(answer.header("content-type"), "application/x-protobuf");
    let body = &answer.body;
    assert_eq!((body[0], body[2]), (0x08, 0x12), "{body:?}");
    let start = if body[3] & 0x80 == 0 { 4 } else { 5 };
    (body[1], String::from_utf8(body[start..].to_vec()).unwrap())
}

#[tokio::test]
async fn otlp_protobuf_is_taken_once_however_often_it_is_sent() {
    let site = Site::empty();
    let body = spans(1).encode_to_vec();
    let before = site.ledger.head().size;
    for (headers, body) in [
        (vec![PROTOBUF], body.clone()),
        (vec![PROTOBUF, ("content-encoding", "gzip")], gzip(&body)),
        (vec![("content-type", "application/x-protobuf; charset=x"), ("content-encoding", "identity")], body),
    ] {
        let answer = site.post("/v1/traces", &headers, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.header("content-type"), "application/x-protobuf");
        let decoded = ExportTraceServiceResponse::decode(answer.body.as_slice()).unwrap();
        assert!(decoded.partial_success.is_none_or(|partial| partial.rejected_spans == 0));
        assert_eq!(site.ledger.head().size, before + 1, "durable when answered, and added once");
    }
    assert!(site.page("/traces").await.contains(&"01".repeat(16)));
}

#[tokio::test]
async fn otlp_json_is_answered_in_json() {
    let site = Site::empty();
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [{
        "traceId": "0a".repeat(16), "spanId": "0b".repeat(8), "name": "execute_tool send_email",
        "startTimeUnixNano": "1793700000000000000", "endTimeUnixNano": "1793700000000000000",
        "attributes": [{"key": "gen_ai.tool.name", "value": {"stringValue": "send_email"}}],
    }]}]}]});
    let answer = site.post("/v1/traces", &[JSON], body.to_string()).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/json"));
    assert_eq!(answer.json(), json!({}));
    assert!(site.page("/traces").await.contains(&"0a".repeat(16)));
    let answer = site.post("/v1/traces", &[JSON], "{\"resourceSpans\": 7}").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.json()["code"], 3);
    assert!(answer.json()["message"].as_str().unwrap().contains("resourceSpans"), "{}", answer.text());
}

#[tokio::test]
async fn recorded_exports_arrive_over_http_as_they_do_from_files() {
    let site = Site::empty();
    for name in ["001", "002", "003", "004"] {
        let body = std::fs::read(testdata(&format!("otlp/genai-otel/{name}.pb"))).unwrap();
        let headers =
            std::fs::read_to_string(testdata(&format!("otlp/genai-otel/{name}.headers.json"))).unwrap();
        let path = if headers.contains("/v1/logs") { "/v1/logs" } else { "/v1/traces" };
        let mut sent = vec![PROTOBUF];
        if body.starts_with(&[0x1f, 0x8b]) {
            sent.push(("content-encoding", "gzip"));
        }
        let answer = site.post(path, &sent, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{name}: {:?}", String::from_utf8_lossy(&answer.body));
    }
    assert!(site.ledger.head().size > 10);
}

#[tokio::test]
async fn what_is_not_otlp_is_refused_in_the_encoding_of_the_request() {
    let site = Site::empty();
    let before = site.ledger.head().size;
    let answer = site.post("/v1/traces", &[PROTOBUF], "not protobuf").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let (code, message) = status(&answer);
    assert_eq!(code, 3);
    assert!(message.contains("byte"), "{message}");

    let answer = site.post("/v1/traces", &[("content-type", "text/html")], "<p>").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(answer.json()["message"].as_str().unwrap().contains("text/html"));

    let answer = site.post("/v1/traces", &[PROTOBUF, ("content-encoding", "br")], "x").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(status(&answer).0, 12);

    let answer = site.post("/v1/traces", &[PROTOBUF, ("content-encoding", "gzip")], "not gzip").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let mut cut = gzip(&spans(1).encode_to_vec());
    cut.truncate(cut.len() / 2);
    let answer = site.post("/v1/traces", &[PROTOBUF, ("content-encoding", "gzip")], cut).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", status(&answer).1);
    assert_eq!(site.ledger.head().size, before, "nothing was added");
}

#[tokio::test]
async fn large_bodies_and_bombs_are_stopped_at_the_limit() {
    let mut limits = Limits::default();
    limits.body_bytes_max = 4_096;
    limits.decoded_bytes_max = 65_536;
    let site = Site::with_limits(limits);
    let answer = site.post("/v1/traces", &[PROTOBUF], vec![0; 5_000]).await;
    assert_eq!((answer.status, status(&answer).0), (StatusCode::PAYLOAD_TOO_LARGE, 8));
    let bomb = gzip(&vec![0; 1 << 20]);
    assert!(bomb.len() < 4_096 * 2);
    let bomb = if bomb.len() < 4_096 { bomb } else { gzip(&vec![0; 1 << 18]) };
    let answer = site.post("/v1/traces", &[PROTOBUF, ("content-encoding", "gzip")], bomb).await;
    assert_eq!((answer.status, status(&answer).0), (StatusCode::PAYLOAD_TOO_LARGE, 8));
    let answer = site.post("/api/v1/events", &[], vec![b'x'; 5_000]).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn metrics_are_answered_and_not_kept() {
    let site = Site::empty();
    let before = site.ledger.head().size;
    let answer = site.post("/v1/metrics", &[PROTOBUF], Vec::new()).await;
    assert_eq!(answer.status, StatusCode::OK);
    let decoded = ExportMetricsServiceResponse::decode(answer.body.as_slice()).unwrap();
    assert!(decoded.partial_success.unwrap().error_message.contains("metrics are not stored"));
    assert_eq!(site.ledger.head().size, before);
}

#[tokio::test]
async fn native_events_are_all_or_nothing_and_errors_name_lines() {
    let site = Site::empty();
    let before = site.ledger.head().size;
    let good = "{\"id\":\"a\",\"action\":{\"kind\":\"tool\",\"name\":\"x\"}}\n";
    let answer = site.post("/api/v1/events", &[], format!("{good}{{\"id\":\"b\"}}\n{good}")).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let errors = answer.json()["errors"].clone();
    assert_eq!(errors.as_array().unwrap().len(), 1);
    assert!(errors[0]["place"].as_str().unwrap().contains('2'), "{errors}");
    assert_eq!(site.ledger.head().size, before, "nothing was appended");

    let answer = site.post("/api/v1/events", &[("content-type", "application/x-ndjson")], good).await;
    assert_eq!((answer.status, &answer.json()["appended"]), (StatusCode::OK, &json!(1)), "{}", answer.text());
    let answer = site.post("/api/v1/events", &[], good).await;
    assert_eq!((&answer.json()["appended"], &answer.json()["duplicates"]), (&json!(0), &json!(1)));
    let answer = site.post("/api/v1/events", &[("content-type", "text/html")], good).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = site.post("/api/v1/events", &[JSON], "{\"resourceSpans\": []}").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{}", answer.text());
    for entry in std::fs::read_dir(testdata("native/bad")).unwrap() {
        let path = entry.unwrap().path();
        let answer = site.post("/api/v1/events", &[], std::fs::read(&path).unwrap()).await;
        assert!(answer.status.is_client_error(), "{}: {}", path.display(), answer.text());
    }
}
