//! The decision function: adapters, failures that are contained, limits, purity.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use verdict_ledger::event::Effect;
use verdict_replay::policy::check::{Severity, check};
use verdict_replay::policy::test::{Outcome, run};
use verdict_replay::policy::{Bundle, Decision, EvalError, Policy, PolicyError};

use crate::policy::{SETTINGS, bundle, testdata};
use crate::policy_bundles::input;

fn compile(rego: &str) -> Policy {
    Policy::compile(bundle(&[("policy/t.rego", rego)]).unwrap()).unwrap()
}

fn with_settings(extra: &str, rego: &str) -> Result<Policy, PolicyError> {
    let settings = format!("{SETTINGS}{extra}\n");
    Policy::compile(bundle(&[("verdict.toml", &settings), ("policy/t.rego", rego)]).unwrap())
}

fn problems(files: &[(&str, &str)]) -> Vec<String> {
    check(&bundle(files).unwrap()).iter().map(ToString::to_string).collect()
}

fn call() -> Value {
    input("a", "x", json!({"n": 1}), json!({}))
}

fn error(decision: &Decision) -> (&str, &str) {
    assert_eq!(decision.effect, Effect::Block, "a failure blocks");
    assert!(decision.rules.is_empty() && decision.findings.is_empty(), "and no rule is blamed");
    let error = decision.error.as_ref().expect("an error");
    (&error.code, &error.detail)
}

fn fails(rego: &str) -> EvalError {
    let decision = compile(&format!("package t\n{rego}")).decide(&call());
    error(&decision);
    decision.error.unwrap()
}

#[test]
fn findings_join_and_keep_their_places() {
    let policy = compile(
        r#"package t

findings contains {"effect": "allow", "rule": "a", "obligations": [{"kind": "notify", "params": {"n": 7, "b": true}}]}

findings contains {
	"effect": "block", "rule": "b", "reason": "no",
} if input.action.name == "x"

findings contains {"effect": "no_op", "rule": "c"}
"#,
    );
    let decision = policy.decide(&call());
    assert_eq!(
        serde_json::to_value(&decision).unwrap(),
        json!({
            "effect": "block",
            "rules": [{"id": "b", "file": "policy/t.rego", "line": 5}],
            "obligations": [{"kind": "notify", "params": {"b": "true", "n": "7"}}],
            "findings": [
                {"effect": "no_op", "rule": {"id": "c", "file": "policy/t.rego", "line": 9}},
                {"effect": "allow", "rule": {"id": "a", "file": "policy/t.rego", "line": 3},
                 "obligations": [{"kind": "notify", "params": {"b": "true", "n": "7"}}]},
                {"effect": "block", "rule": {"id": "b", "file": "policy/t.rego", "line": 5}, "reason": "no"},
            ],
        })
    );
    assert!(policy.engine_id().0.starts_with("regorus@"));
}

#[test]
fn findings_of_other_packages_keep_their_own_places() {
    let policy = Policy::compile(
        bundle(&[
            ("policy/t.rego", "package t\nfindings contains f if some f in data.lib.refunds.found\n"),
            ("policy/lib.rego", "package lib.refunds\n\nfound contains f if {\n\tf := {\"effect\": \"block\", \"rule\": \"lib.r\"}\n}\n"),
        ])
        .unwrap(),
    )
    .unwrap();
    let decision = policy.decide(&call());
    assert_eq!(
        (decision.rules[0].file.as_deref(), decision.rules[0].line),
        (Some("policy/lib.rego"), Some(3))
    );
}

#[test]
fn the_default_is_for_actions_with_effects() {
    let rego = "package t\nfindings contains {\"effect\": \"block\", \"rule\": \"r\"} if false\n";
    let kind = |kind: &str| {
        let input = input("a", "x", json!({}), json!({"action": {"kind": kind}}));
        (
            compile(rego).decide(&input).effect,
            with_settings("default_effect = \"require_approval\"", rego).unwrap().decide(&input).effect,
        )
    };
    for with_effects in ["tool", "data", "message", "unheard-of"] {
        assert_eq!(kind(with_effects), (Effect::Block, Effect::RequireApproval), "{with_effects}");
    }
    for passive in ["model", "agent", "plan", "guard", "other"] {
        assert_eq!(kind(passive), (Effect::NoOp, Effect::NoOp), "{passive}");
    }
}

