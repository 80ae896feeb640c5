//! Every entry against chain and tree, on all cores.
//!
//! The log is cut into segments of whole tiles. A segment is checked by itself, given the entry before it; what it
//! gives is put together in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use rocksdb::{DB, Direction, IteratorMode, ReadOptions};

use super::{Class, Report, VerifyFailure};
use crate::authority::{AUTHORITY_KINDS, Authority};
use crate::chain::Link;
use crate::entry::{EntryView, Frame, VERSION};
use crate::merkle::{self, Frontier, Hash};
use crate::store::TILE_LEVELS;
use crate::store::error::LedgerError;
use crate::store::families::{self, family};
use crate::store::postings::BLOCK;
use crate::store::tree::StoredNodes;

/// Entries of a segment: whole tiles.
pub(super) const SEGMENT: u64 = 64 * BLOCK;

/// What is known beforehand.
pub(super) struct Given<'a> {
    pub(super) db: &'a DB,
    /// The keys and origins that the ledger was opened with.
    pub(super) authority: &'a Authority,
    /// What the first entry must have as its `prev`.
    pub(super) genesis: Link,
    /// Entries to check.
    pub(super) size: u64,
    /// Link that the last entry must lead to, where it is known.
    pub(super) last_link: Option<String>,
    /// Sizes, ascending, at which the root is wanted.
    pub(super) sizes: &'a [u64],
}

/// What the pass found, besides failures.
pub(super) struct Found {
    /// The root, if every entry could be read.
    pub(super) root: Option<Hash>,
    /// Roots at the sizes that were asked for, as far as the entries could be read.
    pub(super) roots: BTreeMap<u64, Hash>,
    /// The keys and origins as the entries themselves tell them; as far as they do.
    pub(super) authority: Option<Authority>,
}

