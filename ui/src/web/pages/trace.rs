//! One trace: summary, timeline, execution graph, actions with their rulings, and the events themselves.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::{Path, State};
use serde::Deserialize;
use verdict_ledger::Record;
use verdict_ledger::action::{Action, Conflict, Ruling};
use verdict_ledger::contract::Judgement;
use verdict_ledger::event::{Event, Rel, Status};
use verdict_ledger::id::TraceId;
use verdict_replay::graph::ExecutionGraph;
use verdict_replay::run::is_point;

use super::{Page, render};
use crate::web::error::PageError;
use crate::web::projection::{Mark, Projection, TraceActions};
use crate::web::request::{Params, optional_position, trace_id};
use crate::web::view::badge::{self, Badge};
use crate::web::view::execution::{self, GraphView};
use crate::web::view::page::Shell;
use crate::web::view::summary::Summary;
use crate::web::view::time::{self, Moment};
use crate::web::view::waterfall::{self, Place};
use crate::web::view::{json, number, text};
use crate::web::{AppState, blocking};

/// Characters of a value that a table cell shows.
const BRIEF_CHARACTERS_MAX: usize = 140;

/// Parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Query {
    at: Option<String>,
}

/// A ruling on an action.
#[derive(Debug)]
struct RulingView {
    seq: u64,
    at: Moment,
    badge: Badge,
    stands: bool,
    enforced: bool,
    by: String,
    policy: String,
    rules: Vec<String>,
    reason: String,
    obligations: Vec<String>,
}

/// A relation to another action.
#[derive(Debug)]
struct RelationView {
    words: &'static str,
    name: String,
    link: String,
}

/// One action.
#[derive(Debug)]
struct ActionView {
    key: u64,
    first_seq: u64,
    seqs: Vec<u64>,
    kind: &'static str,
    shape: &'static str,
    name: String,
    state: Badge,
    /// Absent when nothing ruled on an action without effects of its own.
    effect: Option<Badge>,
    findings: Vec<Badge>,
    agent: Option<(String, bool)>,
    /// What else is known of who acted: name, value, whether it is inherited.
    who: Vec<(&'static str, String, bool)>,
    call_id: String,
    resource: String,
    classification: String,
    arguments: String,
    result: String,
    withheld: Vec<String>,
    error: String,
    rulings: Vec<RulingView>,
    provenance: Vec<(Badge, String)>,
    relations: Vec<RelationView>,
    tokens: String,
    cost: String,
    /// Where the cost is from, or why there is none.
    basis: String,
    held: bool,
    /// What the contract asks for and nothing states.
    lacks: String,
    settled: bool,
    /// What contradicts each other, in words, with entries to look at.
    conflicts: Vec<(String, Vec<u64>)>,
    superseded: Vec<u64>,
    duration: String,
    start: Moment,
    /// True when a policy rules on such an action.
    is_point: bool,
    /// Short words for the timeline: retry, approval, compensation.
    marks: Vec<&'static str>,
}

/// One row of the timeline.
#[derive(Debug)]
struct TimelineRow {
    place: Place,
    /// Index into the actions.
    action: usize,
}

/// One event.
#[derive(Debug)]
struct EventRow {
    seq: u64,
    received: Moment,
    source: String,
    what: String,
    says: String,
    span: String,
    withheld: bool,
    /// The other trace that the event belongs to, when it is not this one.
    elsewhere: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "trace.html")]
struct TracePage {
    shell: Shell,
    id: String,
    at: u64,
    pinned: bool,
    permalink: String,
    live: String,
    summary: Summary,
    user_text: String,
    start: Moment,
    event_count: usize,
    events_read: usize,
    whole: bool,
    rows: Vec<TimelineRow>,
    ticks: Vec<(u64, String)>,
    graph: GraphView,
    actions: Vec<ActionView>,
    events: Vec<EventRow>,
    ledger_arg: String,
    contract: String,
    quarantined: Badge,
    unmet: Badge,
}

