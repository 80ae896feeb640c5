//! Which facts are one action: the rules of the module documentation, over a disjoint-set forest.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Fact, Facts};
use crate::event::{ActionKind, AuthorityKind, Effect, Event, Rel, Status, Target};
use crate::id::TraceId;

/// How many spans of kind `other` a wrapper may have between itself and the call that it wraps.
const WRAPPER_HOPS_MAX: usize = 16;

/// Facts by action.
#[derive(Debug)]
pub(super) struct Groups {
    /// Members of each group; groups in order of their first fact.
    pub(super) members: Vec<Vec<usize>>,
    /// Group of each fact.
    pub(super) of: Vec<usize>,
    /// Facts that answer an approval: they add decisions, never arguments or outcomes.
    pub(super) answers: BTreeSet<usize>,
    /// (group, fact): decisions of facts that stay actions of their own.
    pub(super) borrowed: BTreeSet<(usize, usize)>,
}

pub(super) fn join(facts: &Facts<'_>) -> Groups {
    let mut sets = Sets::new(facts.list.len());
    same_statement(facts, &mut sets);
    same_span(facts, &mut sets);
    same_call(facts, &mut sets);
    same_call_nested(facts, &mut sets);
    same_call_in_session(facts, &mut sets);
    nested(facts, &mut sets);
    let (answers, borrowed) = answered(facts, &mut sets);

    let mut number: BTreeMap<usize, usize> = BTreeMap::new();
    let mut groups = Groups { members: Vec::new(), of: Vec::new(), answers, borrowed: BTreeSet::new() };
    for fact in 0..facts.list.len() {
        let group = *number.entry(sets.find(fact)).or_insert(groups.members.len());
        if group == groups.members.len() {
            groups.members.push(Vec::new());
        }
        groups.of.push(group);
        if let Some(members) = groups.members.get_mut(group) {
            members.push(fact);
        }
    }
    groups.borrowed =
        borrowed.into_iter().filter_map(|(asked, fact)| Some((*groups.of.get(asked)?, fact))).collect();
    groups
}

fn same_statement(facts: &Facts<'_>, sets: &mut Sets) {
    let mut first = BTreeMap::new();
    for (index, Fact { event, .. }) in facts.list.iter().enumerate() {
        let key = (&event.id, event.trace_id, event.span_id, event.action.kind, &event.action.name);
        sets.union(*first.entry(key).or_insert(index), index);
    }
}

/// Rule 2. `span.facts` holds reports of the span; log records come second.
fn same_span(facts: &Facts<'_>, sets: &mut Sets) {
    for span in &facts.spans {
        let mut things: BTreeMap<(ActionKind, &str), Vec<usize>> = BTreeMap::new();
        for index in &span.facts {
            if let Some(fact) = facts.list.get(*index) {
                let action = &fact.event.action;
                things.entry((action.kind, action.name.as_str())).or_default().push(*index);
            }
        }
        for members in things.values() {
            let calls: BTreeSet<&str> =
                members.iter().filter_map(|index| facts.list.get(*index)?.call_id()).collect();
            if calls.len() <= 1 {
                sets.union_all(members);
            }
        }
    }
    for (index, fact) in facts.list.iter().enumerate().filter(|(_, fact)| fact.span.is_none()) {
        let Some(span) = fact.above.filter(|_| fact.event.span_id.is_some()).and_then(|s| facts.spans.get(s))
        else {
            continue;
        };
        // The report of the same call, else one that names no call; of several the earliest by what they say.
        let reports = span.facts.iter().filter_map(|owner| Some((owner, facts.list.get(*owner)?)));
        let same = reports.filter(|(_, owner)| {
            owner.same_thing(fact)
                && (fact.call_id().is_none()
                    || owner.call_id().is_none()
                    || fact.call_id() == owner.call_id())
        });
        let owner = same
            .min_by_key(|(_, owner)| (owner.call_id() != fact.call_id(), owner.at_ns(), &owner.event.id))
            .map(|(owner, _)| owner);
        // A log record that names no call and finds two calls in its span belongs to neither.
        let calls: BTreeSet<&str> = span
            .facts
            .iter()
            .filter_map(|owner| facts.list.get(*owner))
            .filter(|owner| owner.same_thing(fact))
            .filter_map(Fact::call_id)
            .collect();
        if let Some(owner) = owner.filter(|_| fact.call_id().is_some() || calls.len() <= 1) {
            sets.union(*owner, index);
        }
    }
}

