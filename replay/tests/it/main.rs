//! Integration tests of the replay crate, in one binary.

mod graph;
mod input;
mod policy;
mod policy_bundles;
mod policy_engine;
mod policy_registry;
mod run;
mod sample;
mod state;
