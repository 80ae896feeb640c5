//! Which decision points of a range are shown.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use verdict_ledger::action::Action;
use verdict_ledger::event::{ActionKind, Effect};

use super::recorded;

/// Chooses decision points. An empty list means any; several lists must all agree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// Agent labels.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub agents: BTreeSet<String>,
    /// Names of actions: tools, models.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub names: BTreeSet<String>,
    /// Tenants.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tenants: BTreeSet<String>,
    /// Kinds.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub kinds: BTreeSet<ActionKind>,
    /// Recorded effects.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub effects: BTreeSet<Effect>,
    /// First start time, Unix nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ns: Option<u64>,
    /// Start time that is too late, Unix nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ns: Option<u64>,
    /// A part of what is left, chosen by chance that anybody can repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// A sample: each point is in it with the same probability, whatever else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Points in a million.
    pub per_million: u32,
    /// Chooses which.
    pub seed: u64,
}

impl Select {
    /// Tells whether every point is chosen.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Tells whether a point is chosen.
    pub(super) fn takes(&self, action: &Action) -> bool {
        let among = |set: &BTreeSet<String>, value: Option<&str>| {
            set.is_empty() || value.is_some_and(|value| set.contains(value))
        };
        among(&self.agents, action.agent_label())
            && among(&self.names, Some(&action.name))
            && among(&self.tenants, action.tenant.as_ref().map(|tenant| tenant.value.as_str()))
            && (self.kinds.is_empty() || self.kinds.contains(&action.kind))
            && (self.effects.is_empty()
                || recorded(action).is_some_and(|recorded| self.effects.contains(&recorded.effect)))
            && self.from_ns.is_none_or(|from| action.start_ns >= from)
            && self.until_ns.is_none_or(|until| action.start_ns < until)
            && self.sample.is_none_or(|sample| sample.takes(action.key))
    }
}

impl Sample {
    fn takes(self, key: u64) -> bool {
        let mut hasher = Sha256::new();
        hasher.update(self.seed.to_be_bytes());
        hasher.update(key.to_be_bytes());
        let mut first = [0; 8];
        first.iter_mut().zip(hasher.finalize()).for_each(|(to, from)| *to = from);
        u64::from_be_bytes(first) % 1_000_000 < u64::from(self.per_million)
    }
}
