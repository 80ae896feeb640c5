//! Binding the address, serving until told to stop, and stopping without losing what was acknowledged.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use verdict_ledger::Ledger;
use verdict_ledger::clock::{Clock, SystemClock};

use super::judge::{self, Judge};
use super::schedule::Schedule;
use super::state::{AppState, Limits};
use crate::anchor::StatusView;

/// Longest time that open requests get to finish after the shutdown signal.
const DRAIN: Duration = Duration::from_secs(10);

/// How to serve.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Address to listen on; loopback only, port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where the ledger lives, for the command lines that pages print; `None` prints `LEDGER`.
    pub ledger_dir: Option<std::path::PathBuf>,
    /// How often everything in the ledger is checked in the background; `None` is never.
    pub fsck_every: Option<Duration>,
    /// Limits.
    pub limits: Limits,
    /// How it stands with the anchors, for pages; `None` when nothing is anchored while serving.
    pub anchors: Option<StatusView>,
}

impl ServeOptions {
    /// Serves on an address with default limits.
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, ledger_dir: None, fsck_every: None, limits: Limits::default(), anchors: None }
    }
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 7878)))
    }
}

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address can be reached by others and there is no authentication yet.
    #[error(
        "refusing to listen on {listen}: without authentication only loopback addresses are served; use \
         127.0.0.1:{port} or [::1]:{port}, and a tunnel to reach it from elsewhere",
        port = listen.port()
    )]
    NotLoopback {
        /// Address asked for.
        listen: SocketAddr,
    },
    /// Another process listens there.
    #[error(
        "{listen} is in use by another process; stop it or choose another port (port 0 picks a free one)"
    )]
    InUse {
        /// Address asked for.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
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
    #[error("the server stopped")]
    Serve {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A server that has its address and does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    state: AppState,
    listen: SocketAddr,
    fsck_every: Option<Duration>,
}

impl Server {
    /// Binds the address.
    pub async fn bind(ledger: Ledger, options: ServeOptions) -> Result<Self, ServeError> {
        Self::bind_with_clock(ledger, options, Arc::new(SystemClock)).await
    }

    /// Binds the address; pages tell the time by `clock`.
    pub async fn bind_with_clock(
        ledger: Ledger,
        options: ServeOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServeError> {
        let asked = options.listen;
        if !asked.ip().is_loopback() {
            return Err(ServeError::NotLoopback { listen: asked });
        }
        let listener = TcpListener::bind(asked).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::InUse { listen: asked, source },
            _ => ServeError::Bind { listen: asked, source },
        })?;
        let listen = listener.local_addr().map_err(|source| ServeError::Bind { listen: asked, source })?;
        let state = AppState::new(ledger, clock, options.limits, options.ledger_dir);
        if let Some(anchors) = options.anchors {
            state.show_anchors(anchors);
        }
        Ok(Self { listener, state, listen, fsck_every: options.fsck_every })
    }

    /// Returns the address that was bound.
    pub const fn local_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Serves until `shutdown` is ready, then lets open requests finish for a few seconds.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), ServeError> {
        let (told, mut stopping) = watch::channel(false);
        let mut draining = told.subscribe();
        // Ends with this function, however that ends: the ledger must be closed after it, not under it.
        let _judge =
            Judge::start(self.state.clone(), judge::EVERY).map_err(|source| ServeError::Serve { source })?;
        let _schedule = self
            .fsck_every
            .map(|every| Schedule::start(self.state.clone(), every))
            .transpose()
            .map_err(|source| ServeError::Serve { source })?;
        let signal = async move {
            shutdown.await;
            // Nobody listening any more means that the server is already gone.
            let _ = told.send(true);
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        let serve = axum::serve(self.listener, super::app(self.state)).with_graceful_shutdown(signal);
        tokio::select! {
            result = serve.into_future() => result.map_err(|source| ServeError::Serve { source }),
            () = async {
                let stopped = draining.wait_for(|stop| *stop).await.is_ok();
                if stopped { tokio::time::sleep(DRAIN).await } else { std::future::pending::<()>().await }
            } => {
                tracing::warn!(seconds = DRAIN.as_secs(), "requests still open after the drain time; closing them");
                Ok(())
            }
        }
    }
}

/// Serves a ledger until `shutdown` is ready.
pub async fn serve(
    ledger: Ledger,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let server = Server::bind(ledger, options).await?;
    tracing::info!(address = %server.local_addr(), "serving");
    server.run(shutdown).await
}
