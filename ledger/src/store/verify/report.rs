//! What a verification found, and how much it looked at.

use crate::anchor::Contradiction;
use crate::store::error::LedgerError;

/// Most failures that a report lists.
const FAILURES_MAX: usize = 100;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Entries that are stored and not acknowledged: at most one group commit, as a crash leaves it.
    pub unacknowledged: u64,
    /// Stored hashes of the tree compared with those of the entries.
    pub tree_hashes: u64,
    /// Disclosures checked against their digests.
    pub disclosures: u64,
    /// Data keys that could be unwrapped.
    pub data_keys: u64,
    /// Raw bodies and archives checked against their digests.
    pub blobs: u64,
    /// Checkpoints whose signature and root were checked.
    pub checkpoints: u64,
    /// Whole slots of the lock.
    pub lock_slots: u64,
    /// Index rows checked against the entries.
    pub index_rows: u64,
    /// Disclosures that the entries commit to and that cannot be read: erased, or lost.
    pub withheld: u64,
    /// Size of the log.
    pub size: u64,
    /// Entries after the newest checkpoint: not signed yet.
    pub unsigned: u64,
    /// Checkpoints whose key was revoked for their size: only later ones speak for their entries.
    pub revoked_checkpoints: u64,
    /// Root, hex; empty when an entry cannot be read.
    pub root: String,
    /// Failures in order of position; those without one come last. Empty means verified.
    pub failures: Vec<VerifyFailure>,
    /// Failures that are not listed.
    pub more_failures: u64,
}

/// What a report comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Everything holds.
    Verified,
    /// What is stored contradicts itself: something was changed or lost.
    Damaged,
    /// What is stored is consistent, and not what was acknowledged and signed: rolled back, forked, or without a lock
    /// that could tell.
    Untrusted,
}

impl Report {
    /// Tells whether everything holds.
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }

    /// Says what the failures come to.
    pub fn standing(&self) -> Standing {
        if self.is_clean() {
            Standing::Verified
        } else if self.failures.iter().any(|failure| failure.class == Class::RolledBack) {
            // What is left behind of the entries that are gone is damage too, and says less.
            Standing::Untrusted
        } else if self.more_failures == 0
            && self.failures.iter().all(|failure| failure.class.is_contradiction())
        {
            Standing::Untrusted
        } else {
            Standing::Damaged
        }
    }

    /// Returns the failure to look at first: the one with the lowest position, else the first without one.
    pub fn first_bad(&self) -> Option<&VerifyFailure> {
        self.failures.first()
    }

    pub(super) fn fail(&mut self, seq: Option<u64>, class: Class, detail: impl Into<String>) {
        self.failure(VerifyFailure { seq, class, detail: detail.into() });
    }

    pub(super) fn failure(&mut self, failure: VerifyFailure) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(failure);
            return;
        }
        self.more_failures += 1;
        // Parts of the log are not looked at in order, and the first bad place must be among those that are listed.
        let place = |failure: &VerifyFailure| failure.seq.unwrap_or(u64::MAX);
        if let Some(last) = self.failures.iter_mut().max_by_key(|failure| place(failure))
            && place(&failure) < place(last)
        {
            *last = failure;
        }
    }

    pub(super) fn sort(&mut self) {
        // Stable: at one position what was found first explains the rest.
        self.failures.sort_by_key(|failure| failure.seq.unwrap_or(u64::MAX));
    }
}

