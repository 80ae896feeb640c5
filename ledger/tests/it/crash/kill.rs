//! `kill -9` at random moments: a process that dies leaves everything that it acknowledged.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use super::ack::{self, Said};
use super::audit::{self, Promises};
use super::random::Random;
use super::writer::{Kind, Order};
use super::{rounds, told};

/// After so many rounds a new ledger is begun, so that looking at it does not take longer and longer, and so that
/// creating one is cut short too.
const ROUNDS_PER_LEDGER: usize = 20;

/// Longest life of a writer after its ledger is open.
const LIFE_US_MAX: u64 = 60_000;

/// Opening takes longer than this on no machine that is worth testing on.
const OPEN_MS_MAX: u64 = 60_000;

#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    ledgers: usize,
    /// Killed before the ledger was open in this round.
    early: usize,
    /// Killed before there was a ledger at all.
    unborn: usize,
    acked: usize,
    events: usize,
    /// Entries found that nobody heard to be acknowledged.
    unheard: u64,
    readers: usize,
    looks: usize,
}

#[test]
fn no_kill_loses_what_was_acknowledged() {
    let kills = rounds(20, 1_000);
    let mut tally = Tally::default();
    while tally.kills < kills {
        let dir = tempfile::tempdir().unwrap();
        tally.ledgers += 1;
        one_ledger(dir.path(), ROUNDS_PER_LEDGER.min(kills - tally.kills), &mut tally);
    }
    told(&format!("kill -9: {tally:?}"));
    assert!(tally.acked > tally.kills, "too few acknowledgements to mean anything: {tally:?}");
    assert!(tally.early < tally.kills * 3 / 4, "the writers hardly lived: {tally:?}");
    assert!(tally.looks > 0, "no reader saw anything: {tally:?}");
}

/// Kills writers of one ledger, round after round.
fn one_ledger(root: &Path, rounds: usize, tally: &mut Tally) {
    let mut promises = Promises::default();
    for round in 0..rounds {
        let seed = (tally.ledgers as u64) << 16 | round as u64;
        let mut random = Random::of(&[seed]);
        let mut order = Order::below(root, root.join(format!("said-{round}")), seed);
        (order.threads, order.batches) = (1 + random.below(6), u64::MAX / 4);
        order.settle_every = [0, 1, 7][random.index(3)];
        order.prepare();
        let was_there = promises.created;
        let watcher = random.percent(30).then(|| Watcher::start(&order, root, round));
        let mut writer = order.command(&[]).spawn().unwrap();
        // Most live until they have something to lose; some die in `init`, in recovery or in what follows.
        if !random.percent(20) {
            wait_until_open(&order, &mut writer);
        }
        sleep(Duration::from_micros(random.below(LIFE_US_MAX)));
        kill(&mut writer, &order);
        tally.kills += 1;

        let said = ack::read(&order.said);
        let context = format!("round {round} of ledger {} (seed {seed})", tally.ledgers);
        assert!(
            said.iter()
                .all(|said| matches!(said, Said::Open { .. } | Said::Acked { .. } | Said::Settled { .. })),
            "{context}: {said:?}"
        );
        let opened = said.iter().any(|said| matches!(said, Said::Open { .. }));
        tally.early += usize::from(!opened);
        let acked = said.iter().filter(|said| matches!(said, Said::Acked { .. })).count();
        promises.add_all(&said);
        let seen = watcher.map(Watcher::stop).unwrap_or_default();
        tally.readers += usize::from(!seen.is_empty());
        tally.looks += seen.iter().filter(|said| matches!(said, Said::Seen { .. })).count();
        // What a reader was shown must be there as well.
        promises.add_all(&seen);
        if !promises.created {
            // Killed inside `init`: no promise, and a named refusal or a ledger, but no crash.
            tally.unborn += 1;
            let _ = audit::check(&order.dir, &order.lock, &promises, false);
            for path in [order.dir.parent().unwrap(), order.lock.parent().unwrap()] {
                std::fs::remove_dir_all(path).unwrap();
            }
            continue;
        }
        // A reader may come before the ledger is there; after that it has no reason to be refused.
        let refusal = seen.iter().find(|said| matches!(said, Said::NotOpen { .. } | Said::Refused { .. }));
        assert!(refusal.is_none() || !was_there, "{context}: a reader was refused: {refusal:?}");
        let found = audit::check(&order.dir, &order.lock, &promises, round % 4 == 3);
        let found = found.unwrap_or_else(|error| panic!("{context}: {error}"));
        tally.acked += acked;
        tally.unheard += found.size - promises.size;
        if round + 1 == rounds {
            tally.events += promises.events();
        }
    }
}

fn wait_until_open(order: &Order, writer: &mut Child) {
    for _ in 0..OPEN_MS_MAX {
        let said = std::fs::metadata(&order.said).is_ok_and(|said| said.len() > 0);
        if said || writer.try_wait().unwrap().is_some() {
            return;
        }
        sleep(Duration::from_millis(1));
    }
    panic!("a writer did not open its ledger within {OPEN_MS_MAX} ms");
}

/// SIGKILL; the process must have lived until then.
fn kill(writer: &mut Child, order: &Order) {
    writer.kill().unwrap();
    let mut told = String::new();
    let status = writer.wait().unwrap();
    std::io::Read::read_to_string(writer.stderr.as_mut().unwrap(), &mut told).unwrap();
    assert!(
        status.code().is_none(),
        "the writer ended by itself with {status}: {told} {:?}",
        ack::read(&order.said)
    );
    assert!(!told.contains("panicked"), "{told}");
}

/// A process that reads the ledger while it is written and while its writer dies.
struct Watcher {
    order: Order,
    process: Child,
}

impl Watcher {
    fn start(order: &Order, root: &Path, round: usize) -> Self {
        let order = Order { kind: Kind::Reader, said: root.join(format!("seen-{round}")), ..order.clone() };
        let process = Command::spawn(&mut order.command(&[])).unwrap();
        Self { order, process }
    }

    fn stop(self) -> Vec<Said> {
        std::fs::write(self.order.stop_file(), "").unwrap();
        let output = self.process.wait_with_output().unwrap();
        assert!(output.status.success(), "a reader failed: {}", String::from_utf8_lossy(&output.stderr));
        ack::read(&self.order.said)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the moment of a kill is a moment in time, and chosen by chance"
)]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}
