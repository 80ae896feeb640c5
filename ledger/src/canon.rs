//! Canonical JSON (RFC 8785, JCS): the one form in which entries and disclosures are written.
//!
//! JCS is a rule for writers. Nothing that verifies ever calls this module on stored bytes: stored bytes are
//! hashed as they are.

use serde_json::Value;

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

/// Writes the canonical bytes of a value that goes into an entry or a disclosure.
pub fn entry_bytes(value: &Value) -> Result<Vec<u8>, CanonError> {
    let mut writer = Writer { out: Vec::with_capacity(512), exact: true };
    match writer.value(value, 0) {
        Ok(()) => Ok(writer.out),
        Err(Stop { mut path, cause }) => {
            path.reverse();
            let pointer =
                path.iter().fold(String::new(), |pointer, part| pointer + "/" + &escape_pointer(part));
            Err(match cause {
                Cause::Integer(value) => CanonError::Integer { pointer, value },
                Cause::Depth => CanonError::Depth { pointer },
            })
        }
    }
}

/// Writes the canonical bytes of a value that is only digested, where 64-bit integers are exact because our own
/// code reads them (policy inputs). Equal to [`entry_bytes`] whenever that succeeds.
pub fn digest_bytes(value: &Value) -> Vec<u8> {
    let mut writer = Writer { out: Vec::with_capacity(512), exact: false };
    // Without `exact` nothing stops the writer.
    let _ = writer.value(value, 0);
    writer.out
}

/// Escapes one reference token of a JSON pointer (RFC 6901).
pub fn escape_pointer(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

struct Writer {
    out: Vec<u8>,
    /// Refuse what other readers would round or overflow on.
    exact: bool,
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

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Stop> {
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
                self.out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.out.push(b',');
                    }
                    self.value(item, depth + 1).map_err(|stop| stop.under(index.to_string()))?;
                }
                self.out.push(b']');
            }
            Value::Object(members) => {
                let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
                // RFC 8785 section 3.2.3: by UTF-16 code units, which differs from UTF-8 order beyond the BMP.
                sorted.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
                self.out.push(b'{');
                for (index, (name, member)) in sorted.into_iter().enumerate() {
                    if index > 0 {
                        self.out.push(b',');
                    }
                    self.string(name);
                    self.out.push(b':');
                    self.value(member, depth + 1).map_err(|stop| stop.under(name.as_str()))?;
                }
                self.out.push(b'}');
            }
        }
        Ok(())
    }

    fn number(&mut self, number: &serde_json::Number) -> Result<(), Stop> {
        if let Some(integer) = number.as_i64() {
            if self.exact && integer.unsigned_abs() > INTEGER_MAX {
                return Err(Stop::at(Cause::Integer(integer.to_string())));
            }
            self.out.extend_from_slice(integer.to_string().as_bytes());
        } else if let Some(integer) = number.as_u64() {
            if self.exact {
                return Err(Stop::at(Cause::Integer(integer.to_string())));
            }
            self.out.extend_from_slice(integer.to_string().as_bytes());
        } else {
            // Only doubles are left; ECMAScript number formatting is the library's business.
            let text = serde_json_canonicalizer::to_string(number).unwrap_or_else(|_| number.to_string());
            self.out.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }

    fn string(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.out.push(b'"');
        for byte in text.bytes() {
            match byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                0x08 => self.out.extend_from_slice(b"\\b"),
                0x09 => self.out.extend_from_slice(b"\\t"),
                0x0a => self.out.extend_from_slice(b"\\n"),
                0x0c => self.out.extend_from_slice(b"\\f"),
                0x0d => self.out.extend_from_slice(b"\\r"),
                0x00..=0x1f => {
                    self.out.extend_from_slice(b"\\u00");
                    self.out.push(if byte < 0x10 { b'0' } else { b'1' });
                    self.out.extend(HEX.get(usize::from(byte & 0x0f)));
                }
                _ => self.out.push(byte),
            }
        }
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
            any::<f64>().prop_map(|double| json!(double)),
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
    }

    #[test]
    fn refuses_bottomless_nesting() {
        let deep = (0..DEPTH_MAX + 2).fold(json!(1), |inner, _| json!([inner]));
        assert!(matches!(entry_bytes(&deep), Err(CanonError::Depth { .. })));
    }
}
