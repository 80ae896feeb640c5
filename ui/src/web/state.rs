//! What every request shares.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Semaphore;
use verdict_ledger::clock::Clock;
use verdict_ledger::{Depth, Ledger, LedgerError, Report, VerifyOptions};

use super::error::PageError;
use super::pages::diff::Comparison;
use super::projection::Whole;
use crate::anchor::StatusView;

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
    /// Requests served at the same time; more wait, and time out.
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
    replays: Arc<Semaphore>,
    verifications: Arc<Semaphore>,
    verified: Mutex<Option<Verified>>,
    comparisons: Mutex<VecDeque<Arc<Comparison>>>,
    folds: Mutex<VecDeque<Arc<Whole>>>,
    anchors: OnceLock<StatusView>,
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
            replays: Arc::new(Semaphore::new(limits.replays_max)),
            verifications: Arc::new(Semaphore::new(1)),
            verified: Mutex::new(None),
            comparisons: Mutex::new(VecDeque::new()),
            folds: Mutex::new(VecDeque::new()),
            anchors: OnceLock::new(),
        }))
    }

    /// Lets pages show how it stands with the anchors, from now on.
    pub fn show_anchors(&self, status: StatusView) {
        // Told twice, the first stays: there is one anchoring thread a server.
        let _ = self.0.anchors.set(status);
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
