//! The reproduction check: the bundle that is said to have decided must decide so again.

use serde::{Deserialize, Serialize};
use verdict_ledger::event::Effect;

use super::{Replayed, Run, RunHeader};

/// Mismatches that are named.
const MISMATCHES_MAX: usize = 10_000;

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
    /// Those that did not, in log order; the first ten thousand are named.
    pub mismatches: Vec<Mismatch>,
    /// Recorded decisions that name neither digest nor version.
    pub version_unknown: u64,
}

impl Reproduction {
    /// Tells whether something could be checked and all of it held.
    pub fn holds(&self) -> bool {
        self.checked > 0 && self.reproduced == self.checked
    }

    /// Checks the next point of a run.
    pub(super) fn add(&mut self, header: &RunHeader, replayed: &Replayed) {
        let Some(recorded) = &replayed.point.recorded else { return };
        let ours = match (&recorded.bundle, &recorded.version) {
            (Some(bundle), _) => *bundle == header.policy_digest,
            (None, Some(version)) => {
                let RunHeader { policy_name, policy_version, .. } = header;
                version == policy_version || *version == format!("{policy_name}@{policy_version}")
            }
            (None, None) => {
                self.version_unknown += 1;
                false
            }
        };
        if !ours {
            return;
        }
        self.checked += 1;
        let replayed = replayed.in_recorded_state();
        if replayed == Some(recorded.effect) {
            self.reproduced += 1;
        } else if self.mismatches.len() < MISMATCHES_MAX {
            self.mismatches.push(Mismatch { seq: recorded.seq, recorded: recorded.effect, replayed });
        }
    }
}

/// Compares the recorded decisions that name the run's bundle with what the run says in the state that history had: the
/// very bundle that decided must give them all again.
pub fn reproduce(run: &Run) -> Reproduction {
    let mut reproduction = Reproduction::default();
    run.points.iter().for_each(|replayed| reproduction.add(&run.header, replayed));
    reproduction
}
