//! The trace of rules: who spoke, who was silent, and the line where each stands.

use serde::Serialize;
use verdict_ledger::event::Effect;

use crate::policy::{Decision, Policy, RuleRef};

/// Characters of a source line that are shown.
const LINE_CHARS_MAX: usize = 200;

/// Lines of a rule that are looked at.
const RULE_LINES_MAX: usize = 40;

/// What a rule said to one input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Spoke {
    /// Effect that it asked for; the strictest, when it spoke more than once.
    pub effect: Effect,
    /// Reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// True when it determined the decision.
    pub decided: bool,
}

/// One rule of a policy, under both inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleTrace {
    /// The rule and where it stands.
    #[serde(flatten)]
    pub rule: RuleRef,
    /// Its first line in the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What it said to the recorded input; `None` when it was silent.
    pub before: Option<Spoke>,
    /// What it said to the edited input.
    pub after: Option<Spoke>,
}

/// Lists every rule of a policy, those that spoke first.
pub(super) fn trace(policy: &Policy, before: &Decision, after: &Decision) -> Vec<RuleTrace> {
    let mut rules: Vec<RuleRef> = policy.rules().to_vec();
    // A finding may name a rule that is not found in the source, as one whose id is computed.
    let spoken = before.findings.iter().chain(&after.findings).map(|finding| finding.rule.clone());
    rules.extend(spoken);
    rules.sort();
    rules.dedup();
    // The same rule with its place and without one is one.
    let placed: Vec<String> =
        rules.iter().filter(|rule| rule.file.is_some()).map(|rule| rule.id.clone()).collect();
    rules.retain(|rule| rule.file.is_some() || !placed.contains(&rule.id));
    let mut rules: Vec<RuleTrace> = rules
        .into_iter()
        .map(|rule| RuleTrace {
            source: line(policy, &rule),
            before: spoke(before, &rule),
            after: spoke(after, &rule),
            rule,
        })
        .collect();
    rules.sort_by_key(|rule| rule.before.is_none() && rule.after.is_none());
    rules
}

fn spoke(decision: &Decision, rule: &RuleRef) -> Option<Spoke> {
    let same = |other: &RuleRef| {
        let place = |rule: &RuleRef| (rule.file.clone(), rule.line);
        other.id == rule.id && (other.file.is_none() || rule.file.is_none() || place(other) == place(rule))
    };
    let finding = decision
        .findings
        .iter()
        .filter(|finding| same(&finding.rule))
        .max_by_key(|finding| finding.effect)?;
    Some(Spoke {
        effect: finding.effect,
        reason: finding.reason.clone(),
        decided: decision.rules.iter().any(same),
    })
}

/// Returns the line of the source where a rule begins. Where that is only the opening of a finding, the conditions that
/// follow it are added: they are what somebody asks for.
fn line(policy: &Policy, rule: &RuleRef) -> Option<String> {
    let bytes = policy.bundle().files().get(rule.file.as_ref()?)?;
    let number = usize::try_from(rule.line?).ok()?.checked_sub(1)?;
    let mut lines = std::str::from_utf8(bytes).ok()?.lines().skip(number);
    let first = lines.next()?.trim();
    let mut text = first.to_owned();
    if first.ends_with('{') {
        let body: Vec<&str> =
            lines.take(RULE_LINES_MAX).take_while(|line| *line != "}").map(str::trim).collect();
        if let Some(opening) = body.iter().position(|line| line.ends_with("if {")) {
            let conditions = body.get(opening + 1..).unwrap_or_default();
            text.push_str(" … } if { ");
            text.push_str(&conditions.join("; "));
        }
    }
    if text.chars().count() > LINE_CHARS_MAX {
        text = text.chars().take(LINE_CHARS_MAX - 1).collect();
        text.push('…');
    }
    Some(text)
}
