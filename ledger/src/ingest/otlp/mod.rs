//! OTLP: traces and logs, protobuf and JSON, through one path.
//!
//! Both encodings become the protobuf messages; from there on nothing knows how they came. Each span and each log
//! record is mapped by itself: nothing that another record says changes it, so that batching, order and retries
//! change nothing either.

mod json;
pub(super) mod parts;
mod record;
mod scan;
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
use record::{Origin, Scope};

/// `source.format` of these events.
const FORMAT: &str = "otlp";

/// Maps a protobuf request.
pub(super) fn map_protobuf(signal: Signal, body: &[u8], sink: &mut Sink<'_>) -> Result<(), IngestError> {
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
        sink.warn(place, format!("metrics are not events: {points} data points not stored"));
    }
}

fn spans(list: Vec<ResourceSpans>, prefix: &str, sink: &mut Sink<'_>) -> Result<(), IngestError> {
    for (r, resource) in list.into_iter().enumerate() {
        let origin = Origin::new(resource.resource.unwrap_or_default(), resource.schema_url);
        for (s, group) in resource.scope_spans.into_iter().enumerate() {
            let scope = Scope::new(group.scope.unwrap_or_default(), group.schema_url);
            for (index, span) in group.spans.into_iter().enumerate() {
                let place = format!("{prefix}resourceSpans/{r}/scopeSpans/{s}/spans/{index}");
                match record::span(span, &origin, &scope) {
                    Ok(draft) => finish(draft, &place, sink)?,
                    Err(reason) => sink.reject(&place, None, reason)?,
                }
            }
        }
    }
    Ok(())
}

fn logs(list: Vec<ResourceLogs>, prefix: &str, sink: &mut Sink<'_>) -> Result<(), IngestError> {
    for (r, resource) in list.into_iter().enumerate() {
        let origin = Origin::new(resource.resource.unwrap_or_default(), resource.schema_url);
        for (s, group) in resource.scope_logs.into_iter().enumerate() {
            let scope = Scope::new(group.scope.unwrap_or_default(), group.schema_url);
            for (index, log) in group.log_records.into_iter().enumerate() {
                let place = format!("{prefix}resourceLogs/{r}/scopeLogs/{s}/logRecords/{index}");
                match record::log(log, &origin, &scope, &mut sink.ids) {
                    Ok(draft) => finish(draft, &place, sink)?,
                    Err(reason) => sink.reject(&place, None, reason)?,
                }
            }
        }
    }
    Ok(())
}

fn finish(mut draft: profile::Draft, place: &str, sink: &mut Sink<'_>) -> Result<(), IngestError> {
    profile::apply(&mut draft);
    let (mut event, notes) = record::assemble(draft);
    FORMAT.clone_into(&mut event.source.format);
    for note in notes {
        sink.warn(place, note);
    }
    event.source.path = Some(place.to_owned());
    sink.event(place, None, event)
}
