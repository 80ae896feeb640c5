//! What grows with the ledger and what must not: bytes on the disk, opening, proofs, memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use verdict_ledger::clock::SystemClock;
use verdict_ledger::{Ledger, OpenOptions};

use crate::sample::{batch, init, line};
use crate::{disk, head, row};

/// Events of the ledger whose size is compared with the NDJSON that went in.
const SIZED: u32 = 200_000;

/// Sizes at which opening and proofs are measured; the last takes minutes to fill.
const SIZES: [u32; 4] = [10_000, 50_000, 1_000_000, 5_000_000];

const PROOFS: u32 = 200;
const OPENINGS: usize = 3;

pub(crate) fn size() {
    head("bytes on the disk", "ledger", "NDJSON in");
    let dir = tempfile::tempdir_in(disk()).unwrap();
    let path = dir.path().join("ledger");
    let ledger = init(&path);
    fill(&ledger, 0, SIZED);
    drop(ledger);
    // Opened and closed once more, so that the log of the last writes is in tables too, as in a ledger of some age.
    drop(open(&path));
    let ndjson: u64 = (0..SIZED).map(|n| line(n).len() as u64).sum();
    #[expect(clippy::cast_precision_loss, reason = "printed")]
    row(&format!("{SIZED} events, everything included"), bytes(dir.path()) as f64, ndjson as f64);
}

pub(crate) fn growth() {
    let dir = tempfile::tempdir_in(disk()).unwrap();
    let path = dir.path().join("ledger");
    let mut ledger = init(&path);
    let (mut filled, mut opened, mut proved) = (0, Vec::new(), Vec::new());
    for size in SIZES {
        fill(&ledger, filled, size);
        filled = size;
        ledger.settle().unwrap();
        proved.push(proof_us(&ledger, size));
        drop(ledger);
        opened.push(opening_ms(&path));
        ledger = open(&path);
    }
    head("opening as the writer, ms", "this size", "at 50,000");
    for (size, ms) in SIZES.iter().zip(&opened).skip(1) {
        row(&format!("{size} entries"), *ms, opened[1]);
    }
    head("inclusion proof of an entry anywhere, µs", "this size", "at 10,000");
    for (size, us) in SIZES.iter().zip(&proved) {
        row(&format!("{size} entries"), *us, proved[0]);
    }
    println!("\nlargest memory of this process, a writer of {filled} events: {} MiB", peak_mib());
}

fn fill(ledger: &Ledger, from: u32, to: u32) {
    for start in (from..to).step_by(1000) {
        ledger.append(batch(start..to.min(start + 1000))).unwrap();
    }
}

fn open(path: &Path) -> Ledger {
    Ledger::open(path, &OpenOptions::default(), Arc::new(SystemClock)).unwrap()
}

fn opening_ms(path: &Path) -> f64 {
    let openings = (0..OPENINGS).map(|_| {
        let start = Instant::now();
        let ledger = open(path);
        let took = start.elapsed().as_secs_f64() * 1e3;
        drop(ledger);
        took
    });
    openings.fold(f64::INFINITY, f64::min)
}

fn proof_us(ledger: &Ledger, size: u32) -> f64 {
    let start = Instant::now();
    for n in 0..PROOFS {
        let seq = u64::from(n.wrapping_mul(2_654_435_761) % size);
        ledger.inclusion_proof(seq, u64::from(size)).unwrap();
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(PROOFS)
}

fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { bytes(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

/// `VmHWM` of `/proc/self/status`.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}
