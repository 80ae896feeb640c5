//! Edits of an input document, by JSON pointer (RFC 6901).

use serde_json::{Map, Value, json};

use super::WhatIfError;
use super::schema::{self, Leaf};

/// Edits of one question.
pub const EDITS_MAX: usize = 64;
/// Bytes of one value.
pub const VALUE_BYTES_MAX: usize = 65_536;
/// Steps of one pointer.
const STEPS_MAX: usize = 32;
/// Items that a list may grow to by an edit.
const ITEMS_MAX: usize = 1_024;

/// One edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pointer: String,
    path: Vec<String>,
    change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Set(Value),
    Unset,
}

impl Edit {
    /// Sets a member to what a person wrote: a text where the schema has a text, else an integer, `true` or `false`
    /// where it is one, else a text. Decimal numbers are texts in an input document, as everywhere in it.
    pub fn set(pointer: &str, text: &str) -> Result<Self, WhatIfError> {
        bounded(pointer, text)?;
        let path = steps(pointer)?;
        let leaf = schema::place(&path).map_err(|reason| refused(pointer, reason))?;
        let wrong =
            |expected: &str| Err(refused(pointer, format!("{expected} is expected there, not `{text}`")));
        let value = match (leaf, text) {
            (Leaf::Text, _) => json!(text),
            (Leaf::Integer, _) => match text.parse::<i64>() {
                Ok(number) => json!(number),
                Err(_) => return wrong("an integer"),
            },
            (Leaf::Boolean | Leaf::Other, "true") => json!(true),
            (Leaf::Boolean | Leaf::Other, "false") => json!(false),
            (Leaf::Boolean, _) => return wrong("true or false"),
            (Leaf::Other, _) => text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number)),
        };
        Ok(Self { pointer: pointer.to_owned(), path, change: Change::Set(value) })
    }

    /// Sets a member to JSON.
    pub fn set_json(pointer: &str, value: &Value) -> Result<Self, WhatIfError> {
        bounded(pointer, &value.to_string())?;
        let path = steps(pointer)?;
        schema::place(&path).map_err(|reason| refused(pointer, reason))?;
        // What the builder writes for such values, an edit writes too.
        let value = crate::input::integers_only(value);
        Ok(Self { pointer: pointer.to_owned(), path, change: Change::Set(value) })
    }

    /// Takes a member away.
    pub fn unset(pointer: &str) -> Result<Self, WhatIfError> {
        let path = steps(pointer)?;
        schema::place(&path).map_err(|reason| refused(pointer, reason))?;
        if schema::is_required(&path) {
            return Err(refused(pointer, "every input has it, so it cannot be taken away".to_owned()));
        }
        Ok(Self { pointer: pointer.to_owned(), path, change: Change::Unset })
    }

    /// Reads `POINTER=TEXT`.
    pub fn parse_set(text: &str) -> Result<Self, WhatIfError> {
        let (pointer, value) = split(text)?;
        Self::set(pointer, value)
    }

    /// Reads `POINTER=JSON`.
    pub fn parse_set_json(text: &str) -> Result<Self, WhatIfError> {
        let (pointer, value) = split(text)?;
        let value = serde_json::from_str(value).map_err(|error| {
            refused(pointer, format!("`{value}` is not JSON: {error}; a text is \"in quotes\""))
        })?;
        Self::set_json(pointer, &value)
    }

    /// Returns the place.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    pub(super) fn is_below(&self, pointer: &str) -> bool {
        self.pointer == pointer
            || self.pointer.strip_prefix(pointer).is_some_and(|rest| rest.starts_with('/'))
    }

    pub(super) fn apply(&self, document: &mut Value) -> Result<(), WhatIfError> {
        let Some((last, above)) = self.path.split_last() else {
            return Err(refused(&self.pointer, "the whole document is not edited; name a member".to_owned()));
        };
        let mut here = document;
        for (depth, step) in above.iter().enumerate() {
            let below = above.get(depth + 1).unwrap_or(last);
            here = match self.step(here, step, below)? {
                Some(next) => next,
                // Nothing is there to be taken away.
                None => return Ok(()),
            };
        }
        match (here, &self.change) {
            (Value::Object(members), Change::Set(value)) => {
                members.insert(last.clone(), value.clone());
            }
            (Value::Object(members), Change::Unset) => {
                members.remove(last);
            }
            (Value::Array(items), Change::Set(value)) => match index(last, items.len()) {
                Some(at) if at < items.len() => {
                    if let Some(item) = items.get_mut(at) {
                        *item = value.clone();
                    }
                }
                Some(at) if at == items.len() && at < ITEMS_MAX => items.push(value.clone()),
                _ => return Err(self.no_item(last, items.len())),
            },
            (Value::Array(items), Change::Unset) => match index(last, items.len()) {
                Some(at) if at < items.len() => drop(items.remove(at)),
                _ => return Err(self.no_item(last, items.len())),
            },
            _ => return Err(refused(&self.pointer, format!("what is above `{last}` is a single value"))),
        }
        Ok(())
    }

    /// Goes one step down; what is missing on the way to a new value is made.
    fn step<'v>(
        &self,
        here: &'v mut Value,
        step: &str,
        below: &str,
    ) -> Result<Option<&'v mut Value>, WhatIfError> {
        let makes = matches!(self.change, Change::Set(_));
        match here {
            Value::Object(members) => {
                if !members.contains_key(step) {
                    if !makes {
                        return Ok(None);
                    }
                    let empty = if below == "-" { json!([]) } else { Value::Object(Map::new()) };
                    members.insert(step.to_owned(), empty);
                }
                Ok(members.get_mut(step))
            }
            Value::Array(items) => {
                let length = items.len();
                let at = index(step, length).filter(|at| *at < length);
                at.and_then(|at| items.get_mut(at)).map(Some).ok_or_else(|| self.no_item(step, length))
            }
            _ => Err(refused(&self.pointer, format!("what is above `{step}` is a single value"))),
        }
    }

    fn no_item(&self, step: &str, length: usize) -> WhatIfError {
        let has = if length == 1 { "1 item".to_owned() } else { format!("{length} items") };
        refused(
            &self.pointer,
            format!("there is no item `{step}`: the list has {has}, counted from 0; `-` adds one"),
        )
    }
}

