//! The report for people at a terminal: at most 100 columns, verdict first, then why, then what is not known.

use anstyle::{AnsiColor, Style};

use super::table::{Align, Table};
use super::text::{clip, columns, cost, counted, place_of, subject, time, visible};
use crate::blame::{Blame, RuleBlame};
use crate::compare::{Diff, Subject};
use crate::coverage::Side;
use crate::gate::{Distrust, Outcome, Verdict};
use crate::matrix::LABELS;
use crate::reproduction::Reproduction;
use crate::transition::Class;

const WIDTH: usize = 100;
/// Rows of a list before the rest is counted only; the JSON report holds everything.
const LIST_ROWS_MAX: usize = 20;
/// Rules named under one pattern.
const BLAME_ROWS_MAX: usize = 6;

/// Writes a diff and its verdict for a terminal; with escape sequences only when `colour` is set.
pub fn human(diff: &Diff, verdict: &Verdict, colour: bool) -> String {
    let mut page = Page { out: String::new(), colour };
    head(&mut page, diff);
    outcome(&mut page, diff, verdict);
    reproduction(&mut page, diff);
    classes(&mut page, diff);
    matrix(&mut page, diff);
    patterns(&mut page, diff);
    rules(&mut page, diff);
    unexercised(&mut page, diff);
    unknown(&mut page, diff);
    page.line("");
    page.line(&format!("result   {}", diff.digest));
    page.out
}

struct Page {
    out: String,
    colour: bool,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.out.push_str(&clip(text, WIDTH));
        self.out.push('\n');
    }

    fn styled(&mut self, text: &str, style: Style) {
        let text = clip(text, WIDTH);
        if self.colour {
            self.out.push_str(&format!("{style}{text}{style:#}\n"));
        } else {
            self.line(&text);
        }
    }

    fn title(&mut self, text: &str) {
        self.line("");
        self.styled(text, Style::new().bold());
    }

    fn table(&mut self, table: &Table, indent: &str) {
        for line in table.lines(WIDTH - columns(indent)) {
            self.line(&format!("{indent}{line}"));
        }
    }

    fn more(&mut self, all: usize, indent: &str) {
        if all > LIST_ROWS_MAX {
            let rest = all - LIST_ROWS_MAX;
            self.line(&format!("{indent}… and {rest} more; --format json lists all {all}"));
        }
    }
}

fn head(page: &mut Page, diff: &Diff) {
    page.styled("Policy diff over recorded decisions", Style::new().bold());
    for (label, side) in [("from", &diff.from), ("to", &diff.to)] {
        page.line(&format!("{label:<8} {}", subject(side)));
        if let Subject::Policy { bundle, engine, .. } = side {
            page.line(&format!("         {bundle}"));
            page.line(&format!("         {}", visible(engine)));
        }
    }
    let range = &diff.range;
    let entries = format!("{}..{}", range.first_seq, range.end_seq);
    page.line(&format!("ledger   {} entries {entries}", visible(&range.origin)));
    page.line(&format!("root     {}", visible(&range.root)));
    if let Some(window) = diff.window {
        page.line(&format!("window   {} to {}", time(window.first_ns), time(window.last_ns)));
    }
    let coverage = &diff.coverage;
    page.line(&format!(
        "points   {} ({} compared, {} not)",
        coverage.points,
        coverage.compared,
        coverage.points - coverage.compared
    ));
}

fn outcome(page: &mut Page, diff: &Diff, verdict: &Verdict) {
    let (word, style) = match verdict.outcome {
        Outcome::Pass => ("PASS", AnsiColor::Green),
        Outcome::Warn => ("PASS with warnings", AnsiColor::Yellow),
        Outcome::Fail => ("FAIL", AnsiColor::Red),
        Outcome::Untrusted => ("NOT TRUSTWORTHY", AnsiColor::Magenta),
    };
    page.line("");
    page.styled(&format!("Gate: {word}"), style.on_default().bold());
    for distrust in &verdict.distrust {
        let Distrust::NotReproduced { side, mismatches, checked } = distrust;
        page.line(&format!(
            "  the `{}` bundle does not give {mismatches} of {checked} decisions recorded under its digest",
            side.as_str()
        ));
    }
    if verdict.empty {
        page.line("  not one decision could be compared, so this says nothing about the change");
    }
    for check in verdict.checks.iter().filter(|check| check.fired) {
        page.line(&format!(
            "  {:<4}  {}: {} (allowed: {})",
            check.action.as_str(),
            check.measure.as_str(),
            counted(check.points, "decision"),
            check.max
        ));
    }
    if !diff.has_changes() {
        page.line("  no decision that could be compared changes");
    }
}

