//! How close the ledger comes to the limits of this machine: durable append beside raw RocksDB with the same
//! batches, full verification beside one BLAKE3 pass over the same bytes.
//!
//! Every figure stands beside its limit, measured in the same run in alternating rounds; the best round of each
//! counts, because what is asked is what the code can do, not what the neighbours of this machine do.
//! `cargo bench -p verdict-ledger`; numbers with machine and date go to `docs/performance.md`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a bench measures wall time, prints, and may stop at the first error"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rocksdb::{DB, DBCompressionType, Options, WriteBatch, WriteOptions};
use serde_json::json;
use verdict_ledger::clock::SystemClock;
use verdict_ledger::event::{Action, ActionKind, Agent, AuthorityKind, Decision, Effect, Event};
use verdict_ledger::id::{SpanId, TraceId};
use verdict_ledger::{Batch, InitOptions, Ledger, NewRecord};

const ROUNDS: usize = 3;

fn main() {
    println!("events of {} bytes as native JSON\n", serde_json::to_vec(&event(1)).unwrap().len());
    println!("{:<44} {:>12} {:>12} {:>7}", "durable append, one caller", "events/s", "raw RocksDB", "ratio");
    for (batch, events) in [(1usize, 400u32), (100, 10_000), (1000, 30_000)] {
        let (ours, limit) = append(batch, events);
        row(&format!("batches of {batch}, flushed before acknowledged"), ours, limit);
    }
    let events = 50_000;
    println!("\n{:<44} {:>12} {:>12} {:>7}", "read", "events/s", "limit", "ratio");
    let (verified, hashed, scanned) = verify(events);
    row("verify all, beside BLAKE3 of the same bytes", verified, hashed);
    row("verify all, beside scan + BLAKE3 + SHA-256", verified, scanned);
}

fn row(what: &str, ours: f64, limit: f64) {
    println!("{what:<44} {ours:>12.0} {limit:>12.0} {:>6.1}%", 100.0 * ours / limit);
}

/// A tool call of about one KiB, different in every field that differs in life.
fn event(number: u32) -> Event {
    let mut action =
        Action::new(ActionKind::Tool, ["issue_refund", "get_order", "send_email"][number as usize % 3]);
    action.call_id = Some(format!("call_{number:08x}"));
    action.arguments = Some(
        json!({"order_id": format!("ORD-{number}"), "amount_cents": number % 90_000, "currency": "EUR"}),
    );
    let mut event = Event::new(format!("bench:{number}"), action);
    let mut trace = [1; 16];
    trace[12..].copy_from_slice(&(number / 20 + 1).to_be_bytes());
    event.trace_id = Some(TraceId(trace));
    event.span_id = Some(SpanId((u64::from(number) + 1).to_be_bytes()));
    event.start_ns = Some(1_763_670_000_000_000_000 + u64::from(number) * 1000);
    event.agent = Some(Agent::named(["support-agent", "ops-agent"][number as usize % 2]));
    event.user = Some(format!("user-{}@example.org", number % 500));
    event.session = Some(format!("session-{}", number / 20));
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

fn batch(numbers: std::ops::Range<u32>) -> Batch {
    Batch { records: numbers.map(|n| NewRecord::from_event(&event(n)).unwrap()).collect(), blobs: Vec::new() }
}

fn best(mut rounds: Vec<Duration>, events: u32) -> f64 {
    rounds.sort_unstable();
    f64::from(events) / rounds[0].as_secs_f64()
}

fn append(size: usize, events: u32) -> (f64, f64) {
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    let step = u32::try_from(size).unwrap();
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir_in(target_dir()).unwrap();
        let ledger = init(&dir.path().join("ledger"));
        let batches: Vec<Batch> = (0..events).step_by(size).map(|start| batch(start..start + step)).collect();
        let start = Instant::now();
        for batch in batches {
            ledger.append(batch).unwrap();
        }
        ours.push(start.elapsed());

        let db = raw(&dir.path().join("raw"));
        let values: Vec<Vec<u8>> = (0..events).map(|n| serde_json::to_vec(&event(n)).unwrap()).collect();
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        let start = Instant::now();
        for (first, values) in (0u64..).step_by(size).zip(values.chunks(size)) {
            let mut writes = WriteBatch::default();
            for (key, value) in (first..).zip(values) {
                writes.put(key.to_be_bytes(), value);
            }
            db.write_opt(writes, &durable).unwrap();
        }
        limit.push(start.elapsed());
    }
    (best(ours, events), best(limit, events))
}

fn verify(events: u32) -> (f64, f64, f64) {
    let dir = tempfile::tempdir_in(target_dir()).unwrap();
    let ledger = init(&dir.path().join("ledger"));
    for start in (0..events).step_by(1000) {
        ledger.append(batch(start..start + 1000)).unwrap();
    }
    ledger.settle().unwrap();
    let entries: Vec<Vec<u8>> = ledger.entries(0..u64::MAX).map(|row| row.unwrap().1).collect();
    let (mut ours, mut hash, mut scan) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
        ours.push(start.elapsed());

        let start = Instant::now();
        for entry in &entries {
            black_box(blake3::hash(entry));
        }
        hash.push(start.elapsed());

        let start = Instant::now();
        for row in ledger.entries(0..u64::MAX) {
            let (_, entry) = row.unwrap();
            black_box(verdict_ledger::chain::Link::of_entry(&entry));
            black_box(verdict_ledger::merkle::leaf_hash(&entry));
        }
        scan.push(start.elapsed());
    }
    (best(ours, events), best(hash, events), best(scan, events))
}

fn init(dir: &Path) -> Ledger {
    Ledger::init(dir, &InitOptions::new("bench.example"), Arc::new(SystemClock)).unwrap()
}

fn raw(dir: &Path) -> DB {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Zstd);
    DB::open(&options, dir).unwrap()
}

/// The build directory lies on a real disk; the temporary directory may be memory, where nothing is durable.
fn target_dir() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
