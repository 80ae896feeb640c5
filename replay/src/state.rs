//! The state that policies see: counters, sums, loops, cooldowns, controls, and what has reached a trace.
//!
//! # Fold rules
//! - State moves in log order. An action counts from its first event (`asked`), a ruling from the event that
//!   states it (`ruled`), money from the event that reports the outcome (`settled`).
//! - One action is folded once, however many sources reported it.
//! - A blocked attempt counts as a call and for loops, never for spend.
//! - A cooldown runs from the decision to its `until_ns`; without that there is no end to enforce, so none is set.
//! - Everything is an integer and saturates.
//!
//! # Bounds
//! At [`SCOPES_MAX`] scopes of a sort (traces, sessions, agents, tenants) the half that was quiet longest, counted
//! in folded steps, is dropped and starts again from zero. Windows keep whole minutes of one day. A trace keeps the
//! [`REACH_MAX`] least trusted sources.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use verdict_ledger::action::{Action, State as Standing};
use verdict_ledger::event::{ActionKind, Cost, Effect, Provenance, Status, Trust};
use verdict_ledger::id::TraceId;

/// Most scopes of each sort that are remembered.
pub const SCOPES_MAX: usize = 200_000;
/// Most sources of earlier steps that a trace remembers.
pub const REACH_MAX: usize = 64;
/// Most controls that are in force at once.
pub const CONTROLS_MAX: usize = 1_024;
/// Most currencies that one scope sums; what comes later is summed under `XXX` (ISO 4217: no currency).
pub const CURRENCIES_MAX: usize = 8;

const MINUTE_NS: u64 = 60_000_000_000;
const HOUR_MINUTES: u64 = 60;
const DAY_MINUTES: u64 = 24 * 60;

/// State before an action.
#[derive(Debug, Clone, Default)]
pub struct State {
    traces: Scopes<TraceId, TraceState>,
    sessions: Scopes<String, Counters>,
    agents: Scopes<String, AgentState>,
    tenants: Scopes<String, Counters>,
    controls: BTreeMap<String, Value>,
}

/// A source that an earlier action of the trace states.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reached {
    /// Least trusted first when sorted backwards.
    pub(crate) trust: Trust,
    /// Action that states it.
    pub(crate) via: u64,
    /// Kind, name, uri, digest.
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    pub(crate) uri: Option<String>,
    pub(crate) digest: Option<String>,
}

#[derive(Debug, Clone, Default)]
struct Counters {
    tool_calls: i64,
    spent_nano: Money,
}

#[derive(Debug, Clone, Default)]
struct TraceState {
    counters: Counters,
    model_calls: i64,
    blocked: i64,
    consecutive_tool_calls: i64,
    last_tool: Option<String>,
    same_tool: i64,
    reached: Vec<Reached>,
}

