//! OTLP/JSON, read into the protobuf messages.
//!
//! Tolerant where the OTLP and proto3 JSON rules are: `null` and absent are the default, 64-bit integers come as
//! numbers or strings, doubles may be quoted or `NaN`, ids are hexadecimal in any case, unknown members are
//! ignored. Strict where they are: enums are integers, ids are hexadecimal, a value has one kind. Members written
//! in `snake_case` are unknown members to OTLP; they are named in a warning, because what they held is lost.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde_json::{Map, Value};

/// What one OTLP/JSON document holds.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Document {
    pub(super) spans: Vec<ResourceSpans>,
    pub(super) logs: Vec<ResourceLogs>,
    /// Data points of metrics, which are no events.
    pub(super) points: usize,
    /// Members that look like misspelled OTLP members, as `found` → `right`.
    pub(super) misspelled: Vec<(String, String)>,
    /// True when no member of a request is there.
    pub(super) empty: bool,
}

/// A value that OTLP/JSON does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) path: String,
    pub(super) message: String,
}

const MISSPELLED_MAX: usize = 16;

/// Every member name of the messages read here, for the warning about misspelled ones.
const NAMES: [&str; 47] = [
    "arrayValue",
    "attributes",
    "body",
    "boolValue",
    "bytesValue",
    "code",
    "descriptionKeys",
    "doubleValue",
    "droppedAttributesCount",
    "droppedEventsCount",
    "droppedLinksCount",
    "endTimeUnixNano",
    "entityRefs",
    "eventName",
    "events",
    "flags",
    "idKeys",
    "intValue",
    "key",
    "kind",
    "kvlistValue",
    "links",
    "logRecords",
    "message",
    "name",
    "observedTimeUnixNano",
    "parentSpanId",
    "resource",
    "resourceLogs",
    "resourceMetrics",
    "resourceSpans",
    "schemaUrl",
    "scope",
    "scopeLogs",
    "scopeSpans",
    "severityNumber",
    "severityText",
    "spanId",
    "spans",
    "startTimeUnixNano",
    "status",
    "stringValue",
    "timeUnixNano",
    "traceId",
    "traceState",
    "type",
    "values",
];

/// Reads one document.
pub(super) fn read(value: Value) -> Result<Document, Fault> {
    let mut reader = Reader { path: Vec::new(), misspelled: Vec::new() };
    let mut request = reader.object(value)?;
    let empty =
        !["resourceSpans", "resourceLogs", "resourceMetrics"].iter().any(|name| request.contains_key(*name));
    let spans = reader.list(&mut request, "resourceSpans", Reader::resource_spans)?;
    let logs = reader.list(&mut request, "resourceLogs", Reader::resource_logs)?;
    let points = request.remove("resourceMetrics").map_or(0, |metrics| data_points(&metrics));
    reader.rest(&request);
    Ok(Document { spans, logs, points, misspelled: reader.misspelled, empty })
}

/// Counts the data points of metrics without reading them further.
fn data_points(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(data_points).fold(0, usize::saturating_add),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| match member {
                Value::Array(points) if name == "dataPoints" => points.len(),
                other => data_points(other),
            })
            .fold(0, usize::saturating_add),
        _ => 0,
    }
}

enum Step {
    Member(&'static str),
    Index(usize),
}

struct Reader {
    path: Vec<Step>,
    misspelled: Vec<(String, String)>,
}

type Members = Map<String, Value>;

impl Reader {
    fn resource_spans(&mut self, value: Value) -> Result<ResourceSpans, Fault> {
        let mut members = self.object(value)?;
        let out = ResourceSpans {
            resource: self.resource(&mut members)?,
            scope_spans: self.list(&mut members, "scopeSpans", Self::scope_spans)?,
            schema_url: self.string(&mut members, "schemaUrl")?,
        };
        self.rest(&members);
        Ok(out)
    }

    fn scope_spans(&mut self, value: Value) -> Result<ScopeSpans, Fault> {
        let mut members = self.object(value)?;
        let out = ScopeSpans {
            scope: self.scope(&mut members)?,
            spans: self.list(&mut members, "spans", Self::span)?,
            schema_url: self.string(&mut members, "schemaUrl")?,
        };
        self.rest(&members);
        Ok(out)
    }

