use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::event::{Action as Asked, Effect, Event, Outcome, PolicyRef, Target};
use crate::record::Record;

fn trace(n: u8) -> TraceId {
    TraceId([n; 16])
}

fn span(n: u8) -> SpanId {
    SpanId([n; 8])
}

/// Builds events in a few words.
struct Make(Event);

impl Make {
    fn new(id: &str, kind: ActionKind, name: &str) -> Self {
        let mut event = Event::new(id, Asked::new(kind, name));
        event.start_ns = Some(1_000);
        Self(event)
    }
    fn tool(id: &str, name: &str) -> Self {
        Self::new(id, ActionKind::Tool, name)
    }
    fn at(mut self, ns: u64) -> Self {
        self.0.start_ns = Some(ns);
        self
    }
    fn place(mut self, t: u8, s: u8, parent: u8) -> Self {
        self.0.trace_id = Some(trace(t));
        self.0.span_id = (s > 0).then(|| span(s));
        self.0.parent_span_id = (parent > 0).then(|| span(parent));
        self
    }
    fn call(mut self, id: &str) -> Self {
        self.0.action.call_id = Some(id.to_owned());
        self
    }
    fn session(mut self, id: &str) -> Self {
        self.0.session = Some(id.to_owned());
        self
    }
    fn agent(mut self, name: &str) -> Self {
        self.0.agent = Some(Agent::named(name));
        self
    }
    fn ruled(mut self, effect: Effect, by: AuthorityKind) -> Self {
        self.0.decision = Some(Decision::new(effect, by));
        self
    }
    fn approval(mut self, id: &str) -> Self {
        self.0.decision.as_mut().unwrap().approval_id = Some(id.to_owned());
        self
    }
    fn ended(mut self, status: Status) -> Self {
        self.0.outcome = Some(Outcome::new(status));
        self
    }
    fn tokens(mut self, input: u64, aggregate: bool) -> Self {
        self.0.usage = Some(Usage { input_tokens: Some(input), aggregate, ..Usage::default() });
        self
    }
    fn link(mut self, rel: Rel, to: Target) -> Self {
        self.0.links.push(Link { to, rel });
        self
    }
    fn edit(mut self, edit: impl FnOnce(&mut Event)) -> Self {
        edit(&mut self.0);
        self
    }
}

fn records(events: Vec<Make>) -> Vec<Record> {
    let numbered = events.into_iter().zip(1..);
    numbered
        .map(|(event, seq)| Record {
            seq,
            ts_ns: seq * 10,
            kind: crate::event::ACTION_REPORTED.to_owned(),
            event: Some(Box::new(event.0)),
            body: serde_json::Map::new(),
            withheld: Vec::new(),
        })
        .collect()
}

fn folded(events: Vec<Make>) -> Vec<Action> {
    fold(&records(events), 0)
}

fn log(event: &mut Event) {
    event.source.path = Some("resourceLogs/0/scopeLogs/0/logRecords/3".to_owned());
}

#[test]
fn three_spans_and_two_logs_of_one_call_are_one_action() {
    let actions = folded(vec![
        Make::new("turn", ActionKind::Agent, "claude-code").place(1, 1, 0).session("s"),
        Make::tool("decision", "Bash")
            .place(1, 2, 0)
            .call("c1")
            .edit(log)
            .ruled(Effect::Allow, AuthorityKind::Config),
        Make::tool("result", "Bash").place(1, 1, 0).call("c1").edit(log).ended(Status::Ok),
        Make::tool("tool", "Bash").place(1, 2, 1).call("c1"),
        Make::new("execution", ActionKind::Other, "claude_code.tool.execution").place(1, 3, 2).call("c1"),
        Make::tool("other", "Bash").place(1, 4, 1).call("c2").ended(Status::Error),
    ]);
    let shape: Vec<_> =
        actions.iter().map(|a| (a.name.as_str(), a.seqs.clone(), a.state, a.parent)).collect();
    assert_eq!(
        shape,
        [
            ("claude-code", vec![1], State::Asked, None),
            ("Bash", vec![2, 3, 4, 5], State::Done, Some(1)),
            ("Bash", vec![6], State::Failed, Some(1)),
        ]
    );
    assert_eq!(actions[1].findings, []);
    assert_eq!(actions[2].findings, [Finding::Ungoverned]);
    assert_eq!(actions[1].session, Some(Stated { value: "s".to_owned(), inherited: true }));
}