#[derive(Debug, Clone, Default)]
struct AgentState {
    counters: Counters,
    blocked: i64,
    cooldown_until_ns: u64,
    /// By minute since 1970; a day and no more.
    minutes: BTreeMap<u64, Counters>,
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
        let is_tool = action.kind == ActionKind::Tool;
        if let Some(trace) = self.traces.of(action.trace_id) {
            match action.kind {
                ActionKind::Tool => {
                    trace.counters.tool_calls = trace.counters.tool_calls.saturating_add(1);
                    trace.consecutive_tool_calls = trace.consecutive_tool_calls.saturating_add(1);
                    if trace.last_tool.as_deref() == Some(&action.name) {
                        trace.same_tool = trace.same_tool.saturating_add(1);
                    } else {
                        trace.last_tool = Some(action.name.clone());
                        trace.same_tool = 1;
                    }
                }
                ActionKind::Model => trace.model_calls = trace.model_calls.saturating_add(1),
                // A hand-over or a message ends a row of tool calls; the model calls of a loop do not.
                ActionKind::Agent | ActionKind::Message => {
                    trace.consecutive_tool_calls = 0;
                    trace.last_tool = None;
                    trace.same_tool = 0;
                }
                ActionKind::Data | ActionKind::Guard | ActionKind::Plan | ActionKind::Other => {}
            }
        }
        if is_tool {
            if let Some(session) = self.sessions.of(session_of(action)) {
                session.tool_calls = session.tool_calls.saturating_add(1);
            }
            if let Some(tenant) = self.tenants.of(tenant_of(action)) {
                tenant.tool_calls = tenant.tool_calls.saturating_add(1);
            }
            if let Some(agent) = self.agents.of(agent_of(action)) {
                agent.counters.tool_calls = agent.counters.tool_calls.saturating_add(1);
                let minute = agent.minute(action.start_ns);
                minute.tool_calls = minute.tool_calls.saturating_add(1);
            }
        }
    }

    /// Counts a ruling that was enforced.
    pub fn ruled(&mut self, action: &Action, effect: Effect, until_ns: Option<u64>) {
        if matches!(effect, Effect::Block | Effect::Cooldown) {
            if let Some(trace) = self.traces.of(action.trace_id) {
                trace.blocked = trace.blocked.saturating_add(1);
            }
            if let Some(agent) = self.agents.of(agent_of(action)) {
                agent.blocked = agent.blocked.saturating_add(1);
            }
        }
        if effect == Effect::Cooldown
            && let (Some(until_ns), Some(agent)) = (until_ns, self.agents.of(agent_of(action)))
        {
            agent.cooldown_until_ns = agent.cooldown_until_ns.max(until_ns);
        }
    }

    /// Counts what an action cost, and lets the sources that it states reach what follows in its trace.
    pub fn settled(&mut self, action: &Action) {
        let refused = matches!(action.state, Standing::Blocked | Standing::Cooling | Standing::Waiting);
        if refused {
            return;
        }
        if let Some(cost) = action.cost() {
            if let Some(trace) = self.traces.of(action.trace_id) {
                trace.counters.spent_nano.add(cost);
            }
            if let Some(session) = self.sessions.of(session_of(action)) {
                session.spent_nano.add(cost);
            }
            if let Some(tenant) = self.tenants.of(tenant_of(action)) {
                tenant.spent_nano.add(cost);
            }
            if let Some(agent) = self.agents.of(agent_of(action)) {
                agent.counters.spent_nano.add(cost);
                agent.minute(action.outcome_ns.unwrap_or(action.start_ns)).spent_nano.add(cost);
            }
        }
        let brought = action.outcome != Some(Status::Cancelled) && !action.provenance.is_empty();
        if let Some(trace) = self.traces.of(action.trace_id.filter(|_| brought)) {
            trace.reach(action.key, &action.provenance);
        }
    }

    /// Takes a `control.set` fact: `control` is an object with a `name`; `on: false` lifts it.
    pub fn control(&mut self, body: &Map<String, Value>) {
        let Some(control) = body.get("control").and_then(Value::as_object) else { return };
        let Some(name) = control.get("name").and_then(Value::as_str) else { return };
        if control.get("on").and_then(Value::as_bool) == Some(false) {
            self.controls.remove(name);
        } else if self.controls.len() < CONTROLS_MAX || self.controls.contains_key(name) {
            self.controls
                .insert(name.to_owned(), crate::input::integers_only(&Value::Object(control.clone())));
        }
    }

    /// Forgets a trace that cannot come up again, as a replay of a closed range knows.
    pub fn forget_trace(&mut self, trace: &TraceId) {
        self.traces.map.remove(trace);
    }

    /// Returns the sources that reached an action from earlier steps of its trace.
    pub(crate) fn reached(&self, action: &Action) -> &[Reached] {
        let trace = action.trace_id.and_then(|trace| self.traces.map.get(&trace));
        trace.map_or(&[], |(_, trace)| trace.reached.as_slice())
    }

    /// Writes the controls in force.
    pub(crate) fn controls(&self) -> Vec<Value> {
        self.controls.values().cloned().collect()
    }

    /// Writes the member `state` of an action's input; always complete.
    pub(crate) fn document(&self, action: &Action) -> Value {
        let trace = action.trace_id.and_then(|trace| self.traces.map.get(&trace)).map(|(_, trace)| trace);
        let same_tool = trace
            .filter(|trace| {
                action.kind == ActionKind::Tool && trace.last_tool.as_deref() == Some(&action.name)
            })
            .map_or(0, |trace| trace.same_tool);
        let none = TraceState::default();
        let trace = trace.unwrap_or(&none);
        let agent = agent_of(action).and_then(|agent| self.agents.map.get(&agent)).map(|(_, agent)| agent);
        let nobody = AgentState::default();
        let agent = agent.unwrap_or(&nobody);
        let session = session_of(action).and_then(|session| self.sessions.map.get(&session)).map(|(_, c)| c);
        let tenant = tenant_of(action).and_then(|tenant| self.tenants.map.get(&tenant)).map(|(_, c)| c);
        let zero = Counters::default();
        json!({
            "trace": {
                "tool_calls": trace.counters.tool_calls,
                "model_calls": trace.model_calls,
                "blocked": trace.blocked,
                "spent_nano": trace.counters.spent_nano.document(),
                "consecutive_tool_calls": trace.consecutive_tool_calls,
                "consecutive_same_tool": same_tool,
            },
            "session": session.unwrap_or(&zero).document(),
            "agent": {
                "tool_calls": agent.counters.tool_calls,
                "spent_nano": agent.counters.spent_nano.document(),
                "blocked": agent.blocked,
                "cooldown_until_ns": i64::try_from(agent.cooldown_until_ns).unwrap_or(i64::MAX),
            },
            "tenant": tenant.unwrap_or(&zero).document(),
            "windows": {
                "agent_1h": agent.window(action.start_ns, HOUR_MINUTES).document(),
                "agent_24h": agent.window(action.start_ns, DAY_MINUTES).document(),
            },
        })
    }
}

