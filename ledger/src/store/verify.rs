//! Full verification: every entry against chain, tree, disclosures, checkpoints, indexes and lock.
//!
//! It recomputes everything from the bytes and trusts nothing that is stored beside them. It goes on after a
//! failure, so that a report names all damage, but keeps at most [`FAILURES_MAX`] of them.

use std::iter::Peekable;

use rocksdb::{DB, IteratorMode};
use serde_json::{Map, Value};

use super::error::LedgerError;
use super::families::{self, family};
use super::indexes::IndexCheck;
use super::lock::LockFile;
use super::read::{Rows, StoredNodes, unpack_blob};
use super::seal::Sealer;
use super::{Head, Ledger, TILE_LEVELS};
use crate::chain::Link;
use crate::disclosure;
use crate::entry::{EntryView, VERSION};
use crate::id::Digest;
use crate::merkle::{self, Frontier, Hash, Nodes};
use crate::note::{Checkpoint, VerifierKey};

/// Most failures that a report lists.
const FAILURES_MAX: usize = 100;

/// Entries between two calls of the progress function.
const PROGRESS_EVERY: u64 = 1024;

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Entries read.
    pub entries: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Disclosures checked against their digests.
    pub disclosures: u64,
    /// Raw bodies and archives checked against their digests.
    pub blobs: u64,
    /// Checkpoints whose signature and root were checked.
    pub checkpoints: u64,
    /// Index rows checked against the entries.
    pub index_rows: u64,
    /// Disclosures that the entries commit to and that cannot be read: erased, or lost.
    pub withheld: u64,
    /// Size of the log.
    pub size: u64,
    /// Root, hex.
    pub root: String,
    /// Failures in the order in which they were found; empty means verified.
    pub failures: Vec<VerifyFailure>,
    /// Failures that are not listed.
    pub more_failures: u64,
}

impl Report {
    /// Tells whether everything holds.
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty()
    }

    pub(super) fn fail(&mut self, seq: Option<u64>, class: &str, detail: impl Into<String>) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(VerifyFailure { seq, class: class.to_owned(), detail: detail.into() });
        } else {
            self.more_failures += 1;
        }
    }
}

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VerifyFailure {
    /// Position, where the failure has one.
    pub seq: Option<u64>,
    /// Class: `entry`, `chain`, `tree`, `checkpoint`, `lock`, `disclosure`, `blob`, `index`.
    pub class: String,
    /// What is wrong.
    pub detail: String,
}

impl Ledger {
    /// Checks every entry against chain, tree, disclosures, checkpoints, indexes and lock. `progress` is told (done, all).
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, LedgerError> {
        let head = self.head();
        let mut report = Report {
            entries: 0,
            bytes: 0,
            disclosures: 0,
            blobs: 0,
            checkpoints: 0,
            index_rows: 0,
            withheld: 0,
            size: head.size,
            root: String::new(),
            failures: Vec::new(),
            more_failures: 0,
        };
        let mut scan = Scan::start(self)?;
        for row in self.entries(0..head.size) {
            match row {
                Ok((seq, entry)) => scan.entry(seq, &entry, &mut report),
                Err(error) => {
                    // Beyond an unreadable entry nothing can be said about chain and tree.
                    report.fail(Some(scan.frontier.size()), "entry", error.to_string());
                    break;
                }
            }
            if report.entries.is_multiple_of(PROGRESS_EVERY) {
                progress(report.entries, head.size);
            }
        }
        let complete = scan.frontier.size() == head.size;
        report.root = scan.frontier.root().to_string();
        if complete && scan.frontier.root() != head.root {
            report.fail(None, "tree", format!("root is {}, expected {}", scan.frontier.root(), head.root));
        }
        self.check_later_checkpoints(&mut scan, head, &mut report);
        self.check_lock(&scan, complete, &mut report);
        let opened = self.check_disclosures(head, &mut report)?;
        report.withheld = scan.committed.saturating_sub(opened);
        self.check_blobs(&mut report)?;
        // An entry that cannot be read gives no rows; that it cannot is in the report already.
        if complete && scan.readable {
            scan.indexes.finish(&self.inner.db, head.size, &mut report)?;
        }
        progress(head.size, head.size);
        Ok(report)
    }

    /// What is left when every readable entry was read: checkpoints of entries that are not there.
    fn check_later_checkpoints(&self, scan: &mut Scan<'_>, head: Head, report: &mut Report) {
        for row in &mut scan.checkpoints {
            match row {
                Ok((size, _)) if size <= head.size => report.fail(
                    Some(size),
                    "checkpoint",
                    format!("checkpoint of size {size} lies beyond what can be read"),
                ),
                // A reader looks at a fixed position and leaves newer checkpoints alone.
                Ok(_) if !self.is_writer() => return,
                // The writer goes on while it is verified, and signs only what it has.
                Ok((size, _)) if size <= self.head().size => {}
                Ok((size, _)) => {
                    report.fail(
                        Some(size),
                        "checkpoint",
                        format!("signs {size} entries, more than there are"),
                    );
                }
                Err(error) => report.fail(None, "checkpoint", error.to_string()),
            }
        }
    }

