//! What if: the input of one recorded action, edited, and what a published policy says to both.

use askama::Template;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::Value;
use verdict_replay::policy::{Decision, Finding, RuleRef};
use verdict_replay::what_if::{EDITS_MAX, Edit, RuleTrace, Spoke, WhatIf, recorded_input};

use super::{Page, policies, render};
use crate::web::error::PageError;
use crate::web::investigate;
use crate::web::request::{Params, position};
use crate::web::view::badge::{self, Badge};
use crate::web::view::page::Shell;
use crate::web::view::{json, url};
use crate::web::{AppState, blocking};

/// Members of the input that are offered for editing.
const MEMBERS_MAX: usize = 200;
/// Characters of a value that the table of members shows.
const BRIEF_CHARACTERS_MAX: usize = 120;

/// Parameters; every one is part of the shared link.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Query {
    policy: String,
    /// One edit a line.
    edits: String,
}

/// A policy that can be chosen.
#[derive(Debug)]
struct Choice {
    value: String,
    label: String,
    chosen: bool,
}

/// A member of the recorded input.
#[derive(Debug)]
struct Member {
    pointer: String,
    value: String,
    /// This page with an edit of the member added.
    edit: String,
}

/// A decision.
#[derive(Debug)]
struct DecisionView {
    effect: Badge,
    by: Vec<(String, String)>,
    error: String,
    /// The words for both decisions, `before` and `after`.
    findings: Vec<FindingView>,
}

#[derive(Debug)]
struct FindingView {
    effect: Badge,
    rule: String,
    place: String,
    reason: String,
}

/// One rule under both inputs.
#[derive(Debug)]
struct RuleRow {
    rule: String,
    place: String,
    source: String,
    before: Option<(Badge, bool)>,
    after: Option<(Badge, bool)>,
}

#[derive(Debug)]
struct ChangeRow {
    pointer: String,
    before: String,
    after: String,
    derived: bool,
}

#[derive(Debug)]
struct Answer {
    policy: String,
    before: DecisionView,
    after: DecisionView,
    same: bool,
    changed: Vec<ChangeRow>,
    appeared: Vec<FindingView>,
    gone: Vec<FindingView>,
    rules: Vec<RuleRow>,
    spoke: usize,
    edited: String,
}

#[derive(Debug, Template)]
#[template(path = "what_if.html")]
struct WhatIfPage {
    shell: Shell,
    seq: u64,
    name: String,
    kind: &'static str,
    trace: Option<String>,
    missing: Vec<String>,
    choices: Vec<Choice>,
    edits: String,
    /// Why the edits cannot be made.
    refused: String,
    answer: Option<Answer>,
    members: Vec<Member>,
    members_left_out: usize,
    recorded: String,
    ledger_arg: String,
}

/// `GET /events/{seq}/what-if?policy=&edits=`
pub(crate) async fn show(
    State(state): State<AppState>,
    shell: Shell,
    Path(seq): Path<String>,
    Params(query): Params<Query>,
) -> Page {
    let seq = position("the event", &seq)?;
    let permits = state.replays();
    blocking::run_limited(permits, "replays", move || render(&build(&state, shell, seq, &query)?)).await
}

fn build(state: &AppState, shell: Shell, seq: u64, query: &Query) -> Result<WhatIfPage, PageError> {
    investigate::affordable(state, seq)?;
    let recorded = recorded_input(state.ledger(), seq, state.ledger().head().size)?;
    let published = policies::list(state)?;
    let reference = query.policy.trim();
    let active = published.iter().find(|policy| policy.active).or(published.last());
    // Nothing chosen yet: what is in force.
    let chosen = published.iter().find(|policy| {
        reference == policy.digest.to_string()
            || reference == policies::label(policy)
            || (reference == "active" && policy.active)
    });
    if chosen.is_none() && !reference.is_empty() {
        return Err(PageError::not_found("published policy", reference));
    }
    let chosen = chosen.or(active).map(|policy| policy.digest.to_string());
    let (mut answer, mut refused) = (None, String::new());
    if let Some(policy) = &chosen {
        match edits(&query.edits)
            .and_then(|edits| investigate::decide_recorded(state, &recorded, policy, &edits))
        {
            Ok((found, policy)) => {
                let label = format!("{}@{}", policy.bundle().name(), policy.bundle().version());
                answer = Some(answer_view(&found, label));
            }
            // What was typed stays in the form, with what is wrong with it.
            Err(PageError::BadRequest { detail }) => refused = detail,
            Err(error) => return Err(error),
        }
    }
    let (mut members, mut all) = (Vec::new(), 0);
    walk(&recorded.input, "", &mut |pointer, value| {
        all += 1;
        if members.len() < MEMBERS_MAX {
            members.push(member(seq, query, pointer, value));
        }
    });
    Ok(WhatIfPage {
        seq,
        name: recorded.action.name.clone(),
        kind: recorded.action.kind.as_str(),
        trace: recorded.action.trace_id.map(|trace| trace.to_string()),
        missing: recorded.missing.clone(),
        choices: published
            .iter()
            .rev()
            .map(|policy| {
                let value = policy.digest.to_string();
                let active = if policy.active { ", in force" } else { "" };
                let label = format!("{}{active}", policies::label(policy));
                Choice { chosen: chosen.as_ref() == Some(&value), value, label }
            })
            .collect(),
        edits: query.edits.clone(),
        refused,
        answer,
        members_left_out: all - members.len(),
        members,
        recorded: json::pretty(&recorded.input),
        ledger_arg: state.ledger_arg(),
        shell,
    })
}

