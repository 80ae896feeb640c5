//! Reading: entries, records, indexes, proofs. Nothing beyond the acknowledged head is ever shown.

use std::ops::Range;

use rocksdb::{DB, Direction, IteratorMode, ReadOptions};
use serde_json::{Map, Value};

use super::codec::{self, IdRow};
use super::error::LedgerError;
use super::families::{self, family};
use super::postings::{self, Offsets, OpenBlock};
use super::terms::{self, Tag};
use super::tree::{StoredNodes, missing_entry};
use super::{Index, Ledger, TILE_LEVELS, TraceRef};
use crate::disclosure::{self, Hidden};
use crate::entry::EntryView;
use crate::event::ACTION_REPORTED;
use crate::id::{Digest, TraceId};
use crate::merkle::{self, Hash, Nodes as _};
use crate::record::Record;

/// A stream of rows; it ends after the first error.
pub type Rows<'a, T> = Box<dyn Iterator<Item = Result<T, LedgerError>> + 'a>;

/// Largest raw body when decompressed.
const BLOB_BYTES_MAX: u64 = 1 << 30;

impl Ledger {
    /// Returns the exact bytes of an entry.
    pub fn entry(&self, seq: u64) -> Result<Option<Vec<u8>>, LedgerError> {
        if seq >= self.head().size {
            return Ok(None);
        }
        let entry = self.inner.db.get_cf(family(&self.inner.db, families::ENTRIES)?, seq.to_be_bytes())?;
        entry.map(Some).ok_or_else(|| missing_entry(seq))
    }

