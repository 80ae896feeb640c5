//! The attributes of one foreign record, from which a profile takes what it understands.
//!
//! INVARIANT: a value leaves the bag only when it is carried whole by a field of the event; everything else ends
//! in `attributes`. A number that canonical JSON cannot carry is a string here already, and the bag knows which.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::decimal::{Decimal, Nano};
use super::json::read_embedded;
use crate::canon::{INTEGER_MAX, escape_pointer};

/// Longest text that becomes a field of the statement; longer text stays in `attributes`, which can be erased.
pub(super) const TEXT_BYTES_MAX: usize = 2048;
/// Deepest nesting of JSON that a source sent inside a string.
const EMBEDDED_DEPTH_MAX: usize = 48;

/// A value with the JSON pointers, relative to it, of numbers that are carried as strings.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Held {
    pub(super) value: Value,
    pub(super) restated: Vec<String>,
}

impl Held {
    /// Moves the value out and adds its pointers, now under `prefix`, to `restated`.
    pub(super) fn unpack(self, prefix: &str, restated: &mut Vec<String>) -> Value {
        restated.extend(self.restated.into_iter().map(|pointer| format!("{prefix}{pointer}")));
        self.value
    }
}

impl From<Value> for Held {
    fn from(value: Value) -> Self {
        Self { value, restated: Vec::new() }
    }
}

/// Names up to which looking at each of them is faster than halving the list.
const SCAN_MAX: usize = 32;

/// Attributes by name.
///
/// A sorted list, not a tree: a record has tens of attributes, is built once, asked a few dozen times and turned into
/// the event's own map once, and each of these is one pass.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Fields {
    /// Sorted by name; each name once.
    held: Vec<(String, Held)>,
    /// Every value of a name that occurs more than once. The convention says it must not; which one the source
    /// meant is not ours to pick, so that no profile sees them.
    ambiguous: BTreeMap<String, Vec<Held>>,
}

impl FromIterator<(String, Held)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, Held)>>(pairs: I) -> Self {
        Self::from_pairs(pairs.into_iter().collect())
    }
}

impl Fields {
    /// Makes a bag of attributes in any order; a name that comes twice is ambiguous.
    pub(super) fn from_pairs(mut held: Vec<(String, Held)>) -> Self {
        held.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut ambiguous: BTreeMap<String, Vec<Held>> = BTreeMap::new();
        let twice = |pair: &[(String, Held)]| matches!(pair, [(one, _), (other, _)] if one == other);
        if held.windows(2).any(twice) {
            let mut once: Vec<(String, Held)> = Vec::with_capacity(held.len());
            for (name, value) in held {
                match once.pop() {
                    Some((last, first)) if last == name => {
                        ambiguous.insert(name, vec![first, value]);
                    }
                    last => {
                        once.extend(last);
                        match ambiguous.get_mut(&name) {
                            Some(values) => values.push(value),
                            None => once.push((name, value)),
                        }
                    }
                }
            }
            held = once;
        }
        Self { held, ambiguous }
    }

    /// Makes a bag of an object's members; `restated` are pointers from the object.
    pub(super) fn from_object(members: Map<String, Value>, restated: &[String]) -> Self {
        let pairs = members.into_iter().map(|(name, value)| {
            let mut held = Held::from(value);
            if !restated.is_empty() {
                let prefix = format!("/{}", escape_pointer(&name));
                let under = restated.iter().filter_map(|pointer| pointer.strip_prefix(prefix.as_str()));
                held.restated = under
                    .filter(|rest| rest.is_empty() || rest.starts_with('/'))
                    .map(str::to_owned)
                    .collect();
            }
            (name, held)
        });
        pairs.collect()
    }

    fn position(&self, name: &str) -> Option<usize> {
        if self.held.len() <= SCAN_MAX {
            self.held.iter().position(|(known, _)| known == name)
        } else {
            self.held.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()
        }
    }

    /// Puts a value in the place of one of the same name, if there is one.
    fn set(&mut self, name: &str, value: Held) {
        match self.held.binary_search_by(|(known, _)| known.as_str().cmp(name)) {
            Ok(at) => {
                if let Some((_, held)) = self.held.get_mut(at) {
                    *held = value;
                }
            }
            Err(at) => self.held.insert(at, (name.to_owned(), value)),
        }
    }

