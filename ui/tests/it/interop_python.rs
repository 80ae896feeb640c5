//! Python packages that we did not write read our log over HTTP, and our own Python reader reads what it must and
//! refuses the rest. Without Python these say aloud that they did not run.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use verdict_ledger::chain::Link;
use verdict_ledger::clock::SteppingEntropy;
use verdict_ledger::key::SigningKey;
use verdict_ledger::note::{Checkpoint, VerifierKey};
use verdict_ledger::{merkle, tile};

use crate::cli_support::{Bench, Said, copy};
use crate::served::Served;

/// The interpreter with the packages of `.ci/python-requirements.txt`.
pub(crate) fn python() -> Option<PathBuf> {
    let set = ["VERDICT_INTEROP_PYTHON", "VERDICT_PYTHON"].into_iter().find_map(std::env::var_os);
    if set.is_none() {
        skipped();
    }
    set.map(PathBuf::from)
}

#[expect(clippy::print_stderr, reason = "a check that did not run must not look like one that passed")]
fn skipped() {
    eprintln!(
        "SKIPPED: neither VERDICT_INTEROP_PYTHON nor VERDICT_PYTHON names a Python with scitt-cose, sigstore, pymerkle and blake3"
    );
}

fn reader() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ledger/docs/reader.py")
}

/// Runs the reader, as if the package `without` were not installed.
fn read(python: &Path, args: &[&str], without: Option<&str>) -> Said {
    let mut command = Command::new(python);
    command.arg("-B");
    if let Some(package) = without {
        // For Python a module that is None is one that is not there.
        command.arg("-c").arg(format!(
            "import runpy, sys\nsys.modules['{package}'] = None\nsys.argv = sys.argv[1:]\n\
             runpy.run_path(sys.argv[0], run_name='__main__')\n"
        ));
    }
    Said::of(&command.arg(reader()).args(args).output().unwrap())
}

/// An exported log with its keys and disclosures.
struct Exported {
    bench: Bench,
    log: PathBuf,
    keys: String,
}

impl Exported {
    fn with(events: u64) -> Self {
        let bench = Bench::with_ledger();
        bench.run(&["ingest", &bench.events(events)]).ok();
        let log = bench.path("log");
        bench.run(&["export", "log", "--out", "log", "--disclosures"]).ok();
        let keys = bench.file("auditor.keys", bench.run(&["keys", "show"]).ok().out);
        Self { bench, log, keys }
    }

    fn args<'a>(&'a self, log: &'a Path, disclosures: &'a Path) -> [&'a str; 3] {
        [log.to_str().unwrap(), &self.keys, disclosures.to_str().unwrap()]
    }
}

#[test]
fn the_reader_is_short_enough_to_be_read() {
    let text = std::fs::read_to_string(reader()).unwrap();
    assert!(text.lines().count() <= 100, "{} lines", text.lines().count());
    assert!(text.lines().all(|line| line.chars().count() <= 120), "a line is too long");
}

#[test]
fn the_reader_verifies_an_export_with_its_disclosures() {
    let Some(python) = python() else { return };
    let exported = Exported::with(300);
    let head = exported.bench.run(&["checkpoint", "show", "--format", "json"]).ok().json();
    let disclosures = exported.log.join("disclosures.jsonl");
    for (without, chain) in [(None, "chain holds"), (Some("blake3"), "chain not checked (no blake3)")] {
        let said = read(&python, &exported.args(&exported.log, &disclosures), without).ok();
        let (size, root) = (&head["size"], head["root"].as_str().unwrap());
        let want = format!(
            "ok: {size} entries of example.org/verdict/test, root {root}, {chain}, 300 values, signed by "
        );
        assert!(said.out.starts_with(&want), "{}", said.out);
    }
    // Without the values there is less to check, and nothing is missing.
    read(&python, &[exported.log.to_str().unwrap(), &exported.keys], None).ok();
    let usage = read(&python, &[], None);
    assert_eq!(usage.code, 2, "{usage:?}");
    assert!(usage.err.contains("usage: reader.py LOG KEYS"), "{usage:?}");
}

