//! What the fuzzers call, and what must hold besides not crashing.
//!
//! One function a parser of bytes from outside. The fuzz crate feeds them with what libFuzzer makes up; the ordinary
//! tests (`exporters/tests/it/corpus.rs`) with everything under `fuzz/corpus`, so that what a fuzzer once found is
//! tested for ever.

use std::path::Path;

use serde_json::{Map, Value};
use verdict_exporters::evidence::{self, Outcome, VerifierKeys};
use verdict_ledger::authority::{Authority, Role, TrustError};
use verdict_ledger::canon;
use verdict_ledger::clock::SteppingEntropy;
use verdict_ledger::disclosure::{self, Disclosure};
use verdict_ledger::entry::{ENTRY_BYTES_MAX, EntryView};
use verdict_ledger::ingest::{self, Format, Limits, Signal};
use verdict_ledger::merkle::{self, Hash};
use verdict_ledger::note::{Checkpoint, SignedNote, TlogProof, VerifierKey};
use verdict_ledger::signer::SignerConfig;
use verdict_ledger::tile::{self, Tile};
use verdict_replay::policy::Bundle;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus.
pub const TARGETS: [(&str, Target); 19] = [
    ("aisecops", aisecops),
    ("cloudevents", cloudevents),
    ("detect", detect),
    ("disclosure", disclosures),
    ("entry", entry),
    ("evidence", evidence_bundle),
    ("keys", keys),
    ("langchain", langchain),
    ("mcp", mcp),
    ("merkle", merkle_proofs),
    ("native", native),
    ("note", note),
    ("opa", opa),
    ("otlp_json", otlp_json),
    ("otlp_logs", otlp_logs),
    ("otlp_traces", otlp_traces),
    ("policy", policy_archive),
    ("proof", proof),
    ("tile", tiles),
];

/// An entry: what is read out of it is a part of its bytes.
pub fn entry(data: &[u8]) {
    let Ok(view) = EntryView::parse(data) else { return };
    assert!(data.len() <= ENTRY_BYTES_MAX);
    let body = view.body.get();
    assert!(
        std::str::from_utf8(data).is_ok_and(|text| text.contains(body)),
        "a body that is not in the entry"
    );
    let _ = view.ts_ns();
    if let Ok(body) = serde_json::from_str::<Map<String, Value>>(body) {
        for digest in disclosure::committed(&body) {
            let _ = disclosure::parse_digest(&digest);
        }
        // Without any disclosure nothing can be foreign, and what is missing is what was listed.
        assert!(disclosure::merge(body, &[]).is_ok());
    }
}

/// Signed notes, checkpoints and keys: one spelling each.
pub fn note(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(key.to_string(), text.trim(), "a key with two spellings");
    }
    let Ok(note) = SignedNote::parse(text) else { return };
    assert!(text.starts_with(&note.text) && note.text.ends_with('\n') && !note.signatures.is_empty());
    if let Ok(checkpoint) = Checkpoint::from_text(&note.text) {
        assert!(note.text.starts_with(&checkpoint.text()), "a checkpoint with two spellings");
    }
}

/// Proof files: what is read is what is written, and any hashes with any numbers are verified without a crash.
pub fn proof(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(proof) = TlogProof::parse(text) else { return };
    let written = proof.to_string();
    assert_eq!(TlogProof::parse(&written).as_ref(), Ok(&proof));
    let extra = text.lines().nth(1).filter(|line| line.starts_with("extra "));
    let expected = extra.map_or_else(|| text.to_owned(), |line| text.replacen(&format!("{line}\n"), "", 1));
    assert_eq!(written, expected, "a proof with two spellings");
    if let Ok(note) = SignedNote::parse(&proof.checkpoint)
        && let Ok(checkpoint) = Checkpoint::from_text(&note.text)
    {
        let leaf = merkle::leaf_hash(data);
        let _ =
            merkle::verify_inclusion(proof.index, checkpoint.size, &leaf, &proof.hashes, &checkpoint.root);
    }
}

