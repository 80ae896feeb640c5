//! Strands Agents: OpenTelemetry GenAI names, with the arguments and results of tools in span events.
//!
//! `gen_ai.system` names Strands itself, which is no model provider, and stays in the attributes.

use super::{Draft, Profile, failure, otel_genai};
use crate::event::{ActionKind, Outcome, Status};

const SYSTEM: &str = "strands-agents";

pub(super) const PROFILE: Profile = Profile {
    name: "strands",
    version: 1,
    applies: |draft| {
        draft.scope_name.starts_with("strands")
            || ["gen_ai.system", "gen_ai.provider.name"]
                .iter()
                .any(|name| draft.fields.get_text(name) == Some(SYSTEM))
    },
    map,
};

fn map(draft: &mut Draft) {
    let mut system = Vec::new();
    for name in ["gen_ai.system", "gen_ai.provider.name"] {
        if draft.fields.get_text(name) == Some(SYSTEM) {
            system.extend(draft.fields.take(name).map(|held| (name, held)));
        }
    }
    otel_genai::map(draft);
    for (name, held) in system {
        draft.fields.restore(name, held);
    }
    if let Some(usage) = &mut draft.event.usage {
        let fields = &mut draft.fields;
        usage.cache_read_tokens =
            usage.cache_read_tokens.or_else(|| fields.count("gen_ai.usage.cache_read_input_tokens"));
        usage.cache_write_tokens =
            usage.cache_write_tokens.or_else(|| fields.count("gen_ai.usage.cache_write_input_tokens"));
        // The span of a cycle repeats the model call inside it.
        usage.aggregate |= draft.event.action.kind != ActionKind::Model;
    }
    if draft.event.action.kind == ActionKind::Tool {
        match draft.fields.get_text("tool.status").or_else(|| draft.fields.get_text("gen_ai.tool.status")) {
            Some("error") => {
                let error = draft.event.outcome.take().and_then(|outcome| outcome.error);
                draft.event.outcome = Some(Outcome { error, ..failure(None, None) });
            }
            Some("success") => draft.event.outcome = Some(Outcome::new(Status::Ok)),
            _ => {}
        }
        if draft.event.action.arguments.is_none()
            && let Some(held) = draft.point_json("gen_ai.tool.message", "content")
        {
            draft.event.action.arguments =
                Some(held.unpack("/action/arguments", &mut draft.event.source.restated));
        }
        if draft.event.outcome.as_ref().is_some_and(|outcome| outcome.result.is_none())
            && let Some(held) = draft.point_json("gen_ai.choice", "message")
        {
            let value = held.unpack("/outcome/result", &mut draft.event.source.restated);
            if let Some(outcome) = &mut draft.event.outcome {
                outcome.result = Some(value);
            }
        }
    }
}
