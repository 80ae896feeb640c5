//! One epoch of the log: its decision points, and the steps by which it moves the state.
//!
//! # What is known when
//! The state before a point is what was known at the end of the point's epoch: a step that an entry made counts as that
//! epoch's end understands it. What an earlier epoch understood otherwise is taken back and counted anew when a group is
//! heard of again. The point's own facts, its arguments and who acted, are those at the end of the whole range.
//!
//! An epoch is a fixed number of entries, so that the state at its edges depends on the log alone and can be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use rayon::ThreadPool;
use rayon::prelude::*;
use verdict_ledger::Record;
use verdict_ledger::action::labels::Collector;
use verdict_ledger::action::{self, Action};
use verdict_ledger::contract::Quarantine;
use verdict_ledger::id::TraceId;
use verdict_ledger::pricing::{self, Table};

use super::alter::{Altered, enforced, replaced};
use super::carry::Carry;
use super::gather::{self, Gathered, Group, SESSION_EVENTS_MAX, TRACE_EVENTS_MAX};
use super::source::{Source, SourceError};
use crate::state::{Settled, Sign, State, Step};

/// Entries of an epoch.
pub(super) const ENTRIES: u64 = 16_384;

/// Order of what one entry does.
const ASKED: u8 = 1;
const RULED: u8 = 2;
const SETTLED: u8 = 3;

/// A step and the action that makes it.
#[derive(Debug)]
struct Move {
    seq: u64,
    phase: u8,
    key: u64,
    group: usize,
    index: usize,
    step: Step,
}

impl Move {
    const fn order(&self) -> (u64, u8, u64) {
        (self.seq, self.phase, self.key)
    }
}

/// What is known of a group.
#[derive(Debug)]
pub(super) struct Folded {
    /// At the end of the epoch.
    known: Vec<Action>,
    /// At its start, where the group is older than that.
    before: Vec<Action>,
    /// At the end of the range, where more is said later.
    later: Option<Vec<Action>>,
    pub(super) traces: BTreeSet<TraceId>,
    /// True when it is known that nothing of it comes after the epoch.
    pub(super) over: bool,
}

impl Folded {
    /// Returns every key that its actions have.
    pub(super) fn keys(&self) -> impl Iterator<Item = u64> {
        self.known.iter().chain(self.facts()).map(|action| action.key)
    }

    /// Returns the actions as they are known at the end of the range.
    pub(super) fn facts(&self) -> &[Action] {
        self.later.as_ref().unwrap_or(&self.known)
    }
}

/// A decision point: which action of which group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) group: usize,
    index: usize,
}

/// One epoch, read and folded.
#[derive(Debug)]
pub(super) struct Epoch {
    pub(super) range: Range<u64>,
    pub(super) groups: Vec<Folded>,
    /// Decision points that are wanted, in log order.
    pub(super) points: Vec<At>,
    /// Steps inside the epoch, in order.
    moves: Vec<Move>,
    /// Steps before it, of groups that are heard of again: as they are known now, and as they were counted.
    earlier: Vec<Move>,
    counted: Vec<Move>,
    controls: Vec<Record>,
    long_traces: BTreeSet<TraceId>,
    long_sessions: BTreeSet<String>,
}

/// Is shown each point, by number, with the state before it.
type AtPoint<'p, E> = &'p mut dyn FnMut(usize, &Action, &State) -> Result<Option<Altered>, E>;

/// What is to be read of an epoch.
pub(super) struct Wanted<'w> {
    /// End of the range of the replay.
    pub(super) end: u64,
    /// Chooses decision points; `None`: none is wanted, only the state.
    pub(super) point: Option<&'w (dyn Fn(&Action) -> bool + Sync)>,
}