    /// Reads the exact bytes of a range of entries in order; the range is cut at the head.
    pub fn entries(&self, range: Range<u64>) -> Rows<'_, (u64, Vec<u8>)> {
        let end = range.end.min(self.head().size);
        let family = match family(&self.inner.db, families::ENTRIES) {
            Ok(family) => family,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end.to_be_bytes());
        // A full scan must not evict what queries need.
        options.fill_cache(false);
        let start = range.start.to_be_bytes();
        let rows =
            self.inner.db.iterator_cf_opt(family, options, IteratorMode::From(&start, Direction::Forward));
        let mut rows = rows.fuse();
        let mut next = range.start;
        Box::new(std::iter::from_fn(move || {
            if next >= end {
                return None;
            }
            let want = next;
            next += 1;
            Some(match rows.next() {
                Some(Ok((key, value))) if families::seq_of_key(&key) == Some(want) => {
                    Ok((want, value.into_vec()))
                }
                Some(Err(error)) => {
                    next = end;
                    Err(LedgerError::Database(error))
                }
                _ => {
                    next = end;
                    Err(missing_entry(want))
                }
            })
        }))
    }

    /// Returns one record with its disclosures in place.
    pub fn record(&self, seq: u64) -> Result<Option<Record>, LedgerError> {
        match self.entry(seq)? {
            Some(entry) => self.to_record(seq, &entry).map(Some),
            None => Ok(None),
        }
    }

    /// Reads a range of records in order; the range is cut at the head.
    pub fn records(&self, range: Range<u64>) -> Rows<'_, Record> {
        Box::new(self.entries(range).map(|row| row.and_then(|(seq, entry)| self.to_record(seq, &entry))))
    }

    /// Returns the disclosures (RFC 9901, base64url) of an entry that are still there, sorted.
    pub fn disclosures(&self, seq: u64) -> Result<Vec<String>, LedgerError> {
        let Some(entry) = self.entry(seq)? else { return Ok(Vec::new()) };
        let damaged = |detail: String| LedgerError::Damaged { place: format!("entry {seq}"), detail };
        let view = EntryView::parse(&entry).map_err(|error| damaged(error.to_string()))?;
        let body: Map<String, Value> =
            serde_json::from_str(view.body.get()).map_err(|error| damaged(error.to_string()))?;
        let committed = disclosure::committed(&body);
        let list = self.hidden(seq)?.map(|hidden| hidden.members().map(|member| member.encoded()).collect());
        let mut list: Vec<String> = list.unwrap_or_default();
        if list.iter().any(|encoded| !committed.contains(&disclosure::digest(encoded))) {
            return Err(damaged(
                "a stored value does not have a digest that the entry commits to".to_owned(),
            ));
        }
        list.sort_unstable();
        Ok(list)
    }

    /// Returns the disclosed values of an entry that are still there, as they are stored.
    pub(super) fn hidden(&self, seq: u64) -> Result<Option<Hidden>, LedgerError> {
        let row =
            self.inner.db.get_pinned_cf(family(&self.inner.db, families::DISCLOSURES)?, seq.to_be_bytes())?;
        match row {
            Some(row) => self.inner.sealer.open(seq, &row),
            None => Ok(None),
        }
    }

    fn to_record(&self, seq: u64, entry: &[u8]) -> Result<Record, LedgerError> {
        let damaged = |detail: String| LedgerError::Damaged { place: format!("entry {seq}"), detail };
        let view = EntryView::parse(entry).map_err(|error| damaged(error.to_string()))?;
        let body: Map<String, Value> =
            serde_json::from_str(view.body.get()).map_err(|error| damaged(error.to_string()))?;
        let hidden = self.hidden(seq)?;
        let disclosures = hidden.iter().flat_map(|hidden| hidden.members().map(|member| member.disclosure()));
        let disclosures =
            disclosures.collect::<Result<Vec<_>, _>>().map_err(|error| damaged(error.to_string()))?;
        let merged = disclosure::merge(body, &disclosures).map_err(|error| damaged(error.to_string()))?;
        let ts_ns = view.ts_ns().ok_or_else(|| damaged("it has no valid time".to_owned()))?;
        let kind = view.kind.into_owned();
        let (event, body) = if kind == ACTION_REPORTED {
            let event = serde_json::from_value(Value::Object(merged.body))
                .map_err(|error| damaged(error.to_string()))?;
            (Some(Box::new(event)), Map::new())
        } else {
            (None, merged.body)
        };
        Ok(Record { seq, ts_ns, kind, event, body, withheld: merged.withheld })
    }

    /// Returns the positions of a trace's events.
    pub fn trace_seqs(&self, trace: &TraceId) -> Result<Vec<u64>, LedgerError> {
        self.postings(&Tag::Trace.key(&trace.0), 0..u64::MAX, usize::MAX)
    }

    /// Returns the positions of a trace's events inside a range, at most `limit`.
    pub fn trace_seqs_in(
        &self,
        trace: &TraceId,
        range: Range<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, LedgerError> {
        self.postings(&Tag::Trace.key(&trace.0), range, limit)
    }

    /// Returns the records of a trace.
    pub fn trace(&self, trace: &TraceId) -> Result<Vec<Record>, LedgerError> {
        let seqs = self.trace_seqs(trace)?;
        seqs.into_iter().filter_map(|seq| self.record(seq).transpose()).collect()
    }

    /// Lists traces, newest first, that start before a position.
    pub fn traces(&self, before: Option<u64>, limit: usize) -> Result<Vec<TraceRef>, LedgerError> {
        let end = before.unwrap_or(u64::MAX).min(self.head().size);
        let mut traces = Vec::new();
        let Some(last) = end.checked_sub(1) else { return Ok(traces) };
        let start = last.to_be_bytes();
        let family = family(&self.inner.db, families::TRACE_STARTS)?;
        let mode = IteratorMode::From(&start, Direction::Reverse);
        for row in self.inner.db.iterator_cf(family, mode).take(limit) {
            let (key, value) = row?;
            let damaged = || LedgerError::Damaged {
                place: "trace index".to_owned(),
                detail: "a row cannot be read; rebuild the indexes".to_owned(),
            };
            let first_seq = families::seq_of_key(&key).ok_or_else(damaged)?;
            let trace_id = TraceId::from_slice(&value).map_err(|_| damaged())?;
            traces.push(TraceRef { trace_id, first_seq });
        }
        Ok(traces)
    }

    /// Returns the positions of every event with this id: more than one is a conflict.
    pub fn find_id(&self, id: &str) -> Result<Vec<u64>, LedgerError> {
        let size = self.head().size;
        let id = self.inner.sealer.index_digest(&[b"id", id.as_bytes()]);
        let by_id = family(&self.inner.db, families::BY_ID)?;
        let Some(row) = self.inner.db.get_pinned_cf(by_id, id)? else { return Ok(Vec::new()) };
        let first: IdRow = codec::decode(families::BY_ID, &row)?;
        let mut seqs = vec![first.seq];
        if first.more {
            for row in families::statements_after_first(&self.inner.db, by_id, &id) {
                seqs.push(row?.seq);
            }
        }
        seqs.retain(|seq| *seq < size);
        Ok(seqs)
    }

    /// Returns the positions of entries with this `type`, in order.
    pub fn find_kind(&self, kind: &str) -> Result<Vec<u64>, LedgerError> {
        self.find(Index::Kind, kind, 0..u64::MAX, usize::MAX)
    }

    /// Returns at most `limit` positions, in order and inside a range, of events with this text in an index. Texts
    /// that agree in their first 200 bytes are one text to an index; words are compared in lower case.
    pub fn find(
        &self,
        index: Index,
        text: &str,
        range: Range<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, LedgerError> {
        let text = if index == Index::Word { text.to_lowercase() } else { text.to_owned() };
        self.postings(&index.tag().key(terms::indexed_text(&text).as_bytes()), range, limit)
    }

    /// Reads the positions of a term.
    pub(super) fn postings(
        &self,
        start: &[u8],
        range: Range<u64>,
        limit: usize,
    ) -> Result<Vec<u64>, LedgerError> {
        let size = self.head().size;
        let tail = self.inner.tail.at(&self.inner.db, size)?;
        term_positions(&self.inner.db, &tail, start, range.start..range.end.min(size), limit)
    }

    /// Lists the distinct texts of an index, in order, at most `limit`.
    pub fn index_values(&self, index: Index, limit: usize) -> Result<Vec<String>, LedgerError> {
        let size = self.head().size;
        let mut values = Vec::new();
        let mut rows = self.inner.db.raw_iterator_cf(family(&self.inner.db, families::POSTINGS)?);
        let tag = [index.tag() as u8];
        rows.seek(tag);
        while values.len() < limit {
            let Some((key, row)) = rows.item() else { break };
            let Some((text, block)) = postings::split_key(key).and_then(|(start, block)| {
                Some((start.strip_prefix(&tag)?.strip_suffix(&[0])?.to_vec(), block))
            }) else {
                break;
            };
            // The first row of a text is that of its first entry.
            let first = Offsets::parse(row).and_then(|offsets| offsets.positions(block).next());
            rows.seek([&tag[..], &text, &[1]].concat());
            if first.is_some_and(|seq| seq < size) {
                values.push(String::from_utf8_lossy(&text).into_owned());
            }
        }
        rows.status()?;
        let tail = self.inner.tail.at(&self.inner.db, size)?;
        let in_tail = tail.starts(&tag).into_iter().filter_map(|start| start.get(1..)?.strip_suffix(&[0]));
        values.extend(in_tail.map(|text| String::from_utf8_lossy(text).into_owned()));
        values.sort_unstable();
        values.dedup();
        values.truncate(limit);
        Ok(values)
    }

    /// Finds the first position whose receiver time is not before `ts_ns`: times never run backwards in the log.
    pub fn seq_at(&self, ts_ns: u64) -> Result<u64, LedgerError> {
        let (mut low, mut high) = (0, self.head().size);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?.ok_or_else(|| missing_entry(middle))?;
            let ts = EntryView::parse(&entry).ok().and_then(|view| view.ts_ns());
            let ts = ts.ok_or_else(|| LedgerError::Damaged {
                place: format!("entry {middle}"),
                detail: "it has no valid time".to_owned(),
            })?;
            if ts < ts_ns {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Returns a raw body or an archive by its digest.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, LedgerError> {
        let Some(packed) = self.inner.db.get_pinned_cf(family(&self.inner.db, families::BLOBS)?, digest.0)?
        else {
            return Ok(None);
        };
        unpack_blob(digest, &packed).map(Some)
    }

    /// Returns the newest checkpoint (a C2SP signed note).
    pub fn checkpoint(&self) -> Result<Option<String>, LedgerError> {
        Ok(self.checkpoints(1)?.pop().map(|(_, note)| note))
    }

    /// Returns the checkpoint of exactly this size.
    pub fn checkpoint_at(&self, size: u64) -> Result<Option<String>, LedgerError> {
        if size > self.head().size {
            return Ok(None);
        }
        let family = family(&self.inner.db, families::CHECKPOINTS)?;
        self.inner.db.get_cf(family, size.to_be_bytes())?.map(|note| checkpoint_text(size, note)).transpose()
    }

    /// Returns the newest `limit` checkpoints as (size, note), newest first.
    pub fn checkpoints(&self, limit: usize) -> Result<Vec<(u64, String)>, LedgerError> {
        let start = self.head().size.to_be_bytes();
        let family = family(&self.inner.db, families::CHECKPOINTS)?;
        let mode = IteratorMode::From(&start, Direction::Reverse);
        let rows = self.inner.db.iterator_cf(family, mode).take(limit);
        rows.map(|row| {
            let (key, note) = row?;
            let size = families::seq_of_key(&key).unwrap_or_default();
            Ok((size, checkpoint_text(size, note.into_vec())?))
        })
        .collect()
    }

    /// Proves that entry `seq` is in the tree of `size` entries.
    pub fn inclusion_proof(&self, seq: u64, size: u64) -> Result<Vec<Hash>, LedgerError> {
        let size = self.within_head(size)?;
        if seq >= size {
            return Err(LedgerError::OutOfRange { seq, size });
        }
        merkle::inclusion_proof(&StoredNodes::new(&self.inner.db)?, seq, size)
    }

    /// Proves that the tree of `old` entries is a prefix of the tree of `new` entries.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, LedgerError> {
        let new = self.within_head(new)?;
        if old > new {
            return Err(LedgerError::OutOfRange { seq: old, size: new });
        }
        merkle::consistency_proof(&StoredNodes::new(&self.inner.db)?, old, new)
    }

    /// Returns the root of the tree of the first `size` entries.
    pub fn root_at(&self, size: u64) -> Result<Hash, LedgerError> {
        let size = self.within_head(size)?;
        merkle::root_at(&StoredNodes::new(&self.inner.db)?, size)
    }

    /// Returns the hashes of a C2SP tile, fewer than 256 at the right edge of the tree of `size` entries.
    pub fn tile(&self, tile_level: u32, index: u64, size: u64) -> Result<Vec<Hash>, LedgerError> {
        let size = self.within_head(size)?;
        let level = tile_level.saturating_mul(TILE_LEVELS);
        let there = if level < u64::BITS { size >> level } else { 0 };
        let first = index.saturating_mul(256);
        let nodes = StoredNodes::new(&self.inner.db)?;
        if level == 0 {
            return nodes
                .leaves(first.min(there), there.min(first.saturating_add(256)).saturating_sub(first));
        }
        (first..there.min(first.saturating_add(256))).map(|index| nodes.perfect(level, index)).collect()
    }

    fn within_head(&self, size: u64) -> Result<u64, LedgerError> {
        let head = self.head().size;
        if size > head { Err(LedgerError::OutOfRange { seq: size, size: head }) } else { Ok(size) }
    }
}

/// Reads the positions of a term within a range that does not go beyond the entries that `tail` was made of.
pub(super) fn term_positions(
    db: &DB,
    tail: &OpenBlock,
    start: &[u8],
    range: Range<u64>,
    limit: usize,
) -> Result<Vec<u64>, LedgerError> {
    let mut options = ReadOptions::default();
    let end = range.end.div_ceil(postings::BLOCK).min(tail.block());
    options.set_iterate_upper_bound(postings::key(start, end));
    let first = postings::key(start, range.start / postings::BLOCK);
    let mode = IteratorMode::From(&first, Direction::Forward);
    let mut seqs = Vec::new();
    let in_tail = tail.offsets(start).map(|offsets| (tail.block(), offsets.clone()));
    let rows = db.iterator_cf_opt(family(db, families::POSTINGS)?, options, mode).map(|row| {
        let (key, row) = row?;
        let parsed = postings::split_key(&key).zip(Offsets::parse(&row));
        parsed.map(|((_, block), offsets)| (block, offsets)).ok_or_else(|| LedgerError::Damaged {
            place: format!("row of `{}`", families::POSTINGS),
            detail: "cannot be read; rebuild the indexes".to_owned(),
        })
    });
    for row in rows.chain(in_tail.map(Ok)) {
        let (block, offsets) = row?;
        for seq in offsets.positions(block).filter(|seq| range.contains(seq)) {
            if seqs.len() == limit {
                return Ok(seqs);
            }
            seqs.push(seq);
        }
    }
    Ok(seqs)
}

fn checkpoint_text(size: u64, note: Vec<u8>) -> Result<String, LedgerError> {
    String::from_utf8(note).map_err(|_| LedgerError::Damaged {
        place: format!("checkpoint of size {size}"),
        detail: "is not text".to_owned(),
    })
}

/// Unpacks a raw body and checks its digest.
pub(super) fn unpack_blob(digest: &Digest, packed: &[u8]) -> Result<Vec<u8>, LedgerError> {
    use std::io::Read as _;
    let damaged = |detail: &str| LedgerError::Damaged {
        place: format!("raw body {digest}"),
        detail: detail.to_owned(),
    };
    let mut bytes = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(packed).map_err(|_| damaged("is not a zstd frame"))?;
    decoder.take(BLOB_BYTES_MAX).read_to_end(&mut bytes).map_err(|_| damaged("cannot be decompressed"))?;
    if Digest::of(&bytes) != *digest {
        return Err(damaged("does not have its digest"));
    }
    Ok(bytes)
}
