//! Letting something out of quarantine while the server has the ledger: a recorded decision of somebody, from the page
//! about the contract or over the API.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use verdict_ledger::AppendError;
use verdict_ledger::contract::{Held, ReleaseError, Releaser, Selected, release};

use crate::auth::gate::Caller;
use crate::web::api::ApiError;
use crate::web::error::PageError;
use crate::web::request::{optional_position, trace_id};
use crate::web::{AppState, blocking};

/// Largest request: a name and a reason, each at most a page.
const BODY_BYTES_MAX: usize = 16 << 10;

/// What to release, who says so, and why. Exactly one of `action`, `event` and `trace` is given; empty is absent, because
/// forms send empty fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Request {
    action: Option<String>,
    event: Option<String>,
    trace: Option<String>,
    by: Option<String>,
    reason: Option<String>,
}

fn stated(text: Option<&String>) -> Option<&str> {
    text.map(|text| text.trim()).filter(|text| !text.is_empty())
}

impl Request {
    fn selected(&self) -> Result<Selected, PageError> {
        let action = optional_position("action", self.action.as_deref())?;
        match (action, stated(self.event.as_ref()), stated(self.trace.as_ref())) {
            (Some(key), None, None) => Ok(Selected::Action(key)),
            (None, Some(id), None) => Ok(Selected::Event(id.to_owned())),
            (None, None, Some(trace)) => Ok(Selected::Trace(trace_id(trace)?)),
            _ => Err(PageError::BadRequest {
                detail: "name what to release with exactly one of `action` (its entry), `event` (its id) and `trace`"
                    .to_owned(),
            }),
        }
    }

    /// Who decides: as stated, else the name that was authenticated.
    fn decide(&self, state: &AppState, caller: &Caller) -> Result<(Vec<Held>, Vec<u64>), PageError> {
        let selected = self.selected()?;
        let peer = caller.peer.as_deref();
        let by = stated(self.by.as_ref()).or(peer).ok_or_else(|| PageError::BadRequest {
            detail: "say who decides in `by`: this server does not know who asks".to_owned(),
        })?;
        let reason = stated(self.reason.as_ref()).ok_or_else(|| PageError::BadRequest {
            detail: "say why in `reason`: a release is a recorded decision".to_owned(),
        })?;
        match release(state.ledger(), &selected, &Releaser { by, reason, peer }) {
            Ok((ended, receipt)) => Ok((ended, receipt.seqs)),
            Err(ReleaseError::Ledger(error)) => Err(error.into()),
            Err(ReleaseError::Append(error)) => {
                if matches!(error, AppendError::Poisoned { .. }) {
                    state.poison();
                }
                Err(PageError::NotKept(error))
            }
            Err(ReleaseError::Nothing) => {
                let what = stated(self.action.as_ref()).or(stated(self.event.as_ref()));
                let what = what.or(stated(self.trace.as_ref())).unwrap_or_default();
                Err(PageError::not_found("open hold of the quarantine for", what))
            }
            Err(error) => Err(PageError::BadRequest { detail: error.to_string() }),
        }
    }
}

async fn decide(
    state: AppState,
    caller: Caller,
    request: Request,
) -> Result<(Vec<Held>, Vec<u64>), PageError> {
    blocking::run(move || request.decide(&state, &caller)).await
}

/// `POST /api/v1/contract/release`
pub(crate) async fn api(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let bad = |detail: String| PageError::BadRequest { detail };
    if body.len() > BODY_BYTES_MAX {
        return Err(bad(format!("the request is larger than {BODY_BYTES_MAX} bytes")).into());
    }
    let request: Request = serde_json::from_slice(&body).map_err(|error| {
        bad(format!("expected {{\"action\"|\"event\"|\"trace\": …, \"by\": …, \"reason\": …}}: {error}"))
    })?;
    let (ended, entries) = decide(state, caller, request).await?;
    let positions =
        |seqs: &mut dyn Iterator<Item = u64>| -> Vec<String> { seqs.map(|seq| seq.to_string()).collect() };
    Ok(Json(json!({
        "released": positions(&mut ended.iter().map(|held| held.seq)),
        "events": positions(&mut ended.iter().flat_map(|held| held.events.iter().copied())),
        "entries": positions(&mut entries.into_iter()),
    })))
}

/// `POST /contract/release`: the form beside each hold.
pub(crate) async fn form(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    Form(request): Form<Request>,
) -> Result<Response, PageError> {
    decide(state, caller, request).await?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, "/contract#quarantine")]).into_response())
}
