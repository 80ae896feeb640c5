//! A graph as inline SVG and as a list: the same nodes, the same links.

use super::layout::{self, Sizes};
use super::text;

const SIZES: Sizes =
    Sizes { node_width: 172, node_height: 40, column_gap: 44, row_gap: 12, lane_height: 6, margin: 10 };
/// Characters that fit into a node.
const LABEL_CHARACTERS_MAX: usize = 25;

/// A node before it has a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// What it is, as a word above the label.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) label: String,
    /// More about it, for the tooltip and the list.
    pub(crate) detail: String,
    /// Colour class.
    pub(crate) tone: &'static str,
    /// Where it leads.
    pub(crate) href: String,
}

/// An edge between nodes by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    /// From.
    pub(crate) from: usize,
    /// To.
    pub(crate) to: usize,
    /// What it means.
    pub(crate) label: String,
    /// True for an edge that is drawn dashed: it refers back, or is not certain.
    pub(crate) dashed: bool,
}

/// A node with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlacedNode {
    /// The node.
    pub(crate) node: Node,
    /// Label as it fits.
    pub(crate) short: String,
    /// Left edge.
    pub(crate) x: i64,
    /// Upper edge.
    pub(crate) y: i64,
    /// Nodes that it leads to, for the list: label, link and meaning.
    pub(crate) next: Vec<(String, String, String)>,
}

/// An edge with its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlacedEdge {
    /// SVG path.
    pub(crate) path: String,
    /// What it means.
    pub(crate) title: String,
    /// Dashed.
    pub(crate) dashed: bool,
}

/// A graph with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Graph {
    /// Nodes in the order given.
    pub(crate) nodes: Vec<PlacedNode>,
    /// Edges in the order given.
    pub(crate) edges: Vec<PlacedEdge>,
    /// True when the graph is too large to draw; the list is complete all the same.
    pub(crate) list_only: bool,
    /// Width.
    pub(crate) width: i64,
    /// Height.
    pub(crate) height: i64,
    /// Width of a node.
    pub(crate) node_width: i64,
    /// Height of a node.
    pub(crate) node_height: i64,
}

/// Gives a graph its places. Edges that name a node that is not there are left out.
pub(crate) fn place(nodes: Vec<Node>, mut edges: Vec<Edge>) -> Graph {
    edges.retain(|edge| edge.from < nodes.len() && edge.to < nodes.len() && edge.from != edge.to);
    let list_only = nodes.len() > layout::NODES_MAX || edges.len() > layout::EDGES_MAX;
    let pairs: Vec<(usize, usize)> = edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let drawing = if list_only {
        layout::Drawing { nodes: vec![(0, 0); nodes.len()], edges: vec![String::new(); edges.len()], width: 0, height: 0 }
    } else {
        layout::draw(&layout::ranks(nodes.len(), &pairs), &pairs, &SIZES)
    };
    let mut next = vec![Vec::new(); nodes.len()];
    for edge in &edges {
        if let (Some(list), Some(to)) = (next.get_mut(edge.from), nodes.get(edge.to)) {
            list.push((to.label.clone(), to.href.clone(), edge.label.clone()));
        }
    }
    let title = |edge: &Edge| {
        let label = |index: usize| nodes.get(index).map(|node| node.label.as_str()).unwrap_or_default();
        format!("{} — {} → {}", edge.label, label(edge.from), label(edge.to))
    };
    let placed_edges = edges
        .iter()
        .zip(drawing.edges)
        .map(|(edge, path)| PlacedEdge { path, title: title(edge), dashed: edge.dashed })
        .collect();
    let placed_nodes = nodes
        .into_iter()
        .zip(drawing.nodes)
        .zip(next)
        .map(|((node, (x, y)), next)| PlacedNode {
            short: text::shorten(&node.label, LABEL_CHARACTERS_MAX),
            node,
            x,
            y,
            next,
        })
        .collect();
    Graph {
        nodes: placed_nodes,
        edges: placed_edges,
        list_only,
        width: drawing.width,
        height: drawing.height,
        node_width: SIZES.node_width,
        node_height: SIZES.node_height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(label: &str) -> Node {
        Node { kind: "tool", label: label.into(), detail: String::new(), tone: "quiet", href: "#e-1".into() }
    }

    #[test]
    fn edges_to_nowhere_are_left_out_and_the_list_keeps_every_node() {
        let edge = |from, to| Edge { from, to, label: "then".into(), dashed: false };
        let graph = place(vec![node("a"), node("b")], vec![edge(0, 1), edge(1, 9), edge(0, 0)]);
        assert_eq!(graph.edges.len(), 1);
        assert_eq!(graph.nodes[0].next, [("b".to_owned(), "#e-1".to_owned(), "then".to_owned())]);
        let large = place((0..=layout::NODES_MAX).map(|n| node(&n.to_string())).collect(), Vec::new());
        assert!(large.list_only);
        assert_eq!(large.nodes.len(), layout::NODES_MAX + 1);
    }
}
