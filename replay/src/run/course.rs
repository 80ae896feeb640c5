//! The course of things under a policy, epoch by epoch: what was, and what would have been.
//!
//! Two states move side by side: the one that history had, and, from the first decision on that comes out otherwise, the
//! one that the policy would have made. The points of an epoch are decided all at once under the state that was; then the
//! second state is walked with what those decisions change, whoever sees another state is asked again, and so on until
//! nothing changes any more. Each round settles at least one more point for good, so that the answer is the one that
//! deciding one after the other gives; after [`ROUNDS`] of them that is what is done.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use verdict_ledger::action::Action;
use verdict_ledger::event::Effect;
use verdict_ledger::id::{Digest, TraceId};

use super::alter::{Altered, Turn, ran};
use super::carry::Carry;
use super::causes::{Dependents, Divergences, Unreached};
use super::epoch::{At, Epoch};
use super::evaluate::{Evaluator, Question, Told};
use super::money::{Askers, Money};
use super::source::{Source, SourceError};
use super::{Answer, Induced, Point, Replayed, Semantics, recorded};
use crate::input::Context;
use crate::policy::Policy;
use crate::state::State;

/// Rounds before points are decided one after the other.
pub(super) const ROUNDS: usize = 12;
/// Earlier flips that an induced one names.
const CHAIN_MAX: usize = 16;

/// A replay on its way.
#[derive(Debug)]
pub(super) struct Course<'p> {
    semantics: Semantics,
    rounds: usize,
    evaluator: Evaluator<'p>,
    pub(super) so_far: SoFar,
}

/// Everything that a replay carries from one epoch to the next.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SoFar {
    pub(super) carry: Carry,
    /// The state that the policy would have made, once it is another one.
    twin: Option<State>,
    /// What was ruled otherwise in groups that go on.
    altered: BTreeMap<u64, Altered>,
    gone: BTreeMap<u64, Unreached>,
    divergences: Divergences,
    marks: Marks,
}

impl SoFar {
    /// Begins with what is carried to a position.
    pub(super) fn at(carry: Carry) -> Self {
        Self { carry, ..Self::default() }
    }
}

impl<'p> Course<'p> {
    pub(super) fn new(
        policy: &'p Policy,
        pool: &'p rayon::ThreadPool,
        (semantics, rounds): (Semantics, usize),
        so_far: SoFar,
    ) -> Self {
        Self { semantics, rounds, evaluator: Evaluator::new(policy, pool), so_far }
    }

    /// Goes through an epoch and decides its points.
    pub(super) fn epoch(&mut self, source: &dyn Source, epoch: &Epoch) -> Result<Vec<Replayed>, SourceError> {
        let fork = (self.semantics != Semantics::Pointwise
            && self.so_far.twin.is_none()
            && !epoch.points.is_empty())
        .then(|| self.so_far.carry.state.clone());
        let mut contexts = Vec::with_capacity(epoch.points.len());
        walk_recorded(epoch, &mut self.so_far.carry, &mut |action, state| {
            contexts.push(Context::of(action, state));
        });
        let actions: Vec<&Action> = epoch.points.iter().filter_map(|at| epoch.action(*at)).collect();
        let questions: Vec<Question<'_>> =
            actions.iter().zip(&contexts).map(|(action, context)| Question { action, context }).collect();
        let was = self.evaluator.ask(&questions);
        let out = match self.semantics {
            Semantics::Pointwise => Self::as_it_was(epoch, &actions, &was),
            Semantics::Stateful | Semantics::Causal => {
                let differs = self.so_far.twin.is_some();
                let base = self.so_far.twin.take().or(fork);
                match base {
                    Some(base) => {
                        self.as_it_would_be(source, epoch, &actions, &contexts, &was, (base, differs))?
                    }
                    None => Vec::new(),
                }
            }
        };
        epoch.leave(&mut self.so_far.carry);
        if let Some(twin) = &mut self.so_far.twin {
            twin.forget(&self.so_far.carry.long_traces, &self.so_far.carry.long_sessions);
        }
        Ok(out)
    }

