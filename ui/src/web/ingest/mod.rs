//! Taking in what agents send: OTLP/HTTP and native events.
//!
//! A request is acknowledged when everything in it that can be kept is durable. Content that cannot be taken is
//! never answered with a status that clients retry; only an append that was not durable is.

mod append;
mod body;
mod native;
mod otlp;
mod status;

pub(crate) use native::native;
pub(crate) use otlp::{otlp_logs, otlp_metrics, otlp_traces};
