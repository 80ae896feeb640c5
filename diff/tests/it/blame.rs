//! Each class, and the rules it is blamed on.

use verdict_diff::blame::{Blame, Cause, Role};
use verdict_diff::{Change, Class, compare, compare_recorded};
use verdict_ledger::event::Effect::{self, Allow, Block, DryRun, NoOp, RequireApproval};
use verdict_replay::policy::EvalError;
use verdict_replay::run::Answer;

use super::support::{decided, finding, obliging, point, recorded, run, unknown};

fn only(from: Answer, to: Answer) -> (Class, Vec<(String, Role)>) {
    let diff = compare(&run("1", vec![(point(1, "t"), from)]), &run("2", vec![(point(1, "t"), to)])).unwrap();
    let Some(Change { class, blame, .. }) = diff.changes.into_iter().next() else {
        return (Class::Unchanged, Vec::new());
    };
    (class, blame.into_iter().map(told).collect())
}

#[expect(clippy::needless_pass_by_value, reason = "it is mapped over owned items")]
fn told(blame: Blame) -> (String, Role) {
    (blame.cause.label().to_owned(), blame.role)
}

fn told_as(label: &str, role: Role) -> Vec<(String, Role)> {
    vec![(label.to_owned(), role)]
}

fn policy(findings: &[(&str, Effect)]) -> Answer {
    decided(Block, findings.iter().map(|(id, effect)| finding(id, *effect)).collect())
}

#[test]
fn a_rule_that_stopped_is_blamed_and_the_rule_that_now_decides_is_not() {
    let from = policy(&[("allowed", Allow), ("limit", Block)]);
    let to = policy(&[("allowed", Allow)]);
    assert_eq!(only(from.clone(), to.clone()), (Class::Loosened, told_as("limit", Role::Removed)));
    assert_eq!(only(to, from), (Class::Tightened, told_as("limit", Role::Added)));
}

#[test]
fn a_rule_that_got_milder_is_changed_and_every_rule_above_the_new_effect_is_blamed() {
    let from = policy(&[("a", Block), ("b", RequireApproval), ("c", DryRun)]);
    let to = policy(&[("a", DryRun), ("c", DryRun)]);
    let blamed = vec![("a".to_owned(), Role::Changed), ("b".to_owned(), Role::Removed)];
    assert_eq!(only(from, to), (Class::Loosened, blamed));
}

#[test]
fn defaults_are_lifted_by_rules_that_fire_and_come_back_when_rules_stop() {
    let silent = policy(&[]);
    let allowed = policy(&[("allowed", Allow), ("noted", NoOp)]);
    assert_eq!(only(silent.clone(), allowed.clone()), (Class::Loosened, told_as("allowed", Role::Added)));
    assert_eq!(only(allowed, silent.clone()), (Class::Tightened, told_as("allowed", Role::Removed)));
    let open = decided(Allow, Vec::new());
    assert_eq!(only(silent, open), (Class::Loosened, told_as("(default effect)", Role::Changed)));
}

#[test]
fn same_effect_by_other_rules_or_with_other_obligations() {
    assert_eq!(
        only(policy(&[("a", Block)]), policy(&[("b", Block), ("c", Allow)])),
        (Class::RuleChanged, vec![("a".to_owned(), Role::Removed), ("b".to_owned(), Role::Added)])
    );
    let notify = decided(Block, vec![obliging("a", Allow, "notify"), finding("b", Allow)]);
    let redact = decided(Block, vec![obliging("a", Allow, "redact"), finding("b", Allow)]);
    let plain = decided(Block, vec![finding("b", Allow)]);
    assert_eq!(only(notify.clone(), redact), (Class::ObligationsChanged, told_as("a", Role::Changed)));
    assert_eq!(only(notify, plain), (Class::ObligationsChanged, told_as("a", Role::Removed)));
    // A rule that fires without determining anything is no change.
    assert_eq!(only(policy(&[("a", Block)]), policy(&[("a", Block), ("c", Allow)])).0, Class::Unchanged);
}

#[test]
fn what_cannot_be_evaluated_is_unknown_even_when_an_engine_error_looks_like_a_block() {
    let mut failed = policy(&[]);
    if let Answer::Decided { decision } = &mut failed {
        decision.error = Some(EvalError { code: "engine_error".into(), detail: "boom".into() });
    }
    for (from, to) in [
        (policy(&[("a", Block)]), failed.clone()),
        (failed.clone(), failed),
        (unknown("missing_input", &[]), policy(&[("a", Block)])),
    ] {
        assert_eq!(only(from, to), (Class::Unknown, Vec::new()));
    }
}

#[test]
fn the_table_of_causes_counts_points_once_and_picks_the_smallest_input() {
    let points =
        |answer: &dyn Fn() -> Answer| (1..=4).map(|key| (point(key, "t"), answer())).collect::<Vec<_>>();
    let from =
        run("1", points(&|| policy(&[("limit", Block), ("limit", RequireApproval), ("allowed", Allow)])));
    let to = run("2", points(&|| policy(&[("allowed", Allow)])));
    let diff = compare(&from, &to).unwrap();
    assert_eq!(diff.rules.len(), 1);
    let row = &diff.rules[0];
    assert_eq!((row.cause.clone(), row.count(Class::Loosened)), (Cause::Rule("limit".into()), 4));
    assert_eq!(row.from[0].to_string(), "policy/limit.rego:7");
    assert!(row.to.is_empty());
    // `point` gives later keys smaller inputs.
    assert_eq!(row.examples[&Class::Loosened].key, 4);
    assert_eq!((row.weight.agents, row.weight.traces, row.weight.ran), (2, 3, 4));
    assert_eq!(row.weight.cost["USD"].0, 5_000_000);
    assert_eq!(diff.patterns.len(), 2, "one for each agent");
}

#[test]
fn recorded_decisions_are_held_to_what_they_state_and_absence_is_never_allow() {
    let with = |key: u64, record| {
        let mut point = point(key, "t");
        point.recorded = record;
        point
    };
    let allow = || policy(&[("allowed", Allow)]);
    let diff = compare_recorded(&run(
        "2",
        vec![
            (with(1, None), allow()),
            (with(2, recorded(Allow, &[], None)), allow()),
            (with(3, recorded(Allow, &["other"], None)), allow()),
            (with(4, recorded(Block, &[], None)), allow()),
            (with(5, recorded(Allow, &[], None)), policy(&[("limit", Block)])),
        ],
    ))
    .unwrap();
    let classes: Vec<_> = diff.changes.iter().map(|change| (change.key, change.class)).collect();
    assert_eq!(
        classes,
        [(1, Class::Unknown), (3, Class::RuleChanged), (4, Class::Loosened), (5, Class::Tightened)]
    );
    assert_eq!(diff.changes[2].blame[0].cause, Cause::Unstated);
    assert_eq!(diff.changes[3].blame[0].cause, Cause::Rule("limit".into()));
    assert_eq!((diff.coverage.gained, diff.coverage.lost), (1, 0));
    assert_eq!(diff.matrix.count(None, Some(Allow)), 1);
}
