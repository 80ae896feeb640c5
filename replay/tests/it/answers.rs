//! Answers about recorded actions: each from evidence, and "unknown" where that is the truth.

use serde_json::json;
use verdict_ledger::action::labels::LabelSource;
use verdict_ledger::erasure::{Basis, Selection};
use verdict_ledger::view::Rules;
use verdict_replay::answers::{Answers, How, Question, Statement, explain};
use verdict_replay::incident::Limits;

use crate::log::Log;
use crate::sample::{tool, with};

fn ask(log: &Log, seq: u64) -> Answers {
    let rules = Rules::read(&log.ledger, log.size(), LabelSource::defaults()).unwrap();
    explain(&log.ledger, &rules, seq, log.size(), u64::MAX, Limits::default()).unwrap()
}

fn says(answers: &Answers, question: Question) -> &[Statement] {
    &answers.answers.iter().find(|answer| answer.question == question).unwrap().says
}

fn texts(answers: &Answers, question: Question) -> String {
    let lines = says(answers, question).iter().map(|said| format!("{} [{}]", said.text, said.how.as_str()));
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn every_recorded_action_is_answered_from_events_that_exist() {
    let log = Log::harbor();
    for seq in 0..log.size() {
        if log.ledger.record(seq).unwrap().unwrap().event.is_none() {
            continue;
        }
        let answers = ask(&log, seq);
        assert!(answers.action.seqs.contains(&seq));
        assert_eq!(answers.answers.len(), 8);
        for answer in &answers.answers {
            assert!(!answer.says.is_empty(), "{:?} of {seq}", answer.question);
            for said in &answer.says {
                assert!(said.seqs.iter().all(|seq| *seq < log.size()));
                // What is known is known from somewhere; what is unknown is from nowhere, or from the event that lacks it.
                assert!(said.how == How::Unknown || !said.seqs.is_empty(), "{seq}: {said:?}");
                assert!(
                    said.how != How::Unknown
                        || said.text.contains("unknown")
                        || said.text.contains("nobody")
                        || said.text.contains("no step"),
                    "{said:?}"
                );
            }
        }
    }
}

#[test]
fn the_refused_refund_reads_well() {
    let log = Log::harbor();
    let seq = (0..log.size())
        .find(|seq| {
            let event = log.ledger.record(*seq).unwrap().unwrap().event;
            event.is_some_and(|event| {
                event.action.arguments.as_ref().is_some_and(|a| a["amount_cents"] == 80_000)
            })
        })
        .unwrap();
    let answers = ask(&log, seq);
    assert!(answers.headline.contains("issue_refund by support-agent for customer-"), "{}", answers.headline);
    assert!(
        answers.headline.contains("blocked by policy, and it did not run")
            || answers.headline.contains("it ran and failed"),
        "{}",
        answers.headline
    );
    let rule = texts(&answers, Question::Rule);
    assert!(rule.contains("block by policy"), "{rule}");
    assert!(rule.contains("@1, the only one published under that label"), "{rule}");
    assert!(texts(&answers, Question::Capability).contains("payments.refund, as stated"));
    assert!(texts(&answers, Question::Replayable).starts_with("yes, under any policy that is at hand"));
}

#[test]
fn an_approved_refund_names_who_asked_who_answered_and_where() {
    let log = Log::harbor();
    let answers = ask(&log, log.seq("harbor-04-04"));
    let decision = texts(&answers, Question::Decision);
    assert!(decision.contains("asked for an approval, approval-311"), "{decision}");
    assert!(decision.contains("human") && decision.contains("approved it (allow)"), "{decision}");
    let answer =
        says(&answers, Question::Decision).iter().find(|said| said.text.contains("approved it")).unwrap();
    let event = log.ledger.record(answer.seqs[0]).unwrap().unwrap().event.unwrap();
    assert!(event.id.starts_with("harbor-05-"), "the answer is in the other trace: {}", event.id);
}

#[test]
fn an_outside_page_is_named_with_its_trust() {
    let log = Log::harbor();
    let mail = (0..log.size())
        .find(|seq| {
            log.ledger.record(*seq).unwrap().unwrap().event.is_some_and(|event| {
                event.action.name == "send_email"
                    && event.provenance.iter().any(|source| source.uri.is_some())
            })
        })
        .unwrap();
    let answers = ask(&log, mail);
    let sources = texts(&answers, Question::InfluencedBy);
    assert!(
        sources.contains(
            "unverified tool_result fetch_url (https://carrier.example/notices/7731): stated with the action"
        ),
        "{sources}"
    );
    let trusted = &says(&answers, Question::Trusted)[0];
    assert!(trusted.text.starts_with("no: the least trusted"), "{}", trusted.text);
    assert_eq!(trusted.value, json!({"lowest_trust": "unverified", "trusted": false}));
    assert!(trusted.seqs.contains(&mail));
}

#[test]
fn what_nobody_stated_is_unknown_and_never_allowed() {
    let log = Log::of(&[json!({"action": {"kind": "tool", "name": "rm"}, "outcome": {"status": "ok"}})]);
    let answers = ask(&log, log.seq("e1"));
    assert_eq!(
        answers.headline,
        "tool rm by an agent that nobody stated: nobody stated a decision, and it ran"
    );
    for question in
        [Question::InfluencedBy, Question::Trusted, Question::Capability, Question::Rule, Question::Cost]
    {
        assert_eq!(says(&answers, question)[0].how, How::Unknown, "{question:?}");
    }
    assert_eq!(texts(&answers, Question::InfluencedBy), "sources unknown: nobody stated it [unknown]\n");
    assert_eq!(
        says(&answers, Question::Rule)[0].text,
        "unknown: nobody stated a decision, which is not the same as allowed"
    );
    assert!(texts(&answers, Question::Decision).contains("finding: ungoverned"));
    assert!(
        texts(&answers, Question::StartedBy)
            .starts_with("user unknown: nobody stated it [unknown]\nagent unknown")
    );
}

#[test]
fn inherited_values_name_who_states_them() {
    let log = Log::of(&[
        json!({"span_id": "00000000000000a1", "agent": {"name": "boss"}, "user": "ada", "action": {"kind": "agent", "name": "boss", "capabilities": ["all"]}}),
        json!({"span_id": "00000000000000a2", "parent_span_id": "00000000000000a1", "action": {"kind": "tool", "name": "t"}}),
    ]);
    let (root, child) = (log.seq("e1"), log.seq("e2"));
    let answers = ask(&log, child);
    for said in &says(&answers, Question::StartedBy)[..2] {
        assert_eq!((said.how, said.seqs.as_slice()), (How::Inherited, [root].as_slice()), "{said:?}");
    }
    assert!(texts(&answers, Question::StartedBy).contains("called by agent boss of boss [stated]"));
    let capability = says(&answers, Question::Capability);
    assert_eq!((capability[0].how, capability[1].how), (How::Unknown, How::Inherited));
    assert!(capability[1].text.contains("its caller agent boss states all"));
}

#[test]
fn what_was_erased_is_missing_and_said() {
    let log = Log::of(&[with(
        tool("t", json!({"to": "x"})),
        "decision",
        json!({"effect": "allow", "by": {"kind": "policy"}, "policy": {"name": "n", "version": "9"}}),
    )]);
    let seq = log.seq("e1");
    let basis =
        Basis { legal_basis: "Art. 17".into(), by: "dpo".into(), reason: "asked".into(), requested_by: None };
    log.ledger.erase(&Selection::event(seq), &basis, 0).unwrap();
    let answers = ask(&log, seq);
    let replay = texts(&answers, Question::Replayable);
    assert!(replay.contains("only as far as") && replay.contains("/action/arguments"), "{replay}");
    assert!(replay.contains("not in this ledger; policy n@9, content not stated"), "{replay}");
    assert_eq!(says(&answers, Question::Replayable)[0].value["replayable"], false);
}
