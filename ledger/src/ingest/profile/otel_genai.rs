//! OpenTelemetry semantic conventions for generative AI, current and older names.
//!
//! Guardrail attributes follow the open proposals; both spellings in circulation are read. A verdict and the
//! action taken on it are different statements there, and stay different here.

use super::{Draft, Profile, Unset};
use crate::event::{ActionKind, Authority, AuthorityKind, Decision, Effect, PolicyRef, Usage};

pub(super) const PROFILE: Profile = Profile { name: "otel-genai", version: 2, applies, map };

fn applies(draft: &Draft) -> bool {
    draft.fields.get("gen_ai.operation.name").is_some()
        || draft.log_event().is_some_and(|name| name.starts_with("gen_ai."))
        || draft.fields.has_prefix("gen_ai.")
}

pub(super) fn map(draft: &mut Draft) {
    let operation = draft.fields.get_text("gen_ai.operation.name").unwrap_or_default().to_owned();
    let log_event = draft.log_event().map(str::to_owned);
    draft.event.action.kind = match log_event.as_deref() {
        Some("gen_ai.evaluation.result") => ActionKind::Guard,
        _ => kind(&operation).unwrap_or_else(|| guess(draft)),
    };
    draft.session_from(&["langfuse.session.id", "gen_ai.conversation.id", "gen_ai.thread.id"]);
    draft.user_from(&["langfuse.user.id"]);
    agent(draft);
    name(draft);
    usage(draft);
    match log_event.as_deref() {
        None => draft.outcome_from_status(Unset::MeansOk),
        Some(_) => {
            // A log event tells of a failure and says nothing when there was none.
            if let Some(kind) = draft.fields.text("error.type") {
                draft.event.outcome = Some(super::failure(Some(kind), None));
            }
        }
    }
    match draft.event.action.kind {
        ActionKind::Tool => {
            draft.event.action.call_id = draft.fields.text("gen_ai.tool.call.id");
            draft.arguments(&["gen_ai.tool.call.arguments", "gen_ai.tool.arguments", "gen_ai.tool.input"]);
            draft.result(&["gen_ai.tool.call.result", "gen_ai.tool.result", "gen_ai.tool.output"]);
        }
        ActionKind::Data => {
            draft.event.action.resource = draft.fields.text("gen_ai.data_source.id");
            draft.arguments(&["gen_ai.retrieval.query.text"]);
            draft.result(&["gen_ai.retrieval.documents"]);
        }
        ActionKind::Guard => guardrail(draft),
        _ => {}
    }
    draft.interrupt();
}

/// Tells the kind of action from the operation.
pub(super) fn kind(operation: &str) -> Option<ActionKind> {
    Some(match operation {
        "chat" | "generate_content" | "text_completion" | "embeddings" => ActionKind::Model,
        "execute_tool" => ActionKind::Tool,
        "invoke_agent" | "create_agent" | "invoke_workflow" => ActionKind::Agent,
        "plan" => ActionKind::Plan,
        "retrieval" => ActionKind::Data,
        "run_guardrail" => ActionKind::Guard,
        other if other.ends_with("_memory") || other.ends_with("_memory_store") => ActionKind::Data,
        _ => return None,
    })
}

/// Older instrumentations name no operation; a tool's or a model's own attributes tell.
fn guess(draft: &Draft) -> ActionKind {
    let fields = &draft.fields;
    let operation_is_known = fields.get("gen_ai.operation.name").is_some();
    if operation_is_known {
        ActionKind::Other
    } else if fields.get("gen_ai.tool.name").is_some() {
        ActionKind::Tool
    } else if fields.get("gen_ai.request.model").is_some() || fields.get("gen_ai.response.model").is_some() {
        ActionKind::Model
    } else {
        ActionKind::Other
    }
}

/// Sets the agent as the conventions name it.
pub(super) fn agent(draft: &mut Draft) {
    let id = draft.stated(&["gen_ai.agent.id"]);
    let name = draft.stated(&["gen_ai.agent.name"]);
    let version = draft.stated(&["gen_ai.agent.version"]);
    draft.agent(id, name, version);
}

