//! Strict JSON: every JSON input is read here, so that no body means two things to two readers.
//!
//! On top of `serde_json`: duplicate member names are refused, nesting and size are bounded, and a number that
//! canonical JSON cannot carry exactly is found instead of rounded.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::decimal::Decimal;
use crate::canon::{INTEGER_MAX, escape_pointer};

/// What to do with numbers that canonical JSON cannot carry exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// Refuse them: the text is the meaning.
    Exact,
    /// Read them as the nearest double, as formats do that declare a number to be one.
    Double,
    /// Carry their text as a string: it is a foreign format's number, and rounding it would be ours.
    Restated,
}

/// Bounds of one JSON document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Deepest nesting.
    pub(crate) depth_max: usize,
    /// Most values in the document; bounds memory, which a body can otherwise multiply many times.
    pub(crate) nodes_max: usize,
    /// Numbers.
    pub(crate) numbers: Numbers,
}

/// Why a text is not a JSON document that can be taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The bytes are not UTF-8.
    #[error("byte {offset} is not valid UTF-8")]
    Utf8 {
        /// Offset of the first bad byte.
        offset: usize,
    },
    /// The text ends inside a value.
    #[error("the text ends at byte {offset} inside a value")]
    Truncated {
        /// Where it ends.
        offset: usize,
    },
    /// Not JSON.
    #[error("not JSON at byte {offset}: {message}")]
    Syntax {
        /// Offset of the problem.
        offset: usize,
        /// What the reader saw.
        message: String,
    },
    /// A member name occurs twice in one object.
    #[error("member `{name}` occurs twice in one object, the second time before byte {offset}")]
    Duplicate {
        /// The name.
        name: String,
        /// Offset just after the second.
        offset: usize,
    },
    /// Nested too deeply.
    #[error("nesting at byte {offset} is deeper than {max} levels")]
    Depth {
        /// Offset of the level too many.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// Too many values.
    #[error("more than {max} values in one document at byte {offset}; send smaller bodies")]
    Nodes {
        /// Offset of the value too many.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// A number that readers would round.
    #[error("number `{text}` at byte {offset} is not carried exactly by JSON readers; write it as a string")]
    Number {
        /// The number as written, shortened.
        text: String,
        /// Its offset.
        offset: usize,
    },
}

impl JsonError {
    /// Returns the byte offset of the problem.
    pub const fn offset(&self) -> usize {
        match self {
            Self::Utf8 { offset }
            | Self::Truncated { offset }
            | Self::Syntax { offset, .. }
            | Self::Duplicate { offset, .. }
            | Self::Depth { offset, .. }
            | Self::Nodes { offset, .. }
            | Self::Number { offset, .. } => *offset,
        }
    }

    /// Moves the offset from the document to the body that holds it.
    pub(crate) const fn shifted(mut self, by: usize) -> Self {
        match &mut self {
            Self::Utf8 { offset }
            | Self::Truncated { offset }
            | Self::Syntax { offset, .. }
            | Self::Duplicate { offset, .. }
            | Self::Depth { offset, .. }
            | Self::Nodes { offset, .. }
            | Self::Number { offset, .. } => *offset = offset.saturating_add(by),
        }
        self
    }
}

/// Reads one document; under [`Numbers::Restated`] also returns the JSON pointers of numbers that became strings.
pub(crate) fn read_restated(bytes: &[u8], rules: Rules) -> Result<(Value, Vec<String>), JsonError> {
    let value = read(bytes, rules)?;
    let restating = rules.numbers == Numbers::Restated;
    let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| restating && has_inexact_number(text))
    else {
        return Ok((value, Vec::new()));
    };
    // The document is read again with those numbers quoted and marked by something that is nowhere in it.
    let mark = (0..u32::MAX).map(|n| format!("#{n}#")).find(|mark| !text.contains(mark.as_str()));
    let mark = mark.unwrap_or_default();
    let mut quoted = String::with_capacity(text.len().saturating_add(64));
    let mut copied = 0;
    let mut from = 0;
    while let Some((at, token)) = inexact_number(text, from) {
        quoted.push_str(text.get(copied..at).unwrap_or_default());
        quoted.push('"');
        quoted.push_str(&mark);
        quoted.push_str(token);
        quoted.push('"');
        copied = at.saturating_add(token.len());
        from = copied;
    }
    quoted.push_str(text.get(copied..).unwrap_or_default());
    let mut value = read(quoted.as_bytes(), rules)?;
    let mut pointers = Vec::new();
    unmark(&mut value, &mark, &mut String::new(), &mut pointers);
    Ok((value, pointers))
}

fn has_inexact_number(text: &str) -> bool {
    inexact_number(text, 0).is_some()
}

