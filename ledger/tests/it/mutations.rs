//! What somebody with the files can do to a ledger, one row each, and what a verification says to it.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::DB;
use serde_json::Value;
use verdict_ledger::chain::Link;
use verdict_ledger::clock::{SteppingClock, SteppingEntropy};
use verdict_ledger::key::SigningKey;
use verdict_ledger::note::Checkpoint;
use verdict_ledger::{Class, InitOptions, Ledger, LedgerError, OpenOptions, Report, Standing, canon};

use crate::store::{append, copy_dir};
use crate::tamper::{get, keys, put, raw};

/// Entries of the ledger: the first one, and forty.
const SIZE: u64 = 41;
/// Size under the first checkpoint.
const SIGNED: u64 = 21;

struct Template {
    dir: tempfile::TempDir,
}

impl Template {
    /// `seed` makes keys, UUID and salts.
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions {
            entropy: Arc::new(SteppingEntropy::starting_at(seed)),
            ..InitOptions::new("ledger.example/test")
        };
        let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        let ledger = Ledger::init(&dir.path().join("ledger"), &options, clock).unwrap();
        append(&ledger, 0..20);
        ledger.settle().unwrap();
        append(&ledger, 20..40);
        drop(ledger);
        Self { dir }
    }

    fn copy(&self) -> Case {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(self.dir.path(), dir.path());
        Case { dir }
    }
}

/// A copy that is to be mutated.
struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn lock(&self) -> PathBuf {
        self.dir.path().join("ledger.lock")
    }

    fn db(&self) -> DB {
        raw(&self.path().join("db"))
    }

    fn verify(&self) -> Result<Report, LedgerError> {
        Ledger::open_to_inspect(&self.path(), &OpenOptions::default())?.verify(&mut |_, _| {})
    }
}

fn entry(db: &DB, seq: u64) -> Vec<u8> {
    get(db, "entries", &seq.to_be_bytes())
}

fn put_entry(db: &DB, seq: u64, entry: &[u8]) {
    put(db, "entries", &seq.to_be_bytes(), entry);
}

fn delete_entry(db: &DB, seq: u64) {
    db.delete_cf(db.cf_handle("entries").unwrap(), seq.to_be_bytes()).unwrap();
}

/// Changes a member of an entry and writes it in the one form that the ledger writes.
fn with(entry: &[u8], member: &str, value: impl Into<Value>) -> Vec<u8> {
    let mut entry: Value = serde_json::from_slice(entry).unwrap();
    entry[member] = value.into();
    canon::entry_bytes(&entry).unwrap()
}

/// Changes an entry and links all after it anew: what somebody does who knows the format and has no key.
fn rewrite_from(db: &DB, first: u64) {
    let mut changed = String::from_utf8(entry(db, first)).unwrap().replace("support-agent", "another-agent");
    for seq in first..SIZE {
        put_entry(db, seq, changed.as_bytes());
        let link = Link::of_entry(changed.as_bytes()).to_string();
        if seq + 1 < SIZE {
            changed = String::from_utf8(with(&entry(db, seq + 1), "prev", link)).unwrap();
        }
    }
}

fn note(db: &DB, size: u64) -> String {
    String::from_utf8(get(db, "checkpoints", &size.to_be_bytes())).unwrap()
}

