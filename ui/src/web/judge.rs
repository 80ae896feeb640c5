//! The verdicts that a server records by itself: now and then it judges what has settled.
//!
//! It does so only when somebody put a contract in force: nothing is written that nobody asked for. One thread, off the
//! way of whoever appends; a run that finds nothing new writes nothing.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use verdict_ledger::contract::{self, Outcome, RunError};
use verdict_ledger::view::View;

use super::AppState;

/// How often a server looks.
pub(crate) const EVERY: Duration = Duration::from_mins(1);
/// Entries up to which the whole log is judged; larger ledgers are judged by command.
const ENTRIES_MAX: u64 = 200_000;

/// Judges at an interval until it is dropped.
#[derive(Debug)]
pub(crate) struct Judge {
    /// Dropped to wake the thread.
    told: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Judge {
    /// Starts; the first look comes after one interval.
    pub(crate) fn start(state: AppState, every: Duration) -> io::Result<Self> {
        let (told, asleep) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("contract".to_owned()).spawn(move || {
            let mut judged = (0, false);
            while asleep.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                look(&state, &mut judged);
            }
        })?;
        Ok(Self { told: Some(told), thread: Some(thread) })
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.told = None;
        // A thread that panicked has said so; there is nothing to add when the server ends.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Looks unless nothing can be new: `judged` is the size at the last look, and whether all of it had settled.
fn look(state: &AppState, judged: &mut (u64, bool)) {
    let size = state.ledger().head().size;
    if *judged == (size, true) {
        return;
    }
    if size > ENTRIES_MAX {
        if judged.0 <= ENTRIES_MAX {
            tracing::warn!(
                size,
                "the log is too large to be judged by the server; run `verdict contract run`"
            );
        }
        *judged = (size, true);
        return;
    }
    match once(state, size) {
        Ok(None) => *judged = (size, false),
        Ok(Some(outcome)) => {
            if outcome.verdicts > 0 {
                tracing::info!(
                    verdicts = outcome.verdicts,
                    unmet = outcome.unmet,
                    quarantined = outcome.quarantined,
                    released = outcome.released,
                    "settled actions were judged"
                );
            }
            *judged = (state.ledger().head().size, outcome.unsettled == 0);
        }
        Err(error) => tracing::error!(%error, "settled actions could not be judged"),
    }
}

/// Judges what has settled; `None` when no contract was put in force.
pub(crate) fn once(state: &AppState, size: u64) -> Result<Option<Outcome>, RunError> {
    let ledger = state.ledger();
    if contract::history(ledger)?.is_empty() {
        return Ok(None);
    }
    let rules = state.rules(size)?;
    let settled_before_ns = state.now_ns().saturating_sub(state.limits().settle_ns);
    let view = View::read(ledger, 0..size, &rules, settled_before_ns, &mut |_| {})?;
    contract::run(ledger, &view).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use verdict_ledger::clock::SteppingClock;
    use verdict_ledger::contract::{Contract, VERDICT};
    use verdict_ledger::event::{Action, ActionKind, Event};
    use verdict_ledger::{Batch, InitOptions, Ledger, NewRecord};

    #[test]
    fn a_server_judges_once_a_contract_is_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        let options = InitOptions::new("ledger.example/t");
        let ledger = Ledger::init(&dir.path().join("ledger"), &options, clock.clone()).unwrap();
        let event = Event::new("e", Action::new(ActionKind::Tool, "refund"));
        let records = vec![NewRecord::from_event(&event).unwrap()];
        ledger.append(Batch { records, blobs: Vec::new() }).unwrap();
        let limits = super::super::Limits { settle_ns: 0, ..super::super::Limits::default() };
        let state = AppState::new(ledger.clone(), clock, limits, None);
        assert_eq!(once(&state, ledger.head().size).unwrap(), None);
        contract::activate(&ledger, &Contract::shipped().unwrap(), "ada", "start").unwrap();
        let judge = Judge::start(state, Duration::from_millis(1)).unwrap();
        while ledger.find_kind(VERDICT).unwrap().is_empty() {
            std::thread::yield_now();
        }
        drop(judge);
        assert_eq!(ledger.find_kind(VERDICT).unwrap().len(), 1);
    }
}
