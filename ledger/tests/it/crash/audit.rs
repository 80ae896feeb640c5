//! Opens what is left of a ledger and compares it with what was acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use verdict_ledger::clock::SystemClock;
use verdict_ledger::id::Digest;
use verdict_ledger::note::{Checkpoint, VerifierKey};
use verdict_ledger::{Ledger, LedgerError, OpenOptions};

use super::ack::Said;
use super::workload::{self, BatchName};

/// What must be there.
#[derive(Debug, Clone, Default)]
pub(super) struct Promises {
    /// Set once the ledger was open.
    pub(super) created: bool,
    pub(super) acked: Vec<(BatchName, Vec<u64>)>,
    /// Roots that were seen at sizes.
    pub(super) roots: BTreeMap<u64, String>,
    /// Size that is certainly durable.
    pub(super) size: u64,
    /// Size of the newest checkpoint that `settle` promised.
    pub(super) settled: u64,
}

impl Promises {
    pub(super) fn of<'a>(said: impl IntoIterator<Item = &'a Said>) -> Self {
        let mut promises = Self::default();
        promises.add_all(said);
        promises
    }

    pub(super) fn add_all<'a>(&mut self, said: impl IntoIterator<Item = &'a Said>) {
        for said in said {
            self.add(said);
        }
    }

    fn add(&mut self, said: &Said) {
        match said {
            Said::Open { size, root, .. } => {
                self.created = true;
                self.see(*size, root);
            }
            Said::Acked { name, seqs, size, root } => {
                self.acked.push((*name, seqs.clone()));
                self.see(*size, root);
            }
            // What a reader saw, the lock had: it was acknowledged.
            Said::Seen { size, root } => self.see(*size, root),
            Said::Settled { size } => self.settled = self.settled.max(*size),
            Said::Refused { .. } | Said::NotOpen { .. } | Said::Closed => {}
        }
    }

    fn see(&mut self, size: u64, root: &str) {
        self.size = self.size.max(size);
        if root.is_empty() {
            return;
        }
        let before = self.roots.insert(size, root.to_owned());
        assert!(before.is_none_or(|before| before == root), "two roots were told for size {size}");
    }

    pub(super) fn events(&self) -> usize {
        self.acked.iter().map(|(_, seqs)| seqs.len()).sum()
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Size after reopening.
    pub(super) size: u64,
}

/// Checks what is there against the promises. Appends to the ledger and closes it. `deep`: look at it as a reader
/// before, and reopen it after.
pub(super) fn check(dir: &Path, lock: &Path, promises: &Promises, deep: bool) -> Result<Found, String> {
    let options = OpenOptions { lock: Some(lock.to_owned()), ..OpenOptions::default() };
    let lock_says = lock_state(lock);
    if deep {
        let reader =
            Ledger::open_reader(dir, &options).map_err(|error| told("a reader cannot open it", &error))?;
        let head = reader.head();
        if let Some(root) = promises.roots.get(&head.size) {
            same(root, &head.root.to_string(), || format!("root that a reader sees at {}", head.size))?;
        }
    }
    let ledger = Ledger::open(dir, &options, Arc::new(SystemClock))
        .map_err(|error| told("it cannot be opened", &error))?;
    let size = ledger.head().size;
    if size < promises.size {
        return Err(format!("LOST: {} entries were acknowledged, and {size} are there", promises.size));
    }
    // The lock was flushed beside the database: it may trail, but never says more than is there, and what was in
    // flight covers what was acknowledged.
    let (acked, in_flight) = lock_says?;
    if acked > size {
        return Err(format!("the lock says {acked}, and {size} are there"));
    }
    if in_flight.max(acked) < promises.size {
        return Err(format!(
            "the lock knows of {in_flight} entries, and {} were acknowledged",
            promises.size
        ));
    }
    for (size, root) in &promises.roots {
        let got = ledger.root_at(*size).map_err(|error| told("a root", &error))?;
        same(root, &got.to_string(), || format!("root at size {size}"))?;
    }
    check_events(&ledger, promises)?;
    check_checkpoint(&ledger, promises)?;
    let report = ledger.verify(&mut |_, _| {}).map_err(|error| told("it cannot be verified", &error))?;
    if !report.is_clean() || report.withheld > 0 || report.entries != size {
        return Err(format!("verify found {report:?}"));
    }
    append_again(&ledger, promises)?;
    drop(ledger);
    if deep {
        let ledger = Ledger::open(dir, &options, Arc::new(SystemClock))
            .map_err(|error| told("it cannot be opened again", &error))?;
        same(&(size + 1), &ledger.head().size, || "size after another append".to_owned())?;
    }
    Ok(Found { size })
}

