use std::sync::Arc;

use super::*;
use crate::action::labels::LabelSource;
use crate::clock::SteppingClock;
use crate::event::{Action as Asked, AuthorityKind, Decision, Effect, Event, Outcome as Ended, Usage};
use crate::id::{SpanId, TraceId};
use crate::record::{Batch, NewRecord};
use crate::store::InitOptions;
use crate::view::{Rules, View};

fn ledger() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
    let ledger = Ledger::init(&dir.path().join("l"), &InitOptions::new("example.org/t"), clock).unwrap();
    (dir, ledger)
}

fn by<'a>(by: &'a str, reason: &'a str) -> Releaser<'a> {
    Releaser { by, reason, peer: None }
}

fn call(id: u64, parent: Option<u64>) -> Event {
    let mut event = Event::new(format!("e{id}"), Asked::new(ActionKind::Model, "gpt-4o-mini"));
    event.trace_id = Some(TraceId([7; 16]));
    event.span_id = Some(SpanId(id.to_be_bytes()));
    event.parent_span_id = parent.map(|parent| SpanId(parent.to_be_bytes()));
    event.start_ns = Some(1_780_272_000_000_000_000);
    event.end_ns = Some(1_780_272_000_000_000_900);
    event.service = Some("shop".to_owned());
    event.environment = Some("test".to_owned());
    event.outcome = Some(Ended::new(Status::Ok));
    event.usage = Some(Usage {
        provider: Some("openai".to_owned()),
        model: Some("gpt-4o-mini".to_owned()),
        input_tokens: Some(10),
        output_tokens: Some(1),
        ..Usage::default()
    });
    event
}

fn root(id: u64) -> Event {
    let mut event = call(id, None);
    event.action = Asked::new(ActionKind::Agent, "assistant");
    event.user = Some("ada".to_owned());
    event.session = Some("s-1".to_owned());
    event.usage = None;
    event
}

fn append(ledger: &Ledger, events: &[Event]) {
    let records = events.iter().map(|event| NewRecord::from_event(event).unwrap()).collect();
    ledger.append(Batch { records, blobs: Vec::new() }).unwrap();
}

fn view(ledger: &Ledger) -> View {
    let size = ledger.head().size;
    let rules = Rules::read(ledger, size, LabelSource::defaults()).unwrap();
    View::read(ledger, 0..size, &rules, u64::MAX, &mut |_| {}).unwrap()
}

fn contract(mode: &str) -> Contract {
    Contract::parse(
        format!(
            "label = \"t-{mode}\"\nmode = \"{mode}\"\nat_ingest = [\"service\", \"correlation\"]\n\
             [[require]]\nfield = \"user\"\nkinds = [\"model\"]\n\
             [[require]]\nfield = \"cost\"\nkinds = [\"model\"]\noutcomes = [\"ok\"]\ninherited = false\n"
        )
        .as_bytes(),
    )
    .unwrap()
}

#[test]
fn the_shipped_contract_asks_for_everything_and_takes_what_is_inherited() {
    let contract = Contract::shipped().unwrap();
    assert_eq!(contract.mode(), Mode::Lenient);
    let (_dir, ledger) = ledger();
    append(&ledger, &[root(1), call(2, Some(1))]);
    let view = view(&ledger);
    let judgement = view.judgement(1).unwrap();
    // Cost is priced, user and session are inherited; nobody looked at its safety, which is not zero violations.
    assert_eq!(judgement.missing, [Field::SafetyViolations]);
    assert_eq!(judgement.inherited, [Field::Session, Field::User]);
    assert_eq!(view.violations(1), None);
    let mut coverage = Coverage::default();
    coverage.add(&judgement);
    assert_eq!(coverage.fields[&Field::User], FieldCoverage { asked: 1, own: 0, inherited: 1 });
    assert_eq!((coverage.actions, coverage.met), (1, 0));
}

