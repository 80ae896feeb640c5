//! The event model: what one source said about one action, once.
//!
//! One type with three optional sections (`decision`, `outcome`, `usage`). The Rust field names are the wire
//! names of the native JSON format, which `docs/events.md` describes for clients. Absence stays absence: a
//! missing decision is never "allow", and nothing here is filled in by inference.

mod decimal;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{Digest, SpanId, TraceId};

/// Entry `type` of an [`Event`].
pub const ACTION_REPORTED: &str = "action.reported";

/// What one source said about one action, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Idempotency key; derived from the content where the source has none.
    pub id: String,
    /// Who told us, in which bytes, read by which mapper.
    #[serde(default)]
    pub source: Source,
    /// Trace that the action belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// Span of the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<SpanId>,
    /// Span that caused this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<SpanId>,
    /// Start, Unix nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option_u64")]
    pub start_ns: Option<u64>,
    /// End, Unix nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option_u64")]
    pub end_ns: Option<u64>,
    /// Relations to other actions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Agent as stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// Human on whose session the agent acts, as stated. Disclosed, never in the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Session, conversation or thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Service (`service.name`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Deployment environment (`deployment.environment.name`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Delegation chain as stated, nearest delegator first. Disclosed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_behalf_of: Vec<String>,
    /// The thing asked or done.
    pub action: Action,
    /// Instruction sources that the source says influenced the action.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provenance: Vec<Provenance>,
    /// Data classification (`public`, `internal`, `confidential`, `restricted`, or the source's own word).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classification: Option<String>,
    /// Budget as the source saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// What was ruled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What it used and cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Every field of the source that is not consumed above, verbatim. Disclosed as one value.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub attributes: serde_json::Map<String, Value>,
}

impl Event {
    /// Starts an event with the two things that every event has.
    pub fn new(id: impl Into<String>, action: Action) -> Self {
        Self {
            id: id.into(),
            source: Source::default(),
            trace_id: None,
            span_id: None,
            parent_span_id: None,
            start_ns: None,
            end_ns: None,
            links: Vec::new(),
            agent: None,
            user: None,
            session: None,
            service: None,
            environment: None,
            tenant: None,
            on_behalf_of: Vec::new(),
            action,
            provenance: Vec::new(),
            classification: None,
            budget: None,
            decision: None,
            outcome: None,
            usage: None,
            attributes: serde_json::Map::new(),
        }
    }
}

/// Who told us, in which bytes, read by which mapper.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Wire format: `native`, `otlp`, `aisecops`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// Convention inside the format: `otel-genai`, `openinference`, `mcp`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Version of the mapper that read the bytes.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub mapper: u32,
    /// Digest of the raw body, which is kept in the erasable store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Digest>,
    /// Place inside the raw body (`resourceSpans/0/scopeSpans/0/spans/7`, `line/12`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Authenticated sender; a body's own claims about identity stay claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Fields that the source says it dropped.
    #[serde(default, skip_serializing_if = "is_zero_u32")]
    pub lost: u32,
    /// JSON pointers from the event's root (`/attributes/a`, `/action/arguments/x`) to foreign numbers that are
    /// carried as strings because canonical JSON cannot carry them exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restated: Vec<String>,
    /// Id of the event that an earlier mapper read out of the same bytes, whose place this one takes. The receiver
    /// writes it; nothing is edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<String>,
}

/// A relation from this event's action to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The other action.
    pub to: Target,
    /// How this action relates to it.
    pub rel: Rel,
}

/// Names another action by whatever the source knows of it; at least one member is present.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Event id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// Span inside the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<SpanId>,
    /// Tool call id, within the same session or trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// Approval that this event answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<String>,
}

/// How an action relates to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rel {
    /// The other action caused this one.
    CausedBy,
    /// This action tries the other again.
    RetryOf,
    /// This event answers the approval that the other asked for.
    Approves,
    /// This action undoes the other.
    Compensates,
    /// This action came after the other in the same plan.
    Follows,
    /// The other agent handed this action over.
    DelegatedBy,
}

/// An agent as stated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Stable identity, where the source has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Agent {
    /// Makes an agent that is known by its name only.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..Self::default() }
    }

    /// Returns what to show and to index: the name, else the id.
    pub fn label(&self) -> Option<&str> {
        self.name.as_deref().or(self.id.as_deref())
    }
}

/// The thing asked or done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// What sort of thing it is.
    pub kind: ActionKind,
    /// Tool, model, agent or data source name.
    pub name: String,
    /// The model's id for the call; unique inside a session or trace only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// Arguments. Disclosed.
    #[serde(default, deserialize_with = "stated", skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// The thing acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Capabilities that the action needs or was granted, as stated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

