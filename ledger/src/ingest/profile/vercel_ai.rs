//! Vercel AI SDK: spans `ai.generateText`, `ai.generateText.doGenerate`, `ai.toolCall` and their like.
//!
//! The outer span of a call repeats the tokens of its steps and is the agent; a `do…` span is one model call. Newer
//! versions write the OpenTelemetry names beside their own, with the same values.

use super::{Draft, Profile, Unset, otel_genai};
use crate::event::{ActionKind, Usage};

pub(super) const PROFILE: Profile =
    Profile { name: "vercel-ai", version: 1, applies: |draft| operation(draft).is_some(), map };

fn operation(draft: &Draft) -> Option<&str> {
    draft
        .fields
        .get_text("ai.operationId")
        .or_else(|| draft.span().map(|span| span.name.as_str()).filter(|_| draft.fields.has_prefix("ai.")))
        .filter(|operation| operation.starts_with("ai."))
}

fn map(draft: &mut Draft) {
    let operation = operation(draft).unwrap_or_default().to_owned();
    let is_step = operation.rsplit('.').next().is_some_and(|last| last.starts_with("do"));
    let kind = match operation.as_str() {
        "ai.toolCall" => ActionKind::Tool,
        _ if is_step => ActionKind::Model,
        _ => ActionKind::Agent,
    };
    draft.event.action.kind = kind;
    draft.session_from(&[
        "langfuse.session.id",
        "gen_ai.conversation.id",
        "ai.telemetry.metadata.sessionId",
        "ai.telemetry.metadata.session_id",
        "ai.telemetry.metadata.threadId",
        "ai.telemetry.metadata.chatId",
    ]);
    draft.user_from(&["ai.telemetry.metadata.userId", "ai.telemetry.metadata.user_id"]);
    if draft.event.tenant.is_none() {
        draft.event.tenant = draft.stated(&["ai.telemetry.metadata.tenantId"]);
    }
    let function = draft.fields.text("ai.telemetry.functionId");
    let agent =
        draft.stated(&["gen_ai.agent.name", "ai.telemetry.metadata.agentName"]).or_else(|| function.clone());
    draft.event.action.name = match kind {
        ActionKind::Tool => draft.fields.first_text(&["ai.toolCall.name", "gen_ai.tool.name"]),
        ActionKind::Model => ["ai.model.id", "gen_ai.request.model"]
            .iter()
            .find_map(|name| draft.fields.get_text(name))
            .map(str::to_owned),
        _ => agent.clone(),
    }
    .unwrap_or(operation);
    draft.agent(None, agent, None);
    draft.outcome_from_status(Unset::MeansOk);
    if kind == ActionKind::Tool {
        draft.event.action.call_id = draft.fields.first_text(&["ai.toolCall.id", "gen_ai.tool.call.id"]);
        draft.arguments(&["ai.toolCall.args", "ai.toolCall.input", "gen_ai.tool.call.arguments"]);
        draft.result(&["ai.toolCall.result", "ai.toolCall.output", "gen_ai.tool.call.result"]);
    } else {
        usage(draft, kind);
    }
}

fn usage(draft: &mut Draft, kind: ActionKind) {
    let fields = &mut draft.fields;
    let own = Usage {
        provider: fields.text("ai.model.provider"),
        model: fields.first_text(&["ai.response.model", "ai.model.id"]),
        input_tokens: fields.first_count(&[
            "ai.usage.inputTokens",
            "ai.usage.promptTokens",
            "ai.usage.tokens",
        ]),
        output_tokens: fields.first_count(&["ai.usage.outputTokens", "ai.usage.completionTokens"]),
        cache_read_tokens: fields
            .first_count(&["ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"]),
        cache_write_tokens: fields.count("ai.usage.inputTokenDetails.cacheWriteTokens"),
        reasoning_tokens: fields
            .first_count(&["ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"]),
        ..Usage::default()
    };
    otel_genai::usage(draft);
    let other = draft.event.usage.take().unwrap_or_default();
    draft.usage(Usage {
        // The OpenTelemetry name is the provider, its own (`openai.chat`) the provider's interface.
        provider: other.provider.or(own.provider),
        model: own.model.or(other.model),
        input_tokens: own.input_tokens.or(other.input_tokens),
        output_tokens: own.output_tokens.or(other.output_tokens),
        cache_read_tokens: own.cache_read_tokens.or(other.cache_read_tokens),
        cache_write_tokens: own.cache_write_tokens.or(other.cache_write_tokens),
        reasoning_tokens: own.reasoning_tokens.or(other.reasoning_tokens),
        context_window: None,
        cost: other.cost,
        aggregate: kind != ActionKind::Model,
    });
}
