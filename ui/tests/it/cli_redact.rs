//! Erasing, holding and keeping from the command line.

use super::cli_support::Bench;

fn event(number: u64, user: &str) -> String {
    serde_json::json!({
        "id": format!("refund-{number}"), "trace_id": format!("{:032x}", number + 1),
        "agent": {"name": "support-agent"}, "user": user, "tenant": "harbor",
        "action": {"kind": "tool", "name": "issue_refund", "arguments": {"amount_cents": 9_000}},
        "outcome": {"status": "ok"},
    })
    .to_string()
        + "\n"
}

fn filled() -> Bench {
    let bench = Bench::with_ledger();
    // Each in a request of its own.
    for (number, user) in ["ada", "ada", "bob"].iter().enumerate() {
        let file = bench.file(&format!("{number}.ndjson"), event(number as u64, user));
        bench.run(&["ingest", &file]).ok();
    }
    bench
}

const BASIS: [&str; 5] = ["--apply", "--legal-basis", "Art. 17 GDPR", "--reason", "ticket 4711"];

#[test]
fn a_dry_run_changes_nothing_and_applying_needs_a_basis() {
    let bench = filled();
    let ada = ["redact", "--user", "ada", "--tenant", "harbor"];
    let size = bench.size();
    let plan = bench.run(&[&ada[..], &["--format", "json"]].concat()).ok().json();
    assert_eq!(
        (plan["values"].as_u64(), plan["bodies"].as_array().map(Vec::len)),
        (Some(4), Some(2)),
        "{plan}"
    );
    assert_eq!(bench.size(), size);
    assert!(bench.run(&ada).ok().out.contains("would erase 4 values"));
    bench.run(&[&ada[..], &["--apply"]].concat()).fails(2, &["legal basis", "--legal-basis"]);
    bench.run(&[&ada[..], &["--apply", "--legal-basis", "Art. 17 GDPR"]].concat()).fails(2, &["reason"]);
    let without_tenant = bench.run(&["redact", "--user", "ada"]).ok();
    assert!(without_tenant.err.contains("--tenant"), "{without_tenant:#?}");
    assert_eq!(bench.size(), size);

    let done = bench.run(&[&ada[..], &BASIS, &["--format", "json"]].concat()).ok().json();
    assert_eq!((done["values"].as_u64(), done["keys_destroyed"].as_u64()), (Some(4), Some(1)), "{done}");
    assert_eq!(done["compacted"], true);
    bench.run(&["verify"]).ok();
    assert!(bench.run(&[&ada[..], &BASIS].concat()).ok().out.contains("nothing was left"));
    bench.run(&["redact", "--compact"]).ok();
    // Sent again, it stays away.
    let again = bench.run(&["ingest", &bench.file("again", event(0, "ada")), "--format", "json"]).ok().json();
    assert_eq!(again["duplicates"], 1);
    assert!(!bench.run(&["export", "events"]).ok().out.contains("\"ada\""));
}

#[test]
fn what_cannot_be_erased_is_named_with_what_can() {
    let bench = filled();
    bench.run(&["redact"]).fails(2, &["nothing is selected"]);
    bench
        .run(&["redact", "--event", "1", "--field", "/action/name"])
        .fails(2, &["/action/name", "/action/arguments"]);
    bench.run(&["redact", "--event", "1", "--field", "/outcome/result"]).fails(2, &["they have /", "/user"]);
    bench.run(&["redact", "--event", "99"]).fails(2, &["99", "verdict find"]);
    let field = ["redact", "--event", "refund-0", "--field", "/action/arguments"];
    bench.run(&[&field[..], &BASIS].concat()).ok();
    let events = bench.run(&["export", "events", "--range", "1..2"]).ok().out;
    assert!(events.contains("ada") && !events.contains("9000"), "{events}");
}

#[test]
fn a_decision_about_erased_arguments_is_unknown_and_evidence_from_before_still_verifies() {
    let bench = filled();
    bench.run(&["policy", "publish", &bench.policy("1", 5_000), "--activate"]).ok();
    let keys = bench.file("keys", bench.run(&["keys", "show"]).ok().out);
    let export = |name: &str| {
        let out = bench.path(name).to_str().unwrap_or_default().to_owned();
        bench.run(&["export", "evidence", "--range", "0..5", "--out", &out]).ok();
        out
    };
    let before = export("before.zip");
    bench.run(&[&["redact", "--event", "1"][..], &BASIS].concat()).ok();
    let after = export("after.zip");
    for bundle in [&before, &after] {
        bench.run(&["verify", bundle, "--key", &keys]).ok();
    }
    let listed = bench.shell(&format!("unzip -p {after} '*redactions.csv' || python3 -c \"import zipfile,sys;z=zipfile.ZipFile('{after}');print(z.read([n for n in z.namelist() if n.endswith('redactions.csv')][0]).decode())\""));
    assert!(listed.out.contains("1,/action/arguments,erased"), "{listed:#?}");
    let run = bench.run(&["replay", "run", "--policy", "shop@1", "--format", "json"]).calm();
    assert!(run.out.contains("unknown"), "{run:#?}");
}

#[test]
fn holds_and_retention_leave_what_they_must() {
    let bench = filled();
    let hold =
        bench.run(&["hold", "place", "--event", "1", "--matter", "C-12/26", "--format", "json"]).ok().json();
    let name = hold["hold"].as_str().unwrap_or_default().to_owned();
    let ada = ["redact", "--user", "ada", "--tenant", "harbor"];
    let plan = bench.run(&ada);
    assert!(plan.code == 1 && plan.out.contains("C-12/26"), "{plan:#?}");
    let done = bench.run(&[&ada[..], &BASIS, &["--format", "json"]].concat());
    assert_eq!((done.code, done.json()["held"][0]["seq"].as_u64()), (1, Some(1)), "{done:#?}");
    assert!(bench.run(&["export", "events", "--range", "1..2"]).ok().out.contains("ada"));
    assert!(bench.run(&["hold", "list"]).ok().out.contains(&name));
    bench.run(&["hold", "release", "0000"]).fails(2, &["0000", "hold list"]);
    bench.run(&["hold", "release", &name, "--reason", "settled"]).ok();
    assert!(
        bench.run(&["hold", "list", "--format", "json"]).ok().json()["holds"]
            .as_array()
            .is_some_and(Vec::is_empty)
    );
    bench
        .run(&["hold", "place", "--event", "1", "--matter", "M", "--until", "2020-01-01"])
        .fails(2, &["past"]);
    bench.run(&[&ada[..], &BASIS].concat()).ok();

    bench.run(&["retention", "set", "--days", "30"]).fails(2, &["183", "--below-floor"]);
    bench.run(&["retention", "set", "--days", "0", "--below-floor", "test data"]).ok();
    assert!(bench.run(&["retention", "show"]).ok().out.contains("test data"));
    let due = bench.run(&["retention", "run", "--dry-run", "--format", "json"]).ok().json();
    assert_eq!(due["values"], 2, "bob's are left: {due}");
    let run = bench.run(&["retention", "run", "--format", "json"]).ok().json();
    assert!(run["applied"].is_u64() && run["values"] == 2, "{run}");
    bench.run(&["verify"]).ok();
}
