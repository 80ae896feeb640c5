//! The store: an embedded RocksDB log with its indexes, tree, erasable values and lock.
//!
//! `format.md` in the crate's docs specifies every byte. Everything above this module sees only [`Ledger`].

mod anchored;
mod codec;
mod commit;
mod custody;
pub mod erasure;
mod error;
mod families;
mod history;
mod layout;
mod lock;
mod open;
mod pack;
mod postings;
mod prepare;
mod query;
mod queue;
mod read;
#[cfg(test)]
mod readers;
mod rebuild;
mod recover;
mod restore;
mod rotate;
mod seal;
mod sequence;
mod shelf;
mod sign;
mod tail;
mod terms;
mod tiles;
mod tree;
mod verify;
mod wal;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rocksdb::DB;

pub use error::{AppendError, LedgerError};
pub use query::{Matches, Order, Query, QueryError, Reads, User};
pub use read::Rows;
pub use rebuild::Rebuilt;
pub use verify::{Class, Depth, Report, Standing, VerifyFailure, VerifyOptions};

pub use custody::KeySource;
pub use restore::{RestoreOptions, RestorePlan};
pub use rotate::{Change, KeyFile, Revoking, Rotation};
/// Projections that are kept as files beside the database.
pub mod projection {
    pub use super::shelf::{Shelf, decode, encode};
}
pub use sign::SigningFailure;

use crate::anchor::AnchorFile;
use crate::authority::{AUTHORITY_KINDS, Authority, Role};
use crate::chain::Link;
use crate::clock::{Clock, Entropy, SystemEntropy};
use crate::id::TraceId;
use crate::key::{NoPassphrases, Passphrase, Passphrases, Protection};
use crate::merkle::Hash;
use crate::note::{Checkpoint, NoteError, VerifierKey};
use crate::record::{Batch, NewRecord, Receipt};
use crate::signer::Signer;
use history::SharedAuthority;
use layout::{Layout, Settings};
use queue::WriterHandle;
use seal::Sealer;
use sign::SharedFailure;
use terms::Tag;

/// Tree levels in a C2SP tile: only every eighth level is stored, the ones between are computed.
const TILE_LEVELS: u32 = 8;

/// How to create a ledger.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Name of the log in checkpoints, like `example.com/verdict/prod`.
    pub origin: String,
    /// Lock file; best on another volume. `None`: beside the directory.
    pub lock: Option<PathBuf>,
    /// Where keys, salts and nonces come from.
    pub entropy: Arc<dyn Entropy>,
    /// Encrypts the key files when there is one.
    pub passphrase: Option<Passphrase>,
    /// A `*.signer.toml` that says how to reach a log key that exists elsewhere. `None`: a new key in a file.
    pub log_signer: Option<PathBuf>,
    /// The same for the bundle key.
    pub bundle_signer: Option<PathBuf>,
}

impl InitOptions {
    /// Takes the defaults for everything but the origin.
    pub fn new(origin: impl Into<String>) -> Self {
        Self {
            origin: origin.into(),
            lock: None,
            entropy: Arc::new(SystemEntropy),
            passphrase: None,
            log_signer: None,
            bundle_signer: None,
        }
    }

    fn protection(&self) -> Protection<'_> {
        match &self.passphrase {
            Some(passphrase) => Protection::Encrypted { passphrase, entropy: &*self.entropy },
            None => Protection::Plain,
        }
    }
}

/// How to open a ledger.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Lock file when it is not where the ledger says.
    pub lock: Option<PathBuf>,
    /// Files of anchors elsewhere that the ledger must not contradict, beside the anchor log of the lock. One that
    /// is missing is passed over: a volume that is not mounted must not stop what is not shown to be wrong.
    pub anchors: Vec<PathBuf>,
    /// Where salts and nonces come from.
    pub entropy: Arc<dyn Entropy>,
    /// Where the passphrases of encrypted key files come from.
    pub passphrases: Arc<dyn Passphrases>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            lock: None,
            anchors: Vec::new(),
            entropy: Arc::new(SystemEntropy),
            passphrases: Arc::new(NoPassphrases),
        }
    }
}

/// Size and root of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Head {
    /// Number of entries.
    pub size: u64,
    /// RFC 6962 root.
    pub root: Hash,
}

