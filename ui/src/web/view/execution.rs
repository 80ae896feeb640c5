//! The execution graph as SVG and as a list: the same nodes, the same links.

use verdict_ledger::Record;
use verdict_ledger::action::Action;
use verdict_replay::graph::{DRAWN_NODES_MAX, ExecutionGraph};

/// Nodes that the list names; a larger graph is cut and says so.
const LISTED_MAX: usize = 2_000;

/// The execution graph of a trace.
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

/// Draws and lists the graph.
pub(crate) fn view(actions: &[Action], records: &[Record]) -> GraphView {
    let graph = ExecutionGraph::of(actions, records);
    let labels: Vec<&str> = graph.nodes().map(|node| node.label.as_str()).collect();
    let count = labels.len();
    let mut next = vec![Vec::new(); count];
    for (from, to, edge) in graph.edges() {
        if let (Some(list), Some(label)) = (next.get_mut(from), labels.get(to)) {
            let certainty = if edge.inferred() { " (inferred)" } else { "" };
            let words = format!("{}{certainty}", edge.kind.as_str().replace('_', " "));
            list.push((words, to + 1, (*label).to_owned()));
        }
    }
    let items = graph
        .nodes()
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
    GraphView {
        svg: graph.svg(),
        items,
        left_out: count.saturating_sub(LISTED_MAX),
        condensed: count > DRAWN_NODES_MAX,
    }
}
