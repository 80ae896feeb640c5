//! The state that policies see: counters, sums, loops, cooldowns, controls, and what has reached a trace.
//!
//! # Fold rules
//! - State moves in log order. An action counts from its first event (`asked`), a ruling from the event that
//!   states it (`ruled`), money from the event that reports the outcome (`settled`).
//! - One action is folded once, however many sources reported it.
//! - A blocked attempt counts as a call and for loops, never for spend.
//! - What a source reserved for an action counts as spent until the outcome is known; what waits keeps its reservation.
//! - A cooldown runs from the decision to its `until_ns`; without that there is no end to enforce, so none is set.
//! - Everything is an integer and saturates.
//!
//! # Two parts
//! What agents and tenants did is a sum over all traces and can be taken back, so that a trace that is known better by
//! now is counted anew. What happened inside a trace or a session is folded again from its own events instead, and
//! forgotten when it is over. That is what makes the state at a position small; see `run::carry`.
//!
//! # Bounds
//! At [`SCOPES_MAX`] agents or tenants the half that was quiet longest is dropped and starts again from zero. An agent
//! keeps the minutes of two days before its newest. A trace keeps the [`REACH_MAX`] least trusted sources.

mod counters;
mod scopes;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use verdict_ledger::action::Action;
use verdict_ledger::event::{ActionKind, Effect};
use verdict_ledger::id::TraceId;

pub use counters::CURRENCIES_MAX;
use counters::Counters;
pub(crate) use counters::Sign;
pub use scopes::REACH_MAX;
pub(crate) use scopes::Reached;
use scopes::{AgentState, DAY_MINUTES, HOUR_MINUTES, TenantState, TraceState};
pub(crate) use step::{Settled, Step, estimate, refuses};

/// Most agents, and most tenants, that are remembered.
pub const SCOPES_MAX: usize = 200_000;
/// Most controls that are in force at once.
pub const CONTROLS_MAX: usize = 1_024;

/// State before an action.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    traces: BTreeMap<TraceId, TraceState>,
    sessions: BTreeMap<String, Counters>,
    agents: BTreeMap<String, AgentState>,
    tenants: BTreeMap<String, TenantState>,
    /// As JSON: a control holds whatever its author wrote.
    controls: BTreeMap<String, String>,
}

impl State {
    /// Folds one whole action: asked, ruled with the given effect, settled.
    pub fn fold(&mut self, action: &Action, effect: Option<Effect>) {
        self.asked(action);
        if let Some(effect) = effect {
            let until_ns = action.ruling().and_then(|ruling| ruling.decision.until_ns);
            self.ruled(action, effect, until_ns);
        }
        self.settled(action);
    }

    /// Counts an attempt.
    pub fn asked(&mut self, action: &Action) {
        self.step(action, &Step::Asked, action.key);
    }

    /// Counts a ruling that was enforced.
    pub fn ruled(&mut self, action: &Action, effect: Effect, until_ns: Option<u64>) {
        self.step(action, &Step::Ruled { effect, until_ns }, action.key);
    }

    /// Counts what an action cost, and lets the sources that it states reach what follows in its trace.
    pub fn settled(&mut self, action: &Action) {
        self.step(action, &Step::Settled(Settled::recorded(action)), action.key);
    }

    /// Takes a step that the entry at `seq` made.
    pub(crate) fn step(&mut self, action: &Action, step: &Step, seq: u64) {
        self.shared(action, step, seq, Sign::Add);
        self.within(action, step, true, true);
    }

