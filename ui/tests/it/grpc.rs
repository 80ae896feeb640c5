//! OTLP/gRPC by a client that we did not write.
#![expect(clippy::unwrap_used, reason = "tests")]

use axum::http::uri::PathAndQuery;
use bytes::Buf as _;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use verdict_ledger::id::Digest;
use verdict_ui::auth::Scope;

use crate::running::{Running, gate, token};

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

fn span(trace: u8, name: &str) -> ExportTraceServiceRequest {
    let span = Span {
        trace_id: vec![trace; 16],
        span_id: vec![7; 8],
        name: name.to_owned(),
        start_time_unix_nano: 1_793_700_000_000_000_000,
        end_time_unix_nano: 1_793_700_000_500_000_000,
        ..Span::default()
    };
    let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() }],
    }
}

async fn channel(server: &Running) -> Channel {
    Endpoint::from_shared(format!("http://{}", server.grpc)).unwrap().connect().await.unwrap()
}

async fn call<I, O>(
    channel: &Channel,
    path: &'static str,
    request: Request<I>,
    gzip: bool,
) -> Result<O, Status>
where
    I: prost::Message + Send + Sync + 'static,
    O: prost::Message + Default + Send + Sync + 'static,
{
    let mut client = tonic::client::Grpc::new(channel.clone());
    if gzip {
        client = client.send_compressed(CompressionEncoding::Gzip);
    }
    client.ready().await.unwrap();
    let codec: ProstCodec<I, O> = ProstCodec::default();
    client.unary(request, PathAndQuery::from_static(path), codec).await.map(tonic::Response::into_inner)
}

