//! What-if on recorded events, under the recorded policies.

use serde_json::{Value, json};
use verdict_ledger::event::Effect;
use verdict_replay::policy::{Bundle, Policy};
use verdict_replay::run::{Answer, Scope, replay};
use verdict_replay::what_if::{Edit, WhatIf, WhatIfError, recorded_input, what_if};

use crate::input::conforms;
use crate::log::{Log, testdata};

fn policy(version: &str) -> Policy {
    Policy::compile(Bundle::load(&testdata("policies").join(version)).unwrap()).unwrap()
}

fn ask(log: &Log, id: &str, edits: &[&str], policy: &Policy) -> WhatIf {
    let recorded = recorded_input(&log.ledger, log.seq(id), log.size()).unwrap();
    let edits: Vec<Edit> = edits.iter().map(|edit| Edit::parse_set(edit).unwrap()).collect();
    what_if(&recorded, &edits, policy).unwrap()
}

/// The refund of 80,000 cents that was refused.
fn refused(log: &Log) -> String {
    let all = log.ledger.records(0..log.size()).map(Result::unwrap);
    let refund = all.filter_map(|record| record.event).find(|event| {
        event.action.name == "issue_refund"
            && event.action.arguments.as_ref().is_some_and(|a| a["amount_cents"] == 80_000)
    });
    refund.unwrap().id
}

#[test]
fn without_edits_it_says_what_a_replay_says_at_every_point() {
    let log = Log::harbor();
    let policy = policy("v1");
    let run = replay(&log.ledger, &Scope::default(), &policy, &mut |_, _| {}).unwrap();
    assert!(run.points.len() > 40);
    for point in run.points.iter().step_by(5) {
        let recorded = recorded_input(&log.ledger, point.point.key, log.size()).unwrap();
        assert_eq!(
            verdict_replay::input::digest(&recorded.input),
            point.point.input,
            "entry {}",
            point.point.key
        );
        let answer = what_if(&recorded, &[], &policy).unwrap();
        assert_eq!(answer.before, answer.after);
        assert!(answer.changed.is_empty() && answer.appeared.is_empty() && answer.gone.is_empty());
        if let Answer::Decided { decision } = &point.answer {
            assert_eq!(decision, &answer.before);
        }
    }
}

#[test]
fn an_edited_amount_changes_the_decision_and_what_follows_from_it() {
    let log = Log::harbor();
    let policy = policy("v1");
    let answer = ask(&log, &refused(&log), &["/action/arguments/amount_cents=900"], &policy);
    assert_eq!(answer.before.effect, Effect::Block);
    assert_eq!(answer.after.effect, Effect::Allow);
    assert!(!answer.gone.is_empty());
    assert_eq!(answer.edited["action"]["arguments"]["amount_cents"], 900);
    let changed: Vec<(&str, bool)> = answer.changed.iter().map(|c| (c.pointer.as_str(), c.derived)).collect();
    assert_eq!(changed, [("/action/arguments/amount_cents", false), ("/action/arguments_digest", true)]);
    conforms(&answer.edited);
    // Rules that exist and were silent are listed too, with the line where each stands.
    assert_eq!(
        answer.rules.iter().filter(|rule| rule.rule.file.is_some()).count(),
        policy
            .rules()
            .iter()
            .filter(|rule| rule.file.is_some())
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    );
    let spoke =
        answer.rules.iter().find(|rule| rule.before.as_ref().is_some_and(|spoke| spoke.decided)).unwrap();
    assert!(spoke.after.is_none() && spoke.rule.line.is_some(), "{spoke:?}");
    let line = spoke.source.as_deref().unwrap();
    assert!(line.starts_with("findings contains"), "{line}");
    assert!(answer.rules.iter().any(|rule| rule.before.is_none() && rule.after.is_none()));
}

#[test]
fn features_follow_the_arguments_and_trust_follows_the_sources() {
    let log = Log::harbor();
    let policy = policy("v1");
    let mail = log
        .ledger
        .records(0..log.size())
        .filter_map(|record| record.unwrap().event)
        .find(|event| event.action.name == "send_email")
        .unwrap();
    let answer = ask(&log, &mail.id, &["/action/arguments/to=ada@inside.example"], &policy);
    assert_eq!(answer.edited["features"]["email_domain"], "inside.example");
    let recorded = recorded_input(&log.ledger, log.seq(&mail.id), log.size()).unwrap();
    let edit =
        Edit::set_json("/provenance/sources", &json!([{"kind": "user_prompt", "trust": "trusted"}])).unwrap();
    let answer = what_if(&recorded, std::slice::from_ref(&edit), &policy).unwrap();
    assert_eq!(answer.edited["provenance"]["lowest_trust"], "trusted");
    assert_eq!(answer.edited["features"]["lowest_trust_rank"], 0);
    // What is edited itself is left as it is.
    let own = Edit::parse_set("/features/lowest_trust_rank=4").unwrap();
    let answer = what_if(&recorded, &[edit, own], &policy).unwrap();
    assert_eq!(answer.edited["features"]["lowest_trust_rank"], 4);
    let gone = what_if(&recorded, &[Edit::unset("/action/arguments").unwrap()], &policy).unwrap();
    assert_eq!(gone.edited.pointer("/action/arguments_digest"), None);
    assert_eq!(gone.edited.pointer("/features/email_domain"), None);
    conforms(&gone.edited);
}

#[test]
fn state_can_be_edited_and_a_document_that_does_not_fit_is_refused() {
    let log = Log::harbor();
    let policy = policy("v1");
    let id = refused(&log);
    let looping = ask(
        &log,
        &id,
        &["/state/trace/consecutive_same_tool=1000", "/action/arguments/amount_cents=1"],
        &policy,
    );
    assert!(
        looping.appeared.iter().any(|finding| finding.rule.id == "loop.same_tool"),
        "{:?}",
        looping.appeared
    );
    let recorded = recorded_input(&log.ledger, log.seq(&id), log.size()).unwrap();
    let bad: [(&str, Value); 4] = [
        ("/state", json!({})),
        ("/action/kind", json!("weapon")),
        ("/provenance/sources", json!([{"kind": "x", "trust": "much"}])),
        ("/agent", json!({"inherited": true, "nmae": "x"})),
    ];
    for (pointer, value) in bad {
        let edit = Edit::set_json(pointer, &value).unwrap();
        let error = what_if(&recorded, &[edit], &policy).unwrap_err();
        assert!(
            matches!(&error, WhatIfError::Schema { problems } if !problems.is_empty()),
            "{pointer}: {error}"
        );
    }
    let many = vec![Edit::parse_set("/action/arguments/x=1").unwrap(); 65];
    assert!(matches!(what_if(&recorded, &many, &policy), Err(WhatIfError::TooManyEdits { got: 65 })));
}

#[test]
fn an_entry_that_is_no_decision_point_is_named() {
    let log = Log::harbor();
    let ask = |seq| recorded_input(&log.ledger, seq, log.size()).unwrap_err();
    assert!(matches!(ask(0), WhatIfError::NoAction { seq: 0, .. }));
    assert!(matches!(ask(9_999), WhatIfError::NoEntry { seq: 9_999, .. }));
    let plan = Log::of(&[json!({"action": {"kind": "plan", "name": "p"}})]);
    let error = recorded_input(&plan.ledger, plan.seq("e1"), plan.size()).unwrap_err();
    assert!(error.to_string().contains("`plan`, which no policy rules on"), "{error}");
}
