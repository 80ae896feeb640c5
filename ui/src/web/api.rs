//! The small JSON API and the two probes.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::PageError;
use super::projection::Projection;
use super::request::{Params, optional_position, trace_id};
use super::{AppState, blocking};

/// Most traces in one answer.
const TRACES_MAX: usize = 500;
/// Traces in one answer unless asked otherwise.
const TRACES_DEFAULT: usize = 100;

/// An error as an RFC 9457 problem document.
#[derive(Debug)]
pub(crate) struct ApiError(PageError);

impl From<PageError> for ApiError {
    fn from(error: PageError) -> Self {
        Self(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.0.log();
        let info = self.0.info();
        let body = json!({
            "type": "about:blank",
            "title": info.title,
            "status": info.status.as_u16(),
            "detail": info.message,
        });
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        (info.status, content_type, body.to_string()).into_response()
    }
}

/// `GET /healthz`: the process answers.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether requests should come here, and if not, why.
pub(crate) async fn readyz(State(state): State<AppState>) -> Response {
    match state.not_ready().await {
        None => "ready\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")).into_response(),
    }
}

/// `GET /metrics`: numbers for Prometheus.
pub(crate) async fn metrics(State(state): State<AppState>) -> Result<Response, ApiError> {
    let ready = state.not_ready().await.is_none();
    let text = blocking::run(move || {
        super::gauges::look_up(&state, ready)?;
        state.metrics().text().map_err(|error| PageError::BadRequest { detail: error.to_string() })
    })
    .await?;
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// `GET /api/v1/integrity`: the last verification of everything, by whoever asked for it or by the schedule.
pub(crate) async fn integrity(State(state): State<AppState>) -> Json<Value> {
    let verified = state.verified().map(|verified| {
        json!({
            "at_ns": verified.at_ns.to_string(),
            "took_ns": verified.took_ns.to_string(),
            "verified": verified.report.is_clean(),
            "standing": verified.report.standing(),
            "first_bad": verified.report.first_bad(),
            "way_out": verified.report.first_bad().map(|first| first.class.way_out()),
            "report": verified.report,
        })
    });
    Json(json!({"size": state.ledger().head().size.to_string(), "last_verification": verified}))
}

/// Parameters of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListQuery {
    before: Option<String>,
    limit: Option<String>,
}

/// `GET /api/v1/traces?before=&limit=`: newest first.
pub(crate) async fn traces(
    State(state): State<AppState>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let before = optional_position("before", query.before.as_deref())?;
    let limit = optional_position("limit", query.limit.as_deref())?
        .map_or(TRACES_DEFAULT, |limit| usize::try_from(limit).unwrap_or(TRACES_MAX).clamp(1, TRACES_MAX));
    let body = blocking::run(move || {
        let ledger = state.ledger();
        let found = ledger.traces(before, limit)?;
        let next = found.last().filter(|_| found.len() == limit).map(|trace| trace.first_seq.to_string());
        let traces: Vec<Value> = found
            .iter()
            .map(|trace| json!({"trace_id": trace.trace_id, "first_seq": trace.first_seq.to_string()}))
            .collect();
        Ok(json!({"size": ledger.head().size.to_string(), "traces": traces, "next_before": next}))
    })
    .await?;
    Ok(Json(body))
}

/// Parameters of one trace.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TraceQuery {
    at: Option<String>,
}

/// `GET /api/v1/traces/{id}`: the folded actions and the positions of the events.
pub(crate) async fn trace(
    State(state): State<AppState>,
    Path(id): Path<String>,
    Params(query): Params<TraceQuery>,
) -> Result<Json<Value>, ApiError> {
    let trace = trace_id(&id)?;
    let at = optional_position("at", query.at.as_deref())?;
    let body = blocking::run(move || {
        let projection = Projection::at(&state, at)?;
        let folded = projection.trace(&trace)?;
        if folded.seqs.is_empty() {
            return Err(PageError::not_found("trace", trace));
        }
        let actions = serde_json::to_value(&folded.actions).map_err(|error| PageError::BadRequest {
            detail: format!("the trace has no JSON form: {error}"),
        })?;
        let seqs: Vec<String> = folded.seqs.iter().map(ToString::to_string).collect();
        Ok(json!({
            "trace_id": trace,
            "at": projection.position().to_string(),
            "events": seqs,
            "events_read": folded.read,
            "other_traces_considered": folded.whole,
            "actions": actions,
        }))
    })
    .await?;
    Ok(Json(body))
}
