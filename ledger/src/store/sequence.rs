//! The sequencer: gives records their positions and builds one atomic batch of everything that a group commit
//! writes, while the group before it is still being flushed.
//!
//! What it builds on may not be durable yet. That is safe because groups are committed in order and none after one
//! that failed: nothing is acknowledged that stands on something lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use rocksdb::{DB, WriteBatch};

use super::codec::{self, Content, IdRow};
use super::erasure;
use super::error::LedgerError;
use super::families::{self, Families};
use super::postings::{self, OpenBlock};
use super::prepare::{Prepared, PreparedBatch};
use super::seal::{Sealer, Subject};
use super::{Head, TILE_LEVELS};
use crate::chain::Link;
use crate::clock::Clock;
use crate::entry::{EntryParts, format_ts};
use crate::id::Digest;
use crate::merkle::{self, Frontier};
use crate::record::Receipt;

/// Traces that are remembered as known, so that their events need no look-up.
const TRACES_REMEMBERED: usize = 65_536;

/// One group commit, ready to be written.
pub(super) struct Built {
    pub(super) batch: WriteBatch,
    /// The tree with this group.
    pub(super) frontier: Frontier,
    /// Link to the last entry.
    pub(super) link: Link,
    /// Subjects whose data keys the batch carries.
    pub(super) subjects: Vec<Subject>,
    /// One for each batch of the group.
    pub(super) receipts: Vec<Receipt>,
}

/// State of the log with everything that was given a position.
pub(super) struct Sequencer {
    pub(super) db: Arc<DB>,
    pub(super) origin: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sealer: Arc<Sealer>,
    /// What is acknowledged.
    pub(super) head: Arc<RwLock<Head>>,
    pub(super) frontier: Frontier,
    /// Link to the last entry.
    pub(super) prev: Link,
    pub(super) last_ts_ns: u64,
    pub(super) open: OpenBlock,
    /// What the database may not know yet, oldest group first.
    in_flight: VecDeque<InFlight>,
    /// Raw bodies that were erased and must not come back: 32 bytes each.
    pub(super) erased_bodies: BTreeSet<Digest>,
    /// Some of the traces that are known, so that their events need no look-up.
    known_traces: BTreeSet<[u8; 16]>,
}

/// Ids and traces of a group that may not be in the database yet.
#[derive(Default)]
struct InFlight {
    /// Size of the log with the group.
    size: u64,
    ids: BTreeMap<[u8; 16], Known>,
    /// Traces that start in it.
    traces: BTreeSet<[u8; 16]>,
}

/// Every statement that is known under an id.
#[derive(Debug, Clone)]
struct Known {
    first: IdRow,
    /// Content and position of the statements after the first, once they were looked up.
    others: BTreeMap<Content, u64>,
    /// Position of the first statement that a value was erased of.
    erased: Option<u64>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// It is there, now or since before.
    Known,
    /// It is there, and a value of it was erased.
    Erased,
}

impl Known {
    /// Finds the same statement. With a value erased nobody can say any more what the statement was, and a source
    /// that sends it again must not bring the value back: anything under its id counts as it.
    fn position(&self, content: Content) -> Option<(u64, Placed)> {
        if self.first.content == Some(content) {
            return Some((self.first.seq, Placed::Known));
        }
        let known = self.others.get(&content).map(|seq| (*seq, Placed::Known));
        known.or_else(|| self.erased.map(|seq| (seq, Placed::Erased)))
    }
}

impl Sequencer {
    #[expect(clippy::too_many_arguments, reason = "the state of the log, each part once")]
    pub(super) fn new(
        db: Arc<DB>,
        origin: String,
        clock: Arc<dyn Clock>,
        sealer: Arc<Sealer>,
        head: Arc<RwLock<Head>>,
        frontier: Frontier,
        (prev, last_ts_ns): (Link, u64),
        open: OpenBlock,
        erased_bodies: BTreeSet<Digest>,
    ) -> Self {
        let (in_flight, known_traces) = (VecDeque::new(), BTreeSet::new());
        Self {
            db,
            origin,
            clock,
            sealer,
            head,
            frontier,
            prev,
            last_ts_ns,
            open,
            in_flight,
            erased_bodies,
            known_traces,
        }
    }