/// What a mutation is called, what it does, and what a verification says: the first bad position, its class, and what it
/// comes to.
type Row = (&'static str, fn(&Case, &Template), Option<u64>, Class, Standing);

const ROWS: &[Row] = &[
    (
        "delete a suffix",
        |case, _| {
            let db = case.db();
            (36..SIZE).for_each(|seq| delete_entry(&db, seq));
        },
        Some(36),
        Class::RolledBack,
        Standing::Untrusted,
    ),
    (
        "delete from the middle",
        |case, _| delete_entry(&case.db(), 17),
        Some(17),
        Class::Entry,
        Standing::Damaged,
    ),
    ("delete the first", |case, _| delete_entry(&case.db(), 0), Some(0), Class::Entry, Standing::Damaged),
    (
        "swap two",
        |case, _| {
            let db = case.db();
            let (a, b) = (entry(&db, 8), entry(&db, 30));
            put_entry(&db, 8, &b);
            put_entry(&db, 30, &a);
        },
        Some(8),
        Class::Entry,
        Standing::Damaged,
    ),
    (
        "swap two, and their positions with them",
        |case, _| {
            let db = case.db();
            let (a, b) = (entry(&db, 8), entry(&db, 9));
            put_entry(&db, 8, &with(&b, "seq", "8"));
            put_entry(&db, 9, &with(&a, "seq", "9"));
        },
        Some(8),
        Class::Chain,
        Standing::Damaged,
    ),
    (
        "write one twice",
        |case, _| {
            let db = case.db();
            put_entry(&db, 12, &entry(&db, 11));
        },
        Some(12),
        Class::Entry,
        Standing::Damaged,
    ),
    (
        "insert one",
        |case, _| {
            let db = case.db();
            for seq in (15..SIZE).rev() {
                put_entry(&db, seq + 1, &with(&entry(&db, seq), "seq", (seq + 1).to_string()));
            }
        },
        // The one at 15 is whole and in its place; what was put behind it is not.
        Some(16),
        Class::Chain,
        Standing::Damaged,
    ),
    (
        "append one that continues the log wrongly",
        |case, _| {
            let db = case.db();
            put_entry(&db, SIZE, &with(&entry(&db, SIZE - 1), "seq", SIZE.to_string()));
        },
        Some(SIZE),
        Class::Entry,
        Standing::Damaged,
    ),
    (
        "append one far behind the end",
        |case, _| {
            let db = case.db();
            put_entry(&db, 1 << 40, &entry(&db, 3));
        },
        Some(SIZE),
        Class::Entry,
        Standing::Damaged,
    ),
    (
        "splice one in from another ledger",
        |case, other| put_entry(&case.db(), 14, &entry(&other.copy().db(), 14)),
        Some(14),
        Class::Chain,
        Standing::Damaged,
    ),
    (
        "splice the end in from another ledger",
        |case, other| {
            let (db, other) = (case.db(), other.copy());
            let other = other.db();
            (25..SIZE).for_each(|seq| put_entry(&db, seq, &entry(&other, seq)));
        },
        Some(25),
        Class::Chain,
        Standing::Damaged,
    ),
    (
        "change one and link all after it anew",
        |case, _| rewrite_from(&case.db(), 30),
        Some(SIZE - 1),
        Class::Forked,
        Standing::Damaged,
    ),
    (
        "put another first entry",
        |case, other| put_entry(&case.db(), 0, &entry(&other.copy().db(), 0)),
        Some(0),
        Class::Chain,
        Standing::Damaged,
    ),
    (
        "strip the signature of a checkpoint",
        |case, _| {
            let db = case.db();
            let note = note(&db, SIGNED);
            let text = note.split_once("\n\n").unwrap().0;
            put(&db, "checkpoints", &SIGNED.to_be_bytes(), format!("{text}\n\n").as_bytes());
        },
        Some(SIGNED),
        Class::Checkpoint,
        Standing::Damaged,
    ),
    (
        "forge the signature of a checkpoint",
        |case, _| {
            let db = case.db();
            let text = note(&db, SIGNED);
            let root = text.lines().nth(2).unwrap();
            let root = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, root).unwrap();
            let forger = SigningKey::generate(&SteppingEntropy::starting_at(99)).unwrap();
            let forged = Checkpoint {
                origin: "ledger.example/test".to_owned(),
                size: SIGNED,
                root: verdict_ledger::merkle::Hash(root.try_into().unwrap()),
            };
            put(&db, "checkpoints", &SIGNED.to_be_bytes(), forged.sign(&forger).unwrap().as_bytes());
        },
        Some(SIGNED),
        Class::Checkpoint,
        Standing::Damaged,
    ),
    (
        "take the signature of another checkpoint",
        |case, _| {
            let db = case.db();
            let (old, new) = (note(&db, SIGNED), note(&db, SIZE));
            let text = old.split_once("\n\n").unwrap().0;
            let mixed = format!("{text}\n\n{}", new.split_once("\n\n").unwrap().1);
            put(&db, "checkpoints", &SIGNED.to_be_bytes(), mixed.as_bytes());
        },
        Some(SIGNED),
        Class::Checkpoint,
        Standing::Damaged,
    ),
    (
        "swap the log key",
        |case, other| {
            let (key, theirs) =
                (case.path().join("keys/log.pem"), other.dir.path().join("ledger/keys/log.pem"));
            fs::copy(theirs, key).unwrap();
        },
        None,
        Class::File,
        Standing::Damaged,
    ),
    (
        "swap log key and bundle key",
        |case, _| {
            let (log, bundle) = (case.path().join("keys/log.pem"), case.path().join("keys/bundle.pem"));
            let kept = fs::read(&log).unwrap();
            fs::copy(&bundle, &log).unwrap();
            fs::write(&bundle, kept).unwrap();
        },
        None,
        Class::File,
        Standing::Damaged,
    ),
    (
        "swap the secret of the store",
        |case, other| {
            fs::copy(
                other.dir.path().join("ledger/keys/store.secret"),
                case.path().join("keys/store.secret"),
            )
            .unwrap();
        },
        Some(1),
        Class::Disclosure,
        Standing::Damaged,
    ),
    (
        "name another verifier key",
        |case, other| {
            let settings =
                |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
            let path = case.path().join("verdict.json");
            let mut ours = settings(&path);
            ours["verifier_key"] =
                settings(&other.dir.path().join("ledger/verdict.json"))["verifier_key"].clone();
            fs::write(&path, serde_json::to_vec(&ours).unwrap()).unwrap();
        },
        Some(0),
        Class::Chain,
        Standing::Damaged,
    ),
    (
        "delete the lock",
        |case, _| fs::remove_file(case.lock()).unwrap(),
        None,
        Class::Lock,
        Standing::Untrusted,
    ),
    (
        "empty the lock",
        |case, _| fs::write(case.lock(), b"").unwrap(),
        None,
        Class::Lock,
        Standing::Untrusted,
    ),
    (
        "put the lock of another ledger",
        |case, other| {
            fs::copy(other.dir.path().join("ledger.lock"), case.lock()).unwrap();
        },
        Some(SIZE - 1),
        Class::Forked,
        Standing::Untrusted,
    ),
    (
        "add a column family",
        |case, _| {
            let mut db = case.db();
            db.create_cf("mine", &rocksdb::Options::default()).unwrap();
        },
        None,
        Class::Database,
        Standing::Damaged,
    ),
    (
        "add a row about the rows",
        |case, _| put(&case.db(), "meta", b"mine", b"1"),
        None,
        Class::Database,
        Standing::Damaged,
    ),
    (
        "delete a disclosed value",
        |case, _| {
            let db = case.db();
            db.delete_cf(db.cf_handle("disclosures").unwrap(), 9u64.to_be_bytes()).unwrap();
        },
        Some(9),
        Class::Disclosure,
        Standing::Damaged,
    ),
    (
        "delete every data key",
        |case, _| {
            let db = case.db();
            for key in keys(&db, "data_keys") {
                db.delete_cf(db.cf_handle("data_keys").unwrap(), key).unwrap();
            }
        },
        Some(1),
        Class::Disclosure,
        Standing::Damaged,
    ),
];

