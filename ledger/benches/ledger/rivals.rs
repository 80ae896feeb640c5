//! Beside what a team would write instead: a table in SQLite, or a file of JSON lines, with a hash chain.
//!
//! Both keep less: no tree, no checkpoints, no salts, no encryption, no lock, and the file has no indexes.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use rusqlite::{Connection, params};
use sha2::{Digest as _, Sha256};
use verdict_ledger::event::Event;
use verdict_ledger::{Batch, NewRecord};

use crate::measure::{Took, race, rate};
use crate::sample::{batch, event, init, line, record};
use crate::{disk, head, row};

const ROUNDS: usize = 3;
const WRITERS: u32 = 256;

pub(crate) fn run() {
    head("durable append, events/s", "ledger", "rival");
    for (size, events) in [(1u32, 1_000u32), (100, 20_000), (1000, 50_000)] {
        let (mut ours, mut sqlite) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(ledger_batches(size, events));
            sqlite.push(sqlite_batches(size, events));
        }
        row(
            &format!("one writer, batches of {size}, beside SQLite"),
            rate(&ours, events),
            rate(&sqlite, events),
        );
    }
    // The rivals take thousands of events a second here, and a round of seconds is enough.
    let (each, each_rival) = (200, 20);
    let (mut ours, mut sqlite, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(ledger_writers(each));
        sqlite.push(sqlite_writers(each_rival));
        lines.push(line_writers(each_rival));
    }
    let ours = rate(&ours, WRITERS * each);
    row("256 writers, beside SQLite, each event a transaction", ours, rate(&sqlite, WRITERS * each_rival));
    row("256 writers, beside JSON lines, each event flushed", ours, rate(&lines, WRITERS * each_rival));
}

fn ledger_batches(size: u32, events: u32) -> Took {
    let dir = tempfile::tempdir_in(disk()).unwrap();
    let ledger = init(&dir.path().join("ledger"));
    let batches: Vec<Batch> =
        (0..events).step_by(size as usize).map(|start| batch(start..start + size)).collect();
    Took::of(|| {
        for batch in batches {
            ledger.append(batch).unwrap();
        }
    })
}

fn ledger_writers(each: u32) -> Took {
    let dir = tempfile::tempdir_in(disk()).unwrap();
    let ledger = init(&dir.path().join("ledger"));
    let work: Vec<Vec<NewRecord>> =
        (0..WRITERS).map(|w| (0..each).map(|n| record(w * each + n)).collect()).collect();
    race(work, |record| {
        ledger.append(Batch { records: vec![record], blobs: Vec::new() }).unwrap();
    })
}

/// An event and its line, made before the clock starts, as for the ledger.
type Row = (Event, Vec<u8>);

fn rows(numbers: std::ops::Range<u32>) -> Vec<Row> {
    numbers.map(|n| (event(n), line(n))).collect()
}

/// A table with a chain and the ledger's indexes: id, type, trace, agent, tool, effect, session.
struct Table {
    connection: Connection,
    seq: i64,
    prev: [u8; 32],
}

impl Table {
    fn open(dir: &Path) -> Self {
        let connection = Connection::open(dir.join("events.db")).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, trace BLOB,
                     agent TEXT, tool TEXT, effect TEXT, session TEXT, prev BLOB NOT NULL, body BLOB NOT NULL);
                 CREATE INDEX by_kind ON events (kind, seq);
                 CREATE INDEX by_trace ON events (trace, seq);
                 CREATE INDEX by_agent ON events (agent, seq);
                 CREATE INDEX by_tool ON events (tool, seq);
                 CREATE INDEX by_effect ON events (effect, seq);
                 CREATE INDEX by_session ON events (session, seq);",
            )
            .unwrap();
        Self { connection, seq: 0, prev: [0; 32] }
    }

    fn append(&mut self, rows: &[Row]) {
        let transaction = self.connection.transaction().unwrap();
        {
            let mut insert = transaction
                .prepare("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")
                .unwrap();
            for (event, line) in rows {
                let agent = event.agent.as_ref().and_then(|agent| agent.name.as_deref());
                let effect = event.decision.as_ref().map(|decision| format!("{:?}", decision.effect));
                insert
                    .execute(params![
                        self.seq,
                        event.id,
                        "action.reported",
                        event.trace_id.map(|trace| trace.0),
                        agent,
                        event.action.name,
                        effect,
                        event.session,
                        self.prev,
                        line
                    ])
                    .unwrap();
                self.seq += 1;
                self.prev = Sha256::new().chain_update(self.prev).chain_update(line).finalize().into();
            }
        }
        transaction.commit().unwrap();
    }
}

fn sqlite_batches(size: u32, events: u32) -> Took {
    let dir = tempfile::tempdir_in(disk()).unwrap();
    let mut table = Table::open(dir.path());
    let rows = rows(0..events);
    Took::of(|| {
        for rows in rows.chunks(size as usize) {
            table.append(rows);
        }
    })
}

fn sqlite_writers(each: u32) -> Took {
    let dir = tempfile::tempdir_in(disk()).unwrap();
    let table = Mutex::new(Table::open(dir.path()));
    let work: Vec<Vec<Row>> = (0..WRITERS).map(|w| rows(w * each..(w + 1) * each)).collect();
    race(work, |row| table.lock().unwrap().append(&[row]))
}

fn line_writers(each: u32) -> Took {
    let dir = tempfile::tempdir_in(disk()).unwrap();
    let log = Mutex::new((File::create(dir.path().join("events.jsonl")).unwrap(), [0u8; 32]));
    let work: Vec<Vec<Vec<u8>>> =
        (0..WRITERS).map(|w| (w * each..(w + 1) * each).map(line).collect()).collect();
    race(work, |line| {
        let mut log = log.lock().unwrap();
        let (file, prev) = &mut *log;
        let mut text = hex::encode(*prev).into_bytes();
        text.push(b' ');
        text.extend_from_slice(&line);
        *prev = Sha256::new().chain_update(*prev).chain_update(&line).finalize().into();
        file.write_all(&text).unwrap();
        file.sync_data().unwrap();
    })
}
