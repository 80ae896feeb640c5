//! From an input document to a Cedar request: who, what, on what, and what is known about it. Pure and total.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use verdict_ledger::canon;

use super::schema::NOBODY;
use super::shape::{COUNT, Member, ROWS, Shape, row_members};
use crate::policy::decision::EvalError;

/// Kinds of actions, and the type of what each is asked of.
pub(super) const KINDS: [(&str, &str); 8] = [
    ("agent", "Agent"),
    ("data", "Data"),
    ("guard", "Guard"),
    ("message", "Message"),
    ("model", "Model"),
    ("other", "Other"),
    ("plan", "Plan"),
    ("tool", "Tool"),
];

/// Entity types that hold the leaves of foreign JSON, and the type of their tags; those of `Lists` are sets.
pub(super) const FOREIGN: [(&str, &str); 4] =
    [("Booleans", "Boolean"), ("Integers", "Long"), ("Lists", "String"), ("Texts", "String")];

/// A value of Cedar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Term {
    Bool(bool),
    Long(i64),
    Text(String),
    Set(Vec<Term>),
    Record(BTreeMap<String, Term>),
    Entity(Uid),
}

/// Name of an entity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Uid {
    pub(super) kind: String,
    pub(super) id: String,
}

/// An entity that only this request has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) uid: Uid,
    pub(super) attributes: BTreeMap<String, Term>,
    pub(super) tags: BTreeMap<String, Term>,
}

/// A request, as plain values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) principal: Uid,
    pub(super) action: Uid,
    pub(super) resource: Uid,
    pub(super) context: BTreeMap<String, Term>,
    /// Maps of the context; never the principal, the action or the resource.
    pub(super) entities: Vec<Held>,
}

impl Asked {
    /// Makes the request of an input document, with the given members of it. Others are left out, as no policy that
    /// validates can name them; a member of another type than the schema's is an error.
    pub(super) fn of(input: &Value, wanted: &[Member]) -> Result<Self, EvalError> {
        let text = |pointer: &str| input.pointer(pointer).and_then(Value::as_str);
        let kind = text("/action/kind").unwrap_or("other");
        let resource =
            KINDS.iter().find(|(known, _)| *known == kind).map_or("Other", |(_, resource)| resource);
        // Policies name agents as people do; the id is for agents that have no name.
        let agent = text("/agent/name").or_else(|| text("/agent/id"));
        let mut entities = Vec::new();
        let context = match input {
            Value::Object(members) => record(wanted, members, "", &mut entities)?,
            _ => return Err(wrong("", "an object", input)),
        };
        Ok(Self {
            principal: match agent {
                Some(name) => uid("Agent", name),
                None => uid(NOBODY, "agent"),
            },
            action: uid("Action", kind),
            resource: uid(resource, text("/action/name").unwrap_or_default()),
            context,
            entities,
        })
    }

    /// Writes the request as the file that `cedar authorize --request-json` takes.
    pub(super) fn request_json(&self) -> Value {
        json!({
            "principal": self.principal.to_string(),
            "action": self.action.to_string(),
            "resource": self.resource.to_string(),
            "context": record_json(&self.context),
        })
    }

    /// Writes the entities as the file that `cedar authorize --entities` takes.
    pub(super) fn entities_json(&self) -> Value {
        let asked = [&self.principal, &self.resource];
        let plain = asked.iter().map(|uid| json!({"uid": uid.json(), "attrs": {}, "parents": []}));
        let held = self.entities.iter().map(|held| {
            json!({
                "uid": held.uid.json(), "attrs": record_json(&held.attributes), "parents": [],
                "tags": record_json(&held.tags),
            })
        });
        plain.chain(held).collect()
    }
}

impl Uid {
    fn json(&self) -> Value {
        json!({"type": self.kind, "id": self.id})
    }
}

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Cedar reads the escapes that Rust writes.
        write!(f, "{}::\"{}\"", self.kind, self.id.escape_debug())
    }
}

fn uid(kind: &str, id: &str) -> Uid {
    Uid { kind: kind.to_owned(), id: id.to_owned() }
}

fn record_json(record: &BTreeMap<String, Term>) -> Value {
    record.iter().map(|(name, term)| (name.clone(), term.json())).collect()
}

impl Term {
    fn json(&self) -> Value {
        match self {
            Self::Bool(value) => json!(value),
            Self::Long(value) => json!(value),
            Self::Text(value) => json!(value),
            Self::Set(items) => items.iter().map(Self::json).collect(),
            Self::Record(members) => record_json(members),
            Self::Entity(uid) => json!({"__entity": uid.json()}),
        }
    }
}

