//! What is exported verifies, says what it holds, and is the same bytes every time.

use std::collections::BTreeSet;

use verdict_exporters::evidence::{ExportError, Outcome, Selection, Status, Withhold, build, export_event};

use crate::fixture::{Log, ORIGIN, SECRET, TRACE, check, trace, unzip};

#[test]
fn a_trace_verifies_and_holds_what_the_format_promises() {
    let log = Log::new(40);
    let built = log.build(trace(), Withhold::Nothing);
    let report = check(&built.bytes, &log.keys());
    assert_eq!(report.outcome, Outcome::Verified, "{:#?}", report.checks);
    assert!(report.checks.iter().all(|check| check.status == Status::Ok));
    let names: Vec<_> = report.checks.iter().map(|check| check.name).collect();
    assert_eq!(
        names,
        [
            "archive",
            "layout",
            "signature",
            "files",
            "manifests",
            "keys",
            "checkpoint",
            "entries",
            "inclusion",
            "disclosures",
            "redactions",
            "index",
            "policies",
            "counts"
        ]
    );
    assert_eq!(report.archive_sha256, built.digest.to_hex());
    assert_eq!(report.predicate.as_ref(), Some(&built.predicate));
    assert_eq!(built.name, format!("evidence-ledger.example-it-trace-{TRACE}-at-40"));
    assert_eq!(built.predicate.counts.entries, 4);
    assert_eq!(built.predicate.counts.by_effect["block"], 1);
    assert_eq!(built.predicate.policies[0].decisions, 2);

    let files = unzip(&built.bytes);
    let policy = log.policy.digest().to_hex();
    for name in [
        "bagit.txt",
        "bag-info.txt",
        "manifest-sha256.txt",
        "tagmanifest-sha256.txt",
        "README.txt",
        "signature.dsse.json",
        "signature.sigstore.json",
        "data/report.html",
        "data/verify.html",
        "data/events.jsonl",
        "data/disclosures.jsonl",
        "data/index.csv",
        "data/redactions.csv",
        "data/verification.json",
        "data/log/checkpoint",
        "data/log/key-history.jsonl",
        "data/log/keys.jsonl",
        "data/log/policy.tlog-policy",
        "data/proofs/2.tlog-proof",
        "data/proofs/6.tlog-proof",
        "data/replay/transcript.json",
        "data/compliance/controls.csv",
        "data/compliance/oscal-assessment-results.json",
        &format!("data/policy/{policy}/verdict.toml"),
    ] {
        assert!(files.contains_key(name), "{name} is missing in {:?}", files.keys());
    }
    let transcript: serde_json::Value =
        serde_json::from_slice(&files["data/replay/transcript.json"]).unwrap();
    assert_eq!((&transcript["identical"], &transcript["different"]), (&1.into(), &1.into()));
    let index = String::from_utf8(files["data/index.csv"].clone()).unwrap();
    assert!(index.contains("\"'=HYPERLINK("), "{index}");
}