fn check_events(ledger: &Ledger, promises: &Promises) -> Result<(), String> {
    let mut last: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    for (name, seqs) in &promises.acked {
        let (events, raw) = workload::events(*name);
        same(&events.len(), &seqs.len(), || format!("receipt of {name:?}"))?;
        for (event, seq) in events.iter().zip(seqs) {
            let record = ledger.record(*seq).map_err(|error| told(&format!("entry {seq}"), &error))?;
            let record = record.ok_or_else(|| format!("LOST: entry {seq} of {name:?}"))?;
            if record.event.as_deref() != Some(event) || !record.withheld.is_empty() {
                return Err(format!("LOST: entry {seq} is not the event {} of {name:?}", event.id));
            }
            let found = ledger.find_id(&event.id).map_err(|error| told(&event.id, &error))?;
            same(&vec![*seq], &found, || format!("position of {}", event.id))?;
        }
        if let Some(raw) = raw {
            let kept = ledger.blob(&Digest::of(&raw)).map_err(|error| told("raw body", &error))?;
            same(&Some(raw), &kept, || format!("raw body of {name:?}"))?;
        }
        // One caller's batches lie in the order in which it was answered.
        let first = seqs.first().copied().unwrap_or_default();
        let before = last.insert((name.seed, name.thread), (name.number, first));
        if before.is_some_and(|(number, seq)| number >= name.number || seq >= first) {
            return Err(format!("{name:?} lies before an earlier batch of its thread"));
        }
    }
    Ok(())
}

fn check_checkpoint(ledger: &Ledger, promises: &Promises) -> Result<(), String> {
    let note = ledger.checkpoint().map_err(|error| told("checkpoint", &error))?;
    let Some(note) = note else {
        return if promises.settled == 0 { Ok(()) } else { Err("LOST: there is no checkpoint".to_owned()) };
    };
    let key = VerifierKey::parse(&ledger.verifier_key()).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::verify(&note, &key).map_err(|error| error.to_string())?;
    if checkpoint.size < promises.settled {
        return Err(format!(
            "LOST: the checkpoint over {}; there is one over {}",
            promises.settled, checkpoint.size
        ));
    }
    let root = ledger.root_at(checkpoint.size).map_err(|error| told("root of the checkpoint", &error))?;
    same(&checkpoint.root, &root, || "root of the checkpoint".to_owned())
}

/// What was acknowledged is known, and something new is taken.
fn append_again(ledger: &Ledger, promises: &Promises) -> Result<(), String> {
    let size = ledger.head().size;
    if let Some((name, seqs)) = promises.acked.last() {
        let receipt = ledger.append(workload::batch(*name)).map_err(|error| error.to_string())?;
        same(seqs, &receipt.seqs, || format!("positions of {name:?} when it is sent again"))?;
        same(&0, &receipt.appended, || format!("{name:?} when it is sent again"))?;
    }
    let mut body = serde_json::Map::new();
    body.insert("id".to_owned(), Value::from(format!("after-{size}")));
    let batch = verdict_ledger::Batch {
        records: vec![verdict_ledger::NewRecord::system("review.noted", body)],
        blobs: Vec::new(),
    };
    let receipt = ledger.append(batch).map_err(|error| format!("nothing more is taken: {error}"))?;
    same(&vec![size], &receipt.seqs, || "position of the next entry".to_owned())
}

/// Reads size acknowledged and size in flight out of the newer whole slot, from the bytes that `format.md` describes.
pub(super) fn lock_state(lock: &Path) -> Result<(u64, u64), String> {
    let bytes = std::fs::read(lock).map_err(|error| format!("lock: {error}"))?;
    let slots = bytes.chunks(8192).filter_map(|slot| {
        let rest = slot.strip_prefix(b"VRDLOCK1")?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (json, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let whole = rest.starts_with(&blake3::derive_key("verdict 2026-11 lock slot v1", json));
        let state: Value = serde_json::from_slice(json).ok().filter(|_| whole)?;
        let member = |name: &str| state.get(name).and_then(Value::as_u64);
        Some((member("counter")?, member("acked")?, member("in_flight")?))
    });
    let newest = slots.max().ok_or("no slot of the lock is whole")?;
    Ok((newest.1, newest.2))
}

pub(super) fn told(what: &str, error: &LedgerError) -> String {
    format!("{what}: {error} ({error:?})")
}

fn same<T: PartialEq + std::fmt::Debug>(want: &T, got: &T, what: impl Fn() -> String) -> Result<(), String> {
    if want == got { Ok(()) } else { Err(format!("{}: {got:?}, and was {want:?}", what())) }
}
