//! Which format a body has.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::body;
use super::otlp::guess_signal;
use crate::event::Source;

/// An OTLP signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Metric points; they are decoded and answered, but are no events.
    Metrics,
}

impl Signal {
    /// Returns the name that OTLP uses in paths.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// One native event a line.
    Native,
    /// OTLP/JSON, one request or one a line; the signal is told by its members.
    OtlpJson,
    /// OTLP protobuf, which does not say what it is.
    OtlpProtobuf(Signal),
    /// The audit log of the AISecOps Interceptor.
    AiSecOps,
    /// CloudEvents 1.0, structured: one, a batch, or one a line.
    CloudEvents,
    /// OPA decision logs: an array, or one entry a line.
    OpaDecisions,
    /// Transcripts of the Model Context Protocol: one JSON-RPC message a line.
    Mcp,
    /// Callback events of LangChain and LangGraph, and `astream_events`.
    LangChain,
}

/// How much of a compressed body is looked at.
const PEEK_BYTES: usize = 1 << 20;
/// How many unreadable lines are passed over before a body is given up.
const LINES_TRIED: usize = 32;

impl Format {
    /// Returns the name that the CLI and messages use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::OtlpJson => "otlp-json",
            Self::OtlpProtobuf(Signal::Traces) => "otlp-traces",
            Self::OtlpProtobuf(Signal::Logs) => "otlp-logs",
            Self::OtlpProtobuf(Signal::Metrics) => "otlp-metrics",
            Self::AiSecOps => "aisecops",
            Self::CloudEvents => "cloudevents",
            Self::OpaDecisions => "opa",
            Self::Mcp => "mcp",
            Self::LangChain => "langchain",
        }
    }

    /// Every format, for help texts and parsers of [`Format::as_str`].
    pub const ALL: [Self; 10] = [
        Self::Native,
        Self::OtlpJson,
        Self::OtlpProtobuf(Signal::Traces),
        Self::OtlpProtobuf(Signal::Logs),
        Self::OtlpProtobuf(Signal::Metrics),
        Self::AiSecOps,
        Self::CloudEvents,
        Self::OpaDecisions,
        Self::Mcp,
        Self::LangChain,
    ];

    /// Tells the format of a body whose events were taken before, from what one of them says of where it came from.
    pub fn of_source(source: &Source, body: &[u8]) -> Option<Self> {
        Some(match source.format.as_str() {
            "native" => Self::Native,
            "aisecops" => Self::AiSecOps,
            "cloudevents" => Self::CloudEvents,
            "opa" => Self::OpaDecisions,
            "mcp" => Self::Mcp,
            "langchain" => Self::LangChain,
            "otlp" => {
                let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
                let path = source.path.as_deref().unwrap_or_default();
                // A protobuf request starts with its first field, a JSON one with a brace.
                match text.trim_ascii_start().first() {
                    Some(b'{') if text.first() != Some(&0x0a) || path.starts_with("line/") => Self::OtlpJson,
                    _ if path.starts_with("resourceLogs") => Self::OtlpProtobuf(Signal::Logs),
                    _ => Self::OtlpProtobuf(Signal::Traces),
                }
            }
            _ => return None,
        })
    }

    /// Tells the format from the bytes, helped by a file name or a media type where the bytes leave it open.
    ///
    /// Content decides before the name does: a wrong extension is more common than bytes that look like another
    /// format. `None` means that no format fits.
    pub fn detect(name: Option<&str>, content_type: Option<&str>, bytes: &[u8]) -> Option<Self> {
        let unpacked;
        let bytes = if body::is_gzip(bytes) {
            unpacked = body::peek(bytes, PEEK_BYTES);
            unpacked.as_slice()
        } else {
            bytes
        };
        let media =
            content_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let name = name.map(|name| {
            let name = name.to_ascii_lowercase();
            name.strip_suffix(".gz").map(str::to_owned).unwrap_or(name)
        });
        let is_protobuf = matches!(media.as_deref(), Some("application/x-protobuf" | "application/protobuf"));
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
        // A protobuf request starts with the byte 0x0a, which is white space in JSON; a brace may follow it by
        // chance as a length. So the whole message is tried before the text is.
        if is_protobuf || text.first() == Some(&0x0a) || !matches!(first, Some(b'{' | b'[')) {
            if let Some(signal) = guess_signal(bytes) {
                return Some(Self::OtlpProtobuf(signal));
            }
            if is_protobuf {
                return None;
            }
        }
        if matches!(
            media.as_deref(),
            Some("application/cloudevents+json" | "application/cloudevents-batch+json")
        ) {
            return Some(Self::CloudEvents);
        }
        if let Some(format) = text_format(text) {
            return Some(format);
        }
        let extension = name.as_deref().and_then(|name| name.rsplit('.').next());
        let named = matches!(extension, Some("ndjson" | "jsonl"));
        let stated = matches!(
            media.as_deref(),
            Some("application/x-ndjson" | "application/ndjson" | "application/jsonl")
        );
        // Unreadable lines of a file that says it is line-based deserve errors that name the line.
        (named || stated).then_some(Self::Native)
    }
}

fn text_format(text: &[u8]) -> Option<Format> {
    let document = |bytes: &[u8]| {
        let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<First>();
        stream.next().and_then(Result::ok).and_then(|first| first.0.format())
    };
    // A pretty-printed document spans lines; a broken first line must not hide the lines after it.
    document(text)
        .or_else(|| cut_array(text))
        .or_else(|| super::lines::lines(text).take(LINES_TRIED).find_map(|line| document(line.bytes)))
}