impl Epoch {
    /// Reads and folds an epoch. `carry` must be what is carried to its start.
    pub(super) fn read(
        source: &dyn Source,
        pool: &ThreadPool,
        range: Range<u64>,
        carry: &mut Carry,
        wanted: &Wanted<'_>,
    ) -> Result<Self, SourceError> {
        let mut eyes = Eyes::new(source, [range.start, range.end, wanted.end])?;
        let Gathered { groups, controls } =
            gather::gather(source, range.clone(), carry, &mut |record| eyes.see(record))?;
        let first_look = |group: &Group| Folded {
            known: eyes.fold(NOW, &group.records),
            before: eyes.fold(BEFORE, &group.records),
            later: None,
            traces: group.traces.clone(),
            over: false,
        };
        let mut folded: Vec<Folded> = pool.install(|| groups.par_iter().map(first_look).collect());
        let (long_traces, long_sessions) = lengths(&groups);
        if let Some(is_wanted) = wanted.point {
            let asks = |number: usize| {
                let known = folded.get(number).map(|group| group.known.as_slice()).unwrap_or_default();
                known.iter().any(|action| range.contains(&action.key) && is_wanted(action))
            };
            let mut asking: Vec<(usize, Group)> =
                groups.into_iter().enumerate().filter(|(number, _)| asks(*number)).collect();
            for (number, group) in &mut asking {
                let known = group.records.len();
                let ahead = range.end..wanted.end;
                gather::look_ahead(source, group, ahead, carry, &mut |record| eyes.see(record))?;
                if let Some(folded) = folded.get_mut(*number) {
                    folded.over = group.records.len() == known;
                }
            }
            // What is said later, the end of a quarantine or another price table make the second look worth it.
            let is_later = |(_, group): &(usize, Group)| {
                !eyes.agree() || group.records.last().is_some_and(|last| last.seq >= range.end)
            };
            let second_look = |(number, group): (usize, Group)| (number, eyes.fold(LATER, &group.records));
            let later: Vec<(usize, Vec<Action>)> =
                pool.install(|| asking.into_par_iter().filter(is_later).map(second_look).collect());
            for (number, actions) in later {
                if let Some(group) = folded.get_mut(number) {
                    group.later = Some(actions);
                }
            }
        }
        let mut epoch = Self {
            points: wanted.point.map(|is_wanted| points(&folded, &range, is_wanted)).unwrap_or_default(),
            moves: Vec::new(),
            earlier: Vec::new(),
            counted: Vec::new(),
            controls,
            long_traces,
            long_sessions,
            groups: folded,
            range,
        };
        epoch.moves();
        Ok(epoch)
    }

    /// Returns a point's action as it is known at the end of the range.
    pub(super) fn action(&self, at: At) -> Option<&Action> {
        self.groups.get(at.group)?.facts().get(at.index)
    }

    /// Takes back what was counted otherwise and folds again what happened inside of the traces and sessions that the
    /// epoch goes on with.
    pub(super) fn enter(&self, state: &mut State, carry: &Carry, altered: &dyn Fn(u64) -> Option<Altered>) {
        for (moves, sign) in [(&self.counted, Sign::Take), (&self.earlier, Sign::Add)] {
            for moved in moves {
                let actions = self
                    .groups
                    .get(moved.group)
                    .map(|g| if sign == Sign::Take { &g.before } else { &g.known });
                let Some(action) = actions.and_then(|actions| actions.get(moved.index)) else { continue };
                let altered = altered(moved.key);
                for step in replaced(&moved.step, altered.as_ref()).into_iter().flatten() {
                    state.shared(action, &step, moved.seq, sign);
                    if sign == Sign::Add {
                        let trace = action.trace_id.is_none_or(|trace| !carry.long_traces.contains(&trace));
                        let long = |session: &str| carry.long_sessions.contains(session);
                        let session = action.session.as_ref().is_none_or(|session| !long(&session.value));
                        state.within(action, &step, trace, session);
                    }
                }
            }
        }
    }