#[test]
fn the_reader_follows_a_rotation_and_a_restore_and_no_other_change_of_name() {
    let Some(python) = python() else { return };
    let exported = Exported::with(3);
    let (bench, first) = (&exported.bench, exported.keys.clone());
    let run = |args: &[&str]| bench.run(args).ok();
    copy(&bench.path("ledger"), &bench.path("backup"));
    run(&["ingest", &bench.events(5)]);
    std::fs::remove_dir_all(bench.path("ledger")).unwrap();
    copy(&bench.path("backup"), &bench.path("ledger"));
    run(&["restore", "--from", bench.path("ledger").to_str().unwrap(), "--reason", "disk"]);
    run(&["keys", "rotate", "--role", "log", "--reason", "yearly"]);
    run(&["ingest", &bench.events(5)]);
    run(&["export", "log", "--out", "after"]);
    let keys = bench.file("new.keys", run(&["keys", "show"]).out);
    let after = bench.path("after");
    let after = after.to_str().unwrap();
    let said = read(&python, &[after, &keys], None).ok();
    assert!(said.out.contains(" entries of example.org/verdict/test/2, root "), "{}", said.out);
    // The file holds the former keys too, and says for which sizes; the old file alone does not do.
    let old = read(&python, &[after, &first], None);
    assert_eq!((old.code, old.out.contains("no signature by any of the given keys")), (1, true), "{old:?}");
}

#[test]
fn the_reader_verifies_a_served_log() {
    let Some(python) = python() else { return };
    let served = Served::with(600);
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys");
    std::fs::write(&keys, served.ledger.verifier_key()).unwrap();
    let said = read(&python, &[&served.url(), keys.to_str().unwrap()], None).ok();
    assert!(said.out.starts_with("ok: 600 entries of harbor.example/verdict/served, root "), "{}", said.out);
}

/// Where an entry stands in its bundle, with its length.
fn span(bundle: &[u8], index: usize) -> std::ops::Range<usize> {
    let mut start = 0;
    for _ in 0..index {
        start += 2 + usize::from(u16::from_be_bytes([bundle[start], bundle[start + 1]]));
    }
    start..start + 2 + usize::from(u16::from_be_bytes([bundle[start], bundle[start + 1]]))
}

