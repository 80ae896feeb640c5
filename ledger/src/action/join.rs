//! Which facts are one action: the rules of the module documentation, over a disjoint-set forest.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Fact, Facts};
use super::reports::Reports;
use super::target::TargetIndex;
use crate::event::{ActionKind, AuthorityKind, Effect, Event, Rel, Status};
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

pub(super) fn join(facts: &Facts<'_>, reports: &[Reports<'_>], targets: &TargetIndex<'_, '_>) -> Groups {
    let mut sets = Sets::new(facts.len());
    same_statement(facts, &mut sets);
    same_span(facts, reports, &mut sets);
    same_call(facts, &mut sets);
    same_call_nested(facts, &mut sets);
    same_call_in_session(facts, &mut sets);
    nested(facts, reports, &mut sets);
    let (answers, borrowed) = answered(facts, targets, &mut sets);

    let mut number: BTreeMap<usize, usize> = BTreeMap::new();
    let mut groups = Groups { members: Vec::new(), of: Vec::new(), answers, borrowed: BTreeSet::new() };
    for fact in 0..facts.len() {
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
    for (index, Fact { event, .. }) in facts.all() {
        let key = (&event.id, event.trace_id, event.span_id, event.action.kind, &event.action.name);
        sets.union(*first.entry(key).or_insert(index), index);
    }
}

/// Rule 2. `span.facts` holds reports of the span; log records come second.
fn same_span(facts: &Facts<'_>, reports: &[Reports<'_>], sets: &mut Sets) {
    for (span, reports) in facts.spans().iter().zip(reports) {
        let mut first = BTreeMap::new();
        for index in span.facts.iter().copied() {
            let Some(fact) = facts.get(index) else { continue };
            if reports.like(fact).is_some_and(|thing| thing.calls.len() <= 1) {
                let action = &fact.event.action;
                sets.union(*first.entry((action.kind, action.name.as_str())).or_insert(index), index);
            }
        }
    }
    for (index, fact) in facts.all().filter(|(_, fact)| fact.span.is_none() && fact.event.span_id.is_some()) {
        let Some(thing) = fact.above.and_then(|span| reports.get(span)?.like(fact)) else { continue };
        // The report of the same call, else one that names no call; of several the earliest by what they say.
        let owner = match fact.call_id() {
            Some(call) => thing.calls.get(call).copied().or(thing.uncalled),
            // A log record that names no call and finds two calls in its span belongs to neither.
            None if thing.calls.len() <= 1 => thing.uncalled.or(thing.earliest),
            None => None,
        };
        if let Some(owner) = owner {
            sets.union(owner, index);
        }
    }
}

/// Rule 3 inside a trace. Facts of kind `other` (wrappers that mappers do not know) join the one thing that the
/// call id names.
fn same_call(facts: &Facts<'_>, sets: &mut Sets) {
    type Things<'a> = BTreeMap<(ActionKind, &'a str), Vec<usize>>;
    let mut calls: BTreeMap<(TraceId, &str), Things<'_>> = BTreeMap::new();
    for (index, fact) in facts.all() {
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
            // Each list is joined in itself by now.
            let firsts = things.iter().filter(|(thing, _)| is_other(thing)).filter_map(|(_, l)| l.first());
            sets.union_all(members.first().into_iter().chain(firsts));
        }
    }
}

/// Rule 3 where names differ: clients name the parts of one call differently (`mcp__files__read` around `read`).
/// Tool facts of one call id join when one stands inside the span of the other.
fn same_call_nested(facts: &Facts<'_>, sets: &mut Sets) {
    let is_tool = |fact: &Fact<'_>| fact.event.action.kind == ActionKind::Tool;
    // One report stands for all of a call in a span: a hostile source can put any number into one.
    let mut calls: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for (index, fact) in facts.all().filter(|(_, fact)| is_tool(fact)) {
        if let Some((span, call)) = fact.span.zip(fact.call_id()) {
            sets.union(*calls.entry((span, call)).or_insert(index), index);
        }
    }
    for (index, fact) in facts.all().filter(|(_, fact)| is_tool(fact)) {
        let Some(call) = fact.call_id() else { continue };
        let mut at = fact.span.or(fact.above);
        for _ in 0..WRAPPER_HOPS_MAX {
            let Some((number, span)) = at.and_then(|span| Some((span, facts.span(span)?))) else {
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
    for ((index, fact), who) in facts.all().zip(&facts.who) {
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
                    let at = facts.get(*index).map(Fact::at_ns).unwrap_or_default();
                    let started = heads.partition_point(|(start, _)| *start <= at);
                    let head = started.checked_sub(1).and_then(|last| heads.get(last)).unwrap_or(first);
                    sets.union(head.1, *index);
                }
            }
        }
    }
}

