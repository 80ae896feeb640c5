//! How close a pointwise replay comes to the engine: decisions a second from the ledger, input building included,
//! beside the same engine on the same inputs built beforehand, on as many threads.
//!
//! Both are measured in the same run in alternating rounds; the best round of each counts.
//! `cargo bench -p verdict-replay`; numbers with machine and date go to `docs/performance.md`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench measures wall time, prints, and may stop at the first error"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use verdict_ledger::clock::SystemClock;
use verdict_ledger::event::{
    Action, ActionKind, Agent, AuthorityKind, Decision, Effect, Event, Outcome, Provenance, Status, Trust,
};
use verdict_ledger::id::{SpanId, TraceId};
use verdict_ledger::{Batch, InitOptions, Ledger, NewRecord, action};
use verdict_replay::input;
use verdict_replay::policy::{Bundle, Policy};
use verdict_replay::run::{Scope, replay};
use verdict_replay::state::State;

const ROUNDS: usize = 3;
const ACTIONS: u32 = 4_000;

fn main() {
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/policies/v1");
    let policy = Policy::compile(Bundle::load(&policies).unwrap()).unwrap();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let ledger =
        Ledger::init(&dir.path().join("ledger"), &InitOptions::new("bench.example"), Arc::new(SystemClock));
    let ledger = ledger.unwrap();
    for first in (0..ACTIONS).step_by(1000) {
        let records = (first..first + 1000).map(|n| NewRecord::from_event(&event(n)).unwrap()).collect();
        ledger.append(Batch { records, blobs: Vec::new() }).unwrap();
    }
    let inputs = inputs(&ledger);
    let threads = std::thread::available_parallelism().unwrap().get();
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    let mut decided = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let run = replay(&ledger, &Scope::default(), &policy, &mut |_, _| {}).unwrap();
        ours.push(start.elapsed());
        decided = run.points.len();

        let start = Instant::now();
        std::thread::scope(|scope| {
            for share in inputs.chunks(inputs.len().div_ceil(threads)) {
                let policy = &policy;
                scope.spawn(move || share.iter().for_each(|input| drop(black_box(policy.decide(input)))));
            }
        });
        limit.push(start.elapsed());
    }
    assert_eq!(decided, inputs.len(), "both decide the same points");
    let (ours, limit) = (rate(&ours, decided), rate(&limit, decided));
    println!("{decided} decision points, policy {} on {threads} threads\n", policy.bundle().name());
    println!(
        "{:<44} {:>12} {:>12} {:>7}",
        "pointwise replay from the ledger", "decisions/s", "engine", "ratio"
    );
    println!(
        "{:<44} {ours:>12.0} {limit:>12.0} {:>6.1}%",
        "different inputs evaluated once",
        100.0 * ours / limit
    );
}

fn rate(rounds: &[Duration], decided: usize) -> f64 {
    let best = rounds.iter().min().unwrap();
    f64::from(u32::try_from(decided).unwrap()) / best.as_secs_f64()
}

fn inputs(ledger: &Ledger) -> Vec<Value> {
    let records: Vec<_> = ledger.records(0..u64::MAX).map(Result::unwrap).collect();
    let mut state = State::default();
    let mut inputs = Vec::new();
    for action in action::fold(&records, 0) {
        inputs.push(input::build(&action, &state));
        state.fold(&action, Some(Effect::Allow));
    }
    inputs
}

/// A governed tool call with its outcome; twenty make a trace.
fn event(number: u32) -> Event {
    let (tool, arguments) = match number % 4 {
        0 => (
            "issue_refund",
            json!({"order_id": format!("ORD-{number}"), "amount_cents": number * 17 % 90_000, "currency": "EUR"}),
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
    let mut trace = [1; 16];
    trace[12..].copy_from_slice(&(number / 20 + 1).to_be_bytes());
    event.trace_id = Some(TraceId(trace));
    event.span_id = Some(SpanId((u64::from(number) + 1).to_be_bytes()));
    event.start_ns = Some(1_763_670_000_000_000_000 + u64::from(number) * 1_000_000_000);
    event.agent = Some(Agent::named(["support-agent", "research-agent", "ops-agent"][number as usize % 3]));
    event.session = Some(format!("session-{}", number / 20));
    event.tenant = Some("harbor".to_owned());
    event.environment = Some("production".to_owned());
    let trust = if number.is_multiple_of(11) { Trust::Unverified } else { Trust::Internal };
    event.provenance =
        vec![Provenance { kind: "retrieval".to_owned(), trust, name: None, uri: None, digest: None }];
    event.decision = Some(Decision::new(Effect::Allow, AuthorityKind::Policy));
    event.outcome = Some(Outcome::new(Status::Ok));
    event
}
