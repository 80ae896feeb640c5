//! The fold from events to actions: one tool call that was reported five times is one action.
//!
//! # Which events are one action
//! Rules in order; each only joins, none ever splits what an earlier one joined.
//! 1. **The statement itself**: the same event id in the same trace and span (a conflicting redelivery).
//! 2. **The span itself**: events of one span with the same kind and name, as long as they do not name two
//!    different calls. A log record only sits in a span; it joins the span's action when kind and name agree
//!    and is an action of its own otherwise.
//! 3. **The call**: the same `call_id` in the same trace, with the same kind and name, or of kind `tool`
//!    and inside the other's span whatever the name. An event without a
//!    trace joins the call of its session. Across two traces of a session the id joins only a call that was
//!    *paused*: the earlier one asked for an approval or is pending, and neither ran nor was refused by a
//!    person. Clients reuse call ids between runs, so the id alone never joins two traces. A JSON-RPC counter
//!    (profile `mcp`, digits only) is unique inside its connection only and joins nothing.
//! 4. **Client and server**: an event directly under another with the same `mcp.method.name`, kind and name.
//! 5. **Wrapper**: a tool span whose nearest descendants (through spans of kind `other`) hold exactly one call
//!    of the same tool. Two call ids that differ keep them apart. So is a model call around exactly one with the very same
//!    tokens: the unit of work of a governance layer.
//! 6. **The answer**: an event that links `approves`, or whose decision carries the `approval_id` of an earlier
//!    `require_approval`, adds its decision to the action that asked. It stays an action of its own when it
//!    used something or is another tool call; else it is folded in.
//!
//! Retries and compensations stay actions of their own and are related.
//!
//! Before all that, an event that a later mapper read out of the same bytes takes the place of the earlier one
//! (`source.supersedes`), a record that is given twice is one, and an id that came with two contents is a
//! [`Conflict`] on every action that it is in.
//!
//! # What does not matter
//! The order in which events arrive: parents come after their children as a rule. Nothing here depends on
//! `seq` but an action's key. Time is near linear, also for what a hostile source makes up: everything is looked up,
//! nothing is searched, and a test counts.

mod facts;
mod join;
pub mod labels;
mod merge;
mod reports;
mod statements;
mod target;

use serde::Serialize;
use serde_json::Value;

use crate::event::{
    ActionKind, Agent, AuthorityKind, Budget, Cost, Decision, Effect, ErrorInfo, Link, Provenance, Rel,
    Status, Usage,
};
use crate::id::{SpanId, TraceId};
use crate::pricing::Unpriced;
use crate::record::Record;

/// Where an action stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Asked for; nothing ruled, nothing happened.
    Asked,
    /// Allowed, not ended.
    Allowed,
    /// Refused and not run.
    Blocked,
    /// Waits for an approval.
    Waiting,
    /// Refused until a time.
    Cooling,
    /// Ran and succeeded.
    Done,
    /// Ran, or tried to, and failed.
    Failed,
    /// Cancelled.
    Cancelled,
    /// Undone by another action.
    Compensated,
}

impl State {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Allowed => "allowed",
            Self::Blocked => "blocked",
            Self::Waiting => "waiting",
            Self::Cooling => "cooling",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Compensated => "compensated",
        }
    }
}

/// What the fold finds with no rules at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// An outcome without a decision, on an action with effects (kind `tool`, `data` or `message`).
    Ungoverned,
    /// Blocked, yet it ran.
    EnforcementFailure,
    /// Allowed or waiting, without outcome after the settle window.
    Unfinished,
    /// Two decisions that differ, or one event id for two statements: see [`Conflict`].
    Conflict,
}

impl Finding {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ungoverned => "ungoverned",
            Self::EnforcementFailure => "enforcement_failure",
            Self::Unfinished => "unfinished",
            Self::Conflict => "conflict",
        }
    }
}

/// What contradicts each other. Nothing is resolved: both stay, and somebody has to look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "between", rename_all = "snake_case")]
pub enum Conflict {
    /// Enforced decisions that differ. An approval and its answer do not, nor does a ruling after a cooldown ended.
    Decisions {
        /// What was ruled.
        effects: Vec<Effect>,
        /// Where each was said first.
        seqs: Vec<u64>,
    },
    /// One event id that came with different contents: an export after a change, an id used again, or tampering.
    Statements {
        /// The id.
        id: String,
        /// How many different statements have it.
        count: u64,
        /// Where, as far as they are named.
        seqs: Vec<u64>,
    },
}

/// A value and whether it was stated on the action itself or inherited from an ancestor or the trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stated<T> {
    /// The value.
    pub value: T,
    /// True when it comes from the nearest ancestor that states it, the trace root, or the only value that the
    /// trace or the session states.
    pub inherited: bool,
}

/// One decision on an action and the event that states it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ruling {
    /// Event.
    pub seq: u64,
    /// When, Unix nanoseconds.
    pub at_ns: u64,
    /// What was ruled.
    pub decision: Decision,
}

/// A link whose target was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Relation {
    /// How this action relates to the other.
    pub rel: Rel,
    /// Key of the other action.
    pub key: u64,
}

