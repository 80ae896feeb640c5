//! Durable append, beside raw RocksDB with the same batches: no indexes, chain, tree, salts or encryption.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use rocksdb::{DB, DBCompressionType, Options, WriteBatch, WriteOptions};
use verdict_ledger::{Batch, NewRecord};

use crate::measure::{Took, cpu_us, race, rate};
use crate::sample::{batch, init, line, record};
use crate::{disk, head, row};

const ROUNDS: usize = 3;
const WRITERS: u32 = 256;

pub(crate) fn run() {
    println!("events of {} bytes as native JSON", line(1_000_000).len());
    head("durable append, events/s", "ledger", "raw RocksDB");
    tell("256 writers, one event at a time", concurrent(WRITERS, 400), WRITERS * 400);
    for (size, events) in [(1usize, 1_000u32), (100, 20_000), (1000, 50_000)] {
        tell(&format!("one writer, batches of {size}"), sequential(size, events), events);
    }
}

fn tell(what: &str, (ours, limit): (Vec<Took>, Vec<Took>), events: u32) {
    row(what, rate(&ours, events), rate(&limit, events));
    println!(
        "{:<58} {:>12.1} {:>12.1}",
        "  processor time, µs an event",
        cpu_us(&ours, events),
        cpu_us(&limit, events)
    );
}

/// Many threads, each of which waits for each of its events to be durable.
fn concurrent(writers: u32, each: u32) -> (Vec<Took>, Vec<Took>) {
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir_in(disk()).unwrap();
        let ledger = init(&dir.path().join("ledger"));
        let work: Vec<Vec<NewRecord>> =
            (0..writers).map(|w| (0..each).map(|n| record(w * each + n)).collect()).collect();
        ours.push(race(work, |record| {
            ledger.append(Batch { records: vec![record], blobs: Vec::new() }).unwrap();
        }));
        assert_eq!(ledger.head().size, u64::from(writers * each) + 1);

        let raw = Arc::new(Gathering::open(&dir.path().join("raw")));
        let work: Vec<Vec<Vec<u8>>> =
            (0..writers).map(|w| (0..each).map(|n| line(w * each + n)).collect()).collect();
        limit.push(race(work, |value| raw.put(value)));
    }
    (ours, limit)
}

fn sequential(size: usize, events: u32) -> (Vec<Took>, Vec<Took>) {
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    let step = u32::try_from(size).unwrap();
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir_in(disk()).unwrap();
        let ledger = init(&dir.path().join("ledger"));
        let batches: Vec<Batch> = (0..events).step_by(size).map(|start| batch(start..start + step)).collect();
        ours.push(Took::of(|| {
            for batch in batches {
                ledger.append(batch).unwrap();
            }
        }));

        let db = raw(&dir.path().join("raw"));
        let values: Vec<Vec<u8>> = (0..events).map(line).collect();
        limit.push(Took::of(|| {
            for (first, values) in (0u64..).step_by(size).zip(values.chunks(size)) {
                write(&db, first, values);
            }
        }));
    }
    (ours, limit)
}

fn raw(dir: &Path) -> DB {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_compression_type(DBCompressionType::Zstd);
    DB::open(&options, dir).unwrap()
}

fn write(db: &DB, first: u64, values: &[Vec<u8>]) {
    let mut durable = WriteOptions::default();
    durable.set_sync(true);
    let mut writes = WriteBatch::default();
    for (key, value) in (first..).zip(values) {
        writes.put(key.to_be_bytes(), value);
    }
    db.write_opt(writes, &durable).unwrap();
}

/// The best that raw RocksDB does for many writers here: one thread gathers what waits into one durable batch. Its own
/// group commit is several times slower.
struct Gathering {
    waiting: Arc<(Mutex<Waiting>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Waiting {
    values: Vec<Vec<u8>>,
    done: Arc<OnceLock<()>>,
    closed: bool,
}

impl Gathering {
    fn open(dir: &Path) -> Self {
        let db = raw(dir);
        let waiting = Arc::new((Mutex::new(Waiting::default()), Condvar::new()));
        let queue = Arc::clone(&waiting);
        let thread = std::thread::spawn(move || {
            let mut next = 0u64;
            loop {
                let mut state = queue.0.lock().unwrap();
                while state.values.is_empty() && !state.closed {
                    state = queue.1.wait(state).unwrap();
                }
                if state.values.is_empty() {
                    return;
                }
                let group = std::mem::take(&mut *state);
                drop(state);
                write(&db, next, &group.values);
                next += group.values.len() as u64;
                group.done.set(()).unwrap();
            }
        });
        Self { waiting, thread: Some(thread) }
    }

    fn put(&self, value: Vec<u8>) {
        let done = {
            let mut state = self.waiting.0.lock().unwrap();
            state.values.push(value);
            self.waiting.1.notify_one();
            Arc::clone(&state.done)
        };
        done.wait();
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.waiting.0.lock().unwrap().closed = true;
        self.waiting.1.notify_one();
        self.thread.take().unwrap().join().unwrap();
    }
}
