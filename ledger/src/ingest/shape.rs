//! Objects without an agreed shape: what a policy is asked, what it answers, and what people put into CloudEvents.
//!
//! OPA leaves `input` and `result` to its users and CloudEvents leaves `data` to them, and their names for the same
//! things are much alike. Read are names that mean one thing wherever they stand; everything else stays where it is,
//! and a word that is not known is no ruling.

use serde_json::Value;

use super::fields::{Fields, TEXT_BYTES_MAX};
use crate::event::{
    ActionKind, Agent, AuthorityKind, Decision, Effect, ErrorInfo, Event, Outcome, PolicyRef, Status,
};

const LIST_MAX: usize = 256;

/// What a word says of a ruling: the effect, a mark for what the effect does not say, whether it is acted on.
type Word = (Effect, Option<&'static str>, bool);

/// Reads a word for a ruling: the effect, a mark for what the effect does not say, and whether it is acted on.
pub(super) fn effect(word: &str) -> Option<Word> {
    let word: String = word
        .trim()
        .chars()
        .map(|c| if matches!(c, '-' | ' ') { '_' } else { c.to_ascii_lowercase() })
        .take(40)
        .collect();
    let would = word.strip_prefix("would_");
    let (effect, flag) = match would.unwrap_or(&word) {
        "allow" | "allowed" | "permit" | "permitted" | "approve" | "approved" | "accept" | "accepted"
        | "grant" | "granted" | "pass" | "passed" => (Effect::Allow, None),
        "warn" | "warning" | "allow_with_warning" => (Effect::Allow, Some("warn")),
        "modify" | "modified" | "redact" | "redacted" | "sanitize" | "sanitized" | "edit" | "edited"
        | "transform" => (Effect::Allow, Some("modified")),
        "deny" | "denied" | "block" | "blocked" | "reject" | "rejected" | "refuse" | "refused" | "forbid"
        | "forbidden" => (Effect::Block, None),
        "require_approval" | "requires_approval" | "approval_required" | "needs_approval" | "ask"
        | "escalate" | "escalated" | "pending_approval" | "require_review" | "human_review" => {
            (Effect::RequireApproval, None)
        }
        "cooldown" | "rate_limit" | "rate_limited" | "throttle" | "throttled" => (Effect::Cooldown, None),
        "dry_run" | "simulate" | "simulated" => (Effect::DryRun, None),
        "no_op" | "noop" | "not_applicable" | "abstain" => (Effect::NoOp, None),
        _ => return None,
    };
    Some((effect, flag, would.is_none()))
}

/// Reads a word for how something ended.
pub(super) fn status(word: &str) -> Option<Status> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "ok" | "success" | "succeeded" | "successful" | "completed" | "complete" | "done" | "executed"
        | "finished" => Status::Ok,
        "error" | "errored" | "failed" | "failure" | "timeout" | "timed_out" => Status::Error,
        "cancelled" | "canceled" | "aborted" => Status::Cancelled,
        "pending" | "running" | "in_progress" | "waiting" => Status::Pending,
        "compensated" | "rolled_back" | "undone" => Status::Compensated,
        _ => return None,
    })
}

/// Takes a ruling out of an object: the effect and everything that goes with it.
pub(super) fn decision(fields: &mut Fields, by: AuthorityKind) -> Option<Decision> {
    let (name, (effect, flag, mut enforced)) =
        ["decision", "effect", "verdict", "policy_decision", "action", "outcome", "result"]
            .iter()
            .find_map(|name| Some((*name, effect(fields.get_text(name)?)?)))
            .or_else(|| yes_or_no(fields))?;
    fields.take(name);
    if let Some(stated) = fields.flag("enforced") {
        enforced = stated;
    } else if fields.get("dry_run").or_else(|| fields.get("dryRun")) == Some(&Value::Bool(true)) {
        enforced = false;
    }
    let mut decision = Decision::new(effect, by);
    decision.enforced = enforced;
    decision.flags.extend(flag.map(str::to_owned));
    decision.flags.extend(fields.texts("flags", LIST_MAX).unwrap_or_default());
    decision.code = fields.first_text(&["code", "reason_code", "reasonCode"]);
    decision.reason = fields
        .first_text(&["reason", "message", "explanation", "msg"])
        .or_else(|| reasons(fields, &["reasons", "messages", "deny", "violations"]));
    decision.approval_id = fields.first_text(&["approval_id", "approvalId"]);
    decision.until_ns = ["until", "cooldown_until", "retry_at"].iter().find_map(|name| {
        let ns = super::time::any_nanoseconds(fields.get(name)?)?;
        (effect == Effect::Cooldown && fields.take(name).is_some()).then_some(ns)
    });
    decision.policy = policy(fields);
    if let Some(person) =
        fields.first_text(&["approved_by", "approvedBy", "approver", "rejected_by", "decided_by"])
    {
        decision.by.kind = AuthorityKind::Human;
        decision.by.id = Some(person);
    }
    Some(decision)
}

