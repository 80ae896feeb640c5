//! What is known at a position of the log, so that a replay of what follows need not begin at entry 0.
//!
//! It is small on purpose: agents, tenants and controls, and which traces belong together because one answers an approval
//! of the other. Traces and sessions are not in it; whoever goes on reads theirs from the log. Only those that are too
//! long to be read again and again are carried.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use verdict_ledger::Record;
use verdict_ledger::event::Event;
use verdict_ledger::id::TraceId;

use super::source::{Answered, Source, SourceError, answers};
use crate::state::State;

/// Version of what is carried and of the rules that it follows from.
pub(super) const VERSION: u32 = 1;

/// Approvals that are remembered; the one that was quiet longest is forgotten.
const APPROVALS_MAX: usize = 100_000;
/// Traces that one approval may join: an id that is used again and again joins nothing.
const APPROVAL_TRACES_MAX: usize = 4;
/// Traces that can be joined to one.
const KIN_MAX: usize = 64;

/// Where an event belongs: its trace, else its session, else itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Node {
    Trace(TraceId),
    Session(String),
    Alone(u64),
}

impl Node {
    pub(super) fn of(record: &Record, event: &Event) -> Self {
        match (event.trace_id, event.session.as_ref()) {
            (Some(trace), _) => Self::Trace(trace),
            (None, Some(session)) => Self::Session(session.clone()),
            (None, None) => Self::Alone(record.seq),
        }
    }
}

/// Everything that is carried past a position.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carry {
    pub(super) state: State,
    /// Traces and sessions that are too long to be read again.
    pub(super) long_traces: BTreeSet<TraceId>,
    pub(super) long_sessions: BTreeSet<String>,
    /// Who spoke of an approval, by a digest of its id, and where last.
    approvals: BTreeMap<[u8; 16], (u64, Vec<Node>)>,
    kin: BTreeMap<Node, BTreeSet<Node>>,
}

impl Carry {
    /// Learns from a record whose approval it asks for or answers.
    pub(super) fn relate(&mut self, source: &dyn Source, record: &Record) -> Result<(), SourceError> {
        let Some(event) = &record.event else { return Ok(()) };
        for answered in answers(event) {
            let node = Node::of(record, event);
            match answered {
                Answered::Approval(id) => self.speaks_of(record.seq, id, &node),
                Answered::Trace(trace) => self.join(&node, &Node::Trace(trace)),
                Answered::Event(id) => {
                    let before = source.of_event(id)?.into_iter().find(|seq| *seq < record.seq);
                    let Some(asked) = before.map(|seq| source.record(seq)).transpose()?.flatten() else {
                        continue;
                    };
                    if let Some(event) = &asked.event {
                        self.join(&node, &Node::of(&asked, event));
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns what is joined to a node.
    pub(super) fn kin(&self, node: &Node) -> impl Iterator<Item = &Node> {
        self.kin.get(node).into_iter().flatten()
    }

    fn speaks_of(&mut self, seq: u64, id: &str, node: &Node) {
        let digest = Sha256::digest(id.as_bytes());
        let mut key = [0; 16];
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        let (last, nodes) = self.approvals.entry(key).or_default();
        *last = seq;
        let others: Vec<Node> = nodes.iter().filter(|other| *other != node).cloned().collect();
        if others.len() == nodes.len() && nodes.len() < APPROVAL_TRACES_MAX {
            nodes.push(node.clone());
        }
        if others.len() < APPROVAL_TRACES_MAX {
            for other in &others {
                self.join(node, other);
            }
        }
        if self.approvals.len() > APPROVALS_MAX {
            let oldest = self.approvals.iter().min_by_key(|(_, (last, _))| *last).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.approvals.remove(&oldest));
        }
    }

    fn join(&mut self, a: &Node, b: &Node) {
        if a == b {
            return;
        }
        let full = |node| self.kin.get(node).is_some_and(|kin| kin.len() >= KIN_MAX);
        if full(a) || full(b) {
            return;
        }
        self.kin.entry(a.clone()).or_default().insert(b.clone());
        self.kin.entry(b.clone()).or_default().insert(a.clone());
    }
}