    fn check_lock(&self, scan: &Scan<'_>, complete: bool, report: &mut Report) {
        let lock = match LockFile::open(&self.inner.lock_path, false) {
            Ok((_, lock)) => lock,
            Err(error) => return report.fail(None, "lock", error.to_string()),
        };
        if lock.origin != self.origin() {
            report.fail(None, "lock", format!("it belongs to log `{}`", lock.origin));
        } else if lock.acked < report.size && !self.is_writer() {
            let detail =
                format!("it acknowledges {} entries, {} when this reader opened", lock.acked, report.size);
            report.fail(None, "lock", detail);
        } else if lock.acked <= report.size && complete {
            // Of a ledger that is being written the lock may have moved on, and then it is not looked at.
            match merkle::root_at(&scan.nodes, lock.acked) {
                Ok(root) if lock.root() == Some(root) => {}
                Ok(_) => {
                    report.fail(None, "lock", "the acknowledged root is not the root of the entries");
                }
                Err(error) => report.fail(None, "lock", error.to_string()),
            }
        }
    }

    /// Checks every disclosure that is left against the digests in its entry.
    /// Returns how many can be read.
    fn check_disclosures(&self, head: Head, report: &mut Report) -> Result<u64, LedgerError> {
        let db = &self.inner.db;
        let mut current: Option<(u64, Vec<[u8; 32]>)> = None;
        let mut opened = 0;
        for row in db.iterator_cf(family(db, families::DISCLOSURES)?, IteratorMode::Start) {
            let (key, value) = match row {
                Ok(row) => row,
                Err(error) => {
                    report.fail(None, "disclosure", error.to_string());
                    break;
                }
            };
            let parts = key.split_first_chunk::<8>();
            let Some((seq, digest)) =
                parts.and_then(|(seq, rest)| Some((*seq, <[u8; 32]>::try_from(rest).ok()?)))
            else {
                report.fail(None, "disclosure", "a key is not position and digest");
                continue;
            };
            let seq = u64::from_be_bytes(seq);
            if seq >= head.size {
                continue;
            }
            if current.as_ref().is_none_or(|(held, _)| *held != seq) {
                let digests =
                    self.entry(seq).ok().flatten().map(|entry| committed(&entry)).unwrap_or_default();
                current = Some((seq, digests));
            }
            report.disclosures += 1;
            if !current.as_ref().is_some_and(|(_, digests)| digests.contains(&digest)) {
                report.fail(
                    Some(seq),
                    "disclosure",
                    "the entry does not commit to a disclosure that is stored for it",
                );
                continue;
            }
            match self.inner.sealer.open(&digest, &value) {
                Ok(Some(encoded)) if disclosure::raw_digest(&encoded) != digest => {
                    report.fail(
                        Some(seq),
                        "disclosure",
                        "a value does not have the digest that the entry commits to",
                    );
                }
                Ok(Some(_)) => opened += 1,
                Ok(None) => {}
                Err(error) => report.fail(Some(seq), "disclosure", error.to_string()),
            }
        }
        Ok(opened)
    }

