//! The writer that is killed, failed and cut off: this test binary, started again with an order in its environment.
//!
//! Not an example and not a binary of the crate: test code must not be shipped, and RocksDB is linked once.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{DB, Options, WriteOptions};
use verdict_ledger::clock::SystemClock;
use verdict_ledger::{InitOptions, Ledger, LedgerError, OpenOptions};

use super::ack::{self, Messenger, Said};
use super::workload::{self, BatchName};

const ORDER: &str = "VERDICT_CRASH_ORDER";

/// The name of the program below among the tests of this binary.
const PROGRAM: &str = "crash::writer::a_writer_says_what_was_acknowledged";

pub(super) const ORIGIN: &str = "crash.example/ledger";

/// What the process does.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Order {
    pub(super) kind: Kind,
    /// Directory of the ledger.
    pub(super) dir: PathBuf,
    /// Its lock, in another directory.
    pub(super) lock: PathBuf,
    /// Where the process says what happened.
    pub(super) said: PathBuf,
    pub(super) seed: u64,
    /// How often the ledger is opened and closed.
    pub(super) sessions: u64,
    /// Concurrent callers, and the batches that each of them appends in a session.
    pub(super) threads: u64,
    pub(super) batches: u64,
    /// After how many batches a caller settles; 0: never.
    pub(super) settle_every: u64,
    /// How often a caller tries again after a refusal.
    pub(super) stubborn: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Kind {
    /// Opens or creates a ledger and appends.
    Ledger,
    /// Puts rows into a bare RocksDB without flushing: what a careless writer does, to show that it is found out.
    Careless,
    /// Reads a ledger that others write, until there is a file named like `said` with `.stop` appended.
    Reader,
}

impl Order {
    /// An order for a ledger below a directory, with the lock in a directory of its own.
    pub(super) fn below(root: &Path, said: PathBuf, seed: u64) -> Self {
        Self {
            kind: Kind::Ledger,
            dir: root.join("data/ledger"),
            lock: root.join("lock/ledger.lock"),
            said,
            seed,
            sessions: 1,
            threads: 1,
            batches: 10,
            settle_every: 0,
            stubborn: 0,
        }
    }

    /// Makes the directories that a ledger does not make by itself.
    pub(super) fn prepare(&self) {
        for path in [&self.dir, &self.lock] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
    }

    pub(super) fn stop_file(&self) -> PathBuf {
        let mut name = self.said.clone().into_os_string();
        name.push(".stop");
        name.into()
    }

    /// The process, as an argument of another one such as strace when it is given.
    pub(super) fn command(&self, wrapper: &[std::ffi::OsString]) -> Command {
        let exe = std::env::current_exe().unwrap();
        let mut command = match wrapper.split_first() {
            None => Command::new(exe),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(exe);
                command
            }
        };
        command
            .args(["--exact", PROGRAM, "--nocapture", "--test-threads=1"])
            .env(ORDER, serde_json::to_string(self).unwrap())
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }
}

