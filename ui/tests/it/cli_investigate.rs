//! Incidents, questions to graphs, answers and what-if, with the real binary on recorded traffic.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use serde_json::Value;

use super::cli_support::Bench;
use super::site::testdata;

/// Both shops, and the first version of their policy in force.
fn bench() -> Bench {
    let bench = Bench::with_ledger();
    let file = |name: &str| testdata(name).to_str().unwrap().to_owned();
    bench.run(&["ingest", &file("native/harbor-goods.ndjson"), &file("native/harbor-outlet.ndjson")]).ok();
    bench.run(&["policy", "publish", &file("policies/v1"), "--activate"]).ok();
    bench
}

fn json_of(bench: &Bench, args: &[&str]) -> Value {
    bench.run(&[args, &["--format", "json"]].concat()).ok().json()
}

/// Position of an event.
fn seq(bench: &Bench, args: &[&str]) -> u64 {
    let said = bench.run(&[&["find", "--format", "json", "--order", "oldest"], args].concat()).ok();
    serde_json::from_str::<Value>(said.out.lines().next().unwrap()).unwrap()["seq"].as_u64().unwrap()
}

#[test]
fn an_incident_is_shown_with_its_joins_and_drawn_as_one() {
    let bench = bench();
    let said = bench.run(&["incident", "show", "--approval", "approval-311"]).ok();
    for words in [
        "incident around approval approval-311",
        "in 2 traces",
        "asked for",
        "issue_refund",
        "what came from sources that nobody vouches for",
    ] {
        assert!(said.out.contains(words), "{words}: {said:#?}");
    }
    let asked = seq(&bench, &["--id", "harbor-04-04"]);
    let by_event = json_of(&bench, &["incident", "show", "--event", "harbor-04-04"]);
    assert_eq!(by_event["incident"]["seed"]["id"], asked);
    assert_eq!(by_event["incident"]["traces"].as_array().unwrap().len(), 2);
    let graph = json_of(&bench, &["incident", "graph", "--event", &asked.to_string()]);
    assert_eq!(graph["schema"], "verdict-graph/1");
    let traces: std::collections::BTreeSet<&str> =
        graph["nodes"].as_array().unwrap().iter().filter_map(|node| node["trace_id"].as_str()).collect();
    assert!(!traces.is_empty());
    for edge in graph["edges"].as_array().unwrap() {
        assert!(
            edge["reason"].is_string() && edge["confidence"].is_string() && edge["seq"].is_u64(),
            "{edge}"
        );
    }
    let svg = bench.run(&["incident", "graph", "--approval", "approval-311"]).ok();
    assert!(svg.out.starts_with("<svg "), "{}", svg.out);
    let dot = bench.run(&["incident", "graph", "--approval", "approval-311", "--format", "dot"]).ok();
    assert!(dot.out.starts_with("digraph execution {"), "{}", dot.out);
    let limited = bench.run(&["incident", "show", "--event", "harbor-04-04", "--max-traces", "1"]).ok();
    assert!(limited.err.contains("stopped at 1 traces: 1 more are known"), "{limited:#?}");
    bench.run(&["incident", "show"]).fails(2, &["--trace"]);
    bench.run(&["incident", "show", "--session", "nobody"]).fails(2, &["no session nobody", "verdict find"]);
    bench.run(&["incident", "show", "--approval", "nothing"]).fails(2, &["`nothing`", "--scan"]);
    bench.run(&["incident", "show", "--event", "0"]).fails(2, &["entry 0 is a"]);
    bench.run(&["incident", "show", "--event", "no-such-id"]).fails(2, &["no event `no-such-id`"]);
}

