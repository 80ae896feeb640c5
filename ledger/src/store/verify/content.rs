//! What stands beside the log, against the log, on all cores: the disclosed values of every entry, and the index rows
//! that the entries give.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use rocksdb::{DB, Direction, IteratorMode, ReadOptions};
use serde_json::{Map, Value};

use super::entries::SEGMENT;
use super::erasures::Erasures;
use super::indexes::{Expected, IndexCheck};
use super::{Class, Report, VerifyFailure, VerifyOptions, strays};
use crate::disclosure::{self, Hidden};
use crate::entry::EntryView;
use crate::id::Digest;
use crate::store::Ledger;
use crate::store::error::LedgerError;
use crate::store::families::{self, family};
use crate::store::postings::OpenBlock;
use crate::store::prepare::StatementBytes;
use crate::store::seal::Sealer;
use crate::store::terms::Terms;

/// Checks the first `size` entries.
pub(super) fn check(
    ledger: &Ledger,
    size: u64,
    options: &VerifyOptions,
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
) -> Result<(), LedgerError> {
    let inner = &ledger.inner;
    let sources = Sources {
        db: &inner.db,
        sealer: &inner.sealer,
        check: &IndexCheck::new(&inner.sealer)?,
        erasures: &Erasures::of(ledger)?,
    };
    let (next, empty) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let (results, finished) = channel();
    let mut expected = Expected::default();
    let (mut readable, mut done) = (true, 0);
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            let (results, next, empty, sources) = (results.clone(), &next, &empty, &sources);
            scope.spawn(move || {
                loop {
                    let first = next.fetch_add(1, Ordering::Relaxed).saturating_mul(SEGMENT);
                    let end = size.min(first.saturating_add(SEGMENT));
                    // As for the entries themselves.
                    if first >= size || first > empty.load(Ordering::Relaxed) {
                        return;
                    }
                    let part = super::go_on(&options.stop).and_then(|()| Part::check(sources, first, end));
                    if part.as_ref().is_ok_and(|part| part.entries == 0) {
                        empty.fetch_min(first, Ordering::Relaxed);
                    }
                    if results.send(part).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        for part in finished {
            let part = part?;
            report.disclosures += part.disclosures;
            report.withheld += part.withheld;
            readable &= part.readable;
            done += part.entries;
            expected.add(part.expected);
            for failure in part.failures {
                report.failure(failure);
            }
            progress(done);
        }
        Ok::<(), LedgerError>(())
    })?;
    check_strays(&inner.db, size, report)?;
    sources.erasures.check_gone(ledger, report)?;
    check_data_keys(&inner.db, &inner.sealer, report)?;
    // An entry that cannot be read gives no rows; that it cannot is in the report already.
    if readable && done == size {
        sources.check.finish(expected, &inner.db, size, report)?;
    }
    Ok(())
}

/// Looks for rows that belong to no position: those of entries that do not commit to them are found with the entries.
fn check_strays(db: &DB, size: u64, report: &mut Report) -> Result<(), LedgerError> {
    let mut rows = db.raw_iterator_cf(family(db, families::DISCLOSURES)?);
    rows.seek_to_first();
    while let Some(key) = rows.key() {
        match <[u8; 8]>::try_from(key).map(u64::from_be_bytes) {
            Err(_) => report.fail(None, Class::Disclosure, "a key is not a position"),
            Ok(seq) if seq >= size && !strays::has_entry(db, seq)? => {
                report.fail(
                    None,
                    Class::Disclosure,
                    format!("there are values of entry {seq}, which is not there"),
                );
            }
            Ok(_) => {}
        }
        rows.next();
    }
    if let Err(error) = rows.status() {
        report.fail(None, Class::Disclosure, error.to_string());
    }
    Ok(())
}

/// Checks that every data key can be unwrapped, also one that no value is sealed under any more.
fn check_data_keys(db: &DB, sealer: &Sealer, report: &mut Report) -> Result<(), LedgerError> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    for row in db.iterator_cf_opt(family(db, families::DATA_KEYS)?, options, IteratorMode::Start) {
        let (key, row) = row?;
        let checked = <[u8; 16]>::try_from(&*key)
            .map_err(|_| "a key of `data_keys` is not a subject".to_owned())
            .and_then(|subject| sealer.check_data_key(subject, &row).map_err(|error| error.to_string()));
        match checked {
            Ok(()) => report.data_keys += 1,
            Err(detail) => report.fail(None, Class::Disclosure, detail),
        }
    }
    Ok(())
}