#[test]
fn the_reader_names_the_first_bad_place() {
    let Some(python) = python() else { return };
    let exported = Exported::with(300);
    let other = Exported::with(2);
    let copies = exported.bench.path("copies");
    let none = exported.bench.file("none", "");
    let mut number = 0;
    let mut bad = |what: &str, place: &str, change: &dyn Fn(&Path)| {
        number += 1;
        let log = copies.join(number.to_string());
        copy(&exported.log, &log);
        change(&log);
        let disclosures = log.join("disclosures.jsonl");
        for without in [None, Some("blake3")] {
            let said = read(&python, &exported.args(&log, &disclosures), without);
            assert_eq!((said.code, said.err.as_str()), (1, ""), "{what}: {said:?}");
            assert!(said.out.starts_with(&format!("bad: {place}: ")), "{what}: {}", said.out);
        }
    };
    let entries = |log: &Path| log.join("tile/entries/000");
    let edit = |path: PathBuf, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
    };
    bad("a changed amount", "entry 17", &|log| {
        edit(entries(log), &|bytes| {
            let span = span(bytes, 17);
            let place = bytes[span.clone()].windows(12).position(|text| text == b"issue_refund").unwrap();
            bytes[span.start + place] = b'I';
        });
    });
    bad("a removed entry", "entry 40", &|log| {
        edit(entries(log), &|bytes| drop(bytes.drain(span(bytes, 40))));
    });
    bad("an entry twice", "entry 41", &|log| {
        edit(entries(log), &|bytes| {
            let twice = bytes[span(bytes, 40)].to_vec();
            let at = span(bytes, 41).start;
            drop(bytes.splice(at..at, twice));
        });
    });
    bad("two entries swapped", "entry 7", &|log| {
        edit(entries(log), &|bytes| {
            let (first, second) = (bytes[span(bytes, 7)].to_vec(), bytes[span(bytes, 8)].to_vec());
            let both = span(bytes, 7).start..span(bytes, 8).end;
            drop(bytes.splice(both, [second, first].concat()));
        });
    });
    bad("a cut bundle", "entry 255", &|log| edit(entries(log), &|bytes| bytes.truncate(bytes.len() - 1)));
    bad("a longer bundle", "entry 255", &|log| edit(entries(log), &|bytes| bytes.push(0)));
    bad("a changed hash", "entry 9", &|log| edit(log.join("tile/0/000"), &|bytes| bytes[9 * 32] ^= 1));
    bad("a changed node", "tile/1/000.p/1", &|log| edit(log.join("tile/1/000.p/1"), &|bytes| bytes[0] ^= 1));
    bad("a missing bundle", "tile/entries/001.p/45", &|log| {
        std::fs::remove_file(log.join("tile/entries/001.p/45")).unwrap();
    });
    bad("a missing tile", "tile/0/000", &|log| std::fs::remove_file(log.join("tile/0/000")).unwrap());
    bad("another root", "checkpoint", &|log| {
        edit(log.join("checkpoint"), &|bytes| {
            let root = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
            bytes[root] = if bytes[root] == b'A' { b'B' } else { b'A' };
        });
    });
    bad("a smaller size", "checkpoint", &|log| {
        let text = std::fs::read_to_string(log.join("checkpoint")).unwrap();
        std::fs::write(log.join("checkpoint"), text.replacen("\n301\n", "\n300\n", 1)).unwrap();
    });
    bad("no signature", "checkpoint", &|log| {
        let text = std::fs::read_to_string(log.join("checkpoint")).unwrap();
        std::fs::write(log.join("checkpoint"), text.split_once("\n\n").unwrap().0.to_owned() + "\n\n")
            .unwrap();
    });
    bad("the checkpoint of another log of this name", "checkpoint", &|log| {
        std::fs::copy(other.log.join("checkpoint"), log.join("checkpoint")).unwrap();
    });
    let values = |log: &Path| std::fs::read_to_string(log.join("disclosures.jsonl")).unwrap();
    bad("a value of another entry", "entry 5", &|log| {
        let moved = values(log).replacen("\"seq\":\"6\"", "\"seq\":\"5\"", 1);
        std::fs::write(log.join("disclosures.jsonl"), moved).unwrap();
    });
    bad("a changed value", "entry 1", &|log| {
        edit(log.join("disclosures.jsonl"), &|bytes| {
            let value = bytes.windows(5).position(|text| text == b"\"d\":\"").unwrap() + 60;
            bytes[value] = if bytes[value] == b'A' { b'B' } else { b'A' };
        });
    });
    bad("a value twice", "entry 1", &|log| {
        let line = values(log).lines().next().unwrap().to_owned() + "\n";
        std::fs::write(log.join("disclosures.jsonl"), line.clone() + &values(log)).unwrap();
    });
    bad("a value of an entry that is not there", "disclosures", &|log| {
        let more = values(log)
            + &values(log).lines().next().unwrap().replacen("\"seq\":\"1\"", "\"seq\":\"999\"", 1);
        std::fs::write(log.join("disclosures.jsonl"), more + "\n").unwrap();
    });
    // The keys come from the auditor.
    for keys in [&other.keys, &none] {
        let said = read(&python, &[exported.log.to_str().unwrap(), keys], None);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.out.contains("bad: checkpoint: it has no signature by any of the given keys"),
            "{said:?}"
        );
    }
}

/// Writes a log of entries with these types and origins, well chained, under a checkpoint of the last origin.
fn written(dir: &Path, entries: &[(&str, &str)]) -> PathBuf {
    let signer = SigningKey::generate(&SteppingEntropy::starting_at(5)).unwrap();
    let key = |origin: &str| VerifierKey::new(origin, signer.public()).unwrap().to_string();
    let (_, first) = entries[0];
    let mut prev = Link::genesis(first, &[7; 16], &key(first));
    let (mut bundle, mut leaves) = (Vec::new(), Vec::new());
    for (seq, (kind, origin)) in entries.iter().enumerate() {
        let body = json!({"id": format!("e{seq}"), "uuid": "07".repeat(16), "verifier_key": key(first)});
        let entry = json!({
            "v": 1, "seq": seq.to_string(), "ts": "2026-11-20T17:00:00.000000000Z", "type": kind, "prev": prev.to_string(),
            "origin": origin, "body": body, "_sd_alg": "sha-256",
        });
        let entry = entry.to_string().into_bytes();
        tile::push_entry(&mut bundle, &entry).unwrap();
        leaves.push(merkle::leaf_hash(&entry));
        prev = Link::of_entry(&entry);
    }
    let (size, (_, last)) = (entries.len(), entries.last().unwrap());
    for (kind, bytes) in [("entries", bundle), ("0", tile::hash_bytes(&leaves))] {
        let tile = dir.join(format!("tile/{kind}/000.p/{size}"));
        std::fs::create_dir_all(tile.parent().unwrap()).unwrap();
        std::fs::write(tile, bytes).unwrap();
    }
    let checkpoint =
        Checkpoint { origin: (*last).to_owned(), size: size as u64, root: merkle::root_of(leaves) };
    std::fs::write(dir.join("checkpoint"), checkpoint.sign(&signer).unwrap()).unwrap();
    std::fs::write(dir.join("keys"), key(last)).unwrap();
    dir.join("keys")
}