/// Reads a ruling that is said with true and false.
fn yes_or_no(fields: &Fields) -> Option<(&'static str, Word)> {
    let stated = |name: &str| fields.get(name).and_then(Value::as_bool);
    for name in ["allow", "allowed", "is_allowed", "permitted"] {
        if let Some(allowed) = stated(name) {
            let asks =
                ["require_approval", "requires_approval"].iter().any(|name| stated(name) == Some(true));
            let effect = match allowed {
                true if asks => Effect::RequireApproval,
                true => Effect::Allow,
                false if asks => Effect::RequireApproval,
                false => Effect::Block,
            };
            return Some((name, (effect, None, true)));
        }
    }
    for name in ["blocked", "denied"] {
        if stated(name) == Some(true) {
            return Some((name, (Effect::Block, None, true)));
        }
    }
    ["require_approval", "requires_approval"]
        .into_iter()
        .find(|name| stated(name) == Some(true))
        .map(|name| (name, (Effect::RequireApproval, None, true)))
}

/// Joins a list of messages, and takes it if nothing is lost that way.
fn reasons(fields: &mut Fields, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let joined = join_texts(fields.get(name)?)?;
        fields.take(name);
        Some(joined)
    })
}

/// Joins short messages to one text.
pub(super) fn join_texts(value: &Value) -> Option<String> {
    let texts: Option<Vec<&str>> = value.as_array()?.iter().map(Value::as_str).collect();
    let joined = texts?.join("; ");
    (!joined.is_empty() && joined.len() <= TEXT_BYTES_MAX).then_some(joined)
}

fn policy(fields: &mut Fields) -> Option<PolicyRef> {
    let inner = fields.within("policy", |policy| PolicyRef {
        bundle: policy
            .get_text("bundle")
            .and_then(|text| text.parse().ok())
            .inspect(|_| drop(policy.take("bundle"))),
        name: policy.first_text(&["name", "id", "policy_id"]),
        version: policy.first_text(&["version", "revision"]),
        rules: ["rules", "rule", "rule_id", "matched_rule"]
            .iter()
            .find_map(|name| policy.texts(name, LIST_MAX))
            .unwrap_or_default(),
    });
    let mut policy = inner.unwrap_or_default();
    if policy.name.is_none() {
        policy.name = fields.first_text(&["policy", "policy_name", "policy_id", "policyId"]);
    }
    if policy.version.is_none() {
        policy.version = fields.first_text(&["policy_version", "policyVersion"]);
    }
    if policy.rules.is_empty() {
        policy.rules = ["rule", "rules", "rule_id", "ruleId", "matched_rule"]
            .iter()
            .find_map(|name| fields.texts(name, LIST_MAX))
            .unwrap_or_default();
    }
    (policy != PolicyRef::default()).then_some(policy)
}