fn reproduction(page: &mut Page, diff: &Diff) {
    page.title("Reproduction");
    for check in &diff.reproduction {
        page.line(&format!("  {:<4}  {}", check.side.as_str(), reproduced(check)));
        for mismatch in check.mismatches.iter().take(LIST_ROWS_MAX) {
            page.line(&format!(
                "        entry {}: recorded {}, replayed {}",
                mismatch.seq,
                mismatch.recorded,
                mismatch.replayed.label()
            ));
        }
        page.more(check.mismatches.len(), "        ");
    }
}

/// Says in a sentence how a bundle does against the decisions that name it.
pub(super) fn reproduced(check: &Reproduction) -> String {
    if check.checked == 0 {
        return "no recorded decision names this bundle by its digest: nothing to reproduce".to_owned();
    }
    let mut text = format!("{} of {} recorded decisions reproduced", check.reproduced, check.checked);
    if check.not_evaluated > 0 {
        text.push_str(&format!(", {} could not be evaluated", check.not_evaluated));
    }
    if !check.mismatches.is_empty() {
        text.push_str(&format!(", {} decided otherwise", check.mismatches.len()));
    }
    text
}

fn classes(page: &mut Page, diff: &Diff) {
    page.title("Changes by class");
    let mut table = Table::new(&[
        ("class", Align::Left),
        ("points", Align::Right),
        ("ran", Align::Right),
        ("agents", Align::Right),
        ("tenants", Align::Right),
        ("traces", Align::Right),
        ("cost of what ran", Align::Right),
        ("last seen", Align::Left),
    ]);
    for class in Class::ALL {
        let weight = diff.weight(class);
        table.row(vec![
            class.to_string(),
            weight.points.to_string(),
            weight.ran.to_string(),
            weight.agents.to_string(),
            weight.tenants.to_string(),
            weight.traces.to_string(),
            cost(weight),
            weight.last_ns.map_or_else(|| "-".to_owned(), time),
        ]);
    }
    page.table(&table, "  ");
}

fn matrix(page: &mut Page, diff: &Diff) {
    page.title("Effects, from (rows) to (columns)");
    let mut head = vec![("", Align::Left)];
    head.extend(LABELS.map(|label| (label, Align::Right)));
    let mut table = Table::new(&head);
    for (label, counts) in diff.matrix.rows().filter(|(_, counts)| counts.iter().any(|count| *count > 0)) {
        let mut row = vec![label.to_owned()];
        row.extend(counts.iter().map(|count| if *count == 0 { ".".to_owned() } else { count.to_string() }));
        table.row(row);
    }
    page.table(&table, "  ");
}

fn patterns(page: &mut Page, diff: &Diff) {
    if diff.patterns.is_empty() {
        return;
    }
    page.title("What changes");
    for pattern in diff.patterns.iter().take(LIST_ROWS_MAX) {
        let shape = &pattern.shape;
        let agent =
            shape.agent.as_deref().map_or_else(String::new, |agent| format!(" by {}", visible(agent)));
        let effects = if shape.from == shape.to {
            format!("{} kept", shape.from)
        } else {
            format!("{} -> {}", shape.from, shape.to)
        };
        let line = format!(
            "  {:<19} {:>5} x  {} {}{agent}: {effects}",
            shape.class,
            pattern.weight.points,
            shape.kind.as_str(),
            visible(&shape.name),
        );
        page.styled(&line, class_style(shape.class));
        for blame in shape.blame.iter().take(BLAME_ROWS_MAX) {
            page.line(&format!("                               {}", blamed(diff, blame)));
        }
        if shape.blame.len() > BLAME_ROWS_MAX {
            let rest = shape.blame.len() - BLAME_ROWS_MAX;
            page.line(&format!("                               … and {rest} more rules"));
        }
        page.line(&format!("                               smallest: {}", place_of(&pattern.example)));
    }
    page.more(diff.patterns.len(), "  ");
}