    /// Moves a state through the epoch. `at_point` sees the state before each point, and may say what becomes of its action.
    pub(super) fn walk<E>(
        &self,
        state: &mut State,
        altered: &dyn Fn(u64) -> Option<Altered>,
        at_point: AtPoint<'_, E>,
    ) -> Result<(), E> {
        let mut controls = self.controls.iter().peekable();
        let mut points = self.points.iter().enumerate().peekable();
        // Decided on the way, when the caller decides one after the other.
        let mut decided: BTreeMap<u64, Altered> = BTreeMap::new();
        let end = (u64::MAX, u8::MAX, u64::MAX);
        for moved in self.moves.iter().map(Some).chain([None]) {
            let order = moved.map_or(end, Move::order);
            loop {
                let point = points.peek().and_then(|(number, at)| Some((*number, self.action(**at)?)));
                let control = controls.peek().map(|record| (record.seq, 0, 0));
                let next = point.map(|(_, action)| (action.key, ASKED, action.key));
                match (control, next) {
                    (Some(control), next) if control < order && next.is_none_or(|next| control < next) => {
                        if let Some(record) = controls.next() {
                            state.control(&record.body);
                        }
                    }
                    (_, Some(next)) if next <= order => {
                        points.next();
                        if let Some((number, action)) = point
                            && let Some(altered) = at_point(number, action, state)?
                        {
                            decided.insert(action.key, altered);
                        }
                    }
                    _ => break,
                }
            }
            let Some(moved) = moved else { break };
            let action = self.groups.get(moved.group).and_then(|group| group.known.get(moved.index));
            let Some(action) = action else { continue };
            let altered = decided.get(&moved.key).cloned().or_else(|| altered(moved.key));
            for step in replaced(&moved.step, altered.as_ref()).into_iter().flatten() {
                state.step(action, &step, moved.seq);
            }
        }
        Ok(())
    }

    /// Ends the epoch: forgets what is over, and notes what is too long to be read again.
    pub(super) fn leave(&self, carry: &mut Carry) {
        carry.long_traces.extend(&self.long_traces);
        carry.long_sessions.extend(self.long_sessions.iter().cloned());
        let Carry { state, long_traces, long_sessions, .. } = carry;
        state.forget(long_traces, long_sessions);
    }

    fn moves(&mut self) {
        let (mut moves, mut earlier, mut counted) = (Vec::new(), Vec::new(), Vec::new());
        for (number, group) in self.groups.iter().enumerate() {
            for moved in steps(&group.known, number) {
                if moved.seq < self.range.start {
                    earlier.push(moved);
                } else {
                    moves.push(moved);
                }
            }
            counted.extend(steps(&group.before, number));
        }
        for list in [&mut moves, &mut earlier, &mut counted] {
            list.sort_by_key(Move::order);
        }
        (self.moves, self.earlier, self.counted) = (moves, earlier, counted);
    }
}

/// The steps of actions: question, ruling, outcome.
fn steps(actions: &[Action], group: usize) -> Vec<Move> {
    let mut moves = Vec::with_capacity(actions.len() * 3);
    for (index, action) in actions.iter().enumerate() {
        let key = action.key;
        let mut add = |seq, phase, step| moves.push(Move { seq, phase, key, group, index, step });
        add(key, ASKED, Step::Asked);
        if let Some(ruling) = enforced(action) {
            let step = Step::Ruled { effect: ruling.decision.effect, until_ns: ruling.decision.until_ns };
            add(ruling.seq.max(key), RULED, step);
        }
        let end = action.outcome_seq.or_else(|| action.seqs.last().copied()).unwrap_or(key);
        add(end.max(key), SETTLED, Step::Settled(Settled::recorded(action)));
    }
    moves
}

fn points(groups: &[Folded], range: &Range<u64>, is_wanted: &dyn Fn(&Action) -> bool) -> Vec<At> {
    let mut points: Vec<(u64, At)> = Vec::new();
    for (group, folded) in groups.iter().enumerate() {
        for (index, action) in folded.facts().iter().enumerate() {
            if range.contains(&action.key) && is_wanted(action) {
                points.push((action.key, At { group, index }));
            }
        }
    }
    points.sort_by_key(|(key, _)| *key);
    points.into_iter().map(|(_, at)| at).collect()
}

