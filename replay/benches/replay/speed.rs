//! Replay beside the engine on inputs that were built before, and beside what somebody would write instead.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use serde_json::Value;
use verdict_ledger::{Ledger, OpenOptions, action};
use verdict_replay::input;
use verdict_replay::policy::{Bundle, Policy};
use verdict_replay::run::{Options, Scope, Semantics, replay_with};
use verdict_replay::state::State;

use crate::{ROUNDS, head, rate, row, sample};

const ACTIONS: u32 = 20_000;

fn ledger(size: u32) -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir_in(sample::disk()).unwrap();
    let path = dir.path().join("ledger");
    sample::build(&path, size);
    let ledger = Ledger::open_reader(&path, &OpenOptions::default()).unwrap();
    (dir, ledger)
}

/// The inputs of all points, in the state that they really had.
fn inputs(ledger: &Ledger) -> Vec<Value> {
    let records: Vec<_> = ledger.records(0..u64::MAX).map(Result::unwrap).collect();
    let mut state = State::default();
    let mut inputs = Vec::new();
    for action in action::fold(&records, 0) {
        inputs.push(input::build(&action, &state));
        state.fold(&action, action.ruling().map(|ruling| ruling.decision.effect));
    }
    inputs
}

fn engine(policy: &Policy, inputs: &[Value], threads: usize) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for share in inputs.chunks(inputs.len().div_ceil(threads)) {
            scope.spawn(move || share.iter().for_each(|input| drop(black_box(policy.decide(input)))));
        }
    });
    start.elapsed()
}

fn replayed(
    ledger: &Ledger,
    policy: &Policy,
    semantics: Semantics,
    threads: Option<usize>,
) -> (Duration, usize) {
    let start = Instant::now();
    let scope = Scope { semantics, ..Scope::default() };
    let options =
        Options { threads: threads.and_then(NonZeroUsize::new), from_the_beginning: true, cancel: None };
    let run = replay_with(ledger, &scope, policy, options, &mut |_, _| {}).unwrap();
    (start.elapsed(), black_box(run).points.len())
}

pub(crate) fn semantics() {
    let (_dir, ledger) = ledger(ACTIONS);
    let (policy, inputs) = (sample::policy(), inputs(&ledger));
    let threads = std::thread::available_parallelism().unwrap().get();
    head("replay from the ledger, decisions/s, all cores", "replay", "engine");
    let (mut ours, mut limit) = ([Vec::new(), Vec::new(), Vec::new()], Vec::new());
    for _ in 0..ROUNDS {
        limit.push(engine(&policy, &inputs, threads));
        for (rounds, semantics) in ours.iter_mut().zip(Semantics::ALL) {
            let (took, points) = replayed(&ledger, &policy, semantics, None);
            assert_eq!(points, inputs.len(), "both decide the same points");
            rounds.push(took);
        }
    }
    for (rounds, semantics) in ours.iter().zip(Semantics::ALL) {
        row(semantics.as_str(), rate(rounds, inputs.len()), rate(&limit, inputs.len()));
    }
}

pub(crate) fn threads() {
    let (_dir, ledger) = ledger(ACTIONS);
    let policy = sample::policy();
    head("replay, decisions/s", "two threads", "one thread");
    for semantics in Semantics::ALL {
        let (mut two, mut one, mut decided) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            two.push(replayed(&ledger, &policy, semantics, Some(2)).0);
            let (took, points) = replayed(&ledger, &policy, semantics, Some(1));
            one.push(took);
            decided = points;
        }
        row(semantics.as_str(), rate(&two, decided), rate(&one, decided));
    }
}

/// What somebody would write instead: read the lines, give each to the engine as its input, with the policy loaded for each
/// as a command-line tool does. Generous: no process is started, and the input lacks state and provenance.
pub(crate) fn script() {
    let (_dir, ledger) = ledger(ACTIONS);
    let policy = sample::policy();
    let files = policy.bundle().files().clone();
    let lines: Vec<String> = inputs(&ledger).iter().take(400).map(Value::to_string).collect();
    head("decisions/s", "replay", "script");
    let (mut ours, mut script, mut decided) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let (took, points) = replayed(&ledger, &policy, Semantics::Pointwise, None);
        ours.push(took);
        decided = points;
        let start = Instant::now();
        for line in &lines {
            let policy = Policy::compile(Bundle::from_files(files.clone()).unwrap()).unwrap();
            drop(black_box(policy.decide(&serde_json::from_str(line).unwrap())));
        }
        script.push(start.elapsed());
    }
    row(
        "pointwise, beside a script that loads the policy a line",
        rate(&ours, decided),
        rate(&script, lines.len()),
    );
}
