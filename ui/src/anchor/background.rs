//! Anchoring while the ledger is served: a thread of its own, which no append ever waits for.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use verdict_ledger::Ledger;

use super::run::{Anchors, Outcome, SinkReport, Stop};

/// How it stands with one sink, since the server was started.
#[derive(Debug, Clone)]
pub struct SinkStatus {
    /// The last report.
    pub last: SinkReport,
    /// When that was, Unix nanoseconds.
    pub at_ns: u64,
    /// Size and time of the last success.
    pub anchored: Option<(String, u64)>,
}

/// The running thread; it is told to stop, and waited for, when this is dropped.
#[derive(Debug)]
pub struct Background {
    status: Arc<Mutex<BTreeMap<String, SinkStatus>>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts anchoring: the newest checkpoint now, and a newer one whenever there is one and the interval is over.
    pub fn start(ledger: Ledger, anchors: Anchors, interval: Duration) -> std::io::Result<Self> {
        let status = Arc::new(Mutex::new(BTreeMap::new()));
        let (sender, stop) = Stop::new();
        let shared = Arc::clone(&status);
        let thread = std::thread::Builder::new().name("anchors".to_owned()).spawn(move || {
            loop {
                pass(&ledger, &anchors, &stop, &shared);
                if stop.wait(interval) {
                    return;
                }
            }
        })?;
        Ok(Self { status, stop: Some(sender), thread: Some(thread) })
    }

    /// Returns what pages show: how it stands with each sink, by name.
    pub fn status(&self) -> StatusView {
        StatusView(Arc::clone(&self.status))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A pause ends at once; a request that is under way ends within its timeout.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How it stands with the sinks, shared with pages.
#[derive(Debug, Clone, Default)]
pub struct StatusView(Arc<Mutex<BTreeMap<String, SinkStatus>>>);

impl StatusView {
    /// Returns the state of each sink, by name.
    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

fn pass(ledger: &Ledger, anchors: &Anchors, stop: &Stop, status: &Mutex<BTreeMap<String, SinkStatus>>) {
    let reports = match anchors.run(ledger, &[], false, stop) {
        Ok(reports) => reports,
        Err(error) => {
            tracing::warn!(error = %super::config::chain(&error), "nothing was anchored");
            return;
        }
    };
    let now_ns = anchors.clock.now_ns();
    for report in reports {
        let sink = report.sink.clone();
        match report.outcome {
            Outcome::Anchored => {
                tracing::info!(sink, size = report.size, detail = report.detail, "checkpoint anchored");
            }
            Outcome::Already => {}
            Outcome::Failed => {
                tracing::warn!(
                    sink,
                    attempts = report.attempts,
                    detail = report.detail,
                    "checkpoint not anchored"
                );
            }
            Outcome::Untrusted => {
                tracing::error!(sink, detail = report.detail, "an anchor contradicts the ledger or itself");
            }
        }
        let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
        let before = status.get(&sink).and_then(|status| status.anchored.clone());
        let anchored = match report.outcome {
            Outcome::Anchored => Some((report.size.clone(), now_ns)),
            Outcome::Already => before.or_else(|| Some((report.size.clone(), now_ns))),
            _ => before,
        };
        status.insert(sink, SinkStatus { last: report, at_ns: now_ns, anchored });
    }
}
