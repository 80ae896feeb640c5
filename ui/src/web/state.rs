//! What every request shares.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Semaphore;
use verdict_ledger::action::labels::LabelSource;
use verdict_ledger::activation::ActivationError;
use verdict_ledger::clock::Clock;
use verdict_ledger::contract::Contract;
use verdict_ledger::view::Rules;
use verdict_ledger::{Depth, Ledger, LedgerError, Report, VerifyOptions};

use super::blocking;
use super::error::PageError;
use super::ingest::Budget;
use super::metrics::Metrics;
use super::pages::diff::Comparison;
use super::projection::Whole;
use crate::anchor::StatusView;
use crate::auth::gate::Gate;
use crate::telemetry::Telemetry;

/// Comparisons kept in memory; a comparison is a pure function of its key, so that a kept one is never stale.
const COMPARISONS_KEPT: usize = 8;
/// Folds of a whole ledger kept in memory: the newest, and a few pinned positions.
const FOLDS_KEPT: usize = 4;

/// Limits on what a request may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Largest request body as received, bytes.
    pub body_bytes_max: usize,
    /// Largest request body after decompression, bytes.
    pub decoded_bytes_max: usize,
    /// Bytes of request bodies in memory at the same time; what does not fit is asked to come back.
    pub ingest_bytes_max: usize,
    /// Ingest requests at the same time; more wait, and are then asked to come back.
    pub ingest_requests_max: usize,
    /// Longest time that an ingest request waits for room, seconds.
    pub ingest_wait_seconds_max: u64,
    /// Bodies that are mapped at the same time; 0 is one for each core.
    pub mappers_max: usize,
    /// Longest time for the headers of a request, a TLS handshake, or an idle HTTP/1 connection, seconds.
    pub header_seconds_max: u64,
    /// Longest time for a body to arrive, seconds.
    pub body_seconds_max: u64,
    /// Longest pause while a body arrives, seconds.
    pub body_pause_seconds_max: u64,
    /// Open connections; more wait in the queue of the system.
    pub connections_max: usize,
    /// Longest time that open requests get to finish after the signal to stop, seconds.
    pub drain_seconds_max: u64,
    /// Requests for pages and the API at the same time; more wait, and time out.
    pub requests_max: usize,
    /// Replays at the same time; more are asked to come back.
    pub replays_max: usize,
    /// Longest time for a page, seconds.
    pub page_seconds_max: u64,
    /// Longest time for a verification or a replay, seconds.
    pub work_seconds_max: u64,
    /// Events of one trace that a page reads; the rest is counted and said to be left out.
    pub trace_events_max: usize,
    /// Traces that one list request looks at while it filters.
    pub traces_scanned_max: usize,
    /// Entries that a page about costs or the contract reads.
    pub breakdown_entries_max: u64,
    /// How long nothing must be heard of an action before what is missing counts as missing, nanoseconds.
    pub settle_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // OTLP's recommended default limit.
            body_bytes_max: 64 << 20,
            decoded_bytes_max: 64 << 20,
            ingest_bytes_max: 256 << 20,
            ingest_requests_max: 256,
            ingest_wait_seconds_max: 5,
            mappers_max: 0,
            header_seconds_max: 30,
            body_seconds_max: 60,
            body_pause_seconds_max: 10,
            connections_max: 1_024,
            drain_seconds_max: 10,
            requests_max: 64,
            replays_max: 2,
            page_seconds_max: 30,
            work_seconds_max: 600,
            trace_events_max: 5_000,
            traces_scanned_max: 2_000,
            breakdown_entries_max: 200_000,
            settle_ns: verdict_ledger::action::SETTLE_NS,
        }
    }
}

/// The last full verification that this server ran.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    /// When it ended, Unix nanoseconds.
    pub(crate) at_ns: u64,
    /// How long it took, nanoseconds.
    pub(crate) took_ns: u64,
    /// What it found.
    pub(crate) report: Report,
}

