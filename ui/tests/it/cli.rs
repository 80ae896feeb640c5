//! The command line from an empty directory to verified evidence.

use super::cli_support::{Bench, event};

fn with_policies() -> Bench {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(12)]).ok();
    bench.run(&["policy", "publish", &bench.policy("1", 5_000), "--activate"]).ok();
    bench.run(&["policy", "publish", &bench.policy("2", 8_000)]).ok();
    bench
}

#[test]
fn the_same_file_twice_adds_nothing() {
    let bench = Bench::with_ledger();
    let file = bench.events(10);
    let first = bench.run(&["ingest", &file, "--format", "json"]).ok().json();
    assert_eq!((first["appended"].as_u64(), first["duplicates"].as_u64()), (Some(10), Some(0)));
    let again = bench.run(&["ingest", &file, "--format", "json"]).ok().json();
    assert_eq!((again["appended"].as_u64(), again["duplicates"].as_u64()), (Some(0), Some(10)));
    assert_eq!(first["size"], again["size"]);
    bench.run(&["verify"]).ok();
}

#[test]
fn a_diff_has_the_same_exit_code_and_numbers_in_every_format() {
    let bench = with_policies();
    // A higher limit lets three refunds pass that were blocked.
    let diff = |format: &str, from: &str, to: &str| {
        bench.run(&["replay", "diff", "--from", from, "--to", to, "--format", format]).calm()
    };
    for format in ["human", "json", "markdown"] {
        assert_eq!(diff(format, "shop@1", "shop@2").code, 1, "{format}");
        assert_eq!(diff(format, "shop@2", "shop@1").code, 0, "{format}: tightening warns");
        assert_eq!(diff(format, "active", "shop@1").code, 0, "{format}");
    }
    let report = diff("json", "shop@1", "shop@2").json();
    assert_eq!(report["classes"]["loosened"]["points"], 3);
    assert_eq!(report["rules"][0]["cause"]["rule"], "refund.limit");
    assert_eq!(report["rules"][0]["to"][0]["file"], "policy/shop.rego");
    assert!(diff("markdown", "shop@1", "shop@2").out.contains("| loosened | 3 |"));
    assert!(diff("human", "shop@1", "shop@2").out.contains("loosened: 3 decisions"));
    assert_eq!(diff("json", "shop@1", "shop@2").out, diff("json", "shop@1", "shop@2").out);

    let gate = bench.file("verdict-gate.toml", "[classes]\nloosened = { action = \"fail\", max = 3 }\n");
    let out = bench.path("report.md");
    let args = [
        "replay", "diff", "--from", "shop@1", "--to", "shop@2", "--gate", &gate, "--format", "markdown",
        "--out",
    ];
    let said = bench.run(&[&args[..], &[out.to_str().unwrap()]].concat()).ok();
    assert!(
        said.out.is_empty() && std::fs::read_to_string(out).unwrap().starts_with("## Policy replay diff")
    );
}

#[test]
fn a_bundle_on_disk_is_compared_before_it_is_published() {
    let bench = with_policies();
    let path = bench.policy("3", 0);
    let size = bench.size();
    let report =
        bench.run(&["replay", "diff", "--from", "active", "--to", &path, "--format", "json"]).ok().json();
    assert_eq!(report["classes"]["tightened"]["points"], 5);
    assert_eq!(bench.size(), size, "comparing leaves no entry");
}

#[test]
fn evidence_of_a_trace_verifies_alone_and_the_export_is_an_entry() {
    let bench = with_policies();
    let keys = bench.file("keys", bench.run(&["keys", "show"]).ok().out);
    let traces = bench.run(&["trace", "list", "--format", "json"]).ok().json();
    let trace = traces["traces"][0]["trace_id"].as_str().unwrap().to_owned();
    let out = bench.path("e.zip");
    let before = bench.size();
    bench
        .run(&["export", "evidence", "--trace", &trace, "--out", out.to_str().unwrap(), "--by", "auditor"])
        .ok();
    assert_eq!(bench.size(), before + 1);
    let alone = Bench::empty();
    alone.run(&["verify", out.to_str().unwrap(), "--key", &keys]).ok();
    let facts = bench.run(&["stats", "--format", "json"]).ok().json();
    assert_eq!(facts["system_facts"]["export.created"], 1);
    let picture = bench.run(&["trace", "graph", &trace]).ok().out;
    assert!(
        picture.starts_with("<svg") && picture.contains("<style>"),
        "a picture by itself has its colours"
    );
    assert!(bench.run(&["trace", "graph", &trace, "--format", "dot"]).ok().out.starts_with("digraph"));
    assert!(bench.run(&["trace", "show", &trace]).ok().out.contains("issue_refund"));
}

#[test]
fn exported_events_make_the_same_ledger_again() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(6)]).ok();
    let out = bench.path("export.ndjson");
    bench.run(&["export", "events", "--out", out.to_str().unwrap()]).ok();
    let other = Bench::with_ledger();
    other.run(&["ingest", out.to_str().unwrap()]).ok();
    assert_eq!(other.size(), bench.size());
    let entries = bench.run(&["export", "events", "--entries"]).ok().out;
    assert_eq!(entries.lines().count() as u64, bench.size());
}

