//! Incidents, answers, what-if and graphs for programs, and what the pages share with them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use verdict_ledger::event::Trust;
use verdict_ledger::view::View;
use verdict_replay::answers::{Answers, ExplainError, explain};
use verdict_replay::graph::query::Direction;
use verdict_replay::graph::{Confidence, ExecutionGraph};
use verdict_replay::incident::{Incident, IncidentError, Limits, Seed};
use verdict_replay::policy::{Policy, registry};
use verdict_replay::what_if::{Edit, Recorded, WhatIf, WhatIfError, recorded_input, what_if};

use super::api::ApiError;
use super::error::{self, PageError};
use super::projection::Projection;
use super::request::{Params, optional_position, position, trace_id};
use super::{AppState, blocking};

/// What a request may take in; a command has higher limits.
pub(crate) const INCIDENT_LIMITS: Limits = Limits { traces: 64, events: 5_000, scan: 50_000 };
/// What a panel on another page may take in.
pub(crate) const PANEL_LIMITS: Limits = Limits { traces: 16, events: 2_000, scan: 20_000 };
/// Bytes of a what-if request.
const BODY_BYTES_MAX: usize = 256 * 1024;

impl From<IncidentError> for PageError {
    fn from(error: IncidentError) -> Self {
        match error {
            IncidentError::Ledger(error) => error.into(),
            IncidentError::Unknown { seed, .. } => Self::not_found("incident around", seed),
            IncidentError::NoApproval { .. } | IncidentError::NoAction { .. } => {
                Self::BadRequest { detail: error.to_string() }
            }
            error => Self::BadRequest { detail: error::chain(&error) },
        }
    }
}

impl From<ExplainError> for PageError {
    fn from(error: ExplainError) -> Self {
        match error {
            ExplainError::Incident(error) => error.into(),
            error => Self::BadRequest { detail: error::chain(&error) },
        }
    }
}

impl From<WhatIfError> for PageError {
    fn from(error: WhatIfError) -> Self {
        match error {
            WhatIfError::Ledger(error) => error.into(),
            WhatIfError::Replay(error) => Self::Policy { detail: error::chain(&error) },
            WhatIfError::NoEntry { seq, .. } => Self::not_found("entry", seq),
            error => Self::BadRequest { detail: error.to_string() },
        }
    }
}

/// What an incident is around, and how to look at it; every member is part of the address.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IncidentQuery {
    pub(crate) trace: String,
    pub(crate) session: String,
    pub(crate) approval: String,
    pub(crate) event: String,
    pub(crate) at: Option<String>,
}

impl IncidentQuery {
    /// Reads what it is around; `None` when nothing is named.
    pub(crate) fn seed(&self) -> Result<Option<Seed>, PageError> {
        let given = [&self.trace, &self.session, &self.approval, &self.event];
        let count = given.iter().filter(|text| !text.trim().is_empty()).count();
        if count > 1 {
            let detail = "name one of trace, session, approval and event".to_owned();
            return Err(PageError::BadRequest { detail });
        }
        let named = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        if let Some(trace) = named(&self.trace) {
            return Ok(Some(Seed::Trace(trace_id(&trace)?)));
        }
        if let Some(event) = named(&self.event) {
            return Ok(Some(Seed::Event(position("event", &event)?)));
        }
        let session = named(&self.session).map(Seed::Session);
        Ok(session.or_else(|| named(&self.approval).map(Seed::Approval)))
    }
}

/// An incident with its actions and graph.
pub(crate) struct Found {
    pub(crate) incident: Incident,
    pub(crate) view: View,
    pub(crate) graph: ExecutionGraph,
}

/// Collects an incident at a position.
pub(crate) fn incident(state: &AppState, seed: Seed, at: Option<u64>) -> Result<Found, PageError> {
    let (at, settled_before_ns) = Projection::clock(state, at)?;
    let incident = Incident::collect(state.ledger(), seed, at, INCIDENT_LIMITS)?;
    let rules = state.rules(at)?;
    let view = View::of(&incident.records, &rules, settled_before_ns);
    let graph = ExecutionGraph::of(&view.actions, &incident.records);
    Ok(Found { incident, view, graph })
}