    /// Takes a step, or takes it back, as far as agents and tenants count it.
    pub(crate) fn shared(&mut self, action: &Action, step: &Step, seq: u64, sign: Sign) {
        if let Some(agent) = agent_of(action) {
            let agent = self.agents.entry(agent.to_owned()).or_default();
            agent.used = agent.used.max(seq);
            match step {
                Step::Asked if action.kind == ActionKind::Tool => {
                    agent.counters.call(sign);
                    agent.at(action.start_ns, |minute| minute.call(sign));
                }
                Step::Asked => {}
                Step::Ruled { effect, until_ns } => {
                    if refuses(*effect) {
                        agent.blocked = agent.blocked.saturating_add(sign.of(1));
                    }
                    if let (Effect::Cooldown, Some(until_ns)) = (effect, until_ns) {
                        agent.cool(*until_ns, sign);
                    }
                }
                Step::Settled(_) => {}
            }
            for (currency, nano, at_ns) in money(action, step) {
                agent.counters.spent.add(&currency, sign.of(nano));
                agent.at(at_ns, |minute| minute.spent.add(&currency, sign.of(nano)));
            }
        }
        if let Some(tenant) = tenant_of(action) {
            let tenant = self.tenants.entry(tenant.to_owned()).or_default();
            tenant.used = tenant.used.max(seq);
            if action.kind == ActionKind::Tool && *step == Step::Asked {
                tenant.counters.call(sign);
            }
            for (currency, nano, _) in money(action, step) {
                tenant.counters.spent.add(&currency, sign.of(nano));
            }
        }
    }

    /// Takes a step as far as its trace and its session count it.
    pub(crate) fn within(&mut self, action: &Action, step: &Step, trace: bool, session: bool) {
        if let Some(id) = action.trace_id.filter(|_| trace) {
            let trace = self.traces.entry(id).or_default();
            match step {
                Step::Asked => trace.asked(action.kind, &action.name),
                Step::Ruled { effect, .. } if refuses(*effect) => {
                    trace.blocked = trace.blocked.saturating_add(1);
                }
                Step::Ruled { .. } => {}
                Step::Settled(settled) => {
                    if settled.reaches && !action.provenance.is_empty() {
                        trace.reach(action.key, &action.provenance);
                    }
                }
            }
            for (currency, nano, _) in money(action, step) {
                trace.counters.spent.add(&currency, nano);
            }
        }
        if let Some(id) = session_of(action).filter(|_| session) {
            let session = self.sessions.entry(id.to_owned()).or_default();
            if action.kind == ActionKind::Tool && *step == Step::Asked {
                session.call(Sign::Add);
            }
            for (currency, nano, _) in money(action, step) {
                session.spent.add(&currency, nano);
            }
        }
    }

    /// What agents and tenants add up to, without those that add up to nothing.
    #[cfg(test)]
    pub(crate) fn sums(&self) -> Vec<String> {
        let zero = |sum: &str| !sum.contains(|c: char| matches!(c, '1'..='9'));
        let agents = self.agents.iter().map(|(name, agent)| (format!("agent {name}"), agent.sum()));
        let tenants = self
            .tenants
            .iter()
            .map(|(name, t)| (format!("tenant {name}"), t.counters.document().to_string()));
        agents
            .chain(tenants)
            .filter(|(_, sum)| !zero(sum))
            .map(|(name, sum)| format!("{name}: {sum}"))
            .collect()
    }

    /// Takes a `control.set` fact: `control` is an object with a `name`; `on: false` lifts it.
    pub fn control(&mut self, body: &Map<String, Value>) {
        let Some(control) = body.get("control").and_then(Value::as_object) else { return };
        let Some(name) = control.get("name").and_then(Value::as_str) else { return };
        if control.get("on").and_then(Value::as_bool) == Some(false) {
            self.controls.remove(name);
        } else if self.controls.len() < CONTROLS_MAX || self.controls.contains_key(name) {
            let control = crate::input::integers_only(&Value::Object(control.clone()));
            self.controls.insert(name.to_owned(), control.to_string());
        }
    }

    /// Forgets traces and sessions, except some; drops agents and tenants that were quiet longest when there are too many.
    pub(crate) fn forget(&mut self, traces: &BTreeSet<TraceId>, sessions: &BTreeSet<String>) {
        self.traces.retain(|trace, _| traces.contains(trace));
        self.sessions.retain(|session, _| sessions.contains(session));
        drop_quiet(&mut self.agents, |agent| agent.used);
        drop_quiet(&mut self.tenants, |tenant| tenant.used);
    }

