//! What is remembered of one trace, one agent, one tenant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use verdict_ledger::event::{ActionKind, Provenance, Trust};

use super::counters::{Counters, Sign};

/// Most sources of earlier steps that a trace remembers.
pub const REACH_MAX: usize = 64;
/// Ends of cooldowns that an agent remembers; only the latest is seen.
const COOLDOWNS_MAX: usize = 16;

const MINUTE_NS: u64 = 60_000_000_000;
pub(super) const HOUR_MINUTES: u64 = 60;
pub(super) const DAY_MINUTES: u64 = 24 * 60;
/// Minutes that an agent keeps behind its newest: the widest window, and as much for clocks that disagree.
const KEPT_MINUTES: u64 = 2 * DAY_MINUTES;

/// A source that an earlier action of the trace states.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Reached {
    /// Least trusted first when sorted backwards.
    pub(crate) trust: Trust,
    /// Action that states it.
    pub(crate) via: u64,
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    pub(crate) uri: Option<String>,
    pub(crate) digest: Option<String>,
}

/// One trace. Nothing in here is ever taken back: a trace is folded again from its own events instead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TraceState {
    pub(super) counters: Counters,
    pub(super) model_calls: i64,
    pub(super) blocked: i64,
    pub(super) consecutive_tool_calls: i64,
    pub(super) last_tool: Option<String>,
    pub(super) same_tool: i64,
    pub(super) reached: Vec<Reached>,
}

impl TraceState {
    pub(super) fn asked(&mut self, kind: ActionKind, name: &str) {
        match kind {
            ActionKind::Tool => {
                self.counters.call(Sign::Add);
                self.consecutive_tool_calls = self.consecutive_tool_calls.saturating_add(1);
                if self.last_tool.as_deref() == Some(name) {
                    self.same_tool = self.same_tool.saturating_add(1);
                } else {
                    self.last_tool = Some(name.to_owned());
                    self.same_tool = 1;
                }
            }
            ActionKind::Model => self.model_calls = self.model_calls.saturating_add(1),
            // A hand-over or a message ends a row of tool calls; the model calls of a loop do not.
            ActionKind::Agent | ActionKind::Message => {
                self.consecutive_tool_calls = 0;
                self.last_tool = None;
                self.same_tool = 0;
            }
            ActionKind::Data | ActionKind::Guard | ActionKind::Plan | ActionKind::Other => {}
        }
    }

    pub(super) fn reach(&mut self, key: u64, sources: &[Provenance]) {
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

/// One agent, over all its traces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AgentState {
    pub(super) counters: Counters,
    pub(super) blocked: i64,
    /// Ends of cooldowns and how many decisions set each.
    cooldowns: BTreeMap<u64, u32>,
    /// By minute since 1970.
    minutes: BTreeMap<u64, Counters>,
    /// The newest minute that was ever counted.
    newest: u64,
    /// Position of the last step that counted.
    pub(super) used: u64,
}

impl AgentState {
    pub(super) fn cool(&mut self, until_ns: u64, sign: Sign) {
        match sign {
            Sign::Add => *self.cooldowns.entry(until_ns).or_default() += 1,
            Sign::Take => {
                if let Some(count) = self.cooldowns.get_mut(&until_ns) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        self.cooldowns.remove(&until_ns);
                    }
                }
            }
        }
        if self.cooldowns.len() > COOLDOWNS_MAX {
            self.cooldowns.pop_first();
        }
    }

    #[cfg(test)]
    pub(super) fn sum(&self) -> String {
        let days = self.window(self.newest * MINUTE_NS, KEPT_MINUTES + 1);
        format!("{} {} {:?} {}", self.counters.document(), self.blocked, self.cooldowns, days.document())
    }

    pub(super) fn cooldown_until_ns(&self) -> u64 {
        self.cooldowns.last_key_value().map_or(0, |(until_ns, _)| *until_ns)
    }

    /// Counts in the minute of a time, unless that is too long ago for any window.
    pub(super) fn at(&mut self, at_ns: u64, count: impl FnOnce(&mut Counters)) {
        let minute = at_ns / MINUTE_NS;
        if minute > self.newest {
            self.newest = minute;
            self.minutes = self.minutes.split_off(&minute.saturating_sub(KEPT_MINUTES));
        } else if minute < self.newest.saturating_sub(KEPT_MINUTES) {
            return;
        }
        let counters = self.minutes.entry(minute).or_default();
        count(counters);
        if counters.is_empty() {
            self.minutes.remove(&minute);
        }
    }

    /// Sums the whole minutes that ended or began inside the window before a time, that minute included.
    pub(super) fn window(&self, at_ns: u64, minutes: u64) -> Counters {
        let now = at_ns / MINUTE_NS;
        let mut sum = Counters::default();
        for (_, counters) in self.minutes.range(now.saturating_sub(minutes - 1)..=now) {
            sum.add(counters);
        }
        sum
    }
}

/// One tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TenantState {
    pub(super) counters: Counters,
    /// Position of the last step that counted.
    pub(super) used: u64,
}
