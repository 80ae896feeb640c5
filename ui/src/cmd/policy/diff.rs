//! `verdict policy diff`.

use serde_json::json;
use verdict_diff::render::text::visible;
use verdict_replay::policy::Policy;
use verdict_replay::policy::compare::{Change, Comparison, compare};
use verdict_replay::policy::decision::RuleRef;

use super::compile;
use crate::cli::Context;
use crate::exit::{CliError, Exit};

/// Compares two bundles as texts.
pub(super) fn run(base: &str, head: &str, exit_code: bool, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let (base, head) = (compile(base, context)?, compile(head, context)?);
    let comparison = compare(&base, &head);
    if json {
        let label = |policy: &Policy| {
            let bundle = policy.bundle();
            json!({
                "name": bundle.name(), "version": bundle.version(), "digest": bundle.digest(),
                "engine": policy.engine_id(),
            })
        };
        context.output.json(&json!({"base": label(&base), "head": label(&head), "changes": comparison}))?;
    } else {
        context.output.result(&text(&base, &head, &comparison))?;
    }
    let differs = !comparison.files.is_empty();
    Ok(if differs && exit_code { Exit::Finding } else { Exit::Clean })
}

fn text(base: &Policy, head: &Policy, comparison: &Comparison) -> String {
    let label = |policy: &Policy| {
        let bundle = policy.bundle();
        visible(&format!("{}@{} ({})", bundle.name(), bundle.version(), bundle.digest()))
    };
    let mut out = format!("--- {}\n+++ {}\n", label(base), label(head));
    if comparison.files.is_empty() {
        out.push_str("the two have the same content\n");
        return out;
    }
    for (what, rules) in [
        ("rule added", &comparison.rules_added),
        ("rule removed", &comparison.rules_removed),
        ("rule changed", &comparison.rules_changed),
    ] {
        for rule in rules {
            out.push_str(&format!("{what}: {}{}\n", visible(&rule.id), place(rule)));
        }
    }
    for change in &comparison.data {
        let side = |value: &Option<serde_json::Value>| {
            value.as_ref().map_or_else(|| "(absent)".to_owned(), |value| visible(&value.to_string()))
        };
        let (before, after) = (side(&change.base), side(&change.head));
        out.push_str(&format!("data{}: {before} -> {after}\n", visible(&change.pointer)));
    }
    for file in &comparison.files {
        let what = match file.change {
            Change::Added => "file added",
            Change::Removed => "file removed",
            Change::Changed => "file changed",
        };
        out.push_str(&format!("\n{what}: {}\n", visible(&file.path)));
        for hunk in &file.hunks {
            let rules: Vec<_> = hunk.rules.iter().map(|rule| visible(rule)).collect();
            out.push_str(&format!("@@ -{} +{} @@ {}\n", hunk.base_line, hunk.head_line, rules.join(", ")));
            for line in &hunk.lines {
                out.push_str(&visible(line));
                out.push('\n');
            }
        }
    }
    out
}

fn place(rule: &RuleRef) -> String {
    match (&rule.file, rule.line) {
        (Some(file), Some(line)) => format!("  {}:{line}", visible(file)),
        _ => String::new(),
    }
}
