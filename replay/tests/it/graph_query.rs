//! Queries over the graph: closure, converse, the surest path, and trust flow.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use verdict_ledger::action::fold;
use verdict_ledger::event::Trust;
use verdict_replay::graph::query::Direction;
use verdict_replay::graph::{Basis, Confidence, EdgeKind, ExecutionGraph};

use crate::log::Log;
use crate::sample::{records, tool, with};

fn graph(events: &[Value]) -> ExecutionGraph {
    let records = records(events);
    ExecutionGraph::of(&fold(&records, 0), &records)
}

fn of_log(log: &Log, id: &str) -> ExecutionGraph {
    let trace = log.ledger.record(log.seq(id)).unwrap().unwrap().event.unwrap().trace_id.unwrap();
    let records = log.ledger.trace(&trace).unwrap();
    ExecutionGraph::of(&fold(&records, 0), &records)
}

fn ids(graph: &ExecutionGraph, at: impl IntoIterator<Item = usize>) -> Vec<String> {
    at.into_iter().map(|at| graph.nodes().nth(at).unwrap().id.clone()).collect()
}

fn edge(graph: &ExecutionGraph, from: &str, to: &str) -> Vec<(EdgeKind, Basis, u64)> {
    let nodes: Vec<_> = graph.nodes().collect();
    graph
        .edges()
        .filter(|(a, b, _)| nodes[*a].id == from && nodes[*b].id == to)
        .map(|(_, _, edge)| (edge.kind, edge.basis, edge.seq))
        .collect()
}

#[test]
fn every_edge_has_its_reason_and_the_event_that_gives_it() {
    let fetched = with(
        tool("fetch_url", json!({"url": "https://out.example/a"})),
        "outcome",
        json!({"status": "ok", "result": "page text"}),
    );
    let digest = "sha256:3a2d3b1d3b40d7e0c0b3d1d4d4cd7c8ff1d4f0dd0b9e5a3c6b3f7e5a1c9d0e1f";
    let source = |source: Value| with(tool("send_email", json!({})), "provenance", json!([source]));
    let graph = graph(&[
        fetched,
        source(json!({"kind": "tool_result", "trust": "unverified", "uri": "https://out.example/a"})),
        source(json!({"kind": "tool_result", "trust": "external", "name": "fetch_url"})),
        source(json!({"kind": "skill", "trust": "external", "name": "fetch_url"})),
        source(json!({"kind": "tool_result", "trust": "external", "digest": digest})),
        tool("last", json!({})),
    ]);
    assert_eq!(edge(&graph, "action:1", "action:2"), [(EdgeKind::Informs, Basis::SameUri, 2)]);
    assert_eq!(edge(&graph, "action:1", "action:3"), [(EdgeKind::Informs, Basis::SameName, 3)]);
    assert_eq!(edge(&graph, "action:1", "action:4"), [], "a skill of that name is not its result");
    assert_eq!(edge(&graph, "action:1", "action:5"), [], "another digest");
    assert_eq!(edge(&graph, "action:5", "action:6"), [(EdgeKind::Precedes, Basis::TraceOrder, 6)]);
    assert_eq!(edge(&graph, "source:0", "action:2")[0].1, Basis::Stated);
    assert_eq!(edge(&graph, "action:6", "outcome:6"), [(EdgeKind::Yields, Basis::Stated, 6)]);
}

#[test]
fn a_result_is_known_again_by_its_digest() {
    let text = "page text";
    let digest = verdict_ledger::id::Digest::of(text.as_bytes()).to_string();
    let graph = graph(&[
        with(tool("fetch_url", json!({})), "outcome", json!({"status": "ok", "result": text})),
        with(
            tool("send_email", json!({})),
            "provenance",
            json!([{"kind": "memory", "trust": "external", "digest": digest}]),
        ),
    ]);
    assert_eq!(edge(&graph, "action:1", "action:2"), [(EdgeKind::Informs, Basis::SameDigest, 2)]);
}

