//! What holds for any two runs.

use proptest::prelude::*;
use verdict_diff::blame::Role;
use verdict_diff::gate::Outcome;
use verdict_diff::render::{MAX_BYTES, human, json, markdown};
use verdict_diff::{Class, Diff, Gate, compare, compare_recorded};
use verdict_ledger::event::Effect;
use verdict_replay::run::{Answer, Run};

use super::support::{decided, finding, obliging, point, recorded, run, unknown};

fn effect() -> impl Strategy<Value = Effect> {
    proptest::sample::select(Effect::ALL.to_vec())
}

fn answer() -> impl Strategy<Value = Answer> {
    let one = (proptest::sample::select(vec!["a", "b", "c", "d"]), effect(), any::<bool>()).prop_map(
        |(id, effect, obliges)| if obliges { obliging(id, effect, "notify") } else { finding(id, effect) },
    );
    prop_oneof![
        6 => (effect(), proptest::collection::vec(one, 0..4)).prop_map(|(default, findings)| decided(default, findings)),
        1 => Just(unknown("missing_input", &["/user"])),
    ]
}

fn runs() -> impl Strategy<Value = (Run, Run)> {
    let name = proptest::sample::select(vec!["issue_refund", "send_email", "日本\u{202e}|`<b>@x"]);
    let record =
        proptest::option::of((effect(), proptest::sample::select(vec![vec![], vec!["a"], vec!["b", "c"]])));
    proptest::collection::vec((name, record, answer(), answer()), 0..30).prop_map(|rows| {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for (index, (name, record, before, after)) in rows.into_iter().enumerate() {
            let mut point = point(index as u64, name);
            point.recorded = record.and_then(|(effect, rules)| recorded(effect, &rules, None));
            from.push((point.clone(), before));
            to.push((point, after));
        }
        (run("1", from), run("2", to))
    })
}

fn points(diff: &Diff, class: Class) -> u64 {
    diff.weight(class).points
}

proptest! {
    #[test]
    fn a_run_does_not_differ_from_itself((from, _) in runs()) {
        let diff = compare(&from, &from).unwrap();
        prop_assert!(!diff.has_changes());
        prop_assert!(diff.rules.is_empty() && diff.patterns.is_empty());
        prop_assert_eq!((diff.coverage.lost, diff.coverage.gained), (0, 0));
        prop_assert!(diff.changes.iter().all(|change| change.class == Class::Unknown));
        prop_assert!(Gate::default().judge(&diff).outcome <= Outcome::Warn);
    }

    #[test]
    fn swapping_the_sides_mirrors_the_diff((from, to) in runs()) {
        let (there, back) = (compare(&from, &to).unwrap(), compare(&to, &from).unwrap());
        for class in Class::ALL {
            prop_assert_eq!(there.weight(class), back.weight(class.mirrored()));
        }
        prop_assert_eq!(there.matrix.transposed(), back.matrix.clone());
        prop_assert_eq!((there.coverage.lost, there.coverage.gained), (back.coverage.gained, back.coverage.lost));
        prop_assert_eq!(&there.unexercised.from, &back.unexercised.to);
        prop_assert_eq!(there.changes.len(), back.changes.len());
        for (a, b) in there.changes.iter().zip(&back.changes) {
            prop_assert_eq!((a.key, a.class, &a.from, &a.to), (b.key, b.class.mirrored(), &b.to, &b.from));
            let causes = |blame: &[verdict_diff::blame::Blame]| blame.iter().map(|b| b.cause.clone()).collect::<Vec<_>>();
            prop_assert_eq!(causes(&a.blame), causes(&b.blame));
        }
        for row in &there.rules {
            let other = back.rules.iter().find(|other| other.cause == row.cause).unwrap();
            prop_assert_eq!(row.count(Class::Loosened), other.count(Class::Tightened));
            prop_assert_eq!(row.roles.get(&Role::Added), other.roles.get(&Role::Removed));
            prop_assert_eq!(row.roles.get(&Role::Changed), other.roles.get(&Role::Changed));
            prop_assert_eq!((&row.from, &row.weight), (&other.to, &other.weight));
        }
    }

    #[test]
    fn every_point_is_counted_exactly_once((from, to) in runs()) {
        for diff in [compare(&from, &to).unwrap(), compare_recorded(&to).unwrap()] {
            let all = to.points.len() as u64;
            prop_assert_eq!(diff.matrix.total(), all);
            prop_assert_eq!(Class::ALL.into_iter().map(|class| points(&diff, class)).sum::<u64>(), all);
            prop_assert_eq!(diff.coverage.compared + points(&diff, Class::Unknown), all);
            prop_assert_eq!(diff.changes.len() as u64 + points(&diff, Class::Unchanged), all);
            let patterns: u64 = diff.patterns.iter().map(|pattern| pattern.weight.points).sum();
            let changes: u64 = Class::ALL.into_iter().filter(|class| class.is_change()).map(|class| points(&diff, class)).sum();
            prop_assert_eq!(patterns, changes);
            prop_assert!(diff.changes.iter().all(|change| change.class.is_change() != change.blame.is_empty()));
        }
    }

    #[test]
    fn reports_are_the_same_bytes_again_and_fit((from, to) in runs()) {
        let report = || {
            let diff = compare(&from, &to).unwrap();
            let verdict = Gate::default().judge(&diff);
            [human(&diff, &verdict, false), json(&diff, &verdict).unwrap(), markdown(&diff, &verdict)]
        };
        let first = report();
        prop_assert_eq!(&first, &report());
        let [human, json, markdown] = first;
        prop_assert!(human.lines().all(|line| line.chars().count() <= 100), "{}", human);
        prop_assert!(markdown.len() <= MAX_BYTES);
        for text in [&human, &markdown] {
            let hidden = text.contains(['\u{202e}', '\u{1b}']);
            prop_assert!(!hidden);
        }
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&value["schema"], "verdict-diff/1");
    }

    #[test]
    fn a_stricter_gate_never_gives_a_better_outcome((from, to) in runs(), max in 0u64..4) {
        let diff = compare(&from, &to).unwrap();
        let outcome = |max: u64, action: &str| {
            let text = format!("[classes]\nloosened = {{ action = \"{action}\", max = {max} }}\n");
            Gate::parse(&text).unwrap().judge(&diff).outcome
        };
        prop_assert!(outcome(max, "fail") >= outcome(max + 1, "fail"));
        prop_assert!(outcome(max, "fail") >= outcome(max, "warn"));
        prop_assert!(outcome(max, "warn") >= outcome(max, "ignore"));
    }
}
