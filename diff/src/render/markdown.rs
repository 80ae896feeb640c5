//! The report as a pull-request comment: GitHub takes 65,536 characters, so lists are cut and the rest counted.

use super::human::{reproduced, standing};
use super::text::{causes, clip, cost, counted, place_of, subject, time, visible};
use crate::compare::{Diff, Subject};
use crate::coverage::Side;
use crate::gate::{Distrust, Outcome, Verdict};
use crate::matrix::LABELS;
use crate::transition::Class;

/// Largest report in bytes, which no comment limit that is counted in characters can be below.
pub const MAX_BYTES: usize = 65_536;
/// Bytes of one table or list before it is cut, so that every section has its place.
const SECTION_BYTES_MAX: usize = 10_000;
/// Columns of a name before it is cut.
const NAME_COLUMNS_MAX: usize = 120;

/// Writes a diff and its verdict as GitHub-flavoured Markdown of at most [`MAX_BYTES`] bytes.
pub fn markdown(diff: &Diff, verdict: &Verdict) -> String {
    let sections = [
        head(diff, verdict),
        classes(diff),
        matrix(diff),
        patterns(diff),
        rules(diff),
        limits(diff),
        foot(diff),
    ];
    let text = sections.iter().filter(|section| !section.is_empty()).cloned().collect::<Vec<_>>().join("\n");
    // Seven sections of at most SECTION_BYTES_MAX rows and a few fixed lines stay below the limit.
    debug_assert!(text.len() <= MAX_BYTES, "a section has outgrown its share");
    text
}

/// Writes text from data as a code span, where Markdown, HTML and mentions mean nothing.
fn code(text: &str) -> String {
    // A pipe would end a table cell even inside a code span.
    let text = clip(&visible(text), NAME_COLUMNS_MAX).replace('|', "\\u{7c}");
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    let pad = if longest > 0 || text.starts_with(' ') || text.ends_with(' ') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// Appends rows until the section is full, and says how many are left out.
fn rows(out: &mut String, rows: impl ExactSizeIterator<Item = String>) {
    let all = rows.len();
    let start = out.len();
    for (written, row) in rows.enumerate() {
        if out.len() - start + row.len() > SECTION_BYTES_MAX {
            out.push_str(&format!(
                "\n_{} of {all} not shown; the JSON report lists them all._\n",
                all - written
            ));
            return;
        }
        out.push_str(&row);
    }
}

fn head(diff: &Diff, verdict: &Verdict) -> String {
    let word = match verdict.outcome {
        Outcome::Pass => "pass",
        Outcome::Warn => "pass with warnings",
        Outcome::Fail => "**fail**",
        Outcome::Untrusted => "**not trustworthy**",
    };
    let mut out = format!("## Policy replay diff: {word}\n\n");
    out.push_str(&format!("{} → {}", code(&subject(&diff.from)), code(&subject(&diff.to))));
    out.push_str(&format!(
        " over {} of {}",
        counted(diff.coverage.points, "recorded decision"),
        code(&diff.range.origin)
    ));
    if let Some(window) = diff.window {
        out.push_str(&format!(", {} to {}", time(window.first_ns), time(window.last_ns)));
    }
    out.push_str(".\n\n");
    for distrust in &verdict.distrust {
        let Distrust::NotReproduced { side, mismatches, checked } = distrust;
        out.push_str(&format!(
            "- **The `{}` bundle does not give {mismatches} of {checked} decisions recorded under its digest.**\n",
            side.as_str()
        ));
    }
    if verdict.empty {
        out.push_str("- Not one decision could be compared, so this says nothing about the change.\n");
    }
    for check in verdict.checks.iter().filter(|check| check.fired) {
        out.push_str(&format!(
            "- {}: {}, {} (allowed: {})\n",
            check.action.as_str(),
            check.measure.as_str(),
            counted(check.points, "decision"),
            check.max
        ));
    }
    if !diff.has_changes() {
        out.push_str("- No decision that could be compared changes.\n");
    }
    for check in &diff.reproduction {
        out.push_str(&format!("- Reproduction of `{}`: {}.\n", check.side.as_str(), reproduced(check)));
    }
    out
}

fn classes(diff: &Diff) -> String {
    let mut out =
        "| class | points | ran | agents | tenants | traces | cost of what ran | last seen |\n".to_owned();
    out.push_str("|---|--:|--:|--:|--:|--:|--:|---|\n");
    for class in Class::ALL {
        let weight = diff.weight(class);
        out.push_str(&format!(
            "| {class} | {} | {} | {} | {} | {} | {} | {} |\n",
            weight.points,
            weight.ran,
            weight.agents,
            weight.tenants,
            weight.traces,
            code(&cost(weight)),
            weight.last_ns.map_or_else(|| "-".to_owned(), time),
        ));
    }
    out
}

fn matrix(diff: &Diff) -> String {
    let mut out = "<details><summary>Effects, from (rows) to (columns)</summary>\n\n|  |".to_owned();
    for label in LABELS {
        out.push_str(&format!(" {label} |"));
    }
    out.push_str("\n|---|--:|--:|--:|--:|--:|--:|--:|\n");
    for (label, counts) in diff.matrix.rows() {
        out.push_str(&format!("| {label} |"));
        for count in counts {
            out.push_str(&format!(" {count} |"));
        }
        out.push('\n');
    }
    out.push_str("\n</details>\n");
    out
}

fn patterns(diff: &Diff) -> String {
    if diff.patterns.is_empty() {
        return String::new();
    }
    let mut out =
        "### What changes\n\n| class | times | action | agent | effect | because of | smallest example |\n\
                   |---|--:|---|---|---|---|---|\n"
            .to_owned();
    let lines = diff.patterns.iter().map(|pattern| {
        let shape = &pattern.shape;
        format!(
            "| {} | {} | {} {} | {} | {} → {} | {} | {} |\n",
            shape.class,
            pattern.weight.points,
            shape.kind.as_str(),
            code(&shape.name),
            shape.agent.as_deref().map_or_else(|| "-".to_owned(), code),
            shape.from,
            shape.to,
            code(&causes(&shape.blame)),
            place_of(&pattern.example),
        )
    });
    rows(&mut out, lines);
    out
}

fn rules(diff: &Diff) -> String {
    if diff.rules.is_empty() {
        return String::new();
    }
    let mut out = "### Which rules did it\n\n\
                   | rule | loosened | tightened | obligations | other rule | from | to |\n\
                   |---|--:|--:|--:|--:|---|---|\n"
        .to_owned();
    let lines = diff.rules.iter().map(|row| {
        let [from, to] = standing(row);
        format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            code(row.cause.label()),
            row.count(Class::Loosened),
            row.count(Class::Tightened),
            row.count(Class::ObligationsChanged),
            row.count(Class::RuleChanged),
            code(&from),
            code(&to),
        )
    });
    rows(&mut out, lines);
    out
}

