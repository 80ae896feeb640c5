//! Full verification: every entry against chain, tree, disclosures, checkpoints, indexes and lock.
//!
//! It recomputes everything from the bytes and trusts nothing that is stored beside them. It goes on after a
//! failure, so that a report names all damage, but keeps at most [`FAILURES_MAX`] of them. `docs/verification.md` says
//! what is checked by what.

#[cfg(test)]
mod bitflips;
mod content;
mod entries;
mod erasures;
#[cfg(test)]
mod fields;
mod files;
mod indexes;
mod report;
mod strays;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{DB, IteratorMode};

use self::entries::{Found, Given};
pub use self::report::{Class, Report, Standing, VerifyFailure};
use super::error::LedgerError;
use super::families::{self, family};
use super::lock::{LockFile, Slot};
use super::read::{Rows, unpack_blob};
use super::{Head, Ledger, history, restore};
use crate::authority::Authority;
use crate::id::Digest;
use crate::note::{Checkpoint, NoteError};

/// How much is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Entries against chain, tree, checkpoints and lock.
    Log,
    /// The log, and indexes, disclosed values and raw bodies against it.
    Everything,
}

/// How a verification goes about it.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// How much is verified.
    pub depth: Depth,
    /// Threads that share the work.
    pub threads: usize,
    /// Ends the verification early, with [`LedgerError::Stopped`], when it becomes true.
    pub stop: Arc<AtomicBool>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { depth: Depth::Everything, threads, stop: Arc::default() }
    }
}

impl Ledger {
    /// Checks everything on all cores. `progress` is told (done, all).
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, LedgerError> {
        self.verify_with(&VerifyOptions::default(), progress)
    }

