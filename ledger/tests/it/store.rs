//! The ledger as its users see it: appended, reopened, cut, rolled back, rewritten, read while written.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use verdict_ledger::clock::{Clock, SteppingClock, SteppingEntropy};
use verdict_ledger::event::{Action, ActionKind, Agent, AuthorityKind, Decision, Effect, Event};
use verdict_ledger::id::{Digest, TraceId};
use verdict_ledger::key::Protection;
use verdict_ledger::merkle::{self, Hash};
use verdict_ledger::note::{Checkpoint, TlogProof, VerifierKey};
use verdict_ledger::{
    AppendError, Batch, Index, InitOptions, Ledger, LedgerError, NewRecord, OpenOptions, Receipt,
};

pub(crate) const T0: u64 = 1_763_670_000_000_000_000;

pub(crate) struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<dyn Clock>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), clock: Arc::new(SteppingClock::starting_at(T0)) }
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.dir.path().join("ledger.lock")
    }

    pub(crate) fn init(&self) -> Ledger {
        let options = InitOptions {
            entropy: Arc::new(SteppingEntropy::default()),
            ..InitOptions::new("ledger.example/test")
        };
        Ledger::init(&self.path(), &options, Arc::clone(&self.clock)).unwrap()
    }

    pub(crate) fn open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open(&self.path(), &OpenOptions::default(), Arc::clone(&self.clock))
    }

    pub(crate) fn reader(&self) -> Result<Ledger, LedgerError> {
        Ledger::open_reader(&self.path(), &OpenOptions::default())
    }

    pub(crate) fn copy_to(&self, to: &Path) {
        copy_dir(&self.path(), to);
    }
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn event(number: u32) -> Event {
    let mut action =
        Action::new(ActionKind::Tool, if number.is_multiple_of(2) { "issue_refund" } else { "get_order" });
    action.arguments = Some(json!({"amount_cents": number, "note": "for a customer"}));
    let mut event = Event::new(format!("event-{number}"), action);
    event.trace_id = Some(trace(number / 4));
    event.start_ns = Some(T0 + u64::from(number));
    event.agent = Some(Agent::named("support-agent"));
    event.user = Some(format!("user-{}@example.org", number % 3));
    event.tenant = Some("harbor".to_owned());
    if number.is_multiple_of(2) {
        event.decision = Some(Decision::new(Effect::Allow, AuthorityKind::Policy));
    }
    event.attributes = json!({"double": 0.1, "text": "x"}).as_object().unwrap().clone();
    event
}

pub(crate) fn trace(number: u32) -> TraceId {
    let mut bytes = [7; 16];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    TraceId(bytes)
}

fn batch(numbers: impl IntoIterator<Item = u32>) -> Batch {
    let records = numbers.into_iter().map(|n| NewRecord::from_event(&event(n)).unwrap()).collect();
    Batch { records, blobs: Vec::new() }
}

pub(crate) fn append(ledger: &Ledger, numbers: impl IntoIterator<Item = u32>) -> Receipt {
    ledger.append(batch(numbers)).unwrap()
}

pub(crate) fn verifier(ledger: &Ledger) -> VerifierKey {
    VerifierKey::parse(&ledger.verifier_key()).unwrap()
}

#[test]
fn what_is_appended_is_read_back_after_reopening() {
    let bench = Bench::new();
    let ledger = bench.init();
    let receipt = append(&ledger, 0..10);
    assert_eq!(
        receipt,
        Receipt { seqs: (1..=10).collect(), appended: 10, duplicates: 0, conflicts: 0, size: 11 }
    );
    drop(ledger);

    let ledger = bench.open().unwrap();
    assert_eq!(ledger.head().size, 11);
    let records: Vec<_> = ledger.records(1..u64::MAX).map(Result::unwrap).collect();
    assert_eq!(records.len(), 10);
    for (number, record) in (0u32..).zip(&records) {
        assert_eq!(record.event.as_deref(), Some(&event(number)), "disclosed members are back in place");
        assert!(record.withheld.is_empty());
    }
    let genesis = ledger.record(0).unwrap().unwrap();
    assert_eq!(genesis.kind, "ledger.created");
    assert_eq!(genesis.body.get("verifier_key"), Some(&json!(ledger.verifier_key())));
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
}

