//! Settings that the ledger itself keeps: price tables and contracts. Each version that was put in force is an entry
//! with the digest of its file, and the file is kept beside the log like a policy's archive, so that any past state
//! can be computed again.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::id::Digest;
use crate::record::{Batch, NewRecord, Receipt};
use crate::store::{AppendError, Ledger, LedgerError};

/// Why a setting is not put in force, or not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActivationError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger did not take the entry.
    #[error("the ledger did not take the entry")]
    Append(#[from] AppendError),
    /// An entry without what every such entry has.
    #[error("entry {seq} puts a {what} in force without a usable `{member}`")]
    Entry {
        /// Sort of setting.
        what: &'static str,
        /// Entry.
        seq: u64,
        /// Member.
        member: &'static str,
    },
    /// The file of an entry is gone.
    #[error("the {what} {archive} of entry {seq} is missing from the ledger")]
    Missing {
        /// Sort of setting.
        what: &'static str,
        /// Entry.
        seq: u64,
        /// Digest.
        archive: Digest,
    },
    /// The file cannot be used by this version.
    #[error("the {what} of {place} cannot be used: {detail}")]
    Content {
        /// Sort of setting.
        what: &'static str,
        /// Entry, or this version.
        place: String,
        /// Why.
        detail: String,
    },
}

/// A sort of setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// Entry `type`.
    pub(crate) entry: &'static str,
    /// What people call it.
    pub(crate) what: &'static str,
}

/// One version that was put in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Activation {
    /// Entry.
    pub seq: u64,
    /// When, Unix nanoseconds of the ledger, as a decimal string in JSON.
    #[serde(serialize_with = "decimal")]
    pub ts_ns: u64,
    /// Label.
    pub label: String,
    /// Digest of the file.
    pub digest: Digest,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn decimal<S: serde::Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(crate) fn activate(
    ledger: &Ledger,
    kind: Kind,
    label: &str,
    bytes: &[u8],
    by: &str,
    reason: &str,
) -> Result<Receipt, ActivationError> {
    let digest = Digest::of(bytes);
    let past = history(ledger, kind)?;
    if let Some(last) = past.last().filter(|last| last.digest == digest) {
        let size = ledger.head().size;
        return Ok(Receipt { seqs: vec![last.seq], appended: 0, duplicates: 1, conflicts: 0, size });
    }
    let mut body = object(json!({
        // The count makes a return to an earlier version a new fact.
        "id": format!("{}:{}:{digest}", kind.entry, past.len()),
        "label": label,
        "archive": digest,
        "by": by,
        "reason": reason,
    }));
    if let Some(last) = past.last() {
        body.insert("previous".to_owned(), json!(last.digest));
    }
    let record = NewRecord::system(kind.entry, body);
    Ok(ledger.append(Batch { records: vec![record], blobs: vec![bytes.to_vec()] })?)
}

pub(crate) fn history(ledger: &Ledger, kind: Kind) -> Result<Vec<Activation>, ActivationError> {
    let mut all = Vec::new();
    for seq in ledger.find_kind(kind.entry)? {
        let Some(record) = ledger.record(seq)? else { continue };
        let text = |member: &str| record.body.get(member).and_then(Value::as_str);
        let digest = text("archive").and_then(|digest| digest.parse().ok());
        let digest = digest.ok_or(ActivationError::Entry { what: kind.what, seq, member: "archive" })?;
        let optional = |member| text(member).unwrap_or_default().to_owned();
        all.push(Activation {
            seq,
            ts_ns: record.ts_ns,
            label: optional("label"),
            digest,
            by: optional("by"),
            reason: optional("reason"),
        });
    }
    Ok(all)
}

/// Returns the last version that was put in force below a position, and its file.
pub(crate) fn in_force(
    ledger: &Ledger,
    kind: Kind,
    below: u64,
) -> Result<Option<(Activation, Vec<u8>)>, ActivationError> {
    let last = history(ledger, kind)?.into_iter().rfind(|activation| activation.seq < below);
    let Some(activation) = last else { return Ok(None) };
    let missing =
        || ActivationError::Missing { what: kind.what, seq: activation.seq, archive: activation.digest };
    let bytes = ledger.blob(&activation.digest)?.ok_or_else(missing)?;
    Ok(Some((activation, bytes)))
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}
