//! Readers while the writer moves the files under them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rocksdb::DB;
use serde_json::json;

use super::error::LedgerError;
use super::families::{self, family};
use super::{InitOptions, Ledger, OpenOptions, Order, Query};
use crate::clock::{Clock, SteppingClock};
use crate::event::ACTION_REPORTED;
use crate::record::{Batch, NewRecord};

struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<dyn Clock>,
}

impl Bench {
    fn new() -> (Self, Ledger) {
        let clock: Arc<dyn Clock> = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        let bench = Self { dir: tempfile::tempdir().unwrap(), clock: Arc::clone(&clock) };
        let ledger = Ledger::init(&bench.path(), &InitOptions::new("ledger.example/readers"), clock).unwrap();
        (bench, ledger)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn open(&self) -> Ledger {
        Ledger::open(&self.path(), &OpenOptions::default(), Arc::clone(&self.clock)).unwrap()
    }

    fn reader(&self) -> Result<Ledger, LedgerError> {
        Ledger::open_reader(&self.path(), &OpenOptions::default())
    }

    fn tables(&self) -> BTreeSet<PathBuf> {
        let files = std::fs::read_dir(self.path().join("db")).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "sst")).collect()
    }
}

fn batch(numbers: std::ops::Range<u64>) -> Batch {
    let records = numbers.map(|number| NewRecord {
        kind: ACTION_REPORTED.into(),
        body: json!({
            "id": format!("event-{number}"),
            "trace_id": format!("{:032x}", number / 4 + 1),
            "action": {"kind": "tool", "name": "issue_refund", "arguments": {"n": number}},
        })
        .as_object()
        .unwrap()
        .clone(),
        stream: None,
    });
    Batch { records: records.collect(), blobs: Vec::new() }
}

/// Puts everything into tables, and makes one of many, so that the old ones are deleted.
fn compact(db: &DB) {
    for name in [families::DERIVED.as_slice(), &[families::ENTRIES, families::DISCLOSURES]].concat() {
        let cf = family(db, name).unwrap();
        db.flush_cf(cf).unwrap();
        let mut options = rocksdb::CompactOptions::default();
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        db.compact_range_cf_opt(cf, None::<&[u8]>, None::<&[u8]>, &options);
    }
}

/// Reads all there is in every way, and says how much that was.
fn read_all(ledger: &Ledger) -> u64 {
    let size = ledger.head().size;
    let records = ledger.records(0..u64::MAX).map(Result::unwrap).count() as u64;
    assert_eq!(records, size);
    let query = Query { tools: vec!["issue_refund".into()], ..Query::default() };
    let found = ledger.query(&query, Order::Newest, None).unwrap().map(Result::unwrap).count() as u64;
    assert_eq!(found, size - 1);
    size
}

#[test]
fn a_reader_goes_on_when_the_files_that_it_reads_are_deleted() {
    let (bench, ledger) = Bench::new();
    for first in (0..900).step_by(300) {
        ledger.append(batch(first..first + 300)).unwrap();
        for name in [families::ENTRIES, families::POSTINGS] {
            ledger.inner.db.flush_cf(family(&ledger.inner.db, name).unwrap()).unwrap();
        }
    }
    ledger.settle().unwrap();
    let reader = bench.reader().unwrap();
    let before = bench.tables();
    ledger.append(batch(900..1_300)).unwrap();
    compact(&ledger.inner.db);
    assert!(before.is_disjoint(&bench.tables()), "every table that the reader opened is gone");

    assert_eq!(read_all(&reader), 901, "at its position");
    assert!(reader.verify(&mut |_, _| {}).unwrap().is_clean());
    ledger.settle().unwrap();
    reader.refresh().unwrap();
    assert_eq!(read_all(&reader), 1_301);
    compact(&ledger.inner.db);
    assert_eq!(read_all(&reader), 1_301);
    assert_eq!(read_all(&bench.reader().unwrap()), 1_301);
    drop(ledger);
    let ledger = bench.open();
    ledger.append(batch(1_300..1_310)).unwrap();
    ledger.settle().unwrap();
    reader.refresh().unwrap();
    assert_eq!(read_all(&reader), 1_311, "also past a writer that was opened again");
}

#[test]
fn readers_are_opened_and_brought_on_while_the_writer_flushes_and_compacts() {
    let (bench, ledger) = Bench::new();
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(1));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let reader = bench.reader().unwrap();
                    for _ in 0..3 {
                        let size = read_all(&reader);
                        assert!(size >= last, "a later reader sees no less");
                        last = size;
                        match reader.refresh() {
                            Ok(()) => {}
                            Err(LedgerError::Reopen) => {
                                assert_eq!(read_all(&reader), last, "it still has what it had");
                                break;
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                assert!(last <= acknowledged.load(Ordering::SeqCst));
            });
        }
        for round in 0..40 {
            let receipt = ledger.append(batch(round * 40..round * 40 + 40)).unwrap();
            acknowledged.store(receipt.size, Ordering::SeqCst);
            if round % 3 == 0 {
                compact(&ledger.inner.db);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn after_a_crash_readers_see_at_most_one_group_less_until_a_writer_opens() {
    let (bench, ledger) = Bench::new();
    ledger.append(batch(0..10)).unwrap();
    ledger.settle().unwrap();
    // A crash right after an acknowledgement: the lock says what was acknowledged before it, and what was in flight.
    let level = std::fs::read(ledger.lock_path()).unwrap();
    ledger.append(batch(10..20)).unwrap();
    let in_flight = std::fs::read(ledger.lock_path()).unwrap();
    drop(ledger);
    assert_ne!(level, in_flight);
    for lock in [level, in_flight] {
        std::fs::write(bench.path().with_extension("lock"), &lock).unwrap();
        let reader = bench.reader().unwrap();
        let size = read_all(&reader);
        assert!(size == 11 || size == 21, "{size}");
        assert!(reader.verify(&mut |_, _| {}).unwrap().is_clean());
    }
    let ledger = bench.open();
    assert_eq!(ledger.head().size, 21, "nothing was lost: the writer counts what it finds whole");
    ledger.settle().unwrap();
    assert_eq!(read_all(&bench.reader().unwrap()), 21);
}
