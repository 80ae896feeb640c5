//! The contract in force, how much of it is met, and what is in quarantine.

use askama::Template;
use axum::extract::State;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use verdict_ledger::contract::{Coverage, Field, Held, Mode, Verdicts};
use verdict_ledger::id::TraceId;
use verdict_ledger::view::View;

use super::{Page, render};
use crate::auth::gate::Caller;
use crate::web::api::ApiError;
use crate::web::error::PageError;
use crate::web::projection::Projection;
use crate::web::request::{Params, optional_position};
use crate::web::view::badge::{self, Badge};
use crate::web::view::page::Shell;
use crate::web::view::text;
use crate::web::{AppState, blocking};

/// Actions and holds that an answer lists; the rest is counted.
const LISTED_MAX: usize = 100;

/// Parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Query {
    at: Option<String>,
}

/// An action that does not meet the contract.
#[derive(Debug)]
struct Unmet {
    key: u64,
    trace: Option<TraceId>,
    what: String,
    shape: &'static str,
    missing: Vec<Field>,
    verdict: Option<u64>,
}

/// How a contract stands.
struct Told {
    label: String,
    id: String,
    mode: Mode,
    at: u64,
    coverage: Coverage,
    unsettled: u64,
    unmet: Vec<Unmet>,
    holds: Vec<Held>,
}

fn tell(state: &AppState, at: Option<u64>) -> Result<Told, PageError> {
    let projection = Projection::at(state, at)?;
    let most = state.limits().breakdown_entries_max;
    if projection.position() > most {
        let detail =
            format!("a page reads at most {most} entries for this; `verdict contract report` has no limit");
        return Err(PageError::BadRequest { detail });
    }
    let verdicts = Verdicts::read(state.ledger())?;
    projection.with_whole(|view| of_view(view, &verdicts, projection.position()))
}

fn of_view(view: &View, verdicts: &Verdicts, at: u64) -> Told {
    let mut told = Told {
        label: view.rules.contract.label().to_owned(),
        id: view.rules.contract.id(),
        mode: view.rules.contract.mode(),
        at,
        coverage: Coverage::default(),
        unsettled: 0,
        unmet: Vec::new(),
        holds: view.rules.quarantine.holds().to_vec(),
    };
    for (index, action) in view.actions.iter().enumerate() {
        let Some(judgement) = view.judgement(index) else { continue };
        if !action.settled {
            told.unsettled += 1;
            continue;
        }
        told.coverage.add(&judgement);
        if !judgement.is_met() && told.unmet.len() < LISTED_MAX {
            told.unmet.push(Unmet {
                key: action.key,
                trace: action.trace_id,
                what: format!("{} {}", action.kind.as_str(), action.name),
                shape: badge::kind_shape(action.kind),
                missing: judgement.missing,
                verdict: verdicts.last(action.key).map(|past| past.seq),
            });
        }
    }
    told
}

/// `GET /api/v1/contract`
pub(crate) async fn api(
    State(state): State<AppState>,
    Params(query): Params<Query>,
) -> Result<Json<Value>, ApiError> {
    let at = optional_position("at", query.at.as_deref())?;
    let permits = state.replays();
    let body = blocking::run_limited(permits, "breakdowns", move || {
        let told = tell(&state, at)?;
        let unmet: Vec<Value> = told
            .unmet
            .iter()
            .map(|unmet| {
                json!({
                    "action": unmet.key.to_string(), "trace_id": unmet.trace, "what": unmet.what,
                    "missing": unmet.missing, "verdict_entry": unmet.verdict.map(|seq| seq.to_string()),
                })
            })
            .collect();
        let open: Vec<&Held> = told.holds.iter().filter(|held| held.released.is_none()).collect();
        Ok(json!({
            "contract": told.id, "mode": told.mode, "at": told.at.to_string(), "coverage": told.coverage,
            "unsettled": told.unsettled, "unmet": unmet,
            "unmet_count": told.coverage.actions - told.coverage.met,
            "quarantined": open.iter().take(LISTED_MAX).collect::<Vec<_>>(), "quarantined_count": open.len(),
            "released_count": told.holds.len() - open.len(),
        }))
    })
    .await?;
    Ok(Json(body))
}

