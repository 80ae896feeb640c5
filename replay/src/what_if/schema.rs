//! The schema of the input document, as edits need it: what may stand at a place, and whether a document fits.
//!
//! Reads [`JSON_SCHEMA`], which uses a small part of JSON Schema; a test fails when it starts to use more.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::input::JSON_SCHEMA;

/// Problems that are listed at most.
const PROBLEMS_MAX: usize = 32;

/// Words of JSON Schema that constrain a value and are read here.
#[cfg(test)]
const READ: [&str; 11] = [
    "type",
    "const",
    "enum",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "$ref",
    "minimum",
    "maximum",
    "maxItems",
];

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| serde_json::from_str(JSON_SCHEMA).unwrap_or_default())
}

/// What may stand at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// A text.
    Text,
    /// An integer.
    Integer,
    /// True or false.
    Boolean,
    /// Whatever the caller sent, or something with parts.
    Other,
}

/// Finds what may stand at a path, or says why nothing may.
pub(super) fn place(path: &[String]) -> Result<Leaf, String> {
    let mut node = document();
    let mut here = String::new();
    for step in path {
        node = resolve(node);
        let members = node.get("properties").and_then(Value::as_object);
        let below = match (members, node.get("additionalProperties"), node.get("items")) {
            (Some(members), extra, _) => match (members.get(step), extra) {
                (Some(below), _) => below,
                (None, Some(extra)) if extra.is_object() => extra,
                (None, _) => {
                    return Err(format!("the input has no `{here}/{step}`: {}", nearest(step, members)));
                }
            },
            (None, Some(extra), _) if extra.is_object() => extra,
            (None, _, Some(items)) => items,
            _ if is_single(node) => return Err(format!("`{here}` is a single value and has no `{step}`")),
            // Whatever the caller sent may have any parts.
            _ => return Ok(Leaf::Other),
        };
        here.push('/');
        here.push_str(step);
        node = below;
    }
    let node = resolve(node);
    let one_of_texts = node.get("enum").or_else(|| node.get("const")).is_some();
    Ok(match node.get("type").and_then(Value::as_str) {
        Some("string") => Leaf::Text,
        Some("integer") => Leaf::Integer,
        Some("boolean") => Leaf::Boolean,
        None if one_of_texts => Leaf::Text,
        _ => Leaf::Other,
    })
}

/// Tells whether a member must be there.
pub(super) fn is_required(path: &[String]) -> bool {
    let Some((last, above)) = path.split_last() else { return true };
    let mut node = resolve(document());
    for step in above {
        let below =
            node.get("properties").and_then(|members| members.get(step)).or_else(|| node.get("items"));
        let below = below.or_else(|| node.get("additionalProperties").filter(|extra| extra.is_object()));
        match below {
            Some(below) => node = resolve(below),
            None => return false,
        }
    }
    let required = node.get("required").and_then(Value::as_array);
    required.is_some_and(|required| required.iter().any(|name| name == last))
}

/// Lists what does not fit, each with its place.
pub(super) fn problems(value: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    check(value, document(), "", &mut problems);
    problems
}

fn check(value: &Value, node: &'static Value, at: &str, problems: &mut Vec<String>) {
    if problems.len() >= PROBLEMS_MAX {
        return;
    }
    let node = resolve(node);
    let mut wrong = |expected: String| {
        problems.push(format!("`{}` must be {expected}", if at.is_empty() { "/" } else { at }));
    };
    if let Some(kind) = node.get("type").and_then(Value::as_str)
        && !is_a(value, kind)
    {
        wrong(format!("{} {kind}, not {value}", if kind.starts_with(['a', 'i', 'o']) { "an" } else { "a" }));
        return;
    }
    if let Some(only) = node.get("const").filter(|only| *only != value) {
        wrong(format!("{only}, not {value}"));
    }
    if let Some(allowed) =
        node.get("enum").and_then(Value::as_array).filter(|allowed| !allowed.contains(value))
    {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        wrong(format!("one of {}, not {value}", allowed.join(", ")));
    }
    let bound = |name: &str| node.get(name).and_then(Value::as_i64);
    if let (Some(found), Some(least)) = (value.as_i64(), bound("minimum"))
        && found < least
    {
        wrong(format!("at least {least}, not {found}"));
    }
    if let (Some(found), Some(most)) = (value.as_i64(), bound("maximum"))
        && found > most
    {
        wrong(format!("at most {most}, not {found}"));
    }
    if let Some(members) = value.as_object() {
        members_fit(members, node, at, problems);
    }
    if let Some(items) = value.as_array() {
        let most = node.get("maxItems").and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok());
        if most.is_some_and(|most| items.len() > most) {
            problems.push(format!(
                "`{at}` has {} items, more than {}",
                items.len(),
                most.unwrap_or_default()
            ));
        }
        if let Some(below) = node.get("items") {
            for (index, item) in items.iter().enumerate() {
                check(item, below, &format!("{at}/{index}"), problems);
            }
        }
    }
}

