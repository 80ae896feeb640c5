//! Failing disks: one call of the writer on one of its files returns EIO or ENOSPC, once or from then on.
//!
//! A first run without faults tells which calls there are; then each of them fails in a run of its own (in `make test`
//! a sample of them). Whatever the call, the writer must end by itself, say what happened, acknowledge nothing after
//! its first refusal, and leave a ledger that opens clean with all that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ack::{self, Said};
use super::audit::{self, Promises};
use super::random::Random;
use super::strace::{self, Fault};
use super::writer::Order;
use super::{is_long, rounds, told};

/// Longest that a writer with a broken disk may take.
const SECONDS_MAX: u64 = 60;

/// Faults that `make test` always tries: (call, end of the file's name).
const ALWAYS: [(&str, &str); 8] = [
    ("fdatasync", ".log"),
    ("write", ".log"),
    ("fdatasync", "ledger.lock"),
    ("pwrite64", "ledger.lock"),
    ("fdatasync", ".sst"),
    ("fsync", "db"),
    ("rename", ".dbtmp"),
    ("write", "MANIFEST-000001"),
];

/// Calls on the log or the lock after the last append of a session: a checkpoint, and the lock twice.
const CALLS_TO_CLOSE: usize = 3;

/// Faults of each call on RocksDB's information log that are tried: nothing depends on it.
const INFORMATION_LOG_FAULTS: usize = 3;

#[derive(Debug, Default)]
struct Tally {
    possible: usize,
    runs: usize,
    not_reached: usize,
    refused: usize,
    not_open: usize,
    /// No caller noticed: files that do not matter, or the last moments of a session.
    unnoticed: BTreeMap<String, usize>,
    variants: BTreeSet<String>,
    acked: usize,
    failures: Vec<String>,
}

fn order(root: &Path) -> Order {
    let mut order = Order::below(root, root.join("said"), 5);
    // Several sessions, so that recovery, tables and the removal of old logs are among the calls.
    (order.sessions, order.batches, order.settle_every, order.stubborn) = (3, 4, 3, 3);
    order.prepare();
    order
}

#[test]
fn no_failing_call_loses_what_was_acknowledged() {
    if !strace::is_there() {
        return;
    }
    let calls = calls();
    let faults = chosen(&calls);
    let mut tally = Tally { possible: faults.1, ..Tally::default() };
    for fault in faults.0 {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        if let Err(error) = fail(&root, &fault, &calls, &mut tally) {
            tally.failures.push(format!("{fault:?}: {error}"));
        }
    }
    told(&format!("faults: {} runs of {} possible ones: {tally:#?}", tally.runs, tally.possible));
    assert!(
        tally.failures.is_empty(),
        "{} of {} runs failed:\n{:#?}",
        tally.failures.len(),
        tally.runs,
        tally.failures
    );
    assert!(tally.not_reached * 5 < tally.runs, "the faults did not reach the writer: {tally:?}");
    assert!(tally.refused > 0 && tally.not_open > 0, "{tally:?}");
}

/// How often each call is made on each file by the thread that makes it most: strace counts by thread.
type Calls = BTreeMap<(String, PathBuf), usize>;

fn calls() -> Calls {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (order, log) = (order(&root), root.join("calls"));
    let output = order.command(&strace::counting(&log)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(ack::read(&order.said).last(), Some(&Said::Closed));
    let mut threads: BTreeMap<(String, PathBuf, String), usize> = BTreeMap::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        let Some((thread, name, path)) = strace::call_on_file(line) else { continue };
        let Ok(path) = path.strip_prefix(&root) else { continue };
        if path.starts_with("data") || path.starts_with("lock") {
            *threads.entry((name, path.to_owned(), thread)).or_default() += 1;
        }
    }
    let mut calls = Calls::new();
    for ((name, path, _), count) in threads {
        let most = calls.entry((name, path)).or_default();
        *most = count.max(*most);
    }
    assert!(calls.len() > 30, "{calls:?}");
    calls
}

