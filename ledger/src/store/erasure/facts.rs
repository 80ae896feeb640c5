//! What the log says was erased.

use std::collections::BTreeSet;
use std::ops::Range;

use rocksdb::{DB, Direction, IteratorMode, ReadOptions};
use serde_json::Value;

use super::{PAYLOAD_ERASED, Parsed};
use crate::entry::VERSION;
use crate::id::Digest;
use crate::store::Ledger;
use crate::store::error::LedgerError;
use crate::store::families::{self, family};
use crate::store::postings::{self, Offsets};
use crate::store::tail;
use crate::store::terms::Tag;

/// A value that an entry says was erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct ErasedValue {
    /// Entry that it belonged to.
    pub(in crate::store) seq: u64,
    /// Where it stood.
    pub(in crate::store) pointer: String,
    /// Digest that commits to it.
    pub(in crate::store) digest: String,
}

/// What one `payload.erased` entry lists.
pub(in crate::store) struct Erased {
    pub(in crate::store) values: Vec<ErasedValue>,
    pub(in crate::store) bodies: Vec<Digest>,
}

impl Erased {
    fn of(parsed: &Parsed) -> Self {
        let values = parsed.body.get("values").and_then(Value::as_object).into_iter().flatten();
        let values = values.filter_map(|(seq, values)| Some((seq.parse().ok()?, values.as_object()?)));
        let values = values.flat_map(|(seq, values)| {
            values.iter().filter_map(move |(pointer, digest)| {
                let digest = digest.as_str()?.to_owned();
                Some(ErasedValue { seq, pointer: pointer.clone(), digest })
            })
        });
        let bodies = parsed.body.get("bodies").and_then(Value::as_array).into_iter().flatten();
        let bodies = bodies.filter_map(|digest| digest.as_str()?.parse().ok());
        Self { values: values.collect(), bodies: bodies.collect() }
    }
}

/// Reads every `payload.erased` entry of a database, also one that is not acknowledged yet: what it says is gone is
/// gone, as it was written with it.
pub(in crate::store) fn each_erased(
    db: &DB,
    mut each: impl FnMut(u64, Erased) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let start = Tag::Kind.key(PAYLOAD_ERASED.as_bytes());
    let entries = family(db, families::ENTRIES)?;
    let mode = IteratorMode::From(&start, Direction::Forward);
    let tail = tail::read_all(db)?;
    let mut lists = Vec::new();
    for row in db.iterator_cf(family(db, families::POSTINGS)?, mode) {
        let (key, row) = row?;
        let Some((_, block)) = postings::split_key(&key).filter(|(found, _)| *found == start) else { break };
        // Earlier versions wrote rows of the block that grows too: it is told once.
        if block >= tail.block() {
            break;
        }
        // A row that cannot be read is damage, which a verification names.
        lists.extend(Offsets::parse(&row).map(|offsets| (block, offsets)));
    }
    lists.extend(tail.offsets(&start).map(|offsets| (tail.block(), offsets.clone())));
    for (block, offsets) in lists {
        for seq in offsets.positions(block) {
            let Some(entry) = db.get_pinned_cf(entries, seq.to_be_bytes())? else { continue };
            let parsed = Parsed::parse(seq, &entry)?;
            if parsed.kind == PAYLOAD_ERASED {
                each(seq, Erased::of(&parsed))?;
            }
        }
    }
    Ok(())
}

/// Tells whether one of these entries records an erasure; by the entries themselves, which no reader sees an older form of.
pub(in crate::store) fn is_recorded(db: &DB, range: Range<u64>) -> Result<bool, LedgerError> {
    let last_members = format!("\"type\":\"{PAYLOAD_ERASED}\",\"v\":{VERSION}}}");
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(range.end.to_be_bytes());
    let start = range.start.to_be_bytes();
    let mode = IteratorMode::From(&start, Direction::Forward);
    for row in db.iterator_cf_opt(family(db, families::ENTRIES)?, options, mode) {
        if row?.1.ends_with(last_members.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads which raw bodies were erased.
pub(in crate::store) fn erased_bodies(db: &DB) -> Result<BTreeSet<Digest>, LedgerError> {
    let mut bodies = BTreeSet::new();
    each_erased(db, |_, erased| {
        bodies.extend(erased.bodies);
        Ok(())
    })?;
    Ok(bodies)
}

/// Why a value or a raw body is gone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ErasureNote {
    /// `payload.erased` entry that says so.
    pub seq: u64,
    /// When it was written, receiver's clock.
    pub ts_ns: u64,
    /// JSON pointer of the value; none for the raw body.
    pub pointer: Option<String>,
    /// Legal basis.
    pub legal_basis: String,
    /// Reason.
    pub reason: String,
    /// Who did it, while that is known.
    pub by: Option<String>,
}

impl Ledger {
    /// Says what was erased of an entry, when, by whom and why. It reads every `payload.erased` entry.
    pub fn erasures_of(&self, seq: u64, body: Option<&Digest>) -> Result<Vec<ErasureNote>, LedgerError> {
        let mut notes = Vec::new();
        for at in self.find_kind(PAYLOAD_ERASED)? {
            let erased = Erased::of(&Parsed::read(self, at)?);
            let values = erased.values.into_iter().filter(|value| value.seq == seq);
            let mut gone: Vec<Option<String>> = values.map(|value| Some(value.pointer)).collect();
            if body.is_some_and(|body| erased.bodies.contains(body)) {
                gone.push(None);
            }
            if gone.is_empty() {
                continue;
            }
            let Some(record) = self.record(at)? else { continue };
            let text = |name: &str| record.body.get(name).and_then(Value::as_str).map(str::to_owned);
            for pointer in gone {
                notes.push(ErasureNote {
                    seq: at,
                    ts_ns: record.ts_ns,
                    pointer,
                    legal_basis: text("legal_basis").unwrap_or_default(),
                    reason: text("reason").unwrap_or_default(),
                    by: text("by"),
                });
            }
        }
        Ok(notes)
    }
}