#[test]
fn the_report_is_one_inert_page_that_begins_with_its_limits() {
    let log = Log::new(40);
    let html = unzip(&log.build(trace(), Withhold::Nothing).bytes).remove("data/report.html").unwrap();
    let html = String::from_utf8(html).unwrap();
    assert!(!html.contains("<script"), "no script, and what events say is escaped");
    for outside in ["http://www", "https://", "src=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    let limits = html.find("What this does not prove").unwrap();
    assert!(limits < html.find("How to check").unwrap() && limits < html.find("issue_refund").unwrap());
    assert!(html.contains("That these are all the events of this trace"));
    let range = unzip(&log.build(Selection::Range(0..40), Withhold::Nothing).bytes)
        .remove("data/report.html")
        .unwrap();
    assert!(!String::from_utf8(range).unwrap().contains("That these are all the events of this trace"));
}

#[test]
fn every_range_verifies() {
    let log = Log::new(23);
    for (first, end) in [(0, 23), (0, 1), (22, 23), (3, 9), (7, 8), (1, 22)] {
        let built = log.build(Selection::Range(first..end), Withhold::Nothing);
        let report = check(&built.bytes, &log.keys());
        assert_eq!(report.outcome, Outcome::Verified, "{first}..{end}: {:#?}", report.checks);
        assert_eq!(built.predicate.counts.entries, end - first);
        let files = unzip(&built.bytes);
        let proofs = files.keys().filter(|name| name.starts_with("data/proofs/")).count();
        assert_eq!(proofs, if end - first == 1 { 1 } else { 2 });
    }
}

#[test]
fn the_same_material_gives_the_same_bytes() {
    let one = Log::new(40).build(Selection::Range(0..40), Withhold::Everything);
    let two = Log::new(40).build(Selection::Range(0..40), Withhold::Everything);
    assert_eq!(one.bytes, two.bytes);
    assert_eq!(one.digest, two.digest);
}

#[test]
fn what_is_withheld_is_nowhere_in_the_bundle_and_is_listed() {
    let log = Log::new(40);
    let members = BTreeSet::from(["/user".to_owned(), "/action/arguments".to_owned()]);
    let built = log.build(trace(), Withhold::Members(members));
    assert_eq!(check(&built.bytes, &log.keys()).outcome, Outcome::Verified);
    let files = unzip(&built.bytes);
    let encoded_secret = |content: &[u8]| {
        let text = String::from_utf8_lossy(content);
        text.contains(SECRET) || text.contains("opening hours") || text.contains("alert(1)")
    };
    for (name, content) in &files {
        assert!(!encoded_secret(content), "{name} shows a withheld value");
    }
    let redactions = String::from_utf8(files["data/redactions.csv"].clone()).unwrap();
    assert_eq!(
        redactions,
        "seq,member,reason\n4,/action/arguments,withheld\n4,/user,withheld\n5,/action/arguments,withheld\n"
    );
    assert_eq!(built.predicate.counts.redactions, 3);
    // The values of other members are still there.
    let disclosures = String::from_utf8(files["data/disclosures.jsonl"].clone()).unwrap();
    assert_eq!(disclosures.lines().count(), 3);

    let nothing = log.build(trace(), Withhold::Everything);
    assert_eq!(check(&nothing.bytes, &log.keys()).outcome, Outcome::Verified);
    assert!(unzip(&nothing.bytes)["data/disclosures.jsonl"].is_empty());
}

#[test]
fn what_the_ledger_no_longer_holds_is_called_erased() {
    let log = Log::new(40);
    let mut material = log.material(trace());
    material.disclosures.remove(&6);
    let built = build(&material, &log.options(Withhold::Nothing)).unwrap();
    assert_eq!(check(&built.bytes, &log.keys()).outcome, Outcome::Verified);
    let redactions = String::from_utf8(unzip(&built.bytes)["data/redactions.csv"].clone()).unwrap();
    assert!(redactions.contains("6,/outcome/error/message,erased\n"), "{redactions}");
}

#[test]
fn an_unsound_ledger_is_not_signed() {
    let log = Log::new(40);
    let mut material = log.material(Selection::Range(3..9));
    let entry = material.entries.get_mut(&5).unwrap();
    *entry = String::from_utf8(entry.clone()).unwrap().replace("harbor", "Harbor").into_bytes();
    let error = build(&material, &log.options(Withhold::Nothing)).unwrap_err();
    assert!(matches!(error, ExportError::Unsound { check: "inclusion", .. }), "{error}");

    let mut material = log.material(trace());
    material.disclosures.get_mut(&4).unwrap().push(log.material(trace()).disclosures[&5][0].clone());
    let error = build(&material, &log.options(Withhold::Nothing)).unwrap_err();
    assert!(matches!(error, ExportError::Entry { seq: 4, .. }), "{error}");
}

#[test]
fn the_log_key_does_not_sign_bundles() {
    let log = Log::new(10);
    let mut options = log.options(Withhold::Nothing);
    options.signer = log.log_key();
    let error = build(&log.material(Selection::Range(0..10)), &options).unwrap_err();
    assert!(matches!(error, ExportError::SharedKey));
}

#[test]
fn an_export_is_an_event_of_its_own() {
    let log = Log::new(10);
    let built = log.build(Selection::Range(0..10), Withhold::Nothing);
    let event = export_event(&built, "grace@example.org");
    assert_eq!(event.kind, "export.created");
    assert_eq!(event.body["bundle"], built.digest.to_string());
    assert_eq!(event.body["selection"]["last"], "9");
    assert_eq!(event.body["checkpoint"]["size"], "10");
    assert_eq!(built.predicate.origin, ORIGIN);
    assert!(event.id().is_some());
}

#[test]
fn what_is_in_quarantine_is_there_and_counts_nowhere() {
    let mut log = Log::new(40);
    let free = log.build(Selection::Range(0..40), Withhold::Nothing);
    log.held = vec![4, 9];
    for selection in [Selection::Range(0..40), trace()] {
        let in_trace = selection == trace();
        let built = log.build(selection, Withhold::Nothing);
        let report = check(&built.bytes, &log.keys());
        assert!(report.checks.iter().all(|check| check.status == Status::Ok), "{:?}", report.checks);
        let predicate = &built.predicate;
        let held = if in_trace { vec!["4"] } else { vec!["4", "9"] };
        assert_eq!(predicate.quarantined, held);
        assert_eq!(predicate.counts.quarantined, held.len() as u64);
        let counted: u64 = predicate.counts.by_type.values().sum();
        assert_eq!(counted + predicate.counts.quarantined, predicate.counts.entries);
        assert_eq!(predicate.counts.by_effect.get("block"), None, "the only block is held back");
        assert_eq!(predicate.policies[0].decisions, 1);
        let files = unzip(&built.bytes);
        let text = |name: &str| String::from_utf8(files[name].clone()).unwrap();
        assert!(text("data/events.jsonl").contains("refund over the limit"), "it is part of the log");
        let index = text("data/index.csv");
        assert!(index.lines().next().unwrap().ends_with("policy_digest,quarantined,leaf_sha256"), "{index}");
        assert_eq!(index.lines().filter(|line| line.contains(",yes,")).count(), held.len());
        let controls = text("data/compliance/controls.csv");
        let stopped = controls.lines().find(|line| line.contains("CC7.2")).unwrap();
        assert!(stopped.contains(",0,"), "{stopped}");
        let transcript: serde_json::Value =
            serde_json::from_slice(&files["data/replay/transcript.json"]).unwrap();
        assert_eq!(transcript["reevaluated"], 1, "{transcript}");
        let html = text("data/report.html");
        assert!(html.contains(">quarantined</span>") && html.contains("in quarantine"));
    }
    assert!(free.predicate.quarantined.is_empty());
    let statement = unzip(&free.bytes)["signature.dsse.json"].clone();
    assert!(!String::from_utf8(statement).unwrap().contains("quarantined"));
}

#[test]
fn a_statement_that_holds_back_what_is_not_there_is_not_signed() {
    let log = Log::new(40);
    let mut material = log.material(Selection::Range(3..9));
    material.quarantined.insert(20);
    let error = build(&material, &log.options(Withhold::Nothing)).unwrap_err().to_string();
    assert!(error.contains("in quarantine"), "{error}");
}