    fn resource_logs(&mut self, value: Value) -> Result<ResourceLogs, Fault> {
        let mut members = self.object(value)?;
        let out = ResourceLogs {
            resource: self.resource(&mut members)?,
            scope_logs: self.list(&mut members, "scopeLogs", Self::scope_logs)?,
            schema_url: self.string(&mut members, "schemaUrl")?,
        };
        self.rest(&members);
        Ok(out)
    }

    fn scope_logs(&mut self, value: Value) -> Result<ScopeLogs, Fault> {
        let mut members = self.object(value)?;
        let out = ScopeLogs {
            scope: self.scope(&mut members)?,
            log_records: self.list(&mut members, "logRecords", Self::log_record)?,
            schema_url: self.string(&mut members, "schemaUrl")?,
        };
        self.rest(&members);
        Ok(out)
    }

    fn span(&mut self, value: Value) -> Result<Span, Fault> {
        let mut members = self.object(value)?;
        let out = Span {
            trace_id: self.hex(&mut members, "traceId")?,
            span_id: self.hex(&mut members, "spanId")?,
            trace_state: self.string(&mut members, "traceState")?,
            parent_span_id: self.hex(&mut members, "parentSpanId")?,
            flags: self.unsigned(&mut members, "flags")?,
            name: self.string(&mut members, "name")?,
            kind: self.enumeration(&mut members, "kind")?,
            start_time_unix_nano: self.unsigned(&mut members, "startTimeUnixNano")?,
            end_time_unix_nano: self.unsigned(&mut members, "endTimeUnixNano")?,
            attributes: self.list(&mut members, "attributes", Self::pair)?,
            dropped_attributes_count: self.unsigned(&mut members, "droppedAttributesCount")?,
            events: self.list(&mut members, "events", Self::event)?,
            dropped_events_count: self.unsigned(&mut members, "droppedEventsCount")?,
            links: self.list(&mut members, "links", Self::link)?,
            dropped_links_count: self.unsigned(&mut members, "droppedLinksCount")?,
            status: self.message(&mut members, "status", |reader, mut members| {
                let out = Status {
                    message: reader.string(&mut members, "message")?,
                    code: reader.enumeration(&mut members, "code")?,
                };
                reader.rest(&members);
                Ok(out)
            })?,
        };
        self.rest(&members);
        Ok(out)
    }

    fn event(&mut self, value: Value) -> Result<Event, Fault> {
        let mut members = self.object(value)?;
        let out = Event {
            time_unix_nano: self.unsigned(&mut members, "timeUnixNano")?,
            name: self.string(&mut members, "name")?,
            attributes: self.list(&mut members, "attributes", Self::pair)?,
            dropped_attributes_count: self.unsigned(&mut members, "droppedAttributesCount")?,
        };
        self.rest(&members);
        Ok(out)
    }

    fn link(&mut self, value: Value) -> Result<Link, Fault> {
        let mut members = self.object(value)?;
        let out = Link {
            trace_id: self.hex(&mut members, "traceId")?,
            span_id: self.hex(&mut members, "spanId")?,
            trace_state: self.string(&mut members, "traceState")?,
            attributes: self.list(&mut members, "attributes", Self::pair)?,
            dropped_attributes_count: self.unsigned(&mut members, "droppedAttributesCount")?,
            flags: self.unsigned(&mut members, "flags")?,
        };
        self.rest(&members);
        Ok(out)
    }

    fn log_record(&mut self, value: Value) -> Result<LogRecord, Fault> {
        let mut members = self.object(value)?;
        let out = LogRecord {
            time_unix_nano: self.unsigned(&mut members, "timeUnixNano")?,
            observed_time_unix_nano: self.unsigned(&mut members, "observedTimeUnixNano")?,
            severity_number: self.enumeration(&mut members, "severityNumber")?,
            severity_text: self.string(&mut members, "severityText")?,
            body: self.any_member(&mut members, "body")?,
            attributes: self.list(&mut members, "attributes", Self::pair)?,
            dropped_attributes_count: self.unsigned(&mut members, "droppedAttributesCount")?,
            flags: self.unsigned(&mut members, "flags")?,
            trace_id: self.hex(&mut members, "traceId")?,
            span_id: self.hex(&mut members, "spanId")?,
            event_name: self.string(&mut members, "eventName")?,
        };
        self.rest(&members);
        Ok(out)
    }

