//! Anchors: checkpoints that live elsewhere, so that somebody who rolls back the ledger *and* its lock is noticed.
//!
//! - [`AnchorRecord`], [`AnchorFile`]: what was anchored where and what came back, one JSON line each, in a file that
//!   only grows. The anchor log beside the lock is one; a file sink on another volume is another.
//! - [`compare`]: whether a ledger still contains what a checkpoint says it once was.
//! - [`timestamp`]: RFC 3161 requests and tokens.
//! - [`webhook`]: the signature over what is sent to a webhook.
//!
//! Sinks that need a network or other programs are not here: this crate knows nothing of them.

mod compare;
mod der;
mod file;
mod record;
pub mod timestamp;
pub mod webhook;

pub use compare::{Contradiction, compare};
pub(crate) use file::Tail;
pub use file::{AnchorError, AnchorFile, Anchored};
pub use record::{AnchorRecord, RecordError};

/// Writes an error with its causes; a cause that the text before it already tells is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}
