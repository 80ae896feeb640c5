//! The one builder of input documents, for live decisions and for replay.
//!
//! `schema/input.v1.json` documents every member with its type and unit. Members are integers, strings,
//! booleans, arrays and objects only. What is not known is absent, never null and never a default; only `state`
//! is always complete.
//!
//! # Provenance reach
//! `provenance.sources` holds the sources that the action itself states and, marked `via` with the key of the
//! step, every source that an earlier action of the same trace states, unless that action was refused, waits or
//! was cancelled: what never came back reached nobody. Earlier means earlier in the log. This is the widest
//! reading (a model reads its whole context) and invents nothing: a tool whose result nobody called external
//! adds no source.

mod conform;
mod host;

use serde_json::{Map, Number, Value, json};
use verdict_ledger::action::{Action, Stated};
use verdict_ledger::canon;
use verdict_ledger::event::{AuthorityKind, Effect, Trust};
use verdict_ledger::id::Digest;

use crate::state::{Reached, State};

/// Version of the input document.
pub const SCHEMA: &str = "verdict-input/1";

/// JSON Schema of the input document.
pub const JSON_SCHEMA: &str = include_str!("../schema/input.v1.json");

pub use conform::nonconformity;

/// Returns the smallest valid document: a tool call at the beginning of a history, of nobody, to nothing.
pub fn minimal() -> Value {
    let money = || json!({"USD": 0});
    let counters = || json!({"tool_calls": 0, "spent_nano": money()});
    json!({
        "schema": SCHEMA,
        "event": {"seq": 0, "ts_ns": 0},
        "action": {"kind": "tool", "name": ""},
        "provenance": {"sources": []},
        "approvals": [],
        "controls": [],
        "state": {
            "trace": {
                "tool_calls": 0, "model_calls": 0, "blocked": 0, "spent_nano": money(),
                "consecutive_tool_calls": 0, "consecutive_same_tool": 0,
            },
            "session": counters(),
            "agent": {"tool_calls": 0, "spent_nano": money(), "blocked": 0, "cooldown_until_ns": 0},
            "tenant": counters(),
            "windows": {"agent_1h": counters(), "agent_24h": counters()},
        },
    })
}

/// What an input document takes from the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    state: Value,
    controls: Vec<Value>,
    reached: Vec<Reached>,
}

impl Context {
    /// Takes from a state what concerns an action.
    pub fn of(action: &Action, state: &State) -> Self {
        Self {
            state: state.document(action),
            controls: state.controls(),
            reached: state.reached(action).to_vec(),
        }
    }

    /// Returns the sources that reached the action from earlier steps.
    pub(crate) fn reached(&self) -> &[Reached] {
        &self.reached
    }

    /// Returns the member `state` of the document.
    pub(crate) const fn state(&self) -> &Value {
        &self.state
    }
}

/// Builds the input document of an action under a state; pure.
pub fn build(action: &Action, state: &State) -> Value {
    build_in(action, &Context::of(action, state))
}

/// Builds the input document of an action in what was taken from a state; pure.
pub fn build_in(action: &Action, context: &Context) -> Value {
    let mut document = Map::new();
    document.insert("schema".to_owned(), json!(SCHEMA));
    document.insert("event".to_owned(), event(action));
    if let Some(agent) = &action.agent {
        let mut object = Object::default();
        object.text("id", agent.value.id.as_deref());
        object.text("name", agent.value.name.as_deref());
        object.text("version", agent.value.version.as_deref());
        object.set("inherited", json!(agent.inherited));
        document.insert("agent".to_owned(), object.value());
    }
    if let Some(user) = &action.user {
        document.insert("user".to_owned(), json!({"id": user.value}));
    }
    let plain = [
        ("session", &action.session),
        ("service", &action.service),
        ("environment", &action.environment),
        ("tenant", &action.tenant),
    ];
    for (name, value) in plain {
        if let Some(Stated { value, .. }) = value {
            document.insert(name.to_owned(), json!(value));
        }
    }
    if !action.on_behalf_of.is_empty() {
        document.insert("on_behalf_of".to_owned(), json!(action.on_behalf_of));
    }
    document.insert("action".to_owned(), asked(action));
    let (provenance, lowest) = provenance(action, &context.reached);
    document.insert("provenance".to_owned(), provenance);
    if let Some(classification) = &action.classification {
        document.insert("classification".to_owned(), json!(classification));
    }
    if let Some(budget) = &action.budget {
        let mut object = Object::default();
        object.text("name", budget.name.as_deref());
        object.text("unit", Some(&budget.unit));
        object.int("limit", budget.limit);
        object.int("used", budget.used);
        object.int("reserved", budget.reserved);
        document.insert("budget".to_owned(), object.value());
    }
    document.insert("approvals".to_owned(), approvals(action));
    document.insert("controls".to_owned(), Value::Array(context.controls.clone()));
    document.insert("state".to_owned(), context.state.clone());
    let features = features(action, lowest);
    if !features.is_empty() {
        document.insert("features".to_owned(), Value::Object(features));
    }
    Value::Object(document)
}

/// Returns the digest of an input document: SHA-256 of its canonical bytes.
pub fn digest(input: &Value) -> Digest {
    Digest::of(&canon::digest_bytes(input))
}