    fn resource(&mut self, members: &mut Members) -> Result<Option<Resource>, Fault> {
        self.message(members, "resource", |reader, mut members| {
            let out = Resource {
                attributes: reader.list(&mut members, "attributes", Self::pair)?,
                dropped_attributes_count: reader.unsigned(&mut members, "droppedAttributesCount")?,
                entity_refs: reader.list(&mut members, "entityRefs", Self::entity_ref)?,
            };
            reader.rest(&members);
            Ok(out)
        })
    }

    fn entity_ref(&mut self, value: Value) -> Result<EntityRef, Fault> {
        let mut members = self.object(value)?;
        let text = |reader: &mut Self, value: Value| match value {
            Value::String(text) => Ok(text),
            _ => Err(reader.fault("must be a string")),
        };
        let out = EntityRef {
            schema_url: self.string(&mut members, "schemaUrl")?,
            r#type: self.string(&mut members, "type")?,
            id_keys: self.list(&mut members, "idKeys", text)?,
            description_keys: self.list(&mut members, "descriptionKeys", text)?,
        };
        self.rest(&members);
        Ok(out)
    }

    fn scope(&mut self, members: &mut Members) -> Result<Option<InstrumentationScope>, Fault> {
        self.message(members, "scope", |reader, mut members| {
            let out = InstrumentationScope {
                name: reader.string(&mut members, "name")?,
                version: reader.string(&mut members, "version")?,
                attributes: reader.list(&mut members, "attributes", Self::pair)?,
                dropped_attributes_count: reader.unsigned(&mut members, "droppedAttributesCount")?,
            };
            reader.rest(&members);
            Ok(out)
        })
    }

    fn pair(&mut self, value: Value) -> Result<KeyValue, Fault> {
        let mut members = self.object(value)?;
        let out = KeyValue {
            key: self.string(&mut members, "key")?,
            value: self.any_member(&mut members, "value")?,
            key_strindex: 0,
        };
        self.rest(&members);
        Ok(out)
    }

    fn any_member(&mut self, members: &mut Members, name: &'static str) -> Result<Option<AnyValue>, Fault> {
        match members.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self.under(Step::Member(name), |reader| reader.any(value)).map(Some),
        }
    }

    fn any(&mut self, value: Value) -> Result<AnyValue, Fault> {
        let mut members = self.object(value)?;
        members.retain(|_, member| !member.is_null());
        let mut found = None;
        for name in
            ["stringValue", "boolValue", "intValue", "doubleValue", "arrayValue", "kvlistValue", "bytesValue"]
        {
            let Some(member) = members.remove(name) else { continue };
            if found.is_some() {
                return Err(self.fault("must hold one value, not several"));
            }
            found = Some(self.under(Step::Member(name), |reader| reader.one_of(name, member))?);
        }
        self.rest(&members);
        Ok(AnyValue { value: found })
    }

    fn one_of(&mut self, name: &str, value: Value) -> Result<Any, Fault> {
        Ok(match (name, value) {
            ("stringValue", Value::String(text)) => Any::StringValue(text),
            ("boolValue", Value::Bool(flag)) => Any::BoolValue(flag),
            ("intValue", value) => Any::IntValue(
                integer(&value)
                    .ok_or_else(|| self.fault("must be a 64-bit integer or its decimal string"))?,
            ),
            ("doubleValue", value) => Any::DoubleValue(
                double(&value).ok_or_else(|| self.fault("must be a number, its decimal string, or `NaN`"))?,
            ),
            ("bytesValue", Value::String(text)) => {
                Any::BytesValue(base64_any(&text).ok_or_else(|| self.fault("must be base64"))?)
            }
            ("arrayValue", value) => {
                let mut members = self.object(value)?;
                let values = self.list(&mut members, "values", Self::any_or_null)?;
                self.rest(&members);
                Any::ArrayValue(ArrayValue { values })
            }
            ("kvlistValue", value) => {
                let mut members = self.object(value)?;
                let values = self.list(&mut members, "values", Self::pair)?;
                self.rest(&members);
                Any::KvlistValue(KeyValueList { values })
            }
            ("boolValue", _) => return Err(self.fault("must be true or false")),
            _ => return Err(self.fault("must be a string")),
        })
    }

    /// An array may hold empty values, which some writers send as null.
    fn any_or_null(&mut self, value: Value) -> Result<AnyValue, Fault> {
        if value.is_null() { Ok(AnyValue::default()) } else { self.any(value) }
    }

