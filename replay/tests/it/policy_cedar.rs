//! The Cedar engine: findings, failures, validation, and agreement with Rego.

use std::collections::BTreeSet;

use cedar_policy::{Context, Entities, EntityUid, Request, Schema};
use proptest::prelude::*;
use serde_json::{Value, json};
use verdict_ledger::event::Effect;
use verdict_replay::policy::check::check;
use verdict_replay::policy::{Bundle, Decision, Dependence, Policy, PolicyError, cedar};

use crate::corpus;
use crate::policy::testdata;
use crate::policy_bundles::input;
use crate::policy_reads::MEMBERS;

pub(crate) const SETTINGS: &str = "name = \"t\"\nversion = \"1\"\nengine = \"cedar\"\n";

fn bundle(files: &[(&str, &str)]) -> Bundle {
    let mut all =
        std::collections::BTreeMap::from([("verdict.toml".to_owned(), SETTINGS.as_bytes().to_vec())]);
    all.extend(files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())));
    Bundle::from_files(all).unwrap()
}

fn compile(cedar: &str) -> Policy {
    match Policy::compile(bundle(&[("policy/t.cedar", cedar)])) {
        Ok(policy) => policy,
        Err(PolicyError::Invalid { problems, .. }) => panic!("{problems:#?}"),
        Err(error) => panic!("{error}"),
    }
}

fn problems(files: &[(&str, &str)]) -> Vec<String> {
    check(&bundle(files)).iter().map(ToString::to_string).collect()
}

fn ids(decision: &Decision) -> Vec<&str> {
    decision.rules.iter().map(|rule| rule.id.as_str()).collect()
}

#[test]
fn every_policy_that_holds_is_a_finding_and_they_join() {
    let policy = compile(
        "@id(\"open\")\npermit (principal, action, resource);\n\n\
         // why\n@id(\"wait\")\n@effect(\"require_approval\")\n@reason(\"{/action/name} of {/action/arguments/n}\")\n\
         @obligation(\"approver_role(role=finance); cooldown_until(until_ns={/event/ts_ns + 5})\")\n\
         forbid (principal, action == Action::\"tool\", resource == Tool::\"pay\");\n\n\
         @id(\"never\")\nforbid (principal is Unidentified, action, resource);\n",
    );
    let decision = policy.decide(&input("a", "pay", json!({"n": 7}), json!({"event": {"ts_ns": 10}})));
    assert_eq!(
        serde_json::to_value(&decision).unwrap(),
        json!({
            "effect": "require_approval",
            "rules": [{"id": "wait", "file": "policy/t.cedar", "line": 5}],
            "obligations": [
                {"kind": "approver_role", "params": {"role": "finance"}},
                {"kind": "cooldown_until", "params": {"until_ns": "15"}},
            ],
            "findings": [
                {"effect": "allow", "rule": {"id": "open", "file": "policy/t.cedar", "line": 1}},
                {"effect": "require_approval", "rule": {"id": "wait", "file": "policy/t.cedar", "line": 5},
                 "reason": "pay of 7",
                 "obligations": [
                    {"kind": "approver_role", "params": {"role": "finance"}},
                    {"kind": "cooldown_until", "params": {"until_ns": "15"}},
                 ]},
            ],
        })
    );
    assert_eq!(
        policy.rules().iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>(),
        ["never", "open", "wait"]
    );
    let mut nameless = input("a", "pay", json!({}), json!({}));
    nameless.as_object_mut().unwrap().remove("agent");
    assert_eq!(
        (policy.decide(&nameless).effect, ids(&policy.decide(&nameless))),
        (Effect::Block, vec!["never"])
    );
    assert!(policy.engine_id().0.starts_with("cedar-policy@"));
}

#[test]
fn the_default_rules_where_no_policy_holds() {
    let policy = compile("permit (principal, action, resource == Tool::\"x\");");
    assert_eq!(policy.decide(&input("a", "y", json!({}), json!({}))).effect, Effect::Block);
    let model = input("a", "y", json!({}), json!({"action": {"kind": "model"}}));
    assert_eq!(policy.decide(&model).effect, Effect::NoOp);
    let unheard = input("a", "y", json!({}), json!({"action": {"kind": "unheard-of"}}));
    assert_eq!(policy.decide(&unheard).effect, Effect::Block);
}

