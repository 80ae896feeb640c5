//! Canonical JSON (RFC 8785, JCS): the one form in which entries and disclosures are written.
//!
//! JCS is a rule for writers. Nothing that verifies ever calls this module on stored bytes: stored bytes are
//! hashed as they are.

use std::cmp::Ordering;
use std::io::Write as _;
use std::ops::Range;

use serde_json::{Map, Value};

/// Largest integer that every JSON reader carries exactly: 2^53 − 1.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Deepest nesting that is written. Common JSON readers, ours among them, stop at 128 levels, and entry and
/// disclosure put their own levels around a value: what is written must be readable.
pub const DEPTH_MAX: usize = 120;

/// Why a value has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonError {
    /// An integer that JSON readers would round.
    #[error("integer {value} at `{pointer}` is outside ±(2^53−1); write it as a string")]
    Integer {
        /// JSON pointer to the number.
        pointer: String,
        /// The number.
        value: String,
    },
    /// Nesting beyond [`DEPTH_MAX`].
    #[error("nesting at `{pointer}` is deeper than {DEPTH_MAX} levels")]
    Depth {
        /// JSON pointer to the place.
        pointer: String,
    },
}

impl CanonError {
    /// Puts the place of the value itself before the place inside it.
    pub(crate) fn under(self, prefix: &str) -> Self {
        match self {
            Self::Integer { pointer, value } => {
                Self::Integer { pointer: format!("{prefix}{pointer}"), value }
            }
            Self::Depth { pointer } => Self::Depth { pointer: format!("{prefix}{pointer}") },
        }
    }
}

/// Writes the canonical bytes of a value that goes into an entry or a disclosure.
pub fn entry_bytes(value: &Value) -> Result<Vec<u8>, CanonError> {
    let mut out = Vec::with_capacity(512);
    append_entry_bytes(value, &mut out)?;
    Ok(out)
}

/// Appends the canonical bytes of a value that goes into an entry or a disclosure.
pub(crate) fn append_entry_bytes(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonError> {
    let mut writer = Writer { out, exact: true, skip: None };
    writer.value(value, 0).map_err(CanonError::from)
}

/// Appends the canonical bytes of an object and returns the ranges of what remains when the members that `skipped`
/// picks, by the names that lead to them, are left out, commas included: the remaining ranges, put together, are the
/// canonical bytes of the object without these members.
pub(crate) fn append_with_skips(
    members: &Map<String, Value>,
    out: &mut Vec<u8>,
    skipped: &dyn Fn(&[&str]) -> bool,
) -> Result<Vec<Range<usize>>, CanonError> {
    let start = out.len();
    let mut writer =
        Writer { out, exact: true, skip: Some(Skip { skipped, path: Vec::new(), gaps: Vec::new() }) };
    writer.object(members, 0).map_err(CanonError::from)?;
    let gaps = writer.skip.map(|skip| skip.gaps).unwrap_or_default();
    let end = out.len();
    let mut kept = Vec::with_capacity(gaps.len() + 1);
    let mut from = start;
    for gap in gaps {
        kept.push(from..gap.start);
        from = gap.end;
    }
    kept.push(from..end);
    Ok(kept)
}

/// Writes the canonical bytes of a value that is only digested, where 64-bit integers are exact because our own
/// code reads them (policy inputs). Equal to [`entry_bytes`] whenever that succeeds.
pub fn digest_bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let mut writer = Writer { out: &mut out, exact: false, skip: None };
    // Without `exact` nothing stops the writer.
    let _ = writer.value(value, 0);
    out
}

/// Appends a text as a canonical JSON string.
pub(crate) fn append_string(text: &str, out: &mut Vec<u8>) {
    Writer { out, exact: false, skip: None }.string(text);
}

/// Escapes one reference token of a JSON pointer (RFC 6901).
pub fn escape_pointer(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Refuse what other readers would round or overflow on.
    exact: bool,
    /// Notes where members stand that somebody wants to leave out.
    skip: Option<Skip<'a>>,
}

struct Skip<'a> {
    skipped: &'a dyn Fn(&[&str]) -> bool,
    /// Names that lead to where the writer is.
    path: Vec<&'a str>,
    /// What to leave out, in order.
    gaps: Vec<Range<usize>>,
}

/// Where writing stopped; the path is collected on the way out, innermost first.
struct Stop {
    path: Vec<String>,
    cause: Cause,
}

enum Cause {
    Integer(String),
    Depth,
}

impl Stop {
    fn at(cause: Cause) -> Self {
        Self { path: Vec::new(), cause }
    }

    fn under(mut self, token: impl Into<String>) -> Self {
        self.path.push(token.into());
        self
    }
}