    fn as_it_was(epoch: &Epoch, actions: &[&Action], was: &[Told]) -> Vec<Replayed> {
        let mut views = Views::new(epoch);
        let each = epoch.points.iter().zip(actions).zip(was).map(|((at, action), told)| {
            let turn = Altered::of(action, &told.answer).map_or(Turn::Same, |altered| altered.turn());
            Replayed {
                point: point(action, told),
                answer: told.answer.clone(),
                induced: None,
                diverged: None,
                unobserved: turn == Turn::Released,
                money: views.money(*at, action, turn, false),
            }
        });
        each.collect()
    }

    fn as_it_would_be(
        &mut self,
        source: &dyn Source,
        epoch: &Epoch,
        actions: &[&Action],
        contexts: &[Context],
        was: &[Told],
        (base, differs): (State, bool),
    ) -> Result<Vec<Replayed>, SourceError> {
        let views = RefCell::new(Views::new(epoch));
        let derive = |told: &[Told]| -> Result<Turns, SourceError> {
            let mut turns = Turns::new(self.semantics, &self.so_far.gone);
            for ((at, action), told) in epoch.points.iter().zip(actions).zip(told) {
                turns.point(source, &mut views.borrow_mut(), *at, action, &told.answer)?;
            }
            Ok(turns)
        };
        let mut now: Vec<Context> = contexts.to_vec();
        let mut told = was.to_vec();
        let mut turns = derive(&told)?;
        let mut end = None;
        if !differs && turns.is_empty() {
            end = Some(None);
        }
        let mut round = 0;
        while end.is_none() && round < self.rounds {
            round += 1;
            let mut state = base.clone();
            let altered = |key: u64| turns.altered(key).or_else(|| self.so_far.altered.get(&key).cloned());
            epoch.enter(&mut state, &self.so_far.carry, &altered);
            let mut seen = Vec::with_capacity(now.len());
            let mut at_point = |_: usize, action: &Action, state: &State| -> Result<_, SourceError> {
                seen.push(Context::of(action, state));
                Ok(None)
            };
            epoch.walk(&mut state, &altered, &mut at_point)?;
            let changed: Vec<usize> = (0..seen.len()).filter(|at| seen.get(*at) != now.get(*at)).collect();
            now = seen;
            let asked: Vec<Question<'_>> = changed
                .iter()
                .filter_map(|at| Some(Question { action: actions.get(*at)?, context: now.get(*at)? }))
                .collect();
            for (at, answer) in changed.iter().zip(self.evaluator.ask(&asked)) {
                if let Some(slot) = told.get_mut(*at) {
                    *slot = answer;
                }
            }
            let next = derive(&told)?;
            if next == turns {
                end = Some(Some(state));
            }
            turns = next;
        }
        let end = if let Some(end) = end {
            end
        } else {
            let state;
            (state, turns, now, told) = self.one_by_one(source, epoch, &views, base)?;
            Some(state)
        };
        self.so_far.twin = end;
        let out = self.tell(epoch, actions, &mut views.borrow_mut(), &turns, (contexts, was), (&now, &told));
        self.keep(epoch, turns);
        Ok(out)
    }

    /// Decides each point in the state that the decisions before it make.
    fn one_by_one(
        &mut self,
        source: &dyn Source,
        epoch: &Epoch,
        views: &RefCell<Views<'_>>,
        mut state: State,
    ) -> Result<(State, Turns, Vec<Context>, Vec<Told>), SourceError> {
        let turns = RefCell::new(Turns::new(self.semantics, &self.so_far.gone));
        let (mut contexts, mut told) = (Vec::new(), Vec::new());
        let (evaluator, kept) = (&mut self.evaluator, &self.so_far.altered);
        let altered = |key: u64| turns.borrow().altered(key).or_else(|| kept.get(&key).cloned());
        epoch.enter(&mut state, &self.so_far.carry, &altered);
        let mut at_point = |number: usize, action: &Action, state: &State| -> Result<_, SourceError> {
            let context = Context::of(action, state);
            let answer = evaluator.ask(&[Question { action, context: &context }]).pop();
            contexts.push(context);
            let (Some(answer), Some(at)) = (answer, epoch.points.get(number)) else { return Ok(None) };
            let made =
                turns.borrow_mut().point(source, &mut views.borrow_mut(), *at, action, &answer.answer)?;
            told.push(answer);
            Ok(made)
        };
        epoch.walk(&mut state, &altered, &mut at_point)?;
        Ok((state, turns.into_inner(), contexts, told))
    }

