//! One action out of the facts of a group: what to take from whom, the state, and the findings.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Fact, Facts, Known};
use super::join::Groups;
use super::target::TargetIndex;
use super::{Action, Conflict, Finding, Relation, Ruling, State, Stated};
use crate::event::{ActionKind, AuthorityKind, Effect, Link, Provenance, Rel, Status, Usage};
use crate::id::TraceId;

/// Positions that a conflict names; more are counted only.
const CONFLICT_SEQS_MAX: usize = 16;

pub(super) fn merge(
    facts: &Facts<'_>,
    groups: &Groups,
    targets: &TargetIndex<'_, '_>,
    settled_before_ns: u64,
) -> Vec<Action> {
    let whole = Whole {
        facts,
        groups,
        targets,
        owners: owners(facts, groups),
        silent: silences(facts),
        settled_before_ns,
    };
    let keys: Vec<u64> = groups
        .members
        .iter()
        .map(|members| {
            let seqs = members.iter().filter_map(|index| Some(facts.get(*index)?.record.seq));
            // What took the place of an earlier reading keeps its key, so that links to it stay.
            let first = seqs.flat_map(|seq| superseded(facts, seq).iter().copied().chain([seq])).min();
            first.unwrap_or_default()
        })
        .collect();
    let mut borrowed: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (group, fact) in &groups.borrowed {
        borrowed.entry(*group).or_default().push(*fact);
    }
    let none = Vec::new();
    let mut actions: Vec<Action> = groups
        .members
        .iter()
        .enumerate()
        .filter_map(|(group, members)| {
            let borrowed = borrowed.get(&group).unwrap_or(&none);
            Members::order(&whole, members).action(group, &keys, borrowed)
        })
        .collect();
    actions.sort_by_key(|action| action.key);
    compensate(&mut actions);
    repeat(&mut actions);
    actions
}

/// Tokens of the nearest calls below an action.
#[derive(Clone, Copy, Default)]
struct Below {
    input: u64,
    output: u64,
    calls: u64,
}

/// Finds usages that repeat those of the calls below them, whatever the source says, so that they are not summed: the
/// tokens of an action are to the last one those of its nearest descendants together.
fn repeat(actions: &mut [Action]) {
    let index: BTreeMap<u64, usize> =
        actions.iter().enumerate().map(|(at, action)| (action.key, at)).collect();
    let parents: Vec<Option<usize>> =
        actions.iter().map(|action| action.parent.and_then(|parent| index.get(&parent)).copied()).collect();
    let mut waiting = vec![0_usize; actions.len()];
    for parent in parents.iter().flatten() {
        if let Some(count) = waiting.get_mut(*parent) {
            *count += 1;
        }
    }
    // From the leaves up; links can close a ring, whose actions are never ready and repeat nothing.
    let mut ready: Vec<usize> = (0..actions.len()).filter(|at| waiting.get(*at) == Some(&0)).collect();
    let mut below = vec![Below::default(); actions.len()];
    while let Some(at) = ready.pop() {
        let (Some(action), Some(sums)) = (actions.get_mut(at), below.get(at).copied()) else { continue };
        let mut own = None;
        if let Some(usage) = action.usage.as_mut().filter(|usage| !usage.aggregate) {
            let stated = usage.input_tokens.zip(usage.output_tokens).filter(|tokens| *tokens != (0, 0));
            if sums.calls > 0 && stated == Some((sums.input, sums.output)) {
                usage.aggregate = true;
            } else {
                let (input, output) = (usage.input_tokens.unwrap_or(0), usage.output_tokens.unwrap_or(0));
                own = Some(Below { input, output, calls: 1 });
            }
        }
        let up = own.unwrap_or(sums);
        let Some(parent) = parents.get(at).copied().flatten() else { continue };
        if let Some(sums) = below.get_mut(parent) {
            sums.input = sums.input.saturating_add(up.input);
            sums.output = sums.output.saturating_add(up.output);
            sums.calls = sums.calls.saturating_add(up.calls);
        }
        if let Some(count) = waiting.get_mut(parent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                ready.push(parent);
            }
        }
    }
}

