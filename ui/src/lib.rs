//! The surfaces of Verdict: the web interface and HTTP API in [`web`]. The command line lives in the binary.
//!
//! # What it is
//! - [`web::app`]: one router over an open ledger, so that tests need no socket.
//! - [`web::serve`]: the same router on a loopback address until a shutdown signal.
//! - [`auth`]: API tokens, sessions and what a route asks for.
//! - [`config`]: settings of the server; [`telemetry`]: its own traces.
//! - [`anchor`]: giving checkpoints to others, and comparing the ledger with what they hold.
//! - [`witness`]: the HTTP side of a witness for other people's logs.
//!
//! # What it is not
//! It decides nothing and stores nothing of its own: every page is a view of the ledger, computed on the request.
//!
//! # Invariants
//! - Every view is a GET and the URL is its whole state; every change is a POST of the same origin.
//! - Every route declares who may use it; there is no default.
//! - Every page works without JavaScript.
//! - All text is attacker-influenced: the template escaper makes control characters visible everywhere.

pub mod anchor;
pub mod auth;
pub mod config;
pub mod telemetry;
pub mod web;
pub mod witness;
