//! What belongs to nothing: entries behind the end of the log, families and rows that no ledger writes. None of it is
//! shown to anybody, and all of it would be taken for real once the log has grown to where it lies.

use rocksdb::{DB, Direction, IteratorMode, Options, ReadOptions};

use super::{Class, Report};
use crate::authority::RESTORE_PERFORMED;
use crate::chain::Link;
use crate::entry::EntryView;
use crate::store::Ledger;
use crate::store::error::LedgerError;
use crate::store::families::{self, family};
use crate::store::lock::LockFile;

/// Tells whether an entry is stored, acknowledged or not. Rows that a commit writes with its entries are looked at
/// before this is asked: a ledger that is written meanwhile then has the entries of every row that was seen.
pub(super) fn has_entry(db: &DB, seq: u64) -> Result<bool, LedgerError> {
    Ok(db.get_pinned_cf(family(db, families::ENTRIES)?, seq.to_be_bytes())?.is_some())
}

/// Checks what is stored behind the end of the log: at most one group commit that was not acknowledged, which must
/// continue the log. `last` is the link to its last entry.
pub(super) fn check_log(
    ledger: &Ledger,
    last: Option<Link>,
    size: u64,
    report: &mut Report,
) -> Result<(), LedgerError> {
    let db = &ledger.inner.db;
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    let start = size.to_be_bytes();
    let mode = IteratorMode::From(&start, Direction::Forward);
    let rows = db.iterator_cf_opt(family(db, families::ENTRIES)?, options, mode);
    let mut prev = last;
    let mut origin = ledger.origin().to_owned();
    let mut end = size;
    for (row, seq) in rows.zip(size..) {
        let (key, entry) = match row {
            Ok(row) => row,
            Err(error) => {
                report.fail(Some(seq), Class::Entry, format!("cannot be read: {error}"));
                break;
            }
        };
        let why = if *key == seq.to_be_bytes() {
            match EntryView::parse(&entry) {
                Err(error) => error.to_string(),
                Ok(view) if view.seq != seq.to_string() => format!("it says that it is entry {}", view.seq),
                Ok(view) if prev.is_some_and(|prev| view.prev != prev.to_string()) => {
                    "it is not linked to the entry before it".to_owned()
                }
                Ok(view) if view.origin != origin && view.kind != RESTORE_PERFORMED => {
                    format!("it belongs to log `{}`", view.origin)
                }
                Ok(view) if view.ts_ns().is_none() => "it has no valid time".to_owned(),
                Ok(view) => {
                    origin = view.origin.into_owned();
                    end = seq + 1;
                    prev = Some(Link::of_entry(&entry));
                    continue;
                }
            }
        } else {
            "an entry is stored behind the end of the log and does not continue it".to_owned()
        };
        // What comes after one that does not fit cannot fit either.
        report.fail(Some(seq), Class::Entry, why);
        break;
    }
    if end > size {
        // Of a ledger that is written meanwhile most of them are acknowledged by now.
        let acked = LockFile::open(&ledger.inner.lock_path, false).map_or(size, |(_, lock)| lock.acked);
        report.unacknowledged = end - end.min(acked.max(size));
    }
    Ok(())
}

/// Looks for families and rows that no ledger writes.
pub(super) fn check_database(ledger: &Ledger, report: &mut Report) -> Result<(), LedgerError> {
    let db = &ledger.inner.db;
    let names = DB::list_cf(&Options::default(), ledger.inner.layout.db())?;
    for name in names.iter().filter(|name| !families::is_known(name)) {
        report.fail(None, Class::Database, format!("there is a column family `{name}` that no ledger has"));
    }
    for (name, known) in [(families::DEFAULT, None), (families::META, Some(&b"rows"[..]))] {
        let mut rows = db.raw_iterator_cf(family(db, name)?);
        rows.seek_to_first();
        while let Some(key) = rows.key() {
            if Some(key) != known {
                let key = String::from_utf8_lossy(key).into_owned();
                report.fail(
                    None,
                    Class::Database,
                    format!("`{name}` has a row `{key}` that no ledger writes"),
                );
            }
            rows.next();
        }
        rows.status()?;
    }
    Ok(())
}