/// Rule 3 inside a trace. Facts of kind `other` (wrappers that mappers do not know) join the one thing that the
/// call id names.
fn same_call(facts: &Facts<'_>, sets: &mut Sets) {
    type Things<'a> = BTreeMap<(ActionKind, &'a str), Vec<usize>>;
    let mut calls: BTreeMap<(TraceId, &str), Things<'_>> = BTreeMap::new();
    for (index, fact) in facts.list.iter().enumerate() {
        if let (Some(trace), Some(call)) = (fact.event.trace_id, fact.call_id()) {
            let thing = (fact.event.action.kind, fact.event.action.name.as_str());
            calls.entry((trace, call)).or_default().entry(thing).or_default().push(index);
        }
    }
    for things in calls.values() {
        for members in things.values() {
            sets.union_all(members);
        }
        let is_other = |thing: &(ActionKind, &str)| thing.0 == ActionKind::Other;
        let mut known = things.iter().filter(|(thing, _)| !is_other(thing));
        if let (Some((_, members)), None) = (known.next(), known.next()) {
            for others in things.iter().filter(|(thing, _)| is_other(thing)).map(|(_, others)| others) {
                sets.union_all(members.iter().chain(others));
            }
        }
    }
}

/// Rule 3 where names differ: clients name the parts of one call differently (`mcp__files__read` around `read`).
/// Tool facts of one call id join when one stands inside the span of the other.
fn same_call_nested(facts: &Facts<'_>, sets: &mut Sets) {
    let is_tool = |fact: &Fact<'_>| fact.event.action.kind == ActionKind::Tool;
    // One report stands for all of a call in a span: a hostile source can put any number into one.
    let mut calls: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for (index, fact) in facts.list.iter().enumerate().filter(|(_, fact)| is_tool(fact)) {
        if let Some((span, call)) = fact.span.zip(fact.call_id()) {
            sets.union(*calls.entry((span, call)).or_insert(index), index);
        }
    }
    for (index, fact) in facts.list.iter().enumerate().filter(|(_, fact)| is_tool(fact)) {
        let Some(call) = fact.call_id() else { continue };
        let mut at = fact.span.or(fact.above);
        for _ in 0..WRAPPER_HOPS_MAX {
            let Some((number, span)) = at.and_then(|span| Some((span, facts.spans.get(span)?))) else {
                break;
            };
            if let Some(other) = calls.get(&(number, call)) {
                sets.union(*other, index);
            }
            at = span.parent;
        }
    }
}

/// Facts of one call in one trace, as the session rule sees them.
struct Run {
    start_ns: u64,
    first_id: String,
    member: usize,
    traced: bool,
    paused: bool,
    over: bool,
}

/// Rule 3 inside a session: a paused call goes on in a later trace; an event without a trace finds its call.
fn same_call_in_session(facts: &Facts<'_>, sets: &mut Sets) {
    type Key<'k> = (&'k str, &'k str, ActionKind, &'k str);
    let mut calls: BTreeMap<Key<'_>, BTreeMap<Option<TraceId>, Vec<usize>>> = BTreeMap::new();
    for (index, (fact, who)) in facts.list.iter().zip(&facts.who).enumerate() {
        if let (Some(session), Some(call)) = (who.session, fact.call_id()) {
            let action = &fact.event.action;
            let key = (session.value, call, action.kind, action.name.as_str());
            calls.entry(key).or_default().entry(fact.event.trace_id).or_default().push(index);
        }
    }
    for traces in calls.values().filter(|traces| traces.len() > 1 || traces.contains_key(&None)) {
        let mut runs: Vec<Run> =
            traces.iter().filter_map(|(trace, members)| run(facts, members, trace.is_some())).collect();
        runs.sort_by(|a, b| (a.start_ns, &a.first_id).cmp(&(b.start_ns, &b.first_id)));
        let mut open: Option<Run> = None;
        let mut heads = Vec::new();
        for run in runs.into_iter().filter(|run| run.traced) {
            match &mut open {
                Some(earlier) if earlier.paused && !earlier.over => {
                    sets.union(earlier.member, run.member);
                    earlier.over = run.over;
                }
                _ => {
                    heads.push((run.start_ns, run.member));
                    open = Some(run);
                }
            }
        }
        let Some(untraced) = traces.get(&None) else { continue };
        match heads.first() {
            None => sets.union_all(untraced),
            Some(first) => {
                for index in untraced {
                    let at = facts.list.get(*index).map(Fact::at_ns).unwrap_or_default();
                    let head = heads.iter().rev().find(|(start, _)| *start <= at).unwrap_or(first);
                    sets.union(head.1, *index);
                }
            }
        }
    }
}

