//! `data/replay/transcript.json`: the recorded decisions, decided again under the bundles that they name.
//!
//! It holds effects and rule names, never inputs, reasons or digests of inputs: those could tell, or confirm a
//! guess of, what is withheld.

use serde::Serialize;
use verdict_replay::run::{Answer, Run};

use super::material::{Material, Reevaluation};

/// The whole transcript.
#[derive(Debug, Serialize)]
pub(crate) struct Transcript {
    /// Recorded decisions in the selection, also those that name no bundle.
    pub(crate) decisions: u64,
    /// Decisions that name a bundle whose files the ledger holds.
    pub(crate) reevaluated: u64,
    /// Of these, those that come out with the same effect.
    pub(crate) identical: u64,
    /// Of these, those that come out otherwise.
    pub(crate) different: u64,
    /// Of these, those that cannot be told, because an input is erased, withheld from the log or the engine failed.
    pub(crate) unknown: u64,
    pub(crate) bundles: Vec<BundleTranscript>,
}

#[derive(Debug, Serialize)]
pub(crate) struct BundleTranscript {
    policy_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_digest: Option<String>,
    decisions: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    seq: String,
    recorded: &'static str,
    /// Absent when it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<&'static str>,
    rules: Vec<String>,
    result: &'static str,
}

impl Transcript {
    /// Writes down what a material's replays say; `None` when nothing could be replayed.
    pub(crate) fn of(material: &Material, decisions: u64) -> Option<Self> {
        if material.reevaluations.is_empty() {
            return None;
        }
        let bundles: Vec<_> = material.reevaluations.iter().map(|again| bundle(again, material)).collect();
        let count = |result: &str| {
            let lines = bundles.iter().flat_map(|bundle: &BundleTranscript| &bundle.decisions);
            lines.filter(|line| line.result == result).count() as u64
        };
        let (identical, different, unknown) = (count("identical"), count("different"), count("unknown"));
        let reevaluated = identical + different + unknown;
        Some(Self { decisions, reevaluated, identical, different, unknown, bundles })
    }
}

fn bundle(again: &Reevaluation, material: &Material) -> BundleTranscript {
    let policy_digest = again.digest.to_string();
    match &again.run {
        Err(error) => BundleTranscript {
            policy_digest,
            error: Some(error.clone()),
            engine: None,
            input_schema: None,
            run_digest: None,
            decisions: Vec::new(),
        },
        Ok(run) => BundleTranscript {
            policy_digest,
            error: None,
            engine: Some(run.header.engine.0.clone()),
            input_schema: Some(run.header.input_schema.clone()),
            run_digest: Some(run.digest.to_string()),
            decisions: lines(run, again, material),
        },
    }
}

fn lines(run: &Run, again: &Reevaluation, material: &Material) -> Vec<Line> {
    let mut lines = Vec::new();
    for replayed in &run.points {
        let Some(recorded) = &replayed.point.recorded else { continue };
        let counts =
            material.entries.contains_key(&recorded.seq) && !material.quarantined.contains(&recorded.seq);
        if recorded.bundle != Some(again.digest) || !counts {
            continue;
        }
        let (effect, rules) = match &replayed.answer {
            Answer::Decided { decision } => (Some(decision.effect), decision.rules.as_slice()),
            Answer::Unknown { .. } | Answer::NotReached { .. } => (None, &[][..]),
        };
        lines.push(Line {
            seq: recorded.seq.to_string(),
            recorded: recorded.effect.as_str(),
            replayed: effect.map(verdict_ledger::event::Effect::as_str),
            rules: rules.iter().map(|rule| rule.id.clone()).collect(),
            result: match effect {
                None => "unknown",
                Some(effect) if effect == recorded.effect => "identical",
                Some(_) => "different",
            },
        });
    }
    lines
}
