//! Erasing values, and what stops it.
//!
//! Only values are ever erased: disclosed members and the raw bodies that events came in. Entries, tree, chain and
//! checkpoints stay, so that every proof made before an erasure still verifies. `docs/erasure.md` tells what is
//! erased from where, and what is not.
//!
//! INVARIANT: an erasure is one atomic batch through the same sequencer and committer as appends: the deletions, the
//! rows that are rewritten, and the `payload.erased` entries that name every digest that went. A crash leaves all of
//! it or nothing, and it is on the disk before anybody is told.
//! INVARIANT: nothing is between being prepared and being committed while an erasure decides what goes. Appends hold
//! the gate shared from before they seal a value until their group is durable; an erasure holds it alone. So no value
//! can be sealed under a data key that is being destroyed, no id can be found by its old content, and the postings of
//! the sequencer are those of the database. Keys are dropped from the cache before the gate opens again, and a
//! reader that unwrapped one meanwhile does not put it back (see `Sealer::forget`).
//! INVARIANT: holds are read behind the gate. A hold is an entry, so either an erasure sees it or it comes after.

mod apply;
mod changes;
mod compact;
mod facts;
mod hold;
mod plan;
mod retention;
mod selection;

use serde_json::{Map, Value};

pub use apply::{Basis, ErasureReceipt};
pub(super) use changes::Changes;
pub use facts::ErasureNote;
pub(super) use facts::{each_erased, erased_bodies, is_recorded};
pub use hold::{Hold, NewHold};
pub use plan::{ErasurePlan, Held, PlannedBody, PlannedEntry, PlannedMember};
pub use retention::{Due, RETENTION_DAYS_MIN, RetentionRule};
pub use selection::{EventRef, Scope, Selection};

use super::Ledger;
use super::error::{AppendError, LedgerError};
use super::prepare::{self, Prepared};
use super::seal::{SealError, Sealer};
use super::tree::missing_entry;
use crate::disclosure;
use crate::entry::EntryView;
use crate::event::ACTION_REPORTED;
use crate::id::Digest;
use crate::record::{Batch, NewRecord};

/// Entry type: values were erased.
pub const PAYLOAD_ERASED: &str = "payload.erased";
/// Entry type: values were to be erased, and a hold kept them.
pub const ERASE_DEFERRED: &str = "payload.erase.deferred";
/// Entry type: a legal hold.
pub const HOLD_PLACED: &str = "hold.placed";
/// Entry type: a legal hold ends.
pub const HOLD_RELEASED: &str = "hold.released";
/// Entry type: how long values are kept.
pub const RETENTION_SET: &str = "retention.set";
/// Entry type: values past their time were erased.
pub const RETENTION_APPLIED: &str = "retention.applied";

/// Raw bodies that one entry says were not kept: a batch has one, rarely more.
const KEPT_OUT_MAX: usize = 200;

/// Why nothing was erased or held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErasureError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger did not take the entry.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Nothing is selected by.
    #[error("nothing is selected: name an event, a user, a session, a tenant, an indexed text or a time")]
    Nothing,
    /// A member that stands in the entry itself.
    #[error(
        "`{field}` cannot be erased: it stands in the entry, whose bytes never change. Only whole disclosed members can be: {}",
        disclosure::pointers().collect::<Vec<_>>().join(", ")
    )]
    NotDisclosed {
        /// JSON pointer.
        field: String,
    },
    /// None of the selected entries has the member.
    #[error("none of the selected entries has `{field}`; they have {}", known(have))]
    NoField {
        /// JSON pointer.
        field: String,
        /// Members that they have.
        have: Vec<String>,
    },
    /// No such event.
    #[error("there is no event `{event}`")]
    NoEvent {
        /// Position or id.
        event: String,
    },
    /// An erasure must say why.
    #[error("an erasure needs a {what}: it goes into the log and is what an auditor asks for")]
    Basis {
        /// What is missing.
        what: &'static str,
    },
    /// A text that does not fit into an entry.
    #[error("{what} takes {bytes} bytes, more than the limit of {max}")]
    TooLong {
        /// What.
        what: &'static str,
        /// Bytes.
        bytes: usize,
        /// Limit.
        max: usize,
    },
    /// An entry that says what may be erased cannot be read, so that nothing may be.
    #[error("entry {seq} ({kind}) cannot be understood: {detail}; nothing is erased while that is so")]
    Fact {
        /// Entry.
        seq: u64,
        /// Entry type.
        kind: String,
        /// What is wrong.
        detail: &'static str,
    },
    /// No such hold.
    #[error("there is no active hold `{hold}`")]
    NoHold {
        /// Hold.
        hold: String,
    },
    /// A hold that names members.
    #[error("a hold is placed on whole entries: leave the fields out")]
    HoldFields,
    /// A retention below the floor.
    #[error(
        "{days} days is below the floor of {RETENTION_DAYS_MIN} days (six months): say why in an override, which goes into the log"
    )]
    BelowFloor {
        /// Days.
        days: u32,
    },
    /// Values could not be encrypted again.
    #[error("the values that stay could not be encrypted again: {detail}")]
    Seal {
        /// Cause.
        detail: String,
    },
}

