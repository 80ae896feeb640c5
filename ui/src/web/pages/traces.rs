//! The list of traces: newest first, filtered, at a pinned position of the log.

use askama::Template;
use axum::extract::State;
use serde::Deserialize;
use verdict_ledger::action::Action;
use verdict_ledger::event::Effect;
use verdict_ledger::{Ledger, TraceRef};

use super::chance::Chance;
use super::{Page, render};
use crate::web::error::PageError;
use crate::web::projection::{Projection, TraceActions};
use crate::web::request::{Params, host, optional_position};
use crate::web::view::badge::Badge;
use crate::web::view::page::Shell;
use crate::web::view::summary::Summary;
use crate::web::view::time::{self, Moment};
use crate::web::view::{badge, number, text, url};
use crate::web::{AppState, blocking};

/// Rows on one page.
const ROWS_MAX: usize = 50;
/// Traces that are asked of the ledger at once.
const BATCH: usize = 100;
/// Longest filter value.
const FILTER_CHARACTERS_MAX: usize = 200;

/// Parameters; every one is part of the shared link.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Query {
    agent: String,
    tool: String,
    effect: String,
    finding: String,
    text: String,
    /// Size of the log that the view is pinned to.
    at: Option<String>,
    /// Show traces that start before this position.
    before: Option<String>,
}

/// What a trace must have; empty fields ask for nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Part of an agent's name.
    pub(crate) agent: String,
    /// Part of an action's name.
    pub(crate) tool: String,
    /// Standing decision of some action; `none` asks for an action with effects and without a decision.
    pub(crate) effect: String,
    /// Finding of some action, or `any`.
    pub(crate) finding: String,
    /// Part of any name, id, resource, reason, error or argument.
    pub(crate) text: String,
}

/// One row.
#[derive(Debug)]
struct Row {
    id: String,
    short: String,
    link: String,
    start: Moment,
    /// Events of the trace, and how many of them were looked at.
    events: String,
    summary: Summary,
}