/// Class of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// An entry is missing, cannot be read, or says something wrong of itself.
    Entry,
    /// An entry is not the one that the next is linked to.
    Chain,
    /// The stored tree is not that of the entries.
    Tree,
    /// An entry about keys does not continue those before it.
    Key,
    /// A checkpoint is not signed by the ledger's key, or is not where it belongs.
    Checkpoint,
    /// The lock is missing, damaged or another ledger's.
    Lock,
    /// The file of anchors beside the lock is damaged.
    Anchor,
    /// Entries that were acknowledged are not there: the ledger was cut or rolled back.
    RolledBack,
    /// The entries are not those that were acknowledged or signed.
    Forked,
    /// A disclosed value is not the one that was committed to, or is gone without an erasure.
    Disclosure,
    /// A raw body does not have its digest, or is gone without an erasure.
    Blob,
    /// An index does not hold what the entries give.
    Index,
    /// A file beside the database is not the one that the ledger commits to.
    File,
    /// The database holds what no ledger writes.
    Database,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 14] = [
        Self::Entry,
        Self::Chain,
        Self::Tree,
        Self::Key,
        Self::Checkpoint,
        Self::Lock,
        Self::Anchor,
        Self::RolledBack,
        Self::Forked,
        Self::Disclosure,
        Self::Blob,
        Self::Index,
        Self::File,
        Self::Database,
    ];

    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Chain => "chain",
            Self::Tree => "tree",
            Self::Key => "key",
            Self::Checkpoint => "checkpoint",
            Self::Lock => "lock",
            Self::Anchor => "anchor",
            Self::RolledBack => "rolled_back",
            Self::Forked => "forked",
            Self::Disclosure => "disclosure",
            Self::Blob => "blob",
            Self::Index => "index",
            Self::File => "file",
            Self::Database => "database",
        }
    }

    /// Tells whether the stored ledger may be whole and only contradicts what stands outside it.
    pub const fn is_contradiction(self) -> bool {
        matches!(self, Self::Lock | Self::Anchor | Self::RolledBack | Self::Forked)
    }

    /// Says what can be done about damage of this class.
    pub const fn way_out(self) -> &'static str {
        match self {
            Self::Entry | Self::Chain | Self::Key => {
                "stop writing, keep the directory and its lock as they are, and restore a backup that has all \
                 acknowledged entries"
            }
            Self::Checkpoint => {
                "compare with the checkpoints that others keep; what the entries hold is told by chain and tree"
            }
            Self::Lock => {
                "name where the lock is with --lock PATH, or restore it; after a crash, open the ledger for writing \
                 once: it brings the lock level"
            }
            Self::Anchor => {
                "compare with the anchors that are kept elsewhere (`verdict anchor verify`), then move the damaged \
                 file away"
            }
            Self::RolledBack => {
                "the missing entries were acknowledged: restore the directory that has them, never append to this one"
            }
            Self::Forked => {
                "never append to it; find the copy that agrees with the lock and with checkpoints that others keep"
            }
            Self::Disclosure => {
                "the log holds, and the value cannot be believed: restore it from a backup, or record its erasure"
            }
            Self::Blob => "the log holds: restore the raw body from a backup",
            Self::Tree | Self::Index => {
                "if the log itself holds, make what follows from it again with `verdict rebuild`; until then queries may \
                 miss entries and proofs may fail"
            }
            Self::File => "restore the file from a backup of the ledger directory",
            Self::Database => {
                "somebody else wrote into the database: find out who, and restore a backup if in doubt"
            }
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VerifyFailure {
    /// Position, where the failure has one.
    pub seq: Option<u64>,
    /// Class.
    pub class: Class,
    /// What is wrong.
    pub detail: String,
}

impl VerifyFailure {
    /// Says what an error means that came before the entries could be looked at.
    pub(in crate::store) fn of_error(error: &LedgerError) -> Self {
        let (seq, class) = match error {
            LedgerError::RolledBack { have, .. } => (Some(*have), Class::RolledBack),
            LedgerError::Forked { .. } => (None, Class::Forked),
            LedgerError::Anchored { contradiction: Contradiction::RolledBack { have, .. }, .. } => {
                (Some(*have), Class::RolledBack)
            }
            LedgerError::Anchored { .. } => (None, Class::Forked),
            LedgerError::Anchor(_) => (None, Class::Anchor),
            LedgerError::Damaged { .. } => (None, Class::Entry),
            LedgerError::Settings { .. } | LedgerError::Key(_) => (None, Class::File),
            _ => (None, Class::Lock),
        };
        Self { seq, class, detail: error.to_string() }
    }
}
