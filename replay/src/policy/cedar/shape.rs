//! The input document as Cedar sees it: its JSON Schema, read once into the types that Cedar has.
//!
//! Cedar has no null, no float, no map and no iteration. What that means for each kind of member:
//!
//! | in the JSON Schema | in Cedar |
//! |---|---|
//! | text, integer, boolean | `String`, `Long`, `Bool` |
//! | object | record; a member that is not required is optional |
//! | object with any keys (money by currency) | entity with a tag for each key, and its required keys as attributes |
//! | array of single values | set |
//! | array of objects | record of `count`, one set for each member, and `rows`: the set of the required texts of each object |
//! | foreign JSON (arguments) | record of `json` and four entities with tags, see [`Shape::Foreign`] |

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::input::JSON_SCHEMA;
use crate::policy::engine::overlap;

/// Name of the column that counts the objects of an array.
pub(super) const COUNT: &str = "count";
/// Name of the column that keeps together what stands in one object.
pub(super) const ROWS: &str = "rows";

/// What may stand at a place.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Text,
    Integer,
    Boolean,
    /// Any JSON that the caller sent: its canonical text, and an entity for each type of leaf with one tag for each path.
    Foreign,
    Record(Vec<Member>),
    /// Entity of this type: attributes for the keys that are always there, tags for all.
    Map {
        entity: String,
        fixed: Vec<String>,
        value: Box<Shape>,
    },
    Set(Box<Shape>),
    /// An array of objects, by column.
    Table(Vec<Member>),
}

/// A member of an object.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) doc: String,
    pub(super) required: bool,
    pub(super) shape: Shape,
}

/// Returns the columns whose values stay together in `rows`: the texts that every object has. None when there are not
/// at least two, since one alone says no more than its column.
pub(super) fn row_members(members: &[Member]) -> Vec<&Member> {
    let texts: Vec<_> =
        members.iter().filter(|member| member.required && matches!(member.shape, Shape::Text)).collect();
    if texts.len() > 1 { texts } else { Vec::new() }
}

/// Returns the members of the input document that policies see: all but `schema`, which is the same in all of them.
pub(super) fn document() -> &'static [Member] {
    static MEMBERS: OnceLock<Vec<Member>> = OnceLock::new();
    MEMBERS.get_or_init(|| {
        let schema: Value = serde_json::from_str(JSON_SCHEMA).unwrap_or_default();
        let mut members = members(&schema, &schema);
        members.retain(|member| member.name != "schema");
        members
    })
}

/// Returns what of the members the given paths can see. What no policy reads is not worth handing to the engine.
pub(super) fn seen(members: &[Member], paths: &[Vec<String>], above: &[String]) -> Vec<Member> {
    let mut out = Vec::new();
    for member in members {
        let path: Vec<String> = above.iter().cloned().chain([member.name.clone()]).collect();
        if !paths.iter().any(|read| overlap(read, &path)) {
            continue;
        }
        let shape = match &member.shape {
            Shape::Record(below) => Shape::Record(seen(below, paths, &path)),
            other => other.clone(),
        };
        out.push(Member { shape, ..member.clone() });
    }
    out
}

fn members(document: &Value, node: &Value) -> Vec<Member> {
    let required: Vec<&str> = node
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let none = Map::new();
    let properties = node.get("properties").and_then(Value::as_object).unwrap_or(&none);
    properties
        .iter()
        .map(|(name, node)| Member {
            name: name.clone(),
            doc: description(document, node),
            required: required.contains(&name.as_str()),
            shape: shape(document, node),
        })
        .collect()
}

fn description(document: &Value, node: &Value) -> String {
    let said = |node: &Value| node.get("description").and_then(Value::as_str).map(str::to_owned);
    said(node).or_else(|| said(resolve(document, node).1)).unwrap_or_default()
}

/// Follows a `$ref`; the name is that of the definition.
fn resolve<'a>(document: &'a Value, node: &'a Value) -> (Option<&'a str>, &'a Value) {
    let Some(path) = node.get("$ref").and_then(Value::as_str) else { return (None, node) };
    (path.rsplit('/').next(), document.pointer(path.trim_start_matches('#')).unwrap_or(node))
}

fn shape(document: &Value, node: &Value) -> Shape {
    let (name, node) = resolve(document, node);
    let kind = node.get("type").and_then(Value::as_str);
    if node.get("properties").is_some() {
        return Shape::Record(members(document, node));
    }
    if let Some(value) = node.get("additionalProperties").filter(|value| value.is_object()) {
        let fixed = node.get("required").and_then(Value::as_array).into_iter().flatten();
        return Shape::Map {
            entity: type_name(name.unwrap_or("map")),
            fixed: fixed.filter_map(Value::as_str).map(str::to_owned).collect(),
            value: Box::new(shape(document, value)),
        };
    }
    match (kind, node.get("items")) {
        (_, Some(items)) => match shape(document, items) {
            Shape::Record(members) => Shape::Table(members),
            single => Shape::Set(Box::new(single)),
        },
        (Some("integer"), _) => Shape::Integer,
        (Some("boolean"), _) => Shape::Boolean,
        (Some("string"), _) => Shape::Text,
        _ if node.get("enum").is_some() || node.get("const").is_some() => Shape::Text,
        _ => Shape::Foreign,
    }
}

/// `money` is `Money`.
fn type_name(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_single(shape: &Shape) -> bool {
        matches!(shape, Shape::Text | Shape::Integer | Shape::Boolean)
    }

    fn each<'a>(members: &'a [Member], visit: &mut impl FnMut(&'a Member)) {
        for member in members {
            visit(member);
            match &member.shape {
                Shape::Record(below) | Shape::Table(below) => each(below, visit),
                _ => {}
            }
        }
    }

    #[test]
    fn every_member_of_the_document_has_a_shape_that_cedar_can_hold() {
        let mut foreign = Vec::new();
        each(document(), &mut |member| match &member.shape {
            Shape::Foreign => foreign.push(member.name.as_str()),
            Shape::Set(items) => assert!(is_single(items), "{}", member.name),
            Shape::Map { value, .. } => assert!(is_single(value), "{}", member.name),
            Shape::Table(columns) => {
                assert!(columns.iter().all(|column| is_single(&column.shape)), "{}", member.name);
                assert!(columns.iter().all(|column| column.name != COUNT && column.name != ROWS));
            }
            Shape::Record(_) | Shape::Text | Shape::Integer | Shape::Boolean => {}
        });
        assert_eq!(foreign, ["arguments"], "nothing else is foreign JSON");
    }
}