/// Answers about an event.
pub(crate) fn answers(
    state: &AppState,
    seq: u64,
    at: Option<u64>,
    limits: Limits,
) -> Result<Answers, PageError> {
    let (at, settled_before_ns) = Projection::clock(state, at)?;
    let rules = state.rules(at)?;
    Ok(explain(state.ledger(), &rules, seq, at, settled_before_ns, limits)?)
}

/// Refuses work that takes too long for a request.
pub(crate) fn affordable(state: &AppState, seq: u64) -> Result<(), PageError> {
    let most = state.limits().breakdown_entries_max;
    if state.ledger().head().size <= most {
        return Ok(());
    }
    let detail = format!(
        "a request reads at most {most} entries for this; `verdict replay what-if --event {seq}` has no limit"
    );
    Err(PageError::BadRequest { detail })
}

/// Decides an edited input under a published policy; a reference never leads to a file of the server.
pub(crate) fn decide_recorded(
    state: &AppState,
    recorded: &Recorded,
    reference: &str,
    edits: &[Edit],
) -> Result<(WhatIf, Policy), PageError> {
    let failed = |error: &dyn std::error::Error| PageError::Policy { detail: error::chain(error) };
    let known = registry::list(state.ledger()).map_err(|error| failed(&error))?;
    let published = known.iter().find(|policy| {
        policy.digest.to_string() == reference
            || format!("{}@{}", policy.name, policy.version) == reference
            || (reference == "active" && policy.active)
    });
    let published = published.ok_or_else(|| PageError::not_found("published policy", reference))?;
    let bundle = registry::resolve(Some(state.ledger()), &published.digest.to_string());
    let bundle = bundle.map_err(|error| failed(&error))?;
    let policy = Policy::compile(bundle).map_err(|error| failed(&error))?;
    Ok((what_if(recorded, edits, &policy)?, policy))
}

/// Parameters of a graph.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GraphQuery {
    downstream_of: Option<String>,
    upstream_of: Option<String>,
    confidence: Option<String>,
    format: Option<String>,
    at: Option<String>,
}

impl GraphQuery {
    /// Writes a graph, or the answer to a question to it.
    fn write(&self, graph: &ExecutionGraph, more: &Value) -> Result<Response, PageError> {
        let least = match self.confidence.as_deref().filter(|text| !text.is_empty()) {
            None => Confidence::Order,
            Some(name) => Confidence::from_name(name).ok_or_else(|| PageError::BadRequest {
                detail: format!("`{name}` is no confidence: explicit, inferred or order"),
            })?,
        };
        let question = match (&self.downstream_of, &self.upstream_of) {
            (Some(_), Some(_)) => {
                let detail = "name one of downstream_of and upstream_of".to_owned();
                return Err(PageError::BadRequest { detail });
            }
            (Some(of), None) => Some((of, Direction::Downstream)),
            (None, Some(of)) => Some((of, Direction::Upstream)),
            (None, None) => None,
        };
        let (part, mut body) = match question {
            None => (graph.clone(), graph.json()),
            Some((of, direction)) => {
                let start = graph.named(of);
                if start.is_empty() {
                    return Err(PageError::not_found("event or source", of));
                }
                let reached = graph.reach(&start, direction, least);
                let part = graph.only(&reached.nodes.keys().copied().collect());
                (part, graph.answer_json(&reached, of, direction, least))
            }
        };
        let (content_type, text) = match self.format.as_deref().unwrap_or("json") {
            "json" => {
                if let (Some(members), Some(more)) = (body.as_object_mut(), more.as_object()) {
                    members.extend(more.clone());
                }
                return Ok(Json(body).into_response());
            }
            "dot" => ("text/vnd.graphviz; charset=utf-8", part.dot()),
            "svg" => ("image/svg+xml; charset=utf-8", part.svg_linked("/events/")),
            other => {
                let detail = format!("`{other}` is no format: json, dot or svg");
                return Err(PageError::BadRequest { detail });
            }
        };
        Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], text).into_response())
    }
}