/// What every request shares; clones share it too.
#[derive(Debug, Clone)]
pub struct AppState(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    limits: Limits,
    ledger_dir: Option<PathBuf>,
    requests: Arc<Semaphore>,
    ingests: Arc<Semaphore>,
    mappers: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    budget: Budget,
    metrics: Metrics,
    gate: OnceLock<Arc<Gate>>,
    telemetry: OnceLock<Telemetry>,
    draining: AtomicBool,
    poisoned: AtomicBool,
    replays: Arc<Semaphore>,
    verifications: Arc<Semaphore>,
    verified: Mutex<Option<Verified>>,
    comparisons: Mutex<VecDeque<Arc<Comparison>>>,
    folds: Mutex<VecDeque<Arc<Whole>>>,
    anchors: OnceLock<StatusView>,
    contract: OnceLock<Arc<Contract>>,
    /// What rules at the position that was asked for last.
    rules: Mutex<Option<(u64, Arc<Rules>)>>,
}

impl AppState {
    /// Shares a ledger.
    pub fn new(ledger: Ledger, clock: Arc<dyn Clock>, limits: Limits, ledger_dir: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            ledger,
            clock,
            limits,
            ledger_dir,
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            ingests: Arc::new(Semaphore::new(limits.ingest_requests_max)),
            mappers: Arc::new(Semaphore::new(match limits.mappers_max {
                0 => std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
                number => number,
            })),
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            budget: Budget::new(limits.ingest_bytes_max),
            metrics: Metrics::new(),
            gate: OnceLock::new(),
            telemetry: OnceLock::new(),
            draining: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            replays: Arc::new(Semaphore::new(limits.replays_max)),
            verifications: Arc::new(Semaphore::new(1)),
            verified: Mutex::new(None),
            comparisons: Mutex::new(VecDeque::new()),
            folds: Mutex::new(VecDeque::new()),
            anchors: OnceLock::new(),
            contract: OnceLock::new(),
            rules: Mutex::new(None),
        }))
    }

    /// Lets pages show how it stands with the anchors, from now on.
    pub fn show_anchors(&self, status: StatusView) {
        // Told twice, the first stays: there is one anchoring thread a server.
        let _ = self.0.anchors.set(status);
    }

    /// Holds requests to a contract, from now on. Another is put in force only while nothing is served.
    pub fn hold_to(&self, contract: Contract) {
        let _ = self.0.contract.set(Arc::new(contract));
    }

    /// Returns the contract that was put in force, if one was.
    pub(crate) fn contract(&self) -> Option<&Arc<Contract>> {
        self.0.contract.get()
    }

    /// Puts a gate in front of every route but the public ones, from now on.
    pub fn guard(&self, gate: Arc<Gate>) {
        let _ = self.0.gate.set(gate);
    }

    /// Returns the gate; `None` when anybody may do everything.
    pub(crate) fn gate(&self) -> Option<&Arc<Gate>> {
        self.0.gate.get()
    }

    /// Sends spans of requests and appends, from now on.
    pub fn trace_with(&self, telemetry: Telemetry) {
        let _ = self.0.telemetry.set(telemetry);
    }

    pub(crate) fn telemetry(&self) -> Option<&Telemetry> {
        self.0.telemetry.get()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.0.budget
    }

    pub(crate) fn ingests(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.ingests)
    }

    pub(crate) fn mappers(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.mappers)
    }

    pub(crate) fn connections(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.connections)
    }

    /// Says that no more is taken in and open requests are finished.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Says that nothing can be appended before the ledger is opened again.
    pub(crate) fn poison(&self) {
        self.0.poisoned.store(true, Ordering::Relaxed);
    }

    /// Tells why requests should go elsewhere; `None` when the server is ready.
    pub(crate) async fn not_ready(&self) -> Option<&'static str> {
        if self.0.draining.load(Ordering::Relaxed) {
            return Some("draining: the server is about to stop");
        }
        if self.0.poisoned.load(Ordering::Relaxed) {
            return Some(
                "poisoned: a write failed, and nothing more is taken before the server is started again",
            );
        }
        let state = self.clone();
        let read = blocking::run(move || {
            if let Some(last) = state.ledger().head().size.checked_sub(1) {
                state.ledger().entry(last)?.ok_or_else(|| PageError::not_found("entry", last))?;
            }
            Ok(())
        });
        match read.await {
            Ok(()) => None,
            Err(error) => {
                error.log();
                Some("the ledger cannot be read")
            }
        }
    }

    pub(crate) fn anchors(&self) -> Option<&StatusView> {
        self.0.anchors.get()
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.0.clock.now_ns()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Returns the directory of the ledger as a command line names it.
    pub(crate) fn ledger_arg(&self) -> String {
        self.0
            .ledger_dir
            .as_ref()
            .map_or_else(|| "LEDGER".to_owned(), |dir| shell_word(&dir.to_string_lossy()))
    }

    pub(crate) fn requests(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.requests)
    }

    pub(crate) fn replays(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.replays)
    }

    pub(crate) fn verifications(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.verifications)
    }

    pub(crate) fn verified(&self) -> Option<Verified> {
        self.0.verified.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks everything and keeps what was found; one at a time, which the caller sees to.
    pub(crate) fn verify(&self, options: &VerifyOptions) -> Result<Verified, LedgerError> {
        debug_assert_eq!(options.depth, Depth::Everything, "a page says that everything was checked");
        let started = self.now_ns();
        let report = self.ledger().verify_with(options, &mut |_, _| {})?;
        let at_ns = self.now_ns();
        let verified = Verified { at_ns, took_ns: at_ns.saturating_sub(started), report };
        *self.0.verified.lock().unwrap_or_else(PoisonError::into_inner) = Some(verified.clone());
        Ok(verified)
    }

    pub(crate) fn comparison(&self, wanted: impl Fn(&Comparison) -> bool) -> Option<Arc<Comparison>> {
        let kept = self.0.comparisons.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|comparison| wanted(comparison)).cloned()
    }

    pub(crate) fn keep_comparison(&self, comparison: Arc<Comparison>) {
        let mut kept = self.0.comparisons.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= COMPARISONS_KEPT {
            kept.pop_front();
        }
        kept.push_back(comparison);
    }
}

