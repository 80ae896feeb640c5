//! Where a replay reads: a ledger, or records that came from one.
//!
//! A replay never reads a whole log to answer about a part of it, so it asks for positions by trace and by session. Every
//! answer is cut at a position, so that a log that grows meanwhile gives the same run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use verdict_ledger::activation::ActivationError;
use verdict_ledger::contract::Quarantine;
use verdict_ledger::event::Rel;
use verdict_ledger::id::TraceId;
use verdict_ledger::pricing::{self, Table};
use verdict_ledger::projection::Shelf;
use verdict_ledger::{Index, Ledger, LedgerError, Record};

use super::carry::Carry;

/// The state at positions, kept beside a ledger.
const CARRIES: Shelf = Shelf { name: "replay-state", version: super::carry::VERSION };

/// What a source answers with when it cannot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A price table or a contract that the ledger holds cannot be used.
    #[error(transparent)]
    Activation(#[from] ActivationError),
}

/// A log to replay from.
pub trait Source: Sync {
    /// Returns the origin of the log.
    fn origin(&self) -> &str;
    /// Returns the number of entries.
    fn size(&self) -> u64;
    /// Returns the RFC 6962 root of the first `size` entries, hex.
    fn root(&self, size: u64) -> Result<String, SourceError>;
    /// Reads a range in order.
    fn read(&self, range: Range<u64>, each: &mut dyn FnMut(Record)) -> Result<(), SourceError>;
    /// Reads one record.
    fn record(&self, seq: u64) -> Result<Option<Record>, SourceError>;
    /// Returns the positions of a trace's events in a range, at most `limit`.
    fn of_trace(&self, trace: &TraceId, range: Range<u64>, limit: usize) -> Result<Vec<u64>, SourceError>;
    /// Returns the positions of events that state a session, in a range, at most `limit`.
    fn of_session(&self, session: &str, range: Range<u64>, limit: usize) -> Result<Vec<u64>, SourceError>;
    /// Returns the positions of events with an id.
    fn of_event(&self, id: &str) -> Result<Vec<u64>, SourceError>;
    /// Returns the price table in force below a position.
    fn prices(&self, below: u64) -> Result<Arc<Table>, SourceError>;
    /// Returns what is held in quarantine below a position.
    fn quarantine(&self, below: u64) -> Result<Arc<Quarantine>, SourceError>;
    /// Returns the newest state that is kept at or below a position.
    fn carried(&self, _at_most: u64) -> Result<Option<(u64, Carry)>, SourceError> {
        Ok(None)
    }
    /// Keeps a state, if that is possible here.
    fn keep(&self, _at: u64, _carry: &Carry) {}
}

/// A ledger, and what is read from it more than once.
#[derive(Debug)]
pub struct LedgerSource<'l> {
    ledger: &'l Ledger,
    /// Entries that there were before anything was read.
    seen: u64,
    /// Where the prices, and what is in quarantine, change.
    prices: Vec<(u64, Arc<Table>)>,
    quarantine: Vec<u64>,
}

impl<'l> LedgerSource<'l> {
    /// Reads from a ledger.
    pub fn new(ledger: &'l Ledger) -> Result<Self, SourceError> {
        let seen = ledger.head().size;
        let mut prices = vec![(0, Arc::new(pricing::registry::in_force(ledger, 0)?.0))];
        for activation in pricing::registry::history(ledger)? {
            let below = activation.seq.saturating_add(1);
            prices.push((below, Arc::new(pricing::registry::in_force(ledger, below)?.0)));
        }
        let mut quarantine = Vec::new();
        for kind in [verdict_ledger::contract::QUARANTINED, verdict_ledger::contract::RELEASED] {
            quarantine.extend(ledger.find_kind(kind)?);
        }
        quarantine.sort_unstable();
        Ok(Self { ledger, seen, prices, quarantine })
    }
}

impl Source for LedgerSource<'_> {
    fn origin(&self) -> &str {
        self.ledger.origin()
    }

    fn size(&self) -> u64 {
        self.seen
    }

    fn root(&self, size: u64) -> Result<String, SourceError> {
        Ok(hex::encode(self.ledger.root_at(size)?.0))
    }

    fn read(&self, range: Range<u64>, each: &mut dyn FnMut(Record)) -> Result<(), SourceError> {
        for record in self.ledger.records(range) {
            each(record?);
        }
        Ok(())
    }

    fn record(&self, seq: u64) -> Result<Option<Record>, SourceError> {
        Ok(self.ledger.record(seq)?)
    }

    fn of_trace(&self, trace: &TraceId, range: Range<u64>, limit: usize) -> Result<Vec<u64>, SourceError> {
        Ok(self.ledger.trace_seqs_in(trace, range, limit)?)
    }

    fn of_session(&self, session: &str, range: Range<u64>, limit: usize) -> Result<Vec<u64>, SourceError> {
        Ok(self.ledger.find(Index::Session, session, range, limit)?)
    }

    fn of_event(&self, id: &str) -> Result<Vec<u64>, SourceError> {
        Ok(self.ledger.find_id(id)?)
    }

    fn prices(&self, below: u64) -> Result<Arc<Table>, SourceError> {
        let known = self.prices.partition_point(|(from, _)| *from <= below);
        match known.checked_sub(1).and_then(|at| self.prices.get(at)) {
            Some((_, table)) => Ok(Arc::clone(table)),
            None => Ok(Arc::new(pricing::registry::in_force(self.ledger, below)?.0)),
        }
    }

    fn quarantine(&self, below: u64) -> Result<Arc<Quarantine>, SourceError> {
        let any = self.quarantine.first().is_some_and(|first| *first < below);
        Ok(Arc::new(if any { Quarantine::read(self.ledger, below)? } else { Quarantine::default() }))
    }

    fn carried(&self, at_most: u64) -> Result<Option<(u64, Carry)>, SourceError> {
        Ok(self.ledger.shelved(CARRIES, at_most)?)
    }

    fn keep(&self, at: u64, carry: &Carry) {
        // A folder that cannot be written only costs time.
        if !self.ledger.is_shelved(CARRIES, at) {
            let _ = self.ledger.shelve(CARRIES, at, self.seen, carry);
        }
    }
}

