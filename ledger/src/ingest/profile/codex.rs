//! Codex: log events named `codex.…`.
//!
//! A tool call is told by `tool_decision`, where there is one, and `tool_result`; they meet in the call id. Tokens are
//! on the event that ends a response, some as text and some as numbers. A refused escalation has no decision, only a
//! result that failed: it stays a failure.

use super::{Draft, Profile, failure};
use crate::event::{ActionKind, AuthorityKind, Decision, Effect, Outcome, PolicyRef, Status, Usage};

pub(super) const PROFILE: Profile = Profile {
    name: "codex",
    version: 1,
    applies: |draft| draft.log_event().is_some_and(|name| name.starts_with("codex.")),
    map,
};

fn map(draft: &mut Draft) {
    let event = draft.log_event().and_then(|name| name.strip_prefix("codex.")).unwrap_or_default().to_owned();
    draft.session_from(&["conversation.id", "conversation_id", "thread.id"]);
    draft.user_from(&["user.email", "user.account_id"]);
    if draft.event.environment.is_none() {
        draft.event.environment = draft.resource.text("env");
    }
    let agent = draft.stated(&["agent_name", "agent.name"]);
    draft.agent(None, agent, None);
    match event.as_str() {
        "tool_decision" => {
            tool(draft);
            draft.event.decision = decision(draft);
        }
        "tool_result" => {
            tool(draft);
            draft.event.outcome = outcome(draft);
            draft.result(&["output"]);
            draft.lasted("duration_ms");
        }
        // The end of a response is the one event of a model call that has its tokens; the request is transport.
        "sse_event" | "websocket_event" if completed(draft) => {
            draft.event.action.kind = ActionKind::Model;
            draft.event.action.name = draft.fields.get_text("model").unwrap_or("unnamed").to_owned();
            draft.event.outcome = Some(Outcome::new(Status::Ok));
            draft.lasted("duration_ms");
            usage(draft);
        }
        "user_prompt" => {
            draft.event.action.kind = ActionKind::Message;
            draft.event.action.name = event;
        }
        _ => {
            draft.event.action.name = event;
            if draft.fields.get("success").is_some() || draft.fields.get_text("error.message").is_some() {
                draft.event.outcome = outcome(draft);
                draft.lasted("duration_ms");
            }
        }
    }
}

fn completed(draft: &Draft) -> bool {
    draft.fields.get_text("event.kind") == Some("response.completed")
        || draft.fields.get("input_token_count").is_some()
}

fn tool(draft: &mut Draft) {
    draft.event.action.kind = ActionKind::Tool;
    draft.event.action.name = draft.fields.text("tool_name").unwrap_or_default();
    draft.event.action.call_id = draft.fields.text("call_id");
    draft.event.action.resource = draft.fields.text("tool_namespace");
    if let Some(sandbox) = draft.fields.text("sandbox_policy") {
        draft.event.action.capabilities.push(format!("sandbox:{sandbox}"));
    }
    draft.arguments(&["arguments"]);
}

fn decision(draft: &mut Draft) -> Option<Decision> {
    let word = draft.fields.get_text("decision")?.to_ascii_lowercase();
    let effect = match word.as_str() {
        approved if approved.starts_with("approved") => Effect::Allow,
        "denied" | "abort" | "aborted" | "timed_out" => Effect::Block,
        _ => {
            draft.notes.push(format!("Codex decision `{word}` is not known; it stays in the attributes"));
            return None;
        }
    };
    let source = draft.fields.get_text("source").unwrap_or_default().to_ascii_lowercase();
    let by = match source.as_str() {
        "config" => AuthorityKind::Config,
        "user" => AuthorityKind::Human,
        _ => AuthorityKind::Unknown,
    };
    if by != AuthorityKind::Unknown {
        draft.fields.take("source");
    }
    let mut decision = Decision::new(effect, by);
    // `approved_for_session` and the like differ in how long they hold.
    decision.code = draft.fields.text("decision");
    decision.policy = draft
        .fields
        .text("approval_policy")
        .map(|name| PolicyRef { name: Some(name), ..PolicyRef::default() });
    Some(decision)
}

fn outcome(draft: &mut Draft) -> Option<Outcome> {
    match draft.fields.flag("success") {
        Some(true) => Some(Outcome::new(Status::Ok)),
        Some(false) => {
            let message = draft.fields.text("error.message");
            Some(failure(draft.fields.first_text(&["error.type", "error_type"]), message))
        }
        None => draft.fields.text("error.message").map(|message| failure(None, Some(message))),
    }
}

fn usage(draft: &mut Draft) {
    let fields = &mut draft.fields;
    let usage = Usage {
        provider: fields.first_text(&["provider_name", "model_provider"]),
        model: fields.text("model"),
        input_tokens: fields.count("input_token_count"),
        output_tokens: fields.count("output_token_count"),
        cache_read_tokens: fields.count("cached_token_count"),
        cache_write_tokens: fields.count("cache_write_token_count"),
        reasoning_tokens: fields.count("reasoning_token_count"),
        ..Usage::default()
    };
    draft.usage(usage);
}
