//! What an erasure takes out of the database, and how the sequencer puts it into the batch that also says so.

use std::collections::BTreeMap;

use rocksdb::WriteBatch;

use crate::id::Digest;
use crate::store::error::LedgerError;
use crate::store::families::Families;
use crate::store::postings::{self, Offsets};
use crate::store::seal::Subject;
use crate::store::sequence::Sequencer;

/// Start of a key of `ix_terms` and the block at its end.
pub(in crate::store) type PostingKey = (Vec<u8>, u64);

/// Changes to rows that exist. They are part of a batch that holds the entries which record them: a crash leaves
/// either all of it or nothing.
#[derive(Debug, Default)]
pub(in crate::store) struct Changes {
    /// Rows of disclosed values: what is left of each, nothing when it goes.
    pub(super) disclosures: BTreeMap<u64, Option<Vec<u8>>>,
    /// Data keys that are destroyed.
    pub(super) data_keys: Vec<Subject>,
    /// Raw bodies that go.
    pub(super) blobs: Vec<Digest>,
    /// Rows of `ix_id` as they are from now on.
    pub(super) ids: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offsets that go from a row of positions.
    pub(super) postings: BTreeMap<PostingKey, Vec<u8>>,
}

impl Sequencer {
    /// Puts the changes of a batch into the group commit, before its entries.
    pub(in crate::store) fn change(
        &mut self,
        families: Families<'_>,
        batch: &mut WriteBatch,
        changes: &Changes,
    ) -> Result<(), LedgerError> {
        for (seq, row) in &changes.disclosures {
            match row {
                Some(row) => batch.put_cf(families.disclosures, seq.to_be_bytes(), row),
                None => batch.delete_cf(families.disclosures, seq.to_be_bytes()),
            }
        }
        for subject in &changes.data_keys {
            batch.delete_cf(families.data_keys, subject);
        }
        for digest in &changes.blobs {
            batch.delete_cf(families.blobs, digest.0);
            self.erased_bodies.insert(*digest);
        }
        for (key, row) in &changes.ids {
            batch.put_cf(families.by_id, key, row);
        }
        for ((start, block), gone) in &changes.postings {
            if self.open.take_out(start, *block, gone) {
                // The block that grows has no rows yet, unless an earlier version wrote some.
                batch.delete_cf(families.postings, postings::key(start, *block));
                continue;
            }
            let row = self.db.get_pinned_cf(families.postings, postings::key(start, *block))?;
            let left = row.and_then(|row| Offsets::parse(&row)).and_then(|offsets| offsets.without(gone));
            match left {
                Some(left) => batch.put_cf(families.postings, postings::key(start, *block), left.to_row()),
                None => batch.delete_cf(families.postings, postings::key(start, *block)),
            }
        }
        Ok(())
    }
}
