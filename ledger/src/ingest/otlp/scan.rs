//! A walk over protobuf bytes before they are decoded.
//!
//! Decoding allocates a struct for every embedded message, and an empty one takes two bytes on the wire, so that a
//! body within its limit could ask for a hundred times its size in memory. The walk counts first, and it names the
//! place of damage, which a decoder's error does not.

use crate::ingest::format::Signal;

/// Why the bytes are not the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Damage at a place.
    Damage { path: String, offset: usize, message: &'static str },
    /// More messages than allowed.
    TooMany { path: String },
}

/// What a message holds that matters here.
#[derive(Debug)]
struct Message {
    /// Embedded messages: field number, name in OTLP/JSON, what they are.
    inner: &'static [(u64, &'static str, &'static Message)],
    /// Wire types of fields that tell one kind of leaf from another: field number, wire type.
    wire: &'static [(u64, u8)],
    /// Both by field number, for the walk that only counts.
    table: [Rule; NUMBERS],
}

/// Field numbers of these messages end below.
const NUMBERS: usize = 17;

/// What a field must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Anything.
    Any,
    /// This wire type.
    Wire(u8),
    /// An embedded message: its place in `inner`.
    Inner(u8),
}

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::as_conversions,
    reason = "evaluated by the compiler, on the tables below"
)]
const fn message(
    inner: &'static [(u64, &'static str, &'static Message)],
    wire: &'static [(u64, u8)],
) -> Message {
    let mut table = [Rule::Any; NUMBERS];
    let mut at = 0;
    while at < wire.len() {
        table[wire[at].0 as usize] = Rule::Wire(wire[at].1);
        at += 1;
    }
    let mut at = 0;
    while at < inner.len() {
        table[inner[at].0 as usize] = Rule::Inner(at as u8);
        at += 1;
    }
    Message { inner, wire, table }
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;
const FIXED32: u8 = 5;

static ANY: Message = message(&[(5, "arrayValue", &ARRAY), (6, "kvlistValue", &KVLIST)], &[(1, LEN)]);
static ARRAY: Message = message(&[(1, "values", &ANY)], &[]);
static KVLIST: Message = message(&[(1, "values", &PAIR)], &[]);
static PAIR: Message = message(&[(2, "value", &ANY)], &[(1, LEN)]);
static RESOURCE: Message = message(&[(1, "attributes", &PAIR), (3, "entityRefs", &OPAQUE)], &[(2, VARINT)]);
static SCOPE: Message = message(&[(3, "attributes", &PAIR)], &[(1, LEN), (2, LEN), (4, VARINT)]);
/// A message whose inside does not matter.
static OPAQUE: Message = message(&[], &[]);

static SPAN: Message = message(
    &[(9, "attributes", &PAIR), (11, "events", &POINT), (13, "links", &LINK), (15, "status", &OPAQUE)],
    &[
        (1, LEN),
        (2, LEN),
        (3, LEN),
        (4, LEN),
        (5, LEN),
        (6, VARINT),
        (7, FIXED64),
        (8, FIXED64),
        (10, VARINT),
        (16, FIXED32),
    ],
);
static POINT: Message = message(&[(3, "attributes", &PAIR)], &[(1, FIXED64), (2, LEN), (4, VARINT)]);
static LINK: Message = message(&[(4, "attributes", &PAIR)], &[(1, LEN), (2, LEN), (3, LEN), (5, VARINT)]);
static LOG: Message = message(
    &[(5, "body", &ANY), (6, "attributes", &PAIR)],
    &[
        (1, FIXED64),
        (2, VARINT),
        (3, LEN),
        (7, VARINT),
        (8, FIXED32),
        (9, LEN),
        (10, LEN),
        (11, FIXED64),
        (12, LEN),
    ],
);
static METRIC: Message = message(
    &[
        (5, "gauge", &DATA),
        (7, "sum", &DATA),
        (9, "histogram", &DATA),
        (10, "exponentialHistogram", &DATA),
        (11, "summary", &DATA),
        (12, "metadata", &PAIR),
    ],
    &[(1, LEN), (2, LEN), (3, LEN)],
);
static DATA: Message = message(&[(1, "dataPoints", &OPAQUE)], &[]);

macro_rules! request {
    ($request:ident, $resource:ident, $scope:ident, $leaf:ident, $names:expr) => {
        static $scope: Message = message(&[(1, "scope", &SCOPE), (2, $names.2, &$leaf)], &[(3, LEN)]);
        static $resource: Message =
            message(&[(1, "resource", &RESOURCE), (2, $names.1, &$scope)], &[(3, LEN)]);
        static $request: Message = message(&[(1, $names.0, &$resource)], &[]);
    };
}

request!(TRACES, RESOURCE_SPANS, SCOPE_SPANS, SPAN, ("resourceSpans", "scopeSpans", "spans"));
request!(LOGS, RESOURCE_LOGS, SCOPE_LOGS, LOG, ("resourceLogs", "scopeLogs", "logRecords"));
request!(METRICS, RESOURCE_METRICS, SCOPE_METRICS, METRIC, ("resourceMetrics", "scopeMetrics", "metrics"));

/// What a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Census {
    /// Spans, log records or metrics.
    pub(super) leaves: usize,
    /// Data points of metrics.
    pub(super) points: usize,
    /// Spans that lack an id: the mark of another message read as spans.
    anonymous: usize,
}

