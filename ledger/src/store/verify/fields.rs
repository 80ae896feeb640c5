//! Every member of every type of entry is changed, removed and joined by another, one at a time: each change must be
//! found at its entry. The events are maximal, and a field that is added to the model must be added here.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::bitflips::Patient;
use super::{Class, Depth};
use crate::canon;
use crate::disclosure::Hidden;
use crate::event::{
    ACTION_REPORTED, Action, ActionKind, Agent, Authority, AuthorityKind, Budget, Cost, Decision, Effect,
    ErrorInfo, Event, Link, Obligation, Outcome, PolicyRef, Provenance, Rel, Source, Status, Target, Trust,
    Usage,
};
use crate::id::{Digest, SpanId, TraceId};
use crate::record::{Batch, NewRecord, Stream};
use crate::store::families;

const RAW: &[u8] = b"a raw body";
const ARCHIVE: &[u8] = b"an archive";

/// An event that says everything. Written without `..`, so that a new field does not compile until it is said here.
fn maximal() -> Event {
    let text = |text: &str| Some(text.to_owned());
    Event {
        id: "e".to_owned(),
        source: Source {
            format: "otlp".to_owned(),
            profile: text("mcp"),
            mapper: 3,
            raw: Some(Digest::of(RAW)),
            path: text("line/1"),
            peer: text("agent-7"),
            lost: 2,
            restated: vec!["/attributes/n".to_owned()],
            supersedes: text("e0"),
        },
        trace_id: Some(TraceId([1; 16])),
        span_id: Some(SpanId([2; 8])),
        parent_span_id: Some(SpanId([3; 8])),
        start_ns: Some(5),
        end_ns: Some(6),
        links: vec![Link {
            to: Target {
                event: text("e0"),
                trace_id: Some(TraceId([1; 16])),
                span_id: Some(SpanId([4; 8])),
                call_id: text("c0"),
                approval_id: text("a0"),
            },
            rel: Rel::RetryOf,
        }],
        agent: Some(Agent { id: text("a"), name: text("desk"), version: text("2") }),
        user: text("ada"),
        session: text("s"),
        service: text("shop"),
        environment: text("prod"),
        tenant: text("harbor"),
        on_behalf_of: vec!["bo".to_owned()],
        action: Action {
            kind: ActionKind::Tool,
            name: "pay".to_owned(),
            call_id: text("c"),
            arguments: Some(json!({"amount": 7, "to": ["x", {"y": null}]})),
            resource: text("account"),
            capabilities: vec!["money".to_owned()],
        },
        provenance: vec![Provenance {
            kind: "user_prompt".to_owned(),
            trust: Trust::External,
            name: text("mail"),
            uri: text("imap:1"),
            digest: text("d"),
        }],
        classification: text("internal"),
        budget: Some(Budget {
            name: text("b"),
            unit: "calls".to_owned(),
            limit: Some(9),
            used: Some(4),
            reserved: Some(1),
        }),
        decision: Some(Decision {
            effect: Effect::Block,
            enforced: false,
            policy: Some(PolicyRef {
                bundle: Some(Digest::of(b"p")),
                name: text("shop"),
                version: text("1"),
                rules: vec!["r".to_owned()],
            }),
            code: text("c"),
            reason: text("over limit"),
            by: Authority { kind: AuthorityKind::Human, id: text("eve") },
            flags: vec!["warn".to_owned()],
            until_ns: Some(8),
            approval_id: text("a1"),
            obligations: vec![Obligation {
                kind: "notify".to_owned(),
                params: BTreeMap::from([("who".to_owned(), "bo".to_owned())]),
            }],
        }),
        outcome: Some(Outcome {
            status: Status::Error,
            error: Some(ErrorInfo { kind: text("E"), message: text("ada failed") }),
            result: Some(json!([true, "r"])),
        }),
        usage: Some(Usage {
            provider: text("p"),
            model: text("m"),
            input_tokens: Some(1),
            output_tokens: Some(2),
            cache_read_tokens: Some(3),
            cache_write_tokens: Some(4),
            reasoning_tokens: Some(5),
            context_window: Some(6),
            cost: Some(Cost { nano: 7, currency: "EUR".to_owned(), basis: "reported".to_owned() }),
            aggregate: true,
        }),
        attributes: object(&json!({"n": "1.5", "deep": {"er": 1}})),
    }
}

