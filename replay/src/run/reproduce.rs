//! The reproduction check: the bundle that is said to have decided must decide so again.

use serde::{Deserialize, Serialize};
use verdict_ledger::event::Effect;

use super::{Answer, Run, RunHeader};

/// A recorded decision that the bundle does not give again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// Event that states the recorded decision.
    pub seq: u64,
    /// Recorded effect.
    pub recorded: Effect,
    /// Effect in replay; `None` when replay has no answer.
    pub replayed: Option<Effect>,
}

/// How far a run gives again what was recorded under its bundle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reproduction {
    /// Recorded decisions that name this bundle: by digest or, where none is recorded, by version label.
    pub checked: u64,
    /// Those that came out with the same effect.
    pub reproduced: u64,
    /// Those that did not, in log order.
    pub mismatches: Vec<Mismatch>,
    /// Recorded decisions that name neither digest nor version.
    pub version_unknown: u64,
}

impl Reproduction {
    /// Tells whether something could be checked and all of it held.
    pub fn holds(&self) -> bool {
        self.checked > 0 && self.mismatches.is_empty()
    }
}

/// Compares the recorded decisions that name the run's bundle with the run. A run is pointwise under the recorded
/// history, so the very bundle that decided must reproduce them all.
pub fn reproduce(run: &Run) -> Reproduction {
    let mut reproduction = Reproduction::default();
    for replayed in &run.points {
        let Some(recorded) = &replayed.point.recorded else { continue };
        let ours = match (&recorded.bundle, &recorded.version) {
            (Some(bundle), _) => *bundle == run.header.policy_digest,
            (None, Some(version)) => {
                let RunHeader { policy_name, policy_version, .. } = &run.header;
                version == policy_version || *version == format!("{policy_name}@{policy_version}")
            }
            (None, None) => {
                reproduction.version_unknown += 1;
                false
            }
        };
        if !ours {
            continue;
        }
        reproduction.checked += 1;
        let effect = match &replayed.answer {
            Answer::Decided { decision } => Some(decision.effect),
            Answer::Unknown { .. } => None,
        };
        if effect == Some(recorded.effect) {
            reproduction.reproduced += 1;
        } else {
            let mismatch = Mismatch { seq: recorded.seq, recorded: recorded.effect, replayed: effect };
            reproduction.mismatches.push(mismatch);
        }
    }
    reproduction
}
