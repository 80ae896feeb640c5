//! OPA decision logs, as OPA posts them (`POST /logs`, a gzip array) and as people keep them (one a line).
//!
//! One entry is one ruling. What was asked (`input`) and what was answered (`result`) have no agreed shape: the names
//! of `shape` are read, an answer that says nothing readable is no ruling, and a missing answer is OPA's undefined:
//! evaluated, and no rule applied.

use serde_json::Value;

use super::fields::Fields;
use super::time::nanoseconds;
use super::{IngestError, Reason, Sink, records, shape};
use crate::event::{Action, ActionKind, AuthorityKind, Decision, Effect, Event, PolicyRef};

pub(super) const FORMAT: &str = "opa";
/// Raised when the same entry would map to another event.
const MAPPER: u32 = 1;
const BUNDLES_MAX: usize = 64;

pub(super) fn map(body: &[u8], sink: &mut Sink<'_>) -> Result<(), IngestError> {
    records::each(body, sink, |piece, sink| {
        let (mut event, notes) = event(records::foreign(piece, sink)?, piece.bytes, sink)?;
        event.source.path = Some(piece.path.clone());
        for note in notes {
            sink.warn(&piece.place(), note);
        }
        sink.take(event)
    })
}

/// Reads one entry. `bytes` are what its id is made from where it has none.
pub(super) fn event(
    mut fields: Fields,
    bytes: &[u8],
    sink: &mut Sink<'_>,
) -> Result<(Event, Vec<String>), Reason> {
    let is_entry = ["decision_id", "path", "query", "result", "input", "labels"]
        .iter()
        .filter(|name| fields.get(name).is_some())
        .count()
        >= 2;
    if !is_entry {
        return Err(Reason::Shape {
            message: "not an OPA decision log entry: `decision_id` with `path`, `query`, `input` or `result` is required".to_owned(),
        });
    }
    let mut notes = Vec::new();
    let mut event = Event::new(id(&mut fields, bytes, sink), Action::new(ActionKind::Guard, ""));
    FORMAT.clone_into(&mut event.source.format);
    event.source.profile = Some(FORMAT.to_owned());
    event.source.mapper = MAPPER;
    if let Some(ns) = fields.get_text("timestamp").and_then(nanoseconds) {
        event.start_ns = Some(ns);
        fields.take("timestamp");
    } else if fields.get("timestamp").is_some() {
        notes.push("`timestamp` is not an RFC 3339 time; it stays in the attributes".to_owned());
    }
    event.trace_id = fields.get_text("trace_id").and_then(|text| text.parse().ok());
    event.span_id = fields.get_text("span_id").and_then(|text| text.parse().ok());
    for (name, is_read) in [("trace_id", event.trace_id.is_some()), ("span_id", event.span_id.is_some())] {
        if is_read {
            fields.take(name);
        } else if fields.get_text(name).is_some_and(|text| !text.is_empty()) {
            notes.push(format!("`{name}` is not one of OpenTelemetry; it stays in the attributes"));
        }
    }
    // Paths to what was removed or replaced before the log was written.
    for name in ["erased", "masked"] {
        let count = fields.get(name).and_then(Value::as_array).map_or(0, Vec::len);
        event.source.lost = event.source.lost.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }
    let path = fields.get_text("path").or_else(|| fields.get_text("query")).unwrap_or_default();
    let path = path.trim_matches('/').to_owned();
    asked(&mut event, &mut fields, &path);
    event.decision = decision(&mut fields, &path, &mut notes);
    event.attributes = fields.into_map("/attributes", &[], &mut event.source.restated);
    Ok((event, notes))
}

fn id(fields: &mut Fields, bytes: &[u8], sink: &mut Sink<'_>) -> String {
    let instance = fields.get("labels").and_then(|labels| labels.get("id")).and_then(Value::as_str);
    let decision = fields.get_text("decision_id").filter(|id| !id.is_empty() && id.len() <= 128);
    match (instance.filter(|id| id.len() <= 100), decision) {
        (Some(instance), Some(decision)) => format!("opa:{instance}:{decision}"),
        (None, Some(decision)) => format!("opa::{decision}"),
        _ => sink.ids.id("opa:", bytes),
    }
}

/// Reads what the policy was asked about.
fn asked(event: &mut Event, fields: &mut Fields, path: &str) {
    let named = fields
        .within("input", |input| {
            shape::who(event, input);
            let named = shape::action(event, input) || request(event, input);
            if !named && let Some(action) = input.first_text(&["action", "operation"]) {
                event.action.kind = ActionKind::Other;
                event.action.name = action;
                event.action.resource = input.text("resource");
                return true;
            }
            named
        })
        .unwrap_or(false);
    if !named {
        // The policy itself is all that is known of what was asked.
        event.action.kind = ActionKind::Guard;
        path.clone_into(&mut event.action.name);
    }
    if event.action.name.is_empty() {
        "unnamed".clone_into(&mut event.action.name);
    }
}

