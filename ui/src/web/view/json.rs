//! JSON for reading: indented, keys as stored, nothing added.

use serde_json::Value;

/// Indents a value. What is hashed is shown elsewhere, byte for byte.
pub(crate) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// Writes a value on one line and cuts it, for table cells.
pub(crate) fn brief(value: &Value, characters_max: usize) -> String {
    super::text::shorten(&value.to_string(), characters_max)
}
