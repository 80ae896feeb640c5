//! Audit log of the AISecOps Interceptor: one record a line, schema versions "1.0" and "0.5.0" (the newer).
//!
//! Every line becomes one event. A line states a ruling only when it is of a kind that records one: `pending` is
//! none, and the `allowed` of an execution or of a final output repeats the ruling instead of making one. What a
//! line says in `context` and `payload` stays in the attributes.
//!
//! Only the plan of a call says that the call is a dry run, and its ruling says `allowed` like any other. So the plan
//! and the lines after it in the same trace are read together, as far as they come in one body.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::check::Ordinals;
use super::fields::{Fields, TEXT_BYTES_MAX, decimal};
use super::time::nanoseconds;
use super::{IngestError, Reason, Sink, records};
use crate::event::{
    Action, ActionKind, Agent, AuthorityKind, Budget, Decision, Effect, Event, Link, Outcome, PolicyRef,
    Provenance, Rel, Status, Target, Trust,
};
use crate::id::TraceId;

const FORMAT: &str = "aisecops";
/// Raised when the same line would map to another event.
const MAPPER: u32 = 1;
const PROVENANCE_MAX: usize = 64;
const CAPABILITIES_MAX: usize = 256;

pub(super) fn map(body: &[u8], sink: &mut Sink<'_>) -> Result<(), IngestError> {
    let mut dry_runs = DryRuns::new();
    records::each(body, sink, |piece, sink| {
        let fields = records::foreign(piece, sink)?;
        let (mut event, notes) = event(fields, piece.bytes, &mut sink.ids, &mut dry_runs)?;
        event.source.path = Some(piece.path.clone());
        for note in notes {
            sink.warn(&piece.place(), note);
        }
        sink.take(event)
    })
}

/// Whether the last call of a trace that said so was a dry run.
pub(super) type DryRuns = BTreeMap<Option<TraceId>, bool>;

/// Reads one record. `bytes` are what its id is made from where it has none.
pub(super) fn event(
    mut fields: Fields,
    bytes: &[u8],
    ids: &mut Ordinals,
    dry_runs: &mut DryRuns,
) -> Result<(Event, Vec<String>), Reason> {
    if fields.get("event_type").is_none() || fields.get("timestamp").is_none() {
        return Err(Reason::Shape {
            message: "not an AISecOps audit record: `event_type` and `timestamp` are required".to_owned(),
        });
    }
    let mut notes = Vec::new();
    // A null says nothing and is on every line many times.
    fields.drop_nulls();
    let id = match fields.get_text("event_id") {
        Some(id) if !id.is_empty() && id.len() <= 200 => format!("aisecops:{id}"),
        _ => ids.id("aisecops:", bytes),
    };
    if id.strip_prefix("aisecops:") == fields.get_text("event_id") {
        fields.take("event_id");
    }
    let audit_kind = fields.get_text("audit_kind").unwrap_or_default().to_owned();
    let mut event = Event::new(id, action(&mut fields, &audit_kind));
    FORMAT.clone_into(&mut event.source.format);
    event.source.profile =
        fields.get_text("schema_version").filter(|text| text.len() <= 32).map(str::to_owned);
    event.source.mapper = MAPPER;
    who(&mut event, &mut fields);
    event.trace_id = trace_id(&mut fields, &mut notes);
    match fields.get_text("timestamp").and_then(nanoseconds) {
        Some(ns) => {
            event.start_ns = Some(ns);
            fields.take("timestamp");
        }
        None => notes
            .push("`timestamp` is not an ISO 8601 time with an offset; it stays in the attributes".into()),
    }
    event.provenance = provenance(&mut fields);
    event.classification = nested(&fields, "context", "data_classification")
        .or_else(|| nested(&fields, "context", "sensitivity_level"));
    event.budget = budget(&fields);
    let stated = fields.get("payload").and_then(|payload| payload.get("dry_run")).and_then(Value::as_bool);
    if let Some(dry_run) = stated {
        dry_runs.insert(event.trace_id, dry_run);
    }
    let dry_run = stated.or_else(|| dry_runs.get(&event.trace_id).copied()).unwrap_or(false);
    event.decision = decision(&mut fields, &audit_kind, dry_run, &mut notes);
    if let Some(link) = event.decision.as_ref().and_then(|decision| approval(decision, &fields)) {
        event.links.push(link);
    }
    if audit_kind == "tool_execution" {
        event.outcome = Some(Outcome::new(Status::Ok));
    }
    event.attributes = fields.into_map("/attributes", &[], &mut event.source.restated);
    Ok((event, notes))
}

fn action(fields: &mut Fields, audit_kind: &str) -> Action {
    let event_type = fields.get_text("event_type").unwrap_or_default().to_owned();
    let kind = match audit_kind {
        "plan" => ActionKind::Plan,
        _ if fields.get_text("tool_name").is_some() => ActionKind::Tool,
        "final_output" => ActionKind::Message,
        _ if event_type.starts_with("prompt_") || event_type.starts_with("output_") => ActionKind::Guard,
        _ if event_type == "user_input" => ActionKind::Message,
        _ => ActionKind::Other,
    };
    let name = fields.text("tool_name").unwrap_or(event_type);
    let mut action = Action::new(kind, name);
    // The plan belongs to the call that it plans.
    action.call_id = fields.text("execution_plan_id");
    action.arguments = fields.take("arguments").map(|held| held.value);
    action.resource = fields.text("server_name");
    action.capabilities =
        texts(fields, "capabilities").or_else(|| texts(fields, "requested_capabilities")).unwrap_or_default();
    action
}

