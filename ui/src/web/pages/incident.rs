//! An incident: which traces belong together and why, and one graph over all of them.

use askama::Template;
use axum::extract::State;
use verdict_ledger::action::Action;
use verdict_replay::incident::{Join, Seed};

use super::{Page, render};
use crate::web::error::PageError;
use crate::web::investigate::{self, Found, IncidentQuery};
use crate::web::request::{Params, optional_position};
use crate::web::view::badge::{self, Badge};
use crate::web::view::execution::{self, GraphView};
use crate::web::view::page::Shell;
use crate::web::view::time::{self, Moment};
use crate::web::view::{number, url};
use crate::web::{AppState, blocking};

/// Actions that the page lists.
const ACTIONS_MAX: usize = 1_000;

/// A trace of the incident.
#[derive(Debug)]
struct MemberView {
    trace: Option<String>,
    first_seq: u64,
    events: usize,
    /// By what it was joined.
    joined: String,
    /// The event that says so.
    joined_seq: Option<u64>,
}

/// One action.
#[derive(Debug)]
struct ActionRow {
    first_seq: u64,
    start: Moment,
    kind: &'static str,
    shape: &'static str,
    name: String,
    agent: String,
    state: Badge,
    effect: Option<Badge>,
    findings: Vec<Badge>,
    cost: String,
    trace: Option<String>,
}

/// What was found.
#[derive(Debug)]
struct IncidentView {
    around: String,
    permalink: String,
    json: String,
    dot: String,
    command: String,
    events: usize,
    stops: Vec<String>,
    members: Vec<MemberView>,
    actions: Vec<ActionRow>,
    left_out: usize,
    graph: GraphView,
}

#[derive(Debug, Template)]
#[template(path = "incident.html")]
struct IncidentPage {
    shell: Shell,
    query: IncidentQuery,
    found: Option<IncidentView>,
}

/// `GET /incidents?trace=|session=|approval=|event=&at=`
pub(crate) async fn show(
    State(state): State<AppState>,
    shell: Shell,
    Params(query): Params<IncidentQuery>,
) -> Page {
    let at = optional_position("at", query.at.as_deref())?;
    if let Some(at) = at.filter(|at| *at > shell.size) {
        let detail = format!("the log has {} entries, so there is no view at {at}", shell.size);
        return Err(PageError::BadRequest { detail });
    }
    let Some(seed) = query.seed()? else {
        return blocking::run(move || render(&IncidentPage { shell, query, found: None })).await;
    };
    let permits = state.replays();
    blocking::run_limited(permits, "incidents", move || {
        let found = investigate::incident(&state, seed, at)?;
        let view = view(&state, &found);
        render(&IncidentPage { shell, query, found: Some(view) })
    })
    .await
}

fn view(state: &AppState, found: &Found) -> IncidentView {
    let Found { incident, view, graph } = found;
    let (name, value, option) = match &incident.seed {
        Seed::Trace(trace) => ("trace", trace.to_string(), "--trace"),
        Seed::Session(session) => ("session", session.clone(), "--session"),
        Seed::Approval(approval) => ("approval", approval.clone(), "--approval"),
        Seed::Event(seq) => ("event", seq.to_string(), "--event"),
    };
    let at = incident.end_seq.to_string();
    let address = |path: &str, more: &[(&str, &str)]| {
        let mut pairs = vec![(name, value.as_str()), ("at", at.as_str())];
        pairs.extend_from_slice(more);
        url::with_query(path, &pairs)
    };
    let members = incident.members.iter().map(|member| {
        let (joined, joined_seq) = join(&member.joined);
        MemberView {
            trace: member.trace_id.map(|trace| trace.to_string()),
            first_seq: member.first_seq,
            events: member.events,
            joined,
            joined_seq,
        }
    });
    let mut actions: Vec<&Action> = view.actions.iter().collect();
    actions.sort_by_key(|action| (action.start_ns, action.key));
    IncidentView {
        around: incident.seed.to_string(),
        permalink: address("/incidents", &[]),
        json: address("/api/v1/incidents", &[]),
        dot: address("/api/v1/incidents", &[("format", "dot")]),
        command: format!(
            "verdict --ledger {} incident show {option} '{}'",
            state.ledger_arg(),
            value.replace('\'', "'\\''")
        ),
        events: incident.records.len(),
        stops: incident.stops.iter().map(ToString::to_string).collect(),
        members: members.collect(),
        left_out: actions.len().saturating_sub(ACTIONS_MAX),
        actions: actions.into_iter().take(ACTIONS_MAX).map(row).collect(),
        graph: execution::view(graph, "/events/"),
    }
}

fn join(join: &Join) -> (String, Option<u64>) {
    match join {
        Join::Asked => ("asked for".to_owned(), None),
        Join::Link { rel, seq } => (format!("link {}", rel.replace('_', " ")), Some(*seq)),
        Join::Approval { approval_id, seq } => (format!("approval {approval_id}"), Some(*seq)),
        Join::Session { session, seq } => (format!("session {session}"), Some(*seq)),
    }
}

fn row(action: &Action) -> ActionRow {
    ActionRow {
        first_seq: action.seqs.first().copied().unwrap_or(action.key),
        start: time::moment(action.start_ns),
        kind: action.kind.as_str(),
        shape: badge::kind_shape(action.kind),
        name: action.name.clone(),
        agent: action.agent_label().unwrap_or_default().to_owned(),
        state: badge::state(action.state),
        effect: action
            .ruling()
            .map(|ruling| badge::effect(ruling.decision.effect))
            .or_else(|| badge::has_effects(action.kind).then(badge::no_decision)),
        findings: action.findings.iter().map(|finding| badge::finding(*finding)).collect(),
        cost: action.cost().map(number::cost).unwrap_or_default(),
        trace: action.trace_id.map(|trace| trace.to_string()),
    }
}
