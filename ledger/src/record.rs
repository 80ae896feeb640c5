//! What goes into the ledger and what comes out.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::event::{ACTION_REPORTED, Event};

/// One record to append.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRecord {
    /// Entry `type`: [`ACTION_REPORTED`] or a system fact such as `policy.published`.
    pub kind: String,
    /// Body as native JSON, before personal and large members are split off into disclosures.
    pub body: Map<String, Value>,
    /// The producer's own stream and counter, where it has one.
    pub stream: Option<Stream>,
}

/// A producer's own counter, which shows events that never arrived.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stream {
    /// Name of the stream.
    pub id: String,
    /// Position in it.
    pub seq: String,
}

impl NewRecord {
    /// Wraps an event.
    pub fn from_event(event: &Event) -> Result<Self, serde_json::Error> {
        match serde_json::to_value(event)? {
            Value::Object(body) => Ok(Self { kind: ACTION_REPORTED.to_owned(), body, stream: None }),
            _ => Err(<serde_json::Error as serde::ser::Error>::custom("an event is a JSON object")),
        }
    }

    /// Makes a system fact; `body` must hold an `id`, its idempotency key.
    pub fn system(kind: impl Into<String>, body: Map<String, Value>) -> Self {
        Self { kind: kind.into(), body, stream: None }
    }

    /// Returns the idempotency key.
    pub fn id(&self) -> Option<&str> {
        self.body.get("id").and_then(Value::as_str)
    }
}

/// Records that are appended together, in order, in one atomic write.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// The records.
    pub records: Vec<NewRecord>,
    /// Raw bodies to keep by digest; the digest is SHA-256 of the bytes.
    pub blobs: Vec<Vec<u8>>,
}

/// What an append did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Sequence numbers, one for each record of the batch in order; a duplicate names the entry that was there.
    pub seqs: Vec<u64>,
    /// How many records were appended.
    pub appended: u64,
    /// How many were already there with the same content.
    pub duplicates: u64,
    /// How many had an id that is there with other content; both are kept.
    pub conflicts: u64,
    /// Ledger size after the append; everything below is durable.
    pub size: u64,
}

impl Receipt {
    /// Tells, for each record of the batch, whether it was appended rather than there already.
    pub fn is_new(&self) -> Vec<bool> {
        // What was appended stands after everything that was there.
        let mut positions = self.seqs.clone();
        positions.sort_unstable_by(|a, b| b.cmp(a));
        positions.dedup();
        let count = usize::try_from(self.appended).unwrap_or(usize::MAX);
        let first = count.checked_sub(1).and_then(|last| positions.get(last));
        let mut seen = BTreeSet::new();
        self.seqs.iter().map(|seq| first.is_some_and(|first| seq >= first) && seen.insert(*seq)).collect()
    }
}

/// One record read back, with the disclosures that are still there put in place.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Position in the log.
    pub seq: u64,
    /// Receiver's clock, Unix nanoseconds.
    pub ts_ns: u64,
    /// Entry `type`.
    pub kind: String,
    /// The event, when `kind` is [`ACTION_REPORTED`]; a member whose disclosure is gone is absent here.
    pub event: Option<Box<Event>>,
    /// Body of a system fact; empty for an event.
    pub body: Map<String, Value>,
    /// JSON pointers (`/action/arguments`) of members that the entry commits to and whose value is erased or withheld.
    pub withheld: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_told_from_what_was_appended() {
        let receipt =
            |seqs: &[u64], appended| Receipt { seqs: seqs.to_vec(), appended, ..Receipt::default() };
        assert_eq!(receipt(&[7, 50, 51, 50, 9, 52], 3).is_new(), [false, true, true, false, false, true]);
        assert_eq!(receipt(&[7, 7], 0).is_new(), [false, false]);
        assert_eq!(receipt(&[7, 8], 2).is_new(), [true, true]);
        assert!(receipt(&[], 0).is_new().is_empty());
    }
}