impl From<rocksdb::Error> for ErasureError {
    fn from(error: rocksdb::Error) -> Self {
        Self::Ledger(LedgerError::Database(error))
    }
}

impl From<SealError> for ErasureError {
    fn from(error: SealError) -> Self {
        Self::Seal { detail: error.to_string() }
    }
}

fn known(have: &[String]) -> String {
    if have.is_empty() { "none that is left".to_owned() } else { have.join(", ") }
}

/// An entry's own words.
pub(super) struct Parsed {
    kind: String,
    body: Map<String, Value>,
}

impl Parsed {
    pub(super) fn read(ledger: &Ledger, seq: u64) -> Result<Self, LedgerError> {
        let entry = ledger.entry(seq)?.ok_or_else(|| missing_entry(seq))?;
        Self::parse(seq, &entry)
    }

    pub(super) fn parse(seq: u64, entry: &[u8]) -> Result<Self, LedgerError> {
        let damaged = |detail: String| LedgerError::Damaged { place: format!("entry {seq}"), detail };
        let view = EntryView::parse(entry).map_err(|error| damaged(error.to_string()))?;
        let body = serde_json::from_str(view.body.get()).map_err(|error| damaged(error.to_string()))?;
        Ok(Self { kind: view.kind.into_owned(), body })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.body.get(name).and_then(Value::as_str)
    }

    fn tenant(&self) -> Option<&str> {
        self.text("tenant")
    }

    /// Returns the digest of the raw body that it came in.
    fn raw(&self) -> Option<Digest> {
        if self.kind != ACTION_REPORTED {
            return None;
        }
        self.body.get("source")?.get("raw")?.as_str()?.parse().ok()
    }
}

/// Puts text into an object, where there is some.
fn text_member(body: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        body.insert(name.to_owned(), Value::from(text));
    }
}

/// Makes the record that says that raw bodies were not kept: each is a copy of statements that were erased.
pub(super) fn kept_out(
    bodies: &[Digest],
    erased: &[u64],
    sealer: &Sealer,
    origin: &str,
) -> Result<Option<Prepared>, LedgerError> {
    let Some(first) = bodies.first() else { return Ok(None) };
    let digests: Vec<String> = bodies.iter().take(KEPT_OUT_MAX).map(Digest::to_string).collect();
    let seqs: Vec<String> = erased.iter().take(KEPT_OUT_MAX).map(u64::to_string).collect();
    let mut body = Map::new();
    body.insert("id".to_owned(), Value::from(format!("erasure:kept-out:{first}")));
    body.insert("legal_basis".to_owned(), Value::from("that of the erasure of the entries named here"));
    body.insert("reason".to_owned(), Value::from("sent again in a body with other statements"));
    body.insert("entries".to_owned(), Value::from(seqs));
    body.insert("values".to_owned(), Value::Object(Map::new()));
    body.insert("bodies".to_owned(), Value::from(digests));
    let batch = Batch { records: vec![NewRecord::system(PAYLOAD_ERASED, body)], blobs: Vec::new() };
    let prepared = prepare::prepare(batch, sealer, origin).map_err(|error| LedgerError::Damaged {
        place: "a raw body that is not kept".to_owned(),
        detail: error.to_string(),
    })?;
    Ok(prepared.records.into_iter().next())
}
