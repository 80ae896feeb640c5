//! Runs made by hand, so that a test says what each side decides and nothing else.

use verdict_ledger::event::{ActionKind, Cost, Effect, Obligation, Status};
use verdict_ledger::id::{Digest, TraceId};
use verdict_replay::policy::{Decision, EngineId, Finding, RuleRef};
use verdict_replay::run::{Answer, Point, Recorded, Replayed, Run, RunHeader, Select, Semantics};

pub(crate) fn rule(id: &str) -> RuleRef {
    RuleRef {
        id: id.to_owned(),
        file: Some(format!("policy/{}.rego", id.split('.').next().unwrap())),
        line: Some(7),
    }
}

pub(crate) fn finding(id: &str, effect: Effect) -> Finding {
    Finding { effect, rule: rule(id), reason: Some(format!("because {id}")), obligations: Vec::new() }
}

pub(crate) fn obliging(id: &str, effect: Effect, kind: &str) -> Finding {
    let obligation =
        Obligation { kind: kind.to_owned(), params: [("role".to_owned(), "finance".to_owned())].into() };
    Finding { obligations: vec![obligation], ..finding(id, effect) }
}

/// Joins findings as a policy does; no finding gives the default.
pub(crate) fn decided(default: Effect, mut findings: Vec<Finding>) -> Answer {
    findings.sort();
    let effect = findings.iter().map(|finding| finding.effect).max().unwrap_or(default);
    let mut rules: Vec<RuleRef> = findings
        .iter()
        .filter(|finding| finding.effect == effect)
        .map(|finding| finding.rule.clone())
        .collect();
    rules.dedup();
    let mut obligations: Vec<Obligation> =
        findings.iter().flat_map(|finding| finding.obligations.clone()).collect();
    obligations.sort();
    obligations.dedup();
    Answer::Decided { decision: Decision { effect, rules, obligations, findings, error: None } }
}

pub(crate) fn unknown(reason: &str, missing: &[&str]) -> Answer {
    Answer::unknown(reason, missing.iter().map(|pointer| (*pointer).to_owned()).collect())
}

pub(crate) fn point(key: u64, name: &str) -> Point {
    Point {
        key,
        trace_id: Some(TraceId([u8::try_from(key % 3 + 1).unwrap(); 16])),
        agent: Some(if key.is_multiple_of(2) { "support-agent" } else { "ops-agent" }.to_owned()),
        tenant: None,
        kind: ActionKind::Tool,
        name: name.to_owned(),
        at_ns: 1_763_670_000_000_000_000 + key * 1_000_000_000,
        recorded: None,
        outcome: Some(Status::Ok),
        cost: Some(Cost { nano: 1_250_000, currency: "USD".to_owned(), basis: "reported".to_owned() }),
        input: Digest::of(&key.to_be_bytes()),
        input_bytes: 1_000 - key,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "callers set an optional member")]
pub(crate) fn recorded(effect: Effect, rules: &[&str], bundle: Option<Digest>) -> Option<Recorded> {
    Some(Recorded {
        effect,
        rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        bundle,
        version: None,
        seq: 99,
    })
}

pub(crate) fn bundle(version: &str) -> Digest {
    Digest::of(version.as_bytes())
}

pub(crate) fn run(version: &str, points: Vec<(Point, Answer)>) -> Run {
    let points: Vec<Replayed> =
        points.into_iter().map(|(point, answer)| Replayed::new(point, answer)).collect();
    let mut rules: Vec<RuleRef> = points
        .iter()
        .filter_map(|replayed| match &replayed.answer {
            Answer::Decided { decision } => Some(&decision.findings),
            _ => None,
        })
        .flatten()
        .map(|finding| finding.rule.clone())
        .collect();
    rules.push(rule("never.fires"));
    rules.sort();
    rules.dedup();
    Run {
        header: RunHeader {
            origin: "example.org/verdict/demo".to_owned(),
            first_seq: 0,
            end_seq: 1_000,
            root: "ab".repeat(32),
            policy_name: "harbor-agents".to_owned(),
            policy_version: version.to_owned(),
            policy_digest: bundle(version),
            engine: EngineId("regorus@0.14.1+interpreter+strict".to_owned()),
            input_schema: "verdict-input/1".to_owned(),
            semantics: Semantics::Pointwise,
            prices: None,
            select: Select::default(),
        },
        digest: Digest::of(&serde_json::to_vec(&points).unwrap()),
        points,
        rules,
    }
}

/// Two versions that differ in every way a report can tell.
pub(crate) fn everything() -> (Run, Run) {
    use Effect::{Allow, Block, RequireApproval};
    let points = || {
        let mut refund = point(3, "issue_refund");
        refund.cost = None;
        let mut mail = point(8, "send_email\u{202e}|`");
        mail.agent = Some("mail <agent> @team".to_owned());
        mail.tenant = Some("acme".to_owned());
        let mut loop_call = point(10, "get_service_status");
        loop_call.outcome = None;
        vec![
            refund,
            point(4, "issue_refund"),
            point(6, "issue_refund"),
            mail,
            loop_call,
            point(12, "run_sql"),
            point(14, "search_docs"),
            point(16, "restart_service"),
        ]
    };
    let allow = |id: &str| finding(id, Allow);
    let from = vec![
        decided(Block, vec![allow("tools.allowed"), finding("limits.refund", RequireApproval)]),
        decided(Block, vec![allow("tools.allowed")]),
        decided(Block, vec![allow("tools.allowed")]),
        decided(Block, vec![allow("tools.allowed"), finding("provenance.untrusted", Block)]),
        decided(Block, vec![allow("tools.allowed")]),
        decided(Block, vec![allow("tools.allowed"), obliging("data.restricted", Allow, "notify")]),
        decided(Block, vec![allow("tools.allowed")]),
        decided(Block, vec![finding("ops.environment", Block)]),
    ];
    let to = vec![
        decided(Block, vec![allow("tools.allowed")]),
        decided(Block, vec![allow("tools.allowed"), finding("limits.refund_daily", Block)]),
        decided(Block, vec![allow("tools.allowed"), finding("limits.refund_daily", Block)]),
        decided(Block, vec![allow("tools.allowed"), finding("provenance.untrusted", RequireApproval)]),
        unknown("missing_input", &["/action/arguments", "/user"]),
        decided(Block, vec![allow("tools.allowed"), obliging("data.restricted", Allow, "redact")]),
        decided(Block, vec![allow("tools.allowed")]),
        decided(Block, vec![finding("ops.window", Block)]),
    ];
    (
        run("1.0.0", points().into_iter().zip(from).collect()),
        run("2.0.0", points().into_iter().zip(to).collect()),
    )
}
