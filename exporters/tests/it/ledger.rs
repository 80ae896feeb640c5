//! Exports of a real ledger, on disk, with a policy that was really published and decisions that name it.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use verdict_exporters::evidence::{
    ExportError, ExportOptions, MaterialError, Outcome, Selection, VerifierKeys, Withhold, export,
    export_event,
};
use verdict_ledger::clock::{SteppingClock, SteppingEntropy};
use verdict_ledger::event::{
    Action, ActionKind, Agent, AuthorityKind, Decision, Effect, Event, Outcome as Ended, PolicyRef, Status,
};
use verdict_ledger::id::Digest;
use verdict_ledger::key::SigningKey;
use verdict_ledger::note::VerifierKey;
use verdict_ledger::{Batch, InitOptions, Ledger, NewRecord};
use verdict_replay::policy::Bundle;
use verdict_replay::policy::registry::{activate, publish};

use crate::fixture::{TRACE, check, unzip};

struct Real {
    ledger: Ledger,
    policy: Digest,
    key: SigningKey,
    _dir: tempfile::TempDir,
}

fn real() -> Real {
    let dir = tempfile::tempdir().unwrap();
    let options = InitOptions {
        entropy: Arc::new(SteppingEntropy::starting_at(5)),
        ..InitOptions::new("example.com/verdict/evidence")
    };
    let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
    let ledger = Ledger::init(&dir.path().join("ledger"), &options, clock).unwrap();
    let bundle =
        Bundle::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/policies/v1")).unwrap();
    let policy = bundle.digest();
    publish(&ledger, &bundle, "ops", "first").unwrap();
    activate(&ledger, &policy, "ops", "go").unwrap();
    for number in 0..12u64 {
        let mut event = Event::new(format!("call-{number}"), Action::new(ActionKind::Tool, "issue_refund"));
        // Every third is of another trace.
        let trace = if number % 3 == 2 { "11111111111111111111111111111111" } else { TRACE };
        event.trace_id = trace.parse().ok();
        event.span_id = format!("{:016x}", number + 1).parse().ok();
        event.start_ns = Some(1_763_670_000_000_000_000 + number * 1_000);
        event.agent = Some(Agent::named("support-agent"));
        event.user = Some("ada@example.org".into());
        event.action.arguments = Some(json!({"amount": number * 100, "order": "HG-1"}));
        let mut decision = Decision::new(Effect::Allow, AuthorityKind::Policy);
        decision.policy =
            Some(PolicyRef { bundle: Some(policy), version: Some("1".into()), ..PolicyRef::default() });
        event.decision = Some(decision);
        event.outcome = Some(Ended::new(Status::Ok));
        ledger
            .append(Batch { records: vec![NewRecord::from_event(&event).unwrap()], blobs: Vec::new() })
            .unwrap();
    }
    ledger.settle().unwrap();
    Real { ledger, policy, key: SigningKey::generate(&SteppingEntropy::starting_at(6)).unwrap(), _dir: dir }
}

impl Real {
    fn options(&self) -> ExportOptions<'_> {
        ExportOptions {
            signer: &self.key,
            signer_name: "example.com/verdict/evidence/bundle",
            tool_version: "0.0.0-test",
            withhold: Withhold::Nothing,
            checkpoint: None,
        }
    }

    fn keys(&self) -> VerifierKeys {
        VerifierKeys {
            log: vec![VerifierKey::parse(&self.ledger.verifier_key()).unwrap()],
            bundle: vec![VerifierKey::new("b", self.key.public()).unwrap()],
            ..VerifierKeys::default()
        }
    }
}

#[test]
fn a_trace_and_a_range_of_a_ledger_verify_with_policy_and_transcript() {
    let real = real();
    let size = real.ledger.head().size;
    for (selection, decisions) in
        [(Selection::Trace(TRACE.parse().unwrap()), 8), (Selection::Range(0..size), 12)]
    {
        let built = export(&real.ledger, &selection, &real.options()).unwrap();
        let report = check(&built.bytes, &real.keys());
        assert_eq!(report.outcome, Outcome::Verified, "{:#?}", report.checks);
        assert_eq!(built.predicate.counts.by_effect["allow"], decisions);
        assert_eq!(built.predicate.counts.by_type["policy.published"], 1, "also beside a trace");
        let policy = &built.predicate.policies[0];
        assert_eq!(
            (policy.digest.as_str(), policy.decisions, policy.included),
            (real.policy.to_string().as_str(), decisions, true)
        );
        let files = unzip(&built.bytes);
        assert!(files.contains_key(&format!("data/policy/{}/verdict.toml", real.policy.to_hex())));
        let transcript: serde_json::Value =
            serde_json::from_slice(&files["data/replay/transcript.json"]).unwrap();
        assert_eq!(transcript["reevaluated"], decisions, "{transcript:#}");
        assert!(transcript["bundles"][0]["error"].is_null(), "{transcript:#}");
        assert_eq!(built.bytes, export(&real.ledger, &selection, &real.options()).unwrap().bytes);
    }
}

#[test]
fn an_old_checkpoint_still_gives_the_same_bundle_after_the_export_was_recorded() {
    let real = real();
    let size = real.ledger.head().size;
    let selection = Selection::Trace(TRACE.parse().unwrap());
    let before = export(&real.ledger, &selection, &real.options()).unwrap();
    let batch = Batch { records: vec![export_event(&before, "grace@example.org")], blobs: Vec::new() };
    assert_eq!(real.ledger.append(batch.clone()).unwrap().appended, 1);
    assert_eq!(real.ledger.append(batch).unwrap().duplicates, 1, "an export is recorded once");
    real.ledger.settle().unwrap();
    assert!(real.ledger.head().size > size);
    let options = ExportOptions { checkpoint: Some(size), ..real.options() };
    let again = export(&real.ledger, &selection, &options).unwrap();
    assert_eq!(before.digest, again.digest);
    let newer = export(&real.ledger, &selection, &real.options()).unwrap();
    assert_ne!(before.digest, newer.digest);
    assert_eq!(check(&newer.bytes, &real.keys()).outcome, Outcome::Verified);
}

#[test]
fn what_cannot_be_exported_says_why() {
    let real = real();
    let size = real.ledger.head().size;
    let error = |selection, checkpoint| {
        let options = ExportOptions { checkpoint, ..real.options() };
        export(&real.ledger, &selection, &options).unwrap_err()
    };
    let range = |selection| match error(selection, None) {
        ExportError::Material(MaterialError::Range { size: of, .. }) => of,
        other => panic!("{other}"),
    };
    assert_eq!(range(Selection::Range(0..size + 1)), size);
    assert_eq!(range(Selection::Range(3..3)), size);
    let unknown = error(Selection::Trace("22222222222222222222222222222222".parse().unwrap()), None);
    assert!(unknown.to_string().contains("no event of trace 2222"), "{unknown}");
    let none = error(Selection::Range(0..1), Some(size + 50));
    assert!(matches!(none, ExportError::Material(MaterialError::NoCheckpoint { .. })), "{none}");
}
