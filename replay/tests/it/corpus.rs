//! Everything that `testdata/` records, as the inputs of its actions.

use std::path::{Path, PathBuf};

use serde_json::Value;
use verdict_ledger::Record;
use verdict_ledger::action::fold;
use verdict_ledger::ingest::{self, Format, Limits};
use verdict_replay::input;
use verdict_replay::state::State;

/// One input for each recorded action, with the folder that it comes from; a folder is a history of its own.
pub(crate) fn inputs() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let mut out = Vec::new();
    for folder in ["native", "aisecops"].map(|name| root.join(name)).into_iter().chain(
        ["otlp", "clients"]
            .into_iter()
            .flat_map(|name| children(&root.join(name)))
            .filter(|path| path.is_dir()),
    ) {
        let records = records(&folder);
        let mut state = State::default();
        for action in fold(&records, 0) {
            let name = folder.strip_prefix(&root).unwrap().display().to_string();
            out.push((name, input::build(&action, &state)));
            state.fold(&action, action.ruling().map(|ruling| ruling.decision.effect));
        }
    }
    assert!(out.len() > 300, "testdata has more actions than {}", out.len());
    out
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn records(folder: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    for path in children(folder) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !path.is_file()
            || name == "expected.json"
            || name.ends_with(".headers.json")
            || path.extension().is_some_and(|end| end == "py")
        {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let Some(format) = Format::detect(Some(&name), None, &bytes) else { continue };
        // Recordings of what is refused are here too.
        let Ok(mapped) = ingest::map(format, &bytes, &Limits::default()) else { continue };
        for event in mapped.events {
            let seq = u64::try_from(records.len()).unwrap() + 1;
            records.push(Record {
                seq,
                ts_ns: seq * 1_000_000_000,
                kind: "action.reported".to_owned(),
                event: Some(Box::new(event)),
                body: serde_json::Map::new(),
                withheld: Vec::new(),
            });
        }
    }
    records
}
