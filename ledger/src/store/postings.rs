//! Where a term occurs: one row for each term and block of 256 positions.
//!
//! The open block is kept in memory and its rows are written whole each time one changes, so that a group commit
//! costs one row a term, however many entries it holds, and the rows are the same however the entries were grouped.

use hashbrown::HashMap;
use rocksdb::{ColumnFamily, WriteBatch};

use super::terms::Terms;

/// Positions in a block: what one byte addresses, and what a tile holds.
pub(super) const BLOCK: u64 = 256;

/// From so many offsets on a bitmap is as short as the list.
const BITMAP_BYTES: usize = 32;

/// Positions of one term inside one block, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offsets(Vec<u8>);

impl Offsets {
    /// Adds an offset, which must be greater than all before.
    pub(super) fn push(&mut self, offset: u8) {
        self.0.push(offset);
    }

    /// Writes the row: the offsets, or from 32 on a bitmap of 256 bits, the lowest offset in the lowest bit of the
    /// first byte. A row of 32 bytes is a bitmap, a shorter one is not.
    pub(super) fn to_row(&self) -> Vec<u8> {
        if self.0.len() < BITMAP_BYTES {
            return self.0.clone();
        }
        let mut bitmap = vec![0u8; BITMAP_BYTES];
        for offset in &self.0 {
            if let Some(byte) = bitmap.get_mut(usize::from(*offset / 8)) {
                *byte |= 1 << (offset % 8);
            }
        }
        bitmap
    }

    /// Reads a row; `None` when it is not one.
    pub(super) fn parse(row: &[u8]) -> Option<Self> {
        if row.len() == BITMAP_BYTES {
            let offsets = (0..=u8::MAX).filter(|offset| {
                row.get(usize::from(*offset / 8)).is_some_and(|byte| byte >> (offset % 8) & 1 == 1)
            });
            let offsets = Self(offsets.collect());
            return (offsets.0.len() >= BITMAP_BYTES).then_some(offsets);
        }
        let ascending = row.iter().zip(row.iter().skip(1)).all(|(a, b)| a < b);
        (!row.is_empty() && row.len() < BITMAP_BYTES && ascending).then(|| Self(row.to_vec()))
    }

    /// Leaves out the offsets of positions from `size` on, which must lie in the same block; `None` when none is left.
    pub(super) fn below(&self, size: u64) -> Option<Self> {
        let kept: Vec<u8> =
            self.0.iter().copied().filter(|offset| u64::from(*offset) < size % BLOCK).collect();
        (!kept.is_empty()).then_some(Self(kept))
    }

    /// Takes offsets out; `None` when none is left.
    pub(super) fn without(mut self, gone: &[u8]) -> Option<Self> {
        self.0.retain(|offset| !gone.contains(offset));
        (!self.0.is_empty()).then_some(self)
    }

    /// Lists the positions in a block.
    pub(super) fn positions(&self, block: u64) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.0.iter().map(move |offset| block.saturating_mul(BLOCK).saturating_add(u64::from(*offset)))
    }
}

/// Ends a key with its block.
pub(super) fn key(start: &[u8], block: u64) -> Vec<u8> {
    [start, &block.to_be_bytes()].concat()
}

/// Splits a key into its start and its block.
pub(super) fn split_key(key: &[u8]) -> Option<(&[u8], u64)> {
    let (start, block) = key.split_last_chunk::<8>()?;
    Some((start, u64::from_be_bytes(*block)))
}

/// The block that still grows.
#[derive(Debug, Default)]
pub(super) struct OpenBlock {
    block: u64,
    /// Start of key → place in `rows`. Looked up some twenty times an entry and never iterated.
    places: HashMap<Vec<u8>, usize>,
    rows: Vec<Row>,
    /// Rows that changed since they were last written.
    changed: Vec<usize>,
}

#[derive(Debug)]
struct Row {
    start: Vec<u8>,
    offsets: Offsets,
    changed: bool,
}

impl OpenBlock {
    /// Starts with the block that the entry at `seq` belongs to.
    pub(super) fn starting_at(seq: u64) -> Self {
        Self { block: seq / BLOCK, ..Self::default() }
    }