/// Walks a request; `messages_max` bounds the embedded messages.
pub(super) fn walk(signal: Signal, bytes: &[u8], messages_max: usize) -> Result<Census, Fault> {
    let (request, leaf) = match signal {
        Signal::Traces => (&TRACES, &SPAN),
        Signal::Logs => (&LOGS, &LOG),
        Signal::Metrics => (&METRICS, &METRIC),
    };
    // Nearly every body is sound: what is at fault, and where, is told by a second walk that keeps its path.
    let mut tally = Tally { leaf, left: messages_max, census: Census::default() };
    if tally.message(request, bytes, 0).is_some() {
        return Ok(tally.census);
    }
    let mut walk = Walk { leaf, messages_max, messages: 0, census: Census::default(), path: Vec::new() };
    walk.message(request, bytes, 0)?;
    Ok(walk.census)
}

/// Deepest nesting of messages. prost stops at 100 levels; stopping here first names the place.
const DEPTH_MAX: usize = 90;
/// Largest field number of protobuf.
const NUMBER_MAX: u64 = 536_870_911;

/// Counts, and says only whether everything is sound.
struct Tally {
    leaf: &'static Message,
    left: usize,
    census: Census,
}

impl Tally {
    fn message(&mut self, message: &'static Message, bytes: &[u8], depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        let is_span = std::ptr::eq(message, &raw const SPAN);
        let mut has_ids = (false, false);
        let mut reader = Reader { bytes, at: 0 };
        while reader.at < bytes.len() {
            let key = reader.varint()?;
            let (number, wire) = (key >> 3, u8::try_from(key & 7).ok()?);
            if number == 0 || number > NUMBER_MAX {
                return None;
            }
            let rule = usize::try_from(number).ok().and_then(|number| message.table.get(number));
            let rule = rule.copied().unwrap_or(Rule::Any);
            let expected = match rule {
                Rule::Any => wire,
                Rule::Wire(expected) => expected,
                Rule::Inner(_) => LEN,
            };
            if wire != expected {
                return None;
            }
            match wire {
                VARINT => drop(reader.varint()?),
                FIXED64 => reader.skip(8)?,
                FIXED32 => reader.skip(4)?,
                LEN => {
                    let (_, inside) = reader.block()?;
                    if let Rule::Inner(at) = rule {
                        let (_, name, inner) = message.inner.get(usize::from(at))?;
                        self.left = self.left.checked_sub(1)?;
                        if std::ptr::eq(*inner, self.leaf) {
                            self.census.leaves = self.census.leaves.saturating_add(1);
                        } else if std::ptr::eq(message, &raw const DATA) && *name == "dataPoints" {
                            self.census.points = self.census.points.saturating_add(1);
                        }
                        if !std::ptr::eq(*inner, &raw const OPAQUE) || !inside.is_empty() {
                            self.message(inner, inside, depth.saturating_add(1))?;
                        }
                    } else if is_span {
                        has_ids.0 |= number == 1 && matches!(inside.len(), 1..=16);
                        has_ids.1 |= number == 2 && matches!(inside.len(), 1..=8);
                    }
                }
                _ => return None,
            }
        }
        if is_span && has_ids != (true, true) {
            self.census.anonymous = self.census.anonymous.saturating_add(1);
        }
        Some(())
    }
}

/// Tells which request the bytes are, if any; what fits more than one is decided by what its leaves hold.
pub(crate) fn guess_signal(bytes: &[u8]) -> Option<Signal> {
    [Signal::Traces, Signal::Logs, Signal::Metrics].into_iter().find(|&signal| {
        match walk(signal, bytes, 4_000_000) {
            Ok(census) => census.anonymous == 0 || census.anonymous < census.leaves,
            // Cut off by the reader of a prefix, or too large: still recognised.
            Err(Fault::TooMany { .. }) => true,
            Err(Fault::Damage { .. }) => false,
        }
    })
}