/// Checks all entries.
pub(super) fn check(
    given: &Given<'_>,
    threads: usize,
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
) -> Result<Found, LedgerError> {
    let segments = given.size.div_ceil(SEGMENT);
    let next = AtomicU64::new(0);
    let (results, finished) = channel();
    let mut whole = Whole::new(given)?;
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (results, next) = (results.clone(), &next);
            scope.spawn(move || {
                loop {
                    let segment = next.fetch_add(1, Ordering::Relaxed);
                    if segment >= segments || results.send((segment, Segment::check(given, segment))).is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(results);
        let mut waiting = BTreeMap::new();
        for (number, segment) in finished {
            waiting.insert(number, segment);
            while let Some(segment) = waiting.remove(&whole.segments) {
                whole.add(segment?, report);
                progress(report.entries);
            }
        }
        Ok(())
    })
    .and_then(|()| whole.finish(report))
}

/// One segment by itself.
#[derive(Default)]
struct Segment {
    entries: u64,
    bytes: u64,
    failures: Vec<VerifyFailure>,
    /// Hashes of its complete tiles.
    tiles: Vec<Hash>,
    /// Leaves behind the last complete tile.
    rest: Frontier,
    /// Root of the leaves behind the last complete tile below each size that was asked for.
    marks: Vec<(u64, Hash)>,
    first_ts: Vec<u8>,
    last_ts: Vec<u8>,
    /// Entries about keys.
    about_keys: Vec<(u64, Vec<u8>)>,
    last: Option<Link>,
    complete: bool,
}

impl Segment {
    fn check(given: &Given<'_>, number: u64) -> Result<Self, LedgerError> {
        let (first, end) = (number * SEGMENT, given.size.min((number + 1) * SEGMENT));
        let entries = family(given.db, families::ENTRIES)?;
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end.to_be_bytes());
        options.fill_cache(false);
        let mut this = Self::default();
        let mut links = Links::default();
        let mut prev = match first.checked_sub(1) {
            None => Some(given.genesis),
            // One that cannot be read is told by the segment that it belongs to.
            Some(before) => given
                .db
                .get_pinned_cf(entries, before.to_be_bytes())
                .ok()
                .flatten()
                .map(|e| Link::of_entry(&e)),
        };
        let mut sizes =
            given.sizes.iter().copied().filter(|size| (first + 1..=end).contains(size)).peekable();
        let mode = IteratorMode::From(&first.to_be_bytes()[..], Direction::Forward);
        let rows = given.db.iterator_cf_opt(entries, options, mode);
        let mut seq = first;
        for row in rows {
            let (key, entry) = match row {
                Ok(row) => row,
                Err(error) => {
                    this.fail(Some(seq), Class::Entry, format!("cannot be read: {error}"));
                    break;
                }
            };
            if families::seq_of_key(&key) != Some(seq) {
                break;
            }
            this.entry(given, seq, &entry, prev, &mut links);
            prev = Some(Link::of_entry(&entry));
            seq += 1;
            if sizes.next_if_eq(&seq).is_some() {
                let rest = if this.rest.size() == 0 { None } else { Some(this.rest.root()) };
                this.marks.push((seq, rest.unwrap_or_else(merkle::empty_root)));
            }
        }
        this.complete = seq == end;
        if !this.complete && !this.failures.iter().any(|failure| failure.seq == Some(seq)) {
            this.fail(Some(seq), Class::Entry, "is missing".to_owned());
        }
        if this.complete
            && end == given.size
            && given.last_link.is_some()
            && prev.map(|l| l.to_string()) != given.last_link
        {
            links.broken(end);
        }
        this.name(&links, first);
        this.last = prev;
        Ok(this)
    }

    fn entry(&mut self, given: &Given<'_>, seq: u64, entry: &[u8], prev: Option<Link>, links: &mut Links) {
        self.entries += 1;
        self.bytes += entry.len() as u64;
        let origin = given.authority.origin_of_entry(seq);
        let ts = match prev.and_then(|prev| Frame::of(entry, seq, &prev, origin)) {
            Some(frame) => {
                if AUTHORITY_KINDS.iter().any(|kind| kind.as_bytes() == frame.kind) {
                    self.about_keys.push((seq, entry.to_vec()));
                }
                Some(frame.ts.to_vec())
            }
            None => self.members(given, seq, entry, prev, links),
        };
        if let Some(ts) = ts {
            if self.first_ts.is_empty() {
                self.first_ts.clone_from(&ts);
            }
            if ts < self.last_ts {
                self.fail(
                    Some(seq),
                    Class::Entry,
                    "its time is before that of the entry before it".to_owned(),
                );
            }
            self.last_ts = ts;
        }
        self.rest.push(merkle::leaf_hash(entry), |_, _, _| {});
        if self.rest.size() == BLOCK {
            self.tiles.push(self.rest.root());
            self.rest = Frontier::default();
        }
    }

    /// Says what is wrong with an entry that does not look as it must, if anything is; returns its time.
    fn members(
        &mut self,
        given: &Given<'_>,
        seq: u64,
        entry: &[u8],
        prev: Option<Link>,
        links: &mut Links,
    ) -> Option<Vec<u8>> {
        let view = match EntryView::parse(entry) {
            Ok(view) => view,
            Err(error) => {
                self.fail(Some(seq), Class::Entry, error.to_string());
                return None;
            }
        };
        if view.seq != seq.to_string() {
            self.fail(Some(seq), Class::Entry, format!("it says that it is entry {}", view.seq));
        }
        if AUTHORITY_KINDS.contains(&&*view.kind) {
            self.about_keys.push((seq, entry.to_vec()));
        }
        if view.origin != given.authority.origin_of_entry(seq) {
            self.fail(Some(seq), Class::Entry, format!("it belongs to log `{}`", view.origin));
        }
        if prev.is_some_and(|prev| view.prev != prev.to_string()) {
            links.broken(seq);
        }
        if view.v != VERSION || view.sd_alg != "sha-256" {
            let detail = format!("it has version {} and disclosures under `{}`", view.v, view.sd_alg);
            self.fail(Some(seq), Class::Entry, detail);
        }
        if view.ts_ns().is_none() {
            self.fail(Some(seq), Class::Entry, "it has no valid time".to_owned());
            return None;
        }
        Some(view.ts.as_bytes().to_vec())
    }

    fn fail(&mut self, seq: Option<u64>, class: Class, detail: String) {
        self.failures.push(VerifyFailure { seq, class, detail });
    }

    /// Names the entry behind each broken link. A link is broken by a change of the entry that it leads to or of the
    /// one that holds it; the second breaks the link to the next entry as well.
    fn name(&mut self, links: &Links, first: u64) {
        let mut broken = links.0.iter().copied().peekable();
        while let Some(at) = broken.next() {
            let (named, detail) = if broken.next_if_eq(&(at + 1)).is_some() {
                (at, "it is not linked to the entry before it, nor the entry after it to this one")
            } else {
                (at.saturating_sub(1).max(first.saturating_sub(1)), "the entry after it is not linked to it")
            };
            if !self.failures.iter().any(|failure| failure.seq == Some(named)) {
                self.fail(Some(named), Class::Chain, detail.to_owned());
            }
        }
    }
}

/// Positions whose `prev` is not the link to the entry before, ascending; the size of the log stands for the link that
/// the lock holds.
#[derive(Default)]
struct Links(Vec<u64>);

impl Links {
    fn broken(&mut self, seq: u64) {
        self.0.push(seq);
    }
}

/// What the segments before gave.
struct Whole<'a, 'b> {
    given: &'a Given<'b>,
    nodes: StoredNodes<'b>,
    segments: u64,
    /// Tree over the hashes of complete tiles.
    tiles: Frontier,
    rest: Option<Hash>,
    roots: BTreeMap<u64, Hash>,
    last_ts: Vec<u8>,
    about_keys: Vec<(u64, Vec<u8>)>,
    complete: bool,
}