/// `GET /traces/{id}`
pub(crate) async fn show(
    State(state): State<AppState>,
    shell: Shell,
    Path(id): Path<String>,
    Params(query): Params<Query>,
) -> Page {
    let trace = trace_id(&id)?;
    let at = optional_position("at", query.at.as_deref())?;
    blocking::run(move || render(&build(&state, shell, trace, at)?)).await
}

fn build(state: &AppState, shell: Shell, trace: TraceId, at: Option<u64>) -> Result<TracePage, PageError> {
    let projection = Projection::at(state, at)?;
    let folded = projection.trace(&trace)?;
    if folded.seqs.is_empty() {
        return Err(PageError::not_found("trace", trace));
    }
    let TraceActions { actions, marks, seqs, whole, .. } = folded;
    let event_count = seqs.len();
    // What went on in other traces belongs to the actions here, and links lead to it.
    let own: BTreeSet<u64> = seqs.into_iter().collect();
    let listed: BTreeSet<u64> =
        own.iter().chain(actions.iter().flat_map(|action| &action.seqs)).copied().collect();
    let records = projection.records(&listed.into_iter().collect::<Vec<_>>())?;
    let keys: BTreeSet<u64> = actions.iter().map(|action| action.key).collect();
    let id = trace.to_string();
    let summary = Summary::of(&actions, &marks);
    Ok(TracePage {
        at: projection.position(),
        pinned: at.is_some(),
        permalink: format!("/traces/{id}?at={}", projection.position()),
        live: format!("/traces/{id}"),
        user_text: users(&summary),
        start: time::moment(summary.start_ns),
        event_count,
        events_read: records.iter().filter(|record| own.contains(&record.seq)).count(),
        whole,
        rows: waterfall::places(&actions)
            .into_iter()
            .map(|place| TimelineRow { action: place.index, place })
            .collect(),
        ticks: waterfall::ticks(&actions),
        graph: execution::view(&ExecutionGraph::of(&actions, &records), "#e-"),
        events: records.iter().map(|record| event_row(record, own.contains(&record.seq))).collect(),
        actions: actions
            .iter()
            .zip(&marks)
            .map(|(action, mark)| action_view(action, mark, &actions, &keys))
            .collect(),
        ledger_arg: state.ledger_arg(),
        contract: projection.rules().contract.label().to_owned(),
        quarantined: badge::quarantined(),
        unmet: badge::unmet(),
        summary,
        id,
        shell,
    })
}

/// Users that the page names; more are counted.
const USERS_MAX: usize = 3;

fn users(summary: &Summary) -> String {
    let mut parts: Vec<String> = summary.users.iter().take(USERS_MAX).cloned().collect();
    if summary.users.len() > USERS_MAX {
        parts.push(format!("{} more", summary.users.len() - USERS_MAX));
    }
    if summary.users_withheld {
        parts.push(if parts.is_empty() { "withheld" } else { "others withheld" }.to_owned());
    }
    if parts.is_empty() { "not stated".to_owned() } else { parts.join(", ") }
}

