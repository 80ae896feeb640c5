//! RFC 6962 Merkle tree over SHA-256: hashes, proofs and their verification, as pure functions.
//!
//! The tree is the only structure that outsiders need. Nothing here stores anything: a [`Frontier`] grows with
//! the log, and proofs are computed through [`Nodes`], which a store or a test implements.

use sha2::{Digest as _, Sha256};

/// A leaf hash, node or root of the tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl serde::Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The position is not inside the tree.
    #[error("index {index} is not in a tree of {size} entries")]
    Index {
        /// Position.
        index: u64,
        /// Tree size.
        size: u64,
    },
    /// The old tree is not smaller than the new one.
    #[error("tree of {old} entries is not older than one of {new}")]
    Sizes {
        /// Old size.
        old: u64,
        /// New size.
        new: u64,
    },
    /// Too few or too many hashes for the shape of the tree.
    #[error("proof has {got} hashes, the tree's shape needs {want}")]
    Length {
        /// Hashes in the proof.
        got: usize,
        /// Hashes that the shape needs.
        want: usize,
    },
    /// The proof leads to another root.
    #[error("proof leads to root {got}, not to {want}")]
    Root {
        /// Computed root.
        got: Hash,
        /// Expected root.
        want: Hash,
    },
}

/// Hashes an entry as a leaf: `SHA-256(0x00 ‖ entry)`.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
}

/// Hashes two children: `SHA-256(0x01 ‖ left ‖ right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// Root of the empty tree: `SHA-256()`.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// Computes the root over leaf hashes.
pub fn root_of(leaves: impl IntoIterator<Item = Hash>) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(leaf, |_, _, _| {});
    }
    frontier.root()
}

/// The right edge of a growing tree: one perfect subtree for each bit that is set in the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Largest subtree first.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Loads the frontier of a tree of `size` entries.
    pub fn load<N: Nodes>(nodes: &N, size: u64) -> Result<Self, N::Error> {
        let mut peaks = Vec::new();
        let mut start = 0u64;
        for level in (0..u64::BITS).rev() {
            let span = 1u64 << level;
            if size & span != 0 {
                peaks.push(nodes.perfect(level, start >> level)?);
                start += span;
            }
        }
        Ok(Self { size, peaks })
    }

    /// Number of leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; `complete(level, index, hash)` is told every perfect subtree that it completes, from the leaf up.
    pub fn push(&mut self, leaf: Hash, mut complete: impl FnMut(u32, u64, &Hash)) {
        let mut hash = leaf;
        let mut level = 0u32;
        complete(0, self.size, &hash);
        while self.size >> level & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            complete(level, self.size >> level, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Root of the tree.
    pub fn root(&self) -> Hash {
        self.root_with(None)
    }

    /// Root of the tree with a smaller subtree on its right that is not part of it: `self` is then a tree over the
    /// roots of larger, perfect subtrees.
    pub fn root_with(&self, right: Option<Hash>) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match right.or_else(|| peaks.next().copied()) {
            None => empty_root(),
            Some(smallest) => peaks.fold(smallest, |right, left| node_hash(left, &right)),
        }
    }
}