impl From<Stop> for CanonError {
    fn from(Stop { mut path, cause }: Stop) -> Self {
        path.reverse();
        let pointer = path.iter().fold(String::new(), |pointer, part| pointer + "/" + &escape_pointer(part));
        match cause {
            Cause::Integer(value) => Self::Integer { pointer, value },
            Cause::Depth => Self::Depth { pointer },
        }
    }
}

/// Bytes that a JSON string cannot hold as they are.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        escaped[byte] = true;
        byte += 1;
    }
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped
};

/// RFC 8785 section 3.2.3: by UTF-16 code units, which differs from the order of UTF-8 beyond the BMP.
fn utf16_order(a: &str, b: &str) -> Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

/// Tells whether a canonical number is an integer beyond ±(2^53−1).
fn is_large_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.parse::<u64>().is_ok_and(|magnitude| magnitude <= INTEGER_MAX)
}

impl<'a> Writer<'a> {
    fn value(&mut self, value: &'a Value, depth: usize) -> Result<(), Stop> {
        if self.exact && depth > DEPTH_MAX {
            return Err(Stop::at(Cause::Depth));
        }
        match value {
            Value::Null => self.out.extend_from_slice(b"null"),
            Value::Bool(true) => self.out.extend_from_slice(b"true"),
            Value::Bool(false) => self.out.extend_from_slice(b"false"),
            Value::Number(number) => self.number(number)?,
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                // Members below an array have no path of names.
                let skip = self.skip.take();
                self.out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.out.push(b',');
                    }
                    self.value(item, depth + 1).map_err(|stop| stop.under(index.to_string()))?;
                }
                self.out.push(b']');
                self.skip = skip;
            }
            Value::Object(members) => self.object(members, depth)?,
        }
        Ok(())
    }

    fn object(&mut self, members: &'a Map<String, Value>, depth: usize) -> Result<(), Stop> {
        self.out.push(b'{');
        // A map that is sorted by UTF-8, and is nearly always sorted by UTF-16 with it, needs no list.
        let sorted =
            members.keys().zip(members.keys().skip(1)).all(|(a, b)| utf16_order(a, b) == Ordering::Less);
        if sorted {
            self.members(members.iter(), depth)?;
        } else {
            let mut list: Vec<(&'a String, &'a Value)> = members.iter().collect();
            list.sort_by(|a, b| utf16_order(a.0, b.0));
            self.members(list.into_iter(), depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn members(
        &mut self,
        members: impl Iterator<Item = (&'a String, &'a Value)>,
        depth: usize,
    ) -> Result<(), Stop> {
        let mut kept = false;
        for (index, (name, member)) in members.enumerate() {
            let start = self.out.len();
            if index > 0 {
                self.out.push(b',');
            }
            let skipped = self.enter(name);
            // The comma of the first member that is kept goes when others stood before it.
            if !skipped && !kept && index > 0 {
                self.gap(start..start + 1);
            }
            kept |= !skipped;
            self.string(name);
            self.out.push(b':');
            if skipped {
                let skip = self.skip.take();
                self.value(member, depth + 1).map_err(|stop| stop.under(name.as_str()))?;
                self.skip = skip;
                self.gap(start..self.out.len());
            } else {
                self.value(member, depth + 1).map_err(|stop| stop.under(name.as_str()))?;
            }
            if let Some(skip) = &mut self.skip {
                skip.path.pop();
            }
        }
        Ok(())
    }

    /// Goes into a member; tells whether it is to be left out.
    fn enter(&mut self, name: &'a str) -> bool {
        let Some(skip) = &mut self.skip else { return false };
        skip.path.push(name);
        (skip.skipped)(&skip.path)
    }

    fn gap(&mut self, range: Range<usize>) {
        if let Some(skip) = &mut self.skip {
            skip.gaps.push(range);
        }
    }

    fn number(&mut self, number: &serde_json::Number) -> Result<(), Stop> {
        if let Some(integer) = number.as_i64() {
            if self.exact && integer.unsigned_abs() > INTEGER_MAX {
                return Err(Stop::at(Cause::Integer(integer.to_string())));
            }
            self.integer(integer);
        } else if let Some(integer) = number.as_u64() {
            if self.exact {
                return Err(Stop::at(Cause::Integer(integer.to_string())));
            }
            self.integer(integer);
        } else {
            // Only doubles are left; ECMAScript number formatting is the library's business.
            let text = serde_json_canonicalizer::to_string(number).unwrap_or_else(|_| number.to_string());
            // A large double is written as an integer, and readers take it for one: 1e17 is 100000000000000000.
            if self.exact && is_large_integer(&text) {
                return Err(Stop::at(Cause::Integer(text)));
            }
            self.out.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }

    fn integer(&mut self, integer: impl std::fmt::Display) {
        // Writing into memory does not fail.
        let _ = write!(self.out, "{integer}");
    }

    #[expect(clippy::indexing_slicing, reason = "a table of 256 has a place for every byte")]
    fn string(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.out.push(b'"');
        let mut rest = text.as_bytes();
        // What needs no escape, which is nearly everything, goes in one piece.
        while let Some(at) = rest.iter().position(|byte| ESCAPED[usize::from(*byte)]) {
            let (plain, tail) = rest.split_at(at);
            self.out.extend_from_slice(plain);
            let Some((&byte, tail)) = tail.split_first() else { break };
            match byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                0x08 => self.out.extend_from_slice(b"\\b"),
                0x09 => self.out.extend_from_slice(b"\\t"),
                0x0a => self.out.extend_from_slice(b"\\n"),
                0x0c => self.out.extend_from_slice(b"\\f"),
                0x0d => self.out.extend_from_slice(b"\\r"),
                _ => {
                    self.out.extend_from_slice(b"\\u00");
                    self.out.push(if byte < 0x10 { b'0' } else { b'1' });
                    self.out.extend(HEX.get(usize::from(byte & 0x0f)));
                }
            }
            rest = tail;
        }
        self.out.extend_from_slice(rest);
        self.out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            // Those that are written as integers beyond 2^53 − 1 are refused; a test of its own.
            any::<f64>().prop_map(|d| json!(if (9e15..1e21).contains(&d.abs()) { 0.5 } else { d })),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_an_independent_implementation(value in any_json()) {
            let other = serde_json_canonicalizer::to_vec(&value).unwrap();
            prop_assert_eq!(entry_bytes(&value).unwrap(), other.clone());
            prop_assert_eq!(digest_bytes(&value), other);
        }
    }

    proptest! {
        #[test]
        fn what_remains_without_skipped_members_is_canonical(value in any_json(), mask in any::<u64>()) {
            let Value::Object(members) = value else { return Ok(()) };
            let skipped = |path: &[&str]| {
                path.len() <= 2 && blake3::hash(path.join("/").as_bytes()).as_bytes()[0] & 1 == u8::from(mask & 1 == 1)
            };
            let mut out = b"before".to_vec();
            let kept = append_with_skips(&members, &mut out, &skipped).unwrap();
            prop_assert_eq!(&out[6..], entry_bytes(&Value::Object(members.clone())).unwrap());

            let mut rest = members;
            rest.retain(|name, _| !skipped(&[name]));
            for (name, member) in &mut rest {
                if let Value::Object(member) = member {
                    member.retain(|inner, _| !skipped(&[name, inner]));
                }
            }
            let kept: Vec<u8> = kept.into_iter().flat_map(|range| out[range].to_vec()).collect();
            prop_assert_eq!(kept, entry_bytes(&Value::Object(rest)).unwrap());
        }
    }

    #[test]
    fn sorts_by_utf16_code_units() {
        // U+10000 is a surrogate pair (0xD800…) and sorts before U+E000, unlike in UTF-8.
        let value = json!({"\u{e000}": 1, "\u{10000}": 2});
        assert_eq!(entry_bytes(&value).unwrap(), "{\"\u{10000}\":2,\"\u{e000}\":1}".as_bytes());
    }

    #[test]
    fn refuses_integers_that_readers_round_and_says_where() {
        assert!(entry_bytes(&json!({"a": 9_007_199_254_740_991_i64})).is_ok());
        let error = entry_bytes(&json!({"a": [1, {"b/c": 9_007_199_254_740_992_i64}]})).unwrap_err();
        assert_eq!(
            error,
            CanonError::Integer { pointer: "/a/1/b~1c".into(), value: "9007199254740992".into() }
        );
        assert_eq!(digest_bytes(&json!(u64::MAX)), b"18446744073709551615");
        // A double that is written as such an integer would be read as one.
        for double in [9_007_199_254_740_992.0, -1e17, 123_456_789_012_345_680_000.0] {
            assert!(matches!(entry_bytes(&json!([double])), Err(CanonError::Integer { .. })), "{double}");
        }
        assert_eq!(
            entry_bytes(&json!([9_007_199_254_740_991.0, 1e21])).unwrap(),
            b"[9007199254740991,1e+21]"
        );
    }

    #[test]
    fn refuses_bottomless_nesting() {
        let deep = (0..DEPTH_MAX + 2).fold(json!(1), |inner, _| json!([inner]));
        assert!(matches!(entry_bytes(&deep), Err(CanonError::Depth { .. })));
    }
}
