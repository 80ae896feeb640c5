//! Everything that a fuzzer started from or ever found, through the functions that the fuzzers call.

use std::path::{Path, PathBuf};

use verdict_exporters::evidence::Withhold;
use verdict_ledger::clock::SteppingEntropy;
use verdict_ledger::disclosure;
use verdict_ledger::note::TlogProof;
use verdict_ledger::tile;

use crate::fixture::{Log, trace, unzip};

#[expect(unreachable_pub, reason = "a file of the fuzz crate, where these are its interface")]
#[path = "../../../fuzz/src/targets.rs"]
mod targets;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn corpus() -> PathBuf {
    root().join("fuzz/corpus")
}

#[test]
fn every_kept_input_of_every_target_holds() {
    let mut folders: Vec<String> = std::fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, targets::TARGETS.map(|(name, _)| name), "a corpus for each target, and no other");
    for (name, target) in targets::TARGETS {
        let mut inputs = 0;
        for file in std::fs::read_dir(corpus().join(name)).unwrap() {
            let path = file.unwrap().path();
            // Said by the panic of a target that does not say it itself.
            let bytes = std::fs::read(&path).unwrap();
            let ran = std::panic::catch_unwind(|| target(&bytes));
            assert!(ran.is_ok(), "{} fails", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "no input for {name}");
    }
}

#[test]
fn every_target_is_a_program_that_is_built_and_run() {
    let manifest = std::fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    assert_eq!(manifest.matches("[[bin]]").count(), targets::TARGETS.len());
    for (name, _) in targets::TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"targets/{name}.rs\"")), "{name}");
        assert!(root().join(format!("fuzz/targets/{name}.rs")).is_file(), "{name}");
    }
}

/// Writes the seeds that can be made from what is in the repository. Not a test: after a change of a format,
/// `cargo nextest run -p verdict-exporters --run-ignored only write_the_seeds`, then look at the difference.
#[test]
#[ignore = "writes into the repository"]
fn write_the_seeds() {
    let log = Log::new(12);
    let built = log.build(trace(), Withhold::Nothing);
    let files = unzip(&built.bytes);
    let keys = log.keys();
    std::fs::write(corpus().join("evidence.keys"), format!("{}\n{}\n", keys.log[0], keys.bundle[0])).unwrap();
    let seed = |target: &str, name: &str, bytes: &[u8]| {
        std::fs::create_dir_all(corpus().join(target)).unwrap();
        std::fs::write(corpus().join(target).join(name), bytes).unwrap();
    };
    seed("evidence", "bundle.zip", &built.bytes);
    seed("evidence", "withheld.zip", &log.build(trace(), Withhold::Everything).bytes);
    seed("note", "checkpoint", &files["data/log/checkpoint"]);
    seed("note", "log-key", keys.log[0].to_string().as_bytes());

    seed("keys", "history", &crate::keys::a_history());
    seed(
        "keys",
        "signer",
        b"public_key = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='\nexec = ['/bin/sign']\n",
    );

    let proof = &files["data/proofs/5.tlog-proof"];
    seed("proof", "5.tlog-proof", proof);
    let text = std::str::from_utf8(proof).unwrap();
    seed("proof", "extra.tlog-proof", text.replacen("@v1\n", "@v1\nextra AAAA\n", 1).as_bytes());
    let proof = TlogProof::parse(text).unwrap();
    let mut numbers: Vec<u8> = [5u64, 12, 6].iter().flat_map(|number| number.to_be_bytes()).collect();
    numbers.extend(tile::hash_bytes(&proof.hashes));
    numbers.extend(tile::hash_bytes(&proof.hashes));
    seed("merkle", "small", &numbers);
    numbers[..24].fill(0xff);
    seed("merkle", "huge", &numbers);

    let mut bundle = Vec::new();
    for (number, entry) in files["data/events.jsonl"].split(|byte| *byte == b'\n').enumerate() {
        if !entry.is_empty() {
            seed("entry", &format!("{number}.json"), entry);
            tile::push_entry(&mut bundle, entry).unwrap();
        }
    }
    seed("tile", "entries", &bundle);
    seed("tile", "hashes", &tile::hash_bytes(&proof.hashes));
    for (name, path) in [
        ("name", "tile/0/000"),
        ("name-partial", "tile/1/x001/x234/067.p/17"),
        ("name-entries", "tile/entries/x018/x446/x744/x073/x709/x551/615"),
    ] {
        seed("tile", name, path.as_bytes());
    }

    let body =
        r#"{"action":{"arguments":{"n":1},"name":"t"},"attributes":{"a":[null,1.5]},"id":"e","user":"ada"}"#;
    let map = serde_json::from_str(body).unwrap();
    let (hidden, disclosures) = disclosure::split(map, &SteppingEntropy::default()).unwrap();
    let mut lines = vec![serde_json::to_string(&hidden).unwrap()];
    lines.extend(disclosures.iter().map(|disclosure| disclosure.encoded().to_owned()));
    seed("disclosure", "merge", lines.join("\n").as_bytes());
    seed("disclosure", "split", body.as_bytes());

    seed("policy", "agents.tar.gz", &log.policy.archive());
    let testdata = |path: &str| std::fs::read(root().join("testdata").join(path)).unwrap();
    let first_lines = |path: &str, count: usize| {
        testdata(path).split_inclusive(|byte| *byte == b'\n').take(count).collect::<Vec<_>>().concat()
    };
    seed("native", "harbor", &first_lines("native/harbor-goods.ndjson", 4));
    for bad in
        ["duplicate-key", "float-in-own-field", "integer-beyond-2-53", "invalid-utf8", "truncated-line"]
    {
        seed("native", bad, &testdata(&format!("native/bad/{bad}.ndjson")));
    }
    seed("aisecops", "0.5.0", &first_lines("aisecops/audit-schema-0.5.0.jsonl", 3));
    seed("aisecops", "1.0", &first_lines("aisecops/audit-schema-1.0.jsonl", 3));
    seed("otlp_json", "mcp", &testdata("otlp/mcp/003.json"));
    seed("otlp_traces", "langgraph", &testdata("otlp/langgraph-openinference/006.pb"));
    seed("otlp_logs", "genai", &testdata("otlp/genai-otel/003.pb"));
    seed("detect", "native", &first_lines("native/harbor-outlet.ndjson", 1));
    seed("detect", "json", &testdata("otlp/mcp/005.json"));
    seed("detect", "protobuf", &testdata("otlp/langgraph-openinference/005.pb"));
}
