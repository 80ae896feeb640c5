//! OpenInference.
//!
//! Instrumentations put what they know of the framework into `metadata` and the tool call id into the output; both
//! are read there and stay there. A GUARDRAIL span carries no verdict, so that it becomes no decision.

use serde_json::Value;

use super::{Draft, Profile, Unset};
use crate::event::{ActionKind, Usage};
use crate::ingest::fields::TEXT_BYTES_MAX;

pub(super) const PROFILE: Profile = Profile {
    name: "openinference",
    version: 1,
    applies: |draft| draft.fields.get_text("openinference.span.kind").is_some(),
    map,
};

fn map(draft: &mut Draft) {
    let kind = match draft.fields.get_text("openinference.span.kind").unwrap_or_default() {
        "LLM" | "EMBEDDING" => ActionKind::Model,
        "TOOL" => ActionKind::Tool,
        "AGENT" => ActionKind::Agent,
        "RETRIEVER" | "RERANKER" => ActionKind::Data,
        "GUARDRAIL" | "EVALUATOR" => ActionKind::Guard,
        _ => ActionKind::Other,
    };
    draft.event.action.kind = kind;
    let metadata = draft.fields.peek_json("metadata").unwrap_or_default();
    if draft.event.session.is_none() {
        draft.event.session = short(metadata.get("thread_id"));
    }
    if draft.event.user.is_none() {
        draft.event.user = short(metadata.get("user_id"));
    }
    let agent = draft.stated(&["agent.name"]).or_else(|| short(metadata.get("lc_agent_name")));
    draft.event.action.name = match kind {
        ActionKind::Tool => draft.fields.text("tool.name"),
        ActionKind::Agent => agent.clone(),
        ActionKind::Model => ["llm.request.model_name", "llm.model_name", "embedding.model_name"]
            .iter()
            .find_map(|name| draft.fields.get_text(name))
            .map(str::to_owned),
        _ => None,
    }
    .unwrap_or_default();
    draft.agent(None, agent, None);
    usage(draft, kind);
    draft.outcome_from_status(Unset::MeansOk);
    draft.interrupt();
    if matches!(kind, ActionKind::Tool | ActionKind::Data) {
        draft.event.action.call_id =
            draft.fields.first_text(&["tool_call.id", "tool.id"]).or_else(|| call_id(draft));
        draft.arguments(&["input.value"]);
        draft.result(&["output.value"]);
    }
}

/// Finds the call that a tool message answers, where LangChain writes it.
fn call_id(draft: &Draft) -> Option<String> {
    let output = draft.fields.peek_json("output.value")?;
    ["/tool_call_id", "/data/tool_call_id", "/kwargs/tool_call_id", "/output/kwargs/tool_call_id"]
        .iter()
        .find_map(|pointer| short(output.pointer(pointer)))
}

fn usage(draft: &mut Draft, kind: ActionKind) {
    if kind == ActionKind::Tool || kind == ActionKind::Data {
        return;
    }
    let fields = &mut draft.fields;
    let model = fields.first_text(&["llm.response.model_name", "llm.model_name", "embedding.model_name"]);
    let mut usage = Usage {
        provider: fields.first_text(&["llm.provider", "llm.system"]),
        model,
        input_tokens: fields.count("llm.token_count.prompt"),
        output_tokens: fields.count("llm.token_count.completion"),
        cache_read_tokens: fields.count("llm.token_count.prompt_details.cache_read"),
        cache_write_tokens: fields.count("llm.token_count.prompt_details.cache_write"),
        reasoning_tokens: fields.count("llm.token_count.completion_details.reasoning"),
        ..Usage::default()
    };
    usage.cost = draft.cost(&["llm.cost.total"], "USD");
    usage.aggregate = kind != ActionKind::Model;
    draft.usage(usage);
}

fn short(value: Option<&Value>) -> Option<String> {
    value?.as_str().filter(|text| !text.is_empty() && text.len() <= TEXT_BYTES_MAX).map(str::to_owned)
}