/// Traces and sessions that are too long to be read again in the next epoch.
fn lengths(groups: &[Group]) -> (BTreeSet<TraceId>, BTreeSet<String>) {
    let (mut traces, mut sessions) = (BTreeSet::new(), BTreeSet::new());
    for group in groups.iter().filter(|group| group.records.len() >= SESSION_EVENTS_MAX) {
        let (mut of_trace, mut of_session) = (BTreeMap::<_, usize>::new(), BTreeMap::<_, usize>::new());
        for event in group.records.iter().filter_map(|record| record.event.as_ref()) {
            if let Some(trace) = event.trace_id {
                *of_trace.entry(trace).or_default() += 1;
            }
            if let Some(session) = event.session.as_deref() {
                *of_session.entry(session).or_default() += 1;
            }
        }
        traces.extend(of_trace.into_iter().filter(|(_, n)| *n >= TRACE_EVENTS_MAX).map(|(trace, _)| trace));
        let long = of_session.into_iter().filter(|(_, n)| *n >= SESSION_EVENTS_MAX);
        sessions.extend(long.map(|(session, _)| session.to_owned()));
    }
    (traces, sessions)
}

/// The start of an epoch, its end, and the end of the range.
const BEFORE: usize = 0;
const NOW: usize = 1;
const LATER: usize = 2;

/// How the log looks at three positions: what is below them, what is held in quarantine, which prices are in force.
struct Eyes {
    positions: [u64; 3],
    held: Vec<Arc<Quarantine>>,
    tables: Vec<(Arc<Table>, Collector)>,
    table_at: [usize; 3],
}

impl Eyes {
    fn new(source: &dyn Source, positions: [u64; 3]) -> Result<Self, SourceError> {
        let held = positions.iter().map(|below| source.quarantine(*below)).collect::<Result<_, _>>()?;
        let mut tables: Vec<(Arc<Table>, Collector)> = Vec::new();
        let mut table_at = [0; 3];
        for (slot, below) in table_at.iter_mut().zip(positions) {
            let table = source.prices(below)?;
            let known = tables.iter().position(|(known, _)| known.digest() == table.digest());
            *slot = known.unwrap_or(tables.len());
            if known.is_none() {
                let collector = Collector::new(vec![table.variant_source()]);
                tables.push((table, collector));
            }
        }
        Ok(Self { positions, held, tables, table_at })
    }

    /// Notes what prices need of a record before it is slimmed.
    fn see(&mut self, record: &Record) {
        for (_, collector) in &mut self.tables {
            collector.see(record);
        }
    }

    /// Tells whether the end of the epoch and the end of the range have the same quarantine and prices.
    fn agree(&self) -> bool {
        self.held.get(NOW) == self.held.get(LATER) && self.table_at.get(NOW) == self.table_at.get(LATER)
    }

    /// Folds what is known of a group at a position.
    fn fold(&self, position: usize, records: &[Record]) -> Vec<Action> {
        let below = self.positions.get(position).copied().unwrap_or_default();
        let known = records.get(..records.partition_point(|record| record.seq < below)).unwrap_or(records);
        if known.is_empty() {
            return Vec::new();
        }
        let held = self
            .held
            .get(position)
            .filter(|held| !held.is_empty() && known.iter().any(|record| held.holds_event(record.seq)));
        let mut actions = match held {
            Some(held) => {
                let is_free = |record: &&Record| !held.holds_event(record.seq);
                let free: Vec<Record> = known.iter().filter(is_free).cloned().collect();
                action::fold(&free, 0)
            }
            None => action::fold(known, 0),
        };
        let costs_nothing = |action: &Action| action.usage.as_ref().is_some_and(|usage| usage.cost.is_none());
        let table = self.table_at.get(position).and_then(|at| self.tables.get(*at));
        if let Some((table, collector)) = table.filter(|_| actions.iter().any(costs_nothing)) {
            let labels = collector.labels(&actions);
            pricing::apply(table, &mut actions, &labels);
        }
        actions
    }
}
