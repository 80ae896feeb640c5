//! Finds what a link, or an answer, names.

use std::collections::BTreeMap;

use super::facts::{Fact, Facts};
use super::reports::Reports;
use crate::event::{Effect, Target};
use crate::id::TraceId;

/// Facts by the names that others can call them by.
#[derive(Debug)]
pub(super) struct TargetIndex<'f, 'a> {
    facts: &'f Facts<'a>,
    reports: &'f [Reports<'f>],
    by_id: BTreeMap<&'f str, Named<'f>>,
    by_call: BTreeMap<&'f str, Named<'f>>,
    asked: BTreeMap<&'f str, Named<'f>>,
}

/// Facts with the same name for themselves, each list in the order of what they say.
#[derive(Debug, Default)]
struct Named<'f> {
    all: Vec<usize>,
    traces: BTreeMap<Option<TraceId>, Vec<usize>>,
    sessions: BTreeMap<&'f str, Vec<usize>>,
}

impl<'f, 'a> TargetIndex<'f, 'a> {
    pub(super) fn new(facts: &'f Facts<'a>, reports: &'f [Reports<'f>]) -> Self {
        let mut index =
            Self { facts, reports, by_id: BTreeMap::new(), by_call: BTreeMap::new(), asked: BTreeMap::new() };
        let mut order: Vec<(usize, &Fact<'a>)> = facts.all().collect();
        order.sort_by(|(_, a), (_, b)| a.order().cmp(&b.order()));
        for (position, fact) in order {
            let add = |map: &mut BTreeMap<&'f str, Named<'f>>, name: &'f str| {
                let named = map.entry(name).or_default();
                named.all.push(position);
                named.traces.entry(fact.event.trace_id).or_default().push(position);
                if let Some(session) = session(facts, position) {
                    named.sessions.entry(session).or_default().push(position);
                }
            };
            add(&mut index.by_id, &fact.event.id);
            if let Some(call) = fact.event.action.call_id.as_deref() {
                add(&mut index.by_call, call);
            }
            if let Some(decision) =
                fact.event.decision.as_ref().filter(|d| d.effect == Effect::RequireApproval)
                && let Some(approval) = decision.approval_id.as_deref()
            {
                add(&mut index.asked, approval);
            }
        }
        index
    }

    /// Resolves a target, most exact member first.
    pub(super) fn find(&self, from: usize, target: &Target) -> Option<usize> {
        let fact = self.facts.get(from)?;
        let by_id = target.event.as_deref().and_then(|id| self.by_id.get(id));
        if let Some(found) = by_id.and_then(|named| self.nearest(from, named)) {
            return Some(found);
        }
        let trace = target.trace_id.or(fact.event.trace_id);
        if let Some(span) =
            trace.zip(target.span_id).and_then(|(trace, span)| self.facts.find_span(trace, span))
            && let Some(found) = self.reports.get(span).and_then(|reports| reports.earliest)
        {
            return Some(found);
        }
        if let Some(named) = target.call_id.as_deref().and_then(|call| self.by_call.get(call)) {
            // A call id holds inside its trace or session only.
            let in_trace = trace.and_then(|trace| named.traces.get(&Some(trace)));
            let found = in_trace.and_then(|list| self.pick(from, list)).or_else(|| {
                let list = named.sessions.get(session(self.facts, from)?)?;
                self.pick(from, list)
            });
            if found.is_some() {
                return found;
            }
        }
        self.approval(from, target.approval_id.as_deref()?)
    }

    /// Finds who asked for an approval.
    pub(super) fn approval(&self, from: usize, approval: &str) -> Option<usize> {
        self.nearest(from, self.asked.get(approval)?)
    }

    /// Chooses in the same trace, else in the same session, else where all are in one trace.
    fn nearest(&self, from: usize, named: &Named<'f>) -> Option<usize> {
        let fact = self.facts.get(from)?;
        let own = fact.event.trace_id.and_then(|trace| named.traces.get(&Some(trace)));
        if let Some(found) = own.and_then(|list| self.pick(from, list)) {
            return Some(found);
        }
        let near = session(self.facts, from).and_then(|session| named.sessions.get(session));
        if let Some(found) = near.and_then(|list| self.pick(from, list)) {
            return Some(found);
        }
        let others = |(_, list): &(&Option<TraceId>, &Vec<usize>)| list.as_slice() != [from];
        (named.traces.iter().filter(others).take(2).count() == 1)
            .then(|| self.pick(from, &named.all))
            .flatten()
    }

    /// Chooses the latest that started no later than the asking fact, else the first; never the asking fact.
    fn pick(&self, from: usize, list: &[usize]) -> Option<usize> {
        let at_ns = self.facts.get(from)?.at_ns();
        let later = list.partition_point(|index| self.facts.get(*index).is_some_and(|f| f.at_ns() <= at_ns));
        let (before, after) = list.split_at_checked(later)?;
        let not_itself = |index: &&usize| **index != from;
        // The asking fact is in a list once, so that this looks at two of it at most.
        before.iter().rev().find(not_itself).or_else(|| after.iter().find(not_itself)).copied()
    }
}

fn session<'f>(facts: &'f Facts<'_>, fact: usize) -> Option<&'f str> {
    facts.who.get(fact).and_then(|who| who.session).map(|session| session.value)
}