/// A value of a filter list.
#[derive(Debug)]
struct Choice {
    value: &'static str,
    label: &'static str,
    chosen: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts that the template asks about")]
#[derive(Debug, Template)]
#[template(path = "traces.html")]
struct TracesPage {
    shell: Shell,
    filter: Filter,
    quarantined: Badge,
    effects: Vec<Choice>,
    findings: Vec<Choice>,
    rows: Vec<Row>,
    /// Position that the rows were made at.
    at: u64,
    at_text: String,
    /// True when the address names the position.
    pinned: bool,
    /// True when there is no trace at all.
    empty_ledger: bool,
    /// True when some filter is set.
    filtered: bool,
    /// This view with its position named.
    permalink: String,
    /// This view without a position.
    live: String,
    /// Next page, when there is one.
    older: Option<String>,
    /// First page of the same view, when this is not it.
    newest: Option<String>,
    /// Traces looked at.
    scanned: usize,
    /// True when the search stopped before the end of the log.
    stopped_early: bool,
    /// Directory for the command line of the empty state.
    ledger_arg: String,
    host: String,
}

/// `GET /traces`
pub(crate) async fn show(
    State(state): State<AppState>,
    shell: Shell,
    headers: axum::http::HeaderMap,
    Params(query): Params<Query>,
) -> Page {
    let filter = Filter::read(&query)?;
    let at = optional_position("at", query.at.as_deref())?;
    let before = optional_position("before", query.before.as_deref())?;
    if let Some(at) = at.filter(|at| *at > shell.size) {
        let detail = format!("the log has {} entries, so there is no view at {at}", shell.size);
        return Err(PageError::BadRequest { detail });
    }
    let host = host(&headers);
    blocking::run(move || {
        let projection = Projection::at(&state, at)?;
        let position = projection.position();
        let found = find(&state, &projection, &filter, before)?;
        let address = |at: Option<u64>, before: Option<u64>| filter.address(at, before);
        render(&TracesPage {
            quarantined: badge::quarantined(),
            effects: effect_choices(&filter.effect),
            findings: finding_choices(&filter.finding),
            at: position,
            at_text: number::count(position),
            pinned: at.is_some(),
            empty_ledger: found.scanned == 0 && before.is_none(),
            filtered: !filter.is_empty(),
            permalink: address(Some(position), before),
            live: address(None, None),
            older: found.next.map(|next| address(Some(position), Some(next))),
            newest: before.map(|_| address(Some(position), None)),
            scanned: found.scanned,
            stopped_early: found.stopped_early,
            ledger_arg: state.ledger_arg(),
            host,
            rows: found.rows,
            filter,
            shell,
        })
    })
    .await
}

#[derive(Debug, Default)]
struct Found {
    rows: Vec<Row>,
    next: Option<u64>,
    scanned: usize,
    stopped_early: bool,
}

fn find(
    state: &AppState,
    projection: &Projection<'_>,
    filter: &Filter,
    before: Option<u64>,
) -> Result<Found, PageError> {
    let mut found = Found::default();
    let mut cursor = Some(before.unwrap_or(u64::MAX).min(projection.position()));
    let scanned_max = state.limits().traces_scanned_max;
    let ledger = state.ledger();
    // Where the whole log is folded anyway, what went on in other traces counts too.
    let chance = if projection.is_whole() { Chance::default() } else { Chance::of(ledger, filter)? };
    while let Some(below) = cursor {
        let batch = older(state.ledger(), below, BATCH)?;
        cursor = batch.last().map(|trace| trace.first_seq);
        for trace in &batch {
            found.scanned += 1;
            if chance.has(ledger, &trace.trace_id, projection.position())? {
                let actions = projection.trace(&trace.trace_id)?;
                if filter.is_empty() || filter.matches(&trace.trace_id.to_string(), &actions.actions) {
                    found.rows.push(row(trace, &actions, projection.position()));
                }
            }
            let full = found.rows.len() >= ROWS_MAX;
            if full || found.scanned >= scanned_max {
                // One more look, so that no link leads to an empty page.
                if !older(state.ledger(), trace.first_seq, 1)?.is_empty() {
                    found.next = Some(trace.first_seq);
                    found.stopped_early = !full;
                }
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn older(ledger: &Ledger, below: u64, limit: usize) -> Result<Vec<TraceRef>, PageError> {
    Ok(ledger.traces(Some(below), limit)?)
}

fn row(trace: &TraceRef, folded: &TraceActions, at: u64) -> Row {
    let id = trace.trace_id.to_string();
    let summary = Summary::of(&folded.actions, &folded.marks);
    let (events, read) = (folded.seqs.len(), folded.read);
    let events = if read < events { format!("{read} of {events}") } else { events.to_string() };
    Row {
        short: text::short_hex(&id),
        link: format!("/traces/{id}?at={at}"),
        start: time::moment(summary.start_ns),
        events,
        summary,
        id,
    }
}

impl Filter {
    fn read(query: &Query) -> Result<Self, PageError> {
        let field = |name: &str, value: &str| {
            let value = value.trim();
            if value.chars().count() > FILTER_CHARACTERS_MAX {
                let detail = format!("{name} is longer than {FILTER_CHARACTERS_MAX} characters");
                return Err(PageError::BadRequest { detail });
            }
            Ok(value.to_owned())
        };
        let filter = Self {
            agent: field("agent", &query.agent)?,
            tool: field("tool", &query.tool)?,
            effect: field("effect", &query.effect)?,
            finding: field("finding", &query.finding)?,
            text: field("text", &query.text)?,
        };
        let known = |choices: Vec<Choice>, name: &str, value: &str| {
            let names: Vec<&str> =
                choices.iter().map(|choice| choice.value).filter(|name| !name.is_empty()).collect();
            if value.is_empty() || names.contains(&value) {
                return Ok(());
            }
            let detail = format!("`{value}` is not a {name}; known are {}", names.join(", "));
            Err(PageError::BadRequest { detail })
        };
        known(effect_choices(""), "decision", &filter.effect)?;
        known(finding_choices(""), "finding", &filter.finding)?;
        Ok(filter)
    }

    fn is_empty(&self) -> bool {
        [&self.agent, &self.tool, &self.effect, &self.finding, &self.text].into_iter().all(String::is_empty)
    }

    fn address(&self, at: Option<u64>, before: Option<u64>) -> String {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        url::with_query(
            "/traces",
            &[
                ("agent", &self.agent),
                ("tool", &self.tool),
                ("effect", &self.effect),
                ("finding", &self.finding),
                ("text", &self.text),
                ("at", &number(at)),
                ("before", &number(before)),
            ],
        )
    }

    /// Tells whether one action has everything that the filter asks of an action; the text may be anywhere.
    pub(super) fn matches(&self, trace_id: &str, actions: &[Action]) -> bool {
        let action_filter =
            [&self.agent, &self.tool, &self.effect, &self.finding].into_iter().any(|f| !f.is_empty());
        let action_matches = !action_filter || actions.iter().any(|action| self.action_matches(action));
        action_matches
            && (self.text.is_empty()
                || trace_id.starts_with(&self.text.to_lowercase())
                || actions.iter().any(|action| mentions(action, &self.text.to_lowercase())))
    }

    fn action_matches(&self, action: &Action) -> bool {
        let effect = action.ruling().map(|ruling| ruling.decision.effect);
        let effect_matches = match self.effect.as_str() {
            "" => true,
            "none" => effect.is_none() && badge::has_effects(action.kind),
            wanted => effect.is_some_and(|effect| effect.as_str() == wanted),
        };
        let finding_matches = match self.finding.as_str() {
            "" => true,
            "any" => !action.findings.is_empty(),
            wanted => action.findings.iter().any(|finding| finding.as_str() == wanted),
        };
        effect_matches
            && finding_matches
            && (self.agent.is_empty()
                || action.agent_label().is_some_and(|agent| contains(agent, &self.agent)))
            && (self.tool.is_empty() || contains(&action.name, &self.tool))
    }
}

fn contains(haystack: &str, needle: &str) -> bool {
    haystack.to_lowercase().contains(&needle.to_lowercase())
}

fn mentions(action: &Action, needle: &str) -> bool {
    let has = |text: Option<&str>| text.is_some_and(|text| text.to_lowercase().contains(needle));
    has(Some(&action.name))
        || has(action.agent_label())
        || has(action.resource.as_deref())
        || has(action.call_id.as_deref())
        || has(action.session.as_ref().map(|session| session.value.as_str()))
        || has(action.user.as_ref().map(|user| user.value.as_str()))
        || has(action.service.as_ref().map(|service| service.value.as_str()))
        || has(action.error.as_ref().and_then(|error| error.message.as_deref()))
        || has(action.error.as_ref().and_then(|error| error.kind.as_deref()))
        || action.rulings.iter().any(|ruling| {
            has(ruling.decision.reason.as_deref())
                || has(ruling.decision.code.as_deref())
                || ruling.decision.policy.iter().flat_map(|policy| &policy.rules).any(|rule| has(Some(rule)))
        })
        || action.arguments.as_ref().is_some_and(|arguments| has(Some(&arguments.to_string())))
}

fn effect_choices(chosen: &str) -> Vec<Choice> {
    let mut choices = vec![Choice { value: "", label: "any decision", chosen: chosen.is_empty() }];
    choices.extend(Effect::ALL.into_iter().rev().map(|effect| Choice {
        value: effect.as_str(),
        label: badge::effect(effect).label,
        chosen: chosen == effect.as_str(),
    }));
    choices.push(Choice { value: "none", label: badge::no_decision().label, chosen: chosen == "none" });
    choices
}

fn finding_choices(chosen: &str) -> Vec<Choice> {
    let mut choices = vec![
        Choice { value: "", label: "with or without", chosen: chosen.is_empty() },
        Choice { value: "any", label: "any finding", chosen: chosen == "any" },
    ];
    choices.extend(badge::FINDINGS.into_iter().map(|finding| Choice {
        value: finding.as_str(),
        label: badge::finding(finding).label,
        chosen: chosen == finding.as_str(),
    }));
    choices
}