/// Takes who acted out of an object, as far as the event does not say it yet.
pub(super) fn who(event: &mut Event, fields: &mut Fields) {
    if event.agent.is_none() {
        event.agent = agent(fields);
    }
    let missing = |slot: &Option<String>| slot.is_none();
    if missing(&event.user) {
        event.user = fields.first_text(&["user", "user_id", "userId", "end_user", "enduser"]).or_else(|| {
            fields.within("user", |user| user.first_text(&["id", "name", "email", "sub"])).flatten()
        });
    }
    if missing(&event.session) {
        let names = [
            "session",
            "session_id",
            "sessionId",
            "conversation_id",
            "conversationId",
            "thread_id",
            "threadId",
        ];
        event.session = fields
            .first_text(&names)
            .or_else(|| fields.within("session", |session| session.text("id")).flatten());
    }
    if missing(&event.environment) {
        event.environment = fields.first_text(&["environment", "env", "deployment_environment"]);
    }
    if missing(&event.service) {
        event.service = fields.first_text(&["service_name", "serviceName"]);
    }
    if missing(&event.tenant) {
        event.tenant = fields.first_text(&["tenant", "tenant_id", "tenantId"]);
    }
}

fn agent(fields: &mut Fields) -> Option<Agent> {
    let inner = fields
        .within("agent", |agent| Agent {
            id: agent.first_text(&["id", "agent_id"]),
            name: agent.text("name"),
            version: agent.text("version"),
        })
        .filter(|agent| *agent != Agent::default());
    inner.or_else(|| {
        let agent = Agent {
            id: fields.first_text(&["agent_id", "agentId"]),
            name: fields.first_text(&["agent_name", "agentName", "agent"]),
            version: fields.first_text(&["agent_version", "agentVersion"]),
        };
        (agent != Agent::default()).then_some(agent)
    })
}

/// Takes what was done or asked out of an object. True when it names something.
pub(super) fn action(event: &mut Event, fields: &mut Fields) -> bool {
    let found = ["action", "tool", "tool_call", "toolCall", "function"].iter().any(|name| {
        let is_tool = *name != "action";
        fields.within(name, |inner| named(event, inner, is_tool)).unwrap_or(false)
    });
    // A JSON-RPC call of a tool, which is what a proxy in front of an MCP server asks about.
    let rpc = || fields.get_text("method") == Some("tools/call") && fields.get("params").is_some();
    if !found && rpc() {
        let taken = fields.within("params", |params| named(event, params, true)).unwrap_or(false);
        if taken {
            return true;
        }
    }
    if !found {
        if let Some(tool) = fields.first_text(&["tool", "tool_name", "toolName"]) {
            (event.action.kind, event.action.name) = (ActionKind::Tool, tool);
        } else {
            return false;
        }
    }
    details(event, fields);
    true
}

fn named(event: &mut Event, fields: &mut Fields, is_tool: bool) -> bool {
    let kind = fields.get_text("kind").or_else(|| fields.get_text("type")).and_then(kind);
    let kind = kind.or(is_tool.then_some(ActionKind::Tool));
    let name = fields.get_text("name").or_else(|| fields.get_text("tool"));
    let (Some(kind), Some(_)) = (kind, name) else { return false };
    event.action.kind = kind;
    if fields.get_text("kind") == Some(kind.as_str()) {
        fields.take("kind");
    }
    if let Some(name) = fields.first_text(&["name", "tool"]) {
        event.action.name = name;
    }
    if event.action.call_id.is_none() {
        event.action.call_id = fields.text("id");
    }
    details(event, fields);
    true
}

fn details(event: &mut Event, fields: &mut Fields) {
    let action = &mut event.action;
    if action.call_id.is_none() {
        action.call_id =
            fields.first_text(&["call_id", "callId", "tool_call_id", "toolCallId", "tool_use_id"]);
    }
    if action.resource.is_none() {
        action.resource = fields.first_text(&["resource", "target"]);
    }
    if action.capabilities.is_empty() {
        action.capabilities = fields.texts("capabilities", LIST_MAX).unwrap_or_default();
    }
    if action.arguments.is_none() {
        let names =
            ["arguments", "args", "tool_args", "tool_input", "toolInput", "parameters", "params", "inputs"];
        if let Some(held) = fields.first_json(&names) {
            action.arguments = Some(held.unpack("/action/arguments", &mut event.source.restated));
        }
    }
}

fn kind(word: &str) -> Option<ActionKind> {
    ActionKind::ALL.into_iter().find(|kind| kind.as_str() == word)
}

