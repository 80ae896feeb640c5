//! Local: foreign recordings.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "tests")]
use std::collections::BTreeMap;
use std::path::Path;
use verdict_ledger::ingest::{self, Format, Limits};

fn dirs(root: &Path) -> Vec<std::path::PathBuf> {
    let mut v: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    v.sort();
    v
}

#[test]
fn corpora() {
    let Ok(root) = std::env::var("VERDICT_CORPORA") else { return };
    let limits = Limits::default();
    for dir in dirs(Path::new(&root)) {
        let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut twins = 0;
        for file in files {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            if name.ends_with(".headers.json") || name.ends_with(".decoded.json") || name.ends_with(".py") || name.ends_with(".txt") || name.ends_with(".md") || name.contains("grpc") { continue }
            let bytes = std::fs::read(&file).unwrap();
            let edge = dir.file_name().unwrap() == "_edge-json";
            let format = Format::detect(Some(&name), None, &bytes);
            let Some(format) = format else { println!("{name}: undetected"); continue };
            let result = ingest::map(format, &bytes, &limits);
            if edge {
                let h: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join(name.replace(".json", ".headers.json"))).unwrap()).unwrap();
                println!("{} {:<18} expected: {}", name, h["case"].as_str().unwrap(), h["expected"].as_str().unwrap());
                match &result {
                    Ok(m) => println!("        events={} rejected={:?} warnings={:?}", m.events.len(), m.rejected.iter().map(ToString::to_string).collect::<Vec<_>>(), m.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()),
                    Err(e) => println!("        ERR {e}"),
                }
                continue;
            }
            let mapped = result.unwrap();
            assert_eq!(mapped, ingest::map(format, &bytes, &limits).unwrap());
            let stem = name.split('.').next().unwrap();
            let twin = dir.join(format!("{stem}.decoded.json"));
            if twin.exists() {
                let b = std::fs::read(&twin).unwrap();
                let other = ingest::map(Format::OtlpJson, &b, &limits).unwrap();
                assert_eq!(mapped.events.len(), other.events.len());
                for (a, b) in mapped.events.iter().zip(&other.events) {
                    assert_eq!(a, b, "{name}");
                }
                twins += 1;
            }
            for w in &mapped.warnings { *counts.entry(format!("W {}", w.message)).or_default() += 1; }
            for r in &mapped.rejected { *counts.entry(format!("R {r}")).or_default() += 1; }
            for e in &mapped.events {
                verdict_ledger::canon::entry_bytes(&serde_json::to_value(e).unwrap()).unwrap();
                for p in &e.source.restated { assert!(serde_json::to_value(e).unwrap().pointer(p).is_some(), "{p}"); }
                let d = e.decision.as_ref().map(|d| format!(" D={}/{}{}", d.effect, d.by.kind.as_str(), if d.enforced {""} else {"(shadow)"})).unwrap_or_default();
                let o = e.outcome.as_ref().map(|o| format!(" O={}", o.status.as_str())).unwrap_or_default();
                let u = e.usage.as_ref().map(|u| format!(" U{}{}", if u.aggregate {"agg"} else {""}, if u.cost.is_some() {"$"} else {""})).unwrap_or_default();
                *counts.entry(format!("{:<13} {:<7} call={} args={} sess={} user={} agent={}{d}{o}{u}", e.source.profile.clone().unwrap_or_default(), e.action.kind.as_str(),
                    u8::from(e.action.call_id.is_some()), u8::from(e.action.arguments.is_some()), u8::from(e.session.is_some()), u8::from(e.user.is_some()), u8::from(e.agent.is_some()))).or_default() += 1;
            }
            if let Ok(want) = std::env::var("VERDICT_DUMP") {
                if format!("{}/{}", dir.file_name().unwrap().to_str().unwrap(), name).contains(&want) {
                    for e in &mapped.events { println!("{}", serde_json::to_string(e).unwrap()); }
                }
            }
        }
        println!("== {} twins={twins}", dir.file_name().unwrap().to_str().unwrap());
        for (k, v) in counts { println!("{v:>5} {k}"); }
    }
}