/// The faults to try, and how many there are.
fn chosen(calls: &Calls) -> (Vec<Fault>, usize) {
    let mut all = Vec::new();
    for ((call, path), count) in calls {
        let errors: &[&str] = match call.as_str() {
            "fallocate" | "mkdir" => &["ENOSPC"],
            "rename" | "ftruncate" | "unlink" => &["EIO"],
            _ => &["EIO", "ENOSPC"],
        };
        let count = if path.ends_with("LOG") { INFORMATION_LOG_FAULTS.min(*count) } else { *count };
        for first in 1..=count {
            for error in errors {
                for lasting in [false, true] {
                    all.push(Fault { call: call.clone(), path: path.clone(), error, first, lasting });
                }
            }
        }
    }
    let possible = all.len();
    if is_long() {
        return (all, possible);
    }
    let mut random = Random::seeded(3);
    let mut list = Vec::new();
    for (call, end) in ALWAYS {
        let these: Vec<_> = all
            .iter()
            .filter(|fault| fault.call == call && fault.path.to_string_lossy().ends_with(end))
            .collect();
        assert!(!these.is_empty(), "no {call} on a file {end}: {calls:?}");
        list.push(these[random.index(these.len())].clone());
    }
    while list.len() < rounds(24, 0) {
        list.push(all[random.index(all.len())].clone());
    }
    (list, possible)
}

/// Runs a writer with one fault and looks at what it said and left.
fn fail(root: &Path, fault: &Fault, calls: &Calls, tally: &mut Tally) -> Result<(), String> {
    let (order, log) = (order(root), root.join("calls"));
    let here = Fault { path: root.join(&fault.path), ..fault.clone() };
    let mut wrapper = here.arguments(&log);
    wrapper.extend(["timeout", "-s", "KILL", &SECONDS_MAX.to_string()].map(Into::into));
    let output = order.command(&wrapper).output().unwrap();
    tally.runs += 1;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || stderr.contains("panicked") {
        return Err(format!("the writer ended with {}: {stderr}", output.status));
    }
    let said = ack::read(&order.said);
    let injected = std::fs::read_to_string(&log).unwrap_or_default().contains("(INJECTED)");
    let promises = Promises::of(&said);
    tally.acked += promises.acked.len();

    let text = if fault.error == "EIO" { "Input/output error" } else { "No space left on device" };
    let mut failed = false;
    for said in &said {
        match said {
            Said::Refused { variant, text: told } | Said::NotOpen { variant, text: told } => {
                failed = true;
                tally.variants.insert(variant.clone());
                // A broken disk must not be taken for a broken history.
                if ["RolledBack", "Forked", "LockMissing", "LockDamaged"].contains(&variant.as_str()) {
                    return Err(format!("a failing disk was called {variant}: {told}"));
                }
                if matches!(said, Said::Refused { .. }) && !told.contains(text) {
                    return Err(format!("the refusal does not name the error: {told}"));
                }
            }
            Said::Acked { .. } | Said::Settled { .. } if failed => {
                return Err(format!("it acknowledged after a failure: {said:?}"));
            }
            _ => {}
        }
    }
    let refused = said.iter().any(|said| matches!(said, Said::Refused { .. }));
    let not_open = said.iter().any(|said| matches!(said, Said::NotOpen { .. }));
    tally.not_reached += usize::from(!injected);
    tally.refused += usize::from(refused);
    tally.not_open += usize::from(not_open);
    if injected && !failed {
        let kind = kind(&fault.path);
        // An append waits for every call on a log or the lock, but for the last ones, which close the ledger.
        let waited_for = ["write", "pwrite64", "fdatasync"].contains(&fault.call.as_str())
            && ["*.log", "ledger.lock"].contains(&kind.as_str());
        let all = calls[&(fault.call.clone(), fault.path.clone())];
        if waited_for && fault.first + CALLS_TO_CLOSE < all {
            return Err(format!("nobody was told that call {} of {all} failed: {said:?}", fault.first));
        }
        *tally.unnoticed.entry(format!("{} {kind}", fault.call)).or_default() += 1;
    }
    match audit::check(&order.dir, &order.lock, &promises, false) {
        Err(error) if promises.created => Err(format!("{error} (said: {said:?})")),
        _ => Ok(()),
    }
}

/// The kind of file, without its number.
fn kind(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    let digits = name.chars().take_while(char::is_ascii_digit).count();
    if digits > 0 { format!("*{}", &name[digits..]) } else { name.split('-').next().unwrap().to_owned() }
}
