//! Trust flow: which source that nobody vouches for reached which action, and along which path.

use serde::Serialize;
use verdict_ledger::event::Trust;

use super::query::{Direction, Neighbours, Reached};
use super::{Basis, Confidence, EdgeKind, ExecutionGraph, NodeKind};

/// Sources that are followed at most, the least trusted first.
pub const SOURCES_MAX: usize = 256;
/// Pairs of source and action that are listed at most, the surest first.
pub const ROWS_MAX: usize = 10_000;
/// Steps of a path that are listed at most, its start aside; what is between is counted.
pub const HOPS_MAX: usize = 64;
/// Nodes and edges that are looked at in all.
const WORK_MAX: usize = 20_000_000;

/// One step of a path. Steps in a row of which only the order is known are one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// Position of the node, in the graph.
    #[serde(skip)]
    pub at: usize,
    /// Id of the node.
    pub node: String,
    /// Event of the node.
    pub seq: u64,
    /// How the path comes here; `None` at its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<EdgeKind>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// Steps that are passed on the way here, of which only the order is known.
    #[serde(skip_serializing_if = "is_zero")]
    pub passed: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A source that reached an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Position of the source, in the graph.
    #[serde(skip)]
    pub source_at: usize,
    /// Id of the source.
    pub source: String,
    /// Trust in it.
    pub trust: Trust,
    /// Position of the action, in the graph.
    #[serde(skip)]
    pub action_at: usize,
    /// Id of the action.
    pub action: String,
    /// Key of the action.
    pub seq: u64,
    /// How sure the path is.
    pub confidence: Confidence,
    /// The path.
    pub path: Vec<Hop>,
    /// Steps behind the start of the path that are not listed.
    #[serde(skip_serializing_if = "is_zero")]
    pub hops_omitted: usize,
}

/// Every flow, and what was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TrustFlow {
    /// By confidence, then action, then source.
    pub flows: Vec<Flow>,
    /// Flows that are not listed.
    pub flows_omitted: usize,
    /// Sources that were not followed.
    pub sources_omitted: usize,
}

impl ExecutionGraph {
    /// Finds every action that a source reached which is trusted no more than `trust`, along edges that are at least
    /// this sure.
    pub fn trust_flow(&self, trust: Trust, least: Confidence) -> TrustFlow {
        let nodes: Vec<_> = self.nodes().collect();
        let mut sources: Vec<(Trust, usize)> = nodes
            .iter()
            .enumerate()
            .filter_map(|(at, node)| Some((node.trust.filter(|found| *found >= trust)?, at)))
            .collect();
        sources.sort_by_key(|(trust, at)| (std::cmp::Reverse(*trust), *at));
        let neighbours = Neighbours::of(self);
        let size = nodes.len() + self.graph().edge_count();
        let affordable = (WORK_MAX / size.max(1)).clamp(1, SOURCES_MAX);
        let mut out =
            TrustFlow { sources_omitted: sources.len().saturating_sub(affordable), ..TrustFlow::default() };
        let mut found = Vec::new();
        for (trust, source) in sources.into_iter().take(affordable) {
            let reached = neighbours.reach(&[source], Direction::Downstream, least);
            let mut flows: Vec<(Confidence, u64, usize)> = reached
                .nodes
                .iter()
                .filter_map(|(at, arrival)| {
                    let node = nodes.get(*at).filter(|node| node.kind == NodeKind::Action)?;
                    Some((arrival.confidence, node.seq, *at))
                })
                .collect();
            flows.sort_unstable();
            // No source can fill more than the list.
            out.flows_omitted += flows.len().saturating_sub(ROWS_MAX);
            flows.truncate(ROWS_MAX);
            for (confidence, seq, at) in flows {
                if found.len() >= 2 * ROWS_MAX {
                    out.flows_omitted += keep_surest(&mut found);
                }
                found.push(self.flow((source, trust), (at, seq), confidence, &reached));
            }
        }
        out.flows_omitted += keep_surest(&mut found);
        out.flows = found;
        out
    }

    fn flow(
        &self,
        (source, trust): (usize, Trust),
        (at, seq): (usize, u64),
        confidence: Confidence,
        reached: &Reached,
    ) -> Flow {
        let (path, hops_omitted) = self.hops(reached, at);
        let id =
            |at: usize| self.graph.raw_nodes().get(at).map(|node| node.weight.id.clone()).unwrap_or_default();
        Flow {
            source_at: source,
            source: id(source),
            trust,
            action_at: at,
            action: id(at),
            seq,
            confidence,
            path,
            hops_omitted,
        }
    }

    /// Writes the path to a node as hops: its start, and as much of its end as may be listed. Tells how many steps
    /// between them are left out.
    pub fn hops(&self, reached: &Reached, to: usize) -> (Vec<Hop>, usize) {
        let Some(arrival) = reached.nodes.get(&to) else { return (Vec::new(), 0) };
        let end = reached.end_of_path(to, HOPS_MAX);
        let omitted = (arrival.steps + 1).saturating_sub(end.len() + 1);
        let mut hops: Vec<Hop> = Vec::new();
        let whole = end.first().is_some_and(|(at, _)| *at == arrival.start);
        if !whole {
            hops.extend(self.hop(arrival.start, None));
        }
        let mut in_order = false;
        for (at, edge) in end {
            let Some(mut hop) = self.hop(at, edge) else { continue };
            let is_order = edge.is_some_and(super::Edge::is_order);
            // An action without a ruling is entered and left by order alone.
            if is_order
                && in_order
                && let Some(last) = hops.pop()
            {
                hop.passed = last.passed + 1;
            }
            in_order = is_order;
            hops.push(hop);
        }
        (hops, if whole { 0 } else { omitted })
    }

    fn hop(&self, at: usize, edge: Option<super::Edge>) -> Option<Hop> {
        let node = &self.graph.raw_nodes().get(at)?.weight;
        let (by, basis) = (edge.map(|edge| edge.kind), edge.map(|edge| edge.basis));
        Some(Hop { at, node: node.id.clone(), seq: node.seq, by, basis, passed: 0 })
    }
}

/// Orders and cuts; tells how many went.
fn keep_surest(flows: &mut Vec<Flow>) -> usize {
    flows.sort_by_key(|flow| (flow.confidence, flow.seq, flow.source_at));
    let omitted = flows.len().saturating_sub(ROWS_MAX);
    flows.truncate(ROWS_MAX);
    omitted
}
