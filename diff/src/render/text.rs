//! Text that comes from data, made safe and short enough to show.

use std::collections::BTreeMap;

use verdict_ledger::text::is_hidden;

use crate::blame::{Blame, Example};
use crate::compare::Subject;
use crate::weight::{Nano, Weight};

/// Makes characters visible that would otherwise hide, reorder or redraw text.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_hidden(c) => out.push_str(&c.escape_unicode().to_string()),
            c => out.push(c),
        }
    }
    out
}

/// Counts terminal columns: two for wide East Asian characters and emoji, none for combining marks.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

const fn columns_of(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// Cuts text to a number of columns and marks the cut. Characters are limited too: a heap of combining marks
/// takes no column at all.
pub fn clip(text: &str, max: usize) -> String {
    let chars_max = max.saturating_mul(4);
    if columns(text) <= max && text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 1;
    for c in text.chars().take(chars_max) {
        used += columns_of(c);
        if used > max {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Cuts text at its beginning.
pub(crate) fn clip_start(text: &str, max: usize) -> String {
    if columns(text) <= max && text.chars().count() <= max.saturating_mul(4) {
        return text.to_owned();
    }
    let backwards: String = text.chars().rev().collect();
    clip(&backwards, max).chars().rev().collect()
}

/// Writes a time in seconds, UTC.
pub fn time(ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(ns))
        .map_or_else(|_| format!("{ns} ns"), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Writes an amount of nano-units as a decimal number without trailing zeros.
pub fn amount(nano: Nano) -> String {
    let sign = if nano.0 < 0 { "-" } else { "" };
    let (whole, rest) = (nano.0.unsigned_abs() / 1_000_000_000, nano.0.unsigned_abs() % 1_000_000_000);
    let fraction = format!("{rest:09}");
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

/// Writes what the actions of a weight cost; `≥` where some cost is not known.
pub(crate) fn cost(weight: &Weight) -> String {
    let sums = |cost: &BTreeMap<String, Nano>| {
        let sums: Vec<String> =
            cost.iter().map(|(currency, nano)| format!("{} {}", amount(*nano), visible(currency))).collect();
        sums.join(", ")
    };
    match (weight.cost.is_empty(), weight.ran_without_cost) {
        (true, 0) => "-".to_owned(),
        (true, _) => "unknown".to_owned(),
        (false, 0) => sums(&weight.cost),
        (false, _) => format!("≥ {}", sums(&weight.cost)),
    }
}

/// Writes what a change is blamed on: `+ limits.refund, - limits.old`.
pub(crate) fn causes(blame: &[Blame]) -> String {
    let causes: Vec<String> =
        blame.iter().map(|blame| format!("{} {}", blame.role.sign(), visible(blame.cause.label()))).collect();
    causes.join(", ")
}

/// Writes where to look: `entry 12, trace 4bf9…`.
pub(crate) fn place_of(example: &Example) -> String {
    match example.trace_id {
        Some(trace) => format!("entry {}, trace {trace}", example.key),
        None => format!("entry {}, no trace", example.key),
    }
}

/// Writes a side in one line.
pub(crate) fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Recorded => "decisions as recorded".to_owned(),
        Subject::Policy { name, version, .. } => format!("{} {}", visible(name), visible(version)),
    }
}

/// Writes a number with its noun.
pub fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hidden_stays_hidden() {
        assert_eq!(visible("a\u{202e}b\u{7}c\nd"), "a\\u{202e}b\\u{7}c\\nd");
        assert_eq!(visible("\u{1b}[31mred"), "\\u{1b}[31mred");
        assert_eq!(visible("größe 日本"), "größe 日本");
    }

    #[test]
    fn clipping_counts_columns() {
        assert_eq!(clip("日本語", 6), "日本語");
        assert_eq!(clip("日本語", 5), "日本…");
        assert_eq!(columns(&clip("日本語", 4)), 3);
        assert_eq!(clip("abc", 3), "abc");
        assert_eq!(clip_start("policy/limits.rego:7", 10), "…ts.rego:7");
        assert_eq!(clip(&"\u{301}".repeat(1_000), 3).chars().count(), 13);
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(amount(Nano(1_230_000_000)), "1.23");
        assert_eq!(amount(Nano(-1)), "-0.000000001");
        assert_eq!(amount(Nano(7_000_000_000)), "7");
        assert_eq!(amount(Nano(i128::MIN)), "-170141183460469231731687303715.884105728");
    }

    #[test]
    fn times_beyond_the_calendar_are_still_shown() {
        assert_eq!(time(1_763_670_000_000_000_000), "2025-11-20T20:20:00Z");
        assert_eq!(time(u64::MAX), "2554-07-21T23:34:33Z");
    }
}
