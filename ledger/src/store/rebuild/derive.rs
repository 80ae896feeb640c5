//! The rows that entries give, in the order of the log, in bounded memory.

use std::collections::{BTreeMap, BTreeSet};

use rocksdb::{DB, Direction, IteratorMode, ReadOptions, WriteBatch, WriteOptions};
use serde_json::{Map, Value};

use crate::disclosure::{self, Hidden};
use crate::entry::EntryView;
use crate::merkle::{self, Frontier};
use crate::store::TILE_LEVELS;
use crate::store::codec::{self, Content, IdRow};
use crate::store::error::LedgerError;
use crate::store::families::{self, Families, family};
use crate::store::postings::OpenBlock;
use crate::store::prepare::StatementBytes;
use crate::store::seal::Sealer;
use crate::store::terms::Terms;
use crate::store::tree::missing_entry;

/// A batch is written when it has so many bytes; what is pending beside it is bounded by the same.
const BATCH_BYTES: usize = 4 << 20;

/// Derives rows from entries and writes them.
pub(super) struct Derivation<'a> {
    db: &'a DB,
    sealer: &'a Sealer,
    families: Families<'a>,
    batch: WriteBatch,
    frontier: Frontier,
    open: OpenBlock,
    /// First statements under ids in the batch.
    ids: BTreeMap<[u8; 16], IdRow>,
    /// Traces that start in the batch.
    traces: BTreeSet<[u8; 16]>,
    pub(super) rows: BTreeMap<&'static str, u64>,
    pub(super) unreadable: u64,
}

/// What an entry says of itself that rows are made of.
struct Statement {
    /// Keyed digest of the id.
    id: Option<[u8; 16]>,
    /// Keyed digest of the content; `None` when a value of it is gone, because then nobody can say what it was.
    content: Option<Content>,
    terms: Terms,
}

impl<'a> Derivation<'a> {
    pub(super) fn new(db: &'a DB, sealer: &'a Sealer) -> Result<Self, LedgerError> {
        Ok(Self {
            db,
            sealer,
            families: Families::of(db)?,
            batch: WriteBatch::default(),
            frontier: Frontier::default(),
            open: OpenBlock::starting_at(0),
            ids: BTreeMap::new(),
            traces: BTreeSet::new(),
            rows: families::DERIVED.into_iter().map(|name| (name, 0)).collect(),
            unreadable: 0,
        })
    }

    /// Goes through the first `size` entries.
    pub(super) fn run(&mut self, size: u64, progress: &mut dyn FnMut(u64)) -> Result<(), LedgerError> {
        let db = self.db;
        let rows = |name| -> Result<_, LedgerError> {
            let mut options = ReadOptions::default();
            options.fill_cache(false);
            Ok(db.iterator_cf_opt(family(db, name)?, options, IteratorMode::From(&[], Direction::Forward)))
        };
        let mut entries = rows(families::ENTRIES)?;
        let mut disclosures = rows(families::DISCLOSURES)?.peekable();
        for seq in 0..size {
            let (key, entry) = entries.next().ok_or_else(|| missing_entry(seq))??;
            if families::seq_of_key(&key) != Some(seq) {
                return Err(missing_entry(seq));
            }
            // Rows that belong to no entry are damage that `verify` names, and give nothing.
            while disclosures
                .next_if(|row| matches!(row, Ok((key, _)) if **key < seq.to_be_bytes()[..]))
                .is_some()
            {}
            let there = |row: &Result<(Box<[u8]>, _), _>| match row {
                Ok((key, _)) => **key == seq.to_be_bytes()[..],
                Err(_) => true,
            };
            let values = disclosures.next_if(there).transpose()?;
            self.entry(seq, &entry, values.as_ref().map(|(_, row)| &**row))?;
            if self.batch.size_in_bytes() >= BATCH_BYTES {
                self.write()?;
                progress(seq);
            }
        }
        self.write()?;
        progress(size);
        Ok(())
    }

