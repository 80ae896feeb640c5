//! A ledger that was rolled back together with its lock, while an anchor survived.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Map;
use verdict_ledger::anchor::{AnchorFile, AnchorRecord, Contradiction};
use verdict_ledger::clock::{Clock, SteppingClock};
use verdict_ledger::{InitOptions, Ledger, LedgerError, OpenOptions};

use crate::store::{append, copy_dir};

struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<dyn Clock>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        Self { dir: tempfile::tempdir().unwrap(), clock }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn elsewhere(&self) -> PathBuf {
        self.at("elsewhere.jsonl")
    }

    fn init(&self) -> Result<Ledger, LedgerError> {
        let options = InitOptions::new("ledger.example/test");
        Ledger::init(&self.at("ledger"), &options, Arc::clone(&self.clock))
    }

    /// Opens as writer and as reader; both must agree.
    fn open(&self) -> Result<Ledger, LedgerError> {
        let options = OpenOptions { anchors: vec![self.elsewhere()], ..OpenOptions::default() };
        let reader = Ledger::open_reader(&self.at("ledger"), &options).map(drop);
        let writer = Ledger::open(&self.at("ledger"), &options, Arc::clone(&self.clock));
        assert_eq!(format!("{:?}", reader.err()), format!("{:?}", writer.as_ref().err()));
        writer
    }

    /// Keeps directory and lock as they are now.
    fn snapshot(&self) {
        copy_dir(&self.at("ledger"), &self.at("backup"));
        fs::copy(self.at("ledger.lock"), self.at("backup.lock")).unwrap();
    }

    /// Puts directory and lock back: the rollback that neither of the two can notice.
    fn roll_back(&self) {
        fs::remove_dir_all(self.at("ledger")).unwrap();
        copy_dir(&self.at("backup"), &self.at("ledger"));
        fs::copy(self.at("backup.lock"), self.at("ledger.lock")).unwrap();
    }
}

fn anchor(ledger: &Ledger, path: &Path) {
    ledger.settle().unwrap();
    let note = ledger.checkpoint().unwrap().unwrap();
    let record = AnchorRecord::new(1_763_670_000_000_000_000, "s", "file", &note, Map::new()).unwrap();
    AnchorFile::new(path).append(&record).unwrap();
}

#[test]
fn a_rollback_of_database_and_lock_is_refused_when_an_anchor_survives() {
    for local in [true, false] {
        let bench = Bench::new();
        let ledger = bench.init().unwrap();
        append(&ledger, 0..10);
        ledger.settle().unwrap();
        drop(ledger);
        bench.snapshot();
        let ledger = bench.open().unwrap();
        append(&ledger, 10..20);
        let path = if local { ledger.anchor_log().path().to_owned() } else { bench.elsewhere() };
        anchor(&ledger, &path);
        drop(ledger);
        drop(bench.open().unwrap());

        bench.roll_back();
        match bench.open().unwrap_err() {
            LedgerError::Anchored { anchor, contradiction } => {
                assert_eq!(contradiction, Contradiction::RolledBack { have: 11, want: 21 });
                assert!(anchor.starts_with(&path.display().to_string()), "{anchor}");
            }
            other => panic!("{other}"),
        }
        // Without the anchor nobody can tell: this is what anchors are for.
        fs::remove_file(&path).unwrap();
        assert_eq!(bench.open().unwrap().head().size, 11);
    }
}

#[test]
fn a_rollback_that_grew_again_is_a_fork() {
    let bench = Bench::new();
    let ledger = bench.init().unwrap();
    append(&ledger, 0..10);
    ledger.settle().unwrap();
    drop(ledger);
    bench.snapshot();
    let ledger = bench.open().unwrap();
    append(&ledger, 10..20);
    anchor(&ledger, &bench.elsewhere());
    drop(ledger);

    bench.roll_back();
    fs::rename(bench.elsewhere(), bench.at("hidden")).unwrap();
    let ledger = bench.open().unwrap();
    append(&ledger, 30..60);
    drop(ledger);
    fs::rename(bench.at("hidden"), bench.elsewhere()).unwrap();
    let error = bench.open().unwrap_err();
    assert!(error.is_untrusted());
    match error {
        LedgerError::Anchored { contradiction: Contradiction::Forked { size, .. }, .. } => {
            assert_eq!(size, 21);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_reader_of_a_ledger_that_is_being_written_and_anchored_is_not_alarmed() {
    let bench = Bench::new();
    let ledger = bench.init().unwrap();
    let options = OpenOptions { anchors: vec![bench.elsewhere()], ..OpenOptions::default() };
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for number in 0..40 {
                append(&ledger, [number]);
                anchor(&ledger, &bench.elsewhere());
            }
        });
        while !writing.is_finished() {
            Ledger::open_reader(&bench.at("ledger"), &options).unwrap();
        }
    });
}

#[test]
fn anchors_of_another_ledger_are_refused_by_open_and_by_init() {
    let (one, other) = (Bench::new(), Bench::new());
    let ledger = other.init().unwrap();
    append(&ledger, 0..3);
    anchor(&ledger, &one.elsewhere());
    drop(one.init().unwrap());
    let error = one.open().unwrap_err();
    assert!(error.is_untrusted() && error.to_string().contains("elsewhere.jsonl"), "{error}");
    fs::remove_file(one.elsewhere()).unwrap();
    drop(one.open().unwrap());

    // Directory and lock are gone, the anchor log is not: a new ledger must not be made over it.
    let ledger = one.open().unwrap();
    let log = ledger.anchor_log();
    anchor(&ledger, log.path());
    drop(ledger);
    fs::remove_dir_all(one.at("ledger")).unwrap();
    fs::remove_file(one.at("ledger.lock")).unwrap();
    match one.init().unwrap_err() {
        LedgerError::AnchorsExist { path } => assert_eq!(path, log.path()),
        other => panic!("{other}"),
    }
}