impl Action {
    /// Makes an action that is known by kind and name only.
    pub fn new(kind: ActionKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            call_id: None,
            arguments: None,
            resource: None,
            capabilities: Vec::new(),
        }
    }
}

/// What sort of thing an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// A tool call.
    Tool,
    /// A model call.
    Model,
    /// An agent or workflow invocation.
    Agent,
    /// A read of memory, retrieval or other data.
    Data,
    /// A message between agents or to a person.
    Message,
    /// A guardrail or policy check as a step of its own.
    Guard,
    /// A plan.
    Plan,
    /// Anything else.
    Other,
}

impl ActionKind {
    /// Every kind, in declaration order.
    pub const ALL: [Self; 8] = [
        Self::Tool,
        Self::Model,
        Self::Agent,
        Self::Data,
        Self::Message,
        Self::Guard,
        Self::Plan,
        Self::Other,
    ];

    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Model => "model",
            Self::Agent => "agent",
            Self::Data => "data",
            Self::Message => "message",
            Self::Guard => "guard",
            Self::Plan => "plan",
            Self::Other => "other",
        }
    }
}

/// One instruction or data source that influenced an action.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// `user_prompt`, `system_prompt`, `skill`, `memory`, `retrieval`, `tool_result`, `agent_message` or the source's own word.
    pub kind: String,
    /// How far the source trusts it.
    pub trust: Trust,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Digest of the content as the source states it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Trust in a source, from most to least. `Unknown` ranks last: what nobody vouches for is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Vouched for.
    Trusted,
    /// From inside the organisation.
    Internal,
    /// From a known outsider.
    External,
    /// From anybody.
    Unverified,
    /// Nothing was said.
    Unknown,
}

impl Trust {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Internal => "internal",
            Self::External => "external",
            Self::Unverified => "unverified",
            Self::Unknown => "unknown",
        }
    }
}

/// A budget as the source saw it; amounts are integers in `unit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Unit: `nano_usd`, `tokens`, `calls`, …
    pub unit: String,
    /// Limit.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option_i64")]
    pub limit: Option<i64>,
    /// Used so far.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option_i64")]
    pub used: Option<i64>,
    /// Reserved for actions that are not settled yet.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option_i64")]
    pub reserved: Option<i64>,
}

/// What was ruled, as the source states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The ruling.
    pub effect: Effect,
    /// False for a shadow run or a verdict that was not acted on.
    #[serde(default = "yes")]
    pub enforced: bool,
    /// The policy that ruled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyRef>,
    /// Machine-readable reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Human-readable reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who ruled.
    #[serde(default)]
    pub by: Authority,
    /// Marks such as `warn`, `modified`, `pii`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// End of a cooldown, Unix nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "decimal::option_u64")]
    pub until_ns: Option<u64>,
    /// Approval that this decision asks for or answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<String>,
    /// What the ruling obliges the caller to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obligations: Vec<Obligation>,
}

impl Decision {
    /// Makes an enforced decision with nothing but its effect and who ruled.
    pub fn new(effect: Effect, by: AuthorityKind) -> Self {
        Self {
            effect,
            enforced: true,
            policy: None,
            code: None,
            reason: None,
            by: Authority { kind: by, id: None },
            flags: Vec::new(),
            until_ns: None,
            approval_id: None,
            obligations: Vec::new(),
        }
    }
}

/// The ruling on an action. The order is the lattice: a later effect is stricter, and rules join by maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Evaluated and not applicable.
    NoOp,
    /// Go ahead.
    Allow,
    /// Simulate, without side effect.
    DryRun,
    /// Wait for an approval.
    RequireApproval,
    /// Refuse now, try again later.
    Cooldown,
    /// Refuse.
    Block,
}

impl Effect {
    /// Every effect, from most to least permissive.
    pub const ALL: [Self; 6] =
        [Self::NoOp, Self::Allow, Self::DryRun, Self::RequireApproval, Self::Cooldown, Self::Block];

    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoOp => "no_op",
            Self::Allow => "allow",
            Self::DryRun => "dry_run",
            Self::RequireApproval => "require_approval",
            Self::Cooldown => "cooldown",
            Self::Block => "block",
        }
    }

    /// Tells whether an action with this ruling may run for real.
    pub const fn lets_run(self) -> bool {
        matches!(self, Self::NoOp | Self::Allow)
    }
}

