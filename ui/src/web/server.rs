//! Binding the address, serving until told to stop, and stopping without losing what was acknowledged.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use verdict_ledger::Ledger;
use verdict_ledger::activation::ActivationError;
use verdict_ledger::clock::{Clock, SystemClock, SystemEntropy};
use verdict_ledger::contract;

use super::error::chain;
use super::judge::{self, Judge};
use super::listen::tls::Tls;
use super::listen::{Door, accept};
use super::schedule::Schedule;
use super::state::{AppState, Limits};
use crate::anchor::StatusView;
use crate::auth::gate::Gate;
use crate::telemetry::{self, Telemetry};

/// How often the token file is looked at.
const RELOAD: Duration = Duration::from_secs(1);
/// How often it is written down which tokens were used, in looks at the token file.
const FLUSH: u64 = 60;

/// How to serve.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Address to listen on; only loopback without a gate. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Address for gRPC; `None`: none.
    pub grpc_listen: Option<SocketAddr>,
    /// TLS on both.
    pub tls: Option<Tls>,
    /// Who may do what; `None`: everybody everything.
    pub gate: Option<Arc<Gate>>,
    /// Where the ledger lives, for the command lines that pages print; `None` prints `LEDGER`.
    pub ledger_dir: Option<std::path::PathBuf>,
    /// Where spans of the server itself go; `None`: nowhere.
    pub telemetry: Option<Arc<telemetry::Settings>>,
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
        Self {
            listen,
            grpc_listen: None,
            tls: None,
            gate: None,
            telemetry: None,
            ledger_dir: None,
            fsck_every: None,
            limits: Limits::default(),
            anchors: None,
        }
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
    /// The address can be reached by others, and nobody would be asked who they are.
    #[error(
        "refusing to listen on {listen}: without authentication only loopback addresses are served; make a token \
         with `verdict token create` and serve with --auth token, or use 127.0.0.1:{port} or [::1]:{port}",
        port = listen.port()
    )]
    NotLoopback {
        /// Address asked for.
        listen: SocketAddr,
    },
    /// The contract in force cannot be read, and nobody may be told that it is met.
    #[error("the trace contract in force cannot be used")]
    Contract {
        /// Why.
        #[source]
        source: ActivationError,
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

/// A server that has its addresses and does not serve yet.
#[derive(Debug)]
pub struct Server {
    http: TcpListener,
    grpc: Option<TcpListener>,
    tls: Option<Tls>,
    state: AppState,
    listen: SocketAddr,
    grpc_listen: Option<SocketAddr>,
    fsck_every: Option<Duration>,
}

async fn listen_on(asked: SocketAddr, guarded: bool) -> Result<(TcpListener, SocketAddr), ServeError> {
    if !guarded && !asked.ip().is_loopback() {
        return Err(ServeError::NotLoopback { listen: asked });
    }
    let listener = TcpListener::bind(asked).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::InUse { listen: asked, source },
        _ => ServeError::Bind { listen: asked, source },
    })?;
    let bound = listener.local_addr().map_err(|source| ServeError::Bind { listen: asked, source })?;
    Ok((listener, bound))
}

impl Server {
    /// Binds the addresses.
    pub async fn bind(ledger: Ledger, options: ServeOptions) -> Result<Self, ServeError> {
        Self::bind_with_clock(ledger, options, Arc::new(SystemClock)).await
    }

    /// Binds the addresses; pages tell the time by `clock`.
    pub async fn bind_with_clock(
        ledger: Ledger,
        options: ServeOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServeError> {
        let guarded = options.gate.is_some();
        let (http, listen) = listen_on(options.listen, guarded).await?;
        let (grpc, grpc_listen) = match options.grpc_listen {
            Some(asked) => listen_on(asked, guarded).await.map(|(grpc, bound)| (Some(grpc), Some(bound)))?,
            None => (None, None),
        };
        let size = ledger.head().size;
        let (contract, activation) =
            contract::in_force(&ledger, size).map_err(|source| ServeError::Contract { source })?;
        let state = AppState::new(ledger, clock, options.limits, options.ledger_dir);
        // The one that comes with Verdict marks settled actions; senders are told only what somebody asked for.
        if activation.is_some() {
            state.hold_to(contract);
        }
        if let Some(anchors) = options.anchors {
            state.show_anchors(anchors);
        }
        if let Some(gate) = options.gate {
            state.guard(gate);
        }
        if let Some(settings) = options.telemetry {
            let telemetry = Telemetry::start(settings, Arc::new(SystemEntropy));
            state.trace_with(telemetry.map_err(|source| ServeError::Serve { source })?);
        }
        let fsck_every = options.fsck_every;
        Ok(Self { http, grpc, tls: options.tls, state, listen, grpc_listen, fsck_every })
    }

    /// Returns the address that was bound.
    pub const fn local_addr(&self) -> SocketAddr {
        self.listen
    }

    /// Returns the address that was bound for gRPC.
    pub const fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc_listen
    }

