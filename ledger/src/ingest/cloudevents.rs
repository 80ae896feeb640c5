//! CloudEvents 1.0: structured, as a batch, and in binary mode.
//!
//! The envelope says who, when and under which id; the data says what. Data of a format that is taken in by itself is
//! read as that format reads it, other data by the names of `shape`, and what neither knows stays verbatim. `source`
//! and `id` together are the idempotency key, as the specification has it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::fields::{Fields, Held, TEXT_BYTES_MAX};
use super::format::Telling;
use super::time::nanoseconds;
use super::{IngestError, Reason, Sink, aisecops, langchain, mcp, native, opa, records, shape};
use crate::canon::escape_pointer;
use crate::event::{Action, ActionKind, AuthorityKind, Effect, Event, Link, Rel, Target};
use crate::id::{Digest, SpanId, TraceId};
use crate::record::Stream;

pub(super) const FORMAT: &str = "cloudevents";
/// Raised when the same event would map to another.
const MAPPER: u32 = 1;
const ID_BYTES_MAX: usize = 256;
/// Where the envelope goes that no field carries.
const ENVELOPE: &str = "cloudevents";

pub(super) fn map(body: &[u8], sink: &mut Sink<'_>) -> Result<(), IngestError> {
    records::each(body, sink, |piece, sink| {
        let fields = records::foreign(piece, sink)?;
        let (mut event, stream, notes) = event(fields, sink)?;
        event.source.path = Some(piece.path.clone());
        for note in notes {
            sink.warn(&piece.place(), note);
        }
        sink.take(event)?;
        if let Some(stream) = stream {
            sink.streams.insert(sink.events.len().saturating_sub(1), stream);
        }
        Ok(())
    })
}

/// Writes an event of the binary mode (`ce-` headers without that prefix, and the data as the body) as the structured
/// event that means the same. Those are the bytes to map and to keep: headers are part of what was said.
///
/// JSON data is carried as it came, byte for byte; text as a string; anything else as `data_base64`.
pub fn structured<'h>(
    attributes: impl IntoIterator<Item = (&'h str, &'h str)>,
    content_type: Option<&str>,
    data: &[u8],
) -> Vec<u8> {
    let mut members: BTreeMap<String, String> = attributes
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), percent_decoded(value)))
        .filter(|(name, _)| !matches!(name.as_str(), "data" | "data_base64" | ""))
        .collect();
    if let Some(content_type) = content_type {
        members.entry("datacontenttype".to_owned()).or_insert_with(|| content_type.trim().to_owned());
    }
    let mut out = vec![b'{'];
    let mut put = |name: &str, value: &[u8]| {
        if out.len() > 1 {
            out.push(b',');
        }
        crate::canon::append_string(name, &mut out);
        out.push(b':');
        out.extend_from_slice(value);
    };
    for (name, value) in &members {
        let mut text = Vec::new();
        crate::canon::append_string(value, &mut text);
        put(name, &text);
    }
    let media = content_type.map(media_type).unwrap_or_default();
    let quoted = |text: &str| {
        let mut quoted = Vec::new();
        crate::canon::append_string(text, &mut quoted);
        quoted
    };
    if !data.is_empty() {
        let is_json = (media.is_empty() || is_json(&media))
            && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok();
        match std::str::from_utf8(data) {
            Ok(_) if is_json => put("data", data),
            Ok(text) if media.starts_with("text/") => put("data", &quoted(text)),
            _ => put("data_base64", &quoted(&STANDARD.encode(data))),
        }
    }
    out.push(b'}');
    out
}

