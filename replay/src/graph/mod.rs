//! The execution graph of a trace: who acted, what informed it, what ruled, what happened, over every step.
//!
//! Reading order is identity → sources → plan → checks → decision → approval → action → outcome, for each step;
//! steps hang together by cause, delegation, retry and compensation, each edge with the reason for it and how sure
//! it is. Nodes and edges come in an order that depends on the actions only, not on the order in which they are
//! passed. The actions may be those of one trace or of an [incident](crate::incident). `docs/graph.md` describes the
//! JSON form.

mod build;
mod condense;
mod data;
mod dot;
mod edge;
pub mod flow;
mod json;
pub mod layout;
mod order;
pub mod query;
mod svg;

use petgraph::Graph;
use serde::Serialize;
use verdict_ledger::Record;
use verdict_ledger::action::Action;
use verdict_ledger::event::{Cost, Decision, Effect, Provenance, Trust};
use verdict_ledger::id::TraceId;

pub(crate) use build::money;
pub use edge::{Basis, Confidence, Edge, EdgeKind};

/// Most nodes of a drawing; above it, repeats are drawn as one.
pub const DRAWN_NODES_MAX: usize = 300;

/// What a node stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A person.
    User,
    /// An agent.
    Agent,
    /// An instruction or data source.
    Source,
    /// A plan.
    Plan,
    /// A guardrail or check as a step of its own.
    Check,
    /// A ruling.
    Decision,
    /// A person's answer.
    Approval,
    /// A step.
    Action,
    /// How a step ended.
    Outcome,
}

impl NodeKind {
    /// Returns the wire name, which is also the class suffix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Agent => "agent",
            Self::Source => "source",
            Self::Plan => "plan",
            Self::Check => "check",
            Self::Decision => "decision",
            Self::Approval => "approval",
            Self::Action => "action",
            Self::Outcome => "outcome",
        }
    }
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Stable name inside the graph.
    pub id: String,
    /// What it stands for.
    pub kind: NodeKind,
    /// Name of the thing.
    pub label: String,
    /// Second line: effect, trust, status or kind.
    pub note: String,
    /// Everything in one text, for a tooltip.
    pub title: String,
    /// Event that it is taken from.
    pub seq: u64,
    /// Key of the action that it belongs to; people and sources belong to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<u64>,
    /// Trace of that action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// Every event that reports it, of actions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seqs: Vec<u64>,
    /// The ruling, of decisions and approvals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ruling: Option<Decision>,
    /// The source as stated, of sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Provenance>,
    /// True when no action states it itself, of agents and users.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inherited: bool,
    /// Effect, of decisions and approvals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// Trust, of sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<Trust>,
    /// State of the action (`done`, `blocked`, …), of actions and outcomes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// Own cost, of actions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// How many nodes this one stands for; 1 unless it was condensed.
    pub count: u64,
}

/// The execution graph of a trace, or of any set of actions.
#[derive(Debug, Clone)]
pub struct ExecutionGraph {
    graph: Graph<Node, Edge>,
}

impl ExecutionGraph {
    /// Builds the graph of actions; `records` are the events that they were folded from.
    pub fn of(actions: &[Action], records: &[Record]) -> Self {
        build::build(actions, records)
    }

    /// Returns the graph for queries.
    pub const fn graph(&self) -> &Graph<Node, Edge> {
        &self.graph
    }

    /// Returns the nodes in order.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.graph.raw_nodes().iter().map(|node| &node.weight)
    }

    /// Returns the edges as (from, to, edge) over positions of [`ExecutionGraph::nodes`], in order.
    pub fn edges(&self) -> impl Iterator<Item = (usize, usize, Edge)> + '_ {
        use petgraph::visit::EdgeRef as _;
        self.graph
            .edge_references()
            .map(|edge| (edge.source().index(), edge.target().index(), *edge.weight()))
    }

    /// Draws the graph as SVG text for embedding in HTML under a strict content security policy. Each node leads to
    /// the row of its event on the same page.
    pub fn svg(&self) -> String {
        self.svg_linked("#e-")
    }

    /// Draws the graph with links of this beginning, such as `/events/`, and the position of the event.
    pub fn svg_linked(&self, link: &str) -> String {
        svg::draw(&self.condensed(DRAWN_NODES_MAX), link)
    }

    /// Writes the graph in the DOT language.
    pub fn dot(&self) -> String {
        dot::write(self)
    }

    /// Writes the graph as JSON, in the form that `docs/graph.md` describes.
    pub fn json(&self) -> serde_json::Value {
        json::write(self)
    }

    /// Keeps some of the nodes, by position, and the edges between them.
    pub fn only(&self, keep: &std::collections::BTreeSet<usize>) -> Self {
        let mut graph = Graph::new();
        let mut places = std::collections::BTreeMap::new();
        for (at, node) in self.nodes().enumerate().filter(|(at, _)| keep.contains(at)) {
            places.insert(at, graph.add_node(node.clone()));
        }
        for (from, to, edge) in self.edges() {
            if let (Some(from), Some(to)) = (places.get(&from), places.get(&to)) {
                graph.add_edge(*from, *to, edge);
            }
        }
        Self { graph }
    }

    /// Merges nodes that look alike until there are at most `max`.
    pub fn condensed(&self, max: usize) -> Self {
        condense::condense(self, max)
    }
}

/// Makes control and bidirectional-override characters visible: a hostile name must not reorder or hide text.
pub(crate) fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\u{0}'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
            '\u{7f}' => '\u{2421}',
            hidden if verdict_ledger::text::is_hidden(hidden) => '\u{fffd}',
            other => other,
        })
        .collect()
}
