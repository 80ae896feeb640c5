//! Proof of a whole range: the inclusion proofs of its first and last entry, and every leaf in between.
//!
//! Left siblings of the first entry and right siblings of the last one are all that the tree has outside the
//! range. With every leaf inside they determine the root; if it is the checkpoint's, then exactly these entries
//! stand at these positions, and none is missing.

use std::collections::BTreeMap;

use verdict_ledger::merkle::{Hash, node_hash, split_point};

/// Why a range does not lead to a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RangeError {
    /// The proof of an edge does not have the length that its position and the size ask for.
    #[error("the inclusion proof of entry {index} has {got} hashes, a tree of {size} entries needs {want}")]
    Length { index: u64, size: u64, got: usize, want: usize },
    /// The range is empty or reaches beyond the tree.
    #[error("entries {first} to {end} (exclusive) are not a range of a tree of {size} entries")]
    Bounds { first: u64, end: u64, size: u64 },
}

/// Computes the root of a tree of `size` entries from the leaves of a range that begins at `first`, and the
/// inclusion proofs of its two edges.
pub(crate) fn range_root(
    first: u64,
    leaves: &[Hash],
    size: u64,
    first_proof: &[Hash],
    last_proof: &[Hash],
) -> Result<Hash, RangeError> {
    let end = first.saturating_add(leaves.len() as u64);
    if leaves.is_empty() || end > size {
        return Err(RangeError::Bounds { first, end, size });
    }
    let mut outside = BTreeMap::new();
    siblings(first, size, first_proof, &mut outside)?;
    siblings(end - 1, size, last_proof, &mut outside)?;
    root(0, size, first, leaves, &outside).ok_or(RangeError::Bounds { first, end, size })
}

/// Files the hashes of an inclusion proof under the subtree that each stands for.
fn siblings(
    index: u64,
    size: u64,
    proof: &[Hash],
    known: &mut BTreeMap<(u64, u64), Hash>,
) -> Result<(), RangeError> {
    let (mut start, mut end) = (0, size);
    let mut subtrees = Vec::new();
    while end - start > 1 {
        let split = start + split_point(end - start);
        if index < split {
            subtrees.push((split, end));
            end = split;
        } else {
            subtrees.push((start, split));
            start = split;
        }
    }
    if subtrees.len() != proof.len() {
        return Err(RangeError::Length { index, size, got: proof.len(), want: subtrees.len() });
    }
    known.extend(subtrees.into_iter().rev().zip(proof.iter().copied()));
    Ok(())
}

fn root(
    start: u64,
    end: u64,
    first: u64,
    leaves: &[Hash],
    outside: &BTreeMap<(u64, u64), Hash>,
) -> Option<Hash> {
    let past = first + leaves.len() as u64;
    if end <= first || past <= start {
        // INVARIANT: only subtrees wholly outside the range are taken from the proofs, so no leaf can be
        // shadowed by a hash that somebody supplied.
        return outside.get(&(start, end)).copied();
    }
    if end - start == 1 {
        return leaves.get(usize::try_from(start - first).ok()?).copied();
    }
    let split = start + split_point(end - start);
    let left = root(start, split, first, leaves, outside)?;
    let right = root(split, end, first, leaves, outside)?;
    Some(node_hash(&left, &right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use verdict_ledger::merkle::{Nodes, inclusion_proof, leaf_hash, root_of};

    struct Leaves(Vec<Hash>);

    impl Nodes for Leaves {
        type Error = Infallible;
        fn perfect(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
            let width = 1usize << level;
            let start = usize::try_from(index).unwrap() * width;
            Ok(root_of(self.0[start..start + width].iter().copied()))
        }
    }

    #[test]
    fn every_range_of_every_small_tree_leads_to_its_root_and_no_other_does() {
        for size in 1..=20u64 {
            let tree = Leaves((0..size).map(|i| leaf_hash(&i.to_be_bytes())).collect());
            let want = root_of(tree.0.iter().copied());
            for first in 0..size {
                for end in first + 1..=size {
                    let range = usize::try_from(first).unwrap()..usize::try_from(end).unwrap();
                    let a = inclusion_proof(&tree, first, size).unwrap();
                    let b = inclusion_proof(&tree, end - 1, size).unwrap();
                    assert_eq!(range_root(first, &tree.0[range.clone()], size, &a, &b), Ok(want));
                    let mut changed = tree.0[range.clone()].to_vec();
                    let middle = changed.len() / 2;
                    changed[middle].0[0] ^= 1;
                    assert_ne!(range_root(first, &changed, size, &a, &b), Ok(want));
                    if changed.len() > 1 {
                        let mut missing = tree.0[range].to_vec();
                        missing.remove(middle);
                        assert_ne!(range_root(first, &missing, size, &a, &b), Ok(want));
                    }
                }
            }
        }
    }

    #[test]
    fn ranges_outside_the_tree_are_refused() {
        assert!(matches!(range_root(0, &[], 3, &[], &[]), Err(RangeError::Bounds { .. })));
        let leaf = leaf_hash(b"x");
        assert!(matches!(range_root(u64::MAX, &[leaf], 3, &[], &[]), Err(RangeError::Bounds { .. })));
        assert!(matches!(range_root(0, &[leaf], 3, &[], &[]), Err(RangeError::Length { .. })));
    }
}