#[test]
fn allow_and_deny_policies_are_adapted() {
    let allow = |body: &str| {
        let settings = SETTINGS.replace("data.t.findings", "data.t.allow") + "adapter = \"allow\"\n";
        let rego = format!("package t\n\n{body}\n");
        Policy::compile(bundle(&[("verdict.toml", &settings), ("p.rego", &rego)]).unwrap())
            .unwrap()
            .decide(&call())
    };
    let decision = allow("allow if input.agent.name == \"a\"");
    assert_eq!(decision.effect, Effect::Allow);
    assert_eq!((decision.rules[0].id.as_str(), decision.rules[0].line), ("data.t.allow", Some(3)));
    assert_eq!(allow("default allow := false").effect, Effect::Block);
    let undefined = allow("allow if input.agent.name == \"b\"");
    assert_eq!((undefined.effect, undefined.error.is_none()), (Effect::Block, true));
    assert_eq!(undefined.findings[0].reason.as_deref(), Some("`data.t.allow` is undefined"));
    assert_eq!(
        error(&allow("allow := \"yes\"")),
        ("bad_result", "`data.t.allow` must be true or false, found \"yes\"")
    );

    let deny = |body: &str| {
        let settings = SETTINGS.replace("data.t.findings", "data.t.deny") + "adapter = \"deny\"\n";
        let rego = format!("package t\n\n{body}\n");
        Policy::compile(bundle(&[("verdict.toml", &settings), ("p.rego", &rego)]).unwrap())
            .unwrap()
            .decide(&call())
    };
    let decision = deny(
        "deny contains \"not x\" if input.action.name == \"x\"\ndeny contains {\"msg\": \"m\", \"rule\": \"deny.m\"}",
    );
    assert_eq!(decision.effect, Effect::Block);
    let reasons: Vec<_> =
        decision.findings.iter().map(|f| (f.rule.id.as_str(), f.reason.as_deref().unwrap())).collect();
    assert_eq!(reasons, [("data.t.deny", "not x"), ("deny.m", "m")]);
    assert_eq!(deny("deny contains \"not y\" if input.action.name == \"y\"").effect, Effect::Allow);
    assert_eq!(error(&deny("deny contains 7")).0, "bad_result");
}

#[test]
fn results_of_another_shape_are_errors_and_say_what_was_found() {
    let cases = [
        ("findings := true", "must be a set, found true"),
        ("findings := x if { x := 1; false }", "must be a set, found nothing (undefined)"),
        ("findings contains \"block\"", "must hold objects, found \"block\""),
        (
            "findings contains {\"effect\": e, \"rule\": \"r\"} if e := \"deny\"",
            "whose \"effect\" is not an effect",
        ),
        (
            "findings contains {\"effect\": \"block\", \"rule\": \"r\", \"reson\": \"x\"}",
            "unknown member \"reson\"",
        ),
        (
            "findings contains {\"effect\": \"block\", \"rule\": \"r\", \"reason\": 7}",
            "whose \"reason\" is not a string",
        ),
        (
            "findings contains {\"effect\": \"block\", \"rule\": \"r\", \"obligations\": [{}]}",
            "\"obligations\" is not a list of",
        ),
        ("findings contains o if { k := \"effect\"; o := {k: \"block\"} }", "without `rule`"),
    ];
    for (rego, message) in cases {
        let found = fails(rego);
        assert_eq!(found.code, "bad_result", "{rego}");
        assert!(
            found.detail.starts_with("`data.t.findings` ") && found.detail.contains(message),
            "{rego}: {found}"
        );
        assert!(found.detail.len() < 600);
    }
}

#[test]
fn errors_of_the_engine_block_and_are_not_rules() {
    // Strict: without it the body would be undefined and the rule would silently not hold.
    let found = fails("findings contains {\"effect\": \"block\", \"rule\": \"r\"} if to_number(\"x\") > 1");
    assert_eq!(found.code, "engine_error");
    assert!(found.detail.contains("policy/t.rego:2:"), "{found}");
    let found = fails(
        "x := 1 if input.agent\nx := 2 if input.action\nfindings contains {\"effect\": \"block\", \"rule\": \"r\"} if x > 0",
    );
    assert_eq!(found.code, "engine_error");
}