/// A trace and where it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRef {
    /// The trace.
    pub trace_id: TraceId,
    /// Position of its first event.
    pub first_seq: u64,
}

/// An indexed text that events can be found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// Entry type.
    Kind,
    /// Agent name, else id.
    Agent,
    /// Action name.
    Tool,
    /// Recorded effect.
    Effect,
    /// Rule that determined a recorded decision.
    Rule,
    /// Session.
    Session,
    /// Word of what is said in the clear: reason, code, names, type of the error.
    Word,
}

impl Index {
    const fn tag(self) -> Tag {
        match self {
            Self::Kind => Tag::Kind,
            Self::Agent => Tag::Agent,
            Self::Tool => Tag::Tool,
            Self::Effect => Tag::Effect,
            Self::Rule => Tag::Rule,
            Self::Session => Tag::Session,
            Self::Word => Tag::Word,
        }
    }
}

/// An open ledger; clones share it.
#[derive(Debug, Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// First, so that the writer settles and ends before the database closes.
    writer: Option<WriterHandle>,
    db: Arc<DB>,
    layout: Layout,
    lock_path: PathBuf,
    origin: String,
    /// What the first entry must have as its `prev`.
    genesis: Link,
    settings: Settings,
    authority: SharedAuthority,
    passphrases: Arc<dyn Passphrases>,
    signing: SharedFailure,
    /// True when it was opened without its lock: its head is whatever the database holds.
    detached: bool,
    head: Arc<RwLock<Head>>,
    /// Appends hold it shared, an erasure alone.
    gate: RwLock<()>,
    sealer: Arc<Sealer>,
    tail: tail::Tail,
    /// Working directory of a secondary instance, removed at the end.
    #[expect(dead_code, reason = "held for its destructor")]
    secondary: Option<open::SecondaryDir>,
    /// What spoke against the ledger when it was opened to be inspected.
    doubts: Vec<VerifyFailure>,
}

impl Ledger {
    /// Creates a ledger in an empty or missing directory: database, keys, lock file and genesis entry.
    pub fn init(dir: &Path, options: &InitOptions, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        open::init(dir, options, clock)
    }

    /// Opens a ledger for writing; one writer at a time. A ledger that contradicts its lock is refused.
    pub fn open(dir: &Path, options: &OpenOptions, clock: Arc<dyn Clock>) -> Result<Self, LedgerError> {
        open::open_writer(dir, options, clock)
    }

    /// Opens a ledger for reading at a fixed position, also while another process writes it.
    pub fn open_reader(dir: &Path, options: &OpenOptions) -> Result<Self, LedgerError> {
        open::open_reader(dir, options)
    }

    /// Opens a ledger for verification that [`Ledger::open_reader`] may refuse: what it would refuse is in the report,
    /// with the places that only a look at every entry can name. Nothing read from it is to be trusted.
    pub fn open_to_inspect(dir: &Path, options: &OpenOptions) -> Result<Self, LedgerError> {
        open::open_to_inspect(dir, options)
    }

