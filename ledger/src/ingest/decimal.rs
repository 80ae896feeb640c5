//! Exact decimal arithmetic for foreign numbers: money never passes through binary floating point.

/// A decimal number `±digits × 10^exponent`, normalised: no leading and no trailing zeros in `digits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

/// An amount in 10^-9 units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nano {
    /// The amount, rounded half to even where it is not exact.
    pub(crate) value: i64,
    /// True when nothing was rounded.
    pub(crate) exact: bool,
}

impl Decimal {
    /// Reads a JSON number or the decimal text of one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            // An exponent beyond i32 is zero or infinity in every double and in every amount of money.
            Some((mantissa, exponent)) => (mantissa, i64::from(exponent.parse::<i32>().ok()?)),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty()
            || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
        {
            return None;
        }
        let joined = format!("{whole}{fraction}");
        let significant = joined.trim_start_matches('0');
        let digits = significant.trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        let shift = i64::try_from(significant.len().checked_sub(digits.len())?).ok()?;
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(shift)?;
        Some(Self { negative, digits: digits.to_owned(), exponent })
    }

    /// Counts the digits that carry meaning.
    pub(crate) const fn digits(&self) -> usize {
        self.digits.len()
    }

    /// Takes the shortest decimal that reads back as the double, which is what its writer meant.
    pub(crate) fn of(double: f64) -> Option<Self> {
        double.is_finite().then(|| Self::parse(&format!("{double:e}")))?
    }

    /// Returns the amount in 10^-9 units; `None` when it does not fit.
    pub(crate) fn to_nano(&self) -> Option<Nano> {
        let magnitude: i128 = if self.digits.is_empty() { 0 } else { self.digits.parse().ok()? };
        let shift = self.exponent.checked_add(9)?;
        let (rounded, exact) = if let Ok(up) = u32::try_from(shift) {
            (magnitude.checked_mul(10_i128.checked_pow(up)?)?, true)
        } else if let Some(unit) =
            u32::try_from(shift.checked_neg()?).ok().and_then(|down| 10_i128.checked_pow(down))
        {
            let (whole, rest) = (magnitude / unit, magnitude % unit);
            let twice = rest.checked_mul(2)?;
            let up = twice > unit || (twice == unit && whole % 2 == 1);
            (whole.checked_add(i128::from(up))?, rest == 0)
        } else {
            (0, magnitude == 0)
        };
        let signed = if self.negative { rounded.checked_neg()? } else { rounded };
        Some(Nano { value: i64::try_from(signed).ok()?, exact })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nano(text: &str) -> Option<(i64, bool)> {
        Decimal::parse(text)?.to_nano().map(|nano| (nano.value, nano.exact))
    }

    #[test]
    fn money_is_exact_to_the_nano_and_says_when_it_is_not() {
        assert_eq!(nano("0.0023"), Some((2_300_000, true)));
        assert_eq!(nano("4.5e-7"), Some((450, true)));
        assert_eq!(nano("-0.0027"), Some((-2_700_000, true)));
        assert_eq!(nano("0.0053549999999999995"), Some((5_355_000, false)));
        assert_eq!(nano("0.0000000005"), Some((0, false)));
        assert_eq!(nano("0.0000000015"), Some((2, false)));
        assert_eq!(nano("1e-60"), Some((0, false)));
        assert_eq!(nano("0e999999"), Some((0, true)));
        assert_eq!(nano("9223372036.854775807"), Some((i64::MAX, true)));
        assert_eq!(nano("9223372036.854775808"), None);
        assert_eq!(nano("1e400"), None);
        for bad in ["", ".", "-", "1e", "0x1", "1.2.3", "NaN", " 1"] {
            assert_eq!(Decimal::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_double_is_its_shortest_decimal() {
        // Binary multiplication would give 2299999.9999999995.
        assert_eq!(Decimal::of(0.0023).unwrap().to_nano(), Some(Nano { value: 2_300_000, exact: true }));
        assert_eq!(Decimal::of(f64::NAN), None);
    }

    proptest! {
        #[test]
        fn equal_numbers_have_one_form(double in any::<f64>()) {
            if double.is_finite() {
                prop_assert_eq!(Decimal::parse(&format!("{double:?}")), Decimal::of(double));
                prop_assert_eq!(Decimal::parse(&format!("{double}")), Decimal::of(double));
            }
        }

        #[test]
        fn never_panics(text in "[-+0-9.eE]{0,40}") {
            let _ = Decimal::parse(&text).map(|decimal| decimal.to_nano());
        }
    }
}
