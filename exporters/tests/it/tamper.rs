//! Nothing in a bundle can be changed unseen, and what was changed is named.

use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use verdict_exporters::evidence::{
    Limits, Outcome, Selection, Status, VerifierKeys, VerifyError, Withhold, verify,
};
use verdict_ledger::clock::SteppingEntropy;
use verdict_ledger::key::SigningKey;
use verdict_ledger::note::VerifierKey;

use crate::fixture::{Log, check, trace, unzip};

/// Where the data of each file stands in an archive, as a reader that is not ours sees it.
fn extents(bytes: &[u8]) -> Vec<(std::ops::Range<usize>, String)> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    (0..archive.len())
        .map(|index| {
            let file = archive.by_index_raw(index).unwrap();
            let start = usize::try_from(file.data_start().unwrap()).unwrap();
            let end = start + usize::try_from(file.compressed_size()).unwrap();
            (start..end, file.name().unwrap().split_once('/').unwrap().1.to_owned())
        })
        .collect()
}

#[test]
fn every_flipped_byte_is_found_and_named() {
    let log = Log::new(9);
    let good = log.build(trace(), Withhold::Nothing).bytes;
    let extents = extents(&good);
    let keys = log.keys();
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(8);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (good, extents, keys) = (&good, &extents, &keys);
            scope.spawn(move || {
                for at in (thread..good.len()).step_by(threads) {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << (at % 8);
                    let owner =
                        extents.iter().find(|(range, _)| range.contains(&at)).map(|(_, name)| name.as_str());
                    let report = verify(bad.as_slice(), keys, &Limits::default())
                        .unwrap_or_else(|error| panic!("byte {at}: {error}"));
                    assert_eq!(report.outcome, Outcome::Tampered, "byte {at} in {owner:?}");
                    let first = report.first_failure().unwrap();
                    let named = first.file.as_deref().unwrap_or_default();
                    match owner {
                        Some(owner) => assert_eq!(named, owner, "byte {at}: {first:?}"),
                        None => assert!(named.starts_with("ZIP"), "byte {at}: {first:?}"),
                    }
                }
            });
        }
    });
}

#[test]
fn a_flip_inside_an_entry_names_the_entry() {
    let log = Log::new(60);
    let good = log.build(Selection::Range(0..60), Withhold::Nothing).bytes;
    let (range, _) = extents(&good).into_iter().find(|(_, name)| name == "data/events.jsonl").unwrap();
    let mut last = 0;
    for part in 1..10 {
        let mut bad = good.clone();
        bad[range.start + range.len() * part / 10] ^= 4;
        let report = check(&bad, &log.keys());
        let first = report.first_failure().unwrap();
        assert_eq!((first.name, first.file.as_deref()), ("files", Some("data/events.jsonl")));
        let seq = first.seq.expect("an entry is named");
        assert!(seq >= last, "damage further on is not found earlier");
        last = seq;
    }
    assert!(last > 10, "the damage was followed through the file, the last was entry {last}");
}

/// Rewrites a bundle with other files, and manifests that fit them: what somebody without the key can do.
fn repack(bytes: &[u8], change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Vec<u8> {
    let mut files = unzip(bytes);
    change(&mut files);
    let manifest = |files: &BTreeMap<String, Vec<u8>>, data: bool| {
        let mut out = String::new();
        for (name, content) in files {
            if name.starts_with("data/") == data && name != "tagmanifest-sha256.txt" {
                let digest = verdict_ledger::id::Digest::of(content).to_hex();
                out.push_str(&format!("{digest}  {name}\n"));
            }
        }
        out.into_bytes()
    };
    let payload = manifest(&files, true);
    files.insert("manifest-sha256.txt".into(), payload);
    let tags = manifest(&files, false);
    files.insert("tagmanifest-sha256.txt".into(), tags);
    let first = [
        "bagit.txt",
        "bag-info.txt",
        "manifest-sha256.txt",
        "tagmanifest-sha256.txt",
        "README.txt",
        "signature.dsse.json",
        "signature.sigstore.json",
    ];
    let base = {
        let archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
        archive.file_names().next().unwrap().unwrap().split_once('/').unwrap().0.to_owned()
    };
    let order = first.iter().copied().filter(|name| files.contains_key(*name));
    let rest = files.keys().map(String::as_str).filter(|name| !first.contains(name));
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o644);
    for name in order.chain(rest) {
        writer.start_file(format!("{base}/{name}"), options).unwrap();
        writer.write_all(&files[name]).unwrap();
    }
    canonical(writer.finish().unwrap().into_inner())
}