type Terms = BTreeMap<String, Term>;

fn record(
    members: &[Member],
    value: &Map<String, Value>,
    at: &str,
    out: &mut Vec<Held>,
) -> Result<Terms, EvalError> {
    let mut terms = Terms::new();
    for member in members {
        if let Some(value) = value.get(&member.name) {
            terms.insert(
                member.name.clone(),
                term(&member.shape, value, &format!("{at}/{}", member.name), out)?,
            );
        }
    }
    Ok(terms)
}

fn term(shape: &Shape, value: &Value, at: &str, out: &mut Vec<Held>) -> Result<Term, EvalError> {
    Ok(match shape {
        Shape::Text => Term::Text(value.as_str().ok_or_else(|| wrong(at, "a text", value))?.to_owned()),
        Shape::Integer => Term::Long(value.as_i64().ok_or_else(|| wrong(at, "a 64-bit integer", value))?),
        Shape::Boolean => Term::Bool(value.as_bool().ok_or_else(|| wrong(at, "true or false", value))?),
        Shape::Record(members) => Term::Record(record(members, object(value, at)?, at, out)?),
        Shape::Set(items) => {
            let list = value.as_array().ok_or_else(|| wrong(at, "an array", value))?;
            Term::Set(list.iter().map(|item| term(items, item, at, out)).collect::<Result<_, _>>()?)
        }
        Shape::Map { entity, fixed, value: each } => {
            let mut tags = Terms::new();
            for (key, value) in object(value, at)? {
                tags.insert(key.clone(), term(each, value, at, out)?);
            }
            let attributes =
                fixed.iter().filter_map(|key| Some((key.clone(), tags.get(key)?.clone()))).collect();
            let uid = uid(entity, at.trim_start_matches('/'));
            out.push(Held { uid: uid.clone(), attributes, tags });
            Term::Entity(uid)
        }
        Shape::Table(columns) => Term::Record(table(columns, value, at, out)?),
        Shape::Foreign => Term::Record(foreign(value, at, out)),
    })
}

fn object<'a>(value: &'a Value, at: &str) -> Result<&'a Map<String, Value>, EvalError> {
    value.as_object().ok_or_else(|| wrong(at, "an object", value))
}

fn table(columns: &[Member], value: &Value, at: &str, out: &mut Vec<Held>) -> Result<Terms, EvalError> {
    let list = value.as_array().ok_or_else(|| wrong(at, "an array", value))?;
    let mut table: BTreeMap<String, Vec<Term>> =
        columns.iter().map(|column| (column.name.clone(), Vec::new())).collect();
    let kept = row_members(columns);
    let mut rows = Vec::new();
    for item in list {
        let terms = record(columns, object(item, at)?, at, out)?;
        if !kept.is_empty() {
            let row = kept
                .iter()
                .filter_map(|member| Some((member.name.clone(), terms.get(&member.name)?.clone())));
            rows.push(Term::Record(row.collect()));
        }
        for (name, term) in terms {
            table.entry(name).or_default().push(term);
        }
    }
    let mut terms: Terms = table.into_iter().map(|(name, values)| (name, Term::Set(values))).collect();
    terms.insert(COUNT.to_owned(), Term::Long(i64::try_from(list.len()).unwrap_or(i64::MAX)));
    if !kept.is_empty() {
        terms.insert(ROWS.to_owned(), Term::Set(rows));
    }
    Ok(terms)
}

/// Sorts the leaves of any JSON by type. A leaf goes by its path: member names with `/` between them, written as in a
/// JSON pointer; what stands in an array goes by the path of the array, as the set of its texts.
fn foreign(value: &Value, at: &str, out: &mut Vec<Held>) -> Terms {
    let mut leaves = Leaves::default();
    // What is in the document holds integers only; what a person typed into a test may not.
    leaves.add(&crate::input::integers_only(value), None);
    let lists = leaves.lists.into_iter().map(|(path, texts)| (path, Term::Set(texts))).collect();
    let json = String::from_utf8_lossy(&canon::digest_bytes(value)).into_owned();
    let mut terms = Terms::from([("json".to_owned(), Term::Text(json))]);
    for (kind, tags) in [
        ("Booleans", leaves.booleans),
        ("Integers", leaves.integers),
        ("Lists", lists),
        ("Texts", leaves.texts),
    ] {
        let uid = uid(kind, at.trim_start_matches('/'));
        terms.insert(kind.to_ascii_lowercase(), Term::Entity(uid.clone()));
        out.push(Held { uid, attributes: Terms::new(), tags });
    }
    terms
}