/// Reads an HTTP request as Envoy and Kubernetes-style callers ask about it.
fn request(event: &mut Event, input: &Fields) -> bool {
    let http = input.get("attributes").and_then(|value| value.pointer("/request/http"));
    let of = |name: &str| http.and_then(|http| http.get(name)).and_then(Value::as_str);
    let (Some(method), Some(path)) = (of("method"), of("path")) else { return false };
    if method.len() + path.len() > 512 {
        return false;
    }
    event.action.kind = ActionKind::Other;
    event.action.name = format!("{method} {path}");
    event.action.resource = of("host").filter(|host| host.len() <= 256).map(str::to_owned);
    true
}

fn decision(fields: &mut Fields, path: &str, notes: &mut Vec<String>) -> Option<Decision> {
    let by = AuthorityKind::Policy;
    let mut decision = if fields.get("error").is_some_and(|error| !error.is_null()) {
        // The evaluation failed. What the caller did then is not in the log.
        notes.push("the evaluation failed (`error`): no ruling is made of it".to_owned());
        return None;
    } else if fields.get("result").is_none() {
        Decision::new(Effect::NoOp, by)
    } else {
        let last = path.rsplit(['/', '.']).next().unwrap_or_default().to_owned();
        let found = match fields.get("result") {
            Some(Value::Object(_)) => fields
                .within("result", |result| shape::decision(result, by).or_else(|| listed(result)))
                .flatten(),
            _ => plain(fields, &last),
        };
        let Some(decision) = found else {
            notes.push(format!(
                "the result of `{path}` does not say what was ruled in a way that is known; it stays in the attributes"
            ));
            return None;
        };
        decision
    };
    let mut policy = decision.policy.take().unwrap_or_default();
    bundle(fields, &mut policy);
    if policy.rules.is_empty() && !path.is_empty() && path.len() <= 512 {
        policy.rules.push(path.to_owned());
    }
    decision.policy = (policy != PolicyRef::default()).then_some(policy);
    Some(decision)
}

/// Reads an answer that is a word, a truth value or a set of messages; the name of the rule says what true means.
fn plain(fields: &mut Fields, rule: &str) -> Option<Decision> {
    let denies = ["deny", "denied", "violation", "violations", "block", "reject"].contains(&rule);
    let asks = ["require_approval", "requires_approval", "needs_approval"].contains(&rule);
    let warns = rule == "warn";
    let when = |holds: bool| match (holds, denies, asks, warns) {
        (true, true, ..) => Decision::new(Effect::Block, AuthorityKind::Policy),
        (true, _, true, _) => Decision::new(Effect::RequireApproval, AuthorityKind::Policy),
        (true, _, _, true) => {
            let mut decision = Decision::new(Effect::Allow, AuthorityKind::Policy);
            decision.flags.push("warn".to_owned());
            decision
        }
        // Nothing objects: no rule of this set applied, and whether another allows is not said here.
        (false, true, ..) | (false, _, true, _) | (false, _, _, true) => {
            Decision::new(Effect::NoOp, AuthorityKind::Policy)
        }
        (true, ..) => Decision::new(Effect::Allow, AuthorityKind::Policy),
        (false, ..) => Decision::new(Effect::Block, AuthorityKind::Policy),
    };
    let decision = match fields.get("result")? {
        Value::Bool(holds) => when(*holds),
        Value::String(word) => {
            let (effect, flag, enforced) = shape::effect(word)?;
            let mut decision = Decision::new(effect, AuthorityKind::Policy);
            decision.enforced = enforced;
            decision.flags.extend(flag.map(str::to_owned));
            decision
        }
        Value::Array(items) if denies || asks || warns => {
            let mut decision = when(!items.is_empty());
            decision.reason = fields.get("result").and_then(shape::join_texts);
            if !items.is_empty() && decision.reason.is_none() {
                // Objects or too much text: they stay where they are.
                return Some(decision);
            }
            decision
        }
        _ => return None,
    };
    fields.take("result");
    Some(decision)
}

/// Reads `{deny: [..], violations: [..]}`: messages object, and no messages say nothing.
fn listed(result: &mut Fields) -> Option<Decision> {
    let count = |name: &str| match result.get(name) {
        Some(Value::Array(items)) => Some(items.len()),
        Some(Value::Object(members)) => Some(members.len()),
        _ => None,
    };
    let denied: Vec<Option<usize>> =
        ["deny", "violation", "violations"].iter().map(|name| count(name)).collect();
    let stated = denied.iter().flatten().count() > 0;
    if !stated {
        return None;
    }
    if denied.into_iter().flatten().all(|count| count == 0) {
        return Some(Decision::new(Effect::NoOp, AuthorityKind::Policy));
    }
    let mut decision = Decision::new(Effect::Block, AuthorityKind::Policy);
    for name in ["deny", "violation", "violations"] {
        if let Some(text) = result.get(name).and_then(shape::join_texts) {
            result.take(name);
            decision.reason = Some(text);
            break;
        }
    }
    Some(decision)
}

