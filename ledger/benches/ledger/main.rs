//! How close the ledger comes to the limits of this machine, and how it stands beside what people use instead.
//!
//! Every figure stands beside its limit or rival, measured in the same run in alternating rounds; the best round of
//! each counts, because what is asked is what the code can do, not what the neighbours of this machine do.
//! `cargo bench -p verdict-ledger -- WHAT`, where WHAT is `append`, `rivals`, `verify`, `ingest`, `size` or `growth`; numbers with machine and
//! date go to `docs/performance.md`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a bench measures wall time, prints, and may stop at the first error"
)]

mod append;
mod ingest;
mod measure;
mod rivals;
mod sample;
mod scale;
mod verify;

use std::path::Path;

/// The allocator of the `verdict` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let parts: [(&str, fn()); 6] = [
        ("append", append::run),
        ("rivals", rivals::run),
        ("verify", verify::run),
        ("ingest", ingest::run),
        ("size", scale::size),
        ("growth", scale::growth),
    ];
    for (_, part) in parts.iter().filter(|(name, _)| wanted(name)) {
        part();
    }
}

/// Prints a figure beside another, and what the first is of the second.
pub(crate) fn row(what: &str, ours: f64, other: f64) {
    println!("{what:<58} {ours:>12.0} {other:>12.0} {:>8.2}", ours / other);
}

pub(crate) fn head(what: &str, ours: &str, other: &str) {
    println!("\n{what:<58} {ours:>12} {other:>12} {:>8}", "ratio");
}

/// The build directory lies on a real disk; the temporary directory may be memory, where nothing is durable.
pub(crate) fn disk() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
