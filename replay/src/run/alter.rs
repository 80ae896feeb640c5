//! How a replayed decision changes what happened: whether the action ran, and what it did to the state.

use serde::{Deserialize, Serialize};
use verdict_ledger::action::{Action, Ruling, State as Standing};
use verdict_ledger::event::{AuthorityKind, Effect};

use super::Answer;
use crate::policy::Decision;
use crate::policy::lattice::COOLDOWN_UNTIL;
use crate::state::{Settled, Step, refuses};

/// What replaces the recorded course of one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Altered {
    /// It was ruled on otherwise.
    Ruled {
        /// Replayed effect.
        effect: Effect,
        /// End of a cooldown.
        until_ns: Option<u64>,
        /// How it ends now.
        settled: Settled,
        /// Whether it ran and runs no more, or did not and runs now.
        turn: Turn,
    },
    /// It was never asked for.
    Gone,
}

/// What becomes of an action that is ruled on otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Turn {
    /// It ran, and is stopped now.
    Stopped,
    /// It was stopped, and runs now.
    Released,
    /// It runs, or does not, as it did.
    Same,
}

impl Altered {
    /// Compares a replayed decision with what was recorded; `None` when nothing happens otherwise.
    pub(super) fn of(action: &Action, answer: &Answer) -> Option<Self> {
        let Answer::Decided { decision } = answer else { return None };
        let (effect, until_ns) = (decision.effect, cooldown_until(decision));
        let enforced = enforced(action).map(|ruling| (ruling.decision.effect, ruling.decision.until_ns));
        let ran = ran(action);
        let runs = match effect {
            Effect::NoOp | Effect::Allow => true,
            Effect::RequireApproval => approved(action),
            Effect::DryRun | Effect::Cooldown | Effect::Block => false,
        };
        let same_ruling = match enforced {
            Some((recorded, recorded_until)) => {
                recorded == effect && (effect != Effect::Cooldown || recorded_until == until_ns)
            }
            None => !refuses(effect),
        };
        // Blocked and yet executed is what history has under this very ruling.
        if enforced.is_some_and(|(recorded, _)| recorded == effect) && same_ruling {
            return None;
        }
        if same_ruling && runs == ran {
            return None;
        }
        let turn = match (ran, runs) {
            (true, false) => Turn::Stopped,
            (false, true) => Turn::Released,
            _ => Turn::Same,
        };
        let settled = match (runs, turn) {
            (true, Turn::Same) => Settled::recorded(action),
            // Nobody saw what it would have cost: what was reserved for it stands for that.
            (true, _) => Settled { releases: false, cost: None, reaches: true },
            (false, _) if effect == Effect::RequireApproval => Settled::WAITS,
            (false, _) => Settled::REFUSED,
        };
        let same_to_the_state = turn == Turn::Same
            && enforced.is_some_and(|(recorded, _)| refuses(recorded)) == refuses(effect)
            && effect != Effect::Cooldown
            && enforced.is_none_or(|(recorded, _)| recorded != Effect::Cooldown);
        (!same_to_the_state).then_some(Self::Ruled { effect, until_ns, settled, turn })
    }

    /// Returns how the action turns.
    pub(super) const fn turn(&self) -> Turn {
        match self {
            Self::Ruled { turn, .. } => *turn,
            Self::Gone => Turn::Stopped,
        }
    }
}

/// Returns the steps that stand in the place of a recorded one.
pub(super) fn replaced<'s>(
    step: &'s Step,
    altered: Option<&Altered>,
) -> [Option<std::borrow::Cow<'s, Step>>; 2] {
    use std::borrow::Cow;
    match (altered, step) {
        (None, step) => [Some(Cow::Borrowed(step)), None],
        (Some(Altered::Gone), _) | (Some(Altered::Ruled { .. }), Step::Ruled { .. }) => [None, None],
        // The replayed ruling is there when the question is: a recorded one may come later, or never.
        (Some(Altered::Ruled { effect, until_ns, .. }), Step::Asked) => [
            Some(Cow::Borrowed(step)),
            Some(Cow::Owned(Step::Ruled { effect: *effect, until_ns: *until_ns })),
        ],
        (Some(Altered::Ruled { settled, .. }), Step::Settled(_)) => {
            [Some(Cow::Owned(Step::Settled(settled.clone()))), None]
        }
    }
}

/// The strictest enforced ruling counts, once, where it was first stated: several sources may repeat it.
pub(super) fn enforced(action: &Action) -> Option<&Ruling> {
    let enforced = action.rulings.iter().filter(|ruling| ruling.decision.enforced);
    enforced.max_by_key(|ruling| (ruling.decision.effect, std::cmp::Reverse(ruling.seq)))
}

/// Tells whether a recorded action ran, as far as its sources say.
pub(super) const fn ran(action: &Action) -> bool {
    !matches!(action.state, Standing::Blocked | Standing::Cooling | Standing::Waiting)
}

/// Tells whether a person said yes to it.
fn approved(action: &Action) -> bool {
    let person = |ruling: &&Ruling| ruling.decision.by.kind == AuthorityKind::Human;
    let last = action.rulings.iter().rfind(person);
    last.is_some_and(|ruling| matches!(ruling.decision.effect, Effect::Allow | Effect::NoOp))
}

fn cooldown_until(decision: &Decision) -> Option<u64> {
    let ends = decision.obligations.iter().filter(|obligation| obligation.kind == COOLDOWN_UNTIL);
    ends.filter_map(|obligation| obligation.params.get("until_ns")?.parse().ok()).max()
}