/// Takes the mark off and lists where it was.
fn unmark(value: &mut Value, mark: &str, path: &mut String, pointers: &mut Vec<String>) {
    let mut under = |token: &str, inner: &mut Value| {
        let len = path.len();
        path.push('/');
        path.push_str(token);
        unmark(inner, mark, path, pointers);
        path.truncate(len);
    };
    match value {
        Value::Array(items) => {
            items.iter_mut().enumerate().for_each(|(index, item)| under(&index.to_string(), item));
        }
        Value::Object(members) => {
            members.iter_mut().for_each(|(name, member)| under(&escape_pointer(name), member));
        }
        Value::String(text) => {
            if let Some(number) = text.strip_prefix(mark) {
                *text = number.to_owned();
                pointers.push(path.clone());
            }
        }
        _ => {}
    }
}

/// Names the type of a value.
pub(crate) const fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Reads one document that fills `bytes` but for white space.
pub(crate) fn read(bytes: &[u8], rules: Rules) -> Result<Value, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|error| JsonError::Utf8 { offset: error.valid_up_to() })?;
    let state = State { rules, nodes: 0, violation: None };
    let state = RefCell::new(state);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Seed { state: &state, depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| explain(text, &error, state.borrow_mut().violation.take(), rules))?;
    if rules.numbers == Numbers::Exact
        && let Some((offset, token)) = inexact_number(text, 0)
    {
        return Err(JsonError::Number { text: token.chars().take(40).collect(), offset });
    }
    Ok(value)
}

/// Reads a JSON object or array that a source sent inside a string; anything else is `None` and stays a string.
pub(crate) fn read_embedded(text: &str, depth_max: usize) -> Option<Value> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    read(text.as_bytes(), Rules { depth_max, nodes_max: 200_000, numbers: Numbers::Exact }).ok()
}

enum Violation {
    Duplicate(String),
    Depth,
    Nodes,
}

struct State {
    rules: Rules,
    nodes: usize,
    violation: Option<Violation>,
}

fn explain(text: &str, error: &serde_json::Error, violation: Option<Violation>, rules: Rules) -> JsonError {
    let offset = offset_of(text, error.line(), error.column());
    match violation {
        Some(Violation::Duplicate(name)) => JsonError::Duplicate { name, offset },
        Some(Violation::Depth) => JsonError::Depth { offset, max: rules.depth_max },
        Some(Violation::Nodes) => JsonError::Nodes { offset, max: rules.nodes_max },
        None if error.is_eof() => JsonError::Truncated { offset: text.len() },
        None => {
            let message = error.to_string();
            // The reader's own line and column count inside the document; ours is the offset.
            let message =
                message.rsplit_once(" at line ").map_or(message.as_str(), |(head, _)| head).to_owned();
            JsonError::Syntax { offset, message }
        }
    }
}

fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before: usize =
        text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).fold(0, usize::saturating_add);
    before.saturating_add(column.saturating_sub(1)).min(text.len())
}

struct Seed<'s> {
    state: &'s RefCell<State>,
    depth: usize,
}

impl Seed<'_> {
    fn enter<E: serde::de::Error>(&self) -> Result<(), E> {
        let mut state = self.state.borrow_mut();
        if self.depth >= state.rules.depth_max {
            state.violation = Some(Violation::Depth);
            return Err(E::custom("nesting"));
        }
        Ok(())
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let mut state = self.state.borrow_mut();
        state.nodes = state.nodes.saturating_add(1);
        if state.nodes > state.rules.nodes_max {
            state.violation = Some(Violation::Nodes);
            return Err(E::custom("size"));
        }
        Ok(())
    }

    const fn inner(&self) -> Self {
        Self { state: self.state, depth: self.depth.saturating_add(1) }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.enter()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.inner())? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.enter()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.contains_key(&name) {
                self.state.borrow_mut().violation =
                    Some(Violation::Duplicate(name.chars().take(80).collect()));
                return Err(A::Error::custom("duplicate"));
            }
            let value = map.next_value_seed(self.inner())?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

/// Finds the first number of a valid document that a double does not carry exactly, with its offset. The search
/// starts outside of a string.
fn inexact_number(text: &str, from: usize) -> Option<(usize, &str)> {
    let bytes = text.as_bytes();
    let mut at = from;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at += 1;
                while let Some(&inner) = bytes.get(at) {
                    at += if inner == b'\\' { 2 } else { 1 };
                    if inner == b'"' {
                        break;
                    }
                }
            }
            b'-' | b'0'..=b'9' => {
                let rest = text.get(at..)?;
                let len = rest
                    .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
                    .unwrap_or(rest.len());
                let token = rest.get(..len)?;
                if !is_exact(token) {
                    return Some((at, token));
                }
                at += len;
            }
            _ => at += 1,
        }
    }
    None
}

