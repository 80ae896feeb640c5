//! The events that every bench appends.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use verdict_ledger::clock::SystemClock;
use verdict_ledger::event::{Action, ActionKind, Agent, AuthorityKind, Decision, Effect, Event};
use verdict_ledger::id::{SpanId, TraceId};
use verdict_ledger::{Batch, InitOptions, Ledger, NewRecord};

/// A tool call of about one KiB, different in every field that differs in life.
pub(crate) fn event(number: u32) -> Event {
    let mut action =
        Action::new(ActionKind::Tool, ["issue_refund", "get_order", "send_email"][number as usize % 3]);
    action.call_id = Some(format!("call_{number:08x}"));
    action.arguments = Some(json!({
        "order_id": format!("ORD-{number}"), "amount_cents": number % 90_000, "currency": "EUR",
        "note": format!("Parcel {} was returned on the {}th, see ticket {}.", number.wrapping_mul(7919) % 100_000, number % 28 + 1, number ^ 0x5a5a),
    }));
    let mut event = Event::new(format!("bench:{number}"), action);
    let mut trace = *b"\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\0\0\0\0";
    trace[12..].copy_from_slice(&(number / 20 + 1).to_be_bytes());
    event.trace_id = Some(TraceId(trace));
    event.span_id = Some(SpanId((u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()));
    event.start_ns = Some(1_763_670_000_000_000_000 + u64::from(number) * 1000);
    event.end_ns = Some(1_763_670_000_004_200_000 + u64::from(number) * 1000);
    event.agent = Some(Agent::named(["support-agent", "ops-agent"][number as usize % 2]));
    event.user = Some(format!("user-{}@example.org", number % 500));
    event.session = Some(format!("session-{}", number / 20));
    event.service = Some("harbor-goods-support".to_owned());
    event.environment = Some("production".to_owned());
    event.tenant = Some("harbor".to_owned());
    let mut decision = Decision::new(Effect::Allow, AuthorityKind::Policy);
    decision.reason = Some("within the limits for this agent and tool".to_owned());
    event.decision = Some(decision);
    let attributes = json!({
        "gen_ai.operation.name": "execute_tool", "server.address": "tools.example.org",
        "text": format!("The order {number} was delivered late and the customer asked for a partial refund of {}.", number % 977),
        "telemetry.sdk.name": "opentelemetry", "telemetry.sdk.language": "python", "telemetry.sdk.version": "1.45.2",
    });
    attributes.as_object().unwrap().clone_into(&mut event.attributes);
    event
}

pub(crate) fn record(number: u32) -> NewRecord {
    NewRecord::from_event(&event(number)).unwrap()
}

pub(crate) fn batch(numbers: std::ops::Range<u32>) -> Batch {
    Batch { records: numbers.map(record).collect(), blobs: Vec::new() }
}

/// An event as a line of NDJSON.
pub(crate) fn line(number: u32) -> Vec<u8> {
    let mut line = serde_json::to_vec(&event(number)).unwrap();
    line.push(b'\n');
    line
}

pub(crate) fn init(dir: &Path) -> Ledger {
    Ledger::init(dir, &InitOptions::new("bench.example"), Arc::new(SystemClock)).unwrap()
}