    /// Checks the ledger. `progress` is told (done, all).
    pub fn verify_with(
        &self,
        options: &VerifyOptions,
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
            stop: &options.stop,
        };
        let found = entries::check(&given, options.threads, &mut report, &mut |done| progress(done, all))?;
        if let Some(root) = found.root {
            report.root = root.to_string();
            if root != head.root {
                report.fail(None, Class::Forked, format!("root is {root}, expected {}", head.root));
            }
        }
        let agreed = self.check_checkpoints(&found, &sizes, head, &mut report)?;
        // What was rewritten with all its links is found between two checkpoints, and no closer.
        for failure in report.failures.iter_mut().filter(|failure| failure.class == Class::Forked) {
            failure.detail.push_str(&format!("; the entries before {agreed} are those that were signed"));
        }
        match lock {
            // A backup has no lock of its own; what it is restored against was looked at before.
            _ if self.inner.detached => {}
            Ok(lock) => self.check_lock(&lock, &found, &mut report)?,
            // One that could not be read then is among the doubts.
            Err(_) if !self.inner.doubts.is_empty() => {}
            Err(error) => report.fail(None, Class::Lock, error.to_string()),
        }
        files::check(self, &mut report)?;
        strays::check_log(self, found.last, head.size, &mut report)?;
        if options.depth == Depth::Everything {
            content::check(self, head.size, options, &mut report, &mut |done| {
                progress(head.size + done, all);
            })?;
            self.check_blobs(&options.stop, &mut report)?;
            strays::check_database(self, &mut report)?;
        }
        report.sort();
        progress(all, all);
        Ok(report)
    }

    fn checkpoint_sizes(&self, head: Head, report: &mut Report) -> Result<Vec<u64>, LedgerError> {
        let inner = &self.inner;
        let mut sizes = Vec::new();
        for row in checkpoint_rows(&inner.db)? {
            match row {
                Ok((size, _)) if size <= head.size => sizes.push(size),
                // The ledger is written on while it is verified, and whoever writes it signs only what is there: with
                // a key that may have come into force since.
                Ok((size, note))
                    if strays::has_entry(&inner.db, size.saturating_sub(1))?
                        && history::load(&inner.db, &inner.settings, size).is_ok_and(|keys| {
                            keys.verify_checkpoint(&note).is_ok_and(|is| is.size == size)
                        }) => {}
                Ok((size, _)) => {
                    let detail =
                        format!("a checkpoint of {size} entries is stored, and there are {}", head.size);
                    report.fail(Some(head.size), Class::Checkpoint, detail);
                }
                Err(error) => report.fail(None, Class::Checkpoint, error.to_string()),
            }
        }
        Ok(sizes)
    }

    /// Returns the size of the newest checkpoint that can be trusted and agrees with the entries.
    fn check_checkpoints(
        &self,
        found: &Found,
        sizes: &[u64],
        head: Head,
        report: &mut Report,
    ) -> Result<u64, LedgerError> {
        let opened_with = self.authority();
        let authority = found.authority.as_ref().unwrap_or(&opened_with);
        let mut agreed = 0;
        for row in checkpoint_rows(&self.inner.db)? {
            let Ok((size, note)) = row else { continue };
            // Signed since the verification began, also over the very head that it is about: the writer does not wait.
            if sizes.binary_search(&size).is_err() {
                continue;
            }
            report.checkpoints += 1;
            let trusted = authority.check_trusted(size).is_ok();
            report.revoked_checkpoints += u64::from(!trusted);
            let signed = signed_by_all(authority, &note, size, head.size);
            let failure = match (signed, found.roots.get(&size)) {
                (Err(error), _) => error.to_string(),
                (Ok(signed), _) if signed.size != size => format!("it signs {} entries", signed.size),
                (Ok(_), None) if size == 0 => "signs an empty log".to_owned(),
                (Ok(_), None) => format!("it signs {size} entries, not all of which can be read"),
                (Ok(signed), Some(root)) if signed.root != *root => {
                    let detail = format!("the checkpoint signs root {}, computed {root}", signed.root);
                    report.fail(Some(size), Class::Forked, detail);
                    continue;
                }
                _ => {
                    agreed = if trusted { size } else { agreed };
                    continue;
                }
            };
            report.fail(Some(size), Class::Checkpoint, failure);
        }
        Ok(agreed)
    }

    fn check_lock(
        &self,
        lock: &super::lock::LockState,
        found: &Found,
        report: &mut Report,
    ) -> Result<(), LedgerError> {
        self.check_slots(report)?;
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
                report.fail(None, Class::Forked, "the acknowledged root is not the root of the entries");
            }
        }
        Ok(())
    }

    /// Checks both slots of the lock: the older one is what a torn write falls back on.
    fn check_slots(&self, report: &mut Report) -> Result<(), LedgerError> {
        for (number, slot) in (0..).zip(super::lock::slots(&self.inner.lock_path)?) {
            match slot {
                Slot::Empty => {}
                Slot::Whole(_) => report.lock_slots += 1,
                Slot::Damaged(why) => {
                    let detail = format!(
                        "slot {number} of {} {why}: changed, or cut short by a crash",
                        self.inner.lock_path.display()
                    );
                    report.fail(None, Class::Lock, detail);
                }
            }
        }
        Ok(())
    }

    fn check_blobs(&self, stop: &AtomicBool, report: &mut Report) -> Result<(), LedgerError> {
        let db = &self.inner.db;
        for row in db.iterator_cf(family(db, families::BLOBS)?, IteratorMode::Start) {
            go_on(stop)?;
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

/// Ends a verification that somebody wants to end.
fn go_on(stop: &AtomicBool) -> Result<(), LedgerError> {
    if stop.load(Ordering::Relaxed) { Err(LedgerError::Stopped) } else { Ok(()) }
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
        let size = <[u8; 8]>::try_from(&*key).map(u64::from_be_bytes).map_err(|_| damaged())?;
        Ok((size, String::from_utf8(note.into_vec()).map_err(|_| damaged())?))
    })))
}
