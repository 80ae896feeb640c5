//! Policies in a real ledger: published, activated, found again.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::sync::Arc;

use serde_json::Value;
use verdict_ledger::clock::SteppingClock;
use verdict_ledger::{InitOptions, Ledger};
use verdict_replay::policy::compare::compare;
use verdict_replay::policy::registry::{
    RegistryError, What, activate, history, list, publish, publish_overriding, resolve,
};
use verdict_replay::policy::{Bundle, Policy};

use crate::policy::{bundle, testdata};

fn ledger(dir: &std::path::Path) -> Ledger {
    let options = InitOptions::new("example.com/verdict/test");
    Ledger::init(
        &dir.join("ledger"),
        &options,
        Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000)),
    )
    .unwrap()
}

#[test]
fn a_published_bundle_is_found_by_every_reference_and_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let (one, two) = (Bundle::load(&testdata("v1")).unwrap(), Bundle::load(&testdata("v2")).unwrap());
    let before = ledger.head().size;
    let receipt = publish(&ledger, &one, "ops@harbor-goods.example", "first").unwrap();
    assert_eq!((receipt.appended, receipt.size), (1, before + 1));
    let again = publish(&ledger, &one, "somebody-else", "again").unwrap();
    assert_eq!(
        (again.appended, again.duplicates, &again.seqs, again.size),
        (0, 1, &receipt.seqs, before + 1)
    );
    publish(&ledger, &two, "ops@harbor-goods.example", "pull request").unwrap();

    let none = resolve(Some(&ledger), "active").unwrap_err();
    assert!(matches!(&none, RegistryError::NoneActive { known } if known.len() == 2), "{none}");
    activate(&ledger, &one.digest(), "ops", "go").unwrap();

    let references = [
        "harbor-goods@1".to_owned(),
        one.digest().to_string(),
        one.digest().to_hex()[..8].to_owned(),
        "active".to_owned(),
    ];
    for reference in &references {
        let found = resolve(Some(&ledger), reference).unwrap();
        assert_eq!(found, one, "{reference}");
        Policy::compile(found).unwrap();
    }
    assert_eq!(resolve(Some(&ledger), "harbor-goods@2").unwrap(), two);

    let record = ledger.record(receipt.seqs[0]).unwrap().unwrap();
    assert_eq!(record.kind, "policy.published");
    assert_eq!(record.body["id"], Value::String(format!("policy:{}", one.digest())));
    assert_eq!(
        record.body["engine"],
        Value::String("regorus@0.14.1+interpreter+strict+verdict-adapter.1".into())
    );
    assert_eq!(record.body["files"].as_array().unwrap().len(), one.files().len());
    assert_eq!(record.body["reason"], "first");
}

#[test]
fn activation_is_a_history_and_the_last_one_counts() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let (one, two) = (Bundle::load(&testdata("v1")).unwrap(), Bundle::load(&testdata("v2")).unwrap());
    for bundle in [&one, &two] {
        publish(&ledger, bundle, "ops", "x").unwrap();
    }
    let first = activate(&ledger, &one.digest(), "ops", "go").unwrap();
    let again = activate(&ledger, &one.digest(), "ops", "go").unwrap();
    assert_eq!((again.appended, again.seqs), (0, first.seqs));
    activate(&ledger, &two.digest(), "ops", "better").unwrap();
    assert_eq!(resolve(Some(&ledger), "active").unwrap(), two);
    let back = activate(&ledger, &one.digest(), "ops", "back: too many waits").unwrap();
    assert_eq!(back.appended, 1, "the return to an earlier bundle is a new fact");
    let record = ledger.record(back.seqs[0]).unwrap().unwrap();
    assert_eq!(record.body["previous"], Value::String(two.digest().to_string()));

    let listed = list(&ledger).unwrap();
    let states: Vec<_> = listed.iter().map(|known| (known.version.as_str(), known.active)).collect();
    assert_eq!(states, [("1", true), ("2", false)]);
    assert!(listed[0].seq < listed[1].seq && listed[0].ts_ns <= listed[1].ts_ns);

    let unpublished =
        bundle(&[("t.rego", "package t\nfindings contains {\"effect\": \"allow\", \"rule\": \"r\"}\n")])
            .unwrap();
    let error = activate(&ledger, &unpublished.digest(), "ops", "x").unwrap_err();
    assert!(matches!(error, RegistryError::Unknown { .. }), "{error}");
}

#[test]
fn a_version_never_changes_and_what_does_not_compile_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let rego = "package t\nfindings contains {\"effect\": \"allow\", \"rule\": \"r\"}\n";
    let (one, other) =
        (bundle(&[("t.rego", rego)]).unwrap(), bundle(&[("t.rego", &format!("{rego}\n"))]).unwrap());
    publish(&ledger, &one, "ops", "x").unwrap();
    let size = ledger.head().size;
    let error = publish(&ledger, &other, "ops", "x").unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RegistryError::VersionTaken { .. }), "{text}");
    assert!(text.contains(&one.digest().to_string()) && text.contains(&other.digest().to_string()), "{text}");
    let bad = Bundle::load(&testdata("bad/unknown-effect")).unwrap();
    let error = publish(&ledger, &bad, "ops", "x").unwrap_err();
    assert!(
        matches!(error, RegistryError::Policy(_)) && error.to_string().contains("policy/rules.rego:3:31"),
        "{error}"
    );
    assert_eq!(ledger.head().size, size, "a refusal writes nothing");
}

