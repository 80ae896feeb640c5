//! What a changed decision means in money.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use verdict_ledger::action::Action;
use verdict_ledger::event::ActionKind;
use verdict_ledger::id::TraceId;

use crate::state::estimate;

/// How an amount is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The recorded cost, reported or by the price table in force.
    Measured,
    /// What the source reserved for it.
    Estimated,
    /// Nobody says.
    Unknown,
}

/// An amount and how it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How it is known.
    pub basis: Basis,
    /// The amount, where it is.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// Integer nano-units of a currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// 10^-9 of the currency unit, as a decimal string.
    pub nano: String,
    /// ISO 4217.
    pub currency: String,
}

impl Amount {
    fn measured(action: &Action) -> Self {
        let price =
            action.cost().map(|cost| Price { nano: cost.nano.to_string(), currency: cost.currency.clone() });
        Self { basis: if price.is_some() { Basis::Measured } else { Basis::Unknown }, price }
    }

    fn estimated(action: &Action) -> Self {
        let price = estimate(action).map(|(currency, nano)| Price { nano: nano.to_string(), currency });
        Self { basis: if price.is_some() { Basis::Estimated } else { Basis::Unknown }, price }
    }
}

/// Money of one decision that is not as it was recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// What was spent on this action and would not have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avoided: Option<Amount>,
    /// What this action could cost now, and did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<Amount>,
    /// What the model call that asked for it had cost: spent for a step that is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasted: Option<Amount>,
}

impl Money {
    /// An action that ran and does not run now; `asker` is the model call that asked for it.
    pub(super) fn avoided(action: &Action, asker: Option<&Action>) -> Self {
        Self { avoided: Some(Amount::measured(action)), exposed: None, wasted: asker.map(Amount::measured) }
    }

    /// An action that was stopped and runs now.
    pub(super) fn exposed(action: &Action) -> Self {
        Self { avoided: None, exposed: Some(Amount::estimated(action)), wasted: None }
    }
}

/// Positions by start and key.
type Timeline = BTreeMap<(u64, u64), usize>;

/// The model calls of a group, to find the one that asked for a step.
#[derive(Debug, Default)]
pub(super) struct Askers {
    /// Positions by trace and parent, in order of time.
    calls: BTreeMap<(TraceId, Option<u64>), Timeline>,
}

impl Askers {
    pub(super) fn of(actions: &[Action]) -> Self {
        let mut askers = Self::default();
        for (at, action) in actions.iter().enumerate().filter(|(_, a)| a.kind == ActionKind::Model) {
            if let Some(trace) = action.trace_id {
                let calls = askers.calls.entry((trace, action.parent)).or_default();
                calls.insert((action.start_ns, action.key), at);
            }
        }
        askers
    }

    /// Finds the nearest call before an action under the same parent. A call that stands elsewhere in the trace may have
    /// asked for anything, and counts for nothing.
    pub(super) fn asker<'a>(&self, action: &Action, actions: &'a [Action]) -> Option<&'a Action> {
        let calls = self.calls.get(&(action.trace_id?, action.parent))?;
        let (_, at) = calls.range(..(action.start_ns, u64::MAX)).next_back()?;
        actions.get(*at).filter(|asker| asker.key != action.key)
    }
}