/// Marks what other actions undid.
fn compensate(actions: &mut [Action]) {
    // An undo that failed, or never ran, undid nothing.
    let undone: BTreeSet<u64> = actions
        .iter()
        .filter(|action| action.outcome == Some(Status::Ok))
        .flat_map(|action| action.relations.iter().filter(|r| r.rel == Rel::Compensates).map(|r| r.key))
        .collect();
    for action in actions.iter_mut().filter(|action| undone.contains(&action.key)) {
        action.state = State::Compensated;
    }
}

/// Returns the positions whose place an event takes.
fn superseded<'f>(facts: &'f Facts<'_>, seq: u64) -> &'f [u64] {
    facts.statements.superseded.get(&seq).map_or(&[], Vec::as_slice)
}

/// The group of the earliest report of each span, and of the earliest report of another group, for whoever is in
/// the first.
fn owners(facts: &Facts<'_>, groups: &Groups) -> Vec<[Option<usize>; 2]> {
    let of_span = |reports: &[usize]| {
        let first = |among: &dyn Fn(usize) -> bool| {
            let of_group =
                reports.iter().filter_map(|index| Some((*groups.of.get(*index)?, facts.get(*index)?)));
            let first = of_group.filter(|(group, _)| among(*group)).min_by_key(|(_, fact)| fact.order());
            first.map(|(group, _)| group)
        };
        let earliest = first(&|_| true);
        [earliest, earliest.and_then(|earliest| first(&|group| group != earliest))]
    };
    facts.spans().iter().map(|span| of_span(&span.facts)).collect()
}

/// When each trace last said anything.
fn silences(facts: &Facts<'_>) -> BTreeMap<TraceId, u64> {
    let mut last = BTreeMap::new();
    for (_, fact) in facts.all() {
        if let Some(trace) = fact.event.trace_id {
            let at = last.entry(trace).or_insert(0);
            *at = fact.record.ts_ns.max(*at);
        }
    }
    last
}

/// What every action is made from.
struct Whole<'f, 'a> {
    facts: &'f Facts<'a>,
    groups: &'f Groups,
    targets: &'f TargetIndex<'f, 'a>,
    owners: Vec<[Option<usize>; 2]>,
    silent: BTreeMap<TraceId, u64>,
    settled_before_ns: u64,
}

/// The facts of one group, in an order that does not depend on arrival.
struct Members<'w, 'f, 'a> {
    whole: &'w Whole<'f, 'a>,
    /// (fact index, fact): innermost span first, then time, then id.
    inner: Vec<(usize, &'f Fact<'a>)>,
    /// Those that report the action itself, without answers to its approval.
    own: Vec<(usize, &'f Fact<'a>)>,
}

