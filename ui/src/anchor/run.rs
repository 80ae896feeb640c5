//! Giving a checkpoint to every sink.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use verdict_ledger::anchor::{AnchorError, AnchorRecord};
use verdict_ledger::clock::{Clock, Entropy};
use verdict_ledger::note::Checkpoint;
use verdict_ledger::{Ledger, LedgerError};

use super::config::{Config, ConfigError, chain};
use super::file::FileSink;
use super::git::GitSink;
use super::rfc3161::TimestampSink;
use super::sink::{Publication, Receipt, Scene, Sink, SinkError, verified};
use super::webhook::WebhookSink;
use super::witness::WitnessSink;

/// Pause before the second attempt; it doubles from there.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// Why nothing was anchored at all.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// There is no checkpoint yet.
    #[error("the ledger has no checkpoint yet")]
    NoCheckpoint,
    /// The anchor log cannot be read.
    #[error(transparent)]
    Log(#[from] AnchorError),
    /// No sink has this name.
    #[error("no sink is called `{name}`; there are: {known}")]
    UnknownSink {
        /// Name asked for.
        name: String,
        /// Names there are.
        known: String,
    },
}

/// How it went at one sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The sink has it now.
    Anchored,
    /// The sink had it before.
    Already,
    /// The sink could not be reached or refused.
    Failed,
    /// What the sink holds, or how it answered, contradicts the ledger or itself.
    Untrusted,
}

/// What happened at one sink.
#[derive(Debug, Clone, Serialize)]
pub struct SinkReport {
    /// Name.
    pub sink: String,
    /// Kind.
    pub kind: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// Size of the checkpoint, decimal.
    pub size: String,
    /// Attempts made.
    pub attempts: u32,
    /// What the sink said, or why it failed.
    pub detail: String,
    /// What came back.
    pub receipt: Receipt,
}

/// Ends pauses early: cloned and shared by whoever may stop.
#[derive(Debug, Clone)]
pub struct Stop(Arc<Mutex<Receiver<()>>>);

impl Stop {
    /// Makes one, and what ends it when it is dropped.
    pub fn new() -> (Sender<()>, Self) {
        let (sender, receiver) = channel();
        (sender, Self(Arc::new(Mutex::new(receiver))))
    }

    /// Waits, unless it is time to stop; tells whether it is.
    pub fn wait(&self, time: Duration) -> bool {
        let receiver = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(receiver.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }
}

/// The sinks of a ledger.
#[derive(Debug)]
pub struct Anchors {
    sinks: Vec<Box<dyn Sink>>,
    attempts: u32,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

impl Anchors {
    /// Makes the sinks of settings.
    pub fn new(
        config: &Config,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let timeout = Duration::from_secs(config.timeout_seconds);
        let failed = |name: &str| {
            let sink = name.to_owned();
            move |detail| config.mistake(sink, detail)
        };
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        for sink in &config.file {
            sinks.push(Box::new(FileSink::new(sink)));
        }
        for sink in &config.git {
            sinks.push(Box::new(GitSink::new(sink, timeout)));
        }
        for sink in &config.rfc3161 {
            sinks.push(Box::new(TimestampSink::new(sink, timeout).map_err(failed(&sink.name))?));
        }
        for sink in &config.webhook {
            sinks.push(Box::new(WebhookSink::new(sink, timeout).map_err(failed(&sink.name))?));
        }
        for sink in &config.witness {
            sinks.push(Box::new(WitnessSink::new(sink, timeout).map_err(failed(&sink.name))?));
        }
        Ok(Self { sinks, attempts: config.attempts, clock, entropy })
    }

    /// Lists names and kinds.
    pub fn names(&self) -> Vec<(String, &'static str)> {
        self.sinks.iter().map(|sink| (sink.name().to_owned(), sink.kind())).collect()
    }

    /// Keeps only the sinks of these names; all when none is named.
    pub(super) fn chosen(&self, names: &[String]) -> Result<Vec<&dyn Sink>, RunError> {
        for name in names {
            if !self.sinks.iter().any(|sink| sink.name() == name) {
                let known: Vec<&str> = self.sinks.iter().map(|sink| sink.name()).collect();
                return Err(RunError::UnknownSink { name: name.clone(), known: known.join(", ") });
            }
        }
        let wanted = |sink: &&dyn Sink| names.is_empty() || names.iter().any(|name| name == sink.name());
        Ok(self.sinks.iter().map(AsRef::as_ref).filter(wanted).collect())
    }

