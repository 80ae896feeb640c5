//! The input document: what it holds, what it leaves out, and that it conforms to its schema.

use serde_json::{Map, Value, json};
use verdict_ledger::action::{Action, fold};
use verdict_replay::input::{self, JSON_SCHEMA};
use verdict_replay::state::State;

use crate::sample::{records, tool, with};

/// Builds the inputs of all actions, each under the state before it.
pub(crate) fn inputs(events: &[Value]) -> Vec<Value> {
    let mut state = State::default();
    let build = |action: &Action| {
        let input = input::build(action, &state);
        state.fold(action, action.ruling().map(|ruling| ruling.decision.effect));
        conforms(&input);
        input
    };
    fold(&records(events), 0).iter().map(build).collect()
}

/// Checks a document against the parts of JSON Schema that the schema file uses.
pub(crate) fn conforms(input: &Value) {
    let schema: Value = serde_json::from_str(JSON_SCHEMA).unwrap();
    check(&schema, &schema, input, "");
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return check(root, root.pointer(reference.trim_start_matches('#')).unwrap(), value, at);
    }
    if let Some(wanted) = schema.get("const") {
        assert_eq!(value, wanted, "{at}");
    }
    if let Some(wanted) = schema.get("enum").and_then(Value::as_array) {
        assert!(wanted.contains(value), "{at}: {value}");
    }
    let Some(kind) = schema.get("type").and_then(Value::as_str) else { return integers(value, at) };
    match (kind, value) {
        ("object", Value::Object(members)) => {
            for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
                assert!(members.contains_key(name.as_str().unwrap()), "{at} lacks {name}");
            }
            let none = Map::new();
            let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
            for (name, member) in members {
                let place = format!("{at}/{name}");
                match (known.get(name), schema.get("additionalProperties")) {
                    (Some(known), _) => check(root, known, member, &place),
                    (None, Some(Value::Object(other))) => {
                        check(root, &Value::Object(other.clone()), member, &place);
                    }
                    (None, Some(Value::Bool(false))) => panic!("{place} is not in the schema"),
                    (None, _) => integers(member, &place),
                }
            }
        }
        ("array", Value::Array(items)) => {
            for item in items {
                check(root, &schema["items"], item, at);
            }
        }
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) => {}
        ("integer", Value::Number(number)) => assert!(number.is_i64(), "{at}: {number}"),
        (kind, value) => panic!("{at} should be {kind}: {value}"),
    }
}