#[test]
fn what_was_refused_passes_nothing_on() {
    let refused = with(
        with(tool("fetch_url", json!({})), "outcome", Value::Null),
        "decision",
        json!({"effect": "block", "by": {"kind": "policy"}}),
    );
    let refused =
        with(refused, "provenance", json!([{"kind": "retrieval", "trust": "unverified", "name": "page"}]));
    let refused: Value = {
        let mut event = refused;
        event.as_object_mut().unwrap().remove("outcome");
        event
    };
    let graph = graph(&[tool("a", json!({})), refused, tool("b", json!({}))]);
    let page = graph.named("page");
    let reached = graph.reach(&page, Direction::Downstream, Confidence::Order);
    let reached = ids(&graph, reached.nodes.keys().copied());
    assert!(
        reached.contains(&"action:2".to_owned()) && !reached.contains(&"action:3".to_owned()),
        "{reached:?}"
    );
    assert_eq!(edge(&graph, "action:1", "action:3"), [(EdgeKind::Precedes, Basis::TraceOrder, 3)]);
}

#[test]
fn an_unverified_page_reached_the_mail_and_the_path_is_shown() {
    let log = Log::harbor();
    // Run 7 mails an outside address on the word of an unverified page.
    let graph = of_log(&log, "harbor-07-01");
    let flow = graph.trust_flow(Trust::External, Confidence::Order);
    let mail = flow
        .flows
        .iter()
        .find(|flow| graph.nodes().nth(flow.action_at).unwrap().label == "send_email")
        .expect("the mail is reached");
    assert_eq!((mail.trust, mail.confidence), (Trust::Unverified, Confidence::Explicit));
    assert_eq!(mail.path.first().unwrap().node, mail.source);
    assert_eq!(mail.path.last().unwrap().node, mail.action);
    assert!(flow.flows.iter().all(|flow| flow.trust >= Trust::External));
    // The page came from the step that fetched it.
    let fetch =
        graph.nodes().position(|node| node.label == "fetch_url" && node.kind.as_str() == "action").unwrap();
    let down = graph.reach(&[fetch], Direction::Downstream, Confidence::Inferred);
    assert!(down.nodes.contains_key(&mail.action_at), "by the name or address that the mail states");
    for name in ["https://carrier.example/notices/7731", "tool_result", &mail.source] {
        assert!(!graph.named(name).is_empty(), "{name}");
    }
    assert_eq!(graph.named("no such thing"), Vec::<usize>::new());
}

#[test]
fn a_hundred_thousand_steps_and_many_sources_are_quick_and_bounded() {
    // Debug builds of this crate are optimised a little; the bound is on what is listed, and a hang fails the run.
    let count = 100_000;
    let events: Vec<Value> = (0..count)
        .map(|n| {
            let mut event = json!({"action": {"kind": "tool", "name": format!("t{}", n % 7)}, "outcome": {"status": "ok"}, "span_id": format!("{:016x}", n + 1)});
            if n > 0 {
                event["parent_span_id"] = json!(format!("{n:016x}"));
            }
            if n < 2_000 {
                event["provenance"] = json!([{"kind": "memory", "trust": "unverified", "name": format!("m{n}")}]);
            }
            event
        })
        .collect();
    let graph = graph(&events);
    let flow = graph.trust_flow(Trust::External, Confidence::Order);
    assert!(flow.flows.len() <= verdict_replay::graph::flow::ROWS_MAX);
    assert!(
        flow.flows_omitted > 1_000_000 && flow.sources_omitted > 1_000,
        "{} {}",
        flow.flows_omitted,
        flow.sources_omitted
    );
    let last = graph.named(&count.to_string());
    let up = graph.reach(&last, Direction::Upstream, Confidence::Explicit);
    assert_eq!(
        up.nodes.values().filter(|arrival| arrival.previous.is_some()).count(),
        up.nodes.len() - last.len()
    );
    assert!(up.nodes.len() > count);
    let (hops, omitted) = graph.hops(&up, 0);
    assert!(hops.len() <= verdict_replay::graph::flow::HOPS_MAX + 1);
    assert!(omitted > 0);
}

