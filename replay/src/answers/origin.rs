//! Who or what started an action, and by which capability.

use serde_json::json;
use verdict_ledger::action::Action;
use verdict_ledger::event::{Link, Rel};

use super::evidence::Evidence;
use super::{How, Statement};

/// Ancestors that are named; more are counted.
const NAMED_MAX: usize = 8;

pub(super) fn started_by(action: &Action, evidence: &Evidence<'_>) -> Vec<Statement> {
    let mut says = Vec::new();
    says.push(user(action, evidence));
    says.push(agent(action, evidence));
    if !action.on_behalf_of.is_empty() {
        let seqs = evidence.saying(action_of(evidence, action), |event| !event.on_behalf_of.is_empty());
        let text = format!("on behalf of {}", action.on_behalf_of.join(", for "));
        says.push(Statement::new(How::Stated, text, seqs, json!({"on_behalf_of": action.on_behalf_of})));
    }
    callers(action, evidence, &mut says);
    linked(action, evidence, &mut says);
    senders(action, evidence, &mut says);
    says
}

/// The action as the evidence has it, which lives as long.
fn action_of<'a>(evidence: &Evidence<'a>, action: &'a Action) -> &'a Action {
    evidence.action(action.key).unwrap_or(action)
}

fn user(action: &Action, evidence: &Evidence<'_>) -> Statement {
    match &action.user {
        Some(user) => {
            let action = action_of(evidence, action);
            let (how, seqs) =
                evidence.who_states(action, user.inherited, |event| event.user.as_ref() == Some(&user.value));
            Statement::new(how, format!("user {}", user.value), seqs, json!({"user": user.value}))
        }
        None if action.withheld.iter().any(|pointer| pointer == "/user") => Statement::new(
            How::Stated,
            "a user, whose name is erased or withheld",
            action.seqs.iter().copied(),
            json!({"user": null, "withheld": true}),
        ),
        None => Statement::unknown("user"),
    }
}

fn agent(action: &Action, evidence: &Evidence<'_>) -> Statement {
    let Some(agent) = &action.agent else { return Statement::unknown("agent") };
    let action = action_of(evidence, action);
    let (how, seqs) =
        evidence.who_states(action, agent.inherited, |event| event.agent.as_ref() == Some(&agent.value));
    let label = agent.value.label().unwrap_or("without a name");
    let parts = [("id", &agent.value.id), ("version", &agent.value.version)];
    let parts: Vec<String> = parts
        .into_iter()
        .filter_map(|(name, value)| {
            Some(format!("{name} {}", value.as_ref().filter(|value| *value != label)?))
        })
        .collect();
    let more = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    Statement::new(how, format!("agent {label}{more}"), seqs, json!({"agent": agent.value}))
}

fn callers(action: &Action, evidence: &Evidence<'_>, says: &mut Vec<Statement>) {
    let ancestors = evidence.ancestors(action);
    if ancestors.is_empty() {
        let (text, how) = if action.parent_span_id.is_some() {
            ("a parent span that nobody reported", How::Stated)
        } else if action.links.is_empty() {
            (
                "no step before it is stated: it is the first of its trace, or its sender did not say",
                How::Unknown,
            )
        } else {
            return;
        };
        says.push(Statement::new(how, text, [action.key], json!({"parent_span_id": action.parent_span_id})));
        return;
    }
    for (depth, ancestor) in ancestors.iter().take(NAMED_MAX).enumerate() {
        let word = if depth == 0 { "called by" } else { "which was called by" };
        let agent = ancestor.agent_label().map(|agent| format!(" of {agent}")).unwrap_or_default();
        let text = format!("{word} {} {}{agent}", ancestor.kind.as_str(), ancestor.name);
        let value = json!({"caller": ancestor.key, "depth": depth + 1});
        says.push(Statement::new(How::Stated, text, [ancestor.key], value));
    }
    if let Some(root) = ancestors.last().filter(|_| ancestors.len() > NAMED_MAX) {
        let text = format!(
            "and {} more steps above, up to {} {}",
            ancestors.len() - NAMED_MAX,
            root.kind.as_str(),
            root.name
        );
        says.push(Statement::new(How::Stated, text, [root.key], json!({"root": root.key})));
    }
}

