//! Comparing a ledger with everything that its anchors hold.

use serde::Serialize;
use verdict_ledger::Ledger;
use verdict_ledger::anchor::RecordError;

use super::config::chain;
use super::run::{Anchors, RunError};
use super::sink::{Readable, Scene, Sink, SinkError};

/// What is wrong at a place.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// The ledger, or the place itself, cannot be trusted; otherwise the place could only not be asked.
    pub untrusted: bool,
    /// What was found.
    pub detail: String,
}

/// What one place holds.
#[derive(Debug, Clone, Serialize)]
pub struct PlaceReport {
    /// Name of the sink, or `anchor log`.
    pub place: String,
    /// Kind.
    pub kind: &'static str,
    /// Checkpoints that the ledger contains as they were signed.
    pub consistent: u64,
    /// The largest of them, decimal; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// What was said about it, or why there is nothing to say.
    pub detail: String,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Compares the ledger with the anchor log and with the sinks of these names (none: all). `told` hears each place as
/// soon as it was asked.
pub fn verify(
    anchors: &Anchors,
    ledger: &Ledger,
    names: &[String],
    told: &mut dyn FnMut(&PlaceReport),
) -> Result<Vec<PlaceReport>, RunError> {
    let sinks = anchors.chosen(names)?;
    let (keys, log) = (ledger.checkpoint_keys(), ledger.anchor_log());
    let scene = Scene { ledger, keys: &keys, log: &log, clock: &*anchors.clock, entropy: &*anchors.entropy };
    let mut reports = Vec::with_capacity(sinks.len() + 1);
    if names.is_empty() {
        let report = anchor_log(&scene)?;
        told(&report);
        reports.push(report);
    }
    for sink in sinks {
        let report = ask(sink, &scene);
        told(&report);
        reports.push(report);
    }
    Ok(reports)
}

fn empty(place: &str, kind: &'static str) -> PlaceReport {
    PlaceReport {
        place: place.to_owned(),
        kind,
        consistent: 0,
        newest: None,
        detail: String::new(),
        problem: None,
    }
}

fn anchor_log(scene: &Scene<'_>) -> Result<PlaceReport, RunError> {
    let mut report = empty("anchor log", "log");
    let mut newest = 0;
    let mut torn = 0u64;
    let place = scene.log.path().display().to_string();
    scene.log.read(|number, record| {
        if report.problem.is_some() {
            return;
        }
        let record = match record {
            Ok(record) => record,
            // What a power cut leaves of a line is no sign of anything.
            Err(RecordError::Form(_)) => {
                torn += 1;
                return;
            }
            Err(error) => {
                report.problem =
                    Some(Problem { untrusted: true, detail: format!("{place} line {number}: {error}") });
                return;
            }
        };
        match scene.check(&record.note, &format!("{place} line {number}")) {
            Ok(checkpoint) => {
                report.consistent += 1;
                newest = newest.max(checkpoint.size);
                report.detail = format!("last record {}", record.time);
            }
            Err(error) => {
                let detail = format!(
                    "{} ({place} line {number}, {} by `{}`)",
                    chain(&error),
                    record.time,
                    record.sink
                );
                report.problem = Some(Problem { untrusted: error.is_untrusted(), detail });
            }
        }
    })?;
    if report.consistent > 0 {
        report.newest = Some(newest.to_string());
    } else if report.problem.is_none() {
        "nothing was anchored yet".clone_into(&mut report.detail);
    }
    if torn > 0 {
        report.detail = format!("{}; {torn} torn lines passed over", report.detail);
    }
    Ok(report)
}

fn ask(sink: &dyn Sink, scene: &Scene<'_>) -> PlaceReport {
    let mut report = empty(sink.name(), sink.kind());
    let mut newest = None;
    let mut detail = String::new();
    let mut consistent = 0;
    let asked = sink.holdings(scene, &mut |holding| {
        let checkpoint = scene.check(&holding.note, sink.name())?;
        consistent += 1;
        if newest.is_none_or(|size| size <= checkpoint.size) {
            newest = Some(checkpoint.size);
            detail = holding.detail;
        }
        Ok(())
    });
    report.consistent = consistent;
    report.newest = newest.map(|size| size.to_string());
    report.detail = detail;
    let asked = asked.and_then(|readable| {
        if readable == Readable::Yes {
            lost(sink, scene, newest)?;
        }
        Ok(readable)
    });
    match asked {
        Ok(Readable::Yes) => {
            if newest.is_none() {
                "holds nothing yet".clone_into(&mut report.detail);
            }
        }
        Ok(Readable::No(why)) => why.clone_into(&mut report.detail),
        Err(error) => {
            report.problem = Some(Problem { untrusted: error.is_untrusted(), detail: chain(&error) });
        }
    }
    report
}

/// A place that holds less than the anchor log says that it was given has lost something.
fn lost(sink: &dyn Sink, scene: &Scene<'_>, newest: Option<u64>) -> Result<(), SinkError> {
    let recent = scene.log.recent().map_err(|error| SinkError::Refused(chain(&error)))?;
    let ours = recent.iter().filter(|record| record.sink == sink.name() && record.kind == sink.kind());
    let given =
        ours.filter_map(|record| record.verify(scene.keys).ok()).map(|checkpoint| checkpoint.size).max();
    if given > newest {
        let (given, newest) = (given.unwrap_or_default(), newest.unwrap_or_default());
        return Err(SinkError::Unfaithful(format!(
            "it was given a checkpoint of {given} entries and now holds none larger than {newest}"
        )));
    }
    Ok(())
}
