//! Prices as decimal text, exactly.

/// Most digits after the point: a nano-unit for a million tokens.
const PLACES: usize = 9;

/// Reads `3`, `3.00` or `0.075` as nano-units. No sign, no exponent, nothing finer than a nano-unit.
pub(super) fn nano(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > PLACES {
        return None;
    }
    let nano: i64 = format!("{fraction:0<PLACES$}").parse().ok()?;
    whole.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nano)
}

#[cfg(test)]
mod tests {
    use super::nano;

    #[test]
    fn prices_are_exact() {
        for (text, amount) in [
            ("3", 3_000_000_000),
            ("3.00", 3_000_000_000),
            ("0.075", 75_000_000),
            ("0.000000001", 1),
            ("0", 0),
        ] {
            assert_eq!(nano(text), Some(amount), "{text}");
        }
        for bad in ["", ".", "1.", ".5", "-1", "+1", "1e3", "0.0000000001", "1,5", " 1", "99999999999"] {
            assert_eq!(nano(bad), None, "{bad}");
        }
    }
}