#[test]
fn parts_of_one_call_join_whatever_they_are_called() {
    let actions = folded(vec![
        Make::tool("decision", "read").place(1, 2, 0).call("c1").edit(log),
        Make::tool("result", "read").place(1, 1, 0).call("c1").edit(log).ended(Status::Ok),
        Make::tool("span", "mcp__files__read").place(1, 2, 1).call("c1"),
        Make::tool("inner", "tool.execution").place(1, 3, 2).call("c1"),
        Make::tool("beside", "write").place(1, 4, 1).call("c1"),
    ]);
    assert_eq!(
        actions.iter().map(|a| (a.name.as_str(), a.seqs.len())).collect::<Vec<_>>(),
        [("read", 4), ("write", 1)]
    );
}

#[test]
fn logs_in_a_span_without_call_ids_stay_apart_and_hang_under_it() {
    let actions = folded(vec![
        Make::new("turn", ActionKind::Agent, "loop").place(1, 1, 0),
        Make::new("a", ActionKind::Model, "m").place(1, 1, 0).edit(log).tokens(10, false),
        Make::new("b", ActionKind::Model, "m").place(1, 1, 0).edit(log).tokens(11, false),
    ]);
    assert_eq!(actions.len(), 3);
    assert_eq!(actions[1].parent, Some(1));
    assert_eq!(actions.iter().filter_map(|a| a.own_usage()?.input_tokens).sum::<u64>(), 21);
}

#[test]
fn mcp_client_and_server_are_one_action_and_the_server_tells_the_failure() {
    let mcp = |event: &mut Event| {
        event.source.profile = Some("mcp".to_owned());
        event.attributes.insert("mcp.method.name".to_owned(), json!("tools/call"));
    };
    let actions = folded(vec![
        Make::tool("server", "sum").place(1, 3, 2).call("7").edit(mcp).ended(Status::Error).edit(|e| {
            e.service = Some("calculator".to_owned());
            e.action.arguments = Some(json!({"a": 1}));
        }),
        Make::tool("client", "sum").place(1, 2, 1).call("7").edit(mcp).ended(Status::Ok).edit(|e| {
            e.service = Some("assistant".to_owned());
        }),
        // Another connection counts from the same number.
        Make::tool("client2", "sum").place(1, 5, 1).call("7").edit(mcp).ended(Status::Ok),
    ]);
    assert_eq!(actions.len(), 2);
    assert_eq!(actions[0].seqs, [1, 2]);
    assert_eq!(actions[0].outcome, Some(Status::Error));
    assert_eq!(actions[0].outcome_seq, Some(1));
    assert_eq!(actions[0].span_id, Some(span(3)));
    assert_eq!(actions[0].arguments, Some(json!({"a": 1})));
    assert_eq!(actions[0].service.as_ref().unwrap().value, "assistant", "the caller says who acts");
}

#[test]
fn a_wrapper_with_one_call_is_that_call_and_with_two_it_is_not() {
    let one = folded(vec![
        Make::tool("wrapper", "get_order").place(1, 1, 0).call("c1"),
        Make::new("step", ActionKind::Other, "http").place(1, 2, 1),
        Make::tool("inner", "get_order").place(1, 3, 2).ended(Status::Ok),
    ]);
    assert_eq!(one.iter().map(|a| a.seqs.clone()).collect::<Vec<_>>(), [vec![1, 3], vec![2]]);
    let two = folded(vec![
        Make::tool("wrapper", "get_order").place(1, 1, 0),
        Make::tool("first", "get_order").place(1, 2, 1).ended(Status::Error),
        Make::tool("second", "get_order").place(1, 3, 1).ended(Status::Ok),
    ]);
    assert_eq!(two.len(), 3);
    let other_calls = folded(vec![
        Make::tool("outer", "search").place(1, 1, 0).call("c1"),
        Make::tool("inner", "search").place(1, 2, 1).call("c2"),
    ]);
    assert_eq!(other_calls.len(), 2);
    let through_agent = folded(vec![
        Make::tool("outer", "search").place(1, 1, 0),
        Make::new("agent", ActionKind::Agent, "researcher").place(1, 2, 1),
        Make::tool("inner", "search").place(1, 3, 2),
    ]);
    assert_eq!(through_agent.len(), 3);
}

#[test]
fn a_paused_call_goes_on_in_the_next_trace_of_its_session() {
    let actions = folded(vec![
        Make::tool("asked", "refund")
            .place(1, 1, 0)
            .call("c")
            .session("s")
            .at(10)
            .ruled(Effect::RequireApproval, AuthorityKind::Policy)
            .ended(Status::Error),
        Make::tool("resumed", "refund").place(2, 1, 0).call("c").session("s").at(20).ended(Status::Ok),
    ]);
    assert_eq!(actions.len(), 1);
    assert_eq!(actions[0].trace_id, Some(trace(1)));
    assert_eq!(actions[0].later_traces, [trace(2)]);
    assert_eq!(actions[0].state, State::Done, "the pause's own error is no outcome");
    assert_eq!(actions[0].outcome_ns, Some(20));
}

