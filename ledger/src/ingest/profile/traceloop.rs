//! OpenLLMetry (Traceloop).
//!
//! It writes OpenTelemetry GenAI names beside its own, with its own meaning in places: `gen_ai.agent.id` is the id
//! of one run and no identity, and stays in the attributes.

use serde_json::Value;

use super::{Draft, Profile, Unset, otel_genai};
use crate::event::ActionKind;
use crate::ingest::fields::TEXT_BYTES_MAX;

pub(super) const PROFILE: Profile =
    Profile { name: "traceloop", version: 1, applies: |draft| draft.fields.has_prefix("traceloop."), map };

fn map(draft: &mut Draft) {
    let operation = draft.fields.get_text("gen_ai.operation.name").unwrap_or_default();
    let kind =
        otel_genai::kind(operation).unwrap_or_else(|| match draft.fields.get_text("traceloop.span.kind") {
            Some("tool") => ActionKind::Tool,
            Some("agent" | "workflow") => ActionKind::Agent,
            _ if draft.fields.get("gen_ai.request.model").is_some()
                && draft.fields.get("traceloop.span.kind").is_none() =>
            {
                ActionKind::Model
            }
            _ => ActionKind::Other,
        });
    draft.event.action.kind = kind;
    draft.session_from(&[
        "traceloop.association.properties.session_id",
        "gen_ai.conversation.id",
        "traceloop.association.properties.thread_id",
    ]);
    draft.user_from(&["traceloop.association.properties.user_id"]);
    if draft.event.tenant.is_none() {
        draft.event.tenant = draft.stated(&[
            "traceloop.association.properties.tenant_id",
            "traceloop.association.properties.tenant",
        ]);
    }
    let agent = draft.stated(&["gen_ai.agent.name", "traceloop.association.properties.lc_agent_name"]);
    draft.event.action.name = match kind {
        ActionKind::Tool => draft.fields.first_text(&["gen_ai.tool.name", "traceloop.entity.name"]),
        ActionKind::Agent => agent.clone().or_else(|| draft.fields.text("traceloop.entity.name")),
        ActionKind::Model => draft.fields.get_text("gen_ai.request.model").map(str::to_owned),
        _ => draft.fields.text("traceloop.entity.name"),
    }
    .unwrap_or_default();
    draft.agent(None, agent, None);
    otel_genai::usage(draft);
    draft.outcome_from_status(Unset::MeansOk);
    draft.interrupt();
    if kind == ActionKind::Tool {
        let call = draft.fields.text("gen_ai.tool.call.id").or_else(|| call_id(draft));
        draft.event.action.call_id = call;
        draft.arguments(&["gen_ai.tool.call.arguments", "traceloop.entity.input"]);
        inner_arguments(draft);
        draft.result(&["gen_ai.tool.call.result", "traceloop.entity.output"]);
    }
}

/// The instrumentation of LangChain wraps the arguments into what its callback got; the tool's own are inside
/// `inputs`. The wrapper stays in the attributes where it came from.
fn inner_arguments(draft: &mut Draft) {
    let Some(Value::Object(wrapper)) = draft.event.action.arguments.take() else { return };
    let is_callback =
        wrapper.contains_key("input_str") && wrapper.get("inputs").is_some_and(Value::is_object);
    if !is_callback {
        draft.event.action.arguments = Some(Value::Object(wrapper));
        return;
    }
    draft.event.action.arguments = wrapper.get("inputs").cloned();
    if draft.fields.get("traceloop.entity.input").is_none() {
        draft.fields.restore("gen_ai.tool.call.arguments", Value::Object(wrapper).into());
    }
}

fn call_id(draft: &Draft) -> Option<String> {
    let find = |name: &str, pointers: &[&str]| {
        let value = draft.fields.peek_json(name)?;
        pointers
            .iter()
            .find_map(|pointer| value.pointer(pointer)?.as_str().map(str::to_owned))
            .filter(|text| !text.is_empty() && text.len() <= TEXT_BYTES_MAX)
    };
    find("gen_ai.tool.call.arguments", &["/kwargs/tool_call_id"])
        .or_else(|| find("traceloop.entity.output", &["/output/kwargs/tool_call_id"]))
}