    /// Takes a value if `read` can make something of it.
    fn take_if<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let at = self.position(name)?;
        let made = read(&self.held.get(at)?.1.value)?;
        self.held.remove(at);
        Some(made)
    }

    /// Works on the members of an object inside the bag; what is left of it stays in its place. An object of which
    /// everything was taken is gone.
    pub(super) fn within<T>(&mut self, name: &str, inside: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.get(name)?.as_object()?.is_empty() {
            return None;
        }
        let Held { value: Value::Object(members), restated } = self.take(name)? else { return None };
        let mut inner = Self::from_object(members, &restated);
        let result = inside(&mut inner);
        if !inner.is_empty() {
            let mut held = Held::default();
            held.value = Value::Object(inner.into_map("", &[], &mut held.restated));
            self.set(name, held);
        }
        Some(result)
    }

    /// Reads JSON that was sent inside a string, in its place.
    pub(super) fn unfold(&mut self, name: &str) {
        if let Some(held) = self.json(name) {
            self.set(name, held);
        }
    }

    /// Takes everything with a prefix, by the rest of its name.
    pub(super) fn take_prefix(&mut self, prefix: &str) -> Vec<(String, Held)> {
        let from = self.held.partition_point(|(name, _)| name.as_str() < prefix);
        let count = self.held.iter().skip(from).take_while(|(name, _)| name.starts_with(prefix)).count();
        let taken = self.held.drain(from..from.saturating_add(count));
        taken
            .map(|(mut name, held)| {
                name.drain(..prefix.len());
                (name, held)
            })
            .collect()
    }

    /// Drops members that are null, for formats in which null says nothing.
    pub(super) fn drop_nulls(&mut self) {
        self.held.retain(|(_, held)| !held.value.is_null());
    }

    /// Writes integers and truth values as text, for formats in which both are one value.
    pub(super) fn scalars_as_text(&mut self, is_meant: impl Fn(&str) -> bool) {
        for (_, held) in self.held.iter_mut().filter(|(name, _)| is_meant(name)) {
            let text = match &held.value {
                Value::Number(number) if !number.is_f64() => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                _ => continue,
            };
            held.value = Value::String(text);
        }
    }

    /// Takes a list that holds only short texts, or one short text.
    pub(super) fn texts(&mut self, name: &str, count_max: usize) -> Option<Vec<String>> {
        let fits = |text: &str| !text.is_empty() && text.len() <= TEXT_BYTES_MAX;
        self.take_if(name, |value| match value {
            Value::String(text) if fits(text) => Some(vec![text.clone()]),
            Value::Array(items) if !items.is_empty() && items.len() <= count_max => {
                let text = |item: &Value| item.as_str().filter(|text| fits(text)).map(str::to_owned);
                items.iter().map(text).collect()
            }
            _ => None,
        })
    }

    /// Puts back what was taken.
    pub(super) fn restore(&mut self, name: &str, value: Held) {
        self.set(name, value);
    }

    /// Returns the names that occur more than once.
    pub(super) fn ambiguous_names(&self) -> impl Iterator<Item = &str> {
        self.ambiguous.keys().map(String::as_str)
    }

    /// Looks at a value.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.held.get(self.position(name)?).map(|(_, held)| &held.value)
    }

    /// Looks at a text.
    pub(super) fn get_text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Tells whether a name with this prefix is there.
    pub(super) fn has_prefix(&self, prefix: &str) -> bool {
        let from = self.held.partition_point(|(name, _)| name.as_str() < prefix);
        self.held.get(from).is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// Takes a value as it is.
    pub(super) fn take(&mut self, name: &str) -> Option<Held> {
        self.position(name).map(|at| self.held.remove(at).1)
    }

    /// Takes a text that fits into the statement. Empty text says nothing and stays.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let at = self.position(name)?;
        match &mut self.held.get_mut(at)?.1.value {
            Value::String(text) if !text.is_empty() && text.len() <= TEXT_BYTES_MAX => {
                let text = std::mem::take(text);
                self.held.remove(at);
                Some(text)
            }
            _ => None,
        }
    }

    /// Takes the first of several names that holds a usable text.
    pub(super) fn first_text(&mut self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    /// Takes a count: a non-negative integer, or its decimal text, which several clients send.
    pub(super) fn count(&mut self, name: &str) -> Option<u64> {
        self.take_if(name, |value| {
            match value {
                Value::Number(number) => number.as_u64(),
                Value::String(text) if text.len() <= 16 => text.parse().ok(),
                _ => None,
            }
            .filter(|&count| count <= INTEGER_MAX)
        })
    }

    /// Takes the first of several names that holds a count.
    pub(super) fn first_count(&mut self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|name| self.count(name))
    }

    /// Takes a boolean or its text.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.take_if(name, |value| match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) if text == "true" => Some(true),
            Value::String(text) if text == "false" => Some(false),
            _ => None,
        })
    }

    /// Takes a value, reading JSON that was sent inside a string.
    pub(super) fn json(&mut self, name: &str) -> Option<Held> {
        let held = self.take(name)?;
        Some(match held.value.as_str().and_then(|text| read_embedded(text, EMBEDDED_DEPTH_MAX)) {
            Some(value) => Held::from(value),
            None => held,
        })
    }

    /// Takes the first of several names that holds anything.
    pub(super) fn first_json(&mut self, names: &[&str]) -> Option<Held> {
        names.iter().find_map(|name| self.json(name))
    }

    /// Reads JSON that was sent inside a string and leaves it where it is.
    pub(super) fn peek_json(&self, name: &str) -> Option<Value> {
        match self.get(name)? {
            Value::String(text) => read_embedded(text, EMBEDDED_DEPTH_MAX),
            other => Some(other.clone()),
        }
    }

    /// Takes an amount in 10^-9 units. An amount that had to be rounded is read and stays.
    pub(super) fn nano(&mut self, name: &str) -> Option<i64> {
        let at = self.position(name)?;
        let Nano { value, exact } = decimal(&self.held.get(at)?.1.value)?.to_nano()?;
        if exact {
            self.held.remove(at);
        }
        Some(value)
    }

    /// Tells whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.ambiguous.is_empty()
    }

    /// Returns what is left under its own names; the values of ambiguous names and of `reserved` names come as
    /// lists under `otlp.ambiguous`.
    pub(super) fn into_map(
        self,
        prefix: &str,
        reserved: &[&str],
        restated: &mut Vec<String>,
    ) -> Map<String, Value> {
        self.into_map_with(prefix, reserved, restated, |_, _| {})
    }

    /// The same, with more members that `more` adds.
    pub(super) fn into_map_with(
        self,
        prefix: &str,
        reserved: &[&str],
        restated: &mut Vec<String>,
        more: impl FnOnce(&mut Vec<(String, Value)>, &mut Vec<String>),
    ) -> Map<String, Value> {
        const AMBIGUOUS: &str = "otlp.ambiguous";
        let mut members =
            Vec::with_capacity(self.held.len().saturating_add(reserved.len()).saturating_add(1));
        let mut ambiguous = self.ambiguous;
        for (name, held) in self.held {
            if name == AMBIGUOUS || reserved.contains(&name.as_str()) {
                ambiguous.entry(name).or_default().push(held);
            } else if held.restated.is_empty() {
                members.push((name, held.value));
            } else {
                let pointer = format!("{prefix}/{}", escape_pointer(&name));
                let value = held.unpack(&pointer, restated);
                members.push((name, value));
            }
        }
        if !ambiguous.is_empty() {
            let lists = ambiguous.into_iter().map(|(name, values)| {
                let pointer = format!("{prefix}/{AMBIGUOUS}/{}", escape_pointer(&name));
                let values = values
                    .into_iter()
                    .enumerate()
                    .map(|(index, held)| held.unpack(&format!("{pointer}/{index}"), restated));
                (name, Value::Array(values.collect()))
            });
            let lists: Map<String, Value> = lists.collect();
            members.push((AMBIGUOUS.to_owned(), Value::Object(lists)));
        }
        more(&mut members, restated);
        // Built in one go, which is several times cheaper than member by member.
        members.into_iter().collect()
    }
}

