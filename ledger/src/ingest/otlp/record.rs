//! One span or log record: what is common to every profile, before and after it.

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span;
use prost::Message;
use serde_json::{Map, Value, json};

use super::value::{fields, held};
use crate::event::{Action, ActionKind, Event, Link, Rel, Target};
use crate::id::{IdError, SpanId, TraceId};
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
    fields: Fields,
    /// `schema_url` and entity references.
    extra: Map<String, Value>,
    lost: u32,
    encoded: Vec<u8>,
}

impl Origin {
    pub(super) fn new(resource: Resource, schema_url: String) -> Self {
        let encoded = resource.encode_to_vec();
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
        let lost = resource.dropped_attributes_count;
        Self { fields: fields(resource.attributes), extra, lost, encoded }
    }
}

/// The instrumentation scope of records.
pub(super) struct Scope {
    name: String,
    fields: Fields,
    extra: Map<String, Value>,
    lost: u32,
    encoded: Vec<u8>,
}

impl Scope {
    pub(super) fn new(scope: InstrumentationScope, schema_url: String) -> Self {
        let encoded = scope.encode_to_vec();
        let mut extra = Map::new();
        put_text(&mut extra, "name", scope.name.clone());
        put_text(&mut extra, "version", scope.version);
        put_text(&mut extra, "schema_url", schema_url);
        let lost = scope.dropped_attributes_count;
        Self { name: scope.name, fields: fields(scope.attributes), extra, lost, encoded }
    }
}

/// Starts the event of a span.
pub(super) fn span(span: Span, origin: &Origin, scope: &Scope) -> Result<Draft, Reason> {
    let trace_id = TraceId::from_slice(&span.trace_id)?;
    let span_id = SpanId::from_slice(&span.span_id)?;
    let mut event = Event::new(format!("otlp:{trace_id}:{span_id}"), Action::new(ActionKind::Other, ""));
    event.trace_id = Some(trace_id);
    event.span_id = Some(span_id);
    event.parent_span_id =
        optional(SpanId::from_slice(&span.parent_span_id), &span.parent_span_id, "parent_span_id")?;
    event.start_ns = some_time(span.start_time_unix_nano);
    event.end_ns = some_time(span.end_time_unix_nano);
    let mut notes = Vec::new();
    if event.start_ns.zip(event.end_ns).is_some_and(|(start, end)| end < start) {
        notes.push("the span ends before it starts; its clock was set or is wrong".to_owned());
    }
    let mut lost = [
        span.dropped_attributes_count,
        span.dropped_events_count,
        span.dropped_links_count,
        origin.lost,
        scope.lost,
    ]
    .into_iter()
    .fold(0, u32::saturating_add);
    for point in &span.events {
        lost = lost.saturating_add(point.dropped_attributes_count);
    }
    for link in &span.links {
        lost = lost.saturating_add(link.dropped_attributes_count);
    }
    event.source.lost = lost;
    if lost > 0 {
        notes.push(
            "the source dropped attributes, events or links before sending; `source.lost` counts them".into(),
        );
    }
    let mut links_left = Vec::new();
    for link in span.links {
        take_link(link, &mut event.links, &mut links_left);
    }
    let status = span.status.unwrap_or_default();
    let record = Record::Span(SpanParts {
        name: span.name,
        kind: span.kind,
        code: status.code,
        message: status.message,
        trace_state: span.trace_state,
        flags: span.flags,
        points: span
            .events
            .into_iter()
            .map(|point| Point {
                name: point.name,
                time_ns: point.time_unix_nano,
                fields: fields(point.attributes),
            })
            .collect(),
        links_left,
    });
    Ok(draft(event, fields(span.attributes), record, notes, origin, scope))
}

