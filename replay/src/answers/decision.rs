//! What was ruled, by which rule, who approved, and what it cost.

use serde_json::json;
use verdict_ledger::action::{Action, Finding, Ruling, State};
use verdict_ledger::event::{AuthorityKind, Cost, Effect};

use super::replayable::Policies;
use super::{How, Statement};

pub(super) fn rule(action: &Action, policies: &Policies) -> Vec<Statement> {
    let Some(standing) = action.ruling() else {
        return vec![Statement::new(
            How::Unknown,
            "unknown: nobody stated a decision, which is not the same as allowed",
            [],
            json!(null),
        )];
    };
    let mut says = vec![by_rule(standing, policies)];
    // Another ruling than the one that stands is what somebody will ask about next.
    for other in action.rulings.iter().filter(|ruling| !std::ptr::eq(*ruling, standing)) {
        let mut said = by_rule(other, policies);
        let why = if other.decision.enforced { "also ruled, and another stands" } else { "a shadow ruling" };
        said.text = format!("{why}: {}", said.text);
        says.push(said);
    }
    says
}

fn by_rule(ruling: &Ruling, policies: &Policies) -> Statement {
    let decision = &ruling.decision;
    let policy = decision.policy.clone().unwrap_or_default();
    let found = policies.of(&policy);
    let mut text = format!("{} by {}", decision.effect.as_str(), authority(ruling));
    let mut places = Vec::new();
    if policy.rules.is_empty() {
        text.push_str("; no rule is named");
    } else {
        let rules: Vec<String> = policy
            .rules
            .iter()
            .map(|rule| {
                let place = found.as_ref().and_then(|found| found.place(rule));
                places.push(json!({"rule": rule, "place": place}));
                place.map_or_else(|| rule.clone(), |place| format!("{rule} at {place}"))
            })
            .collect();
        text.push_str(&format!("; rule {}", rules.join(", ")));
    }
    text.push_str(
        &found.as_ref().map_or_else(|| Policies::named(&policy), |found| format!("; policy {}", found.label)),
    );
    let reason: Vec<&str> =
        [decision.code.as_deref(), decision.reason.as_deref()].into_iter().flatten().collect();
    if !reason.is_empty() {
        text.push_str(&format!("; reason: {}", reason.join(": ")));
    }
    let value = json!({"effect": decision.effect, "enforced": decision.enforced, "policy": policy, "rules": places,
        "code": decision.code, "reason": decision.reason, "by": decision.by});
    Statement::new(How::Stated, text, [ruling.seq], value)
}

pub(super) fn authority(ruling: &Ruling) -> String {
    let by = &ruling.decision.by;
    match (&by.id, by.kind) {
        (Some(id), AuthorityKind::Unknown) => id.clone(),
        (Some(id), kind) => format!("{} {id}", kind.as_str()),
        (None, AuthorityKind::Unknown) => "somebody who is not stated".to_owned(),
        (None, AuthorityKind::Human) => "a person who is not named".to_owned(),
        (None, kind) => kind.as_str().to_owned(),
    }
}

/// Says in a few words how it ended.
pub(super) fn in_short(action: &Action) -> String {
    if action.findings.contains(&Finding::EnforcementFailure) {
        return "blocked, and it ran all the same".to_owned();
    }
    let ran = match action.state {
        State::Done => "it ran",
        State::Failed => "it ran and failed",
        State::Cancelled => "it was cancelled",
        State::Compensated => "it ran and was undone",
        State::Asked | State::Allowed => "how it ended is not stated",
        State::Blocked | State::Waiting | State::Cooling => "it did not run",
    };
    let Some(ruling) = action.ruling() else { return format!("nobody stated a decision, and {ran}") };
    let by = authority(ruling);
    let verb = match ruling.decision.effect {
        Effect::NoOp => format!("no rule applied, says {by}"),
        Effect::Allow => format!("allowed by {by}"),
        Effect::DryRun => format!("a dry run only, ruled {by}"),
        Effect::RequireApproval => return format!("escalated by {by}: waits for an approval, and {ran}"),
        Effect::Cooldown => format!("put off by {by}"),
        Effect::Block => format!("blocked by {by}"),
    };
    let shadow = if ruling.decision.enforced { "" } else { " (in shadow, not enforced)" };
    format!("{verb}{shadow}, and {ran}")
}