/// Undoes what the HTTP binding does to header values that are not plain ASCII.
fn percent_decoded(value: &str) -> String {
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = (byte == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .filter(|code| code.iter().all(u8::is_ascii_hexdigit))
            .and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        if let Some(code) = code {
            bytes.push(code);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| value.to_owned())
}

fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(media: &str) -> bool {
    media.ends_with("/json") || media.ends_with("+json")
}

/// Reads one structured event.
fn event(mut fields: Fields, sink: &mut Sink<'_>) -> Result<(Event, Option<Stream>, Vec<String>), Reason> {
    let envelope = Envelope::read(&fields)?;
    let mut notes = Vec::new();
    // Context attributes have a canonical text, which is all that the binary mode has: 13 and "13" are one value.
    fields.scalars_as_text(|name| !matches!(name, "data" | "data_base64"));
    unpack_data(&mut fields, &mut notes);
    let mut event = inner(&mut fields, &envelope, sink, &mut notes)?;
    if event.source.format.is_empty() {
        event.source.mapper = MAPPER;
    }
    FORMAT.clone_into(&mut event.source.format);
    let stream = context(&mut event, &mut fields, &envelope, &mut notes);
    for name in ["specversion", "id", "source"] {
        fields.take(name);
    }
    let mut attributes = std::mem::take(&mut event.attributes);
    let data = fields.take("data").map(|held| ("data", held));
    let base64 = fields.take("data_base64").map(|held| ("data_base64", held));
    for (name, held) in data.into_iter().chain(base64) {
        let value = held.unpack(&format!("/attributes/{}", escape_pointer(name)), &mut event.source.restated);
        attributes.insert(name.to_owned(), value);
    }
    if !fields.is_empty() {
        let rest = fields.into_map(&format!("/attributes/{ENVELOPE}"), &[], &mut event.source.restated);
        attributes.insert(ENVELOPE.to_owned(), Value::Object(rest));
    }
    event.attributes = attributes;
    Ok((event, stream, notes))
}

/// The attributes that every event must have.
struct Envelope {
    id: String,
    source: String,
    kind: String,
}

impl Envelope {
    fn read(fields: &Fields) -> Result<Self, Reason> {
        let required = |name: &str| match fields.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(_) => Err(Reason::field(name, "must be a string that is not empty")),
            None => {
                Err(Reason::field(name, "is missing: CloudEvents requires id, source, specversion and type"))
            }
        };
        let version = required("specversion")?;
        if !version.starts_with("1.") && version != "1" {
            return Err(Reason::field("specversion", format!("is `{version}`; 1.0 is taken")));
        }
        Ok(Self { id: required("id")?, source: required("source")?, kind: required("type")? })
    }

    /// The idempotency key of an event of this source. Spaces keep its two parts apart: a URI has none.
    fn key(&self, id: &str) -> String {
        let key = format!("ce:{} {id}", self.source.replace('%', "%25").replace(' ', "%20"));
        if key.len() <= ID_BYTES_MAX { key } else { format!("ce:{}", Digest::of(key.as_bytes())) }
    }
}

/// Reads JSON data that came as text or base64.
fn unpack_data(fields: &mut Fields, notes: &mut Vec<String>) {
    let media = fields.get_text("datacontenttype").map(media_type).unwrap_or_default();
    fields.unfold("data");
    if fields.get("data").is_none()
        && (media.is_empty() || is_json(&media))
        && let Some(text) = fields.get_text("data_base64")
    {
        let json = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match json.and_then(|text| super::json::read_embedded(&text, 48)) {
            Some(value) => {
                fields.take("data_base64");
                fields.restore("data", Held::from(value));
            }
            None => notes.push("`data_base64` is not JSON; it stays as it is".to_owned()),
        }
    }
}

/// Makes the event of what the data says.
fn inner(
    fields: &mut Fields,
    envelope: &Envelope,
    sink: &mut Sink<'_>,
    notes: &mut Vec<String>,
) -> Result<Event, Reason> {
    let telling = match fields.get("data") {
        Some(Value::Object(members)) => Telling::of(members.keys().map(String::as_str)),
        _ => Telling::default(),
    };
    let key = envelope.key(&envelope.id);
    let taken = |fields: &mut Fields| {
        let held = fields.take("data").unwrap_or_default();
        match held.value {
            Value::Object(members) => Fields::from_object(members, &held.restated),
            _ => Fields::default(),
        }
    };
    if telling.is_opa() {
        let (mut event, more) = opa::event(taken(fields), &[], sink)?;
        notes.extend(more);
        event.id = key;
        return Ok(event);
    }
    if telling.is_mcp() {
        let mut event = mcp::single(taken(fields), &envelope.source, sink)?;
        event.id = key;
        return Ok(event);
    }
    if telling.is_langchain() {
        let mut event = langchain::single(taken(fields), &[], sink)?;
        event.id = key;
        return Ok(event);
    }
    if telling.is_aisecops() {
        let data = taken(fields);
        let (mut event, more) = aisecops::event(data, &[], &mut sink.ids, &mut aisecops::DryRuns::new())?;
        notes.extend(more);
        event.id = key;
        return Ok(event);
    }
    if telling.is_native() && is_native(fields.get("data")) {
        let Some(Held { value: Value::Object(mut data), restated }) = fields.take("data") else {
            return Err(Reason::field("data", "must be an object"));
        };
        if let Some(pointer) = restated.first() {
            return Err(Reason::field(
                format!("data{pointer}"),
                "is a number that JSON readers do not carry exactly; write it as a string",
            ));
        }
        data.entry("id").or_insert_with(|| Value::String(key));
        return native::event(data, sink);
    }
    let mut event = Event::new(key, Action::new(ActionKind::Other, ""));
    event.source.profile = Some("cloudevents".to_owned());
    let decided = fields
        .within("data", |data| {
            shape::action(&mut event, data);
            shape::who(&mut event, data);
            shape::outcome(&mut event, data);
            shape::decision(data, AuthorityKind::Unknown)
        })
        .flatten();
    event.decision = decided;
    if let Some(decision) = &mut event.decision
        && decision.policy.is_some()
        && decision.by.kind == AuthorityKind::Unknown
    {
        decision.by.kind = AuthorityKind::Policy;
    }
    if event.action.name.is_empty() {
        name(&mut event, fields, envelope);
    }
    Ok(event)
}