    /// Gives the records of a group their positions. After an error the sequencer must not be used again.
    pub(super) fn build(&mut self, batches: &[PreparedBatch]) -> Result<Built, LedgerError> {
        let db = Arc::clone(&self.db);
        let families = Families::of(&db)?;
        let acknowledged = self.head.read().unwrap_or_else(PoisonError::into_inner).size;
        self.in_flight.retain(|group| group.size > acknowledged);
        self.in_flight.push_back(InFlight::default());
        // The receiver's clock never runs backwards in the log, whatever the system's clock does.
        self.last_ts_ns = self.last_ts_ns.max(self.clock.now_ns());
        let ts = format_ts(self.last_ts_ns);

        let mut batch = WriteBatch::default();
        let mut subjects = Vec::new();
        let mut receipts = Vec::with_capacity(batches.len());
        for prepared in batches {
            let mut receipt = Receipt::default();
            self.change(families, &mut batch, &prepared.changes)?;
            let mut erased = Vec::new();
            for record in &prepared.records {
                if self.place(families, &mut batch, record, &ts, &mut receipt)? == Placed::Erased {
                    erased.extend(receipt.seqs.last());
                }
            }
            // A duplicate's data key was written with the first; writing it again does no harm.
            if receipt.appended > 0 {
                let sealed = prepared.records.iter().filter_map(|record| record.disclosures.as_ref());
                subjects.extend(sealed.map(|(subject, _)| *subject));
                // A raw body that holds an erased statement again must not bring it back.
                if erased.is_empty() {
                    let kept =
                        prepared.blobs.iter().filter(|(digest, _)| !self.erased_bodies.contains(digest));
                    for (digest, packed) in kept {
                        batch.put_cf(families.blobs, digest.0, packed);
                    }
                } else if let Some(record) = self.bodies_kept_out(families, prepared, &erased)? {
                    subjects.extend(record.disclosures.iter().map(|(subject, _)| *subject));
                    self.place(families, &mut batch, &record, &ts, &mut Receipt::default())?;
                }
            }
            receipts.push(receipt);
        }
        subjects.sort_unstable();
        subjects.dedup();
        for (subject, row) in self.sealer.unwritten(subjects.iter().copied()) {
            batch.put_cf(families.data_keys, subject, row);
        }
        let size = self.frontier.size();
        if let Some(group) = self.in_flight.back_mut() {
            group.size = size;
        }
        for receipt in &mut receipts {
            receipt.size = size;
        }
        Ok(Built { batch, frontier: self.frontier.clone(), link: self.prev, subjects, receipts })
    }

    /// Gives a record its position, unless the same statement is there already.
    fn place(
        &mut self,
        families: Families<'_>,
        batch: &mut WriteBatch,
        record: &Prepared,
        ts: &str,
        receipt: &mut Receipt,
    ) -> Result<Placed, LedgerError> {
        let mut known = self.find(families, record)?;
        let there = known.as_ref().and_then(|known| known.position(record.content));
        let mut placed = Placed::Known;
        let seq = if let Some((seq, how)) = there {
            receipt.duplicates += 1;
            placed = how;
            seq
        } else {
            receipt.appended += 1;
            self.append(families, batch, record, ts)?
        };
        receipt.seqs.push(seq);
        match &mut known {
            _ if there.is_some() => {}
            None => {
                let first = IdRow { seq, content: Some(record.content), more: false };
                batch.put_cf(families.by_id, record.id, codec::encode(&first));
                known = Some(Known { first, others: BTreeMap::new(), erased: None });
            }
            Some(known) => {
                receipt.conflicts += 1;
                if !known.first.more {
                    known.first.more = true;
                    batch.put_cf(families.by_id, record.id, codec::encode(&known.first));
                }
                let row = IdRow { seq, content: Some(record.content), more: false };
                batch.put_cf(families.by_id, families::digest_key(&record.id, seq), codec::encode(&row));
                known.others.insert(record.content, seq);
            }
        }
        if let (Some(group), Some(known)) = (self.in_flight.back_mut(), known) {
            group.ids.insert(record.id, known);
        }
        Ok(placed)
    }

