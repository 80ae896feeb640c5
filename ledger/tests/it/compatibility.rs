//! Ledgers that earlier versions wrote: every later one must open, verify, query and rebuild them.
//! `examples/ledger_fixture.rs` made them.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests stop at the first surprise")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use verdict_ledger::clock::SteppingClock;
use verdict_ledger::erasure::{Basis, Selection};
use verdict_ledger::{Batch, Ledger, LedgerError, NewRecord, OpenOptions, Order, Query, User};

use super::store::copy_dir;

const V1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/ledgers/v1");

/// A copy of a ledger of the fixture, which must stay as it is.
fn copied(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    copy_dir(&Path::new(V1).join(name), &path);
    // git keeps no modes, and keys that others can read are refused.
    for key in fs::read_dir(path.join("keys")).unwrap() {
        fs::set_permissions(key.unwrap().path(), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::copy(Path::new(V1).join(name).with_extension("lock"), path.with_extension("lock")).unwrap();
    (dir, path)
}

fn expected() -> Value {
    serde_json::from_slice(&fs::read(Path::new(V1).join("expected.json")).unwrap()).unwrap()
}

fn reader(path: &Path) -> Ledger {
    Ledger::open_reader(path, &OpenOptions::default()).unwrap()
}

fn writer(path: &Path) -> Ledger {
    let clock = Arc::new(SteppingClock::starting_at(1_795_700_000_000_000_000));
    Ledger::open(path, &OpenOptions::default(), clock).unwrap()
}

fn found(ledger: &Ledger, query: &Query) -> Value {
    json!(ledger.query(query, Order::Oldest, None).unwrap().map(Result::unwrap).collect::<Vec<u64>>())
}

#[track_caller]
fn check(ledger: &Ledger, want: &Value) {
    assert_eq!(json!(ledger.origin()), want["origin"]);
    assert_eq!(json!(ledger.verifier_key()), want["verifier_key"]);
    assert_eq!(json!(ledger.head().size), want["size"]);
    assert_eq!(json!(ledger.head().root), want["root"]);
    let report = ledger.verify(&mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{:?}", report.failures);
    assert_eq!((json!(report.root), report.blobs), (want["root"].clone(), 1));
    assert_eq!(
        (json!(report.disclosures), json!(report.withheld)),
        (want["disclosures"].clone(), want["withheld"].clone())
    );
    assert!(report.checkpoints >= 5 && report.disclosures > 1_000);
    for (seq, withheld) in want["withheld_at"].as_object().unwrap() {
        let record = ledger.record(seq.parse().unwrap()).unwrap().unwrap();
        assert_eq!(json!(record.withheld), *withheld, "entry {seq}");
    }
    let holds = ledger.holds(0).unwrap();
    assert!(holds.len() == 1 && holds[0].released.is_some() && !holds[0].active, "{holds:?}");
    assert_eq!(json!(ledger.record(100).unwrap().unwrap().event), want["event_100"]);
    let one = |text: &str| vec![text.to_owned()];
    let user = User { tenant: Some("harbor".to_owned()), user: "user-4@example.org".to_owned() };
    let queries = [
        ("id event-5", Query { ids: one("event-5"), ..Query::default() }),
        (
            "effect block, tool run_sql",
            Query { effects: one("block"), tools: one("run_sql"), ..Query::default() },
        ),
        ("rule rule.3", Query { rules: one("rule.3"), ..Query::default() }),
        ("session session-2", Query { sessions: one("session-2"), ..Query::default() }),
        ("text limit, first 300", Query { texts: one("limit"), end_seq: Some(300), ..Query::default() }),
        ("user user-4@example.org of harbor", Query { users: vec![user], ..Query::default() }),
        (
            "type review.opened, payload.erased",
            Query {
                kinds: vec!["review.opened".to_owned(), "payload.erased".to_owned()],
                ..Query::default()
            },
        ),
    ];
    assert_eq!(want["queries"].as_object().unwrap().len(), queries.len());
    for (name, query) in &queries {
        let found = found(ledger, query);
        assert!(!found.as_array().unwrap().is_empty());
        assert_eq!(found, want["queries"][name], "{name}");
    }
}

#[test]
fn a_ledger_of_format_1_opens_verifies_and_answers() {
    let want = expected();
    let (_dir, path) = copied("whole");
    check(&reader(&path), &want);
    check(&writer(&path), &want);
    let ledger = writer(&path);
    let again = json!({"id": "review-1", "reason": "looked at"}).as_object().unwrap().clone();
    let again = Batch { records: vec![NewRecord::system("review.opened", again)], blobs: Vec::new() };
    assert_eq!(ledger.append(again).unwrap().duplicates, 1, "what was said is known");
    let more = json!({"id": "review-2"}).as_object().unwrap().clone();
    let more = Batch { records: vec![NewRecord::system("review.opened", more)], blobs: Vec::new() };
    assert_eq!(json!(ledger.append(more).unwrap().seqs[0]), want["size"]);
    let basis = Basis { legal_basis: "Art. 17".into(), reason: "asked".into(), ..Basis::default() };
    let erased = ledger.erase(&Selection::event(200), &basis, 0).unwrap();
    assert!(erased.values > 0 && erased.held.is_empty(), "the hold on it was released: {erased:?}");
    ledger.settle().unwrap();
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
}

#[test]
fn a_ledger_of_format_1_is_rebuilt() {
    let want = expected();
    let (_dir, path) = copied("whole");
    let rebuilt = Ledger::rebuild(&path, &OpenOptions::default(), &mut |_, _| {}).unwrap();
    assert_eq!((json!(rebuilt.entries), json!(rebuilt.root)), (want["size"].clone(), want["root"].clone()));
    check(&reader(&path), &want);
}

#[test]
fn a_ledger_of_format_1_that_a_power_cut_left_opens_without_its_torn_end() {
    let want = expected();
    let (_dir, path) = copied("torn");
    check(&reader(&path), &want);
    check(&writer(&path), &want);
    check(&reader(&path), &want);
}

#[test]
fn a_newer_format_is_refused_by_name_before_anything_else() {
    let (_dir, path) = copied("whole");
    let settings = path.join("verdict.json");
    let mut value: Value = serde_json::from_slice(&fs::read(&settings).unwrap()).unwrap();
    value["format"] = json!(2);
    value["a_setting_of_format_2"] = json!(true);
    fs::write(&settings, value.to_string()).unwrap();
    fs::remove_dir_all(path.join("db")).unwrap();
    let options = OpenOptions::default();
    let clock = Arc::new(SteppingClock::starting_at(0));
    for error in [
        Ledger::open(&path, &options, clock).unwrap_err(),
        Ledger::open_reader(&path, &options).unwrap_err(),
        Ledger::rebuild(&path, &options, &mut |_, _| {}).unwrap_err(),
    ] {
        assert!(matches!(error, LedgerError::Newer { found: 2, known: 1 }), "{error}");
        assert!(error.to_string().contains("format 2"), "{error}");
    }
}
