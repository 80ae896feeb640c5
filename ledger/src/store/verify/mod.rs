//! Full verification: every entry against chain, tree, disclosures, checkpoints, indexes and lock.
//!
//! It recomputes everything from the bytes and trusts nothing that is stored beside them. It goes on after a
//! failure, so that a report names all damage, but keeps at most [`FAILURES_MAX`] of them.

mod content;
mod entries;
mod erasures;
mod indexes;

use rocksdb::{DB, IteratorMode};

use self::entries::{Found, Given};
use super::error::LedgerError;
use super::families::{self, family};
use super::lock::LockFile;
use super::read::{Rows, unpack_blob};
use super::{Head, Ledger, restore};
use crate::anchor::Contradiction;
use crate::authority::Authority;
use crate::id::Digest;
use crate::note::{Checkpoint, NoteError};

/// Most failures that a report lists.
const FAILURES_MAX: usize = 100;

/// How much is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Entries against chain, tree, checkpoints and lock.
    Log,
    /// The log, and indexes, disclosed values and raw bodies against it.
    Everything,
}

/// How a verification goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyOptions {
    /// How much is verified.
    pub depth: Depth,
    /// Threads that share the work.
    pub threads: usize,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { depth: Depth::Everything, threads }
    }
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Disclosures checked against their digests.
    pub disclosures: u64,
    /// Raw bodies and archives checked against their digests.
    pub blobs: u64,
    /// Checkpoints whose signature and root were checked.
    pub checkpoints: u64,
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

impl Report {
    /// Tells whether everything holds.
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }

    fn fail(&mut self, seq: Option<u64>, class: Class, detail: impl Into<String>) {
        self.failure(VerifyFailure { seq, class, detail: detail.into() });
    }

    fn failure(&mut self, failure: VerifyFailure) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(failure);
        } else {
            self.more_failures += 1;
        }
    }

    fn sort(&mut self) {
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
    /// A checkpoint is not signed by the ledger's key or signs something else.
    Checkpoint,
    /// The lock does not fit.
    Lock,
    /// A disclosed value is not the one that was committed to.
    Disclosure,
    /// A raw body does not have its digest.
    Blob,
    /// An index does not hold what the entries give.
    Index,
}

impl Class {
    /// Returns the name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "entry",
            Self::Chain => "chain",
            Self::Tree => "tree",
            Self::Key => "key",
            Self::Checkpoint => "checkpoint",
            Self::Lock => "lock",
            Self::Disclosure => "disclosure",
            Self::Blob => "blob",
            Self::Index => "index",
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
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
    pub(super) fn of_error(error: &LedgerError) -> Self {
        let (seq, class) = match error {
            LedgerError::RolledBack { have, .. } => (Some(*have), Class::Entry),
            LedgerError::Forked { .. } => (None, Class::Tree),
            LedgerError::Anchored { contradiction: Contradiction::RolledBack { have, .. }, .. } => {
                (Some(*have), Class::Entry)
            }
            LedgerError::Anchored { .. } => (None, Class::Tree),
            LedgerError::Damaged { .. } => (None, Class::Entry),
            _ => (None, Class::Lock),
        };
        Self { seq, class, detail: error.to_string() }
    }
}

impl Ledger {
    /// Checks everything on all cores. `progress` is told (done, all).
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, LedgerError> {
        self.verify_with(VerifyOptions::default(), progress)
    }

