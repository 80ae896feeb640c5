//! `verdict replay run` and the runs that it keeps.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::cli_support::Bench;

/// Spends of one agent over time; the second is a gift, the fourth was refused for the budget.
const EVENTS: &str = r#"{"id":"s1","trace_id":"00000000000000000000000000000001","agent":{"name":"buyer"},"start_ns":"1763670000000000000","action":{"kind":"tool","name":"order"},"decision":{"effect":"allow","by":{"kind":"policy"}},"outcome":{"status":"ok"},"usage":{"cost":{"nano":"30000000000","currency":"USD"}}}
{"id":"s2","trace_id":"00000000000000000000000000000002","agent":{"name":"buyer"},"start_ns":"1763670001000000000","span_id":"0000000000000001","action":{"kind":"tool","name":"gift"},"decision":{"effect":"allow","by":{"kind":"policy"}},"outcome":{"status":"ok"},"usage":{"cost":{"nano":"30000000000","currency":"USD"}}}
{"id":"s3","trace_id":"00000000000000000000000000000002","agent":{"name":"buyer"},"start_ns":"1763670002000000000","span_id":"0000000000000002","parent_span_id":"0000000000000001","action":{"kind":"tool","name":"wrap"},"decision":{"effect":"allow","by":{"kind":"policy"}},"outcome":{"status":"ok"},"usage":{"cost":{"nano":"1000000000","currency":"USD"}}}
{"id":"s4","trace_id":"00000000000000000000000000000003","agent":{"name":"buyer"},"start_ns":"1763670003000000000","action":{"kind":"tool","name":"book"},"budget":{"unit":"nano_usd","reserved":"5000000000"},"decision":{"effect":"block","by":{"kind":"policy"}}}
"#;

const POLICY: &str = r#"package shop
findings contains {"effect": "block", "rule": "no gifts"} if input.action.name == "gift"
findings contains {"effect": "block", "rule": "budget"} if input.state.agent.spent_nano.USD > 60500000000
findings contains {"effect": "allow", "rule": "rest"} if true
"#;

fn bench() -> (Bench, String) {
    let bench = Bench::with_ledger();
    let file = bench.file("events.ndjson", EVENTS);
    bench.run(&["ingest", &file]).ok();
    let dir = bench.path("gifts");
    std::fs::create_dir_all(dir.join("policy")).unwrap();
    let settings =
        "name = \"gifts\"\nversion = \"1\"\nengine = \"rego\"\nentrypoint = \"data.shop.findings\"\n";
    std::fs::write(dir.join("verdict.toml"), settings).unwrap();
    std::fs::write(dir.join("policy/shop.rego"), POLICY).unwrap();
    let policy = format!("{}/", dir.display());
    (bench, policy)
}

fn point<'v>(run: &'v serde_json::Value, name: &str) -> &'v serde_json::Value {
    let points = run["points"].as_array().unwrap();
    points.iter().find(|point| point["point"]["name"] == name).unwrap()
}

#[test]
fn three_semantics_tell_three_stories_of_one_change() {
    let (bench, policy) = bench();
    let run = |semantics: &str| {
        let args = ["replay", "run", "--policy", &policy, "--semantics", semantics, "--format", "json"];
        bench.run(&args).ok().json()
    };
    let pointwise = run("pointwise");
    assert_eq!(point(&pointwise, "book")["answer"]["decision"]["effect"], "block");
    assert_eq!(point(&pointwise, "wrap")["answer"]["decision"]["effect"], "allow");
    let stateful = run("stateful");
    let book = point(&stateful, "book");
    assert_eq!(book["answer"]["decision"]["effect"], "allow", "the gift was not paid");
    assert_eq!(book["induced"]["in_recorded_state"], "block");
    assert_eq!(book["induced"]["chain"], serde_json::json!([2]));
    assert_eq!(
        book["money"]["exposed"],
        serde_json::json!({"basis": "estimated", "nano": "5000000000", "currency": "USD"})
    );
    let causal = run("causal");
    let wrap = point(&causal, "wrap");
    assert_eq!((&wrap["answer"]["result"], &wrap["answer"]["by"]), (&"not_reached".into(), &2.into()));
    let digests = [&pointwise, &stateful, &causal].map(|run| run["digest"].as_str().unwrap().to_owned());
    assert!(digests[0] != digests[1] && digests[1] != digests[2]);

    let told = bench.run(&["replay", "run", "--policy", &policy]).ok().out;
    for line in [
        "gifts@1  causal",
        "reproduction: no recorded decision names this bundle; 4 name no policy version",
        "1  not reached: a step that they depend on is stopped",
        "avoided: spent then, and not now: 31 USD measured",
        "exposed: not spent then, and possible now: 5 USD estimated",
        "induced by an earlier flip",
    ] {
        assert!(told.contains(line), "no `{line}` in\n{told}");
    }
    let one =
        bench.run(&["replay", "run", "--policy", &policy, "--threads", "1", "--format", "json"]).ok().json();
    assert_eq!(one["digest"], causal["digest"]);
}

#[test]
fn points_can_be_chosen_and_sampled() {
    let (bench, policy) = bench();
    let count = |more: &[&str]| {
        let args = [&["replay", "run", "--policy", &policy, "--format", "json"], more].concat();
        bench.run(&args).ok().json()["points"].as_array().unwrap().len()
    };
    assert_eq!(count(&[]), 4);
    assert_eq!(count(&["--tool", "book", "--tool", "gift"]), 2);
    assert_eq!(count(&["--effect", "block"]), 1);
    assert_eq!(count(&["--agent", "nobody"]), 0);
    assert_eq!(count(&["--kind", "model"]), 0);
    assert_eq!(count(&["--since", "2025-11-20T20:20:02Z"]), 2);
    assert_eq!(count(&["--trace", "00000000000000000000000000000002"]), 2);
    assert_eq!(count(&["--sample", "100", "--semantics", "pointwise"]), 4);
    let told = bench
        .run(&["replay", "run", "--policy", &policy, "--sample", "100", "--semantics", "pointwise"])
        .ok();
    assert!(told.out.contains("of all, with 95% confidence"), "{}", told.out);
    bench.run(&["replay", "run", "--policy", &policy, "--sample", "5"]).fails(2, &["pointwise"]);
    bench.run(&["replay", "run", "--policy", &policy, "--sample", "0", "--semantics", "pointwise"]).calm();
}

#[test]
fn a_run_can_be_kept_shown_and_deleted() {
    let (bench, policy) = bench();
    let said = bench.run(&["replay", "run", "--policy", &policy, "--save", "friday"]).ok();
    assert!(said.err.contains("kept as `friday`"), "{said:?}");
    let shown = bench.run(&["replay", "show", "friday"]).ok();
    assert_eq!(shown.out, said.out);
    let json = bench.run(&["replay", "show", "friday", "--format", "json"]).ok().json();
    assert_eq!(json["run"]["points"], 4);
    assert_eq!(json["tally"]["not_reached"], 1);
    assert!(bench.run(&["replay", "list"]).ok().out.contains("friday"));
    bench.run(&["replay", "run", "--policy", &policy, "--save", "friday"]).fails(2, &["friday"]);
    bench.run(&["replay", "run", "--policy", &policy, "--save", "../x"]).fails(2, &["../x"]);
    bench.run(&["replay", "run", "--policy", &policy, "--save", "new", "--resume"]).fails(2, &["new"]);
    bench.run(&["replay", "delete", "friday"]).ok();
    bench.run(&["replay", "show", "friday"]).fails(2, &["friday", "replay list"]);
    bench.run(&["verify"]).ok();
}
