//! The execution graph of a trace: who acted, what informed it, what ruled, what happened, over every step.
//!
//! Reading order is identity → sources → plan → checks → decision → approval → action → outcome, for each step;
//! steps hang together by cause, delegation, retry and compensation. Nodes and edges come in an order that
//! depends on the actions only, not on the order in which they are passed.

mod build;
mod condense;
mod dot;
pub mod layout;
mod svg;

use petgraph::Graph;
use serde::Serialize;
use verdict_ledger::Record;
use verdict_ledger::action::Action;
use verdict_ledger::event::{Cost, Effect, Trust};

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

/// How one node leads to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// A user acts through an agent, an agent acts.
    ActsAs,
    /// A source informs a step.
    Informs,
    /// A step causes another.
    Causes,
    /// A decision rules on a step.
    Rules,
    /// A person answers.
    Approves,
    /// A step ends.
    Yields,
    /// A step is tried again.
    Retries,
    /// A step undoes another.
    Compensates,
    /// A step or user hands over to an agent.
    Delegates,
}

impl EdgeKind {
    /// Returns the wire name, which is also the class suffix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ActsAs => "acts_as",
            Self::Informs => "informs",
            Self::Causes => "causes",
            Self::Rules => "rules",
            Self::Approves => "approves",
            Self::Yields => "yields",
            Self::Retries => "retries",
            Self::Compensates => "compensates",
            Self::Delegates => "delegates",
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

/// An edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// How.
    pub kind: EdgeKind,
    /// True when no source states it: equal calls after a failure are taken for retries.
    pub inferred: bool,
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

    /// Draws the graph as SVG text for embedding in HTML under a strict content security policy.
    pub fn svg(&self) -> String {
        svg::draw(&self.condensed(DRAWN_NODES_MAX))
    }

    /// Writes the graph in the DOT language.
    pub fn dot(&self) -> String {
        dot::write(self)
    }

    /// Writes the graph as JSON: `nodes` in order, `edges` with node ids.
    pub fn json(&self) -> serde_json::Value {
        let ids: Vec<&str> = self.nodes().map(|node| node.id.as_str()).collect();
        let edges: Vec<serde_json::Value> = self
            .edges()
            .map(|(from, to, edge)| {
                serde_json::json!({
                    "from": ids.get(from), "to": ids.get(to), "kind": edge.kind, "inferred": edge.inferred,
                })
            })
            .collect();
        serde_json::json!({"nodes": self.nodes().collect::<Vec<_>>(), "edges": edges})
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