#[test]
fn null_is_not_zero() {
    let guard = |effect: Effect, by: AuthorityKind| {
        let mut event = Event::new("guard", Asked::new(ActionKind::Guard, "moderation"));
        event.trace_id = Some(TraceId([7; 16]));
        event.span_id = Some(SpanId(3_u64.to_be_bytes()));
        event.parent_span_id = Some(SpanId(2_u64.to_be_bytes()));
        event.decision = Some(Decision::new(effect, by));
        event
    };
    let seen = |events: &[Event]| {
        let (_dir, ledger) = ledger();
        append(&ledger, events);
        view(&ledger).violations(0)
    };
    assert_eq!(seen(&[call(2, None)]), None);
    assert_eq!(
        seen(&[call(2, None), guard(Effect::Allow, AuthorityKind::Human)]),
        None,
        "a gate says nothing"
    );
    assert_eq!(seen(&[call(2, None), guard(Effect::Allow, AuthorityKind::Model)]), Some(0));
    assert_eq!(seen(&[call(2, None), guard(Effect::Block, AuthorityKind::Model)]), Some(1));
    let mut flagged = guard(Effect::Block, AuthorityKind::Model);
    flagged.decision.as_mut().unwrap().flags = vec!["pii".into(), "jailbreak".into(), "warn".into()];
    assert_eq!(seen(&[call(2, None), flagged]), Some(2));
    let mut stated = call(2, None);
    stated.attributes.insert("safety_violations".to_owned(), 0.into());
    assert_eq!(seen(&[stated]), Some(0));
}

#[test]
fn a_verdict_is_an_entry_and_late_data_makes_another() {
    let (_dir, ledger) = ledger();
    activate(&ledger, &contract("lenient"), "ada", "start").unwrap();
    append(&ledger, &[call(2, Some(1))]);
    let first = run(&ledger, &view(&ledger)).unwrap();
    assert_eq!((first.checked, first.unmet, first.verdicts, first.quarantined), (1, 1, 1, 0));
    let size = ledger.head().size;
    assert_eq!(run(&ledger, &view(&ledger)).unwrap().verdicts, 0);
    assert_eq!(ledger.head().size, size, "the same verdict again is no entry");
    // The parent comes late, and with it the user.
    append(&ledger, &[root(1)]);
    let key = view(&ledger).actions[0].key;
    let second = run(&ledger, &view(&ledger)).unwrap();
    assert_eq!((second.met, second.verdicts), (1, 1));
    let verdicts: Vec<_> = ledger.find_kind(VERDICT).unwrap();
    assert_eq!(verdicts.len(), 2, "nothing was edited");
    let last = Verdicts::read(&ledger).unwrap();
    let last = last.last(key).unwrap();
    assert_eq!((last.verdict, last.inherited.as_slice()), (Verdict::Met, &[Field::User][..]));
    assert_eq!(last.contract, contract("lenient").id());
    // What the cost rests on is kept.
    let record = ledger.record(verdicts[1]).unwrap().unwrap();
    let table = record.body["price_table"].as_str().unwrap().to_owned();
    let (kept, activation) = crate::pricing::registry::in_force(&ledger, u64::MAX).unwrap();
    assert_eq!(kept.id(), table);
    assert!(activation.is_some());
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
}

#[test]
fn what_has_not_settled_is_not_judged() {
    let (_dir, ledger) = ledger();
    append(&ledger, &[call(2, None)]);
    let rules = Rules::read(&ledger, u64::MAX, Vec::new()).unwrap();
    let early = View::read(&ledger, 0..ledger.head().size, &rules, 0, &mut |_| {}).unwrap();
    let outcome = run(&ledger, &early).unwrap();
    assert_eq!((outcome.checked, outcome.unsettled, outcome.verdicts), (0, 1, 0));
}

#[test]
fn strict_holds_back_until_somebody_decides() {
    let (_dir, ledger) = ledger();
    activate(&ledger, &contract("strict"), "ada", "start").unwrap();
    append(&ledger, &[call(2, None)]);
    let outcome = run(&ledger, &view(&ledger)).unwrap();
    assert_eq!((outcome.unmet, outcome.quarantined), (1, 1));
    let held = view(&ledger);
    assert_eq!((held.actions.len(), held.governed().count()), (1, 0));
    let key = held.actions[0].key;
    assert!(matches!(
        release(&ledger, &Selected::Action(key), &by("ada", " ")),
        Err(ReleaseError::Unattributed)
    ));
    assert!(matches!(
        release(&ledger, &Selected::Event("other".into()), &by("ada", "why")),
        Err(ReleaseError::Nothing)
    ));
    let (ended, _) = release(&ledger, &Selected::Action(key), &by("ada", "known batch job")).unwrap();
    assert_eq!((ended.len(), ended[0].missing.as_slice()), (1, &[Field::User][..]));
    let released = view(&ledger);
    assert_eq!(released.governed().count(), 1);
    let hold = &released.rules.quarantine.holds()[0];
    assert_eq!(
        hold.released.as_ref().map(|r| (r.by.as_str(), r.reason.as_str())),
        Some(("ada", "known batch job"))
    );
    // A later run does not undo the decision.
    assert_eq!(run(&ledger, &released).unwrap().quarantined, 0);
    assert_eq!(view(&ledger).governed().count(), 1);
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
}

