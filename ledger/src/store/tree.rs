//! Hashes of perfect subtrees as the store has them: the tile levels 8, 16, … are stored, everything below is
//! computed from at most 256 entries, which costs less than the rows would.

use rocksdb::{ColumnFamily, DB, Direction, IteratorMode, ReadOptions};

use super::TILE_LEVELS;
use super::error::LedgerError;
use super::families::{self, family};
use crate::merkle::{self, Frontier, Hash, Nodes};

/// Reads and computes the hashes of perfect subtrees.
pub(super) struct StoredNodes<'a> {
    db: &'a DB,
    tiles: &'a ColumnFamily,
    entries: &'a ColumnFamily,
}

impl<'a> StoredNodes<'a> {
    pub(super) fn new(db: &'a DB) -> Result<Self, LedgerError> {
        Ok(Self { db, tiles: family(db, families::TILES)?, entries: family(db, families::ENTRIES)? })
    }

    /// Returns the leaf hashes of `count` entries from `first` on.
    pub(super) fn leaves(&self, first: u64, count: u64) -> Result<Vec<Hash>, LedgerError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(first.saturating_add(count).to_be_bytes());
        let start = first.to_be_bytes();
        let rows =
            self.db.iterator_cf_opt(self.entries, options, IteratorMode::From(&start, Direction::Forward));
        let mut leaves = Vec::new();
        for (row, seq) in rows.zip(first..) {
            let (key, entry) = row?;
            if families::seq_of_key(&key) != Some(seq) {
                return Err(missing_entry(seq));
            }
            leaves.push(merkle::leaf_hash(&entry));
        }
        if leaves.len() as u64 == count {
            Ok(leaves)
        } else {
            Err(missing_entry(first + leaves.len() as u64))
        }
    }

    /// Returns a stored hash.
    pub(super) fn stored(&self, level: u32, index: u64) -> Result<Hash, LedgerError> {
        let damaged = |detail: &str| LedgerError::Damaged {
            place: format!("tree hash {index} of level {level}"),
            detail: detail.to_owned(),
        };
        let row = self.db.get_pinned_cf(self.tiles, families::tile_key(level, index))?;
        let row = row.ok_or_else(|| damaged("is missing"))?;
        <[u8; 32]>::try_from(&*row).map(Hash).map_err(|_| damaged("has a wrong length"))
    }
}

impl Nodes for StoredNodes<'_> {
    type Error = LedgerError;

    fn perfect(&self, level: u32, index: u64) -> Result<Hash, LedgerError> {
        let stored_level = level - level % TILE_LEVELS;
        if level == stored_level && level > 0 {
            return self.stored(level, index);
        }
        let first = index << (level - stored_level);
        let count = 1u64 << (level - stored_level);
        if stored_level == 0 {
            return Ok(merkle::root_of(self.leaves(first, count)?));
        }
        let mut subtree = Frontier::default();
        for index in first..first + count {
            subtree.push(self.stored(stored_level, index)?, |_, _, _| {});
        }
        Ok(subtree.root())
    }
}

/// Says that an entry is not there.
pub(super) fn missing_entry(seq: u64) -> LedgerError {
    LedgerError::Damaged { place: format!("entry {seq}"), detail: "is missing".to_owned() }
}