#[test]
fn a_call_id_alone_never_joins_two_traces() {
    let plain = folded(vec![
        Make::tool("a", "refund").place(1, 1, 0).call("c").session("s").at(10).ended(Status::Ok),
        Make::tool("b", "refund").place(2, 1, 0).call("c").session("s").at(20).ended(Status::Ok),
    ]);
    assert_eq!(plain.len(), 2);
    // Refused by a person in its own trace: a later trace with the same id is another call.
    let refused = folded(vec![
        Make::tool("a", "refund")
            .place(1, 1, 0)
            .call("c")
            .session("s")
            .at(10)
            .ruled(Effect::RequireApproval, AuthorityKind::Policy),
        Make::tool("b", "refund")
            .place(2, 1, 0)
            .call("c")
            .session("s")
            .at(20)
            .ruled(Effect::Block, AuthorityKind::Human),
        Make::tool("c", "refund").place(3, 1, 0).call("c").session("s").at(30).ended(Status::Ok),
    ]);
    assert_eq!(
        refused.iter().map(|a| (a.seqs.clone(), a.state)).collect::<Vec<_>>(),
        [(vec![1, 2], State::Blocked), (vec![3], State::Done),]
    );
    let sessions = folded(vec![
        Make::tool("a", "refund")
            .place(1, 1, 0)
            .call("c")
            .session("s")
            .at(10)
            .ruled(Effect::RequireApproval, AuthorityKind::Policy),
        Make::tool("b", "refund").place(2, 1, 0).call("c").session("t").at(20).ended(Status::Ok),
    ]);
    assert_eq!(sessions.len(), 2);
}

#[test]
fn an_answer_is_folded_into_what_asked() {
    let actions = folded(vec![
        Make::tool("asked", "refund")
            .place(1, 1, 0)
            .at(10)
            .ruled(Effect::RequireApproval, AuthorityKind::Policy)
            .approval("ap-1"),
        Make::new("answer", ActionKind::Message, "approval")
            .place(2, 1, 0)
            .at(20)
            .ruled(Effect::Allow, AuthorityKind::Human)
            .link(Rel::Approves, Target { approval_id: Some("ap-1".to_owned()), ..Target::default() })
            .ended(Status::Ok),
    ]);
    assert_eq!(actions.len(), 1);
    let action = &actions[0];
    assert_eq!((action.name.as_str(), action.seqs.as_slice()), ("refund", &[1, 2][..]));
    assert_eq!(
        action.rulings.iter().map(|r| r.decision.effect).collect::<Vec<_>>(),
        [Effect::RequireApproval, Effect::Allow]
    );
    assert_eq!(action.outcome, None, "the message was delivered, the refund was not made");
    assert_eq!(action.state, State::Allowed);
    assert_eq!(action.findings, [], "an answer does not contradict the question");
    assert_eq!(action.ruling().unwrap().decision.by.kind, AuthorityKind::Human);
}

#[test]
fn an_answer_that_used_something_stays_an_action_of_its_own() {
    let actions = folded(vec![
        Make::tool("asked", "refund")
            .place(1, 1, 0)
            .ruled(Effect::RequireApproval, AuthorityKind::Policy)
            .approval("ap"),
        Make::new("judge", ActionKind::Guard, "judge")
            .place(1, 2, 0)
            .at(5_000)
            .ruled(Effect::Allow, AuthorityKind::Model)
            .approval("ap")
            .tokens(9, false),
    ]);
    assert_eq!(actions.len(), 2);
    assert_eq!(actions[0].rulings.len(), 2);
    assert_eq!(actions[1].own_usage().unwrap().input_tokens, Some(9));
}

#[test]
fn usage_is_counted_once_and_never_from_an_aggregate() {
    let actions = folded(vec![
        Make::new("agent", ActionKind::Agent, "a").place(1, 1, 0).tokens(30, true),
        Make::new("span", ActionKind::Model, "m").place(1, 2, 1).call("req").tokens(10, false),
        Make::new("log", ActionKind::Model, "m").place(1, 1, 0).call("req").edit(log).tokens(10, false).edit(
            |e| {
                e.usage.as_mut().unwrap().output_tokens = Some(3);
            },
        ),
        Make::new("span2", ActionKind::Model, "m").place(1, 3, 1).tokens(20, false),
    ]);
    let sum: u64 = actions.iter().filter_map(|a| a.own_usage()?.input_tokens).sum();
    assert_eq!(sum, 30);
    assert_eq!(actions[1].usage.as_ref().unwrap().output_tokens, Some(3), "gaps are filled");
    assert_eq!(actions[0].cost(), None);
}