    fn object(&self, value: Value) -> Result<Members, Fault> {
        match value {
            Value::Object(members) => Ok(members),
            _ => Err(self.fault("must be an object")),
        }
    }

    fn message<T>(
        &mut self,
        members: &mut Members,
        name: &'static str,
        read: impl FnOnce(&mut Self, Members) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        match members.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self
                .under(Step::Member(name), |reader| {
                    let inner = reader.object(value)?;
                    read(reader, inner)
                })
                .map(Some),
        }
    }

    fn list<T>(
        &mut self,
        members: &mut Members,
        name: &'static str,
        mut read: impl FnMut(&mut Self, Value) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let items = match members.remove(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => {
                return self.under(Step::Member(name), |reader| Err(reader.fault("must be an array")));
            }
        };
        self.under(Step::Member(name), |reader| {
            let read_one = |(index, item)| reader.under(Step::Index(index), |reader| read(reader, item));
            items.into_iter().enumerate().map(read_one).collect()
        })
    }

    fn string(&mut self, members: &mut Members, name: &'static str) -> Result<String, Fault> {
        match members.remove(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => self.under(Step::Member(name), |reader| Err(reader.fault("must be a string"))),
        }
    }

    fn unsigned<T: TryFrom<u64> + Default>(
        &mut self,
        members: &mut Members,
        name: &'static str,
    ) -> Result<T, Fault> {
        match members.remove(name) {
            None | Some(Value::Null) => Ok(T::default()),
            Some(value) => unsigned(&value).and_then(|value| T::try_from(value).ok()).ok_or_else(|| {
                self.fault_in(name, "must be a non-negative integer in range, or its decimal string")
            }),
        }
    }

    fn enumeration(&mut self, members: &mut Members, name: &'static str) -> Result<i32, Fault> {
        match members.remove(name) {
            None | Some(Value::Null) => Ok(0),
            Some(value) => value.as_i64().and_then(|value| i32::try_from(value).ok()).ok_or_else(|| {
                self.fault_in(name, "must be the integer of the enum; OTLP/JSON has no enum names")
            }),
        }
    }

    fn hex(&mut self, members: &mut Members, name: &'static str) -> Result<Vec<u8>, Fault> {
        match members.remove(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(text)) => hex::decode(&text)
                .map_err(|_| self.fault_in(name, "must be hexadecimal digits, not base64 or anything else")),
            Some(_) => Err(self.fault_in(name, "must be a string of hexadecimal digits")),
        }
    }

    /// Looks at what no reader asked for. OTLP says to ignore it, which is right for new members and a trap for
    /// misspelled ones.
    fn rest(&mut self, members: &Members) {
        for name in members.keys().filter(|name| name.contains('_')) {
            if self.misspelled.len() >= MISSPELLED_MAX {
                return;
            }
            let right = camel(name);
            let known = NAMES.binary_search(&right.as_str()).is_ok();
            if known && !self.misspelled.iter().any(|(found, _)| found == name) {
                self.misspelled.push((name.clone(), right));
            }
        }
    }

    fn under<T>(
        &mut self,
        step: Step,
        inside: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.path.push(step);
        let result = inside(self);
        self.path.pop();
        result
    }

    fn fault(&self, message: &str) -> Fault {
        let parts: Vec<String> = self
            .path
            .iter()
            .map(|step| match step {
                Step::Member(name) => (*name).to_owned(),
                Step::Index(index) => index.to_string(),
            })
            .collect();
        let path = if parts.is_empty() { "request".to_owned() } else { parts.join("/") };
        Fault { path, message: message.to_owned() }
    }

    fn fault_in(&mut self, name: &'static str, message: &str) -> Fault {
        self.path.push(Step::Member(name));
        let fault = self.fault(message);
        self.path.pop();
        fault
    }
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

/// Reads an integer that may be quoted, or written as a double without a fraction.
fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| u64::try_from(whole(number.as_f64()?)?).ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Takes a double that is an integer which no rounding can have touched.
fn whole(double: f64) -> Option<i64> {
    let text = format!("{double:.0}");
    (double.fract() == 0.0 && crate::ingest::json::is_carried(double)).then(|| text.parse().ok())?
}

