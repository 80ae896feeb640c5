//! Going on after a loss: an explicit act that begins a new origin and says what is missing.
//!
//! The order is: verify the copy; keep the old lock under another name; put a lock in its place that names the new
//! origin and carries the entry; open, which appends the entry. Before the lock is replaced nothing has changed and
//! the ledger is refused as before; after it, every open for writing finishes. Only the lock can say that a restore
//! was ordered: whoever can write the database alone cannot make a roll-back look like one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use serde_json::{Map, Value, json};

use super::error::{AppendError, LedgerError};
use super::lock::{LockFile, LockState};
use super::verify::Report;
use super::{Ledger, OpenOptions, history, open};
use crate::authority::{Authority, RESTORE_PERFORMED, Role};
use crate::chain::Link;
use crate::clock::Clock;
use crate::key::{replace_private, sync_dir};
use crate::merkle::Hash;
use crate::note::{Checkpoint, NoteError, SignedNote, VerifierKey};
use crate::record::{Batch, NewRecord};

/// Longest reason: it stands in a slot of the lock until the entry is written.
const REASON_BYTES_MAX: usize = 1024;

/// What is to be restored, and who says so.
#[derive(Debug)]
pub struct RestoreOptions {
    /// How to open the copy; its lock is the one that the copy is behind.
    pub open: OpenOptions,
    /// Why; recorded in the clear.
    pub reason: String,
    /// Who; recorded as a value that can be erased.
    pub by: String,
    /// Goes on without the old lock when that is lost too: how much is missing is then unknown, but for checkpoints.
    pub without_lock: bool,
    /// Checkpoints of this log that were kept elsewhere.
    pub checkpoints: Vec<String>,
}

/// What a restore will do.
#[derive(Debug, Clone, serde::Serialize)]
pub struct RestorePlan {
    /// The lock that is replaced.
    pub lock: PathBuf,
    /// Where the lock is kept; `None` when there is none.
    pub kept_lock: Option<PathBuf>,
    /// Origin so far.
    pub old_origin: String,
    /// Origin from here on.
    pub new_origin: String,
    /// Verifier key of the new origin.
    pub verifier_key: String,
    /// Entries that are there and verified.
    pub size: u64,
    /// Their root, hex.
    pub root: String,
    /// Receiver's time of the last of them.
    pub last_ts: Option<String>,
    /// One past the last lost position that is known of.
    pub lost_end: Option<u64>,
    /// Entries that the lock says were being written after those, acknowledged to nobody.
    pub in_flight: Option<u64>,
    /// The newest signed checkpoint that is known: beyond `size` it is the proof of the loss.
    pub checkpoint: Option<String>,
    /// Whether a key of the log signed that checkpoint; a key that came into force after the backup is not known here.
    pub checkpoint_verified: bool,
    /// The verification of the copy.
    pub report: Report,
    #[serde(skip)]
    next: LockState,
}

impl Ledger {
    /// Tells where the lock is of a ledger whose copy lies in `from` and that is to go on in `to`.
    pub fn lock_path_for(from: &Path, to: &Path, options: &OpenOptions) -> Result<PathBuf, LedgerError> {
        open::lock_path_for(from, to, options)
    }

