//! Evidence bundles from outside: what a caller can export, and what a verifier can find out.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod compatibility;
mod corpus;
mod fixture;
mod interop;
mod keys;
mod ledger;
mod round_trip;
mod tamper;

/// A module that nobody declares is a test that nobody runs.
#[test]
fn every_file_here_is_a_module() {
    let main = include_str!("main.rs");
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").unwrap();
        assert!(module == "main" || main.contains(&format!("mod {module};")), "{name} is not declared");
    }
}