async fn export(
    channel: &Channel,
    request: ExportTraceServiceRequest,
    gzip: bool,
) -> Result<ExportTraceServiceResponse, Status> {
    call(channel, TRACES, Request::new(request), gzip).await
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_durable_when_answered_once_however_they_come_and_kept_as_they_came() {
    let server = Running::start();
    let before = server.ledger.head().size;
    let channel = channel(&server).await;
    let request = span(1, "execute_tool issue_refund");
    for gzip in [false, true, false] {
        let answer = export(&channel, request.clone(), gzip).await.unwrap();
        assert!(answer.partial_success.is_none(), "{answer:?}");
        assert_eq!(server.ledger.head().size, before + 1, "added once");
    }
    let record = server.ledger.record(before).unwrap().unwrap();
    let source = record.event.unwrap().source;
    let bytes = request.encode_to_vec();
    assert_eq!(source.raw, Some(Digest::of(&bytes)));
    assert_eq!(server.ledger.blob(&Digest::of(&bytes)).unwrap(), Some(bytes));
    assert_eq!(source.peer, None, "nobody was asked");
    // The same over HTTP adds nothing either.
    let body = request.encode_to_vec();
    let reply = server.ask("POST", "/v1/traces", &[("content-type", "application/x-protobuf")], &body);
    assert_eq!((reply.status, server.ledger.head().size), (200, before + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_spans_are_counted_and_metrics_are_declined_with_a_warning() {
    let server = Running::start();
    let channel = channel(&server).await;
    let mut request = span(2, "good");
    let mut bad = request.resource_spans[0].scope_spans[0].spans[0].clone();
    bad.trace_id = vec![0; 16];
    request.resource_spans[0].scope_spans[0].spans.push(bad);
    let partial = export(&channel, request, false).await.unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1, "{partial:?}");
    assert!(partial.error_message.contains("spans/1"), "{partial:?}");
    let answer: ExportMetricsServiceResponse =
        call(&channel, METRICS, Request::new(ExportMetricsServiceRequest::default()), false).await.unwrap();
    let partial = answer.partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 0);
    assert!(partial.error_message.contains("not stored"), "{partial:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_not_otlp_is_refused_with_a_status_that_is_not_sent_again() {
    let server = Running::with(|_, options| {
        options.limits.body_bytes_max = 4_096;
        options.limits.decoded_bytes_max = 8_192;
    });
    let before = server.ledger.head().size;
    let channel = channel(&server).await;
    let large = span(3, &"x".repeat(5_000));
    let refused = export(&channel, large, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("4096"), "{refused:?}");
    let bomb = span(3, &"x".repeat(100_000));
    let refused = export(&channel, bomb, true).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("8192"), "{refused:?}");
    // A message of another type: field 1 is a text that is no message.
    let request = Request::new(HealthRequest { service: "\u{7f}\u{7f}\u{7f}".to_owned() });
    let refused = call::<_, HealthResponse>(&channel, TRACES, request, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert_eq!(server.ledger.head().size, before);
    let request = Request::new(HealthRequest::default());
    let unknown = call::<_, HealthResponse>(&channel, "/no.such.Service/Method", request, false).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saturated_server_asks_to_come_back_and_says_when() {
    let server = Running::with(|_, options| {
        options.limits.ingest_requests_max = 0;
        options.limits.ingest_wait_seconds_max = 0;
    });
    let refused = export(&channel(&server).await, span(4, "x"), false).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    // google.rpc.Status with a RetryInfo.
    let details = refused.details();
    assert!(details.windows(9).any(|window| window == b"RetryInfo"), "{details:?}");
    assert_eq!(refused.metadata().get("grpc-retry-pushback-ms").unwrap(), "5000");
    let body = span(4, "x").encode_to_vec();
    let reply = server.ask("POST", "/v1/traces", &[("content-type", "application/x-protobuf")], &body);
    assert_eq!((reply.status, reply.header("retry-after").as_deref()), (503, Some("5")));
    assert_eq!(reply.header("content-type").as_deref(), Some("application/x-protobuf"));
    assert_eq!(reply.body.as_slice().get_u8(), 0x08, "google.rpc.Status");
    let reply = server.ask("POST", "/api/v1/events", &[], b"{}");
    assert_eq!((reply.status, reply.header("retry-after").as_deref()), (503, Some("5")));
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_show_a_token_and_are_recorded_by_its_name() {
    let mut tokens = Vec::new();
    let server = Running::with(|dir, options| {
        tokens.push(token(dir, "collector", &[Scope::Ingest]));
        tokens.push(token(dir, "auditor", &[Scope::Read]));
        options.gate = Some(gate(dir));
    });
    let channel = channel(&server).await;
    let with = |value: &str| {
        let mut request = Request::new(span(5, "execute_tool x"));
        request.metadata_mut().insert("authorization", value.parse().unwrap());
        request
    };
    let send = |request| call::<_, ExportTraceServiceResponse>(&channel, TRACES, request, false);
    assert_eq!(
        export(&channel, span(5, "execute_tool x"), false).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(send(with("Bearer verdict_no")).await.unwrap_err().code(), Code::Unauthenticated);
    let refused = send(with(&format!("Bearer {}", tokens[1]))).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("`ingest`"), "{refused:?}");
    send(with(&format!("Bearer {}", tokens[0]))).await.unwrap();
    let events: Vec<_> = server
        .ledger
        .records(0..server.ledger.head().size)
        .filter_map(|record| record.unwrap().event)
        .collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].source.peer.as_deref(), Some("token:collector"));
    // Health needs no token.
    let health: HealthResponse =
        call(&channel, HEALTH, Request::new(HealthRequest::default()), false).await.unwrap();
    assert_eq!(health.status, 1);
    let named = HealthRequest { service: "opentelemetry.proto.collector.trace.v1.TraceService".to_owned() };
    let health: HealthResponse = call(&channel, HEALTH, Request::new(named), false).await.unwrap();
    assert_eq!(health.status, 1);
    let unknown = Request::new(HealthRequest { service: "x".to_owned() });
    let refused = call::<_, HealthResponse>(&channel, HEALTH, unknown, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}
