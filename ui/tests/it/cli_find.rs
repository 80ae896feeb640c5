//! Finding entries, and making indexes again, with the real binary.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;

use super::cli_support::{Bench, copy, event};

/// A ledger with refunds, of which one is blocked, and a policy in force.
fn bench() -> Bench {
    let bench = Bench::with_ledger();
    let mut lines: String = (0..600).map(|number| event(number) + "\n").collect();
    for (number, user) in [(9_000, "ada"), (9_001, "bob")] {
        lines.push_str(&format!(
            "{}\n",
            serde_json::json!({
                "id": format!("blocked-{number}"), "trace_id": format!("{number:032x}"), "tenant": "harbor",
                "user": user, "session": "s-1", "agent": {"name": "intern-bot"},
                "action": {"kind": "tool", "name": "run_sql", "arguments": {"query": format!("DROP TABLE {user}")}},
                "decision": {"effect": "block", "enforced": true, "reason": "Writes are not for interns",
                             "by": {"kind": "policy"}, "policy": {"rules": ["sql.readonly"]}},
            })
        ));
    }
    let file = bench.file("mixed.ndjson", lines);
    bench.run(&["ingest", &file]).ok();
    bench.run(&["policy", "publish", &bench.policy("1", 5_000), "--activate"]).ok();
    bench
}

/// The positions that a search gives.
fn found(bench: &Bench, args: &[&str]) -> Vec<u64> {
    let said = bench.run(&[&["find", "--format", "json"], args].concat()).ok();
    let lines = said.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| line["seq"].as_u64().unwrap()).collect()
}

#[test]
fn every_condition_finds_what_it_says() {
    let bench = bench();
    let both = [602, 601];
    for args in [
        &["--effect", "block"][..],
        &["--agent", "intern-bot"],
        &["--tool", "run_sql"],
        &["--rule", "sql.readonly"],
        &["--session", "s-1"],
        &["--text", "interns WRITES"],
        &["--user", "ada", "--user", "bob", "--tenant", "harbor"],
        &["--id", "blocked-9000", "--id", "blocked-9001"],
        &["--trace", &format!("{:032x}", 9_000), "--trace", &format!("{:032x}", 9_001)],
        &["--contains", "drop table"],
        &["--effect", "block", "--since", "1h"],
        &["--range", "601..603"],
    ] {
        assert_eq!(found(&bench, args), both, "{args:?}");
    }
    assert_eq!(found(&bench, &["--effect", "block", "--contains", "TABLE ADA"]), [601]);
    assert_eq!(found(&bench, &["--tool", "run_sql", "--order", "oldest", "--limit", "1"]), [601]);
    assert_eq!(found(&bench, &["--tool", "run_sql", "--order", "oldest", "--after", "601"]), [602]);
    for nothing in [
        &["--user", "ada"][..],
        &["--effect", "block", "--tool", "issue_refund"],
        &["--effect", "block", "--until", "1h"],
        &["--agent", "intern"],
    ] {
        assert!(found(&bench, nothing).is_empty(), "{nothing:?}");
    }
    let facts = bench.run(&["find", "--type", "policy.activated", "--format", "json"]).ok().json();
    assert!(facts["body"].is_object() && facts["ts"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn pages_join_and_a_search_says_when_it_stopped() {
    let bench = bench();
    let all = found(&bench, &["--tool", "issue_refund", "--limit", "1000"]);
    assert_eq!(all.len(), 600);
    let first = bench.run(&["find", "--tool", "issue_refund", "--limit", "250"]).ok();
    let last = all.get(249).unwrap();
    assert!(first.err.contains(&format!("--after {last}")), "{first:#?}");
    let next = found(&bench, &["--tool", "issue_refund", "--limit", "1000", "--after", &last.to_string()]);
    assert_eq!(next, all.get(250..).unwrap());

    let said = bench.run(&["find", "--contains", "drop", "--order", "oldest", "--scan", "100"]).ok();
    assert!(said.out.is_empty() && said.err.contains("stopped after 100") && said.err.contains("--after 99"));
}

#[test]
fn the_table_is_text_and_what_it_shows_cannot_redraw_the_terminal() {
    let bench = bench();
    let line = serde_json::json!({"id": "x", "agent": {"name": "evil\u{1b}[2J"}, "action": {"kind": "tool", "name": "t"}});
    let file = bench.file("evil.ndjson", format!("{line}\n"));
    bench.run(&["ingest", &file]).ok();
    let said = bench.run(&["find", "--limit", "3", "--tool", "run_sql", "--tool", "t"]).ok();
    assert!(!said.out.contains('\u{1b}'), "{said:#?}");
    assert!(said.out.contains("Writes are not for interns") && said.out.contains("block"), "{said:#?}");
    assert!(said.out.lines().all(|line| line.chars().count() <= 160));
    let coloured = bench.run(&["find", "--effect", "block", "--color", "always"]).ok();
    assert!(coloured.out.contains("\u{1b}[31m"));
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let bench = bench();
    for (args, names) in [
        (&["--text", "500"][..], &["no word", "--contains"][..]),
        (&["--range", "5..9000"], &["not in the ledger"]),
        (&["--since", "1h", "--until", "2h"], &["later than"]),
    ] {
        bench.run(&[&["find"], args].concat()).fails(2, names);
    }
    for args in
        [&["--effect", "explode"][..], &["--since", "yesterday"], &["--limit", "0"], &["--tenant", "x"]]
    {
        assert_eq!(bench.run(&[&["find"], args].concat()).calm().code, 2, "{args:?}");
    }
}

#[test]
fn a_rebuild_changes_nothing_and_mends_what_was_spoilt() {
    let bench = bench();
    let before = found(&bench, &["--limit", "1000"]);
    bench.run(&["rebuild", "--check"]).ok();
    let said = bench.run(&["rebuild", "--format", "json"]).ok().json();
    assert_eq!(said["rebuilt"]["entries"], bench.size());
    assert_eq!(found(&bench, &["--limit", "1000"]), before);
    bench.run(&["rebuild", "--check"]).ok();
    bench.run(&["verify"]).ok();
    let again = bench.file("again.ndjson", event(3) + "\n");
    let again = bench.run(&["ingest", &again, "--format", "json"]).ok().json();
    assert_eq!(again["duplicates"], 1, "ids are known again");
}

#[test]
fn a_rebuild_leaves_alone_what_is_not_the_acknowledged_log() {
    let bench = bench();
    let copied = bench.path("copy");
    copy(&bench.path("ledger"), &copied);
    bench.run(&["ingest", &bench.file("more.ndjson", event(700) + "\n")]).ok();
    let lock = fs::read(bench.path("ledger.lock")).unwrap();
    let moved = bench.file("moved.lock", lock);
    bench
        .run(&["--ledger", copied.to_str().unwrap(), "--lock", &moved, "rebuild"])
        .fails(3, &["cut or rolled back"]);
    bench.run(&["--ledger", "nowhere", "rebuild"]).fails(2, &["not a ledger"]);
}