impl<'w, 'f, 'a> Members<'w, 'f, 'a> {
    fn order(whole: &'w Whole<'f, 'a>, members: &[usize]) -> Self {
        let facts = whole.facts;
        let mut inner: Vec<(usize, &Fact<'a>)> =
            members.iter().filter_map(|index| Some((*index, facts.get(*index)?))).collect();
        inner.sort_by(|(_, a), (_, b)| {
            let order = |fact: &'f Fact<'a>| (Reverse(facts.depth(fact)), fact.order());
            let place = |fact: &Fact<'_>| (fact.event.trace_id, fact.event.span_id);
            (order(a), place(a)).cmp(&(order(b), place(b)))
        });
        let mut own: Vec<_> =
            inner.iter().copied().filter(|(index, _)| !whole.groups.answers.contains(index)).collect();
        if own.is_empty() {
            own.clone_from(&inner);
        }
        Self { whole, inner, own }
    }

    fn action(&self, group: usize, keys: &[u64], borrowed: &[usize]) -> Option<Action> {
        let key = *keys.get(group)?;
        let head = self.head()?;
        let mut seqs: Vec<u64> = self.inner.iter().map(|(_, fact)| fact.record.seq).collect();
        seqs.sort_unstable();
        let (trace_id, later_traces) = self.traces();
        let span_id = self
            .own
            .iter()
            .filter(|(_, fact)| fact.event.trace_id == trace_id)
            .max_by_key(|(_, fact)| {
                (fact.span.is_some(), self.whole.facts.depth(fact), Reverse(fact.event.span_id))
            })
            .and_then(|(_, fact)| fact.event.span_id);
        let links = self.links();
        let relations = self.relations(group, keys);
        let (outcome, outcome_seq, outcome_ns) = self.outcome();
        let mut action = Action {
            key,
            seqs,
            trace_id,
            later_traces,
            span_id,
            parent_span_id: self
                .own
                .iter()
                .rev()
                .filter(|(_, fact)| fact.event.trace_id == trace_id)
                .find_map(|(_, fact)| fact.event.parent_span_id),
            parent: self.parent(group, keys),
            kind: head.event.action.kind,
            name: head.event.action.name.clone(),
            call_id: self.call_id(),
            arguments: self.arguments(),
            resource: self.first(|fact| fact.event.action.resource.clone()),
            capabilities: self.capabilities(),
            agent: self.known(|index| self.whole.facts.who.get(index)?.agent),
            user: self.known(|index| self.whole.facts.who.get(index)?.user),
            session: self.known(|index| self.whole.facts.who.get(index)?.session),
            service: self.known(|index| self.whole.facts.who.get(index)?.service),
            environment: self.known(|index| self.whole.facts.who.get(index)?.environment),
            tenant: self.known(|index| self.whole.facts.who.get(index)?.tenant),
            on_behalf_of: self
                .first(|fact| Some(&fact.event.on_behalf_of).filter(|chain| !chain.is_empty()).cloned())
                .unwrap_or_default(),
            provenance: self.provenance(),
            classification: self.classification(),
            budget: self.first(|fact| fact.event.budget.clone()),
            rulings: self.rulings(borrowed),
            outcome,
            outcome_seq,
            outcome_ns,
            error: self.first(|fact| fact.event.outcome.as_ref()?.error.clone()),
            result: self.first(|fact| fact.event.outcome.as_ref()?.result.clone()),
            usage: self.usage(),
            cached_beside: self.cached_beside(),
            unpriced: None,
            links,
            relations,
            start_ns: self.start_ns(),
            end_ns: self.own.iter().filter_map(|(_, fact)| fact.event.end_ns).max(),
            state: State::Asked,
            settled: self.settled(),
            findings: Vec::new(),
            conflicts: self.conflicting_statements(),
            superseded: self.superseded(),
            withheld: self.withheld(),
        };
        action.state = state(&action);
        action.conflicts.extend(conflicting_decisions(&action));
        let last_word_ns = self.inner.iter().map(|(_, fact)| fact.record.ts_ns).max().unwrap_or_default();
        action.findings = findings(&action, last_word_ns < self.whole.settled_before_ns);
        Some(action)
    }

    /// Chooses whose kind and name the action has: those that most reports give, then the outermost. A wrapper
    /// of kind `other` only carries the call id.
    fn head(&self) -> Option<&'f Fact<'a>> {
        let mut counts: BTreeMap<(ActionKind, &str), usize> = BTreeMap::new();
        for (_, fact) in &self.own {
            *counts.entry((fact.event.action.kind, fact.event.action.name.as_str())).or_default() += 1;
        }
        let count =
            |fact: &Fact<'_>| counts.get(&(fact.event.action.kind, fact.event.action.name.as_str())).copied();
        // `own` is innermost first and `max_by_key` keeps the last of equals.
        let known = |fact: &Fact<'_>| fact.event.action.kind != ActionKind::Other;
        self.own.iter().map(|(_, fact)| *fact).max_by_key(|fact| (known(fact), count(fact)))
    }

    fn first<T>(&self, get: impl Fn(&Fact<'a>) -> Option<T>) -> Option<T> {
        self.own.iter().find_map(|(_, fact)| get(fact))
    }

    fn traces(&self) -> (Option<TraceId>, Vec<TraceId>) {
        let mut starts: BTreeMap<TraceId, u64> = BTreeMap::new();
        for (_, fact) in &self.own {
            if let Some(trace) = fact.event.trace_id {
                let start = starts.entry(trace).or_insert(u64::MAX);
                *start = fact.at_ns().min(*start);
            }
        }
        let mut traces: Vec<_> = starts.into_iter().map(|(trace, start)| (start, trace)).collect();
        traces.sort_unstable();
        let mut traces = traces.into_iter().map(|(_, trace)| trace);
        (traces.next(), traces.collect())
    }

    /// Prefers an id that holds in a trace over a counter of a connection.
    fn call_id(&self) -> Option<String> {
        self.first(|fact| fact.call_id().map(str::to_owned))
            .or_else(|| self.first(|fact| fact.event.action.call_id.clone()))
    }

    /// Prefers structured arguments over a text that may be any client's rendering of them, then the innermost.
    fn arguments(&self) -> Option<serde_json::Value> {
        self.first(|fact| fact.event.action.arguments.clone().filter(serde_json::Value::is_object))
            .or_else(|| self.first(|fact| fact.event.action.arguments.clone()))
    }

    /// Who acted is what the caller says: the outermost statement, then the outermost inheritance. The inner
    /// report of a remote call names the server's identity.
    fn known<T: ?Sized + ToOwned + 'a>(
        &self,
        get: impl Fn(usize) -> Option<Known<'a, T>>,
    ) -> Option<Stated<<T as ToOwned>::Owned>> {
        let all = || self.own.iter().rev().filter_map(|(index, _)| get(*index));
        let known = all().find(|known| !known.inherited).or_else(|| all().next())?;
        Some(Stated { value: known.value.to_owned(), inherited: known.inherited })
    }

    fn capabilities(&self) -> Vec<String> {
        let all: BTreeSet<&String> =
            self.own.iter().flat_map(|(_, fact)| &fact.event.action.capabilities).collect();
        all.into_iter().cloned().collect()
    }

    fn provenance(&self) -> Vec<Provenance> {
        let mut seen = BTreeSet::new();
        let all = self.own.iter().flat_map(|(_, fact)| &fact.event.provenance);
        all.filter(|source| seen.insert(*source)).cloned().collect()
    }

    fn classification(&self) -> Option<String> {
        const KNOWN: [&str; 4] = ["public", "internal", "confidential", "restricted"];
        let all = || self.own.iter().filter_map(|(_, fact)| fact.event.classification.as_deref());
        let rank = |word: &str| KNOWN.iter().position(|known| *known == word);
        let strictest = all().filter_map(rank).max().and_then(|rank| KNOWN.get(rank).copied());
        strictest.or_else(|| all().next()).map(str::to_owned)
    }

    fn rulings(&self, borrowed: &[usize]) -> Vec<Ruling> {
        let borrowed = borrowed.iter().filter_map(|index| self.whole.facts.get(*index));
        let mut all: Vec<((&str, u32), Ruling)> = self
            .inner
            .iter()
            .map(|(_, fact)| *fact)
            .chain(borrowed)
            .filter_map(|fact| {
                let decision = fact.event.decision.clone()?;
                Some((
                    (fact.event.id.as_str(), fact.rank),
                    Ruling { seq: fact.record.seq, at_ns: fact.at_ns(), decision },
                ))
            })
            .collect();
        all.sort_by(|(a_id, a), (b_id, b)| {
            // At one time, a question stands before its answer.
            let question = |r: &Ruling| r.decision.effect != Effect::RequireApproval;
            (a.at_ns, question(a), a_id, a.seq).cmp(&(b.at_ns, question(b), b_id, b.seq))
        });
        all.into_iter().map(|(_, ruling)| ruling).collect()
    }

    /// The worst status and the first event that reports it. A pending report gives way to any end.
    fn outcome(&self) -> (Option<Status>, Option<u64>, Option<u64>) {
        let badness = |status: Status| match status {
            Status::Pending => 0,
            Status::Ok => 1,
            Status::Cancelled => 2,
            Status::Error => 3,
            Status::Compensated => 4,
        };
        let asked = self.own.iter().any(|(_, fact)| {
            fact.event.decision.as_ref().is_some_and(|decision| decision.effect == Effect::RequireApproval)
        });
        let (first_trace, later_traces) = self.traces();
        let resumed = asked && !later_traces.is_empty();
        let reports =
            self.own.iter().filter_map(|(_, fact)| Some((fact, fact.event.outcome.as_ref()?.status)));
        // A call that paused in one trace and went on in another ended there: the pause's own status is no end.
        let reports = reports.filter(|(fact, _)| !resumed || fact.event.trace_id != first_trace);
        let mut worst: Option<(u8, u64, u64, Status)> = None;
        for (fact, status) in reports {
            let at_ns = fact.event.end_ns.unwrap_or_else(|| fact.at_ns());
            let replaces = worst.is_none_or(|(rank, ..)| badness(status) > rank);
            if replaces {
                worst = Some((badness(status), fact.record.seq, at_ns, status));
            }
        }
        match worst {
            Some((_, seq, at_ns, status)) => (Some(status), Some(seq), Some(at_ns)),
            None => (None, None, None),
        }
    }

    /// Takes the numbers of one report, the innermost that is no aggregate, and lets the others only fill gaps.
    fn usage(&self) -> Option<Usage> {
        let all = || self.own.iter().filter_map(|(_, fact)| fact.event.usage.as_ref());
        let own = || all().filter(|usage| !usage.aggregate);
        let Some(first) = own().next() else { return all().next().cloned() };
        let mut usage = first.clone();
        for other in own().skip(1) {
            let Usage {
                provider,
                model,
                input_tokens,
                output_tokens,
                cache_read_tokens,
                cache_write_tokens,
                reasoning_tokens,
                context_window,
                cost,
                aggregate: _,
            } = other;
            usage.provider = usage.provider.or_else(|| provider.clone());
            usage.model = usage.model.or_else(|| model.clone());
            usage.input_tokens = usage.input_tokens.or(*input_tokens);
            usage.output_tokens = usage.output_tokens.or(*output_tokens);
            usage.cache_read_tokens = usage.cache_read_tokens.or(*cache_read_tokens);
            usage.cache_write_tokens = usage.cache_write_tokens.or(*cache_write_tokens);
            usage.reasoning_tokens = usage.reasoning_tokens.or(*reasoning_tokens);
            usage.context_window = usage.context_window.or(*context_window);
            // What the provider charged beats what a table says.
            let reported = |cost: &crate::event::Cost| cost.basis == "reported";
            let better = cost.as_ref().is_some_and(reported) && !usage.cost.as_ref().is_some_and(reported);
            if usage.cost.is_none() || better {
                usage.cost = cost.clone().or(usage.cost);
            }
        }
        Some(usage)
    }

    fn links(&self) -> Vec<Link> {
        let mut seen = BTreeSet::new();
        let all = self.inner.iter().flat_map(|(_, fact)| &fact.event.links);
        all.filter(|link| seen.insert(*link)).cloned().collect()
    }

    fn relations(&self, group: usize, keys: &[u64]) -> Vec<Relation> {
        let mut all = BTreeSet::new();
        for (from, fact) in &self.inner {
            for link in &fact.event.links {
                let target = self.whole.targets.find(*from, &link.to);
                let target = target.and_then(|to| self.whole.groups.of.get(to).copied());
                if let Some(target) = target.filter(|target| *target != group)
                    && let Some(key) = keys.get(target)
                {
                    all.insert(Relation { rel: link.rel, key: *key });
                }
            }
        }
        all.into_iter().collect()
    }

    /// Walks up from the outermost fact to the first span that reports another action; else follows a link.
    fn parent(&self, group: usize, keys: &[u64]) -> Option<u64> {
        let facts = self.whole.facts;
        // A way that was walked before led nowhere.
        let mut walked = BTreeSet::new();
        for (_, fact) in self.own.iter().rev() {
            let mut above = fact.above;
            while let Some(span) = above.filter(|span| walked.insert(*span)) {
                let owners = self.whole.owners.get(span).copied().unwrap_or_default();
                let owner = owners.into_iter().flatten().find(|owner| *owner != group);
                if let Some(key) = owner.and_then(|owner| keys.get(owner)) {
                    return Some(*key);
                }
                above = facts.span(span).and_then(|span| span.parent);
            }
        }
        // Of several causes the earliest, by what the events say: positions are a matter of arrival.
        let causes = self.inner.iter().flat_map(|(from, fact)| {
            let causal = |rel| matches!(rel, Rel::CausedBy | Rel::DelegatedBy);
            let links = fact.event.links.iter().filter(move |link| causal(link.rel));
            links.filter_map(|link| Some((link.rel, self.whole.targets.find(*from, &link.to)?)))
        });
        let owned = causes.filter_map(|(rel, to)| {
            let owner = self.whole.groups.of.get(to).copied().filter(|owner| *owner != group)?;
            Some((rel, facts.get(to)?, *keys.get(owner)?))
        });
        owned.min_by_key(|(rel, fact, _)| (*rel, fact.order())).map(|(.., key)| key)
    }

    /// Tells whether nothing was heard for the settle window, neither of the action nor of a trace that it is in: a
    /// late parent still changes what an action inherits.
    fn settled(&self) -> bool {
        let last = |fact: &Fact<'_>| {
            let trace = fact.event.trace_id.and_then(|trace| self.whole.silent.get(&trace).copied());
            trace.unwrap_or(fact.record.ts_ns)
        };
        self.inner.iter().all(|(_, fact)| last(fact) < self.whole.settled_before_ns)
    }