#[test]
fn a_panic_of_the_engine_is_contained_and_the_next_decision_is_clean() {
    let policy = compile(
        "package t\nfindings contains {\"effect\": \"allow\", \"rule\": \"r\"} if strings.count(\"abc\", input.action.arguments.part) >= 0\n",
    );
    let with = |part: &str| input("a", "x", json!({"part": part}), json!({}));
    let before = policy.decide(&with("b"));
    assert_eq!(before.effect, Effect::Allow);
    let panicked = policy.decide(&with(""));
    assert_eq!(error(&panicked).0, "engine_panic");
    assert_eq!(panicked, policy.decide(&with("")));
    assert_eq!(policy.decide(&with("b")), before);
}

#[test]
fn limits_are_errors_of_their_own_without_the_time_it_took() {
    let endless = "package t\nfindings contains {\"effect\": \"block\", \"rule\": \"r\"} if {\n\tn := numbers.range(1, 3000)\n\tcount([1 | some a in n; some b in n; some c in n; a + b + c < 0]) > 0\n}\n";
    let policy = with_settings("[limits]\nwall_ms = 50", endless).unwrap();
    let decision = policy.decide(&call());
    assert_eq!(error(&decision), ("limit_exceeded", "the evaluation took longer than the 50 ms that it has"));

    let many = "package t\nfindings contains {\"effect\": \"block\", \"rule\": \"r\", \"reason\": sprintf(\"%d\", [n])} if some n in numbers.range(1, 20)\n";
    let policy = with_settings("[limits]\nfindings = 19", many).unwrap();
    assert_eq!(error(&policy.decide(&call())), ("limit_exceeded", "20 findings; the bundle allows 19"));
    assert_eq!(with_settings("[limits]\nfindings = 20", many).unwrap().decide(&call()).findings.len(), 20);

    let policy = with_settings("[limits]\ninput_bytes = 2000", many).unwrap();
    assert_eq!(policy.decide(&call()).error, None);
    let large = input("a", "x", json!({"text": "x".repeat(2000)}), json!({}));
    assert_eq!(error(&policy.decide(&large)), ("limit_exceeded", "the input is larger than 2000 bytes"));
}

#[test]
fn inputs_of_another_schema_or_with_floats_are_refused() {
    let policy = compile("package t\nfindings contains {\"effect\": \"allow\", \"rule\": \"r\"}\n");
    let found = policy.decide(&json!({"schema": "verdict-input/9"}));
    assert_eq!(
        error(&found),
        ("missing_input", "the input is `verdict-input/9`, the policy is written for `verdict-input/1`")
    );
    assert_eq!(error(&policy.decide(&json!({}))).0, "missing_input");
    let found = policy.decide(&input("a", "x", json!({"ratio": 0.5}), json!({})));
    assert_eq!(error(&found), ("missing_input", "the input holds 0.5, which is not an integer"));
}

#[test]
fn every_nondeterministic_or_unbounded_builtin_is_refused() {
    for call in [
        "rand.intn(\"x\", 3)",
        "http.send({\"url\": \"http://x.example\"})",
        "time.now_ns()",
        "uuid.rfc4122(\"x\")",
        "opa.runtime()",
        "net.lookup_ip_addr(\"x.example\")",
        "rego.metadata.chain()",
        "rego.metadata.rule()",
        "trace(\"x\")",
        "print(\"x\")",
    ] {
        let rego = format!(
            "package t\nfindings contains {{\"effect\": \"block\", \"rule\": \"r\"}} if {{\n\t{call}\n}}\n"
        );
        let found = problems(&[("policy/t.rego", &rego)]);
        let name = call.split('(').next().unwrap();
        let expected =
            format!("policy/t.rego:3:2: error: `{name}` makes a decision depend on more than its input");
        assert!(found.iter().any(|problem| problem.starts_with(&expected)), "{call}: {found:#?}");
    }
    for call in
        ["numbers.range(1, input.action.arguments.n)", "numbers.range(1, 999999999999)", "bits.lsh(1, 64)"]
    {
        let rego = format!(
            "package t\nfindings contains {{\"effect\": \"block\", \"rule\": \"r\"}} if count([{call}]) > 0\n"
        );
        let found = problems(&[("policy/t.rego", &rego)]);
        assert!(found.len() == 1 && found[0].contains("must be a number up to"), "{call}: {found:#?}");
    }
}

