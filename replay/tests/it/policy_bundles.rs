//! The bundles of `testdata/policies`: clean, tested, and different in the ways that their READMEs say.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use verdict_ledger::event::Effect;
use verdict_replay::policy::check::check;
use verdict_replay::policy::test::{Outcome, run};
use verdict_replay::policy::{Bundle, Decision, Policy, PolicyError};

use crate::policy::testdata;

fn load(name: &str) -> Bundle {
    Bundle::load(&testdata(name)).unwrap()
}

fn policy(name: &str) -> Policy {
    Policy::compile(load(name)).unwrap()
}

/// A complete input as the builder makes it; `patch` is merged over it.
#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
pub(crate) fn input(agent: &str, tool: &str, arguments: Value, patch: Value) -> Value {
    let counters = json!({"tool_calls": 3, "spent_nano": {"USD": 120_000}});
    let mut input = json!({
        "schema": "verdict-input/1",
        "event": {"seq": 12, "ts_ns": 1_763_670_000_000_000_000_i64, "trace": "59901f02b1", "span": "a1", "parent": "b2"},
        "agent": {"name": agent, "version": "3", "inherited": false},
        "user": {"id": "u-1"}, "session": "s-1", "service": "harbor-support", "environment": "production",
        "action": {"kind": "tool", "name": tool, "call_id": "call_1", "arguments": arguments, "arguments_digest": "sha256:00"},
        "provenance": {"sources": [{"kind": "user_prompt", "trust": "internal", "name": "chat"}], "lowest_trust": "internal"},
        "approvals": [], "controls": [],
        "state": {
            "trace": {"tool_calls": 3, "model_calls": 2, "blocked": 0, "spent_nano": {"USD": 120_000},
                      "consecutive_tool_calls": 1, "consecutive_same_tool": 0},
            "session": counters, "tenant": counters,
            "agent": {"tool_calls": 40, "spent_nano": {"USD": 900_000}, "blocked": 0, "cooldown_until_ns": 0},
            "windows": {"agent_1h": counters, "agent_24h": counters},
        },
        "features": {"lowest_trust_rank": 1},
    });
    merge(&mut input, patch);
    input
}

fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

fn rules(decision: &Decision) -> Vec<&str> {
    decision.rules.iter().map(|rule| rule.id.as_str()).collect()
}

#[test]
fn both_versions_are_clean_and_pass_their_tests() {
    for name in ["v1", "v2"] {
        let bundle = load(name);
        let problems: Vec<String> = check(&bundle).iter().map(ToString::to_string).collect();
        assert!(problems.is_empty(), "{name}: {problems:#?}");
        let report = run(&bundle).unwrap();
        let failed: Vec<_> = report.tests.iter().filter(|test| test.outcome != Outcome::Pass).collect();
        assert!(failed.is_empty(), "{name}: {failed:#?}");
        assert!(report.tests.len() >= 30, "{name}: {} tests", report.tests.len());
        let missed: Vec<_> = report.coverage.iter().filter(|file| !file.not_covered.is_empty()).collect();
        assert!(missed.is_empty(), "{name}: lines that no test evaluates: {missed:#?}");
        assert_eq!(report.coverage.len(), bundle.policies().count());
    }
}

#[test]
fn every_rule_stands_where_it_is_said_to_stand() {
    for (name, count) in [("v1", 20), ("v2", 23)] {
        let policy = policy(name);
        assert_eq!(policy.rules().len(), count, "{name}: {:#?}", policy.rules());
        for rule in policy.rules() {
            let file = rule.file.as_deref().unwrap();
            let text = std::str::from_utf8(&policy.bundle().files()[file]).unwrap();
            let head = rule.line.unwrap() as usize - 1;
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines[head].starts_with("findings contains {"), "{file}:{}: {}", head + 1, lines[head]);
            assert_eq!(lines[head + 2].trim(), format!("\"rule\": \"{}\",", rule.id), "{file}:{}", head + 1);
        }
    }
}

#[test]
fn the_readmes_name_every_rule_and_no_other() {
    for name in ["v1", "v2"] {
        let bundle = load(name);
        let readme = String::from_utf8(bundle.files()["README.md"].clone()).unwrap();
        let named: BTreeSet<&str> =
            readme.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let policy = Policy::compile(bundle).unwrap();
        let there: BTreeSet<&str> = policy.rules().iter().map(|rule| rule.id.as_str()).collect();
        assert_eq!(named, there, "{name}");
    }
}

