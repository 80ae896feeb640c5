//! What is kept beside a ledger: the state at the edges of epochs, and runs. It changes how long a replay takes and nothing
//! else, and it goes when something is erased.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use verdict_ledger::clock::SystemClock;
use verdict_ledger::erasure::{Basis, Selection};
use verdict_ledger::event::Event;
use verdict_ledger::pricing::Table;
use verdict_ledger::{Batch, InitOptions, Ledger, NewRecord, OpenOptions, Record};
use verdict_replay::policy::Policy;
use verdict_replay::run::stored::{Runs, StoredError};
use verdict_replay::run::{
    Corpus, LedgerSource, Options, Run, Scope, Semantics, collect, input_of, replay_with, stream,
};

use crate::policy::bundle;
use crate::sample::trace;

/// Reads so little that most inputs are alike: what is tested here is not the engine.
const POLICY: &str = r#"package t
findings contains {"effect": "block", "rule": "dear"} if input.action.arguments.cents > 800
findings contains {"effect": "block", "rule": "twice"} if input.state.trace.blocked > 1
findings contains {"effect": "allow", "rule": "rest"} if true
"#;

fn policy() -> Policy {
    Policy::compile(bundle(&[("policy/t.rego", POLICY)]).unwrap()).unwrap()
}

/// Two epochs and a half. Some traces begin in the first and go on in the last.
const EVENTS: u64 = 40_000;

fn event(number: u64) -> Event {
    let long = number % 997 == 3;
    serde_json::from_value(json!({
        "id": format!("e{number}"),
        "trace_id": if long { trace(7).to_string() } else { format!("{:032x}", 1_000 + number / 10) },
        "agent": {"name": format!("agent-{}", number % 5)},
        "tenant": "harbor",
        "action": {"kind": "tool", "name": "pay", "call_id": format!("c{number}"), "arguments": {"cents": number % 10 * 100}},
        "start_ns": ((number + 1) * 1_000_000_000).to_string(),
        "decision": {"effect": "allow", "by": {"kind": "policy"}},
        "outcome": {"status": "ok"},
        "usage": {"cost": {"nano": number % 700, "currency": "USD"}},
    }))
    .unwrap()
}

struct Sandbox {
    _temp: tempfile::TempDir,
    dir: PathBuf,
}