/// Started by the other tests this is the program; started by the test runner it starts itself once.
#[test]
fn a_writer_says_what_was_acknowledged() {
    if let Some(order) = std::env::var_os(ORDER) {
        let order: Order = serde_json::from_str(order.to_str().unwrap()).unwrap();
        match order.kind {
            Kind::Ledger => write(&order),
            Kind::Careless => write_carelessly(&order),
            Kind::Reader => read(&order),
        }
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let mut order = Order::below(root.path(), root.path().join("said"), 1);
    (order.sessions, order.threads, order.batches, order.settle_every) = (2, 3, 4, 3);
    order.prepare();
    let output = order.command(&[]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = ack::read(&order.said);
    let count = |wanted: fn(&Said) -> bool| said.iter().filter(|said| wanted(said)).count();
    assert_eq!(count(|said| matches!(said, Said::Open { .. })), 2);
    assert_eq!(count(|said| matches!(said, Said::Acked { .. })), 2 * 3 * 4);
    assert_eq!(count(|said| matches!(said, Said::Settled { .. })), 3 * 3, "batches 0, 3 and 6");
    assert_eq!(count(|said| *said == Said::Closed), 2);
    assert_eq!(said.len(), 2 + 24 + 9 + 2);
}

fn write(order: &Order) {
    let messenger = Messenger::new(&order.said);
    for session in 0..order.sessions {
        let Some(ledger) = open(order, &messenger) else { return };
        let refused = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..order.threads {
                let (ledger, messenger, refused) = (&ledger, &messenger, &refused);
                scope.spawn(move || append(order, session, thread, ledger, messenger, refused));
            }
        });
        drop(ledger);
        messenger.say(&Said::Closed);
        if refused.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn open(order: &Order, messenger: &Messenger) -> Option<Ledger> {
    let clock = Arc::new(SystemClock);
    let created = !order.lock.exists();
    let opened = if created {
        let options = InitOptions { lock: Some(order.lock.clone()), ..InitOptions::new(ORIGIN) };
        Ledger::init(&order.dir, &options, clock)
    } else {
        Ledger::open(&order.dir, &OpenOptions::default(), clock)
    };
    match opened {
        Ok(ledger) => {
            let head = ledger.head();
            messenger.say(&Said::Open { created, size: head.size, root: head.root.to_string() });
            Some(ledger)
        }
        Err(error) => {
            messenger.say(&Said::NotOpen { variant: ack::variant(&error), text: error.to_string() });
            None
        }
    }
}

fn append(
    order: &Order,
    session: u64,
    thread: u64,
    ledger: &Ledger,
    messenger: &Messenger,
    refused: &AtomicBool,
) {
    let mut attempts_left = order.stubborn;
    for number in session * order.batches..(session + 1) * order.batches {
        let name = BatchName { seed: order.seed, thread, number };
        let answer = ledger.append(workload::batch(name)).and_then(|receipt| {
            // A faulty disk may take an acknowledged batch and then not give it back; it is no less acknowledged.
            let root = ledger.root_at(receipt.size).map_or_else(|_| String::new(), |root| root.to_string());
            messenger.say(&Said::Acked { name, seqs: receipt.seqs, size: receipt.size, root });
            if order.settle_every > 0 && number % order.settle_every == 0 {
                ledger.settle()?;
                messenger.say(&Said::Settled { size: receipt.size });
            }
            Ok(())
        });
        if let Err(error) = answer {
            refused.store(true, Ordering::Relaxed);
            messenger.say(&Said::Refused { variant: ack::variant(&error), text: error.to_string() });
            if attempts_left == 0 {
                return;
            }
            attempts_left -= 1;
        }
    }
}

fn write_carelessly(order: &Order) {
    let messenger = Messenger::new(&order.said);
    let mut options = Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, &order.dir).unwrap();
    messenger.say(&Said::Open { created: true, size: 0, root: String::new() });
    let mut unflushed = WriteOptions::default();
    unflushed.set_sync(false);
    for number in 0..order.batches {
        let name = BatchName { seed: order.seed, thread: 0, number };
        db.put_opt(number.to_be_bytes(), vec![7; 500], &unflushed).unwrap();
        messenger.say(&Said::Acked { name, seqs: vec![number], size: number + 1, root: String::new() });
    }
    // Not closed: closing would flush, and a careless writer is one that does not come to that.
    std::process::exit(0);
}

fn read(order: &Order) {
    let messenger = Messenger::new(&order.said);
    let stop = order.stop_file();
    let mut last = 0;
    loop {
        // Looked at before: whoever says stop gets one more look after that.
        let last_look = stop.exists();
        let reader = match Ledger::open_reader(&order.dir, &OpenOptions::default()) {
            Ok(reader) => reader,
            Err(error) => {
                messenger.say(&Said::NotOpen { variant: ack::variant(&error), text: error.to_string() });
                if last_look {
                    return;
                }
                continue;
            }
        };
        for _ in 0..8 {
            if let Err(error) = reader.refresh() {
                // The writer compacted: the loop opens another one.
                if matches!(error, LedgerError::Reopen) {
                    break;
                }
                messenger.say(&Said::Refused { variant: ack::variant(&error), text: error.to_string() });
                break;
            }
            let head = reader.head();
            assert!(head.size >= last, "a reader went back from {last} to {}", head.size);
            last = head.size;
            // What it shows can be read, to the last entry.
            if let Some(seq) = head.size.checked_sub(1) {
                assert!(reader.record(seq).unwrap().is_some(), "entry {seq} of {} is not there", head.size);
                assert_eq!(reader.entry(head.size).unwrap(), None);
            }
            messenger.say(&Said::Seen { size: head.size, root: head.root.to_string() });
        }
        if last_look {
            return;
        }
    }
}
