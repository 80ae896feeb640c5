//! One span or log record: what is common to every profile, before and after it.

use std::rc::Rc;

use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span;
use prost::Message;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::shared::Shared;
use super::value::{fields, held};
use crate::event::{Action, ActionKind, Event, Link, Rel, Target};
use crate::id::{Digest, IdError, SpanId, TraceId};
use crate::ingest::Reason;
use crate::ingest::check::Ordinals;
use crate::ingest::fields::{Fields, Held, TEXT_BYTES_MAX};
use crate::ingest::profile::{Draft, LogParts, Point, Record, SpanParts};

/// Names under `attributes` that hold what OTLP keeps outside of attributes.
const RESERVED: [&str; 4] = ["otlp.resource", "otlp.scope", "otlp.span", "otlp.log"];
/// Links beyond this stay verbatim in `attributes`: the statement of an event is bounded.
const LINKS_MAX: usize = 64;

/// The resource that records come from.
pub(super) struct Origin {
    shared: Shared,
    service: Option<String>,
    environment: Option<String>,
    lost: u32,
}

impl Origin {
    pub(super) fn new(resource: Resource, schema_url: String) -> Self {
        let mut extra = Map::new();
        put_text(&mut extra, "schema_url", schema_url);
        if !resource.entity_refs.is_empty() {
            let refs = resource.entity_refs.iter().map(|entity| {
                json!({
                    "schema_url": entity.schema_url, "type": entity.r#type,
                    "id_keys": entity.id_keys, "description_keys": entity.description_keys,
                })
            });
            extra.insert("entity_refs".to_owned(), refs.collect());
        }
        let mut fields = fields(resource.attributes);
        // The SDK's own default is nobody's statement.
        let named = fields.get_text("service.name").is_some_and(|name| !name.starts_with("unknown_service"));
        let service = if named { fields.text("service.name") } else { None };
        let environment = fields.first_text(&["deployment.environment.name", "deployment.environment"]);
        let lost = resource.dropped_attributes_count;
        Self { shared: Shared::new("otlp.resource", fields, extra), service, environment, lost }
    }
}

/// The instrumentation scope of records.
pub(super) struct Scope {
    name: Rc<str>,
    shared: Shared,
    lost: u32,
}

impl Scope {
    pub(super) fn new(scope: InstrumentationScope, schema_url: String) -> Self {
        let name = Rc::from(scope.name.as_str());
        let mut extra = Map::new();
        put_text(&mut extra, "name", scope.name);
        put_text(&mut extra, "version", scope.version);
        put_text(&mut extra, "schema_url", schema_url);
        let lost = scope.dropped_attributes_count;
        Self { name, shared: Shared::new("otlp.scope", fields(scope.attributes), extra), lost }
    }
}

/// Digests the content of log records, which have no name of their own, with the resource and scope that they share.
#[derive(Clone)]
pub(super) struct Contents(Sha256);

impl Contents {
    pub(super) fn of(resource: &Resource) -> Self {
        Self(Sha256::new()).and(resource)
    }

