//! Incidents: what belongs together, and that nothing else does.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use verdict_ledger::action::fold;
use verdict_ledger::id::TraceId;
use verdict_replay::graph::ExecutionGraph;
use verdict_replay::incident::{Incident, IncidentError, Join, Limits, Seed, Stop};

use crate::log::Log;
use crate::sample::{tool, trace, with};

fn collect(log: &Log, seed: Seed) -> Incident {
    Incident::collect(&log.ledger, seed, log.size(), Limits::default()).unwrap()
}

fn traces(incident: &Incident) -> Vec<TraceId> {
    incident.members.iter().filter_map(|member| member.trace_id).collect()
}

fn in_trace(n: u8, event: Value) -> Value {
    with(event, "trace_id", json!(trace(n).to_string()))
}

#[test]
fn an_approval_joins_the_trace_that_waits_and_the_one_that_goes_on() {
    let log = Log::harbor();
    let asked = log.ledger.record(log.seq("harbor-04-04")).unwrap().unwrap().event.unwrap().trace_id.unwrap();
    let answered =
        log.ledger.record(log.seq("harbor-05-02")).unwrap().unwrap().event.unwrap().trace_id.unwrap();
    assert_ne!(asked, answered);
    for seed in [
        Seed::Trace(asked),
        Seed::Trace(answered),
        Seed::Approval("approval-311".to_owned()),
        Seed::Event(log.seq("harbor-04-04")),
    ] {
        let incident = collect(&log, seed.clone());
        assert_eq!(BTreeSet::from_iter(traces(&incident)), BTreeSet::from([asked, answered]), "{seed}");
        assert!(incident.stops.is_empty(), "{seed}: {:?}", incident.stops);
    }
    // The graph goes from the question over the person's answer to what ran.
    let incident = collect(&log, Seed::Trace(answered));
    let graph = ExecutionGraph::of(&fold(&incident.records, 0), &incident.records);
    let approval = graph.nodes().find(|node| node.kind.as_str() == "approval").unwrap();
    assert!(approval.ruling.as_ref().unwrap().by.id.is_some(), "who answered is known: {approval:?}");
    let seqs: BTreeSet<u64> = incident.records.iter().map(|record| record.seq).collect();
    assert!(graph.nodes().all(|node| seqs.contains(&node.seq)));
}

#[test]
fn every_recorded_trace_is_in_its_own_incident_and_joins_go_both_ways() {
    let log = Log::harbor();
    let all: Vec<TraceId> =
        log.ledger.traces(None, 100).unwrap().into_iter().map(|trace| trace.trace_id).collect();
    assert!(all.len() > 10);
    for trace in &all {
        let incident = collect(&log, Seed::Trace(*trace));
        let around = traces(&incident);
        assert!(around.contains(trace));
        for other in &around {
            let back = collect(&log, Seed::Trace(*other));
            assert!(traces(&back).contains(trace), "{trace} is joined to {other} and not back");
        }
        // Different shops have nothing to do with each other.
        let tenants: BTreeSet<_> =
            incident.records.iter().filter_map(|record| record.event.as_ref()?.tenant.clone()).collect();
        assert_eq!(tenants.len(), 1, "{tenants:?}");
    }
}

