//! Whether a document is an input document: the parts of JSON Schema that `input.v1.json` uses.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::JSON_SCHEMA;

/// Returns what is wrong with a document that is no input document, with the place, or nothing.
pub fn nonconformity(document: &Value) -> Option<String> {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| serde_json::from_str(JSON_SCHEMA).unwrap_or_default());
    check(schema, schema, document, "").err()
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(target.trim_start_matches('#'));
        return target.map_or(Ok(()), |target| check(root, target, value, at));
    }
    let here = if at.is_empty() { "the document" } else { at };
    if let Some(wanted) = schema.get("const").filter(|wanted| *wanted != value) {
        return Err(format!("{here} must be {wanted} and is {value}"));
    }
    if let Some(wanted) =
        schema.get("enum").and_then(Value::as_array).filter(|wanted| !wanted.contains(value))
    {
        let words: Vec<_> = wanted.iter().map(ToString::to_string).collect();
        return Err(format!("{here} must be one of {} and is {value}", words.join(", ")));
    }
    let Some(kind) = schema.get("type").and_then(Value::as_str) else { return integers(value, at) };
    match (kind, value) {
        ("object", Value::Object(members)) => object(root, schema, members, at),
        ("array", Value::Array(items)) => {
            let each = schema.get("items").unwrap_or(&Value::Null);
            (0..)
                .zip(items)
                .try_for_each(|(index, item): (usize, _)| check(root, each, item, &format!("{at}/{index}")))
        }
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) => Ok(()),
        ("integer", Value::Number(number)) if number.is_i64() => Ok(()),
        _ => Err(format!("{here} must be of type {kind} and is {}", brief(value))),
    }
}

fn object(root: &Value, schema: &Value, members: &Map<String, Value>, at: &str) -> Result<(), String> {
    let required =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if !members.contains_key(name) {
            return Err(format!("{at}/{name} is missing"));
        }
    }
    let none = Map::new();
    let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    for (name, member) in members {
        let place = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        match (known.get(name), schema.get("additionalProperties")) {
            (Some(known), _) => check(root, known, member, &place)?,
            (None, Some(other @ Value::Object(_))) => check(root, other, member, &place)?,
            (None, Some(Value::Bool(false))) => {
                let mut known: Vec<_> = known.keys().map(String::as_str).collect();
                known.sort_unstable();
                return Err(format!("{place} does not exist; there are {}", known.join(", ")));
            }
            (None, _) => integers(member, &place)?,
        }
    }
    Ok(())
}

/// Foreign values are whatever was sent, without null and in 64-bit integers.
fn integers(value: &Value, at: &str) -> Result<(), String> {
    match value {
        Value::Null => Err(format!("{at} is null; what is not known is absent")),
        Value::Number(number) if !number.is_i64() => {
            Err(format!("{at} is {number}, which is not a 64-bit integer"))
        }
        Value::Array(items) => (0..)
            .zip(items)
            .try_for_each(|(index, item): (usize, _)| integers(item, &format!("{at}/{index}"))),
        Value::Object(members) => {
            members.iter().try_for_each(|(name, member)| integers(member, &format!("{at}/{name}")))
        }
        Value::Bool(_) | Value::String(_) | Value::Number(_) => Ok(()),
    }
}

fn brief(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        single => single.to_string(),
    }
}
