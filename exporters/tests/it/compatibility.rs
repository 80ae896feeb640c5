//! Bundles that earlier versions wrote: every later verifier must find in them what was found then.

use std::path::Path;

use verdict_exporters::evidence::{Limits, Outcome, VerifierKeys, verify};
use verdict_ledger::note::VerifierKey;

const V1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/evidence/v1");

fn file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(V1).join(name)).unwrap()
}

fn keys() -> VerifierKeys {
    let text = String::from_utf8(file("auditor.keys")).unwrap();
    let keys = text.lines().filter(|line| !line.starts_with('#'));
    let keys = keys.map(|line| VerifierKey::parse(line).unwrap());
    let (bundle, log) = keys.partition(|key| key.name().ends_with("/bundle"));
    VerifierKeys { log, bundle, ..VerifierKeys::default() }
}

#[test]
fn a_bundle_of_version_1_verifies_and_a_changed_one_does_not() {
    for (name, entries) in [("trace.zip", 4), ("range.zip", 300)] {
        let bytes = file(name);
        let report = verify(&bytes[..], &keys(), &Limits::default()).unwrap();
        assert_eq!(report.outcome, Outcome::Verified, "{name}: {:#?}", report.checks);
        assert_eq!(report.predicate.as_ref().unwrap().counts.entries, entries, "{name}");

        let unknown = verify(&bytes[..], &VerifierKeys::default(), &Limits::default()).unwrap();
        assert_ne!(
            unknown.outcome,
            Outcome::Verified,
            "{name}: keys come from the auditor, not from the bundle"
        );
        for at in [bytes.len() / 4, bytes.len() / 2, bytes.len() * 3 / 4] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let report = verify(&changed[..], &keys(), &Limits::default());
            assert!(report.is_err() || report.unwrap().outcome != Outcome::Verified, "{name}: byte {at}");
        }
    }
}
