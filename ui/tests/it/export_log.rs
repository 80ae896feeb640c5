//! `verdict export log`: a log in a directory, again and again.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use verdict_ledger::merkle;
use verdict_ledger::note::{Checkpoint, VerifierKey};
use verdict_ledger::tile::{self, Tile, TileKind};

use crate::cli_support::{Bench, event};

/// Every file below a directory, by its name.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        for entry in std::fs::read_dir(dir.join(&below)).unwrap() {
            let entry = entry.unwrap();
            let name = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(name);
            } else {
                files.insert(name.to_str().unwrap().to_owned(), std::fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

fn key(bench: &Bench) -> VerifierKey {
    let shown = bench.run(&["keys", "show", "--format", "json"]).ok().json();
    VerifierKey::parse(shown["log"].as_str().unwrap()).unwrap()
}

/// Checks a directory from its files alone; returns the size.
fn verify(dir: &Path, key: &VerifierKey) -> u64 {
    let files = files(dir);
    let checkpoint = Checkpoint::verify(std::str::from_utf8(&files["checkpoint"]).unwrap(), key).unwrap();
    let mut leaves = Vec::new();
    for tile in Tile::between(0, checkpoint.size) {
        let bytes = files.get(&tile.to_string()).unwrap_or_else(|| panic!("no {tile}"));
        match tile.kind {
            TileKind::Entries => {
                leaves
                    .extend(tile::parse_entries(bytes).unwrap().iter().map(|entry| merkle::leaf_hash(entry)));
            }
            TileKind::Hashes(level) => {
                let hashes: Vec<_> = leaves
                    .chunks_exact(256usize.pow(level.into()))
                    .skip(usize::try_from(tile.index).unwrap() * 256)
                    .take(tile.width.into())
                    .map(|chunk| merkle::root_of(chunk.iter().copied()))
                    .collect();
                assert_eq!(*bytes, tile::hash_bytes(&hashes), "{tile}");
            }
        }
    }
    assert_eq!(merkle::root_of(leaves), checkpoint.root);
    checkpoint.size
}

/// Adds events `from..to`.
fn ingest(bench: &Bench, from: u64, to: u64) {
    let lines: String = (from..to).map(|number| event(number) + "\n").collect();
    bench.run(&["ingest", &bench.file("more.ndjson", lines)]).ok();
}

fn export(bench: &Bench, out: &str) -> serde_json::Value {
    bench.run(&["export", "log", "--out", out, "--format", "json"]).ok().json()
}

#[test]
fn an_export_grows_with_the_log_and_ends_with_the_same_bytes() {
    let bench = Bench::with_ledger();
    let key = key(&bench);
    ingest(&bench, 0, 20);
    let said = export(&bench, "log");
    assert_eq!(
        (said["size"].as_u64(), said["had"].as_u64(), said["files"].as_u64()),
        (Some(21), Some(0), Some(3))
    );
    assert_eq!(verify(&bench.path("log"), &key), 21);
    // Nothing new: only the checkpoint is written again.
    let said = export(&bench, "log");
    assert_eq!((said["had"].as_u64(), said["files"].as_u64()), (Some(21), Some(1)));
    for to in [200, 255, 256, 300, 700] {
        ingest(&bench, 0, to);
        let before = files(&bench.path("log"));
        assert_eq!(export(&bench, "log")["size"].as_u64(), Some(to + 1));
        assert_eq!(verify(&bench.path("log"), &key), to + 1);
        let after = files(&bench.path("log"));
        for (name, bytes) in before.iter().filter(|(name, _)| *name != "checkpoint") {
            // A file never changes; a partial tile may go when the full one is there.
            let full = name.split_once(".p/").map(|(full, _)| full);
            let there = after.get(name).is_some_and(|after| after == bytes);
            assert!(there || full.is_some_and(|full| after.contains_key(full)), "{name}");
        }
        assert!(after.keys().all(|name| name == "checkpoint" || Tile::parse(name).is_ok()), "{after:?}");
    }
    export(&bench, "fresh");
    let (grown, fresh) = (files(&bench.path("log")), files(&bench.path("fresh")));
    assert!(fresh.iter().all(|(name, bytes)| grown.get(name) == Some(bytes)));
    assert!(grown.keys().all(|name| fresh.contains_key(name) || name.contains(".p/")), "{grown:?}");
}

#[test]
fn an_export_that_was_interrupted_goes_on() {
    let bench = Bench::with_ledger();
    let key = key(&bench);
    ingest(&bench, 0, 600);
    export(&bench, "whole");
    // As after a crash: some tiles, something half written, no checkpoint.
    for (name, bytes) in files(&bench.path("whole")) {
        if name != "checkpoint" && !name.starts_with("tile/1") {
            bench.file(&format!("half/{name}"), bytes);
        }
    }
    bench.file("half/.partial/17", "half an ent");
    assert_eq!(export(&bench, "half")["had"].as_u64(), Some(0));
    assert_eq!(files(&bench.path("half")), files(&bench.path("whole")));
    assert_eq!(verify(&bench.path("half"), &key), 601);
}

#[test]
fn disclosures_are_written_only_on_request() {
    let bench = Bench::with_ledger();
    ingest(&bench, 0, 5);
    export(&bench, "log");
    let values = bench.path("log/disclosures.jsonl");
    assert!(!values.exists());
    for bytes in files(&bench.path("log")).values() {
        assert!(!String::from_utf8_lossy(bytes).contains("amount_cents"), "an argument in an entry");
    }
    let said = bench.run(&["export", "log", "--out", "log", "--disclosures"]).ok();
    assert!(said.out.contains("6 entries of example.org/verdict/test, 2 files written"), "{said:?}");
    assert_eq!(std::fs::read_to_string(values).unwrap().lines().count(), 5);
}

#[test]
fn what_is_not_an_export_of_this_log_is_left_alone() {
    let bench = Bench::with_ledger();
    ingest(&bench, 0, 3);
    bench.file("full/precious.txt", "mine");
    bench.run(&["export", "log", "--out", "full"]).fails(2, &["full", "is not empty", "hint"]);
    assert_eq!(files(&bench.path("full")).len(), 1);
    let file = bench.file("plain", "x");
    bench.run(&["export", "log", "--out", &file]).fails(4, &["plain"]);

    export(&bench, "log");
    let before = files(&bench.path("log"));
    let note = String::from_utf8(before["checkpoint"].clone()).unwrap();
    let with = |checkpoint: &str| drop(bench.file("log/checkpoint", checkpoint));
    let refused = |code, names: &[&str]| {
        bench.run(&["export", "log", "--out", "log"]).fails(code, names);
    };
    with("not a checkpoint");
    refused(2, &["log", "cannot be read", "hint"]);
    with(&note.replace("example.org/verdict/test", "example.org/other"));
    refused(2, &["holds log `example.org/other`", "--out"]);
    with(&note.replacen("\n4\n", "\n5\n", 1));
    refused(3, &["holds 5 entries", "rolled back"]);
    with(&note.replacen("\n4\n", "\n3\n", 1));
    refused(3, &["3 entries has another root", "fork"]);
    let after = files(&bench.path("log"));
    assert!(before.iter().all(|(name, bytes)| name == "checkpoint" || after.get(name) == Some(bytes)));
}