#[test]
fn personal_values_are_not_in_the_entry_bytes_nor_in_the_files() {
    let bench = Bench::new();
    let ledger = bench.init();
    append(&ledger, 0..50);
    let entry = String::from_utf8(ledger.entry(1).unwrap().unwrap()).unwrap();
    for secret in ["example.org", "amount_cents", "for a customer"] {
        assert!(!entry.contains(secret), "{entry}");
    }
    assert!(
        entry.contains("support-agent") && entry.contains("issue_refund"),
        "what is needed to find it is"
    );
    drop(ledger);
    for file in fs::read_dir(bench.path().join("db")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(
            !bytes.windows(11).any(|window| window == b"example.org"),
            "personal data in clear on the disk"
        );
    }
}

#[test]
fn the_same_statement_twice_adds_nothing_and_another_one_is_kept_as_a_conflict() {
    let bench = Bench::new();
    let ledger = bench.init();
    append(&ledger, 0..3);
    let again = append(&ledger, 0..4);
    assert_eq!((again.appended, again.duplicates, again.conflicts), (1, 3, 0));
    assert_eq!(again.seqs, [1, 2, 3, 4]);
    let twice_in_one_batch = append(&ledger, [9, 9]);
    assert_eq!(twice_in_one_batch.seqs, [5, 5]);

    // From another peer and another place in another body: still the same statement.
    let mut moved = event(0);
    moved.source.peer = Some("collector".into());
    moved.source.raw = Some(Digest::of(b"other body"));
    let receipt = ledger
        .append(Batch { records: vec![NewRecord::from_event(&moved).unwrap()], blobs: vec![] })
        .unwrap();
    assert_eq!(receipt.duplicates, 1);

    let mut other = event(0);
    other.action.name = "send_email".into();
    let receipt = ledger
        .append(Batch { records: vec![NewRecord::from_event(&other).unwrap()], blobs: vec![] })
        .unwrap();
    assert_eq!((receipt.appended, receipt.conflicts), (1, 1));
    assert_eq!(ledger.find_id("event-0").unwrap(), [1, 6]);
}

#[test]
fn indexes_find_what_was_said() {
    let bench = Bench::new();
    let ledger = bench.init();
    append(&ledger, 0..12);
    assert_eq!(ledger.trace_seqs(&trace(1)).unwrap(), [5, 6, 7, 8]);
    let traces = ledger.traces(None, 2).unwrap();
    assert_eq!(traces.iter().map(|t| t.first_seq).collect::<Vec<_>>(), [9, 5]);
    assert_eq!(ledger.traces(Some(5), 9).unwrap().len(), 1, "keyset pagination");
    assert_eq!(ledger.find(Index::Tool, "get_order", 0..7, 99).unwrap(), [2, 4, 6]);
    assert_eq!(ledger.find(Index::Effect, "allow", 3..99, 2).unwrap(), [3, 5]);
    assert_eq!(ledger.find(Index::Agent, "support", 0..99, 9).unwrap(), [] as [u64; 0], "no prefix matches");
    assert_eq!(ledger.index_values(Index::Tool, 9).unwrap(), ["get_order", "issue_refund"]);
    assert_eq!(ledger.index_values(Index::Kind, 9).unwrap(), ["action.reported", "ledger.created"]);
    let third = ledger.record(3).unwrap().unwrap().ts_ns;
    assert!(ledger.seq_at(third).unwrap() <= 3);
    assert_eq!(ledger.seq_at(u64::MAX).unwrap(), 13);
}

