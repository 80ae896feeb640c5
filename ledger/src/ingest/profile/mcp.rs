//! Model Context Protocol, as OpenTelemetry describes it.
//!
//! Client and server report the same call as two spans. A client's span stays without a status even when the tool
//! failed, so that it states no outcome; the server's does. `jsonrpc.request.id` is unique on one connection only
//! and is no call id: it stays in the attributes.

use super::{Draft, Profile, Unset, otel_genai};
use crate::event::ActionKind;

pub(super) const PROFILE: Profile = Profile {
    name: "mcp",
    version: 1,
    applies: |draft| draft.fields.get_text("mcp.method.name").is_some(),
    map,
};

/// Span kind of OTLP.
const SERVER: i32 = 2;

fn map(draft: &mut Draft) {
    let method = draft.fields.get_text("mcp.method.name").unwrap_or_default().to_owned();
    draft.event.action.kind = match method.as_str() {
        "tools/call" => ActionKind::Tool,
        "resources/read" => ActionKind::Data,
        _ => ActionKind::Other,
    };
    draft.session_from(&["gen_ai.conversation.id", "mcp.session.id"]);
    otel_genai::agent(draft);
    let named = match method.as_str() {
        "tools/call" => draft.fields.text("gen_ai.tool.name"),
        "prompts/get" => draft.fields.text("gen_ai.prompt.name"),
        _ => None,
    };
    draft.event.action.name = named.or_else(|| target(draft, &method)).unwrap_or_else(|| method.clone());
    draft.event.action.resource = draft.fields.text("mcp.resource.uri");
    let is_server = draft.span().is_some_and(|span| span.kind == SERVER);
    draft.outcome_from_status(if is_server { Unset::MeansOk } else { Unset::SaysNothing });
    if draft.event.action.kind == ActionKind::Tool {
        draft.event.action.call_id = draft.fields.text("gen_ai.tool.call.id");
        draft.arguments(&["gen_ai.tool.call.arguments"]);
        draft.result(&["gen_ai.tool.call.result"]);
    }
}

/// The convention names spans `{method} {target}`; some clients write a prefix before it.
fn target(draft: &Draft, method: &str) -> Option<String> {
    let (_, rest) = draft.span()?.name.split_once(method)?;
    let target = rest.strip_prefix(' ')?.trim();
    (!target.is_empty()).then(|| target.to_owned())
}
