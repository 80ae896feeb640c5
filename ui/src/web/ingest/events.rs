//! `POST /api/v1/events`: native events, CloudEvents and everything else that is told by its content; all records or
//! none. `POST /logs`: OPA decision logs.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use verdict_ledger::contract::AtIngest;
use verdict_ledger::ingest::{self, Format};

use super::append::Stored;
use super::body::{self, Received};
use super::refusal::{RETRY_SECONDS, Refusal};
use super::take::{self, Rule, Taken};
use crate::auth::gate::Caller;
use crate::web::AppState;
use crate::web::request::Params;

/// Errors that an answer lists; the rest is counted.
const ERRORS_MAX: usize = 100;
/// Media types that say "lines of JSON" or leave it open.
const MEDIA_TYPES: [&str; 7] = [
    "",
    "application/json",
    "application/jsonl",
    "application/ndjson",
    "application/x-ndjson",
    "application/octet-stream",
    "text/plain",
];
/// Media types of CloudEvents in structured mode, one or many.
const CLOUDEVENTS: [&str; 2] = ["application/cloudevents+json", "application/cloudevents-batch+json"];
/// What the headers of CloudEvents in binary mode start with.
const CE: &str = "ce-";

/// Parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct EventsQuery {
    format: Option<String>,
    mode: Option<String>,
}

/// `POST /api/v1/events`
pub(crate) async fn events(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Params(query): Params<EventsQuery>,
    request: Body,
) -> Response {
    let taken = async {
        let named = query.format.as_deref().map(named).transpose()?;
        let rule = match query.mode.as_deref() {
            None => Rule::Whole,
            Some("quarantine") => Rule::Quarantine,
            Some(other) => {
                let detail = format!("`{other}` is not a mode; leave it out, or say mode=quarantine");
                return Err(Refusal::Malformed { detail });
            }
        };
        let media = body::media_type(&headers);
        let binary = headers.contains_key("ce-specversion");
        if !binary && !MEDIA_TYPES.contains(&media.as_str()) && !CLOUDEVENTS.contains(&media.as_str()) {
            let detail = format!(
                "content-type `{media}` is not taken here; use application/x-ndjson, application/json, \
                 application/cloudevents+json or application/cloudevents-batch+json"
            );
            return Err(Refusal::MediaType { detail });
        }
        let received = body::read(&state, &headers, request).await?;
        if binary {
            let received = structured(&state, &headers, received)?;
            return take::take(&state, received, caller, rule, |_| Ok(Format::CloudEvents)).await;
        }
        take::take(&state, received, caller, rule, move |bytes| told(named, &media, bytes)).await
    };
    answer(&state, taken.await)
}

/// `POST /logs`: what can be taken is. OPA sends a chunk again and again until it is answered with success, so that
/// one bad entry would keep out the rest of it for ever.
pub(crate) async fn opa_logs(
    State(state): State<AppState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Body,
) -> Response {
    let taken = async {
        let media = body::media_type(&headers);
        if !MEDIA_TYPES.contains(&media.as_str()) {
            let detail = format!("content-type `{media}` is not a decision log; use application/json");
            return Err(Refusal::MediaType { detail });
        }
        let received = body::read(&state, &headers, request).await?;
        take::take(&state, received, caller, Rule::Partial, |_| Ok(Format::OpaDecisions)).await
    };
    answer(&state, taken.await)
}

/// Finds the format that `?format=` names.
fn named(name: &str) -> Result<Format, Refusal> {
    let known = || Format::ALL.into_iter().filter(|format| !is_otlp(*format));
    known().find(|format| format.as_str() == name).ok_or_else(|| Refusal::Malformed {
        detail: format!(
            "`{name}` is not a format that is taken here; formats are {}",
            known().map(Format::as_str).collect::<Vec<_>>().join(", ")
        ),
    })
}

const fn is_otlp(format: Format) -> bool {
    matches!(format, Format::OtlpJson | Format::OtlpProtobuf(_))
}

/// Tells the format of a body: as named, as the media type says, else by its content. What nothing is told about is
/// read as native events, whose errors name the line.
fn told(named: Option<Format>, media: &str, bytes: &[u8]) -> Result<Format, Refusal> {
    if let Some(format) = named {
        return Ok(format);
    }
    if CLOUDEVENTS.contains(&media) {
        return Ok(Format::CloudEvents);
    }
    match Format::detect(None, Some("application/x-ndjson"), bytes) {
        Some(format) if is_otlp(format) => {
            let detail = "this is OTLP; send it to /v1/traces or /v1/logs".to_owned();
            Err(Refusal::MediaType { detail })
        }
        Some(format) => Ok(format),
        None => Ok(Format::Native),
    }
}

