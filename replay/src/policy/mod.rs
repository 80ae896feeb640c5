//! Policy bundles and the engines that evaluate them.
//!
//! A [`Bundle`] is files under an identity; a [`Policy`] is a bundle that compiled and can decide. The formats
//! and the contract with policy authors are in `docs/policies.md`.

#[cfg(feature = "engine-rego")]
mod analysis;
mod archive;
pub mod bundle;
#[cfg(feature = "engine-cedar")]
pub mod cedar;
pub mod check;
pub mod compare;
mod data;
pub mod decision;
pub mod engine;
pub mod lattice;
pub mod registry;
#[cfg(feature = "engine-rego")]
pub mod rego;
#[cfg(feature = "engine-rego")]
mod rego_reads;
#[cfg(any(feature = "engine-rego", feature = "engine-cedar"))]
mod schema;
pub mod settings;
pub mod signature;
#[cfg(feature = "engine-rego")]
mod syntax;
pub mod test;

pub use bundle::{Bundle, BundleError};
pub use check::{Problem, Severity};
pub use decision::{Decision, EvalError, Finding, RuleRef};
pub use engine::{Dependence, EngineId, Policy, PolicyError, Reads};
