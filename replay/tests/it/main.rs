//! Integration tests of the replay crate, in one binary.

mod policy;
mod policy_bundles;
mod policy_engine;
mod policy_registry;
