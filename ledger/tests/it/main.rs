//! Integration tests of the ledger, in one binary: RocksDB is linked once.

mod anchored;
mod bad_input;
mod clients;
mod compatibility;
mod crash;
mod edge_json;
mod erasure;
mod ingest;
mod keys;
mod located;
mod mutations;
mod query;
mod remap;
mod restore;
mod store;
mod tamper;
mod witness;
mod workspace;

/// A test file that no `mod` line names would never run.
#[test]
fn no_test_file_is_forgotten() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    let main = std::fs::read_to_string(format!("{dir}/main.rs")).unwrap();
    for file in std::fs::read_dir(dir).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        let named = name == "main.rs" || name == "snapshots" || main.contains(&format!("mod {module};"));
        assert!(named, "{name} is not a module of tests/it/main.rs");
    }
}
