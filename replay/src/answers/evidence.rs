//! Which events say what.

use std::collections::BTreeMap;

use verdict_ledger::Record;
use verdict_ledger::action::Action;
use verdict_ledger::event::Event;

use super::How;
use crate::graph::ExecutionGraph;

/// Ancestors that are looked at.
pub(super) const ANCESTORS_MAX: usize = 32;
/// Events that are named for one statement.
pub(super) const SEQS_MAX: usize = 16;

/// Events, actions and their graph.
pub(super) struct Evidence<'a> {
    records: BTreeMap<u64, &'a Record>,
    actions: BTreeMap<u64, &'a Action>,
    pub(super) graph: &'a ExecutionGraph,
}

impl<'a> Evidence<'a> {
    pub(super) fn of(records: &'a [Record], actions: &'a [Action], graph: &'a ExecutionGraph) -> Self {
        Self {
            records: records.iter().map(|record| (record.seq, record)).collect(),
            actions: actions.iter().map(|action| (action.key, action)).collect(),
            graph,
        }
    }

    pub(super) fn action(&self, key: u64) -> Option<&'a Action> {
        self.actions.get(&key).copied()
    }

    /// Events of an action.
    pub(super) fn events(&self, action: &'a Action) -> impl Iterator<Item = (u64, &'a Event)> + '_ {
        action.seqs.iter().filter_map(|seq| Some((*seq, self.records.get(seq)?.event.as_deref()?)))
    }

    /// Events of an action that say something.
    pub(super) fn saying(&self, action: &'a Action, says: impl Fn(&Event) -> bool) -> Vec<u64> {
        self.events(action).filter(|(_, event)| says(event)).map(|(seq, _)| seq).take(SEQS_MAX).collect()
    }

    /// The ancestors of an action, the nearest first; a circle ends.
    pub(super) fn ancestors(&self, action: &Action) -> Vec<&'a Action> {
        let mut out: Vec<&Action> = Vec::new();
        let mut next = action.parent;
        while let Some(parent) = next.and_then(|key| self.action(key)) {
            if out.len() >= ANCESTORS_MAX
                || parent.key == action.key
                || out.iter().any(|known| known.key == parent.key)
            {
                break;
            }
            out.push(parent);
            next = parent.parent;
        }
        out
    }

    /// Who states a value that an action has: its own events, else those of the nearest ancestor, else the first of
    /// the trace and of everything that belongs to it.
    pub(super) fn who_states(
        &self,
        action: &'a Action,
        inherited: bool,
        says: impl Fn(&Event) -> bool,
    ) -> (How, Vec<u64>) {
        if !inherited {
            return (How::Stated, self.saying(action, says));
        }
        for ancestor in self.ancestors(action) {
            let seqs = self.saying(ancestor, &says);
            if !seqs.is_empty() {
                return (How::Inherited, seqs);
            }
        }
        let all = || self.records.values().filter(|record| record.event.as_deref().is_some_and(&says));
        let of_trace = all().find(|record| {
            record
                .event
                .as_ref()
                .is_some_and(|event| event.trace_id.is_some() && event.trace_id == action.trace_id)
        });
        let seqs = of_trace.or_else(|| all().next()).map(|record| record.seq);
        (How::Inherited, seqs.into_iter().collect())
    }
}