fn who(event: &mut Event, fields: &mut Fields) {
    let name = fields.text("agent_name");
    let id = fields.text("agent_id").or_else(|| nested(fields, "context", "agent_id"));
    if name.is_some() || id.is_some() {
        event.agent = Some(Agent { id, name, version: None });
    }
    event.user = nested(fields, "context", "user_id").or_else(|| fields.text("actor"));
    event.session = fields.text("session_id");
    event.environment = fields.text("environment");
}

fn trace_id(fields: &mut Fields, notes: &mut Vec<String>) -> Option<TraceId> {
    let text = fields.get_text("trace_id")?;
    // Newer writers use the 32 digits of a UUID, others write its dashes.
    if let Ok(id) = text.replace('-', "").parse() {
        fields.take("trace_id");
        Some(id)
    } else {
        notes.push("`trace_id` is not 32 hexadecimal digits; it stays in the attributes".to_owned());
        None
    }
}

/// An allowed call that names an approval and says that it was given answers that approval. By whom is not logged.
fn approval(decision: &Decision, fields: &Fields) -> Option<Link> {
    let answers = fields.get_text("event_type") == Some("tool_allowed")
        && decision.effect == Effect::Allow
        && decision.reason.as_ref().is_some_and(|reason| reason.ends_with("(approved)"));
    let approval_id = decision.approval_id.clone().filter(|_| answers);
    approval_id
        .map(|id| Link { to: Target { approval_id: Some(id), ..Target::default() }, rel: Rel::Approves })
}

fn decision(
    fields: &mut Fields,
    audit_kind: &str,
    dry_run: bool,
    notes: &mut Vec<String>,
) -> Option<Decision> {
    if !matches!(audit_kind, "decision" | "capability" | "mcp_policy_decision") {
        return None;
    }
    let effect = match fields.get_text("decision")? {
        "allowed" => Effect::Allow,
        "blocked" => Effect::Block,
        "require_approval" => Effect::RequireApproval,
        "pending" | "observed" => return None,
        other => {
            notes.push(format!("decision `{other}` is not one of AISecOps; it stays in the attributes"));
            return None;
        }
    };
    fields.take("decision");
    let mut decision = Decision::new(effect, AuthorityKind::Policy);
    decision.enforced = !dry_run;
    decision.reason = fields.text("reason");
    decision.approval_id = fields.text("approval_id");
    // An index or a key inside the policy file; the log names neither the policy nor its version.
    if let Some(rule) = fields.text("matched_rule") {
        decision.policy = Some(PolicyRef { rules: vec![rule], ..PolicyRef::default() });
    }
    if let Some(violations) = texts(fields, "runtime_violations") {
        decision.flags = violations;
    }
    Some(decision)
}

fn provenance(fields: &mut Fields) -> Vec<Provenance> {
    let Some(Value::Array(items)) = fields.get("provenance") else { return Vec::new() };
    if items.len() > PROVENANCE_MAX {
        return Vec::new();
    }
    let mut whole = true;
    let list: Vec<Provenance> = items
        .iter()
        .filter_map(|item| {
            let text = |name: &str| {
                item.get(name)
                    .and_then(Value::as_str)
                    .filter(|text| !text.is_empty() && text.len() <= TEXT_BYTES_MAX)
                    .map(str::to_owned)
            };
            let kind = text("source_type")?;
            let trust = match text("trust_level").as_deref() {
                Some("trusted") => Trust::Trusted,
                Some("internal") => Trust::Internal,
                Some("external") => Trust::External,
                Some("unverified") => Trust::Unverified,
                stated => {
                    whole &= stated.is_none();
                    Trust::Unknown
                }
            };
            whole &= item.get("metadata").and_then(Value::as_object).is_none_or(Map::is_empty);
            let kind = if kind == "retrieval_chunk" { "retrieval".to_owned() } else { kind };
            Some(Provenance {
                kind,
                trust,
                name: text("source_name"),
                uri: text("origin_uri"),
                digest: text("source_hash"),
            })
        })
        .collect();
    if whole && list.len() == items.len() {
        fields.take("provenance");
    }
    list
}

/// Reads the cost budget; the other limits stay in the attributes, whole.
fn budget(fields: &Fields) -> Option<Budget> {
    let nano = |group: &str, name: &str| {
        decimal(fields.get(group)?.get(name)?)?.to_nano().filter(|nano| nano.exact).map(|nano| nano.value)
    };
    let limit = nano("runtime_budget", "max_cost_usd");
    let used = nano("runtime_usage", "estimated_cost_usd");
    (limit.is_some() || used.is_some()).then(|| Budget {
        name: Some("runtime".to_owned()),
        unit: "nano_usd".to_owned(),
        limit,
        used,
        reserved: None,
    })
}

fn nested(fields: &Fields, group: &str, name: &str) -> Option<String> {
    let text = fields.get(group)?.get(name)?.as_str()?;
    (!text.is_empty() && text.len() <= TEXT_BYTES_MAX).then(|| text.to_owned())
}

/// Takes a list that holds only short texts.
fn texts(fields: &mut Fields, name: &str) -> Option<Vec<String>> {
    let items = fields.get(name)?.as_array()?;
    let list: Vec<String> = items
        .iter()
        .filter_map(|item| item.as_str().filter(|text| text.len() <= TEXT_BYTES_MAX).map(str::to_owned))
        .collect();
    if list.is_empty() || list.len() != items.len() || list.len() > CAPABILITIES_MAX {
        return None;
    }
    fields.take(name);
    Some(list)
}