    /// Names the events whose id was used for another statement too.
    fn conflicting_statements(&self) -> Vec<Conflict> {
        let statements = &self.whole.facts.statements;
        if statements.conflicting.is_empty() {
            return Vec::new();
        }
        let groups = self.inner.iter().filter_map(|(_, fact)| {
            Some((*statements.conflicting.get(&fact.record.seq)?, fact.event.id.as_str()))
        });
        let groups: BTreeMap<usize, &str> = groups.collect();
        groups
            .into_iter()
            .filter_map(|(group, id)| Some((id, statements.conflicts.get(group)?)))
            .map(|(id, seqs)| Conflict::Statements {
                id: id.to_owned(),
                count: seqs.len() as u64,
                seqs: seqs.iter().copied().take(CONFLICT_SEQS_MAX).collect(),
            })
            .collect()
    }

    fn superseded(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self
            .inner
            .iter()
            .flat_map(|(_, fact)| superseded(self.whole.facts, fact.record.seq))
            .copied()
            .collect();
        all.sort_unstable();
        all
    }

    /// Tells whether the cached tokens are counted beside the input tokens and not among them. Conventions count them
    /// among the input; Claude Code reports the numbers of the Anthropic API, which do not. Numbers that cannot be
    /// among the input are beside it.
    fn cached_beside(&self) -> bool {
        let reporter = self
            .own
            .iter()
            .filter(|(_, fact)| fact.event.usage.as_ref().is_some_and(|usage| !usage.aggregate))
            .find(|(_, fact)| {
                fact.event.usage.as_ref().is_some_and(|usage| {
                    usage.cache_read_tokens.is_some() || usage.cache_write_tokens.is_some()
                })
            });
        reporter.is_some_and(|(_, fact)| {
            let sum = fact.event.usage.as_ref().map_or(0, |usage| {
                usage.cache_read_tokens.unwrap_or(0).saturating_add(usage.cache_write_tokens.unwrap_or(0))
            });
            let input = fact.event.usage.as_ref().and_then(|usage| usage.input_tokens);
            fact.event.source.profile.as_deref() == Some("claude-code")
                || input.is_some_and(|input| sum > input)
        })
    }

