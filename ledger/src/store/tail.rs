//! Positions of terms in the block that still grows, which have no rows yet: made of its entries, of which there are
//! fewer than 256.
//!
//! An append that rewrote the rows of the block would write ten times as many rows as entries.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use rocksdb::{DB, IteratorMode};
use serde_json::{Map, Value};

use super::error::LedgerError;
use super::families::{self, family};
use super::postings::{BLOCK, OpenBlock};
use super::seal::Sealer;
use super::terms::Terms;
use super::tree::missing_entry;
use crate::entry::EntryView;

/// The block that grows, as it was when it was asked for last.
#[derive(Debug, Default)]
pub(super) struct Tail(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    made: Option<(u64, Arc<OpenBlock>)>,
    /// Counts how often it was forgotten.
    forgotten: u64,
}

impl Tail {
    /// Returns the block that grows in a log of `size` entries.
    pub(super) fn at(&self, db: &DB, size: u64) -> Result<Arc<OpenBlock>, LedgerError> {
        let (made, forgotten) = {
            let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (kept.made.clone(), kept.forgotten)
        };
        let known = made.filter(|(known, _)| *known <= size && known / BLOCK == size / BLOCK);
        let (from, mut open) = match known {
            Some((known, open)) if known == size => return Ok(open),
            Some((known, open)) => (known, OpenBlock::clone(&open)),
            None => (size - size % BLOCK, OpenBlock::starting_at(size)),
        };
        grow(db, &mut open, from..size)?;
        let open = Arc::new(open);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was read before an erasure must not come back after it.
        if kept.forgotten == forgotten {
            kept.made = Some((size, Arc::clone(&open)));
        }
        Ok(open)
    }

    /// Forgets it: values were erased, and with them terms.
    pub(super) fn forget(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.made = None;
        kept.forgotten += 1;
    }
}

/// Makes the block that grows in a log of `size` entries, for the writer: it must be whole.
pub(super) fn whole(db: &DB, size: u64) -> Result<OpenBlock, LedgerError> {
    let mut open = OpenBlock::starting_at(size);
    for seq in size - size % BLOCK..size {
        open.add(seq, &terms(db, seq)?, |_, _| {});
    }
    Ok(open)
}

/// Makes the block that grows in a log of `size` entries, as far as they can be read.
pub(super) fn read(db: &DB, size: u64) -> Result<OpenBlock, LedgerError> {
    let mut open = OpenBlock::starting_at(size);
    grow(db, &mut open, size - size % BLOCK..size)?;
    Ok(open)
}

/// Makes the block that grows in a database, with everything that it holds, acknowledged or not.
pub(super) fn read_all(db: &DB) -> Result<OpenBlock, LedgerError> {
    let last = db.iterator_cf(family(db, families::ENTRIES)?, IteratorMode::End).next().transpose()?;
    let size = last.and_then(|(key, _)| families::seq_of_key(&key)).map_or(0, |seq| seq.saturating_add(1));
    read(db, size)
}

/// Adds entries. One that is damaged has no terms, as if its row were lost; a verification names it.
fn grow(db: &DB, open: &mut OpenBlock, range: Range<u64>) -> Result<(), LedgerError> {
    for seq in range {
        match terms(db, seq) {
            Ok(terms) => open.add(seq, &terms, |_, _| {}),
            Err(LedgerError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn terms(db: &DB, seq: u64) -> Result<Terms, LedgerError> {
    let damaged = |detail: String| LedgerError::Damaged { place: format!("entry {seq}"), detail };
    let entry = db.get_pinned_cf(family(db, families::ENTRIES)?, seq.to_be_bytes())?;
    let entry = entry.ok_or_else(|| missing_entry(seq))?;
    let view = EntryView::parse(&entry).map_err(|error| damaged(error.to_string()))?;
    let body: Map<String, Value> =
        serde_json::from_str(view.body.get()).map_err(|error| damaged(error.to_string()))?;
    let row = db.get_pinned_cf(family(db, families::DISCLOSURES)?, seq.to_be_bytes())?;
    let subject = row.map(|row| Sealer::subject_of(&row)).transpose()?;
    Ok(Terms::of(&view.kind, &body, subject))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppingClock;
    use crate::record::{Batch, NewRecord};
    use crate::store::{InitOptions, Ledger};
    use serde_json::json;

    fn fact(number: u64) -> Batch {
        let body = json!({"id": format!("review-{number}"), "by": format!("user-{}", number % 3)});
        let record = NewRecord::system("review.opened", body.as_object().unwrap().clone());
        Batch { records: vec![record], blobs: Vec::new() }
    }

    #[test]
    fn what_is_kept_grows_with_the_log_and_starts_anew_with_each_block() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        let ledger =
            Ledger::init(&dir.path().join("l"), &InitOptions::new("ledger.example/t"), clock).unwrap();
        let (db, tail) = (&ledger.inner.db, Tail::default());
        for number in 0..600 {
            let size = ledger.append(fact(number)).unwrap().size;
            // Not asked for at each size, so that it grows by one and by several entries.
            if number % 7 < 3 {
                let (kept, fresh) = (tail.at(db, size).unwrap(), whole(db, size).unwrap());
                assert_eq!(kept.block(), size / BLOCK);
                assert_eq!(kept.starts(&[]), fresh.starts(&[]));
                for start in fresh.starts(&[]) {
                    assert_eq!(kept.offsets(start), fresh.offsets(start));
                }
            }
        }
    }

    #[test]
    fn what_was_read_before_an_erasure_does_not_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        let ledger =
            Ledger::init(&dir.path().join("l"), &InitOptions::new("ledger.example/t"), clock).unwrap();
        ledger.append(fact(1)).unwrap();
        let (db, tail) = (&ledger.inner.db, Tail::default());
        let before = tail.at(db, 2).unwrap();
        let subjects = [crate::store::terms::Tag::Subject as u8];
        assert_eq!(before.starts(&subjects).len(), 1);
        let disclosures = family(db, families::DISCLOSURES).unwrap();
        db.delete_cf(disclosures, 1u64.to_be_bytes()).unwrap();
        assert_eq!(tail.at(db, 2).unwrap().starts(&subjects).len(), 1, "it is kept");
        tail.forget();
        assert!(tail.at(db, 2).unwrap().starts(&subjects).is_empty());
    }
}