    /// Writes down what came out.
    fn tell(
        &mut self,
        epoch: &Epoch,
        actions: &[&Action],
        views: &mut Views<'_>,
        turns: &Turns,
        (contexts, was): (&[Context], &[Told]),
        (now, told): (&[Context], &[Told]),
    ) -> Vec<Replayed> {
        let causal = self.semantics == Semantics::Causal;
        if causal {
            for action in actions {
                if turns.turn(action.key) != Turn::Same && !turns.gone.contains_key(&action.key) {
                    self.so_far.divergences.add(action);
                }
            }
        }
        let mut out = Vec::with_capacity(actions.len());
        for (index, (at, action)) in epoch.points.iter().zip(actions).enumerate() {
            let (Some(before), Some(after)) = (was.get(index), told.get(index)) else { continue };
            let unreached = turns.gone.get(&action.key).or_else(|| turns.late.get(&action.key)).copied();
            let induced = match (unreached, contexts.get(index), now.get(index)) {
                (Some(unreached), ..) => Some(Induced {
                    in_recorded_state: effect(&before.answer),
                    chain: vec![unreached.by],
                    reads: Vec::new(),
                    input: before.input,
                }),
                (None, Some(context), Some(other)) if context != other => {
                    self.induced(action, (context, before), (other, after))
                }
                _ => None,
            };
            let turn = if unreached.is_some() { Turn::Stopped } else { turns.turn(action.key) };
            if let Some(unreached) = unreached {
                self.so_far.marks.set(action, vec![unreached.by]);
            } else if turns.altered.contains_key(&action.key) {
                let chain = induced.as_ref().map(|induced| induced.chain.clone()).unwrap_or_default();
                self.so_far.marks.set(action, chain);
            }
            let answer = match unreached {
                Some(Unreached { by, because }) => Answer::NotReached { by, because },
                None => after.answer.clone(),
            };
            out.push(Replayed {
                point: point(action, before),
                answer,
                induced,
                diverged: self.so_far.divergences.of(action).filter(|_| causal && unreached.is_none()),
                unobserved: turn == Turn::Released,
                money: views.money(*at, action, turn, unreached.is_some()),
            });
        }
        out
    }

    /// Tells which earlier flip made a decision what it is, when it is not what the recorded state gives.
    fn induced(
        &self,
        action: &Action,
        (context, before): (&Context, &Told),
        (other, after): (&Context, &Told),
    ) -> Option<Induced> {
        if before.part == after.part || before.answer == after.answer {
            return None;
        }
        let mut reads = Vec::new();
        differences("/state", context.state(), other.state(), &mut reads);
        if context.reached() != other.reached() {
            reads.push("/provenance".to_owned());
        }
        reads.retain(|pointer| self.evaluator.reads.may_read(pointer));
        let mark = self.so_far.marks.latest(action, &reads);
        let chain = mark.map(|(key, chain)| {
            let mut chain = chain.clone();
            chain.push(key);
            chain.drain(..chain.len().saturating_sub(CHAIN_MAX));
            chain
        });
        Some(Induced {
            in_recorded_state: effect(&before.answer),
            chain: chain.unwrap_or_default(),
            reads,
            input: after.input,
        })
    }

    /// Keeps what later epochs need, and forgets what is over.
    fn keep(&mut self, epoch: &Epoch, turns: Turns) {
        self.so_far.altered.extend(turns.altered);
        self.so_far.gone.extend(turns.gone);
        let mut over: BTreeSet<TraceId> = BTreeSet::new();
        for group in epoch.groups.iter().filter(|group| group.over) {
            for key in group.keys() {
                self.so_far.altered.remove(&key);
                self.so_far.gone.remove(&key);
            }
            over.extend(&group.traces);
        }
        self.so_far.divergences.keep(|trace| !over.contains(trace));
        self.so_far.marks.forget(&over);
    }
}

