//! What could not be compared, and which rules no traffic exercised: the limits of what a diff can say.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use verdict_replay::policy::RuleRef;
use verdict_replay::run::{Answer, Point, Run};

use crate::blame::Example;
use crate::ruling::View;

/// One of the two things compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Before.
    From,
    /// After.
    To,
}

impl Side {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
        }
    }
}

/// What share of the points could be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Decision points.
    pub points: u64,
    /// Points that are known on both sides.
    pub compared: u64,
    /// Points that are unknown before.
    pub from_unknown: u64,
    /// Points that are unknown after.
    pub to_unknown: u64,
    /// Points that are known before and unknown after. Points gained elsewhere do not make up for these.
    pub lost: u64,
    /// Points that are unknown before and known after.
    pub gained: u64,
    /// Why, by side.
    pub reasons: Vec<UnknownReason>,
}

/// One reason why points are unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownReason {
    /// Side.
    pub side: Side,
    /// Reason.
    pub reason: String,
    /// JSON pointers of what is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Points.
    pub points: u64,
    /// The smallest of them.
    pub example: Example,
}

/// Collects coverage.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    coverage: Coverage,
    reasons: BTreeMap<Gap, (u64, Option<Example>)>,
}

/// Side, reason and missing members.
type Gap = (Side, String, Vec<String>);

impl Gaps {
    pub(crate) fn add(&mut self, from: &View<'_>, to: &View<'_>, point: &Point) {
        let known = (from.effect().is_some(), to.effect().is_some());
        let coverage = &mut self.coverage;
        coverage.points += 1;
        coverage.compared += u64::from(known.0 && known.1);
        coverage.from_unknown += u64::from(!known.0);
        coverage.to_unknown += u64::from(!known.1);
        coverage.lost += u64::from(known.0 && !known.1);
        coverage.gained += u64::from(!known.0 && known.1);
        for (side, view) in [(Side::From, from), (Side::To, to)] {
            if let View::Unknown { reason, missing } = view {
                let (points, example) =
                    self.reasons.entry((side, reason.clone(), missing.to_vec())).or_default();
                *points += 1;
                Example::offer(example, point);
            }
        }
    }

    pub(crate) fn finish(self) -> Coverage {
        let reasons = self
            .reasons
            .into_iter()
            .filter_map(|((side, reason, missing), (points, example))| {
                Some(UnknownReason { side, reason, missing, points, example: example? })
            })
            .collect();
        Coverage { reasons, ..self.coverage }
    }
}

/// Rules that no point of the range exercised, so that the diff says nothing about them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexercised {
    /// Rules of the first bundle.
    pub from: Vec<RuleRef>,
    /// Rules of the second bundle.
    pub to: Vec<RuleRef>,
}

/// Lists the rules of a run's bundle that no finding names.
pub(crate) fn unexercised(run: &Run) -> Vec<RuleRef> {
    let mut named = BTreeSet::new();
    for replayed in &run.points {
        if let Answer::Decided { decision } = &replayed.answer {
            named.extend(decision.findings.iter().map(|finding| finding.rule.id.as_str()));
        }
    }
    let rules: BTreeSet<&RuleRef> =
        run.rules.iter().filter(|rule| !named.contains(rule.id.as_str())).collect();
    rules.into_iter().cloned().collect()
}