/// Starts the event of a log record.
pub(super) fn log(
    log: LogRecord,
    origin: &Origin,
    scope: &Scope,
    ids: &mut Ordinals,
) -> Result<Draft, Reason> {
    let trace_id = optional(TraceId::from_slice(&log.trace_id), &log.trace_id, "trace_id")?;
    let span_id = optional(SpanId::from_slice(&log.span_id), &log.span_id, "span_id")?;
    // Lengths keep the three parts apart.
    let mut content = Vec::new();
    for part in [&origin.encoded, &scope.encoded, &log.encode_to_vec()] {
        content.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        content.extend_from_slice(part);
    }
    let fields = fields(log.attributes);
    let id = match fields.get_text("log.record.uid") {
        Some(uid) if !uid.is_empty() && uid.len() <= 200 => format!("otlp:log:{uid}"),
        _ => ids.id("otlp:log:", &content),
    };
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
) -> Draft {
    for name in fields.ambiguous_names() {
        notes.push(format!("attribute `{name}` occurs more than once; both values are in `otlp.ambiguous`"));
    }
    let mut draft = Draft {
        event,
        fields,
        resource: origin.fields.clone(),
        resource_extra: origin.extra.clone(),
        scope_name: scope.name.clone(),
        scope: scope.fields.clone(),
        scope_extra: scope.extra.clone(),
        record,
        notes,
    };
    // The SDK's own default is nobody's statement.
    let named =
        draft.resource.get_text("service.name").is_some_and(|name| !name.starts_with("unknown_service"));
    if named {
        draft.event.service = draft.resource.text("service.name");
    }
    draft.event.environment =
        draft.resource.first_text(&["deployment.environment.name", "deployment.environment"]);
    draft.event.session = draft.stated(&["session.id"]);
    draft.event.user = draft.stated(&["user.id", "enduser.id"]);
    draft.event.tenant = draft.stated(&["tenant.id"]);
    draft
}

/// Puts the rest of the record under clear names and returns the event and its warnings.
pub(super) fn assemble(draft: Draft) -> (Event, Vec<String>) {
    let Draft { mut event, fields, resource, resource_extra, scope, scope_extra, record, notes, .. } = draft;
    let restated = &mut event.source.restated;
    let mut attributes = fields.into_map("/attributes", &RESERVED, restated);
    let with = |name: &str, rest: Fields, mut extra: Map<String, Value>, restated: &mut Vec<String>| {
        if !rest.is_empty() {
            let rest = rest.into_map(&format!("/attributes/{name}/attributes"), &[], restated);
            extra.insert("attributes".to_owned(), Value::Object(rest));
        }
        (!extra.is_empty()).then(|| (name.to_owned(), Value::Object(extra)))
    };
    attributes.extend(with("otlp.resource", resource, resource_extra, restated));
    attributes.extend(with("otlp.scope", scope, scope_extra, restated));
    let name = match record {
        Record::Span(parts) => {
            let name = parts.name.clone();
            attributes.insert("otlp.span".to_owned(), span_rest(parts, restated));
            name
        }
        Record::Log(parts) => {
            let name = parts.event_name.clone();
            let rest = log_rest(parts, restated);
            if !rest.is_empty() {
                attributes.insert("otlp.log".to_owned(), Value::Object(rest));
            }
            name
        }
    };
    if event.action.name.is_empty() {
        event.action.name = name;
    }
    shorten(&mut event.action.name);
    event.attributes = attributes;
    (event, notes)
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

fn span_rest(parts: SpanParts, restated: &mut Vec<String>) -> Value {
    let mut rest = Map::new();
    put_text(&mut rest, "name", parts.name);
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
        put_text(&mut status, "message", parts.message);
        rest.insert("status".to_owned(), Value::Object(status));
    }
    put_text(&mut rest, "trace_state", parts.trace_state);
    if parts.flags != 0 {
        rest.insert("flags".to_owned(), Value::from(parts.flags));
    }
    if !parts.points.is_empty() {
        let points = parts.points.into_iter().enumerate().map(|(index, point)| {
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
        let links = parts
            .links_left
            .into_iter()
            .enumerate()
            .map(|(index, link)| link.unpack(&format!("/attributes/otlp.span/links/{index}"), restated));
        rest.insert("links".to_owned(), links.collect());
    }
    Value::Object(rest)
}

fn log_rest(parts: LogParts, restated: &mut Vec<String>) -> Map<String, Value> {
    let mut rest = Map::new();
    put_text(&mut rest, "event_name", parts.event_name);
    if !parts.body.value.is_null() {
        rest.insert("body".to_owned(), parts.body.unpack("/attributes/otlp.log/body", restated));
    }
    if parts.severity_number != 0 {
        rest.insert("severity_number".to_owned(), Value::from(parts.severity_number));
    }
    put_text(&mut rest, "severity_text", parts.severity_text);
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
