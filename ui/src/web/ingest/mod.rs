//! Taking in what agents send: OTLP over HTTP and gRPC, native events, CloudEvents, decision logs.
//!
//! A request is acknowledged when everything in it that can be kept is durable. Content that cannot be taken is
//! never answered with a status that clients retry; only what passes by itself is: an append that was not durable, or
//! a server that had no room for the body and took nothing of it.

mod append;
mod body;
mod budget;
mod events;
mod grpc;
mod otlp;
mod refusal;
mod status;
mod take;

pub(crate) use append::Stored;
pub(crate) use budget::Budget;
pub(crate) use events::problem;
pub(crate) use events::{events, opa_logs};
pub(crate) use grpc::failure as grpc_failure;
pub(crate) use grpc::{grpc_logs, grpc_metrics, grpc_traces, health as grpc_health, unknown as grpc_unknown};
pub(crate) use otlp::refuse as otlp_refuse;
pub(crate) use otlp::{otlp_logs, otlp_metrics, otlp_traces};
pub(crate) use refusal::{Code, RETRY_SECONDS, Refusal};