pub(super) fn decision(action: &Action) -> Vec<Statement> {
    let standing = action.ruling();
    let seqs = standing.map(|ruling| ruling.seq).into_iter().chain(action.outcome_seq);
    let value = json!({
        "effect": standing.map(|ruling| ruling.decision.effect),
        "enforced": standing.map(|ruling| ruling.decision.enforced),
        "state": action.state, "outcome": action.outcome, "findings": action.findings,
    });
    let how = if standing.is_some() { How::Stated } else { How::Unknown };
    let mut says = vec![Statement::new(how, in_short(action), seqs, value)];
    let asked: Vec<&Ruling> =
        action.rulings.iter().filter(|ruling| ruling.decision.effect == Effect::RequireApproval).collect();
    for ruling in &asked {
        let id = ruling.decision.approval_id.as_deref();
        let text = format!(
            "{} asked for an approval{}",
            authority(ruling),
            id.map(|id| format!(", {id}")).unwrap_or_default()
        );
        says.push(Statement::new(How::Stated, text, [ruling.seq], json!({"asked": id})));
    }
    let answers: Vec<&Ruling> = action
        .rulings
        .iter()
        .filter(|ruling| {
            ruling.decision.by.kind == AuthorityKind::Human
                && ruling.decision.effect != Effect::RequireApproval
        })
        .collect();
    for ruling in &answers {
        let verb = if ruling.decision.effect.lets_run() { "approved" } else { "refused" };
        let text = format!("{} {verb} it ({})", authority(ruling), ruling.decision.effect.as_str());
        let value = json!({"answer": ruling.decision.effect, "by": ruling.decision.by, "approval_id": ruling.decision.approval_id});
        says.push(Statement::new(How::Stated, text, [ruling.seq], value));
    }
    if !asked.is_empty() && answers.is_empty() {
        says.push(Statement::new(
            How::Unknown,
            "who approved is unknown: no answer is stated",
            [],
            json!({"answer": null}),
        ));
    }
    for finding in &action.findings {
        says.push(Statement::new(
            How::Inferred,
            format!("finding: {}", finding.as_str().replace('_', " ")),
            action.seqs.iter().copied().take(super::evidence::SEQS_MAX),
            json!({"finding": finding}),
        ));
    }
    says
}

pub(super) fn cost(action: &Action) -> Vec<Statement> {
    let mut says = Vec::new();
    let seq = action.outcome_seq.unwrap_or(action.key);
    match (action.cost(), action.own_usage(), &action.usage) {
        (Some(cost), ..) => {
            let (how, source) = match cost.basis.strip_prefix("priced:") {
                Some(table) => (How::Inferred, format!("from price table {table}")),
                None => (How::Stated, cost.basis.clone()),
            };
            let value =
                json!({"nano": cost.nano.to_string(), "currency": cost.currency, "basis": cost.basis});
            says.push(Statement::new(how, format!("{} ({source})", amount(cost)), [seq], value));
        }
        (None, None, Some(_)) => says.push(Statement::new(
            How::Inferred,
            "nothing of its own: what it reports repeats the steps below it",
            [seq],
            json!({"aggregate": true}),
        )),
        (None, ..) => {
            let mut unknown = Statement::unknown("cost");
            if let Some(reason) = action.unpriced {
                unknown.text = format!("unknown: {}", reason.words());
            }
            says.push(unknown);
        }
    }
    if let Some(usage) = action.own_usage() {
        let counts = [("input", usage.input_tokens), ("output", usage.output_tokens)];
        let counts: Vec<String> = counts
            .into_iter()
            .filter_map(|(name, count)| Some(format!("{} {name} tokens", count?)))
            .collect();
        if !counts.is_empty() {
            let value = json!({"input_tokens": usage.input_tokens.map(|n| n.to_string()), "output_tokens": usage.output_tokens.map(|n| n.to_string())});
            says.push(Statement::new(How::Stated, counts.join(", "), [seq], value));
        }
    }
    if let Some(budget) = &action.budget {
        let part = |count: Option<i64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let name = budget.name.as_deref().unwrap_or("without a name");
        let text =
            format!("budget {name}: {} of {} {} used", part(budget.used), part(budget.limit), budget.unit);
        says.push(Statement::new(How::Stated, text, [action.key], json!({"budget": budget})));
    }
    says
}

/// Writes nano-units as a decimal amount, at least two places.
fn amount(cost: &Cost) -> String {
    crate::graph::money(cost)
}
