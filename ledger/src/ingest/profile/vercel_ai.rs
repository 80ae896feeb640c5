//! Vercel AI SDK: spans `ai.generateText`, `ai.generateText.doGenerate`, `ai.toolCall` and their like.
//!
//! The outer span of a call repeats the tokens of its steps and is the agent; a `do…` span is one model call. Newer
//! versions write the OpenTelemetry names beside their own, with the same values.

use serde_json::Value;

use super::{Draft, Profile, Unset, otel_genai};
use crate::event::ActionKind;
use crate::ingest::fields::Held;

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

/// The OpenTelemetry names win, its own fill what they leave out: a name that is not needed stays in the attributes.
fn usage(draft: &mut Draft, kind: ActionKind) {
    let answered = draft.fields.get("gen_ai.response.model").is_some();
    otel_genai::usage(draft);
    let mut usage = draft.event.usage.take().unwrap_or_default();
    let fields = &mut draft.fields;
    if !answered && let Some(model) = fields.text("ai.response.model") {
        // What was asked for is the name of the action, or goes back to where it was.
        if let Some(asked) = usage.model.replace(model).filter(|asked| *asked != draft.event.action.name) {
            fields.restore("gen_ai.request.model", Held::from(Value::from(asked)));
        }
    }
    let mut count = |known: &mut Option<u64>, names: &[&str]| {
        *known = known.or_else(|| fields.first_count(names));
    };
    count(&mut usage.input_tokens, &["ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"]);
    count(&mut usage.output_tokens, &["ai.usage.outputTokens", "ai.usage.completionTokens"]);
    count(
        &mut usage.cache_read_tokens,
        &["ai.usage.cachedInputTokens", "ai.usage.inputTokenDetails.cacheReadTokens"],
    );
    count(&mut usage.cache_write_tokens, &["ai.usage.inputTokenDetails.cacheWriteTokens"]);
    count(
        &mut usage.reasoning_tokens,
        &["ai.usage.reasoningTokens", "ai.usage.outputTokenDetails.reasoningTokens"],
    );
    // Its own (`openai.chat`) names the interface of the provider.
    usage.provider = usage.provider.or_else(|| fields.text("ai.model.provider"));
    usage.model = usage.model.or_else(|| fields.text("ai.model.id"));
    usage.aggregate = kind != ActionKind::Model;
    draft.usage(usage);
}
