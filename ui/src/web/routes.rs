//! The routes, and what stands in front of them.

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use super::error::PageError;
use super::middleware::{headers, host, limits, log, origin};
use super::{AppState, api, assets, downloads, ingest, pages, tlog};

/// Builds the router.
pub fn app(state: AppState) -> Router {
    let pages = Router::new()
        .route("/", get(|| async { Redirect::to("/traces") }))
        .route("/traces", get(pages::traces::show))
        .route("/traces/{id}", get(pages::trace::show))
        .route("/events/{seq}", get(pages::event::show))
        .route("/events/{seq}/entry", get(downloads::entry))
        .route("/events/{seq}/proof", get(downloads::proof))
        .route("/events/{seq}/body", get(downloads::body))
        .route("/integrity", get(pages::integrity::show))
        .route("/policies", get(pages::policies::show))
        .route("/about", get(pages::about::show))
        .route("/theme", get(pages::theme::choose))
        .route("/checkpoint", get(tlog::checkpoint))
        .route("/tile/{*name}", get(tlog::tile))
        .route("/static/{name}", get(assets::serve))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/api/v1/integrity", get(api::integrity))
        .route("/api/v1/traces", get(api::traces))
        .route("/api/v1/traces/{id}", get(api::trace))
        .route("/api/v1/events", post(ingest::native))
        .route("/v1/traces", post(ingest::otlp_traces))
        .route("/v1/logs", post(ingest::otlp_logs))
        .route("/v1/metrics", post(ingest::otlp_metrics))
        .fallback(|uri: axum::http::Uri| async move { PageError::not_found("page", uri.path()) })
        .method_not_allowed_fallback(|| async { PageError::MethodNotAllowed })
        .layer(from_fn_with_state(state.clone(), limits::page));
    let work = Router::new()
        .route("/diff", get(pages::diff::show))
        .route("/cost", get(pages::cost::show))
        .route("/contract", get(pages::contract::show))
        .route("/api/v1/cost", get(pages::cost::api))
        .route("/api/v1/contract", get(pages::contract::api))
        .route("/integrity/verify", post(pages::integrity::verify))
        .method_not_allowed_fallback(|| async { PageError::MethodNotAllowed })
        .layer(from_fn_with_state(state.clone(), limits::work));
    pages
        .merge(work)
        .layer(from_fn(origin::check))
        .layer(from_fn(host::check))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(headers::secure))
        .layer(from_fn(log::requests))
        .with_state(state)
}

/// Turns a panic into the error page; the panic's own text may hold payload and stays out of page and log.
fn panicked(_panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let mut response = PageError::Panicked.into_response();
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