fn members_fit(members: &Map<String, Value>, node: &'static Value, at: &str, problems: &mut Vec<String>) {
    for name in node.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        if !members.contains_key(name) {
            problems.push(format!("`{at}/{name}` must be there"));
        }
    }
    let known = node.get("properties").and_then(Value::as_object);
    let extra = node.get("additionalProperties");
    for (name, value) in members {
        let below =
            known.and_then(|known| known.get(name)).or_else(|| extra.filter(|extra| extra.is_object()));
        match (below, extra) {
            (Some(below), _) => check(value, below, &format!("{at}/{name}"), problems),
            (None, Some(Value::Bool(false))) => problems.push(format!("there is no `{at}/{name}`")),
            (None, _) => {}
        }
    }
}

fn resolve(node: &'static Value) -> &'static Value {
    let target = node.get("$ref").and_then(Value::as_str);
    target.and_then(|path| document().pointer(path.trim_start_matches('#'))).unwrap_or(node)
}

fn is_single(node: &Value) -> bool {
    let single = |kind: &str| matches!(kind, "string" | "integer" | "boolean");
    node.get("const").or_else(|| node.get("enum")).is_some()
        || node.get("type").and_then(Value::as_str).is_some_and(single)
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.as_i64().is_some(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        _ => false,
    }
}

fn nearest(name: &str, members: &Map<String, Value>) -> String {
    let near = members.keys().map(|key| (distance(name, key), key)).min();
    match near {
        Some((far, key)) if far <= 2.max(name.chars().count() / 3) => format!("did you mean `{key}`?"),
        _ => {
            let keys: Vec<String> = members.keys().map(|key| format!("`{key}`")).collect();
            format!("there are {}", keys.join(", "))
        }
    }
}

/// Levenshtein distance; names beyond 64 characters are like nothing.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let up = *cell;
            left = (diagonal + usize::from(ca != cb)).min(up + 1).min(left + 1);
            diagonal = up;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(pointer: &str) -> Vec<String> {
        pointer.split('/').skip(1).map(str::to_owned).collect()
    }

    /// What constrains a value and is not read here would let a document pass that a policy's author relies on.
    #[test]
    fn every_word_of_the_schema_is_read() {
        fn walk(node: &Value, names: bool, out: &mut Vec<String>) {
            let Some(members) = node.as_object() else { return };
            for (name, below) in members {
                let says_nothing = matches!(
                    name.as_str(),
                    "description" | "title" | "$schema" | "$id" | "$comment" | "examples" | "default"
                );
                if !names && says_nothing {
                    continue;
                }
                if !names && name != "$defs" && !READ.contains(&name.as_str()) {
                    out.push(name.clone());
                }
                let below_names = !names && matches!(name.as_str(), "properties" | "$defs");
                walk(below, below_names, out);
            }
        }
        let mut unread = Vec::new();
        walk(document(), false, &mut unread);
        assert!(document().is_object() && unread.is_empty(), "{unread:?}");
    }

    #[test]
    fn places_have_a_type_and_wrong_names_a_nearest() {
        assert_eq!(place(&path("/user/id")), Ok(Leaf::Text));
        assert_eq!(place(&path("/action/kind")), Ok(Leaf::Text));
        assert_eq!(place(&path("/event/seq")), Ok(Leaf::Integer));
        assert_eq!(place(&path("/state/trace/spent_nano/EUR")), Ok(Leaf::Integer));
        assert_eq!(place(&path("/provenance/sources/0/trust")), Ok(Leaf::Text));
        assert_eq!(place(&path("/action/arguments/a/b/0")), Ok(Leaf::Other));
        assert!(place(&path("/acton/name")).unwrap_err().ends_with("did you mean `action`?"));
        assert!(
            place(&path("/state/trace/tool_cals"))
                .unwrap_err()
                .contains("`/state/trace/tool_cals`: did you mean `tool_calls`?")
        );
        assert!(place(&path("/user/id/x")).unwrap_err().contains("`/user/id` is a single value"));
        assert!(place(&path("/user/zzzzzzzz")).unwrap_err().ends_with("there are `id`"));
        assert!(is_required(&path("/action/name")) && !is_required(&path("/action/arguments")));
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        let found = problems(&json!({"schema": "verdict-input/0", "event": {"seq": "1"}, "x": 1}));
        for expected in [
            "`/schema` must be \"verdict-input/1\", not \"verdict-input/0\"",
            "`/event/seq` must be an integer, not \"1\"",
            "`/event/ts_ns` must be there",
            "`/state` must be there",
            "there is no `/x`",
        ] {
            assert!(found.iter().any(|problem| problem == expected), "{expected}: {found:#?}");
        }
    }
}