/// Moves the recorded state through an epoch.
pub(super) fn walk_recorded(epoch: &Epoch, carry: &mut Carry, at_point: &mut dyn FnMut(&Action, &State)) {
    let mut state = std::mem::take(&mut carry.state);
    epoch.enter(&mut state, carry, &|_| None);
    let walked = epoch.walk(&mut state, &|_| None, &mut |_, action, state| {
        at_point(action, state);
        Ok::<_, std::convert::Infallible>(None)
    });
    let Ok(()) = walked;
    carry.state = state;
}

/// What the decisions of an epoch change.
#[derive(Debug, PartialEq, Eq)]
struct Turns {
    causal: bool,
    altered: BTreeMap<u64, Altered>,
    gone: BTreeMap<u64, Unreached>,
    /// Dependents that the log has before what stops them: reported, but the state between is not wound back.
    late: BTreeMap<u64, Unreached>,
}

impl Turns {
    fn new(semantics: Semantics, gone: &BTreeMap<u64, Unreached>) -> Self {
        Self {
            causal: semantics == Semantics::Causal,
            altered: BTreeMap::new(),
            gone: gone.clone(),
            late: BTreeMap::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.altered.is_empty() && self.gone.is_empty() && self.late.is_empty()
    }

    fn altered(&self, key: u64) -> Option<Altered> {
        let gone = || self.gone.contains_key(&key).then_some(Altered::Gone);
        self.altered.get(&key).cloned().or_else(gone)
    }

    fn turn(&self, key: u64) -> Turn {
        self.altered.get(&key).map_or(Turn::Same, Altered::turn)
    }

    /// Takes the next point in log order.
    fn point(
        &mut self,
        source: &dyn Source,
        views: &mut Views<'_>,
        at: At,
        action: &Action,
        answer: &Answer,
    ) -> Result<Option<Altered>, SourceError> {
        if self.gone.contains_key(&action.key) {
            self.altered.insert(action.key, Altered::Gone);
            return Ok(Some(Altered::Gone));
        }
        let Some(altered) = Altered::of(action, answer) else { return Ok(None) };
        if self.causal && altered.turn() == Turn::Stopped {
            for (key, unreached) in views.dependents(source, at)?.below(action.key) {
                let side = if key > action.key { &mut self.gone } else { &mut self.late };
                side.entry(key).or_insert(unreached);
            }
        }
        self.altered.insert(action.key, altered.clone());
        Ok(Some(altered))
    }
}

/// What is worked out about a group only when something in it comes out otherwise.
#[derive(Debug)]
struct Views<'e> {
    epoch: &'e Epoch,
    dependents: BTreeMap<usize, Dependents>,
    askers: BTreeMap<usize, Askers>,
}

impl<'e> Views<'e> {
    const fn new(epoch: &'e Epoch) -> Self {
        Self { epoch, dependents: BTreeMap::new(), askers: BTreeMap::new() }
    }

    fn facts(&self, at: At) -> &'e [Action] {
        self.epoch.groups.get(at.group).map(super::epoch::Folded::facts).unwrap_or_default()
    }

    fn dependents(&mut self, source: &dyn Source, at: At) -> Result<&Dependents, SourceError> {
        let facts = self.facts(at);
        Ok(match self.dependents.entry(at.group) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(Dependents::of(facts, &results(source, facts)?))
            }
        })
    }

    fn money(&mut self, at: At, action: &Action, turn: Turn, unreached: bool) -> Option<Money> {
        let facts = self.facts(at);
        match turn {
            Turn::Same => None,
            Turn::Released => Some(Money::exposed(action)),
            Turn::Stopped if unreached => ran(action).then(|| Money::avoided(action, None)),
            Turn::Stopped => {
                let askers = self.askers.entry(at.group).or_insert_with(|| Askers::of(facts));
                Some(Money::avoided(action, askers.asker(action, facts)))
            }
        }
    }
}

