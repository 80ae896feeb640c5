//! Indexes against the entries: an index that hides an entry, or that points to another one, misleads whoever asks.
//!
//! Nothing is looked up row by row, which would read the indexes in random order. The rows that the entries give and
//! the rows that are there are added up, each digested under a key that is drawn for this one verification, so that
//! nobody can have prepared rows that cancel out. What an index says wrongly is its family; `format.md` says how each
//! is built.

use std::collections::BTreeMap;

use rocksdb::{DB, DBIterator, IteratorMode, ReadOptions};

use super::{Class, Report, strays};
use crate::key::KeyError;
use crate::store::codec::{self, Content, IdRow};
use crate::store::error::LedgerError;
use crate::store::families::{self, family};
use crate::store::postings::{self, BLOCK, Offsets, OpenBlock};
use crate::store::seal::Sealer;
use crate::store::terms::Tag;
use crate::store::{read, tail};

/// Rows added up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    rows: u64,
    digest: u128,
}

impl Sum {
    const fn add(&mut self, digest: u128) {
        self.rows += 1;
        self.digest = self.digest.wrapping_add(digest);
    }
}

/// Sums by family.
#[derive(Debug, Default)]
pub(super) struct Expected(BTreeMap<&'static str, Sum>);

impl Expected {
    fn of(&mut self, family: &'static str) -> &mut Sum {
        self.0.entry(family).or_default()
    }

    /// Adds the sums of another part of the log.
    pub(super) fn add(&mut self, other: Self) {
        for (family, sum) in other.0 {
            let all = self.of(family);
            all.rows += sum.rows;
            all.digest = all.digest.wrapping_add(sum.digest);
        }
    }
}

/// Digests rows under a key of its own.
#[derive(Debug)]
pub(super) struct IndexCheck {
    key: [u8; 32],
}

impl IndexCheck {
    pub(super) fn new(sealer: &Sealer) -> Result<Self, LedgerError> {
        let mut key = [0; 32];
        sealer.entropy().fill(&mut key).map_err(KeyError::from)?;
        Ok(Self { key })
    }

    /// Adds a statement under an id.
    pub(super) fn expect_id(
        &self,
        expected: &mut Expected,
        id: &[u8; 16],
        seq: u64,
        content: Option<Content>,
    ) {
        expected.of(families::BY_ID).add(self.statement(id, seq, content));
    }

    /// Adds a row of positions.
    pub(super) fn expect_posting(&self, expected: &mut Expected, key: &[u8], row: &[u8]) {
        expected.of(families::POSTINGS).add(self.digest(key, row));
    }

    /// Compares with the rows that are there for the first `size` entries.
    pub(super) fn finish(
        &self,
        mut expected: Expected,
        db: &DB,
        size: u64,
        report: &mut Report,
    ) -> Result<(), LedgerError> {
        let found = self.found(db, size, &mut expected, report)?;
        for name in [families::BY_ID, families::POSTINGS, families::TRACES, families::TRACE_STARTS] {
            let (found, expected) = (found.0.get(name).copied(), expected.0.get(name).copied());
            let (found, expected) = (found.unwrap_or_default(), expected.unwrap_or_default());
            report.index_rows += found.rows;
            if found.rows != expected.rows {
                let detail =
                    format!("`{name}` holds {} rows, the entries give {}", found.rows, expected.rows);
                report.fail(None, Class::Index, detail);
            } else if found != expected {
                report.fail(
                    None,
                    Class::Index,
                    format!("`{name}` does not hold the rows that the entries give"),
                );
            }
        }
        Ok(())
    }

    /// Adds the traces that start in the block that grows, which has no rows.
    fn expect_tail(&self, db: &DB, size: u64, expected: &mut Expected) {
        // Entries that cannot be read are named where they are checked.
        let Ok(tail) = tail::read(db, size) else { return };
        let complete = OpenBlock::starting_at(size);
        for start in tail.starts(&[Tag::Trace as u8]) {
            let trace = start.get(1..).and_then(|trace| <[u8; 16]>::try_from(trace).ok());
            let first = tail.offsets(start).and_then(|offsets| offsets.positions(tail.block()).next());
            let Some((trace, first)) = trace.zip(first) else { continue };
            let known = read::term_positions(db, &complete, start, 0..size, 1);
            if known.is_ok_and(|known| known.is_empty()) {
                expected.of(families::TRACES).add(self.digest(&trace, &first.to_be_bytes()));
                expected.of(families::TRACE_STARTS).add(self.digest(&first.to_be_bytes(), &trace));
            }
        }
    }

    fn found(
        &self,
        db: &DB,
        size: u64,
        expected: &mut Expected,
        report: &mut Report,
    ) -> Result<Expected, LedgerError> {
        let mut found = Expected::default();
        let mut bad =
            |name: &str, error: String| report.fail(None, Class::Index, format!("`{name}`: {error}"));
        let mut beyond = None;
        if let Err(error) = self.ids(db, size, found.of(families::BY_ID), &mut beyond) {
            bad(families::BY_ID, error.to_string());
        }
        check_beyond(db, size, families::BY_ID, beyond.take(), &mut bad)?;
        let mut last_trace: Option<[u8; 16]> = None;
        for row in all(db, families::POSTINGS)? {
            let (key, row) = match row {
                Ok(row) => row,
                Err(error) => {
                    bad(families::POSTINGS, error.to_string());
                    break;
                }
            };
            let Some(((start, block), offsets)) = postings::split_key(&key).zip(Offsets::parse(&row)) else {
                bad(families::POSTINGS, "a row is not positions in a block".to_owned());
                continue;
            };
            beyond = beyond.max(offsets.positions(block).next_back());
            // The ledger may grow meanwhile, and complete the block that had no rows.
            if block >= size / BLOCK {
                continue;
            }
            found.of(families::POSTINGS).add(self.digest(&key, &offsets.to_row()));
            // Rows of a trace are in order of position, so that its first row gives where the trace starts.
            let trace =
                start.strip_prefix(&[Tag::Trace as u8]).and_then(|trace| <[u8; 16]>::try_from(trace).ok());
            if let Some((trace, first)) =
                trace.filter(|trace| last_trace != Some(*trace)).zip(offsets.positions(block).next())
            {
                last_trace = Some(trace);
                expected.of(families::TRACES).add(self.digest(&trace, &first.to_be_bytes()));
                expected.of(families::TRACE_STARTS).add(self.digest(&first.to_be_bytes(), &trace));
            }
        }
        check_beyond(db, size, families::POSTINGS, beyond.take(), &mut bad)?;
        self.expect_tail(db, size, expected);
        for name in [families::TRACES, families::TRACE_STARTS] {
            for row in all(db, name)? {
                match row {
                    Ok((key, row)) => {
                        let seq = families::seq_of_key(if name == families::TRACES { &row } else { &key });
                        beyond = beyond.max(seq);
                        if seq.is_none_or(|seq| seq < size) {
                            found.of(name).add(self.digest(&key, &row));
                        }
                    }
                    Err(error) => {
                        bad(name, error.to_string());
                        break;
                    }
                }
            }
            check_beyond(db, size, name, beyond.take(), &mut bad)?;
        }
        Ok(found)
    }

    /// Adds up the statements under ids, and checks that the first of an id tells whether there are others.
    fn ids(&self, db: &DB, size: u64, found: &mut Sum, beyond: &mut Option<u64>) -> Result<(), LedgerError> {
        let damaged =
            |detail: &str| LedgerError::Damaged { place: "a row".to_owned(), detail: detail.to_owned() };
        let mut first: Option<([u8; 16], IdRow, bool)> = None;
        let unfinished = |first: &Option<([u8; 16], IdRow, bool)>| {
            first.as_ref().is_some_and(|(_, row, others)| row.more && !others)
        };
        for row in all(db, families::BY_ID)? {
            let (key, row) = row?;
            let row: IdRow = codec::decode(families::BY_ID, &row)?;
            let id = *key.first_chunk::<16>().ok_or_else(|| damaged("has a key that is not a digest"))?;
            if key.len() == id.len() {
                if unfinished(&first) {
                    return Err(damaged("tells of other statements that are not there"));
                }
                first = Some((id, row, false));
            } else {
                let at = families::seq_of_key(&key).filter(|_| key.len() == id.len() + 8);
                let Some((_, head, others)) = first.as_mut().filter(|(head, _, _)| *head == id) else {
                    return Err(damaged("belongs to an id without a first statement"));
                };
                if at != Some(row.seq) || row.more || row.seq <= head.seq || !head.more {
                    return Err(damaged("does not stand where it belongs"));
                }
                *others = true;
            }
            *beyond = (*beyond).max(Some(row.seq));
            if row.seq < size {
                found.add(self.statement(&id, row.seq, row.content));
            }
        }
        if unfinished(&first) { Err(damaged("tells of other statements that are not there")) } else { Ok(()) }
    }

    fn statement(&self, id: &[u8; 16], seq: u64, content: Option<Content>) -> u128 {
        let content = content.as_ref().map_or(&[][..], |content| &content[..]);
        self.digest(&families::digest_key(id, seq), content)
    }

    fn digest(&self, key: &[u8], value: &[u8]) -> u128 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(key.len() as u64).to_le_bytes()).update(key).update(value);
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        u128::from_le_bytes(digest)
    }
}

/// Tells of rows of entries that are not there: once the log has grown to them they would be believed. `last` is the
/// highest position that a family names.
fn check_beyond(
    db: &DB,
    size: u64,
    name: &str,
    last: Option<u64>,
    bad: &mut impl FnMut(&str, String),
) -> Result<(), LedgerError> {
    if let Some(last) = last.filter(|last| *last >= size)
        && !strays::has_entry(db, last)?
    {
        bad(name, format!("a row names entry {last}, which is not there"));
    }
    Ok(())
}

/// Reads a whole family in the order of its keys.
fn all<'a>(db: &'a DB, name: &str) -> Result<DBIterator<'a>, LedgerError> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    Ok(db.iterator_cf_opt(family(db, name)?, options, IteratorMode::Start))
}