#[test]
fn a_forbid_that_fails_blocks_and_is_no_rule() {
    let policy = compile(
        "@id(\"open\")\npermit (principal, action, resource);\n\n@id(\"sum\")\nforbid (principal, action, resource) when {\n\
         \x20 context.state.trace.spent_nano.USD + 1 > 5 };\n",
    );
    let spent = |usd: i64| {
        policy.decide(&input("a", "x", json!({}), json!({"state": {"trace": {"spent_nano": {"USD": usd}}}})))
    };
    assert_eq!(spent(1).effect, Effect::Allow);
    assert_eq!(ids(&spent(9)), ["sum"]);
    let failed = spent(i64::MAX);
    assert_eq!((failed.effect, failed.rules.len(), failed.findings.len()), (Effect::Block, 0, 0));
    let error = failed.error.unwrap();
    assert_eq!(error.code, "engine_error");
    assert!(error.detail.starts_with("policy/t.cedar:4: rule `sum`: "), "{}", error.detail);
    assert!(error.detail.contains("overflow"), "{}", error.detail);
    // An input that lacks what every document has makes the policies that read it fail, and nothing passes.
    let mut short = input("a", "x", json!({}), json!({}));
    short.as_object_mut().unwrap().remove("state");
    assert_eq!(policy.decide(&short).error.unwrap().code, "engine_error");
}

#[test]
fn an_obligation_that_cannot_be_stated_is_an_error() {
    let policy = compile(
        "@id(\"r\")\n@obligation(\"n(u={/user/id})\")\n@reason(\"{/user/id}\")\npermit (principal, action, resource);",
    );
    let mut call = input("a", "x", json!({}), json!({}));
    assert_eq!(policy.decide(&call).findings[0].reason.as_deref(), Some("u-1"));
    call.as_object_mut().unwrap().remove("user");
    let error = policy.decide(&call).error.unwrap();
    assert_eq!(error.code, "bad_result");
    assert!(
        error.detail.contains("rule `r`: the obligation `n` cannot be stated: the input has no /user/id"),
        "{}",
        error.detail
    );
    // A reason is only text.
    let policy = compile("@id(\"r\")\n@reason(\"{/user/id}\")\npermit (principal, action, resource);");
    assert_eq!(policy.decide(&call).findings[0].reason.as_deref(), Some("(the input has no /user/id)"));
}

