//! How much a set of decisions weighs: how often, whose, and what it cost.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use verdict_ledger::event::Status;
use verdict_ledger::id::TraceId;
use verdict_replay::run::Point;

/// How much a set of decision points weighs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// Decision points.
    pub points: u64,
    /// Points whose action ran (it ended `ok`, `error` or `compensated`).
    pub ran: u64,
    /// Different agents, as far as they are named.
    pub agents: u64,
    /// Different tenants, as far as they are named.
    pub tenants: u64,
    /// Different traces.
    pub traces: u64,
    /// Known cost of the actions that ran, by currency.
    pub cost: BTreeMap<String, Nano>,
    /// Actions that ran and whose cost is not known: `cost` is a lower bound while this is not zero.
    pub ran_without_cost: u64,
    /// Time of the first point, Unix nanoseconds.
    #[serde(with = "option_decimal", default, skip_serializing_if = "Option::is_none")]
    pub first_ns: Option<u64>,
    /// Time of the last point, Unix nanoseconds.
    #[serde(with = "option_decimal", default, skip_serializing_if = "Option::is_none")]
    pub last_ns: Option<u64>,
}

/// Money in integer nano-units, wide enough for any sum of single costs; a decimal string in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nano(pub i128);

impl Serialize for Nano {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Nano {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// Adds up points; sets live here only, a [`Weight`] holds their sizes.
#[derive(Debug, Default)]
pub(crate) struct Scale<'a> {
    weight: Weight,
    agents: BTreeSet<&'a str>,
    tenants: BTreeSet<&'a str>,
    traces: BTreeSet<TraceId>,
}

impl<'a> Scale<'a> {
    pub(crate) fn add(&mut self, point: &'a Point) {
        let weight = &mut self.weight;
        weight.points += 1;
        weight.first_ns = Some(weight.first_ns.map_or(point.at_ns, |first| first.min(point.at_ns)));
        weight.last_ns = Some(weight.last_ns.map_or(point.at_ns, |last| last.max(point.at_ns)));
        if ran(point) {
            weight.ran += 1;
            match &point.cost {
                Some(cost) => {
                    let sum = weight.cost.entry(cost.currency.clone()).or_default();
                    sum.0 = sum.0.saturating_add(i128::from(cost.nano));
                }
                None => weight.ran_without_cost += 1,
            }
        }
        self.agents.extend(point.agent.as_deref());
        self.tenants.extend(point.tenant.as_deref());
        self.traces.extend(point.trace_id);
    }

    pub(crate) fn finish(self) -> Weight {
        Weight {
            agents: self.agents.len() as u64,
            tenants: self.tenants.len() as u64,
            traces: self.traces.len() as u64,
            ..self.weight
        }
    }
}

const fn ran(point: &Point) -> bool {
    matches!(point.outcome, Some(Status::Ok | Status::Error | Status::Compensated))
}

/// Unix nanoseconds are decimal strings in JSON: they pass 2^53.
pub(crate) mod option_decimal {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde passes the field by reference")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}

/// A Unix nanosecond time as a decimal string.
pub(crate) mod decimal {
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
    pub(crate) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