fn is_exact(token: &str) -> bool {
    if !token.contains(['.', 'e', 'E']) {
        // Short tokens dominate and cannot be out of range.
        return token.len() <= 15
            || token
                .strip_prefix('-')
                .unwrap_or(token)
                .parse::<u64>()
                .is_ok_and(|magnitude| magnitude <= INTEGER_MAX);
    }
    let Ok(double) = token.parse::<f64>() else { return false };
    // Some doubles have two shortest decimals, and writers differ in which they choose: 1577465262306521.25 is
    // written with .2 or .3 at its end. Both read back as the double, and neither says more than the other.
    let as_short = |written: Decimal, shortest: Decimal| written.digits() == shortest.digits();
    is_carried(double) && Decimal::parse(token).zip(Decimal::of(double)).is_some_and(|(w, s)| as_short(w, s))
}

/// Tells whether canonical JSON carries a double so that every reader gets it back: finite, no negative zero, and
/// no integer beyond 2^53 − 1, which readers take for an integer and round or refuse.
pub(crate) fn is_carried(double: f64) -> bool {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    double.is_finite() && double.abs() <= LARGEST && !(double == 0.0 && double.is_sign_negative())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const RULES: Rules = Rules { depth_max: 8, nodes_max: 100, numbers: Numbers::Exact };

    fn refusal(text: &str) -> JsonError {
        read(text.as_bytes(), RULES).unwrap_err()
    }

    #[test]
    fn refuses_what_two_readers_would_read_differently() {
        assert!(
            matches!(refusal(r#"{"a":1,"b":{"c":1,"c":2}}"#), JsonError::Duplicate { name, .. } if name == "c")
        );
        // The same name spelled with an escape is the same name.
        assert!(matches!(refusal(r#"{"a":1,"\u0061":2}"#), JsonError::Duplicate { name, .. } if name == "a"));
        for (text, offset) in [
            (r#"{"a":9007199254740992}"#, 5),
            (r#"{"a":-9007199254740992}"#, 5),
            (r"[1,100000000000000000000000]", 3),
            (r"[1e17]", 1),
            (r"[0.12345678901234567891]", 1),
            (r"[1e-400]", 1),
        ] {
            assert!(
                matches!(refusal(text), JsonError::Number { offset: at, .. } if at == offset),
                "{text}: {:?}",
                refusal(text)
            );
        }
        assert_eq!(
            read(br#"{"a":[9007199254740991,0.1,1.50,1e3,"9007199254740993",0.30000000000000004]}"#, RULES)
                .unwrap(),
            json!({"a": [9_007_199_254_740_991_u64, 0.1, 1.5, 1000.0, "9007199254740993", 0.300_000_000_000_000_04]})
        );
    }

    #[test]
    fn names_the_offset_of_what_is_wrong() {
        assert_eq!(refusal("{\"a\":1"), JsonError::Truncated { offset: 6 });
        assert!(
            matches!(refusal("{\"a\":x}"), JsonError::Syntax { offset: 5, .. }),
            "{:?}",
            refusal("{\"a\":x}")
        );
        assert!(matches!(refusal("{\n\"a\":x}"), JsonError::Syntax { offset: 6, .. }));
        assert!(matches!(refusal("{} {}"), JsonError::Syntax { .. }));
        assert_eq!(read(b"{\"a\":\"\xff\"}", RULES).unwrap_err(), JsonError::Utf8 { offset: 6 });
        assert!(matches!(refusal("[[[[[[[[[1]]]]]]]]]"), JsonError::Depth { max: 8, .. }));
        assert!(read(b"[[[[[[[[1]]]]]]]]", RULES).is_ok());
        assert!(matches!(refusal(&format!("[{}1]", "1,".repeat(100))), JsonError::Nodes { max: 100, .. }));
    }

    #[test]
    fn a_double_with_two_shortest_decimals_is_accepted_as_either() {
        for text in ["[1577465262306521.2]", "[-1577465262306521.3]"] {
            assert!(read(text.as_bytes(), RULES).is_ok(), "{text}");
        }
        assert!(matches!(refusal("[1577465262306521.25]"), JsonError::Number { .. }));
        assert!(matches!(refusal("[0.10000000000000001]"), JsonError::Number { .. }));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, RULES);
        }

        #[test]
        fn whatever_it_accepts_is_written_back_the_same(text in r#"[\[\]\{\}:,"0-9eE.+\-a ]{0,24}"#) {
            if let Ok(value) = read(text.as_bytes(), RULES) {
                let bytes = crate::canon::entry_bytes(&value).unwrap();
                prop_assert_eq!(crate::canon::entry_bytes(&read(&bytes, RULES).unwrap()).unwrap(), bytes);
            }
        }

        #[test]
        fn every_double_that_is_carried_is_accepted(double in any::<f64>()) {
            if is_carried(double) {
                let text = json!([double]).to_string();
                prop_assert!(read(text.as_bytes(), RULES).is_ok(), "{}", text);
            }
        }
    }
}
