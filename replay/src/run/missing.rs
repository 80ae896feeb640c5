//! Members of an input that are erased or withheld, and what the policy could say if they were there.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use verdict_ledger::action::Action;
use verdict_ledger::event::Effect;

use super::reads::Reads;
use crate::policy::Policy;

/// Members that are tried together; with more of them the attempts would be many.
const TRIED_MAX: usize = 6;

/// Lists the members of the input that are absent because what they are built from is erased or withheld.
pub(super) fn missing(action: &Action, input: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    for pointer in &action.withheld {
        let members: &[&str] = match pointer.split('/').nth(1) {
            Some("action") if pointer.starts_with("/action/arguments") => &[
                "/action/arguments",
                "/action/arguments_digest",
                "/features/url_host",
                "/features/email_domain",
            ],
            Some("action") if pointer == "/action" => &["/action", "/features"],
            Some("action") => &[],
            Some("user") => &["/user/id"],
            Some("on_behalf_of") => &["/on_behalf_of"],
            Some("provenance") => &["/provenance", "/features/lowest_trust_rank"],
            Some("agent") => &["/agent"],
            Some("budget") => &["/budget", "/action/estimated_cost_nano"],
            _ => &[],
        };
        // Another source may have said it in the open.
        let anchor = members.first().copied().unwrap_or_default();
        if !anchor.is_empty()
            && (input.pointer(anchor).is_none() || anchor == "/provenance" || anchor == "/action")
        {
            missing.extend(
                members.iter().filter(|member| input.pointer(member).is_none() || **member == anchor),
            );
        }
        // Any other withheld member of the input stands under the same name.
        let named = pointer.as_str();
        if members.is_empty() && is_input_member(named) && input.pointer(named).is_none() {
            missing.push(named);
        }
    }
    let mut missing: Vec<String> = missing.into_iter().map(str::to_owned).collect();
    missing.sort();
    missing.dedup();
    missing
}

fn is_input_member(pointer: &str) -> bool {
    const SAME_NAME: [&str; 8] = [
        "/session",
        "/service",
        "/environment",
        "/tenant",
        "/classification",
        "/action/resource",
        "/action/capabilities",
        "/action/call_id",
    ];
    SAME_NAME.contains(&pointer)
}

/// Lists the effects that the policy gives when what it reads of the missing members has extreme values. It shows in
/// which direction the decision could go; it is no proof of what it was, and no decision is made of it.
pub(super) fn possible(
    policy: &Policy,
    reads: &Reads,
    document: &Value,
    missing: &[String],
) -> BTreeSet<Effect> {
    let read: Vec<Vec<String>> = reads.below(missing);
    if read.is_empty() || read.len() > TRIED_MAX {
        return BTreeSet::new();
    }
    let extremes = [
        json!(i64::MIN),
        json!(0),
        json!(i64::MAX),
        json!(""),
        json!("\u{10FFFF}"),
        json!(false),
        json!(true),
        json!([]),
    ];
    let mut effects = BTreeSet::new();
    let mut look = |document: &Value| {
        let decision = policy.decide(document);
        if decision.error.is_none() {
            effects.insert(decision.effect);
        }
    };
    look(document);
    for extreme in &extremes {
        // All of them, and each alone: rules may want one and not the other.
        let mut all = document.clone();
        for path in &read {
            put(&mut all, path, extreme);
        }
        look(&all);
        for path in read.iter().filter(|_| read.len() > 1) {
            let mut one = document.clone();
            put(&mut one, path, extreme);
            look(&one);
        }
    }
    effects
}

fn put(document: &mut Value, path: &[String], value: &Value) {
    let mut at = document;
    for step in path {
        if !at.is_object() {
            *at = json!({});
        }
        let Some(members) = at.as_object_mut() else { return };
        at = members.entry(step.clone()).or_insert(Value::Null);
    }
    *at = value.clone();
}