impl Sandbox {
    fn new() -> (Self, Ledger) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("ledger");
        let ledger = Ledger::init(&dir, &InitOptions::new("kept.example"), Arc::new(SystemClock)).unwrap();
        for first in (0..EVENTS).step_by(4_000) {
            let records = (first..first + 4_000).map(|n| NewRecord::from_event(&event(n)).unwrap()).collect();
            ledger.append(Batch { records, blobs: Vec::new() }).unwrap();
        }
        (Self { _temp: temp, dir }, ledger)
    }

    fn states(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files(&self.dir.join("projections/replay-state.v1"))
    }
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let Ok(files) = fs::read_dir(dir) else { return BTreeMap::new() };
    files.map(|file| file.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn run(ledger: &Ledger, scope: &Scope, from_the_beginning: bool) -> Run {
    let options = Options { from_the_beginning, ..Options::default() };
    replay_with(ledger, scope, &policy(), options, &mut |_, _| {}).unwrap()
}

#[test]
fn a_replay_begins_at_what_is_kept_and_says_the_same() {
    let (sandbox, ledger) = Sandbox::new();
    let all = Scope { semantics: Semantics::Causal, ..Scope::default() };
    let whole = run(&ledger, &all, true);
    assert_eq!(whole.points.len() as u64, EVENTS);
    let kept = sandbox.states();
    assert_eq!(kept.len(), 2, "one at each edge of an epoch");
    for scope in [
        Scope { first_seq: Some(35_000), ..all.clone() },
        Scope { trace: Some(trace(7)), ..all.clone() },
        Scope { first_seq: Some(20_000), end_seq: Some(38_000), ..Scope::default() },
    ] {
        let (near, far) = (run(&ledger, &scope, false), run(&ledger, &scope, true));
        assert_eq!(near, far);
        assert!(!near.points.is_empty());
    }
    assert_eq!(sandbox.states(), kept, "made again it has the same bytes");

    // From the records instead of the ledger.
    let records: Vec<Record> = ledger.records(0..u64::MAX).map(Result::unwrap).collect();
    let corpus =
        Corpus::new(&whole.header.origin, &whole.header.root, &records, Arc::new(Table::shipped().unwrap()));
    let again = collect(&corpus, &all, &policy(), Options::default(), &mut |_, _| {}).unwrap();
    assert_eq!(again.digest, whole.digest);
    drop(corpus);
    drop(ledger);

    Ledger::rebuild(&sandbox.dir, &OpenOptions::default(), &mut |_, _| {}).unwrap();
    assert!(sandbox.states().is_empty(), "what follows from the log is made again");
    let ledger = Ledger::open_reader(&sandbox.dir, &OpenOptions::default()).unwrap();
    assert_eq!(run(&ledger, &all, false).digest, whole.digest);
    let payloads = |files: &BTreeMap<PathBuf, Vec<u8>>| -> Vec<Vec<u8>> {
        files.values().map(|bytes| bytes.splitn(2, |byte| *byte == b'\n').nth(1).unwrap().to_vec()).collect()
    };
    assert_eq!(payloads(&sandbox.states()), payloads(&kept));

    // A state that is not what was written is passed over.
    let damaged = sandbox.states().into_keys().next_back().unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let late = Scope { first_seq: Some(35_000), ..all };
    assert_eq!(run(&ledger, &late, false), run(&ledger, &late, true));
}

#[test]
fn the_input_of_one_event_is_the_one_that_a_replay_decides() {
    let (_sandbox, ledger) = Sandbox::new();
    let source = LedgerSource::new(&ledger).unwrap();
    let whole = run(&ledger, &Scope::default(), true);
    for seq in [1, 4, 16_000, 16_390, 39_999] {
        let asked = input_of(&source, seq, None).unwrap().unwrap();
        let point = whole.points.iter().find(|point| point.point.key == seq).unwrap();
        assert_eq!(verdict_replay::input::digest(&asked.input), point.point.input, "entry {seq}");
        assert_eq!(asked.action.key, seq);
    }
    assert_eq!(input_of(&source, 0, None).unwrap(), None, "the first entry is no event");
    assert!(input_of(&source, 99_999, None).is_err());
}

#[test]
fn erasure_takes_states_and_runs_with_it() {
    let (sandbox, ledger) = Sandbox::new();
    let source = LedgerSource::new(&ledger).unwrap();
    let runs = Runs::of(&ledger);
    let mut writer = runs.begin("friday").unwrap();
    let summary =
        stream(&source, &Scope::default(), &policy(), Options::default(), &mut |_, _| {}, None, &mut writer)
            .unwrap();
    writer.finish(&summary).unwrap();
    assert_eq!(runs.summary("friday").unwrap(), summary);
    let points = runs.points("friday").unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(points, run(&ledger, &Scope::default(), false).points);
    assert!(matches!(runs.begin("friday"), Err(StoredError::Exists { .. })));
    assert!(matches!(runs.begin("../friday"), Err(StoredError::Name { .. })));
    assert!(matches!(runs.summary("monday"), Err(StoredError::Missing { .. })));
    let states = sandbox.states();
    assert_eq!(states.len(), 2);

    let basis = Basis { legal_basis: "Art. 17".into(), reason: "asked".into(), ..Basis::default() };
    ledger.erase(&Selection::event(200), &basis, 0).unwrap();
    assert!(sandbox.states().is_empty());
    assert!(matches!(runs.summary("friday"), Err(StoredError::Missing { .. })));
    // What somebody puts back from a copy is from before the erasure, and is passed over.
    fs::create_dir_all(sandbox.dir.join("projections/replay-state.v1")).unwrap();
    for (path, bytes) in &states {
        fs::write(path, bytes).unwrap();
    }
    let late = Scope { first_seq: Some(35_000), ..Scope::default() };
    let near = run(&ledger, &late, false);
    assert_eq!(near, run(&ledger, &late, true));
    assert!(sandbox.states().values().all(|bytes| !states.values().any(|old| old == bytes)));
}