#[derive(Default)]
struct Leaves {
    booleans: Terms,
    integers: Terms,
    lists: BTreeMap<String, Vec<Term>>,
    texts: Terms,
}

impl Leaves {
    /// `path` is `None` at the top, which is not the same as below a member whose name is empty: were it, such a member
    /// could stand in front of another one.
    fn add(&mut self, value: &Value, path: Option<&str>) {
        let here = || path.unwrap_or_default().to_owned();
        match value {
            Value::Bool(value) => drop(self.booleans.insert(here(), Term::Bool(*value))),
            Value::Number(number) => {
                if let Some(value) = number.as_i64() {
                    self.integers.insert(here(), Term::Long(value));
                }
            }
            Value::String(text) => drop(self.texts.insert(here(), Term::Text(text.clone()))),
            Value::Object(members) => {
                for (name, value) in members {
                    self.add(value, Some(&below(path, name)));
                }
            }
            Value::Array(items) => {
                // An empty list is one too.
                self.lists.entry(here()).or_default();
                for item in items {
                    self.add_item(item, path);
                }
            }
            Value::Null => {}
        }
    }

    fn add_item(&mut self, value: &Value, path: Option<&str>) {
        let text = match value {
            Value::Array(items) => return items.iter().for_each(|item| self.add_item(item, path)),
            Value::Object(members) => {
                return members
                    .iter()
                    .for_each(|(name, value)| self.add_item(value, Some(&below(path, name))));
            }
            Value::Null => return,
            Value::String(text) => text.clone(),
            single => single.to_string(),
        };
        self.lists.entry(path.unwrap_or_default().to_owned()).or_default().push(Term::Text(text));
    }
}

fn below(path: Option<&str>, name: &str) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    match path {
        Some(path) => format!("{path}/{name}"),
        None => name,
    }
}

fn wrong(at: &str, want: &str, found: &Value) -> EvalError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_i64() => "an integer",
        Value::Number(_) => "a number that is not a 64-bit integer",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let at = if at.is_empty() { "the input" } else { at };
    EvalError { code: "missing_input".to_owned(), detail: format!("{at} must be {want} and is {found}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign_of(value: &Value) -> BTreeMap<String, BTreeMap<String, Term>> {
        let mut out = Vec::new();
        let terms = foreign(value, "/action/arguments", &mut out);
        assert_eq!(terms.len(), 5);
        out.into_iter().map(|held| (held.uid.kind, held.tags)).collect()
    }

    fn text(text: &str) -> Term {
        Term::Text(text.to_owned())
    }

    #[test]
    fn every_leaf_of_the_arguments_has_one_place() {
        let leaves = foreign_of(&json!({
            "n": -3, "s": "x", "b": true, "float": 1.5, "huge": 18_446_744_073_709_551_615_u64, "null": null,
            "deep": {"a/b": {"~": 1}}, "list": ["x", 2, false, null, ["y"]], "empty": [],
            "items": [{"sku": "A", "n": 1}, {"sku": "B"}], "": {"": 7},
        }));
        assert_eq!(
            leaves["Integers"],
            Terms::from([
                ("n".to_owned(), Term::Long(-3)),
                ("deep/a~1b/~0".to_owned(), Term::Long(1)),
                ("/".to_owned(), Term::Long(7)),
            ])
        );
        assert_eq!(
            leaves["Texts"],
            Terms::from([
                ("s".to_owned(), text("x")),
                ("float".to_owned(), text("1.5")),
                ("huge".to_owned(), text("18446744073709551615")),
            ])
        );
        assert_eq!(leaves["Booleans"], Terms::from([("b".to_owned(), Term::Bool(true))]));
        let list = |texts: &[&str]| Term::Set(texts.iter().map(|item| text(item)).collect());
        assert_eq!(
            leaves["Lists"],
            Terms::from([
                // integers_only writes a null element as the text `null`.
                ("list".to_owned(), list(&["x", "2", "false", "null", "y"])),
                ("empty".to_owned(), list(&[])),
                ("items".to_owned(), list(&[])),
                ("items/sku".to_owned(), list(&["A", "B"])),
                ("items/n".to_owned(), list(&["1"])),
            ])
        );
        assert_eq!(foreign_of(&json!("only"))["Texts"], Terms::from([(String::new(), text("only"))]));
    }

    #[test]
    fn names_are_escaped_as_cedar_reads_them() {
        let name = "a\"b\\c\n\u{7f}é\u{202e}\0";
        let parsed: cedar_policy::EntityUid = uid("Tool", name).to_string().parse().unwrap();
        assert_eq!(parsed.id().unescaped(), name);
    }
}
