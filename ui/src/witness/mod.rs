//! `verdict witness`: the HTTP side of a C2SP tlog-witness. What may be cosigned is decided in
//! [`verdict_ledger::witness`].
//!
//! Requests are not authenticated beyond the log's signature, as the protocol has it: everything that a witness says
//! is public. It may therefore listen on any address; TLS, and limits on who may connect how often, are a proxy's.

mod server;

pub use server::{WitnessServeError, WitnessServer};