/// Inclusion and consistency of any numbers and hashes: three 64-bit numbers, a leaf, a root, then the proof.
pub fn merkle_proofs(data: &[u8]) {
    let (numbers, rest) = data.as_chunks::<8>();
    let [index, size, old, ..] = numbers else { return };
    let [index, size, old] = [index, size, old].map(|bytes| u64::from_be_bytes(*bytes));
    let _ = rest;
    let hashes: Vec<Hash> =
        data.get(24..).unwrap_or_default().as_chunks::<32>().0.iter().copied().map(Hash).collect();
    let [leaf, root, proof @ ..] = hashes.as_slice() else { return };
    if merkle::verify_inclusion(index, size, leaf, proof, root).is_ok() {
        assert!(index < size && proof.len() <= 64);
    }
    if merkle::verify_consistency(old, size, leaf, root, proof).is_ok() {
        assert!(old <= size && proof.len() <= 65);
    }
}

/// Names of tiles, tiles and entry bundles: one spelling each.
pub fn tiles(data: &[u8]) {
    if let Some(tile) = std::str::from_utf8(data).ok().and_then(|text| Tile::parse(text).ok()) {
        assert_eq!(tile.to_string().as_bytes(), data);
        assert!(tile.range().is_none_or(|range| !range.is_empty()));
        let _ = tile.is_within(u64::MAX);
    }
    if let Ok(hashes) = tile::parse_hashes(data) {
        assert_eq!(tile::hash_bytes(&hashes), data);
    }
    if let Ok(entries) = tile::parse_entries(data) {
        let mut bundle = Vec::new();
        assert!(entries.iter().all(|entry| tile::push_entry(&mut bundle, entry).is_ok()));
        assert_eq!(bundle, data);
    }
}

/// A body in JSON and, after the first line, one encoded disclosure a line.
pub fn disclosures(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let Some(Ok(body)) = lines.next().map(serde_json::from_str::<Map<String, Value>>) else { return };
    let given: Vec<Disclosure> = lines.filter_map(|line| Disclosure::parse(line).ok()).collect();
    if let Ok(merged) = disclosure::merge(body.clone(), &given) {
        // Every disclosure that was taken is one that the body commits to.
        let committed = disclosure::committed(&body);
        assert!(given.iter().all(|disclosure| committed.contains(&disclosure.digest())));
        assert!(!merged.body.contains_key(disclosure::MEMBERS));
    }
    // What a writer takes apart, a reader puts together.
    if let Ok((hidden, disclosures)) = disclosure::split(body.clone(), &SteppingEntropy::default()) {
        for disclosure in &disclosures {
            assert_eq!(
                Disclosure::parse(disclosure.encoded()).map(|parsed| parsed.digest()),
                Ok(disclosure.digest())
            );
        }
        let merged = disclosure::merge(hidden, &disclosures);
        // As canonical bytes: a value that was canonical once is written `1` where it came as `1.0`.
        let bytes = |body: Map<String, Value>| canon::entry_bytes(&Value::Object(body)).ok();
        let whole =
            merged.is_ok_and(|merged| merged.withheld.is_empty() && bytes(merged.body) == bytes(body));
        assert!(whole, "what was taken apart is not put together");
    }
}

/// The bundles that verify with the keys of these; see `exporters/tests/it/corpus.rs` for how they are made.
const BUNDLES: [&[u8]; 2] =
    [include_bytes!("../corpus/evidence/bundle.zip"), include_bytes!("../corpus/evidence/withheld.zip")];
/// Their log key and bundle key.
const BUNDLE_KEYS: &str = include_str!("../corpus/evidence.keys");

/// An evidence bundle: nothing but those that were signed verifies, for no byte of an archive is free.
pub fn evidence_bundle(data: &[u8]) {
    let mut keys = BUNDLE_KEYS.lines().filter_map(|line| VerifierKey::parse(line).ok());
    let keys = VerifierKeys {
        log: keys.next().into_iter().collect(),
        bundle: keys.next().into_iter().collect(),
        ..VerifierKeys::default()
    };
    let limits = evidence::Limits::default();
    let verified =
        evidence::verify(data, &keys, &limits).is_ok_and(|report| report.outcome == Outcome::Verified);
    let genuine = BUNDLES.contains(&data);
    assert_eq!(verified, genuine, "verified and changed, or genuine and refused");
}

