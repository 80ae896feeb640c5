//! What a replay comes to, in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::visible;
use verdict_replay::run::stored::Entry;
use verdict_replay::run::{MoneySum, Select, Summary, Tally, confidence};

/// Nano-units of one currency unit.
const NANO: i128 = 1_000_000_000;

pub(super) fn told(summary: &Summary, tally: &Tally) -> String {
    let header = &summary.header;
    let mut text = format!(
        "{}@{}  {}\n  bundle  {}\n  engine  {}\n  ledger  {} entries {}..{}\n  root    {}\n",
        visible(&header.policy_name),
        visible(&header.policy_version),
        header.semantics.as_str(),
        header.policy_digest,
        visible(&header.engine.0),
        visible(&header.origin),
        header.first_seq,
        header.end_seq,
        header.root,
    );
    if let Some(prices) = &header.prices {
        let _ = writeln!(text, "  prices  {}", visible(prices));
    }
    if !header.select.is_all() {
        let _ = writeln!(text, "  only    {}", chosen(&header.select));
    }
    let _ = writeln!(text, "{}", reproduced(tally));
    let _ = writeln!(text, "{} decision points", tally.points);
    for (effect, count) in &tally.effects {
        let _ = writeln!(text, "  {count:>7}  {effect}{}", share(&header.select, *count, tally.points));
    }
    for (reason, count) in &tally.unknown {
        let _ = writeln!(text, "  {count:>7}  unknown: {}", visible(reason));
    }
    for (count, what) in [
        (tally.not_reached, "not reached: a step that they depend on is stopped"),
        (tally.diverged, "of these diverged: the run would have gone otherwise before them"),
        (
            tally.unobserved,
            "of these unobserved: stopped then, and run now; nobody saw what would have followed",
        ),
        (tally.not_recorded, "of these without a recorded decision"),
    ] {
        if count > 0 {
            let _ = writeln!(text, "  {count:>7}  {what}");
        }
    }
    flips(&mut text, tally);
    money(&mut text, tally);
    rules(&mut text, tally);
    let _ = writeln!(text, "result {}", summary.digest);
    text
}

fn reproduced(tally: &Tally) -> String {
    let check = &tally.reproduction;
    let unknown = match check.version_unknown {
        0 => String::new(),
        count => format!("; {count} name no policy version"),
    };
    match (check.checked, check.mismatches.first()) {
        (0, _) => format!("reproduction: no recorded decision names this bundle{unknown}"),
        (all, None) => {
            format!("reproduction: all {all} recorded decisions of this bundle come out again{unknown}")
        }
        (all, Some(first)) => format!(
            "reproduction FAILED: {} of {all} recorded decisions of this bundle come out otherwise, the first at entry {}: what follows cannot be trusted{unknown}",
            all - check.reproduced,
            first.seq
        ),
    }
}

fn flips(text: &mut String, tally: &Tally) {
    if tally.flips.is_empty() {
        text.push_str("no recorded decision comes out otherwise\n");
        return;
    }
    let mut table = Table::new(&[
        ("flips", Align::Right),
        ("recorded", Align::Left),
        ("replayed", Align::Left),
        ("", Align::Left),
    ]);
    for flip in &tally.flips {
        let why = if flip.induced { "induced by an earlier flip" } else { "direct" };
        table.row(vec![flip.points.to_string(), flip.from.to_string(), flip.to.to_string(), why.to_owned()]);
    }
    lines(text, &table);
}

fn money(text: &mut String, tally: &Tally) {
    for (sum, what) in [
        (&tally.avoided, "avoided: spent then, and not now"),
        (&tally.exposed, "exposed: not spent then, and possible now"),
        (&tally.wasted, "wasted: spent on asking for what is stopped"),
    ] {
        if !sum.is_empty() {
            let _ = writeln!(text, "  {what}: {}", amounts(sum));
        }
    }
}