fn used(input: u64, output: u64) -> impl FnOnce(&mut Event) {
    move |event| {
        event.usage =
            Some(Usage { input_tokens: Some(input), output_tokens: Some(output), ..Usage::default() });
    }
}

#[test]
fn a_unit_of_work_around_a_call_is_that_call() {
    let cost = Cost { nano: 7, currency: "USD".to_owned(), basis: "reported".to_owned() };
    let unit = |id: &str, s: u8| {
        let unit = Make::new(id, ActionKind::Model, "score").place(1, s, 0).edit(used(812, 64));
        unit.ruled(Effect::Allow, AuthorityKind::Policy)
            .edit(|e| e.usage.as_mut().unwrap().cost = Some(cost.clone()))
    };
    let call = |id: &str, s: u8, parent: u8| {
        Make::new(id, ActionKind::Model, "gpt-4o-mini").place(1, s, parent).edit(used(812, 64)).edit(
            |event| {
                event.usage.as_mut().unwrap().model = Some("gpt-4o-mini".to_owned());
            },
        )
    };
    let one = folded(vec![unit("unit", 1), call("call", 2, 1)]);
    assert_eq!(one.len(), 1);
    assert_eq!((one[0].name.as_str(), one[0].rulings.len(), one[0].cost()), ("score", 1, Some(&cost)));
    assert_eq!(one[0].own_usage().unwrap().model.as_deref(), Some("gpt-4o-mini"));
    // Two such calls are two, and the unit is not one of them.
    let two = folded(vec![unit("unit", 1), call("a", 2, 1), call("b", 3, 1)]);
    assert_eq!(two.len(), 3);
    let other = folded(vec![unit("unit", 1), call("call", 2, 1).edit(used(812, 65))]);
    assert_eq!(other.len(), 2);
}

#[test]
fn what_repeats_the_calls_below_it_is_not_summed_whatever_its_source_says() {
    let actions = folded(vec![
        Make::new("agent", ActionKind::Agent, "a").place(1, 1, 0).edit(used(30, 3)),
        Make::new("chain", ActionKind::Other, "c").place(1, 2, 1),
        Make::new("one", ActionKind::Model, "m").place(1, 3, 2).edit(used(10, 1)),
        Make::new("two", ActionKind::Model, "m").place(1, 4, 2).edit(used(20, 2)),
        // Nothing below it: its own.
        Make::new("leaf", ActionKind::Agent, "b").place(1, 5, 1).edit(used(0, 0)),
    ]);
    assert_eq!(actions.iter().filter_map(|a| a.own_usage()?.input_tokens).sum::<u64>(), 30);
    assert!(actions[0].usage.as_ref().unwrap().aggregate && actions[0].own_usage().is_none());
    // One more token and it is something else.
    let actions = folded(vec![
        Make::new("agent", ActionKind::Agent, "a").place(1, 1, 0).edit(used(31, 3)),
        Make::new("one", ActionKind::Model, "m").place(1, 3, 1).edit(used(30, 3)),
    ]);
    assert_eq!(actions.iter().filter_map(|a| a.own_usage()?.input_tokens).sum::<u64>(), 61);
}

#[test]
fn findings_need_no_rules() {
    let tool = |id: &str, s: u8| Make::tool(id, id).place(1, s, 0);
    let events = || {
        vec![
            tool("ran-anyway", 1).ruled(Effect::Block, AuthorityKind::Policy).ended(Status::Ok),
            tool("refused", 2).ruled(Effect::Block, AuthorityKind::Policy).ended(Status::Error),
            tool("never-ended", 3).ruled(Effect::Allow, AuthorityKind::Policy),
            tool("torn", 4).ruled(Effect::Allow, AuthorityKind::Policy),
            tool("torn", 4).ruled(Effect::Block, AuthorityKind::Human).edit(|e| e.id = "torn2".to_owned()),
            tool("shadow", 5)
                .ruled(Effect::Block, AuthorityKind::Policy)
                .edit(|e| e.decision.as_mut().unwrap().enforced = false)
                .ended(Status::Ok),
        ]
    };
    let open = fold(&records(events()), 0);
    let found: Vec<_> = open.iter().map(|a| (a.name.as_str(), a.state, a.findings.clone())).collect();
    assert_eq!(
        found,
        [
            ("ran-anyway", State::Done, vec![Finding::EnforcementFailure]),
            ("refused", State::Blocked, vec![]),
            ("never-ended", State::Allowed, vec![]),
            ("torn", State::Blocked, vec![Finding::Conflict]),
            ("shadow", State::Done, vec![]),
        ]
    );
    let settled = fold(&records(events()), u64::MAX);
    assert_eq!(settled[2].findings, [Finding::Unfinished]);
}

