//! OTLP: traces and logs, protobuf and JSON, through one path.
//!
//! Both encodings become the protobuf messages; from there on nothing knows how they came. Each span and each log
//! record is mapped by itself: nothing that another record says changes it, so that batching, order and retries
//! change nothing either.

mod direct;
mod json;
pub(super) mod parts;
mod record;
mod scan;
pub(super) mod shared;
mod value;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message;

pub(super) use scan::guess_signal;

use super::format::Signal;
use super::json::{self as strict, JsonError, Numbers, Rules};
use super::{IngestError, Sink, profile};
use record::{Contents, Origin, Scope, SpanRecord};

/// `source.format` of these events.
const FORMAT: &str = "otlp";

/// Maps a protobuf request.
pub(super) fn map_protobuf(signal: Signal, body: &[u8], sink: &mut Sink<'_>) -> Result<(), IngestError> {
    if signal == Signal::Traces {
        if let Some(done) = direct::spans(body, sink) {
            return done;
        }
        // The request is the whole body: nothing else can have been collected.
        *sink = Sink::new(sink.limits);
    }
    general(signal, body, sink)
}

/// Maps a protobuf request by way of its decoded messages, and says what is wrong with it.
fn general(signal: Signal, body: &[u8], sink: &mut Sink<'_>) -> Result<(), IngestError> {
    let limit = sink.limits.nodes_max;
    let census = scan::walk(signal, body, limit).map_err(|fault| match fault {
        scan::Fault::Damage { path, offset, message } => {
            IngestError::Protobuf { path, offset, message, signal }
        }
        scan::Fault::TooMany { path } => IngestError::TooManyMessages { path, limit },
    })?;
    // Counted before anything is decoded.
    if signal != Signal::Metrics && census.leaves > sink.limits.events_max {
        return Err(IngestError::TooManyEvents { limit: sink.limits.events_max });
    }
    let undecodable = |_| IngestError::Protobuf {
        path: "request".to_owned(),
        offset: 0,
        message: "a text field is not UTF-8, or a field has the wrong type",
        signal,
    };
    // A body of empty records claims more of them than it can hold.
    sink.events.reserve(census.leaves.min(body.len() / 32));
    match signal {
        Signal::Traces => {
            let request = ExportTraceServiceRequest::decode(body).map_err(undecodable)?;
            spans(request.resource_spans, "", sink)
        }
        Signal::Logs => {
            let request = ExportLogsServiceRequest::decode(body).map_err(undecodable)?;
            logs(request.resource_logs, "", sink)
        }
        Signal::Metrics => {
            warn_metrics(census.points, "request", sink);
            Ok(())
        }
    }
}

/// Maps one JSON request, or one a line as file exporters write them.
pub(super) fn map_json(body: &[u8], sink: &mut Sink<'_>) -> Result<(), IngestError> {
    let rules = Rules {
        depth_max: sink.limits.json_depth_max.min(120),
        nodes_max: sink.limits.nodes_max,
        // The format says which numbers are doubles.
        numbers: Numbers::Double,
    };
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let skipped = body.len().saturating_sub(text.len());
    let whole = strict::read(text, rules);
    let several = matches!(whole, Err(JsonError::Syntax { .. }))
        && super::lines::lines(body)
            .take(2)
            .all(|line| line.bytes.first() == Some(&b'{') && line.bytes.len() > 1);
    if !several {
        let value = whole.map_err(|source| IngestError::Json { line: 1, source: source.shifted(skipped) })?;
        return document(value, "", sink);
    }
    for line in super::lines::lines(body) {
        match strict::read(line.bytes, rules) {
            Ok(value) => document(value, &format!("{}/", line.path()), sink)?,
            Err(JsonError::Truncated { .. }) if line.open => {
                sink.reject(&line.place(), Some(line.offset), super::Reason::Truncated)?;
            }
            Err(error) => {
                sink.reject(&line.place(), Some(line.offset), error.shifted(line.offset).into())?;
            }
        }
    }
    Ok(())
}

fn document(value: serde_json::Value, prefix: &str, sink: &mut Sink<'_>) -> Result<(), IngestError> {
    let document = json::read(value).map_err(|fault| IngestError::OtlpJson {
        path: format!("{prefix}{}", fault.path),
        message: fault.message,
    })?;
    let place = if prefix.is_empty() { "request" } else { prefix.trim_end_matches('/') };
    for (found, right) in document.misspelled {
        sink.warn(
            place,
            format!("`{found}` is not an OTLP/JSON member, and what it holds was ignored; write `{right}`"),
        );
    }
    if document.empty {
        sink.warn(
            place,
            "no `resourceSpans`, `resourceLogs` or `resourceMetrics`: the request holds nothing",
        );
    }
    warn_metrics(document.points, place, sink);
    spans(document.spans, prefix, sink)?;
    logs(document.logs, prefix, sink)
}

fn warn_metrics(points: usize, place: &str, sink: &mut Sink<'_>) {
    if points > 0 {
        sink.metric_points = sink.metric_points.saturating_add(u64::try_from(points).unwrap_or(u64::MAX));
        sink.warn(place, format!("metrics are not events: {points} data points not stored"));
    }
}

fn spans(list: Vec<ResourceSpans>, prefix: &str, sink: &mut Sink<'_>) -> Result<(), IngestError> {
    for (r, resource) in list.into_iter().enumerate() {
        let origin = Origin::new(resource.resource.unwrap_or_default(), resource.schema_url);
        for (s, group) in resource.scope_spans.into_iter().enumerate() {
            let scope = Scope::new(group.scope.unwrap_or_default(), group.schema_url);
            let group_place = format!("{prefix}resourceSpans/{r}/scopeSpans/{s}/spans/");
            for (index, mut span) in group.spans.into_iter().enumerate() {
                let draft = record::span(SpanRecord::from_message(&mut span), &origin, &scope);
                finish(draft, place(&group_place, index), sink)?;
            }
        }
    }
    Ok(())
}

fn logs(list: Vec<ResourceLogs>, prefix: &str, sink: &mut Sink<'_>) -> Result<(), IngestError> {
    for (r, resource) in list.into_iter().enumerate() {
        let shared = resource.resource.unwrap_or_default();
        let content = Contents::of(&shared);
        let origin = Origin::new(shared, resource.schema_url);
        for (s, group) in resource.scope_logs.into_iter().enumerate() {
            let shared = group.scope.unwrap_or_default();
            let content = content.clone().and(&shared);
            let scope = Scope::new(shared, group.schema_url);
            let group_place = format!("{prefix}resourceLogs/{r}/scopeLogs/{s}/logRecords/");
            for (index, log) in group.log_records.into_iter().enumerate() {
                let draft = record::log(log, &origin, &scope, &content, &mut sink.ids);
                finish(draft, place(&group_place, index), sink)?;
            }
        }
    }
    Ok(())
}

/// Names a record of a group.
fn place(group: &str, index: usize) -> String {
    let mut place = String::with_capacity(group.len().saturating_add(6));
    place.push_str(group);
    place.push_str(&index.to_string());
    place
}

fn finish(
    draft: Result<Box<profile::Draft>, super::Reason>,
    place: String,
    sink: &mut Sink<'_>,
) -> Result<(), IngestError> {
    let mut draft = match draft {
        Ok(draft) => draft,
        Err(reason) => return sink.reject(&place, None, reason),
    };
    profile::apply(&mut draft);
    record::assemble(&mut draft);
    for note in draft.notes {
        sink.warn(&place, note);
    }
    FORMAT.clone_into(&mut draft.event.source.format);
    draft.event.source.path = Some(place);
    sink.placed_event(draft.event)
}