#[test]
fn every_entry_is_proved_under_the_checkpoint_with_independent_verifiers_too() {
    let bench = Bench::new();
    let ledger = bench.init();
    // More than one tile, so that proofs cross tile boundaries.
    append(&ledger, 0..700);
    ledger.settle().unwrap();
    let note = ledger.checkpoint().unwrap().unwrap();
    let key = verifier(&ledger);
    let checkpoint = Checkpoint::verify(&note, &key).unwrap();
    assert_eq!(checkpoint.size, 701);
    assert_eq!(checkpoint.root, ledger.head().root);
    for seq in [0, 1, 255, 256, 511, 699, 700] {
        let hashes = ledger.inclusion_proof(seq, 701).unwrap();
        let entry = ledger.entry(seq).unwrap().unwrap();
        let proof = TlogProof { index: seq, hashes: hashes.clone(), checkpoint: note.clone() };
        TlogProof::parse(&proof.to_string()).unwrap().verify(&entry, &key).unwrap();

        let theirs: Vec<tlog_tiles::Hash> = hashes.iter().map(|hash| tlog_tiles::Hash(hash.0)).collect();
        let root = tlog_tiles::Hash(checkpoint.root.0);
        tlog_tiles::check_record(&theirs, 701, root, seq, tlog_tiles::record_hash(&entry)).unwrap();
    }
    for old in [1, 2, 255, 256, 300, 512, 700, 701] {
        let proof = ledger.consistency_proof(old, 701).unwrap();
        let old_root = ledger.root_at(old).unwrap();
        merkle::verify_consistency(old, 701, &old_root, &checkpoint.root, &proof).unwrap();
    }
    assert!(matches!(ledger.inclusion_proof(701, 701), Err(LedgerError::OutOfRange { .. })));
    assert!(matches!(ledger.root_at(702), Err(LedgerError::OutOfRange { .. })));
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let bench = Bench::new();
    let ledger = bench.init();
    append(&ledger, 0..5);
    ledger.settle().unwrap();
    assert!(matches!(bench.open(), Err(LedgerError::Busy { .. })));

    let reader = bench.reader().unwrap();
    assert_eq!(reader.head(), ledger.head());
    assert!(matches!(reader.append(batch([1])), Err(AppendError::ReadOnly)));
    append(&ledger, 5..8);
    ledger.settle().unwrap();
    assert_eq!(reader.head().size, 6, "a reader stays where it is");
    assert_eq!(reader.entry(7).unwrap(), None);
    reader.refresh().unwrap();
    assert_eq!(reader.head(), ledger.head());
    assert_eq!(reader.record(8).unwrap().unwrap().event.as_deref(), Some(&event(7)));
    assert!(reader.verify(&mut |_, _| {}).unwrap().is_clean());
}

