//! The Cedar schema of requests, generated from the JSON Schema of the input document.

use std::collections::BTreeMap;

use cedar_policy::{Schema, SchemaFragment};
use serde_json::{Map, Value, json};

use super::request::{FOREIGN, KINDS};
use super::shape::{COUNT, Member, ROWS, Shape, document, row_members};

/// Principal of an action that names no agent. A type of its own, so that no policy about agents means it.
pub(super) const NOBODY: &str = "Unidentified";
/// What agents and resources can be put into.
pub(super) const GROUP: &str = "Group";

/// Returns the schema in Cedar's JSON format.
pub fn json() -> Value {
    let mut entities = Map::new();
    let mut types = BTreeMap::new();
    let input = record(document(), &mut types);
    for (name, (fixed, value)) in types {
        let attributes: Map<_, _> = fixed.into_iter().map(|key| (key, value.clone())).collect();
        entities.insert(name, json!({"shape": {"type": "Record", "attributes": attributes}, "tags": value}));
    }
    for (name, value) in FOREIGN {
        let value = if name == "Lists" {
            json!({"type": "Set", "element": {"type": value}})
        } else {
            json!({"type": value})
        };
        entities.insert(name.to_owned(), json!({"tags": value}));
    }
    let member = json!({"memberOfTypes": [GROUP]});
    for name in KINDS.iter().map(|(_, resource)| *resource).chain([GROUP]) {
        entities.insert(name.to_owned(), member.clone());
    }
    entities.insert(NOBODY.to_owned(), json!({}));
    let actions: Map<_, _> = KINDS
        .iter()
        .map(|(kind, resource)| {
            let applies = json!({
                "principalTypes": ["Agent", NOBODY], "resourceTypes": [resource], "context": {"type": "Input"},
            });
            ((*kind).to_owned(), json!({"appliesTo": applies}))
        })
        .collect();
    json!({"": {"commonTypes": {"Input": input}, "entityTypes": entities, "actions": actions}})
}

/// Returns the schema in Cedar's own syntax.
pub fn text() -> Result<String, String> {
    let fragment = SchemaFragment::from_json_value(json()).map_err(|error| error.to_string())?;
    fragment.to_cedarschema().map_err(|error| error.to_string())
}

/// Returns the schema, with the fragments that a bundle brings for entity types of its own.
pub(super) fn with(own: impl IntoIterator<Item = SchemaFragment>) -> Result<Schema, String> {
    let generated = SchemaFragment::from_json_value(json()).map_err(|error| error.to_string())?;
    Schema::from_schema_fragments(std::iter::once(generated).chain(own)).map_err(|error| error.to_string())
}

/// Entity types of maps: keys that are always there, and the type of every value.
type Maps = BTreeMap<String, (Vec<String>, Value)>;

fn record(members: &[Member], maps: &mut Maps) -> Value {
    let mut attributes = Map::new();
    for member in members {
        let mut attribute = attribute(&member.shape, maps);
        if let Value::Object(attribute) = &mut attribute {
            attribute.insert("required".to_owned(), json!(member.required));
            if !member.doc.is_empty() {
                attribute.insert("annotations".to_owned(), json!({"doc": member.doc}));
            }
        }
        attributes.insert(member.name.clone(), attribute);
    }
    json!({"type": "Record", "attributes": attributes})
}

fn attribute(shape: &Shape, maps: &mut Maps) -> Value {
    match shape {
        Shape::Text => json!({"type": "String"}),
        Shape::Integer => json!({"type": "Long"}),
        Shape::Boolean => json!({"type": "Boolean"}),
        Shape::Record(members) => record(members, maps),
        Shape::Map { entity, fixed, value } => {
            let value = attribute(value, maps);
            maps.insert(entity.clone(), (fixed.clone(), value));
            json!({"type": "Entity", "name": entity})
        }
        Shape::Set(items) => json!({"type": "Set", "element": attribute(items, maps)}),
        Shape::Table(members) => {
            let mut columns = Map::new();
            columns.insert(COUNT.to_owned(), json!({"type": "Long"}));
            for member in members {
                let mut column = json!({"type": "Set", "element": attribute(&member.shape, maps)});
                if let Value::Object(column) = &mut column {
                    column.insert("annotations".to_owned(), json!({"doc": member.doc}));
                }
                columns.insert(member.name.clone(), column);
            }
            let rows = row_members(members);
            if !rows.is_empty() {
                let attributes: Map<_, _> =
                    rows.iter().map(|member| (member.name.clone(), json!({"type": "String"}))).collect();
                let element = json!({"type": "Record", "attributes": attributes});
                columns.insert(ROWS.to_owned(), json!({"type": "Set", "element": element}));
            }
            json!({"type": "Record", "attributes": columns})
        }
        Shape::Foreign => {
            let mut attributes = Map::new();
            attributes.insert(
                "json".to_owned(),
                json!({"type": "String", "annotations": {"doc": "Canonical JSON (RFC 8785) of all of it."}}),
            );
            for (name, _) in FOREIGN {
                attributes.insert(name.to_ascii_lowercase(), json!({"type": "Entity", "name": name}));
            }
            json!({"type": "Record", "attributes": attributes})
        }
    }
}