    /// Serves until `shutdown` is ready, then lets open requests finish for a few seconds.
    ///
    /// What was handed to the ledger becomes durable or not whether or not its connection lives to see it: the caller
    /// closes the ledger only after this returns.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<(), ServeError> {
        let state = self.state;
        let (told, stopping) = watch::channel(false);
        // Ends with this function, however that ends: the ledger must be closed after it, not under it.
        let _judge =
            Judge::start(state.clone(), judge::EVERY).map_err(|source| ServeError::Serve { source })?;
        let _schedule = self
            .fsck_every
            .map(|every| Schedule::start(state.clone(), every))
            .transpose()
            .map_err(|source| ServeError::Serve { source })?;
        let limits = *state.limits();
        let places = state.connections();
        let graceful = GracefulShutdown::new();
        let tls = |config: fn(&Tls) -> &Arc<rustls::ServerConfig>| {
            self.tls.as_ref().map(|tls| TlsAcceptor::from(Arc::clone(config(tls))))
        };
        let http = Door {
            listener: self.http,
            app: super::app(state.clone()),
            tls: tls(|tls| &tls.http),
            grpc: false,
        };
        let grpc = self.grpc.map(|listener| Door {
            listener,
            app: super::grpc_app(state.clone()),
            tls: tls(|tls| &tls.grpc),
            grpc: true,
        });
        let http = accept(http, limits, Arc::clone(&places), &graceful, stopping.clone());
        let grpc = async {
            if let Some(grpc) = grpc {
                accept(grpc, limits, places, &graceful, stopping.clone()).await;
            }
        };
        let stop = async {
            shutdown.await;
            state.drain();
            // Nobody listening any more means that the server is already gone.
            let _ = told.send(true);
        };
        let keep = async {
            let mut stopping = stopping.clone();
            tokio::select! {
                () = keep_tokens(&state) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        };
        tokio::join!(http, grpc, stop, keep);
        let time = Duration::from_secs(limits.drain_seconds_max);
        if tokio::time::timeout(time, graceful.shutdown()).await.is_err() {
            tracing::warn!(
                seconds = time.as_secs(),
                "requests still open after the drain time; closing them"
            );
        }
        if let Some(gate) = state.gate()
            && let Err(error) = gate.flush_used()
        {
            tracing::warn!(error = %chain(&error), "the use of tokens could not be written down");
        }
        Ok(())
    }
}

/// Looks at the token file again and again, and says in the ledger what changed.
async fn keep_tokens(state: &AppState) {
    let Some(gate) = state.gate() else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(RELOAD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut said = false;
    for tick in 0u64.. {
        ticks.tick().await;
        let (state, gate, first) = (state.clone(), Arc::clone(gate), !said);
        let done = tokio::task::spawn_blocking(move || {
            let changed = gate.reload().unwrap_or_else(|error| {
                tracing::error!(error = %chain(&error), "the token file cannot be read; what was read before holds");
                false
            });
            if tick % FLUSH == FLUSH - 1
                && let Err(error) = gate.flush_used()
            {
                tracing::warn!(error = %chain(&error), "the use of tokens could not be written down");
            }
            if !changed && !first {
                return true;
            }
            match state.ledger().append(gate.facts()) {
                Ok(_) => true,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "changes of tokens could not be recorded");
                    false
                }
            }
        });
        said = done.await.unwrap_or(false);
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