struct Walk {
    leaf: &'static Message,
    messages_max: usize,
    messages: usize,
    census: Census,
    path: Vec<(&'static str, usize)>,
}

impl Walk {
    /// Walks one message; `base` is its offset in the body.
    fn message(&mut self, message: &'static Message, bytes: &[u8], base: usize) -> Result<(), Fault> {
        if self.path.len() > DEPTH_MAX {
            return Err(self.damage(base, "nesting is deeper than 90 messages"));
        }
        let mut reader = Reader { bytes, at: 0 };
        // Repeated fields of one message usually follow each other; counting by field keeps their index.
        let mut counts: Vec<(u64, usize)> = Vec::new();
        let mut has_ids = (false, false);
        while reader.at < bytes.len() {
            let offset = base.saturating_add(reader.at);
            let key = reader.varint().ok_or_else(|| self.damage(offset, "broken field key"))?;
            let (number, wire) = (key >> 3, u8::try_from(key & 7).unwrap_or(u8::MAX));
            if number == 0 || number > NUMBER_MAX {
                return Err(self.damage(offset, "invalid field number"));
            }
            if message.wire.iter().any(|&(known, expected)| known == number && expected != wire) {
                return Err(self.damage(offset, "a field has the wrong wire type"));
            }
            match wire {
                VARINT => {
                    reader.varint().ok_or_else(|| self.damage(offset, "broken varint"))?;
                }
                FIXED64 => {
                    reader.skip(8).ok_or_else(|| self.damage(offset, "the message ends inside a number"))?;
                }
                FIXED32 => {
                    reader.skip(4).ok_or_else(|| self.damage(offset, "the message ends inside a number"))?;
                }
                LEN => {
                    let (start, inside) =
                        reader.block().ok_or_else(|| self.damage(offset, "a length runs past the end"))?;
                    if std::ptr::eq(message, &raw const SPAN) {
                        has_ids.0 |= number == 1 && matches!(inside.len(), 1..=16);
                        has_ids.1 |= number == 2 && matches!(inside.len(), 1..=8);
                    }
                    let embedded = message.inner.iter().find(|&&(known, _, _)| known == number);
                    if let Some(&(_, name, inner)) = embedded {
                        let index = count(&mut counts, number);
                        self.path.push((name, index));
                        self.enter(inner)?;
                        self.message(inner, inside, base.saturating_add(start))?;
                        self.path.pop();
                    }
                }
                _ => return Err(self.damage(offset, "unknown wire type")),
            }
            if message.inner.iter().any(|&(known, _, _)| known == number) && wire != LEN {
                return Err(self.damage(offset, "a field has the wrong wire type"));
            }
        }
        if std::ptr::eq(message, &raw const SPAN) && has_ids != (true, true) {
            self.census.anonymous = self.census.anonymous.saturating_add(1);
        }
        Ok(())
    }

    fn enter(&mut self, message: &'static Message) -> Result<(), Fault> {
        self.messages = self.messages.saturating_add(1);
        if self.messages > self.messages_max {
            return Err(Fault::TooMany { path: self.path() });
        }
        if std::ptr::eq(message, self.leaf) {
            self.census.leaves = self.census.leaves.saturating_add(1);
        } else if self.path.last().is_some_and(|&(name, _)| name == "dataPoints") {
            self.census.points = self.census.points.saturating_add(1);
        }
        Ok(())
    }

    fn path(&self) -> String {
        if self.path.is_empty() {
            return "request".to_owned();
        }
        let parts: Vec<String> = self
            .path
            .iter()
            .map(|&(name, index)| match name {
                "resource" | "scope" | "value" | "body" | "status" => name.to_owned(),
                _ => format!("{name}/{index}"),
            })
            .collect();
        parts.join("/")
    }

    fn damage(&self, offset: usize, message: &'static str) -> Fault {
        Fault::Damage { path: self.path(), offset, message }
    }
}

fn count(counts: &mut Vec<(u64, usize)>, number: u64) -> usize {
    if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == number) {
        *count = count.saturating_add(1);
        return *count;
    }
    counts.push((number, 0));
    0
}

/// A message that is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Resource,
    Scope,
    Link,
    Value,
}

impl Part {
    /// Returns how many of `left` messages may still come after those inside; `None` when there are more or they are
    /// not sound.
    pub(super) fn count(self, bytes: &[u8], left: usize) -> Option<usize> {
        let message = match self {
            Self::Resource => &RESOURCE,
            Self::Scope => &SCOPE,
            Self::Link => &LINK,
            Self::Value => &ANY,
        };
        let mut tally = Tally { leaf: &OPAQUE, left, census: Census::default() };
        // Whatever such a message is in, it is not nested deeper than this.
        tally.message(message, bytes, 6)?;
        Some(tally.left)
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'b> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'b [u8]),
}

pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    pub(super) const fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Reads the number and content of the next field; `Some(None)` at the end, `None` when it is damaged.
    #[inline]
    #[expect(clippy::option_option, reason = "the end of a message is not damage")]
    pub(super) fn field(&mut self) -> Option<Option<(u64, Content<'b>)>> {
        if self.at >= self.bytes.len() {
            return Some(None);
        }
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 || number > NUMBER_MAX {
            return None;
        }
        let start = self.at;
        let content = match u8::try_from(key & 7).ok()? {
            VARINT => Content::Varint(self.varint()?),
            FIXED64 => {
                self.skip(8)?;
                Content::Fixed64(u64::from_le_bytes(self.bytes.get(start..self.at)?.try_into().ok()?))
            }
            FIXED32 => {
                self.skip(4)?;
                Content::Fixed32(u32::from_le_bytes(self.bytes.get(start..self.at)?.try_into().ok()?))
            }
            LEN => Content::Bytes(self.block()?.1),
            _ => return None,
        };
        Some(Some((number, content)))
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        // Nearly every key and length is one byte.
        if let Some(&byte) = self.bytes.get(self.at)
            && byte < 0x80
        {
            self.at = self.at.checked_add(1)?;
            return Some(u64::from(byte));
        }
        let mut value = 0_u64;
        for shift in 0..10_u32 {
            let byte = *self.bytes.get(self.at)?;
            self.at = self.at.checked_add(1)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 9 && bits > 1 {
                return None;
            }
            value |= bits << (7 * shift);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        let end = self.at.checked_add(count)?;
        (end <= self.bytes.len()).then(|| self.at = end)
    }

    /// Reads a length and returns where the block starts and its bytes.
    fn block(&mut self) -> Option<(usize, &'b [u8])> {
        let len = usize::try_from(self.varint()?).ok()?;
        let start = self.at;
        self.skip(len)?;
        Some((start, self.bytes.get(start..self.at)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use proptest::prelude::*;
    use prost::Message as _;

    fn traces() -> Vec<u8> {
        let span = Span { trace_id: vec![1; 16], span_id: vec![2; 8], name: "s".into(), ..Span::default() };
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                scope_spans: vec![ScopeSpans { spans: vec![span.clone(), span], ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }],
        }
        .encode_to_vec()
    }

    #[test]
    fn tells_signals_apart_and_counts() {
        assert_eq!(walk(Signal::Traces, &traces(), 100), Ok(Census { leaves: 2, points: 0, anonymous: 0 }));
        assert_eq!(guess_signal(&traces()), Some(Signal::Traces));
        let logs = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                scope_logs: vec![ScopeLogs {
                    log_records: vec![LogRecord { observed_time_unix_nano: 7, ..LogRecord::default() }],
                    ..ScopeLogs::default()
                }],
                ..ResourceLogs::default()
            }],
        }
        .encode_to_vec();
        assert_eq!(guess_signal(&logs), Some(Signal::Logs));
        assert_eq!(guess_signal(b"hello, world"), None);
    }

    #[test]
    fn names_the_place_of_damage_and_stops_a_bomb() {
        let bytes = traces();
        let cut = bytes.get(..bytes.len() - 2).unwrap();
        assert!(matches!(walk(Signal::Traces, cut, 100), Err(Fault::Damage { offset: 0, .. })));
        // resource_spans { scope_spans { spans {} × n } }: two bytes a span.
        let spans: Vec<u8> = [0x12, 0x00].repeat(10_000);
        let len = |inner: Vec<u8>, tag: u8| {
            let mut out = vec![tag];
            prost::encoding::encode_varint(inner.len() as u64, &mut out);
            out.extend(inner);
            out
        };
        let bomb = len(len(spans, 0x12), 0x0a);
        assert_eq!(
            walk(Signal::Traces, &bomb, 5_000),
            Err(Fault::TooMany { path: "resourceSpans/0/scopeSpans/0/spans/4998".into() })
        );
    }

    proptest! {
        #[test]
        fn never_panics_and_what_it_passes_decodes(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..80),
                (0..traces().len(), any::<u8>()).prop_map(|(at, byte)| {
                    let mut bytes = traces();
                    bytes[at] = byte;
                    bytes
                }),
            ],
        ) {
            for (signal, request, leaf) in [
                (Signal::Traces, &TRACES, &SPAN),
                (Signal::Logs, &LOGS, &LOG),
                (Signal::Metrics, &METRICS, &METRIC),
            ] {
                // Both walks are of one opinion.
                let mut slow =
                    Walk { leaf, messages_max: 50, messages: 0, census: Census::default(), path: Vec::new() };
                let said = slow.message(request, &bytes, 0).map(|()| slow.census);
                prop_assert_eq!(walk(signal, &bytes, 50), said);
                let mut fast = Tally { leaf, left: 50, census: Census::default() };
                prop_assert_eq!(
                    fast.message(request, &bytes, 0).is_some(),
                    walk(signal, &bytes, 50).is_ok()
                );
            }
        }
    }
}
