//! Pydantic AI: OpenTelemetry GenAI names and, in older versions, its own beside them.
//!
//! A tool that must be approved raises, which newer versions record on its span; the call that follows the approval
//! has the same call id in another trace.

use super::{Draft, Profile, otel_genai};
use crate::event::{ActionKind, AuthorityKind, Decision, Effect, Outcome, Status, Usage};

pub(super) const PROFILE: Profile = Profile {
    name: "pydantic-ai",
    version: 1,
    applies: |draft| &*draft.scope_name == "pydantic-ai" || draft.fields.has_prefix("pydantic_ai."),
    map,
};

fn map(draft: &mut Draft) {
    if draft.fields.get("gen_ai.agent.name").is_none()
        && let Some(name) = draft.fields.take("agent_name")
    {
        draft.fields.restore("gen_ai.agent.name", name);
    }
    otel_genai::map(draft);
    let fields = &mut draft.fields;
    if draft.event.action.kind == ActionKind::Agent {
        // What an agent span repeats of its model calls has a name of its own since version 5.
        let stated = draft.event.usage.take().unwrap_or_default();
        let usage = Usage {
            input_tokens: stated
                .input_tokens
                .or_else(|| fields.count("gen_ai.aggregated_usage.input_tokens")),
            output_tokens: stated
                .output_tokens
                .or_else(|| fields.count("gen_ai.aggregated_usage.output_tokens")),
            cache_read_tokens: stated.cache_read_tokens.or_else(|| {
                fields.first_count(&[
                    "gen_ai.aggregated_usage.cache_read.input_tokens",
                    "gen_ai.aggregated_usage.details.cache_read_tokens",
                ])
            }),
            model: stated.model.or_else(|| fields.text("model_name")),
            aggregate: true,
            ..stated
        };
        draft.usage(usage);
    }
    if draft.event.action.kind == ActionKind::Tool {
        draft.arguments(&["tool_arguments"]);
        draft.result(&["tool_response"]);
        waits(draft);
    }
}

fn waits(draft: &mut Draft) {
    let asks = draft.span().is_some_and(|span| {
        span.points.iter().any(|point| {
            let class = point.fields.get_text("exception.type").unwrap_or_default();
            point.name == "exception" && class.rsplit('.').next() == Some("ApprovalRequired")
        })
    });
    if asks {
        draft.event.decision = Some(Decision::new(Effect::RequireApproval, AuthorityKind::Unknown));
        draft.event.outcome = Some(Outcome::new(Status::Pending));
    }
}
