//! Whether a ledger still contains what an anchored checkpoint says that it once was.

use crate::merkle::Hash;
use crate::note::Checkpoint;
use crate::store::Head;

/// How a ledger contradicts a checkpoint that it signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Entries are missing at the end.
    #[error("the ledger was cut or rolled back: entries {have}..{want} were anchored and are missing")]
    RolledBack {
        /// Entries in the ledger.
        have: u64,
        /// Entries that the checkpoint signs.
        want: u64,
    },
    /// The first `size` entries are others than those that were signed.
    #[error("the ledger was rewritten: the root of its first {size} entries is {got}, anchored was {want}")]
    Forked {
        /// Entries that the checkpoint signs.
        size: u64,
        /// Root in the ledger.
        got: Hash,
        /// Root in the checkpoint.
        want: Hash,
    },
}

/// Compares a checkpoint with a ledger. No proof is needed: whoever has the ledger computes the root.
pub fn compare<E>(
    checkpoint: &Checkpoint,
    head: Head,
    root_at: impl FnOnce(u64) -> Result<Hash, E>,
) -> Result<Option<Contradiction>, E> {
    let Checkpoint { size, root: want, .. } = *checkpoint;
    if size > head.size {
        return Ok(Some(Contradiction::RolledBack { have: head.size, want: size }));
    }
    let got = root_at(size)?;
    Ok((got != want).then_some(Contradiction::Forked { size, got, want }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{leaf_hash, root_of};

    #[test]
    fn what_is_missing_or_rewritten_is_named() {
        let leaves = [leaf_hash(b"a"), leaf_hash(b"b"), leaf_hash(b"c")];
        let root = |size: u64| root_of(leaves.into_iter().take(usize::try_from(size).unwrap()));
        let head = Head { size: 3, root: root(3) };
        let checkpoint = |size, root| Checkpoint { origin: "o".into(), size, root };
        let found = |checkpoint| compare(&checkpoint, head, |size| Ok::<_, ()>(root(size))).unwrap();
        for size in 0..=3 {
            assert_eq!(found(checkpoint(size, root(size))), None, "{size}");
        }
        assert_eq!(found(checkpoint(5, root(2))), Some(Contradiction::RolledBack { have: 3, want: 5 }));
        let want = root(1);
        assert_eq!(found(checkpoint(2, want)), Some(Contradiction::Forked { size: 2, got: root(2), want }));
    }
}
