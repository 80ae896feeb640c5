//! What it cost, and whom: the breakdown of the whole log, as a page and as JSON.

use askama::Template;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use verdict_ledger::action::labels::LabelSource;
use verdict_ledger::pricing::breakdown::{Breakdown, DIMENSIONS_MAX, Dimension, Row, breakdown};

use super::{Page, render};
use crate::web::api::ApiError;
use crate::web::error::PageError;
use crate::web::projection::Projection;
use crate::web::request::{Params, optional_position};
use crate::web::view::page::Shell;
use crate::web::view::{number, text};
use crate::web::{AppState, blocking};

/// Rows that the page shows, and that the API answers with.
const PAGE_ROWS_MAX: usize = 200;
const API_ROWS_MAX: usize = 10_000;
/// What costs are told apart by unless asked otherwise.
const USUAL: &str = "agent,model";
/// What can be chosen on the page.
const CHOICES: [&str; 12] = [
    "agent",
    "model",
    "provider",
    "user",
    "session",
    "team",
    "feature",
    "customer",
    "service",
    "environment",
    "tenant",
    "day",
];

/// Parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Query {
    by: Option<String>,
    then: Option<String>,
    days: Option<String>,
    at: Option<String>,
}

/// What was asked for.
#[derive(Debug)]
struct Asked {
    by: Vec<Dimension>,
    days: Option<u64>,
    at: Option<u64>,
}

impl Asked {
    fn read(query: &Query) -> Result<Self, PageError> {
        let named = query.by.as_deref().filter(|by| !by.trim().is_empty()).unwrap_or(USUAL);
        let labels = LabelSource::defaults();
        let mut by: Vec<Dimension> = Vec::new();
        for name in
            named.split(',').chain(query.then.as_deref()).map(str::trim).filter(|name| !name.is_empty())
        {
            let dimension = Dimension::parse(name);
            if let Dimension::Label(label) = &dimension
                && !labels.iter().any(|source| source.name == *label)
            {
                let detail = format!("`{label}` is no dimension; there are {}", CHOICES.join(", "));
                return Err(PageError::BadRequest { detail });
            }
            if !by.contains(&dimension) {
                by.push(dimension);
            }
        }
        if by.len() > DIMENSIONS_MAX {
            return Err(PageError::BadRequest { detail: format!("at most {DIMENSIONS_MAX} dimensions") });
        }
        Ok(Self {
            by,
            days: optional_position("days", query.days.as_deref())?.filter(|days| *days > 0),
            at: optional_position("at", query.at.as_deref())?,
        })
    }
}

/// A breakdown with what it rests on.
struct Told {
    found: Breakdown,
    table: String,
    at: u64,
    held: usize,
}

fn break_down(state: &AppState, asked: &Asked) -> Result<Told, PageError> {
    let projection = Projection::at(state, asked.at)?;
    let most = state.limits().breakdown_entries_max;
    if projection.position() > most {
        let detail = format!(
            "a page reads at most {most} entries for this; `verdict cost --by {}` has no limit",
            asked.by.iter().map(Dimension::as_str).collect::<Vec<_>>().join(",")
        );
        return Err(PageError::BadRequest { detail });
    }
    let day_ns = 86_400_000_000_000_u64;
    let since = asked.days.map(|days| state.now_ns().saturating_sub(days.saturating_mul(day_ns)));
    projection.with_whole(|view| {
        let mut held = 0;
        let chosen = view.actions.iter().zip(&view.labels).filter(|(action, _)| {
            let wanted = since.is_none_or(|since| action.start_ns >= since);
            let out = wanted && view.rules.quarantine.holds_action(action);
            held += usize::from(out);
            wanted && !out
        });
        let found = breakdown(chosen.map(|(action, labels)| (action, Some(labels))), &asked.by);
        Told { found, table: view.rules.table.id(), at: projection.position(), held }
    })
}

/// `GET /api/v1/cost?by=agent,team&days=7&at=`
pub(crate) async fn api(
    State(state): State<AppState>,
    Params(query): Params<Query>,
) -> Result<Json<Value>, ApiError> {
    let asked = Asked::read(&query)?;
    let permits = state.replays();
    let told = blocking::run_limited(permits, "breakdowns", move || {
        let told = break_down(&state, &asked)?;
        let mut body = told.found.json(&asked.by, API_ROWS_MAX);
        if let Some(members) = body.as_object_mut() {
            members.insert("price_table".to_owned(), json!(told.table));
            members.insert("at".to_owned(), json!(told.at.to_string()));
            members.insert("quarantined_left_out".to_owned(), json!(told.held));
        }
        Ok(body)
    })
    .await?;
    Ok(Json(told))
}

/// One row of the page.
#[derive(Debug)]
struct RowView {
    values: Vec<Option<String>>,
    cost: String,
    calls: String,
    unpriced: String,
    input: String,
    output: String,
    cached: String,
}

/// A choice of a form.
#[derive(Debug)]
struct Choice {
    name: &'static str,
    by: bool,
    then: bool,
}

#[derive(Debug, Template)]
#[template(path = "cost.html")]
struct CostPage {
    shell: Shell,
    by: Vec<String>,
    choices: Vec<Choice>,
    days: String,
    rows: Vec<RowView>,
    total: RowView,
    more: usize,
    unpriced: Vec<(u64, &'static str)>,
    reported: u64,
    priced: u64,
    table: String,
    table_short: String,
    held: usize,
    json: String,
    ledger_arg: String,
}

/// `GET /cost`
pub(crate) async fn show(State(state): State<AppState>, shell: Shell, Params(query): Params<Query>) -> Page {
    let asked = Asked::read(&query)?;
    let permits = state.replays();
    blocking::run_limited(permits, "breakdowns", move || {
        let told = break_down(&state, &asked)?;
        let names: Vec<String> = asked.by.iter().map(|dimension| dimension.as_str().to_owned()).collect();
        let is = |at: usize, name: &str| names.get(at).is_some_and(|chosen| chosen == name);
        render(&CostPage {
            choices: CHOICES
                .into_iter()
                .map(|name| Choice { name, by: is(0, name), then: is(1, name) })
                .collect(),
            days: asked.days.map(|days| days.to_string()).unwrap_or_default(),
            rows: told.found.rows.iter().take(PAGE_ROWS_MAX).map(row).collect(),
            more: told.found.rows.len().saturating_sub(PAGE_ROWS_MAX),
            unpriced: told.found.total.unpriced.iter().map(|(why, count)| (*count, why.words())).collect(),
            reported: told.found.total.reported,
            priced: told.found.total.priced,
            total: row(&told.found.total),
            table_short: text::short_id(&told.table),
            table: told.table,
            held: told.held,
            json: format!("/api/v1/cost?by={}", names.join(",")),
            ledger_arg: state.ledger_arg(),
            by: names,
            shell,
        })
    })
    .await
}

fn row(row: &Row) -> RowView {
    let sums: Vec<String> = row
        .cost
        .iter()
        .map(|(currency, sum)| {
            let mark = if sum.priced == 0 { "" } else { "≈ " };
            format!("{mark}{}", number::nano_text(sum.total(), currency))
        })
        .collect();
    RowView {
        values: row.values.clone(),
        cost: sums.join(" + "),
        calls: number::count(row.actions),
        unpriced: if row.unpriced.is_empty() { String::new() } else { number::count(row.unpriced_count()) },
        input: number::count(row.input_tokens),
        output: number::count(row.output_tokens),
        cached: number::count(row.cache_read_tokens.saturating_add(row.cache_write_tokens)),
    }
}