fn amounts(sum: &MoneySum) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut add = |sums: &BTreeMap<String, i128>, basis: &str| {
        for (currency, nano) in sums {
            let sign = if *nano < 0 { "-" } else { "" };
            let (whole, rest) =
                (nano.unsigned_abs() / NANO.unsigned_abs(), nano.unsigned_abs() % NANO.unsigned_abs());
            let amount = format!("{whole}.{rest:09}");
            parts.push(format!(
                "{sign}{} {} {basis}",
                amount.trim_end_matches('0').trim_end_matches('.'),
                visible(currency)
            ));
        }
    };
    add(&sum.measured, "measured");
    add(&sum.estimated, "estimated");
    if sum.unknown > 0 {
        parts.push(format!("unknown for {} actions", sum.unknown));
    }
    parts.join(", ")
}

fn rules(text: &mut String, tally: &Tally) {
    if tally.rules.is_empty() {
        return;
    }
    let mut table =
        Table::new(&[("points", Align::Right), ("effect", Align::Left), ("determined by", Align::Left)]);
    for (rule, effects) in &tally.rules {
        for (effect, count) in effects {
            table.row(vec![count.to_string(), effect.to_string(), visible(rule)]);
        }
    }
    lines(text, &table);
}

fn lines(text: &mut String, table: &Table) {
    for line in table.lines(98) {
        let _ = writeln!(text, "  {line}");
    }
}

fn chosen(select: &Select) -> String {
    let mut parts = Vec::new();
    let mut list = |what: &str, values: Vec<String>| {
        if !values.is_empty() {
            parts.push(format!("{what} {}", visible(&values.join(" or "))));
        }
    };
    list("agent", select.agents.iter().cloned().collect());
    list("action", select.names.iter().cloned().collect());
    list("tenant", select.tenants.iter().cloned().collect());
    list("kind", select.kinds.iter().map(|kind| kind.as_str().to_owned()).collect());
    list("recorded", select.effects.iter().map(ToString::to_string).collect());
    list("from", select.from_ns.iter().map(|ns| verdict_diff::render::text::time(*ns)).collect());
    list("before", select.until_ns.iter().map(|ns| verdict_diff::render::text::time(*ns)).collect());
    if let Some(sample) = select.sample {
        let (whole, rest) = (sample.per_million / 10_000, sample.per_million % 10_000);
        parts.push(format!("a sample of {whole}.{rest:04}% (seed {})", sample.seed));
    }
    parts.join(", ")
}

/// The share of all points that a count in a sample stands for.
fn share(select: &Select, count: u64, points: u64) -> String {
    let Some((low, high)) = confidence(select, count, points) else { return String::new() };
    let percent = |millionths: u64| format!("{}.{:02}", millionths / 10_000, millionths % 10_000 / 100);
    format!("  {}% to {}% of all, with 95% confidence", percent(low), percent(high))
}

pub(super) fn told_list(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "no run is kept; `verdict replay run --policy REF --save NAME` keeps one\n".to_owned();
    }
    let mut table = Table::new(&[
        ("name", Align::Left),
        ("policy", Align::Left),
        ("semantics", Align::Left),
        ("entries", Align::Left),
        ("points", Align::Right),
        ("result", Align::Left),
    ]);
    for Entry { name, summary } in entries {
        table.row(match summary {
            Some(summary) => vec![
                name.clone(),
                visible(&format!("{}@{}", summary.header.policy_name, summary.header.policy_version)),
                summary.header.semantics.as_str().to_owned(),
                format!("{}..{}", summary.header.first_seq, summary.header.end_seq),
                summary.points.to_string(),
                summary.digest.to_string().chars().take(19).collect(),
            ],
            None => vec![
                name.clone(),
                "interrupted: --resume goes on".to_owned(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ],
        });
    }
    let mut text = String::new();
    for line in table.lines(120) {
        let _ = writeln!(text, "{line}");
    }
    text
}
