//! The check that comes first: does the bundle that is said to have decided give the decisions that were
//! recorded? If it does not, then what is replayed is not what ran, and no comparison can be trusted.

use serde::{Deserialize, Serialize};
use verdict_ledger::event::Effect;
use verdict_ledger::id::{Digest, TraceId};
use verdict_replay::run::Run;

use crate::coverage::Side;
use crate::ruling::{Ruling, View};

/// How a bundle does against the decisions that name it by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reproduction {
    /// Side.
    pub side: Side,
    /// Bundle.
    pub bundle: Digest,
    /// Points without a recorded decision.
    pub unrecorded: u64,
    /// Recorded decisions that name another bundle or none by digest; they say nothing about this one.
    pub other: u64,
    /// Recorded decisions that name this bundle.
    pub checked: u64,
    /// Those that replay gives again: same effect and, where rules are recorded, the same rules.
    pub reproduced: u64,
    /// Those that replay could not evaluate.
    pub not_evaluated: u64,
    /// Those that replay decides otherwise.
    pub mismatches: Vec<Mismatch>,
}

/// A recorded decision that the bundle it names does not give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// Action key.
    pub key: u64,
    /// Trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// Entry that states the decision.
    pub seq: u64,
    /// Effect as recorded.
    pub recorded: Effect,
    /// Rules as recorded.
    pub recorded_rules: Vec<String>,
    /// What replay says.
    pub replayed: Ruling,
}

/// Checks a run against the recorded decisions that name its bundle.
pub(crate) fn check(side: Side, run: &Run) -> Reproduction {
    let bundle = run.header.policy_digest;
    let mut out = Reproduction {
        side,
        bundle,
        unrecorded: 0,
        other: 0,
        checked: 0,
        reproduced: 0,
        not_evaluated: 0,
        mismatches: Vec::new(),
    };
    for replayed in &run.points {
        let Some(recorded) = &replayed.point.recorded else {
            out.unrecorded += 1;
            continue;
        };
        if recorded.bundle != Some(bundle) {
            out.other += 1;
            continue;
        }
        out.checked += 1;
        let view = View::replayed(&replayed.answer);
        let View::Decided(decided) = &view else {
            out.not_evaluated += 1;
            continue;
        };
        let rules = recorded.rules.iter().map(String::as_str).collect();
        if recorded.effect == decided.effect && (recorded.rules.is_empty() || decided.rules == rules) {
            out.reproduced += 1;
        } else {
            out.mismatches.push(Mismatch {
                key: replayed.point.key,
                trace_id: replayed.point.trace_id,
                seq: recorded.seq,
                recorded: recorded.effect,
                recorded_rules: recorded.rules.clone(),
                replayed: view.to_ruling(),
            });
        }
    }
    out
}