/// Looks at the first item of an array that is broken further on.
fn cut_array(text: &[u8]) -> Option<Format> {
    let items = text.trim_ascii_start().strip_prefix(b"[")?;
    let mut stream = serde_json::Deserializer::from_slice(items).into_iter::<First>();
    stream.next().and_then(Result::ok).and_then(|first| first.0.format())
}

/// Which telling members an object has: how many of each group.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Telling {
    otlp: u8,
    native: u8,
    aisecops: u8,
    specversion: u8,
    envelope: u8,
    decision_id: u8,
    opa: u8,
    jsonrpc: u8,
    message: u8,
    direction: u8,
    run_id: u8,
    callback: u8,
}

impl Telling {
    /// Looks at the names of an object's members.
    pub(super) fn of<'m>(names: impl IntoIterator<Item = &'m str>) -> Self {
        let mut telling = Self::default();
        names.into_iter().for_each(|name| telling.note(name));
        telling
    }

    fn note(&mut self, name: &str) {
        let group = match name {
            "resourceSpans" | "resourceLogs" | "resourceMetrics" | "resource_spans" | "resource_logs"
            | "resource_metrics" => &mut self.otlp,
            "action" => &mut self.native,
            "event_type" | "audit_kind" | "decision" | "matched_rule" => &mut self.aisecops,
            "specversion" => &mut self.specversion,
            "id" | "source" | "type" => &mut self.envelope,
            "decision_id" => &mut self.decision_id,
            "labels" | "path" | "query" | "result" | "input" | "bundles" => &mut self.opa,
            "jsonrpc" => &mut self.jsonrpc,
            "msg" | "message" | "payload" | "rpc" => &mut self.message,
            "dir" | "direction" => &mut self.direction,
            "run_id" => &mut self.run_id,
            "cb" | "callback" | "event" | "parent_run_id" | "parent_ids" => &mut self.callback,
            _ => return,
        };
        *group = group.saturating_add(1);
    }

    pub(super) const fn is_native(self) -> bool {
        self.native > 0
    }

    pub(super) const fn is_aisecops(self) -> bool {
        self.aisecops >= 3
    }

    pub(super) const fn is_opa(self) -> bool {
        self.decision_id > 0 && self.opa >= 2
    }

    /// A bare message, or one that its recorder wrapped.
    pub(super) const fn is_mcp(self) -> bool {
        self.jsonrpc > 0 || (self.message > 0 && self.direction > 0)
    }

    pub(super) const fn is_langchain(self) -> bool {
        self.run_id > 0 && self.callback > 0
    }

    const fn format(self) -> Option<Format> {
        if self.otlp > 0 {
            Some(Format::OtlpJson)
        } else if self.specversion > 0 && self.envelope >= 2 {
            Some(Format::CloudEvents)
        } else if self.is_mcp() {
            Some(Format::Mcp)
        } else if self.is_langchain() {
            Some(Format::LangChain)
        } else if self.is_opa() {
            Some(Format::OpaDecisions)
        } else if self.is_aisecops() {
            Some(Format::AiSecOps)
        } else if self.is_native() {
            Some(Format::Native)
        } else {
            None
        }
    }
}

/// The telling members of an object, or of the first item of an array.
struct First(Telling);

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = First;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object, or an array of objects")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<First, A::Error> {
                let first = seq.next_element::<Object>()?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first.map(|object| object.0).unwrap_or_default()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<First, A::Error> {
                names(map).map(First)
            }
        }
        deserializer.deserialize_any(Names)
    }
}

/// The telling members of an object.
struct Object(Telling);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
                names(map).map(Object)
            }
        }
        deserializer.deserialize_map(Names)
    }
}

fn names<'de, A: MapAccess<'de>>(mut map: A) -> Result<Telling, A::Error> {
    let mut telling = Telling::default();
    while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
        telling.note(&name);
        map.next_value::<IgnoredAny>()?;
    }
    Ok(telling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides_and_the_name_helps() {
        let detect = Format::detect;
        assert_eq!(detect(None, None, b"{\n \"resourceLogs\": []\n}"), Some(Format::OtlpJson));
        assert_eq!(detect(None, None, br#"{"id":"a","action":{}}"#), Some(Format::Native));
        assert_eq!(detect(Some("x.ndjson"), None, b"garbage\n{\"action\":{}}\n"), Some(Format::Native));
        assert_eq!(detect(Some("x.ndjson"), None, b"garbage"), Some(Format::Native));
        assert_eq!(
            detect(None, Some("application/x-ndjson; charset=utf-8"), b"garbage"),
            Some(Format::Native)
        );
        assert_eq!(detect(Some("x.txt"), None, b"garbage"), None);
        assert_eq!(
            detect(None, None, br#"{"event_type":"plan","decision":"pending","audit_kind":"plan"}"#),
            Some(Format::AiSecOps)
        );
        assert_eq!(detect(None, Some("application/json"), b"{}"), None);
        assert_eq!(detect(None, Some("application/x-protobuf"), b"{\"resourceSpans\":[]}"), None);
        // An empty request is a legal one.
        assert_eq!(
            detect(None, Some("application/x-protobuf"), b""),
            Some(Format::OtlpProtobuf(Signal::Traces))
        );
    }
}
