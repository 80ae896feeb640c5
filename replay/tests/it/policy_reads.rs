//! What a decision depends on: a "no" is a proof, so it is tried with everything that could stand there.

use proptest::prelude::*;
use serde_json::{Value, json};
use verdict_replay::policy::{Bundle, Dependence, Policy};

use crate::policy::{bundle, testdata};
use crate::policy_bundles::input;

fn compile(rego: &str) -> Policy {
    Policy::compile(bundle(&[("policy/t.rego", rego)]).unwrap()).unwrap()
}

fn reads(rego: &str) -> Option<Vec<String>> {
    compile(&format!("package t\nimport input.agent.name as who\nfindings contains f if {{\n{rego}\nf := {{\"effect\": \"block\", \"rule\": \"r\"}}\n}}\n"))
        .reads()
        .map(|paths| paths.iter().map(|path| path.join("/")).collect())
}

#[test]
fn reads_are_found_in_the_syntax_tree() {
    let always = ["action/kind", "schema"];
    let with = |extra: &[&str]| {
        let mut all: Vec<String> = always.iter().chain(extra).map(|path| (*path).to_owned()).collect();
        all.sort();
        Some(all)
    };
    assert_eq!(reads("true"), with(&[]));
    assert_eq!(reads("input.action.arguments[\"amount\"] > 1 # input.x"), with(&["action/arguments/amount"]));
    assert_eq!(
        reads("some s in input.provenance.sources; s.trust == \"input.y\""),
        with(&["provenance/sources"])
    );
    assert_eq!(reads("input.provenance.sources[_].trust == \"x\""), with(&["provenance/sources"]));
    assert_eq!(reads("who == \"x\""), with(&["agent/name"]));
    assert_eq!(reads("object.get(input, [\"user\", \"id\"], \"\") == \"x\""), with(&["user/id"]));
    assert_eq!(reads("object.get(input.event, \"ts_ns\", 0) > 1"), with(&["event/ts_ns"]));
    assert_eq!(reads("some k in [\"user\"]; object.get(input, k, \"\") == \"x\""), None);
    assert_eq!(reads("count(input) > 0"), None);
    assert_eq!(reads("some k; input[k] == 1"), None);
    assert_eq!(reads("walk(input, [p, v]); v == 1"), None);
}

#[test]
fn a_read_that_was_not_reached_is_no_dependence() {
    let policy = compile(
        "package t\n\nfindings contains {\"effect\": \"allow\", \"rule\": \"a\"} if {\n\tinput.action.name == \"x\"\n}\n\n\
         findings contains {\"effect\": \"block\", \"rule\": \"b\"} if {\n\tinput.action.name == \"pay\"\n\tinput.action.arguments.n > 1\n}\n\n\
         findings contains {\"effect\": \"block\", \"rule\": \"c\"} if {\n\tinput.action.name == \"one-line\"; input.user.id == \"u\"\n}\n",
    );
    let on = |tool: &str, pointer: &str| {
        policy.depends(&input("a", tool, json!({}), json!({})), &[pointer.to_owned()])
    };
    assert_eq!(on("x", "/action/arguments"), Dependence::No);
    assert_eq!(on("pay", "/action/arguments"), Dependence::Maybe);
    assert_eq!(on("pay", "/action/arguments/n"), Dependence::Maybe);
    assert_eq!(on("pay", "/action/arguments/other"), Dependence::No);
    assert_eq!(on("pay", "/action"), Dependence::Maybe);
    assert_eq!(on("x", "/session"), Dependence::No);
    // Coverage knows lines: what shares one with an expression that was evaluated is not told apart from it.
    assert_eq!(on("x", "/user/id"), Dependence::Maybe);
    // The host itself reads these two.
    assert_eq!(on("x", "/schema"), Dependence::Maybe);
    assert_eq!(on("x", "/action/kind"), Dependence::Maybe);
}