fn action_view(action: &Action, mark: &Mark, all: &[Action], keys: &BTreeSet<u64>) -> ActionView {
    let standing = action.ruling();
    let usage = action.own_usage();
    let tokens: Vec<String> = [
        (usage.and_then(|usage| usage.input_tokens), "in"),
        (usage.and_then(|usage| usage.output_tokens), "out"),
    ]
    .into_iter()
    .filter_map(|(count, word)| count.map(|count| format!("{} {word}", number::count(count))))
    .collect();
    ActionView {
        key: action.key,
        first_seq: action.seqs.first().copied().unwrap_or(action.key),
        seqs: action.seqs.clone(),
        kind: action.kind.as_str(),
        shape: badge::kind_shape(action.kind),
        name: action.name.clone(),
        state: badge::state(action.state),
        effect: standing
            .map(|ruling| badge::effect(ruling.decision.effect))
            .or_else(|| badge::has_effects(action.kind).then(badge::no_decision)),
        findings: action.findings.iter().map(|finding| badge::finding(*finding)).collect(),
        agent: action
            .agent
            .as_ref()
            .and_then(|agent| Some((agent.value.label()?.to_owned(), agent.inherited))),
        who: who(action),
        call_id: action.call_id.clone().unwrap_or_default(),
        resource: action.resource.clone().unwrap_or_default(),
        classification: action.classification.clone().unwrap_or_default(),
        arguments: action.arguments.as_ref().map(json::pretty).unwrap_or_default(),
        result: action.result.as_ref().map(json::pretty).unwrap_or_default(),
        withheld: action.withheld.clone(),
        error: error_text(action),
        rulings: action
            .rulings
            .iter()
            .map(|ruling| {
                ruling_view(ruling, standing.is_some_and(|standing| std::ptr::eq(standing, ruling)))
            })
            .collect(),
        provenance: action
            .provenance
            .iter()
            .map(|source| {
                let name = source.name.as_deref().or(source.uri.as_deref()).unwrap_or_default();
                (badge::trust(source.trust), format!("{} {name}", source.kind).trim_end().to_owned())
            })
            .collect(),
        relations: action
            .relations
            .iter()
            .map(|relation| RelationView {
                words: relation_words(relation.rel),
                name: all
                    // In the order of their keys.
                    .binary_search_by_key(&relation.key, |other| other.key)
                    .ok()
                    .and_then(|at| all.get(at))
                    .map_or_else(|| format!("entry {}", relation.key), |other| other.name.clone()),
                link: if keys.contains(&relation.key) {
                    format!("#a-{}", relation.key)
                } else {
                    format!("/events/{}", relation.key)
                },
            })
            .collect(),
        tokens: tokens.join(", "),
        cost: action.cost().map(number::cost).unwrap_or_default(),
        basis: basis(action),
        held: mark.held,
        lacks: mark.judgement.as_ref().map(lacks).unwrap_or_default(),
        settled: action.settled,
        conflicts: action.conflicts.iter().map(conflict).collect(),
        superseded: action.superseded.clone(),
        duration: action
            .end_ns
            .filter(|end| *end > action.start_ns)
            .map(|end| time::duration(end - action.start_ns))
            .unwrap_or_default(),
        start: time::moment(action.start_ns),
        is_point: is_point(action.kind),
        marks: marks(action),
    }
}

/// Who acted, as far as it is known, the agent aside.
fn who(action: &Action) -> Vec<(&'static str, String, bool)> {
    let members = [
        ("User", &action.user),
        ("Session", &action.session),
        ("Service", &action.service),
        ("Environment", &action.environment),
        ("Tenant", &action.tenant),
    ];
    let known = members.into_iter().filter_map(|(name, member)| Some((name, member.as_ref()?)));
    known.map(|(name, stated)| (name, stated.value.clone(), stated.inherited)).collect()
}

/// Says where a cost is from, or why there is none.
fn basis(action: &Action) -> String {
    match (action.cost(), action.unpriced) {
        (Some(cost), _) => match cost.basis.strip_prefix("priced:") {
            Some(table) => format!("from price table {}", text::short_id(table)),
            None => cost.basis.clone(),
        },
        (None, Some(reason)) => reason.words().to_owned(),
        (None, None) => String::new(),
    }
}

fn lacks(judgement: &Judgement) -> String {
    judgement.missing.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(", ")
}

fn conflict(conflict: &Conflict) -> (String, Vec<u64>) {
    match conflict {
        Conflict::Decisions { effects, seqs } => {
            let effects: Vec<&str> = effects.iter().map(|effect| effect.as_str()).collect();
            (format!("decisions differ: {}", effects.join(", ")), seqs.clone())
        }
        Conflict::Statements { id, count, seqs } => {
            (format!("event id {id} came with {count} different contents"), seqs.clone())
        }
    }
}

fn error_text(action: &Action) -> String {
    let Some(error) = &action.error else { return String::new() };
    match (&error.kind, &error.message) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        (Some(one), None) | (None, Some(one)) => one.clone(),
        (None, None) => "an error without text".to_owned(),
    }
}

