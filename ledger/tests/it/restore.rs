//! Restoring a ledger from a backup: refused until it is said, and then told to everybody.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::path::Path;

use serde_json::Map;
use verdict_ledger::anchor::{AnchorFile, AnchorRecord};
use verdict_ledger::authority::{Role, Step};
use verdict_ledger::note::{Checkpoint, VerifierKey};
use verdict_ledger::{Ledger, LedgerError, OpenOptions, RestoreOptions, RestorePlan};

use crate::store::{Bench, append, copy_dir};

const SECOND: &str = "ledger.example/test/2";

fn options() -> RestoreOptions {
    RestoreOptions {
        open: OpenOptions::default(),
        reason: "the disk died".into(),
        by: "keeper".into(),
        without_lock: false,
        checkpoints: Vec::new(),
    }
}

fn plan_with(bench: &Bench, dir: &Path, options: &RestoreOptions) -> Result<RestorePlan, LedgerError> {
    Ledger::plan_restore(dir, &bench.lock(), options, &mut |_, _| {})
}

/// A ledger whose directory is that of an earlier day; returns the last checkpoint that was handed out.
fn rolled_back(bench: &Bench) -> String {
    let ledger = bench.init();
    append(&ledger, 0..4);
    ledger.settle().unwrap();
    drop(ledger);
    let backup = bench.path().with_extension("backup");
    bench.copy_to(&backup);
    let ledger = bench.open().unwrap();
    append(&ledger, 4..9);
    ledger.settle().unwrap();
    let handed_out = ledger.checkpoint().unwrap().unwrap();
    drop(ledger);
    fs::remove_dir_all(bench.path()).unwrap();
    copy_dir(&backup, &bench.path());
    handed_out
}

#[test]
fn a_restored_ledger_goes_on_under_a_new_origin_and_says_what_is_lost() {
    let bench = Bench::new();
    let proof_of_loss = rolled_back(&bench);
    assert!(matches!(bench.open(), Err(LedgerError::RolledBack { have: 5, want: 10 })));
    let first = VerifierKey::parse(
        &Ledger::plan_restore(&bench.path(), &bench.lock(), &options(), &mut |_, _| {})
            .map(|plan| plan.verifier_key)
            .unwrap(),
    )
    .unwrap();
    let plan = plan_with(&bench, &bench.path(), &options()).unwrap();
    assert_eq!((plan.size, plan.lost_end, plan.new_origin.as_str()), (5, Some(10), SECOND));
    assert_eq!(plan.checkpoint.as_deref(), Some(proof_of_loss.as_str()));
    assert!(plan.checkpoint_verified && plan.report.is_clean() && plan.last_ts.is_some());
    assert!(bench.open().is_err(), "a plan changes nothing");

    let old_lock = fs::read(bench.lock()).unwrap();
    let ledger = Ledger::restore(&bench.path(), &plan, &OpenOptions::default(), bench.clock()).unwrap();
    assert_eq!(fs::read(plan.kept_lock.unwrap()).unwrap(), old_lock, "the old lock is kept");
    let record = ledger.record(5).unwrap().unwrap();
    let text =
        |name: &str| record.body.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    assert_eq!(record.kind, "restore.performed");
    assert_eq!((text("origin"), text("old_origin")), (SECOND.into(), "ledger.example/test".into()));
    assert_eq!((text("size"), text("lost_end")), ("5".into(), "10".into()));
    assert_eq!((text("reason"), text("by")), ("the disk died".into(), "keeper".into()));
    assert_eq!(text("checkpoint"), proof_of_loss);
    append(&ledger, 20..22);
    ledger.settle().unwrap();
    drop(ledger);

    let ledger = bench.open().unwrap();
    assert_eq!(ledger.origin(), SECOND);
    let report = ledger.verify(&mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.failures);
    let note = ledger.checkpoint().unwrap().unwrap();
    assert!(note.starts_with(&format!("{SECOND}\n8\n")), "{note}");
    // The same pair under a new name: a witness sees a new log, who holds the old key sees why.
    let authority = ledger.authority();
    assert_eq!(first, *authority.current(Role::Log));
    assert!(Checkpoint::verify(&note, &first).is_ok());
    let old = authority.spans(Role::Log)[0].key.clone();
    assert!(matches!(authority.path(&old, 8).unwrap()[..], [Step::Restore { .. }]));
    assert!(
        Checkpoint::verify(&ledger.checkpoint_at(5).unwrap().unwrap(), &old).is_ok(),
        "old ones stay valid"
    );
    assert!(authority.verify_checkpoint(&proof_of_loss).is_err(), "and those beyond are another history");
    // What was written before the loss is read as before: its values are sealed under the first origin.
    assert!(ledger.record(2).unwrap().unwrap().withheld.is_empty());
    assert!(ledger.record(6).unwrap().unwrap().withheld.is_empty());
    drop(ledger);

    // Lost again, from the same backup: the number is never used twice. An anchor beside the lock that holds what was
    // given up, under either origin, contradicts nothing.
    for (time_ns, note) in [(1, &proof_of_loss), (2, &note)] {
        let record = AnchorRecord::new(time_ns, "s", "file", note, Map::new()).unwrap();
        AnchorFile::beside_lock(&bench.lock()).append(&record).unwrap();
    }
    fs::remove_dir_all(bench.path()).unwrap();
    copy_dir(&bench.path().with_extension("backup"), &bench.path());
    let plan = plan_with(&bench, &bench.path(), &options()).unwrap();
    assert_eq!(plan.new_origin, "ledger.example/test/3");
    let ledger = Ledger::restore(&bench.path(), &plan, &OpenOptions::default(), bench.clock()).unwrap();
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
    assert_eq!(ledger.origin(), "ledger.example/test/3");
    drop(ledger);
    assert_eq!(bench.open().unwrap().origin(), "ledger.example/test/3");
}

