//! The C2SP tlog-witness protocol (<https://c2sp.org/tlog-witness>): a second party that remembers how far a log
//! has come, and cosigns nothing that goes back behind it or beside it.
//!
//! - [`protocol`]: request and answer, byte for byte, for both ends.
//! - [`Witness`]: the state machine: which logs, how far each has come, when to refuse.
//! - [`StateDir`]: what a witness remembers, durable before it answers.
//!
//! There is no HTTP here: a server hands in bodies and takes out answers.

pub mod protocol;
mod state;
mod state_dir;

pub use state::{LogState, Witness, WitnessError};
pub use state_dir::{StateDir, StateError};
