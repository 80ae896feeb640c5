//! Every single bit of a small ledger is flipped, one at a time, and each flip must be found and its place named.
//!
//! The rows are changed in an open database that is looked at again as if it had been opened anew: all the checks of
//! opening and of a verification, without the seconds that RocksDB takes to start.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{DB, IteratorMode, WriteOptions};
use serde_json::{Map, Value, json};

use super::{Class, Depth, Report, VerifyOptions};
use crate::clock::{SteppingClock, SteppingEntropy};
use crate::id::Digest;
use crate::record::{Batch, NewRecord, Stream};
use crate::store::error::LedgerError;
use crate::store::families::{self, family};
use crate::store::layout::Layout;
use crate::store::seal::Sealer;
use crate::store::{InitOptions, Ledger, open};

/// What a verification of a changed ledger gives.
pub(super) type Looked = Result<Report, LedgerError>;

/// Tells whether a row that was moved from one key to another was found.
type FoundMoved<'a> = dyn Fn(&[u8], &[u8], &Looked) -> bool + 'a;

/// Key and value.
type Row = (Box<[u8]>, Box<[u8]>);

/// A closed ledger whose database is open in our hands.
pub(super) struct Patient {
    _dir: tempfile::TempDir,
    path: PathBuf,
    db: Arc<DB>,
    size: u64,
}