/// Names the bundle and its revision. Of several bundles the one whose name starts the path ruled; if none does, the
/// revision is one of several and none is named.
fn bundle(fields: &mut Fields, policy: &mut PolicyRef) {
    let path = fields.get_text("path").unwrap_or_default().trim_matches('/').to_owned();
    let Some(Value::Object(bundles)) = fields.get("bundles") else {
        if policy.version.is_none() {
            policy.version = fields.text("revision");
        }
        return;
    };
    if bundles.is_empty() || bundles.len() > BUNDLES_MAX {
        return;
    }
    let only = bundles.keys().next().filter(|_| bundles.len() == 1).cloned();
    let chosen = only.or_else(|| {
        let mut starts = bundles.keys().filter(|name| {
            path.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        starts.next().cloned().filter(|_| starts.next().is_none())
    });
    let Some(name) = chosen.filter(|name| name.len() <= 512) else { return };
    if policy.name.is_none() {
        policy.name = Some(name.clone());
    }
    if policy.version.is_none() {
        policy.version = fields
            .within("bundles", |bundles| bundles.within(&name, |bundle| bundle.text("revision")).flatten())
            .flatten();
    }
}

#[cfg(test)]
mod tests {
    use crate::event::{ActionKind, Effect};
    use crate::ingest::{Format, Limits, Mapped, map};
    use serde_json::{Value, json};

    fn mapped(entry: &Value) -> Mapped {
        map(Format::OpaDecisions, entry.to_string().as_bytes(), &Limits::default()).unwrap()
    }

    fn entry(path: &str, result: Option<Value>) -> Value {
        let mut entry = json!({
            "decision_id": "d-1", "labels": {"id": "opa-1"}, "path": path, "input": {"tool": "t", "args": {"a": 1}},
            "bundles": {"agents": {"revision": "v7"}}, "timestamp": "2026-11-20T18:06:01.198Z",
        });
        if let Some(result) = result {
            entry["result"] = result;
        }
        entry
    }

    #[test]
    fn an_answer_is_what_its_shape_and_its_rule_say() {
        for (path, result, expected) in [
            ("agents/allow", Some(json!(true)), Some(Effect::Allow)),
            ("/agents/allow", Some(json!(false)), Some(Effect::Block)),
            ("agents/allow", None, Some(Effect::NoOp)),
            ("agents/deny", Some(json!(["no"])), Some(Effect::Block)),
            ("agents/deny", Some(json!([])), Some(Effect::NoOp)),
            ("agents/deny", Some(json!(true)), Some(Effect::Block)),
            ("agents/decision", Some(json!("require_approval")), Some(Effect::RequireApproval)),
            ("agents/main", Some(json!({"allow": false, "reason": "no"})), Some(Effect::Block)),
            ("agents/main", Some(json!({"deny": [], "warn": []})), Some(Effect::NoOp)),
            ("agents/main", Some(json!({"deny": [{"msg": "no"}]})), Some(Effect::Block)),
            ("agents/main", Some(json!({"action": "allow", "rule": "r"})), Some(Effect::Allow)),
            ("agents/main", Some(json!({"score": 3})), None),
            ("agents/main", Some(json!(7)), None),
        ] {
            let mapped = mapped(&entry(path, result.clone()));
            let event = mapped.events.first().unwrap();
            let effect = event.decision.as_ref().map(|decision| decision.effect);
            assert_eq!(effect, expected, "{path} {result:?}");
            assert_eq!(mapped.warnings.is_empty(), expected.is_some());
            assert_eq!(event.id, "opa:opa-1:d-1");
            assert_eq!((event.action.kind, event.action.name.as_str()), (ActionKind::Tool, "t"));
            if let Some(decision) = &event.decision {
                let policy = decision.policy.as_ref().unwrap();
                assert_eq!((policy.name.as_deref(), policy.version.as_deref()), (Some("agents"), Some("v7")));
            }
        }
    }

    #[test]
    fn what_was_erased_is_lost_and_never_a_user() {
        let mut entry = entry("agents/allow", Some(json!(true)));
        entry["erased"] = json!(["/input/user"]);
        entry["nd_builtin_cache"] = json!({"http.send": {"[]": {}}});
        let mapped = mapped(&entry);
        let event = mapped.events.first().unwrap();
        assert_eq!((event.source.lost, event.user.as_deref()), (1, None));
        assert_eq!(event.attributes["erased"], json!(["/input/user"]));
        assert!(event.attributes.contains_key("nd_builtin_cache"));
    }
}
