//! Fewer nodes for a drawing: repeats by name become one node that says how many it stands for.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::Graph;
use petgraph::graph::NodeIndex;

use super::{ExecutionGraph, Node};

pub(super) fn condense(graph: &ExecutionGraph, max: usize) -> ExecutionGraph {
    if graph.nodes().len() <= max {
        return graph.clone();
    }
    // Alike: everything that is drawn is the same.
    let mut numbers = BTreeMap::new();
    let mut group_of: Vec<usize> = graph
        .nodes()
        .map(|node| {
            let next = numbers.len();
            *numbers.entry((node.kind, &node.label, node.effect, node.trust, node.state)).or_insert(next)
        })
        .collect();
    // Still too many different things: the first stay, the rest are one node.
    let rest = max.max(1) - 1;
    let overflows = numbers.len() > max;
    if overflows {
        for group in &mut group_of {
            *group = rest.min(*group);
        }
    }
    let mut merged: BTreeMap<usize, Node> = BTreeMap::new();
    for (node, group) in graph.nodes().zip(&group_of) {
        merged
            .entry(*group)
            .and_modify(|known| {
                known.count += node.count;
                known.cost = None;
            })
            .or_insert_with(|| node.clone());
    }
    let mut out = Graph::new();
    for (group, mut node) in merged {
        if overflows && group == rest {
            node.label = format!("{} more", node.count);
            node.note = "different steps".to_owned();
            node.title = format!("{} more nodes of this graph, not drawn one by one", node.count);
            (node.effect, node.trust, node.state, node.cost) = (None, None, None, None);
        } else if node.count > 1 {
            node.note = format!("×{} · {}", node.count, node.note);
            node.title = format!("{} times, first: {}", node.count, node.title);
        }
        out.add_node(node);
    }
    let edges: BTreeSet<_> = graph
        .edges()
        // Edges of one reason between the same two are one.
        .filter_map(|(from, to, edge)| {
            Some((*group_of.get(from)?, *group_of.get(to)?, super::Edge { seq: 0, ..edge }))
        })
        .filter(|(from, to, _)| from != to)
        .collect();
    for (from, to, edge) in edges {
        out.add_edge(NodeIndex::new(from), NodeIndex::new(to), edge);
    }
    ExecutionGraph { graph: out }
}