fn integers(value: &Value, at: &str) {
    match value {
        Value::Null => panic!("{at} is null"),
        Value::Number(number) => assert!(number.is_i64(), "{at}: {number}"),
        Value::Array(items) => items.iter().for_each(|item| integers(item, at)),
        Value::Object(members) => members.values().for_each(|member| integers(member, at)),
        Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn every_schema_member_says_what_it_is() {
    fn described(value: &Value, at: &str) {
        let Some(members) = value.get("properties").and_then(Value::as_object) else { return };
        for (name, member) in members {
            let place = format!("{at}/{name}");
            assert!(member.get("description").is_some() || member.get("$ref").is_some(), "{place}");
            described(member, &place);
        }
    }
    described(&serde_json::from_str(JSON_SCHEMA).unwrap(), "");
}

#[test]
fn a_bare_action_has_what_is_known_and_nothing_else() {
    let input =
        inputs(&[json!({"action": {"kind": "tool", "name": "ping"}, "trace_id": null, "start_ns": 5})])
            .remove(0);
    let zero = json!({"tool_calls": 0, "spent_nano": {"USD": 0}});
    assert_eq!(
        input,
        json!({
            "schema": "verdict-input/1",
            "event": {"seq": 1, "ts_ns": 5},
            "action": {"kind": "tool", "name": "ping"},
            "provenance": {"sources": []},
            "approvals": [],
            "controls": [],
            "state": {
                "trace": {"tool_calls": 0, "model_calls": 0, "blocked": 0, "spent_nano": {"USD": 0}, "consecutive_tool_calls": 0, "consecutive_same_tool": 0},
                "session": zero, "tenant": zero,
                "agent": {"tool_calls": 0, "spent_nano": {"USD": 0}, "blocked": 0, "cooldown_until_ns": 0},
                "windows": {"agent_1h": zero, "agent_24h": zero},
            },
        })
    );
}

#[test]
fn a_full_action_conforms_and_holds_integers_only() {
    let event = json!({
        "trace_id": "00000000000000000000000000000001", "span_id": "0000000000000002", "parent_span_id": "0000000000000001",
        "agent": {"id": "a-1", "name": "support-agent", "version": "3"}, "user": "u", "session": "s", "service": "shop",
        "environment": "prod", "tenant": "t", "on_behalf_of": ["x"],
        "action": {"kind": "tool", "name": "send_email", "call_id": "c", "resource": "mail", "capabilities": ["net"],
            "arguments": {"to": "Ann <ann@Example.org>", "price": 12.50, "big": 18_446_744_073_709_551_615u64, "none": null, "list": [1.0, null], "url": "https://h.example/x"}},
        "provenance": [{"kind": "user_prompt", "trust": "internal"}, {"kind": "retrieval", "trust": "unverified", "name": "page", "uri": "https://p", "digest": "d"}],
        "classification": "restricted",
        "budget": {"name": "b", "unit": "nano_usd", "limit": "5", "used": "4", "reserved": "1"},
        "usage": {"cost": {"nano": "7", "currency": "EUR"}},
    });
    let input = &inputs(&[event])[0];
    assert_eq!(
        input["action"]["arguments"],
        json!({
            "to": "Ann <ann@Example.org>", "price": "12.5", "big": "18446744073709551615", "list": ["1", "null"], "url": "https://h.example/x",
        })
    );
    assert_eq!(
        input["features"],
        json!({"email_domain": "example.org", "url_host": "h.example", "lowest_trust_rank": 3})
    );
    assert_eq!(input["provenance"]["lowest_trust"], "unverified");
    assert_eq!(input["event"]["parent"], "0000000000000001");
    assert_eq!(
        input["budget"],
        json!({"name": "b", "unit": "nano_usd", "limit": 5, "used": 4, "reserved": 1})
    );
    assert_eq!(
        input["agent"],
        json!({"id": "a-1", "name": "support-agent", "version": "3", "inherited": false})
    );
}

#[test]
fn sources_reach_later_steps_of_the_trace_only() {
    let page = json!([{"kind": "tool_result", "trust": "unverified", "name": "page"}]);
    let refused = with(
        with(tool("fetch_url", json!({})), "provenance", json!([{"kind": "memory", "trust": "unknown"}])),
        "decision",
        json!({"effect": "block", "by": {"kind": "policy"}}),
    );
    let refused = with(refused, "outcome", json!(null));
    let all = inputs(&[
        tool("search", json!({})),
        with(tool("fetch_url", json!({"url": "https://x.example"})), "provenance", page),
        refused,
        tool("send_email", json!({"to": "a@b.example"})),
        with(tool("send_email", json!({})), "trace_id", json!("00000000000000000000000000000009")),
    ]);
    assert_eq!(all[0]["provenance"], json!({"sources": []}));
    assert_eq!(
        all[3]["provenance"],
        json!({
            "sources": [{"kind": "tool_result", "trust": "unverified", "name": "page", "via": 2}], "lowest_trust": "unverified",
        })
    );
    assert_eq!(all[3]["features"]["lowest_trust_rank"], 3);
    assert_eq!(all[4]["provenance"], json!({"sources": []}));
}

/// Writes the members of the document as a table, from the schema.
fn documented() -> String {
    fn rows(root: &Value, node: &Value, at: &str, out: &mut String) {
        let node =
            node.get("$ref").and_then(Value::as_str).map_or(node, |path| root.pointer(&path[1..]).unwrap());
        let required = node["required"].as_array().cloned().unwrap_or_default();
        for (name, member) in node["properties"].as_object().into_iter().flatten() {
            let target = member
                .get("$ref")
                .and_then(Value::as_str)
                .map_or(member, |path| root.pointer(&path[1..]).unwrap());
            let kind = match (target["type"].as_str(), target["enum"].as_array(), target.get("const")) {
                (_, _, Some(only)) => format!("`{}`", only.as_str().unwrap()),
                (_, Some(words), _) => words
                    .iter()
                    .map(|word| format!("`{}`", word.as_str().unwrap()))
                    .collect::<Vec<_>>()
                    .join(", "),
                (Some("array"), ..) => format!("array of {}s", target["items"]["type"].as_str().unwrap()),
                (Some("object"), ..) if target["additionalProperties"].is_object() => {
                    format!("object of {}s", target["additionalProperties"]["type"].as_str().unwrap())
                }
                (Some(kind), ..) => kind.to_owned(),
                (None, None, None) => "any JSON".to_owned(),
            };
            let text = |node: &Value| node["description"].as_str().map(str::to_owned);
            let said = text(member).or_else(|| text(target)).unwrap().replace('|', "\\|");
            let always = if required.contains(&json!(name)) { "yes" } else { "" };
            out.push_str(&format!("| `{at}{name}` | {kind} | {always} | {said} |\n"));
            rows(root, target, &format!("{at}{name}."), out);
            if let Some(items) = target.get("items") {
                rows(root, items, &format!("{at}{name}[]."), out);
            }
        }
    }
    let schema: Value = serde_json::from_str(JSON_SCHEMA).unwrap();
    let mut out = "| member | type | always there | meaning and unit |\n|---|---|---|---|\n".to_owned();
    rows(&schema, &schema, "", &mut out);
    out
}

#[test]
fn the_documentation_is_the_schema() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/input.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (start, end) =
        ("<!-- members: generated from schema/input.v1.json -->\n", "<!-- end of members -->\n");
    let (before, rest) = page.split_once(start).unwrap();
    let (there, after) = rest.split_once(end).unwrap();
    let wanted = documented();
    if std::env::var("VERDICT_EXPECT").is_ok_and(|mode| mode == "write") {
        std::fs::write(&path, format!("{before}{start}{wanted}{end}{after}")).unwrap();
    } else {
        assert_eq!(there, wanted, "run the test with VERDICT_EXPECT=write");
    }
}
