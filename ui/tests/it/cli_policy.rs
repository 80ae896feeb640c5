//! The life of a policy on the command line: check, test, publish, activate, compare.

use super::cli_support::Bench;

fn testdata(name: &str) -> String {
    format!("{}/../testdata/policies/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_bundle_that_fails_its_tests_is_published_only_on_the_record() {
    let bench = Bench::with_ledger();
    let path = bench.policy("1", 5_000);
    bench.file(
        "policies/1/tests/refunds.toml",
        "[[cases]]\nname = \"small\"\ninput.action = { name = \"issue_refund\", arguments = { amount_cents = 10 } }\neffect = \"block\"\n",
    );
    let size = bench.size();
    bench
        .run(&["policy", "publish", &path])
        .fails(1, &["fails 1 of its own 1 tests", "tests/refunds.toml:1 small", "--override"]);
    bench.run(&["policy", "publish", &path, "--override", " "]).fails(2, &["--override needs a reason"]);
    assert_eq!(bench.size(), size);
    let said = bench
        .run(&["policy", "publish", &path, "--override", "issue 31", "--by", "ops", "--reason", "now"])
        .ok();
    assert!(said.err.contains("1 of its own tests failed"), "{said:#?}");
    bench.run(&["policy", "activate", "shop@1", "--by", "sec", "--reason", "go"]).ok();

    let history = bench.run(&["policy", "history", "--format", "json"]).ok().json();
    let changes = history["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 2);
    assert_eq!(
        (&changes[0]["what"], &changes[0]["override"], &changes[0]["by"]),
        (&"published".into(), &"issue 31".into(), &"ops".into())
    );
    assert_eq!(
        (&changes[1]["what"], &changes[1]["by"], &changes[1]["reason"]),
        (&"activated".into(), &"sec".into(), &"go".into())
    );
    let text = bench.run(&["policy", "history", "shop"]).ok().out;
    assert!(text.contains("published, tests failed") && text.contains("in force"), "{text}");
    bench.run(&["policy", "history", "nothing"]).fails(2, &["under the name `nothing`"]);
    let listed = bench.run(&["policy", "list", "--format", "json"]).ok().json();
    assert_eq!(listed["policies"][0]["tests"]["failed"], 1);
}

#[test]
fn tests_fail_below_the_threshold() {
    let bench = Bench::empty();
    let path = bench.policy("1", 5_000);
    bench.file(
        "policies/1/tests/none.toml",
        "[[cases]]\nname = \"other tool\"\ninput.action.name = \"x\"\neffect = \"allow\"\n",
    );
    let report = bench.run(&["policy", "test", &path, "--format", "json"]).ok().json();
    let points = report["covered_basis_points"].as_u64().unwrap();
    assert!((1..10_000).contains(&points), "{points}");
    assert_eq!((&report["passed"], &report["failed"]), (&1.into(), &0.into()));
    let said = bench.run(&["policy", "test", &path, "--threshold", "100"]);
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(
        said.err.contains("100 % are wanted") && said.out.contains("% of the policies evaluated"),
        "{said:#?}"
    );
    bench.run(&["policy", "test", &path, "--threshold", "10"]).ok();
    let said = bench.run(&["policy", "test", &path, "--coverage"]).ok();
    assert!(said.out.contains("policy/shop.rego: lines not evaluated: "), "{said:#?}");
}

#[test]
fn two_versions_are_compared_by_rule() {
    let bench = Bench::with_ledger();
    bench.run(&["policy", "publish", &testdata("v1"), "--activate"]).ok();
    let said = bench.run(&["policy", "diff", "active", &testdata("v2")]).ok();
    for wanted in [
        "--- harbor-goods@1 (sha256:",
        "+++ harbor-goods@2 (sha256:",
        "rule added: exfiltration.unverified  policy/egress.rego:",
        "rule removed: sql.restricted  policy/data.rego:",
        "data/harbor/limits/loop/same_tool_max: 10 -> 8",
        "file changed: policy/operations.rego",
        "@@ -",
    ] {
        assert!(said.out.contains(wanted), "{wanted}: {said:#?}");
    }
    assert_eq!(bench.run(&["policy", "diff", "active", &testdata("v2"), "--exit-code"]).code, 1);
    let same = bench.run(&["policy", "diff", "active", "harbor-goods@1", "--exit-code"]).ok();
    assert!(same.out.contains("the same content"), "{same:#?}");
    let json = bench.run(&["policy", "diff", "active", &testdata("cedar"), "--format", "json"]).ok().json();
    assert!(json["head"]["engine"].as_str().unwrap().starts_with("cedar-policy@"));
}

#[test]
fn cedar_bundles_live_the_same_life() {
    let bench = Bench::with_ledger();
    let path = testdata("cedar");
    assert!(bench.run(&["policy", "check", &path]).ok().out.contains("0 errors"));
    assert!(bench.run(&["policy", "test", &path, "--threshold", "100"]).ok().out.contains("0 failed"));
    bench.run(&["policy", "publish", &path, "--activate"]).ok();
    assert!(
        bench.run(&["policy", "show", "active"]).ok().out.contains("refund.limit  policy/refunds.cedar:")
    );
    let bad = bench.file(
        "bad/policy/p.cedar",
        "@id(\"a\")\nforbid (principal, action, resource) when {\n  context.sesion == \"x\" };\n",
    );
    bench.file("bad/verdict.toml", "name = \"bad\"\nversion = \"1\"\nengine = \"cedar\"\n");
    let bad = bad.trim_end_matches("/policy/p.cedar");
    let said = bench.run(&["policy", "check", bad]);
    assert_eq!(said.code, 2, "{said:#?}");
    assert!(said.out.contains("policy/p.cedar:3:") && said.out.contains("sesion"), "{said:#?}");
}

#[test]
fn schemas_and_inputs_are_what_other_tools_read() {
    let bench = Bench::empty();
    let schema = bench.run(&["policy", "schema"]).ok().json();
    assert_eq!(schema["title"], "verdict-input/1");
    let cedar = bench.run(&["policy", "schema", "--format", "cedar"]).ok().out;
    assert!(
        cedar.contains("action \"tool\" appliesTo") && cedar.contains("entity Agent in [Group]"),
        "{cedar}"
    );
    let example = bench.run(&["policy", "input", "--example"]).ok().json();
    assert_eq!(example["schema"], "verdict-input/1");
    let out = bench.path("asked");
    bench.run(&["policy", "input", "--example", "--format", "cedar", "--out", out.to_str().unwrap()]).ok();
    let request: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("request.json")).unwrap()).unwrap();
    assert_eq!(
        (&request["principal"], &request["action"]),
        (&"Unidentified::\"agent\"".into(), &"Action::\"tool\"".into())
    );
    assert!(std::fs::metadata(out.join("entities.json")).unwrap().len() > 100);
}

