//! How close a replay comes to the engine, and whether it costs what it is about and not what the ledger holds.
//!
//! `cargo bench -p verdict-replay -- WHAT`, where WHAT is `speed`, `threads`, `script` or `scale`. Both sides of a figure are
//! measured in the same run in alternating rounds; the best round of each counts. `scale` builds ledgers of a hundred thousand
//! and a million entries; `scale=5000000` another largest one. Numbers with machine and date go to `docs/performance.md`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures wall time, prints, and may stop at the first error"
)]

mod sample;
mod scale;
mod speed;

use std::time::Duration;

/// The allocator of the `verdict` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 3;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if let [build, size, dir] = asked.as_slice()
        && build == "build"
    {
        return sample::build(std::path::Path::new(dir), size.parse().unwrap());
    }
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    for (name, part) in
        [("speed", speed::semantics as fn()), ("threads", speed::threads), ("script", speed::script)]
    {
        if wanted(name) {
            part();
        }
    }
    let largest = asked.iter().find_map(|asked| asked.strip_prefix("scale="));
    if wanted("scale") || largest.is_some() {
        scale::run(largest.map_or(1_000_000, |size| size.parse().unwrap()));
    }
}

/// Prints a figure beside another, and what the first is of the second.
fn row(what: &str, ours: f64, other: f64) {
    println!("{what:<58} {ours:>12.1} {other:>12.1} {:>8.2}", ours / other);
}

fn head(what: &str, ours: &str, other: &str) {
    println!("\n{what:<58} {ours:>12} {other:>12} {:>8}", "ratio");
}

fn rate(rounds: &[Duration], decided: usize) -> f64 {
    let best = rounds.iter().min().unwrap();
    f64::from(u32::try_from(decided).unwrap()) / best.as_secs_f64()
}
