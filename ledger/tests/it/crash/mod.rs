//! What is left of a ledger after its machine, its process or its disk failed.
//!
//! A writer runs in a process of its own ([`writer`]) and says what was acknowledged ([`ack`]). It is killed
//! ([`kill`]), its system calls are made to fail ([`faults`]), or they are recorded ([`trace`]), replayed on a
//! simulated disk ([`disk`]) and cut short at many points ([`power_loss`]). Whatever is left is opened again and
//! compared with what was acknowledged ([`audit`]). `docs/durability.md` tells what is simulated and what is not.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

mod ack;
mod audit;
mod damage;
mod disk;
mod faults;
mod kill;
mod power_loss;
mod random;
mod space;
mod state;
mod strace;
mod torn;
mod trace;
mod workload;
mod writer;

/// How many rounds: few in `make test`, all in `make test-long`, which sets `VERDICT_LONG=1`.
fn rounds(short: usize, long: usize) -> usize {
    if is_long() { long } else { short }
}

fn is_long() -> bool {
    std::env::var_os("VERDICT_LONG").is_some_and(|value| value == "1")
}

/// Says what was not tested, past the capture of the test runner.
fn skipped(why: &str) {
    use std::io::Write as _;
    std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes()).unwrap();
}

/// Says what was measured.
fn told(what: &str) {
    use std::io::Write as _;
    std::io::stderr().write_all(format!("{what}\n").as_bytes()).unwrap();
}

/// A directory for what is thrown away at once: in memory where the machine has that, because a rebuilt state needs
/// no disk to be looked at.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}
