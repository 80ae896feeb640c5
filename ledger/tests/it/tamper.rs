//! Somebody with the files changes them; verification must notice and name the place.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests stop at the first surprise")]

use std::path::Path;
use std::sync::Arc;

use rocksdb::{ColumnFamilyDescriptor, DB, Options};
use verdict_ledger::clock::SteppingClock;
use verdict_ledger::{Class, InitOptions, Ledger, LedgerError, OpenOptions, Report};

use crate::store::append;

const ENTRIES: u32 = 40;
/// Entries whose terms have rows: those of complete blocks.
const BLOCK: u32 = 256;

/// Fills a ledger, closes it, lets `change` loose on the database, and verifies.
fn after(change: impl FnOnce(&DB)) -> Result<Report, LedgerError> {
    after_with(ENTRIES, change)
}

fn after_with(entries: u32, change: impl FnOnce(&DB)) -> Result<Report, LedgerError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
    let ledger = Ledger::init(&path, &InitOptions::new("ledger.example/test"), clock).unwrap();
    append(&ledger, 0..entries / 2);
    ledger.settle().unwrap();
    append(&ledger, entries / 2..entries);
    drop(ledger);
    change(&raw(&path.join("db")));
    Ledger::open_to_inspect(&path, &OpenOptions::default())?.verify(&mut |_, _| {})
}

/// Opens the database without the ledger, as an administrator could.
pub(crate) fn raw(path: &Path) -> DB {
    let names = DB::list_cf(&Options::default(), path).unwrap();
    let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    DB::open_cf_descriptors(&Options::default(), path, families).unwrap()
}

pub(crate) fn get(db: &DB, family: &str, key: &[u8]) -> Vec<u8> {
    db.get_cf(db.cf_handle(family).unwrap(), key).unwrap().unwrap()
}

pub(crate) fn put(db: &DB, family: &str, key: &[u8], value: &[u8]) {
    db.put_cf(db.cf_handle(family).unwrap(), key, value).unwrap();
}

pub(crate) fn keys(db: &DB, family: &str) -> Vec<Box<[u8]>> {
    let family = db.cf_handle(family).unwrap();
    db.iterator_cf(family, rocksdb::IteratorMode::Start).map(|row| row.unwrap().0).collect()
}

#[track_caller]
fn assert_first(report: &Report, seq: u64, class: Class) {
    let first = report.failures.first().expect("tampering is found");
    assert_eq!((first.seq, first.class), (Some(seq), class), "{:#?}", report.failures);
}

#[test]
fn untouched_it_verifies() {
    let report = after(|_| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.failures);
    assert_eq!(report.entries, u64::from(ENTRIES) + 1);
    assert!(report.disclosures > 0 && report.checkpoints >= 2 && report.bytes > 0);
}

#[test]
fn every_changed_entry_is_named() {
    // One byte in each entry in turn would be an hour of databases; one ledger with every entry changed is not a
    // naming test. A changed first, middle and last entry are.
    for seq in [0u64, 7, u64::from(ENTRIES)] {
        let result = after(|db| {
            let mut entry = get(db, "entries", &seq.to_be_bytes());
            let middle = entry.len() / 2;
            entry[middle] ^= 1;
            put(db, "entries", &seq.to_be_bytes(), &entry);
        });
        let report = result.unwrap();
        assert_eq!(
            report.failures.first().expect("tampering is found").seq,
            Some(seq),
            "{:#?}",
            report.failures
        );
    }
}

#[test]
fn a_well_formed_forgery_breaks_the_tree_at_its_place() {
    let report = after(|db| {
        let key = 9u64.to_be_bytes();
        let entry = String::from_utf8(get(db, "entries", &key)).unwrap();
        put(db, "entries", &key, entry.replace("support-agent", "support-agend").as_bytes());
    })
    .unwrap();
    assert_first(&report, 9, Class::Chain);
    assert!(report.failures.iter().any(|failure| failure.class == Class::Forked));
}

#[test]
fn swapped_and_deleted_entries_are_named() {
    let report = after(|db| {
        let (a, b) = (get(db, "entries", &5u64.to_be_bytes()), get(db, "entries", &6u64.to_be_bytes()));
        put(db, "entries", &5u64.to_be_bytes(), &b);
        put(db, "entries", &6u64.to_be_bytes(), &a);
    })
    .unwrap();
    assert_first(&report, 5, Class::Entry);

    let report = after(|db| {
        db.delete_cf(db.cf_handle("entries").unwrap(), 5u64.to_be_bytes()).unwrap();
    })
    .unwrap();
    assert_first(&report, 5, Class::Entry);
}

