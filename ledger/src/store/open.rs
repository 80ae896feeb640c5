//! Creating and opening a ledger, and the checks that come before it is trusted.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rocksdb::{DB, ErrorKind, WriteOptions};
use serde_json::{Map, Value};

use super::anchored::Pins;
use super::codec::ROWS_VERSION;
use super::commit::{self, Committer, LockFlusher};
use super::custody::{self, KeySource};
use super::erasure;
use super::error::{AppendError, LedgerError};
use super::families::{self, META, family};
use super::layout::{FORMAT, Layout, Settings};
use super::lock::{LockFile, LockState};
use super::rebuild;
use super::recover;
use super::seal::Sealer;
use super::sequence::Sequencer;
use super::sign::{SharedFailure, Signing};
use super::tail::{self, Tail};
use super::tree::StoredNodes;
use super::verify::VerifyFailure;
use super::{Head, InitOptions, Inner, Ledger, OpenOptions, TILE_LEVELS, history, restore};
use crate::anchor::AnchorFile;
use crate::authority::{Authority, LEDGER_CREATED, Role};
use crate::chain::Link;
use crate::clock::{Clock, Entropy};
use crate::entry::EntryView;
use crate::key::{NoPassphrases, Passphrases, SigningKey, StoreSecret};
use crate::merkle::{self, Frontier};
use crate::note::{Checkpoint, NoteError, VerifierKey};
use crate::record::{Batch, NewRecord};

/// Longest origin: it stands in every entry, and three times in a lock slot.
const ORIGIN_BYTES_MAX: usize = 512;

/// How often a reader catches up with a writer before it believes that something is missing.
const CATCH_UPS: usize = 5;

/// How often a reader tries again that files are deleted before it opened them, waiting a millisecond longer each time.
const ATTEMPTS: u64 = 20;

/// How many names are tried for the working directory of a reader.
const NAMES_TRIED: usize = 16;

pub(super) fn init(dir: &Path, options: &InitOptions, clock: Arc<dyn Clock>) -> Result<Ledger, LedgerError> {
    let layout = Layout::new(dir);
    let lock_path = absolute(options.lock.clone()).unwrap_or_else(|| layout.default_lock());
    if options.origin.len() > ORIGIN_BYTES_MAX {
        return Err(NoteError::Malformed { what: "origin", why: "longer than 512 bytes" }.into());
    }
    if lock_path.exists() {
        return Err(LedgerError::LockExists { path: lock_path });
    }
    let anchors = AnchorFile::beside_lock(&lock_path);
    if anchors.path().exists() {
        return Err(LedgerError::AnchorsExist { path: anchors.path().to_owned() });
    }
    let entropy = &options.entropy;
    let key = |external: &Option<PathBuf>| -> Result<KeySource, LedgerError> {
        match external {
            Some(path) => Ok(KeySource::External(path.clone())),
            None => Ok(KeySource::Pair(SigningKey::generate(&**entropy)?)),
        }
    };
    let (log_key, bundle_key) = (key(&options.log_signer)?, key(&options.bundle_signer)?);
    let verifier_key = VerifierKey::new(&options.origin, log_key.public()?)?;
    let bundle_name = format!("{}/bundle", options.origin);
    let bundle_verifier_key = VerifierKey::new(&bundle_name, bundle_key.public()?)?;
    if verifier_key.public() == bundle_verifier_key.public() {
        return Err(LedgerError::KeyChange("log key and bundle key must be two keys".to_owned()));
    }
    let secret = StoreSecret::generate(&**entropy)?;
    let mut uuid = [0; 16];
    entropy.fill(&mut uuid).map_err(crate::key::KeyError::from)?;

    layout.create()?;
    let protection = options.protection();
    log_key.save(&layout, Role::Log.as_str(), &protection)?;
    bundle_key.save(&layout, Role::Bundle.as_str(), &protection)?;
    secret.save(&layout.store_secret(), &protection)?;
    let settings = Settings {
        format: FORMAT,
        origin: options.origin.clone(),
        uuid: hex::encode(uuid),
        verifier_key: verifier_key.to_string(),
        bundle_key: bundle_verifier_key.to_string(),
        lock: options.lock.as_ref().map(|_| lock_path.clone()),
    };
    let mut create = families::db_options();
    create.create_if_missing(true);
    create.create_missing_column_families(true);
    let db = DB::open_cf_descriptors(&create, layout.db(), families::descriptors())?;
    let mut durable = WriteOptions::default();
    durable.set_sync(true);
    db.put_cf_opt(family(&db, META)?, b"rows", ROWS_VERSION.to_be_bytes(), &durable)?;
    // The settings come last but the lock: a directory without them is not a ledger yet.
    layout.write_settings(&settings)?;
    layout.sync()?;
    let lock_state = LockState {
        counter: 0,
        origin: options.origin.clone(),
        uuid: settings.uuid.clone(),
        acked: 0,
        root: merkle::empty_root().to_string(),
        link: genesis_link(&settings, &layout)?.to_string(),
        in_flight: 0,
        checkpoint: None,
        restore: None,
    };
    let lock = LockFile::create(&lock_path, &lock_state)?;
    let parts = Parts { layout, settings, lock_path, lock_state, pins: Pins::default() };
    let passphrases: Arc<dyn Passphrases> = match &options.passphrase {
        Some(passphrase) => Arc::new(passphrase.clone()),
        None => Arc::new(NoPassphrases),
    };
    let open = OpenOptions { lock: None, anchors: Vec::new(), entropy: Arc::clone(entropy), passphrases };
    parts.start(Arc::new(db), lock, &open, clock)
}

