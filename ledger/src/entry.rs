//! An entry: one canonical JSON object, written once, never re-serialised.

use std::borrow::Cow;
use std::io::Write as _;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::canon;
use crate::chain::Link;
use crate::record::Stream;

/// Format version that is written.
pub const VERSION: u32 = 1;

/// Longest entry: what the 16-bit frame of a C2SP tlog-tiles entry bundle carries.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// Most bytes that everything but body, origin, type and stream can take.
pub(crate) const ENVELOPE_BYTES_MAX: usize = 320;

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not a JSON object with the members of an entry.
    #[error("not an entry: {0}")]
    Malformed(String),
    /// Longer than an entry can be.
    #[error("entry of {0} bytes is longer than {ENTRY_BYTES_MAX}")]
    TooLong(usize),
}

/// The members of an entry, borrowed from its bytes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntryView<'a> {
    /// Format version.
    pub v: u32,
    /// Position, decimal.
    #[serde(borrow)]
    pub seq: Cow<'a, str>,
    /// Receiver's clock, RFC 3339 UTC in nanoseconds.
    #[serde(borrow)]
    pub ts: Cow<'a, str>,
    /// Type of the body.
    #[serde(borrow, rename = "type")]
    pub kind: Cow<'a, str>,
    /// Link to the entry before.
    #[serde(borrow)]
    pub prev: Cow<'a, str>,
    /// Name of the log.
    #[serde(borrow)]
    pub origin: Cow<'a, str>,
    /// Producer's own counter.
    #[serde(default)]
    pub stream: Option<Stream>,
    /// Body, as its exact bytes.
    #[serde(borrow)]
    pub body: &'a RawValue,
    /// Hash of the disclosures; always `sha-256`.
    #[serde(borrow, rename = "_sd_alg")]
    pub sd_alg: Cow<'a, str>,
}

impl<'a> EntryView<'a> {
    /// Parses an entry.
    pub fn parse(entry: &'a [u8]) -> Result<Self, EntryError> {
        if entry.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong(entry.len()));
        }
        serde_json::from_slice(entry).map_err(|error| EntryError::Malformed(error.to_string()))
    }

    /// Returns the receiver's clock in Unix nanoseconds.
    pub fn ts_ns(&self) -> Option<u64> {
        let ts: Timestamp = self.ts.parse().ok()?;
        u64::try_from(ts.as_nanosecond()).ok()
    }
}

/// The members around a body, found without parsing the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Receiver's clock, as text; texts of equal length order as times do.
    pub(crate) ts: &'a [u8],
    /// Body.
    pub(crate) body: &'a [u8],
    /// Type, as it is written: escaped, if anything in it needs to be.
    pub(crate) kind: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes an entry apart that says exactly what it must say at its place; `None` for every other, and for one with a
    /// `stream`: then [`EntryView`] tells what is wrong, if anything is. A verification spends its time on hashing.
    pub(crate) fn of(entry: &'a [u8], seq: u64, prev: &Link, origin: &str) -> Option<Self> {
        let rest = entry.strip_prefix(FRAME_HEAD)?.strip_suffix(FRAME_END)?;
        // The type holds no unescaped quote, so the last such name is the member's.
        let start = rest.len().checked_sub(1).and_then(|end| {
            let kind = rest.get(..end)?.iter().rposition(|byte| *byte == b'"')?;
            (kind + 1).checked_sub(FRAME_TYPE.len())
        })?;
        let (rest, kind) = rest.split_at_checked(start)?;
        let kind = kind.strip_prefix(FRAME_TYPE)?.strip_suffix(b"\"")?;
        let (rest, ts) = rest.split_at_checked(rest.len().checked_sub(TS_BYTES)?)?;
        let rest = rest.strip_suffix(FRAME_TS)?;
        let mut expected = Vec::with_capacity(128 + origin.len());
        expected.extend_from_slice(br#","origin":"#);
        canon::append_string(origin, &mut expected);
        // Writing into memory does not fail.
        let _ = write!(expected, r#","prev":"{prev}","seq":"{seq}""#);
        Some(Self { ts, body: rest.strip_suffix(&expected[..])?, kind })
    }
}

const FRAME_HEAD: &[u8] = br#"{"_sd_alg":"sha-256","body":"#;
const FRAME_TS: &[u8] = br#","ts":""#;
const FRAME_TYPE: &[u8] = br#"","type":""#;
const FRAME_END: &[u8] = br#","v":1}"#;
const _: () = assert!(VERSION == 1, "FRAME_END names the version");

/// Length of a time as [`format_ts`] writes it.
const TS_BYTES: usize = "2026-11-25T00:00:00.000000000Z".len();

/// Writes a time as RFC 3339 UTC with nine digits of a second.
pub fn format_ts(ns: u64) -> String {
    let ts = Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::MAX);
    let mut text = String::with_capacity(32);
    let printer = DateTimePrinter::new().precision(Some(9));
    // Writing into a string does not fail.
    let _ = printer.print_timestamp(&ts, &mut text);
    text
}

