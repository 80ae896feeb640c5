//! Costs, the price table, the contract and quarantine from the command line.
#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::cli_support::Bench;

/// A model call of a trace, as a native event.
fn call(number: u64, extra: &Value) -> String {
    let mut event = json!({
        "id": format!("call-{number}"),
        "trace_id": format!("{:032x}", number / 10 + 1),
        "span_id": format!("{:016x}", number + 1),
        // 2026-06-01.
        "start_ns": (1_780_272_000_000_000_000_u64 + number).to_string(),
        "end_ns": (1_780_272_000_000_000_900_u64 + number).to_string(),
        "agent": {"name": "writer"},
        "service": "shop",
        "environment": "test",
        "action": {"kind": "model", "name": "gpt-4o-mini"},
        "outcome": {"status": "ok"},
        "usage": {"provider": "openai", "model": "gpt-4o-mini", "input_tokens": 1_000, "output_tokens": 100},
        "attributes": {"genops.team": "search"},
    });
    event.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    event.to_string() + "\n"
}

fn with(lines: &[String]) -> Bench {
    let bench = Bench::with_ledger();
    let file = bench.file("events.ndjson", lines.concat());
    bench.run(&["ingest", &file]).ok();
    bench
}

fn json_of(bench: &Bench, args: &[&str]) -> Value {
    bench.run(&[args, &["--format", "json"]].concat()).ok().json()
}

#[test]
fn tokens_are_priced_reported_costs_win_and_the_unknown_is_not_free() {
    let usage = |model: &str, cost: Option<&str>| {
        let mut usage =
            json!({"provider": "openai", "model": model, "input_tokens": 1_000, "output_tokens": 100});
        if let Some(nano) = cost {
            usage["cost"] = json!({"nano": nano, "currency": "EUR"});
        }
        json!({"usage": usage})
    };
    let bench = with(&[
        call(1, &json!({})),
        call(2, &usage("gpt-4o-mini", Some("77"))),
        call(3, &usage("house-model", None)),
        call(4, &json!({"attributes": {"metadata": "{\"team\":\"shop\"}"}})),
    ]);
    let report = json_of(&bench, &["cost", "--by", "team,model"]);
    assert_eq!(report["total"]["actions"], 4);
    assert_eq!(report["total"]["cost"]["USD"]["priced_nano"], "420000");
    assert_eq!(
        report["total"]["cost"]["EUR"],
        json!({"total_nano": "77", "reported_nano": "77", "priced_nano": "0"})
    );
    assert_eq!(report["total"]["unpriced"], json!({"unknown_model": 1}));
    let teams: Vec<&Value> =
        report["rows"].as_array().unwrap().iter().map(|row| &row["values"]["team"]).collect();
    assert!(teams.contains(&&json!("shop")) && teams.contains(&&json!("search")));
    let told = bench.run(&["cost", "--by", "team"]).ok();
    assert!(told.out.contains("unpriced 1: the price table has no such model"), "{told:#?}");
    let stats = json_of(&bench, &["stats"]);
    assert_eq!(
        (stats["pricing"]["reported"].as_u64(), stats["pricing"]["priced"].as_u64()),
        (Some(1), Some(2))
    );
    assert_eq!(stats["pricing"]["unpriced"], json!({"unknown_model": 1}));
    // Nothing since the calls: they were long ago.
    assert_eq!(json_of(&bench, &["cost", "--since", "1s"])["total"]["actions"], 0);
    bench
        .run(&["cost", "--by", "colour"])
        .fails(2, &["`colour` is no dimension", "--label colour=ATTRIBUTE"]);
    let labelled = json_of(&bench, &["cost", "--by", "squad", "--label", "squad=genops.team"]);
    assert_eq!(labelled["rows"][0]["values"]["squad"], "search");
}

#[test]
fn a_table_of_ones_own_is_an_entry_and_can_be_read_back() {
    let bench = with(&[call(1, &json!({}))]);
    let own = bench.run(&["pricing", "show", "--default", "--file"]).ok().out;
    let own =
        own.replace("label = \"verdict-2026-11-25\"", "label = \"ours\"").replace("\"0.15\"", "\"0.30\"");
    let file = bench.file("prices.toml", &own);
    assert!(bench.run(&["pricing", "check", &file]).ok().out.starts_with("ours: "));
    let size = bench.size();
    bench.run(&["pricing", "use", &file, "--by", "finops", "--reason", "new contract"]).ok();
    bench.run(&["pricing", "use", &file]).ok();
    assert_eq!(bench.size(), size + 1, "what is in force already is no entry");
    assert_eq!(bench.run(&["pricing", "show", "--file"]).ok().out, own);
    assert_eq!(json_of(&bench, &["pricing", "list"])["tables"][0]["reason"], "new contract");
    // 1,000 at 0.30 and 100 at 0.60 for a million.
    assert_eq!(json_of(&bench, &["cost"])["total"]["cost"]["USD"]["priced_nano"], "360000");
    let bad = bench.file("bad.toml", own.replace("\"0.30\"", "\"0,30\""));
    bench.run(&["pricing", "use", &bad]).fails(2, &["bad.toml", "price ", "`0,30` is not a price"]);
    bench.run(&["verify"]).ok();
}

