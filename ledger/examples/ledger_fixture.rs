//! Writes a small ledger of the present format, to be kept as a fixture that every later version must open.
//!
//! ```sh
//! cargo run -p verdict-ledger --example ledger_fixture -- testdata/ledgers/v1
//! ```
//!
//! Entries, keys and root come from a fixed clock and a fixed sequence of bytes, and are the same each time; the files
//! of RocksDB hold times and session names of their own and are not. A fixture is made once for a format and never
//! again: what a later version writes proves nothing about what an earlier one wrote.
#![expect(clippy::print_stdout, reason = "an example tells what it did")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use verdict_ledger::clock::{Clock, SteppingClock, SteppingEntropy};
use verdict_ledger::erasure::{Basis, EventRef, NewHold, Selection};
use verdict_ledger::{Batch, InitOptions, Ledger, NewRecord, OpenOptions, Order, Query, User};

/// Start of the fixed clock.
const T0: u64 = 1_795_600_000_000_000_000;
/// Events; more than a block of an index and a tile.
const EVENTS: u64 = 320;

fn main() -> Result<(), Box<dyn Error>> {
    let target = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: ledger_fixture DIR")?);
    if target.exists() {
        return Err(format!("{} exists; a fixture is never written over", target.display()).into());
    }
    fs::create_dir_all(&target)?;
    let (whole, torn) = (target.join("whole"), target.join("torn"));
    let clock: Arc<dyn Clock> = Arc::new(SteppingClock::starting_at(T0));
    let entropy = Arc::new(SteppingEntropy::starting_at(0));
    let options = InitOptions { entropy: entropy.clone(), ..InitOptions::new("fixture.example/v1") };
    let ledger = Ledger::init(&whole, &options, Arc::clone(&clock))?;
    let mut number = 0;
    for size in [1, 3, 96, 160, 60] {
        append(&ledger, number..number + size)?;
        number += size;
        ledger.settle()?;
    }
    // Said twice, and said otherwise.
    append(&ledger, 0..3)?;
    let mut other = event(5);
    other
        .insert("decision".to_owned(), json!({"effect": "allow", "enforced": true, "by": {"kind": "human"}}));
    let other = NewRecord { kind: "action.reported".to_owned(), body: other, stream: None };
    let fact = json!({"id": "review-1", "reason": "looked at"});
    let fact = NewRecord::system("review.opened", fact.as_object().cloned().unwrap_or_default());
    ledger.append(Batch {
        records: vec![other, fact],
        blobs: vec![b"{\"a\": \"raw request body\"}".to_vec()],
    })?;
    ledger.settle()?;
    erase(&ledger)?;
    let expected = expected(&ledger)?;
    drop(ledger);

    // As a power cut leaves it: the last group is torn, and the lock knows that it was in flight.
    let open = OpenOptions { entropy, ..OpenOptions::default() };
    let ledger = Ledger::open(&whole, &open, clock)?;
    let scratch = target.join("scratch");
    copy(&whole, &scratch)?;
    let lock = fs::read(whole.with_extension("lock"))?;
    drop(ledger);
    fs::write(scratch.with_extension("lock"), lock)?;
    let clock: Arc<dyn Clock> = Arc::new(SteppingClock::starting_at(T0 + 1_000_000_000_000));
    let ledger = Ledger::open(&scratch, &open, clock)?;
    let lock = fs::read(scratch.with_extension("lock"))?;
    append(&ledger, EVENTS..EVENTS + 4)?;
    copy(&scratch, &torn)?;
    drop(ledger);
    fs::write(torn.with_extension("lock"), lock)?;
    tear(&torn.join("db"))?;
    fs::remove_dir_all(&scratch)?;
    fs::remove_file(scratch.with_extension("lock"))?;

    for ledger in [&whole, &torn] {
        strip(&ledger.join("db"))?;
    }
    fs::write(target.join("expected.json"), format!("{expected:#}\n"))?;
    println!("{}", target.display());
    Ok(())
}

fn append(ledger: &Ledger, numbers: std::ops::Range<u64>) -> Result<(), Box<dyn Error>> {
    let record = |number| NewRecord { kind: "action.reported".to_owned(), body: event(number), stream: None };
    ledger.append(Batch { records: numbers.map(record).collect(), blobs: Vec::new() })?;
    Ok(())
}

/// Erases all values of an entry, and one of another; a third is kept by a hold, which is then released.
fn erase(ledger: &Ledger) -> Result<(), Box<dyn Error>> {
    let hold = NewHold {
        selection: Selection::event(200),
        matter: "case 1".to_owned(),
        by: "counsel".to_owned(),
        reason: "kept for a court".to_owned(),
        ..NewHold::default()
    };
    let (hold, _) = ledger.place_hold(&hold)?;
    let basis = Basis {
        legal_basis: "Art. 17(1)(b) GDPR".to_owned(),
        reason: "consent withdrawn".to_owned(),
        by: "privacy".to_owned(),
        requested_by: None,
    };
    let events = vec![EventRef::Seq(200), EventRef::Seq(201)];
    ledger.erase(&Selection { events, ..Selection::default() }, &basis, T0)?;
    let fields = vec!["/action/arguments".to_owned()];
    ledger.erase(&Selection { fields, ..Selection::event(202) }, &basis, T0)?;
    ledger.release_hold(&hold, "counsel", "closed", T0)?;
    ledger.settle()?;
    Ok(())
}

