//! An entry: one canonical JSON object, written once, never re-serialised.

use std::borrow::Cow;
use std::fmt::Write as _;

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
    pub ts_ns: u64,
    pub kind: &'a str,
    pub prev: Link,
    pub origin: &'a str,
    pub stream: Option<&'a Stream>,
    pub body: &'a [u8],
}

impl EntryParts<'_> {
    /// Writes the canonical bytes: the members in JCS order around a body that is canonical already.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut head = String::with_capacity(ENVELOPE_BYTES_MAX + self.origin.len() + self.kind.len());
        head.push_str(r#"{"_sd_alg":"sha-256","body":"#);
        let mut out = Vec::with_capacity(head.capacity() + self.body.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(self.body);
        head.clear();
        // Writing into a string does not fail.
        let _ = write!(
            head,
            r#","origin":{},"prev":"{}","seq":"{}""#,
            json_string(self.origin),
            self.prev,
            self.seq
        );
        if let Some(stream) = self.stream {
            let _ = write!(
                head,
                r#","stream":{{"id":{},"seq":{}}}"#,
                json_string(&stream.id),
                json_string(&stream.seq)
            );
        }
        let _ = write!(
            head,
            r#","ts":"{}","type":{},"v":{VERSION}}}"#,
            format_ts(self.ts_ns),
            json_string(self.kind)
        );
        out.extend_from_slice(head.as_bytes());
        out
    }
}

fn json_string(text: &str) -> String {
    let bytes = canon::digest_bytes(&serde_json::Value::from(text));
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_canonical_and_parses_back() {
        let stream = Stream { id: "otel\"x".into(), seq: "7".into() };
        let parts = EntryParts {
            seq: 3,
            ts_ns: 1_763_670_000_123_456_789,
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
        assert_eq!(view.ts_ns(), Some(parts.ts_ns));
        assert_eq!(view.body.get(), r#"{"id":"e"}"#);
        assert_eq!(view.stream, Some(stream));
    }

    #[test]
    fn the_envelope_stays_within_its_bound() {
        let parts = EntryParts {
            seq: u64::MAX,
            ts_ns: u64::MAX,
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