fn split(text: &str) -> Result<(&str, &str), WhatIfError> {
    text.split_once('=')
        .ok_or_else(|| refused(text, "expected POINTER=VALUE, like /action/arguments/amount=900".to_owned()))
}

fn bounded(pointer: &str, text: &str) -> Result<(), WhatIfError> {
    if text.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(refused(pointer, format!("the value has {} bytes, more than {VALUE_BYTES_MAX}", text.len())))
}

fn steps(pointer: &str) -> Result<Vec<String>, WhatIfError> {
    let Some(rest) = pointer.strip_prefix('/') else {
        return Err(refused(pointer, "a place is written like /action/arguments/amount".to_owned()));
    };
    let steps: Vec<String> = rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    if steps.len() > STEPS_MAX {
        return Err(refused(
            pointer,
            format!("the place is {} steps deep, more than {STEPS_MAX}", steps.len()),
        ));
    }
    Ok(steps)
}

fn index(step: &str, length: usize) -> Option<usize> {
    if step == "-" { Some(length) } else { step.parse().ok() }
}

fn refused(pointer: &str, reason: String) -> WhatIfError {
    WhatIfError::Edit { pointer: pointer.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_gets_the_type_that_its_place_has() {
        let value = |edit: Edit| match edit.change {
            Change::Set(value) => value,
            Change::Unset => Value::Null,
        };
        assert_eq!(value(Edit::parse_set("/user/id=123").unwrap()), json!("123"));
        assert_eq!(value(Edit::parse_set("/action/arguments/amount=900").unwrap()), json!(900));
        assert_eq!(value(Edit::parse_set("/action/arguments/to=a=b").unwrap()), json!("a=b"));
        assert_eq!(value(Edit::parse_set("/agent/inherited=true").unwrap()), json!(true));
        assert_eq!(
            value(Edit::parse_set_json("/action/arguments={\"a\":1.5,\"b\":null}").unwrap()),
            json!({"a": "1.5"})
        );
        for (text, words) in [
            ("/event/seq=x", "an integer is expected"),
            ("/agent/inherited=yes", "true or false"),
            ("action=1", "written like"),
            ("/action/arguments/amount", "POINTER=VALUE"),
            ("/acton/name=x", "did you mean `action`?"),
        ] {
            let error = Edit::parse_set(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(Edit::parse_set_json("/action/arguments=x").unwrap_err().to_string().contains("is not JSON"));
        assert!(Edit::unset("/action/name").unwrap_err().to_string().contains("every input has it"));
        assert!(Edit::set("/user/id", &"x".repeat(VALUE_BYTES_MAX + 1)).is_err());
        assert!(Edit::set(&"/action/arguments".repeat(40), "1").is_err());
    }

    #[test]
    fn edits_go_into_objects_and_lists_and_make_what_is_missing() {
        let mut document = json!({"action": {"arguments": {"list": [1, 2]}}, "provenance": {"sources": []}});
        for edit in [
            Edit::parse_set("/action/arguments/a/b=7").unwrap(),
            Edit::parse_set("/action/arguments/list/0=5").unwrap(),
            Edit::parse_set("/action/arguments/list/-=6").unwrap(),
            Edit::unset("/action/arguments/list/1").unwrap(),
            Edit::unset("/user").unwrap(),
            Edit::parse_set_json("/provenance/sources/-={\"kind\":\"memory\",\"trust\":\"unverified\"}")
                .unwrap(),
            Edit::parse_set("/action/arguments/a~1b=1").unwrap(),
        ] {
            edit.apply(&mut document).unwrap();
        }
        assert_eq!(
            document,
            json!({"action": {"arguments": {"list": [5, 6], "a": {"b": 7}, "a/b": 1}},
                "provenance": {"sources": [{"kind": "memory", "trust": "unverified"}]}})
        );
        let error = Edit::parse_set("/action/arguments/list/9=1").unwrap().apply(&mut document).unwrap_err();
        assert!(error.to_string().contains("there is no item `9`: the list has 2 items"), "{error}");
        assert!(Edit::parse_set("/action/arguments/list/0/x=1").unwrap().apply(&mut document).is_err());
    }
}
