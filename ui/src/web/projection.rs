//! Actions of a trace at a position of the log.
//!
//! An approval may be answered in a later trace, so that a trace alone does not always tell how its actions went
//! on. Small ledgers are folded whole and kept until they grow; in large ones a trace is folded by itself, and
//! the page says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use verdict_ledger::action::Action;
use verdict_ledger::activation::ActivationError;
use verdict_ledger::contract::Judgement;
use verdict_ledger::id::TraceId;
use verdict_ledger::view::{Rules, View};
use verdict_ledger::{Ledger, Record};

use super::AppState;
use super::error::PageError;

/// Ledgers with at most this many entries are folded whole.
const WHOLE_ENTRIES_MAX: u64 = 20_000;
/// The settle time moves in steps, so that a fold can be kept for a while.
const SETTLE_STEP_NS: u64 = 60 * 1_000_000_000;

/// Every action of a ledger at a position.
#[derive(Debug)]
pub(crate) struct Whole {
    size: u64,
    settled_before_ns: u64,
    view: View,
    by_trace: BTreeMap<TraceId, Vec<usize>>,
}

/// What is said about an action beside itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mark {
    /// True when it is in quarantine.
    pub(crate) held: bool,
    /// What the contract in force says of it, settled or not; `None` when it says nothing.
    pub(crate) judgement: Option<Judgement>,
}

impl Mark {
    fn of(view: &View, index: usize) -> Self {
        let action = view.actions.get(index);
        Self {
            held: action.is_some_and(|action| view.rules.quarantine.holds_action(action)),
            judgement: view.judgement(index),
        }
    }
}

/// The actions of one trace at a position.
#[derive(Debug, Clone)]
pub(crate) struct TraceActions {
    /// Actions by key.
    pub(crate) actions: Vec<Action>,
    /// What is said about each.
    pub(crate) marks: Vec<Mark>,
    /// Positions of the trace's events below the position, in order.
    pub(crate) seqs: Vec<u64>,
    /// How many of them were read; fewer than all when the trace is larger than the limit.
    pub(crate) read: usize,
    /// True when other traces were looked at for what went on there.
    pub(crate) whole: bool,
}

/// Reads traces at one position.
#[derive(Debug)]
pub(crate) struct Projection<'a> {
    ledger: &'a Ledger,
    /// Entries from here on are not seen.
    at: u64,
    settled_before_ns: u64,
    events_max: usize,
    rules: Arc<Rules>,
    whole: Option<Arc<Whole>>,
}

impl<'a> Projection<'a> {
    /// Prepares to read at a position; a pinned one is judged by the clock of its own last entry, so that a
    /// shared link shows the same findings for ever.
    pub(crate) fn at(state: &'a AppState, pinned: Option<u64>) -> Result<Self, PageError> {
        let ledger = state.ledger();
        let (at, settled_before_ns) = Self::clock(state, pinned)?;
        let rules = state.rules(at)?;
        let whole = (at <= WHOLE_ENTRIES_MAX)
            .then(|| {
                state.whole(at, settled_before_ns, || Whole::fold(ledger, at, &rules, settled_before_ns))
            })
            .transpose()?;
        Ok(Self { ledger, at, settled_before_ns, events_max: state.limits().trace_events_max, rules, whole })
    }

    /// Returns the position, and the time before which nothing more is expected at it.
    pub(crate) fn clock(state: &AppState, pinned: Option<u64>) -> Result<(u64, u64), PageError> {
        let ledger = state.ledger();
        let size = ledger.head().size;
        let at = pinned.unwrap_or(size).min(size);
        let now_ns = match pinned.and_then(|_| at.checked_sub(1)) {
            Some(last) => ledger.record(last)?.map_or(0, |record| record.ts_ns),
            None => state.now_ns(),
        };
        let settled_before_ns =
            now_ns.saturating_sub(state.limits().settle_ns) / SETTLE_STEP_NS * SETTLE_STEP_NS;
        Ok((at, settled_before_ns))
    }

    /// Tells whether the whole log is folded.
    pub(crate) const fn is_whole(&self) -> bool {
        self.whole.is_some()
    }

    /// Returns the position.
    pub(crate) const fn position(&self) -> u64 {
        self.at
    }

    /// Returns what is in force at the position.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns the view of the whole log, reading it when it is not kept.
    pub(crate) fn with_whole<T>(&self, look: impl FnOnce(&View) -> T) -> Result<T, PageError> {
        if let Some(whole) = &self.whole {
            return Ok(look(&whole.view));
        }
        let view = View::read(self.ledger, 0..self.at, &self.rules, self.settled_before_ns, &mut |_| {})?;
        Ok(look(&view))
    }

    /// Folds one trace. A trace without events below the position gives no positions.
    pub(crate) fn trace(&self, trace: &TraceId) -> Result<TraceActions, PageError> {
        let mut seqs = self.ledger.trace_seqs(trace)?;
        seqs.retain(|seq| *seq < self.at);
        if let Some(whole) = &self.whole {
            let read = seqs.len();
            let (actions, marks) = whole.of(trace);
            return Ok(TraceActions { actions, marks, seqs, read, whole: true });
        }
        let records = self.records(&seqs)?;
        let view = View::of(&records, &self.rules, self.settled_before_ns);
        let marks = (0..view.actions.len()).map(|index| Mark::of(&view, index)).collect();
        Ok(TraceActions { actions: view.actions, marks, read: records.len(), seqs, whole: false })
    }

    /// Reads records up to the limit.
    pub(crate) fn records(&self, seqs: &[u64]) -> Result<Vec<Record>, PageError> {
        let mut records = Vec::new();
        for seq in seqs.iter().take(self.events_max) {
            records.extend(self.ledger.record(*seq)?);
        }
        Ok(records)
    }
}

impl Whole {
    fn fold(
        ledger: &Ledger,
        size: u64,
        rules: &Arc<Rules>,
        settled_before_ns: u64,
    ) -> Result<Self, PageError> {
        let records = ledger.records(0..size).collect::<Result<Vec<_>, _>>()?;
        let view = View::of(&records, rules, settled_before_ns);
        let mut by_trace = BTreeMap::<TraceId, Vec<usize>>::new();
        for (index, action) in view.actions.iter().enumerate() {
            for trace in action.trace_id.iter().chain(&action.later_traces) {
                let list = by_trace.entry(*trace).or_default();
                if list.last() != Some(&index) {
                    list.push(index);
                }
            }
        }
        Ok(Self { size, settled_before_ns, view, by_trace })
    }

    /// Tells whether this is the fold of a position and time.
    pub(crate) const fn is(&self, size: u64, settled_before_ns: u64) -> bool {
        self.size == size && self.settled_before_ns == settled_before_ns
    }

    fn of(&self, trace: &TraceId) -> (Vec<Action>, Vec<Mark>) {
        let indexes = self.by_trace.get(trace).into_iter().flatten();
        indexes
            .filter_map(|index| Some((self.view.actions.get(*index)?.clone(), Mark::of(&self.view, *index))))
            .unzip()
    }
}

impl From<ActivationError> for PageError {
    fn from(error: ActivationError) -> Self {
        match error {
            ActivationError::Ledger(error) => error.into(),
            error => Self::Policy { detail: super::error::chain(&error) },
        }
    }
}
