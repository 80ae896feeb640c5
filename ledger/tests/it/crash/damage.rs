//! Files that are not what was written: cut, emptied, deleted, filled with something else, or with a bit turned.
//!
//! Opening, verifying and querying may each say so; none may panic, and none may answer with anything but what was
//! written.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use verdict_ledger::clock::SystemClock;
use verdict_ledger::event::Event;
use verdict_ledger::id::TraceId;
use verdict_ledger::{Index, InitOptions, Ledger, LedgerError, OpenOptions};

use super::workload::{self, BatchName};
use super::writer::ORIGIN;
use super::{scratch, told};

/// What a whole ledger answers.
#[derive(Debug, PartialEq)]
struct Answers {
    root: String,
    events: Vec<Event>,
    refunds: Vec<u64>,
    traces: Vec<Vec<u64>>,
}

fn ask(ledger: &Ledger) -> Result<Answers, LedgerError> {
    let mut events = Vec::new();
    for record in ledger.records(1..ledger.head().size) {
        let record = record?;
        if !record.withheld.is_empty() {
            let place = format!("entry {}", record.seq);
            return Err(LedgerError::Damaged {
                place,
                detail: "says itself that a value is gone".to_owned(),
            });
        }
        events.extend(record.event.map(|event| *event));
    }
    let refunds = ledger.find(Index::Tool, "issue_refund", 0..u64::MAX, usize::MAX)?;
    let traces: Vec<TraceId> = events.iter().filter_map(|event| event.trace_id).collect();
    let traces = traces.iter().map(|trace| ledger.trace_seqs(trace)).collect::<Result<_, _>>()?;
    Ok(Answers { root: ledger.head().root.to_string(), events, refunds, traces })
}

struct Fixture {
    dir: tempfile::TempDir,
    answers: Answers,
}

impl Fixture {
    /// A ledger with tables, a log with acknowledged entries, and everything settled.
    fn new() -> Self {
        let dir = scratch();
        let path = dir.path().join("ledger");
        let name = |number| BatchName { seed: 9, thread: 0, number };
        let ledger = Ledger::init(&path, &InitOptions::new(ORIGIN), Arc::new(SystemClock)).unwrap();
        (0..25).for_each(|number| drop(ledger.append(workload::batch(name(number))).unwrap()));
        drop(ledger);
        let ledger = Ledger::open(&path, &OpenOptions::default(), Arc::new(SystemClock)).unwrap();
        (25..40).for_each(|number| drop(ledger.append(workload::batch(name(number))).unwrap()));
        ledger.settle().unwrap();
        let answers = ask(&ledger).unwrap();
        Self { dir, answers }
    }

    /// Files of the ledger and its lock, without RocksDB's information log and its empty lock.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(self.dir.path(), self.dir.path(), &mut files);
        files.retain(|path| !["LOG", "LOCK"].iter().any(|name| path.file_name().unwrap() == *name));
        files.retain(|path| !path.to_string_lossy().contains("LOG.old"));
        files.sort();
        files
    }

    /// Changes one file of a copy, and tells what was noticed, where: `None` when every answer was as before.
    fn after(&self, path: &Path, change: impl Fn(&Path)) -> Option<String> {
        let mut noticed = Vec::new();
        for write in [false, true] {
            let copy = scratch();
            for file in self.files() {
                let to = copy.path().join(&file);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(self.dir.path().join(&file), to).unwrap();
            }
            change(&copy.path().join(path));
            let dir = copy.path().join("ledger");
            let opened = if write {
                Ledger::open(&dir, &OpenOptions::default(), Arc::new(SystemClock))
            } else {
                Ledger::open_reader(&dir, &OpenOptions::default())
            };
            let ledger = match opened {
                Ok(ledger) => ledger,
                Err(error) => {
                    noticed.push(named(&error));
                    continue;
                }
            };
            match ledger.verify(&mut |_, _| {}) {
                Err(error) => noticed.push(named(&error)),
                Ok(report) if !report.is_clean() => {
                    noticed.push(format!("verify: {:?}", report.failures.first()));
                }
                Ok(report) if report.withheld > 0 => noticed.push(format!("{} withheld", report.withheld)),
                Ok(_) => {
                    assert_eq!(
                        ask(&ledger).unwrap(),
                        self.answers,
                        "{} was verified, and answers wrongly",
                        path.display()
                    );
                }
            }
            // Not needed before something is exported.
            noticed.extend(ledger.bundle_signer().err().map(|error| named(&error)));
            // Whatever the verification said: what is answered is right, or the answer is an error.
            match ask(&ledger) {
                Ok(answers) => {
                    let known: Vec<_> = self.answers.events.iter().collect();
                    assert!(
                        answers.events.iter().all(|event| known.contains(&event)),
                        "{}: a made-up event",
                        path.display()
                    );
                }
                Err(error) => drop(named(&error)),
            }
        }
        (!noticed.is_empty()).then(|| noticed.join(" / "))
    }
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            files.push(path.strip_prefix(root).unwrap().to_owned());
        }
    }
}