fn double(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            // Rust also reads `inf`, `nan` and `infinity`, which JSON writers do not write.
            other
                if other
                    .bytes()
                    .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E')) =>
            {
                other.parse().ok().filter(|double: &f64| double.is_finite())
            }
            _ => None,
        },
        _ => None,
    }
}

/// Reads base64 in either alphabet, padded or not, as proto3 JSON asks of readers.
fn base64_any(text: &str) -> Option<Vec<u8>> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    GeneralPurpose::new(alphabet, CONFIG).decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn span(members: &Value) -> Result<Span, Fault> {
        read(json!({"resourceSpans": [{"scopeSpans": [{"spans": [members]}]}]}))
            .map(|document| document.spans[0].scope_spans[0].spans[0].clone())
    }

    fn attribute(value: &Value) -> Result<Option<Any>, Fault> {
        span(&json!({"attributes": [{"key": "k", "value": value}]}))
            .map(|span| span.attributes[0].value.clone().and_then(|value| value.value))
    }

    #[test]
    fn names_are_sorted_for_the_search() {
        assert!(NAMES.is_sorted());
    }

    #[test]
    fn takes_every_legal_spelling() {
        assert_eq!(attribute(&json!({"intValue": "-5"})), Ok(Some(Any::IntValue(-5))));
        assert_eq!(
            attribute(&json!({"intValue": 9_007_199_254_740_993_i64})),
            Ok(Some(Any::IntValue(9_007_199_254_740_993)))
        );
        assert_eq!(attribute(&json!({"intValue": 5.0})), Ok(Some(Any::IntValue(5))));
        assert_eq!(attribute(&json!({"doubleValue": "1.5"})), Ok(Some(Any::DoubleValue(1.5))));
        assert!(
            matches!(attribute(&json!({"doubleValue": "NaN"})), Ok(Some(Any::DoubleValue(nan))) if nan.is_nan())
        );
        assert_eq!(attribute(&json!({"arrayValue": {}})), Ok(Some(Any::ArrayValue(ArrayValue::default()))));
        assert_eq!(
            attribute(&json!({"kvlistValue": {"values": null}})),
            Ok(Some(Any::KvlistValue(KeyValueList::default())))
        );
        assert_eq!(attribute(&json!({"bytesValue": "_-8"})), Ok(Some(Any::BytesValue(vec![0xff, 0xef]))));
        assert_eq!(attribute(&json!({"bytesValue": "/+8="})), Ok(Some(Any::BytesValue(vec![0xff, 0xef]))));
        assert_eq!(attribute(&json!({})), Ok(None));
        assert_eq!(attribute(&Value::Null), Ok(None));
        let span = span(&json!({
            "traceId": "AAbb", "kind": null, "status": null, "startTimeUnixNano": 1_763_670_000_000_000_001_u64,
            "endTimeUnixNano": "1763670000000000002", "events": null, "future": {"x": [1]},
        }))
        .unwrap();
        assert_eq!(
            (span.trace_id, span.start_time_unix_nano, span.end_time_unix_nano),
            (vec![0xaa, 0xbb], 1_763_670_000_000_000_001, 1_763_670_000_000_000_002)
        );
    }

    #[test]
    fn refuses_with_the_path_and_what_would_be_right() {
        let fault = span(&json!({"kind": "SPAN_KIND_SERVER"})).unwrap_err();
        assert_eq!(fault.path, "resourceSpans/0/scopeSpans/0/spans/0/kind");
        assert!(fault.message.contains("integer of the enum"));
        assert!(span(&json!({"traceId": "zz"})).unwrap_err().message.contains("hexadecimal"));
        for value in [
            json!({"intValue": 1.5}),
            json!({"intValue": "1e3"}),
            json!({"doubleValue": "nan"}),
            json!({"boolValue": "true"}),
            json!({"stringValue": "a", "intValue": 1}),
            json!({"bytesValue": "***"}),
            json!("bare"),
        ] {
            assert!(attribute(&value).is_err(), "{value}");
        }
        assert_eq!(read(json!([])).unwrap_err().path, "request");
    }

    #[test]
    fn misspelled_members_are_named() {
        let document = read(json!({"resource_spans": [], "my_own": 1})).unwrap();
        assert_eq!(document.misspelled, [("resource_spans".to_owned(), "resourceSpans".to_owned())]);
        assert!(document.empty);
    }
}