    /// Adds a part; its length keeps it apart from the next.
    pub(super) fn and(mut self, part: &impl Message) -> Self {
        let encoded = part.encode_to_vec();
        self.0.update(u64::try_from(encoded.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(encoded);
        self
    }

    fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// A span as it was read, by either way.
#[derive(Default)]
pub(super) struct SpanRecord<'b> {
    pub(super) trace_id: &'b [u8],
    pub(super) span_id: &'b [u8],
    pub(super) parent_span_id: &'b [u8],
    pub(super) trace_state: String,
    pub(super) name: String,
    pub(super) kind: i32,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) fields: Fields,
    pub(super) points: Vec<Point>,
    pub(super) links: Vec<span::Link>,
    /// What it, its events and its links say they dropped.
    pub(super) lost: u32,
    pub(super) code: i32,
    pub(super) message: String,
    pub(super) flags: u32,
}

impl<'b> SpanRecord<'b> {
    /// Takes a decoded message apart.
    pub(super) fn from_message(span: &'b mut Span) -> Self {
        let mut lost = [span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count]
            .into_iter()
            .fold(0, u32::saturating_add);
        for point in &span.events {
            lost = lost.saturating_add(point.dropped_attributes_count);
        }
        for link in &span.links {
            lost = lost.saturating_add(link.dropped_attributes_count);
        }
        let status = std::mem::take(&mut span.status).unwrap_or_default();
        let points = std::mem::take(&mut span.events).into_iter().map(|point| Point {
            name: point.name,
            time_ns: point.time_unix_nano,
            fields: fields(point.attributes),
        });
        Self {
            trace_state: std::mem::take(&mut span.trace_state),
            name: std::mem::take(&mut span.name),
            kind: span.kind,
            start_ns: span.start_time_unix_nano,
            end_ns: span.end_time_unix_nano,
            fields: fields(std::mem::take(&mut span.attributes)),
            points: points.collect(),
            links: std::mem::take(&mut span.links),
            lost,
            code: status.code,
            message: status.message,
            flags: span.flags,
            trace_id: &span.trace_id,
            span_id: &span.span_id,
            parent_span_id: &span.parent_span_id,
        }
    }
}

/// Starts the event of a span.
pub(super) fn span(span: SpanRecord<'_>, origin: &Origin, scope: &Scope) -> Result<Box<Draft>, Reason> {
    let trace_id = TraceId::from_slice(span.trace_id)?;
    let span_id = SpanId::from_slice(span.span_id)?;
    let mut id = String::with_capacity(5 + 32 + 1 + 16);
    id.push_str("otlp:");
    trace_id.push_to(&mut id);
    id.push(':');
    span_id.push_to(&mut id);
    let mut event = Event::new(id, Action::new(ActionKind::Other, ""));
    event.trace_id = Some(trace_id);
    event.span_id = Some(span_id);
    event.parent_span_id =
        optional(SpanId::from_slice(span.parent_span_id), span.parent_span_id, "parent_span_id")?;
    event.start_ns = some_time(span.start_ns);
    event.end_ns = some_time(span.end_ns);
    let mut notes = Vec::new();
    if event.start_ns.zip(event.end_ns).is_some_and(|(start, end)| end < start) {
        notes.push("the span ends before it starts; its clock was set or is wrong".to_owned());
    }
    event.source.lost = span.lost.saturating_add(origin.lost).saturating_add(scope.lost);
    if event.source.lost > 0 {
        notes.push(
            "the source dropped attributes, events or links before sending; `source.lost` counts them".into(),
        );
    }
    let mut links_left = Vec::new();
    for link in span.links {
        take_link(link, &mut event.links, &mut links_left);
    }
    let record = Record::Span(SpanParts {
        name: span.name,
        kind: span.kind,
        code: span.code,
        message: span.message,
        trace_state: span.trace_state,
        flags: span.flags,
        points: span.points,
        links_left,
    });
    Ok(draft(event, span.fields, record, notes, origin, scope))
}

/// Starts the event of a log record.
pub(super) fn log(
    log: LogRecord,
    origin: &Origin,
    scope: &Scope,
    shared: &Contents,
    ids: &mut Ordinals,
) -> Result<Box<Draft>, Reason> {
    let trace_id = optional(TraceId::from_slice(&log.trace_id), &log.trace_id, "trace_id")?;
    let span_id = optional(SpanId::from_slice(&log.span_id), &log.span_id, "span_id")?;
    let uid = log.attributes.iter().filter(|pair| pair.key == "log.record.uid").map(uid);
    let uids: Vec<Option<String>> = uid.take(2).collect();
    let id = match uids.as_slice() {
        [Some(uid)] => format!("otlp:log:{uid}"),
        _ => ids.numbered("otlp:log:", shared.clone().and(&log).digest()),
    };
    let fields = fields(log.attributes);
    let mut event = Event::new(id, Action::new(ActionKind::Other, ""));
    event.trace_id = trace_id;
    event.span_id = span_id;
    // Some clients leave the time out and state only when they saw the record.
    event.start_ns = some_time(log.time_unix_nano).or(some_time(log.observed_time_unix_nano));
    event.source.lost = log.dropped_attributes_count.saturating_add(origin.lost).saturating_add(scope.lost);
    let record = Record::Log(LogParts {
        event_name: log.event_name,
        body: held(log.body),
        severity_number: log.severity_number,
        severity_text: log.severity_text,
        time_ns: log.time_unix_nano,
        observed_ns: log.observed_time_unix_nano,
        flags: log.flags,
    });
    Ok(draft(event, fields, record, Vec::new(), origin, scope))
}

fn draft(
    event: Event,
    fields: Fields,
    record: Record,
    mut notes: Vec<String>,
    origin: &Origin,
    scope: &Scope,
) -> Box<Draft> {
    for name in fields.ambiguous_names() {
        notes.push(format!("attribute `{name}` occurs more than once; both values are in `otlp.ambiguous`"));
    }
    // In one place from here on: it is large, and handed on many times.
    let mut draft = Box::new(Draft {
        event,
        fields,
        resource: origin.shared.clone(),
        scope_name: scope.name.clone(),
        scope: scope.shared.clone(),
        record,
        notes,
    });
    draft.event.service.clone_from(&origin.service);
    draft.event.environment.clone_from(&origin.environment);
    draft.event.session = draft.stated(&["session.id"]);
    draft.event.user = draft.stated(&["user.id", "enduser.id"]);
    draft.event.tenant = draft.stated(&["tenant.id"]);
    draft
}

/// Puts the rest of the record under clear names, so that the event and the notes are what is left of the draft.
pub(super) fn assemble(draft: &mut Draft) {
    let Draft { event, fields, resource, scope, record, .. } = draft;
    let (name, rest) = match record {
        Record::Span(parts) => (&parts.name, "otlp.span"),
        Record::Log(parts) => (&parts.event_name, "otlp.log"),
    };
    if event.action.name.is_empty() {
        event.action.name.clone_from(name);
    }
    shorten(&mut event.action.name);
    let restated = &mut event.source.restated;
    let more = |members: &mut Vec<(String, Value)>, restated: &mut Vec<String>| {
        resource.write_to(members, restated);
        scope.write_to(members, restated);
        let map = match record {
            Record::Span(parts) => span_rest(parts, restated),
            Record::Log(parts) => log_rest(parts, restated),
        };
        if rest == "otlp.span" || !map.is_empty() {
            members.push((rest.to_owned(), Value::Object(map)));
        }
    };
    event.attributes = std::mem::take(fields).into_map_with("/attributes", &RESERVED, restated, more);
}

/// Reads an id that a record carries, where it can be one.
fn uid(pair: &KeyValue) -> Option<String> {
    match pair.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(uid) if !uid.is_empty() && uid.len() <= 200 => Some(uid.clone()),
        _ => None,
    }
}