/// An event with everything that stands in an index or among disclosed values, in turns.
fn event(number: u64) -> Map<String, Value> {
    let tool = if number.is_multiple_of(3) { "run_sql" } else { "issue_refund" };
    let effect = if number.is_multiple_of(7) { "block" } else { "allow" };
    let mut event = json!({
        "id": format!("event-{number}"),
        "trace_id": format!("{:032x}", number / 4 + 1),
        "span_id": format!("{:016x}", number + 1),
        "start_ns": (T0 + number).to_string(),
        "agent": {"id": "a-1", "name": "support-agent"},
        "tenant": "harbor",
        "session": format!("session-{}", number / 40),
        "action": {"kind": "tool", "name": tool, "arguments": {"amount_cents": number, "note": "für Ada"}},
        "decision": {
            "effect": effect, "enforced": true, "reason": "Over the limit", "by": {"kind": "policy"},
            "policy": {"rules": ["refund.limit", format!("rule.{}", number % 5)]},
        },
        "outcome": {"status": "ok", "result": {"text": "done"}},
        "attributes": {"http.status": 200},
    });
    if let Some(members) = event.as_object_mut().filter(|_| number.is_multiple_of(2)) {
        members.insert("user".to_owned(), format!("user-{}@example.org", number % 6).into());
    }
    event.as_object().cloned().unwrap_or_default()
}

/// What every later version must find in it.
fn expected(ledger: &Ledger) -> Result<Value, Box<dyn Error>> {
    let found = |query: &Query| -> Result<Value, Box<dyn Error>> {
        Ok(json!(ledger.query(query, Order::Oldest, None)?.collect::<Result<Vec<u64>, _>>()?))
    };
    let one = |text: &str| vec![text.to_owned()];
    let user = User { tenant: Some("harbor".to_owned()), user: "user-4@example.org".to_owned() };
    let queries = json!({
        "id event-5": found(&Query { ids: one("event-5"), ..Query::default() })?,
        "effect block, tool run_sql":
            found(&Query { effects: one("block"), tools: one("run_sql"), ..Query::default() })?,
        "rule rule.3": found(&Query { rules: one("rule.3"), ..Query::default() })?,
        "session session-2": found(&Query { sessions: one("session-2"), ..Query::default() })?,
        "text limit, first 300": found(&Query { texts: one("limit"), end_seq: Some(300), ..Query::default() })?,
        "user user-4@example.org of harbor": found(&Query { users: vec![user], ..Query::default() })?,
        "type review.opened, payload.erased": found(&Query {
            kinds: vec!["review.opened".to_owned(), "payload.erased".to_owned()],
            ..Query::default()
        })?,
    });
    let record = ledger.record(100)?.ok_or("entry 100 is missing")?;
    let report = ledger.verify(&mut |_, _| {})?;
    if !report.is_clean() {
        return Err(format!("the fixture does not verify: {:?}", report.failures).into());
    }
    let withheld = |seq| -> Result<Value, Box<dyn Error>> {
        Ok(json!(ledger.record(seq)?.ok_or("an entry is missing")?.withheld))
    };
    Ok(json!({
        "origin": ledger.origin(),
        "size": ledger.head().size,
        "root": ledger.head().root.to_string(),
        "verifier_key": ledger.verifier_key(),
        "event_100": record.event,
        "disclosures": report.disclosures,
        "withheld": report.withheld,
        "withheld_at": {"200": withheld(200)?, "201": withheld(201)?, "202": withheld(202)?},
        "queries": queries,
    }))
}

fn copy(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Cuts the end of the newest write-ahead log.
fn tear(db: &Path) -> Result<(), Box<dyn Error>> {
    let mut logs: Vec<PathBuf> =
        fs::read_dir(db)?.map(|file| Ok(file?.path())).collect::<Result<_, std::io::Error>>()?;
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    let newest = logs.last().ok_or("there is no write-ahead log")?;
    let bytes = fs::read(newest)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).ok_or("the write-ahead log is empty")?;
    fs::write(newest, bytes.get(..end.saturating_sub(100)).ok_or("the write-ahead log is too short")?)?;
    Ok(())
}

/// Takes away what RocksDB writes for people and does not need.
fn strip(db: &Path) -> Result<(), Box<dyn Error>> {
    for file in fs::read_dir(db)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "LOCK" || name.starts_with("LOG") || name.starts_with("OPTIONS-") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
