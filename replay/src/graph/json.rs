//! The graph as JSON.

use serde_json::{Value, json};

use super::query::{Direction, Reached};
use super::{Confidence, ExecutionGraph};

/// Version of the form; `docs/graph.md` describes it.
pub(super) const SCHEMA: &str = "verdict-graph/1";

pub(super) fn write(graph: &ExecutionGraph) -> Value {
    let ids: Vec<&str> = graph.nodes().map(|node| node.id.as_str()).collect();
    let edges: Vec<Value> = graph
        .edges()
        .map(|(from, to, edge)| {
            json!({
                "from": ids.get(from), "to": ids.get(to), "kind": edge.kind, "basis": edge.basis,
                "reason": edge.basis.words(), "confidence": edge.confidence(), "inferred": edge.inferred(),
                "seq": edge.seq,
            })
        })
        .collect();
    json!({"schema": SCHEMA, "nodes": graph.nodes().collect::<Vec<_>>(), "edges": edges})
}

impl ExecutionGraph {
    /// Answers "what is downstream (upstream) of this" as JSON: the part of the graph that was reached, and beside it
    /// under `question` each node with its path.
    pub fn answer_json(&self, reached: &Reached, of: &str, direction: Direction, least: Confidence) -> Value {
        let nodes: Vec<_> = self.nodes().collect();
        let rows: Vec<Value> = reached
            .nodes
            .iter()
            .filter_map(|(at, arrival)| {
                let (path, omitted) = self.hops(reached, *at);
                let node = nodes.get(*at)?;
                Some(json!({
                    "node": node.id, "seq": node.seq, "confidence": arrival.confidence,
                    "start": arrival.previous.is_none(), "path": path, "hops_omitted": omitted,
                }))
            })
            .collect();
        let word = match direction {
            Direction::Downstream => "downstream_of",
            Direction::Upstream => "upstream_of",
        };
        let mut json = self.only(&reached.nodes.keys().copied().collect()).json();
        if let Some(members) = json.as_object_mut() {
            members.insert("question".to_owned(), json!({word: of, "confidence": least, "reached": rows}));
        }
        json
    }
}
