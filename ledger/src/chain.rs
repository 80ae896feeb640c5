//! The BLAKE3 chain that links each entry to the one before it.
//!
//! It is for local verification and for naming the first bad entry; no external proof rests on it. It hashes the
//! same bytes as the tree, and a verification checks both for every entry.

use std::fmt;

use crate::merkle::Hash;

const ENTRY_CONTEXT: &str = "verdict 2026-11 entry chain v1";
const GENESIS_CONTEXT: &str = "verdict 2026-11 genesis v1";

/// A link of the chain: what the next entry's `prev` must say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Link(pub [u8; 32]);

impl Link {
    /// Hashes the exact bytes of an entry.
    pub fn of_entry(entry: &[u8]) -> Self {
        Self(blake3::derive_key(ENTRY_CONTEXT, entry))
    }

    /// Commits to what makes a ledger itself: its origin, its UUID and its first verifier key.
    pub fn genesis(origin: &str, uuid: &[u8; 16], verifier_key: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(GENESIS_CONTEXT);
        hasher
            .update(origin.as_bytes())
            .update(b"\n")
            .update(uuid)
            .update(b"\n")
            .update(verifier_key.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b3:{}", Hash(self.0))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({self})")
    }
}