fn run(facts: &Facts<'_>, members: &[usize], traced: bool) -> Option<Run> {
    let of = || members.iter().filter_map(|index| facts.list.get(*index));
    let asked = of().any(|fact| effect(fact.event) == Some(Effect::RequireApproval));
    let status =
        |wanted: Status| of().any(|fact| fact.event.outcome.as_ref().is_some_and(|o| o.status == wanted));
    let refused = of().any(|fact| {
        fact.event
            .decision
            .as_ref()
            .is_some_and(|d| d.effect == Effect::Block && d.by.kind == AuthorityKind::Human)
    });
    Some(Run {
        start_ns: of().map(Fact::at_ns).min()?,
        first_id: of().map(|fact| fact.event.id.clone()).min()?,
        member: *members.first()?,
        traced,
        paused: asked || status(Status::Pending),
        // A pause is reported as an error by some clients, so an error ends only a call that did not ask.
        over: refused
            || status(Status::Ok)
            || status(Status::Compensated)
            || (!asked && status(Status::Error)),
    })
}

/// Rules 4 and 5.
fn nested(facts: &Facts<'_>, sets: &mut Sets) {
    let mut wrapped: BTreeMap<usize, BTreeMap<usize, (usize, usize)>> = BTreeMap::new();
    for (index, fact) in facts.list.iter().enumerate().filter(|(_, fact)| fact.span.is_some()) {
        let parents = fact.above.and_then(|span| facts.spans.get(span)).map_or(&[][..], |span| &span.facts);
        let parents = parents.iter().filter_map(|parent| Some((parent, facts.list.get(*parent)?)));
        let client = parents
            .filter(|(_, parent)| {
                parent.same_thing(fact)
                    && fact.mcp_method().is_some()
                    && parent.mcp_method() == fact.mcp_method()
            })
            .min_by_key(|(_, parent)| (parent.at_ns(), &parent.event.id));
        if let Some((client, _)) = client {
            sets.union(*client, index);
        } else if let Some(wrapper) = wrapper_of(facts, fact) {
            wrapped.entry(wrapper).or_default().insert(index, (wrapper, index));
        }
    }
    // Count calls, not reports: two reports of one child are one child.
    let mut children: BTreeMap<usize, BTreeMap<usize, (usize, usize)>> = BTreeMap::new();
    for pair in wrapped.into_values().flat_map(BTreeMap::into_values) {
        let (outer, inner) = (sets.find(pair.0), sets.find(pair.1));
        if outer != inner {
            children.entry(outer).or_default().insert(inner, pair);
        }
    }
    for (_, only) in children.into_values().filter(|c| c.len() == 1).flatten() {
        sets.union(only.0, only.1);
    }
}

/// Finds the nearest ancestor that reports a call of the same tool, with nothing but `other` in between.
fn wrapper_of(facts: &Facts<'_>, fact: &Fact<'_>) -> Option<usize> {
    if fact.event.action.kind != ActionKind::Tool {
        return None;
    }
    let mut above = fact.above;
    for _ in 0..WRAPPER_HOPS_MAX {
        let span = facts.spans.get(above?)?;
        let here = || span.facts.iter().filter_map(|index| Some((*index, facts.list.get(*index)?)));
        let reports: Vec<_> = here().filter(|(_, wrapper)| wrapper.same_thing(fact)).collect();
        if !reports.is_empty() {
            // Every report of the wrapper counts, whichever came first: another call is not a wrapper of this one.
            let calls = reports.iter().filter_map(|(_, wrapper)| wrapper.call_id());
            let calls: BTreeSet<&str> = calls.chain(fact.call_id()).collect();
            let earliest = reports.iter().min_by_key(|(_, wrapper)| (wrapper.at_ns(), &wrapper.event.id));
            return earliest.filter(|_| calls.len() <= 1).map(|(index, _)| *index);
        }
        // A span that nobody reported may be anything.
        if span.facts.is_empty() || here().any(|(_, other)| other.event.action.kind != ActionKind::Other) {
            return None;
        }
        above = span.parent;
    }
    None
}