    /// Says in an entry that the raw bodies of a batch were not kept, because statements in them were erased, unless
    /// they are there already.
    fn bodies_kept_out(
        &mut self,
        families: Families<'_>,
        prepared: &PreparedBatch,
        erased: &[u64],
    ) -> Result<Option<Prepared>, LedgerError> {
        let mut bodies = Vec::new();
        for (digest, _) in &prepared.blobs {
            let known = self.erased_bodies.contains(digest);
            if !known && self.db.get_pinned_cf(families.blobs, digest.0)?.is_none() {
                bodies.push(*digest);
            }
        }
        self.erased_bodies.extend(&bodies);
        erasure::kept_out(&bodies, erased, &self.sealer, &self.origin)
    }

    /// Finds what is known under the id of a record. An id is read from the database once a group: a source that
    /// gives one id to everything must not make every append read all that it sent before.
    fn find(&mut self, families: Families<'_>, record: &Prepared) -> Result<Option<Known>, LedgerError> {
        if let Some(known) = self.in_flight.back_mut().and_then(|group| group.ids.remove(&record.id)) {
            return Ok(Some(known));
        }
        if let Some(known) = self.in_flight.iter().rev().find_map(|group| group.ids.get(&record.id)) {
            return Ok(Some(known.clone()));
        }
        let Some(row) = self.db.get_pinned_cf(families.by_id, record.id)? else { return Ok(None) };
        let first: IdRow = codec::decode(families::BY_ID, &row)?;
        let erased = first.content.is_none().then_some(first.seq);
        let mut known = Known { first, others: BTreeMap::new(), erased };
        if known.first.more {
            for row in families::statements_after_first(&self.db, families.by_id, &record.id) {
                let row = row?;
                if row.content.is_none() {
                    known.erased.get_or_insert(row.seq);
                }
                known.others.extend(row.content.map(|content| (content, row.seq)));
            }
        }
        Ok(Some(known))
    }

    fn append(
        &mut self,
        families: Families<'_>,
        batch: &mut WriteBatch,
        record: &Prepared,
        ts: &str,
    ) -> Result<u64, LedgerError> {
        let seq = self.frontier.size();
        let parts = EntryParts {
            seq,
            ts,
            kind: &record.kind,
            prev: self.prev,
            origin: &self.origin,
            stream: record.stream.as_ref(),
            body: &record.body,
        };
        let entry = parts.to_bytes();
        self.prev = Link::of_entry(&entry);
        batch.put_cf(families.entries, seq.to_be_bytes(), &entry);
        self.frontier.push(merkle::leaf_hash(&entry), |level, index, hash| {
            if level > 0 && level.is_multiple_of(TILE_LEVELS) {
                batch.put_cf(families.tiles, families::tile_key(level, index), hash.0);
            }
        });
        if let Some((_, row)) = &record.disclosures {
            batch.put_cf(families.disclosures, seq.to_be_bytes(), row);
        }
        self.open.add(seq, &record.terms, postings::put_into(batch, families.postings));
        if let Some(trace) = record.terms.trace {
            self.note_trace(families, batch, trace.0, seq)?;
        }
        Ok(seq)
    }
    /// Writes where a trace starts, unless it started before.
    fn note_trace(
        &mut self,
        families: Families<'_>,
        batch: &mut WriteBatch,
        trace: [u8; 16],
        seq: u64,
    ) -> Result<(), LedgerError> {
        if self.known_traces.contains(&trace) {
            return Ok(());
        }
        if self.known_traces.len() >= TRACES_REMEMBERED {
            self.known_traces.clear();
        }
        self.known_traces.insert(trace);
        let started = self.in_flight.iter().any(|group| group.traces.contains(&trace))
            || self.db.get_pinned_cf(families.traces, trace)?.is_some();
        if !started {
            batch.put_cf(families.traces, trace, seq.to_be_bytes());
            batch.put_cf(families.trace_starts, seq.to_be_bytes(), trace);
            if let Some(group) = self.in_flight.back_mut() {
                group.traces.insert(trace);
            }
        }
        Ok(())
    }
}