fn name(draft: &mut Draft) {
    let name = match draft.event.action.kind {
        ActionKind::Tool => draft.fields.text("gen_ai.tool.name"),
        // Both are used again below, and stay for that.
        ActionKind::Model => ["gen_ai.request.model", "gen_ai.response.model"]
            .iter()
            .find_map(|name| draft.fields.get_text(name))
            .map(str::to_owned),
        ActionKind::Agent => draft
            .fields
            .text("gen_ai.workflow.name")
            .or_else(|| draft.event.agent.as_ref().and_then(|agent| agent.name.clone())),
        ActionKind::Guard => draft.fields.first_text(&[
            "gen_ai.guardrail.component.name",
            "gen_ai.security.guardrail.name",
            "gen_ai.guardrail.name",
            "gen_ai.evaluation.name",
        ]),
        ActionKind::Data => draft.fields.first_text(&["gen_ai.memory.store.name", "gen_ai.memory.store.id"]),
        _ => None,
    };
    draft.event.action.name = name.or_else(|| draft.log_event().map(str::to_owned)).unwrap_or_default();
}

/// Takes usage under current and older names. Agents and workflows repeat their model calls.
pub(super) fn usage(draft: &mut Draft) {
    let is_caller = matches!(draft.event.action.kind, ActionKind::Model | ActionKind::Agent);
    if !is_caller && !draft.fields.has_prefix("gen_ai.usage.") {
        return;
    }
    let responded = draft.fields.text("gen_ai.response.model");
    // What was asked for stays where it is, unless it is what answered or the name of the action.
    let is_name = draft.fields.get_text("gen_ai.request.model") == Some(draft.event.action.name.as_str());
    let requested =
        if responded.is_none() || is_name { draft.fields.text("gen_ai.request.model") } else { None };
    let usage = Usage {
        provider: draft.fields.first_text(&["gen_ai.provider.name", "gen_ai.system"]),
        model: responded.or(requested),
        input_tokens: draft.fields.first_count(&["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"]),
        output_tokens: draft
            .fields
            .first_count(&["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"]),
        cache_read_tokens: draft
            .fields
            .first_count(&["gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"]),
        cache_write_tokens: draft.fields.first_count(&[
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
        ]),
        reasoning_tokens: draft
            .fields
            .first_count(&["gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"]),
        context_window: None,
        cost: draft.cost(&["gen_ai.usage.cost", "operation.cost"], "USD"),
        aggregate: draft.event.action.kind == ActionKind::Agent,
    };
    draft.usage(usage);
}

/// Reads a guardrail. The action taken is the decision; a verdict alone was, for all we know, not acted on.
fn guardrail(draft: &mut Draft) {
    let of = |name: &str| [format!("gen_ai.guardrail.{name}"), format!("gen_ai.security.{name}")];
    let take = |draft: &mut Draft, name: &str| {
        let [current, other] = of(name);
        draft.fields.first_text(&[&current, &other])
    };
    let peek = |draft: &Draft, name: &str| {
        of(name).iter().find_map(|name| draft.fields.get_text(name)).map(str::to_owned)
    };
    if peek(draft, "target.subtype").as_deref() == Some("tool_call") {
        draft.event.action.call_id = take(draft, "target.id");
    }
    let (verdict, action) = (peek(draft, "verdict.type"), peek(draft, "action.type"));
    let Some(word) = action.as_ref().or(verdict.as_ref()) else { return };
    let Some((effect, flag)) = effect(word) else {
        draft.notes.push(format!("guardrail word `{word}` is not known; it stays in the attributes"));
        return;
    };
    let mut decision = Decision::new(effect, AuthorityKind::Unknown);
    decision.enforced = action.is_some();
    decision.flags.extend(flag.map(str::to_owned));
    take(draft, if action.is_some() { "action.type" } else { "verdict.type" });
    if let (Some(_), Some(verdict)) = (&action, verdict) {
        // What was found and what was done about it need not agree.
        decision.flags.push(format!("verdict:{verdict}"));
        take(draft, "verdict.type");
    }
    decision.code = take(draft, "verdict.code");
    decision.reason = take(draft, "verdict.reason");
    let policy = take(draft, "security.policy.id").or_else(|| take(draft, "policy.id"));
    let rule = take(draft, "security.policy.rule.id").or_else(|| take(draft, "policy.rule.id"));
    if policy.is_some() || rule.is_some() {
        decision.by = Authority { kind: AuthorityKind::Policy, id: None };
        decision.policy =
            Some(PolicyRef { name: policy, rules: rule.into_iter().collect(), ..PolicyRef::default() });
    }
    draft.event.decision = Some(decision);
}

fn effect(word: &str) -> Option<(Effect, Option<&'static str>)> {
    Some(match word {
        "allow" => (Effect::Allow, None),
        "warn" => (Effect::Allow, Some("warn")),
        "modify" => (Effect::Allow, Some("modified")),
        "deny" | "block" => (Effect::Block, None),
        "escalate" | "ask" => (Effect::RequireApproval, None),
        _ => return None,
    })
}
