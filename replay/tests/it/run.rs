//! Replay: points, answers, digest, threads and the reproduction check.

use std::num::NonZeroUsize;

use serde_json::{Value, json};
use verdict_ledger::Record;
use verdict_ledger::event::Effect;
use verdict_replay::policy::Policy;
use verdict_replay::run::{Answer, Options, Origin, ReplayError, Run, Scope, replay_records, reproduce};

use crate::policy::bundle;
use crate::sample::{records, tool, trace, with};

const POLICY: &str = r#"package t

findings contains {"effect": "block", "rule": "refund.limit"} if {
    input.action.name == "issue_refund"
    input.action.arguments.amount_cents > 10000
}

findings contains {"effect": "block", "rule": "loop"} if input.state.trace.consecutive_same_tool >= 3

findings contains {"effect": "allow", "rule": "rest"} if input.action.kind == "tool"
"#;

fn policy(source: &str) -> Policy {
    Policy::compile(bundle(&[("policy/t.rego", source)]).unwrap()).unwrap()
}

fn origin() -> Origin {
    Origin { origin: "test".to_owned(), root: "00".to_owned() }
}

fn run_with(records: &[Record], policy: &Policy, threads: usize) -> Run {
    let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
    replay_records(&origin(), records, &Scope::default(), policy, options).unwrap()
}

fn traffic() -> Vec<Value> {
    let mut events = vec![
        json!({"action": {"kind": "model", "name": "m"}}),
        tool("issue_refund", json!({"amount_cents": 500})),
        tool("issue_refund", json!({"amount_cents": 80_000})),
        json!({"action": {"kind": "plan", "name": "no point"}}),
    ];
    events.extend((0..6).map(|_| tool("poll", json!({}))));
    events
}

fn effects(run: &Run) -> Vec<Option<Effect>> {
    run.points.iter().map(|point| point.answer.effect()).collect()
}

#[test]
fn points_are_decided_in_the_state_that_was() {
    use Effect::{Allow, Block, NoOp};

    let run = run_with(&records(&traffic()), &policy(POLICY), 1);
    assert_eq!(effects(&run), [NoOp, Allow, Block, Allow, Allow, Allow, Block, Block, Block].map(Some));
    assert!(run.points.iter().map(|p| p.point.key).is_sorted());
    assert_eq!(run.digest, run.expected_digest());
    assert_eq!(
        run.rules.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>(),
        ["loop", "refund.limit", "rest"]
    );
    let read: Run = serde_json::from_str(&serde_json::to_string(&run).unwrap()).unwrap();
    assert_eq!(read, run);
    assert_eq!(read.expected_digest(), run.digest);
}

#[test]
fn threads_change_nothing() {
    let events: Vec<Value> =
        (0..300).map(|n| tool("issue_refund", json!({"amount_cents": n * 100, "n": n}))).collect();
    let (records, policy) = (records(&events), policy(POLICY));
    let runs: Vec<Run> = [1, 2, 8].into_iter().map(|threads| run_with(&records, &policy, threads)).collect();
    assert!(runs.iter().all(|run| run == &runs[0]));
    assert_eq!(runs[0].points.len(), 300);
}

#[test]
fn withheld_members_make_unknown_only_where_the_policy_may_read_them() {
    let mut all = records(&traffic());
    for record in &mut all {
        record.event.as_mut().unwrap().action.arguments = None;
        record.withheld =
            vec!["/action/arguments".to_owned(), "/user".to_owned(), "/outcome/result".to_owned()];
    }
    let run = run_with(&all, &policy(POLICY), 2);
    let Answer::Unknown { reason, missing, .. } = &run.points[1].answer else {
        panic!("{:?}", run.points[1])
    };
    assert_eq!(
        (reason.as_str(), missing.as_slice()),
        ("missing_input", &["/action/arguments".to_owned()][..])
    );
    let blind = policy(
        "package t\nfindings contains {\"effect\": \"allow\", \"rule\": \"a\"} if input.action.name == \"poll\"\n",
    );
    assert!(run_with(&all, &blind, 1).points.iter().all(|p| matches!(p.answer, Answer::Decided { .. })));
    let nosy =
        policy("package t\nfindings contains {\"effect\": \"allow\", \"rule\": \"a\"} if count(input) > 0\n");
    assert!(run_with(&all, &nosy, 1).points.iter().all(|p| matches!(p.answer, Answer::Unknown { .. })));
}

#[test]
fn an_engine_failure_is_unknown_and_no_block() {
    let bad = policy(
        "package t\nfindings contains {\"effect\": input.action.arguments.word, \"rule\": \"a\"} if input.action.name == \"poll\"\n",
    );
    let run = run_with(&records(&[tool("poll", json!({"word": "sideways"}))]), &bad, 1);
    let Answer::Unknown { reason, .. } = &run.points[0].answer else { panic!("{:?}", run.points[0]) };
    assert_eq!(reason, "runtime_error:bad_result");
}

#[test]
fn scope_selects_points_but_not_history() {
    let records = records(&traffic());
    let policy = policy(POLICY);
    let scope = Scope { first_seq: Some(9), end_seq: Some(11), trace: Some(trace(1)), ..Scope::default() };
    let run = replay_records(&origin(), &records, &scope, &policy, Options::default()).unwrap();
    assert_eq!(run.points.iter().map(|p| p.point.key).collect::<Vec<_>>(), [9, 10]);
    assert_eq!(effects(&run), [Some(Effect::Block), Some(Effect::Block)]);
    let elsewhere = Scope { trace: Some(trace(2)), ..Scope::default() };
    let error = replay_records(&origin(), &records, &elsewhere, &policy, Options::default()).unwrap_err();
    assert!(matches!(error, ReplayError::NoTrace { .. }), "{error}");
}

#[test]
fn the_bundle_that_decided_reproduces_its_decisions() {
    let policy = policy(POLICY);
    let first = run_with(&records(&traffic()), &policy, 1);
    // What the replay said becomes what was recorded.
    let mut events = traffic();
    for replayed in &first.points {
        let Answer::Decided { decision } = &replayed.answer else { panic!("decided") };
        let event = &mut events[usize::try_from(replayed.point.key).unwrap() - 1];
        event["decision"] = json!({
            "effect": decision.effect, "by": {"kind": "policy"}, "policy": {"bundle": policy.bundle().digest()},
        });
    }
    let again = run_with(&records(&events), &policy, 2);
    let check = reproduce(&again);
    assert_eq!((check.checked, check.reproduced, check.version_unknown), (9, 9, 0));
    assert!(check.holds());
    events[1]["decision"]["effect"] = json!("block");
    events[2]["decision"]["policy"] = json!({});
    let check = reproduce(&run_with(&records(&events), &policy, 2));
    assert_eq!((check.checked, check.reproduced, check.version_unknown), (8, 7, 1));
    assert_eq!((check.mismatches[0].seq, check.mismatches[0].replayed), (2, Some(Effect::Allow)));
}

#[test]
fn an_answer_of_a_person_is_not_what_a_policy_is_compared_with() {
    let asked = with(
        tool("issue_refund", json!({"amount_cents": 1})),
        "decision",
        json!({"effect": "require_approval", "by": {"kind": "policy"}, "approval_id": "ap"}),
    );
    let answer = json!({"action": {"kind": "message", "name": "approval"}, "decision": {"effect": "allow", "by": {"kind": "human"}, "approval_id": "ap"}});
    let run = run_with(&records(&[asked, answer]), &policy(POLICY), 1);
    assert_eq!(run.points.len(), 1);
    assert_eq!(run.points[0].point.recorded.as_ref().unwrap().effect, Effect::RequireApproval);
}