    /// Checks the ledger. `progress` is told (done, all).
    pub fn verify_with(
        &self,
        options: VerifyOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Report, LedgerError> {
        let head = self.head();
        let db = &self.inner.db;
        // Every entry is looked at once for the log, and once more for what stands beside it.
        let all = if options.depth == Depth::Everything { 2 * head.size } else { head.size };
        let mut report = Report { size: head.size, failures: self.inner.doubts.clone(), ..Report::default() };
        let lock = LockFile::open(&self.inner.lock_path, false).map(|(_, lock)| lock);
        let last_link = lock
            .as_ref()
            .ok()
            .filter(|lock| !self.inner.detached && lock.acked == head.size)
            .map(|lock| lock.link.clone());
        let sizes = self.checkpoint_sizes(head, &mut report)?;
        let authority = self.authority();
        report.unsigned = head.size - sizes.last().copied().unwrap_or(0).min(head.size);
        let given = Given {
            db,
            authority: &authority,
            genesis: self.inner.genesis,
            size: head.size,
            last_link,
            sizes: &sizes,
        };
        let found = entries::check(&given, options.threads, &mut report, &mut |done| progress(done, all))?;
        if let Some(root) = found.root {
            report.root = root.to_string();
            if root != head.root {
                report.fail(None, Class::Tree, format!("root is {root}, expected {}", head.root));
            }
        }
        self.check_checkpoints(&found, &sizes, head, &mut report)?;
        match lock {
            // A backup has no lock of its own; what it is restored against was looked at before.
            _ if self.inner.detached => {}
            Ok(lock) => self.check_lock(&lock, &found, &mut report)?,
            // One that could not be read then is among the doubts.
            Err(_) if !self.inner.doubts.is_empty() => {}
            Err(error) => report.fail(None, Class::Lock, error.to_string()),
        }
        if options.depth == Depth::Everything {
            content::check(self, head.size, options.threads, &mut report, &mut |done| {
                progress(head.size + done, all);
            })?;
            self.check_blobs(&mut report)?;
        }
        report.sort();
        progress(all, all);
        Ok(report)
    }

    fn checkpoint_sizes(&self, head: Head, report: &mut Report) -> Result<Vec<u64>, LedgerError> {
        let mut sizes = Vec::new();
        for row in checkpoint_rows(&self.inner.db)? {
            match row {
                Ok((size, _)) if size <= head.size => sizes.push(size),
                // A reader looks at a fixed position and leaves newer checkpoints alone.
                Ok(_) if !self.is_writer() => break,
                // The writer goes on while it is verified, and signs only what it has.
                Ok((size, _)) if size <= self.head().size => {}
                Ok((size, _)) => {
                    let detail = format!("signs {size} entries, more than there are");
                    report.fail(Some(size), Class::Checkpoint, detail);
                }
                Err(error) => report.fail(None, Class::Checkpoint, error.to_string()),
            }
        }
        Ok(sizes)
    }

    fn check_checkpoints(
        &self,
        found: &Found,
        sizes: &[u64],
        head: Head,
        report: &mut Report,
    ) -> Result<(), LedgerError> {
        let opened_with = self.authority();
        let authority = found.authority.as_ref().unwrap_or(&opened_with);
        for row in checkpoint_rows(&self.inner.db)? {
            let Ok((size, note)) = row else { continue };
            // Signed since the verification began, also over the very head that it is about: the writer does not wait.
            if sizes.binary_search(&size).is_err() {
                continue;
            }
            report.checkpoints += 1;
            report.revoked_checkpoints += u64::from(authority.check_trusted(size).is_err());
            let signed = signed_by_all(authority, &note, size, head.size);
            let failure = match (signed, found.roots.get(&size)) {
                (Err(error), _) => error.to_string(),
                (Ok(signed), _) if signed.size != size => format!("it signs {} entries", signed.size),
                (Ok(_), None) if size == 0 => "signs an empty log".to_owned(),
                (Ok(_), None) => format!("it signs {size} entries, not all of which can be read"),
                (Ok(signed), Some(root)) if signed.root != *root => {
                    format!("it signs root {}, computed {root}", signed.root)
                }
                _ => continue,
            };
            report.fail(Some(size), Class::Checkpoint, failure);
        }
        Ok(())
    }

    fn check_lock(
        &self,
        lock: &super::lock::LockState,
        found: &Found,
        report: &mut Report,
    ) -> Result<(), LedgerError> {
        if lock.origin != self.origin() && restore::pending_origin(lock) != Some(&*lock.origin) {
            report.fail(None, Class::Lock, format!("it belongs to log `{}`", lock.origin));
        } else if lock.acked < report.size && !self.is_writer() {
            let detail =
                format!("it acknowledges {} entries, {} when this reader opened", lock.acked, report.size);
            report.fail(None, Class::Lock, detail);
        } else if lock.acked <= report.size && found.root.is_some() {
            // Of a ledger that is being written the lock may have moved on, and then it is not looked at.
            // At its own size the root was compared already.
            if lock.acked < report.size && lock.root() != Some(self.root_at(lock.acked)?) {
                report.fail(None, Class::Lock, "the acknowledged root is not the root of the entries");
            }
        }
        Ok(())
    }

    fn check_blobs(&self, report: &mut Report) -> Result<(), LedgerError> {
        let db = &self.inner.db;
        for row in db.iterator_cf(family(db, families::BLOBS)?, IteratorMode::Start) {
            match row {
                Ok((key, packed)) => {
                    report.blobs += 1;
                    let checked =
                        <[u8; 32]>::try_from(&*key).map_err(|_| "a key is not a digest".to_owned()).and_then(
                            |key| unpack_blob(&Digest(key), &packed).map_err(|error| error.to_string()),
                        );
                    if let Err(detail) = checked {
                        report.fail(None, Class::Blob, detail);
                    }
                }
                Err(error) => {
                    report.fail(None, Class::Blob, error.to_string());
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Verifies a checkpoint with every key that answers for its size: over a rotation those are two. One of the two may be
/// missing only while the rotation is the last entry: it is brought to its end when the ledger is opened for writing.
fn signed_by_all(authority: &Authority, note: &str, size: u64, head: u64) -> Result<Checkpoint, NoteError> {
    for span in authority.log_keys_at(size) {
        match Checkpoint::verify(note, &span.key) {
            Err(NoteError::Unsigned { .. }) if size == head => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
    }
    authority.verify_checkpoint(note)
}

/// Reads the checkpoints in order of size.
fn checkpoint_rows(db: &DB) -> Result<Rows<'_, (u64, String)>, LedgerError> {
    let damaged = || LedgerError::Damaged {
        place: format!("row of `{}`", families::CHECKPOINTS),
        detail: "is not a checkpoint".to_owned(),
    };
    let rows = db.iterator_cf(family(db, families::CHECKPOINTS)?, IteratorMode::Start);
    Ok(Box::new(rows.map(move |row| {
        let (key, note) = row?;
        let size = families::seq_of_key(&key).ok_or_else(damaged)?;
        Ok((size, String::from_utf8(note.into_vec()).map_err(|_| damaged())?))
    })))
}