    fn start_ns(&self) -> u64 {
        let stated = self.own.iter().filter_map(|(_, fact)| fact.event.start_ns).min();
        stated.or_else(|| self.own.iter().map(|(_, fact)| fact.record.ts_ns).min()).unwrap_or_default()
    }

    fn withheld(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.own.iter().flat_map(|(_, fact)| &fact.record.withheld).collect();
        all.into_iter().cloned().collect()
    }
}

/// The state that outcome and standing ruling give. A shadow ruling gives none.
fn state(action: &Action) -> State {
    let effect =
        action.ruling().filter(|ruling| ruling.decision.enforced).map(|ruling| ruling.decision.effect);
    match action.outcome {
        Some(Status::Ok) => State::Done,
        Some(Status::Compensated) => State::Compensated,
        // A refusal reaches the caller as an error or a cancellation: the tool did not run.
        Some(Status::Error | Status::Cancelled) if effect == Some(Effect::Block) => State::Blocked,
        Some(Status::Error | Status::Cancelled) if effect == Some(Effect::Cooldown) => State::Cooling,
        Some(Status::Error) => State::Failed,
        Some(Status::Cancelled) => State::Cancelled,
        Some(Status::Pending) | None => match effect {
            None => State::Asked,
            Some(Effect::NoOp | Effect::Allow | Effect::DryRun) => State::Allowed,
            Some(Effect::RequireApproval) => State::Waiting,
            Some(Effect::Cooldown) => State::Cooling,
            Some(Effect::Block) => State::Blocked,
        },
    }
}