fn linked(action: &Action, evidence: &Evidence<'_>, says: &mut Vec<Statement>) {
    for relation in &action.relations {
        let Some(words) = words(relation.rel) else { continue };
        let other = evidence.action(relation.key);
        let name = other
            .map_or_else(|| "a step".to_owned(), |other| format!("{} {}", other.kind.as_str(), other.name));
        let seqs = evidence.saying(action_of(evidence, action), |event| {
            event.links.iter().any(|link| link.rel == relation.rel)
        });
        let value = json!({"rel": relation.rel, "action": relation.key});
        says.push(Statement::new(
            How::Stated,
            format!("{words} {name}"),
            seqs.into_iter().chain([relation.key]),
            value,
        ));
    }
    // A link that leads nowhere in what was read is still what its sender said.
    let told: Vec<Rel> = action.relations.iter().map(|relation| relation.rel).collect();
    for Link { to, rel } in action.links.iter().filter(|link| !told.contains(&link.rel)) {
        let Some(words) = words(*rel) else { continue };
        let seqs = evidence
            .saying(action_of(evidence, action), |event| event.links.iter().any(|link| link.rel == *rel));
        let text = format!("{words} something that is not in this log, as far as was looked");
        says.push(Statement::new(How::Stated, text, seqs, json!({"rel": rel, "to": to})));
    }
}

const fn words(rel: Rel) -> Option<&'static str> {
    match rel {
        Rel::CausedBy => Some("caused by"),
        Rel::RetryOf => Some("a new try of"),
        Rel::Follows => Some("follows"),
        Rel::DelegatedBy => Some("handed over by"),
        Rel::Compensates => Some("to undo"),
        // An answer does not start what it answers.
        Rel::Approves => None,
    }
}

/// Who told the ledger: the one thing about a sender that is not its own claim.
fn senders(action: &Action, evidence: &Evidence<'_>, says: &mut Vec<Statement>) {
    let mut peers: Vec<(String, Vec<u64>)> = Vec::new();
    for (seq, event) in evidence.events(action_of(evidence, action)) {
        let Some(peer) = &event.source.peer else { continue };
        match peers.iter_mut().find(|(known, _)| known == peer) {
            Some((_, seqs)) => seqs.push(seq),
            None => peers.push((peer.clone(), vec![seq])),
        }
    }
    for (peer, seqs) in peers {
        says.push(Statement::new(
            How::Stated,
            format!("reported by the authenticated sender {peer}"),
            seqs,
            json!({"peer": peer}),
        ));
    }
}

pub(super) fn capability(action: &Action, evidence: &Evidence<'_>) -> Vec<Statement> {
    if !action.capabilities.is_empty() {
        let seqs =
            evidence.saying(action_of(evidence, action), |event| !event.action.capabilities.is_empty());
        let text = format!("{}, as stated with the action", action.capabilities.join(", "));
        return vec![Statement::new(How::Stated, text, seqs, json!({"capabilities": action.capabilities}))];
    }
    // A capability is granted for a step and does not pass down; what the caller had is only a lead.
    let caller = evidence.ancestors(action).into_iter().find(|ancestor| !ancestor.capabilities.is_empty());
    let mut says = vec![Statement::unknown("capability")];
    if let Some(caller) = caller {
        let seqs = evidence.saying(caller, |event| !event.action.capabilities.is_empty());
        let text = format!(
            "its caller {} {} states {}",
            caller.kind.as_str(),
            caller.name,
            caller.capabilities.join(", ")
        );
        says.push(Statement::new(
            How::Inherited,
            text,
            seqs,
            json!({"capabilities": caller.capabilities, "caller": caller.key}),
        ));
    }
    says
}
