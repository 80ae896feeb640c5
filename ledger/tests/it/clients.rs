//! Every folder under `testdata/clients` is a client: its bodies go in, and what comes out is its `expected.json`.
//!
//! A new folder is picked up by itself. `VERDICT_EXPECT=write` writes the expectations; read them line by line before
//! they are committed, because from then on they are what must come out.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use verdict_ledger::Record;
use verdict_ledger::event::{ActionKind, Event, Source};
use verdict_ledger::id::Digest;
use verdict_ledger::ingest::{self, Format, Limits, Mapped};

pub(crate) fn clients() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/clients");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// The bodies of a client, by file name; `*.binary` holds a CloudEvent in binary mode, `{headers, body}`.
pub(crate) fn bodies(folder: &Path) -> BTreeMap<String, Mapped> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "expected.json" || name == "README.md" {
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        if name.ends_with(".binary") {
            bytes = structured(&serde_json::from_slice(&bytes).unwrap());
        }
        let format = Format::detect(Some(&name), None, &bytes)
            .unwrap_or_else(|| panic!("{} is of no known format", path.display()));
        let mapped = ingest::map(format, &bytes, &Limits::default())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        found.insert(name, mapped);
    }
    found
}

fn structured(request: &Value) -> Vec<u8> {
    let headers = request.get("headers").and_then(Value::as_object).unwrap();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let attributes: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("ce-")?.to_owned(), text(value))))
        .collect();
    ingest::structured_cloudevent(
        attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        headers.get("content-type").and_then(Value::as_str),
        request.get("body").and_then(Value::as_str).unwrap().as_bytes(),
    )
}

/// What matters of an event, in one line.
fn line(event: &Event) -> String {
    let decision = event.decision.as_ref().map_or("-".to_owned(), |decision| {
        let shadow = if decision.enforced { "" } else { "?" };
        format!("{}{shadow}", decision.effect.as_str())
    });
    let outcome = event.outcome.as_ref().map_or("-", |outcome| outcome.status.as_str());
    let profile = event.source.profile.as_deref().unwrap_or("-");
    format!("{profile} {} {} {decision} {outcome}", event.action.kind.as_str(), event.action.name)
}

fn summary(folder: &Path) -> Value {
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    let mut samples: BTreeMap<(String, String, bool, bool), Value> = BTreeMap::new();
    let mut files = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for (name, mapped) in bodies(folder) {
        let warnings: Vec<String> = mapped.warnings.iter().map(ToString::to_string).collect();
        let rejected: Vec<String> = mapped.rejected.iter().map(ToString::to_string).collect();
        let mut file = json!({"format": mapped.format.as_str(), "events": mapped.events.len()});
        if !warnings.is_empty() {
            file["warnings"] = json!(warnings);
        }
        if !rejected.is_empty() {
            file["rejected"] = json!(rejected);
        }
        files.insert(name, file);
        for event in mapped.events {
            if ids.insert(event.id.clone()) {
                *tally.entry(line(&event)).or_insert(0) += 1;
            }
            let sort = (
                event.source.profile.clone().unwrap_or_default(),
                event.action.kind.as_str().to_owned(),
                event.decision.is_some(),
                event.outcome.is_some(),
            );
            samples.entry(sort).or_insert_with(|| {
                let mut value = serde_json::to_value(&event).unwrap();
                shorten(&mut value);
                value
            });
        }
    }
    json!({
        "files": files, "distinct": ids.len(), "tally": tally,
        "samples": samples.into_values().collect::<Vec<_>>(),
    })
}

/// Long texts are prompts and stack traces, which bury what a reader looks for.
fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.chars().count() > 120 => {
            let start: String = text.chars().take(60).collect();
            *text = format!("{start}… {} characters, {}", text.chars().count(), Digest::of(text.as_bytes()));
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(members) => members.values_mut().for_each(shorten),
        _ => {}
    }
}

#[test]
fn every_client_comes_out_as_expected() {
    let write = std::env::var_os("VERDICT_EXPECT").is_some_and(|value| value == "write");
    let mut different = Vec::new();
    let folders = clients();
    assert!(!folders.is_empty());
    for folder in folders {
        let found = format!("{:#}\n", summary(&folder));
        let path = folder.join("expected.json");
        if write {
            std::fs::write(&path, &found).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if expected != found {
            let at = expected.lines().zip(found.lines()).position(|(a, b)| a != b).unwrap_or_default();
            let near =
                |text: &str| text.lines().skip(at.saturating_sub(3)).take(8).collect::<Vec<_>>().join("\n");
            different.push(format!(
                "{}: line {}\nexpected\n{}\nfound\n{}",
                path.display(),
                at + 1,
                near(&expected),
                near(&found)
            ));
        }
    }
    assert!(
        different.is_empty(),
        "{}\n\nif this is right: VERDICT_EXPECT=write cargo nextest run -p verdict-ledger clients, then read the diff",
        different.join("\n\n")
    );
}

#[test]
fn the_same_statement_in_another_body_is_the_same_event() {
    for folder in clients() {
        let mut known: BTreeMap<String, Event> = BTreeMap::new();
        for (name, mapped) in bodies(&folder) {
            for event in mapped.events {
                let bare = Event { source: Source::default(), ..event };
                let place = format!("{}/{name}: {}", folder.display(), bare.id);
                if let Some(known) = known.insert(bare.id.clone(), bare.clone()) {
                    assert_eq!(known, bare, "{place}");
                }
            }
        }
    }
}

#[test]
fn every_event_has_a_canonical_form_and_names_its_restated_numbers() {
    for folder in clients() {
        for (name, mapped) in bodies(&folder) {
            for event in &mapped.events {
                let value = serde_json::to_value(event).unwrap();
                verdict_ledger::canon::entry_bytes(&value).unwrap();
                for pointer in &event.source.restated {
                    assert!(value.pointer(pointer).is_some_and(Value::is_string), "{name}: {pointer}");
                }
                assert!(event.source.path.is_some() && event.source.mapper > 0, "{name}");
            }
        }
    }
}

/// Distinct events of a client by id.
fn distinct(name: &str) -> Vec<Event> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/clients").join(name);
    let all = bodies(&folder).into_values().flat_map(|mapped| mapped.events);
    all.map(|event| (event.id.clone(), event)).collect::<BTreeMap<_, _>>().into_values().collect()
}

