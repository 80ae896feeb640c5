//! The graph in the DOT language.

use super::{Confidence, ExecutionGraph, visible};

pub(super) fn write(graph: &ExecutionGraph) -> String {
    let mut out = String::from("digraph execution {\n  rankdir=LR;\n  node [shape=box];\n");
    for (position, node) in graph.nodes().enumerate() {
        let label = quote(&format!("{}\n{}", node.label, node.note));
        let class = node.kind.as_str();
        out.push_str(&format!(
            "  n{position} [label={label}, class=\"{class}\", tooltip={}];\n",
            quote(&node.title)
        ));
    }
    for (from, to, edge) in graph.edges() {
        // An edge of order alone must not pull the steps into one row.
        let style = match edge.confidence() {
            Confidence::Explicit => "",
            Confidence::Inferred => ", style=dashed",
            Confidence::Order => ", style=dotted, constraint=false",
        };
        let why = quote(&format!("{} (event {})", edge.basis.words(), edge.seq));
        out.push_str(&format!(
            "  n{from} -> n{to} [label=\"{}\", tooltip={why}{style}];\n",
            edge.kind.as_str()
        ));
    }
    out.push_str("}\n");
    out
}

/// A quoted DOT string; `\` is doubled first, since DOT reads escapes such as `\l` and `\N`.
fn quote(text: &str) -> String {
    let lines: Vec<String> =
        text.split('\n').map(|line| visible(line).replace('\\', "\\\\").replace('"', "\\\"")).collect();
    format!("\"{}\"", lines.join("\\n"))
}
