//! What the reports of each span are, looked up instead of searched: a hostile source can put any number into one.

use std::collections::BTreeMap;

use super::facts::{Fact, Facts};
use crate::event::ActionKind;

/// The reports of one span.
#[derive(Debug, Default)]
pub(super) struct Reports<'f> {
    things: BTreeMap<(ActionKind, &'f str), Thing<'f>>,
    /// The earliest, by what they say.
    pub(super) earliest: Option<usize>,
    /// True when one is of another kind than `other`.
    pub(super) known: bool,
    /// Model calls by their tokens, in and out.
    pub(super) metered: BTreeMap<(u64, u64), usize>,
}

/// Reports of one kind and name in one span; of several the earliest, by what they say.
#[derive(Debug, Default)]
pub(super) struct Thing<'f> {
    pub(super) earliest: Option<usize>,
    /// By call id.
    pub(super) calls: BTreeMap<&'f str, usize>,
    /// The one that names no call.
    pub(super) uncalled: Option<usize>,
    /// By MCP method.
    pub(super) methods: BTreeMap<&'f str, usize>,
}

impl<'f> Reports<'f> {
    /// Returns those of the kind and name of a fact.
    pub(super) fn like(&self, fact: &'f Fact<'_>) -> Option<&Thing<'f>> {
        self.things.get(&(fact.event.action.kind, fact.event.action.name.as_str()))
    }
}

/// Sorts the reports of every span.
pub(super) fn of_spans<'f>(facts: &'f Facts<'_>) -> Vec<Reports<'f>> {
    let earlier = |old: usize, new: usize| {
        let order = |index: usize| facts.get(index).map(Fact::order);
        if order(new) < order(old) { new } else { old }
    };
    let earliest = |slot: &mut Option<usize>, new: usize| {
        *slot = Some(slot.map_or(new, |old| earlier(old, new)));
    };
    let mut all: Vec<Reports<'f>> = Vec::with_capacity(facts.spans().len());
    for span in facts.spans() {
        let mut reports = Reports::default();
        for index in span.facts.iter().copied() {
            let Some(fact) = facts.get(index) else { continue };
            let action = &fact.event.action;
            reports.known |= action.kind != ActionKind::Other;
            earliest(&mut reports.earliest, index);
            let thing = reports.things.entry((action.kind, action.name.as_str())).or_default();
            earliest(&mut thing.earliest, index);
            match fact.call_id() {
                Some(call) => {
                    let known = thing.calls.entry(call).or_insert(index);
                    *known = earlier(*known, index);
                }
                None => earliest(&mut thing.uncalled, index),
            }
            if let Some(tokens) = fact.metered() {
                let known = reports.metered.entry(tokens).or_insert(index);
                *known = earlier(*known, index);
            }
            if let Some(method) = fact.mcp_method() {
                let known = thing.methods.entry(method).or_insert(index);
                *known = earlier(*known, index);
            }
        }
        all.push(reports);
    }
    all
}
