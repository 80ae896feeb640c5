//! The routes, what each asks of its caller, and what stands in front of them.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{MethodRouter, any, get, post};
use tower_http::catch_panic::CatchPanicLayer;

use super::error::PageError;
use super::middleware::{auth, headers, host, limits, log, origin};
use super::surface::Surface;
use super::{AppState, api, assets, downloads, ingest, investigate, pages, tlog};
use crate::auth::Permission;

/// What bounds the requests of a route.
#[derive(Debug, Clone, Copy)]
enum Bounds {
    /// A page or a small answer.
    Page,
    /// A replay or a verification.
    Work,
    /// Taking something in.
    Ingest,
}

/// A route as it is declared, for tests and documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Pattern of the path.
    pub path: &'static str,
    /// What it asks for.
    pub permission: Permission,
}

/// Routes that cannot be added without saying what they ask for.
struct Routes {
    state: AppState,
    router: Router<AppState>,
    declared: Vec<Route>,
}

impl Routes {
    fn new(state: &AppState) -> Self {
        Self { state: state.clone(), router: Router::new(), declared: Vec::new() }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that adds routes, with their permission")]
    fn add(
        mut self,
        path: &'static str,
        permission: Permission,
        surface: Surface,
        bounds: Bounds,
        handlers: MethodRouter<AppState>,
    ) -> Self {
        self.declared.push(Route { path, permission });
        let handlers = self.guarded(permission, surface, bounds, handlers);
        self.router = self.router.route(path, handlers);
        self
    }

    fn page(self, path: &'static str, permission: Permission, handlers: MethodRouter<AppState>) -> Self {
        self.add(path, permission, Surface::Page, Bounds::Page, handlers)
    }

    fn api(self, path: &'static str, permission: Permission, handlers: MethodRouter<AppState>) -> Self {
        self.add(path, permission, Surface::Api, Bounds::Page, handlers)
    }

    fn otherwise(mut self, surface: Surface, handlers: MethodRouter<AppState>) -> Self {
        // Who is not let in does not learn either what is not there.
        let handlers = self.guarded(Permission::READ, surface, Bounds::Page, handlers);
        self.router = self.router.fallback_service(handlers.with_state(self.state.clone()));
        self
    }

    /// Puts what bounds a route around its handlers, and around that who may use it.
    fn guarded(
        &self,
        permission: Permission,
        surface: Surface,
        bounds: Bounds,
        handlers: MethodRouter<AppState>,
    ) -> MethodRouter<AppState> {
        let state = self.state.clone();
        let handlers = match bounds {
            Bounds::Page => handlers.layer(from_fn_with_state(state.clone(), limits::page)),
            Bounds::Work => handlers.layer(from_fn_with_state(state.clone(), limits::work)),
            Bounds::Ingest => handlers.layer(from_fn_with_state((state.clone(), surface), limits::take_in)),
        };
        let declared = Arc::new(auth::Declared { state, permission, surface });
        handlers.layer(from_fn_with_state(declared, auth::check))
    }
}

fn http(state: &AppState) -> Routes {
    let method = || async { PageError::MethodNotAllowed };
    let page = |handlers: MethodRouter<AppState>| handlers.fallback(method);
    Routes::new(state)
        .page("/", Permission::READ, page(get(|| async { Redirect::to("/traces") })))
        .page("/traces", Permission::READ, page(get(pages::traces::show)))
        .page("/traces/{id}", Permission::READ, page(get(pages::trace::show)))
        .page("/events/{seq}", Permission::READ, page(get(pages::event::show)))
        .page("/events/{seq}/entry", Permission::READ, page(get(downloads::entry)))
        .page("/events/{seq}/proof", Permission::READ, page(get(downloads::proof)))
        .page("/events/{seq}/body", Permission::READ, page(get(downloads::body)))
        .page("/integrity", Permission::READ, page(get(pages::integrity::show)))
        .page("/policies", Permission::READ, page(get(pages::policies::show)))
        .page("/about", Permission::READ, page(get(pages::about::show)))
        .page("/theme", Permission::Public, page(get(pages::theme::choose)))
        .page("/login", Permission::Public, page(get(pages::login::show).post(pages::login::sign_in)))
        .page("/logout", Permission::Public, page(post(pages::login::sign_out)))
        .page("/static/{name}", Permission::Public, page(get(assets::serve)))
        .add("/diff", Permission::READ, Surface::Page, Bounds::Work, page(get(pages::diff::show)))
        .add("/incidents", Permission::READ, Surface::Page, Bounds::Work, page(get(pages::incident::show)))
        .add(
            "/events/{seq}/what-if",
            Permission::READ,
            Surface::Page,
            Bounds::Work,
            page(get(pages::what_if::show)),
        )
        .add(
            "/api/v1/incidents",
            Permission::READ,
            Surface::Api,
            Bounds::Work,
            page(get(investigate::incidents)),
        )
        .add(
            "/api/v1/events/{seq}/answers",
            Permission::READ,
            Surface::Api,
            Bounds::Work,
            page(get(investigate::event_answers)),
        )
        .add(
            "/api/v1/what-if",
            Permission::READ,
            Surface::Api,
            Bounds::Work,
            page(post(investigate::what_if_api)),
        )
        .add("/cost", Permission::READ, Surface::Page, Bounds::Work, page(get(pages::cost::show)))
        .add("/contract", Permission::READ, Surface::Page, Bounds::Work, page(get(pages::contract::show)))
        .add("/api/v1/cost", Permission::READ, Surface::Api, Bounds::Work, page(get(pages::cost::api)))
        .add(
            "/api/v1/contract",
            Permission::READ,
            Surface::Api,
            Bounds::Work,
            page(get(pages::contract::api)),
        )
        .page("/contract/release", Permission::ADMIN, page(post(pages::release::form)))
        .api("/api/v1/contract/release", Permission::ADMIN, page(post(pages::release::api)))
        .add(
            "/integrity/verify",
            Permission::READ,
            Surface::Page,
            Bounds::Work,
            page(post(pages::integrity::verify)),
        )
        .api("/checkpoint", Permission::READ, page(get(tlog::checkpoint)))
        .api("/tile/{*name}", Permission::READ, page(get(tlog::tile)))
        .api("/healthz", Permission::Public, page(get(api::healthz)))
        .api("/readyz", Permission::Public, page(get(api::readyz)))
        .api("/metrics", Permission::METRICS, page(get(api::metrics)))
        .api("/api/v1/integrity", Permission::READ, page(get(api::integrity)))
        .api("/api/v1/traces", Permission::READ, page(get(api::traces)))
        .api("/api/v1/traces/{id}", Permission::READ, page(get(api::trace)))
        .api("/api/v1/traces/{id}/graph", Permission::READ, page(get(investigate::trace_graph)))
        .add("/api/v1/events", Permission::INGEST, Surface::Api, Bounds::Ingest, page(post(ingest::events)))
        .add("/logs", Permission::INGEST, Surface::Api, Bounds::Ingest, page(post(ingest::opa_logs)))
        .add("/v1/traces", Permission::INGEST, Surface::Otlp, Bounds::Ingest, page(post(ingest::otlp_traces)))
        .add("/v1/logs", Permission::INGEST, Surface::Otlp, Bounds::Ingest, page(post(ingest::otlp_logs)))
        .add(
            "/v1/metrics",
            Permission::INGEST,
            Surface::Otlp,
            Bounds::Ingest,
            page(post(ingest::otlp_metrics)),
        )
        .otherwise(Surface::Page, any(|uri: Uri| async move { PageError::not_found("page", uri.path()) }))
}

fn grpc(state: &AppState) -> Routes {
    let ingest = |routes: Routes, path, handlers: MethodRouter<AppState>| {
        let handlers = handlers.fallback(ingest::grpc_unknown);
        routes.add(path, Permission::INGEST, Surface::Grpc, Bounds::Ingest, handlers)
    };
    let routes = Routes::new(state);
    let routes = ingest(
        routes,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        post(ingest::grpc_traces),
    );
    let routes =
        ingest(routes, "/opentelemetry.proto.collector.logs.v1.LogsService/Export", post(ingest::grpc_logs));
    let routes = ingest(
        routes,
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        post(ingest::grpc_metrics),
    );
    routes
        .add(
            "/grpc.health.v1.Health/Check",
            Permission::Public,
            Surface::Grpc,
            Bounds::Page,
            post(ingest::grpc_health).fallback(ingest::grpc_unknown),
        )
        .otherwise(Surface::Grpc, any(ingest::grpc_unknown))
}

/// Builds the router of the HTTP port.
pub fn app(state: AppState) -> Router {
    http(&state)
        .router
        .layer(from_fn_with_state(state.clone(), origin::check))
        .layer(from_fn_with_state(state.clone(), host::check))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(headers::secure))
        .layer(from_fn_with_state(state.clone(), log::requests))
        .with_state(state)
}

/// Builds the router of the gRPC port. Browsers do not speak gRPC, so that there is no origin to check.
pub fn grpc_app(state: AppState) -> Router {
    grpc(&state)
        .router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(state.clone(), log::requests))
        .with_state(state)
}

/// Returns every route of a server with what it asks for.
pub fn declared(state: &AppState) -> Vec<Route> {
    let mut all = http(state).declared;
    all.extend(grpc(state).declared);
    all
}

/// Turns a panic into the error page; the panic's own text may hold payload and stays out of page and log.
fn panicked(_panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let mut response = PageError::Panicked.into_response();
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