#[test]
fn a_ledger_that_was_rolled_back_is_refused_with_the_missing_range() {
    let bench = Bench::new();
    let ledger = bench.init();
    append(&ledger, 0..5);
    drop(ledger);
    let snapshot = bench.dir.path().join("snapshot");
    bench.copy_to(&snapshot);
    let ledger = bench.open().unwrap();
    append(&ledger, 5..9);
    drop(ledger);

    fs::remove_dir_all(bench.path()).unwrap();
    fs::rename(&snapshot, bench.path()).unwrap();
    for result in [bench.open(), bench.reader()] {
        match result.unwrap_err() {
            LedgerError::RolledBack { have, want } => assert_eq!((have, want), (6, 10)),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_ledger_whose_write_ahead_log_was_deleted_is_refused() {
    let bench = Bench::new();
    let ledger = bench.init();
    append(&ledger, 0..5);
    drop(ledger);
    let mut deleted = 0;
    for file in fs::read_dir(bench.path().join("db")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::remove_file(path).unwrap();
            deleted += 1;
        }
    }
    assert!(deleted > 0);
    assert!(bench.open().unwrap_err().to_string().contains("cut or rolled back"));
}

#[test]
fn a_missing_or_foreign_lock_is_refused() {
    let bench = Bench::new();
    drop(bench.init());
    let saved = fs::read(bench.lock()).unwrap();
    fs::remove_file(bench.lock()).unwrap();
    assert!(matches!(bench.open(), Err(LedgerError::LockMissing { .. })));

    let other = Bench::new();
    let options = InitOptions {
        entropy: Arc::new(SteppingEntropy::starting_at(5)),
        ..InitOptions::new("other.example")
    };
    drop(Ledger::init(&other.path(), &options, Arc::clone(&other.clock)).unwrap());
    fs::copy(other.lock(), bench.lock()).unwrap();
    assert!(matches!(bench.open(), Err(LedgerError::LockDamaged { .. })));

    fs::write(bench.lock(), saved).unwrap();
    assert!(bench.open().is_ok());
}

#[test]
fn a_rewritten_history_is_refused_though_it_is_consistent_in_itself() {
    let bench = Bench::new();
    let ledger = bench.init();
    append(&ledger, 0..5);
    drop(ledger);
    let lock = fs::read(bench.lock()).unwrap();

    // The insider restores an early copy, writes another history of the same length with the real keys, and puts
    // the old lock back.
    let twin = Bench::new();
    let ledger = twin.init();
    append(&ledger, 10..15);
    drop(ledger);
    fs::remove_dir_all(bench.path()).unwrap();
    twin.copy_to(&bench.path());
    fs::write(bench.lock(), lock).unwrap();
    assert!(matches!(bench.open(), Err(LedgerError::Forked { size: 6, .. })));
}

#[test]
fn a_directory_that_is_no_ledger_is_named() {
    let bench = Bench::new();
    assert!(matches!(bench.open(), Err(LedgerError::NotALedger { .. })));
    fs::create_dir(bench.path()).unwrap();
    fs::write(bench.path().join("file"), "x").unwrap();
    assert!(matches!(bench.open(), Err(LedgerError::NotALedger { .. })));
    let result = Ledger::init(&bench.path(), &InitOptions::new("o"), Arc::clone(&bench.clock));
    assert!(matches!(result, Err(LedgerError::NotEmpty { .. })));
    let result =
        Ledger::init(&bench.dir.path().join("new"), &InitOptions::new("has space"), Arc::clone(&bench.clock));
    assert!(matches!(result, Err(LedgerError::Note(_))));
}

#[test]
fn a_newer_format_and_a_changed_key_are_refused() {
    let bench = Bench::new();
    drop(bench.init());
    let path = bench.path().join("verdict.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"format\": 1", "\"format\": 2, \"novelty\": true")).unwrap();
    assert!(matches!(bench.open(), Err(LedgerError::Newer { found: 2, known: 1 })));

    let key = verdict_ledger::key::SigningKey::generate(&SteppingEntropy::starting_at(99)).unwrap();
    let foreign = VerifierKey::new("ledger.example/test", key.public()).unwrap().to_string();
    let mut settings: Value = serde_json::from_str(&text).unwrap();
    settings["verifier_key"] = json!(foreign);
    fs::write(&path, settings.to_string()).unwrap();
    let error = bench.reader().unwrap_err().to_string();
    assert!(error.contains("entry 0") && error.contains("does not commit"), "{error}");
}

#[test]
fn bad_records_are_refused_before_anything_is_written() {
    let bench = Bench::new();
    let ledger = bench.init();
    let before = ledger.head();
    let with = |change: fn(&mut Map<String, Value>)| {
        let mut bad = batch([1, 2]);
        change(&mut bad.records[1].body);
        ledger.append(bad).unwrap_err()
    };
    assert!(matches!(with(|body| drop(body.remove("id"))), AppendError::Id { index: 1, .. }));
    let error = with(|body| drop(body.insert("session".into(), json!(u64::MAX))));
    assert!(
        error.to_string().contains("record 1 (`event-2`)") && error.to_string().contains("/session"),
        "{error}"
    );
    let error = with(|body| drop(body.insert("session".into(), json!("x".repeat(70_000)))));
    assert!(matches!(error, AppendError::TooLarge { index: 1, .. }), "{error}");
    let many = Batch { records: vec![batch([1]).records.remove(0); 100_001], blobs: vec![] };
    assert!(matches!(ledger.append(many), Err(AppendError::BatchTooLarge { .. })));
    assert_eq!(ledger.head(), before);
    // A large value that is disclosed is not limited by the entry.
    let mut large = event(1);
    large.action.arguments = Some(json!("x".repeat(200_000)));
    ledger.append(Batch { records: vec![NewRecord::from_event(&large).unwrap()], blobs: vec![] }).unwrap();
    assert_eq!(ledger.record(1).unwrap().unwrap().event.as_deref(), Some(&large));
}

#[test]
fn raw_bodies_are_kept_by_digest() {
    let bench = Bench::new();
    let ledger = bench.init();
    let body = b"raw request body".repeat(100);
    let mut records = batch([1]);
    records.blobs.push(body.clone());
    ledger.append(records).unwrap();
    assert_eq!(ledger.blob(&Digest::of(&body)).unwrap(), Some(body));
    assert_eq!(ledger.blob(&Digest::of(b"other")).unwrap(), None);
}

#[test]
fn concurrent_writers_get_unique_contiguous_positions() {
    let bench = Bench::new();
    let ledger = bench.init();
    let mut seqs: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8u32)
            .map(|thread| {
                let ledger = ledger.clone();
                scope.spawn(move || {
                    (0..20).flat_map(|i| append(&ledger, [thread * 100 + i]).seqs).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=160).collect::<Vec<_>>());
    ledger.settle().unwrap();
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
}

#[test]
fn a_clock_that_goes_backwards_does_not_take_the_log_with_it() {
    #[derive(Debug)]
    struct Backwards(std::sync::atomic::AtomicU64);
    impl Clock for Backwards {
        fn now_ns(&self) -> u64 {
            self.0.fetch_sub(1_000_000, std::sync::atomic::Ordering::Relaxed)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Backwards(T0.into()));
    let ledger = Ledger::init(&dir.path().join("l"), &InitOptions::new("o.example"), clock).unwrap();
    for number in 0..5 {
        append(&ledger, [number]);
    }
    drop(ledger);
    // Also across a restart, after which the clock says last year.
    let clock = Arc::new(Backwards((T0 - 31_536_000_000_000_000).into()));
    let ledger = Ledger::open(&dir.path().join("l"), &OpenOptions::default(), clock).unwrap();
    append(&ledger, [5]);
    ledger.settle().unwrap();
    let times: Vec<u64> = ledger.records(0..9).map(|record| record.unwrap().ts_ns).collect();
    assert_eq!(times.len(), 7);
    assert!(times.is_sorted(), "{times:?}");
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
}

#[test]
fn checkpoints_are_consistent_with_each_other() {
    let bench = Bench::new();
    let ledger = bench.init();
    for round in 0..5u32 {
        append(&ledger, round * 10..round * 10 + 7);
        ledger.settle().unwrap();
    }
    let key = verifier(&ledger);
    let checkpoints = ledger.checkpoints(10).unwrap();
    assert!(checkpoints.len() >= 5);
    for pair in checkpoints.windows(2) {
        let new = Checkpoint::verify(&pair[0].1, &key).unwrap();
        let old = Checkpoint::verify(&pair[1].1, &key).unwrap();
        assert!(old.size < new.size);
        let proof: Vec<Hash> = ledger.consistency_proof(old.size, new.size).unwrap();
        merkle::verify_consistency(old.size, new.size, &old.root, &new.root, &proof).unwrap();
    }
}

#[test]
fn a_ledger_that_is_never_idle_is_signed_too() {
    #[derive(Debug)]
    struct Striding(std::sync::atomic::AtomicU64);
    impl Clock for Striding {
        fn now_ns(&self) -> u64 {
            self.0.fetch_add(2_000_000_000, std::sync::atomic::Ordering::Relaxed)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(Striding(T0.into()));
    let ledger = Ledger::init(&dir.path().join("l"), &InitOptions::new("o.example"), clock).unwrap();
    for number in 0..10 {
        append(&ledger, [number]);
    }
    // What was appended before the last request was signed before that was served.
    let newest = Checkpoint::verify(&ledger.checkpoint().unwrap().unwrap(), &verifier(&ledger)).unwrap();
    assert!(newest.size >= 10, "{newest:?}");
}

#[test]
fn a_checkpoint_that_is_signed_during_a_verification_is_no_damage() {
    let bench = Bench::new();
    let ledger = bench.init();
    append(&ledger, 0..5);
    let mut signed = false;
    let report = ledger.verify(&mut |_, _| {
        if !signed {
            ledger.settle().unwrap();
            signed = true;
        }
    });
    let report = report.unwrap();
    assert!(signed && report.is_clean(), "{report:?}");
    let again = ledger.verify(&mut |_, _| {}).unwrap();
    assert_eq!((again.is_clean(), again.checkpoints), (true, report.checkpoints + 1));
}

#[test]
fn two_copies_of_a_ledger_are_not_written_under_one_lock() {
    let bench = Bench::new();
    let lock = bench.dir.path().join("elsewhere.lock");
    let options = InitOptions { lock: Some(lock), ..InitOptions::new("ledger.example/test") };
    drop(Ledger::init(&bench.path(), &options, Arc::clone(&bench.clock)).unwrap());
    let copy = bench.dir.path().join("copy");
    bench.copy_to(&copy);

    let ledger = bench.open().unwrap();
    let open_copy = || Ledger::open(&copy, &OpenOptions::default(), Arc::clone(&bench.clock));
    assert!(matches!(open_copy(), Err(LedgerError::Busy { .. })));
    append(&ledger, 0..3);
    drop(ledger);
    assert!(matches!(open_copy(), Err(LedgerError::RolledBack { have: 1, want: 4 })));
}

#[test]
fn a_changed_bundle_key_is_refused() {
    let bench = Bench::new();
    let ledger = bench.init();
    assert!(ledger.bundle_signer().is_ok());
    drop(ledger);
    let path = bench.path().join("verdict.json");
    let text = fs::read_to_string(&path).unwrap();
    let key = verdict_ledger::key::SigningKey::generate(&SteppingEntropy::starting_at(99)).unwrap();
    fs::remove_file(bench.path().join("keys/bundle.pem")).unwrap();
    key.save(&bench.path().join("keys/bundle.pem"), &Protection::Plain).unwrap();
    assert!(matches!(bench.open().unwrap().bundle_signer(), Err(LedgerError::Settings { .. })));

    let foreign = VerifierKey::new("ledger.example/test/bundle", key.public()).unwrap().to_string();
    let mut settings: Value = serde_json::from_str(&text).unwrap();
    settings["bundle_key"] = json!(foreign);
    fs::write(&path, settings.to_string()).unwrap();
    for result in [bench.open(), bench.reader()] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("entry 0") && error.contains("bundle key"), "{error}");
    }
}

#[test]
fn many_statements_under_one_id_are_told_apart_across_batches() {
    let bench = Bench::new();
    let ledger = bench.init();
    let statement = |number: u32| {
        let mut event = event(number);
        event.id = "always-the-same".into();
        NewRecord::from_event(&event).unwrap()
    };
    let append = |numbers: &[u32]| {
        let records = numbers.iter().map(|number| statement(*number)).collect();
        ledger.append(Batch { records, blobs: vec![] }).unwrap()
    };
    let first = append(&[0, 1, 2, 1]);
    assert_eq!((first.appended, first.duplicates, first.conflicts), (3, 1, 2));
    let second = append(&[2, 3, 0, 3]);
    assert_eq!((second.appended, second.duplicates, second.conflicts), (1, 3, 1));
    assert_eq!(second.seqs, [3, 4, 1, 4]);
    assert_eq!(ledger.find_id("always-the-same").unwrap(), [1, 2, 3, 4]);
}

#[test]
fn texts_longer_than_an_index_holds_are_found() {
    let bench = Bench::new();
    let ledger = bench.init();
    let mut long = event(1);
    long.action.name = "é".repeat(150);
    ledger.append(Batch { records: vec![NewRecord::from_event(&long).unwrap()], blobs: vec![] }).unwrap();
    assert_eq!(ledger.find(Index::Tool, &long.action.name, 0..9, 9).unwrap(), [1]);
}

#[test]
fn an_origin_that_a_lock_slot_cannot_hold_is_refused_before_anything_is_made() {
    let bench = Bench::new();
    let options = InitOptions::new("o".repeat(513));
    assert!(matches!(
        Ledger::init(&bench.path(), &options, Arc::clone(&bench.clock)),
        Err(LedgerError::Note(_))
    ));
    assert!(!bench.path().exists() && !bench.lock().exists());
    // The worst that fits: every character of it takes two bytes in JSON, and more in JSON inside JSON.
    let options = InitOptions::new("\"".repeat(512));
    let ledger = Ledger::init(&bench.path(), &options, Arc::clone(&bench.clock)).unwrap();
    append(&ledger, 0..3);
    ledger.settle().unwrap();
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
}