#[test]
fn version_2_differs_as_its_readme_says() {
    let (one, two) = (policy("v1"), policy("v2"));
    let both = |input: &Value| (one.decide(input), two.decide(input));
    let refund = |cents: i64, patch| {
        input(
            "support-agent",
            "issue_refund",
            json!({"order_id": "H-20433", "amount_cents": cents, "currency": "EUR"}),
            patch,
        )
    };

    let (a, b) = both(&refund(15_000, json!({})));
    assert_eq!((a.effect, b.effect), (Effect::RequireApproval, Effect::Allow), "loosened");
    assert_eq!((rules(&a), rules(&b)), (vec!["refund.approval"], vec!["tools.allow"]));
    let (a, b) = both(&refund(80_000, json!({})));
    assert_eq!((rules(&a), rules(&b)), (vec!["refund.limit"], vec!["refund.limit"]), "unchanged");

    let poll = |calls: i64| {
        let state = json!({"state": {"trace": {"consecutive_same_tool": calls}}});
        input("ops-agent", "get_service_status", json!({"service": "checkout"}), state)
    };
    let flips: Vec<i64> = (0..14)
        .filter(|calls| {
            let (a, b) = both(&poll(*calls));
            a.effect != b.effect && b.effect == Effect::Cooldown
        })
        .collect();
    assert_eq!(flips, [8, 9], "tightened");
    let until = one.decide(&poll(12)).obligations;
    assert_eq!(until[0].params["until_ns"], "1763670300000000000");

    let stranger = json!({
        "provenance": {"sources": [{"kind": "tool_result", "trust": "unverified", "name": "fetch_url"}], "lowest_trust": "unverified"},
        "features": {"email_domain": "collector.example"},
    });
    let (a, b) =
        both(&input("research-agent", "send_email", json!({"to": "archive@collector.example"}), stranger));
    assert_eq!((a.effect, b.effect), (Effect::Allow, Effect::Block), "tightened by a new rule");
    assert_eq!(rules(&b), ["exfiltration.unverified"]);

    let cards = json!({"query": "SELECT holder, number FROM payment_cards", "database": "shop"});
    let (a, b) = both(&input("finance-agent", "run_sql", cards, json!({"classification": "restricted"})));
    assert_eq!((a.effect, b.effect), (Effect::Block, Effect::Block));
    assert_eq!(
        (rules(&a), rules(&b)),
        (vec!["sql.restricted"], vec!["sql.restricted_table"]),
        "another rule"
    );

    let deploy = json!({"service": "checkout", "version": "4.2.1", "environment": "production"});
    let (a, b) = both(&input("ops-agent", "deploy_service", deploy, json!({})));
    assert_eq!(
        (a.effect, b.effect, rules(&a) == rules(&b)),
        (Effect::RequireApproval, Effect::RequireApproval, true)
    );
    assert_ne!(a.obligations, b.obligations, "other obligations");
}

#[test]
fn what_is_missing_never_permits() {
    for name in ["v1", "v2"] {
        let policy = policy(name);
        let cases = [
            ("issue_refund", "/agent"),
            ("issue_refund", "/action/arguments"),
            ("issue_refund", "/action/arguments/amount_cents"),
            ("issue_refund", "/action/arguments/currency"),
            ("send_email", "/features/email_domain"),
            ("send_email", "/features"),
        ];
        for (tool, pointer) in cases {
            let arguments =
                json!({"order_id": "H-1", "amount_cents": 100, "currency": "EUR", "to": "a@mail.example"});
            let mut input = input(
                "support-agent",
                tool,
                arguments,
                json!({"features": {"email_domain": "mail.example"}}),
            );
            assert_eq!(policy.decide(&input).effect, Effect::Allow, "{name} {tool}");
            let (parent, member) = pointer.rsplit_once('/').unwrap();
            input.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(member).unwrap();
            let decision = policy.decide(&input);
            assert_eq!(decision.effect, Effect::Block, "{name} {tool} without {pointer}: {decision:?}");
            assert_eq!(decision.error, None);
        }
    }
}

#[test]
fn bad_bundles_are_refused_with_file_and_line() {
    let cases = [
        ("bad/does-not-parse", vec!["policy/rules.rego:8:1: error: "]),
        (
            "bad/nondeterministic",
            vec![
                "policy/rules.rego:5:11: error: `time.now_ns` makes a decision depend on more than its input; use `input.event.ts_ns`",
                "policy/rules.rego:10:2: error: `rand.intn` makes",
            ],
        ),
        (
            "bad/unknown-effect",
            vec![
                "policy/rules.rego:3:31: error: `deny` is not an effect; the effects are no_op, allow, dry_run",
                "policy/rules.rego:7:1: error: this finding has no `rule`",
                "policy/rules.rego:8:14: error: `input.agent.nmae` does not exist in verdict-input/1; did you mean `name`?",
            ],
        ),
    ];
    for (name, expected) in cases {
        let bundle = load(name);
        let problems: Vec<String> = check(&bundle).iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), expected.len(), "{name}: {problems:#?}");
        for (problem, start) in problems.iter().zip(&expected) {
            assert!(problem.starts_with(start), "{name}: {problem}\nshould start with\n{start}");
        }
        let error = Policy::compile(bundle).unwrap_err();
        assert!(matches!(&error, PolicyError::Invalid { problems, .. } if problems.len() == expected.len()));
        assert!(error.to_string().contains(expected[0]), "{error}");
    }
}