#[test]
fn each_is_found_and_its_place_named() {
    let (ours, theirs) = (Template::new(1), Template::new(2));
    assert!(ours.copy().verify().unwrap().is_clean());
    for (name, mutate, seq, class, standing) in ROWS {
        let case = ours.copy();
        mutate(&case, &theirs);
        let report = case.verify().unwrap_or_else(|error| panic!("{name}: {error}"));
        let first = report.first_bad().unwrap_or_else(|| panic!("{name} is not found"));
        assert_eq!(
            (first.seq, first.class, report.standing()),
            (*seq, *class, *standing),
            "{name}: {report:#?}"
        );
    }
}

#[test]
fn a_directory_that_is_rolled_back_to_any_earlier_state_is_told_by_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger");
    let clock: Arc<SteppingClock> = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
    let mut ledger =
        Ledger::init(&path, &InitOptions::new("ledger.example/test"), Arc::<SteppingClock>::clone(&clock))
            .unwrap();
    let mut snapshots = Vec::new();
    for round in 0..5u32 {
        drop(ledger);
        let snapshot = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), snapshot.path());
        ledger = Ledger::open(&path, &OpenOptions::default(), Arc::<SteppingClock>::clone(&clock)).unwrap();
        snapshots.push((snapshot, ledger.head().size));
        append(&ledger, round * 7..round * 7 + 7);
    }
    let size = ledger.head().size;
    drop(ledger);
    for (snapshot, had) in &snapshots {
        fs::remove_dir_all(&path).unwrap();
        copy_dir(&snapshot.path().join("ledger"), &path);
        let report =
            Ledger::open_to_inspect(&path, &OpenOptions::default()).unwrap().verify(&mut |_, _| {}).unwrap();
        let first = report.first_bad().unwrap();
        assert_eq!((first.seq, first.class), (Some(*had), Class::RolledBack), "{report:#?}");
        assert!(first.detail.contains(&format!("{had}..{size}")), "{first:?}");
        assert_eq!(report.standing(), Standing::Untrusted);
        let refused = Ledger::open(&path, &OpenOptions::default(), Arc::<SteppingClock>::clone(&clock));
        assert!(matches!(refused, Err(LedgerError::RolledBack { .. })));
    }
    // Whoever rolls the lock back too leaves nothing here that could tell: that is what anchors are for.
    let (snapshot, had) = &snapshots[2];
    fs::copy(snapshot.path().join("ledger.lock"), dir.path().join("ledger.lock")).unwrap();
    fs::remove_dir_all(&path).unwrap();
    copy_dir(&snapshot.path().join("ledger"), &path);
    let ledger = Ledger::open_to_inspect(&path, &OpenOptions::default()).unwrap();
    assert_eq!((ledger.head().size, ledger.verify(&mut |_, _| {}).unwrap().is_clean()), (*had, true));
}