#[test]
fn compensation_marks_its_target_and_retries_stay_two() {
    let to = |s: u8| Target { span_id: Some(span(s)), ..Target::default() };
    let actions = folded(vec![
        Make::tool("pay", "pay").place(1, 1, 0).ended(Status::Ok),
        Make::tool("refund", "refund").place(1, 2, 0).ended(Status::Ok).link(Rel::Compensates, to(1)),
        Make::tool("get", "get").place(1, 3, 0).ended(Status::Error),
        Make::tool("again", "get").place(1, 4, 0).ended(Status::Ok).link(Rel::RetryOf, to(3)),
        Make::tool("failed-undo", "refund").place(1, 5, 0).ended(Status::Error).link(Rel::Compensates, to(4)),
    ]);
    assert_eq!(actions[0].state, State::Compensated);
    assert_eq!(actions[3].relations, [Relation { rel: Rel::RetryOf, key: 3 }]);
    assert_eq!(actions[3].state, State::Done, "an undo that failed undid nothing");
}

#[test]
fn identity_is_inherited_from_the_nearest_ancestor_and_contradiction_gives_none() {
    let actions = folded(vec![
        Make::tool("leaf", "t").place(1, 3, 2),
        Make::new("sub", ActionKind::Agent, "research").place(1, 2, 1).agent("research-agent"),
        Make::new("root", ActionKind::Agent, "support").place(1, 1, 0).agent("support-agent"),
        Make::tool("lost", "t2").place(1, 9, 8),
        Make::tool("torn", "t3").place(2, 1, 7),
        Make::new("x", ActionKind::Other, "x").place(2, 2, 0).agent("one"),
        Make::new("y", ActionKind::Other, "y").place(2, 3, 0).agent("two"),
    ]);
    let label = |i: usize| actions[i].agent_label();
    assert_eq!(label(0), Some("research-agent"));
    assert!(actions[0].agent.as_ref().unwrap().inherited);
    assert!(!actions[1].agent.as_ref().unwrap().inherited);
    assert_eq!(label(3), Some("support-agent"), "its parents never arrived: the root of the trace");
    assert_eq!(label(4), None);
    assert_eq!(actions[0].parent, Some(2));
    assert_eq!(actions[3].parent, None);
}

#[test]
fn hostile_parents_end() {
    let actions = folded(vec![
        Make::tool("a", "a").place(1, 1, 2),
        Make::tool("b", "b").place(1, 2, 3),
        Make::tool("c", "c").place(1, 3, 1),
        Make::tool("self", "d").place(1, 4, 4),
    ]);
    assert_eq!(actions.len(), 4);
    assert_eq!(actions[3].parent, None);
}

#[test]
fn deep_chains_fold_without_a_deep_stack() {
    let mut events = Vec::new();
    for n in 0..20_000u64 {
        let mut make = Make::new(&format!("e{n}"), ActionKind::Other, "step");
        make.0.trace_id = Some(trace(1));
        make.0.span_id = Some(SpanId((n + 1).to_be_bytes()));
        make.0.parent_span_id = (n > 0).then(|| SpanId(n.to_be_bytes()));
        if n == 0 {
            make = make.agent("root");
        }
        events.push(make);
    }
    let actions = folded(events);
    assert_eq!(actions.len(), 20_000);
    assert_eq!(actions[19_999].agent_label(), Some("root"));
    assert_eq!(actions[19_999].parent, Some(19_999));
}