fn findings(action: &Action, settled: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ended = action.outcome.is_some_and(|status| status != Status::Pending);
    let has_effects = matches!(action.kind, ActionKind::Tool | ActionKind::Data | ActionKind::Message);
    if ended && has_effects && action.rulings.is_empty() {
        findings.push(Finding::Ungoverned);
    }
    let standing =
        action.ruling().filter(|ruling| ruling.decision.enforced).map(|ruling| ruling.decision.effect);
    let ran = matches!(action.outcome, Some(Status::Ok | Status::Compensated));
    if ran && standing == Some(Effect::Block) {
        findings.push(Finding::EnforcementFailure);
    }
    // A dry run has no outcome of its own.
    let open = match action.state {
        State::Waiting => true,
        State::Allowed => standing != Some(Effect::DryRun),
        _ => false,
    };
    if settled && open {
        findings.push(Finding::Unfinished);
    }
    if !action.conflicts.is_empty() {
        findings.push(Finding::Conflict);
    }
    findings
}

/// Finds enforced decisions that differ. `no_op` says nothing, an approval does not differ from its answer, and a
/// cooldown does not differ from a ruling after its end.
fn conflicting_decisions(action: &Action) -> Option<Conflict> {
    let enforced: Vec<&Ruling> = action.rulings.iter().filter(|ruling| ruling.decision.enforced).collect();
    let mut effects: BTreeMap<Effect, u64> = BTreeMap::new();
    // From the last to the first, with what came later at hand.
    let mut human_later = false;
    let mut answered_later: BTreeSet<&str> = BTreeSet::new();
    let mut last_ns = None;
    for ruling in enforced.into_iter().rev() {
        let decision = &ruling.decision;
        let settled = match decision.effect {
            Effect::NoOp => true,
            Effect::RequireApproval => {
                human_later || decision.approval_id.as_deref().is_some_and(|id| answered_later.contains(id))
            }
            Effect::Cooldown => decision.until_ns.zip(last_ns).is_some_and(|(until, last)| until <= last),
            Effect::Allow | Effect::DryRun | Effect::Block => false,
        };
        if !settled {
            effects.insert(decision.effect, ruling.seq);
        }
        human_later |= decision.by.kind == AuthorityKind::Human;
        if decision.effect != Effect::RequireApproval {
            answered_later.extend(decision.approval_id.as_deref());
        }
        last_ns = last_ns.max(Some(ruling.at_ns));
    }
    (effects.len() > 1).then(|| Conflict::Decisions {
        effects: effects.keys().copied().collect(),
        seqs: effects.into_values().collect(),
    })
}