/// A name is part of the statement: it is cut where it is not one, and whole in `attributes`.
fn shorten(name: &mut String) {
    if name.is_empty() {
        "unnamed".clone_into(name);
    }
    if name.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
        name.truncate(end);
        name.push('…');
    }
}

fn span_rest(parts: &mut SpanParts, restated: &mut Vec<String>) -> Map<String, Value> {
    let mut rest = Map::new();
    put_text(&mut rest, "name", std::mem::take(&mut parts.name));
    if parts.kind != 0 {
        let kind = match parts.kind {
            1 => json!("internal"),
            2 => json!("server"),
            3 => json!("client"),
            4 => json!("producer"),
            5 => json!("consumer"),
            other => json!(other),
        };
        rest.insert("kind".to_owned(), kind);
    }
    if parts.code != 0 || !parts.message.is_empty() {
        let code = match parts.code {
            0 => json!("unset"),
            1 => json!("ok"),
            2 => json!("error"),
            other => json!(other),
        };
        let mut status = Map::from_iter([("code".to_owned(), code)]);
        put_text(&mut status, "message", std::mem::take(&mut parts.message));
        rest.insert("status".to_owned(), Value::Object(status));
    }
    put_text(&mut rest, "trace_state", std::mem::take(&mut parts.trace_state));
    if parts.flags != 0 {
        rest.insert("flags".to_owned(), Value::from(parts.flags));
    }
    if !parts.points.is_empty() {
        let points = std::mem::take(&mut parts.points).into_iter().enumerate().map(|(index, point)| {
            let prefix = format!("/attributes/otlp.span/events/{index}/attributes");
            let mut out = Map::new();
            put_text(&mut out, "name", point.name);
            out.insert("time_ns".to_owned(), Value::String(point.time_ns.to_string()));
            if !point.fields.is_empty() {
                out.insert("attributes".to_owned(), point.fields.into_map(&prefix, &[], restated).into());
            }
            Value::Object(out)
        });
        rest.insert("events".to_owned(), points.collect());
    }
    if !parts.links_left.is_empty() {
        let links = std::mem::take(&mut parts.links_left)
            .into_iter()
            .enumerate()
            .map(|(index, link)| link.unpack(&format!("/attributes/otlp.span/links/{index}"), restated));
        rest.insert("links".to_owned(), links.collect());
    }
    rest
}