/// Sets the fields in which another writer's archives differ from ours: the attacker has read the format.
fn canonical(mut bytes: Vec<u8>) -> Vec<u8> {
    let u16_at = |bytes: &[u8], at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let u32_at = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let end = bytes.len() - 22;
    let mut at = u32_at(&bytes, end + 16);
    for _ in 0..u16_at(&bytes, end + 10) {
        let local = u32_at(&bytes, at + 42);
        for (header, version) in [(local, local + 4), (at, at + 6)] {
            bytes[version..version + 2].copy_from_slice(&20u16.to_le_bytes());
            bytes[version + 2..version + 4].copy_from_slice(&0x0800u16.to_le_bytes());
            assert_eq!(bytes[header], b'P');
        }
        bytes[at + 4..at + 6].copy_from_slice(&0x0314u16.to_le_bytes());
        bytes[at + 38..at + 42].copy_from_slice(&(0o100_644u32 << 16).to_le_bytes());
        assert_eq!((u16_at(&bytes, at + 30), u16_at(&bytes, at + 32)), (0, 0), "no extra field, no comment");
        at += 46 + u16_at(&bytes, at + 28);
    }
    bytes
}

fn first(bytes: &[u8], keys: &VerifierKeys) -> (Outcome, &'static str, String, Option<u64>) {
    let report = check(bytes, keys);
    let failure = report.first_failure().expect("something fails").clone();
    (report.outcome, failure.name, failure.file.unwrap_or_default(), failure.seq)
}

#[test]
fn an_archive_that_was_only_packed_again_by_that_attacker_shows_that_the_attack_is_fair() {
    let log = Log::new(9);
    let good = log.build(trace(), Withhold::Nothing).bytes;
    let report = check(&repack(&good, |_| {}), &log.keys());
    let failed: Vec<_> = report.checks.iter().filter(|check| check.status != Status::Ok).collect();
    // Stored instead of deflated is allowed: it is the files that are signed.
    assert_eq!(report.outcome, Outcome::Verified, "{failed:#?}");
}

#[test]
fn swapped_added_and_removed_files_are_named() {
    let log = Log::new(12);
    let good = log.build(trace(), Withhold::Nothing).bytes;
    let keys = log.keys();

    let swapped = repack(&good, |files| {
        let other = files["data/proofs/5.tlog-proof"].clone();
        files.insert("data/proofs/4.tlog-proof".into(), other);
    });
    assert_eq!(
        first(&swapped, &keys),
        (Outcome::Tampered, "files", "data/proofs/4.tlog-proof".into(), Some(4))
    );

    let edited = repack(&good, |files| {
        let events = String::from_utf8(files["data/events.jsonl"].clone()).unwrap();
        files.insert("data/events.jsonl".into(), events.replacen("\"allow\"", "\"block\"", 1).into_bytes());
    });
    assert_eq!(first(&edited, &keys), (Outcome::Tampered, "files", "data/events.jsonl".into(), Some(5)));

    let added = repack(&good, |files| {
        files.insert("data/zzz.txt".into(), b"trust me".to_vec());
    });
    assert_eq!(first(&added, &keys), (Outcome::Tampered, "files", "data/zzz.txt".into(), None));

    let beside = repack(&good, |files| {
        files.insert("notes.txt".into(), b"trust me".to_vec());
    });
    assert_eq!(first(&beside, &keys).0, Outcome::Tampered);

    let removed = repack(&good, |files| {
        files.remove("data/proofs/6.tlog-proof");
    });
    assert_eq!(
        first(&removed, &keys),
        (Outcome::Tampered, "files", "data/proofs/6.tlog-proof".into(), Some(6))
    );

    let stripped = repack(&good, |files| {
        files.remove("signature.dsse.json");
    });
    let (outcome, _, file, _) = first(&stripped, &keys);
    assert_eq!((outcome, file.as_str()), (Outcome::Tampered, "signature.dsse.json"));
}

#[test]
fn a_forged_disclosure_is_found() {
    let log = Log::new(12);
    let good = log.build(trace(), Withhold::Nothing).bytes;
    let forged = repack(&good, |files| {
        let text = String::from_utf8(files["data/disclosures.jsonl"].clone()).unwrap();
        let lines: Vec<String> = text
            .lines()
            .map(|line| {
                let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
                let plain = URL_SAFE_NO_PAD.decode(line["d"].as_str().unwrap()).unwrap();
                let plain = String::from_utf8(plain).unwrap().replace("1200", "12");
                line["d"] = URL_SAFE_NO_PAD.encode(plain).into();
                line.to_string() + "\n"
            })
            .collect();
        files.insert("data/disclosures.jsonl".into(), lines.concat().into_bytes());
    });
    assert_eq!(
        first(&forged, &log.keys()),
        (Outcome::Tampered, "files", "data/disclosures.jsonl".into(), Some(4))
    );

    // Also without the exporter's key in hand, the entry itself gives the forgery away.
    let keys = VerifierKeys { bundle: Vec::new(), ..log.keys() };
    assert_eq!(check(&forged, &keys).outcome, Outcome::Tampered);
}