/// Appends the first entry, unless it is there.
fn write_genesis(ledger: &Ledger, settings: &Settings) -> Result<(), LedgerError> {
    if ledger.head().size > 0 {
        return Ok(());
    }
    let mut body = Map::new();
    body.insert("id".to_owned(), Value::from(format!("ledger:{}", settings.uuid)));
    body.insert("format".to_owned(), Value::from(FORMAT));
    body.insert("uuid".to_owned(), Value::from(settings.uuid.as_str()));
    body.insert("verifier_key".to_owned(), Value::from(settings.verifier_key.as_str()));
    body.insert("bundle_key".to_owned(), Value::from(settings.bundle_key.as_str()));
    let batch = Batch { records: vec![NewRecord::system(LEDGER_CREATED, body)], blobs: Vec::new() };
    let genesis = |error: AppendError| LedgerError::Genesis(Box::new(error));
    ledger.append_own(batch).map_err(genesis)?;
    match ledger.settle() {
        // Late, and tried again by whoever writes.
        Ok(()) | Err(AppendError::Unsigned { .. }) => Ok(()),
        Err(error) => Err(genesis(error)),
    }
}

pub(super) fn open_writer(
    dir: &Path,
    options: &OpenOptions,
    clock: Arc<dyn Clock>,
) -> Result<Ledger, LedgerError> {
    let layout = Layout::new(dir);
    let settings = layout.read_settings()?;
    let lock_path = lock_path(&layout, &settings, options);
    let db = recover::open_for_writing(&layout, &settings, &lock_path, options, &families::db_options())?;
    // After the database: its own lock keeps other writers from changing the lock file under our eyes.
    let pins = Pins::read(&lock_path, &options.anchors);
    let (lock, lock_state) = LockFile::open(&lock_path, true)?;
    let parts = Parts { layout, settings, lock_path, lock_state, pins };
    let ledger = parts.start(Arc::new(db), lock, options, clock)?;
    Ok(ledger)
}

pub(super) fn open_reader(dir: &Path, options: &OpenOptions) -> Result<Ledger, LedgerError> {
    opened(|| open_secondary(dir, options, &mut |error| Err(error)))
}

/// Opens a secondary instance, again when files that it was about to open are gone, a bounded number of times.
#[expect(
    clippy::disallowed_methods,
    reason = "another process deletes the files, and nothing tells when it is done"
)]
fn opened(open: impl Fn() -> Result<Ledger, LedgerError>) -> Result<Ledger, LedgerError> {
    let passing = |error: &LedgerError| match error {
        LedgerError::Reopen => true,
        LedgerError::Database(cause) => is_gone(cause),
        _ => false,
    };
    let mut seen = open();
    for tried in 1..ATTEMPTS {
        if !seen.as_ref().is_err_and(passing) {
            break;
        }
        // A compaction in progress is over in a moment, or deletes the next file.
        std::thread::sleep(Duration::from_millis(tried));
        seen = open();
    }
    seen
}

/// Tells whether a file was deleted between a look at the list of files and at the file: the writer deletes what it has
/// compacted. Files that a reader has open stay readable for it.
fn is_gone(cause: &rocksdb::Error) -> bool {
    matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::TryAgain)
        || cause.to_string().contains("No such file")
}

/// Opens a ledger that contradicts its lock or itself, so that a verification can say where; what speaks against it is
/// kept and starts each report.
pub(super) fn open_to_inspect(dir: &Path, options: &OpenOptions) -> Result<Ledger, LedgerError> {
    opened(|| inspect(dir, options))
}

fn inspect(dir: &Path, options: &OpenOptions) -> Result<Ledger, LedgerError> {
    let mut doubts = Vec::new();
    let mut ledger = open_secondary(dir, options, &mut |error| match error {
        // Nothing can be looked at without the files themselves.
        LedgerError::Io { .. } | LedgerError::Database(_) | LedgerError::Key(_) => Err(error),
        doubt => {
            doubts.push(VerifyFailure::of_error(&doubt));
            Ok(())
        }
    })?;
    if let Some(inner) = Arc::get_mut(&mut ledger.inner) {
        inner.doubts = doubts;
    }
    Ok(ledger)
}