impl TraceState {
    fn reach(&mut self, key: u64, sources: &[Provenance]) {
        for source in sources {
            let known = self.reached.iter().any(|reached| {
                reached.trust == source.trust
                    && reached.kind == source.kind
                    && reached.name == source.name
                    && reached.uri == source.uri
                    && reached.digest == source.digest
            });
            if !known {
                self.reached.push(Reached {
                    trust: source.trust,
                    via: key,
                    kind: source.kind.clone(),
                    name: source.name.clone(),
                    uri: source.uri.clone(),
                    digest: source.digest.clone(),
                });
            }
        }
        if self.reached.len() > REACH_MAX {
            // What is trusted least matters most, then what came first.
            self.reached.sort_by(|a, b| b.trust.cmp(&a.trust).then_with(|| a.cmp(b)));
            self.reached.truncate(REACH_MAX);
        }
    }
}

impl AgentState {
    fn minute(&mut self, at_ns: u64) -> &mut Counters {
        let minute = at_ns / MINUTE_NS;
        let newest = self.minutes.last_key_value().map_or(minute, |(newest, _)| minute.max(*newest));
        self.minutes = self.minutes.split_off(&newest.saturating_sub(DAY_MINUTES));
        self.minutes.entry(minute).or_default()
    }

    /// Sums the whole minutes that ended or began inside the window before a time, that minute included.
    fn window(&self, at_ns: u64, minutes: u64) -> Counters {
        let now = at_ns / MINUTE_NS;
        let mut sum = Counters::default();
        for counters in
            self.minutes.range(now.saturating_sub(minutes - 1)..=now).map(|(_, counters)| counters)
        {
            sum.tool_calls = sum.tool_calls.saturating_add(counters.tool_calls);
            for (currency, nano) in &counters.spent_nano.0 {
                sum.spent_nano.add_nano(currency, *nano);
            }
        }
        sum
    }
}

impl Counters {
    fn document(&self) -> Value {
        json!({"tool_calls": self.tool_calls, "spent_nano": self.spent_nano.document()})
    }
}

/// Sums by currency.
#[derive(Debug, Clone, Default)]
struct Money(BTreeMap<String, i64>);

impl Money {
    fn add(&mut self, cost: &Cost) {
        self.add_nano(&cost.currency, cost.nano);
    }

    fn add_nano(&mut self, currency: &str, nano: i64) {
        let well_formed = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
        let room = self.0.len() < CURRENCIES_MAX || self.0.contains_key(currency);
        let currency = if well_formed && room { currency } else { "XXX" };
        let sum = self.0.entry(currency.to_owned()).or_default();
        *sum = sum.saturating_add(nano);
    }

    /// `USD` always stands, so that a rule about it never meets an absent member.
    fn document(&self) -> Value {
        let mut object = Map::new();
        object.insert("USD".to_owned(), json!(0));
        for (currency, nano) in &self.0 {
            object.insert(currency.clone(), json!(nano));
        }
        Value::Object(object)
    }
}

/// Remembered scopes with the tick of their last use.
#[derive(Debug, Clone)]
struct Scopes<K, V> {
    map: BTreeMap<K, (u64, V)>,
    tick: u64,
}

impl<K, V> Default for Scopes<K, V> {
    fn default() -> Self {
        Self { map: BTreeMap::new(), tick: 0 }
    }
}

impl<K: Ord + Clone, V: Default> Scopes<K, V> {
    fn of(&mut self, key: Option<K>) -> Option<&mut V> {
        let key = key?;
        self.tick += 1;
        if self.map.len() >= SCOPES_MAX && !self.map.contains_key(&key) {
            self.evict();
        }
        let entry = self.map.entry(key).or_default();
        entry.0 = self.tick;
        Some(&mut entry.1)
    }

    /// Drops the quieter half, so that the scan is paid once for many insertions.
    fn evict(&mut self) {
        let mut ticks: Vec<u64> = self.map.values().map(|(tick, _)| *tick).collect();
        ticks.sort_unstable();
        let median = ticks.get(ticks.len() / 2).copied().unwrap_or_default();
        self.map.retain(|_, (tick, _)| *tick >= median);
    }
}

fn session_of(action: &Action) -> Option<String> {
    action.session.as_ref().map(|session| session.value.clone())
}

fn tenant_of(action: &Action) -> Option<String> {
    action.tenant.as_ref().map(|tenant| tenant.value.clone())
}

fn agent_of(action: &Action) -> Option<String> {
    action.agent_label().map(str::to_owned)
}