/// One fact of each type that the programs write, as they write it.
fn facts() -> Vec<NewRecord> {
    let digest = Digest::of(ARCHIVE).to_string();
    [
        ("policy.published", json!({
            "id": "policy:x", "name": "shop", "version": "1", "digest": digest, "engine": "rego", "archive": digest,
            "files": [{"path": "policy/a.rego", "digest": digest}], "by": "eve", "reason": "first",
        })),
        ("policy.activated", json!({
            "id": "policy.activated:1", "name": "shop", "version": "1", "digest": digest, "previous": digest, "by": "eve",
            "reason": "go",
        })),
        ("export.created", json!({
            "id": "export.created/x", "bundle": digest, "name": "b", "by": "eve", "selection": {"range": ["0", "4"]},
            "checkpoint": {"size": "4", "root": "r"}, "redactions": "0",
        })),
    ]
    .into_iter()
    .map(|(kind, body)| NewRecord::system(kind, object(&body)))
    .collect()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn patient() -> Patient {
    Patient::with(|ledger| {
        let mut first = NewRecord::from_event(&maximal()).unwrap();
        first.stream = Some(Stream { id: "otel".to_owned(), seq: "4".to_owned() });
        let mut records = vec![first];
        records.extend(facts());
        let after =
            Event { id: "after".to_owned(), ..Event::new("after", Action::new(ActionKind::Plan, "p")) };
        records.push(NewRecord::from_event(&after).unwrap());
        ledger.append(Batch { records, blobs: vec![RAW.to_vec(), ARCHIVE.to_vec()] }).unwrap();
    })
}

/// Gives every variant of a value that differs from it in one place: a leaf of another value, a member or item left
/// out, a member or item more. Tells each with the JSON pointer of the place.
fn variants(value: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    walk(value, "", &mut |pointer, changed| found.push((pointer, changed)));
    found
}

fn walk(value: &Value, pointer: &str, found: &mut dyn FnMut(String, Value)) {
    let mut put = |what: &str, changed: Value| found(format!("{pointer}{what}"), changed);
    match value {
        Value::Null => put("", json!(false)),
        Value::Bool(is) => put("", json!(!is)),
        Value::Number(number) => put("", json!(number.as_i64().map_or(0, |number| number + 1))),
        Value::String(text) => {
            put("", json!(format!("{text}x")));
            put("", Value::Null);
        }
        Value::Array(items) => {
            put("/+", Value::from([items.as_slice(), &[json!("x")]].concat()));
            for index in 0..items.len() {
                let mut fewer = items.clone();
                fewer.remove(index);
                found(format!("{pointer}/-{index}"), Value::from(fewer));
                walk(&items[index], &format!("{pointer}/{index}"), &mut |pointer, changed| {
                    let mut other = items.clone();
                    other[index] = changed;
                    found(pointer, Value::from(other));
                });
            }
        }
        Value::Object(members) => {
            let mut more = members.clone();
            more.insert("zz".to_owned(), json!(1));
            put("/+", Value::from(more));
            for (name, member) in members {
                let mut fewer = members.clone();
                fewer.remove(name);
                found(format!("{pointer}/-{name}"), Value::from(fewer));
                walk(member, &format!("{pointer}/{name}"), &mut |pointer, changed| {
                    let mut other = members.clone();
                    other.insert(name.clone(), changed);
                    found(pointer, Value::from(other));
                });
            }
        }
    }
}

#[test]
fn of_every_entry() {
    let patient = patient();
    let mut looked = 0;
    for (key, entry) in patient.rows(families::ENTRIES) {
        let seq = u64::from_be_bytes((*key).try_into().unwrap());
        let value: Value = serde_json::from_slice(&entry).unwrap();
        for (pointer, changed) in variants(&value) {
            patient.put(families::ENTRIES, &key, &canon::entry_bytes(&changed).unwrap());
            let report = patient.look(Depth::Log).unwrap();
            let first = report.first_bad().map(|first| first.seq);
            assert_eq!(first, Some(Some(seq)), "{pointer} of entry {seq}: {:#?}", report.failures);
            looked += 1;
        }
        patient.put(families::ENTRIES, &key, &entry);
    }
    assert!(patient.look(Depth::Everything).unwrap().is_clean());
    assert!(looked > 400, "{looked} places");
}

#[test]
fn of_every_disclosed_value() {
    let patient = patient();
    let sealer = patient.sealer();
    let mut looked = 0;
    for (key, row) in patient.rows(families::DISCLOSURES) {
        let seq = u64::from_be_bytes((*key).try_into().unwrap());
        let hidden = sealer.open(seq, &row).unwrap().unwrap();
        let values: Vec<Value> =
            hidden.members().map(|member| serde_json::from_slice(member.value).unwrap()).collect();
        let subject = crate::store::seal::Sealer::subject_of(&row).unwrap();
        for (index, value) in values.iter().enumerate() {
            for (pointer, changed) in variants(value) {
                let mut other = Hidden { salts: hidden.salts.clone(), ..Hidden::default() };
                for (at, value) in values.iter().enumerate() {
                    let value = if at == index { &changed } else { value };
                    other.values.extend(canon::entry_bytes(value).unwrap());
                    other.members.push((hidden.members[at].0, other.values.len()));
                }
                patient.put(families::DISCLOSURES, &key, &sealer.seal(subject, &other, [9; 12]).unwrap());
                let report = patient.look(Depth::Everything).unwrap();
                let place = hidden.members[index].0.pointer();
                let named = report.failures.iter().any(|failure| {
                    (failure.seq, failure.class) == (Some(seq), Class::Disclosure)
                        && failure.detail.contains(&place)
                });
                assert!(named, "{place}{pointer} of entry {seq}: {:#?}", report.failures);
                looked += 1;
            }
        }
        patient.put(families::DISCLOSURES, &key, &row);
    }
    assert!(patient.look(Depth::Everything).unwrap().is_clean());
    assert!(looked > 30, "{looked} places");
}

/// The names in the message of serde are those of all fields: what the model has, the maximal event must say.
#[test]
fn the_maximal_event_says_every_field_of_the_model() {
    let event = serde_json::to_value(maximal()).unwrap();
    let mut objects = 0;
    let mut pointers = vec![String::new()];
    while let Some(pointer) = pointers.pop() {
        let members = event.pointer(&pointer).unwrap();
        let inner: Vec<String> = match members {
            Value::Object(members) => members.keys().cloned().collect(),
            Value::Array(items) => (0..items.len()).map(|index| index.to_string()).collect(),
            _ => continue,
        };
        pointers.extend(inner.iter().map(|name| format!("{pointer}/{name}")));
        if !members.is_object() {
            continue;
        }
        let mut other = event.clone();
        other.pointer_mut(&pointer).unwrap().as_object_mut().unwrap().insert("?".to_owned(), json!(1));
        let Err(error) = serde_json::from_value::<Event>(other) else { continue };
        let text = error.to_string();
        let Some((_, known)) = text.split_once("expected") else { continue };
        for name in known.split('`').skip(1).step_by(2) {
            assert!(
                inner.iter().any(|inner| inner == name),
                "`{pointer}` of the maximal event does not say `{name}`"
            );
        }
        objects += 1;
    }
    assert!(objects >= 15, "{objects} objects of the model");
    assert_eq!(NewRecord::from_event(&maximal()).unwrap().kind, ACTION_REPORTED);
}
