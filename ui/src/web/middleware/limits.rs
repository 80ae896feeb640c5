//! How many requests at once, and for how long.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::web::AppState;
use crate::web::error::PageError;
use crate::web::ingest;
use crate::web::surface::Surface;

/// Waits for a place among the running requests, and gives up when the time for the request is over.
pub(crate) async fn page(State(state): State<AppState>, request: Request, next: Next) -> Response {
    within(&state, state.limits().page_seconds_max, request, next).await
}

/// The same with the time that a replay or a verification needs.
pub(crate) async fn work(State(state): State<AppState>, request: Request, next: Next) -> Response {
    within(&state, state.limits().work_seconds_max, request, next).await
}

/// Waits for a place among the running ingest requests. How long they may take is up to their bodies, which have
/// deadlines of their own, and to the disk.
pub(crate) async fn take_in(
    State((state, surface)): State<(AppState, Surface)>,
    request: Request,
    next: Next,
) -> Response {
    let patience = Duration::from_secs(state.limits().ingest_wait_seconds_max);
    let place = tokio::time::timeout(patience, state.ingests().acquire_owned()).await;
    if let Ok(Ok(_place)) = place {
        return next.run(request).await;
    }
    let refusal = ingest::Refusal::Saturated;
    state.metrics().refusal(&refusal);
    let (parts, _body) = request.into_parts();
    let (status, code) = refusal.http();
    surface.refuse(&parts.headers, status, code, &refusal.message())
}

async fn within(state: &AppState, seconds: u64, request: Request, next: Next) -> Response {
    let permits = state.requests();
    let answer = async move {
        match permits.acquire_owned().await {
            Ok(_permit) => next.run(request).await,
            Err(_closed) => PageError::Busy { what: "requests" }.into_response(),
        }
    };
    tokio::time::timeout(Duration::from_secs(seconds), answer)
        .await
        .unwrap_or_else(|_elapsed| PageError::TimedOut.into_response())
}
