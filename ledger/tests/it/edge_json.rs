//! The 22 ways in which OTLP/JSON is written at its edges, with what the specification says of each.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use verdict_ledger::ingest::{self, Format, IngestError, Limits, Mapped};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/edge-json")
}

fn cases() -> BTreeMap<String, Result<Mapped, IngestError>> {
    let cases: BTreeMap<String, Value> =
        serde_json::from_slice(&std::fs::read(folder().join("cases.json")).unwrap()).unwrap();
    let map = |(file, case): (String, Value)| {
        let bytes = std::fs::read(folder().join(&file)).unwrap();
        let name = case.get("case").and_then(Value::as_str).unwrap().to_owned();
        (name, ingest::map(Format::OtlpJson, &bytes, &Limits::default()))
    };
    cases.into_iter().map(map).collect()
}

#[test]
fn each_case_is_taken_or_refused_as_the_specification_has_it() {
    let cases = cases();
    assert_eq!(cases.len(), 22);
    for (name, result) in &cases {
        match name.as_str() {
            "enum-name" | "bad-hex" => assert!(result.is_err(), "{name} was taken"),
            "short-trace-id" | "zero-ids" => {
                let mapped = result.as_ref().unwrap();
                assert_eq!((mapped.events.len(), mapped.rejected.len()), (0, 1), "{name}: only the span");
            }
            "snake-case" => {
                let mapped = result.as_ref().unwrap();
                assert!(
                    mapped.events.is_empty() && !mapped.warnings.is_empty(),
                    "{name}: lost without a word"
                );
            }
            "empty-envelope" => {
                let mapped = result.as_ref().unwrap();
                assert!(mapped.events.is_empty() && mapped.rejected.is_empty(), "{name}");
            }
            "end-before-start" | "duplicate-attr-key" => {
                let mapped = result.as_ref().unwrap();
                assert!(
                    mapped.events.len() == 1 && mapped.warnings.len() == 1,
                    "{name}: {:?}",
                    mapped.warnings
                );
            }
            _ => {
                let mapped = result.as_ref().unwrap();
                assert_eq!((mapped.events.len(), mapped.rejected.len()), (1, 0), "{name}");
                assert!(mapped.warnings.is_empty(), "{name}: {:?}", mapped.warnings);
            }
        }
    }
}

#[test]
fn ids_of_any_case_are_one_id() {
    let cases = cases();
    let id = |name: &str| cases.get(name).unwrap().as_ref().unwrap().events.first().unwrap().id.clone();
    let upper = id("upper-hex");
    assert_eq!(upper, upper.to_lowercase());
}