/// What a dishonest exporter, who has the bundle key, can sign: the log's proofs must still stop it.
fn resign(log: &Log, bytes: &[u8], change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Vec<u8> {
    repack(bytes, |files| {
        change(files);
        let mut payload = String::new();
        for (name, content) in files.iter().filter(|(name, _)| name.starts_with("data/")) {
            payload.push_str(&format!("{}  {name}\n", verdict_ledger::id::Digest::of(content).to_hex()));
        }
        files.insert("manifest-sha256.txt".into(), payload.into_bytes());
        let envelope: serde_json::Value = serde_json::from_slice(&files["signature.dsse.json"]).unwrap();
        let statement = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let mut statement: serde_json::Value = serde_json::from_slice(&statement).unwrap();
        statement["subject"] = files
            .iter()
            .filter(|(name, _)| !["tagmanifest-sha256.txt", "signature.dsse.json", "signature.sigstore.json"].contains(&name.as_str()))
            .map(|(name, content)| serde_json::json!({"name": name, "digest": {"sha256": verdict_ledger::id::Digest::of(content).to_hex()}}))
            .collect();
        statement["predicate"]["deflated"] = serde_json::json!({});
        let payload = serde_json::to_vec(&statement).unwrap();
        let mut pae = format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len()).into_bytes();
        pae.extend(&payload);
        let key = envelope["signatures"][0]["keyid"].as_str().unwrap();
        let signed = format!(
            r#"{{"payload":"{}","payloadType":"application/vnd.in-toto+json","signatures":[{{"keyid":"{key}","sig":"{}"}}]}}"#,
            STANDARD.encode(&payload),
            STANDARD.encode(log.bundle_key.sign(&pae)),
        );
        let sigstore = format!(
            r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{{"publicKey":{{"hint":"{key}"}}}},"dsseEnvelope":{signed}}}"#
        );
        files.insert("signature.dsse.json".into(), format!("{signed}\n").into_bytes());
        files.insert("signature.sigstore.json".into(), format!("{sigstore}\n").into_bytes());
    })
}