#[test]
fn unknown_references_list_what_exists() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let error = resolve(Some(&ledger), "harbor-goods@1").unwrap_err().to_string();
    assert_eq!(error, "there is no policy `harbor-goods@1`; nothing is published yet");
    let one = Bundle::load(&testdata("v1")).unwrap();
    publish(&ledger, &one, "ops", "x").unwrap();
    let error = resolve(Some(&ledger), "harbor-goods@3").unwrap_err().to_string();
    assert_eq!(
        error,
        format!("there is no policy `harbor-goods@3`; published are harbor-goods@1 ({})", one.digest())
    );
    assert!(matches!(resolve(Some(&ledger), "harbor"), Err(RegistryError::Reference { .. })));
    assert!(matches!(resolve(None, "harbor-goods@1"), Err(RegistryError::NoLedger { .. })));
}

#[test]
fn a_path_needs_no_ledger() {
    let path = testdata("v1");
    let reference = path.to_str().unwrap();
    assert_eq!(resolve(None, reference).unwrap().version(), "1");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bundle.tar");
    fs::write(&file, Bundle::load(&path).unwrap().archive()).unwrap();
    assert_eq!(resolve(None, file.to_str().unwrap()).unwrap(), Bundle::load(&path).unwrap());
    let error = resolve(None, "./no-such-bundle").unwrap_err();
    assert!(
        matches!(&error, RegistryError::Bundle { reference, .. } if reference == "./no-such-bundle"),
        "{error}"
    );
}

const FAILING: &str = "package t_test\n\ntest_no if data.t.findings == set() with input as {}\n";

#[test]
fn a_bundle_that_fails_its_own_tests_needs_a_reason_on_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path());
    let rego = "package t\nfindings contains {\"effect\": \"allow\", \"rule\": \"r\"}\n";
    let failing = bundle(&[("t.rego", rego), ("tests/t_test.rego", FAILING)]).unwrap();
    let size = ledger.head().size;
    let error = publish(&ledger, &failing, "ops", "x").unwrap_err().to_string();
    assert_eq!(error, "t@1 fails 1 of its own 1 tests; the first is tests/t_test.rego:3 data.t_test.test_no");
    assert_eq!(ledger.head().size, size, "a refusal writes nothing");
    publish_overriding(&ledger, &failing, "ops", "x", Some("issue 31")).unwrap();
    let listed = list(&ledger).unwrap();
    assert_eq!(listed[0].overridden.as_deref(), Some("issue 31"));
    assert_eq!(listed[0].tests.map(|tests| (tests.passed, tests.failed, tests.skipped)), Some((0, 1, 0)));

    let good = with_settings(
        "version = \"2\"",
        &[("t.rego", rego), ("tests/t.toml", "[[cases]]\nname = \"n\"\neffect = \"allow\"\n")],
    );
    // Nothing to override, so nothing is said.
    publish_overriding(&ledger, &good, "ops", "y", Some("whatever")).unwrap();
    assert_eq!(list(&ledger).unwrap()[1].overridden, None);
    activate(&ledger, &failing.digest(), "ops", "go").unwrap();
    activate(&ledger, &good.digest(), "sec", "better").unwrap();
    let changes = history(&ledger).unwrap();
    let said: Vec<_> = changes
        .iter()
        .map(|change| {
            (
                change.what,
                change.version.as_str(),
                change.by.as_str(),
                change.reason.as_str(),
                change.previous,
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            (What::Published, "1", "ops", "x", None),
            (What::Published, "2", "ops", "y", None),
            (What::Activated, "1", "ops", "go", None),
            (What::Activated, "2", "sec", "better", Some(failing.digest())),
        ]
    );
    assert!(changes.windows(2).all(|pair| pair[0].seq < pair[1].seq));
}

fn with_settings(version: &str, files: &[(&str, &str)]) -> Bundle {
    let settings = crate::policy::SETTINGS.replace("version = \"1\"", version);
    let mut all = files.to_vec();
    all.push(("verdict.toml", &settings));
    bundle(&all).unwrap()
}

#[test]
fn what_differs_between_two_versions_is_told_by_rule() {
    let compile = |name: &str| Policy::compile(Bundle::load(&testdata(name)).unwrap()).unwrap();
    let (one, two) = (compile("v1"), compile("v2"));
    let nothing = compare(&one, &one);
    assert!(nothing.files.is_empty() && nothing.data.is_empty() && nothing.rules_changed.is_empty());
    let changes = compare(&one, &two);
    let ids = |rules: &[verdict_replay::policy::RuleRef]| {
        rules.iter().map(|rule| rule.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        ids(&changes.rules_added),
        ["control.active", "exfiltration.unverified", "sql.restricted_result", "sql.restricted_table"]
    );
    assert_eq!(ids(&changes.rules_removed), ["sql.restricted"]);
    assert!(
        ids(&changes.rules_changed).contains(&"email.external".to_owned()),
        "{:?}",
        changes.rules_changed
    );
    let data: Vec<_> = changes.data.iter().map(|change| change.pointer.as_str()).collect();
    assert_eq!(
        data,
        [
            "/harbor/classified/stay_inside",
            "/harbor/limits/loop/same_tool_max",
            "/harbor/limits/refund/approval_above_cents"
        ]
    );
    assert_eq!(changes.data[1].base, Some(10.into()));
    let egress = changes.files.iter().find(|file| file.path == "policy/egress.rego").unwrap();
    let hunk = &egress.hunks[0];
    assert!(hunk.rules.contains("email.external"), "{hunk:?}");
    assert!(
        hunk.lines.contains(
            &"-\t\"obligations\": [{\"kind\": \"notify\", \"params\": {\"role\": \"privacy\"}}],".to_owned()
        ),
        "{hunk:?}"
    );
    let back = compare(&two, &one);
    assert_eq!((back.rules_added, back.rules_removed), (changes.rules_removed, changes.rules_added));
}