impl std::fmt::Display for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Names a policy as the source states it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRef {
    /// Content digest of the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Digest>,
    /// Name of the policy or bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Version label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Rules that determined the decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

/// Who ruled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Kind.
    pub kind: AuthorityKind,
    /// Identity inside the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Kind of authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityKind {
    /// A policy engine.
    Policy,
    /// Static configuration.
    Config,
    /// A hook of the client.
    Hook,
    /// A person.
    Human,
    /// A model, as in a guardrail.
    Model,
    /// Nothing was said.
    #[default]
    Unknown,
}

impl AuthorityKind {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Config => "config",
            Self::Hook => "hook",
            Self::Human => "human",
            Self::Model => "model",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that a ruling obliges the caller to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Obligation {
    /// `notify`, `approver_role`, `redact`, `spend_cap`, `cooldown_until` or the policy's own word.
    pub kind: String,
    /// Parameters, all strings so that obligations have one canonical form.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Error, as stated. Its message is disclosed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// Result. Disclosed.
    #[serde(default, deserialize_with = "stated", skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

impl Outcome {
    /// Makes an outcome with nothing but its status.
    pub const fn new(status: Status) -> Self {
        Self { status, error: None, result: None }
    }
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It ran and succeeded.
    Ok,
    /// It ran, or tried to, and failed.
    Error,
    /// It was cancelled before it ended.
    Cancelled,
    /// It has not ended.
    Pending,
    /// It was undone.
    Compensated,
}

impl Status {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
            Self::Pending => "pending",
            Self::Compensated => "compensated",
        }
    }
}

/// An error as stated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorInfo {
    /// Class (`error.type`, exception type).
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Message. Disclosed: error texts quote arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What an action used and cost. Token counts are plain integers below 2^53.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Provider (`gen_ai.provider.name`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Model that answered, else the model that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Input tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Output tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Input tokens served from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// Input tokens written to a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// Output tokens spent on reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Size of the model's context window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_window: Option<u64>,
    /// Cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// True when the numbers repeat those of the children and must not be summed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub aggregate: bool,
}

/// Money in integer nano-units of a currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// Amount in 10^-9 of the currency.
    #[serde(with = "decimal::i64")]
    pub nano: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// Where the amount comes from: `reported`, or `priced:<table id>`.
    #[serde(default = "reported")]
    pub basis: String,
}

/// Reads a member that may be any JSON value: `null` is a value that was stated, not the absence of one.
fn stated<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn reported() -> String {
    "reported".to_owned()
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
const fn is_zero_u32(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn event_round_trips_and_omits_what_was_not_said() {
        let mut event = Event::new("e1", Action::new(ActionKind::Tool, "issue_refund"));
        event.start_ns = Some(1_763_670_000_000_000_001);
        event.usage = Some(Usage {
            cost: Some(Cost { nano: 450, currency: "USD".into(), basis: reported() }),
            ..Usage::default()
        });
        let value = serde_json::to_value(&event).unwrap();
        assert_eq!(
            value,
            json!({
                "id": "e1", "source": {}, "start_ns": "1763670000000000001",
                "action": {"kind": "tool", "name": "issue_refund"},
                "usage": {"cost": {"nano": "450", "currency": "USD", "basis": "reported"}},
            })
        );
        assert_eq!(serde_json::from_value::<Event>(value).unwrap(), event);
    }

    #[test]
    fn a_stated_null_is_not_an_absent_value() {
        let value = json!({
            "id": "e", "source": {}, "action": {"kind": "tool", "name": "t", "arguments": null},
            "outcome": {"status": "ok", "result": null},
        });
        let event: Event = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(event.action.arguments, Some(Value::Null));
        assert_eq!(serde_json::to_value(&event).unwrap(), value);
    }

    #[test]
    fn integers_are_accepted_as_numbers_and_unknown_fields_are_refused() {
        let event: Event = serde_json::from_value(json!({
            "id": "e", "start_ns": 12, "action": {"kind": "model", "name": "m"}
        }))
        .unwrap();
        assert_eq!(event.start_ns, Some(12));
        let error = serde_json::from_value::<Event>(json!({
            "id": "e", "strat_ns": 12, "action": {"kind": "model", "name": "m"}
        }))
        .unwrap_err();
        assert!(error.to_string().contains("strat_ns"), "{error}");
    }

    #[test]
    fn effects_are_ordered_by_strictness() {
        assert!(Effect::ALL.is_sorted());
        assert!(Effect::Block > Effect::Cooldown && Effect::Allow < Effect::DryRun);
    }
}
