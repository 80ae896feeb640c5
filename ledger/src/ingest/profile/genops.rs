//! GenOps: specification 0.1 and the older SDK, which differ in case and in what they carry.
//!
//! The ruling comes from the span event `genops.policy.evaluated` where it is there, else from the attributes. The
//! span's status is no evidence that a blocked unit ran, nor that it did not: the SDK reports blocked units as OK.

use super::{Draft, Point, Profile, Record, Unset};
use crate::event::{ActionKind, Authority, AuthorityKind, Budget, Decision, Effect, PolicyRef, Usage};
use crate::ingest::fields::{Fields, Held};

/// Specification 0.1, which can be checked: what a unit breaks is said, and the unit is taken all the same.
pub(super) const SPECIFICATION: Profile = Profile {
    name: "genops-0.1",
    version: 1,
    applies: |draft| draft.fields.get("genops.spec.version").is_some(),
    map: |draft| {
        check(draft);
        map(draft);
    },
};

/// The SDK, which came before the specification and says less.
pub(super) const SDK: Profile =
    Profile { name: "genops-sdk", version: 1, applies: |draft| draft.fields.has_prefix("genops."), map };

/// What the specification requires of every unit. Accounting may be absent when a unit was stopped before it.
const REQUIRED: [&str; 6] = [
    "genops.team",
    "genops.project",
    "genops.environment",
    "genops.operation.name",
    "genops.operation.type",
    "genops.policy.result",
];

/// What a unit that was let run has to account for.
const ACCOUNTING: [&str; 3] =
    ["genops.accounting.reserved", "genops.accounting.actual", "genops.accounting.unit"];

/// The reason codes of the specification; others begin with `x_`.
const REASONS: [&str; 9] = [
    "BUDGET_EXCEEDED",
    "BUDGET_RESERVATION_FAILED",
    "POLICY_DENY_MODEL",
    "POLICY_DENY_REGION",
    "POLICY_DENY_CONTENT",
    "RATE_LIMITED",
    "SLA_LATENCY_VIOLATION",
    "PROVIDER_ERROR_UPSTREAM",
    "ACCOUNTING_INVARIANT_VIOLATION",
];

