//! Governed tool calls with their outcomes; twenty make a trace.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use verdict_ledger::clock::SystemClock;
use verdict_ledger::event::{
    Action, ActionKind, Agent, AuthorityKind, Cost, Decision, Effect, Event, Outcome, Provenance, Status,
    Trust, Usage,
};
use verdict_ledger::id::{SpanId, TraceId};
use verdict_ledger::{Batch, InitOptions, Ledger, NewRecord};
use verdict_replay::policy::{Bundle, Policy};

/// A day and a half of them, whatever the size, so that windows fill.
const SPACING_NS: u64 = 1_000_000_000;
const START_NS: u64 = 1_763_670_000_000_000_000;

pub(crate) fn policy() -> Policy {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/policies/v1");
    Policy::compile(Bundle::load(&policies).unwrap()).unwrap()
}

/// A policy that reads next to nothing: what remains is what replay itself costs.
pub(crate) fn light() -> Policy {
    let settings =
        "name = \"light\"\nversion = \"1\"\nengine = \"rego\"\nentrypoint = \"data.light.findings\"\n";
    let rego = r#"package light
findings contains {"effect": "block", "rule": "refunds"} if input.action.name == "issue_refund"
findings contains {"effect": "allow", "rule": "rest"} if input.action.name != "issue_refund"
"#;
    let files = [("verdict.toml", settings), ("policy/light.rego", rego)];
    let files = files.map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
    Policy::compile(Bundle::from_files(files.into()).unwrap()).unwrap()
}

pub(crate) fn trace(number: u32) -> TraceId {
    let mut trace = [1; 16];
    trace[12..].copy_from_slice(&(number / 20 + 1).to_be_bytes());
    TraceId(trace)
}

/// The build directory lies on a real disk.
pub(crate) fn disk() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

pub(crate) fn build(dir: &Path, size: u32) {
    let ledger = Ledger::init(dir, &InitOptions::new("bench.example"), Arc::new(SystemClock)).unwrap();
    for first in (0..size).step_by(2_000) {
        let records =
            (first..size.min(first + 2_000)).map(|n| NewRecord::from_event(&event(n)).unwrap()).collect();
        ledger.append(Batch { records, blobs: Vec::new() }).unwrap();
    }
}

fn event(number: u32) -> Event {
    let (tool, arguments) = match number % 4 {
        0 => (
            "issue_refund",
            json!({"order_id": format!("ORD-{number}"), "amount_cents": u64::from(number) * 17 % 90_000, "currency": "EUR"}),
        ),
        1 => ("get_order", json!({"order_id": format!("ORD-{number}")})),
        2 => (
            "send_email",
            json!({"to": format!("user{number}@example.org"), "subject": "Your order", "body": "On its way."}),
        ),
        _ => ("fetch_url", json!({"url": format!("https://docs{}.example.org/page/{number}", number % 7)})),
    };
    let mut asked = Action::new(ActionKind::Tool, tool);
    asked.call_id = Some(format!("call_{number:08x}"));
    asked.arguments = Some(arguments);
    let mut event = Event::new(format!("bench:{number}"), asked);
    event.trace_id = Some(trace(number));
    event.span_id = Some(SpanId((u64::from(number) + 1).to_be_bytes()));
    event.start_ns = Some(START_NS + u64::from(number) * SPACING_NS);
    event.agent = Some(Agent::named(["support-agent", "research-agent", "ops-agent"][number as usize % 3]));
    event.session = Some(format!("session-{}", number / 20));
    event.tenant = Some("harbor".to_owned());
    event.environment = Some("production".to_owned());
    let trust = if number.is_multiple_of(11) { Trust::Unverified } else { Trust::Internal };
    event.provenance =
        vec![Provenance { kind: "retrieval".to_owned(), trust, name: None, uri: None, digest: None }];
    event.decision = Some(Decision::new(Effect::Allow, AuthorityKind::Policy));
    event.outcome = Some(Outcome::new(Status::Ok));
    let mut usage = Usage::default();
    let nano = i64::from(number % 1_000) * 1_000;
    usage.cost = Some(Cost { nano, currency: "USD".to_owned(), basis: "reported".to_owned() });
    event.usage = Some(usage);
    event
}