    /// Adds the terms of the entry at `seq`; positions come in order. A block that is complete is written first.
    pub(super) fn add(&mut self, seq: u64, terms: &Terms, mut put: impl FnMut(Vec<u8>, Vec<u8>)) {
        let (block, offset) = (seq / BLOCK, u8::try_from(seq % BLOCK).unwrap_or(u8::MAX));
        if block != self.block {
            self.flush(&mut put);
            *self = Self { block, ..Self::default() };
        }
        for start in terms.keys() {
            let place = if let Some(place) = self.places.get(start) {
                *place
            } else {
                self.rows.push(Row { start: start.to_vec(), offsets: Offsets::default(), changed: false });
                self.places.insert(start.to_vec(), self.rows.len() - 1);
                self.rows.len() - 1
            };
            let Some(row) = self.rows.get_mut(place) else { continue };
            // A term that an entry has twice is one term.
            if row.offsets.0.last() == Some(&offset) {
                continue;
            }
            row.offsets.push(offset);
            if !row.changed {
                row.changed = true;
                self.changed.push(place);
            }
        }
    }

    /// Takes offsets out of a row, if this is its block; returns what is left of it.
    #[expect(clippy::option_option, reason = "whether it is here, and whether anything is left")]
    pub(super) fn take_out(&mut self, start: &[u8], block: u64, gone: &[u8]) -> Option<Option<Offsets>> {
        if block != self.block {
            return None;
        }
        let row = self.places.get(start).and_then(|place| self.rows.get_mut(*place));
        let Some(row) = row else { return Some(None) };
        row.offsets = std::mem::take(&mut row.offsets).without(gone).unwrap_or_default();
        Some((!row.offsets.0.is_empty()).then(|| row.offsets.clone()))
    }

    /// Gives every row that changed since the last time.
    pub(super) fn flush(&mut self, mut put: impl FnMut(Vec<u8>, Vec<u8>)) {
        for place in self.changed.drain(..) {
            if let Some(row) = self.rows.get_mut(place) {
                row.changed = false;
                put(key(&row.start, self.block), row.offsets.to_row());
            }
        }
    }
}

/// Puts rows into a batch.
pub(super) fn put_into<'a>(
    batch: &'a mut WriteBatch,
    family: &'a ColumnFamily,
) -> impl FnMut(Vec<u8>, Vec<u8>) + 'a {
    move |key, row| batch.put_cf(family, key, row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        #[test]
        fn a_row_gives_back_its_positions(offsets in prop::collection::btree_set(any::<u8>(), 1..256), block in 0u64..1 << 40) {
            let offsets = Offsets(offsets.into_iter().collect());
            let row = offsets.to_row();
            prop_assert!(row.len() <= BITMAP_BYTES);
            prop_assert_eq!(Offsets::parse(&row).unwrap(), offsets.clone());
            let positions: Vec<u64> = offsets.positions(block).collect();
            prop_assert!(positions.iter().all(|seq| seq / BLOCK == block));
        }

        #[test]
        fn rows_do_not_depend_on_how_entries_were_grouped(
            entries in prop::collection::vec(prop::collection::btree_set(0u8..6, 1..4), 1..700),
            groups in prop::collection::vec(1usize..90, 1..60),
        ) {
            let terms = |set: &BTreeSet<u8>| {
                let rules: Vec<String> = set.iter().map(|t| format!("r{t}")).collect();
                let body = serde_json::json!({"decision": {"policy": {"rules": rules}}});
                Terms::of(crate::event::ACTION_REPORTED, body.as_object().unwrap(), None)
            };
            let rows = |groups: &[usize]| {
                let (mut open, mut rows) = (OpenBlock::default(), BTreeMap::new());
                let mut sizes = groups.iter().cycle();
                let mut left = sizes.next().copied().unwrap_or(1);
                for (seq, set) in (0u64..).zip(&entries) {
                    open.add(seq, &terms(set), |key, row| drop(rows.insert(key, row)));
                    left -= 1;
                    if left == 0 {
                        open.flush(|key, row| drop(rows.insert(key, row)));
                        left = sizes.next().copied().unwrap_or(1);
                    }
                }
                open.flush(|key, row| drop(rows.insert(key, row)));
                rows
            };
            prop_assert_eq!(rows(&groups), rows(&[usize::MAX]));
        }
    }

    #[test]
    fn what_is_not_a_row_is_refused() {
        assert_eq!(Offsets::parse(&[]), None);
        assert_eq!(Offsets::parse(&[3, 3]), None);
        assert_eq!(Offsets::parse(&[5, 3]), None);
        assert_eq!(Offsets::parse(&[0; 33]), None);
        assert_eq!(Offsets::parse(&[1; 32]).map(|offsets| offsets.0.len()), Some(32), "a bitmap");
        assert_eq!(Offsets::parse(&[0; 32]), None, "a bitmap of fewer than 32 would have been a list");
    }
}