fn open_secondary(
    dir: &Path,
    options: &OpenOptions,
    doubt: &mut dyn FnMut(LedgerError) -> Result<(), LedgerError>,
) -> Result<Ledger, LedgerError> {
    let layout = Layout::new(dir);
    let settings = layout.read_settings()?;
    let lock_path = lock_path(&layout, &settings, options);
    let pins = Pins::read(&lock_path, &options.anchors);
    // The lock before the database: whatever it says was acknowledged must be in a database that is opened later.
    let lock_state = match LockFile::open(&lock_path, false) {
        Ok((_, state)) => state,
        Err(error) => {
            doubt(error)?;
            LockState::unknown(&settings.origin, &settings.uuid)
        }
    };
    let secret = StoreSecret::load(&layout.store_secret(), &*options.passphrases)?;
    let secondary = SecondaryDir::create(&*options.entropy)?;
    let db = recover::open_for_reading(&layout, &settings, &lock_path, &lock_state, &secondary.0, doubt)?;
    let parts = Parts { layout, settings, lock_path, lock_state, pins };
    reader_over(Arc::new(db), parts, &secret, Some(secondary), options, doubt)
}

/// Makes a reader over an open database, after the checks that it must pass.
fn reader_over(
    db: Arc<DB>,
    parts: Parts,
    secret: &StoreSecret,
    secondary: Option<SecondaryDir>,
    options: &OpenOptions,
    doubt: &mut dyn FnMut(LedgerError) -> Result<(), LedgerError>,
) -> Result<Ledger, LedgerError> {
    rebuild::check_finished(&db)?;
    // First, because the checkpoint in the lock is verified with the keys that follow from the settings; and again,
    // because the first look at a database that is being written may come before its first entry.
    parts.check_genesis(&db, 0).or_else(&mut *doubt)?;
    let (head, authority) = match caught_up(&db, &parts.lock_path, &parts.lock_state, &parts.settings) {
        Ok(seen) => seen,
        Err(error) => {
            doubt(error)?;
            let stored = stored_size(&db)?;
            let head = match parts.lock_state.root() {
                Some(root) if (1..=stored).contains(&parts.lock_state.acked) => {
                    Head { size: parts.lock_state.acked, root }
                }
                _ => {
                    let size = continuous_size(&db)?;
                    let root = merkle::root_at(&StoredNodes::new(&db)?, size);
                    Head { size, root: root.unwrap_or_else(|_| merkle::empty_root()) }
                }
            };
            let authority = history::load(&db, &parts.settings, head.size);
            // Whoever looks at a ledger whose history cannot be read takes the settings for it.
            (head, authority.or_else(|_| history::load(&db, &parts.settings, 0))?)
        }
    };
    parts.check_genesis(&db, head.size).or_else(&mut *doubt)?;
    parts.check_anchors(&db, head.size, &authority).or_else(&mut *doubt)?;
    check_rows(&db)?;
    let sealer = Sealer::new(Arc::clone(&db), &parts.settings.origin, secret, Arc::clone(&options.entropy));
    let genesis = parts.genesis()?;
    Ok(Ledger {
        inner: Arc::new(Inner {
            writer: None,
            db,
            layout: parts.layout,
            lock_path: parts.lock_path,
            genesis,
            origin: authority.origin().to_owned(),
            settings: parts.settings,
            authority: RwLock::new(Arc::new(authority)),
            passphrases: Arc::clone(&options.passphrases),
            signing: SharedFailure::default(),
            detached: false,
            head: Arc::new(RwLock::new(head)),
            gate: RwLock::new(()),
            sealer: Arc::new(sealer),
            secondary,
            tail: Tail::default(),
            doubts: Vec::new(),
        }),
    })
}

/// Opens a copy for reading without any lock: everything that it holds, acknowledged or not.
pub(super) fn open_detached(dir: &Path, options: &OpenOptions) -> Result<Ledger, LedgerError> {
    let layout = Layout::new(dir);
    let settings = layout.read_settings()?;
    let lock_path = lock_path(&layout, &settings, options);
    let secret = StoreSecret::load(&layout.store_secret(), &*options.passphrases)?;
    let secondary = SecondaryDir::create(&*options.entropy)?;
    let db = DB::open_cf_descriptors_as_secondary(
        &families::db_options(),
        &layout.db(),
        &secondary.0,
        families::descriptors(),
    )
    .map_err(|error| open_error(error, &layout))?;
    let db = Arc::new(db);
    rebuild::check_finished(&db)?;
    let size = stored_size(&db)?;
    check_rows(&db)?;
    let authority = history::load(&db, &settings, size)?;
    let root = merkle::root_at(&StoredNodes::new(&db)?, size)?;
    let genesis = genesis_link(&settings, &layout)?;
    let sealer = Sealer::new(Arc::clone(&db), &settings.origin, &secret, Arc::clone(&options.entropy));
    let state = LockState {
        counter: 0,
        origin: authority.origin().to_owned(),
        uuid: settings.uuid.clone(),
        acked: size,
        root: root.to_string(),
        link: String::new(),
        in_flight: size,
        checkpoint: None,
        restore: None,
    };
    let parts = Parts { layout, settings, lock_path, lock_state: state, pins: Pins::default() };
    parts.check_genesis(&db, size)?;
    Ok(Ledger {
        inner: Arc::new(Inner {
            writer: None,
            db,
            layout: parts.layout,
            lock_path: parts.lock_path,
            origin: authority.origin().to_owned(),
            genesis,
            settings: parts.settings,
            authority: RwLock::new(Arc::new(authority)),
            passphrases: Arc::clone(&options.passphrases),
            signing: SharedFailure::default(),
            detached: true,
            head: Arc::new(RwLock::new(Head { size, root })),
            gate: RwLock::new(()),
            sealer: Arc::new(sealer),
            secondary: Some(secondary),
            tail: Tail::default(),
            doubts: Vec::new(),
        }),
    })
}