    fn check_blobs(&self, report: &mut Report) -> Result<(), LedgerError> {
        let db = &self.inner.db;
        for row in db.iterator_cf(family(db, families::BLOBS)?, IteratorMode::Start) {
            match row {
                Ok((key, packed)) => {
                    report.blobs += 1;
                    let checked =
                        <[u8; 32]>::try_from(&*key).map_err(|_| "a key is not a digest".to_owned()).and_then(
                            |key| unpack_blob(&Digest(key), &packed).map_err(|error| error.to_string()),
                        );
                    if let Err(detail) = checked {
                        report.fail(None, "blob", detail);
                    }
                }
                Err(error) => {
                    report.fail(None, "blob", error.to_string());
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Reads the checkpoints in order of size.
fn checkpoint_rows(db: &DB) -> Result<Rows<'_, (u64, String)>, LedgerError> {
    let damaged = || LedgerError::Damaged {
        place: format!("row of `{}`", families::CHECKPOINTS),
        detail: "is not a checkpoint".to_owned(),
    };
    let rows = db.iterator_cf(family(db, families::CHECKPOINTS)?, IteratorMode::Start);
    Ok(Box::new(rows.map(move |row| {
        let (key, note) = row?;
        let size = families::seq_of_key(&key).ok_or_else(damaged)?;
        Ok((size, String::from_utf8(note.into_vec()).map_err(|_| damaged())?))
    })))
}

fn committed(entry: &[u8]) -> Vec<[u8; 32]> {
    let body: Option<Map<String, Value>> =
        EntryView::parse(entry).ok().and_then(|view| serde_json::from_str(view.body.get()).ok());
    let digests = body.map(|body| disclosure::committed(&body)).unwrap_or_default();
    digests.iter().filter_map(|digest| disclosure::parse_digest(digest)).collect()
}

/// State of the pass over the entries.
struct Scan<'a> {
    nodes: StoredNodes<'a>,
    origin: &'a str,
    key: VerifierKey,
    prev: Option<Link>,
    last_ts_ns: u64,
    frontier: Frontier,
    /// Checkpoints that are still ahead, by size.
    checkpoints: Peekable<Rows<'a, (u64, String)>>,
    sealer: &'a Sealer,
    indexes: IndexCheck,
    /// Digests of disclosures in the entries so far.
    committed: u64,
    /// True while every entry could be read.
    readable: bool,
}

impl<'a> Scan<'a> {
    fn start(ledger: &'a Ledger) -> Result<Self, LedgerError> {
        let db = &ledger.inner.db;
        Ok(Self {
            nodes: StoredNodes::new(db)?,
            origin: ledger.origin(),
            key: VerifierKey::parse(&ledger.inner.verifier_key)?,
            prev: None,
            last_ts_ns: 0,
            frontier: Frontier::default(),
            checkpoints: checkpoint_rows(db)?.peekable(),
            sealer: &ledger.inner.sealer,
            indexes: IndexCheck::start(&ledger.inner.sealer)?,
            committed: 0,
            readable: true,
        })
    }

    fn entry(&mut self, seq: u64, entry: &[u8], report: &mut Report) {
        report.entries += 1;
        report.bytes += entry.len() as u64;
        match EntryView::parse(entry) {
            Ok(view) => self.members(seq, &view, report),
            Err(error) => {
                self.readable = false;
                report.fail(Some(seq), "entry", error.to_string());
            }
        }
        self.prev = Some(Link::of_entry(entry));

        let leaf = merkle::leaf_hash(entry);
        let mut completed: Vec<(u32, u64, Hash)> = Vec::new();
        self.frontier.push(leaf, |level, index, hash| {
            if level.is_multiple_of(TILE_LEVELS) {
                completed.push((level, index, *hash));
            }
        });
        for (level, index, hash) in completed {
            match self.nodes.perfect(level, index) {
                Ok(stored) if stored == hash => {}
                Ok(stored) => {
                    let detail = format!("stored hash {index} of level {level} is {stored}, computed {hash}");
                    report.fail(Some(seq), "tree", detail);
                }
                Err(LedgerError::Damaged { place, detail }) => {
                    report.fail(Some(seq), "tree", format!("{place} {detail}"));
                }
                Err(error) => report.fail(Some(seq), "tree", error.to_string()),
            }
        }
        let size = self.frontier.size();
        let due = |row: &Result<(u64, String), LedgerError>| row.as_ref().map_or(true, |(at, _)| *at <= size);
        while let Some(row) = self.checkpoints.next_if(due) {
            match row {
                Ok((at, note)) if at == size => self.checkpoint(&note, report),
                Ok((at, _)) => report.fail(Some(at), "checkpoint", "signs an empty log"),
                Err(error) => report.fail(None, "checkpoint", error.to_string()),
            }
        }
    }

    fn members(&mut self, seq: u64, view: &EntryView<'_>, report: &mut Report) {
        if view.seq != seq.to_string() {
            report.fail(Some(seq), "entry", format!("it says that it is entry {}", view.seq));
        }
        if view.origin != self.origin {
            report.fail(Some(seq), "entry", format!("it belongs to log `{}`", view.origin));
        }
        // Entry 0 was checked against the settings when the ledger was opened.
        if let Some(prev) = self.prev
            && view.prev != prev.to_string()
        {
            report.fail(Some(seq), "chain", "it is not linked to the entry before it");
        }
        match view.ts_ns() {
            Some(ts_ns) if ts_ns >= self.last_ts_ns => self.last_ts_ns = ts_ns,
            Some(_) => report.fail(Some(seq), "entry", "its time is before that of the entry before it"),
            None => report.fail(Some(seq), "entry", "it has no valid time"),
        }
        if view.v != VERSION || view.sd_alg != "sha-256" {
            let detail = format!("it has version {} and disclosures under `{}`", view.v, view.sd_alg);
            report.fail(Some(seq), "entry", detail);
        }
        match serde_json::from_str::<Map<String, Value>>(view.body.get()) {
            Ok(body) => {
                self.committed += disclosure::committed(&body).len() as u64;
                self.indexes.entry(seq, &view.kind, &body, self.sealer);
            }
            Err(error) => {
                self.readable = false;
                report.fail(Some(seq), "entry", format!("its body cannot be read: {error}"));
            }
        }
    }

    fn checkpoint(&self, note: &str, report: &mut Report) {
        let size = self.frontier.size();
        report.checkpoints += 1;
        match Checkpoint::verify(note, &self.key) {
            Err(error) => report.fail(Some(size), "checkpoint", error.to_string()),
            Ok(checkpoint) if checkpoint.size != size => {
                report.fail(Some(size), "checkpoint", format!("it signs {} entries", checkpoint.size));
            }
            Ok(checkpoint) if checkpoint.root != self.frontier.root() => {
                let detail = format!("it signs root {}, computed {}", checkpoint.root, self.frontier.root());
                report.fail(Some(size), "checkpoint", detail);
            }
            Ok(_) => {}
        }
    }
}