/// Reads one edit a line: `POINTER=TEXT`, `POINTER:=JSON`, `!POINTER`.
fn edits(text: &str) -> Result<Vec<Edit>, PageError> {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() > EDITS_MAX {
        let detail = format!("{} edits are more than the limit of {EDITS_MAX}", lines.len());
        return Err(PageError::BadRequest { detail });
    }
    let read = |line: &str| -> Result<Edit, PageError> {
        if let Some(pointer) = line.strip_prefix('!') {
            return Ok(Edit::unset(pointer.trim())?);
        }
        let pointer = line.split('=').next().unwrap_or(line);
        match pointer.strip_suffix(':') {
            Some(before) => {
                let value = line.get(pointer.len() + 1..).unwrap_or_default();
                Ok(Edit::parse_set_json(&format!("{before}={value}"))?)
            }
            None => Ok(Edit::parse_set(line)?),
        }
    };
    lines.into_iter().map(read).collect()
}

/// Visits every single value, with its place.
fn walk(value: &Value, at: &str, visit: &mut dyn FnMut(&str, &Value)) {
    let step = |name: &str| format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| walk(value, &step(name), visit));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| walk(value, &step(&at.to_string()), visit));
        }
        value => visit(at, value),
    }
}

fn member(seq: u64, query: &Query, pointer: &str, value: &Value) -> Member {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    // A line break would be another edit.
    let line =
        if text.contains(['\n', '\r']) { format!("{pointer}:={value}") } else { format!("{pointer}={text}") };
    let edits = format!("{}\n{line}", query.edits.trim_end());
    let path = format!("/events/{seq}/what-if");
    let edit = url::with_query(&path, &[("policy", query.policy.trim()), ("edits", edits.trim_start())]);
    let mut value: String = text.chars().take(BRIEF_CHARACTERS_MAX).collect();
    if text.chars().count() > BRIEF_CHARACTERS_MAX {
        value.push('…');
    }
    Member { pointer: pointer.to_owned(), value, edit: edit + "#edit" }
}

fn answer_view(found: &WhatIf, policy: String) -> Answer {
    Answer {
        policy,
        before: decision(&found.before),
        after: decision(&found.after),
        same: found.before == found.after,
        changed: found
            .changed
            .iter()
            .map(|change| ChangeRow {
                pointer: change.pointer.clone(),
                before: change.before.as_ref().map_or_else(|| "absent".to_owned(), ToString::to_string),
                after: change.after.as_ref().map_or_else(|| "absent".to_owned(), ToString::to_string),
                derived: change.derived,
            })
            .collect(),
        appeared: found.appeared.iter().map(finding).collect(),
        gone: found.gone.iter().map(finding).collect(),
        spoke: found.rules.iter().filter(|rule| rule.before.is_some() || rule.after.is_some()).count(),
        rules: found.rules.iter().map(rule_row).collect(),
        edited: json::pretty(&found.edited),
    }
}

fn decision(decision: &Decision) -> DecisionView {
    DecisionView {
        effect: badge::effect(decision.effect),
        by: decision.rules.iter().map(|rule| (rule.id.clone(), place(rule))).collect(),
        error: decision.error.as_ref().map(ToString::to_string).unwrap_or_default(),
        findings: decision.findings.iter().map(finding).collect(),
    }
}

fn finding(finding: &Finding) -> FindingView {
    FindingView {
        effect: badge::effect(finding.effect),
        rule: finding.rule.id.clone(),
        place: place(&finding.rule),
        reason: finding.reason.clone().unwrap_or_default(),
    }
}

fn rule_row(rule: &RuleTrace) -> RuleRow {
    let spoke = |spoke: &Spoke| (badge::effect(spoke.effect), spoke.decided);
    RuleRow {
        rule: rule.rule.id.clone(),
        place: place(&rule.rule),
        source: rule.source.clone().unwrap_or_default(),
        before: rule.before.as_ref().map(spoke),
        after: rule.after.as_ref().map(spoke),
    }
}

fn place(rule: &RuleRef) -> String {
    match (&rule.file, rule.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_is_an_edit() {
        let all = edits("/user/id=a=b\n\n /action/arguments:={\"x\": 1} \r\n!/session\n").unwrap();
        let pointers: Vec<&str> = all.iter().map(Edit::pointer).collect();
        assert_eq!(pointers, ["/user/id", "/action/arguments", "/session"]);
        let refused = edits("/usr/id=1").unwrap_err().to_string();
        assert!(refused.contains("did you mean `user`?"), "{refused}");
        assert!(edits(&"/user/id=a\n".repeat(EDITS_MAX + 1)).is_err());
    }

    #[test]
    fn a_member_leads_to_an_edit_of_itself() {
        let query = Query { policy: "active".into(), edits: "/a=1".into() };
        let link = member(7, &query, "/user/id", &json!("x\ny")).edit;
        assert_eq!(
            link,
            "/events/7/what-if?policy=active&edits=%2Fa%3D1%0A%2Fuser%2Fid%3A%3D%22x%5Cny%22#edit"
        );
    }
}
