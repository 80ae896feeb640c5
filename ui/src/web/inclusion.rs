//! One entry's place in the log, recomputed from its bytes.

use verdict_ledger::Ledger;
use verdict_ledger::merkle::{self, Hash};
use verdict_ledger::note::{Checkpoint, NoteError, TlogProof};

use super::error::PageError;

/// On which side of the path a sibling stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The sibling is hashed first.
    Left,
    /// The sibling is hashed second.
    Right,
}

/// One step from the leaf to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Side of the sibling.
    pub(crate) side: Side,
    /// The sibling.
    pub(crate) sibling: Hash,
    /// Hash of both.
    pub(crate) node: Hash,
}

/// What the recomputation says.
#[derive(Debug, Clone)]
pub(crate) enum Inclusion {
    /// The bytes lead to the root of a checkpoint with a good signature.
    Verified {
        /// Checkpoint.
        checkpoint: Checkpoint,
        /// Path.
        steps: Vec<Step>,
        /// The proof as a file.
        proof: TlogProof,
    },
    /// There is no checkpoint yet, or the newest one ends before the entry.
    NotCovered {
        /// Size of the newest checkpoint.
        size: Option<u64>,
    },
    /// The proof or the checkpoint does not hold.
    Failed {
        /// What does not hold.
        error: NoteError,
        /// Size of the checkpoint, where it could be read.
        size: Option<u64>,
        /// Path as far as it was computed.
        steps: Vec<Step>,
    },
}

/// Proves an entry against the newest checkpoint and verifies the proof from the bytes up.
pub(crate) fn check(ledger: &Ledger, seq: u64, entry: &[u8]) -> Result<Inclusion, PageError> {
    let Some(note) = ledger.checkpoint()? else { return Ok(Inclusion::NotCovered { size: None }) };
    let failed = |error, size, steps| Ok(Inclusion::Failed { error, size, steps });
    let checkpoint = match ledger.verify_checkpoint(&note) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return failed(error, None, Vec::new()),
    };
    if seq >= checkpoint.size {
        return Ok(Inclusion::NotCovered { size: Some(checkpoint.size) });
    }
    let key = ledger.authority().log_key_at(checkpoint.size).clone();
    let hashes = ledger.inclusion_proof(seq, checkpoint.size)?;
    let steps = path(seq, checkpoint.size, merkle::leaf_hash(entry), &hashes);
    let proof = TlogProof { index: seq, hashes, checkpoint: note };
    match proof.verify(entry, &key) {
        Ok(checkpoint) => Ok(Inclusion::Verified { checkpoint, steps, proof }),
        Err(error) => failed(error, Some(checkpoint.size), steps),
    }
}

/// Computes the nodes on the way from a leaf to the root, for showing. The verdict is [`TlogProof::verify`]'s.
fn path(index: u64, size: u64, leaf: Hash, proof: &[Hash]) -> Vec<Step> {
    let (mut node, mut last) = (index, size.saturating_sub(1));
    let mut hash = leaf;
    let mut steps = Vec::with_capacity(proof.len());
    for sibling in proof {
        let side = if node & 1 == 1 || node == last { Side::Left } else { Side::Right };
        hash = match side {
            Side::Left => merkle::node_hash(sibling, &hash),
            Side::Right => merkle::node_hash(&hash, sibling),
        };
        if side == Side::Left {
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        }
        node >>= 1;
        last >>= 1;
        steps.push(Step { side, sibling: *sibling, node: hash });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_path_ends_at_the_root_for_every_leaf_of_small_trees() {
        for size in 1_u64..20 {
            let leaves: Vec<Hash> = (0..size).map(|i| merkle::leaf_hash(&i.to_be_bytes())).collect();
            let root = merkle::root_of(leaves.iter().copied());
            for index in 0..size {
                let proof = naive_proof(&leaves, usize::try_from(index).unwrap());
                let leaf = leaves[usize::try_from(index).unwrap()];
                merkle::verify_inclusion(index, size, &leaf, &proof, &root).unwrap();
                let end = path(index, size, leaf, &proof).last().map_or(leaf, |step| step.node);
                assert_eq!(end, root, "leaf {index} of {size}");
            }
        }
    }

    /// RFC 6962 section 2.1.1, by the definition.
    fn naive_proof(leaves: &[Hash], index: usize) -> Vec<Hash> {
        if leaves.len() < 2 {
            return Vec::new();
        }
        let split = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(split);
        if index < split {
            let mut proof = naive_proof(left, index);
            proof.push(merkle::root_of(right.iter().copied()));
            proof
        } else {
            let mut proof = naive_proof(right, index - split);
            proof.push(merkle::root_of(left.iter().copied()));
            proof
        }
    }
}