/// Takes how something ended out of an object.
pub(super) fn outcome(event: &mut Event, fields: &mut Fields) {
    let stated = ["outcome", "status"]
        .iter()
        .find_map(|name| Some((*name, status(fields.get_text(name)?)?)))
        .inspect(|(name, _)| drop(fields.take(name)))
        .map(|(_, status)| status)
        .or_else(|| {
            let success = fields.flag("success")?;
            Some(if success { Status::Ok } else { Status::Error })
        });
    let Some(status) = stated else { return };
    let mut outcome = Outcome::new(status);
    if status == Status::Error {
        let mut error = ErrorInfo {
            kind: fields.first_text(&["error_type", "errorType"]),
            message: fields.first_text(&["error", "error_message", "errorMessage"]),
        };
        let inner = fields.within("error", |inner| ErrorInfo {
            kind: inner.first_text(&["type", "code"]),
            message: inner.text("message"),
        });
        if let Some(inner) = inner {
            error = ErrorInfo { kind: error.kind.or(inner.kind), message: error.message.or(inner.message) };
        }
        outcome.error = (error.kind.is_some() || error.message.is_some()).then_some(error);
    }
    if let Some(held) = fields.first_json(&["result", "output"]) {
        outcome.result = Some(held.unpack("/outcome/result", &mut event.source.restated));
    }
    event.outcome = Some(outcome);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Action;
    use crate::ingest::fields::Held;
    use serde_json::json;

    fn bag(members: &Value) -> Fields {
        let members = members.as_object().unwrap().clone();
        members.into_iter().map(|(name, value)| (name, Held::from(value))).collect()
    }

    #[test]
    fn a_word_that_is_not_known_is_no_ruling() {
        assert_eq!(effect("Would-Block"), Some((Effect::Block, None, false)));
        assert_eq!(effect("REQUIRE APPROVAL"), Some((Effect::RequireApproval, None, true)));
        for word in ["pending", "observed", "", "maybe", "allowlist"] {
            assert_eq!(effect(word), None, "{word}");
        }
        let mut fields = bag(&json!({"decision": "perhaps", "allow": "yes"}));
        assert_eq!(decision(&mut fields, AuthorityKind::Policy), None);
        assert_eq!(fields.get_text("decision"), Some("perhaps"));
    }

    #[test]
    fn what_is_taken_leaves_and_the_rest_stays_in_its_place() {
        let mut fields = bag(&json!({
            "decision": "deny", "policy": {"id": "refunds", "version": "7", "rule": "limit", "owner": "risk"},
            "agent": {"name": "refund_agent"}, "user": "ann", "tool": "issue_refund", "args": {"n": 1},
            "reasons": ["too much", "too late"], "extra": [1],
        }));
        let mut event = Event::new("e", Action::new(ActionKind::Other, ""));
        who(&mut event, &mut fields);
        assert!(action(&mut event, &mut fields));
        let decision = decision(&mut fields, AuthorityKind::Policy).unwrap();
        assert_eq!(
            (decision.effect, decision.reason.as_deref()),
            (Effect::Block, Some("too much; too late"))
        );
        assert_eq!(decision.policy.unwrap().rules, ["limit"]);
        assert_eq!(event.action.arguments, Some(json!({"n": 1})));
        assert_eq!((event.user.as_deref(), event.action.name.as_str()), (Some("ann"), "issue_refund"));
        let left = Value::Object(fields.into_map("", &[], &mut Vec::new()));
        assert_eq!(left, json!({"policy": {"owner": "risk"}, "extra": [1]}));
    }

    #[test]
    fn true_and_false_rule_only_where_their_names_say_what() {
        for (object, expected) in [
            (json!({"allow": true}), Some(Effect::Allow)),
            (json!({"allow": false, "requires_approval": true}), Some(Effect::RequireApproval)),
            (json!({"allowed": false}), Some(Effect::Block)),
            (json!({"blocked": false}), None),
            (json!({"ok": true}), None),
        ] {
            let found = decision(&mut bag(&object), AuthorityKind::Policy).map(|decision| decision.effect);
            assert_eq!(found, expected, "{object}");
        }
    }
}