#[test]
fn links_sessions_and_approvals_join_and_each_says_by_what() {
    let lone = |event: Value, session: &str| with(event, "session", json!(session));
    let log = Log::of(&[
        in_trace(1, lone(tool("start", json!({})), "s-a")),
        // Another trace of the session.
        in_trace(2, lone(tool("second", json!({})), "s-a")),
        // A hand-over to another session, linked from the far side only.
        in_trace(
            3,
            lone(
                with(
                    tool("third", json!({})),
                    "links",
                    json!([{"to": {"event": "e2"}, "rel": "delegated_by"}]),
                ),
                "s-b",
            ),
        ),
        // Linked from there by trace.
        in_trace(
            4,
            lone(
                with(
                    tool("undo", json!({})),
                    "links",
                    json!([{"to": {"trace_id": trace(3).to_string()}, "rel": "compensates"}]),
                ),
                "s-c",
            ),
        ),
        // Nothing to do with it.
        in_trace(5, lone(tool("other", json!({})), "s-d")),
    ]);
    let incident = collect(&log, Seed::Trace(trace(1)));
    let joins: Vec<(TraceId, Join)> =
        incident.members.iter().map(|member| (member.trace_id.unwrap(), member.joined.clone())).collect();
    let (first, second, third, fourth) = (log.seq("e1"), log.seq("e2"), log.seq("e3"), log.seq("e4"));
    assert!(first < second);
    assert_eq!(
        joins,
        [
            (trace(1), Join::Asked),
            (trace(2), Join::Session { session: "s-a".to_owned(), seq: second }),
            (trace(3), Join::Link { rel: "delegated_by", seq: third }),
            (trace(4), Join::Link { rel: "compensates", seq: fourth }),
        ]
    );
    let session = collect(&log, Seed::Session("s-b".to_owned()));
    assert_eq!(traces(&session), [trace(1), trace(2), trace(3), trace(4)]);
    assert_eq!(traces(&collect(&log, Seed::Trace(trace(5)))), [trace(5)]);
}

#[test]
fn a_session_of_another_tenant_is_another_session() {
    let of = |n: u8, tenant: &str| in_trace(n, with(tool("t", json!({})), "tenant", json!(tenant)));
    let asks = |n: u8, tenant: &str| {
        with(
            of(n, tenant),
            "decision",
            json!({"effect": "require_approval", "by": {"kind": "policy"}, "approval_id": "ap-1"}),
        )
    };
    let log = Log::of(&[
        of(1, "goods"),
        of(2, "outlet"),
        of(3, "goods"),
        with(asks(4, "goods"), "session", json!("x")),
        with(asks(5, "outlet"), "session", json!("y")),
    ]);
    assert_eq!(traces(&collect(&log, Seed::Trace(trace(1)))), [trace(1), trace(3)]);
    assert_eq!(traces(&collect(&log, Seed::Trace(trace(4)))), [trace(4)]);
    assert_eq!(traces(&collect(&log, Seed::Approval("ap-1".to_owned()))), [trace(4)]);
}

#[test]
fn it_stops_at_its_limits_and_says_so() {
    let log = Log::of(&(1..=60).map(|n| in_trace(n, tool("t", json!({})))).collect::<Vec<_>>());
    let with_limits =
        |limits| Incident::collect(&log.ledger, Seed::Trace(trace(30)), log.size(), limits).unwrap();
    let few = with_limits(Limits { traces: 5, ..Limits::default() });
    assert_eq!(few.members.len(), 5);
    assert!(few.stops.contains(&Stop::Traces { max: 5, left_out: 55 }), "{:?}", few.stops);
    // The nearest are kept.
    assert_eq!(traces(&few), (28..=32).map(trace).collect::<Vec<_>>());
    let few = with_limits(Limits { events: 7, ..Limits::default() });
    assert_eq!(few.records.len(), 7);
    assert!(few.stops.iter().any(|stop| matches!(stop, Stop::Events { max: 7, .. })), "{:?}", few.stops);
    let near = with_limits(Limits { scan: 10, ..Limits::default() });
    let window = near.stops.iter().find_map(|stop| match stop {
        Stop::Scan { first_seq, end_seq } => Some(end_seq - first_seq),
        _ => None,
    });
    assert_eq!(window, Some(10));
    let long = Log::of(&(0..500).map(|n| tool(&format!("t{n}"), json!({}))).collect::<Vec<_>>());
    let seed = Seed::Event(long.seq("e300"));
    let part = Incident::collect(&long.ledger, seed, long.size(), Limits { events: 20, ..Limits::default() })
        .unwrap();
    assert!(part.records.iter().any(|record| record.seq == long.seq("e300")), "what was asked for is in it");
    assert_eq!(part.records.len(), 20);
}

