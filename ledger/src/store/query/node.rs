//! Conditions as streams of blocks, which seek.

use std::collections::BTreeMap;

use rocksdb::{DB, DBRawIterator, ReadOptions};

use super::bits::Bits;
use super::{Order, Reads};
use crate::store::error::LedgerError;
use crate::store::families::{self, family};
use crate::store::postings::{self, Offsets};

/// Direction of a query, its blocks, and what it read.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) order: Order,
    /// First and last block.
    pub(super) blocks: (u64, u64),
    pub(super) reads: Reads,
}

impl Scan {
    /// Tells whether one block comes before another.
    fn before(&self, a: u64, b: u64) -> bool {
        match self.order {
            Order::Oldest => a < b,
            Order::Newest => a > b,
        }
    }

    /// Returns the block behind one, if there is another.
    pub(super) fn beyond(&self, block: u64) -> Option<u64> {
        match self.order {
            Order::Oldest => block.checked_add(1).filter(|next| *next <= self.blocks.1),
            Order::Newest => block.checked_sub(1).filter(|next| *next >= self.blocks.0),
        }
    }
}

/// A block and the positions in it that fulfil a condition.
type Found = Option<(u64, Bits)>;

/// A condition.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// Whatever is there.
    Every,
    /// A term of an index.
    Term(Box<Term<'a>>),
    /// Positions that are known.
    Set(BTreeMap<u64, Bits>),
    /// One of several.
    Any(Vec<Node<'a>>),
    /// All of several.
    All(Vec<Node<'a>>),
}

impl Node<'_> {
    /// Finds the first block from `from` on in which something fulfils the condition. Blocks are asked for in order.
    pub(super) fn at(&mut self, from: u64, scan: &mut Scan) -> Result<Found, LedgerError> {
        match self {
            Self::Every => Ok(Some((from, Bits::ALL))),
            Self::Term(term) => term.at(from, scan),
            Self::Set(blocks) => {
                let found = match scan.order {
                    Order::Oldest => blocks.range(from..).next(),
                    Order::Newest => blocks.range(..=from).next_back(),
                };
                Ok(found.map(|(block, bits)| (*block, *bits)))
            }
            Self::Any(nodes) => {
                let mut first: Found = None;
                for node in nodes {
                    let Some((block, bits)) = node.at(from, scan)? else { continue };
                    first = match first {
                        Some((best, united)) if best == block => Some((best, united.or(bits))),
                        Some((best, united)) if scan.before(best, block) => Some((best, united)),
                        _ => Some((block, bits)),
                    };
                }
                Ok(first)
            }
            Self::All(nodes) => Self::all(nodes, from, scan),
        }
    }

    fn all(nodes: &mut [Self], from: u64, scan: &mut Scan) -> Result<Found, LedgerError> {
        let mut from = from;
        'again: loop {
            let mut common = Bits::ALL;
            for node in &mut *nodes {
                let Some((block, bits)) = node.at(from, scan)? else { return Ok(None) };
                if block != from {
                    // Nothing before it can fulfil all of them.
                    from = block;
                    continue 'again;
                }
                common = common.and(bits);
                if common.is_empty() {
                    let Some(next) = scan.beyond(from) else { return Ok(None) };
                    from = next;
                    continue 'again;
                }
            }
            return Ok(Some((from, common)));
        }
    }
}

/// The rows of one term.
pub(super) struct Term<'a> {
    /// None before there are any.
    rows: Option<DBRawIterator<'a>>,
    /// Start of their keys.
    start: Vec<u8>,
    /// The row that was read last.
    present: Found,
    started: bool,
    /// What there is of it in the block that grows, which is the last.
    in_tail: Found,
}

impl std::fmt::Debug for Term<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Term").field("start", &self.start).finish_non_exhaustive()
    }
}

impl<'a> Term<'a> {
    /// Prepares to read the rows of a term between two blocks, both included, and what there is of it in the block that
    /// grows.
    pub(super) fn new(
        db: &'a DB,
        start: Vec<u8>,
        blocks: Option<(u64, u64)>,
        in_tail: Option<(u64, Bits)>,
    ) -> Result<Self, LedgerError> {
        let mut rows = None;
        if let Some((first, last)) = blocks.filter(|(first, last)| first <= last) {
            let mut options = ReadOptions::default();
            options.set_iterate_lower_bound(postings::key(&start, first));
            options.set_iterate_upper_bound(postings::key(&start, last.saturating_add(1)));
            rows = Some(db.raw_iterator_cf_opt(family(db, families::POSTINGS)?, options));
        }
        Ok(Self { rows, start, present: None, started: false, in_tail })
    }

    fn at(&mut self, from: u64, scan: &mut Scan) -> Result<Found, LedgerError> {
        let in_tail = self.in_tail.filter(|(block, _)| !scan.before(*block, from));
        match scan.order {
            Order::Newest if in_tail.is_some() => Ok(in_tail),
            Order::Newest => self.in_rows(from, scan),
            Order::Oldest => Ok(self.in_rows(from, scan)?.or(in_tail)),
        }
    }

    fn in_rows(&mut self, from: u64, scan: &mut Scan) -> Result<Found, LedgerError> {
        if !self.started {
            self.started = true;
            self.seek(from, scan)?;
        } else if self.is_behind(from, scan) {
            // The next row is most often the one; a seek costs several times as much.
            if let Some(rows) = &mut self.rows {
                match scan.order {
                    Order::Oldest => rows.next(),
                    Order::Newest => rows.prev(),
                }
            }
            self.read(scan)?;
            if self.is_behind(from, scan) {
                self.seek(from, scan)?;
            }
        }
        Ok(self.present)
    }

    fn is_behind(&self, from: u64, scan: &Scan) -> bool {
        self.present.is_some_and(|(block, _)| scan.before(block, from))
    }

    fn seek(&mut self, from: u64, scan: &mut Scan) -> Result<(), LedgerError> {
        let key = postings::key(&self.start, from);
        if let Some(rows) = &mut self.rows {
            match scan.order {
                Order::Oldest => rows.seek(key),
                Order::Newest => rows.seek_for_prev(key),
            }
        }
        self.read(scan)
    }

    fn read(&mut self, scan: &mut Scan) -> Result<(), LedgerError> {
        let Some(rows) = &self.rows else { return Ok(()) };
        let Some((key, row)) = rows.item() else {
            rows.status()?;
            self.present = None;
            return Ok(());
        };
        scan.reads.rows += 1;
        let parsed = postings::split_key(key).zip(Offsets::parse(row));
        let ((_, block), offsets) =
            parsed.filter(|((start, _), _)| *start == self.start).ok_or_else(|| LedgerError::Damaged {
                place: format!("row of `{}`", families::POSTINGS),
                detail: "cannot be read; rebuild the indexes".to_owned(),
            })?;
        self.present = Some((block, Bits::of(&offsets)));
        Ok(())
    }
}
