//! Changes that are alike, told once: a reviewer reads "14 × `issue_refund` by `support-agent`, allow → block",
//! not fourteen rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use verdict_ledger::event::{ActionKind, Effect};
use verdict_replay::run::Point;

use crate::blame::{Blame, Example};
use crate::transition::Class;
use crate::weight::{Scale, Weight};

/// What alike changes have in common. The order is that of a report, before weights are looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    /// Class.
    pub class: Class,
    /// Effect before.
    pub from: Effect,
    /// Effect after.
    pub to: Effect,
    /// Kind of the action.
    pub kind: ActionKind,
    /// Name of the action.
    pub name: String,
    /// Agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What it is blamed on.
    pub blame: Vec<Blame>,
}

/// Alike changes and their weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// What they have in common.
    pub shape: Shape,
    /// How much they weigh together.
    pub weight: Weight,
    /// The smallest of them.
    pub example: Example,
}

/// Collects patterns.
#[derive(Debug, Default)]
pub(crate) struct Patterns<'a>(BTreeMap<Shape, (Scale<'a>, Option<Example>)>);

impl<'a> Patterns<'a> {
    pub(crate) fn add(&mut self, shape: Shape, point: &'a Point) {
        let (scale, example) = self.0.entry(shape).or_default();
        scale.add(point);
        Example::offer(example, point);
    }

    /// Returns the patterns by class, then by number of points, then by shape.
    pub(crate) fn finish(self) -> Vec<Pattern> {
        let mut patterns: Vec<Pattern> = self
            .0
            .into_iter()
            .filter_map(|(shape, (scale, example))| {
                Some(Pattern { shape, weight: scale.finish(), example: example? })
            })
            .collect();
        // Stable: equal keys keep the order of their shapes.
        patterns.sort_by_key(|pattern| (pattern.shape.class, std::cmp::Reverse(pattern.weight.points)));
        patterns
    }
}
