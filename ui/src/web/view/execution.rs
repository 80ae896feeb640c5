//! The execution graph as SVG, as a list, and what outside sources reached: the same nodes, the same links.

use verdict_ledger::event::Trust;
use verdict_replay::graph::flow::Hop;
use verdict_replay::graph::{Confidence, DRAWN_NODES_MAX, ExecutionGraph, Node};

use super::badge::{self, Badge};

/// Nodes that the list names; a larger graph is cut and says so.
const LISTED_MAX: usize = 2_000;
/// Flows that the page names.
const FLOWS_MAX: usize = 100;

/// The execution graph of a trace or an incident.
#[derive(Debug)]
pub(crate) struct GraphView {
    /// SVG text. Its writer escapes every label and uses classes only.
    pub(crate) svg: String,
    /// The same as a list.
    pub(crate) items: Vec<Item>,
    /// Nodes that the list leaves out.
    pub(crate) left_out: usize,
    /// True when repeats are drawn as one node.
    pub(crate) condensed: bool,
    /// What came from sources that nobody vouches for, as far as it is stated or follows from what is stated.
    pub(crate) flows: Vec<FlowRow>,
    /// Such flows that are not listed.
    pub(crate) flows_left_out: usize,
    /// Flows of which only the order is known.
    pub(crate) flows_in_order: usize,
}

/// One node of the list.
#[derive(Debug)]
pub(crate) struct Item {
    /// Number, from 1.
    pub(crate) number: usize,
    /// Event that it is taken from.
    pub(crate) seq: u64,
    /// What it stands for.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) label: String,
    /// Effect, trust, status or kind.
    pub(crate) note: String,
    /// Where it leads: how, number and name.
    pub(crate) next: Vec<(String, usize, String)>,
}

/// A source that reached an action.
#[derive(Debug)]
pub(crate) struct FlowRow {
    /// Trust in the source.
    pub(crate) trust: Badge,
    /// The source.
    pub(crate) source: String,
    /// Event of the action.
    pub(crate) seq: u64,
    /// The action.
    pub(crate) action: String,
    /// State of the action.
    pub(crate) state: &'static str,
    /// How sure the path is.
    pub(crate) confidence: &'static str,
    /// Steps on the path: how it comes there, and what is there.
    pub(crate) path: Vec<(String, String)>,
}

/// Draws and lists a graph; `link` begins the address of each event.
pub(crate) fn view(graph: &ExecutionGraph, link: &str) -> GraphView {
    let nodes: Vec<&Node> = graph.nodes().collect();
    let count = nodes.len();
    let mut next = vec![Vec::new(); count];
    for (from, to, edge) in graph.edges() {
        if let (Some(list), Some(node)) = (next.get_mut(from), nodes.get(to)) {
            let words = edge.kind.as_str().replace('_', " ");
            let words = match edge.confidence() {
                Confidence::Explicit => words,
                Confidence::Inferred | Confidence::Order => {
                    format!("{words} ({}: {})", edge.confidence().as_str(), edge.basis.words())
                }
            };
            list.push((words, to + 1, node.label.clone()));
        }
    }
    let items = nodes
        .iter()
        .zip(next)
        .take(LISTED_MAX)
        .enumerate()
        .map(|(index, (node, next))| Item {
            number: index + 1,
            seq: node.seq,
            kind: node.kind.as_str(),
            label: node.label.clone(),
            note: node.note.clone(),
            next,
        })
        .collect();
    let flow = graph.trust_flow(Trust::External, Confidence::Order);
    // The surest come first.
    let sure = flow.flows.partition_point(|flow| flow.confidence != Confidence::Order);
    let flows = flow.flows.iter().take(sure.min(FLOWS_MAX)).filter_map(|flow| {
        let (source, action) = (nodes.get(flow.source_at)?, nodes.get(flow.action_at)?);
        Some(FlowRow {
            trust: badge::trust(flow.trust),
            source: source_words(source),
            seq: flow.seq,
            action: action.label.clone(),
            state: action.state.unwrap_or_default(),
            confidence: flow.confidence.as_str(),
            path: path(&flow.path, flow.hops_omitted, &nodes),
        })
    });
    GraphView {
        svg: graph.svg_linked(link),
        items,
        left_out: count.saturating_sub(LISTED_MAX),
        condensed: count > DRAWN_NODES_MAX,
        flows: flows.collect(),
        flows_left_out: sure.saturating_sub(FLOWS_MAX),
        flows_in_order: flow.flows.len() - sure + flow.flows_omitted,
    }
}

fn source_words(node: &Node) -> String {
    let kind = node.source.as_ref().map(|source| source.kind.as_str()).unwrap_or_default();
    let uri = node.source.as_ref().and_then(|source| source.uri.as_ref()).filter(|uri| **uri != node.label);
    let uri = uri.map(|uri| format!(" ({uri})")).unwrap_or_default();
    if kind == node.label { format!("{kind}{uri}") } else { format!("{kind} {}{uri}", node.label) }
}

fn path(hops: &[Hop], omitted: usize, nodes: &[&Node]) -> Vec<(String, String)> {
    let step = |(index, hop): (usize, &Hop)| {
        let label = nodes.get(hop.at).map(|node| node.label.clone()).unwrap_or_default();
        let by = hop.by.map(|by| by.as_str().replace('_', " ")).unwrap_or_default();
        let by = match (index, hop.passed) {
            (1, _) if omitted > 0 => format!("{omitted} steps later, {by}"),
            (_, 0) => by,
            (_, passed) => format!("{by}, {} steps", passed + 1),
        };
        (by, label)
    };
    hops.iter().enumerate().map(step).collect()
}
