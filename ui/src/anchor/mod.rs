//! Anchoring: giving checkpoints to somebody else, and comparing the ledger with what they hold.
//!
//! One file a sink, behind one trait; [`Anchors`] gives a checkpoint to all of them at once, tries again where a sink
//! could not be reached, and writes what came back to the anchor log beside the lock. [`verify`] asks the sinks what
//! they hold. Nothing here blocks an append, and nothing here is trusted: what a sink gives back is a note that the
//! ledger's key signed, or it does not count.

mod background;
mod config;
mod file;
mod git;
mod http;
mod process;
mod rfc3161;
mod run;
mod sink;
mod verify;
mod webhook;
mod witness;

pub use background::{Background, SinkStatus, StatusView};
pub use config::{Config, ConfigError, EXAMPLE};
pub use run::{Anchors, Outcome, RunError, SinkReport, Stop};
pub use sink::SinkError;
pub use verify::{PlaceReport, Problem, verify};
