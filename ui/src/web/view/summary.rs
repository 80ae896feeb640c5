//! One trace in numbers, from its folded actions.

use std::collections::{BTreeMap, BTreeSet};

use verdict_ledger::action::{Action, Finding, State};
use verdict_ledger::event::{ActionKind, Effect, Trust};

use super::badge::{self, Badge};
use super::number::{self, Money};
use super::time;
use crate::web::projection::Mark;

/// A badge with how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Badge.
    pub(crate) badge: Badge,
    /// How often.
    pub(crate) count: usize,
}

/// A kind of action with how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KindCount {
    /// Name.
    pub(crate) name: &'static str,
    /// Shape.
    pub(crate) shape: &'static str,
    /// How often.
    pub(crate) count: usize,
}

/// One trace in numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summary {
    /// Agents, sorted.
    pub(crate) agents: Vec<String>,
    /// Users that are known, sorted.
    pub(crate) users: Vec<String>,
    /// True when some event's user is erased or withheld.
    pub(crate) users_withheld: bool,
    /// Services, sorted.
    pub(crate) services: Vec<String>,
    /// Environments, sorted.
    pub(crate) environments: Vec<String>,
    /// Sessions, sorted.
    pub(crate) sessions: Vec<String>,
    /// Actions by kind.
    pub(crate) kinds: Vec<KindCount>,
    /// Standing decisions by effect, strictest first, and actions with effects that nobody ruled on.
    pub(crate) effects: Vec<Counted>,
    /// Findings.
    pub(crate) findings: Vec<Counted>,
    /// States, for the trace page.
    pub(crate) states: Vec<Counted>,
    /// Lowest trust of any source, when there is a source.
    pub(crate) lowest_trust: Option<Badge>,
    /// Tokens in and out, counted once.
    pub(crate) tokens: u64,
    /// The same, grouped; empty when nothing was stated.
    pub(crate) tokens_text: String,
    /// Cost; empty when nothing was stated.
    pub(crate) cost: String,
    /// Calls without a cost though they used tokens.
    pub(crate) unpriced: usize,
    /// Actions in quarantine; they count nowhere else.
    pub(crate) quarantined: usize,
    /// Settled actions that do not meet the contract.
    pub(crate) unmet: usize,
    /// First time that any source states, Unix nanoseconds.
    pub(crate) start_ns: u64,
    /// Length; empty when only one time is known.
    pub(crate) duration: String,
}

impl Summary {
    /// Adds up a trace.
    pub(crate) fn of(actions: &[Action], marks: &[Mark]) -> Self {
        let mut agents = BTreeSet::new();
        let mut users = BTreeSet::new();
        let mut services = BTreeSet::new();
        let mut environments = BTreeSet::new();
        let mut sessions = BTreeSet::new();
        let mut kinds = BTreeMap::<ActionKind, usize>::new();
        let mut effects = BTreeMap::<Effect, usize>::new();
        let mut findings = BTreeMap::<Finding, usize>::new();
        let mut states = BTreeMap::<State, usize>::new();
        let mut lowest: Option<Trust> = None;
        let mut money = Money::default();
        let mut tokens = 0_u64;
        let mut tokens_stated = false;
        let mut unruled = 0;
        let mut summary = Self::default();
        for (index, action) in actions.iter().enumerate() {
            let mark = marks.get(index);
            if mark.is_some_and(|mark| mark.held) {
                summary.quarantined += 1;
                continue;
            }
            let unmet = mark.and_then(|mark| mark.judgement.as_ref()).is_some_and(|judged| !judged.is_met());
            summary.unmet += usize::from(unmet && action.settled);
            summary.unpriced += usize::from(action.unpriced.is_some());
            agents.extend(action.agent.as_ref().and_then(|agent| agent.value.label()).map(str::to_owned));
            users.extend(action.user.as_ref().map(|user| user.value.clone()));
            services.extend(action.service.as_ref().map(|service| service.value.clone()));
            environments.extend(action.environment.as_ref().map(|environment| environment.value.clone()));
            sessions.extend(action.session.as_ref().map(|session| session.value.clone()));
            summary.users_withheld |= action.withheld.iter().any(|pointer| pointer == "/user");
            *kinds.entry(action.kind).or_default() += 1;
            *states.entry(action.state).or_default() += 1;
            match action.ruling() {
                Some(ruling) => *effects.entry(ruling.decision.effect).or_default() += 1,
                None if badge::has_effects(action.kind) => unruled += 1,
                None => {}
            }
            for finding in &action.findings {
                *findings.entry(*finding).or_default() += 1;
            }
            lowest = lowest.max(action.provenance.iter().map(|source| source.trust).max());
            if let Some(cost) = action.cost() {
                money.add(cost);
            }
            if let Some(usage) = action.usage.as_ref().filter(|usage| !usage.aggregate) {
                let stated = [usage.input_tokens, usage.output_tokens];
                tokens_stated |= stated.iter().any(Option::is_some);
                tokens = stated.into_iter().flatten().fold(tokens, u64::saturating_add);
            }
        }
        summary.agents = agents.into_iter().collect();
        summary.users = users.into_iter().collect();
        summary.services = services.into_iter().collect();
        summary.environments = environments.into_iter().collect();
        summary.sessions = sessions.into_iter().collect();
        summary.kinds = kinds
            .into_iter()
            .map(|(kind, count)| KindCount { name: kind.as_str(), shape: badge::kind_shape(kind), count })
            .collect();
        summary.effects = effects
            .into_iter()
            .rev()
            .map(|(effect, count)| Counted { badge: badge::effect(effect), count })
            .collect();
        if unruled > 0 {
            summary.effects.push(Counted { badge: badge::no_decision(), count: unruled });
        }
        summary.findings = badge::FINDINGS
            .into_iter()
            .filter_map(|finding| findings.get(&finding).map(|count| (finding, *count)))
            .map(|(finding, count)| Counted { badge: badge::finding(finding), count })
            .collect();
        summary.states =
            states.into_iter().map(|(state, count)| Counted { badge: badge::state(state), count }).collect();
        summary.lowest_trust = lowest.map(badge::trust);
        summary.tokens = tokens;
        summary.tokens_text = if tokens_stated { number::count(tokens) } else { String::new() };
        summary.cost = money.text();
        let (start, end) = span(actions);
        summary.start_ns = start;
        summary.duration = if end > start { time::duration(end - start) } else { String::new() };
        summary
    }
}

/// Returns the first and the last time that the actions state.
pub(crate) fn span(actions: &[Action]) -> (u64, u64) {
    let start = actions.iter().map(|action| action.start_ns).filter(|ns| *ns > 0).min().unwrap_or_default();
    let end = actions.iter().map(|action| action.end_ns.unwrap_or(action.start_ns)).max().unwrap_or(start);
    (start, end.max(start))
}
