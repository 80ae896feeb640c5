//! Queries: what is downstream of a node, what is upstream, and along which path.
//!
//! Influence runs along edges, and against `compensates`: what was undone led to its undoing. A path is as sure as its
//! least sure edge; of all paths to a node the surest is kept, and of those one with the fewest steps. Time is linear
//! in the graph, cycles included.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Confidence, Edge, ExecutionGraph, NodeKind};

/// Which way to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What it led to.
    Downstream,
    /// What led to it.
    Upstream,
}

/// How a node was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The node before it on the path, towards the start, and the edge between; `None` for a start.
    pub previous: Option<(usize, Edge)>,
    /// How sure the path is.
    pub confidence: Confidence,
    /// Edges from the start.
    pub steps: usize,
    /// The start of the path.
    pub start: usize,
}

/// What is reached from some nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// By position of the node; the starts are among them.
    pub nodes: BTreeMap<usize, Arrival>,
}

impl Reached {
    /// Returns the nodes from the start to one, and the edges between them; empty when it was not reached.
    pub fn path(&self, to: usize) -> Vec<(usize, Option<Edge>)> {
        self.end_of_path(to, usize::MAX)
    }

    /// Returns at most `max` nodes of the end of a path: a path may be as long as a trace.
    pub fn end_of_path(&self, to: usize, max: usize) -> Vec<(usize, Option<Edge>)> {
        let mut path = Vec::new();
        let mut at = Some(to).filter(|to| self.nodes.contains_key(to));
        while let Some(node) = at.filter(|_| path.len() < max) {
            let previous = self.nodes.get(&node).and_then(|arrival| arrival.previous);
            path.push((node, previous.map(|(_, edge)| edge)));
            at = previous.map(|(node, _)| node);
        }
        path.reverse();
        path
    }
}

/// Neighbours of every node, for any number of queries.
#[derive(Debug)]
pub struct Neighbours {
    out: Vec<Vec<(usize, Edge)>>,
    into: Vec<Vec<(usize, Edge)>>,
}

impl Neighbours {
    /// Lists them.
    pub fn of(graph: &ExecutionGraph) -> Self {
        let count = graph.nodes().len();
        let mut all = Self { out: vec![Vec::new(); count], into: vec![Vec::new(); count] };
        for (from, to, edge) in graph.edges() {
            let (from, to) = if edge.runs_back() { (to, from) } else { (from, to) };
            if let Some(list) = all.out.get_mut(from) {
                list.push((to, edge));
            }
            if let Some(list) = all.into.get_mut(to) {
                list.push((from, edge));
            }
        }
        all
    }

    /// Follows edges that are at least this sure.
    pub fn reach(&self, from: &[usize], direction: Direction, least: Confidence) -> Reached {
        let lists = match direction {
            Direction::Downstream => &self.out,
            Direction::Upstream => &self.into,
        };
        let mut reached = Reached::default();
        for start in from.iter().filter(|start| **start < lists.len()) {
            let arrival =
                Arrival { previous: None, confidence: Confidence::Explicit, steps: 0, start: *start };
            reached.nodes.insert(*start, arrival);
        }
        // What is reached surely is settled before anything less sure is tried.
        for level in Confidence::ALL.into_iter().filter(|level| *level <= least) {
            let mut known: Vec<(usize, usize)> =
                reached.nodes.iter().map(|(node, arrival)| (arrival.steps, *node)).collect();
            known.sort_unstable();
            let mut open: VecDeque<usize> = known.into_iter().map(|(_, node)| node).collect();
            while let Some(node) = open.pop_front() {
                let Some(Arrival { steps, start, .. }) = reached.nodes.get(&node).copied() else { continue };
                for (next, edge) in lists.get(node).into_iter().flatten() {
                    if edge.confidence() <= level && !reached.nodes.contains_key(next) {
                        let previous = Some((node, *edge));
                        let arrival = Arrival { previous, confidence: level, steps: steps + 1, start };
                        reached.nodes.insert(*next, arrival);
                        open.push_back(*next);
                    }
                }
            }
        }
        reached
    }
}

impl ExecutionGraph {
    /// Follows edges from some nodes, by position.
    pub fn reach(&self, from: &[usize], direction: Direction, least: Confidence) -> Reached {
        Neighbours::of(self).reach(from, direction, least)
    }

    /// Finds nodes by what people call them: a position in the log (of any event that the node is taken from), the id
    /// of a node, or name, address, digest or kind of a source.
    pub fn named(&self, name: &str) -> Vec<usize> {
        let seq: Option<u64> = name.parse().ok();
        let all = || self.nodes().enumerate();
        let by_id: Vec<usize> = all().filter(|(_, node)| node.id == name).map(|(at, _)| at).collect();
        if !by_id.is_empty() {
            return by_id;
        }
        if let Some(seq) = seq {
            let of_event: Vec<usize> = all()
                .filter(|(_, node)| {
                    let own = !matches!(node.kind, NodeKind::User | NodeKind::Agent | NodeKind::Source);
                    own && (node.seq == seq || node.seqs.contains(&seq))
                })
                .map(|(at, _)| at)
                .collect();
            if !of_event.is_empty() {
                return of_event;
            }
        }
        let is_source = |name: &str, source: &verdict_ledger::event::Provenance| {
            let said = [&source.name, &source.uri, &source.digest];
            said.into_iter().flatten().any(|said| said == name)
        };
        let exact =
            all().filter(|(_, node)| node.source.as_ref().is_some_and(|source| is_source(name, source)));
        let exact: Vec<usize> = exact.map(|(at, _)| at).collect();
        if !exact.is_empty() {
            return exact;
        }
        let of_kind =
            all().filter(|(_, node)| node.source.as_ref().is_some_and(|source| source.kind == name));
        of_kind.map(|(at, _)| at).collect()
    }

    /// Names the sources, for a message about one that is not there.
    pub fn source_names(&self, count_max: usize) -> Vec<String> {
        let sources = self.nodes().filter_map(|node| node.source.as_ref());
        let names: BTreeSet<String> = sources
            .filter_map(|source| {
                source.name.clone().or_else(|| source.uri.clone()).or_else(|| source.digest.clone())
            })
            .collect();
        names.into_iter().take(count_max).collect()
    }
}