/// What the writer knows of an entry before it writes it; `body` is canonical JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryParts<'a> {
    pub seq: u64,
    /// As [`format_ts`] writes it: one text serves every entry of a group.
    pub ts: &'a str,
    pub kind: &'a str,
    pub prev: Link,
    pub origin: &'a str,
    pub stream: Option<&'a Stream>,
    pub body: &'a [u8],
}

impl EntryParts<'_> {
    /// Writes the canonical bytes: the members in JCS order around a body that is canonical already.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let fixed = ENVELOPE_BYTES_MAX + self.origin.len() + self.kind.len();
        let mut out = Vec::with_capacity(fixed + self.body.len());
        out.extend_from_slice(br#"{"_sd_alg":"sha-256","body":"#);
        out.extend_from_slice(self.body);
        out.extend_from_slice(br#","origin":"#);
        canon::append_string(self.origin, &mut out);
        // Writing into memory does not fail.
        let _ = write!(out, r#","prev":"{}","seq":"{}""#, self.prev, self.seq);
        if let Some(stream) = self.stream {
            out.extend_from_slice(br#","stream":{"id":"#);
            canon::append_string(&stream.id, &mut out);
            out.extend_from_slice(br#","seq":"#);
            canon::append_string(&stream.seq, &mut out);
            out.push(b'}');
        }
        let _ = write!(out, r#","ts":"{}","type":"#, self.ts);
        canon::append_string(self.kind, &mut out);
        let _ = write!(out, r#","v":{VERSION}}}"#);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_canonical_and_parses_back() {
        let stream = Stream { id: "otel\"x".into(), seq: "7".into() };
        let parts = EntryParts {
            seq: 3,
            ts: &format_ts(1_763_670_000_123_456_789),
            kind: "action.reported",
            prev: Link([7; 32]),
            origin: "ledger.example/é",
            stream: Some(&stream),
            body: br#"{"id":"e"}"#,
        };
        let bytes = parts.to_bytes();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(canon::entry_bytes(&value).unwrap(), bytes, "members are in canonical order");
        let view = EntryView::parse(&bytes).unwrap();
        assert_eq!(view.ts, "2025-11-20T20:20:00.123456789Z");
        assert_eq!(view.ts_ns(), Some(1_763_670_000_123_456_789));
        assert_eq!(view.body.get(), r#"{"id":"e"}"#);
        assert_eq!(view.stream, Some(stream));
    }

    #[test]
    fn a_frame_is_found_where_everything_is_as_it_must_be_and_nowhere_else() {
        let ts = format_ts(1_763_670_000_123_456_789);
        let parts = EntryParts {
            seq: 12,
            ts: &ts,
            kind: "action.reported",
            prev: Link([7; 32]),
            origin: "ledger.example/é",
            stream: None,
            body: br#"{"id":"e","x":",\"type\":\"y\",\"v\":1"}"#,
        };
        let entry = parts.to_bytes();
        let frame = Frame::of(&entry, 12, &parts.prev, parts.origin).unwrap();
        assert_eq!((frame.ts, frame.body), (ts.as_bytes(), parts.body));
        assert_eq!(Frame::of(&entry, 13, &parts.prev, parts.origin), None);
        assert_eq!(Frame::of(&entry, 12, &Link([8; 32]), parts.origin), None);
        assert_eq!(Frame::of(&entry, 12, &parts.prev, "ledger.example/e"), None);
        for end in 0..entry.len() {
            assert_eq!(Frame::of(&entry[..end], 12, &parts.prev, parts.origin), None);
        }
    }

    #[test]
    fn the_envelope_stays_within_its_bound() {
        let parts = EntryParts {
            seq: u64::MAX,
            ts: &format_ts(u64::MAX),
            kind: "",
            prev: Link([255; 32]),
            origin: "",
            stream: None,
            body: b"",
        };
        assert!(parts.to_bytes().len() <= ENVELOPE_BYTES_MAX, "{}", parts.to_bytes().len());
    }

    #[test]
    fn foreign_bytes_are_not_entries() {
        assert!(matches!(EntryView::parse(b"{}"), Err(EntryError::Malformed(_))));
        assert!(matches!(EntryView::parse(&vec![b' '; ENTRY_BYTES_MAX + 1]), Err(EntryError::TooLong(_))));
    }
}