/// Writes a CloudEvent in binary mode as one in structured mode: its headers are part of what was said.
fn structured(state: &AppState, headers: &HeaderMap, received: Received) -> Result<Received, Refusal> {
    let Received { bytes, mut share } = received;
    let plain = ingest::read_body(&*bytes, &body::limits(state))?;
    let text = |name: &str, value: &HeaderValue| {
        value.to_str().map(str::to_owned).map_err(|_| Refusal::Malformed {
            detail: format!("header `{name}` is not ASCII; CloudEvents percent-encodes what is not"),
        })
    };
    let mut attributes = Vec::new();
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix(CE) {
            attributes.push((attribute, text(name.as_str(), value)?));
        }
    }
    let media = headers.get(header::CONTENT_TYPE).map(|value| text("content-type", value)).transpose()?;
    let attributes = attributes.iter().map(|(name, value)| (*name, value.as_str()));
    let event = ingest::structured_cloudevent(attributes, media.as_deref(), &plain);
    share.grow_to(event.len()).map_err(|_| Refusal::Saturated)?;
    Ok(Received { bytes: Bytes::from(event), share })
}

fn answer(state: &AppState, taken: Result<Taken, Refusal>) -> Response {
    let taken = match taken {
        Ok(taken) => taken,
        Err(refusal) => {
            state.metrics().refusal(&refusal);
            let mut response = problem(refusal.http().0, &refusal.message(), Vec::new(), 0);
            if refusal.is_passing() {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
            }
            return response;
        }
    };
    let errors: Vec<Value> = taken
        .rejected
        .iter()
        .take(ERRORS_MAX)
        .map(|rejected| {
            json!({
                "place": rejected.place,
                "offset": rejected.offset,
                "reason": rejected.reason.to_string(),
            })
        })
        .collect();
    let unmet = taken.contract.as_ref().filter(|said| taken.rejected.is_empty() && said.rejected() > 0);
    if let (None, Some(said)) = (&taken.stored, unmet) {
        let lines = said.line_errors();
        let detail = format!(
            "{} events do not meet the trace contract in force; nothing was appended; add what is missing, or send them \
             with ?mode=quarantine to have them kept until somebody releases them",
            lines.len()
        );
        let errors = lines.iter().take(ERRORS_MAX).map(|line| json!(line)).collect();
        return problem(StatusCode::UNPROCESSABLE_ENTITY, &detail, errors, lines.len());
    }
    let Some(stored) = taken.stored else {
        let detail = format!("{} records cannot be taken; nothing was appended", taken.rejected.len());
        return problem(StatusCode::UNPROCESSABLE_ENTITY, &detail, errors, taken.rejected.len());
    };
    let Stored { appended, duplicates, conflicts, size, refused } = stored;
    let unmet = taken.contract.as_ref().and_then(AtIngest::message);
    let quarantined = taken.contract.as_ref().map_or(0, AtIngest::rejected);
    let warnings: Vec<String> =
        unmet.into_iter().chain(taken.warnings.iter().map(ToString::to_string)).collect();
    let mut body = json!({
        "format": taken.format.as_str(),
        "appended": appended,
        "duplicates": duplicates,
        "conflicts": conflicts,
        "quarantined": quarantined,
        "size": size.to_string(),
        "refused": refused,
        "warnings": warnings,
    });
    if let (Some(object), false) = (body.as_object_mut(), errors.is_empty()) {
        object.insert("errors".to_owned(), Value::from(errors));
        object.insert("error_count".to_owned(), Value::from(taken.rejected.len()));
    }
    Json(body).into_response()
}

/// Writes an RFC 9457 problem document.
pub(crate) fn problem(status: StatusCode, detail: &str, errors: Vec<Value>, count: usize) -> Response {
    let mut body = json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or("error"),
        "status": status.as_u16(),
        "detail": detail,
    });
    if let (Some(object), true) = (body.as_object_mut(), count > 0) {
        object.insert("errors".to_owned(), Value::from(errors));
        object.insert("error_count".to_owned(), Value::from(count));
    }
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
    (status, content_type, body.to_string()).into_response()
}