#[test]
fn a_checkpoint_verifies_with_the_right_key_only() {
    let bench = Bench::with_ledger();
    let keys = bench.file("keys", bench.run(&["keys", "show"]).ok().out);
    let note = bench.file("checkpoint", bench.run(&["checkpoint", "show"]).ok().out);
    bench.run(&["verify", &note, "--key", &keys]).ok();
    let other = Bench::with_ledger();
    let foreign = other.file("keys", other.run(&["keys", "show"]).ok().out);
    bench.run(&["verify", &note, "--key", &foreign]).fails(3, &["checkpoint"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(400)]).ok();
    let said =
        bench.shell("\"$VERDICT\" export events --entries | head -n 1; echo ${PIPESTATUS[0]}").ok().calm();
    assert!(said.out.ends_with("\n0\n") && !said.err.contains("error"), "{said:#?}");
}

#[test]
fn policy_tests_decide_the_exit_code() {
    let bench = Bench::empty();
    let path = bench.policy("1", 5_000);
    bench.run(&["policy", "test", &path]).fails(2, &["no tests"]);
    let test = |amount: u64, name: &str| {
        format!(
            "package shop_test\n\nimport data.shop\n\n{name} if {{\n\tcount(shop.findings) == 1 with input as \
             {{\"action\": {{\"name\": \"issue_refund\", \"arguments\": {{\"amount_cents\": {amount}}}}}}}\n}}\n"
        )
    };
    bench.file("policies/1/tests/shop_test.rego", test(9_000, "test_large_refund"));
    assert!(bench.run(&["policy", "test", &path]).ok().out.contains("1 test, 0 failed"));
    bench.file("policies/1/tests/other_test.rego", test(10, "test_small_refund"));
    let said = bench.run(&["policy", "test", &path]).calm();
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.out.contains("FAIL") && said.out.contains("test_small_refund"), "{said:#?}");
}

#[test]
fn a_version_that_is_in_force_is_not_put_in_force_again() {
    let bench = with_policies();
    let size = bench.size();
    assert!(bench.run(&["policy", "activate", "shop@1"]).ok().out.contains("was in force already"));
    assert_eq!(bench.size(), size);
    assert!(bench.run(&["policy", "activate", "shop@2"]).ok().out.contains("is in force from now on"));
    assert_eq!(bench.size(), size + 1);
    let listed = bench.run(&["policy", "list", "--format", "json"]).ok().json();
    let ts_ns = listed["policies"][0]["ts_ns"].as_str().unwrap();
    assert!(ts_ns.parse::<u64>().unwrap() > 1 << 53, "{ts_ns}");
}

#[test]
fn a_ledger_is_held_to_the_keys_that_are_given() {
    let bench = Bench::with_ledger();
    let keys = bench.file("keys", bench.run(&["keys", "show"]).ok().out);
    bench.run(&["verify", "--key", &keys]).ok();
    let other = Bench::with_ledger();
    let foreign = other.file("keys", other.run(&["keys", "show"]).ok().out);
    bench.run(&["verify", "--key", &foreign]).fails(3, &["none of the given keys", "hint: "]);
    let path = bench.path("ledger");
    bench.run(&["verify", path.to_str().unwrap(), "--key", &foreign]).fails(3, &["none of the given keys"]);
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    let bench = Bench::empty();
    let said = bench.shell(
        "unset VERDICT_LEDGER; export VERDICT_LOCK=; \"$VERDICT\" init && VERDICT_LEDGER= \"$VERDICT\" stats",
    );
    assert!(said.ok().out.contains("entries      1\n"));
    assert!(bench.path("verdict-ledger").is_dir() && bench.path("verdict-ledger.lock").is_file());
}

#[test]
fn a_shadow_run_is_told_from_a_decision() {
    let bench = Bench::with_ledger();
    let line = |number: u64, enforced: bool| {
        let mut event: serde_json::Value = serde_json::from_str(&event(number)).unwrap();
        event["decision"] = serde_json::json!({
            "effect": "block", "enforced": enforced, "by": {"kind": "policy", "id": "guard"},
        });
        format!("{event}\n")
    };
    let file = bench.file("events.ndjson", line(0, true) + &line(1, false));
    bench.run(&["ingest", &file]).ok();
    let trace = bench.run(&["trace", "list", "--format", "json"]).ok().json()["traces"][0].clone();
    // One was ruled out and ran all the same, the other was never ruled out.
    assert_eq!((&trace["stopped"], &trace["actions"]), (&0.into(), &2.into()));
    let shown = bench.run(&["trace", "show", trace["trace_id"].as_str().unwrap()]).ok().out;
    assert!(shown.contains("block (shadow)") && shown.contains("enforcement_failure"), "{shown}");
    let stats = bench.run(&["stats", "--format", "json"]).ok().json();
    assert_eq!((&stats["shadow"], &stats["decisions_by_effect"]["block"]), (&1.into(), &1.into()));
}