    /// Gives the newest checkpoint to the sinks of these names (none: all), side by side, and writes what came back
    /// to the anchor log. `again` gives it also to those that have it.
    pub fn run(
        &self,
        ledger: &Ledger,
        names: &[String],
        again: bool,
        stop: &Stop,
    ) -> Result<Vec<SinkReport>, RunError> {
        let keys = ledger.checkpoint_keys();
        let sinks = self.chosen(names)?;
        ledger.refresh()?;
        if ledger.checkpoint()?.is_none() {
            return Err(RunError::NoCheckpoint);
        }
        let log = ledger.anchor_log();
        let recent = log.recent()?;
        let scene = Scene { ledger, keys: &keys, log: &log, clock: &*self.clock, entropy: &*self.entropy };
        let scene = &scene;
        let reports = std::thread::scope(|scope| {
            let running: Vec<_> = sinks
                .iter()
                .map(|sink| {
                    let last = recent
                        .iter()
                        .rfind(|record| record.sink == sink.name() && record.kind == sink.kind());
                    scope.spawn(move || self.give(*sink, scene, last, again, stop))
                })
                .collect();
            let joined = running.into_iter().zip(&sinks).map(|(thread, sink)| {
                thread.join().unwrap_or_else(|_| SinkReport {
                    sink: sink.name().to_owned(),
                    kind: sink.kind(),
                    outcome: Outcome::Failed,
                    size: String::new(),
                    attempts: 0,
                    detail: "the sink stopped unexpectedly; this is a mistake in this program".to_owned(),
                    receipt: Receipt::new(),
                })
            });
            joined.collect()
        });
        Ok(reports)
    }

    fn give(
        &self,
        sink: &dyn Sink,
        scene: &Scene<'_>,
        last: Option<&AnchorRecord>,
        again: bool,
        stop: &Stop,
    ) -> SinkReport {
        let mut report = SinkReport {
            sink: sink.name().to_owned(),
            kind: sink.kind(),
            outcome: Outcome::Failed,
            size: String::new(),
            attempts: 0,
            detail: String::new(),
            receipt: Receipt::new(),
        };
        let mut pause = PAUSE;
        loop {
            report.attempts += 1;
            match attempt(sink, scene, last, again, &mut report) {
                Ok(()) => return report,
                Err(error) => {
                    report.detail = chain(&error);
                    report.outcome = if error.is_untrusted() { Outcome::Untrusted } else { Outcome::Failed };
                    if !error.is_passing() || report.attempts >= self.attempts || stop.wait(pause) {
                        return report;
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// One attempt, with the checkpoint that is the newest now.
fn attempt(
    sink: &dyn Sink,
    scene: &Scene<'_>,
    last: Option<&AnchorRecord>,
    again: bool,
    report: &mut SinkReport,
) -> Result<(), SinkError> {
    let Some((note, checkpoint)) = newest(scene)? else {
        return Err(SinkError::Unreachable("the ledger has no checkpoint".to_owned()));
    };
    report.size = checkpoint.size.to_string();
    let publication = Publication { scene, note: &note, checkpoint: &checkpoint, last };
    if !again && publication.last_checkpoint().is_some_and(|last| last == checkpoint) {
        report.outcome = Outcome::Already;
        report.detail = last.map(|record| format!("since {}", record.time)).unwrap_or_default();
        return Ok(());
    }
    let receipt = sink.publish(&publication)?;
    let record = AnchorRecord::new(scene.clock.now_ns(), sink.name(), sink.kind(), &note, receipt.clone());
    let record = record.map_err(|error| SinkError::Refused(error.to_string()))?;
    // Without the record the sink has the checkpoint all the same; it is given again the next time.
    scene.log.append(&record).map_err(|error| SinkError::Refused(chain(&error)))?;
    report.outcome = Outcome::Anchored;
    report.detail = told(&receipt);
    report.receipt = receipt;
    Ok(())
}

/// Reads the newest checkpoint and verifies it: what is not ours is given to nobody.
fn newest(scene: &Scene<'_>) -> Result<Option<(String, Checkpoint)>, SinkError> {
    scene.ledger.refresh()?;
    let Some(note) = scene.ledger.checkpoint()? else { return Ok(None) };
    let checkpoint =
        verified(&note, scene.keys).map_err(|error| SinkError::from(LedgerError::Note(error)))?;
    Ok(Some((note, checkpoint)))
}

/// Says the parts of a receipt that people ask for.
fn told(receipt: &Receipt) -> String {
    let text = |name: &str| receipt.get(name).and_then(serde_json::Value::as_str);
    if let Some(commit) = text("commit") {
        return format!("commit {}", commit.get(..12).unwrap_or(commit));
    }
    if let Some(time) = text("time") {
        return format!("stamped {time}");
    }
    if let Some(time) = receipt.get("time").and_then(serde_json::Value::as_i64) {
        return jiff::Timestamp::from_second(time).map(|time| format!("cosigned {time}")).unwrap_or_default();
    }
    String::new()
}
