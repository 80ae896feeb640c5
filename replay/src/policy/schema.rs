//! The paths that an input document can have, so that a misspelled one is found before it silently never holds.
//!
//! Read from the JSON Schema of the input document, which is the one place that lists them.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::input::{JSON_SCHEMA, SCHEMA};

/// What may stand at a place of the input document.
enum Shape<'a> {
    /// A string, number or boolean.
    Leaf,
    /// Whatever the caller sent.
    Any,
    /// An object with these members and no other.
    Object(&'a Map<String, Value>),
    /// An object with any keys.
    Map(&'a Value),
    /// An array.
    List(&'a Value),
}

/// One step of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// `.name` or `["name"]`.
    Field(String),
    /// `[variable]`, `[_]` or `[0]`.
    Any,
}

/// A step that no input document has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    /// Index of the step.
    pub(super) at: usize,
    /// What is wrong with it.
    pub(super) message: String,
    /// What may have been meant.
    pub(super) hint: Option<String>,
}

/// Follows a reference below `input`; `None` when every step can exist.
pub(super) fn unknown_step(steps: &[Step]) -> Option<Unknown> {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| serde_json::from_str(JSON_SCHEMA).unwrap_or_default());
    let mut node = document;
    let mut path = "input".to_owned();
    for (at, step) in steps.iter().enumerate() {
        let not_there = |hint| {
            let name = match step {
                Step::Field(name) => format!("{path}.{name}"),
                Step::Any => format!("{path}[…]"),
            };
            Some(Unknown { at, message: format!("`{name}` does not exist in {SCHEMA}"), hint: Some(hint) })
        };
        node = match (shape(document, node), step) {
            (Shape::Leaf, _) => return not_there(format!("`{path}` is a single value")),
            (Shape::Object(members), Step::Field(name)) => match members.get(name) {
                Some(below) => below,
                // Members beside the known ones may be anything.
                None if node.get("additionalProperties").is_some_and(|more| more == true) => return None,
                None => return not_there(suggest(name, members)),
            },
            (Shape::List(_), Step::Field(name)) => {
                return not_there(format!("`{path}` is an array; write `some x in {path}` and `x.{name}`"));
            }
            // A variable over the members of an object: they differ, so look no further.
            (Shape::Any, _) | (Shape::Object(_), Step::Any) => return None,
            (Shape::Map(below), _) | (Shape::List(below), Step::Any) => below,
        };
        match step {
            Step::Field(name) => {
                path.push('.');
                path.push_str(name);
            }
            Step::Any => path.push_str("[_]"),
        }
    }
    None
}

fn shape<'a>(document: &'a Value, node: &'a Value) -> Shape<'a> {
    let target = node
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|path| document.pointer(path.trim_start_matches('#')));
    let node = target.unwrap_or(node);
    let single = |name: &str| matches!(name, "string" | "integer" | "boolean");
    if let Some(members) = node.get("properties").and_then(Value::as_object) {
        Shape::Object(members)
    } else if let Some(below) = node.get("additionalProperties").filter(|below| below.is_object()) {
        Shape::Map(below)
    } else if let Some(below) = node.get("items") {
        Shape::List(below)
    } else if node.get("const").is_some()
        || node.get("enum").is_some()
        || node.get("type").and_then(Value::as_str).is_some_and(single)
    {
        Shape::Leaf
    } else {
        Shape::Any
    }
}

fn suggest(name: &str, members: &Map<String, Value>) -> String {
    let near = members.keys().map(|key| (distance(name, key), key)).min();
    match near {
        Some((far, key)) if far <= 2 => format!("did you mean `{key}`?"),
        _ => {
            let keys: Vec<_> = members.keys().map(|key| format!("`{key}`")).collect();
            format!("there are {}", keys.join(", "))
        }
    }
}

/// Levenshtein distance.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let up = *cell;
            left = (diagonal + usize::from(ca != *cb)).min(up + 1).min(left + 1);
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

    fn at(path: &str) -> Option<Unknown> {
        let steps: Vec<Step> = path
            .split('.')
            .map(|part| if part == "_" { Step::Any } else { Step::Field(part.to_owned()) })
            .collect();
        unknown_step(&steps)
    }

    #[test]
    fn known_paths_pass_and_typos_are_suggested() {
        for good in [
            "agent.name",
            "action.arguments.anything.goes._",
            "provenance.sources._.trust",
            "state.trace.spent_nano.USD",
            "state.windows.agent_24h.spent_nano.EUR",
            "state._.tool_calls",
            "approvals._.by",
            "controls._.kind",
        ] {
            assert_eq!(at(good), None, "{good}");
        }
        let typo = at("agent.nmae").unwrap();
        assert_eq!(
            (typo.at, typo.message.as_str()),
            (1, "`input.agent.nmae` does not exist in verdict-input/1")
        );
        assert_eq!(typo.hint.as_deref(), Some("did you mean `name`?"));
        assert_eq!(at("session.id").unwrap().hint.as_deref(), Some("`input.session` is a single value"));
        assert!(at("provenance.sources.trust").unwrap().hint.unwrap().contains("some x in"));
        assert!(at("budgets.x").unwrap().hint.unwrap().contains("`budget`"));
        assert!(at("state.windows.agent_7d").is_some());
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("name", "name"), 0);
    }
}
