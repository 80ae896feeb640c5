//! Traces of the server itself, sent as OTLP/HTTP: one span for each request and one for each append.
//!
//! Off unless an endpoint is named. Spans hold routes, statuses, counts and positions, and nothing that a client sent.
//! The caller's `traceparent` is continued, so that an append is found from the trace of whoever sent the event. Sending
//! is best effort, on one thread, from a queue that drops when it is full: telling about the server must not slow it.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind};
use prost::Message as _;
use verdict_ledger::clock::Entropy;

use crate::config::Secret;

/// Spans that wait to be sent.
const QUEUE_MAX: usize = 2_048;
/// Spans in one request.
const BATCH_MAX: usize = 512;
/// How often what waits is sent.
const INTERVAL: Duration = Duration::from_secs(5);
/// Longest time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, to use the connection again.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Trace.
    pub trace_id: [u8; 16],
    /// Span.
    pub span_id: [u8; 8],
}

impl Context {
    /// Reads a W3C `traceparent`; one that is not of version 00 to fe, or all zero, is nothing.
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lower =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let shaped = version.len() == 2 && version != "ff" && flags.len() == 2;
        // Version 00 has exactly four parts; a later one may have more.
        if !shaped
            || (version == "00" && parts.next().is_some())
            || ![version, trace, span, flags].into_iter().all(lower)
        {
            return None;
        }
        let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
        hex::decode_to_slice(trace, &mut trace_id).ok()?;
        hex::decode_to_slice(span, &mut span_id).ok()?;
        (trace_id != [0; 16] && span_id != [0; 8]).then_some(Self { trace_id, span_id })
    }
}

/// A span that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its place.
    pub context: Context,
    /// The span above it.
    pub parent: Option<[u8; 8]>,
    /// Name: a method and route, or an operation; few different ones.
    pub name: String,
    /// Whether it answers somebody.
    pub is_server: bool,
    /// Start, Unix nanoseconds.
    pub start_ns: u64,
    /// End, Unix nanoseconds.
    pub end_ns: u64,
    /// Whether it failed for a reason of ours.
    pub is_error: bool,
    /// Attributes; texts and counts of our own.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// Value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// Text.
    Text(String),
    /// Number.
    Number(i64),
}

/// Where spans go.
#[derive(Debug)]
pub struct Settings {
    /// URL without `/v1/traces`.
    pub endpoint: String,
    /// `service.name`.
    pub service: String,
    /// Headers, which may hold secrets.
    pub headers: Vec<(String, Secret)>,
}

/// Takes spans; they are sent in the background until it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    queue: SyncSender<Ended>,
    /// Dropped to wake the thread and end it.
    told: Option<Sender<()>>,
    entropy: Arc<dyn Entropy>,
    dropped: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Telemetry {
    /// Starts sending.
    pub fn start(settings: Arc<Settings>, entropy: Arc<dyn Entropy>) -> std::io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let (told, asleep) = channel();
        let thread = std::thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || send_until_told(&settings, &waiting, &asleep, &lost))?;
        Ok(Self { queue, told: Some(told), entropy, dropped, thread: Some(thread) })
    }

    /// Makes the place of a new span, below another or in a trace of its own; `None` without random numbers.
    pub fn begin(&self, above: Option<Context>) -> Option<Context> {
        let mut random = [0; 24];
        self.entropy.fill(&mut random).ok()?;
        let (trace, span) = random.split_at(16);
        Some(Context {
            trace_id: match above {
                Some(above) => above.trace_id,
                None => trace.try_into().ok()?,
            },
            span_id: span.try_into().ok()?,
        })
    }

    /// Hands over a span; drops it when the queue is full.
    pub fn end(&self, span: Ended) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(span) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        // What waits is sent, within the time of one request.
        self.told = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn send_until_told(settings: &Settings, waiting: &Receiver<Ended>, asleep: &Receiver<()>, lost: &AtomicU64) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .build()
        .into();
    let url = format!("{}/v1/traces", settings.endpoint);
    let mut failing = false;
    let mut is_last = false;
    while !is_last {
        is_last = asleep.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout);
        loop {
            let batch: Vec<Ended> = waiting.try_iter().take(BATCH_MAX).collect();
            let count = batch.len();
            if batch.is_empty() {
                break;
            }
            if let Err(error) = send(&agent, &url, settings, batch) {
                // Once, not for every batch; a span that is not sent is gone.
                if !failing {
                    tracing::warn!(%error, count, "spans of the server could not be sent");
                }
                failing = true;
                break;
            }
            failing = false;
        }
        let dropped = lost.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "spans of the server were dropped: more came than could be sent");
        }
    }
}

fn send(agent: &ureq::Agent, url: &str, settings: &Settings, batch: Vec<Ended>) -> Result<(), String> {
    let body = request(&settings.service, batch).encode_to_vec();
    let mut request = agent.post(url).header("content-type", "application/x-protobuf");
    for (name, value) in &settings.headers {
        request = request.header(name, value.reveal());
    }
    let answer = request.send(&body[..]).map_err(|error| error.to_string())?;
    let status = answer.status();
    let _ = answer.into_body().into_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut Vec::new());
    if status.is_success() { Ok(()) } else { Err(format!("the receiver answered {status}")) }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Value::StringValue(value.to_owned()))
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn request(service: &str, batch: Vec<Ended>) -> ExportTraceServiceRequest {
    let version = env!("CARGO_PKG_VERSION");
    let spans = batch.into_iter().map(|ended| {
        let attributes = ended.attributes.into_iter().map(|(key, value)| match value {
            Attribute::Text(value) => text(key, &value),
            Attribute::Number(value) => pair(key, Value::IntValue(value)),
        });
        let kind = if ended.is_server { SpanKind::Server } else { SpanKind::Internal };
        Span {
            trace_id: ended.context.trace_id.to_vec(),
            span_id: ended.context.span_id.to_vec(),
            parent_span_id: ended.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
            name: ended.name,
            kind: kind.into(),
            start_time_unix_nano: ended.start_ns,
            end_time_unix_nano: ended.end_ns,
            attributes: attributes.collect(),
            status: ended.is_error.then(|| Status { code: StatusCode::Error.into(), message: String::new() }),
            ..Span::default()
        }
    });
    let scope = InstrumentationScope {
        name: "verdict".to_owned(),
        version: version.to_owned(),
        ..InstrumentationScope::default()
    };
    let resource = Resource {
        attributes: vec![text("service.name", service), text("service.version", version)],
        ..Resource::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents_are_read_as_the_recommendation_writes_them() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = Context::from_traceparent(good).unwrap();
        assert_eq!(hex::encode(context.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex::encode(context.span_id), "00f067aa0ba902b7");
        assert!(Context::from_traceparent(&format!("01{}-x", &good[2..])).is_some());
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-x"),
            &good.to_uppercase(),
            &format!("ff{}", &good[2..]),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(Context::from_traceparent(bad), None, "{bad}");
        }
    }
}
