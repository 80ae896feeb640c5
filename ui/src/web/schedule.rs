//! The verification of everything that a server does by itself, now and then.
//!
//! It runs on one thread of its own and reads past the caches, so that whoever appends or asks does not wait for it;
//! the writer's threads never take part.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use verdict_ledger::{Depth, LedgerError, VerifyOptions};

use super::AppState;

/// Verifies at an interval until it is dropped.
#[derive(Debug)]
pub(crate) struct Schedule {
    stop: Arc<AtomicBool>,
    /// Dropped to wake the thread.
    told: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Schedule {
    /// Starts; the first verification comes after one interval.
    pub(crate) fn start(state: AppState, every: Duration) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, asleep) = mpsc::channel::<()>();
        let options = VerifyOptions { depth: Depth::Everything, threads: 1, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("fsck".to_owned()).spawn(move || {
            while asleep.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                once(&state, &options);
            }
        })?;
        Ok(Self { stop, told: Some(told), thread: Some(thread) })
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.told = None;
        // A thread that panicked has said so; there is nothing to add when the server ends.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Verifies once, unless somebody else is at it.
fn once(state: &AppState, options: &VerifyOptions) {
    let Ok(_permit) = state.verifications().try_acquire_owned() else { return };
    match state.verify(options) {
        Ok(verified) if verified.report.is_clean() => {
            tracing::info!(
                entries = verified.report.entries,
                bytes = verified.report.bytes,
                took_ns = verified.took_ns,
                "the ledger was verified, and everything holds"
            );
        }
        Ok(verified) => {
            let first = verified.report.first_bad();
            tracing::error!(
                seq = first.and_then(|first| first.seq),
                class = first.map(|first| first.class.as_str()),
                detail = first.map(|first| first.detail.as_str()),
                failures = verified.report.failures.len() as u64 + verified.report.more_failures,
                "the ledger does not hold; stop writing to it and run `verdict fsck`"
            );
        }
        Err(LedgerError::Stopped) => {}
        Err(error) => tracing::error!(%error, "the ledger could not be verified"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use verdict_ledger::clock::SteppingClock;
    use verdict_ledger::{InitOptions, Ledger};

    #[test]
    fn it_keeps_what_it_found_and_ends_when_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        let ledger =
            Ledger::init(&dir.path().join("ledger"), &InitOptions::new("ledger.example/t"), clock.clone())
                .unwrap();
        let state = AppState::new(ledger, clock, super::super::Limits::default(), None);
        let schedule = Schedule::start(state.clone(), Duration::from_millis(1)).unwrap();
        while state.verified().is_none() {
            std::thread::yield_now();
        }
        drop(schedule);
        assert!(state.verified().unwrap().report.is_clean());

        // One that would come in a day does not keep the server from ending.
        drop(Schedule::start(state, Duration::from_hours(24)).unwrap());
    }
}