#[test]
fn inputs_that_are_none_and_too_large_ones_are_refused() {
    let policy = compile(
        "@id(\"r\") permit (principal, action, resource) when { context.event.seq > 0 && context.state.trace.blocked == 0 }
         unless { context has session && context.session == \"s\" };",
    );
    let code = |patch: Value| {
        policy.decide(&input("a", "x", json!({}), patch)).error.map(|error| (error.code, error.detail))
    };
    assert_eq!(code(json!({})), None);
    let wrong = code(json!({"session": 1})).unwrap();
    assert_eq!(wrong, ("missing_input".to_owned(), "/session must be a text and is an integer".to_owned()));
    assert_eq!(code(json!({"event": {"seq": 1.5}})).unwrap().0, "missing_input");
    assert_eq!(code(json!({"state": [1]})).unwrap().0, "missing_input");
    assert_eq!(code(json!({"schema": "verdict-input/9"})).unwrap().0, "missing_input");
    let large = code(json!({"session": "x".repeat(2 << 20)})).unwrap();
    assert_eq!(large, ("limit_exceeded".to_owned(), "the input is larger than 1048576 bytes".to_owned()));
}

#[test]
fn problems_have_a_place_and_a_hint() {
    let found = problems(&[(
        "policy/t.cedar",
        "permit (principal, action, resource);\n\n@id(\"a\")\n@efect(\"block\")\nforbid (principal, action, resource) when {\n  context.sesion == \"x\" };\n\
         @id(\"b\") @effect(\"allow\") @reason(\"{/action/nmae}\") @obligation(\"(\")\nforbid (principal, action, resource);\n\
         @id(\"a\")\npermit (principal, action, resource is Toll);\n@id(\"c\") permit (principal == ?principal, action, resource);\n\
         @id(\"d\") forbid (principal, action, resource) when { context.event.ts_ns > \"x\" };\n\
         @id(\"e\") forbid (principal, action, resource) when { context.session == \"x\" };\n",
    )]);
    let text = found.join("\n");
    for wanted in [
        "policy/t.cedar:1:1: warning: this policy has no `@id`; decisions will name it `policy/t.cedar#1`",
        "policy/t.cedar:3:1: warning: `@efect` is not read; did you mean `@effect`?",
        "policy/t.cedar:6:",
        "`sesion`",
        "policy/t.cedar:7:1: error: @effect: `allow` is not an effect of a forbid",
        "policy/t.cedar:7:1: error: @reason: `input.action.nmae` does not exist in verdict-input/1; did you mean `name`?",
        "policy/t.cedar:7:1: error: @obligation: expected a name at `(`",
        "policy/t.cedar:9: warning: rule `a` is also at policy/t.cedar:3",
        "`Toll`",
        "a template decides nothing",
        "policy/t.cedar:12:",
        "policy/t.cedar:13:",
    ] {
        assert!(text.contains(wanted), "{wanted}\nnot in\n{text}");
    }
    let broken = problems(&[
        ("policy/t.cedar", "permit (principal,\n  action resource);"),
        ("policy/u.cedar", "nonsense"),
    ]);
    assert!(broken[0].starts_with("policy/t.cedar:2:10: error: "), "{broken:?}");
    assert!(broken.iter().any(|problem| problem.starts_with("policy/u.cedar:1:")), "{broken:?}");
    let none = problems(&[("policy/t.rego", "package t")]);
    assert_eq!(none.len(), 2, "{none:?}");
    assert!(none.iter().any(|problem| problem.contains("the bundle has no policy")));
    assert!(
        none.iter()
            .any(|problem| problem.starts_with("policy/t.rego:1: warning: the bundle's engine is cedar"))
    );
}

#[test]
fn a_bundle_brings_groups_and_types_of_its_own() {
    let schema = "entity Registry = { tools: Set<String>, limit: Long };";
    let entities = r#"[
        {"uid": {"type": "Agent", "id": "a"}, "attrs": {}, "parents": [{"type": "Group", "id": "known"}]},
        {"uid": {"type": "Registry", "id": "main"}, "attrs": {"tools": ["x"], "limit": 3}, "parents": []}
    ]"#;
    let policy = "@id(\"p\")\npermit (principal in Group::\"known\", action, resource) when {\n\
                  Registry::\"main\".tools.contains(context.action.name) && context.state.trace.tool_calls <= Registry::\"main\".limit };";
    let files =
        [("schema/own.cedarschema", schema), ("entities/own.json", entities), ("policy/p.cedar", policy)];
    let compiled = Policy::compile(bundle(&files)).unwrap();
    assert_eq!(compiled.decide(&input("a", "x", json!({}), json!({}))).effect, Effect::Allow);
    assert_eq!(compiled.decide(&input("a", "y", json!({}), json!({}))).effect, Effect::Block);
    assert_eq!(compiled.decide(&input("b", "x", json!({}), json!({}))).effect, Effect::Block);

    let wrong = problems(&[files[0], ("entities/own.json", &entities.replace("3}", "\"3\"}")), files[2]]);
    assert!(wrong[0].starts_with("entities/own.json:1: error: "), "{wrong:?}");
    let wrong = problems(&[
        ("schema/own.cedarschema", "entity Registry = {\n tools: Sett<String> };"),
        files[1],
        files[2],
    ]);
    assert!(wrong.iter().any(|problem| problem.starts_with("schema/own.cedarschema:")), "{wrong:?}");
    let again = problems(&[("schema/own.cedarschema", "entity Agent;"), files[2]]);
    assert!(
        again.iter().any(|problem| problem.starts_with("schema/own.cedarschema:1: error: ")),
        "{again:?}"
    );
}

#[test]
fn the_generated_schema_validates_every_recorded_input() {
    let schema = Schema::from_json_value(cedar::schema::json()).unwrap();
    let (reread, _) = Schema::from_cedarschema_str(&cedar::schema::text().unwrap()).unwrap();
    for (folder, input) in corpus::inputs() {
        let (request, entities) = cedar::files(&input).unwrap();
        for schema in [&schema, &reread] {
            let uid = |name: &str| request[name].as_str().unwrap().parse::<EntityUid>().unwrap();
            let context =
                Context::from_json_value(request["context"].clone(), Some((schema, &uid("action"))));
            let context = context.unwrap_or_else(|error| panic!("{folder}: {error:?}\n{input:#}"));
            let made = Request::new(uid("principal"), uid("action"), uid("resource"), context, Some(schema));
            made.unwrap_or_else(|error| panic!("{folder}: {error}\n{input:#}"));
            Entities::from_json_value(entities.clone(), Some(schema))
                .unwrap_or_else(|error| panic!("{folder}: {error:?}\n{entities:#}"));
        }
    }
}

fn testdata_policy(name: &str) -> Policy {
    Policy::compile(Bundle::load(&testdata(name)).unwrap()).unwrap()
}