fn run(facts: &Facts<'_>, members: &[usize], traced: bool) -> Option<Run> {
    let of = || members.iter().filter_map(|index| facts.get(*index));
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
        first_id: of().map(|fact| fact.event.id.as_str()).min()?.to_owned(),
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
fn nested(facts: &Facts<'_>, reports: &[Reports<'_>], sets: &mut Sets) {
    let mut wrapped: BTreeMap<usize, BTreeMap<usize, (usize, usize)>> = BTreeMap::new();
    for (index, fact) in facts.all().filter(|(_, fact)| fact.span.is_some()) {
        let method = fact.mcp_method();
        let client =
            method.and_then(|method| reports.get(fact.above?)?.like(fact)?.methods.get(method).copied());
        if let Some(client) = client {
            sets.union(client, index);
        } else if let Some(wrapper) =
            wrapper_of(facts, reports, fact).or_else(|| unit_of(facts, reports, fact))
        {
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
fn wrapper_of(facts: &Facts<'_>, reports: &[Reports<'_>], fact: &Fact<'_>) -> Option<usize> {
    if fact.event.action.kind != ActionKind::Tool {
        return None;
    }
    let mut above = fact.above;
    for _ in 0..WRAPPER_HOPS_MAX {
        let here = reports.get(above?)?;
        if let Some(wrapper) = here.like(fact) {
            // Every report of the wrapper counts, whichever came first: another call is not a wrapper of this one.
            let one_call = match (wrapper.calls.len(), fact.call_id()) {
                (0, _) | (1, None) => true,
                (1, Some(call)) => wrapper.calls.contains_key(call),
                _ => false,
            };
            return wrapper.earliest.filter(|_| one_call);
        }
        // A span that nobody reported may be anything.
        if here.earliest.is_none() || here.known {
            return None;
        }
        above = facts.span(above?)?.parent;
    }
    None
}

/// Finds the nearest model call above that states the very same tokens, with nothing but `other` in between: a unit of
/// work that a governance layer put around the call.
fn unit_of(facts: &Facts<'_>, reports: &[Reports<'_>], fact: &Fact<'_>) -> Option<usize> {
    let tokens = fact.metered()?;
    let mut above = fact.above;
    for _ in 0..WRAPPER_HOPS_MAX {
        let here = reports.get(above?)?;
        if here.earliest.is_none() || here.known {
            return here.metered.get(&tokens).copied();
        }
        above = facts.span(above?)?.parent;
    }
    None
}

/// Rule 6. Returns the folded answers, and (asking fact, answering fact) for answers that stay their own actions.
fn answered(
    facts: &Facts<'_>,
    targets: &TargetIndex<'_, '_>,
    sets: &mut Sets,
) -> (BTreeSet<usize>, Vec<(usize, usize)>) {
    let mut pairs = Vec::new();
    for (answer, fact) in facts.all() {
        let Some(decision) = &fact.event.decision else { continue };
        let mut linked = fact.event.links.iter().filter(|link| link.rel == Rel::Approves);
        let by_link = linked.find_map(|link| targets.find(answer, &link.to));
        let asks = decision.effect == Effect::RequireApproval;
        let by_id = || {
            let approval = decision.approval_id.as_deref().filter(|_| !asks)?;
            targets.approval(answer, approval)
        };
        if let Some(asked) = by_link.or_else(by_id) {
            pairs.push((asked, answer));
        }
    }
    let pairs: Vec<(usize, usize)> =
        pairs.into_iter().filter(|(asked, answer)| sets.find(*asked) != sets.find(*answer)).collect();
    // An answer is folded in unless its action is more than an answer.
    let mut more: BTreeSet<usize> = BTreeSet::new();
    let mut answering: BTreeMap<usize, BTreeSet<(ActionKind, &str)>> = BTreeMap::new();
    for (asked, answer) in &pairs {
        let asked = facts.get(*asked).map(|asked| &asked.event.action);
        let things = answering.entry(sets.find(*answer)).or_default();
        things.extend(asked.map(|action| (action.kind, action.name.as_str())));
    }
    for (fact_index, fact) in facts.all() {
        let root = sets.find(fact_index);
        let Some(asked) = answering.get(&root) else { continue };
        let plain =
            matches!(fact.event.action.kind, ActionKind::Message | ActionKind::Guard | ActionKind::Other);
        let thing = (fact.event.action.kind, fact.event.action.name.as_str());
        let of_all = || asked.len() == 1 && asked.contains(&thing);
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
        let same = facts.get(asked).zip(facts.get(answer)).is_some_and(|(a, b)| a.same_thing(b));
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
