//! Checks the indexes against the entries: what an index no longer finds is as good as deleted for whoever asks it.
//!
//! Nothing is held in memory and order does not matter: the rows that the entries give and the rows that are there
//! are added up, each digested under a key that is drawn for this one verification, so that nobody can have prepared
//! rows that cancel out. What an index says wrongly is its family; `format.md` says how each is built.

use std::collections::BTreeMap;

use rocksdb::{DB, DBIterator, IteratorMode, ReadOptions};
use serde_json::{Map, Value};

use super::error::LedgerError;
use super::families::{self, family};
use super::prepare::Indexed;
use super::seal::Sealer;
use super::verify::Report;
use crate::key::KeyError;

/// Families whose keys end with a position and follow from the entries.
const FAMILIES: [&str; 6] = [
    families::BY_ID,
    families::BY_TRACE,
    families::BY_KIND,
    families::BY_AGENT,
    families::BY_TOOL,
    families::BY_EFFECT,
];

/// Rows added up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sum {
    rows: u64,
    digest: u128,
}

/// The rows that the entries give.
#[derive(Debug)]
pub(super) struct IndexCheck {
    key: [u8; 32],
    expected: BTreeMap<&'static str, Sum>,
}

impl IndexCheck {
    pub(super) fn start(sealer: &Sealer) -> Result<Self, LedgerError> {
        let mut key = [0; 32];
        sealer.entropy().fill(&mut key).map_err(KeyError::from)?;
        Ok(Self { key, expected: BTreeMap::new() })
    }

    /// Adds the rows of one entry.
    pub(super) fn entry(&mut self, seq: u64, kind: &str, body: &Map<String, Value>, sealer: &Sealer) {
        if let Some(id) = body.get("id").and_then(Value::as_str) {
            let id = sealer.index_digest(&[b"id", id.as_bytes()]);
            self.expect(families::BY_ID, &families::digest_key(&id, seq));
        }
        self.expect(families::BY_KIND, &families::text_key(kind, seq));
        let indexed = Indexed::of(kind, body);
        if let Some(trace) = indexed.trace {
            self.expect(families::BY_TRACE, &families::digest_key(&trace.0, seq));
        }
        let texts = [
            (families::BY_AGENT, indexed.agent),
            (families::BY_TOOL, indexed.tool),
            (families::BY_EFFECT, indexed.effect),
        ];
        for (family, text) in texts {
            if let Some(text) = text {
                self.expect(family, &families::text_key(&text, seq));
            }
        }
    }

    fn expect(&mut self, family: &'static str, key: &[u8]) {
        let digest = self.digest(key, &[]);
        self.expected.entry(family).or_default().add(digest);
    }

    /// Compares with the rows that are there for the first `size` entries.
    pub(super) fn finish(mut self, db: &DB, size: u64, report: &mut Report) -> Result<(), LedgerError> {
        for name in FAMILIES {
            let mut found = Sum::default();
            let mut trace: Option<[u8; 16]> = None;
            for row in all(db, name)? {
                let key = match row {
                    Ok((key, _)) => key,
                    Err(error) => {
                        report.fail(None, "index", format!("`{name}`: {error}"));
                        return Ok(());
                    }
                };
                let Some(seq) = families::seq_of_key(&key).filter(|seq| *seq < size) else { continue };
                found.add(self.digest(&key, &[]));
                report.index_rows += 1;
                // Rows of a trace are in order of position, so that its first row gives where the trace starts.
                if name == families::BY_TRACE
                    && let Some(here) = key.first_chunk::<16>().filter(|here| trace.as_ref() != Some(here))
                {
                    trace = Some(*here);
                    let digest = self.digest(&seq.to_be_bytes(), here);
                    self.expected.entry(families::TRACE_STARTS).or_default().add(digest);
                }
            }
            self.compare(name, found, report);
        }
        let mut found = Sum::default();
        for row in all(db, families::TRACE_STARTS)? {
            match row {
                Ok((key, trace)) if families::seq_of_key(&key).is_some_and(|seq| seq < size) => {
                    found.add(self.digest(&key, &trace));
                    report.index_rows += 1;
                }
                Ok(_) => {}
                Err(error) => report.fail(None, "index", format!("`{}`: {error}", families::TRACE_STARTS)),
            }
        }
        self.compare(families::TRACE_STARTS, found, report);
        Ok(())
    }

    fn compare(&self, name: &'static str, found: Sum, report: &mut Report) {
        let expected = self.expected.get(name).copied().unwrap_or_default();
        if found.rows != expected.rows {
            let detail = format!("`{name}` holds {} rows, the entries give {}", found.rows, expected.rows);
            report.fail(None, "index", detail);
        } else if found != expected {
            report.fail(None, "index", format!("`{name}` does not hold the rows that the entries give"));
        }
    }

    fn digest(&self, key: &[u8], value: &[u8]) -> u128 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(key.len() as u64).to_le_bytes()).update(key).update(value);
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        u128::from_le_bytes(digest)
    }
}

impl Sum {
    const fn add(&mut self, digest: u128) {
        self.rows += 1;
        self.digest = self.digest.wrapping_add(digest);
    }
}

/// Reads a whole family in the order of its keys, whatever prefixes they have.
fn all<'a>(db: &'a DB, name: &str) -> Result<DBIterator<'a>, LedgerError> {
    let mut options = ReadOptions::default();
    options.set_total_order_seek(true);
    options.fill_cache(false);
    Ok(db.iterator_cf_opt(family(db, name)?, options, IteratorMode::Start))
}
