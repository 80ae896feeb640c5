//! Every entry against chain and tree, on all cores.
//!
//! The log is cut into segments of whole tiles. A segment is checked by itself, given the entry before it; what it
//! gives is put together in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// Ends the work early.
    pub(super) stop: &'a AtomicBool,
}

/// What the pass found, besides failures.
pub(super) struct Found {
    /// The root, if every entry could be read.
    pub(super) root: Option<Hash>,
    /// Roots at the sizes that were asked for, as far as the entries could be read.
    pub(super) roots: BTreeMap<u64, Hash>,
    /// The keys and origins as the entries themselves tell them; as far as they do.
    pub(super) authority: Option<Authority>,
    /// Link to the last entry, if it could be read.
    pub(super) last: Option<Link>,
}

/// Checks all entries.
pub(super) fn check(
    given: &Given<'_>,
    threads: usize,
    report: &mut Report,
    progress: &mut dyn FnMut(u64),
) -> Result<Found, LedgerError> {
    let segments = given.size.div_ceil(SEGMENT);
    let (next, empty) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let (results, finished) = channel();
    let mut whole = Whole::new(given)?;
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (results, next, empty) = (results.clone(), &next, &empty);
            scope.spawn(move || {
                loop {
                    let segment = next.fetch_add(1, Ordering::Relaxed);
                    // Behind a segment without a single entry nothing is looked at: a forged size may be any number.
                    if segment >= segments || segment > empty.load(Ordering::Relaxed) {
                        return;
                    }
                    let checked = super::go_on(given.stop).and_then(|()| Segment::check(given, segment));
                    if checked.as_ref().is_ok_and(|checked| checked.entries == 0) {
                        empty.fetch_min(segment, Ordering::Relaxed);
                    }
                    if results.send((segment, checked)).is_err() {
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
    links: Links,
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
        this.links = links;
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
            // An entry that is not linked to the one before it is told by that; what time it names says no more.
            if ts < self.last_ts && !links.is_broken(seq) {
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
        // One that does not belong here says nothing about the entry before it.
        let belongs = self.failures.last().is_none_or(|failure| failure.seq != Some(seq));
        if belongs && prev.is_some_and(|prev| view.prev != prev.to_string()) {
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
}

/// Positions whose `prev` is not the link to the entry before, ascending; the size of the log stands for the link that
/// the lock holds.
#[derive(Default)]
struct Links(Vec<u64>);

impl Links {
    fn broken(&mut self, seq: u64) {
        self.0.push(seq);
    }

    fn is_broken(&self, seq: u64) -> bool {
        self.0.last() == Some(&seq)
    }

    /// Names the entry behind each broken link. A link is broken by a change of the entry that it leads to or of the
    /// one that holds it; the second breaks the link to the next entry as well. One link alone that is broken, when
    /// the last entry is not the acknowledged one either, is where other entries were put in the place of the rest.
    fn name(&self, size: u64, report: &mut Report) {
        let end = self.0.last() == Some(&size);
        let mut broken = self.0.iter().copied().peekable();
        while let Some(at) = broken.next() {
            let before = at.saturating_sub(1);
            let (named, class, detail) = if broken.next_if_eq(&(at + 1)).is_some() {
                let detail = "it is not linked to the entry before it, nor the entry after it to this one";
                (at, Class::Chain, detail)
            } else if at == size {
                // Only the lock speaks against it: whether it alone was changed or others before it too, roots tell.
                (before, Class::Forked, "it is not the entry that was acknowledged at its position")
            } else if end && broken.peek() == Some(&size) {
                (
                    at,
                    Class::Chain,
                    "it and all after it are not those that were acknowledged after the entry before",
                )
            } else {
                (before, Class::Chain, "the entry after it is not linked to it")
            };
            if !report.failures.iter().any(|failure| failure.seq == Some(named)) {
                report.fail(Some(named), class, detail);
            }
        }
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
    last: Option<Link>,
    links: Links,
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
            last: None,
            links: Links::default(),
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
        self.links.0.extend(segment.links.0);
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
        self.last = segment.last;
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
                Ok(stored) if stored == hash => report.tree_hashes += 1,
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
        self.links.name(self.given.size, report);
        self.check_beyond(report)?;
        let authority = self.authority(report);
        let last = self.last.filter(|_| self.complete);
        Ok(Found { root, roots: self.roots, last, authority })
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

    /// Looks for tree hashes of tiles that do not exist yet, which would be taken for the real ones later, and for rows
    /// that are none.
    fn check_beyond(&self, report: &mut Report) -> Result<(), LedgerError> {
        let db = self.given.db;
        let mut rows = db.raw_iterator_cf(family(db, families::TILES)?);
        rows.seek_to_first();
        while let Some(key) = rows.key() {
            let parsed =
                <[u8; 9]>::try_from(key).ok().map(|key| (u32::from(key[0]), families::seq_of_key(&key)));
            match parsed {
                Some((level, Some(index)))
                    if level > 0 && level < u64::BITS && level.is_multiple_of(TILE_LEVELS) =>
                {
                    // Those below were looked up. A ledger that is written meanwhile has more than was looked at.
                    let last = (u128::from(index) + 1) << level;
                    let last = u64::try_from(last).ok().and_then(|end| end.checked_sub(1));
                    let there = last.map_or(Ok(false), |last| super::strays::has_entry(db, last));
                    if index >= self.given.size >> level && !matches!(there, Ok(true)) {
                        let detail =
                            format!("hash {index} of level {level} is over entries that do not exist");
                        report.fail(None, Class::Tree, detail);
                    }
                }
                _ => report.fail(None, Class::Tree, "a row of `tiles` is no hash of a stored level"),
            }
            rows.next();
        }
        rows.status().or_else(|error| {
            report.fail(None, Class::Tree, format!("`tiles`: {error}"));
            Ok(())
        })
    }
}