/// Gives the hashes of perfect subtrees.
pub trait Nodes {
    /// What can go wrong.
    type Error;
    /// Returns the hash of the perfect subtree over leaves `index·2^level .. (index+1)·2^level`.
    fn perfect(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Computes the hash of leaves `start..end` (`MTH(D[start:end])`); `start` must be aligned as RFC 6962 splits are.
fn subtree<N: Nodes>(nodes: &N, start: u64, end: u64) -> Result<Hash, N::Error> {
    let width = end - start;
    if width.is_power_of_two() {
        let level = width.trailing_zeros();
        return nodes.perfect(level, start >> level);
    }
    let split = start + split_point(width);
    Ok(node_hash(&subtree(nodes, start, split)?, &subtree(nodes, split, end)?))
}

/// Returns where RFC 6962 splits `width` leaves: the largest power of two smaller than `width`, which is at least 2.
pub const fn split_point(width: u64) -> u64 {
    1 << (u64::BITS - 1 - (width - 1).leading_zeros())
}

/// Computes the root of the first `size` entries.
pub fn root_at<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 { Ok(empty_root()) } else { subtree(nodes, 0, size) }
}

/// Computes the inclusion proof of entry `index` in a tree of `size` entries: RFC 6962 `PATH(index, D[size])`,
/// from the leaf up. The caller checks that `index < size`; otherwise the proof is empty.
pub fn inclusion_proof<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let mut proof = Vec::new();
    if index >= size {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let split = start + split_point(end - start);
        if index < split {
            proof.push(subtree(nodes, split, end)?);
            end = split;
        } else {
            proof.push(subtree(nodes, start, split)?);
            start = split;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Computes the consistency proof between trees of `old` and `new` entries: RFC 6962 `PROOF(old, D[new])`.
pub fn consistency_proof<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut start, mut end) = (0, new);
    // SUBPROOF(m, D[n], b): `whole` is b, true while D[start:old] is a subtree that the verifier knows.
    let mut whole = true;
    while end != old {
        let split = start + split_point(end - start);
        if old <= split {
            proof.push(subtree(nodes, split, end)?);
            end = split;
        } else {
            proof.push(subtree(nodes, start, split)?);
            start = split;
            whole = false;
        }
    }
    if !whole {
        proof.push(subtree(nodes, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Verifies that `leaf` is entry `index` of the tree of `size` entries with `root` (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: &Hash,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let want = inclusion_length(index, size);
    if proof.len() != want {
        return Err(ProofError::Length { got: proof.len(), want });
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root { got: hash, want: *root }) }
}

/// Counts the hashes of an inclusion proof.
fn inclusion_length(index: u64, size: u64) -> usize {
    let (mut start, mut end, mut length) = (0, size, 0);
    while end - start > 1 {
        let split = start + split_point(end - start);
        if index < split {
            end = split;
        } else {
            start = split;
        }
        length += 1;
    }
    length
}

/// Verifies that the tree of `old` entries is a prefix of the tree of `new` entries (RFC 9162 section 2.1.4.2).
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Sizes { old, new });
    }
    if old == new || old == 0 {
        if !proof.is_empty() {
            return Err(ProofError::Length { got: proof.len(), want: 0 });
        }
        let want = if old == 0 { empty_root() } else { *new_root };
        return if *old_root == want { Ok(()) } else { Err(ProofError::Root { got: *old_root, want }) };
    }
    let short = ProofError::Length { got: proof.len(), want: proof.len() + 1 };
    let mut hashes = proof.iter();
    let first =
        if old.is_power_of_two() { *old_root } else { *hashes.next().ok_or_else(|| short.clone())? };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut from_old, mut from_new) = (first, first);
    for sibling in hashes {
        if last == 0 {
            return Err(ProofError::Length { got: proof.len(), want: proof.len() - 1 });
        }
        if node & 1 == 1 || node == last {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(short);
    }
    if from_old != *old_root {
        return Err(ProofError::Root { got: from_old, want: *old_root });
    }
    if from_new != *new_root {
        return Err(ProofError::Root { got: from_new, want: *new_root });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    /// All leaves in memory: the definition, without any storage trick.
    struct Leaves(Vec<Hash>);

    impl Nodes for Leaves {
        type Error = Infallible;

        fn perfect(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
            let start = usize::try_from(index << level).unwrap();
            Ok(root_of(self.0[start..start + (1 << level)].iter().copied()))
        }
    }

    fn leaves(count: u64) -> Leaves {
        Leaves((0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect())
    }

    #[test]
    fn known_roots_of_certificate_transparency() {
        // Test vectors of RFC 6962 implementations: the empty tree and the tree of one empty entry.
        assert_eq!(
            empty_root().to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            root_of([leaf_hash(b"")]).to_string(),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
    }

    #[test]
    fn every_proof_of_small_trees_verifies_and_nothing_else_does() {
        for size in 1..=40u64 {
            let tree = leaves(size);
            let root = root_at(&tree, size).unwrap();
            assert_eq!(Frontier::load(&tree, size).unwrap().root(), root);
            for index in 0..size {
                let leaf = tree.0[usize::try_from(index).unwrap()];
                let proof = inclusion_proof(&tree, index, size).unwrap();
                assert_eq!(verify_inclusion(index, size, &leaf, &proof, &root), Ok(()));
                let other = (index + 1) % size;
                if other != index {
                    assert!(verify_inclusion(other, size, &leaf, &proof, &root).is_err());
                }
                if let Some((_, short)) = proof.split_last() {
                    assert!(verify_inclusion(index, size, &leaf, short, &root).is_err());
                }
            }
            for old in 0..=size {
                let old_root = root_at(&tree, old).unwrap();
                let proof = consistency_proof(&tree, old, size).unwrap();
                assert_eq!(verify_consistency(old, size, &old_root, &root, &proof), Ok(()), "{old} {size}");
                assert!(verify_consistency(old, size, &leaf_hash(b"x"), &root, &proof).is_err());
                if let Some((_, short)) = proof.split_last() {
                    assert!(verify_consistency(old, size, &old_root, &root, short).is_err());
                }
                let mut long = proof.clone();
                long.push(leaf_hash(b"x"));
                assert!(verify_consistency(old, size, &old_root, &root, &long).is_err());
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_an_independent_implementation(size in 1u64..600, pick in any::<u64>(), cut in any::<u64>()) {
            let index = pick % size;
            let old = 1 + cut % size;
            let mut other = ct_merkle::mem_backed_tree::MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
            for i in 0..size {
                other.push(i.to_be_bytes().to_vec());
            }
            let tree = leaves(size);
            let (root, their_root) = (root_at(&tree, size).unwrap(), other.root());
            prop_assert_eq!(root.0.as_slice(), their_root.as_bytes().as_slice());
            let ours: Vec<u8> = inclusion_proof(&tree, index, size).unwrap().iter().flat_map(|h| h.0).collect();
            let theirs = other.prove_inclusion(usize::try_from(index).unwrap());
            prop_assert_eq!(ours.as_slice(), theirs.as_bytes());
            if old < size {
                let ours: Vec<u8> = consistency_proof(&tree, old, size).unwrap().iter().flat_map(|h| h.0).collect();
                let added = usize::try_from(size - old).unwrap();
                let theirs = other.prove_consistency(added);
                prop_assert_eq!(ours.as_slice(), theirs.as_bytes());
            }
        }
    }
}
