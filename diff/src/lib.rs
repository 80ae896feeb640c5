//! What changes between two policy versions over recorded decisions: which, why, how often and at what cost.
//!
//! # What it is
//! - [`compare()`] takes two [`Run`](verdict_replay::run::Run)s of the same range of the same ledger and gives a
//!   [`Diff`]; [`compare_recorded`] sets what was recorded against one run.
//! - [`transition`] names the classes, [`matrix`] counts effect against effect, [`blame`] says which rules did it.
//! - [`gate`] turns a diff into an exit code that CI can act on.
//! - [`render`] writes the same numbers for people, for programs and for a pull-request comment.
//!
//! # What it is not
//! It evaluates no policy, reads no ledger, no clock and no file: a diff is a function of two runs, and a report
//! a function of a diff.
//!
//! # Invariants
//! - `compare(a, a)` holds no change; `compare(a, b)` mirrors `compare(b, a)`; the matrix sums to the points.
//! - What could not be evaluated is `unknown`, never `unchanged` and never a guess.
//! - Same runs, same bytes: nothing in a report depends on a clock, a machine or a hash seed.

pub mod blame;
pub mod compare;
pub mod coverage;
mod error;
pub mod gate;
pub mod matrix;
pub mod pattern;
pub mod render;
pub mod reproduction;
pub mod ruling;
pub mod transition;
pub mod weight;

pub use compare::{Change, Diff, Range, Subject, Window, compare, compare_recorded};
pub use error::DiffError;
pub use gate::{Gate, GateError, Verdict};
pub use transition::Class;