#[test]
fn an_evaluation_that_fails_before_it_reads_does_not_depend() {
    let policy = compile(
        "package t\nfindings contains {\"effect\": \"block\", \"rule\": \"b\"} if {\n\tcount(input.action.name) > object.get({}, \"x\", \"\")[0]\n\tcount(1) > 0\n\tinput.user.id == \"u\"\n}\n",
    );
    let call = input("a", "x", json!({}), json!({}));
    assert_eq!(policy.depends(&call, &["/user/id".to_owned()]), Dependence::No);
}

/// What could stand at a member that is missing.
fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!([])),
        Just(json!({"amount_cents": 60_000, "currency": "EUR", "environment": "staging", "where": "id = 1"})),
        Just(
            json!({"amount_cents": "x", "query": "DROP TABLE payroll", "url": "http://localhost/?q", "to": "a@b"})
        ),
        Just(json!("localhost")),
        Just(json!(3)),
        Just(json!("restricted")),
        Just(json!([{"kind": "x", "trust": "unverified", "name": "fetch_url"}])),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,8}".prop_map(Value::from),
    ]
}

fn set(target: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    if let Some(members) = target.pointer_mut(parent).and_then(Value::as_object_mut) {
        members.insert(name.to_owned(), value);
    }
}

fn unset(target: &mut Value, pointer: &str) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    if let Some(members) = target.pointer_mut(parent).and_then(Value::as_object_mut) {
        members.remove(name);
    }
}

pub(crate) const MEMBERS: [&str; 10] = [
    "/action/arguments",
    "/action/resource",
    "/agent",
    "/agent/name",
    "/user/id",
    "/session",
    "/classification",
    "/features/url_host",
    "/features/email_domain",
    "/provenance/sources",
];

const TOOLS: [&str; 9] = [
    "issue_refund",
    "send_email",
    "fetch_url",
    "run_sql",
    "deploy_service",
    "delete_records",
    "read_customer",
    "search_docs",
    "unheard_of",
];

fn policies() -> &'static [Policy] {
    static ALL: std::sync::OnceLock<Vec<Policy>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| {
        ["v1", "v2"].map(|name| Policy::compile(Bundle::load(&testdata(name)).unwrap()).unwrap()).into()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn where_nothing_depends_nothing_changes(
        policy in 0..policies().len(), agent in 0..4usize, tool in 0..TOOLS.len(), member in 0..MEMBERS.len(),
        values in prop::collection::vec(anything(), 1..6),
    ) {
        let policy = &policies()[policy];
        let agent = ["support-agent", "research-agent", "ops-agent", "nobody"][agent];
        let mut without = input(agent, TOOLS[tool], json!({"amount_cents": 100, "currency": "EUR"}), json!({}));
        unset(&mut without, MEMBERS[member]);
        let pointers = [MEMBERS[member].to_owned()];
        if policy.depends(&without, &pointers) == Dependence::No {
            let decided = policy.decide(&without);
            for value in values {
                let mut with = without.clone();
                set(&mut with, MEMBERS[member], value);
                prop_assert_eq!(&policy.decide(&with), &decided, "{} {}", TOOLS[tool], MEMBERS[member]);
            }
        }
    }
}

#[test]
fn the_proof_holds_where_it_is_needed() {
    // Not only sound but of use: a search does not depend on an erased argument, a refund does.
    for policy in policies() {
        let on = |tool: &str, pointer: &str| {
            let agent = if tool == "run_sql" { "finance-agent" } else { "support-agent" };
            let mut call = input(agent, tool, json!({}), json!({}));
            unset(&mut call, pointer);
            policy.depends(&call, &[pointer.to_owned()])
        };
        assert_eq!(on("search_docs", "/action/arguments"), Dependence::No);
        assert_eq!(on("issue_refund", "/action/arguments"), Dependence::Maybe);
        assert_eq!(on("issue_refund", "/user/id"), Dependence::No);
        assert_eq!(on("search_docs", "/agent/name"), Dependence::Maybe);
    }
}
