//! What two policy versions say about the same recorded actions.

mod compare;
mod view;

use askama::Template;
use axum::extract::State;
use serde::Deserialize;
use verdict_ledger::id::TraceId;

pub(crate) use compare::Comparison;

use super::{Page, policies, render};
use crate::web::error::PageError;
use crate::web::request::{Params, optional_position, trace_id};
use crate::web::view::page::Shell;
use crate::web::view::url;
use crate::web::{AppState, blocking};
use view::{DiffView, Filter};

/// The name of the recorded decisions as a side.
pub(crate) const RECORDED: &str = "recorded";

/// Parameters; every one is part of the shared link.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Query {
    from: String,
    to: String,
    trace: String,
    /// One past the last entry of the range.
    at: Option<String>,
    class: String,
    /// Effect before and after, for one cell of the matrix.
    before: String,
    after: String,
    rule: String,
    /// Show changes after this action key.
    beyond: Option<String>,
}

/// One choice of a side.
#[derive(Debug)]
struct Choice {
    value: String,
    label: String,
    from: bool,
    to: bool,
}

#[derive(Debug, Template)]
#[template(path = "diff.html")]
struct DiffPage {
    shell: Shell,
    choices: Vec<Choice>,
    recorded_is_from: bool,
    trace: String,
    ledger_arg: String,
    result: Option<DiffView>,
}

/// `GET /diff`
pub(crate) async fn show(State(state): State<AppState>, shell: Shell, Params(query): Params<Query>) -> Page {
    let trace = Some(query.trace.trim()).filter(|text| !text.is_empty()).map(trace_id).transpose()?;
    let at = optional_position("at", query.at.as_deref())?;
    let beyond = optional_position("beyond", query.beyond.as_deref())?;
    let filter = Filter::read(&query.class, &query.before, &query.after, &query.rule, beyond)?;
    if let Some(at) = at.filter(|at| *at > shell.size) {
        let detail = format!("the log has {} entries, so there is no range up to {at}", shell.size);
        return Err(PageError::BadRequest { detail });
    }
    let wanted = !query.from.trim().is_empty() && !query.to.trim().is_empty();
    // One decides the work from the permit: a page without a comparison needs none.
    if !wanted {
        return blocking::run(move || page(&state, shell, &query, trace, None)).await;
    }
    let end = at.unwrap_or(shell.size);
    let asked = Asked { from: query.from.trim().to_owned(), to: query.to.trim().to_owned(), trace, end };
    let comparison = compare::find_or_run(&state, asked).await?;
    blocking::run(move || {
        let links = Links { from: &comparison.from, to: &comparison.to, trace: &query.trace, end };
        let result = DiffView::new(&comparison, &filter, &links, &state.ledger_arg());
        page(&state, shell, &query, trace, Some(result))
    })
    .await
}

/// What is to be compared.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Reference, or `recorded`.
    pub(crate) from: String,
    /// Reference.
    pub(crate) to: String,
    /// Only this trace.
    pub(crate) trace: Option<TraceId>,
    /// One past the last entry.
    pub(crate) end: u64,
}

/// Builds addresses of this comparison.
#[derive(Debug)]
pub(crate) struct Links<'a> {
    from: &'a str,
    to: &'a str,
    trace: &'a str,
    end: u64,
}

impl Links<'_> {
    /// Returns the address of this comparison, pinned, with more pairs.
    pub(crate) fn with(&self, more: &[(&str, &str)]) -> String {
        let end = self.end.to_string();
        let mut pairs =
            vec![("from", self.from), ("to", self.to), ("trace", self.trace.trim()), ("at", &end)];
        pairs.extend_from_slice(more);
        url::with_query("/diff", &pairs)
    }
}

fn page(
    state: &AppState,
    shell: Shell,
    query: &Query,
    trace: Option<TraceId>,
    result: Option<DiffView>,
) -> Page {
    let published = policies::list(state)?;
    let count = published.len();
    let choices: Vec<Choice> = published
        .iter()
        .enumerate()
        .map(|(index, policy)| {
            let value = policy.digest.to_string();
            let label = policies::label(policy);
            let is = |reference: &str| {
                let reference = reference.trim();
                reference == value || reference == label || (reference == "active" && policy.active)
            };
            // Nothing chosen yet: offer the last two versions.
            let (from, to) = (query.from.trim(), query.to.trim());
            Choice {
                from: if from.is_empty() { index + 2 == count } else { is(from) },
                to: if to.is_empty() { index + 1 == count } else { is(to) },
                label: if policy.active { format!("{label} (active)") } else { label },
                value,
            }
        })
        .rev()
        .collect();
    render(&DiffPage {
        recorded_is_from: query.from.trim() == RECORDED || (query.from.trim().is_empty() && count == 1),
        trace: trace.map(|trace| trace.to_string()).unwrap_or_default(),
        ledger_arg: state.ledger_arg(),
        choices,
        result,
        shell,
    })
}