#[test]
fn the_check_names_what_would_only_show_at_run_time() {
    let finding = "findings contains {\"effect\": \"block\", \"rule\": \"r\"}";
    let one = |rego: &str| {
        let found = problems(&[("policy/t.rego", &format!("package t\n{rego}\n"))]);
        assert_eq!(found.len(), 1, "{rego}: {found:#?}");
        found[0].clone()
    };
    assert!(
        one(&format!("{finding} if nosuch(1)"))
            .contains("policy/t.rego:2:55: error: there is no function `nosuch`")
    );
    assert!(one(&format!("{finding} if input.action.argumnets.x")).contains("did you mean `arguments`?"));
    assert!(one(&format!("{finding} if input[\"agnet\"].name")).contains("did you mean `agent`?"));
    assert!(one(&format!("{finding} if input.provenance.sources.trust == \"x\"")).contains("is an array"));
    assert!(
        one("findings contains {\"effect\": \"block\", \"rule\": concat(\".\", [\"a\", \"b\"])}")
            .contains("must be a string literal")
    );
    assert!(one("findings contains {\"rule\": \"r\"}").contains("has no `effect`"));
    let found = problems(&[(
        "policy/t.rego",
        &format!("package t\n{finding} if f(1)\nf(x) := g(x)\ng(x) := f(x)\n"),
    )]);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].starts_with("policy/t.rego:3: error: the function `data.t.f` is recursive"),
        "{found:#?}"
    );
    assert!(one("other := 1").starts_with("verdict.toml:4: error: the entry point `data.t.findings` is not defined; the bundle defines `data.t.other`"));
    let found = problems(&[
        ("policy/t.rego", &format!("package t\n{finding}\n")),
        ("data/t/x.json", "{\"findings\": []}"),
    ]);
    assert!(found[0].contains("is a rule here and a value in the bundle's data"), "{found:#?}");
    // Every file is looked at, the tests too.
    let found = problems(&[
        ("policy/a.rego", "package t\nx := "),
        ("policy/b.rego", "packag t"),
        ("tests/c.rego", "package t\ny :="),
    ]);
    let files: BTreeSet<&str> = found.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    assert_eq!(files, BTreeSet::from(["policy/a.rego", "policy/b.rego", "tests/c.rego"]), "{found:#?}");
}

#[test]
fn warnings_do_not_refuse() {
    let files = [
        ("policy/lib.rego", "package lib.a\nhit if input.action\n"),
        (
            "policy/t.rego",
            "package t\nimport data.lib.a\nfindings contains {\"effect\": \"block\", \"rule\": \"r\"} if a.hit\n\nfindings contains {\"effect\": \"allow\", \"rule\": \"r\"}\n",
        ),
    ];
    let found = check(&bundle(&files).unwrap());
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().all(|problem| problem.severity == Severity::Warning));
    assert!(found[0].to_string().starts_with("policy/t.rego:2:"), "{}", found[0]);
    assert!(found[1].message.contains("rule `r` is also at policy/t.rego:3"), "{}", found[1]);
    assert_eq!(Policy::compile(bundle(&files).unwrap()).unwrap().rules().len(), 1);
}

#[test]
fn old_rego_is_read_when_the_manifest_says_so() {
    let rego = "package t\nfindings[f] { f := {\"effect\": \"block\", \"rule\": \"old\"} }\n";
    let bundle = |manifest: &str| bundle(&[(".manifest", manifest), ("t.rego", rego)]).unwrap();
    let decision = Policy::compile(bundle("{\"rego_version\": 0}")).unwrap().decide(&call());
    assert_eq!((decision.effect, decision.rules[0].line), (Effect::Block, Some(2)));
    assert!(Policy::compile(bundle("{}")).is_err());
}