/// Tells where the lock is of a ledger whose copy lies in `from` and that is to go on in `to`.
pub(super) fn lock_path_for(from: &Path, to: &Path, options: &OpenOptions) -> Result<PathBuf, LedgerError> {
    let settings = Layout::new(from).read_settings()?;
    Ok(lock_path(&Layout::new(to), &settings, options))
}

/// Looks at a database that the caller has open as [`open_to_inspect`] does, and gives what speaks against it. For
/// tests that change rows and look again, many thousand times.
#[cfg(test)]
pub(super) fn inspect_database(dir: &Path, db: &Arc<DB>) -> Result<Ledger, LedgerError> {
    let layout = Layout::new(dir);
    let settings = layout.read_settings()?;
    let options = OpenOptions::default();
    let lock_path = lock_path(&layout, &settings, &options);
    let pins = Pins::read(&lock_path, &options.anchors);
    let mut doubts = Vec::new();
    let lock_state = match LockFile::open(&lock_path, false) {
        Ok((_, state)) => state,
        Err(error) => {
            doubts.push(VerifyFailure::of_error(&error));
            LockState::unknown(&settings.origin, &settings.uuid)
        }
    };
    let secret = StoreSecret::load(&layout.store_secret(), &*options.passphrases)?;
    let parts = Parts { layout, settings, lock_path, lock_state, pins };
    let mut ledger = reader_over(Arc::clone(db), parts, &secret, None, &options, &mut |error| {
        doubts.push(VerifyFailure::of_error(&error));
        Ok(())
    })?;
    if let Some(inner) = Arc::get_mut(&mut ledger.inner) {
        inner.doubts = doubts;
    }
    Ok(ledger)
}

/// Brings a reader up to what is acknowledged now.
pub(super) fn catch_up(ledger: &Ledger) -> Result<(Head, Authority), LedgerError> {
    let inner = &ledger.inner;
    // Before the lock: what was acknowledged only grows, whoever else refreshes at the same time.
    let before = ledger.head();
    let (_, lock_state) = LockFile::open(&inner.lock_path, false)?;
    if lock_state.acked < before.size {
        return Err(LedgerError::RolledBack { have: lock_state.acked, want: before.size });
    }
    if !follow(&inner.db)? {
        let same = lock_state.acked == before.size && lock_state.root() == Some(before.root);
        return if same {
            Ok((before, ledger.authority().as_ref().clone()))
        } else {
            Err(LedgerError::Reopen)
        };
    }
    let (head, authority) = caught_up(&inner.db, &inner.lock_path, &lock_state, &inner.settings)?;
    let got = merkle::root_at(&StoredNodes::new(&inner.db)?, before.size)?;
    if got != before.root {
        return Err(LedgerError::Forked { size: before.size, got, want: before.root });
    }
    // Rows that a secondary instance replayed from a write-ahead log shadow those in tables, also when the writer has
    // deleted them since: what was erased must not be seen through a reader that was open before.
    if erasure::is_recorded(&inner.db, before.size..head.size)? {
        return Err(LedgerError::Reopen);
    }
    Ok((head, authority))
}

/// Checks what a reader sees against the lock, which was read before the database was looked at. The writer may have
/// moved rows from its write-ahead log into tables between the reader's look at the tables and at the log, and then
/// they are in neither, in one family or in several. Tables are listed before their log is deleted, so that one more
/// look finds whatever the lock knew of; before entries are called missing, the reader looks more often.
fn caught_up(
    db: &DB,
    path: &Path,
    lock: &LockState,
    settings: &Settings,
) -> Result<(Head, Authority), LedgerError> {
    // Before the length: the lock of another ledger says nothing about this one's.
    check_uuid(path, lock, &settings.uuid)?;
    let look = || {
        let stored = stored_size(db)?;
        // A ledger that lost entries about keys is cut first, and damaged second.
        check_length(lock, stored)?;
        let authority = history::load(db, settings, lock.acked)?;
        let head = acknowledged(db, path, lock, &authority, stored)?;
        Ok((head, authority))
    };
    for _ in 1..CATCH_UPS {
        if !follow(db)? {
            // Another look would show the same.
            break;
        }
        rebuild::check_finished(db)?;
        let seen = look();
        if seen.is_ok() {
            return seen;
        }
    }
    look()
}