#[test]
fn what_is_not_a_former_state_of_the_ledger_is_not_restored() {
    let bench = Bench::new();
    rolled_back(&bench);
    let refused = |result: Result<RestorePlan, LedgerError>, says: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(says), "{error}\nexpected {says}");
    };
    // Another ledger.
    let other = Bench::new();
    drop(other.init());
    let strange = verdict_ledger::InitOptions::new("ledger.example/test");
    let dir = other.path().with_extension("strange");
    drop(Ledger::init(&dir, &strange, other.clock()).unwrap());
    refused(plan_with(&bench, &dir, &options()), "to another");
    // Nothing is lost.
    refused(
        Ledger::plan_restore(&other.path(), &other.lock(), &options(), &mut |_, _| {}),
        "nothing is lost",
    );
    // A reason is asked for.
    let no_reason = RestoreOptions { reason: String::new(), ..options() };
    refused(plan_with(&bench, &bench.path(), &no_reason), "a reason is 1 to");
    // No lock, and nobody said so.
    let kept = bench.lock().with_extension("away");
    fs::rename(bench.lock(), &kept).unwrap();
    assert!(matches!(plan_with(&bench, &bench.path(), &options()), Err(LedgerError::LockMissing { .. })));
    let without = RestoreOptions { without_lock: true, ..options() };
    let plan = plan_with(&bench, &bench.path(), &without).unwrap();
    assert_eq!((plan.lost_end, plan.kept_lock), (None, None), "nobody knows how much");
    // A checkpoint that somebody kept says at least so much.
    let reader = fs::read(&kept).unwrap();
    let text = String::from_utf8_lossy(&reader).into_owned();
    assert!(text.contains("ledger.example/test"));
    fs::rename(&kept, bench.lock()).unwrap();
    let known = plan_with(&bench, &bench.path(), &options()).unwrap().checkpoint.unwrap();
    fs::rename(bench.lock(), &kept).unwrap();
    let given = RestoreOptions { without_lock: true, checkpoints: vec![known.clone()], ..options() };
    let plan = plan_with(&bench, &bench.path(), &given).unwrap();
    assert_eq!(plan.lost_end, Some(10));
    let forged = known.replace("\n10\n", "\n90\n");
    let given = RestoreOptions { without_lock: true, checkpoints: vec![forged], ..options() };
    refused(plan_with(&bench, &bench.path(), &given), "no signature by");
    // And without a lock the ledger still goes on.
    let ledger = Ledger::restore(&bench.path(), &plan, &OpenOptions::default(), bench.clock()).unwrap();
    assert_eq!(ledger.origin(), SECOND);
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
}
