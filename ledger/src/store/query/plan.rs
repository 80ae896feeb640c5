//! From conditions to streams of blocks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::bits::Bits;
use super::node::{Node, Scan, Term};
use super::{Matches, Order, Query, Reads};
use crate::store::error::LedgerError;
use crate::store::postings::{BLOCK, OpenBlock};
use crate::store::terms::{self, Tag};
use crate::store::{Index, Ledger};

/// Most values of a query: each is an open place in an index.
const VALUES_MAX: usize = 256;

/// Why a query cannot be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// A text without a word that is indexed.
    #[error(
        "`{text}` has no word that is indexed: words are runs of 2 to 32 letters; numbers and identifiers are not indexed as words"
    )]
    NoWord {
        /// The text.
        text: String,
    },
    /// Too many conditions.
    #[error("the query has {got} values, more than the limit of {max}")]
    TooMany {
        /// Values.
        got: usize,
        /// Limit.
        max: usize,
    },
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

pub(super) fn plan<'a>(
    ledger: &'a Ledger,
    query: &Query,
    order: Order,
    after: Option<u64>,
) -> Result<Matches<'a>, QueryError> {
    let texts = query.texts.iter().map(|text| words(text)).collect::<Result<Vec<_>, _>>()?;
    let got = query.values() + texts.iter().map(Vec::len).sum::<usize>();
    if got > VALUES_MAX {
        return Err(QueryError::TooMany { got, max: VALUES_MAX });
    }
    let mut reads = Reads::default();
    let range = positions(ledger, query, order, after, &mut reads)?;
    let blocks = (range.start / BLOCK, range.end.saturating_sub(1) / BLOCK);
    let tail = ledger.inner.tail.at(&ledger.inner.db, ledger.head().size)?;
    let mut planner = Planner { ledger, tail, blocks, fields: Vec::new() };
    if !range.is_empty() {
        planner.ids(&query.ids, &mut reads)?;
        planner.terms(query.traces.iter().map(|trace| Tag::Trace.key(&trace.0)))?;
        let sealer = &ledger.inner.sealer;
        let user = |user: &super::User| sealer.user(user.tenant.as_deref().unwrap_or_default(), &user.user);
        planner.terms(query.users.iter().map(|who| Tag::Subject.key(&user(who))))?;
        let indexes = [
            (Index::Session, &query.sessions),
            (Index::Rule, &query.rules),
            (Index::Effect, &query.effects),
            (Index::Tool, &query.tools),
            (Index::Agent, &query.agents),
            (Index::Kind, &query.kinds),
        ];
        for (index, values) in indexes {
            planner
                .terms(values.iter().map(|value| index.tag().key(terms::indexed_text(value).as_bytes())))?;
        }
        planner.texts(&texts)?;
    }
    let mut fields = planner.fields;
    let root = match fields.len() {
        0 => Node::Every,
        1 => fields.remove(0),
        _ => Node::All(fields),
    };
    Ok(Matches::new(root, Scan { order, blocks, reads }, range))
}

impl Query {
    fn values(&self) -> usize {
        let texts =
            [&self.ids, &self.agents, &self.tools, &self.effects, &self.rules, &self.sessions, &self.kinds];
        texts.iter().map(|values| values.len()).sum::<usize>() + self.traces.len() + self.users.len()
    }
}

fn words(text: &str) -> Result<Vec<String>, QueryError> {
    let mut words: Vec<String> =
        terms::words(std::iter::once(text)).map(std::borrow::Cow::into_owned).collect();
    words.sort_unstable();
    words.dedup();
    if words.is_empty() { Err(QueryError::NoWord { text: text.to_owned() }) } else { Ok(words) }
}

/// Works out which positions are asked for.
fn positions(
    ledger: &Ledger,
    query: &Query,
    order: Order,
    after: Option<u64>,
    reads: &mut Reads,
) -> Result<Range<u64>, LedgerError> {
    let size = ledger.head().size;
    let mut start = query.first_seq.unwrap_or(0);
    let mut end = query.end_seq.unwrap_or(u64::MAX).min(size);
    match (order, after) {
        (Order::Oldest, Some(after)) => start = start.max(after.saturating_add(1)),
        (Order::Newest, Some(after)) => end = end.min(after),
        (_, None) => {}
    }
    let mut at = |ts_ns: u64| -> Result<u64, LedgerError> {
        // What a bisection reads.
        reads.entries += u64::from(u64::BITS - size.leading_zeros());
        ledger.seq_at(ts_ns)
    };
    if let Some(since) = query.since_ns {
        start = start.max(at(since)?);
    }
    if let Some(until) = query.until_ns {
        end = end.min(at(until)?);
    }
    Ok(start..end.max(start))
}

struct Planner<'a> {
    ledger: &'a Ledger,
    /// The block that grows.
    tail: Arc<OpenBlock>,
    blocks: (u64, u64),
    fields: Vec<Node<'a>>,
}

impl<'a> Planner<'a> {
    fn ids(&mut self, ids: &[String], reads: &mut Reads) -> Result<(), LedgerError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut blocks = BTreeMap::<u64, Bits>::new();
        for id in ids {
            let seqs = self.ledger.find_id(id)?;
            reads.rows += seqs.len() as u64;
            for seq in seqs {
                blocks.entry(seq / BLOCK).or_default().insert(u8::try_from(seq % BLOCK).unwrap_or(u8::MAX));
            }
        }
        self.fields.push(Node::Set(blocks));
        Ok(())
    }

    fn terms(&mut self, starts: impl Iterator<Item = Vec<u8>>) -> Result<(), LedgerError> {
        let terms = starts.map(|start| self.term(start)).collect::<Result<Vec<_>, _>>()?;
        self.fields.extend(any(terms));
        Ok(())
    }

    fn texts(&mut self, texts: &[Vec<String>]) -> Result<(), LedgerError> {
        let mut nodes = Vec::with_capacity(texts.len());
        for words in texts {
            let words = words.iter().map(|word| self.term(Tag::Word.key(word.as_bytes())));
            nodes.push(Node::All(words.collect::<Result<_, _>>()?));
        }
        self.fields.extend(any(nodes));
        Ok(())
    }

    fn term(&self, start: Vec<u8>) -> Result<Node<'a>, LedgerError> {
        let in_tail = self.tail.offsets(&start).map(|offsets| (self.tail.block(), Bits::of(offsets)));
        let rows = (self.blocks.0, self.blocks.1.min(self.tail.block().saturating_sub(1)));
        // Before the first block is complete there are no rows.
        let rows = (self.tail.block() > 0).then_some(rows);
        Ok(Node::Term(Box::new(Term::new(&self.ledger.inner.db, start, rows, in_tail)?)))
    }
}

fn any(mut nodes: Vec<Node<'_>>) -> Option<Node<'_>> {
    match nodes.len() {
        0 | 1 => nodes.pop(),
        _ => Some(Node::Any(nodes)),
    }
}