/// Brings a secondary instance up to the writer. One that meets a table that is gone stays where it is and fails at the
/// same place each time, and a rebuild may make a family anew, of which an instance that is open does not learn:
/// either way only another instance can follow.
///
/// False for one that follows no writer: it was opened on a log with a torn tail.
fn follow(db: &DB) -> Result<bool, LedgerError> {
    match db.try_catch_up_with_primary() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotSupported => Ok(false),
        Err(error) if is_gone(&error) || error.to_string().contains("unknown column family") => {
            Err(LedgerError::Reopen)
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks that the rows are of the version that this program reads: it would misread any other.
fn check_rows(db: &DB) -> Result<(), LedgerError> {
    match rows_version(db)? {
        ROWS_VERSION => Ok(()),
        found => Err(LedgerError::Rows { found, known: ROWS_VERSION }),
    }
}

/// Reads which version the rows have.
pub(super) fn rows_version(db: &DB) -> Result<u32, LedgerError> {
    let row = db.get_pinned_cf(family(db, META)?, b"rows")?;
    let found = row.and_then(|row| <[u8; 4]>::try_from(&*row).ok()).map(u32::from_be_bytes);
    found.ok_or_else(|| LedgerError::Damaged {
        place: "database".to_owned(),
        detail: "it does not say which version its rows have".to_owned(),
    })
}

fn absolute(path: Option<PathBuf>) -> Option<PathBuf> {
    path.map(|path| std::path::absolute(&path).unwrap_or(path))
}

pub(super) fn lock_path(layout: &Layout, settings: &Settings, options: &OpenOptions) -> PathBuf {
    absolute(options.lock.clone()).or_else(|| settings.lock.clone()).unwrap_or_else(|| layout.default_lock())
}

pub(super) fn open_error(error: rocksdb::Error, layout: &Layout) -> LedgerError {
    let text = error.to_string();
    if text.contains("LOCK")
        && (text.contains("lock hold") || text.contains("Resource temporarily unavailable"))
    {
        return LedgerError::Busy { path: layout.dir().to_owned() };
    }
    match error.kind() {
        ErrorKind::Corruption => LedgerError::Damaged { place: "database".to_owned(), detail: text },
        _ => LedgerError::Database(error),
    }
}

/// Counts the stored entries, which may be more than were acknowledged.
pub(super) fn stored_size(db: &DB) -> Result<u64, LedgerError> {
    let mut iterator = db.raw_iterator_cf(family(db, families::ENTRIES)?);
    iterator.seek_to_last();
    iterator.status()?;
    match iterator.key() {
        None => Ok(0),
        Some(key) => {
            let seq = <[u8; 8]>::try_from(key).ok().map(u64::from_be_bytes);
            seq.and_then(|seq| seq.checked_add(1)).ok_or_else(|| LedgerError::Damaged {
                place: "last entry".to_owned(),
                detail: "its key is not a position".to_owned(),
            })
        }
    }
}

/// Counts the entries up to the first that is missing. For a ledger that nobody can tell the size of: the key of its
/// last entry may be anything.
fn continuous_size(db: &DB) -> Result<u64, LedgerError> {
    let mut rows = db.raw_iterator_cf(family(db, families::ENTRIES)?);
    rows.seek_to_first();
    let mut size = 0u64;
    while rows.key() == Some(&size.to_be_bytes()[..]) {
        size += 1;
        rows.next();
    }
    rows.status()?;
    Ok(size)
}

/// Checks that the database holds what the lock says was acknowledged, and returns that head.
pub(super) fn acknowledged(
    db: &DB,
    path: &Path,
    lock: &LockState,
    authority: &Authority,
    stored: u64,
) -> Result<Head, LedgerError> {
    check_length(lock, stored)?;
    check_lock(path, lock, authority)?;
    let damaged = |detail: String| LedgerError::LockDamaged { path: path.to_owned(), detail };
    let want = lock.root().ok_or_else(|| damaged("its root is not a hash".to_owned()))?;
    let nodes = StoredNodes::new(db)?;
    let got = merkle::root_at(&nodes, lock.acked)?;
    if got != want {
        return Err(LedgerError::Forked { size: lock.acked, got, want });
    }
    // Size and root can be written by whoever reaches the lock; the checkpoint only by who has the log key.
    if let Some(note) = &lock.checkpoint {
        let signed = authority.verify_checkpoint(note);
        let signed = signed.map_err(|error| damaged(format!("its checkpoint: {error}")))?;
        if signed.size > lock.acked {
            return Err(damaged(format!(
                "its checkpoint signs more than the {} that it acknowledges",
                lock.acked
            )));
        }
        let root = merkle::root_at(&nodes, signed.size)?;
        if root != signed.root {
            return Err(LedgerError::Forked { size: signed.size, got: root, want: signed.root });
        }
    }
    Ok(Head { size: lock.acked, root: got })
}

/// Checks that nothing that was acknowledged is missing at the end.
fn check_length(lock: &LockState, stored: u64) -> Result<(), LedgerError> {
    if stored < lock.acked {
        return Err(LedgerError::RolledBack { have: stored, want: lock.acked });
    }
    Ok(())
}

/// Checks that the lock is this ledger's: its UUID, under the origin that is in force, or under the one that a
/// restore was told to begin.
pub(super) fn check_lock(path: &Path, lock: &LockState, authority: &Authority) -> Result<(), LedgerError> {
    let begins = restore::pending_origin(lock).is_some_and(|origin| origin == lock.origin);
    if lock.origin == authority.origin() || begins {
        return check_uuid(path, lock, authority.uuid());
    }
    Err(foreign(path, lock))
}

fn check_uuid(path: &Path, lock: &LockState, uuid: &str) -> Result<(), LedgerError> {
    if lock.uuid == uuid { Ok(()) } else { Err(foreign(path, lock)) }
}

fn foreign(path: &Path, lock: &LockState) -> LedgerError {
    LedgerError::LockDamaged {
        path: path.to_owned(),
        detail: format!("it belongs to ledger `{}` ({})", lock.origin, lock.uuid),
    }
}

pub(super) struct Parts {
    pub(super) layout: Layout,
    pub(super) settings: Settings,
    pub(super) lock_path: PathBuf,
    pub(super) lock_state: LockState,
    /// What the local anchors held before the lock was read.
    pub(super) pins: Pins,
}

impl Parts {
    /// Checks that the ledger has what its local anchors hold. What a restore is about to give up is no contradiction.
    fn check_anchors(&self, db: &DB, size: u64, authority: &Authority) -> Result<(), LedgerError> {
        match restore::pending(&self.lock_state, authority) {
            Some(_) => Ok(()),
            None => self.pins.check(db, size, authority),
        }
    }

    pub(super) fn genesis(&self) -> Result<Link, LedgerError> {
        genesis_link(&self.settings, &self.layout)
    }

    /// Checks that the settings are those that the first of `size` entries commits to.
    pub(super) fn check_genesis(&self, db: &DB, size: u64) -> Result<(), LedgerError> {
        let damaged = |detail: String| LedgerError::Damaged { place: "entry 0".to_owned(), detail };
        let Some(entry) = db.get_pinned_cf(family(db, families::ENTRIES)?, 0u64.to_be_bytes())? else {
            return if size == 0 { Ok(()) } else { Err(damaged("is missing".to_owned())) };
        };
        let view = EntryView::parse(&entry).map_err(|error| damaged(error.to_string()))?;
        if view.prev != self.genesis()?.to_string() {
            let detail = "it does not commit to the origin, UUID and verifier key in verdict.json";
            return Err(damaged(detail.to_owned()));
        }
        let body: Map<String, Value> =
            serde_json::from_str(view.body.get()).map_err(|error| damaged(error.to_string()))?;
        if view.kind != LEDGER_CREATED
            || body.get("bundle_key").and_then(Value::as_str) != Some(&self.settings.bundle_key)
        {
            return Err(damaged("it does not commit to the bundle key in verdict.json".to_owned()));
        }
        Ok(())
    }

    /// Starts the writer on a checked database.
    fn start(
        mut self,
        db: Arc<DB>,
        lock: LockFile,
        options: &OpenOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Ledger, LedgerError> {
        let genesis = self.genesis()?;
        // Before anything that is made from the entries is read.
        rebuild::check_finished(&db)?;
        let entropy = &options.entropy;
        let stored = stored_size(&db)?;
        check_length(&self.lock_state, stored)?;
        self.check_genesis(&db, stored)?;
        let authority = history::load(&db, &self.settings, stored)?;
        acknowledged(&db, &self.lock_path, &self.lock_state, &authority, stored)?;
        self.check_anchors(&db, stored, &authority)?;
        let secret = StoreSecret::load(&self.layout.store_secret(), &*options.passphrases)?;
        let signer = custody::current(&self.layout, &authority, Role::Log, &*options.passphrases)?;
        check_rows(&db)?;
        if stored < self.lock_state.in_flight {
            tracing::warn!(
                stored,
                in_flight = self.lock_state.in_flight,
                "a group commit was in flight when the ledger was last closed and is not there; \
                 nothing of it was acknowledged unless the disk lost it"
            );
        }
        let (link, last_ts_ns, frontier) = self.check_tail(&db, stored)?;
        let checkpoint =
            Checkpoint { origin: authority.origin().to_owned(), size: stored, root: frontier.root() };
        let handover = history::Handover {
            db: &db,
            layout: &self.layout,
            authority: &authority,
            lock: &lock,
            link: link.to_string(),
            signer: &*signer,
            passphrases: &*options.passphrases,
        };
        handover.finish(&mut self.lock_state, &checkpoint)?;
        restore::forget_finished(&lock, &mut self.lock_state, &authority)?;
        // From here on a restore that was ordered is under its new origin; its entry is the first.
        let restoring = restore::pending(&self.lock_state, &authority);
        let origin =
            restoring.as_ref().map_or_else(|| authority.origin().to_owned(), |(origin, _)| origin.clone());
        let head = Arc::new(RwLock::new(Head { size: stored, root: frontier.root() }));
        let sealer =
            Arc::new(Sealer::new(Arc::clone(&db), &self.settings.origin, &secret, Arc::clone(entropy)));
        let signed = self.lock_state.checkpoint.as_deref().map(|note| authority.verify_checkpoint(note));
        let last_checkpoint_size = signed.transpose()?.map_or(0, |checkpoint| checkpoint.size);
        self.restore_checkpoint(&db, last_checkpoint_size)?;
        lock.mend(&mut self.lock_state)
            .map_err(|source| LedgerError::Io { path: self.lock_path.clone(), source })?;
        let sequencer = Sequencer::new(
            Arc::clone(&db),
            origin.clone(),
            Arc::clone(&clock),
            Arc::clone(&sealer),
            Arc::clone(&head),
            frontier.clone(),
            (link, last_ts_ns),
            tail::whole(&db, stored)?,
            erasure::erased_bodies(&db)?,
        );
        let lock = Arc::new(lock);
        let committer = Committer {
            db: Arc::clone(&db),
            origin: origin.clone(),
            signing: Signing::start(signer)?,
            waiting: Vec::new(),
            clock,
            sealer: Arc::clone(&sealer),
            flusher: LockFlusher::spawn(Arc::clone(&lock))?,
            lock,
            lock_state: self.lock_state,
            head: Arc::clone(&head),
            frontier,
            link,
            last_checkpoint_size,
            last_checkpoint_ns: 0,
            poisoned: None,
        };
        let settings = self.settings;
        let signing = committer.signing.failure();
        let writer = commit::spawn(sequencer, committer)?;
        let ledger = Ledger {
            inner: Arc::new(Inner {
                writer: Some(writer),
                db,
                layout: self.layout,
                lock_path: self.lock_path,
                origin,
                genesis,
                settings: settings.clone(),
                authority: RwLock::new(Arc::new(authority)),
                passphrases: Arc::clone(&options.passphrases),
                signing,
                detached: false,
                head,
                gate: RwLock::new(()),
                sealer,
                secondary: None,
                tail: Tail::default(),
                doubts: Vec::new(),
            }),
        };
        // Also when an `init` was cut short: a ledger is never without its first entry.
        write_genesis(&ledger, &settings)?;
        if let Some((_, body)) = restoring {
            restore::finish(&ledger, body)?;
        }
        Ok(ledger)
    }

    /// Puts the last checkpoint into the database when a crash came between the lock and the database.
    fn restore_checkpoint(&self, db: &DB, size: u64) -> Result<(), LedgerError> {
        let Some(note) = &self.lock_state.checkpoint else { return Ok(()) };
        let checkpoints = family(db, families::CHECKPOINTS)?;
        if db.get_pinned_cf(checkpoints, size.to_be_bytes())?.is_none() {
            let mut durable = WriteOptions::default();
            durable.set_sync(true);
            db.put_cf_opt(checkpoints, size.to_be_bytes(), note, &durable)?;
        }
        Ok(())
    }

    /// Checks chain and tree of the entries that were written but not known to be acknowledged: at most one group
    /// commit. Returns the link to the last entry, its time, and the frontier of the tree.
    fn check_tail(&self, db: &DB, stored: u64) -> Result<(Link, u64, Frontier), LedgerError> {
        let entries = family(db, families::ENTRIES)?;
        let nodes = StoredNodes::new(db)?;
        let acked = self.lock_state.acked;
        // Up to here the entries lead to the acknowledged root; beyond, they must link to each other.
        let mut frontier = Frontier::load(&nodes, acked)?;
        let (mut link, mut last_ts_ns) = (self.genesis()?, 0);
        for seq in acked.saturating_sub(1)..stored {
            let damaged = |detail: String| LedgerError::Damaged { place: format!("entry {seq}"), detail };
            let entry = db.get_pinned_cf(entries, seq.to_be_bytes())?;
            let entry = entry.ok_or_else(|| damaged("is missing".to_owned()))?;
            let view = EntryView::parse(&entry).map_err(|error| damaged(error.to_string()))?;
            if view.seq != seq.to_string() {
                return Err(damaged(format!("says that it is entry {}", view.seq)));
            }
            if seq >= acked && view.prev != link.to_string() {
                return Err(damaged("is not linked to the entry before it".to_owned()));
            }
            last_ts_ns = view.ts_ns().ok_or_else(|| damaged("has no valid time".to_owned()))?;
            link = Link::of_entry(&entry);
            if seq < acked {
                if self.lock_state.link != link.to_string() {
                    return Err(damaged("is not the entry that was acknowledged at its position".to_owned()));
                }
                continue;
            }
            let mut wrong = None;
            frontier.push(merkle::leaf_hash(&entry), |level, index, hash| {
                if level > 0 && level.is_multiple_of(TILE_LEVELS) {
                    match nodes.stored(level, index) {
                        Ok(stored) if stored == *hash => {}
                        Ok(_) => {
                            let detail = format!("tree hash {index} of level {level} is not its own");
                            wrong = Some(damaged(detail));
                        }
                        Err(error) => wrong = Some(error),
                    }
                }
            });
            if let Some(error) = wrong {
                return Err(error);
            }
        }
        Ok((link, last_ts_ns, frontier))
    }
}

/// Returns the link that the first entry must have.
fn genesis_link(settings: &Settings, layout: &Layout) -> Result<Link, LedgerError> {
    let mut uuid = [0; 16];
    hex::decode_to_slice(&settings.uuid, &mut uuid).map_err(|_| LedgerError::Settings {
        path: layout.dir().join("verdict.json"),
        detail: "`uuid` is not 32 hexadecimal digits".to_owned(),
    })?;
    Ok(Link::genesis(&settings.origin, &uuid, &settings.verifier_key))
}

/// Working directory of a secondary instance; removed when dropped. Its name cannot be guessed and it is never one
/// that was there: another user of the machine must not lead the files that are written in it elsewhere.
#[derive(Debug)]
pub(super) struct SecondaryDir(PathBuf);

impl SecondaryDir {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn create(entropy: &dyn Entropy) -> Result<Self, LedgerError> {
        let mut tried = 0;
        loop {
            let mut random = [0; 16];
            entropy.fill(&mut random).map_err(crate::key::KeyError::from)?;
            let path = std::env::temp_dir().join(format!("verdict-reader-{}", hex::encode(random)));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tried < NAMES_TRIED => {
                    tried += 1;
                }
                Err(source) => return Err(LedgerError::Io { path, source }),
            }
        }
    }
}

impl Drop for SecondaryDir {
    fn drop(&mut self) {
        // It holds only an information log; a leftover harms nothing.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppingClock;
    use rocksdb::IteratorMode;

    #[test]
    fn an_init_that_was_cut_short_is_finished_by_the_next_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let clock: Arc<dyn Clock> = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        let ledger = init(&path, &InitOptions::new("ledger.example/test"), Arc::clone(&clock)).unwrap();
        let lock_path = ledger.lock_path().to_owned();
        drop(ledger);

        // The database and the lock as they are just before the first entry.
        let layout = Layout::new(&path);
        let db =
            DB::open_cf_descriptors(&families::db_options(), layout.db(), families::descriptors()).unwrap();
        for name in DB::list_cf(&families::db_options(), layout.db()).unwrap() {
            let cf = family(&db, &name).unwrap();
            for row in db.iterator_cf(cf, IteratorMode::Start).filter(|_| name != META) {
                db.delete_cf(cf, row.unwrap().0).unwrap();
            }
        }
        drop(db);
        let (lock, state) = LockFile::open(&lock_path, true).unwrap();
        let root = merkle::empty_root().to_string();
        let counter = state.counter + 1;
        lock.write(&LockState { counter, acked: 0, root, in_flight: 0, checkpoint: None, ..state }).unwrap();
        drop(lock);

        let ledger = open_writer(&path, &OpenOptions::default(), clock).unwrap();
        assert_eq!(ledger.head().size, 1);
        assert_eq!(ledger.record(0).unwrap().unwrap().kind, LEDGER_CREATED);
        assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
    }

    #[test]
    fn a_lock_that_contradicts_its_own_checkpoint_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let clock: Arc<dyn Clock> = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        let ledger = init(&path, &InitOptions::new("ledger.example/test"), Arc::clone(&clock)).unwrap();
        let lock_path = ledger.lock_path().to_owned();
        drop(ledger);

        // Whoever cuts the database can write a smaller size into the lock, but cannot sign it.
        let (lock, state) = LockFile::open(&lock_path, true).unwrap();
        let root = merkle::empty_root().to_string();
        let counter = state.counter + 1;
        lock.write(&LockState { counter, acked: 0, root, in_flight: 0, ..state }).unwrap();
        drop(lock);
        for result in [
            open_reader(&path, &OpenOptions::default()),
            open_writer(&path, &OpenOptions::default(), Arc::clone(&clock)),
        ] {
            assert!(matches!(result.unwrap_err(), LedgerError::LockDamaged { .. }));
        }
    }
}