fn named(error: &LedgerError) -> String {
    let text = error.to_string();
    assert!(text.len() > 10, "{error:?} says too little");
    text
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_turned_bit_in_a_table_is_named_with_its_file() {
    let fixture = Fixture::new();
    let files = fixture.files();
    let tables: Vec<_> = files.iter().filter(|path| path.extension().is_some_and(|e| e == "sst")).collect();
    assert!(tables.len() >= 8, "{files:?}");
    let (mut flips, mut harmless) = (0, Vec::new());
    for table in tables {
        let length = usize::try_from(fs::metadata(fixture.dir.path().join(table)).unwrap().len()).unwrap();
        let name = table.file_name().unwrap().to_str().unwrap();
        // The first data block, and the footer with its magic number.
        for at in [5, length - 3] {
            flips += 1;
            let told = fixture.after(table, |path| flip(path, at));
            let told =
                told.unwrap_or_else(|| panic!("byte {at} of {table:?} ({length} bytes) went unnoticed"));
            assert!(told.contains(name), "byte {at} of {table:?}: {told}");
        }
        // In between lie index, filter and properties. Not all of them are needed to answer.
        for at in [length / 2, length * 3 / 4, length - 60] {
            flips += 1;
            if fixture.after(table, |path| flip(path, at)).is_none() {
                harmless.push(format!("{name}@{at}"));
            }
        }
    }
    told(&format!(
        "turned bits in tables: {flips}, of which {} changed no answer: {harmless:?}",
        harmless.len()
    ));
    assert!(harmless.len() * 2 < flips, "{harmless:?}");
}

/// One way to spoil a file.
type Spoil = (&'static str, fn(&Path));

const SPOILS: [Spoil; 4] = [
    ("emptied", |path| fs::write(path, "").unwrap()),
    ("halved", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("deleted", |path| fs::remove_file(path).unwrap()),
    ("replaced", |path| {
        let length = fs::read(path).unwrap().len();
        fs::write(path, vec![0xa5; length]).unwrap();
    }),
];

/// Files that RocksDB can do without.
const DISPENSABLE: [&str; 2] = ["OPTIONS", "IDENTITY"];

#[test]
fn a_file_that_was_cut_emptied_deleted_or_replaced_is_named() {
    let fixture = Fixture::new();
    let mut told_of = Vec::new();
    let mut tables = 0;
    for file in fixture.files() {
        let name = file.file_name().unwrap().to_str().unwrap();
        if file.extension().is_some_and(|extension| extension == "sst") {
            tables += 1;
            // They are all alike here: two will do.
            if tables > 2 {
                continue;
            }
        }
        for (how, spoil) in SPOILS {
            let told = fixture.after(&file, spoil);
            let dispensable = DISPENSABLE.iter().any(|prefix| name.starts_with(prefix));
            assert!(told.is_some() || dispensable, "{file:?} was {how}, and nobody noticed");
            told_of.push(format!("{} {how}: {}", file.display(), told.unwrap_or_default()));
        }
    }
    told(&told_of.join("\n"));
}