#[test]
fn late_data_ends_a_quarantine() {
    let (_dir, ledger) = ledger();
    activate(&ledger, &contract("strict"), "ada", "start").unwrap();
    append(&ledger, &[call(2, Some(1))]);
    run(&ledger, &view(&ledger)).unwrap();
    append(&ledger, &[root(1)]);
    let outcome = run(&ledger, &view(&ledger)).unwrap();
    assert_eq!((outcome.met, outcome.released), (1, 1));
    assert_eq!(view(&ledger).governed().count(), 2);
}

#[test]
fn one_request_is_judged_by_what_it_can_prove() {
    let mut bare = call(1, None);
    bare.service = None;
    let mut lost = call(2, None);
    (lost.service, lost.trace_id) = (None, None);
    lost.source.path = Some("line/12".to_owned());
    let events = [call(3, None), bare, lost];
    let lenient = AtIngest::check(&contract("lenient"), &events);
    assert_eq!((lenient.lacking().len(), lenient.rejected(), lenient.line_errors().len()), (2, 0, 0));
    assert_eq!(
        lenient.message().unwrap(),
        "2 of 3 records do not meet contract t-lenient: 2 without service.name, 1 without a trace id or session.id; \
         accepted and marked"
    );
    assert_eq!(lenient.facts(), []);
    let strict = AtIngest::check(&contract("strict"), &events);
    assert_eq!(strict.rejected(), 2);
    assert!(strict.message().unwrap().ends_with("kept in quarantine until released"));
    assert_eq!(
        serde_json::to_value(strict.line_errors()).unwrap(),
        serde_json::json!([
            {"line": 2, "missing": ["service"]},
            {"line": 12, "missing": ["service", "correlation"]},
        ])
    );
    assert_eq!(AtIngest::check(&contract("strict"), &events[..1]).message(), None);
}

#[test]
fn quarantine_at_ingest_comes_with_the_events_and_only_once() {
    let (_dir, ledger) = ledger();
    let strict = contract("strict");
    activate(&ledger, &strict, "ada", "start").unwrap();
    let mut bare = call(1, None);
    (bare.service, bare.user) = (None, Some("ada".to_owned()));
    let send = || {
        let events = [bare.clone()];
        let mut records = vec![NewRecord::from_event(&bare).unwrap()];
        records.extend(AtIngest::check(&strict, &events).facts());
        ledger.append(Batch { records, blobs: Vec::new() }).unwrap()
    };
    assert_eq!(send().appended, 2);
    assert_eq!((send().appended, view(&ledger).governed().count()), (0, 0), "a second delivery adds nothing");
    release(&ledger, &Selected::Event("e1".into()), &by("ada", "checked")).unwrap();
    assert_eq!((send().appended, view(&ledger).governed().count()), (0, 1), "and does not undo a release");
}

#[test]
fn a_file_that_is_wrong_is_refused_with_its_place() {
    let head = "label = \"t\"\nmode = \"lenient\"\n";
    let row = |field: &str, kinds: &str| format!("[[require]]\nfield = \"{field}\"\nkinds = [{kinds}]\n");
    for (text, says) in [
        (head.replace("lenient", "harsh"), "harsh"),
        (format!("{head}at_ingest = [\"user\"]\n"), "one record cannot prove `user`"),
        (format!("{head}{}", row("user", "")), "require 1 (user)"),
        (format!("{head}{}", row("users", "\"tool\"")), "users"),
        (format!("{head}{}", row("correlation", "\"tool\"")), "name it in at_ingest"),
        (
            format!("{head}{0}{0}", row("user", "\"tool\"")),
            "require 2 (user): there is another row for kind `tool`",
        ),
        (format!("{head}strict = true\n"), "strict"),
    ] {
        let said = Contract::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(said.contains(says), "{says}: {said}");
    }
}