    fn entry(&mut self, seq: u64, entry: &[u8], values: Option<&[u8]>) -> Result<(), LedgerError> {
        let statement = self.statement(seq, entry, values)?;
        let Self { batch, families, rows, frontier, open, .. } = self;
        frontier.push(merkle::leaf_hash(entry), |level, index, hash| {
            if level > 0 && level.is_multiple_of(TILE_LEVELS) {
                count(rows, families::TILES);
                batch.put_cf(families.tiles, families::tile_key(level, index), hash.0);
            }
        });
        open.add(seq, &statement.terms, |key, row| {
            count(rows, families::POSTINGS);
            batch.put_cf(families.postings, key, row);
        });
        if let Some(trace) = statement.terms.trace {
            self.trace(trace.0, seq)?;
        }
        if let Some(id) = statement.id {
            self.id(id, IdRow { seq, content: statement.content, more: false })?;
        }
        Ok(())
    }

    fn statement(&mut self, seq: u64, entry: &[u8], values: Option<&[u8]>) -> Result<Statement, LedgerError> {
        let damaged = |detail: String| LedgerError::Damaged { place: format!("entry {seq}"), detail };
        let view = EntryView::parse(entry).map_err(|error| damaged(error.to_string()))?;
        let body: Map<String, Value> =
            serde_json::from_str(view.body.get()).map_err(|error| damaged(error.to_string()))?;
        let hidden = match values.map(|row| self.sealer.open(seq, row)) {
            None => None,
            Some(Ok(hidden)) => hidden,
            Some(Err(LedgerError::Damaged { place, detail })) => {
                // Indexes can be had without it, and nobody can repair it.
                tracing::warn!(%place, %detail, "disclosed values cannot be read");
                self.unreadable += 1;
                None
            }
            Some(Err(error)) => return Err(error),
        };
        let committed = disclosure::committed(&body).len();
        let whole = hidden.as_ref().map_or(0, |hidden| hidden.members.len()) == committed;
        let content = if whole {
            let said = StatementBytes::of(&body).map_err(|error| damaged(error.to_string()))?;
            let nothing = Hidden::default();
            Some(said.content(&view.kind, hidden.as_ref().unwrap_or(&nothing), self.sealer))
        } else {
            None
        };
        let id = body.get("id").and_then(Value::as_str);
        let id = id.map(|id| self.sealer.index_digest(&[b"id", id.as_bytes()]));
        let subject = values.and_then(|row| Sealer::subject_of(row).ok());
        Ok(Statement { id, content, terms: Terms::of(&view.kind, &body, subject) })
    }

    fn id(&mut self, id: [u8; 16], row: IdRow) -> Result<(), LedgerError> {
        let by_id = self.families.by_id;
        let known = if let Some(known) = self.ids.get(&id) {
            Some(*known)
        } else {
            let stored = self.db.get_pinned_cf(by_id, id)?;
            stored.map(|stored| codec::decode::<IdRow>(families::BY_ID, &stored)).transpose()?
        };
        count(&mut self.rows, families::BY_ID);
        let first = match known {
            None => row,
            Some(first) => {
                self.batch.put_cf(by_id, families::digest_key(&id, row.seq), codec::encode(&row));
                if first.more {
                    return Ok(());
                }
                IdRow { more: true, ..first }
            }
        };
        self.batch.put_cf(by_id, id, codec::encode(&first));
        self.ids.insert(id, first);
        Ok(())
    }

    fn trace(&mut self, trace: [u8; 16], seq: u64) -> Result<(), LedgerError> {
        let Families { traces, trace_starts, .. } = self.families;
        if self.traces.contains(&trace) || self.db.get_pinned_cf(traces, trace)?.is_some() {
            return Ok(());
        }
        self.traces.insert(trace);
        self.batch.put_cf(traces, trace, seq.to_be_bytes());
        self.batch.put_cf(trace_starts, seq.to_be_bytes(), trace);
        count(&mut self.rows, families::TRACES);
        count(&mut self.rows, families::TRACE_STARTS);
        Ok(())
    }

    /// Writes past the write-ahead log: until the end nobody is told that any of it is there.
    fn write(&mut self) -> Result<(), LedgerError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(std::mem::take(&mut self.batch), &options)?;
        self.ids.clear();
        self.traces.clear();
        Ok(())
    }
}

fn count(rows: &mut BTreeMap<&'static str, u64>, family: &'static str) {
    *rows.entry(family).or_default() += 1;
}
