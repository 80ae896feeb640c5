//! A set of positions inside one block.

use std::ops::Range;

use crate::store::postings::{BLOCK, Offsets};

/// One bit for each of the 256 positions of a block, the lowest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bits([u64; 4]);

impl Bits {
    /// Every position.
    pub(super) const ALL: Self = Self([u64::MAX; 4]);

    /// The positions of a term.
    pub(super) fn of(offsets: &Offsets) -> Self {
        let mut bits = Self::default();
        for seq in offsets.positions(0) {
            bits.insert(u8::try_from(seq).unwrap_or(u8::MAX));
        }
        bits
    }

    pub(super) fn insert(&mut self, offset: u8) {
        if let Some(word) = self.0.get_mut(usize::from(offset / 64)) {
            *word |= 1 << (offset % 64);
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }

    pub(super) fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    pub(super) fn or(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    fn zip(mut self, other: Self, join: impl Fn(u64, u64) -> u64) -> Self {
        for (word, other) in self.0.iter_mut().zip(other.0) {
            *word = join(*word, other);
        }
        self
    }

    /// Keeps the positions of `range`, seen from `block`.
    pub(super) fn within(self, block: u64, range: &Range<u64>) -> Self {
        let first = block * BLOCK;
        let mask = |offset: u64| -> Self {
            // Everything below an offset.
            let mut bits = [0u64; 4];
            for (index, word) in (0u64..).zip(bits.iter_mut()) {
                let count = offset.saturating_sub(index * 64).min(64);
                *word = if count == 64 { u64::MAX } else { (1 << count) - 1 };
            }
            Self(bits)
        };
        let below_start = mask(range.start.saturating_sub(first).min(BLOCK));
        let below_end = mask(range.end.saturating_sub(first).min(BLOCK));
        self.and(below_end).zip(below_start, |bits, below| bits & !below)
    }

    pub(super) fn take_lowest(&mut self) -> Option<u8> {
        let (index, word) = (0u32..).zip(self.0.iter_mut()).find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros();
        *word &= *word - 1;
        u8::try_from(index * 64 + bit).ok()
    }

    pub(super) fn take_highest(&mut self) -> Option<u8> {
        let (index, word) = (0u32..).zip(self.0.iter_mut()).filter(|(_, word)| **word != 0).last()?;
        let bit = 63 - word.leading_zeros();
        *word &= !(1 << bit);
        u8::try_from(index * 64 + bit).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_of_bits_is_a_set(
            a in prop::collection::btree_set(any::<u8>(), 0..256),
            b in prop::collection::btree_set(any::<u8>(), 0..256),
            start in 0u64..1_100, width in 0u64..1_100,
        ) {
            let bits = |set: &BTreeSet<u8>| {
                let mut bits = Bits::default();
                for offset in set {
                    bits.insert(*offset);
                }
                bits
            };
            let up = |mut bits: Bits| std::iter::from_fn(|| bits.take_lowest()).collect::<Vec<u8>>();
            let down = |mut bits: Bits| std::iter::from_fn(|| bits.take_highest()).collect::<Vec<u8>>();
            prop_assert_eq!(up(bits(&a).and(bits(&b))), a.intersection(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(down(bits(&a).or(bits(&b))), a.union(&b).copied().collect::<BTreeSet<u8>>().into_iter().rev().collect::<Vec<_>>());
            let range = start..start + width;
            let kept: Vec<u8> = a.iter().copied().filter(|o| range.contains(&(2 * BLOCK + u64::from(*o)))).collect();
            prop_assert_eq!(up(bits(&a).within(2, &range)), kept);
        }
    }
}
