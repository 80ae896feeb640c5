//! What a replay costs in a small and in a large ledger: one trace, one day, and memory for everything.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use verdict_ledger::{Ledger, OpenOptions};
use verdict_replay::policy::Policy;
use verdict_replay::run::{LedgerSource, Options, Replayed, Scope, Semantics, Sink, stream};

use crate::{ROUNDS, head, row, sample};

const SMALL: u32 = 100_000;
/// Entries of a day, as the sample spaces them.
const DAY: u64 = 86_400;

/// Points that nobody keeps.
struct Nowhere(u64);

impl Sink for Nowhere {
    fn point(&mut self, _: Replayed) -> std::io::Result<()> {
        self.0 += 1;
        Ok(())
    }
}

struct Figures {
    trace: Duration,
    day: Duration,
    peak_kib: f64,
}

pub(crate) fn run(large: u32) {
    let policy = sample::light();
    let (small, all) = (figures(SMALL, &policy), figures(large, &policy));
    head("a replay in a large and in a small ledger", &large.to_string(), &SMALL.to_string());
    row("one trace, causal, milliseconds", 1e3 * all.trace.as_secs_f64(), 1e3 * small.trace.as_secs_f64());
    row("one day, causal, milliseconds", 1e3 * all.day.as_secs_f64(), 1e3 * small.day.as_secs_f64());
    row("memory at its peak, everything replayed, MiB", all.peak_kib / 1024.0, small.peak_kib / 1024.0);
}

fn figures(size: u32, policy: &Policy) -> Figures {
    let dir = tempfile::tempdir_in(sample::disk()).unwrap();
    let path = dir.path().join("ledger");
    // In a process of its own: what writing takes is not what replaying takes.
    let built = Command::new(std::env::current_exe().unwrap())
        .args(["build", &size.to_string()])
        .arg(&path)
        .status()
        .unwrap();
    assert!(built.success());
    let ledger = Ledger::open_reader(&path, &OpenOptions::default()).unwrap();
    let _ = fs::write("/proc/self/clear_refs", "5");
    let start = Instant::now();
    let points = replayed(&ledger, policy, &Scope { semantics: Semantics::Causal, ..Scope::default() });
    let rate = f64::from(u32::try_from(points).unwrap()) / start.elapsed().as_secs_f64();
    let peak_kib = peak_kib();
    println!("{size} entries: {rate:.0} decisions/s, state kept at each epoch");
    let trace = Scope {
        trace: Some(sample::trace(size - size / 10)),
        semantics: Semantics::Causal,
        ..Scope::default()
    };
    let first = u64::from(size) - u64::from(size) / 10;
    let end = (first + DAY).min(u64::from(size) + 1);
    let first = end.saturating_sub(DAY);
    let day = Scope {
        first_seq: Some(first),
        end_seq: Some(end),
        semantics: Semantics::Causal,
        ..Scope::default()
    };
    Figures { trace: best(&ledger, policy, &trace), day: best(&ledger, policy, &day), peak_kib }
}

fn best(ledger: &Ledger, policy: &Policy, scope: &Scope) -> Duration {
    let round = |_| {
        let start = Instant::now();
        assert!(replayed(ledger, policy, scope) > 0);
        start.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap()
}

fn replayed(ledger: &Ledger, policy: &Policy, scope: &Scope) -> u64 {
    let source = LedgerSource::new(ledger).unwrap();
    let mut nowhere = Nowhere(0);
    stream(&source, scope, policy, Options::default(), &mut |_, _| {}, None, &mut nowhere).unwrap();
    nowhere.0
}

/// The peak of resident memory since it was last reset.
fn peak_kib() -> f64 {
    let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