impl AppState {
    /// Returns what rules at a position: files that are read and checked once, not for every page.
    pub(crate) fn rules(&self, at: u64) -> Result<Arc<Rules>, ActivationError> {
        let kept = || self.0.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rules)) = kept().as_ref().filter(|(known, _)| *known == at) {
            return Ok(Arc::clone(rules));
        }
        let rules = Rules::read(&self.0.ledger, at, LabelSource::defaults())?;
        *kept() = Some((at, Arc::clone(&rules)));
        Ok(rules)
    }

    /// Returns the fold of a position and time, folding when it is not kept. Two requests that miss at the same
    /// time both fold; the results are equal.
    pub(crate) fn whole(
        &self,
        size: u64,
        settled_before_ns: u64,
        fold: impl FnOnce() -> Result<Whole, PageError>,
    ) -> Result<Arc<Whole>, PageError> {
        {
            let kept = self.0.folds.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(whole) = kept.iter().find(|whole| whole.is(size, settled_before_ns)) {
                return Ok(Arc::clone(whole));
            }
        }
        let whole = Arc::new(fold()?);
        let mut kept = self.0.folds.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= FOLDS_KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&whole));
        Ok(whole)
    }
}

/// Quotes a word for a POSIX shell when it needs it.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_words_are_quoted_when_needed() {
        assert_eq!(shell_word("/var/lib/verdict"), "/var/lib/verdict");
        assert_eq!(shell_word("it's here"), r"'it'\''s here'");
        assert_eq!(shell_word(""), "''");
    }
}
