//! What the reports look like, and that they cannot be redrawn or grown by what is in the data.

use verdict_diff::render::{MAX_BYTES, human, json, markdown};
use verdict_diff::{Gate, compare, compare_recorded};
use verdict_ledger::event::Effect::{Allow, Block};
use verdict_ledger::id::Digest;

use super::support::{decided, everything, finding, point, run};

fn reports() -> [String; 3] {
    let (from, to) = everything();
    let diff = compare(&from, &to).unwrap();
    let verdict = Gate::default().judge(&diff);
    [human(&diff, &verdict, false), json(&diff, &verdict).unwrap(), markdown(&diff, &verdict)]
}

#[test]
fn human_report() {
    insta::assert_snapshot!(reports()[0]);
}

#[test]
fn json_report() {
    insta::assert_snapshot!(reports()[1]);
}

#[test]
fn markdown_report() {
    insta::assert_snapshot!(reports()[2]);
}

#[test]
fn recorded_against_a_policy() {
    let (_, to) = everything();
    let diff = compare_recorded(&to).unwrap();
    insta::assert_snapshot!(human(&diff, &Gate::default().judge(&diff), false));
}

#[test]
fn colour_only_when_asked_and_only_around_the_same_text() {
    let (from, to) = everything();
    let diff = compare(&from, &to).unwrap();
    let verdict = Gate::default().judge(&diff);
    let (plain, coloured) = (human(&diff, &verdict, false), human(&diff, &verdict, true));
    assert!(!plain.contains('\u{1b}') && coloured.contains('\u{1b}'));
    let mut stripped = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        stripped.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    stripped.push_str(rest);
    assert_eq!(stripped, plain);
}

#[test]
fn the_digest_can_be_recomputed_from_the_json_report() {
    let text = reports()[1].clone();
    let mut report: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let digest = report.remove("digest").unwrap();
    report.remove("schema").unwrap();
    report.remove("gate").unwrap();
    let canonical = serde_json_canonicalizer::to_vec(&report).unwrap();
    assert_eq!(digest, Digest::of(&canonical).to_string());
}

#[test]
fn a_comment_stays_below_the_limit_and_counts_what_it_leaves_out() {
    let points = |effect| {
        (0..900u64)
            .map(|key| {
                let name = format!("tool_{key}_{}", "\u{301}`|".repeat(200));
                (point(key, &name), decided(Block, vec![finding(&format!("rule.{key}"), effect)]))
            })
            .collect::<Vec<_>>()
    };
    let diff = compare(&run("1", points(Allow)), &run("2", points(Block))).unwrap();
    let text = markdown(&diff, &Gate::default().judge(&diff));
    assert!(text.len() <= MAX_BYTES && text.len() > 10_000, "{}", text.len());
    assert!(text.contains("of 900 not shown; the JSON report lists them all"), "{text}");
    assert!(text.contains("| tightened | 900 |"));
    let human = human(&diff, &Gate::default().judge(&diff), false);
    assert!(human.contains("… and 880 more; --format json lists all 900"), "{human}");
}