fn is_reason(code: &str) -> bool {
    let own = |rest: &str| {
        !rest.is_empty()
            && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    REASONS.contains(&code) || code.strip_prefix("x_").is_some_and(own)
}

fn check(draft: &mut Draft) {
    let missing: Vec<&str> = REQUIRED.into_iter().filter(|name| draft.fields.get(name).is_none()).collect();
    if !missing.is_empty() {
        draft.notes.push(format!("the unit breaks GenOps 0.1: it lacks {}", missing.join(", ")));
    }
    let result = draft.fields.get_text("genops.policy.result");
    if let Some(word) =
        result.filter(|word| !["ALLOWED", "BLOCKED", "WARNING", "RATE_LIMITED"].contains(word))
    {
        let note = format!("the unit breaks GenOps 0.1: `{word}` is no result of it");
        draft.notes.push(note);
    }
    if let Some(code) = draft.fields.get_text("genops.policy.reason_code").filter(|code| !is_reason(code)) {
        let note =
            format!("the unit breaks GenOps 0.1: `{code}` is no reason code of it, nor `x_` and a name");
        draft.notes.push(note);
    }
    // A unit that was stopped before anything was reserved has nothing to account for.
    let runs = matches!(draft.fields.get_text("genops.policy.result"), Some("ALLOWED" | "WARNING"));
    let missing: Vec<&str> = ACCOUNTING.into_iter().filter(|name| draft.fields.get(name).is_none()).collect();
    if runs && !missing.is_empty() {
        let note = format!("the unit breaks GenOps 0.1: it was let run and lacks {}", missing.join(", "));
        draft.notes.push(note);
    }
    let evaluated =
        draft.span().map(|span| span.points.iter().any(|point| point.name == "genops.policy.evaluated"));
    if evaluated == Some(false) {
        draft.notes.push("the unit breaks GenOps 0.1: it has no event `genops.policy.evaluated`".to_owned());
    }
    let allowed = draft.fields.get_text("genops.policy.result").map(|word| word == "ALLOWED");
    let has_code = draft.fields.get("genops.policy.reason_code").is_some();
    let problem = match (allowed, has_code) {
        (Some(true), true) => "a reason code beside ALLOWED",
        (Some(false), false) => "a result other than ALLOWED without a reason code",
        _ => return,
    };
    draft.notes.push(format!("the unit breaks GenOps 0.1: {problem}"));
}

fn map(draft: &mut Draft) {
    let operation_type = draft.fields.get_text("genops.operation.type").unwrap_or_default();
    let kind = if operation_type.contains("agent") { ActionKind::Agent } else { ActionKind::Model };
    draft.event.action.kind = kind;
    draft.event.action.name = draft.fields.text("genops.operation.name").unwrap_or_default();
    draft.event.action.resource = draft.fields.text("genops.feature");
    draft.session_from(&["genops.session_id"]);
    draft.user_from(&["genops.user_id"]);
    if draft.event.environment.is_none() {
        draft.event.environment = draft.stated(&["genops.environment"]);
    }
    decision(draft);
    budget(draft);
    let fields = &mut draft.fields;
    let usage = Usage {
        provider: fields.first_text(&["genops.cost.provider", "genops.provider"]),
        model: fields.first_text(&["genops.cost.model", "genops.model"]),
        input_tokens: fields.first_count(&[
            "genops.tokens.input",
            "genops.input_tokens",
            "genops.tokens_input",
            "genops.tokens_in",
        ]),
        output_tokens: fields.first_count(&[
            "genops.tokens.output",
            "genops.output_tokens",
            "genops.tokens_output",
            "genops.tokens_out",
        ]),
        aggregate: kind == ActionKind::Agent,
        ..Usage::default()
    };
    let cost = cost(draft);
    draft.usage(Usage { cost, ..usage });
    let stopped = draft.event.decision.as_ref().is_some_and(|decision| !decision.effect.lets_run());
    let failed = draft.span().is_some_and(|span| span.code == super::STATUS_ERROR);
    if !stopped || failed {
        draft.outcome_from_status(Unset::MeansOk);
    }
}

fn cost(draft: &mut Draft) -> Option<crate::event::Cost> {
    let stated =
        draft.fields.get_text("genops.cost.currency").filter(|code| code.len() == 3).map(str::to_owned);
    let in_dollars = draft.cost(&["genops.cost_usd", "genops.total_cost_usd"], "USD");
    // Both leave the currency out, where the SDK's own default is US dollars; nothing else is assumed from silence.
    let currency = stated.as_deref().unwrap_or("USD");
    let cost = draft.cost(
        &["genops.cost.total", "genops.cost.amount", "genops.total_cost", "genops.cost.estimated"],
        currency,
    );
    if cost.is_some() && stated.is_some() {
        draft.fields.take("genops.cost.currency");
    }
    cost.or(in_dollars)
}

fn decision(draft: &mut Draft) {
    let mut from_event = None;
    if let Record::Span(parts) = &draft.record {
        let mut rulings = parts.points.iter().filter(|point| point.name == "genops.policy.evaluated");
        from_event = rulings.next().map(read);
        if rulings.next().is_some() {
            draft.notes.push(
                "more than one `genops.policy.evaluated` in a span; the first is the decision, all stay in \
                 `otlp.span.events`"
                    .to_owned(),
            );
        }
    }
    let from_attributes = draft.fields.get_text("genops.policy.result").and_then(effect);
    let Some(ruling) = from_event.flatten().or_else(|| read_fields(&draft.fields)) else {
        if let Some(word) = draft.fields.get_text("genops.policy.result")
            && from_attributes.is_none()
        {
            draft
                .notes
                .push(format!("policy result `{word}` is not one of GenOps; it stays in the attributes"));
        }
        return;
    };
    if from_attributes.is_some_and(|(effect, _)| effect != ruling.effect) {
        draft.notes.push(
            "`genops.policy.result` of the span and of its event differ; the event is the decision"
                .to_owned(),
        );
    } else {
        draft.fields.take("genops.policy.result");
        if ruling.code.is_some()
            && draft.fields.get_text("genops.policy.reason_code") == ruling.code.as_deref()
        {
            draft.fields.take("genops.policy.reason_code");
        }
    }
    draft.event.decision = Some(ruling);
}

fn read(point: &Point) -> Option<Decision> {
    read_fields(&point.fields)
}

fn read_fields(fields: &Fields) -> Option<Decision> {
    let text = |name: &str| {
        fields
            .get_text(name)
            .filter(|text| !text.is_empty() && text.len() <= crate::ingest::fields::TEXT_BYTES_MAX)
            .map(str::to_owned)
    };
    let (effect, flag) = effect(fields.get_text("genops.policy.result")?)?;
    let mut decision = Decision::new(effect, AuthorityKind::Policy);
    decision.by = Authority { kind: AuthorityKind::Policy, id: None };
    decision.flags.extend(flag.map(str::to_owned));
    decision.code = text("genops.policy.reason_code");
    decision.reason = text("genops.policy.reason");
    let policy = PolicyRef {
        bundle: None,
        name: text("genops.policy.name"),
        version: text("genops.policy.metadata.version"),
        rules: text("genops.policy.metadata.rule").into_iter().collect(),
    };
    if policy != PolicyRef::default() {
        decision.policy = Some(policy);
    }
    Some(decision)
}

fn effect(word: &str) -> Option<(Effect, Option<&'static str>)> {
    Some(match word {
        "ALLOWED" | "allowed" => (Effect::Allow, None),
        "WARNING" | "warning" => (Effect::Allow, Some("warn")),
        "BLOCKED" | "blocked" => (Effect::Block, None),
        "RATE_LIMITED" | "rate_limited" => (Effect::Cooldown, None),
        _ => return None,
    })
}

/// Reads the budget of the unit: accounting in money or tokens, else the named budget in money.
fn budget(draft: &mut Draft) {
    let unit = draft.fields.get_text("genops.accounting.unit").map(str::to_owned);
    let nano = |fields: &mut Fields, name: &str| fields.nano(name);
    let budget = match unit.as_deref() {
        Some(unit) if unit.len() == 3 && unit.bytes().all(|byte| byte.is_ascii_uppercase()) => Budget {
            name: budget_name(draft),
            unit: format!("nano_{}", unit.to_ascii_lowercase()),
            limit: None,
            used: nano(&mut draft.fields, "genops.accounting.actual"),
            reserved: nano(&mut draft.fields, "genops.accounting.reserved"),
        },
        Some(unit) if unit.len() <= 64 => Budget {
            name: budget_name(draft),
            unit: unit.to_owned(),
            limit: None,
            used: whole(&mut draft.fields, "genops.accounting.actual"),
            reserved: whole(&mut draft.fields, "genops.accounting.reserved"),
        },
        _ => {
            // The SDK names no unit: not ours to say what the numbers count.
            return;
        }
    };
    if budget.used.is_some() || budget.reserved.is_some() {
        draft.event.budget = Some(budget);
    }
}

fn budget_name(draft: &mut Draft) -> Option<String> {
    draft.fields.text("genops.budget.name").or_else(|| {
        draft.span()?.points.iter().find_map(|point| {
            let name = point.fields.get_text("genops.budget.name")?;
            point.name.starts_with("genops.budget.").then(|| name.to_owned())
        })
    })
}

/// Takes an amount that is an integer in its unit.
fn whole(fields: &mut Fields, name: &str) -> Option<i64> {
    let nano = crate::ingest::fields::decimal(fields.get(name)?)?.to_nano()?;
    let is_whole = nano.exact && nano.value % 1_000_000_000 == 0;
    let taken: Option<Held> = if is_whole { fields.take(name) } else { None };
    taken.map(|_| nano.value / 1_000_000_000)
}
