//! Policies in a real ledger: published, activated, found again.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::sync::Arc;

use serde_json::Value;
use verdict_ledger::clock::SteppingClock;
use verdict_ledger::{InitOptions, Ledger};
use verdict_replay::policy::registry::{RegistryError, activate, list, publish, resolve};
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
