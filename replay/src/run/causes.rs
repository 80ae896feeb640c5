//! What hangs on a step that is stopped now, and what the run would have done instead.
//!
//! # Dependents
//! A step depends on another when it says so: its span lies under the other's, a link names the other as its cause, or one
//! of its sources is the other's result (the digest of the result, or the call's id). What depends on a dependent depends
//! too. Nothing else is ever called a dependent.
//!
//! # Divergence
//! What the same run did later without depending on the stopped step may have come otherwise, because the model would have
//! met a refusal where it met a result, or the other way round. It is decided as if it had come all the same and marked.
//! Steps that were asked for together with the stopped one (under the same parent, before it ended) are independent of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use verdict_ledger::action::Action;
use verdict_ledger::event::Rel;
use verdict_ledger::id::{Digest, TraceId};

/// Stopped or released steps of one trace that later steps are held against.
const TURNS_MAX: usize = 64;

/// Why a step depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// Its span lies under the other's.
    Parent,
    /// A link says so.
    Link,
    /// One of its sources is the other's result.
    Provenance,
}

/// A step that cannot have been reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unreached {
    /// Step that is stopped.
    pub(super) by: u64,
    pub(super) because: Because,
}

/// Dependents of the actions of a group.
#[derive(Debug)]
pub(super) struct Dependents {
    edges: BTreeMap<u64, BTreeMap<u64, Because>>,
}

impl Dependents {
    /// Finds who depends on whom. `results` holds the digest of the result of an action, where it is known.
    pub(super) fn of(actions: &[Action], results: &BTreeMap<u64, Digest>) -> Self {
        let mut edges: BTreeMap<u64, BTreeMap<u64, Because>> = BTreeMap::new();
        let mut add = |from: u64, to: u64, because| {
            if from != to {
                let kept = edges.entry(from).or_default().entry(to).or_insert(because);
                *kept = because.min(*kept);
            }
        };
        let mut calls: BTreeMap<(Option<TraceId>, &str), u64> = BTreeMap::new();
        for action in actions {
            if let Some(call) = action.call_id.as_deref() {
                calls.entry((action.trace_id, call)).or_insert(action.key);
            }
        }
        let digests: BTreeMap<String, u64> =
            results.iter().map(|(key, digest)| (digest.to_string(), *key)).collect();
        for action in actions {
            if let Some(parent) = action.parent {
                add(parent, action.key, Because::Parent);
            }
            for relation in &action.relations {
                if matches!(relation.rel, Rel::CausedBy | Rel::Follows | Rel::DelegatedBy | Rel::Compensates)
                {
                    add(relation.key, action.key, Because::Link);
                }
            }
            for source in action.provenance.iter().filter(|source| source.kind == "tool_result") {
                let names = [source.name.as_deref(), source.uri.as_deref()];
                let by_call =
                    names.into_iter().flatten().find_map(|name| calls.get(&(action.trace_id, name)));
                let by_digest = source.digest.as_ref().and_then(|digest| digests.get(digest));
                if let Some(from) = by_call.or(by_digest) {
                    add(*from, action.key, Because::Provenance);
                }
            }
        }
        Self { edges }
    }

    /// Lists everything that depends on a step, near and far.
    pub(super) fn below(&self, key: u64) -> BTreeMap<u64, Unreached> {
        let mut found: BTreeMap<u64, Unreached> = BTreeMap::new();
        let mut waiting = vec![key];
        while let Some(at) = waiting.pop() {
            for (to, because) in self.edges.get(&at).into_iter().flatten() {
                if *to != key && !found.contains_key(to) {
                    found.insert(*to, Unreached { by: key, because: *because });
                    waiting.push(*to);
                }
            }
        }
        found
    }
}

/// A step that the run met otherwise than it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Met {
    key: u64,
    start_ns: u64,
    end_ns: u64,
    parent: Option<u64>,
}

/// Where runs part from what was recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Divergences {
    traces: BTreeMap<TraceId, Vec<Met>>,
}

impl Divergences {
    pub(super) fn add(&mut self, action: &Action) {
        let Some(trace) = action.trace_id else { return };
        let met = self.traces.entry(trace).or_default();
        // The first ones decide; whoever parts more often has long parted.
        if met.len() < TURNS_MAX {
            met.push(Met {
                key: action.key,
                start_ns: action.start_ns,
                end_ns: action.end_ns.or(action.outcome_ns).unwrap_or(action.start_ns),
                parent: action.parent,
            });
        }
    }

    /// Returns the first step that makes this one uncertain.
    pub(super) fn of(&self, action: &Action) -> Option<u64> {
        let met = action.trace_id.and_then(|trace| self.traces.get(&trace))?;
        let later = met.iter().filter(|met| {
            let together =
                met.parent.is_some() && met.parent == action.parent && action.start_ns < met.end_ns;
            met.key != action.key && action.start_ns > met.start_ns && !together
        });
        later.min_by_key(|met| (met.start_ns, met.key)).map(|met| met.key)
    }

    pub(super) fn keep(&mut self, goes_on: impl Fn(&TraceId) -> bool) {
        self.traces.retain(|trace, _| goes_on(trace));
    }
}