/// Names a cause with its sign and its place: in the new version where it still stands there, else in the old.
fn blamed(diff: &Diff, blame: &Blame) -> String {
    let place = diff
        .rules
        .iter()
        .find(|row| row.cause == blame.cause)
        .and_then(|row| row.to.first().or_else(|| row.from.first()))
        .map_or_else(String::new, |place| format!("  {}", visible(&place.to_string())));
    format!("{} {}{place}", blame.role.sign(), visible(blame.cause.label()))
}

fn class_style(class: Class) -> Style {
    match class {
        Class::Loosened => AnsiColor::Red.on_default(),
        Class::Tightened => AnsiColor::Yellow.on_default(),
        Class::ObligationsChanged | Class::RuleChanged | Class::Unknown | Class::Unchanged => Style::new(),
    }
}

fn rules(page: &mut Page, diff: &Diff) {
    if diff.rules.is_empty() {
        return;
    }
    page.title("Which rules did it");
    let mut table = Table::new(&[
        ("rule", Align::Left),
        ("loosened", Align::Right),
        ("tightened", Align::Right),
        ("oblig.", Align::Right),
        ("other", Align::Right),
        ("stands at", Align::LeftKeepEnd),
    ]);
    for row in diff.rules.iter().take(LIST_ROWS_MAX) {
        let [from, to] = standing(row);
        table.row(vec![
            visible(row.cause.label()),
            row.count(Class::Loosened).to_string(),
            row.count(Class::Tightened).to_string(),
            row.count(Class::ObligationsChanged).to_string(),
            row.count(Class::RuleChanged).to_string(),
            match (from.as_str(), to.as_str()) {
                (_, "-") if from != "-" => format!("{from} (from only)"),
                _ => to,
            },
        ]);
    }
    page.table(&table, "  ");
    page.more(diff.rules.len(), "  ");
}

/// Says where a rule stands on each side.
pub(super) fn standing(row: &RuleBlame) -> [String; 2] {
    [&row.from, &row.to].map(|places| match places.as_slice() {
        [] => "-".to_owned(),
        [place] => visible(&place.to_string()),
        [place, rest @ ..] => format!("{} (+{})", visible(&place.to_string()), rest.len()),
    })
}

fn unexercised(page: &mut Page, diff: &Diff) {
    let sides = [(Side::From, &diff.unexercised.from), (Side::To, &diff.unexercised.to)];
    if sides.iter().all(|(_, rules)| rules.is_empty()) {
        return;
    }
    page.title("Rules that no recorded decision exercised (this diff says nothing about them)");
    for (side, rules) in sides {
        for rule in rules.iter().take(LIST_ROWS_MAX) {
            let place = match (&rule.file, rule.line) {
                (Some(file), Some(line)) => format!("  {}:{line}", visible(file)),
                (Some(file), None) => format!("  {}", visible(file)),
                (None, _) => String::new(),
            };
            page.line(&format!("  {:<4}  {}{place}", side.as_str(), visible(&rule.id)));
        }
        page.more(rules.len(), "        ");
    }
}

fn unknown(page: &mut Page, diff: &Diff) {
    let coverage = &diff.coverage;
    if coverage.reasons.is_empty() {
        return;
    }
    page.title("What could not be evaluated");
    page.line(&format!(
        "  from {}, to {}: {} lost, {} gained",
        coverage.from_unknown, coverage.to_unknown, coverage.lost, coverage.gained
    ));
    for reason in coverage.reasons.iter().take(LIST_ROWS_MAX) {
        let missing = if reason.missing.is_empty() {
            String::new()
        } else {
            format!(" ({})", visible(&reason.missing.join(", ")))
        };
        page.line(&format!(
            "  {:<4} {:>5} x  {}{missing}, e.g. entry {}",
            reason.side.as_str(),
            reason.points,
            visible(&reason.reason),
            reason.example.key
        ));
    }
    page.more(coverage.reasons.len(), "  ");
}
