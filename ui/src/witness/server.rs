//! Routes, limits and the way a witness is stopped.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_http::catch_panic::CatchPanicLayer;
use verdict_ledger::witness::protocol::{REQUEST_BYTES_MAX, TEXT_CONTENT_TYPE};
use verdict_ledger::witness::{Witness, WitnessError};

/// Longest time for a request, its body included.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Requests that are worked on at the same time; more wait, within their time.
const REQUESTS_MAX: usize = 32;
/// Longest time that open requests get to finish when the witness is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the witness does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessServeError {
    /// The system does not let us listen there.
    #[error("cannot listen on {listen}")]
    Bind {
        /// Address asked for.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server stopped by itself.
    #[error("the witness stopped")]
    Serve {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, Clone)]
struct Shared {
    witness: Arc<Witness>,
    requests: Arc<Semaphore>,
}

/// A witness that has its address and does not serve yet.
#[derive(Debug)]
pub struct WitnessServer {
    listener: TcpListener,
    listen: SocketAddr,
    shared: Shared,
}

impl WitnessServer {
    /// Binds the address.
    pub async fn bind(witness: Witness, listen: SocketAddr) -> Result<Self, WitnessServeError> {
        let failed = |source| WitnessServeError::Bind { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let listen = listener.local_addr().map_err(failed)?;
        let shared = Shared { witness: Arc::new(witness), requests: Arc::new(Semaphore::new(REQUESTS_MAX)) };
        Ok(Self { listener, listen, shared })
    }

    /// Returns the address that was bound.
    pub const fn local_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Serves until `shutdown` is ready, then lets open requests finish for a few seconds.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), WitnessServeError> {
        let (told, mut stopping) = watch::channel(false);
        let mut draining = told.subscribe();
        let signal = async move {
            shutdown.await;
            // Nobody listening any more means that the server is already gone.
            let _ = told.send(true);
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let serve = axum::serve(self.listener, routes(self.shared)).with_graceful_shutdown(signal);
        tokio::select! {
            result = serve.into_future() => result.map_err(|source| WitnessServeError::Serve { source }),
            () = async {
                let stopped = draining.wait_for(|stop| *stop).await.is_ok();
                if stopped { tokio::time::sleep(DRAIN).await } else { std::future::pending::<()>().await }
            } => {
                // Whatever was recorded is durable; a client that got no answer asks again.
                tracing::warn!(seconds = DRAIN.as_secs(), "requests still open after the drain time; closing them");
                Ok(())
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a witness has no callers to tell apart: everything is public")]
fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/logs", get(logs))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/", get(about))
        .fallback(|| async {
            text(StatusCode::NOT_FOUND, "no such page; POST to add-checkpoint\n".to_owned())
        })
        .method_not_allowed_fallback(|| async {
            text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n".to_owned())
        })
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(from_fn_with_state(shared.clone(), limits))
        .layer(CatchPanicLayer::new())
        .with_state(shared)
}

/// Bounds the time of a request and how many are worked on.
async fn limits(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let work = async {
        match shared.requests.acquire().await {
            Ok(_permit) => next.run(request).await,
            Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
        }
    };
    let mut response = tokio::time::timeout(REQUEST_TIME, work)
        .await
        .unwrap_or_else(|_| text(StatusCode::REQUEST_TIMEOUT, "the request took too long\n".to_owned()));
    let nosniff = (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    response.headers_mut().extend([nosniff]);
    response
}

async fn add_checkpoint(State(shared): State<Shared>, body: Bytes) -> Response {
    // The state is flushed to the disk while a thread waits; that must not be one that serves others.
    let witness = shared.witness;
    let answered = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body)).await;
    match answered {
        Ok(Ok(line)) => typed(StatusCode::OK, TEXT_CONTENT_TYPE, line.to_string()),
        Ok(Err(WitnessError::Refused(refusal))) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            if matches!(refusal.status(), 409 | 422) {
                // What a log operator must hear about: a log that goes back or aside looks like this.
                tracing::warn!(%status, %refusal, "not cosigned");
            } else {
                tracing::info!(%status, %refusal, "not cosigned");
            }
            let (content_type, body) = refusal.body();
            typed(status, content_type, body)
        }
        Ok(Err(error @ WitnessError::State { .. })) => {
            tracing::error!(%error, "not cosigned");
            // Where and why is for the operator's log.
            text(StatusCode::INTERNAL_SERVER_ERROR, "the witness cannot record its state\n".to_owned())
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the witness failed\n".to_owned()),
    }
}

/// How far each log has come: for people and monitors who compare witnesses. Not part of the protocol.
async fn logs(State(shared): State<Shared>) -> Response {
    let witness = shared.witness;
    let Ok(logs) = tokio::task::spawn_blocking(move || witness.logs()).await else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the witness failed\n".to_owned());
    };
    let logs: Vec<_> = logs
        .into_iter()
        .map(|log| {
            json!({"origin": log.origin, "size": log.size.to_string(), "time": log.time, "checkpoint": log.note})
        })
        .collect();
    typed(StatusCode::OK, "application/json", json!({"logs": logs}).to_string())
}

async fn about(State(shared): State<Shared>) -> Response {
    let key = shared.witness.signer().verifier();
    text(
        StatusCode::OK,
        format!(
            "C2SP tlog-witness (https://c2sp.org/tlog-witness)\nkey {key}\nPOST add-checkpoint, GET logs\n"
        ),
    )
}

fn text(status: StatusCode, body: String) -> Response {
    typed(status, TEXT_CONTENT_TYPE, body)
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
}