fn any_event() -> impl Strategy<Value = Event> {
    let kind = prop_oneof![4 => Just(ActionKind::Tool), 1 => Just(ActionKind::Agent), 1 => Just(ActionKind::Other), 1 => Just(ActionKind::Message)];
    let decision = prop::option::of((
        prop::sample::select(Effect::ALL.to_vec()),
        prop::sample::select(vec![AuthorityKind::Policy, AuthorityKind::Human, AuthorityKind::Config]),
        prop::option::of("[ab]"),
        any::<bool>(),
    ));
    let outcome = prop::option::of(prop::sample::select(vec![
        Status::Ok,
        Status::Error,
        Status::Pending,
        Status::Cancelled,
    ]));
    let who = (prop::option::of("[st]"), prop::option::of("[xy]"));
    let place = (prop::option::of(1..3u8), 0..6u8, 0..6u8, any::<bool>());
    let link = prop::option::of((
        1..6u8,
        prop::sample::select(vec![Rel::CausedBy, Rel::RetryOf, Rel::Approves, Rel::Compensates]),
    ));
    (kind, "[fg]", place, prop::option::of("[cd]"), decision, outcome, who, 0..50u64, link).prop_map(
        |(kind, name, (t, s, p, is_log), call, decision, outcome, (session, agent), at, link)| {
            let mut event = Event::new("", Asked::new(kind, name));
            event.trace_id = t.map(trace);
            event.span_id = (s > 0 && t.is_some()).then(|| span(s));
            event.parent_span_id = (p > 0 && t.is_some()).then(|| span(p));
            event.action.call_id = call;
            event.start_ns = Some(at);
            event.session = session;
            event.agent = agent.map(Agent::named);
            event.decision = decision.map(|(effect, by, approval, enforced)| Decision {
                approval_id: approval,
                enforced,
                policy: Some(PolicyRef::default()),
                ..Decision::new(effect, by)
            });
            event.outcome = outcome.map(Outcome::new);
            if is_log {
                log(&mut event);
            }
            if let Some((s, rel)) = link {
                event.links.push(Link { to: Target { span_id: Some(span(s)), ..Target::default() }, rel });
            }
            event
        },
    )
}

/// Writes actions with event ids in place of positions.
fn by_ids(records: &[Record]) -> Vec<serde_json::Value> {
    let ids: BTreeMap<u64, &str> = records
        .iter()
        .map(|r| (r.seq, r.event.as_ref().unwrap().action.resource.as_deref().unwrap()))
        .collect();
    let actions = fold(records, u64::MAX);
    // An action is named by all of its events: which one came first is a matter of arrival.
    let names: BTreeMap<u64, Vec<&str>> = actions
        .iter()
        .map(|a| {
            let mut members: Vec<&str> = a.seqs.iter().map(|seq| ids[seq]).collect();
            members.sort_unstable();
            (a.key, members)
        })
        .collect();
    let mut out: Vec<serde_json::Value> = actions
        .iter()
        .map(|action| {
            let mut value = serde_json::to_value(action).unwrap();
            value["key"] = json!(names[&action.key]);
            value["seqs"] = json!(null);
            value["parent"] = json!(action.parent.map(|key| &names[&key]));
            value["outcome_seq"] = json!(action.outcome_seq.map(|seq| ids[&seq]));
            value["rulings"] =
                action.rulings.iter().map(|r| json!([ids[&r.seq], r.at_ns, r.decision])).collect();
            let mut relations: Vec<_> =
                action.relations.iter().map(|r| json!([r.rel, names[&r.key]])).collect();
            relations.sort_by_key(serde_json::Value::to_string);
            value["relations"] = json!(relations);
            let mut conflicts = json!(null);
            for conflict in &action.conflicts {
                let (Conflict::Decisions { seqs, .. } | Conflict::Statements { seqs, .. }) = conflict;
                let mut seqs: Vec<_> = seqs.iter().map(|seq| ids[seq]).collect();
                seqs.sort_unstable();
                conflicts = json!([conflicts, seqs]);
            }
            value["conflicts"] = conflicts;
            value
        })
        .collect();
    out.sort_by_key(serde_json::Value::to_string);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arrival_order_does_not_matter(
        events in prop::collection::vec(any_event(), 1..14),
        seed in any::<u64>(),
    ) {
        let mut events: Vec<Event> = events;
        // Some ids are used for two statements; who says what is told by the resource.
        for (n, event) in events.iter_mut().enumerate() {
            event.id = format!("e{:02}", if n % 5 == 4 { n - 1 } else { n });
            event.action.resource = Some(format!("t{n:02}"));
        }
        let number = |events: &[Event]| records(events.iter().cloned().map(Make).collect());
        let straight = by_ids(&number(&events));
        // A seeded shuffle.
        let mut state = seed | 1;
        for i in (1..events.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            events.swap(i, usize::try_from(state >> 33).unwrap() % (i + 1));
        }
        prop_assert_eq!(straight, by_ids(&number(&events)));
    }

    #[test]
    fn folding_the_same_records_twice_changes_nothing(events in prop::collection::vec(any_event(), 1..14)) {
        let events: Vec<Make> = events.into_iter().enumerate().map(|(n, mut e)| { e.id = format!("e{n}"); Make(e) }).collect();
        let once = records(events);
        let twice: Vec<Record> = once.iter().chain(&once).cloned().collect();
        prop_assert_eq!(fold(&once, u64::MAX), fold(&twice, u64::MAX));
    }

    #[test]
    fn every_event_is_in_exactly_one_action(events in prop::collection::vec(any_event(), 1..20)) {
        let events: Vec<Make> = events.into_iter().enumerate().map(|(n, mut e)| { e.id = format!("e{n}"); Make(e) }).collect();
        let all = records(events);
        let mut seqs: Vec<u64> = fold(&all, 0).iter().flat_map(|a| a.seqs.clone()).collect();
        seqs.sort_unstable();
        prop_assert_eq!(seqs, all.iter().map(|r| r.seq).collect::<Vec<_>>());
    }
}

