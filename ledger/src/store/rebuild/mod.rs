//! Making indexes and tree hashes again from the entries and what is left of their disclosed values.
//!
//! First every entry is checked against chain and lock, so that nothing is thrown away unless the log is the one that
//! was acknowledged. Then a marker goes into `meta`, the derived families are made anew and filled past the
//! write-ahead log, and when they are in tables on the disk the marker is taken away in the same batch that says which
//! version the rows have. While the marker is there nobody opens the ledger, so that half an index never answers; a
//! rebuild that was cut short is finished by the next one, which starts over. The families are dropped, not emptied,
//! because emptying one reads it, and a damaged table is a reason to be here.

mod derive;
mod log;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rocksdb::{DB, FlushOptions, WriteBatch, WriteOptions};

use self::derive::Derivation;
use super::anchored::Pins;
use super::codec::ROWS_VERSION;
use super::error::LedgerError;
use super::families::{self, DERIVED, META, family};
use super::layout::Layout;
use super::lock::LockFile;
use super::open::{self, Parts};
use super::recover;
use super::seal::Sealer;
use super::{Head, OpenOptions, shelf};
use crate::key::StoreSecret;

/// Key in `meta` of the marker.
const MARKER: &[u8] = b"rebuild";

/// Oldest version of the rows whose disclosed values and data keys this version can read. When it rises, older ones
/// have to be read here, because they cannot be made from anything else.
const ROWS_READABLE_FROM: u32 = 0;

/// What a rebuild made.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Rebuilt {
    /// Entries read.
    pub entries: u64,
    /// Root of the log, hex.
    pub root: String,
    /// Rows by family.
    pub rows: BTreeMap<&'static str, u64>,
    /// Entries with disclosed values that are there and cannot be read; `verify` tells which.
    pub unreadable: u64,
}

/// Refuses a database in which a rebuild has begun and not ended.
pub(super) fn check_finished(db: &DB) -> Result<(), LedgerError> {
    match db.get_pinned_cf(family(db, META)?, MARKER)? {
        Some(_) => Err(LedgerError::Rebuilding),
        None => Ok(()),
    }
}

pub(super) fn rebuild(
    dir: &Path,
    options: &OpenOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Rebuilt, LedgerError> {
    let layout = Layout::new(dir);
    let settings = layout.read_settings()?;
    let lock_path = open::lock_path(&layout, &settings, options);
    let secret = StoreSecret::load(&layout.store_secret(), &*options.passphrases)?;
    // A cut between a family that is gone and the one that replaces it leaves it missing.
    let mut create = families::db_options();
    create.create_missing_column_families(true);
    let mut db = recover::open_for_writing(&layout, &settings, &lock_path, options, &create)?;
    // Held to the end: nobody writes under this lock meanwhile.
    let (_lock, lock_state) = LockFile::open(&lock_path, true)?;
    let parts = Parts { layout, settings, lock_path, lock_state, pins: Pins::default() };
    let size = open::stored_size(&db)?;
    parts.check_genesis(&db, size)?;
    let head = log::check(&db, &parts, size, &mut |done| progress(done, 2 * size))?;
    check_version(&db)?;

    let mut durable = WriteOptions::default();
    durable.set_sync(true);
    db.put_cf_opt(family(&db, META)?, MARKER, ROWS_VERSION.to_be_bytes(), &durable)?;
    shelf::clear(&parts.layout.projections())?;
    let mut dropped = false;
    for name in DERIVED {
        dropped |= families::clear(&mut db, name)?;
    }
    let db = Arc::new(db);
    let sealer = Sealer::new(Arc::clone(&db), &parts.settings.origin, &secret, Arc::clone(&options.entropy));
    let mut derivation = Derivation::new(&db, &sealer)?;
    derivation.run(size, &mut |done| progress(size + done, 2 * size))?;
    finish(&db, &durable)?;
    let rebuilt = derivation.into_report(head);
    if dropped {
        let Parts { layout, settings, lock_path, .. } = parts;
        drop((sealer, db));
        recover::open_for_writing(&layout, &settings, &lock_path, options, &families::db_options())?;
    }
    Ok(rebuilt)
}

/// Brings the new rows to the disk, and only then says that they are whole.
fn finish(db: &DB, durable: &WriteOptions) -> Result<(), LedgerError> {
    let mut flush = FlushOptions::default();
    flush.set_wait(true);
    for name in DERIVED {
        db.flush_cf_opt(family(db, name)?, &flush)?;
    }
    let meta = family(db, META)?;
    let mut batch = WriteBatch::default();
    batch.put_cf(meta, b"rows", ROWS_VERSION.to_be_bytes());
    batch.delete_cf(meta, MARKER);
    Ok(db.write_opt(batch, durable)?)
}

/// Refuses rows of a version that holds what this one cannot read.
fn check_version(db: &DB) -> Result<(), LedgerError> {
    let found = open::rows_version(db)?;
    if (ROWS_READABLE_FROM..=ROWS_VERSION).contains(&found) {
        return Ok(());
    }
    Err(LedgerError::Rows { found, known: ROWS_VERSION })
}

impl Derivation<'_> {
    fn into_report(self, head: Head) -> Rebuilt {
        Rebuilt {
            entries: head.size,
            root: head.root.to_string(),
            rows: self.rows,
            unreadable: self.unreadable,
        }
    }
}

#[cfg(test)]
mod tests;