/// Entries about keys, one a line, and a `*.signer.toml`: whatever history they make, whoever holds one of its keys gets
/// an answer, and the key of a size leads to itself unless it was revoked.
pub fn keys(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = SignerConfig::parse(Path::new("log.signer.toml"), text);
    }
    let entries = data.split(|byte| *byte == b'\n').filter_map(|line| {
        let seq = EntryView::parse(line).ok()?.seq.parse().ok()?;
        Some((seq, line))
    });
    let Ok(authority) = Authority::fold(entries) else { return };
    let sizes =
        authority.entries().iter().flat_map(|seq| [*seq, seq.saturating_add(1), seq.saturating_add(2)]);
    for size in sizes.chain([u64::MAX]) {
        let own = authority.path(authority.log_key_at(size), size);
        let itself =
            matches!(&own, Ok(steps) if steps.is_empty()) || matches!(own, Err(TrustError::Revoked { .. }));
        assert!(itself, "the key of size {size} does not lead to itself: {own:?}");
        for span in authority.spans(Role::Log) {
            let _ = authority.path(&span.key, size);
        }
        for span in authority.spans(Role::Bundle) {
            let _ = authority.bundle_successor(&span.key, authority.current(Role::Bundle), size);
        }
        let _ = authority.origin_of_entry(size);
    }
}

/// A policy archive (`.tar.gz`): what is taken is written back to something that is taken as the same bundle.
pub fn policy_archive(data: &[u8]) {
    let Ok(bundle) = Bundle::from_archive(data) else { return };
    let again = Bundle::from_archive(&bundle.archive());
    assert!(
        again.is_ok_and(|again| again.digest() == bundle.digest()),
        "an archive of its own is another bundle"
    );
}

/// Limits that let a fuzzer find the code behind them.
fn limits() -> Limits {
    Limits {
        body_bytes_max: 1 << 20,
        decompressed_bytes_max: 4 << 20,
        events_max: 2_000,
        ..Limits::default()
    }
}

/// Maps a body: the same bytes give the same events, and every event has a form in which it can be kept.
fn map(format: Format, data: &[u8]) {
    let Ok(mapped) = ingest::map(format, data, &limits()) else { return };
    assert_eq!(ingest::map(format, data, &limits()).as_ref().ok(), Some(&mapped), "two mappings of one body");
    for event in &mapped.events {
        // What `verdict export events` writes, `verdict ingest` takes, as the same event.
        let line = serde_json::to_vec(event).unwrap_or_default();
        let again: Option<verdict_ledger::event::Event> = serde_json::from_slice(&line).ok();
        assert_eq!(again.as_ref(), Some(event), "an event that its own JSON does not give back");
    }
    assert!(mapped.into_batch(Some("peer")).is_ok());
}

/// Native events, one a line.
pub fn native(data: &[u8]) {
    map(Format::Native, data);
}

/// The audit log of the AISecOps Interceptor.
pub fn aisecops(data: &[u8]) {
    map(Format::AiSecOps, data);
}

/// CloudEvents; and any bytes as the data of one in binary mode, which must come out as one event or be refused.
pub fn cloudevents(data: &[u8]) {
    map(Format::CloudEvents, data);
    let attributes = [("id", "1"), ("source", "urn:fuzz"), ("specversion", "1.0"), ("type", "t")];
    for media in [None, Some("application/json"), Some("text/plain"), Some("application/octet-stream")] {
        let structured = ingest::structured_cloudevent(attributes, media, data);
        let mapped = ingest::map(Format::CloudEvents, &structured, &limits());
        let taken = mapped.map(|mapped| mapped.events.len() + mapped.rejected.len());
        assert!(matches!(taken, Ok(1) | Err(_)), "a binary event that is not one event");
    }
}

/// OPA decision logs.
pub fn opa(data: &[u8]) {
    map(Format::OpaDecisions, data);
}

/// MCP transcripts.
pub fn mcp(data: &[u8]) {
    map(Format::Mcp, data);
}

/// Callback events of LangChain.
pub fn langchain(data: &[u8]) {
    map(Format::LangChain, data);
}

/// OTLP/JSON.
pub fn otlp_json(data: &[u8]) {
    map(Format::OtlpJson, data);
}

/// OTLP protobuf, spans.
pub fn otlp_traces(data: &[u8]) {
    map(Format::OtlpProtobuf(Signal::Traces), data);
}

/// OTLP protobuf, log records.
pub fn otlp_logs(data: &[u8]) {
    map(Format::OtlpProtobuf(Signal::Logs), data);
    let _ = ingest::map(Format::OtlpProtobuf(Signal::Metrics), data, &limits());
}

/// Telling the format of a body.
pub fn detect(data: &[u8]) {
    let _ = Format::detect(None, None, data);
    let _ = Format::detect(Some("x.jsonl.gz"), Some("application/x-protobuf"), data);
}