#[test]
fn a_redelivery_that_says_something_else_is_kept_and_flagged_and_counted_once() {
    let call = |tokens: u64| Make::new("same", ActionKind::Model, "m").place(1, 1, 0).tokens(tokens, false);
    let elsewhere = Make::new("same", ActionKind::Model, "m").place(2, 7, 0).tokens(12, false);
    let actions = folded(vec![call(10), call(11), elsewhere]);
    assert_eq!(actions.iter().map(|a| a.seqs.clone()).collect::<Vec<_>>(), [vec![1, 2], vec![3]]);
    for action in &actions {
        assert_eq!(action.findings, [Finding::Conflict]);
        assert_eq!(
            action.conflicts,
            [Conflict::Statements { id: "same".to_owned(), count: 3, seqs: vec![1, 2, 3] }]
        );
    }
    assert_eq!(actions[0].own_usage().unwrap().input_tokens, Some(10));
    // The very same statement twice, as of a ledger and its copy, is one.
    let once = folded(vec![call(10)]);
    assert_eq!(folded(vec![call(10), call(10)]), once);
}

#[test]
fn a_later_reading_of_the_same_bytes_takes_the_place_of_an_earlier_one() {
    let read = |id: &str, mapper: u32, old: Option<&str>, tokens: u64| {
        Make::new(id, ActionKind::Model, "m").place(1, 1, 0).tokens(tokens, false).edit(|event| {
            event.source.raw = Some(crate::id::Digest::of(b"body"));
            event.source.path = Some("resourceSpans/0/scopeSpans/0/spans/0".to_owned());
            event.source.mapper = mapper;
            event.source.supersedes = old.map(str::to_owned);
        })
    };
    let shape = |actions: &[Action]| {
        actions
            .iter()
            .map(|a| (a.key, a.seqs.clone(), a.superseded.clone(), a.own_usage().unwrap().input_tokens))
            .collect::<Vec<_>>()
    };
    let two = folded(vec![read("e", 1, None, 10), read("e@2", 2, Some("e"), 20)]);
    assert_eq!(shape(&two), [(1, vec![2], vec![1], Some(20))]);
    // Mappers 2 and 3 both read it again, 3 from the first reading: one of them stands.
    let three =
        folded(vec![read("e@3", 3, Some("e"), 30), read("e", 1, None, 10), read("e@2", 2, Some("e"), 20)]);
    assert_eq!(shape(&three), [(1, vec![1], vec![2, 3], Some(30))]);
    let chain =
        folded(vec![read("e", 1, None, 10), read("e@2", 2, Some("e"), 20), read("e@3", 3, Some("e@2"), 30)]);
    assert_eq!(shape(&chain), [(1, vec![3], vec![1, 2], Some(30))]);
    // Whoever names an event of somebody else does not make it go away.
    let forged = folded(vec![
        read("e", 1, None, 10),
        read("x", 9, Some("e"), 20).edit(|event| event.source.raw = Some(crate::id::Digest::of(b"other"))),
        read("y", 1, Some("e"), 5),
    ]);
    assert_eq!(forged.iter().map(|a| a.seqs.len()).sum::<usize>(), 3);
}

#[test]
fn an_action_is_settled_when_its_trace_is_silent() {
    let events = || {
        vec![
            Make::tool("early", "t").place(1, 1, 0).ended(Status::Ok),
            Make::tool("late", "t").place(1, 2, 0).ended(Status::Ok),
            Make::tool("alone", "t").ended(Status::Ok),
        ]
    };
    // Received at 10, 20 and 30.
    let settled =
        |before: u64| fold(&records(events()), before).iter().map(|a| a.settled).collect::<Vec<_>>();
    assert_eq!(settled(20), [false, false, false]);
    assert_eq!(settled(21), [true, true, false]);
    assert_eq!(settled(31), [true, true, true]);
}

