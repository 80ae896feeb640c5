//! The events of an epoch, and everything that they may be one action with.
//!
//! Events belong to one *group* when they share a trace, a session, or an approval that one asks for and another answers.
//! Actions are folded group by group, so that what a group says does not depend on what else was read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use verdict_ledger::Record;
use verdict_ledger::id::TraceId;

use super::carry::{Carry, Node};
use super::source::{Source, SourceError};
use super::{CONTROL_SET, slim};

/// Events of one trace that are read again; of a longer one the latest so many are.
pub(super) const TRACE_EVENTS_MAX: usize = 65_536;
/// Events of a session that join its traces; the traces of a longer one stand alone from then on.
pub(super) const SESSION_EVENTS_MAX: usize = 16_384;

/// Events that belong together, in log order.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) records: Vec<Record>,
    pub(super) traces: BTreeSet<TraceId>,
    pub(super) sessions: BTreeSet<String>,
}

/// What an epoch is made from.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) groups: Vec<Group>,
    /// Entries that set or lift a control.
    pub(super) controls: Vec<Record>,
}

/// Reads an epoch and what its events belong to, below its end. `see` is shown every record before it is slimmed.
pub(super) fn gather(
    source: &dyn Source,
    epoch: Range<u64>,
    carry: &mut Carry,
    see: &mut dyn FnMut(&Record),
) -> Result<Gathered, SourceError> {
    let mut gathering = Gathering { see, records: BTreeMap::new(), nodes: Nodes::default() };
    let mut controls = Vec::new();
    let mut fresh = Vec::new();
    source.read(epoch.clone(), &mut |record| {
        if record.event.is_some() {
            fresh.push(record);
        } else if record.kind == CONTROL_SET {
            controls.push(record);
        }
    })?;
    for record in fresh {
        carry.relate(source, &record)?;
        gathering.add(record, carry);
    }
    while let Some(node) = gathering.nodes.next() {
        for kin in carry.kin(&node) {
            gathering.nodes.join(&node, kin);
        }
        for seq in before(source, &node, epoch.start, carry)? {
            if !gathering.records.contains_key(&seq)
                && let Some(record) = source.record(seq)?
            {
                gathering.add(record, carry);
            }
        }
    }
    Ok(Gathered { groups: gathering.groups(), controls })
}

/// Adds to a group what is said later about its traces and sessions, below `end`.
pub(super) fn look_ahead(
    source: &dyn Source,
    group: &mut Group,
    ahead: Range<u64>,
    carry: &Carry,
    see: &mut dyn FnMut(&Record),
) -> Result<(), SourceError> {
    let mut seqs = BTreeSet::new();
    for trace in &group.traces {
        seqs.extend(source.of_trace(trace, ahead.clone(), TRACE_EVENTS_MAX)?);
    }
    for session in group.sessions.iter().filter(|session| !carry.long_sessions.contains(*session)) {
        seqs.extend(source.of_session(session, ahead.clone(), SESSION_EVENTS_MAX)?);
    }
    for seq in seqs {
        if let Some(record) = source.record(seq)?.filter(|record| record.event.is_some()) {
            see(&record);
            group.records.extend(slim(record));
        }
    }
    Ok(())
}

/// Positions of what belongs to a node before an epoch.
fn before(source: &dyn Source, node: &Node, start: u64, carry: &Carry) -> Result<Vec<u64>, SourceError> {
    match node {
        Node::Trace(trace) => {
            let mut seqs = source.of_trace(trace, 0..start, usize::MAX)?;
            seqs.drain(..seqs.len().saturating_sub(TRACE_EVENTS_MAX));
            Ok(seqs)
        }
        Node::Session(session) if carry.long_sessions.contains(session) => Ok(Vec::new()),
        Node::Session(session) => source.of_session(session, 0..start, SESSION_EVENTS_MAX),
        Node::Alone(seq) => Ok(if *seq < start { vec![*seq] } else { Vec::new() }),
    }
}

struct Gathering<'s> {
    see: &'s mut dyn FnMut(&Record),
    /// With the number of the node that each belongs to.
    records: BTreeMap<u64, (usize, Record)>,
    nodes: Nodes,
}

impl Gathering<'_> {
    fn add(&mut self, record: Record, carry: &Carry) {
        let Some(event) = &record.event else { return };
        (self.see)(&record);
        let seq = record.seq;
        let node = Node::of(&record, event);
        let number = self.nodes.number(&node);
        // A session that grew too long joins nobody; its events without a trace stand alone.
        let session = event.session.as_ref().filter(|session| !carry.long_sessions.contains(*session));
        if let Some(session) = session {
            self.nodes.join(&node, &Node::Session(session.clone()));
        }
        if let Some(record) = slim(record) {
            self.records.insert(seq, (number, record));
        }
    }

    fn groups(mut self) -> Vec<Group> {
        let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
        for (_, (number, record)) in std::mem::take(&mut self.records) {
            let group = groups.entry(self.nodes.root(number)).or_default();
            if let Some(event) = &record.event {
                group.traces.extend(event.trace_id);
                group.sessions.extend(event.session.clone());
            }
            group.records.push(record);
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        // By what is said first, so that numbers of nodes do not matter.
        groups.sort_by_key(|group| group.records.first().map(|record| record.seq));
        groups
    }
}

/// Nodes by number, which of them belong together, and which are still to be read.
#[derive(Default)]
struct Nodes {
    numbers: BTreeMap<Node, usize>,
    parents: Vec<usize>,
    waiting: Vec<Node>,
}

impl Nodes {
    fn number(&mut self, node: &Node) -> usize {
        if let Some(number) = self.numbers.get(node) {
            return *number;
        }
        let number = self.parents.len();
        self.parents.push(number);
        self.numbers.insert(node.clone(), number);
        self.waiting.push(node.clone());
        number
    }

    fn next(&mut self) -> Option<Node> {
        self.waiting.pop()
    }

    fn root(&mut self, mut at: usize) -> usize {
        loop {
            let up = self.parents.get(at).copied().unwrap_or(at);
            if up == at {
                return at;
            }
            let top = self.parents.get(up).copied().unwrap_or(up);
            if let Some(slot) = self.parents.get_mut(at) {
                *slot = top;
            }
            at = top;
        }
    }

    fn join(&mut self, a: &Node, b: &Node) {
        let (a, b) = (self.number(a), self.number(b));
        let (a, b) = (self.root(a), self.root(b));
        if let Some(slot) = self.parents.get_mut(a.max(b)) {
            *slot = a.min(b);
        }
    }
}
