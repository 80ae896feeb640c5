//! Databases whose write-ahead log ends in a torn record.
//!
//! A power cut may leave any of the sectors of the last write. RocksDB's strict recovery takes a log that ends early,
//! but refuses one that has a hole in its last record: by itself it cannot tell that from damage to what was
//! acknowledged, and its lenient recovery would silently drop whatever comes after the first bad byte. The lock can
//! tell. So the log is read strictly first; when that fails it is read leniently without changing anything, and only
//! when everything that the lock acknowledges is there is the tail dropped.

use std::fs;
use std::path::Path;

use rocksdb::{DB, DBRecoveryMode, ErrorKind, Options};

use super::OpenOptions;
use super::error::LedgerError;
use super::families;
use super::history;
use super::layout::{Layout, Settings};
use super::lock::{LockFile, LockState};
use super::open::{SecondaryDir, acknowledged, check_lock, open_error, stored_size};
use super::wal::{self, Unreadable};

/// Opens the database for writing, with options that are strict. A torn tail is dropped when nothing in it was
/// acknowledged.
pub(super) fn open_for_writing(
    layout: &Layout,
    settings: &Settings,
    lock_path: &Path,
    options: &OpenOptions,
    strict: &Options,
) -> Result<DB, LedgerError> {
    let unreadable = wal::unreadable(&layout.db())?;
    if !unreadable.is_empty() {
        // Held until it is done: nobody may write between the look and the deed.
        let (_lock, state) = LockFile::open(lock_path, true)?;
        let work = SecondaryDir::create(&*options.entropy)?;
        let seen = look_around(layout, &unreadable, work.path())?;
        check(&seen, settings, lock_path, &state, &wal::told(&unreadable))?;
        drop(seen);
        warn(&state);
        wal::cut(&unreadable)?;
    }
    let error = match DB::open_cf_descriptors(strict, layout.db(), families::descriptors()) {
        Ok(db) => return Ok(db),
        Err(error) => error,
    };
    if error.kind() != ErrorKind::Corruption {
        return Err(open_error(error, layout));
    }
    // Held until the database is ours.
    let (_lock, state) = LockFile::open(lock_path, true)?;
    let Some(seen) = look(&layout.db(), &lenient(strict)) else { return Err(open_error(error, layout)) };
    check(&seen, settings, lock_path, &state, error.as_ref())?;
    drop(seen);
    warn(&state);
    DB::open_cf_descriptors(&lenient(strict), layout.db(), families::descriptors())
        .map_err(|error| open_error(error, layout))
}

fn warn(state: &LockState) {
    tracing::warn!(
        acknowledged = state.acked,
        "the write-ahead log ends in a torn record, as a power cut leaves it; nothing in it was acknowledged, and it \
         is dropped"
    );
}

/// Opens the database for reading, following its writer if there is one. `dir` is a directory to work in; `doubt` is
/// told when something is lost behind damage in the log, and decides whether to go on with what is before it.
pub(super) fn open_for_reading(
    layout: &Layout,
    settings: &Settings,
    lock_path: &Path,
    state: &LockState,
    dir: &Path,
    doubt: &mut dyn FnMut(LedgerError) -> Result<(), LedgerError>,
) -> Result<DB, LedgerError> {
    let (options, path) = (families::db_options(), layout.db());
    let unreadable = wal::unreadable(&path)?;
    if !unreadable.is_empty() {
        let db = look_around(layout, &unreadable, dir)?;
        check(&db, settings, lock_path, state, &wal::told(&unreadable)).or_else(doubt)?;
        return Ok(db);
    }
    let following =
        DB::open_cf_descriptors_as_secondary(&options, path.as_path(), dir, families::descriptors());
    let error = match following {
        Ok(db) => return Ok(db),
        Err(error) => error,
    };
    let mut options = lenient(&options);
    options.set_db_log_dir(dir);
    let seen = if error.kind() == ErrorKind::Corruption { look(&path, &options) } else { None };
    let Some(db) = seen else { return Err(open_error(error, layout)) };
    check(&db, settings, lock_path, state, error.as_ref()).or_else(doubt)?;
    Ok(db)
}

fn lenient(strict: &Options) -> Options {
    let mut options = strict.clone();
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options
}

/// Opens what is before the first damage, without changing anything; `None` when the damage is not in the log.
fn look(db: &Path, options: &Options) -> Option<DB> {
    DB::open_cf_descriptors_read_only(options, db, families::descriptors(), false).ok()
}

/// The same with the logs cut before headers that RocksDB must not be shown.
fn look_around(layout: &Layout, unreadable: &[Unreadable], work: &Path) -> Result<DB, LedgerError> {
    let shadow = work.join("db");
    fs::create_dir(&shadow).map_err(|source| LedgerError::Io { path: shadow.clone(), source })?;
    wal::shadow(&layout.db(), unreadable, &shadow)?;
    look(&shadow, &lenient(&families::db_options())).ok_or_else(|| wal::damaged(unreadable))
}

/// Checks that everything is there that was acknowledged. `damage` says what stands in the way.
fn check(
    db: &DB,
    settings: &Settings,
    lock_path: &Path,
    state: &LockState,
    damage: &str,
) -> Result<(), LedgerError> {
    let damaged = |detail: String| LedgerError::Damaged { place: "write-ahead log".to_owned(), detail };
    if state.uuid != settings.uuid {
        return Err(damaged(format!(
            "{damage}; and the lock is another ledger's, so nobody can tell what is lost"
        )));
    }
    let stored = stored_size(db)?;
    if stored < state.acked {
        let lost = format!("entries {stored}..{} were acknowledged and lie behind the damage", state.acked);
        return Err(damaged(format!("{damage}; {lost}")));
    }
    let authority = history::load(db, settings, state.acked)?;
    check_lock(lock_path, state, &authority)?;
    acknowledged(db, lock_path, state, &authority, stored).map(drop)
}
