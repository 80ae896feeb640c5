//! Reading raw bodies again: a newer mapper supersedes, nothing is edited, and nothing comes back that was erased.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::path::Path;

use serde_json::json;
use verdict_ledger::action;
use verdict_ledger::contract::{self, Contract};
use verdict_ledger::erasure::{Basis, EventRef, Selection};
use verdict_ledger::event::Event;
use verdict_ledger::id::Digest;
use verdict_ledger::ingest::{self, Format, Limits};
use verdict_ledger::remap::{Change, Tally, remap};
use verdict_ledger::{Batch, Ledger, NewRecord, Record};

use super::store::{Bench, T0};

/// A span of a user, as OTLP/JSON.
fn span(number: u64) -> serde_json::Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    json!({
        "traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": format!("{number:016x}"), "name": "execute_tool pay",
        "startTimeUnixNano": "1780272000000000000", "endTimeUnixNano": "1780272000000000900",
        "attributes": [
            text("gen_ai.operation.name", "execute_tool"), text("gen_ai.tool.name", "pay"),
            text("user.id", &format!("user-{number}@example.org")),
            text("gen_ai.tool.call.arguments", "{\"iban\":\"DE-secret\"}"),
        ],
    })
}

fn body(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let spans: Vec<_> = numbers.into_iter().map(span).collect();
    json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string().into_bytes()
}

/// The events of a body, as an older mapper would have read them: it knew no tools.
fn read_long_ago(body: &[u8]) -> Batch {
    let mapped = ingest::map(Format::OtlpJson, body, &Limits::default()).unwrap();
    let records = mapped.events.into_iter().map(|mut event| {
        event.source.raw = Some(Digest::of(body));
        event.source.peer = Some("token:collector".to_owned());
        event.source.mapper = 1;
        event.action.name = "execute_tool pay".to_owned();
        NewRecord::from_event(&event).unwrap()
    });
    Batch { records: records.collect(), blobs: vec![body.to_vec()] }
}

fn run(ledger: &Ledger, apply: bool) -> (Tally, Vec<Change>) {
    let mut changes = Vec::new();
    let tally = remap(ledger, apply, &mut |change| changes.push(change.clone()), &mut |_, _| {}).unwrap();
    (tally, changes)
}

fn events(ledger: &Ledger) -> Vec<(u64, Event)> {
    let records = ledger.records(0..u64::MAX).map(Result::unwrap);
    records.filter_map(|record| Some((record.seq, *record.event?))).collect()
}

fn basis() -> Basis {
    Basis { legal_basis: "Art. 17 GDPR".into(), reason: "asked".into(), by: "dpo".into(), requested_by: None }
}

#[test]
fn a_newer_reading_takes_the_place_of_an_older_one_once() {
    let bench = Bench::new();
    let ledger = bench.init();
    ledger.append(read_long_ago(&body(1..4))).unwrap();
    let size = ledger.head().size;
    let (tally, changes) = run(&ledger, false);
    assert_eq!((tally.changed, tally.events, tally.bodies, ledger.head().size), (3, 3, 1, size));
    assert_eq!(changes[0].fields, ["/action"]);
    assert_eq!((changes[0].from.as_str(), changes[0].to.as_str()), ("otel-genai 1", "otel-genai 2"));

    assert_eq!(run(&ledger, true).0.changed, 3);
    assert_eq!(ledger.head().size, size + 3);
    let all = events(&ledger);
    let (old, new) = (&all[0].1, &all[3].1);
    assert_eq!(new.source.supersedes.as_ref(), Some(&old.id));
    assert_eq!(
        (new.source.raw, &new.source.path, &new.source.peer),
        (old.source.raw, &old.source.path, &old.source.peer)
    );
    assert_eq!((old.action.name.as_str(), new.action.name.as_str()), ("execute_tool pay", "pay"));
    assert_eq!(ledger.readings_of(old).unwrap(), [all[3].0]);
    let records: Vec<Record> = ledger.records(0..u64::MAX).map(Result::unwrap).collect();
    let actions = action::fold(&records, u64::MAX);
    assert_eq!(actions.iter().map(|action| action.name.as_str()).collect::<Vec<_>>(), ["pay"; 3]);

    let (tally, _) = run(&ledger, true);
    assert_eq!((tally.changed, tally.superseded, tally.current), (0, 3, 3));
    assert_eq!(ledger.head().size, size + 3, "nothing is added twice");
    // What the client sends again is what was there.
    let mapped = ingest::map(Format::OtlpJson, &body(1..4), &Limits::default()).unwrap();
    let ids: Vec<String> = mapped.events.iter().map(|event| event.id.clone()).collect();
    assert!(ids.iter().all(|id| all.iter().any(|(_, event)| event.id == *id)));
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
}

