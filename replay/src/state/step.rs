//! The steps by which an action moves the state.

use serde::{Deserialize, Serialize};
use verdict_ledger::action::{Action, State as Standing};
use verdict_ledger::event::{Cost, Effect, Status};

/// What one step of an action adds to the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was asked for.
    Asked,
    /// It was ruled on; the ruling was enforced.
    Ruled {
        /// Effect.
        effect: Effect,
        /// End of a cooldown.
        until_ns: Option<u64>,
    },
    /// What it did, or did not do, is known.
    Settled(Settled),
}

/// How an action ended, as far as the state cares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// Whether what was reserved for it is free again: not while it waits for an answer or an outcome.
    pub(crate) releases: bool,
    /// What it cost, where it ran and that is known.
    pub(crate) cost: Option<Cost>,
    /// Whether its sources reach what comes later in its trace: not when it was refused, waits or was cancelled.
    pub(crate) reaches: bool,
}

impl Settled {
    /// What was refused spends nothing, and nothing of it reaches others.
    pub(crate) const REFUSED: Self = Self { releases: true, cost: None, reaches: false };
    /// What waits keeps its reservation.
    pub(crate) const WAITS: Self = Self { releases: false, cost: None, reaches: false };

    /// Reads how a recorded action ended.
    pub(crate) fn recorded(action: &Action) -> Self {
        match action.state {
            Standing::Blocked | Standing::Cooling => Self::REFUSED,
            Standing::Waiting => Self::WAITS,
            _ => Self {
                releases: action.outcome.is_some() || action.cost().is_some(),
                cost: action.cost().cloned(),
                reaches: action.outcome != Some(Status::Cancelled),
            },
        }
    }
}

/// Tells whether an effect refuses for now.
pub(crate) const fn refuses(effect: Effect) -> bool {
    matches!(effect, Effect::Block | Effect::Cooldown)
}

/// Returns what the source reserved for the action, in money: `budget.reserved` in a unit `nano_<currency>`. It counts as
/// spent from the question on, until the outcome says what was spent.
pub(crate) fn estimate(action: &Action) -> Option<(String, i64)> {
    let budget = action.budget.as_ref()?;
    let currency = budget.unit.strip_prefix("nano_")?.to_ascii_uppercase();
    let nano = budget.reserved.filter(|nano| *nano > 0)?;
    (currency.len() == 3).then_some((currency, nano))
}
