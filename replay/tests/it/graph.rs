//! The execution graph and its drawings.

use proptest::prelude::*;
use serde_json::{Value, json};
use verdict_ledger::action::fold;
use verdict_replay::graph::{DRAWN_NODES_MAX, EdgeKind, ExecutionGraph, NodeKind};

use crate::sample::{records, tool, with};

fn story() -> Vec<Value> {
    let span = |event: Value, own: u64, parent: u64| {
        let event = with(event, "span_id", json!(format!("{own:016x}")));
        if parent == 0 { event } else { with(event, "parent_span_id", json!(format!("{parent:016x}"))) }
    };
    let failed = with(
        tool("get_order", json!({"order_id": "7"})),
        "outcome",
        json!({"status": "error", "error": {"type": "Timeout"}}),
    );
    let refund = with(
        tool("issue_refund", json!({"amount_cents": 15_000})),
        "decision",
        json!({"effect": "require_approval", "by": {"kind": "policy"}, "approval_id": "ap", "policy": {"name": "harbor", "version": "1", "rules": ["refunds.limit"]}}),
    );
    let refund = with(
        refund,
        "provenance",
        json!([{"kind": "retrieval", "trust": "unverified", "name": "mail <b>\u{202e}x"}]),
    );
    let answer = json!({
        "action": {"kind": "message", "name": "approval"}, "links": [{"to": {"approval_id": "ap"}, "rel": "approves"}],
        "decision": {"effect": "allow", "by": {"kind": "human", "id": "finance-lead"}, "approval_id": "ap"},
    });
    vec![
        span(
            json!({"action": {"kind": "agent", "name": "support"}, "agent": {"name": "support-agent"}, "user": "u-1", "session": "s1"}),
            1,
            0,
        ),
        span(failed, 2, 1),
        span(tool("get_order", json!({"order_id": "7"})), 3, 1),
        span(with(tool("lookup", json!({})), "agent", json!({"name": "research-agent"})), 4, 1),
        span(refund, 5, 1),
        answer,
        json!({"action": {"kind": "tool", "name": "undo"}, "outcome": {"status": "ok"},
            "links": [{"to": {"span_id": "0000000000000003"}, "rel": "compensates"}]}),
    ]
}

fn graph(events: &[Value]) -> ExecutionGraph {
    let records = records(events);
    ExecutionGraph::of(&fold(&records, 0), &records)
}

#[test]
fn every_step_stands_between_who_and_what() {
    let graph = graph(&story());
    let edges: Vec<(String, EdgeKind, String)> = graph
        .edges()
        .map(|(from, to, edge)| {
            let id = |at: usize| graph.nodes().nth(at).unwrap().id.clone();
            (id(from), edge.kind, id(to))
        })
        .collect();
    let has = |from: &str, kind: EdgeKind, to: &str| {
        assert!(
            edges.contains(&(from.to_owned(), kind, to.to_owned())),
            "{from} {kind:?} {to} in {edges:#?}"
        );
    };
    has("user:u-1", EdgeKind::ActsAs, "agent:support-agent");
    has("agent:support-agent", EdgeKind::ActsAs, "action:1");
    has("action:1", EdgeKind::Causes, "ruling:5.0");
    has("source:0", EdgeKind::Informs, "ruling:5.0");
    has("ruling:5.0", EdgeKind::Rules, "ruling:5.1");
    has("ruling:5.1", EdgeKind::Approves, "action:5");
    has("action:5", EdgeKind::Yields, "outcome:5");
    has("action:2", EdgeKind::Retries, "action:3");
    has("agent:support-agent", EdgeKind::Delegates, "agent:research-agent");
    has("action:7", EdgeKind::Compensates, "action:3");
    assert_eq!(graph.nodes().filter(|node| node.kind == NodeKind::Outcome).count(), 5);
}

#[test]
fn the_drawing_is_safe_to_embed_and_says_everything_without_colour() {
    let svg = graph(&story()).svg();
    for forbidden in ["style", "<script", "onload", "<b>", "\u{202e}"] {
        assert!(!svg.contains(forbidden), "{forbidden:?}");
    }
    assert!(svg.contains("mail &lt;b&gt;\u{fffd}x"));
    assert!(svg.contains("node-decision effect-require_approval"));
    assert!(svg.contains(">require_approval</text>"));
    assert!(svg.contains(">unverified · retrieval</text>"));
    assert!(svg.contains("href=\"#e-5\""));
    assert_eq!(svg.matches("<a href=\"#e-").count(), svg.matches("</a>").count());
    let paths = svg.matches("class=\"edge ").count();
    assert_eq!(paths, graph(&story()).edges().filter(|(_, _, edge)| !edge.is_order()).count());
    assert!(svg.contains("(inferred: the same call right after a failure)"));
}

#[test]
fn exports_name_the_same_nodes() {
    let graph = graph(&story());
    let json = graph.json();
    assert_eq!(json["nodes"].as_array().unwrap().len(), graph.nodes().len());
    assert!(
        json["edges"]
            .as_array()
            .unwrap()
            .iter()
            .all(|edge| edge["from"].is_string() && edge["to"].is_string())
    );
    let dot = graph.dot();
    assert!(dot.starts_with("digraph execution {") && dot.contains("mail <b>\u{fffd}x"));
}

#[test]
fn a_long_trace_is_condensed_and_stays_bounded() {
    let same: Vec<Value> = (0..700).map(|_| tool("poll", json!({}))).collect();
    let drawn = graph(&same).condensed(DRAWN_NODES_MAX);
    assert!(drawn.nodes().len() <= 4, "{}", drawn.nodes().len());
    assert!(drawn.nodes().any(|node| node.count == 700 && node.note.starts_with("×700")));
    let different: Vec<Value> = (0..700).map(|n| tool(&format!("tool-{n}"), json!({}))).collect();
    let drawn = graph(&different).condensed(DRAWN_NODES_MAX);
    assert_eq!(drawn.nodes().len(), DRAWN_NODES_MAX);
    let all: u64 = drawn.nodes().map(|node| node.count).sum();
    assert_eq!(all, u64::try_from(graph(&different).nodes().len()).unwrap());
    assert!(graph(&different).svg().contains(" more</text>"));
    assert_eq!(graph(&[]).nodes().len(), 0);
    assert!(graph(&[]).svg().starts_with("<svg"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_actions_changes_no_byte(order in Just((0..7usize).collect::<Vec<_>>()).prop_shuffle()) {
        let records = records(&story());
        let actions = fold(&records, 0);
        let straight = ExecutionGraph::of(&actions, &records);
        let mixed: Vec<_> = order.iter().filter_map(|i| actions.get(*i).cloned()).collect();
        let reversed: Vec<_> = records.iter().rev().cloned().collect();
        let other = ExecutionGraph::of(&mixed, &reversed);
        prop_assert_eq!(straight.svg(), other.svg());
        prop_assert_eq!(straight.dot(), other.dot());
        prop_assert_eq!(straight.json(), other.json());
    }
}