    /// Makes everything again that follows from entries and disclosed values: indexes, tree hashes. The ledger must be
    /// open nowhere else. `progress` is told (done, all).
    pub fn rebuild(
        dir: &Path,
        options: &OpenOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Rebuilt, LedgerError> {
        rebuild::rebuild(dir, options, progress)
    }

    /// Lets a reader see what was acknowledged since it was opened; a writer always does. After
    /// [`LedgerError::Reopen`] the reader stays at its position, and another one has to be opened to see more.
    pub fn refresh(&self) -> Result<(), LedgerError> {
        if self.inner.writer.is_some() {
            return Ok(());
        }
        let (caught_up, authority) = open::catch_up(self)?;
        // The writer may have erased values of entries that were read before.
        self.inner.tail.forget();
        let mut head = self.inner.head.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have refreshed further in between.
        if caught_up.size > head.size {
            *head = caught_up;
            let mut held = self.inner.authority.write().unwrap_or_else(PoisonError::into_inner);
            *held = Arc::new(authority);
        }
        Ok(())
    }

    /// Appends; returns when the batch is durable. Blocks while the queue is full.
    pub fn append(&self, batch: Batch) -> Result<Receipt, AppendError> {
        let own = |record: &NewRecord| AUTHORITY_KINDS.contains(&record.kind.as_str());
        if let Some((index, record)) = batch.records.iter().enumerate().find(|(_, record)| own(record)) {
            let id = record.id().unwrap_or_default().to_owned();
            return Err(AppendError::Reserved { index, id, kind: record.kind.clone() });
        }
        self.append_own(batch)
    }

    /// Appends also what only the ledger itself may say.
    fn append_own(&self, batch: Batch) -> Result<Receipt, AppendError> {
        let writer = self.inner.writer.as_ref().ok_or(AppendError::ReadOnly)?;
        // From before anything is sealed until it is durable: see `erasure`.
        let _shared = self.inner.gate.read().unwrap_or_else(PoisonError::into_inner);
        writer.append(batch, &self.inner.sealer, &self.inner.origin)
    }

    /// Signs a checkpoint over the acknowledged head, if the last one is older, and brings the lock level.
    pub fn settle(&self) -> Result<(), AppendError> {
        self.inner.writer.as_ref().ok_or(AppendError::ReadOnly)?.settle()
    }

    /// Tells whether this is the writer.
    pub fn is_writer(&self) -> bool {
        self.inner.writer.is_some()
    }

    /// Returns the acknowledged head.
    pub fn head(&self) -> Head {
        *self.inner.head.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the origin.
    pub fn origin(&self) -> &str {
        &self.inner.origin
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        self.inner.layout.dir()
    }

    /// Returns the lock file.
    pub fn lock_path(&self) -> &Path {
        &self.inner.lock_path
    }

    /// Returns the anchor log that lies beside the lock; it need not be there.
    pub fn anchor_log(&self) -> AnchorFile {
        AnchorFile::beside_lock(&self.inner.lock_path)
    }

    /// Returns every key that a checkpoint of this ledger can have been signed with, the one in force last.
    pub fn checkpoint_keys(&self) -> Vec<VerifierKey> {
        self.authority().every_log_key()
    }

    /// Returns the newest checkpoint as it is given to others: with the lines of the witnesses that cosigned it, as
    /// far as the anchor log knows any.
    pub fn published_checkpoint(&self) -> Result<Option<String>, LedgerError> {
        let Some(newest) = self.checkpoint()? else { return Ok(None) };
        // Cosignatures are worth having, and no reason to withhold the checkpoint.
        let cosigned = self.cosigned_checkpoint().unwrap_or_default();
        let text = |note: &str| note.split_once("\n\n").map(|(text, _)| text.to_owned());
        Ok(Some(match cosigned {
            Some((_, note)) if text(&note) == text(&newest) => note,
            _ => newest,
        }))
    }

    /// Returns the newest checkpoint that witnesses cosigned, with their lines, as far as the anchor log knows.
    pub fn cosigned_checkpoint(&self) -> Result<Option<(Checkpoint, String)>, LedgerError> {
        Ok(self.anchor_log().cosigned(&self.checkpoint_keys())?)
    }

    /// Returns the verifier key (`origin+hash+base64`) that checkpoints are signed with now.
    pub fn verifier_key(&self) -> String {
        self.authority().current(Role::Log).to_string()
    }

    /// Returns the verifier key that evidence bundles are signed with now.
    pub fn bundle_verifier_key(&self) -> String {
        self.authority().current(Role::Bundle).to_string()
    }

    /// Returns the keys of the log over time, as its entries tell them.
    pub fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.inner.authority.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Verifies a checkpoint with the key that was in force at its size.
    pub fn verify_checkpoint(&self, note: &str) -> Result<Checkpoint, NoteError> {
        self.authority().verify_checkpoint(note)
    }

    /// Tells why the newest checkpoint is late; `None` when signing works. Only the writer knows.
    pub fn signing_failure(&self) -> Option<SigningFailure> {
        self.inner.signing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens what signs evidence bundles; it must be the key that the ledger names.
    pub fn bundle_signer(&self) -> Result<Arc<dyn Signer>, LedgerError> {
        custody::current(&self.inner.layout, &self.authority(), Role::Bundle, &*self.inner.passphrases)
    }
}
