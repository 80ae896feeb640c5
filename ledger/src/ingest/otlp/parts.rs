//! The leaves of one OTLP protobuf record with their byte ranges, named as OTLP/JSON names them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::ingest::format::Signal;
use crate::ingest::locate::{AtPlace, Leaf, shared_by};

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Hex,
    Bytes,
    Bool,
    Signed,
    Unsigned,
    Fixed64,
    Fixed32,
    Double,
    /// One embedded message, or one of several.
    One(&'static [Field]),
    Many(&'static [Field]),
}

type Field = (u64, &'static str, Kind);

static ANY: [Field; 7] = [
    (1, "stringValue", Kind::Text),
    (2, "boolValue", Kind::Bool),
    (3, "intValue", Kind::Signed),
    (4, "doubleValue", Kind::Double),
    (5, "arrayValue", Kind::One(&ARRAY)),
    (6, "kvlistValue", Kind::One(&KVLIST)),
    (7, "bytesValue", Kind::Bytes),
];
static ARRAY: [Field; 1] = [(1, "values", Kind::Many(&ANY))];
static KVLIST: [Field; 1] = [(1, "values", Kind::Many(&PAIR))];
static PAIR: [Field; 2] = [(1, "key", Kind::Text), (2, "value", Kind::One(&ANY))];
static ENTITY: [Field; 4] = [
    (1, "schemaUrl", Kind::Text),
    (2, "type", Kind::Text),
    (3, "idKeys", Kind::Text),
    (4, "descriptionKeys", Kind::Text),
];
static RESOURCE: [Field; 3] = [
    (1, "attributes", Kind::Many(&PAIR)),
    (2, "droppedAttributesCount", Kind::Unsigned),
    (3, "entityRefs", Kind::Many(&ENTITY)),
];
static SCOPE: [Field; 4] = [
    (1, "name", Kind::Text),
    (2, "version", Kind::Text),
    (3, "attributes", Kind::Many(&PAIR)),
    (4, "droppedAttributesCount", Kind::Unsigned),
];
static POINT: [Field; 4] = [
    (1, "timeUnixNano", Kind::Fixed64),
    (2, "name", Kind::Text),
    (3, "attributes", Kind::Many(&PAIR)),
    (4, "droppedAttributesCount", Kind::Unsigned),
];
static LINK: [Field; 6] = [
    (1, "traceId", Kind::Hex),
    (2, "spanId", Kind::Hex),
    (3, "traceState", Kind::Text),
    (4, "attributes", Kind::Many(&PAIR)),
    (5, "droppedAttributesCount", Kind::Unsigned),
    (6, "flags", Kind::Fixed32),
];
static STATUS: [Field; 2] = [(2, "message", Kind::Text), (3, "code", Kind::Signed)];
static SPAN: [Field; 16] = [
    (1, "traceId", Kind::Hex),
    (2, "spanId", Kind::Hex),
    (3, "traceState", Kind::Text),
    (4, "parentSpanId", Kind::Hex),
    (5, "name", Kind::Text),
    (6, "kind", Kind::Signed),
    (7, "startTimeUnixNano", Kind::Fixed64),
    (8, "endTimeUnixNano", Kind::Fixed64),
    (9, "attributes", Kind::Many(&PAIR)),
    (10, "droppedAttributesCount", Kind::Unsigned),
    (11, "events", Kind::Many(&POINT)),
    (12, "droppedEventsCount", Kind::Unsigned),
    (13, "links", Kind::Many(&LINK)),
    (14, "droppedLinksCount", Kind::Unsigned),
    (15, "status", Kind::One(&STATUS)),
    (16, "flags", Kind::Fixed32),
];
static LOG: [Field; 11] = [
    (1, "timeUnixNano", Kind::Fixed64),
    (2, "severityNumber", Kind::Signed),
    (3, "severityText", Kind::Text),
    (5, "body", Kind::One(&ANY)),
    (6, "attributes", Kind::Many(&PAIR)),
    (7, "droppedAttributesCount", Kind::Unsigned),
    (8, "flags", Kind::Fixed32),
    (9, "traceId", Kind::Hex),
    (10, "spanId", Kind::Hex),
    (11, "observedTimeUnixNano", Kind::Fixed64),
    (12, "eventName", Kind::Text),
];
static SCOPE_SPANS: [Field; 3] =
    [(1, "scope", Kind::One(&SCOPE)), (2, "spans", Kind::Many(&SPAN)), (3, "schemaUrl", Kind::Text)];
static SCOPE_LOGS: [Field; 3] =
    [(1, "scope", Kind::One(&SCOPE)), (2, "logRecords", Kind::Many(&LOG)), (3, "schemaUrl", Kind::Text)];
static RESOURCE_SPANS: [Field; 3] = [
    (1, "resource", Kind::One(&RESOURCE)),
    (2, "scopeSpans", Kind::Many(&SCOPE_SPANS)),
    (3, "schemaUrl", Kind::Text),
];
static RESOURCE_LOGS: [Field; 3] = [
    (1, "resource", Kind::One(&RESOURCE)),
    (2, "scopeLogs", Kind::Many(&SCOPE_LOGS)),
    (3, "schemaUrl", Kind::Text),
];
static TRACES: [Field; 1] = [(1, "resourceSpans", Kind::Many(&RESOURCE_SPANS))];
static LOGS: [Field; 1] = [(1, "resourceLogs", Kind::Many(&RESOURCE_LOGS))];

/// Lists the leaves of the record at `path` and of the resource and scope that it shares; `None` when the bytes are not
/// the message.
pub(crate) fn leaves(signal: Signal, body: &[u8], path: &str) -> Option<AtPlace> {
    let request: &[Field] = match signal {
        Signal::Traces => &TRACES,
        Signal::Logs => &LOGS,
        Signal::Metrics => return None,
    };
    let mut walk = Walk { record: path, pointer: String::new(), leaves: Vec::new(), range: None };
    walk.message(request, body, 0, 0)?;
    Some(AtPlace { leaves: walk.leaves, record: walk.range })
}

struct Walk<'p> {
    record: &'p str,
    pointer: String,
    leaves: Vec<Leaf>,
    range: Option<std::ops::Range<usize>>,
}

impl Walk<'_> {
    fn message(&mut self, fields: &'static [Field], bytes: &[u8], base: usize, depth: usize) -> Option<()> {
        if depth > 100 {
            return None;
        }
        let mut at = 0;
        let mut counts = vec![0_usize; fields.len()];
        while at < bytes.len() {
            let key = varint(bytes, &mut at)?;
            let start = at;
            let (content, number) = match key & 7 {
                0 => {
                    let number = varint(bytes, &mut at)?;
                    (start..at, Some(number))
                }
                1 => {
                    at = at.checked_add(8)?;
                    let number = u64::from_le_bytes(bytes.get(start..at)?.try_into().ok()?);
                    (start..at, Some(number))
                }
                2 => {
                    let length = usize::try_from(varint(bytes, &mut at)?).ok()?;
                    let start = at;
                    at = at.checked_add(length)?;
                    (start..at, None)
                }
                5 => {
                    at = at.checked_add(4)?;
                    let number = u32::from_le_bytes(bytes.get(start..at)?.try_into().ok()?);
                    (start..at, Some(u64::from(number)))
                }
                _ => return None,
            };
            let inside = bytes.get(content.clone())?;
            let position = fields.iter().position(|(known, ..)| *known == key >> 3);
            let Some((position, (_, name, kind))) = position.and_then(|p| Some((p, fields.get(p)?))) else {
                continue;
            };
            let len = self.pointer.len();
            if len > 0 {
                self.pointer.push('/');
            }
            self.pointer.push_str(name);
            if let Kind::Many(_) = kind {
                let count = counts.get_mut(position)?;
                self.pointer.push_str(&format!("/{count}"));
                *count = count.saturating_add(1);
            }
            let from = base.saturating_add(content.start);
            match kind {
                Kind::One(inner) | Kind::Many(inner) => {
                    if self.pointer == self.record {
                        self.range = Some(from..base.saturating_add(content.end));
                    }
                    if inside.is_empty() && matches!(*name, "arrayValue" | "kvlistValue") {
                        let list = *name == "arrayValue";
                        let value = if list { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
                        self.leaves.push(Leaf {
                            pointer: self.pointer.clone(),
                            start: from,
                            end: from,
                            value,
                        });
                    }
                    if shared_by(&self.pointer, self.record) {
                        self.message(inner, inside, from, depth.saturating_add(1))?;
                    }
                }
                kind => {
                    if shared_by(&self.pointer, self.record) {
                        let value = value(*kind, inside, number)?;
                        let end = base.saturating_add(content.end);
                        self.leaves.push(Leaf { pointer: self.pointer.clone(), start: from, end, value });
                    }
                }
            }
            self.pointer.truncate(len);
        }
        Some(())
    }
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at = at.checked_add(1)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn value(kind: Kind, inside: &[u8], number: Option<u64>) -> Option<Value> {
    Some(match kind {
        Kind::Text => Value::String(std::str::from_utf8(inside).ok()?.to_owned()),
        Kind::Hex => Value::String(hex::encode(inside)),
        Kind::Bytes => Value::String(STANDARD.encode(inside)),
        Kind::Bool => Value::Bool(number? != 0),
        // Two's complement is how a negative number is written.
        Kind::Signed => Value::from(number?.cast_signed()),
        Kind::Unsigned | Kind::Fixed32 => Value::from(number?),
        Kind::Fixed64 => Value::String(number?.to_string()),
        Kind::Double => {
            let double = f64::from_bits(number?);
            serde_json::Number::from_f64(double)
                .map_or_else(|| Value::String(super::value::double_text(double)), Value::Number)
        }
        Kind::One(_) | Kind::Many(_) => return None,
    })
}
