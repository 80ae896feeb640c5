//! Integration tests of the replay crate, in one binary.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

mod answers;
mod corpus;
mod graph;
mod graph_query;
mod incident;
mod input;
mod kept;
mod log;
mod policy;
mod policy_bundles;
mod policy_cedar;
mod policy_engine;
mod policy_reads;
mod policy_registry;
mod policy_signature;
mod policy_tables;
mod run;
mod sample;
mod state;
mod what_if;