#[test]
fn both_engines_decide_every_recorded_action_alike() {
    let (rego, cedar) = (testdata_policy("v1"), testdata_policy("cedar"));
    let mut seen = BTreeSet::new();
    for (folder, input) in corpus::inputs() {
        let (ours, theirs) = (cedar.decide(&input), rego.decide(&input));
        assert_eq!((&ours.error, &theirs.error), (&None, &None), "{folder}: {input:#}");
        let said = |decision: &Decision| -> BTreeSet<(String, Effect)> {
            decision.findings.iter().map(|finding| (finding.rule.id.clone(), finding.effect)).collect()
        };
        assert_eq!(said(&ours), said(&theirs), "{folder}: {input:#}");
        assert_eq!((ours.effect, ids(&ours)), (theirs.effect, ids(&theirs)), "{folder}: {input:#}");
        assert_eq!(ours.obligations, theirs.obligations, "{folder}: {input:#}");
        seen.extend(said(&ours).into_iter().map(|(rule, _)| rule));
    }
    // The agreement is about something: most rules speak.
    assert!(seen.len() >= 12, "{seen:?}");
}

#[test]
fn both_versions_have_the_same_rules() {
    let names =
        |policy: &Policy| -> BTreeSet<String> { policy.rules().iter().map(|rule| rule.id.clone()).collect() };
    assert_eq!(names(&testdata_policy("cedar")), names(&testdata_policy("v1")));
}

/// JSON of any sort, deep and wide enough to be a nuisance.
fn nonsense() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..8)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

fn engines() -> &'static [Policy; 2] {
    static BOTH: std::sync::OnceLock<[Policy; 2]> = std::sync::OnceLock::new();
    BOTH.get_or_init(|| [testdata_policy("cedar"), compile("@id(\"o\") permit (principal, action, resource) unless { context.action has arguments && context.action.arguments.json like \"*\\\"x\\\"*\" };")])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arguments_that_are_nonsense_are_decided(arguments in nonsense(), tool in 0..3usize) {
        let tool = ["issue_refund", "run_sql", "delete_records"][tool];
        for policy in engines() {
            let call = input("support-agent", tool, arguments.clone(), json!({}));
            let decision = policy.decide(&call);
            prop_assert_eq!(decision.error, None);
        }
    }

    #[test]
    fn documents_that_are_nonsense_block_and_do_not_panic(mut document in nonsense()) {
        if let Some(members) = document.as_object_mut() {
            members.insert("schema".to_owned(), json!("verdict-input/1"));
        }
        for policy in engines() {
            prop_assert!(policy.decide(&document).effect >= Effect::Allow);
        }
    }

    #[test]
    fn where_nothing_depends_nothing_changes(
        agent in 0..4usize, tool in 0..5usize, member in 0..MEMBERS.len(), values in prop::collection::vec(nonsense(), 1..5),
    ) {
        let policy = testdata_cedar();
        let agent = ["support-agent", "finance-agent", "ops-agent", "nobody"][agent];
        let tool = ["issue_refund", "send_email", "run_sql", "deploy_service", "get_order"][tool];
        let mut without = input(agent, tool, json!({"amount_cents": 60_000, "query": "SELECT 1"}), json!({}));
        let (parent, name) = MEMBERS[member].rsplit_once('/').unwrap();
        without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        let decided = policy.decide(&without);
        if policy.depends(&without, &[MEMBERS[member].to_owned()]) == Dependence::No {
            for value in values {
                let mut with = without.clone();
                with.pointer_mut(parent).unwrap()[name] = value;
                let now = policy.decide(&with);
                // A document that is none of the schema is another matter.
                if now.error.as_ref().is_none_or(|error| error.code != "missing_input") {
                    prop_assert_eq!(&now, &decided, "{} {}", tool, MEMBERS[member]);
                }
            }
        }
    }
}

fn testdata_cedar() -> &'static Policy {
    &engines()[0]
}

#[test]
fn the_proof_of_independence_is_of_use() {
    let policy = testdata_cedar();
    let on = |tool: &str, pointer: &str| {
        let mut call = input("support-agent", tool, json!({}), json!({}));
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        call.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        policy.depends(&call, &[pointer.to_owned()])
    };
    assert_eq!(on("get_order", "/action/arguments"), Dependence::No);
    assert_eq!(on("issue_refund", "/action/arguments"), Dependence::Maybe);
    assert_eq!(on("issue_refund", "/session"), Dependence::No);
    assert_eq!(on("get_order", "/agent/name"), Dependence::Maybe);
    let reads = policy.reads().unwrap();
    assert!(
        reads.contains(&vec!["action".to_owned(), "arguments".to_owned()])
            && !reads.iter().any(|path| path[0] == "user")
    );
}

#[test]
fn equal_inputs_give_equal_bytes_on_any_thread() {
    let policy = testdata_cedar();
    let call = input("nobody", "issue_refund", json!({"amount_cents": 60_000, "currency": "EUR"}), json!({}));
    let expected = serde_json::to_string(&policy.decide(&call)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(serde_json::to_string(&policy.decide(&call)).unwrap(), expected);
                }
            });
        }
    });
}