#[test]
fn signatures_are_verified_when_a_key_is_given() {
    let bench = Bench::with_ledger();
    let (signed, key) = (testdata("signed/bundle"), testdata("signed/keys/rs256.pem"));
    for file in ["verdict.toml", ".manifest", "policy/harbor.rego", "harbor/data.json"] {
        bench.file(&format!("signed/{file}"), std::fs::read(format!("{signed}/{file}")).unwrap());
    }
    let path = bench.path("signed").to_str().unwrap().to_owned();
    let with = |command: &str| {
        bench.run(&["policy", command, &path, "--verification-key", &key, "--scope", "write"])
    };
    with("check").fails(3, &["has no .signatures.json"]);
    bench.file("signed/.signatures.json", std::fs::read(testdata("signed/rs256.signatures.json")).unwrap());
    assert!(with("check").ok().out.contains("signed with RS256"));
    assert!(with("publish").ok().out.contains("signed with RS256"));
    bench.run(&["policy", "check", &path, "--verification-key", &key]).fails(3, &["scope `write`"]);
    bench.file(
        "signed/policy/harbor.rego",
        "package harbor\n\nfindings contains {\"effect\": \"allow\", \"rule\": \"limit\"}\n",
    );
    with("publish").fails(3, &["policy/harbor.rego is not the file that was signed", "hint: "]);
    bench
        .run(&["policy", "check", &path, "--verification-key", &key, "--verification-alg", "none"])
        .fails(2, &["`none` is not verified"]);
}

#[test]
fn the_input_of_a_recorded_decision_is_the_one_that_replay_decides() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(6)]).ok();
    bench.run(&["policy", "publish", &bench.policy("1", 5_000), "--activate"]).ok();
    let run = bench.run(&["replay", "run", "--policy", "active", "--format", "json"]).ok().json();
    let point = &run["points"][3]["point"];
    let key = point["key"].as_u64().unwrap();
    let id = format!("refund-{}", key - 1);
    let key = key.to_string();
    let input = bench.run(&["policy", "input", "--event", &key]).ok().json();
    assert_eq!(input["event"]["seq"].to_string(), key);
    assert_eq!(input["action"]["name"], "issue_refund");
    let digest = verdict_replay::input::digest(&input).to_string();
    assert_eq!(point["input"], digest.as_str(), "{point:#}");
    // By id it is the same.
    assert_eq!(bench.run(&["policy", "input", "--event", &id]).ok().json(), input);
    bench
        .run(&["policy", "input", "--event", "no-such-id"])
        .fails(2, &["no event has the id `no-such-id`", "hint: "]);
    bench.run(&["policy", "input", "--event", "0"]).fails(2, &["entry 0 is no part of an action"]);
    bench.run(&["policy", "input", "--event", "99999"]).fails(2, &["99999"]);
}
