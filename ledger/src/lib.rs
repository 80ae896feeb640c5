//! The ledger: an append-only, hash-chained log of what was said about every action of an AI agent, with
//! RFC 6962 proofs over exactly the bytes that are stored, and the mappers that bring foreign traffic in.
//!
//! # What it is
//! - [`event`]: the event model. One [`event::Event`] is what one source said about one action, once.
//! - [`Ledger`]: RocksDB underneath; group-committed, durable before acknowledged, checked against a lock file
//!   that lives elsewhere.
//! - [`merkle`], [`note`], [`tile`], [`chain`], [`disclosure`]: the formats, as pure functions over bytes, which a verifier
//!   uses without any database.
//! - [`ingest`]: pure mappers from wire formats to events.
//! - [`action`]: the fold from events to actions.
//! - [`pricing`]: what model calls cost by a dated table, kept in the ledger like a policy.
//! - [`contract`]: what a recorded action must state, verdicts on it, and quarantine.
//! - [`view`]: the three together, as people are shown them.
//!
//! # What it is not
//! It knows nothing of HTTP, policy engines or HTML; it reads no clock and no randomness except those passed in.
//!
//! # Invariants
//! - Verification never re-serialises: what is hashed is what is stored.
//! - Nothing is acknowledged before it is durable, and nothing is signed before it is acknowledged.
//! - Everything but the entries, the disclosures and the raw bodies can be rebuilt from the entries.

pub mod action;
pub mod activation;
pub mod anchor;
pub mod authority;
pub mod canon;
pub mod chain;
pub mod clock;
pub mod contract;
pub mod cosignature;
pub mod disclosure;
pub mod entry;
pub mod event;
pub mod id;
pub mod ingest;
pub mod key;
pub mod merkle;
pub mod note;
pub mod pricing;
pub mod record;
pub mod remap;
pub mod signer;
mod store;
pub mod text;
pub mod tile;
pub mod view;
pub mod witness;

pub use record::{Batch, NewRecord, Receipt, Record};
pub use store::{
    AppendError, Change, Class, Depth, Head, Index, InitOptions, KeyFile, KeySource, Ledger, LedgerError,
    Matches, OpenOptions, Order, Query, QueryError, Reads, Rebuilt, Report, RestoreOptions, RestorePlan,
    Revoking, Rotation, Rows, SigningFailure, Standing, TraceRef, User, VerifyFailure, VerifyOptions,
};
pub use store::{erasure, projection};