/// Records in memory, as from an exported corpus: all of them from entry 0, in log order.
#[derive(Debug)]
pub struct Corpus<'r> {
    origin: String,
    root: String,
    records: &'r [Record],
    traces: BTreeMap<TraceId, Vec<u64>>,
    sessions: BTreeMap<&'r str, Vec<u64>>,
    ids: BTreeMap<&'r str, Vec<u64>>,
    prices: Arc<Table>,
    quarantine: Arc<Quarantine>,
}

impl<'r> Corpus<'r> {
    /// Indexes records. `root` is that of the ledger that they come from, `prices` the table in force at its end.
    pub fn new(origin: &str, root: &str, records: &'r [Record], prices: Arc<Table>) -> Self {
        let mut corpus = Self {
            origin: origin.to_owned(),
            root: root.to_owned(),
            records,
            traces: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ids: BTreeMap::new(),
            prices,
            quarantine: Arc::default(),
        };
        for record in records {
            let Some(event) = &record.event else { continue };
            if let Some(trace) = event.trace_id {
                corpus.traces.entry(trace).or_default().push(record.seq);
            }
            if let Some(session) = event.session.as_deref() {
                corpus.sessions.entry(session).or_default().push(record.seq);
            }
            corpus.ids.entry(&event.id).or_default().push(record.seq);
        }
        corpus
    }
}

impl Source for Corpus<'_> {
    fn origin(&self) -> &str {
        &self.origin
    }

    fn size(&self) -> u64 {
        self.records.last().map_or(0, |record| record.seq + 1)
    }

    fn root(&self, _size: u64) -> Result<String, SourceError> {
        Ok(self.root.clone())
    }

    fn read(&self, range: Range<u64>, each: &mut dyn FnMut(Record)) -> Result<(), SourceError> {
        let from = self.records.partition_point(|record| record.seq < range.start);
        let records = self.records.get(from..).unwrap_or_default();
        records.iter().take_while(|record| record.seq < range.end).cloned().for_each(each);
        Ok(())
    }

    fn record(&self, seq: u64) -> Result<Option<Record>, SourceError> {
        let at = self.records.binary_search_by_key(&seq, |record| record.seq).ok();
        Ok(at.and_then(|at| self.records.get(at)).cloned())
    }

    fn of_trace(&self, trace: &TraceId, range: Range<u64>, limit: usize) -> Result<Vec<u64>, SourceError> {
        Ok(cut(self.traces.get(trace), &range, limit))
    }

    fn of_session(&self, session: &str, range: Range<u64>, limit: usize) -> Result<Vec<u64>, SourceError> {
        Ok(cut(self.sessions.get(session), &range, limit))
    }

    fn of_event(&self, id: &str) -> Result<Vec<u64>, SourceError> {
        Ok(self.ids.get(id).cloned().unwrap_or_default())
    }

    fn prices(&self, _below: u64) -> Result<Arc<Table>, SourceError> {
        Ok(Arc::clone(&self.prices))
    }

    fn quarantine(&self, _below: u64) -> Result<Arc<Quarantine>, SourceError> {
        Ok(Arc::clone(&self.quarantine))
    }
}

fn cut(seqs: Option<&Vec<u64>>, range: &Range<u64>, limit: usize) -> Vec<u64> {
    let seqs = seqs.map(Vec::as_slice).unwrap_or_default();
    let from = seqs.partition_point(|seq| *seq < range.start);
    let seqs = seqs.get(from..).unwrap_or_default();
    seqs.iter().copied().take_while(|seq| *seq < range.end).take(limit).collect()
}

/// Tells what an event answers: the ids of approvals, and of events.
pub(super) fn answers(event: &verdict_ledger::event::Event) -> impl Iterator<Item = Answered<'_>> {
    let own = event.decision.as_ref().and_then(|decision| decision.approval_id.as_deref());
    let links = event.links.iter().filter(|link| link.rel == Rel::Approves).flat_map(|link| {
        let by_event = link.to.event.as_deref().map(Answered::Event);
        by_event
            .into_iter()
            .chain(link.to.approval_id.as_deref().map(Answered::Approval))
            .chain(link.to.trace_id.map(Answered::Trace))
    });
    own.map(Answered::Approval).into_iter().chain(links)
}

/// What an answer names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered<'e> {
    Approval(&'e str),
    Event(&'e str),
    Trace(TraceId),
}
