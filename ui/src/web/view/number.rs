//! Counts and money.

use std::collections::BTreeMap;

use verdict_ledger::event::Cost;

/// Writes a count with thin spaces between groups of three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Sums of money, one for each currency: amounts in different currencies are never added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Money {
    nano: BTreeMap<String, i128>,
    estimated: bool,
}

impl Money {
    /// Adds an amount.
    pub(crate) fn add(&mut self, cost: &Cost) {
        *self.nano.entry(cost.currency.clone()).or_default() += i128::from(cost.nano);
        self.estimated |= cost.basis != "reported";
    }

    /// Returns the sums as text; `≈` marks sums that hold amounts from a price table.
    pub(crate) fn text(&self) -> String {
        let sums: Vec<String> = self.nano.iter().map(|(currency, nano)| nano_text(*nano, currency)).collect();
        let mark = if self.estimated { "≈ " } else { "" };
        if sums.is_empty() { String::new() } else { format!("{mark}{}", sums.join(" + ")) }
    }
}

/// Writes one cost.
pub(crate) fn cost(cost: &Cost) -> String {
    let mut money = Money::default();
    money.add(cost);
    money.text()
}

/// Writes an amount of one currency.
pub(crate) fn nano_text(nano: i128, currency: &str) -> String {
    format!("{} {currency}", nano_units(nano))
}

/// Writes nano-units as a decimal number with at least two and no needless digits: exact, never rounded.
fn nano_units(nano: i128) -> String {
    let sign = if nano < 0 { "\u{2212}" } else { "" };
    let whole = nano.unsigned_abs() / 1_000_000_000;
    let fraction = format!("{:09}", nano.unsigned_abs() % 1_000_000_000);
    let kept = fraction.trim_end_matches('0').len().max(2);
    format!(
        "{sign}{}.{}",
        count(u64::try_from(whole).unwrap_or(u64::MAX)),
        fraction.get(..kept).unwrap_or("00")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(nano: i64, basis: &str) -> Cost {
        Cost { nano, currency: "USD".into(), basis: basis.into() }
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
    }

    #[test]
    fn money_is_exact_and_kept_apart_by_currency() {
        assert_eq!(cost(&usd(1_500_000_000, "reported")), "1.50 USD");
        assert_eq!(cost(&usd(-12_345, "priced:t1")), "≈ \u{2212}0.000012345 USD");
        let mut money = Money::default();
        assert_eq!(money.text(), "");
        money.add(&usd(1, "reported"));
        money.add(&Cost { currency: "EUR".into(), ..usd(2_000_000_000, "reported") });
        assert_eq!(money.text(), "2.00 EUR + 0.000000001 USD");
    }
}
