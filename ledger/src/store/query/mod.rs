//! Finding entries by what was said: the rows of the indexes, united and intersected block by block.
//!
//! Every condition is a stream of blocks of 256 positions, each with the set of those that fulfil it. A field unites
//! its values, a query intersects its fields, and whoever is behind seeks to whoever is ahead. So a query reads index
//! rows where all its fields may agree, and no entry at all but the few that find a time by bisection.

mod bits;
mod node;
mod plan;

use std::ops::Range;

pub use plan::QueryError;

use self::bits::Bits;
use self::node::{Node, Scan};
use super::Ledger;
use super::error::LedgerError;
use super::postings::BLOCK;
use crate::id::TraceId;

/// Conditions on entries: all fields must be fulfilled, each by one of its values. A field without values asks nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Idempotency keys.
    pub ids: Vec<String>,
    /// Traces.
    pub traces: Vec<TraceId>,
    /// Agent names, or ids of agents without a name.
    pub agents: Vec<String>,
    /// Action names.
    pub tools: Vec<String>,
    /// Recorded effects.
    pub effects: Vec<String>,
    /// Rules that determined a recorded decision.
    pub rules: Vec<String>,
    /// Sessions.
    pub sessions: Vec<String>,
    /// Users whose disclosed values an entry holds.
    pub users: Vec<User>,
    /// Texts: every word of one must have been said in the clear (reason, code, names, type of the error).
    pub texts: Vec<String>,
    /// Entry types.
    pub kinds: Vec<String>,
    /// Not received before this, in Unix nanoseconds.
    pub since_ns: Option<u64>,
    /// Received before this, in Unix nanoseconds.
    pub until_ns: Option<u64>,
    /// Positions; open at the end that is not given.
    pub first_seq: Option<u64>,
    /// One past the last position.
    pub end_seq: Option<u64>,
}

/// A user, inside a tenant where the events name one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Tenant.
    pub tenant: Option<String>,
    /// User.
    pub user: String,
}

/// Direction of a query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// From the end of the log.
    #[default]
    Newest,
    /// From its start.
    Oldest,
}

/// What a query has read so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reads {
    /// Index rows.
    pub rows: u64,
    /// Entries, to find times.
    pub entries: u64,
}

/// The positions that a query finds, in order; it ends after the first error.
#[derive(Debug)]
pub struct Matches<'a> {
    root: Node<'a>,
    scan: Scan,
    /// Positions that are asked for.
    range: Range<u64>,
    /// Next block to look at.
    next: Option<u64>,
    /// Positions of the present block that are still to come.
    block: u64,
    bits: Bits,
}

impl Ledger {
    /// Finds positions, as far as they are needed: reading on costs what it reads. `after` continues behind a position
    /// that an earlier call gave, in the same order.
    pub fn query(&self, query: &Query, order: Order, after: Option<u64>) -> Result<Matches<'_>, QueryError> {
        plan::plan(self, query, order, after)
    }
}

impl<'a> Matches<'a> {
    fn new(root: Node<'a>, scan: Scan, range: Range<u64>) -> Self {
        let next = (!range.is_empty()).then(|| match scan.order {
            Order::Oldest => range.start / BLOCK,
            Order::Newest => (range.end - 1) / BLOCK,
        });
        Self { root, scan, range, next, block: 0, bits: Bits::default() }
    }

    /// Tells what was read so far.
    pub const fn reads(&self) -> Reads {
        self.scan.reads
    }

    /// Moves to the next block in which something fulfils the query.
    fn advance(&mut self) -> Result<bool, LedgerError> {
        while let Some(from) = self.next {
            let Some((block, bits)) = self.root.at(from, &mut self.scan)? else {
                self.next = None;
                return Ok(false);
            };
            self.next = self.scan.beyond(block);
            self.block = block;
            self.bits = bits.within(block, &self.range);
            if !self.bits.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Iterator for Matches<'_> {
    type Item = Result<u64, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let offset = match self.scan.order {
                Order::Oldest => self.bits.take_lowest(),
                Order::Newest => self.bits.take_highest(),
            };
            if let Some(offset) = offset {
                return Some(Ok(self.block * BLOCK + u64::from(offset)));
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.next = None;
                    return Some(Err(error));
                }
            }
        }
    }
}