#[test]
fn changed_tree_hashes_checkpoints_and_disclosures_are_named() {
    let tile = |level: u8, index: u64| [&[level][..], &index.to_be_bytes()].concat();
    let report = after_with(600, |db| put(db, "tiles", &tile(8, 1), &[9; 32])).unwrap();
    assert_first(&report, 511, Class::Tree);
    let report = after_with(600, |db| put(db, "tiles", &tile(8, 2), &[9; 32])).unwrap();
    assert_eq!(report.failures[0].class, Class::Tree, "{:#?}", report.failures);

    let report = after(|db| {
        let key = keys(db, "checkpoints").remove(1);
        let note = String::from_utf8(get(db, "checkpoints", &key)).unwrap();
        let size = u64::from_be_bytes((*key).try_into().unwrap());
        put(
            db,
            "checkpoints",
            &key,
            note.replace(&format!("\n{size}\n"), &format!("\n{}\n", size + 1)).as_bytes(),
        );
    })
    .unwrap();
    assert_first(&report, u64::from(ENTRIES) / 2 + 1, Class::Checkpoint);

    let report = after(|db| {
        let key = keys(db, "disclosures").remove(10);
        let mut row = get(db, "disclosures", &key);
        let last = row.len() - 1;
        row[last] ^= 1;
        put(db, "disclosures", &key, &row);
    })
    .unwrap();
    assert_eq!(report.failures[0].class, Class::Disclosure);
    assert!(report.failures[0].seq.is_some());
}

#[test]
fn a_cut_tail_is_refused_on_open() {
    let result = after(|db| {
        for seq in [u64::from(ENTRIES) - 1, u64::from(ENTRIES)] {
            db.delete_cf(db.cf_handle("entries").unwrap(), seq.to_be_bytes()).unwrap();
        }
    });
    let report = result.unwrap();
    assert_first(&report, 39, Class::RolledBack);
    assert!(report.failures[0].detail.contains("39..41"), "{:#?}", report.failures);
}

#[test]
fn an_index_that_no_longer_finds_an_entry_is_named() {
    let families = ["ix_id", "ix_terms", "ix_traces", "ix_trace_starts"];
    let report = after_with(BLOCK + 20, |db| {
        for family in families {
            let key = keys(db, family).pop().unwrap();
            db.delete_cf(db.cf_handle(family).unwrap(), key).unwrap();
        }
    })
    .unwrap();
    for family in families {
        assert!(
            report
                .failures
                .iter()
                .any(|f| f.class == Class::Index && f.detail.contains(&format!("`{family}`"))),
            "{family}: {:#?}",
            report.failures
        );
    }
}

#[test]
fn an_index_row_that_points_elsewhere_is_named() {
    let report = after_with(BLOCK + 20, |db| {
        // The tool index is number 3; its only complete block says where `issue_refund` was called.
        let key = [b"\x03issue_refund\0".as_slice(), &0u64.to_be_bytes()].concat();
        let mut row = get(db, "ix_terms", &key);
        row[0] -= 1;
        put(db, "ix_terms", &key, &row);
    })
    .unwrap();
    assert_eq!(report.failures.len(), 1, "{:#?}", report.failures);
    assert_eq!(report.failures[0].class, Class::Index);
}

#[test]
fn values_without_their_keys_are_counted() {
    let whole = after(|_| {}).unwrap();
    assert_eq!(whole.withheld, 0);
    let report = after(|db| {
        for key in keys(db, "data_keys") {
            db.delete_cf(db.cf_handle("data_keys").unwrap(), key).unwrap();
        }
    })
    .unwrap();
    assert_eq!(report.withheld, whole.disclosures);

    let report = after(|db| {
        let key = keys(db, "disclosures").remove(0);
        db.delete_cf(db.cf_handle("disclosures").unwrap(), key).unwrap();
    })
    .unwrap();
    assert_eq!(report.withheld, 3, "all disclosed values of an entry");
}

#[test]
fn rows_of_another_version_and_keys_that_are_no_positions_are_refused() {
    let result = after(|db| put(db, "meta", b"rows", &2u32.to_be_bytes()));
    assert!(matches!(result, Err(LedgerError::Rows { found: 2, known: 1 })), "{result:?}");
    let result = after(|db| put(db, "meta", b"rows", b"?"));
    assert!(matches!(result, Err(LedgerError::Damaged { .. })), "{result:?}");
    for key in [&[0xff; 8][..], &[0xff; 9]] {
        let result = after(|db| put(db, "entries", key, b"{}"));
        assert!(matches!(result, Err(LedgerError::Damaged { .. })), "{result:?}");
    }
}

#[test]
fn a_checkpoint_that_only_the_lock_has_is_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
    let ledger =
        Ledger::init(&path, &InitOptions::new("ledger.example/test"), Arc::<SteppingClock>::clone(&clock))
            .unwrap();
    append(&ledger, 0..ENTRIES);
    ledger.settle().unwrap();
    let newest = ledger.checkpoint().unwrap();
    drop(ledger);
    let db = raw(&path.join("db"));
    let key = keys(&db, "checkpoints").pop().unwrap();
    db.delete_cf(db.cf_handle("checkpoints").unwrap(), key).unwrap();
    drop(db);
    let ledger = Ledger::open(&path, &OpenOptions::default(), clock).unwrap();
    assert_eq!(ledger.checkpoint().unwrap(), newest);
}
