//! Identifiers as newtypes, so that a span id cannot be passed where a trace id belongs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Says why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text does not have the length of the identifier.
    #[error("{what} must be {want} hexadecimal digits, got {got} characters")]
    Length {
        /// Name of the identifier.
        what: &'static str,
        /// Digits wanted.
        want: usize,
        /// Characters found.
        got: usize,
    },
    /// The text holds something that is not a hexadecimal digit.
    #[error("{what} holds a character that is not a hexadecimal digit")]
    Digit {
        /// Name of the identifier.
        what: &'static str,
    },
    /// All bytes are zero, which OpenTelemetry and W3C Trace Context define as invalid.
    #[error("{what} is all zeros, which is not a valid id")]
    Zero {
        /// Name of the identifier.
        what: &'static str,
    },
}

/// Appends lower-case hexadecimal digits.
fn push_hex(bytes: &[u8], out: &mut String) {
    let digit = |half: u8| char::from(if half < 10 { b'0' | half } else { b'W' + half });
    for byte in bytes {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Takes the bytes as they come from a binary protocol; all zeros is not an id.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                let array: [u8; $len] = bytes
                    .try_into()
                    .map_err(|_| IdError::Length { what: $what, want: $len * 2, got: bytes.len() * 2 })?;
                if array == [0; $len] {
                    return Err(IdError::Zero { what: $what });
                }
                Ok(Self(array))
            }

            /// Appends the id as it is displayed.
            pub(crate) fn push_to(self, out: &mut String) {
                push_hex(&self.0, out);
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.len() != $len * 2 {
                    return Err(IdError::Length { what: $what, want: $len * 2, got: text.chars().count() });
                }
                let mut bytes = [0u8; $len];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| IdError::Digit { what: $what })?;
                Self::from_slice(&bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = String::with_capacity($len * 2);
                self.push_to(&mut text);
                f.write_str(&text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// A W3C / OpenTelemetry trace id: 16 bytes, lower-case hex in JSON.
    TraceId, 16, "trace_id"
);
hex_id!(
    /// A W3C / OpenTelemetry span id: 8 bytes, lower-case hex in JSON.
    SpanId, 8, "span_id"
);

/// A SHA-256 digest, written `sha256:<hex>` in JSON: the name of a raw body, a policy bundle or an archive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Hashes bytes with SHA-256.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Writes the digest as 64 hexadecimal digits without the algorithm prefix.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Digest {
    type Err = IdError;

    /// Reads `sha256:<hex>` or bare hex.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() != 64 {
            return Err(IdError::Length { what: "SHA-256 digest", want: 64, got: digits.chars().count() });
        }
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| IdError::Digit { what: "SHA-256 digest" })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(7 + 64);
        text.push_str("sha256:");
        push_hex(&self.0, &mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_refuse_wrong_length_zero_and_non_hex() {
        assert_eq!("ab".parse::<TraceId>(), Err(IdError::Length { what: "trace_id", want: 32, got: 2 }));
        assert_eq!("0000000000000000".parse::<SpanId>(), Err(IdError::Zero { what: "span_id" }));
        assert_eq!("zz00000000000000".parse::<SpanId>(), Err(IdError::Digit { what: "span_id" }));
        let id: SpanId = "00F067AA0BA902B7".parse().unwrap();
        assert_eq!(id.to_string(), "00f067aa0ba902b7");
    }

    #[test]
    fn digest_round_trips_with_and_without_prefix() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert_eq!(digest.to_hex().parse::<Digest>(), Ok(digest));
    }
}