fn marks(action: &Action) -> Vec<&'static str> {
    let mut marks: Vec<&'static str> = action
        .relations
        .iter()
        .map(|relation| relation.rel)
        .chain(action.links.iter().map(|link| link.rel))
        .filter_map(|rel| match rel {
            Rel::RetryOf => Some("retry"),
            Rel::Compensates => Some("compensation"),
            Rel::Approves => Some("approval"),
            Rel::DelegatedBy => Some("delegated"),
            Rel::CausedBy | Rel::Follows => None,
        })
        .collect();
    if action.outcome == Some(Status::Compensated) {
        marks.push("undone");
    }
    if action.rulings.iter().any(|ruling| !ruling.decision.enforced) {
        marks.push("not enforced");
    }
    marks.sort_unstable();
    marks.dedup();
    marks
}

const fn relation_words(rel: Rel) -> &'static str {
    match rel {
        Rel::CausedBy => "caused by",
        Rel::RetryOf => "tries again",
        Rel::Approves => "answers the approval of",
        Rel::Compensates => "undoes",
        Rel::Follows => "follows",
        Rel::DelegatedBy => "handed over by",
    }
}

fn ruling_view(ruling: &Ruling, stands: bool) -> RulingView {
    let decision = &ruling.decision;
    let by = decision.by.id.as_ref().map_or_else(
        || decision.by.kind.as_str().to_owned(),
        |id| format!("{} {id}", decision.by.kind.as_str()),
    );
    let policy = decision.policy.as_ref();
    let named = policy.map(|policy| {
        let bundle = policy.bundle.map(|digest| text::short_hex(&digest.to_hex()));
        [policy.name.clone(), policy.version.clone(), bundle]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
    });
    let reason =
        [decision.code.as_deref(), decision.reason.as_deref()].into_iter().flatten().collect::<Vec<_>>();
    RulingView {
        seq: ruling.seq,
        at: time::moment(ruling.at_ns),
        badge: badge::effect(decision.effect),
        stands,
        enforced: decision.enforced,
        by,
        policy: named.unwrap_or_default(),
        rules: policy.map(|policy| policy.rules.clone()).unwrap_or_default(),
        reason: reason.join(": "),
        obligations: decision
            .obligations
            .iter()
            .map(|obligation| {
                let params: Vec<String> =
                    obligation.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {}", obligation.kind, params.join(" ")).trim_end().to_owned()
            })
            .collect(),
    }
}

fn event_row(record: &Record, own: bool) -> EventRow {
    let event = record.event.as_deref();
    let source = event.map(|event| {
        let profile =
            event.source.profile.as_deref().map(|profile| format!(" / {profile}")).unwrap_or_default();
        format!("{}{profile}", event.source.format)
    });
    EventRow {
        seq: record.seq,
        received: time::moment(record.ts_ns),
        source: source.unwrap_or_else(|| record.kind.clone()),
        what: event.map_or_else(
            || record.kind.clone(),
            |event| format!("{} {}", event.action.kind.as_str(), event.action.name),
        ),
        says: event.map(says).unwrap_or_default(),
        span: event.and_then(|event| event.span_id).map(|span| span.to_string()).unwrap_or_default(),
        withheld: !record.withheld.is_empty(),
        elsewhere: event.filter(|_| !own).and_then(|event| event.trace_id).map(|trace| trace.to_string()),
    }
}

/// Says in a few words what an event states.
fn says(event: &Event) -> String {
    let mut parts = Vec::new();
    if let Some(decision) = &event.decision {
        parts.push(format!("decision {}", decision.effect));
    }
    if let Some(outcome) = &event.outcome {
        parts.push(format!("outcome {}", outcome.status.as_str()));
    }
    if event.usage.is_some() {
        parts.push("usage".to_owned());
    }
    if let Some(arguments) = &event.action.arguments {
        parts.push(format!("arguments {}", json::brief(arguments, BRIEF_CHARACTERS_MAX)));
    }
    if parts.is_empty() { "that it was asked".to_owned() } else { parts.join(" · ") }
}