/// Digests of the results of actions, where some source of the group names one.
fn results(source: &dyn Source, facts: &[Action]) -> Result<BTreeMap<u64, Digest>, SourceError> {
    let mut digests = BTreeMap::new();
    let named = |action: &Action| {
        action.provenance.iter().any(|source| source.kind == "tool_result" && source.digest.is_some())
    };
    if !facts.iter().any(named) {
        return Ok(digests);
    }
    for action in facts {
        let Some(record) = action.outcome_seq.map(|seq| source.record(seq)).transpose()?.flatten() else {
            continue;
        };
        let outcome = record.event.and_then(|event| event.outcome);
        if let Some(result) = outcome.and_then(|outcome| outcome.result) {
            digests.insert(action.key, Digest::of(&verdict_ledger::canon::digest_bytes(&result)));
        }
    }
    Ok(digests)
}

/// Where the state last came to be another one: by trace, session, agent and tenant.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marks {
    traces: BTreeMap<TraceId, (u64, Vec<u64>)>,
    others: BTreeMap<(char, String), (u64, Vec<u64>)>,
}

impl Marks {
    fn set(&mut self, action: &Action, chain: Vec<u64>) {
        for scope in scopes(action) {
            self.others.insert(scope, (action.key, chain.clone()));
        }
        if let Some(trace) = action.trace_id {
            self.traces.insert(trace, (action.key, chain));
        }
    }

    /// Finds the latest change before an action in the scopes of some members of the input.
    fn latest(&self, action: &Action, reads: &[String]) -> Option<(u64, &Vec<u64>)> {
        let read = |prefix: &str| reads.iter().any(|pointer| pointer.starts_with(prefix));
        let trace = action.trace_id.filter(|_| read("/state/trace") || read("/provenance"));
        let trace = trace.and_then(|trace| self.traces.get(&trace));
        let others = scopes(action).filter(|(sort, _)| match sort {
            's' => read("/state/session"),
            'a' => read("/state/agent") || read("/state/windows"),
            _ => read("/state/tenant"),
        });
        let others = others.filter_map(|scope| self.others.get(&scope));
        let before = trace.into_iter().chain(others).filter(|(key, _)| *key < action.key);
        before.max_by_key(|(key, _)| *key).map(|(key, chain)| (*key, chain))
    }

    fn forget(&mut self, over: &BTreeSet<TraceId>) {
        self.traces.retain(|trace, _| !over.contains(trace));
    }
}

fn scopes(action: &Action) -> impl Iterator<Item = (char, String)> {
    let of = |sort: char, text: Option<&str>| text.map(|text| (sort, text.to_owned()));
    let session = of('s', action.session.as_ref().map(|session| session.value.as_str()));
    let tenant = of('t', action.tenant.as_ref().map(|tenant| tenant.value.as_str()));
    session.into_iter().chain(of('a', action.agent_label())).chain(tenant)
}

/// Lists the members in which two documents differ.
fn differences(at: &str, a: &serde_json::Value, b: &serde_json::Value, out: &mut Vec<String>) {
    use serde_json::Value::Object;
    if a == b {
        return;
    }
    match (a, b) {
        (Object(left), Object(right)) => {
            let names: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            let null = serde_json::Value::Null;
            for name in names {
                let (a, b) = (left.get(name).unwrap_or(&null), right.get(name).unwrap_or(&null));
                differences(&format!("{at}/{name}"), a, b, out);
            }
        }
        _ => out.push(at.to_owned()),
    }
}

pub(super) const fn effect(answer: &Answer) -> Option<Effect> {
    match answer {
        Answer::Decided { decision } => Some(decision.effect),
        Answer::Unknown { .. } | Answer::NotReached { .. } => None,
    }
}

fn point(action: &Action, told: &Told) -> Point {
    Point {
        key: action.key,
        trace_id: action.trace_id,
        agent: action.agent_label().map(str::to_owned),
        tenant: action.tenant.as_ref().map(|tenant| tenant.value.clone()),
        kind: action.kind,
        name: action.name.clone(),
        at_ns: action.start_ns,
        recorded: recorded(action),
        outcome: action.outcome,
        cost: action.cost().cloned(),
        input: told.input,
        input_bytes: told.input_bytes,
    }
}
