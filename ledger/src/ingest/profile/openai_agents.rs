//! OpenAI Agents SDK through its OpenTelemetry instrumentations: GenAI names, guardrails that say whether they tripped,
//! and handoffs.
//!
//! Its OpenInference instrumentation states no verdict and is read by that profile.

use super::{Draft, Profile, otel_genai};
use crate::event::{ActionKind, AuthorityKind, Decision, Effect, PolicyRef};

pub(super) const PROFILE: Profile = Profile {
    name: "openai-agents",
    version: 1,
    applies: |draft| {
        let scope = draft.scope_name.replace('-', "_");
        (scope.contains("openai_agents") || scope == "openai.agents")
            && (draft.fields.has_prefix("gen_ai.") || draft.fields.has_prefix("openai.agents."))
    },
    map,
};

fn map(draft: &mut Draft) {
    let operation = draft.fields.get_text("gen_ai.operation.name").unwrap_or_default().to_owned();
    otel_genai::map(draft);
    let is_guard =
        operation.contains("guardrail") || draft.fields.get("gen_ai.guardrail.triggered").is_some();
    if is_guard {
        draft.event.action.kind = ActionKind::Guard;
        let name = draft.fields.first_text(&["gen_ai.guardrail.name", "openai.agents.guardrail.name"]);
        if let Some(name) = &name {
            draft.event.action.name.clone_from(name);
        }
        let tripped = ["gen_ai.guardrail.triggered", "openai.agents.guardrail.triggered"]
            .iter()
            .find_map(|name| draft.fields.flag(name));
        if let Some(tripped) = tripped {
            // A tripwire raises: what it says is done.
            let effect = if tripped { Effect::Block } else { Effect::Allow };
            let mut decision = Decision::new(effect, AuthorityKind::Policy);
            decision.policy = name.map(|name| PolicyRef { rules: vec![name], ..PolicyRef::default() });
            draft.event.decision = Some(decision);
        }
    }
    if operation.contains("handoff") {
        draft.event.action.kind = ActionKind::Message;
        draft.event.action.name = "handoff".to_owned();
        draft.event.action.resource = draft.fields.first_text(&[
            "gen_ai.handoff.to_agent",
            "openai.agents.handoff.to",
            "gen_ai.handoff.target",
        ]);
    }
}
