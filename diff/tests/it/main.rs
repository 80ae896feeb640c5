//! Integration tests of the diff crate.
#![expect(clippy::unwrap_used, reason = "tests")]

mod blame;
mod gate;
mod laws;
mod refusals;
mod reports;
mod support;