/// Writes a foreign value with integers only: a float, or an integer beyond 64 bits signed, becomes its shortest
/// decimal string; a member that is null is absent, an element that is null is the string `null`.
pub fn integers_only(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64().is_none() => json!(decimal(number)),
        Value::Array(items) => Value::Array(
            // Elements keep their places.
            items
                .iter()
                .map(|item| if item.is_null() { json!("null") } else { integers_only(item) })
                .collect(),
        ),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name.clone(), integers_only(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// A double without exponent and without `.0`, as people write amounts.
fn decimal(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        // `Display` of f64 is the shortest decimal that reads back, never in exponent form.
        Some(float) => float.to_string(),
        None => number.to_string(),
    }
}

fn event(action: &Action) -> Value {
    let mut object = Object::default();
    object.set("seq", json!(saturate(action.key)));
    object.set("ts_ns", json!(saturate(action.start_ns)));
    object.text("trace", action.trace_id.map(|id| id.to_string()).as_deref());
    object.text("span", action.span_id.map(|id| id.to_string()).as_deref());
    object.text("parent", action.parent_span_id.map(|id| id.to_string()).as_deref());
    object.value()
}

fn asked(action: &Action) -> Value {
    let mut object = Object::default();
    object.text("kind", Some(action.kind.as_str()));
    object.text("name", Some(&action.name));
    object.text("call_id", action.call_id.as_deref());
    if let Some(arguments) = action.arguments.as_ref().filter(|arguments| !arguments.is_null()) {
        let arguments = integers_only(arguments);
        let digest = Digest::of(&canon::digest_bytes(&arguments));
        object.set("arguments", arguments);
        object.set("arguments_digest", json!(digest));
    }
    object.text("resource", action.resource.as_deref());
    object.int("estimated_cost_nano", crate::state::estimate(action).map(|(_, nano)| nano));
    if !action.capabilities.is_empty() {
        object.set("capabilities", json!(action.capabilities));
    }
    object.value()
}

fn provenance(action: &Action, reached: &[Reached]) -> (Value, Option<Trust>) {
    let mut sources = Vec::new();
    let mut lowest: Option<Trust> = None;
    let mut add =
        |trust: Trust, kind: &str, name: Option<&str>, uri: Option<&str>, digest: Option<&str>, via| {
            lowest = lowest.max(Some(trust));
            let mut object = Object::default();
            object.text("kind", Some(kind));
            object.text("trust", Some(trust.as_str()));
            object.text("name", name);
            object.text("uri", uri);
            object.text("digest", digest);
            object.int("via", via);
            sources.push(object.value());
        };
    for own in &action.provenance {
        add(own.trust, &own.kind, own.name.as_deref(), own.uri.as_deref(), own.digest.as_deref(), None);
    }
    for far in reached {
        // A replay folds an action after it built the action's input, but a live caller may not.
        if far.via != action.key {
            let via = Some(saturate(far.via));
            add(far.trust, &far.kind, far.name.as_deref(), far.uri.as_deref(), far.digest.as_deref(), via);
        }
    }
    let mut object = Object::default();
    object.set("sources", Value::Array(sources));
    object.text("lowest_trust", lowest.map(Trust::as_str));
    (object.value(), lowest)
}

/// Answers that were there when the action was asked for; the answer to the action's own question comes later.
fn approvals(action: &Action) -> Value {
    let answers = action.rulings.iter().filter(|ruling| {
        let decision = &ruling.decision;
        let answers = decision.by.kind == AuthorityKind::Human || decision.approval_id.is_some();
        let valid = decision.until_ns.is_none_or(|until_ns| action.start_ns < until_ns);
        answers && valid && decision.effect != Effect::RequireApproval && ruling.at_ns < action.start_ns
    });
    answers
        .map(|ruling| {
            let mut object = Object::default();
            object.text("approval_id", ruling.decision.approval_id.as_deref());
            object.text("by", Some(ruling.decision.by.kind.as_str()));
            object.int("at_ns", Some(saturate(ruling.at_ns)));
            object.text("effect", Some(ruling.decision.effect.as_str()));
            object.value()
        })
        .collect()
}

fn features(action: &Action, lowest: Option<Trust>) -> Map<String, Value> {
    let mut object = Object::default();
    let arguments = action.arguments.as_ref();
    object.text("url_host", host::url_host(arguments, action.resource.as_deref()).as_deref());
    object.text("email_domain", host::email_domain(arguments).as_deref());
    object.int("lowest_trust_rank", lowest.map(rank));
    object.0
}

/// Rank of a trust, from 0 for trusted.
pub const fn rank(trust: Trust) -> i64 {
    match trust {
        Trust::Trusted => 0,
        Trust::Internal => 1,
        Trust::External => 2,
        Trust::Unverified => 3,
        Trust::Unknown => 4,
    }
}

fn saturate(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// An object whose unknown members stay absent.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }
    fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.set(name, json!(value));
        }
    }
    fn int(&mut self, name: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.set(name, json!(value));
        }
    }
    fn value(self) -> Value {
        Value::Object(self.0)
    }
}