#[test]
fn the_reader_follows_a_restored_log_to_its_new_name_and_no_other_change() {
    let Some(python) = python() else { return };
    let (created, event, restored) = ("ledger.created", "action.reported", "restore.performed");
    let says = |entries: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        let keys = written(dir.path(), entries);
        read(&python, &[dir.path().to_str().unwrap(), keys.to_str().unwrap()], None)
    };
    let good = says(&[
        (created, "a.example/log"),
        (event, "a.example/log"),
        (restored, "a.example/log/2"),
        (event, "a.example/log/2"),
    ]);
    assert!(good.ok().out.starts_with("ok: 4 entries of a.example/log/2, root "));
    for (entries, place) in [
        ([(created, "a.example/log"), (event, "a.example/log/2"), (event, "a.example/log/2")], "entry 1"),
        ([(created, "a.example/log"), (restored, "a.example/log/2"), (event, "a.example/log")], "entry 2"),
    ] {
        let said = says(&entries);
        assert_eq!(
            (said.code, said.out.as_str()),
            (1, format!("bad: {place}: it belongs elsewhere\n").as_str())
        );
    }
}

#[test]
fn the_reader_notices_every_changed_byte() {
    let Some(python) = python() else { return };
    let exported = Exported::with(4);
    let script = r"
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location('reader', sys.argv[1])
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)
log, keys = sys.argv[2], pathlib.Path(sys.argv[3]).read_text()
files = sorted(path for path in pathlib.Path(log).rglob('*') if path.is_file())
values = lambda: list(filter(None, pathlib.Path(log, 'disclosures.jsonl').read_text().split('\n')))
print(reader.verify(log, keys, values()).split(',')[0])
changed = missed = 0
for path in files:
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place * 3 % 8
        path.write_bytes(bad)
        changed += 1
        try:
            reader.verify(log, keys, values())
        except Exception:
            continue
        missed += 1
        print('missed', path, place, good[max(0, place - 20):place + 20])
    path.write_bytes(good)
print(len(files), 'files', changed > 3000, missed)
";
    let mut command = Command::new(python);
    command.args(["-B", "-c", script]).arg(reader()).arg(&exported.log).arg(&exported.keys);
    let said = Said::of(&command.output().unwrap()).ok();
    assert_eq!(said.out, "5 entries of example.org/verdict/test\n4 files True 0\n");
}

#[test]
fn python_packages_verify_what_is_served() {
    let Some(python) = python() else { return };
    let served = Served::with(700);
    let hex = |hashes: Vec<verdict_ledger::merkle::Hash>| {
        hashes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let consistency: Vec<_> = [1u64, 2, 255, 256, 257, 511, 512, 600, 699]
        .into_iter()
        .map(|old| {
            json!({"old": old, "root": served.ledger.root_at(old).unwrap(),
                   "proof": hex(served.ledger.consistency_proof(old, 700).unwrap())})
        })
        .collect();
    let asked = json!({"url": served.url(), "key": served.ledger.verifier_key(), "consistency": consistency});
    let mut command = Command::new(python);
    command.args(["-B", "-c", include_str!("interop.py")]).arg(asked.to_string());
    let said = Said::of(&command.output().unwrap()).ok();
    assert_eq!(
        said.out,
        "sigstore: harbor.example/verdict/served 700, root of the checkpoint\n\
         cryptography: signature holds, a changed text does not\n\
         pymerkle: root of the checkpoint\n\
         sigstore: 6 inclusion proofs\n\
         scitt-cose: 6 inclusion proofs, 6 receipts, 6 changed entries refused\n\
         scitt-cose: 9 consistency proofs, 9 other roots refused\n"
    );
}