#[test]
fn a_dishonest_exporter_is_stopped_by_the_log() {
    let log = Log::new(20);
    let keys = log.keys();
    let good = log.build(Selection::Range(2..15), Withhold::Nothing).bytes;
    assert_eq!(
        check(&resign(&log, &good, |_| {}), &keys).outcome,
        Outcome::Verified,
        "the attack itself is sound"
    );

    let changed = resign(&log, &good, |files| {
        let events = String::from_utf8(files["data/events.jsonl"].clone()).unwrap();
        files.insert(
            "data/events.jsonl".into(),
            events.replacen("refund over the limit", "refund under it", 1).into_bytes(),
        );
    });
    let (outcome, check_name, file, _) = first(&changed, &keys);
    assert_eq!((outcome, check_name, file.as_str()), (Outcome::Tampered, "inclusion", "data/events.jsonl"));

    let left_out = resign(&log, &good, |files| {
        let events = String::from_utf8(files["data/events.jsonl"].clone()).unwrap();
        let kept: Vec<_> = events.lines().filter(|line| !line.contains("\"seq\":\"4\"")).collect();
        files.insert("data/events.jsonl".into(), (kept.join("\n") + "\n").into_bytes());
    });
    assert_eq!(first(&left_out, &keys), (Outcome::Tampered, "entries", "data/events.jsonl".into(), Some(4)));

    let forged = resign(&log, &good, |files| {
        let text = String::from_utf8(files["data/disclosures.jsonl"].clone()).unwrap();
        let (_, rest) = text.split_once('\n').unwrap();
        let plain =
            URL_SAFE_NO_PAD.encode(format!(r#"["{}","by","mallory"]"#, URL_SAFE_NO_PAD.encode([7; 32])));
        let line = format!("{{\"seq\":\"2\",\"d\":\"{plain}\"}}\n{rest}");
        files.insert("data/disclosures.jsonl".into(), line.into_bytes());
    });
    assert_eq!(
        first(&forged, &keys),
        (Outcome::Tampered, "disclosures", "data/disclosures.jsonl".into(), Some(2))
    );

    let renamed = resign(&log, &good, |files| {
        let index = String::from_utf8(files["data/index.csv"].clone()).unwrap();
        files.insert("data/index.csv".into(), index.replacen(",block,", ",allow,", 1).into_bytes());
    });
    assert_eq!(first(&renamed, &keys), (Outcome::Tampered, "index", "data/index.csv".into(), Some(4)));

    let policy = resign(&log, &good, |files| {
        let name = files.keys().find(|name| name.ends_with("agents.rego")).unwrap().clone();
        files.get_mut(&name).unwrap().extend(b"\n# and nothing else\n");
    });
    assert_eq!(first(&policy, &keys).1, "policies");

    let unlisted = resign(&log, &good, |files| {
        let text = String::from_utf8(files["data/disclosures.jsonl"].clone()).unwrap();
        let (_, rest) = text.split_once('\n').unwrap();
        files.insert("data/disclosures.jsonl".into(), rest.as_bytes().to_vec());
    });
    assert_eq!(
        first(&unlisted, &keys),
        (Outcome::Tampered, "redactions", "data/redactions.csv".into(), Some(2))
    );
}

#[test]
fn unknown_and_missing_keys_are_not_tampering() {
    let log = Log::new(12);
    let bytes = log.build(trace(), Withhold::Nothing).bytes;
    let stranger = SigningKey::generate(&SteppingEntropy::starting_at(99)).unwrap();
    let strange = VerifierKey::new("ledger.example/it", stranger.public()).unwrap();

    let keys = VerifierKeys { bundle: vec![strange.clone()], ..log.keys() };
    assert_eq!(first(&bytes, &keys), (Outcome::Untrusted, "signature", "signature.dsse.json".into(), None));
    let keys = VerifierKeys { log: vec![strange.clone()], ..log.keys() };
    assert_eq!(first(&bytes, &keys), (Outcome::Untrusted, "checkpoint", "data/log/checkpoint".into(), None));
    for keys in [
        VerifierKeys::default(),
        VerifierKeys { log: Vec::new(), ..log.keys() },
        VerifierKeys { bundle: Vec::new(), ..log.keys() },
    ] {
        let report = check(&bytes, &keys);
        assert_eq!(report.outcome, Outcome::Untrusted);
        assert_eq!(report.outcome.exit_code(), 3);
        assert_eq!(report.first_failure().unwrap().status, Status::NotRun);
    }
    let mut both = log.keys();
    both.bundle.insert(0, strange.clone());
    both.log.insert(0, strange);
    assert_eq!(
        check(&bytes, &both).outcome,
        Outcome::Verified,
        "a rotated key beside the right one does no harm"
    );
}

#[test]
fn what_is_not_a_bundle_says_so() {
    let keys = VerifierKeys::default();
    let unusable = |bytes: &[u8], want: &str| {
        let error = verify(bytes, &keys, &Limits::default()).unwrap_err();
        assert!(matches!(error, VerifyError::NotABundle { .. }), "{error}");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(want), "{error}");
    };
    unusable(b"", "neither begins nor ends");
    unusable(b"hello, auditor", "neither begins nor ends");
    unusable(&[b'x'; 4096], "neither begins nor ends");
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer
        .start_file(
            "a/b.txt",
            zip::write::SimpleFileOptions::default()
                .last_modified_time(zip::DateTime::default())
                .compression_method(zip::CompressionMethod::Stored)
                .unix_permissions(0o644),
        )
        .unwrap();
    unusable(&canonical(writer.finish().unwrap().into_inner()), "bagit.txt");
}

#[test]
fn limits_stop_a_bomb_before_it_goes_off() {
    let log = Log::new(12);
    let bytes = log.build(trace(), Withhold::Nothing).bytes;
    let mut limits = Limits::default();
    limits.archive_bytes = 1000;
    let error = verify(bytes.as_slice(), &log.keys(), &limits).unwrap_err();
    assert!(matches!(error, VerifyError::Limit(_)), "{error}");
    assert_eq!(error.exit_code(), 2);
    let mut limits = Limits::default();
    limits.files = 5;
    assert!(matches!(verify(bytes.as_slice(), &log.keys(), &limits), Err(VerifyError::Limit(_))));
    let mut limits = Limits::default();
    limits.total_bytes = 10_000;
    assert!(matches!(verify(bytes.as_slice(), &log.keys(), &limits), Err(VerifyError::Limit(_))));
    // An endless stream ends at the limit, too.
    let mut limits = Limits::default();
    limits.archive_bytes = 1 << 20;
    assert!(matches!(verify(std::io::repeat(0), &log.keys(), &limits), Err(VerifyError::Limit(_))));
}

#[test]
fn cut_and_extended_archives_name_the_end() {
    let log = Log::new(9);
    let good = log.build(trace(), Withhold::Nothing).bytes;
    for bytes in [
        good[..good.len() - 1].to_vec(),
        good[..good.len() / 2].to_vec(),
        [good.as_slice(), b"\0"].concat(),
        [b"\0", good.as_slice()].concat(),
    ] {
        let (outcome, name, file, _) = first(&bytes, &log.keys());
        assert_eq!((outcome, name), (Outcome::Tampered, "archive"));
        assert!(file.starts_with("ZIP"), "{file}");
    }
}