fn limits(diff: &Diff) -> String {
    let coverage = &diff.coverage;
    let mut out = "### What this does not say\n\n".to_owned();
    out.push_str(&format!(
        "- {} of {} compared; not evaluated: {} before, {} after ({} lost, {} gained).\n",
        coverage.compared,
        counted(coverage.points, "decision"),
        coverage.from_unknown,
        coverage.to_unknown,
        coverage.lost,
        coverage.gained
    ));
    let reasons = coverage.reasons.iter().map(|reason| {
        let missing = if reason.missing.is_empty() {
            String::new()
        } else {
            format!(", missing {}", code(&reason.missing.join(", ")))
        };
        format!(
            "  - `{}`, {}: {}{missing}, e.g. entry {}\n",
            reason.side.as_str(),
            reason.points,
            code(&reason.reason),
            reason.example.key
        )
    });
    rows(&mut out, reasons);
    for (side, list) in [(Side::From, &diff.unexercised.from), (Side::To, &diff.unexercised.to)] {
        if list.is_empty() {
            continue;
        }
        out.push_str(&format!(
            "- {} of `{}` that no recorded decision exercised:\n",
            counted(list.len() as u64, "rule"),
            side.as_str()
        ));
        let lines = list.iter().map(|rule| {
            let place = match (&rule.file, rule.line) {
                (Some(file), Some(line)) => format!(" ({})", code(&format!("{file}:{line}"))),
                (Some(file), None) => format!(" ({})", code(file)),
                (None, _) => String::new(),
            };
            format!("  - {}{place}\n", code(&rule.id))
        });
        rows(&mut out, lines);
    }
    out
}

fn foot(diff: &Diff) -> String {
    let mut out = "<details><summary>To recompute</summary>\n\n".to_owned();
    for (label, side) in [("from", &diff.from), ("to", &diff.to)] {
        match side {
            Subject::Policy { bundle, engine, .. } => {
                out.push_str(&format!("- {label}: `{bundle}` on {}\n", code(engine)));
            }
            Subject::Recorded => out.push_str(&format!("- {label}: decisions as recorded\n")),
        }
    }
    let range = &diff.range;
    out.push_str(&format!(
        "- ledger: {}, entries {}..{}, root {}, input {}\n- result: `{}`\n\n</details>\n",
        code(&range.origin),
        range.first_seq,
        range.end_seq,
        code(&range.root),
        code(&range.input_schema),
        diff.digest
    ));
    out
}