#[test]
fn what_followed_from_a_page_is_found_in_a_graph_and_in_the_whole_log() {
    let bench = bench();
    let page = "https://carrier.example/notices/7731";
    let said = bench.run(&["find", "--reached-by", page]).ok();
    assert!(said.out.contains("send_email"), "{said:#?}");
    assert!(said.err.contains("the source is stated by 3 events"), "{said:#?}");
    let found = bench.run(&["find", "--reached-by", page, "--tool", "send_email", "--format", "json"]).ok();
    let line: Value = serde_json::from_str(found.out.lines().next().unwrap()).unwrap();
    let (trace, mail) = (line["event"]["trace_id"].as_str().unwrap(), line["seq"].as_u64().unwrap());
    assert_eq!(line["reached"]["confidence"], "explicit");
    assert_eq!(
        line["reached"]["path"][0]["node"].as_str().map(|node| node.starts_with("source:")),
        Some(true)
    );
    let none = bench.run(&["find", "--reached-by", "nothing-is-called-this"]).ok();
    assert!(none.out.is_empty() && none.err.contains("nothing found"), "{none:#?}");
    let part = bench.run(&["find", "--reached-by", page, "--scan", "1"]).ok();
    assert!(part.err.contains("up to entry 1 only"), "{part:#?}");

    let down = bench.run(&["trace", "graph", trace, "--downstream-of", page]).ok();
    assert!(down.out.contains("action send_email") && down.out.contains("explicit"), "{down:#?}");
    let up = json_of(&bench, &["trace", "graph", trace, "--upstream-of", &mail.to_string()]);
    let reached = up["question"]["reached"].as_array().unwrap();
    assert_eq!(reached.len(), up["nodes"].as_array().unwrap().len());
    assert!(up["nodes"].as_array().unwrap().iter().any(|node| node["source"]["uri"] == page), "{up:#}");
    let sure = json_of(
        &bench,
        &["trace", "graph", trace, "--upstream-of", &mail.to_string(), "--confidence", "explicit"],
    );
    assert!(sure["question"]["reached"].as_array().unwrap().len() < reached.len());
    bench
        .run(&["trace", "graph", trace, "--downstream-of", "nothing"])
        .fails(2, &["nothing here is called `nothing`", "fetch_url"]);
}

#[test]
fn an_action_is_explained_from_events() {
    let bench = bench();
    let mail = seq(&bench, &["--reached-by", "https://carrier.example/notices/7731", "--tool", "send_email"]);
    let said = bench.run(&["explain", &mail.to_string()]).ok();
    for words in [
        "tool send_email by research-agent for customer-1077: allowed by policy, and it ran",
        "Who or what started it?",
        "Was that source trusted?",
        "no: the least trusted",
        "Can it be replayed?",
        &format!("[event {mail}]"),
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    assert!(said.out.lines().all(|line| line.chars().count() <= 130), "{}", said.out);
    let answers = json_of(&bench, &["explain", &mail.to_string()]);
    assert_eq!(answers["schema"], "verdict-answers/1");
    assert_eq!(answers["answers"].as_array().unwrap().len(), 8);
    bench.run(&["explain", "99999"]).fails(2, &["no event 99999"]);
    bench.run(&["explain", "0"]).fails(2, &["entry 0 is a"]);
}

#[test]
fn one_input_is_edited_and_both_decisions_are_told() {
    let bench = bench();
    let refund = seq(&bench, &["--tool", "issue_refund", "--effect", "block"]).to_string();
    let ask = |more: &[&str]| {
        bench.run(&[&["replay", "what-if", "--event", &refund, "--policy", "active"], more].concat())
    };
    let said = ask(&["--set", "/action/arguments/amount_cents=900"]).ok();
    for words in [
        "/action/arguments/amount_cents  80000 -> 900",
        "/action/arguments_digest",
        "(follows from it)",
        "before  block, by refund",
        "after   allow",
        "gone      block refund",
        ".rego:",
        "silent",
        "findings contains {",
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    let answer = ask(&[
        "--set-json",
        "/action/arguments={\"amount_cents\":1}",
        "--unset",
        "/user",
        "--format",
        "json",
    ]);
    let answer = answer.ok().json();
    assert_eq!(answer["answer"]["edited"].get("user"), None);
    assert_eq!(answer["answer"]["recorded"]["schema"], answer["answer"]["edited"]["schema"]);
    assert!(answer["policy"]["digest"].as_str().unwrap().starts_with("sha256:"));
    ask(&["--set", "/acton/arguments/amount_cents=900"]).fails(2, &["did you mean `action`?"]);
    ask(&["--set", "/event/seq=x"]).fails(2, &["an integer is expected"]);
    ask(&["--set-json", "/provenance/sources=[{\"kind\":1}]"])
        .fails(2, &["/provenance/sources/0/kind", "must be there"]);
    ask(&["--unset", "/action/name"]).fails(2, &["every input has it"]);
    bench
        .run(&["replay", "what-if", "--event", "0", "--policy", "active"])
        .fails(2, &["entry 0 is a", "which no policy rules on"]);
}
