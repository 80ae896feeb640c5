//! OpenClaw: spans `openclaw.…` with GenAI names on tool and model spans, and security events.
//!
//! Session ids are left out by its exporter on purpose; nothing here replaces them.

use serde_json::{Map, Value};

use super::{Draft, Profile, Unset, otel_genai};
use crate::event::{ActionKind, AuthorityKind, Decision, Effect, PolicyRef, Usage};

pub(super) const PROFILE: Profile = Profile {
    name: "openclaw",
    version: 1,
    applies: |draft| {
        draft.fields.has_prefix("openclaw.")
            || draft.span().is_some_and(|span| span.name.starts_with("openclaw."))
            || draft.log_event().is_some_and(|name| name.starts_with("openclaw."))
    },
    map,
};

fn map(draft: &mut Draft) {
    let name = match draft.span() {
        Some(span) => span.name.clone(),
        None => draft.log_event().unwrap_or_default().to_owned(),
    };
    let operation = draft.fields.get_text("gen_ai.operation.name").unwrap_or_default();
    let kind = otel_genai::kind(operation).unwrap_or_else(|| match name.as_str() {
        "openclaw.tool.execution" | "openclaw.exec" => ActionKind::Tool,
        "openclaw.model.call" | "openclaw.model.usage" => ActionKind::Model,
        "openclaw.run" | "openclaw.harness.run" => ActionKind::Agent,
        "openclaw.message.processed" => ActionKind::Message,
        "openclaw.tool.loop" => ActionKind::Guard,
        security if security.contains("security") => ActionKind::Guard,
        _ => ActionKind::Other,
    });
    draft.event.action.kind = kind;
    draft.session_from(&["openclaw.sessionId", "openclaw.session.id", "gen_ai.conversation.id"]);
    otel_genai::agent(draft);
    if draft.event.agent.is_none() {
        let id = draft.stated(&["openclaw.agentId", "openclaw.agent.id", "openclaw.agent"]);
        draft.agent(id, None, None);
    }
    draft.user_from(&["openclaw.actor.idHash", "openclaw.userId"]);
    let fields = &mut draft.fields;
    draft.event.action.name = match kind {
        ActionKind::Tool => {
            let tool = fields.text("gen_ai.tool.name");
            let own = fields.get_text("openclaw.toolName").map(str::to_owned);
            if tool.is_some() && tool == own {
                fields.take("openclaw.toolName");
            }
            tool.or_else(|| fields.text("openclaw.toolName"))
        }
        ActionKind::Model => ["gen_ai.request.model", "openclaw.model"]
            .iter()
            .find_map(|name| fields.get_text(name))
            .map(str::to_owned),
        ActionKind::Agent => draft.event.agent.as_ref().and_then(|agent| agent.label().map(str::to_owned)),
        _ => None,
    }
    .unwrap_or(name);
    draft.outcome_from_status(Unset::MeansOk);
    if kind == ActionKind::Tool {
        draft.event.action.call_id = draft.fields.first_text(&["gen_ai.tool.call.id", "openclaw.toolCallId"]);
        draft.event.action.resource = draft.fields.text("openclaw.toolOwner");
        draft.arguments(&["gen_ai.tool.call.arguments", "openclaw.tool.params"]);
        parameters(draft);
        draft.result(&["gen_ai.tool.call.result"]);
    }
    usage(draft, kind);
    draft.event.decision = decision(draft);
    if draft.event.decision.as_ref().is_some_and(|decision| decision.effect == Effect::Block) {
        // A refused call did not run, whatever its span says.
        draft.event.outcome = None;
    }
}

/// Gathers `openclaw.tool.params.*`.
fn parameters(draft: &mut Draft) {
    const PREFIX: &str = "openclaw.tool.params.";
    if draft.event.action.arguments.is_some() {
        return;
    }
    let mut arguments = Map::new();
    for (name, held) in draft.fields.take_prefix(PREFIX) {
        let pointer = format!("/action/arguments/{}", crate::canon::escape_pointer(&name));
        arguments.insert(name, held.unpack(&pointer, &mut draft.event.source.restated));
    }
    if !arguments.is_empty() {
        draft.event.action.arguments = Some(Value::Object(arguments));
    }
}

fn usage(draft: &mut Draft, kind: ActionKind) {
    otel_genai::usage(draft);
    let stated = draft.event.usage.take().unwrap_or_default();
    let cost = draft
        .cost(&["openclaw.costUsd", "openclaw.cost_usd", "openclaw.cost.usd"], "USD")
        .or(stated.cost.clone());
    let fields = &mut draft.fields;
    let usage = Usage {
        provider: stated.provider.or_else(|| fields.text("openclaw.provider")),
        model: stated.model.or_else(|| fields.text("openclaw.model")),
        input_tokens: stated.input_tokens.or_else(|| fields.count("openclaw.tokens.input")),
        output_tokens: stated.output_tokens.or_else(|| fields.count("openclaw.tokens.output")),
        cache_read_tokens: stated.cache_read_tokens.or_else(|| fields.count("openclaw.tokens.cache_read")),
        cache_write_tokens: stated.cache_write_tokens.or_else(|| fields.count("openclaw.tokens.cache_write")),
        cost,
        aggregate: kind != ActionKind::Model,
        ..stated
    };
    draft.usage(usage);
}

fn decision(draft: &mut Draft) -> Option<Decision> {
    let word = ["openclaw.policy.decision", "policy.decision"]
        .iter()
        .find_map(|name| draft.fields.get_text(name))
        .unwrap_or_default();
    let refused = draft.fields.get_text("openclaw.outcome") == Some("blocked");
    let effect = match word {
        "allow" | "auto" | "full" => Some(Effect::Allow),
        "deny" => Some(Effect::Block),
        "ask" => Some(Effect::RequireApproval),
        "not_applicable" => Some(Effect::NoOp),
        _ => None,
    };
    let effect = if refused { Effect::Block } else { effect? };
    let fields = &mut draft.fields;
    let family = fields.first_text(&["openclaw.control.family", "control.family"]);
    let by = if family.is_some() || !word_is_empty(fields) {
        AuthorityKind::Policy
    } else {
        AuthorityKind::Unknown
    };
    let mut decision = Decision::new(effect, by);
    decision.by.id = family;
    // `auto` and `full` are ways of allowing that differ in who was asked.
    decision.code = fields.first_text(&["openclaw.policy.decision", "policy.decision", "openclaw.outcome"]);
    decision.reason = fields.first_text(&[
        "openclaw.deniedReason",
        "openclaw.policy.reason",
        "policy.reason",
        "openclaw.reason",
    ]);
    decision.policy = fields
        .first_text(&["openclaw.policy.id", "policy.id"])
        .map(|name| PolicyRef { name: Some(name), ..PolicyRef::default() });
    Some(decision)
}

fn word_is_empty(fields: &crate::ingest::fields::Fields) -> bool {
    ["openclaw.policy.decision", "policy.decision"].iter().all(|name| fields.get(name).is_none())
}