/// Reads a JSON number, or the text of one, as a decimal.
pub(super) fn decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(double) if number.is_f64() => Decimal::of(double),
            _ => Decimal::parse(&number.to_string()),
        },
        Value::String(text) if text.len() <= 64 => Decimal::parse(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bag(members: &Value) -> Fields {
        let members = members.as_object().unwrap().clone();
        members.into_iter().map(|(name, value)| (name, Held::from(value))).collect()
    }

    #[test]
    fn only_what_is_carried_whole_leaves_the_bag() {
        let mut fields = bag(&json!({
            "long": "x".repeat(TEXT_BYTES_MAX + 1), "empty": "", "n": "12", "neg": -1, "half": 1.5,
            "exact": 0.0023, "rounded": 0.005_354_999_999_999_999_5, "args": "{\"a\":1}", "bad": "{\"a\":1,\"a\":2}",
        }));
        assert_eq!(fields.text("long"), None);
        assert_eq!(fields.text("empty"), None);
        assert_eq!(fields.count("n"), Some(12));
        assert_eq!(fields.count("neg"), None);
        assert_eq!(fields.count("half"), None);
        assert_eq!(fields.nano("exact"), Some(2_300_000));
        assert_eq!(fields.nano("rounded"), Some(5_355_000));
        assert_eq!(fields.json("args").unwrap().value, json!({"a": 1}));
        assert_eq!(fields.json("bad").unwrap().value, json!("{\"a\":1,\"a\":2}"));
        let left: Vec<_> = fields.into_map("", &[], &mut Vec::new()).keys().cloned().collect();
        assert_eq!(left, ["empty", "half", "long", "neg", "rounded"]);
    }

    #[test]
    fn nobody_picks_between_two_values_of_one_name() {
        let held = |value: Value| Held { value, restated: vec![String::new()] };
        let pairs = [("a/b", 1), ("otlp.span", 1), ("a/b", 2), ("b", 2), ("a/b", 3)];
        let mut fields: Fields =
            pairs.into_iter().map(|(name, value)| (name.to_owned(), held(json!(value)))).collect();
        assert_eq!(fields.ambiguous_names().collect::<Vec<_>>(), ["a/b"]);
        assert_eq!(fields.take("a/b"), None);
        let mut restated = Vec::new();
        let map = fields.into_map("/attributes", &["otlp.span"], &mut restated);
        assert_eq!(
            Value::Object(map),
            json!({"b": 2, "otlp.ambiguous": {"a/b": [1, 2, 3], "otlp.span": [1]}})
        );
        assert_eq!(
            restated,
            [
                "/b",
                "/otlp.ambiguous/a~1b/0",
                "/otlp.ambiguous/a~1b/1",
                "/otlp.ambiguous/a~1b/2",
                "/otlp.ambiguous/otlp.span/0"
            ]
            .map(|pointer| format!("/attributes{pointer}"))
        );
    }
}
