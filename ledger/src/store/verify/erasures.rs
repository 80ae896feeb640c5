//! What the log itself says is gone: a value or a raw body that is missing is damage unless an entry explains it, and
//! one that an entry says is gone must be gone.

use std::collections::{BTreeMap, BTreeSet};

use super::{Class, Report};
use crate::disclosure;
use crate::entry::EntryView;
use crate::id::Digest;
use crate::store::Ledger;
use crate::store::erasure::each_erased;
use crate::store::error::LedgerError;
use crate::store::families::{self, family};

/// What was erased, as far as the log tells.
#[derive(Debug, Default)]
pub(super) struct Erasures {
    /// Members that were erased of an entry, one bit each, in the order of the list of what is disclosed.
    values: BTreeMap<u64, u16>,
    bodies: BTreeSet<Digest>,
}

impl Erasures {
    /// Reads them from the entries that record erasures. An erasure explains the loss of what it names by the digest
    /// that the entry commits to, and of nothing else.
    pub(super) fn of(ledger: &Ledger) -> Result<Self, LedgerError> {
        let mut this = Self::default();
        let db = &ledger.inner.db;
        let entries = family(db, families::ENTRIES)?;
        each_erased(db, |_, erased| {
            let mut last: Option<(u64, Vec<String>)> = None;
            for value in erased.values {
                if last.as_ref().is_none_or(|(seq, _)| *seq != value.seq) {
                    let entry = db.get_pinned_cf(entries, value.seq.to_be_bytes())?;
                    last = Some((value.seq, entry.map(|entry| committed(&entry)).unwrap_or_default()));
                }
                let known = last.as_ref().is_some_and(|(_, committed)| committed.contains(&value.digest));
                if let Some(bit) = bit(&value.pointer).filter(|_| known) {
                    *this.values.entry(value.seq).or_default() |= bit;
                }
            }
            this.bodies.extend(erased.bodies);
            Ok(())
        })?;
        Ok(this)
    }

    /// Tells whether the value of a member of an entry was erased.
    pub(super) fn explain_value(&self, seq: u64, pointer: &str) -> bool {
        self.values.get(&seq).is_some_and(|bits| bit(pointer).is_some_and(|bit| bits & bit != 0))
    }

    /// Tells whether a raw body was erased.
    pub(super) fn explain_blob(&self, digest: &Digest) -> bool {
        self.bodies.contains(digest)
    }

    /// Checks that what was erased is gone.
    pub(super) fn check_gone(&self, ledger: &Ledger, report: &mut Report) -> Result<(), LedgerError> {
        let db = &ledger.inner.db;
        let (rows, blobs) = (family(db, families::DISCLOSURES)?, family(db, families::BLOBS)?);
        for (seq, bits) in &self.values {
            let Some(row) = db.get_pinned_cf(rows, seq.to_be_bytes())? else { continue };
            // One that cannot be opened is in the report already.
            let Ok(Some(hidden)) = ledger.inner.sealer.open(*seq, &row) else { continue };
            for member in hidden.members() {
                let pointer = member.place.pointer();
                if bit(&pointer).is_some_and(|bit| bits & bit != 0) {
                    let detail =
                        format!("the value of `{pointer}` is there, and an entry says that it was erased");
                    report.fail(Some(*seq), Class::Disclosure, detail);
                }
            }
        }
        for digest in &self.bodies {
            if db.get_pinned_cf(blobs, digest.0)?.is_some() {
                let detail = format!("{digest} is there, and an entry says that it was erased");
                report.fail(None, Class::Blob, detail);
            }
        }
        Ok(())
    }
}

fn bit(pointer: &str) -> Option<u16> {
    let place = disclosure::pointers().position(|known| known == pointer)?;
    1u16.checked_shl(u32::try_from(place).ok()?)
}

/// Lists the digests that an entry commits to; an entry that cannot be read commits to nothing.
fn committed(entry: &[u8]) -> Vec<String> {
    let view = EntryView::parse(entry).ok();
    let body = view.and_then(|view| serde_json::from_str(view.body.get()).ok());
    body.map(|body| disclosure::committed(&body)).unwrap_or_default()
}
