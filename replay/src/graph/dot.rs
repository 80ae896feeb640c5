//! The graph in the DOT language.

use super::{ExecutionGraph, visible};

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
        let style = if edge.inferred { ", style=dashed" } else { "" };
        out.push_str(&format!("  n{from} -> n{to} [label=\"{}\"{style}];\n", edge.kind.as_str()));
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