#[test]
fn every_recording_is_read_to_the_same_end_by_the_mappers_that_read_it() {
    let bench = Bench::new();
    let ledger = bench.init();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/clients");
    for client in
        std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    {
        for mapped in super::clients::bodies(&client).into_values() {
            ledger.append(mapped.into_batch(None).unwrap()).unwrap();
        }
    }
    let (tally, changes) = run(&ledger, false);
    assert_eq!(changes, []);
    assert!(tally.events > 400, "{tally:?}");
    assert_eq!(tally.events, tally.current, "{tally:?}");
}

#[test]
fn what_was_erased_does_not_come_back() {
    let bench = Bench::new();
    let ledger = bench.init();
    ledger.append(read_long_ago(&body(1..3))).unwrap();
    // The first span again, beside one that is new: this body is kept too, and holds the first user.
    ledger.append(read_long_ago(&body([1, 7]))).unwrap();
    let first = events(&ledger)[0].1.id.clone();
    let selection = Selection { events: vec![EventRef::Id(first.clone())], ..Selection::default() };
    ledger.erase(&selection, &basis(), T0 + 1).unwrap();
    let (tally, changes) = run(&ledger, true);
    assert_eq!((tally.body_erased, tally.changed), (2, 1), "{tally:?}");
    assert!(changes.iter().all(|change| change.id != first), "{changes:?}");
    let users: Vec<_> = events(&ledger).into_iter().filter_map(|(_, event)| event.user).collect();
    assert!(!users.iter().any(|user| user == "user-1@example.org"), "{users:?}");
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
}

#[test]
fn erasing_an_event_takes_every_reading_of_it() {
    let bench = Bench::new();
    let ledger = bench.init();
    ledger.append(read_long_ago(&body(1..3))).unwrap();
    assert_eq!(run(&ledger, true).0.changed, 2);
    let all = events(&ledger);
    let (old, new) = (all[0].0, all[2].0);
    assert_eq!(all[2].1.source.supersedes.as_ref(), Some(&all[0].1.id));
    for named in [old, new] {
        let plan = ledger.plan_erasure(&Selection::event(named), T0 + 1).unwrap();
        assert_eq!(plan.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [old, new]);
    }
    ledger.erase(&Selection::event(old), &basis(), T0 + 1).unwrap();
    let left: Vec<_> =
        events(&ledger).into_iter().filter_map(|(seq, event)| Some((seq, event.user?))).collect();
    assert!(left.iter().all(|(_, user)| user == "user-2@example.org"), "{left:?}");
    let (tally, _) = run(&ledger, true);
    assert_eq!((tally.changed, tally.body_erased), (0, 2), "{tally:?}");
}

#[test]
fn quarantine_is_not_left_by_being_read_again() {
    let bench = Bench::new();
    let ledger = bench.init();
    let shipped = Contract::shipped().unwrap();
    let strict =
        std::str::from_utf8(shipped.bytes()).unwrap().replace("mode = \"lenient\"", "mode = \"strict\"");
    let strict = Contract::parse(strict.as_bytes()).unwrap();
    contract::activate(&ledger, &strict, "ada", "start").unwrap();
    let bytes = body(1..3);
    let mapped = ingest::map(Format::OtlpJson, &bytes, &Limits::default()).unwrap();
    let said = contract::AtIngest::check(&strict, &mapped.events);
    assert_eq!(said.rejected(), 2, "neither service nor environment");
    let mut batch = read_long_ago(&bytes);
    batch.records.extend(said.facts());
    ledger.append(batch).unwrap();
    let (tally, _) = run(&ledger, true);
    assert_eq!((tally.quarantined, tally.changed), (2, 0), "{tally:?}");
}

#[test]
fn a_reading_by_a_newer_build_stands() {
    let bench = Bench::new();
    let ledger = bench.init();
    let mut batch = read_long_ago(&body(1..2));
    let source = batch.records[0].body.get_mut("source").unwrap();
    source["mapper"] = json!(60);
    ledger.append(batch).unwrap();
    let (tally, _) = run(&ledger, true);
    assert_eq!((tally.newer, tally.changed), (1, 0), "{tally:?}");
}