/// What is done to a file, and its name.
type Mutation = (&'static str, fn(&Path));

#[test]
fn a_write_ahead_log_that_is_deleted_emptied_or_cut_is_told() {
    let ours = Template::new(1);
    let logs = |case: &Case| -> Vec<PathBuf> {
        let files = fs::read_dir(case.path().join("db")).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|ending| ending == "log")).collect()
    };
    let mutations: [Mutation; 3] = [
        ("delete", |path| fs::remove_file(path).unwrap()),
        ("empty", |path| fs::write(path, b"").unwrap()),
        ("cut", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() * 2 / 3]).unwrap();
        }),
    ];
    for (name, mutate) in mutations {
        let case = ours.copy();
        let files = logs(&case);
        assert!(files.iter().any(|path| fs::metadata(path).unwrap().len() > 0), "something is in the log");
        for path in &files {
            mutate(path);
        }
        match case.verify() {
            Ok(report) => {
                assert_eq!(report.standing(), Standing::Untrusted, "{name}: {report:#?}");
                let rolled = report.failures.iter().any(|failure| failure.class == Class::RolledBack);
                assert!(rolled, "{name}: {report:#?}");
            }
            Err(error) => assert!(matches!(error, LedgerError::Damaged { .. }), "{name}: {error:?}"),
        }
        let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        assert!(
            Ledger::open(&case.path(), &OpenOptions::default(), clock).is_err(),
            "{name}: nobody writes to it"
        );
    }
}

#[test]
fn a_ledger_of_a_newer_or_of_no_format_is_named() {
    let ours = Template::new(1);
    for (format, newer) in [("2", true), ("4294967295", true), ("0", false), ("-1", false), ("\"1\"", false)]
    {
        let case = ours.copy();
        let path = case.path().join("verdict.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"format\": 1", &format!("\"format\": {format}"))).unwrap();
        let error = case.verify().unwrap_err();
        assert_eq!(matches!(error, LedgerError::Newer { .. }), newer, "{format}: {error}");
        assert!(newer || error.to_string().contains("verdict.json"), "{format}: {error}");
        fs::write(&path, text).unwrap();
        assert!(case.verify().unwrap().is_clean(), "nothing was lost");
    }
}