fn records(events: Vec<Event>) -> Vec<Record> {
    let record = |(seq, event): (u64, Event)| Record {
        seq,
        ts_ns: event.end_ns.or(event.start_ns).unwrap_or_default(),
        kind: "action.reported".to_owned(),
        event: Some(Box::new(event)),
        body: serde_json::Map::new(),
        withheld: Vec::new(),
    };
    (0..).zip(events).map(record).collect()
}

#[test]
fn forty_tool_facts_of_mcp_are_twenty_actions() {
    let events = distinct("mcp-native");
    let is_tool = |event: &&Event| event.action.kind == ActionKind::Tool;
    assert_eq!(events.iter().filter(is_tool).count(), 40);
    let records = records(events);
    let actions = verdict_ledger::action::fold(&records, u64::MAX);
    assert_eq!(actions.iter().filter(|action| action.kind == ActionKind::Tool).count(), 20);
}

#[test]
fn the_loop_of_claude_code_counts_its_tokens_once() {
    let records = records(distinct("claude-code-loop"));
    let actions = verdict_ledger::action::fold(&records, u64::MAX);
    let input: u64 = actions.iter().filter_map(|action| action.own_usage()?.input_tokens).sum();
    assert_eq!(input, 29_127);
}

#[test]
fn an_approval_is_one_action_with_what_was_asked_and_what_was_answered() {
    let records = records(distinct("cloudevents"));
    let actions = verdict_ledger::action::fold(&records, u64::MAX);
    let effects: Vec<Vec<&str>> = actions
        .iter()
        .map(|action| action.rulings.iter().map(|ruling| ruling.decision.effect.as_str()).collect())
        .collect();
    assert_eq!(effects, [["require_approval", "allow"]]);
}

#[test]
fn a_call_of_a_transcript_is_one_action_with_its_hints() {
    let records = records(distinct("mcp-jsonrpc"));
    let actions = verdict_ledger::action::fold(&records, u64::MAX);
    let calls: Vec<_> = actions.iter().filter(|action| action.kind == ActionKind::Tool).collect();
    // 20 recorded, 3 and 1 written; the answered pause of the last is folded into the call that asked, or stands beside.
    assert!((24..=25).contains(&calls.len()), "{}", calls.len());
    let delete = calls.iter().find(|action| action.name == "delete_records").unwrap();
    assert_eq!(delete.capabilities, ["hint:destructive", "hint:not-openWorld", "hint:not-readOnly"]);
    let answered = calls.iter().filter(|action| action.arguments.is_some() && action.outcome.is_some());
    assert!(answered.count() >= 23);
}

/// Values that stand nowhere in the event as they are, because a mapper read them as words: what each means is in the
/// tables of docs/events.md. A new line here is either such a word or a value that is lost.
#[test]
fn every_value_of_every_record_is_carried_or_is_a_word_that_was_read() {
    let mut read: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut carried = 0;
    for folder in clients() {
        for (name, mapped) in bodies(&folder) {
            for event in &mapped.events {
                let located = ingest::locate(event, &mapped.body, &Limits::default())
                    .unwrap_or_else(|error| panic!("{}/{name}: {error}", folder.display()));
                carried += located.found.len();
                for origin in &located.found {
                    // The value of an empty text has no bytes.
                    assert!(
                        origin.start <= origin.end && origin.end <= mapped.body.len(),
                        "{name}: {origin:?}"
                    );
                }
                let client = folder.file_name().unwrap().to_str().unwrap();
                let words = read.entry(client.to_owned()).or_default();
                for leaf in located.converted {
                    let place = leaf.pointer.split(['/', '#']).filter(|part| part.parse::<u64>().is_err());
                    let place: Vec<&str> = place.collect();
                    let place = place[place.len().saturating_sub(2)..].join("/");
                    words.insert(format!("{place} = {}", leaf.value));
                }
            }
        }
    }
    assert!(carried > 10_000, "{carried}");
    insta::assert_json_snapshot!("words", read);
}
