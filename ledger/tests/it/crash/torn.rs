//! A write-ahead log with a hole: dropped where nothing in it was acknowledged, refused where something was.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use verdict_ledger::clock::SystemClock;
use verdict_ledger::{InitOptions, Ledger, LedgerError, OpenOptions};

use super::workload::{self, BatchName};
use super::writer::ORIGIN;

struct Torn {
    _dir: tempfile::TempDir,
    ledger: PathBuf,
    /// Size that the lock acknowledges.
    acked: u64,
}

/// A ledger whose last batch fills several blocks of the log and is damaged. `acknowledged`: whether the lock knows of
/// that batch. `spoil` gets the log from where that batch begins.
fn torn(acknowledged: bool, spoil: fn(&mut [u8])) -> Torn {
    let dir = tempfile::tempdir().unwrap();
    let (path, lock) = (dir.path().join("ledger"), dir.path().join("ledger.lock"));
    let ledger = Ledger::init(&path, &InitOptions::new(ORIGIN), Arc::new(SystemClock)).unwrap();
    let name = |number| BatchName { seed: 1, thread: 0, number };
    ledger.append(workload::batch(name(0))).unwrap();
    ledger.settle().unwrap();
    let mut acked = ledger.head().size;
    let (lock_before, log_before) = (fs::read(&lock).unwrap(), fs::metadata(log(&path)).unwrap().len());
    let big = (1..10_000).map(name).find(|name| workload::events(*name).0.len() > 30).unwrap();
    let size = ledger.append(workload::batch(big)).unwrap().size;
    drop(ledger);
    if acknowledged {
        acked = size;
    } else {
        // As if the flush of the lock had come too late.
        fs::write(&lock, lock_before).unwrap();
    }
    let mut bytes = fs::read(log(&path)).unwrap();
    spoil(&mut bytes[usize::try_from(log_before).unwrap()..]);
    fs::write(log(&path), bytes).unwrap();
    Torn { _dir: dir, ledger: path, acked }
}

/// A hole in its middle.
fn hole(bytes: &mut [u8]) {
    assert!(bytes.len() > 20_000, "the batch is too small to be torn");
    bytes[12_345..12_345 + 512].fill(0);
}

/// One turned bit in its first header makes its kind one of recycled logs, at which RocksDB's reader would not end.
fn turned_bit(bytes: &mut [u8]) {
    assert!([1, 2].contains(&bytes[6]), "no header here: {:?}", &bytes[..16]);
    bytes[6] ^= 4;
}

const SPOILS: [fn(&mut [u8]); 2] = [hole, turned_bit];

fn log(ledger: &Path) -> PathBuf {
    let files = fs::read_dir(ledger.join("db")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap()
}

fn open(torn: &Torn) -> Result<Ledger, LedgerError> {
    Ledger::open(&torn.ledger, &OpenOptions::default(), Arc::new(SystemClock))
}

fn reader(torn: &Torn) -> Result<Ledger, LedgerError> {
    Ledger::open_reader(&torn.ledger, &OpenOptions::default())
}

#[test]
fn a_torn_tail_that_was_not_acknowledged_is_dropped() {
    SPOILS.into_iter().for_each(is_dropped);
}

fn is_dropped(spoil: fn(&mut [u8])) {
    let torn = torn(false, spoil);
    let before = reader(&torn).unwrap();
    assert_eq!(before.head().size, torn.acked, "a reader sees what was acknowledged");
    assert!(before.verify(&mut |_, _| {}).unwrap().is_clean());
    before.refresh().unwrap();

    let ledger = open(&torn).unwrap();
    assert_eq!(ledger.head().size, torn.acked);
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
    let name = BatchName { seed: 2, thread: 0, number: 0 };
    let size = ledger.append(workload::batch(name)).unwrap().size;
    ledger.settle().unwrap();
    assert!(matches!(before.refresh(), Err(LedgerError::Reopen)), "it follows nobody, and says so");
    drop(ledger);
    assert_eq!(open(&torn).unwrap().head().size, size);
}

#[test]
fn damage_to_what_was_acknowledged_is_refused_and_nothing_is_changed() {
    SPOILS.into_iter().for_each(is_refused);
}

fn is_refused(spoil: fn(&mut [u8])) {
    let torn = torn(true, spoil);
    let damaged = fs::read(log(&torn.ledger)).unwrap();
    for result in [open(&torn), reader(&torn), open(&torn)] {
        match result.unwrap_err() {
            LedgerError::Damaged { place, detail } => {
                assert_eq!(place, "write-ahead log");
                assert!(detail.contains(&format!("..{} were acknowledged", torn.acked)), "{detail}");
            }
            other => panic!("{other:?}"),
        }
        // The bytes behind the hole may still be of use to whoever repairs it.
        assert!(fs::read(log(&torn.ledger)).unwrap() == damaged);
    }
}

#[test]
fn a_turned_bit_in_the_manifest_does_not_hang() {
    let torn = torn(true, |_| {});
    let db = torn.ledger.join("db");
    let manifest = db.join(fs::read_to_string(db.join("CURRENT")).unwrap().trim_end());
    let mut bytes = fs::read(&manifest).unwrap();
    // The header of its second record.
    let second = 7 + usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
    assert_eq!(bytes[second + 6], 1);
    bytes[second + 6] ^= 4;
    fs::write(&manifest, bytes).unwrap();
    for result in [open(&torn), reader(&torn)] {
        match result.unwrap_err() {
            LedgerError::Damaged { detail, .. } => {
                assert!(
                    detail.contains("MANIFEST-") && detail.contains(&format!("offset {second}")),
                    "{detail}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
