//! Commands that read, each a process of its own, while a writer appends from many threads, opens again and compacts.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;
use verdict_ledger::clock::SystemClock;
use verdict_ledger::event::Event;
use verdict_ledger::{Batch, Ledger, NewRecord, OpenOptions};

use super::cli_support::{Bench, event};

/// How often the writer is opened; each time moves what it wrote into tables, and every few times compacts them.
const ROUNDS: u64 = 12;
const THREADS: u64 = 4;
const BATCHES: u64 = 12;
const BATCH: u64 = 8;

/// Appends from several threads through one writer after another.
fn write(bench: &Bench, submitted: &AtomicU64, acknowledged: &AtomicU64) {
    for round in 0..ROUNDS {
        let path = bench.path("ledger");
        let ledger = Ledger::open(&path, &OpenOptions::default(), Arc::new(SystemClock)).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let ledger = &ledger;
                scope.spawn(move || {
                    for batch in 0..BATCHES {
                        let first = ((round * THREADS + thread) * BATCHES + batch) * BATCH + 1_000_000;
                        let records = (first..first + BATCH).map(|number| {
                            let event: Event = serde_json::from_str(&event(number)).unwrap();
                            NewRecord::from_event(&event).unwrap()
                        });
                        let records: Vec<NewRecord> = records.collect();
                        submitted.fetch_add(BATCH, Ordering::SeqCst);
                        let receipt = ledger.append(Batch { records, blobs: Vec::new() }).unwrap();
                        assert_eq!(receipt.appended, BATCH);
                        acknowledged.fetch_max(receipt.size, Ordering::SeqCst);
                    }
                });
            }
        });
    }
}

/// Runs a command and returns the size of the log that it looked at, where it says so.
fn read(bench: &Bench, turn: u64, digest: &mut Option<Value>) -> Option<u64> {
    match turn % 5 {
        0 => {
            let stats = bench.run(&["stats", "--format", "json"]).ok().json();
            let facts =
                stats["system_facts"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>();
            let (entries, events) = (stats["entries"].as_u64().unwrap(), stats["events"].as_u64().unwrap());
            assert_eq!(events + facts, entries, "one position in one command");
            assert_eq!(stats["actions"].as_u64(), Some(events));
            Some(entries)
        }
        1 => {
            let said = bench.run(&["verify", "--format", "json"]).ok().json();
            assert_eq!(said["report"]["entries"], said["report"]["size"]);
            said["report"]["size"].as_u64()
        }
        2 => {
            let said =
                bench.run(&["find", "--tool", "issue_refund", "--limit", "100000", "--format", "json"]).ok();
            let seqs: Vec<u64> = said
                .out
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap())
                .collect();
            let last = *seqs.first().unwrap();
            // Every entry but the first and, behind the 60 that were there before, the two about the policy.
            let others = if last > 60 { 3 } else { 1 };
            assert_eq!(seqs.len() as u64 + others, last + 1, "no entry is passed over");
            (last > 60).then_some(last + 1)
        }
        3 => {
            let said = bench.run(&["trace", "list", "--limit", "5", "--format", "json"]).ok().json();
            assert_eq!(said["traces"].as_array().unwrap().len(), 5);
            None
        }
        _ => {
            // A range that is there for ever: the same answer each time.
            let said = bench
                .run(&["replay", "run", "--policy", "shop@1", "--range", "0..40", "--format", "json"])
                .ok()
                .json();
            let seen = digest.get_or_insert_with(|| said["digest"].clone());
            assert!(seen.is_string() && *seen == said["digest"], "{said:#}");
            None
        }
    }
}

#[test]
fn readers_see_one_position_and_never_fail_while_the_ledger_is_written() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(60)]).ok();
    bench.run(&["policy", "publish", &bench.policy("1", 5_000), "--activate"]).ok();
    let start = bench.size();
    let (submitted, acknowledged) = (AtomicU64::new(start), AtomicU64::new(start));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..2u64 {
            let (bench, submitted, done) = (&bench, &submitted, &done);
            scope.spawn(move || {
                let (mut last, mut digest) = (start, None);
                for turn in reader.. {
                    let finished = done.load(Ordering::SeqCst);
                    if let Some(size) = read(bench, turn, &mut digest) {
                        assert!(size >= last, "a later reader sees {size} after {last}");
                        assert!(size <= submitted.load(Ordering::SeqCst), "what nobody appended");
                        last = size;
                    }
                    if finished && turn > reader + 10 {
                        return;
                    }
                }
            });
        }
        write(&bench, &submitted, &acknowledged);
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(acknowledged.load(Ordering::SeqCst), start + ROUNDS * THREADS * BATCHES * BATCH);
    assert_eq!(bench.size(), acknowledged.load(Ordering::SeqCst));
}