#[test]
fn what_is_not_there_is_said_with_where_was_looked() {
    let log = Log::harbor();
    let ask = |seed: Seed| Incident::collect(&log.ledger, seed, log.size(), Limits::default()).unwrap_err();
    assert!(matches!(ask(Seed::Trace(trace(9))), IncidentError::Unknown { .. }));
    assert!(matches!(ask(Seed::Session("nobody".to_owned())), IncidentError::Unknown { .. }));
    assert!(matches!(ask(Seed::Event(1_000_000)), IncidentError::Unknown { .. }));
    let error = ask(Seed::Event(0));
    assert!(matches!(&error, IncidentError::NoAction { seq: 0, .. }), "{error}");
    let error = ask(Seed::Approval("nothing".to_owned()));
    assert!(
        error.to_string().contains("no event in entries 0..") && error.to_string().contains("`nothing`"),
        "{error}"
    );
}

#[test]
fn chains_circles_and_crowds_of_links_end() {
    // Events without a trace, each linked to the next, and the last to the first.
    let count = 5_000;
    let chain: Vec<Value> = (1..=count)
        .map(|n| {
            let next = if n == count { 1 } else { n + 1 };
            json!({"id": format!("c{n}"), "trace_id": null, "session": format!("s{n}"), "action": {"kind": "other", "name": "x"},
                "links": [{"to": {"event": format!("c{next}")}, "rel": "caused_by"}]})
        })
        .collect();
    let log = Log::of(&chain);
    let incident = collect(&log, Seed::Event(log.seq("c2500")));
    assert_eq!(incident.records.len(), count);
    let graph = ExecutionGraph::of(&fold(&incident.records, 0), &incident.records);
    let start = graph.named(&log.seq("c1").to_string());
    assert_eq!(
        graph
            .reach(
                &start,
                verdict_replay::graph::query::Direction::Downstream,
                verdict_replay::graph::Confidence::Explicit
            )
            .nodes
            .len(),
        count
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Traces with random sessions, links and approvals: an incident is the connected part, and nothing outside of it.
    #[test]
    fn an_incident_is_what_is_connected(plan in prop::collection::vec((0u8..4, prop::option::of(0usize..12), prop::option::of(0u8..3)), 2..12)) {
        let count = plan.len();
        let events: Vec<Value> = plan
            .iter()
            .zip(1u8..)
            .map(|((session, link, approval), n)| {
                let mut event = in_trace(n, with(tool("t", json!({})), "session", json!(format!("s{session}-{}", n % 2))));
                if let Some(to) = link {
                    event["links"] = json!([{"to": {"event": format!("e{}", to % count + 1)}, "rel": "retry_of"}]);
                }
                if let Some(approval) = approval {
                    event["decision"] = json!({"effect": "require_approval", "by": {"kind": "policy"}, "approval_id": format!("a{approval}")});
                }
                event
            })
            .collect();
        let log = Log::of(&events);
        // Connected by brute force.
        let mut part: Vec<usize> = (0..count).collect();
        for _ in 0..count {
            for a in 0..count {
                for b in 0..count {
                    let linked = plan[a].1.is_some_and(|to| to % count == b);
                    let same_session = (plan[a].0, (a + 1) % 2) == (plan[b].0, (b + 1) % 2);
                    let same_approval = plan[a].2.is_some() && plan[a].2 == plan[b].2;
                    if linked || same_session || same_approval {
                        let least = part[a].min(part[b]);
                        (part[a], part[b]) = (least, least);
                    }
                }
            }
        }
        for at in 0..count {
            let seed = Seed::Trace(trace(u8::try_from(at + 1).unwrap()));
            let incident = collect(&log, seed);
            let found: BTreeSet<TraceId> = traces(&incident).into_iter().collect();
            let expected: BTreeSet<TraceId> = (0..count)
                .filter(|other| part[*other] == part[at])
                .map(|other| trace(u8::try_from(other + 1).unwrap()))
                .collect();
            prop_assert_eq!(found, expected);
            let graph = ExecutionGraph::of(&fold(&incident.records, 0), &incident.records);
            let seqs: BTreeSet<u64> = incident.records.iter().map(|record| record.seq).collect();
            prop_assert!(graph.nodes().all(|node| seqs.contains(&node.seq) && node.seqs.iter().all(|seq| seqs.contains(seq))));
            prop_assert!(graph.edges().all(|(_, _, edge)| seqs.contains(&edge.seq)));
        }
    }
}