    /// Verifies a copy that is behind its lock, and says what a restore from it would lose. Changes nothing.
    pub fn plan_restore(
        dir: &Path,
        lock_path: &Path,
        options: &RestoreOptions,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<RestorePlan, LedgerError> {
        let refuse = |detail: String| Err(LedgerError::Restore(detail));
        if options.reason.trim().is_empty() || options.reason.len() > REASON_BYTES_MAX {
            return refuse(format!("a reason is 1 to {REASON_BYTES_MAX} bytes"));
        }
        let copy = open::open_detached(dir, &options.open)?;
        let report = copy.verify(progress)?;
        if let Some(failure) = report.failures.first() {
            let place = failure.seq.map_or_else(|| "ledger".to_owned(), |seq| format!("entry {seq}"));
            return refuse(format!(
                "{} does not verify ({place}: {}: {}); nothing can be restored from it",
                dir.display(),
                failure.class,
                failure.detail
            ));
        }
        let authority = copy.authority();
        let head = copy.head();
        if head.size == 0 {
            return refuse(format!("{} holds no entry", dir.display()));
        }
        let lock = old_lock(lock_path, options.without_lock)?;
        if let Some(lock) = &lock {
            if lock.uuid != authority.uuid() {
                return refuse(format!(
                    "lock file {} belongs to ledger `{}` ({}), {} to another",
                    lock_path.display(),
                    lock.origin,
                    lock.uuid,
                    dir.display()
                ));
            }
            check_behind(&copy, lock)?;
        }
        let known = Known::collect(&copy, &authority, lock.as_ref(), &options.checkpoints)?;
        let lost_end = known.end.filter(|end| *end > head.size);
        let number = known.number.max(authority.generation()) + 1;
        let new_origin = authority.origin_after(number);
        let key = VerifierKey::new(&new_origin, *authority.current(Role::Log).public())?;
        let last_ts = copy.record(head.size - 1)?.map(|record| crate::entry::format_ts(record.ts_ns));
        let mut body = Map::new();
        body.insert("id".to_owned(), format!("{RESTORE_PERFORMED}/{new_origin}").into());
        body.insert("old_origin".to_owned(), authority.origin().into());
        body.insert("origin".to_owned(), new_origin.as_str().into());
        body.insert("verifier_key".to_owned(), key.to_string().into());
        body.insert("size".to_owned(), head.size.to_string().into());
        body.insert("root".to_owned(), head.root.to_string().into());
        if let Some(end) = lost_end {
            body.insert("lost_end".to_owned(), end.to_string().into());
        }
        if let Some(lock) = &lock {
            let acknowledged = json!({
                "origin": lock.origin, "size": lock.acked.to_string(), "root": lock.root,
                "in_flight": lock.in_flight.to_string(),
            });
            body.insert("acknowledged".to_owned(), acknowledged);
        }
        if let Some(note) = &known.note {
            body.insert("checkpoint".to_owned(), note.as_str().into());
        }
        body.insert("reason".to_owned(), options.reason.as_str().into());
        body.insert("by".to_owned(), options.by.as_str().into());
        let checkpoint = copy.checkpoint()?;
        let last = copy.entry(head.size - 1)?.unwrap_or_default();
        let next = LockState {
            counter: lock.as_ref().map_or(0, |lock| lock.counter) + 1,
            origin: new_origin.clone(),
            uuid: authority.uuid().to_owned(),
            acked: head.size,
            root: head.root.to_string(),
            link: Link::of_entry(&last).to_string(),
            in_flight: head.size,
            checkpoint,
            restore: Some(Box::new(body)),
        };
        Ok(RestorePlan {
            lock: lock_path.to_owned(),
            kept_lock: lock_path.exists().then(|| kept_path(lock_path, number)),
            old_origin: authority.origin().to_owned(),
            new_origin,
            verifier_key: key.to_string(),
            size: head.size,
            root: head.root.to_string(),
            last_ts,
            lost_end,
            in_flight: lock.map(|lock| lock.in_flight),
            checkpoint: known.note,
            checkpoint_verified: known.verified,
            report,
            next,
        })
    }

    /// Copies a ledger that nobody has open for writing to a directory that does not exist, whole or not at all.
    pub fn copy(from: &Path, to: &Path) -> Result<(), LedgerError> {
        copy_ledger(from, to)
    }

    /// Does what a plan for this directory says, and returns the ledger, which goes on under its new origin.
    pub fn restore(
        dir: &Path,
        plan: &RestorePlan,
        options: &OpenOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LedgerError> {
        plan.replace_lock()?;
        Self::open(dir, options, clock)
    }
}

impl RestorePlan {
    /// Keeps the old lock under its other name and puts the new one into its place. From here on the restore is
    /// ordered, and opening the ledger for writing finishes it.
    fn replace_lock(&self) -> Result<(), LedgerError> {
        // Held until the new one is there: nobody writes the old one meanwhile.
        let _old = match LockFile::open(&self.lock, true) {
            Ok((old, _)) => Some(old),
            Err(LedgerError::LockMissing { .. } | LedgerError::LockDamaged { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(kept) = &self.kept_lock {
            keep(&self.lock, kept)?;
        }
        let bytes = LockFile::encode(&self.next).map_err(|source| self.io(source))?;
        replace_private(&self.lock, &bytes)?;
        Ok(())
    }

    fn io(&self, source: io::Error) -> LedgerError {
        LedgerError::Io { path: self.lock.clone(), source }
    }
}

fn kept_path(lock: &Path, number: u64) -> PathBuf {
    let mut name = lock.file_name().unwrap_or_default().to_owned();
    name.push(format!(".before-{number}"));
    lock.with_file_name(name)
}

/// Gives the old lock a second name, which stays when the first goes to the new lock. Never over another file.
fn keep(lock: &Path, kept: &Path) -> Result<(), LedgerError> {
    let io = |source| LedgerError::Io { path: kept.to_owned(), source };
    match fs::hard_link(lock, kept) {
        Ok(()) => sync_dir(kept).map_err(LedgerError::from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Left by a restore that was cut before it replaced the lock.
            let same = fs::read(lock).and_then(|lock| Ok(lock == fs::read(kept)?)).map_err(io)?;
            if same {
                return Ok(());
            }
            Err(LedgerError::Restore(format!("{} is there already; move it away first", kept.display())))
        }
        Err(error) => Err(io(error)),
    }
}

fn old_lock(path: &Path, without: bool) -> Result<Option<LockState>, LedgerError> {
    match LockFile::open(path, false) {
        Ok((_, lock)) => Ok(Some(lock)),
        Err(LedgerError::LockMissing { .. } | LedgerError::LockDamaged { .. }) if without => Ok(None),
        Err(error) => Err(error),
    }
}

/// Checks that the copy is a former state of what was acknowledged, as far as that can be told.
fn check_behind(copy: &Ledger, lock: &LockState) -> Result<(), LedgerError> {
    let head = copy.head();
    if lock.acked > head.size {
        return Ok(());
    }
    let got = copy.root_at(lock.acked)?;
    match lock.root() {
        Some(want) if want == got => Err(LedgerError::Restore(format!(
            "nothing is lost: the copy has all {} entries that were acknowledged; open it as it is",
            lock.acked
        ))),
        want => Err(LedgerError::Forked { size: lock.acked, got, want: want.unwrap_or(Hash([0; 32])) }),
    }
}

/// What is known of the log beyond the copy.
struct Known {
    /// The newest checkpoint.
    note: Option<String>,
    verified: bool,
    /// One past the last position that somebody was told of.
    end: Option<u64>,
    /// Highest number of an origin that was seen.
    number: u64,
}

impl Known {
    fn collect(
        copy: &Ledger,
        authority: &Authority,
        lock: Option<&LockState>,
        given: &[String],
    ) -> Result<Self, LedgerError> {
        let number = lock.and_then(|lock| authority.origin_number(&lock.origin)).unwrap_or(1);
        let mut known = Self { note: None, verified: false, end: lock.map(|lock| lock.acked), number };
        let locked = lock.and_then(|lock| lock.checkpoint.clone());
        let notes = given.iter().map(|note| (note, true)).chain(locked.iter().map(|note| (note, false)));
        let mut newest = 0;
        for (note, was_given) in notes {
            let checkpoint = Checkpoint::from_text(&SignedNote::parse(note)?.text)?;
            let Some(number) = authority.origin_number(&checkpoint.origin) else {
                let want = authority.first_origin().to_owned();
                return Err(NoteError::Origin { got: checkpoint.origin, want }.into());
            };
            // Any key of the log, under the name of the note: those of origins that the copy does not know, too.
            let verified = authority.spans(Role::Log).iter().any(|span| {
                VerifierKey::new(&checkpoint.origin, *span.key.public())
                    .is_ok_and(|key| Checkpoint::verify(note, &key).is_ok())
            });
            // What somebody hands in is believed when a key of the log signed it; the lock is believed anyway.
            if was_given && !verified {
                return Err(NoteError::Unsigned { key: checkpoint.origin }.into());
            }
            if checkpoint.size <= copy.head().size {
                let got = copy.root_at(checkpoint.size)?;
                if got != checkpoint.root {
                    return Err(LedgerError::Forked { size: checkpoint.size, got, want: checkpoint.root });
                }
            }
            known.number = known.number.max(number);
            known.end = known.end.max(Some(checkpoint.size));
            if known.note.is_none() || checkpoint.size > newest {
                newest = checkpoint.size;
                known.note = Some(note.clone());
                known.verified = verified;
            }
        }
        Ok(known)
    }
}

/// The origin that a lock was told to begin.
pub(super) fn pending_origin(lock: &LockState) -> Option<&str> {
    lock.restore.as_ref()?.get("origin")?.as_str()
}

/// The restore that a lock orders and that the entries do not know of yet.
pub(super) fn pending(lock: &LockState, authority: &Authority) -> Option<(String, Map<String, Value>)> {
    let origin = pending_origin(lock)?;
    if origin == authority.origin() || origin != lock.origin {
        return None;
    }
    Some((origin.to_owned(), lock.restore.as_deref()?.clone()))
}

/// Writes the first entry under the new origin.
pub(super) fn finish(ledger: &Ledger, body: Map<String, Value>) -> Result<(), LedgerError> {
    let batch = Batch { records: vec![NewRecord::system(RESTORE_PERFORMED, body)], blobs: Vec::new() };
    ledger.append_own(batch)?;
    let inner = &ledger.inner;
    let authority = history::load(&inner.db, &inner.settings, ledger.head().size)?;
    *inner.authority.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(authority);
    match ledger.settle() {
        Ok(()) | Err(AppendError::Unsigned { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Drops the order from the lock when its entry is there; it names who gave it.
pub(super) fn forget_finished(
    lock: &LockFile,
    state: &mut LockState,
    authority: &Authority,
) -> Result<(), LedgerError> {
    if state.restore.is_none() || pending(state, authority).is_some() {
        return Ok(());
    }
    state.restore = None;
    // Both slots.
    for _ in 0..2 {
        state.counter += 1;
        lock.write(state).map_err(|source| LedgerError::Io { path: lock.path().to_owned(), source })?;
    }
    Ok(())
}

fn copy_ledger(from: &Path, to: &Path) -> Result<(), LedgerError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| LedgerError::Io { path, source }
    };
    if to.exists() {
        return Err(LedgerError::NotEmpty { path: to.to_owned() });
    }
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    let building = to.with_file_name(name);
    if building.exists() {
        // Left by a copy that was cut; it was never anything but a copy.
        fs::remove_dir_all(&building).map_err(io(&building))?;
    }
    copy_dir(from, &building)?;
    fs::rename(&building, to).map_err(io(to))?;
    sync_dir(to)?;
    Ok(())
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), LedgerError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| LedgerError::Io { path, source }
    };
    fs::create_dir_all(to).map_err(io(to))?;
    let permissions = fs::metadata(from).map_err(io(from))?.permissions();
    fs::set_permissions(to, permissions).map_err(io(to))?;
    for entry in fs::read_dir(from).map_err(io(from))? {
        let entry = entry.map_err(io(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(io(&source))?;
        if kind.is_dir() {
            copy_dir(&source, &target)?;
        } else if kind.is_file() {
            // Keeps the mode, which is what protects the keys.
            fs::copy(&source, &target).map_err(io(&source))?;
            fs::File::open(&target).and_then(|file| file.sync_all()).map_err(io(&target))?;
        }
        // Links and sockets are no part of a ledger.
    }
    fs::File::open(to).and_then(|dir| dir.sync_all()).map_err(io(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppingClock;
    use crate::store::InitOptions;

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000))
    }

    fn append(ledger: &Ledger, id: &str) {
        let mut body = Map::new();
        body.insert("id".to_owned(), id.into());
        let batch = Batch { records: vec![NewRecord::system("test.happened", body)], blobs: Vec::new() };
        ledger.append(batch).unwrap();
    }

    /// A ledger of three entries that lost the last two.
    fn lost(temp: &Path) -> PathBuf {
        let dir = temp.join("ledger");
        drop(Ledger::init(&dir, &InitOptions::new("l.example"), clock()).unwrap());
        copy_ledger(&dir, &temp.join("backup")).unwrap();
        let ledger = Ledger::open(&dir, &OpenOptions::default(), clock()).unwrap();
        append(&ledger, "a");
        append(&ledger, "b");
        drop(ledger);
        fs::remove_dir_all(&dir).unwrap();
        copy_ledger(&temp.join("backup"), &dir).unwrap();
        dir
    }

    fn plan(dir: &Path) -> Result<RestorePlan, LedgerError> {
        let options = RestoreOptions {
            open: OpenOptions::default(),
            reason: "disk died".into(),
            by: "keeper".into(),
            without_lock: false,
            checkpoints: Vec::new(),
        };
        let lock = Ledger::lock_path_for(dir, dir, &options.open)?;
        Ledger::plan_restore(dir, &lock, &options, &mut |_, _| {})
    }

    fn open(dir: &Path) -> Result<Ledger, LedgerError> {
        Ledger::open(dir, &OpenOptions::default(), clock())
    }

    /// Every state that a restore can be cut in: before the lock is replaced nothing has changed, after it the next
    /// open for writing finishes.
    #[test]
    fn a_restore_that_is_cut_anywhere_has_not_begun_or_is_finished_by_the_next_open() {
        // The old lock has its second name, and nothing else is done.
        let temp = tempfile::tempdir().unwrap();
        let dir = lost(temp.path());
        let planned = plan(&dir).unwrap();
        keep(&planned.lock, planned.kept_lock.as_ref().unwrap()).unwrap();
        assert!(matches!(open(&dir), Err(LedgerError::RolledBack { have: 1, want: 3 })));
        // The same command again does not mind.
        let ledger = Ledger::restore(&dir, &plan(&dir).unwrap(), &OpenOptions::default(), clock()).unwrap();
        assert_eq!(ledger.origin(), "l.example/2");
        drop(ledger);

        // The lock is replaced, and the entry is not written: a reader sees the ledger as it was, whole.
        let temp = tempfile::tempdir().unwrap();
        let dir = lost(temp.path());
        plan(&dir).unwrap().replace_lock().unwrap();
        let reader = Ledger::open_reader(&dir, &OpenOptions::default()).unwrap();
        assert_eq!((reader.head().size, reader.origin()), (1, "l.example"));
        let report = reader.verify(&mut |_, _| {}).unwrap();
        assert!(report.is_clean(), "{:?}", report.failures);
        drop(reader);
        let lock = Ledger::lock_path_for(&dir, &dir, &OpenOptions::default()).unwrap();
        let ordered = LockFile::open(&lock, false).unwrap().1;
        let ledger = open(&dir).unwrap();
        assert_eq!((ledger.head().size, ledger.origin()), (2, "l.example/2"));
        assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
        let by = ledger.record(1).unwrap().unwrap().body.get("by").cloned();
        assert_eq!(by, Some("keeper".into()));
        drop(ledger);

        // The entry is written and the lock still orders it, as if nothing had been flushed since.
        let (file, state) = LockFile::open(&lock, true).unwrap();
        let counter = state.counter + 1;
        file.write(&LockState { counter, restore: ordered.restore, ..state }).unwrap();
        drop(file);
        let ledger = open(&dir).unwrap();
        assert_eq!(ledger.head().size, 2, "the entry is written once");
        append(&ledger, "c");
        assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
        drop(ledger);
        let text = String::from_utf8_lossy(&fs::read(&lock).unwrap()).into_owned();
        assert!(!text.contains("keeper"), "who ordered it is not kept in the lock");
    }

    /// Somebody who can write the database alone writes the entry of a restore into it.
    #[test]
    fn an_entry_without_the_order_of_the_lock_restores_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = lost(temp.path());
        let other = temp.path().join("forged");
        copy_ledger(&dir, &other).unwrap();
        let plan_of_other = {
            let lock = Ledger::lock_path_for(&dir, &dir, &OpenOptions::default()).unwrap();
            fs::copy(&lock, other.with_extension("lock")).unwrap();
            plan(&other).unwrap()
        };
        drop(Ledger::restore(&other, &plan_of_other, &OpenOptions::default(), clock()).unwrap());
        // The forged database under the true lock.
        fs::remove_dir_all(&dir).unwrap();
        copy_ledger(&other, &dir).unwrap();
        assert!(matches!(open(&dir), Err(LedgerError::RolledBack { have: 2, want: 3 })));
        let ledger = Ledger::open_reader(&dir, &OpenOptions::default());
        assert!(matches!(ledger, Err(LedgerError::RolledBack { .. })));
    }

    #[test]
    fn a_copy_that_was_cut_is_made_again_and_nothing_is_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        let dir = lost(temp.path());
        let to = temp.path().join("copy");
        fs::create_dir(temp.path().join("copy.restoring")).unwrap();
        fs::write(temp.path().join("copy.restoring/half"), "x").unwrap();
        copy_ledger(&dir, &to).unwrap();
        assert!(!to.join("half").exists() && to.join("verdict.json").exists());
        assert!(matches!(copy_ledger(&dir, &to), Err(LedgerError::NotEmpty { .. })));
    }
}
