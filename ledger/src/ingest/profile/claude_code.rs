//! Claude Code: log events and, in beta, spans.
//!
//! One accepted tool call is told by three spans and two log events, a model call by a span and a log event; they
//! meet in the tool use id and the request id. The client does not say which rule matched.

use serde_json::Value;

use super::{Draft, Profile, Unset, failure};
use crate::event::{ActionKind, AuthorityKind, Decision, Effect, Outcome, Status, Usage};

pub(super) const PROFILE: Profile = Profile {
    name: "claude-code",
    version: 1,
    applies: |draft| draft.scope_name.starts_with("com.anthropic.claude_code"),
    map,
};

fn map(draft: &mut Draft) {
    let agent = draft.stated(&["agent.name"]).or_else(|| {
        // Without a sub-agent's name, the client itself is the agent, by the name of its service.
        draft.event.service.clone().filter(|service| service == "claude-code")
    });
    let version = draft.resource.get_text("service.version").map(str::to_owned);
    let version = version.filter(|_| agent.as_deref() == Some("claude-code"));
    draft.agent(None, agent, version);
    if draft.event.user.is_none() {
        draft.user_from(&["user.email", "user.account_uuid"]);
    }
    if let Some(event) = draft.log_event().map(str::to_owned) {
        log(draft, event.strip_prefix("claude_code.").unwrap_or(&event));
    } else {
        let span_type = draft.fields.get_text("span.type").unwrap_or_default().to_owned();
        span(draft, &span_type);
    }
}

fn log(draft: &mut Draft, event: &str) {
    match event {
        "tool_decision" => {
            tool(draft);
            draft.arguments(&["tool_input", "tool_parameters"]);
            draft.event.decision = decision(draft);
        }
        "tool_result" => {
            tool(draft);
            draft.arguments(&["tool_input", "tool_parameters"]);
            draft.event.outcome = outcome(draft);
            draft.lasted("duration_ms");
        }
        "api_request" | "api_error" => {
            model(draft);
            draft.lasted("duration_ms");
            draft.event.outcome = Some(if event == "api_error" {
                let message = draft.fields.text("error");
                failure(draft.fields.first_text(&["error_type", "status_code"]), message)
            } else {
                Outcome::new(Status::Ok)
            });
        }
        "user_prompt" | "assistant_response" => {
            draft.event.action.kind = ActionKind::Message;
            event.clone_into(&mut draft.event.action.name);
        }
        "hook_execution_complete" | "hook_execution_start" => {
            draft.event.action.kind = ActionKind::Guard;
            draft.event.action.name = draft.fields.text("hook_name").unwrap_or_else(|| event.to_owned());
        }
        other => other.clone_into(&mut draft.event.action.name),
    }
}

fn span(draft: &mut Draft, span_type: &str) {
    match span_type {
        "tool" | "tool.execution" => {
            tool(draft);
            draft.arguments(&["tool_input", "tool_parameters"]);
            // The outer span also covers waiting for permission, and ends the same way when that was refused.
            if span_type == "tool.execution" {
                draft.event.outcome = outcome(draft);
            }
        }
        // The gate names neither the tool nor the call; its parent is the span of the call.
        "tool.blocked_on_user" => {
            draft.event.action.kind = ActionKind::Guard;
            draft.event.decision = decision(draft);
        }
        "llm_request" => {
            model(draft);
            draft.event.outcome = outcome(draft);
        }
        "interaction" => {
            draft.event.action.kind = ActionKind::Agent;
            draft.event.action.name =
                draft.event.agent.as_ref().and_then(|agent| agent.name.clone()).unwrap_or_default();
            draft.outcome_from_status(Unset::SaysNothing);
        }
        "hook" => {
            draft.event.action.kind = ActionKind::Guard;
            draft.event.action.name = draft.fields.text("hook_name").unwrap_or_default();
            draft.outcome_from_status(Unset::SaysNothing);
        }
        _ => draft.outcome_from_status(Unset::SaysNothing),
    }
}

fn tool(draft: &mut Draft) {
    draft.event.action.kind = ActionKind::Tool;
    draft.event.action.call_id = draft.fields.first_text(&["tool_use_id", "gen_ai.tool.call.id"]);
    // MCP tools go by a common name; the real one is in the parameters.
    let real = if draft.fields.get_text("tool_name") == Some("mcp_tool") {
        let parameters = draft.fields.peek_json("tool_parameters").unwrap_or_default();
        let text = |name: &str| parameters.get(name).and_then(Value::as_str).map(str::to_owned);
        draft.event.action.resource = text("mcp_server_name");
        text("mcp_tool_name")
    } else {
        None
    };
    draft.event.action.name = real.or_else(|| draft.fields.text("tool_name")).unwrap_or_default();
}

fn decision(draft: &mut Draft) -> Option<Decision> {
    let effect = match draft.fields.get_text("decision")? {
        "accept" => Effect::Allow,
        "reject" => Effect::Block,
        // `unknown` is the client's own word for not knowing.
        _ => return None,
    };
    let source = draft.fields.get_text("source").unwrap_or_default().to_owned();
    let by = match source.as_str() {
        "config" => AuthorityKind::Config,
        "hook" => AuthorityKind::Hook,
        user if user.starts_with("user_") => AuthorityKind::Human,
        _ => AuthorityKind::Unknown,
    };
    draft.fields.take("decision");
    let mut decision = Decision::new(effect, by);
    // `user_permanent` and `user_temporary` differ in how long they hold.
    decision.code = draft.fields.text("source");
    Some(decision)
}

/// Reads success where it is stated; a status without it is read only when it is a failure.
fn outcome(draft: &mut Draft) -> Option<Outcome> {
    match draft.fields.flag("success") {
        Some(true) => Some(Outcome::new(Status::Ok)),
        Some(false) => {
            let kind = draft.fields.text("error_type");
            Some(failure(kind, draft.fields.text("error")))
        }
        None => {
            draft.outcome_from_status(Unset::SaysNothing);
            draft.event.outcome.take()
        }
    }
}

fn model(draft: &mut Draft) {
    draft.event.action.kind = ActionKind::Model;
    let model = draft.fields.text("model").or_else(|| draft.fields.text("gen_ai.request.model"));
    draft.event.action.name = model.clone().unwrap_or_default();
    draft.event.action.call_id = draft.fields.first_text(&["request_id", "gen_ai.response.id"]);
    let micros = draft.fields.count("cost_usd_micros").and_then(|micros| i64::try_from(micros).ok());
    let cost = match micros.and_then(|micros| micros.checked_mul(1000)) {
        Some(nano) => {
            Some(crate::event::Cost { nano, currency: "USD".to_owned(), basis: "reported".to_owned() })
        }
        None => draft.cost(&["cost_usd"], "USD"),
    };
    let fields = &mut draft.fields;
    let usage = Usage {
        provider: fields.text("gen_ai.system"),
        model,
        input_tokens: fields.count("input_tokens"),
        output_tokens: fields.count("output_tokens"),
        cache_read_tokens: fields.count("cache_read_tokens"),
        cache_write_tokens: fields.count("cache_creation_tokens"),
        cost,
        ..Usage::default()
    };
    draft.usage(usage);
}