#[test]
fn lenient_marks_strict_holds_back_and_a_release_is_a_decision() {
    let bench = with(&[call(1, &json!({"user": "ada", "session": "s"})), call(11, &json!({}))]);
    let settled = ["--settle", "0s"];
    let report = json_of(&bench, &[&["contract", "report"][..], &settled].concat());
    assert_eq!(report["mode"], "lenient");
    assert_eq!(report["coverage"]["fields"]["user"], json!({"asked": 2, "own": 1, "inherited": 0}));
    // Nobody looked at the safety of either.
    assert_eq!(report["coverage"]["fields"]["safety_violations"]["own"], 0);
    assert_eq!(json_of(&bench, &["contract", "report"])["coverage"]["actions"], 0, "nothing has settled yet");

    let file = bench.file(
        "contract.toml",
        "label = \"ours\"\nmode = \"strict\"\n[[require]]\nfield = \"user\"\nkinds = [\"model\"]\n",
    );
    bench.run(&["contract", "check", &file]).ok();
    bench.run(&["contract", "use", &file, "--by", "ada", "--reason", "audit"]).ok();
    let run = |dry: &[&str]| {
        let said = bench.run(&[&["contract", "run", "--format", "json"][..], &settled, dry].concat()).calm();
        (said.code, said.json())
    };
    let size = bench.size();
    assert_eq!(run(&["--dry-run"]).0, 1);
    assert_eq!(bench.size(), size, "a dry run records nothing");
    let (code, outcome) = run(&[]);
    assert_eq!((code, outcome["met"].as_u64(), outcome["quarantined"].as_u64()), (1, Some(1), Some(1)));
    assert_eq!(run(&[]).0, 0, "nothing is new the second time");

    let stats = || json_of(&bench, &["stats"]);
    assert_eq!((stats()["actions"].as_u64(), stats()["quarantined"]["actions"].as_u64()), (Some(1), Some(1)));
    assert_eq!(json_of(&bench, &["cost"])["quarantined_left_out"], 1);
    assert_eq!(json_of(&bench, &["stats", "--include-quarantined"])["actions"], 2);
    let trace = format!("{:032x}", 2);
    assert!(bench.run(&["trace", "show", &trace]).ok().out.contains("QUARANTINED"));

    let release = |args: &[&str]| bench.run(&[&["contract", "release"][..], args].concat());
    release(&["--trace", &trace]).fails(2, &["--by"]);
    release(&["--event", "nobody", "--by", "ada", "--reason", "x"])
        .fails(2, &["nothing of that is in quarantine"]);
    release(&["--trace", &trace, "--by", "ada", "--reason", "batch job, ticket 91"]).ok();
    assert_eq!(
        (stats()["actions"].as_u64(), stats()["quarantined"]["released"].as_u64()),
        (Some(2), Some(1))
    );
    assert_eq!(run(&[]).0, 0, "a run does not undo what somebody decided");
    bench.run(&["fsck"]).ok();
}

#[test]
fn an_id_that_comes_with_other_content_is_kept_and_seen() {
    let bench = with(&[call(1, &json!({}))]);
    let other = bench.file("other.ndjson", call(1, &json!({"agent": {"name": "somebody-else"}})));
    let said = json_of(&bench, &["ingest", &other]);
    assert_eq!((said["appended"].as_u64(), said["conflicts"].as_u64()), (Some(1), Some(1)));
    let stats = json_of(&bench, &["stats"]);
    assert_eq!(
        (stats["conflicts"]["statements"].as_u64(), stats["findings"]["conflict"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(stats["input_tokens"], 1_000, "and its tokens count once");
    let trace = json_of(&bench, &["trace", "show", &format!("{:032x}", 1)]);
    assert_eq!(trace["actions"][0]["conflicts"][0]["id"], "call-1");
}

#[test]
fn the_settle_window_is_a_setting() {
    let allowed = json!({"decision": {"effect": "allow"}, "outcome": {"status": "pending"}});
    let bench = with(&[call(1, &allowed)]);
    let unfinished = |args: &[&str]| json_of(&bench, args)["findings"]["unfinished"].as_u64();
    assert_eq!(unfinished(&["stats"]), None);
    assert_eq!(unfinished(&["stats", "--settle", "0s"]), Some(1));
    bench.run(&["stats", "--settle", "soon"]).fails(2, &["soon"]);
}