/// A hold, for people.
#[derive(Debug)]
struct HoldView {
    seq: u64,
    what: String,
    /// What the form names: the action, else the event.
    action: Option<u64>,
    event: String,
    missing: String,
    released: Option<(u64, String, String)>,
}

/// One field.
#[derive(Debug)]
struct FieldView {
    name: &'static str,
    asked: u64,
    own: u64,
    after: u64,
    missing: u64,
}

/// One unmet action.
#[derive(Debug)]
struct UnmetView {
    key: u64,
    link: String,
    what: String,
    shape: &'static str,
    missing: String,
    verdict: Option<u64>,
}

#[derive(Debug, Template)]
#[template(path = "contract.html")]
struct ContractPage {
    shell: Shell,
    label: String,
    id: String,
    id_short: String,
    strict: bool,
    met: u64,
    actions: u64,
    unsettled: u64,
    fields: Vec<FieldView>,
    unmet: Vec<UnmetView>,
    more: u64,
    holds: Vec<HoldView>,
    open: usize,
    quarantined: Badge,
    ledger_arg: String,
    /// Who is known to ask; empty when the form has to say so.
    peer: String,
}

/// `GET /contract`
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Option<Extension<Caller>>,
    shell: Shell,
    Params(query): Params<Query>,
) -> Page {
    let peer = caller.and_then(|Extension(caller)| caller.peer).unwrap_or_default();
    let at = optional_position("at", query.at.as_deref())?;
    let permits = state.replays();
    blocking::run_limited(permits, "breakdowns", move || {
        let told = tell(&state, at)?;
        let unmet_count = told.coverage.actions - told.coverage.met;
        render(&ContractPage {
            id_short: text::short_id(&told.id),
            strict: told.mode == Mode::Strict,
            met: told.coverage.met,
            actions: told.coverage.actions,
            unsettled: told.unsettled,
            fields: told
                .coverage
                .fields
                .iter()
                .map(|(field, one)| FieldView {
                    name: field.as_str(),
                    asked: one.asked,
                    own: one.own,
                    after: one.own + one.inherited,
                    missing: one.asked - one.own - one.inherited,
                })
                .collect(),
            more: unmet_count.saturating_sub(told.unmet.len() as u64),
            unmet: told.unmet.iter().map(unmet_view).collect(),
            open: told.holds.iter().filter(|held| held.released.is_none()).count(),
            holds: told.holds.iter().rev().take(LISTED_MAX).map(hold_view).collect(),
            quarantined: badge::quarantined(),
            ledger_arg: state.ledger_arg(),
            peer,
            label: told.label,
            id: told.id,
            shell,
        })
    })
    .await
}

fn names(fields: &[Field]) -> String {
    fields.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(", ")
}

fn unmet_view(unmet: &Unmet) -> UnmetView {
    UnmetView {
        key: unmet.key,
        link: unmet.trace.map_or_else(
            || format!("/events/{}", unmet.key),
            |trace| format!("/traces/{trace}#a-{}", unmet.key),
        ),
        what: unmet.what.clone(),
        shape: unmet.shape,
        missing: names(&unmet.missing),
        verdict: unmet.verdict,
    }
}

fn hold_view(held: &Held) -> HoldView {
    HoldView {
        seq: held.seq,
        what: match (held.action, held.events.as_slice()) {
            (Some(key), _) => format!("action {key}"),
            (None, [seq]) => format!("event, entry {seq}"),
            (None, _) => "an event".to_owned(),
        },
        action: held.action,
        event: held.id.clone().unwrap_or_default(),
        missing: names(&held.missing),
        released: held
            .released
            .as_ref()
            .map(|release| (release.seq, release.by.clone(), release.reason.clone())),
    }
}