/// Random traces: parents, links, sources, rulings and times in any order, circles included.
fn any_events() -> impl Strategy<Value = Vec<Value>> {
    let one = (
        0u8..12,
        prop::option::of(0u8..12),
        prop::option::of(0u8..4),
        0u8..5,
        prop::option::of(0u8..12),
        0u8..40,
    );
    prop::collection::vec(one, 1..12).prop_map(|plan| {
        let mut out = Vec::new();
        for (span, parent, source, effect, link, at) in plan {
            let mut event = json!({
                "action": {"kind": if effect == 4 { "model" } else { "tool" }, "name": format!("t{}", span % 3)},
                "span_id": format!("{:016x}", span + 1), "start_ns": format!("{}", 1 + u64::from(at)),
            });
            if let Some(parent) = parent {
                event["parent_span_id"] = json!(format!("{:016x}", parent + 1));
            }
            if let Some(source) = source {
                event["provenance"] = json!([{"kind": "tool_result", "trust": "unverified", "name": format!("t{source}")}]);
            }
            match effect {
                0 => event["decision"] = json!({"effect": "block", "by": {"kind": "policy"}}),
                1 => event["decision"] = json!({"effect": "allow", "by": {"kind": "human"}}),
                _ => event["outcome"] = json!({"status": "ok"}),
            }
            if let Some(link) = link {
                let rel = ["caused_by", "retry_of", "compensates", "delegated_by"][usize::from(link % 4)];
                event["links"] = json!([{"to": {"span_id": format!("{:016x}", link + 1)}, "rel": rel}]);
            }
            out.push(event);
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn downstream_is_the_transitive_closure_and_upstream_its_converse(events in any_events()) {
        let graph = graph(&events);
        let count = graph.nodes().len();
        for least in Confidence::ALL {
            let mut closure = vec![vec![false; count]; count];
            for (at, row) in closure.iter_mut().enumerate() {
                row[at] = true;
            }
            for (from, to, edge) in graph.edges().filter(|(_, _, edge)| edge.confidence() <= least) {
                let (from, to) = if edge.kind == EdgeKind::Compensates { (to, from) } else { (from, to) };
                closure[from][to] = true;
            }
            for via in 0..count {
                for from in 0..count {
                    for to in 0..count {
                        if closure[from][via] && closure[via][to] {
                            closure[from][to] = true;
                        }
                    }
                }
            }
            for (from, reached) in closure.iter().enumerate() {
                let down = graph.reach(&[from], Direction::Downstream, least);
                for (to, reached) in reached.iter().enumerate() {
                    prop_assert_eq!(down.nodes.contains_key(&to), *reached);
                    let up = graph.reach(&[to], Direction::Upstream, least);
                    prop_assert_eq!(up.nodes.contains_key(&from), *reached, "converse");
                    // The path is one: it starts and ends right, and each edge of it is there and sure enough.
                    let path = down.path(to);
                    prop_assert_eq!(path.is_empty(), !*reached);
                    if let (Some(first), Some(last)) = (path.first(), path.last()) {
                        prop_assert_eq!((first.0, last.0), (from, to));
                        let least_sure = path.iter().filter_map(|(_, edge)| edge.map(verdict_replay::graph::Edge::confidence)).max();
                        prop_assert_eq!(least_sure.unwrap_or(Confidence::Explicit), down.nodes[&to].confidence);
                    }
                }
            }
        }
    }

    #[test]
    fn surer_edges_reach_no_more(events in any_events(), start in 0usize..12) {
        let graph = graph(&events);
        let at = start % graph.nodes().len();
        let reached = |least| graph.reach(&[at], Direction::Downstream, least);
        let (sure, likely, seen) = (reached(Confidence::Explicit), reached(Confidence::Inferred), reached(Confidence::Order));
        let keys = |reached: &verdict_replay::graph::query::Reached| reached.nodes.keys().copied().collect::<BTreeSet<_>>();
        prop_assert!(keys(&sure).is_subset(&keys(&likely)) && keys(&likely).is_subset(&keys(&seen)));
        for (node, arrival) in &sure.nodes {
            prop_assert_eq!(seen.nodes[node].confidence, arrival.confidence, "the surest path is kept");
        }
    }
}
