//! interim
use verdict_ledger::action::Action;
use verdict_ledger::id::TraceId;

use super::graph::{self, Edge, Graph, Node};
use super::badge;

/// interim
pub(crate) fn graph(_trace: &TraceId, actions: &[Action]) -> Graph {
    let nodes = actions.iter().map(|a| Node { kind: a.kind.as_str(), label: a.name.clone(), detail: String::new(), tone: badge::state(a.state).tone, href: format!("#e-{}", a.key) }).collect();
    let edges = actions.iter().enumerate().filter_map(|(to, a)| { let p = a.parent?; let from = actions.iter().position(|o| o.key == p)?; Some(Edge { from, to, label: "caused".into(), dashed: false }) }).collect();
    graph::place(nodes, edges)
}
