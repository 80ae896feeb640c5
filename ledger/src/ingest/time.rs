//! Times as foreign formats write them.

use serde_json::Value;

/// Earliest time that a bare number is taken for: 2001-09-09, the first in which its digits tell the unit.
const SECONDS_MIN: u128 = 1_000_000_000;

/// Reads an RFC 3339 time with an offset as Unix nanoseconds.
pub(super) fn nanoseconds(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

/// Reads a time that a source states as RFC 3339, or as a Unix time whose unit its size tells: seconds with or without
/// a fraction, milliseconds, microseconds or nanoseconds.
pub(super) fn any_nanoseconds(value: &Value) -> Option<u64> {
    let text = match value {
        Value::String(text) => {
            if let Some(ns) = nanoseconds(text) {
                return Some(ns);
            }
            text.clone()
        }
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 20 || fraction.len() > 9 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    if whole < SECONDS_MIN {
        return None;
    }
    // Each unit is a thousand of the next: the number of digits tells it until the year 5138.
    let unit: u128 = match whole.ilog10() {
        ..11 => 1_000_000_000,
        11..14 => 1_000_000,
        14..17 => 1000,
        _ => 1,
    };
    let part: u128 = format!("{fraction:0<9}").parse().ok()?;
    let ns = whole.checked_mul(unit)?.checked_add(part.checked_mul(unit)? / 1_000_000_000)?;
    u64::try_from(ns).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_size_of_a_number_tells_its_unit() {
        let second = 1_795_197_787_u64;
        for (value, ns) in [
            (json!(second), second * 1_000_000_000),
            (json!(1_795_197_787.5), second * 1_000_000_000 + 500_000_000),
            (json!(second * 1000 + 7), second * 1_000_000_000 + 7_000_000),
            (json!(second * 1_000_000 + 7), second * 1_000_000_000 + 7000),
            (json!("1795197787588636394"), 1_795_197_787_588_636_394),
            (json!("2026-11-20T18:03:07Z"), second * 1_000_000_000),
        ] {
            assert_eq!(any_nanoseconds(&value), Some(ns), "{value}");
        }
        for value in [json!(12), json!(-5), json!("noon"), json!(null), json!("2026-11-20T18:03:07")] {
            assert_eq!(any_nanoseconds(&value), None, "{value}");
        }
    }
}