#[test]
fn tests_of_a_bundle_pass_fail_err_and_skip() {
    let report = run(&bundle(&[
        ("policy/t.rego", "package t\n\nfindings contains {\"effect\": \"block\", \"rule\": \"r\"} if input.action.name == \"x\"\n\nunused if {\n\tinput.tenant == \"a\"\n}\n"),
        (
            "tests/t.rego",
            "package t_test\n\ntest_pass if count(data.t.findings) == 1 with input as {\"action\": {\"name\": \"x\"}}\n\ntest_fail if {\n\tprint(\"saw\", count(data.t.findings))\n\tcount(data.t.findings) == 1\n}\n\ntest_false := false\n\ntest_error if to_number(\"x\") == 1\n\ntodo_test_later if false\n",
        ),
        ("policy/more_test.rego", "package t\n\ntest_beside if count(findings) == 0\n"),
    ])
    .unwrap())
    .unwrap();
    let found: Vec<_> = report.tests.iter().map(|t| (t.file.as_str(), t.line, t.name.as_str())).collect();
    assert_eq!(
        found,
        [
            ("policy/more_test.rego", 3, "data.t.test_beside"),
            ("tests/t.rego", 3, "data.t_test.test_pass"),
            ("tests/t.rego", 5, "data.t_test.test_fail"),
            ("tests/t.rego", 10, "data.t_test.test_false"),
            ("tests/t.rego", 12, "data.t_test.test_error"),
            ("tests/t.rego", 14, "data.t_test.todo_test_later"),
        ]
    );
    let outcome = |at: usize| &report.tests[at].outcome;
    assert_eq!((outcome(0), outcome(1), outcome(5)), (&Outcome::Pass, &Outcome::Pass, &Outcome::Skip));
    assert!(
        matches!(outcome(2), Outcome::Fail { detail } if detail.starts_with("undefined; ") && detail.contains("saw")),
        "{:?}",
        outcome(2)
    );
    assert!(matches!(outcome(3), Outcome::Fail { detail } if detail == "false"));
    assert!(
        matches!(outcome(4), Outcome::Error { detail } if detail.contains("tests/t.rego:12:")),
        "{:?}",
        outcome(4)
    );
    assert_eq!(report.failures(), 3);
    assert_eq!(report.coverage.len(), 1);
    assert_eq!(
        (report.coverage[0].file.as_str(), &report.coverage[0].not_covered),
        ("policy/t.rego", &vec![6])
    );
}

#[test]
fn equal_inputs_give_equal_bytes_in_any_order_and_on_any_thread() {
    let policy = Policy::compile(Bundle::load(&testdata("v1")).unwrap()).unwrap();
    let inputs: Vec<Value> = (0..60)
        .map(|n| match n % 4 {
            0 => input(
                "support-agent",
                "issue_refund",
                json!({"amount_cents": n * 2000, "currency": "EUR"}),
                json!({}),
            ),
            1 => input(
                "ops-agent",
                "get_service_status",
                json!({"service": "s"}),
                json!({"state": {"trace": {"consecutive_same_tool": n / 4}}}),
            ),
            2 => input(
                "finance-agent",
                "run_sql",
                json!({"query": format!("select {n} from payroll")}),
                json!({}),
            ),
            _ => input("intern-bot", "delete_records", json!({"table": "t"}), json!({})),
        })
        .collect();
    let decide = |input: &Value| serde_json::to_string(&policy.decide(input)).unwrap();
    let once: Vec<String> = inputs.iter().map(decide).collect();
    let mut backwards: Vec<String> = inputs.iter().rev().map(decide).collect();
    backwards.reverse();
    assert_eq!(once, backwards);
    // A policy that has decided nothing before.
    for (input, expected) in inputs.iter().zip(&once) {
        let fresh = Policy::compile(policy.bundle().clone()).unwrap();
        assert_eq!(serde_json::to_string(&fresh.decide(input)).unwrap(), *expected);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| inputs.iter().map(decide).collect::<Vec<_>>())).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), once);
        }
    });
}
