//! Power cuts: a recorded writer, cut at many moments, in several ways each; nothing acknowledged may be lost.

use std::collections::BTreeSet;
use std::path::Path;

use rocksdb::{DB, Options};

use super::ack::{self, Said};
use super::audit::{self, Promises};
use super::disk::{Disk, Moment};
use super::random::Random;
use super::state::{Cut, State};
use super::writer::{Kind, Order};
use super::{is_long, rounds, scratch, strace, told, trace};

/// Directories of the simulated disk that are there before the writer starts.
const DIRS: [&str; 2] = ["data", "lock"];

/// Runs a writer under strace and replays what it did.
fn record(shape: impl Fn(&mut Order)) -> Disk {
    let dir = tempfile::tempdir().unwrap();
    // Without links, because the recording shows the paths as they were asked for.
    let dir = dir.path().canonicalize().map(|path| (dir, path)).unwrap();
    let (root, log) = (dir.1.join("disk"), dir.1.join("calls"));
    let mut order = Order::below(&root, dir.1.join("said"), 11);
    shape(&mut order);
    order.prepare();
    let output = order.command(&strace::recording(&log)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let steps = trace::parse(&std::fs::read_to_string(&log).unwrap()).unwrap();
    let disk = Disk::replay(&steps, &root, &DIRS, &order.said).unwrap();

    // The replay is right when it ends with the files that the writer left.
    let whole = State::of(&disk, disk.end, Cut::AllApplied);
    for (path, bytes) in &whole.files {
        assert!(*bytes == std::fs::read(root.join(path)).unwrap(), "{} was replayed wrongly", path.display());
    }
    assert_eq!(whole.files.len(), count_files(&root), "a file was overlooked");
    // Two threads may say something at once; the recording has the order in which they began.
    let sorted = |mut said: Vec<String>| {
        said.sort();
        said
    };
    let recorded = disk.said.iter().map(|(_, said)| format!("{said:?}")).collect();
    let heard = ack::read(&order.said).iter().map(|said| format!("{said:?}")).collect();
    assert_eq!(sorted(recorded), sorted(heard), "an acknowledgement was overlooked");
    disk
}

fn count_files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { count_files(&path) } else { 1 }).sum()
}

/// Moments worth a cut: before and after every acknowledgement and flush, and others by chance.
fn moments(disk: &Disk, most: usize, random: &mut Random) -> Vec<Moment> {
    let mut all: BTreeSet<Moment> = BTreeSet::from([disk.end]);
    for moment in disk.said.iter().map(|(moment, _)| *moment).chain(disk.flushes.iter().copied()) {
        all.extend([moment, moment + 1]);
    }
    all.extend(disk.changes.iter().map(|moment| moment + 1));
    let mut all: Vec<Moment> = all.into_iter().collect();
    while all.len() > most {
        all.swap_remove(random.index(all.len()));
    }
    all.sort_unstable();
    all
}

fn cuts(round: u64) -> [Cut; 5] {
    [
        Cut::OnlySynced,
        Cut::AllApplied,
        Cut::Prefix { seed: round },
        Cut::Torn { seed: round, sector: 512, garbage: false },
        Cut::Torn { seed: round, sector: 4096, garbage: true },
    ]
}

#[derive(Debug, Default)]
struct Tally {
    moments: usize,
    states: usize,
    same: usize,
    before_creation: usize,
    promises: usize,
    failures: Vec<String>,
}

/// Cuts a recorded ledger at the moments, and looks at what is left.
fn cut(disk: &Disk, moments: &[Moment], seeds: u64) -> Tally {
    let mut tally = Tally { moments: moments.len(), ..Tally::default() };
    let mut seen = BTreeSet::new();
    for moment in moments {
        let promises = Promises::of(disk.said.iter().filter(|(at, _)| at < moment).map(|(_, said)| said));
        for cut in (0..seeds).flat_map(cuts) {
            let state = State::of(disk, *moment, cut);
            if !seen.insert((state.digest(), promises.acked.len(), promises.settled)) {
                tally.same += 1;
                continue;
            }
            tally.states += 1;
            tally.promises += promises.events();
            let dir = scratch();
            state.write_to(dir.path());
            let deep = tally.states.is_multiple_of(4);
            let (ledger, lock) = (dir.path().join("data/ledger"), dir.path().join("lock/ledger.lock"));
            let result = audit::check(&ledger, &lock, &promises, deep);
            if !promises.created {
                // Nothing was promised: any named answer will do, and there was one.
                tally.before_creation += 1;
            } else if let Err(error) = result {
                tally.failures.push(format!("{cut:?} at {moment} of {}: {error}", disk.end));
            }
        }
    }
    tally
}

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    if !strace::is_there() {
        return;
    }
    let disk = record(|order| {
        (order.sessions, order.threads, order.settle_every) = (6, 3, 3);
        order.batches = if is_long() { 12 } else { 4 };
    });
    let mut random = Random::seeded(1);
    let moments = moments(&disk, rounds(60, usize::MAX), &mut random);
    let tally = cut(&disk, &moments, rounds(1, 3) as u64);
    told(&format!(
        "power loss: {} calls, {} bytes written, {} flushes, {} acknowledgements; {} moments, {} different states \
         ({} repeated, {} before the ledger was there), {} acknowledged events looked for, {} failures",
        disk.end,
        disk.written,
        disk.flushes.len(),
        disk.said.len(),
        tally.moments,
        tally.states,
        tally.same,
        tally.before_creation,
        tally.promises,
        tally.failures.len(),
    ));
    assert!(tally.states - tally.before_creation > rounds(100, 2_000), "too few states: {tally:?}");
    let failures = &tally.failures;
    let shown: Vec<_> = failures.iter().take(10).collect();
    assert!(failures.is_empty(), "{} failures of {}:\n{shown:#?}", failures.len(), tally.states);
}

/// The same eyes must see the losses of a writer that acknowledges before it flushes.
#[test]
fn a_writer_that_does_not_flush_is_found_out() {
    if !strace::is_there() {
        return;
    }
    let disk = record(|order| {
        order.kind = Kind::Careless;
        order.dir = order.dir.with_file_name("careless");
        order.batches = 40;
    });
    let lost = |cut: Cut| -> u64 {
        let state = State::of(&disk, disk.end, cut);
        let dir = scratch();
        state.write_to(dir.path());
        let acked = disk.said.iter().filter(|(_, said)| matches!(said, Said::Acked { .. })).count() as u64;
        assert_eq!(acked, 40);
        let path = dir.path().join("data/careless");
        let there = match DB::open_for_read_only(&Options::default(), &path, false) {
            Ok(db) => (0..acked).filter(|key| db.get(key.to_be_bytes()).unwrap().is_some()).count() as u64,
            Err(_) => 0,
        };
        acked - there
    };
    assert_eq!(lost(Cut::AllApplied), 0, "a killed process loses nothing, flushed or not");
    assert_eq!(lost(Cut::OnlySynced), 40, "and a power cut everything");
    let torn = (0..10).map(|seed| lost(Cut::Torn { seed, sector: 512, garbage: false })).max();
    assert!(torn > Some(0), "{torn:?}");
}