/// What the entries are held against.
struct Sources<'a> {
    db: &'a DB,
    sealer: &'a Sealer,
    check: &'a IndexCheck,
    erasures: &'a Erasures,
}

/// What one segment gives.
struct Part {
    entries: u64,
    disclosures: u64,
    withheld: u64,
    readable: bool,
    expected: Expected,
    failures: Vec<VerifyFailure>,
    /// The raw body that was looked for last: the events of one body follow each other.
    last_blob: Option<Digest>,
}

impl Part {
    fn check(sources: &Sources<'_>, first: u64, end: u64) -> Result<Self, LedgerError> {
        let (db, check) = (sources.db, sources.check);
        let mut part = Self {
            entries: 0,
            disclosures: 0,
            withheld: 0,
            readable: true,
            expected: Expected::default(),
            failures: Vec::new(),
            last_blob: None,
        };
        let mut values = values_of(db, first, end)?;
        let mut open = OpenBlock::starting_at(first);
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end.to_be_bytes());
        options.fill_cache(false);
        let mode = IteratorMode::From(&first.to_be_bytes()[..], Direction::Forward);
        for row in db.iterator_cf_opt(family(db, families::ENTRIES)?, options, mode) {
            let Ok((key, entry)) = row else { break };
            let Some(seq) = families::seq_of_key(&key) else { break };
            part.entries += 1;
            let row = values.remove(&seq);
            if let Some(terms) = part.entry(sources, seq, &entry, row.as_deref())? {
                open.add(seq, &terms, |key, row| check.expect_posting(&mut part.expected, &key, &row));
            } else {
                part.readable = false;
            }
        }
        Ok(part)
    }

    /// Checks the disclosed values of an entry and adds up its index rows; `None` when it cannot be read.
    fn entry(
        &mut self,
        sources: &Sources<'_>,
        seq: u64,
        entry: &[u8],
        row: Option<&[u8]>,
    ) -> Result<Option<Terms>, LedgerError> {
        let (sealer, check) = (sources.sealer, sources.check);
        let Ok(view) = EntryView::parse(entry) else { return Ok(None) };
        let body: Map<String, Value> = match serde_json::from_str(view.body.get()) {
            Ok(body) => body,
            Err(error) => {
                self.fail(seq, Class::Entry, format!("its body cannot be read: {error}"));
                return Ok(None);
            }
        };
        let committed = disclosure::committed(&body);
        let hidden = row.and_then(|row| self.hidden(sealer, seq, row, &committed));
        let there = hidden.as_ref().map_or(0, |hidden| hidden.members.len() as u64);
        let gone = (committed.len() as u64).saturating_sub(there);
        if gone > 0 {
            self.withheld += gone;
            self.missing(sources.erasures, seq, &body, hidden.as_ref());
        }
        self.blob(sources, seq, &body)?;
        if let Some(id) = body.get("id").and_then(Value::as_str) {
            let id = sealer.index_digest(&[b"id", id.as_bytes()]);
            // With a value gone nobody can say what the digest of the content was.
            let content = (there == committed.len() as u64)
                .then(|| StatementBytes::of(&body).ok())
                .flatten()
                .map(|statement| {
                    statement.content(&view.kind, hidden.as_ref().unwrap_or(&Hidden::default()), sealer)
                });
            check.expect_id(&mut self.expected, &id, seq, content);
        }
        let subject = row.and_then(|row| Sealer::subject_of(row).ok());
        Ok(Some(Terms::of(&view.kind, &body, subject)))
    }

    /// Names the values that are gone and that no erasure explains.
    fn missing(&mut self, erasures: &Erasures, seq: u64, body: &Map<String, Value>, hidden: Option<&Hidden>) {
        // What is wrong with a row that is there was told already, and its values are not missing but damaged.
        if self.failures.last().is_some_and(|failure| failure.seq == Some(seq)) {
            return;
        }
        let there: Vec<String> = hidden.iter().flat_map(|h| h.members().map(|m| m.place.pointer())).collect();
        let listed = body.get(disclosure::MEMBERS).and_then(Value::as_array).map(Vec::as_slice);
        let gone: Vec<&str> = listed
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .filter(|pointer| !there.iter().any(|there| there == pointer))
            .filter(|pointer| !erasures.explain_value(seq, pointer))
            .collect();
        if !gone.is_empty() {
            let detail = format!(
                "the values of {} are gone, and no entry says that they were erased",
                gone.join(", ")
            );
            self.fail(seq, Class::Disclosure, detail);
        }
    }

    /// Checks that the raw body or archive that an entry names is there; what it holds is checked where it lies.
    fn blob(
        &mut self,
        sources: &Sources<'_>,
        seq: u64,
        body: &Map<String, Value>,
    ) -> Result<(), LedgerError> {
        let named = [body.get("source").and_then(|source| source.get("raw")), body.get("archive")];
        for digest in named.into_iter().flatten().filter_map(Value::as_str) {
            let Ok(digest) = digest.parse::<Digest>() else { continue };
            if self.last_blob == Some(digest) {
                continue;
            }
            self.last_blob = Some(digest);
            let blobs = family(sources.db, families::BLOBS)?;
            let there = sources.db.get_pinned_cf(blobs, digest.0)?.is_some();
            if !there && !sources.erasures.explain_blob(&digest) {
                let detail = format!("the raw body {digest} is gone, and no entry says that it was erased");
                self.fail(seq, Class::Blob, detail);
            }
        }
        Ok(())
    }

    /// Opens the disclosed values of an entry and checks each against what the entry commits to.
    fn hidden(&mut self, sealer: &Sealer, seq: u64, row: &[u8], committed: &[String]) -> Option<Hidden> {
        let hidden = match sealer.open(seq, row) {
            Ok(hidden) => hidden?,
            Err(error) => {
                self.disclosures += 1;
                self.fail(seq, Class::Disclosure, error.to_string());
                return None;
            }
        };
        for member in hidden.members() {
            self.disclosures += 1;
            if !committed.contains(&disclosure::digest(&member.encoded())) {
                let detail = format!(
                    "the value of `{}` is not the one that the entry commits to",
                    member.place.pointer()
                );
                self.fail(seq, Class::Disclosure, detail);
            }
        }
        Some(hidden)
    }

    fn fail(&mut self, seq: u64, class: Class, detail: String) {
        self.failures.push(VerifyFailure { seq: Some(seq), class, detail });
    }
}

/// Reads the rows of disclosed values of a segment.
fn values_of(db: &DB, first: u64, end: u64) -> Result<BTreeMap<u64, Box<[u8]>>, LedgerError> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(end.to_be_bytes());
    options.fill_cache(false);
    let mode = IteratorMode::From(&first.to_be_bytes()[..], Direction::Forward);
    let mut rows = BTreeMap::new();
    for row in db.iterator_cf_opt(family(db, families::DISCLOSURES)?, options, mode) {
        let (key, row) = row?;
        if let Ok(seq) = <[u8; 8]>::try_from(&*key) {
            rows.insert(u64::from_be_bytes(seq), row);
        }
    }
    Ok(rows)
}