/// Rule 6. Returns the folded answers, and (asking fact, answering fact) for answers that stay their own actions.
fn answered(facts: &Facts<'_>, sets: &mut Sets) -> (BTreeSet<usize>, Vec<(usize, usize)>) {
    let index = TargetIndex::new(facts);
    let mut pairs = Vec::new();
    for (answer, fact) in facts.list.iter().enumerate() {
        let Some(decision) = &fact.event.decision else { continue };
        let mut linked = fact.event.links.iter().filter(|link| link.rel == Rel::Approves);
        let by_link = linked.find_map(|link| index.find(facts, answer, &link.to));
        let asks = decision.effect == Effect::RequireApproval;
        let by_id = || {
            let approval = decision.approval_id.as_deref().filter(|_| !asks)?;
            index.approval(facts, answer, approval)
        };
        if let Some(asked) = by_link.or_else(by_id) {
            pairs.push((asked, answer));
        }
    }
    let pairs: Vec<(usize, usize)> =
        pairs.into_iter().filter(|(asked, answer)| sets.find(*asked) != sets.find(*answer)).collect();
    // An answer is folded in unless its action is more than an answer.
    let mut more: BTreeSet<usize> = BTreeSet::new();
    let mut answering: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (asked, answer) in &pairs {
        answering.entry(sets.find(*answer)).or_default().insert(*asked);
    }
    for (fact_index, fact) in facts.list.iter().enumerate() {
        let root = sets.find(fact_index);
        let Some(asked) = answering.get(&root) else { continue };
        let plain =
            matches!(fact.event.action.kind, ActionKind::Message | ActionKind::Guard | ActionKind::Other);
        let of_all =
            || asked.iter().filter_map(|asked| facts.list.get(*asked)).all(|asked| fact.same_thing(asked));
        if fact.event.usage.is_some() || !(plain || of_all()) {
            more.insert(root);
        }
    }
    let mut folded = BTreeSet::new();
    let mut borrowed = Vec::new();
    for (asked, answer) in &pairs {
        if more.contains(&sets.find(*answer)) {
            borrowed.push((*asked, *answer));
        } else {
            folded.insert((*asked, *answer));
        }
    }
    let mut answers = BTreeSet::new();
    for (asked, answer) in folded {
        let same = facts.list.get(asked).zip(facts.list.get(answer)).is_some_and(|(a, b)| a.same_thing(b));
        if !same {
            answers.insert(answer);
        }
        sets.union(asked, answer);
    }
    (answers, borrowed)
}

/// The lattice effect that an event states.
fn effect(event: &Event) -> Option<Effect> {
    event.decision.as_ref().map(|decision| decision.effect)
}