/// Tells native data from other data with a member `action`.
fn is_native(data: Option<&Value>) -> bool {
    let action = data.and_then(|data| data.get("action"));
    action.is_some_and(|action| action.get("kind").is_some() && action.get("name").is_some())
}

/// Names the action by the subject (`tool/issue_refund`), else by the type.
fn name(event: &mut Event, fields: &mut Fields, envelope: &Envelope) {
    let subject = fields.get_text("subject").unwrap_or_default();
    let (kind, rest) = subject.split_once(['/', ':']).unwrap_or_default();
    let kind = ActionKind::ALL.into_iter().find(|known| known.as_str() == kind);
    if let Some(kind) = kind
        && !rest.is_empty()
        && rest.len() <= TEXT_BYTES_MAX
    {
        event.action.kind = kind;
        rest.clone_into(&mut event.action.name);
    } else {
        event.action.name = envelope.kind.chars().take(256).collect();
        event.action.resource = fields.text("subject");
    }
}

/// Reads the context attributes and the extensions that mean something here.
fn context(
    event: &mut Event,
    fields: &mut Fields,
    envelope: &Envelope,
    notes: &mut Vec<String>,
) -> Option<Stream> {
    if event.start_ns.is_none()
        && let Some(text) = fields.get_text("time")
    {
        event.start_ns = nanoseconds(text);
        if event.start_ns.is_some() {
            fields.take("time");
        } else {
            notes
                .push("`time` is not an RFC 3339 time with an offset; it stays in the attributes".to_owned());
        }
    }
    if event.trace_id.is_none()
        && let Some(text) = fields.get_text("traceparent")
    {
        match traceparent(text) {
            Some((trace_id, span_id, _)) => (event.trace_id, event.span_id) = (Some(trace_id), Some(span_id)),
            None => notes.push("`traceparent` is not one; it stays in the attributes".to_owned()),
        }
    }
    if event.session.is_none() {
        event.session = fields.text("correlationid");
    }
    if event.classification.is_none() {
        event.classification = fields.text("dataclassification");
    }
    principal(event, fields);
    cause(event, fields, envelope);
    let sequence = fields.get_text("sequence").filter(|text| !text.is_empty() && text.len() <= 64);
    let id = Some(envelope.source.clone()).filter(|source| source.len() <= 200);
    let stream = sequence.zip(id).map(|(seq, id)| Stream { id, seq: seq.to_owned() });
    stream.inspect(|_| drop(fields.take("sequence")))
}

/// Reads `authtype` and `authid`: the principal that caused the event. Of an answer to an approval that is who gave
/// it; of everything else it is the user.
fn principal(event: &mut Event, fields: &mut Fields) {
    let kind = fields.get_text("authtype").unwrap_or_default().to_owned();
    let is_person = kind == "user";
    let answers = fields.get("causationid").is_some();
    let answered = event
        .decision
        .as_mut()
        .filter(|decision| is_person && answers && decision.effect != Effect::RequireApproval);
    if let Some(decision) = answered {
        decision.by.kind = AuthorityKind::Human;
        if decision.by.id.is_none() {
            decision.by.id = fields.text("authid");
        } else if decision.by.id.as_deref() == fields.get_text("authid") {
            fields.take("authid");
        }
        fields.take("authtype");
    } else if is_person && event.user.is_none() {
        event.user = fields.text("authid");
        if event.user.is_some() {
            fields.take("authtype");
        }
    } else if is_person && event.user.as_deref() == fields.get_text("authid") {
        fields.take("authid");
        fields.take("authtype");
    }
}

/// Links to the event that `causationid` names. A person's ruling on something is an answer to it.
fn cause(event: &mut Event, fields: &mut Fields, envelope: &Envelope) {
    let Some(cause) = fields.text("causationid") else { return };
    let answers = event.decision.as_ref().is_some_and(|decision| {
        decision.by.kind == AuthorityKind::Human && decision.effect != Effect::RequireApproval
    });
    let rel = if answers { Rel::Approves } else { Rel::CausedBy };
    let to = Target { event: Some(envelope.key(&cause)), ..Target::default() };
    event.links.push(Link { to, rel });
}

/// Reads a W3C `traceparent`: trace, span and flags.
pub(super) fn traceparent(text: &str) -> Option<(TraceId, SpanId, u8)> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // Later versions may add parts; version ff is none.
    if version.len() != 2 || version.eq_ignore_ascii_case("ff") || (version == "00" && parts.next().is_some())
    {
        return None;
    }
    Some((trace.parse().ok()?, span.parse().ok()?, u8::from_str_radix(flags, 16).ok()?))
}