impl<'a, 'b> Whole<'a, 'b> {
    fn new(given: &'a Given<'b>) -> Result<Self, LedgerError> {
        Ok(Self {
            given,
            nodes: StoredNodes::new(given.db)?,
            segments: 0,
            tiles: Frontier::default(),
            rest: None,
            roots: BTreeMap::new(),
            last_ts: Vec::new(),
            about_keys: Vec::new(),
            complete: true,
        })
    }

    fn add(&mut self, segment: Segment, report: &mut Report) {
        let first = self.segments * SEGMENT;
        self.segments += 1;
        report.entries += segment.entries;
        report.bytes += segment.bytes;
        if segment.first_ts < self.last_ts {
            report.fail(Some(first), Class::Entry, "its time is before that of the entry before it");
        }
        for failure in segment.failures {
            report.failure(failure);
        }
        self.about_keys.extend(segment.about_keys);
        if !segment.last_ts.is_empty() {
            self.last_ts = segment.last_ts;
        }
        let mut marks = segment.marks.into_iter().peekable();
        // Beyond an entry that cannot be read nothing can be said about the tree.
        if !self.complete {
            return;
        }
        for tile in segment.tiles {
            self.marks(&mut marks);
            self.tile(tile, report);
        }
        self.marks(&mut marks);
        self.rest = (segment.rest.size() > 0).then(|| segment.rest.root());
        self.complete = segment.complete;
    }

    /// Computes the roots at sizes that lie in the tile which comes next, or at its start.
    fn marks(&mut self, marks: &mut std::iter::Peekable<impl Iterator<Item = (u64, Hash)>>) {
        let start = self.tiles.size() * BLOCK;
        // A size at the end of a tile was marked before the tile was counted: its rest is empty.
        while let Some((size, rest)) = marks.next_if(|(size, _)| *size < start + BLOCK) {
            let rest = (size > start).then_some(rest);
            self.roots.insert(size, self.tiles.root_with(rest));
        }
    }

    fn tile(&mut self, tile: Hash, report: &mut Report) {
        let mut complete: Vec<(u32, u64, Hash)> = Vec::new();
        self.tiles.push(tile, |level, index, hash| {
            if level.is_multiple_of(TILE_LEVELS) {
                complete.push((level + TILE_LEVELS, index, *hash));
            }
        });
        for (level, index, hash) in complete {
            let last = ((index + 1) << level) - 1;
            match self.nodes.stored(level, index) {
                Ok(stored) if stored == hash => {}
                Ok(stored) => {
                    let detail = format!("stored hash {index} of level {level} is {stored}, computed {hash}");
                    report.fail(Some(last), Class::Tree, detail);
                }
                Err(error) => report.fail(Some(last), Class::Tree, error.to_string()),
            }
        }
    }

    fn finish(self, report: &mut Report) -> Result<Found, LedgerError> {
        let root = self.complete.then(|| self.tiles.root_with(self.rest));
        // Tree hashes of tiles that do not exist yet would be taken for the real ones later.
        let tiles = family(self.given.db, families::TILES)?;
        let mut level = TILE_LEVELS;
        while self.complete && level < u64::BITS {
            let beyond = families::tile_key(level, self.given.size >> level);
            let mut options = ReadOptions::default();
            options.set_iterate_upper_bound(families::tile_key(level + 1, 0));
            let mode = IteratorMode::From(&beyond, Direction::Forward);
            if let Some(Ok((key, _))) = self.given.db.iterator_cf_opt(tiles, options, mode).next() {
                self.beyond(&key, level, report);
            }
            level += TILE_LEVELS;
        }
        let authority = self.authority(report);
        Ok(Found { root, roots: self.roots, authority })
    }

    /// Derives the keys from the entries alone. Those that the ledger was opened with were found by an index.
    fn authority(&self, report: &mut Report) -> Option<Authority> {
        let told = self.about_keys.iter().map(|(seq, entry)| (*seq, entry.as_slice()));
        match Authority::fold(told) {
            Ok(authority) => {
                if authority != *self.given.authority {
                    let detail = "the index of types hides an entry about keys, or names one that is none";
                    report.fail(None, Class::Index, detail);
                }
                Some(authority)
            }
            // A first entry that cannot be read is told already.
            Err(_) if self.about_keys.is_empty() && !report.failures.is_empty() => None,
            Err(error) => {
                report.fail(Some(error.seq), Class::Key, error.detail);
                None
            }
        }
    }

    fn beyond(&self, key: &[u8], level: u32, report: &mut Report) {
        let index = families::seq_of_key(key).unwrap_or_default();
        // A ledger that is written while it is verified has more than was looked at.
        let entries = family(self.given.db, families::ENTRIES);
        let last = ((index.saturating_add(1)) << level).saturating_sub(1);
        let there =
            entries.and_then(|family| Ok(self.given.db.get_pinned_cf(family, last.to_be_bytes())?.is_some()));
        if !matches!(there, Ok(true)) {
            report.fail(
                None,
                Class::Tree,
                format!("hash {index} of level {level} is over entries that do not exist"),
            );
        }
    }
}