/// `GET /api/v1/traces/{id}/graph?downstream_of=&upstream_of=&confidence=&format=&at=`
pub(crate) async fn trace_graph(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Params(query): Params<GraphQuery>,
) -> Result<Response, ApiError> {
    let trace = trace_id(&id)?;
    let at = optional_position("at", query.at.as_deref())?;
    let response = blocking::run(move || {
        let projection = Projection::at(&state, at)?;
        let folded = projection.trace(&trace)?;
        if folded.seqs.is_empty() {
            return Err(PageError::not_found("trace", trace));
        }
        let records = projection.records(&folded.seqs)?;
        let graph = ExecutionGraph::of(&folded.actions, &records);
        let flow = graph.trust_flow(Trust::External, Confidence::Order);
        let more = json!({"trace_id": trace, "at": projection.position().to_string(), "trust_flow": flow,
            "events": folded.seqs.len(), "events_read": folded.read});
        query.write(&graph, &more)
    })
    .await?;
    Ok(response)
}

/// `GET /api/v1/incidents?trace=|session=|approval=|event=`, and the parameters of a graph.
pub(crate) async fn incidents(
    State(state): State<AppState>,
    Params(asked): Params<IncidentQuery>,
    Params(query): Params<GraphQuery>,
) -> Result<Response, ApiError> {
    let none =
        || PageError::BadRequest { detail: "name a trace, a session, an approval or an event".to_owned() };
    let seed = asked.seed()?.ok_or_else(none)?;
    let at = optional_position("at", asked.at.as_deref())?;
    let permits = state.replays();
    let response = blocking::run_limited(permits, "incidents", move || {
        let found = incident(&state, seed, at)?;
        let flow = found.graph.trust_flow(Trust::External, Confidence::Order);
        query.write(&found.graph, &json!({"incident": found.incident.summary(), "trust_flow": flow}))
    })
    .await?;
    Ok(response)
}

/// Parameters of the answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AnswersQuery {
    at: Option<String>,
}

/// `GET /api/v1/events/{seq}/answers?at=`
pub(crate) async fn event_answers(
    State(state): State<AppState>,
    Path(seq): Path<String>,
    Params(query): Params<AnswersQuery>,
) -> Result<Json<Value>, ApiError> {
    let seq = position("the event", &seq)?;
    let at = optional_position("at", query.at.as_deref())?;
    let permits = state.replays();
    let body = blocking::run_limited(permits, "answers", move || {
        let answers = answers(&state, seq, at, INCIDENT_LIMITS)?;
        serde_json::to_value(&answers).map_err(|error| PageError::BadRequest {
            detail: format!("the answers have no JSON form: {error}"),
        })
    })
    .await?;
    Ok(Json(body))
}

/// A what-if request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    event: u64,
    policy: String,
    #[serde(default)]
    set: Map<String, Value>,
    #[serde(default)]
    unset: Vec<String>,
}

/// `POST /api/v1/what-if` with `{"event": 412, "policy": "active", "set": {"/action/arguments/amount": 900}, "unset": []}`.
/// It changes nothing; it is a POST because of its body.
pub(crate) async fn what_if_api(State(state): State<AppState>, body: Bytes) -> Result<Json<Value>, ApiError> {
    if body.len() > BODY_BYTES_MAX {
        let detail = format!("the body has {} bytes, more than {BODY_BYTES_MAX}", body.len());
        return Err(PageError::BadRequest { detail }.into());
    }
    let asked: Asked = serde_json::from_slice(&body).map_err(|error| PageError::BadRequest {
        detail: format!("the body is not {{\"event\", \"policy\", \"set\", \"unset\"}}: {error}"),
    })?;
    let permits = state.replays();
    let body = blocking::run_limited(permits, "replays", move || {
        let set = asked.set.iter().map(|(pointer, value)| Edit::set_json(pointer, value));
        let unset = asked.unset.iter().map(|pointer| Edit::unset(pointer));
        let edits = set.chain(unset).collect::<Result<Vec<_>, _>>()?;
        affordable(&state, asked.event)?;
        let recorded = recorded_input(state.ledger(), asked.event, state.ledger().head().size)?;
        let (answer, policy) = decide_recorded(&state, &recorded, asked.policy.trim(), &edits)?;
        Ok(json!({
            "schema": "verdict-what-if/1", "seq": asked.event,
            "policy": {
                "name": policy.bundle().name(), "version": policy.bundle().version(),
                "digest": policy.bundle().digest(), "engine": policy.engine_id(),
            },
            "answer": answer,
        }))
    })
    .await?;
    Ok(Json(body))
}