/// Finds the fact that a link names.
#[derive(Debug)]
pub(super) struct TargetIndex<'a> {
    by_id: BTreeMap<&'a str, Vec<usize>>,
    by_call: BTreeMap<&'a str, Vec<usize>>,
    asked: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> TargetIndex<'a> {
    pub(super) fn new(facts: &Facts<'a>) -> Self {
        let mut index = Self { by_id: BTreeMap::new(), by_call: BTreeMap::new(), asked: BTreeMap::new() };
        for (position, fact) in facts.list.iter().enumerate() {
            let event: &'a Event = fact.event;
            index.by_id.entry(&event.id).or_default().push(position);
            if let Some(call) = event.action.call_id.as_deref() {
                index.by_call.entry(call).or_default().push(position);
            }
            if let Some(decision) = event.decision.as_ref().filter(|d| d.effect == Effect::RequireApproval)
                && let Some(approval) = decision.approval_id.as_deref()
            {
                index.asked.entry(approval).or_default().push(position);
            }
        }
        index
    }

    /// Resolves a target, most exact member first.
    pub(super) fn find(&self, facts: &Facts<'_>, from: usize, target: &Target) -> Option<usize> {
        let fact = facts.list.get(from)?;
        let none: &[usize] = &[];
        let get = |map: &BTreeMap<&str, Vec<usize>>, key: Option<&str>| -> Vec<usize> {
            key.and_then(|key| map.get(key)).map_or(none, Vec::as_slice).to_vec()
        };
        if let Some(found) = nearest(facts, from, &get(&self.by_id, target.event.as_deref())) {
            return Some(found);
        }
        let trace = target.trace_id.or(fact.event.trace_id);
        if let Some(span) = trace.zip(target.span_id).and_then(|(trace, span)| facts.find_span(trace, span)) {
            let here = facts.spans.get(span)?.facts.iter().copied();
            if let Some(found) =
                here.min_by_key(|index| facts.list.get(*index).map(|f| (f.at_ns(), &f.event.id)))
            {
                return Some(found);
            }
        }
        if let Some(call) = target.call_id.as_deref() {
            // A call id holds inside its trace or session only.
            let calls: Vec<usize> = get(&self.by_call, Some(call))
                .into_iter()
                .filter(|index| {
                    facts.list.get(*index).is_some_and(|f| f.event.trace_id == trace && trace.is_some())
                        || same_session(facts, from, *index)
                })
                .collect();
            if let Some(found) = nearest(facts, from, &calls) {
                return Some(found);
            }
        }
        self.approval(facts, from, target.approval_id.as_deref()?)
    }

    /// Finds who asked for an approval.
    fn approval(&self, facts: &Facts<'_>, from: usize, approval: &str) -> Option<usize> {
        nearest(facts, from, self.asked.get(approval)?)
    }
}

fn same_session(facts: &Facts<'_>, a: usize, b: usize) -> bool {
    let session =
        |index: usize| facts.who.get(index).and_then(|who| who.session).map(|session| session.value);
    session(a).is_some() && session(a) == session(b)
}

/// Chooses among facts with the same name for themselves: in the same trace, else in the same session, else the
/// only one there is. The latest that started no later than the asking fact, else the first.
fn nearest(facts: &Facts<'_>, from: usize, found: &[usize]) -> Option<usize> {
    let fact = facts.list.get(from)?;
    let found: Vec<usize> = found.iter().copied().filter(|index| *index != from).collect();
    let pick = |near: Vec<usize>| {
        let key = |index: &usize| facts.list.get(*index).map(|f| (f.at_ns(), f.event.id.clone()));
        let before = near
            .iter()
            .copied()
            .filter(|index| facts.list.get(*index).is_some_and(|f| f.at_ns() <= fact.at_ns()));
        before.max_by_key(key).or_else(|| near.iter().copied().min_by_key(key))
    };
    let in_trace = |index: &usize| {
        fact.event.trace_id.is_some()
            && facts.list.get(*index).is_some_and(|f| f.event.trace_id == fact.event.trace_id)
    };
    pick(found.iter().copied().filter(in_trace).collect())
        .or_else(|| pick(found.iter().copied().filter(|index| same_session(facts, from, *index)).collect()))
        .or_else(|| {
            let traces: BTreeSet<_> =
                found.iter().filter_map(|index| facts.list.get(*index)).map(|f| f.event.trace_id).collect();
            (traces.len() == 1).then(|| pick(found)).flatten()
        })
}

/// Disjoint sets with path halving. The smaller index is the root.
#[derive(Debug)]
struct Sets(Vec<usize>);

impl Sets {
    fn new(len: usize) -> Self {
        Self((0..len).collect())
    }

    fn find(&mut self, mut at: usize) -> usize {
        loop {
            let up = self.0.get(at).copied().unwrap_or(at);
            if up == at {
                return at;
            }
            let top = self.0.get(up).copied().unwrap_or(up);
            if let Some(slot) = self.0.get_mut(at) {
                *slot = top;
            }
            at = top;
        }
    }

    fn union(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        if let Some(slot) = self.0.get_mut(a.max(b)) {
            *slot = a.min(b);
        }
    }

    fn union_all<'i>(&mut self, members: impl IntoIterator<Item = &'i usize>) {
        let mut members = members.into_iter();
        if let Some(first) = members.next() {
            for other in members {
                self.union(*first, *other);
            }
        }
    }
}
