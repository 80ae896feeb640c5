//! The HTTP server: pages for people, ingest for agents, a small JSON API and the public files of the log.

mod api;
mod assets;
mod blocking;
mod downloads;
mod error;
mod gauges;
mod inclusion;
mod ingest;
mod investigate;
mod judge;
mod listen;
mod metrics;
mod middleware;
mod pages;
mod projection;
mod request;
mod routes;
mod schedule;
mod server;
mod state;
mod surface;
mod tlog;
mod view;

pub use listen::tls::{Tls, TlsError, TlsFiles};
pub use routes::{Route, app, declared, grpc_app};
pub use server::{ServeError, ServeOptions, Server, serve};
pub use state::{AppState, Limits};