/// What a hostile trace is called, and how one of a size is made.
type Shape = (&'static str, fn(u64) -> Vec<Make>);

/// Shapes in which a source that means harm could make a search out of every look. Each is given its size.
fn hostile() -> Vec<Shape> {
    fn id(n: u64) -> String {
        format!("e{n}")
    }
    fn wide(event: Make, n: u64) -> Make {
        event.edit(|event| event.span_id = Some(SpanId((n + 1_000).to_be_bytes())))
    }
    vec![
        ("logs in a span of many reports", |size| {
            (0..size)
                .map(|n| {
                    let event = Make::tool(&id(n), "t").place(1, 1, 0).call(&format!("c{n}"));
                    if n % 2 == 0 { event.edit(log) } else { event }
                })
                .collect()
        }),
        ("children under a span of many reports", |size| {
            let mcp = |event: &mut Event| {
                event.attributes.insert("mcp.method.name".to_owned(), json!("tools/call"));
            };
            (0..size)
                .map(|n| {
                    if n % 2 == 0 {
                        Make::tool(&id(n), "t").place(1, 1, 0).call(&format!("c{n}")).edit(mcp)
                    } else {
                        wide(Make::tool(&id(n), "t").place(1, 1, 1).call(&format!("d{n}")).edit(mcp), n)
                    }
                })
                .collect()
        }),
        ("a chain of spans of one call", |size| {
            (0..size)
                .map(|n| {
                    let event = wide(Make::tool(&id(n), "t").place(1, 1, 1).call("c"), n);
                    event.edit(|event| {
                        event.parent_span_id = n.checked_sub(1).map(|n| SpanId((n + 1_000).to_be_bytes()));
                    })
                })
                .collect()
        }),
        ("one id for many statements that name it", |size| {
            let to = || Target { event: Some("same".to_owned()), ..Target::default() };
            (0..size)
                .map(|n| Make::tool("same", "t").at(n).place(1, 1, 0).link(Rel::CausedBy, to()))
                .collect()
        }),
        ("one call id for many that name it", |size| {
            let to = || Target { call_id: Some("c".to_owned()), ..Target::default() };
            (0..size)
                .map(|n| {
                    wide(Make::tool(&id(n), &id(n)).place(1, 1, 0).call("c"), n).link(Rel::RetryOf, to())
                })
                .collect()
        }),
        ("links to a span of many reports", |size| {
            let to = || Target { span_id: Some(span(1)), ..Target::default() };
            (0..size)
                .map(|n| {
                    let event = Make::tool(&id(n), &id(n)).place(1, 1, 0);
                    if n % 2 == 0 { event } else { wide(event, n).link(Rel::Follows, to()) }
                })
                .collect()
        }),
        ("one call id under many names", |size| {
            (0..size)
                .map(|n| {
                    let kind = if n % 2 == 0 { ActionKind::Tool } else { ActionKind::Other };
                    let name = if n % 2 == 0 { "t".to_owned() } else { id(n) };
                    wide(Make::new(&id(n), kind, &name).place(1, 1, 0).call("c"), n)
                })
                .collect()
        }),
        ("one call of a session in many traces", |size| {
            (0..size)
                .map(|n| {
                    let event = Make::tool(&id(n), "t").call("c").session("s").at(n);
                    if n % 2 == 0 {
                        event
                    } else {
                        event.edit(|event| {
                            let mut trace = [0; 16];
                            trace[..8].copy_from_slice(&(n + 1).to_be_bytes());
                            event.trace_id = Some(TraceId(trace));
                        })
                    }
                })
                .collect()
        }),
        ("one answer to many questions, many times", |size| {
            (0..size)
                .map(|n| {
                    if n % 2 == 0 {
                        let event = wide(Make::tool(&id(n), "t").place(1, 1, 0), n);
                        event.ruled(Effect::RequireApproval, AuthorityKind::Policy).approval(&format!("a{n}"))
                    } else {
                        Make::new(&id(n), ActionKind::Message, "yes")
                            .place(2, 1, 0)
                            .at(5_000)
                            .ruled(Effect::Allow, AuthorityKind::Human)
                            .approval(&format!("a{}", n - 1))
                    }
                })
                .collect()
        }),
        ("many rulings on one action", |size| {
            (0..size)
                .map(|n| {
                    let effect = [Effect::RequireApproval, Effect::Cooldown, Effect::Block];
                    let effect = effect[usize::try_from(n % 3).unwrap()];
                    Make::tool(&id(n), "t").place(1, 1, 0).ruled(effect, AuthorityKind::Policy).at(n)
                })
                .collect()
        }),
    ]
}

#[test]
fn work_grows_with_the_events_and_not_with_their_square() {
    for (name, make) in hostile() {
        let looks = |size: u64| super::facts::work::of(|| fold(&records(make(size)), 0)).1;
        let (small, large) = (looks(500), looks(4_000));
        // Eight times the events: a square would be 64 times the work, and bisection adds a little.
        assert!(large <= small * 12, "{name}: {small} looks for 500 events, {large} for 4,000");
    }
}
