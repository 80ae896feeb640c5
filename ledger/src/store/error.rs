//! Errors of the store, by operation.

use std::io;
use std::path::PathBuf;

use rocksdb::ErrorKind;

use crate::anchor::{AnchorError, Contradiction};
use crate::canon::CanonError;
use crate::clock::EntropyError;
use crate::disclosure::DisclosureError;
use crate::key::KeyError;
use crate::merkle::Hash;
use crate::note::NoteError;
use crate::signer::{SignerConfigError, SignerError};

/// Why the ledger cannot be created, opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The directory holds no ledger.
    #[error("{} is not a ledger: it has no verdict.json", path.display())]
    NotALedger {
        /// Directory.
        path: PathBuf,
    },
    /// The directory is in use by something else.
    #[error("{} is not empty; a ledger is created in an empty or missing directory", path.display())]
    NotEmpty {
        /// Directory.
        path: PathBuf,
    },
    /// A lock file says that a ledger was here.
    #[error("lock file {} exists: a ledger with this lock was created before", path.display())]
    LockExists {
        /// Lock file.
        path: PathBuf,
    },
    /// The settings file cannot be used.
    #[error("{}: {detail}", path.display())]
    Settings {
        /// File.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A ledger of a format that this version does not know.
    #[error("ledger format {found} is newer than format {known}, the newest that this version reads")]
    Newer {
        /// Format found.
        found: u32,
        /// Newest format known.
        known: u32,
    },
    /// Rows of a version that this version does not know.
    #[error("the ledger's rows have version {found}, and this version of the program reads version {known}")]
    Rows {
        /// Version found.
        found: u32,
        /// Version known.
        known: u32,
    },
    /// The indexes are being made again, or were when something stopped it.
    #[error("the ledger's indexes are being rebuilt, or a rebuild was cut short")]
    Rebuilding,
    /// A reader cannot follow the writer to where it is now; what it has seen it still has.
    #[error(
        "this reader cannot follow the writer, which deleted files, rebuilt indexes or cut a torn log since; open the ledger again"
    )]
    Reopen,
    /// Another process writes the ledger.
    #[error("{} is being written by another process", path.display())]
    Busy {
        /// Directory.
        path: PathBuf,
    },
    /// The lock file is missing.
    #[error("lock file {} is missing, so nobody can tell whether the ledger was cut or rolled back", path.display())]
    LockMissing {
        /// Lock file.
        path: PathBuf,
    },
    /// The lock file is damaged or belongs to another ledger.
    #[error("lock file {}: {detail}", path.display())]
    LockDamaged {
        /// Lock file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The database has fewer entries than were acknowledged.
    #[error("the ledger was cut or rolled back: entries {have}..{want} were acknowledged and are missing")]
    RolledBack {
        /// Entries in the database.
        have: u64,
        /// Entries acknowledged.
        want: u64,
    },
    /// The database does not have the root that was acknowledged.
    #[error(
        "the ledger was rewritten: the root of its first {size} entries is {got}, acknowledged was {want}"
    )]
    Forked {
        /// Acknowledged size.
        size: u64,
        /// Root in the database.
        got: Hash,
        /// Root acknowledged.
        want: Hash,
    },
    /// An anchor holds a checkpoint that the ledger contradicts, whatever the lock says.
    #[error("{contradiction}; anchor: {anchor}")]
    Anchored {
        /// Where the checkpoint was found.
        anchor: String,
        /// How the ledger contradicts it.
        #[source]
        contradiction: Contradiction,
    },
    /// A file of anchors cannot be read, or none of its records is a checkpoint of this ledger.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// Anchors of an earlier ledger with this lock are there.
    #[error("{} exists: a ledger with this lock was anchored before", path.display())]
    AnchorsExist {
        /// Anchor log.
        path: PathBuf,
    },
    /// Stored bytes are not what was written.
    #[error("{place}: {detail}")]
    Damaged {
        /// Where.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// Somebody ended a verification before it was done.
    #[error("the verification was ended before it was done")]
    Stopped,
    /// A position beyond the end.
    #[error("position {seq} is beyond the end of the ledger, which has {size} entries")]
    OutOfRange {
        /// Position asked for.
        seq: u64,
        /// Number of entries.
        size: u64,
    },
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[source] rocksdb::Error),
    /// A file failed.
    #[error("cannot access {}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An external signer is set up wrongly.
    #[error(transparent)]
    SignerConfig(#[from] SignerConfigError),
    /// A signer does not sign.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// A rotation has its entry and not yet its checkpoint.
    #[error(
        "the rotation of the log key is not finished: the checkpoint of size {size} is not signed: {detail}"
    )]
    Rotation {
        /// Size of the checkpoint that both keys must sign.
        size: u64,
        /// Why not.
        detail: String,
    },
    /// A key cannot be rotated or revoked so.
    #[error("{0}")]
    KeyChange(String),
    /// An entry about keys, or about a restore, was not written.
    #[error("the entry was not written")]
    Append(#[from] AppendError),
    /// There is nothing to restore, or not from here.
    #[error("{0}")]
    Restore(String),
    /// The origin cannot name a log, or a checkpoint is not one.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The genesis entry could not be written.
    #[error("cannot write the first entry")]
    Genesis(#[source] Box<AppendError>),
}

impl From<rocksdb::Error> for LedgerError {
    fn from(error: rocksdb::Error) -> Self {
        match error.kind() {
            // Bytes that are not those that were written; its text names the file and the offset.
            ErrorKind::Corruption => {
                Self::Damaged { place: "database".to_owned(), detail: error.to_string() }
            }
            _ => Self::Database(error),
        }
    }
}

impl LedgerError {
    /// Tells whether the ledger contradicts its lock or an anchor: it must not be served or trusted.
    pub const fn is_untrusted(&self) -> bool {
        matches!(
            self,
            Self::Anchored { .. }
                | Self::Anchor(AnchorError::Damaged { .. })
                | Self::LockMissing { .. }
                | Self::LockDamaged { .. }
                | Self::RolledBack { .. }
                | Self::Forked { .. }
        )
    }
}

/// Why an append was not acknowledged. Unless the variant is [`AppendError::Storage`] or
/// [`AppendError::Poisoned`], nothing of the batch was written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A record without an id.
    #[error("record {index} has no `id` of 1 to {max} bytes without control characters")]
    Id {
        /// Place in the batch.
        index: usize,
        /// Longest id.
        max: usize,
    },
    /// A record that does not fit into an entry.
    #[error(
        "record {index} (`{id}`) takes {bytes} bytes without its disclosed members, more than the limit of {max}"
    )]
    TooLarge {
        /// Place in the batch.
        index: usize,
        /// Id.
        id: String,
        /// Size.
        bytes: usize,
        /// Limit.
        max: usize,
    },
    /// A record without canonical form.
    #[error("record {index} (`{id}`): {source}")]
    Canon {
        /// Place in the batch.
        index: usize,
        /// Id.
        id: String,
        /// Cause.
        #[source]
        source: CanonError,
    },
    /// A member that cannot be disclosed.
    #[error("record {index} (`{id}`): {source}")]
    Disclosure {
        /// Place in the batch.
        index: usize,
        /// Id.
        id: String,
        /// Cause.
        #[source]
        source: DisclosureError,
    },
    /// A type or stream name that is empty or too long.
    #[error("record {index} (`{id}`): {what} must have 1 to {max} bytes")]
    Name {
        /// Place in the batch.
        index: usize,
        /// Id.
        id: String,
        /// What.
        what: &'static str,
        /// Limit.
        max: usize,
    },
    /// Too much in one batch.
    #[error("the batch has {got} {what}, more than the limit of {max}; split it")]
    BatchTooLarge {
        /// What is counted.
        what: &'static str,
        /// Count.
        got: usize,
        /// Limit.
        max: usize,
    },
    /// No randomness for salts and nonces.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// A record of a type that only the ledger itself writes.
    #[error("record {index} (`{id}`): entries of type `{kind}` are written by the ledger itself")]
    Reserved {
        /// Place in the batch.
        index: usize,
        /// Id.
        id: String,
        /// Type.
        kind: String,
    },
    /// Everything that was acknowledged is durable, but its checkpoint could not be signed.
    #[error(
        "the checkpoint was not signed ({detail}); what was appended is durable, and signing is tried again"
    )]
    Unsigned {
        /// What the signer said.
        detail: String,
    },
    /// The ledger was opened for reading.
    #[error("the ledger was opened for reading only")]
    ReadOnly,
    /// The write or its flush failed. Whether it reached the disk is unknown; nothing was acknowledged.
    #[error("the write failed and nothing was acknowledged: {detail}")]
    Storage {
        /// Text of the database or the operating system.
        detail: String,
        /// True when the disk is full.
        full: bool,
    },
    /// An earlier write failed; the ledger must be reopened before it accepts anything.
    #[error("an earlier write failed ({detail}); reopen the ledger")]
    Poisoned {
        /// The earlier failure.
        detail: String,
    },
}
