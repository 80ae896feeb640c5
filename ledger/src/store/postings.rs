//! Where a term occurs: one row for each term and block of 256 positions.
//!
//! Rows are written when their block is complete, so that each is written once. Where terms occur in the block that
//! still grows is made of its entries, which are few: see `tail`.

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
#[derive(Debug, Clone, Default)]
pub(super) struct OpenBlock {
    block: u64,
    /// Start of key → positions. Looked up some twenty times an entry; where order matters it is sorted.
    rows: HashMap<Vec<u8>, Offsets>,
}

impl OpenBlock {
    /// Starts with the block that the entry at `seq` belongs to.
    pub(super) fn starting_at(seq: u64) -> Self {
        Self { block: seq / BLOCK, ..Self::default() }
    }

    /// Adds the terms of the entry at `seq`; positions come in order. With the last entry of the block its rows are
    /// given, and the next block starts.
    pub(super) fn add(&mut self, seq: u64, terms: &Terms, mut put: impl FnMut(Vec<u8>, Vec<u8>)) {
        let (block, offset) = (seq / BLOCK, u8::try_from(seq % BLOCK).unwrap_or(u8::MAX));
        if block != self.block {
            // Only where entries are missing: what there was of the block is all that there is.
            self.close(&mut put);
            self.block = block;
        }
        for start in terms.keys() {
            let offsets = self.rows.entry_ref(start).or_default();
            // A term that an entry has twice is one term.
            if offsets.0.last() != Some(&offset) {
                offsets.push(offset);
            }
        }
        if offset == u8::MAX {
            self.close(&mut put);
        }
    }

    /// Takes offsets out of a row, if this is its block; tells whether it is.
    pub(super) fn take_out(&mut self, start: &[u8], block: u64, gone: &[u8]) -> bool {
        if block != self.block {
            return false;
        }
        if let Some(offsets) = self.rows.remove(start).and_then(|offsets| offsets.without(gone)) {
            self.rows.insert(start.to_vec(), offsets);
        }
        true
    }

    /// Returns the number of the block.
    pub(super) const fn block(&self) -> u64 {
        self.block
    }

    /// Returns the positions of a term.
    pub(super) fn offsets(&self, start: &[u8]) -> Option<&Offsets> {
        self.rows.get(start)
    }

    /// Lists the terms whose keys start with `prefix`, in order.
    pub(super) fn starts(&self, prefix: &[u8]) -> Vec<&[u8]> {
        let mut starts: Vec<&[u8]> =
            self.rows.keys().map(Vec::as_slice).filter(|start| start.starts_with(prefix)).collect();
        starts.sort_unstable();
        starts
    }

    fn close(&mut self, put: &mut impl FnMut(Vec<u8>, Vec<u8>)) {
        for (start, offsets) in self.rows.drain() {
            put(key(&start, self.block), offsets.to_row());
        }
        self.block += 1;
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
        fn every_complete_block_gives_its_rows_and_the_last_keeps_them(
            entries in prop::collection::vec(prop::collection::btree_set(0u8..6, 1..4), 1..700),
        ) {
            let terms = |set: &BTreeSet<u8>| {
                let rules: Vec<String> = set.iter().map(|t| format!("r{t}")).collect();
                let body = serde_json::json!({"decision": {"policy": {"rules": rules}}});
                Terms::of(crate::event::ACTION_REPORTED, body.as_object().unwrap(), None)
            };
            let (mut open, mut rows) = (OpenBlock::default(), BTreeMap::new());
            let mut expected: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
            for (seq, set) in (0u64..).zip(&entries) {
                let terms = terms(set);
                terms.keys().for_each(|start| expected.entry(start.to_vec()).or_default().push(seq));
                open.add(seq, &terms, |key, row| assert!(rows.insert(key, row).is_none(), "written once"));
            }
            let mut found: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
            for (key, row) in &rows {
                let (start, block) = split_key(key).unwrap();
                prop_assert!(block < entries.len() as u64 / BLOCK);
                found.entry(start.to_vec()).or_default().extend(Offsets::parse(row).unwrap().positions(block));
            }
            prop_assert_eq!(open.block(), entries.len() as u64 / BLOCK);
            for start in open.starts(&[]) {
                let offsets = open.offsets(start).unwrap();
                found.entry(start.to_vec()).or_default().extend(offsets.positions(open.block()));
            }
            for seqs in expected.values_mut() {
                seqs.dedup();
            }
            prop_assert_eq!(found, expected);
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