fn body(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn event(number: u64, more: &Value) -> NewRecord {
    let mut event = body(&json!({
        "id": format!("e-{number}"), "trace_id": format!("{:032x}", number / 2 + 1), "source": {"format": "native"},
        "action": {"kind": "tool", "name": "pay"},
    }));
    event.extend(body(more));
    NewRecord { kind: "action.reported".to_owned(), body: event, stream: None }
}

impl Patient {
    /// One entry of each sort: of the ledger itself, with and without disclosed values, with a raw body, with an
    /// archive, with a stream, and a second statement under an id; under two checkpoints.
    fn small() -> Self {
        let raw = br#"{"resourceSpans":[]}"#.to_vec();
        let archive = b"an archive of a policy".to_vec();
        Self::with(|ledger| {
            let spoken = json!({
                "user": "ada@example.org", "agent": {"name": "desk"}, "decision": {"effect": "block", "reason": "over limit"},
                "action": {"kind": "tool", "name": "pay", "arguments": {"amount": 7}},
            });
            let mut streamed = event(2, &json!({"session": "s"}));
            streamed.stream = Some(Stream { id: "otel".to_owned(), seq: "4".to_owned() });
            let records = vec![
                event(1, &spoken),
                streamed,
                event(3, &json!({"source": {"format": "otlp", "raw": Digest::of(&raw).to_string()}})),
            ];
            ledger.append(Batch { records, blobs: vec![raw] }).unwrap();
            ledger.settle().unwrap();
            let published = NewRecord::system(
                "policy.published",
                body(&json!({"id": "p", "archive": Digest::of(&archive).to_string(), "by": "bo"})),
            );
            let conflict = event(1, &json!({"outcome": {"status": "ok", "result": "paid"}}));
            ledger.append(Batch { records: vec![published, conflict], blobs: vec![archive] }).unwrap();
        })
    }

    pub(super) fn with(fill: impl FnOnce(&Ledger)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let options = InitOptions {
            entropy: Arc::new(SteppingEntropy::default()),
            ..InitOptions::new("ledger.example/t")
        };
        let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        let ledger = Ledger::init(&path, &options, clock).unwrap();
        fill(&ledger);
        ledger.settle().unwrap();
        let size = ledger.head().size;
        drop(ledger);
        let db = Layout::new(&path).db();
        let db = DB::open_cf_descriptors(&families::db_options(), db, families::descriptors()).unwrap();
        let patient = Self { _dir: dir, path, db: Arc::new(db), size };
        let report = patient.look(Depth::Everything).unwrap();
        assert!(report.is_clean(), "{:#?}", report.failures);
        patient
    }

    pub(super) fn look(&self, depth: Depth) -> Looked {
        let options = VerifyOptions { depth, threads: 1, ..VerifyOptions::default() };
        open::inspect_database(&self.path, &self.db)?.verify_with(&options, &mut |_, _| {})
    }

    pub(super) fn sealer(&self) -> Arc<Sealer> {
        Arc::clone(&open::inspect_database(&self.path, &self.db).unwrap().inner.sealer)
    }

    fn blob(&self, key: &[u8]) -> Option<Vec<u8>> {
        open::inspect_database(&self.path, &self.db).unwrap().blob(&Digest(key.try_into().unwrap())).ok()?
    }

    pub(super) fn rows(&self, name: &str) -> Vec<Row> {
        let family = family(&self.db, name).unwrap();
        self.db.iterator_cf(family, IteratorMode::Start).map(Result::unwrap).collect()
    }

    pub(super) fn put(&self, name: &str, key: &[u8], value: &[u8]) {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.put_cf_opt(family(&self.db, name).unwrap(), key, value, &options).unwrap();
    }

    fn delete(&self, name: &str, key: &[u8]) {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.delete_cf_opt(family(&self.db, name).unwrap(), key, &options).unwrap();
    }

    /// Flips every bit of every value of a family.
    fn flip_values(&self, name: &str, depth: Depth, found: &dyn Fn(&[u8], &Looked) -> bool) {
        for (key, value) in self.rows(name) {
            for bit in 0..value.len() * 8 {
                self.put(name, &key, &flipped(&value, bit));
                let report = self.look(depth);
                assert!(found(&key, &report), "`{name}` {}, bit {bit}: {report:#?}", hex::encode(&key));
            }
            self.put(name, &key, &value);
        }
        assert!(self.look(depth).unwrap().is_clean(), "`{name}` is whole again");
    }

    /// Flips every bit of every key of a family: the row is then where it does not belong, perhaps over another.
    fn flip_keys(&self, name: &str, depth: Depth, found: &FoundMoved<'_>) {
        let rows = self.rows(name);
        for (key, value) in &rows {
            for bit in 0..key.len() * 8 {
                let moved = flipped(key, bit);
                self.delete(name, key);
                self.put(name, &moved, value);
                let report = self.look(depth);
                assert!(found(key, &moved, &report), "`{name}` {}, bit {bit}: {report:#?}", hex::encode(key));
                match rows.iter().find(|(other, _)| **other == *moved) {
                    Some((_, covered)) => self.put(name, &moved, covered),
                    None => self.delete(name, &moved),
                }
                self.put(name, key, value);
            }
        }
        assert!(self.look(depth).unwrap().is_clean(), "`{name}` is whole again");
    }

    /// Flips every bit of a file.
    fn flip_file(&self, path: &Path, found: &dyn Fn(&Looked) -> bool) {
        let bytes = fs::read(path).unwrap();
        // Behind the state of a slot the lock is zeros up to its end: of those, the first and the last bytes.
        let zeros =
            |at: usize| bytes[at.saturating_sub(16)..bytes.len().min(at + 17)].iter().all(|byte| *byte == 0);
        for at in (0..bytes.len()).filter(|at| bytes.len() < 4096 || at % 509 == 0 || !zeros(*at)) {
            for bit in at * 8..at * 8 + 8 {
                fs::write(path, flipped(&bytes, bit)).unwrap();
                let report = self.look(Depth::Log);
                assert!(found(&report), "{}, bit {bit}: {report:#?}", path.display());
            }
        }
        fs::write(path, &bytes).unwrap();
        assert!(self.look(Depth::Log).unwrap().is_clean(), "{} is whole again", path.display());
    }
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

fn seq(key: &[u8]) -> u64 {
    u64::from_be_bytes(key.try_into().unwrap())
}

/// Tells whether the first failure with a position has this one.
fn first_is(report: &Looked, want: u64) -> bool {
    report.as_ref().is_ok_and(|report| report.first_bad().is_some_and(|first| first.seq == Some(want)))
}

fn has(report: &Looked, class: Class, text: &str) -> bool {
    report.as_ref().is_ok_and(|report| {
        report.failures.iter().any(|failure| failure.class == class && failure.detail.contains(text))
    })
}

#[test]
fn of_entries() {
    let patient = Patient::small();
    // The log alone finds them all: chain, tree and lock cover every bit of every entry.
    patient.flip_values(families::ENTRIES, Depth::Log, &|key, report| first_is(report, seq(key)));
    patient.flip_keys(families::ENTRIES, Depth::Log, &|key, moved, report| {
        first_is(report, seq(key).min(seq(moved))) || matches!(report, Err(LedgerError::Damaged { .. }))
    });
}

#[test]
fn of_disclosed_values_their_keys_and_raw_bodies() {
    let patient = Patient::small();
    let at = |report: &Looked, want: u64| {
        report.as_ref().is_ok_and(|report| {
            report.failures.iter().any(|f| f.seq == Some(want) && f.class == Class::Disclosure)
        })
    };
    patient.flip_values(families::DISCLOSURES, Depth::Everything, &|key, report| at(report, seq(key)));
    patient.flip_keys(families::DISCLOSURES, Depth::Everything, &|key, _, report| at(report, seq(key)));
    patient.flip_values(families::DATA_KEYS, Depth::Everything, &|key, report| {
        has(report, Class::Disclosure, &hex::encode(key))
            || has(report, Class::Disclosure, "row of `data_keys`")
    });
    patient.flip_keys(families::DATA_KEYS, Depth::Everything, &|_, moved, report| {
        has(report, Class::Disclosure, &hex::encode(moved)) && has(report, Class::Disclosure, "are gone")
    });
    let digest = |key: &[u8]| Digest(key.try_into().unwrap()).to_string();
    // A frame has bits that change nothing of what it holds: then the body is still the one of its digest.
    patient.flip_values(families::BLOBS, Depth::Everything, &|key, report| {
        has(report, Class::Blob, &digest(key))
            || patient.blob(key).is_some_and(|body| Digest::of(&body).0 == *key)
    });
    patient.flip_keys(families::BLOBS, Depth::Everything, &|key, moved, report| {
        has(report, Class::Blob, &digest(key)) && has(report, Class::Blob, &digest(moved))
    });
}

#[test]
fn of_checkpoints_and_rows_about_the_rows() {
    let patient = Patient::small();
    let at = |report: &Looked, want: u64| {
        report.as_ref().is_ok_and(|report| {
            report.failures.iter().any(|f| f.seq == Some(want) && f.class == Class::Checkpoint)
        })
    };
    patient.flip_values(families::CHECKPOINTS, Depth::Log, &|key, report| {
        at(report, seq(key)) || has(report, Class::Checkpoint, "is not a checkpoint")
    });
    let size = patient.size;
    patient
        .flip_keys(families::CHECKPOINTS, Depth::Log, &|_, moved, report| at(report, seq(moved).min(size)));
    patient.flip_values(families::META, Depth::Log, &|_, report| {
        matches!(report, Err(LedgerError::Rows { .. }))
    });
    patient.flip_keys(families::META, Depth::Log, &|_, _, report| {
        matches!(report, Err(LedgerError::Damaged { .. }))
    });
}

#[test]
fn of_indexes() {
    let patient = Patient::small();
    for name in [families::BY_ID, families::POSTINGS, families::TRACES, families::TRACE_STARTS] {
        let named = format!("`{name}`");
        // Rows of traces are derived from those of terms, so that damage of the latter may be told of both.
        patient.flip_values(name, Depth::Everything, &|_, report| has(report, Class::Index, &named));
        patient.flip_keys(name, Depth::Everything, &|_, _, report| has(report, Class::Index, &named));
    }
}

#[test]
fn of_tree_hashes() {
    // Without disclosed values, so that the many entries that one hash takes are quickly read.
    let patient = Patient::with(|ledger| {
        let records = (1..300).map(|number| event(number, &json!({}))).collect();
        ledger.append(Batch { records, blobs: Vec::new() }).unwrap();
    });
    assert_eq!(patient.rows(families::TILES).len(), 1);
    patient.flip_values(families::TILES, Depth::Log, &|_, report| {
        first_is(report, 255) && has(report, Class::Tree, "hash 0 of level 8")
    });
    patient.flip_keys(families::TILES, Depth::Log, &|_, _, report| {
        first_is(report, 255) && has(report, Class::Tree, "tree hash 0 of level 8: is missing")
    });
}

#[test]
fn of_the_lock_and_of_every_file() {
    let patient = Patient::small();
    let layout = Layout::new(&patient.path);
    let lock = layout.default_lock();
    patient
        .flip_file(&lock, &|report| has(report, Class::Lock, "of ") || has(report, Class::Lock, "lock file"));
    let settings = patient.path.join("verdict.json");
    patient.flip_file(&settings, &|report| match report {
        Err(LedgerError::Settings { path, .. }) => path.ends_with("verdict.json"),
        Err(LedgerError::Newer { .. }) => true,
        report => has(report, Class::Entry, "verdict.json"),
    });
    for path in [layout.keys().join("log.pem"), layout.keys().join("bundle.pem"), layout.store_secret()] {
        patient.flip_file(&path, &|report| match report {
            Err(LedgerError::Key(error)) => error.to_string().contains(path.to_str().unwrap()),
            report => has(report, Class::File, path.to_str().unwrap()),
        });
    }
}
