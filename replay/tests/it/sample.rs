//! Records in a few words, for the other modules.

use serde_json::{Value, json};
use verdict_ledger::Record;
use verdict_ledger::event::Event;
use verdict_ledger::id::TraceId;

/// Makes records of native events; `id` and `trace_id` are filled in where they are missing.
pub(crate) fn records(events: &[Value]) -> Vec<Record> {
    let mut out = Vec::new();
    for (seq, event) in (1..).zip(events) {
        let mut event = event.clone();
        let members = event.as_object_mut().unwrap();
        members.entry("id").or_insert_with(|| json!(format!("e{seq}")));
        members.entry("start_ns").or_insert_with(|| json!(seq * 1_000_000_000));
        members.entry("trace_id").or_insert_with(|| json!(trace(1).to_string()));
        let event: Event = serde_json::from_value(event).unwrap();
        out.push(Record {
            seq,
            ts_ns: seq * 1_000_000_000,
            kind: "action.reported".to_owned(),
            event: Some(Box::new(event)),
            body: serde_json::Map::new(),
            withheld: Vec::new(),
        });
    }
    out
}

pub(crate) fn trace(n: u8) -> TraceId {
    TraceId([n; 16])
}

#[expect(clippy::needless_pass_by_value, reason = "callers write `json!` in place")]
pub(crate) fn tool(name: &str, arguments: Value) -> Value {
    json!({
        "agent": {"name": "support-agent"},
        "session": "s1",
        "action": {"kind": "tool", "name": name, "arguments": arguments},
        "outcome": {"status": "ok"},
    })
}

pub(crate) fn with(mut event: Value, name: &str, value: Value) -> Value {
    event[name] = value;
    event
}