fn log_rest(parts: &mut LogParts, restated: &mut Vec<String>) -> Map<String, Value> {
    let mut rest = Map::new();
    put_text(&mut rest, "event_name", std::mem::take(&mut parts.event_name));
    if !parts.body.value.is_null() {
        rest.insert(
            "body".to_owned(),
            std::mem::take(&mut parts.body).unpack("/attributes/otlp.log/body", restated),
        );
    }
    if parts.severity_number != 0 {
        rest.insert("severity_number".to_owned(), Value::from(parts.severity_number));
    }
    put_text(&mut rest, "severity_text", std::mem::take(&mut parts.severity_text));
    if parts.time_ns != 0 && parts.observed_ns != 0 {
        rest.insert("observed_ns".to_owned(), Value::String(parts.observed_ns.to_string()));
    }
    if parts.flags != 0 {
        rest.insert("flags".to_owned(), Value::from(parts.flags));
    }
    rest
}

/// OpenTelemetry defines a link as a causal relation to another span, and nothing more; GenOps says which.
fn take_link(link: span::Link, links: &mut Vec<Link>, left: &mut Vec<Held>) {
    let ids = TraceId::from_slice(&link.trace_id).ok().zip(SpanId::from_slice(&link.span_id).ok());
    let attributes = fields(link.attributes.clone());
    let rel = match attributes.get_text("genops.link") {
        Some("retry_of") => Rel::RetryOf,
        _ => Rel::CausedBy,
    };
    let plain = link.trace_state.is_empty() && attributes.is_empty();
    let room = links.len() < LINKS_MAX;
    if let Some((trace_id, span_id)) = ids
        && room
    {
        let to = Target { trace_id: Some(trace_id), span_id: Some(span_id), ..Target::default() };
        links.push(Link { to, rel });
        if plain {
            return;
        }
    }
    let mut out = Map::new();
    put_text(&mut out, "trace_id", hex::encode(&link.trace_id));
    put_text(&mut out, "span_id", hex::encode(&link.span_id));
    put_text(&mut out, "trace_state", link.trace_state);
    let mut restated = Vec::new();
    if !attributes.is_empty() {
        out.insert("attributes".to_owned(), attributes.into_map("/attributes", &[], &mut restated).into());
    }
    left.push(Held { value: Value::Object(out), restated });
}

/// An absent id and, as some writers send it, an all-zero id are both "none".
fn optional<T>(parsed: Result<T, IdError>, bytes: &[u8], field: &str) -> Result<Option<T>, Reason> {
    match parsed {
        Ok(id) => Ok(Some(id)),
        Err(IdError::Zero { .. }) => Ok(None),
        Err(_) if bytes.is_empty() => Ok(None),
        Err(error) => Err(Reason::field(field, error.to_string())),
    }
}

fn some_time(ns: u64) -> Option<u64> {
    (ns != 0).then_some(ns)
}

fn put_text(map: &mut Map<String, Value>, name: &str, text: String) {
    if !text.is_empty() {
        map.insert(name.to_owned(), Value::String(text));
    }
}