/// One action, folded over every event that reports it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Action {
    /// Stable key: the position of the first event that reports the action.
    pub key: u64,
    /// Every event folded in, in log order.
    pub seqs: Vec<u64>,
    /// Trace in which it was asked for.
    pub trace_id: Option<TraceId>,
    /// Later traces that go on with it, as after an approval.
    pub later_traces: Vec<TraceId>,
    /// Innermost span that reports it.
    pub span_id: Option<SpanId>,
    /// Parent span that the outermost of its events states.
    pub parent_span_id: Option<SpanId>,
    /// Action that caused this one (by parent span, nearest ancestor that is an action, or by link).
    pub parent: Option<u64>,
    /// Kind.
    pub kind: ActionKind,
    /// Name.
    pub name: String,
    /// Call id.
    pub call_id: Option<String>,
    /// Arguments, where they were stated and are still there.
    pub arguments: Option<Value>,
    /// Thing acted on.
    pub resource: Option<String>,
    /// Capabilities.
    pub capabilities: Vec<String>,
    /// Agent.
    pub agent: Option<Stated<Agent>>,
    /// User.
    pub user: Option<Stated<String>>,
    /// Session.
    pub session: Option<Stated<String>>,
    /// Service.
    pub service: Option<Stated<String>>,
    /// Environment.
    pub environment: Option<Stated<String>>,
    /// Tenant.
    pub tenant: Option<Stated<String>>,
    /// Delegation chain, nearest delegator first.
    pub on_behalf_of: Vec<String>,
    /// Instruction sources.
    pub provenance: Vec<Provenance>,
    /// Classification: the strictest of the known words, else the source's own.
    pub classification: Option<String>,
    /// Budget as the source saw it.
    pub budget: Option<Budget>,
    /// Every decision, in order of time.
    pub rulings: Vec<Ruling>,
    /// Outcome: the worst status that any source reports.
    pub outcome: Option<Status>,
    /// Position of the event that reports the outcome.
    pub outcome_seq: Option<u64>,
    /// When that outcome was reached, Unix nanoseconds.
    pub outcome_ns: Option<u64>,
    /// Error.
    pub error: Option<ErrorInfo>,
    /// Result, where it was stated and is still there.
    pub result: Option<Value>,
    /// Usage, counted once. An aggregate stands here only when nothing else was reported.
    pub usage: Option<Usage>,
    /// True when the cached tokens are counted beside the input tokens, not among them.
    pub cached_beside: bool,
    /// Why a price table gives no cost; see [`crate::pricing`], which writes it.
    pub unpriced: Option<Unpriced>,
    /// Links that its events state.
    pub links: Vec<Link>,
    /// Those links whose target is among the folded events.
    pub relations: Vec<Relation>,
    /// First time that any source states.
    pub start_ns: u64,
    /// Last time that any source states.
    pub end_ns: Option<u64>,
    /// State.
    pub state: State,
    /// True when neither the action nor its trace was heard of for the settle window.
    pub settled: bool,
    /// Findings.
    pub findings: Vec<Finding>,
    /// What contradicts each other.
    pub conflicts: Vec<Conflict>,
    /// Events of earlier mappers, whose place others in `seqs` take.
    pub superseded: Vec<u64>,
    /// JSON pointers of members that are erased or withheld on any of its events (`/action/arguments`, `/user`).
    pub withheld: Vec<String>,
}

impl Action {
    /// Returns the decision that stands: an enforced one over a shadow run, human over policy and hook over
    /// config over model over unknown, then the latest.
    pub fn ruling(&self) -> Option<&Ruling> {
        self.ruling_among(|_| true)
    }

    /// Returns the decision that stands among some of them.
    pub fn ruling_among(&self, among: impl Fn(&Ruling) -> bool) -> Option<&Ruling> {
        // `max_by_key` keeps the last of equals, and rulings are in order of time.
        self.rulings.iter().filter(|ruling| among(ruling)).max_by_key(|ruling| {
            let authority = match ruling.decision.by.kind {
                AuthorityKind::Human => 4,
                AuthorityKind::Policy | AuthorityKind::Hook => 3,
                AuthorityKind::Config => 2,
                AuthorityKind::Model => 1,
                AuthorityKind::Unknown => 0,
            };
            (ruling.decision.enforced, authority)
        })
    }

    /// Returns its own usage, never that of an aggregate.
    pub fn own_usage(&self) -> Option<&Usage> {
        self.usage.as_ref().filter(|usage| !usage.aggregate)
    }

    /// Returns its own cost, never that of an aggregate.
    pub fn cost(&self) -> Option<&Cost> {
        self.own_usage().and_then(|usage| usage.cost.as_ref())
    }

    /// Returns the agent's label.
    pub fn agent_label(&self) -> Option<&str> {
        self.agent.as_ref().and_then(|agent| agent.value.label())
    }

    /// Tells whether the action belongs to a trace, from the start or after a pause.
    pub fn is_in(&self, trace: &TraceId) -> bool {
        self.trace_id.as_ref() == Some(trace) || self.later_traces.contains(trace)
    }
}

/// How long nothing must be heard of an action before what is missing counts as missing, unless asked otherwise.
pub const SETTLE_NS: u64 = 15 * 60 * 1_000_000_000;

/// Folds records into actions ordered by key. `settled_before_ns`: an action whose last event was received
/// before this counts as settled, so that a missing outcome is a finding.
///
/// Give all records of a range, not of one trace, when approvals may be answered in another trace.
pub fn fold(records: &[Record], settled_before_ns: u64) -> Vec<Action> {
    let facts = facts::Facts::read(records);
    let reports = reports::of_spans(&facts);
    let targets = target::TargetIndex::new(&facts, &reports);
    let groups = join::join(&facts, &reports, &targets);
    merge::merge(&facts, &groups, &targets, settled_before_ns)
}

#[cfg(test)]
mod tests;
