//! Gate outcomes and exit codes.

use verdict_diff::gate::{Distrust, Outcome};
use verdict_diff::{Gate, compare};
use verdict_ledger::event::Effect::{Allow, Block};
use verdict_replay::run::Answer;

use super::support::{bundle, decided, everything, finding, point, recorded, run, unknown};

fn one(from: Answer, to: Answer, gate: &str) -> Outcome {
    let diff = compare(&run("1", vec![(point(1, "t"), from)]), &run("2", vec![(point(1, "t"), to)])).unwrap();
    Gate::parse(gate).unwrap().judge(&diff).outcome
}

fn allow() -> Answer {
    decided(Block, vec![finding("a", Allow)])
}

fn block() -> Answer {
    decided(Block, vec![finding("b", Block)])
}

#[test]
fn by_default_loosening_and_lost_coverage_fail_and_tightening_warns() {
    assert_eq!(one(block(), allow(), ""), Outcome::Fail);
    assert_eq!(one(allow(), unknown("missing_input", &[]), ""), Outcome::Fail);
    assert_eq!(one(allow(), block(), ""), Outcome::Warn);
    assert_eq!(one(allow(), allow(), ""), Outcome::Pass);
    assert_eq!(
        [Outcome::Pass, Outcome::Warn, Outcome::Fail, Outcome::Untrusted].map(Outcome::exit_code),
        [0, 0, 1, 3]
    );
}

#[test]
fn a_file_changes_actions_and_limits() {
    assert_eq!(one(block(), allow(), "[classes]\nloosened = \"ignore\""), Outcome::Pass);
    assert_eq!(one(block(), allow(), "[classes]\nloosened = { action = \"fail\", max = 1 }"), Outcome::Pass);
    assert_eq!(one(allow(), block(), "[classes]\ntightened = \"fail\""), Outcome::Fail);
    let none = unknown("missing_input", &[]);
    assert_eq!(one(none.clone(), none.clone(), "[classes]\nunknown = \"fail\""), Outcome::Fail);
    assert_eq!(one(none.clone(), none, ""), Outcome::Warn, "nothing compared is not a pass");
}

#[test]
fn a_bundle_that_does_not_reproduce_its_decisions_is_not_trusted_whatever_the_gate_says() {
    let point = |effect, rules: &[&str]| {
        let mut point = point(1, "t");
        point.recorded = recorded(effect, rules, Some(bundle("1")));
        point
    };
    let judge = |recorded| {
        let diff = compare(&run("1", vec![(recorded, allow())]), &run("2", vec![]));
        assert!(diff.is_err());
    };
    judge(point(Block, &[]));
    for (recorded, trusted) in [
        (point(Block, &[]), false),
        (point(Allow, &["z"]), false),
        (point(Allow, &["a"]), true),
        (point(Allow, &[]), true),
    ] {
        let diff =
            compare(&run("1", vec![(recorded.clone(), allow())]), &run("2", vec![(recorded, allow())]))
                .unwrap();
        let verdict = Gate::parse("[classes]\nloosened = \"ignore\"").unwrap().judge(&diff);
        assert_eq!(verdict.outcome, if trusted { Outcome::Pass } else { Outcome::Untrusted });
        assert_eq!(verdict.distrust.is_empty(), trusted);
        assert_eq!(diff.reproduction[0].checked, 1);
        assert_eq!(diff.reproduction[1].other, 1, "the second bundle is not the one that is named");
        if let Some(Distrust::NotReproduced { mismatches, checked, .. }) = verdict.distrust.first() {
            assert_eq!((*mismatches, *checked), (1, 1));
        }
    }
}

#[test]
fn every_measure_is_reported() {
    let (from, to) = everything();
    let verdict = Gate::default().judge(&compare(&from, &to).unwrap());
    let points: Vec<_> =
        verdict.checks.iter().map(|check| (check.measure.as_str(), check.points, check.fired)).collect();
    assert_eq!(
        points,
        [
            ("loosened", 2, true),
            ("lost_coverage", 1, true),
            ("tightened", 2, true),
            ("obligations_changed", 1, false),
            ("rule_changed", 1, false),
            ("unknown", 1, false),
        ]
    );
}