    /// Returns the sources that reached an action from earlier steps of its trace.
    pub(crate) fn reached(&self, action: &Action) -> &[Reached] {
        let trace = action.trace_id.and_then(|trace| self.traces.get(&trace));
        trace.map_or(&[], |trace| trace.reached.as_slice())
    }

    /// Writes the controls in force.
    pub(crate) fn controls(&self) -> Vec<Value> {
        self.controls.values().filter_map(|control| serde_json::from_str(control).ok()).collect()
    }

    /// Writes the member `state` of an action's input; always complete.
    pub(crate) fn document(&self, action: &Action) -> Value {
        let trace = action.trace_id.and_then(|trace| self.traces.get(&trace));
        let same_tool = trace
            .filter(|trace| {
                action.kind == ActionKind::Tool && trace.last_tool.as_deref() == Some(&action.name)
            })
            .map_or(0, |trace| trace.same_tool);
        let none = TraceState::default();
        let trace = trace.unwrap_or(&none);
        let nobody = AgentState::default();
        let agent = agent_of(action).and_then(|agent| self.agents.get(agent)).unwrap_or(&nobody);
        let zero = Counters::default();
        let session = session_of(action).and_then(|session| self.sessions.get(session)).unwrap_or(&zero);
        let tenant = tenant_of(action).and_then(|tenant| self.tenants.get(tenant));
        json!({
            "trace": {
                "tool_calls": trace.counters.tool_calls,
                "model_calls": trace.model_calls,
                "blocked": trace.blocked,
                "spent_nano": trace.counters.spent.document(),
                "consecutive_tool_calls": trace.consecutive_tool_calls,
                "consecutive_same_tool": same_tool,
            },
            "session": session.document(),
            "agent": {
                "tool_calls": agent.counters.tool_calls,
                "spent_nano": agent.counters.spent.document(),
                "blocked": agent.blocked,
                "cooldown_until_ns": i64::try_from(agent.cooldown_until_ns()).unwrap_or(i64::MAX),
            },
            "tenant": tenant.map_or(&zero, |tenant| &tenant.counters).document(),
            "windows": {
                "agent_1h": agent.window(action.start_ns, HOUR_MINUTES).document(),
                "agent_24h": agent.window(action.start_ns, DAY_MINUTES).document(),
            },
        })
    }
}

/// What a step spends or frees: currency, nano-units, and the time whose minute counts it.
fn money(action: &Action, step: &Step) -> Vec<(String, i64, u64)> {
    let estimate = || estimate(action).map(|(currency, nano)| (currency, nano, action.start_ns));
    match step {
        Step::Asked => estimate().into_iter().collect(),
        Step::Ruled { .. } => Vec::new(),
        Step::Settled(settled) => {
            let freed = estimate().filter(|_| settled.releases);
            let freed = freed.map(|(currency, nano, at_ns)| (currency, nano.saturating_neg(), at_ns));
            let at_ns = action.outcome_ns.unwrap_or(action.start_ns);
            let spent = settled.cost.as_ref().map(|cost| (cost.currency.clone(), cost.nano, at_ns));
            freed.into_iter().chain(spent).collect()
        }
    }
}

/// Drops the quieter half, so that the scan is paid once for many insertions.
fn drop_quiet<V>(map: &mut BTreeMap<String, V>, used: impl Fn(&V) -> u64) {
    if map.len() <= SCOPES_MAX {
        return;
    }
    let mut order: Vec<u64> = map.values().map(&used).collect();
    order.sort_unstable();
    let median = order.get(order.len() / 2).copied().unwrap_or_default();
    map.retain(|_, value| used(value) >= median);
}

fn session_of(action: &Action) -> Option<&str> {
    action.session.as_ref().map(|session| session.value.as_str())
}

fn tenant_of(action: &Action) -> Option<&str> {
    action.tenant.as_ref().map(|tenant| tenant.value.as_str())
}

fn agent_of(action: &Action) -> Option<&str> {
    action.agent_label()
}
