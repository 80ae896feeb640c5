//! Full verification, beside one pass over the same entries that only scans and hashes.

use std::hint::black_box;
use std::time::Instant;

use verdict_ledger::{Depth, Ledger, VerifyOptions};

use crate::sample::{batch, init};
use crate::{disk, head, row};

const ROUNDS: usize = 3;
const EVENTS: u32 = 200_000;

pub(crate) fn run() {
    let dir = tempfile::tempdir_in(disk()).unwrap();
    let ledger = init(&dir.path().join("ledger"));
    for start in (0..EVENTS).step_by(1000) {
        ledger.append(batch(start..start + 1000)).unwrap();
    }
    ledger.settle().unwrap();
    head("verify, entries/s", "ledger", "limit");
    let scan = best(|| scan(&ledger));
    let one = best(|| verify(&ledger, Depth::Log, 1));
    let two = best(|| verify(&ledger, Depth::Log, 2));
    row("log on one core, beside scan + BLAKE3 + SHA-256", one, scan);
    row("log on two cores, beside one", two, one);
    let everything = best(|| verify(&ledger, Depth::Everything, 2));
    row("everything on two cores, beside the log", everything, two);
}

fn best(mut pass: impl FnMut()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        pass();
        f64::from(EVENTS) / start.elapsed().as_secs_f64()
    });
    rounds.fold(0.0, f64::max)
}

fn scan(ledger: &Ledger) {
    for row in ledger.entries(0..u64::MAX) {
        let (_, entry) = row.unwrap();
        black_box(verdict_ledger::chain::Link::of_entry(&entry));
        black_box(verdict_ledger::merkle::leaf_hash(&entry));
    }
}

fn verify(ledger: &Ledger, depth: Depth, threads: usize) {
    let report = ledger
        .verify_with(&VerifyOptions { depth, threads, ..VerifyOptions::default() }, &mut |_, _| {})
        .unwrap();
    assert!(report.is_clean(), "{:?}", report.failures);
}
