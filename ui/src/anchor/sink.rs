//! What every sink can do.

use std::fmt;

use serde_json::{Map, Value};
use verdict_ledger::anchor::{AnchorFile, AnchorRecord, Contradiction, compare};
use verdict_ledger::clock::{Clock, Entropy};
use verdict_ledger::note::{Checkpoint, NoteError, SignedNote, VerifierKey};
use verdict_ledger::{Ledger, LedgerError};

/// Why a sink did not take a checkpoint, or cannot say what it holds.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It could not be reached, or asks to come back: worth another attempt.
    #[error("{0}")]
    Unreachable(String),
    /// It said no, and will again.
    #[error("{0}")]
    Refused(String),
    /// What it holds contradicts the ledger.
    #[error(transparent)]
    Contradicted(#[from] Contradiction),
    /// It says that the ledger's first entries are others than those that it saw, without giving them.
    #[error(
        "the sink saw another history: the ledger's first {size} entries are not those that it was given"
    )]
    Forked {
        /// Size of the checkpoint that it holds.
        size: u64,
    },
    /// It lost or changed what it was given.
    #[error("{0}")]
    Unfaithful(String),
    /// The ledger could not be read.
    #[error(transparent)]
    Ledger(#[from] Box<LedgerError>),
}

impl From<LedgerError> for SinkError {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(Box::new(error))
    }
}

impl SinkError {
    /// Tells whether ledger or sink cannot be trusted, as against not reached.
    pub fn is_untrusted(&self) -> bool {
        match self {
            Self::Contradicted(_) | Self::Forked { .. } | Self::Unfaithful(_) => true,
            Self::Ledger(error) => error.is_untrusted(),
            Self::Unreachable(_) | Self::Refused(_) => false,
        }
    }

    pub(super) const fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// What sinks work with.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) ledger: &'a Ledger,
    /// Keys that the ledger's checkpoints are signed with.
    pub(super) keys: &'a [VerifierKey],
    pub(super) log: &'a AnchorFile,
    pub(super) clock: &'a dyn Clock,
    pub(super) entropy: &'a dyn Entropy,
}

impl Scene<'_> {
    /// Verifies a note and compares it with the ledger.
    pub(super) fn check(&self, note: &str, holder: &str) -> Result<Checkpoint, SinkError> {
        let foreign = |error: NoteError| {
            SinkError::Unfaithful(format!(
                "{holder} holds something else than a checkpoint of this ledger: {error}"
            ))
        };
        let checkpoint = verified(note, self.keys).map_err(foreign)?;
        if self.ledger.authority().gave_up(&checkpoint, note) {
            return Ok(checkpoint);
        }
        if checkpoint.size > self.ledger.head().size {
            // It may have been anchored since we looked.
            self.ledger.refresh()?;
        }
        match compare(&checkpoint, self.ledger.head(), |size| self.ledger.root_at(size))? {
            None => Ok(checkpoint),
            Some(contradiction) => Err(contradiction.into()),
        }
    }
}

/// Verifies a note with the first of the keys that signed it.
pub(super) fn verified(note: &str, keys: &[VerifierKey]) -> Result<Checkpoint, NoteError> {
    let mut result = Err(NoteError::Malformed { what: "verifier key", why: "none was given" });
    for key in keys {
        result = Checkpoint::verify(note, key);
        if !matches!(result, Err(NoteError::Unsigned { .. })) {
            break;
        }
    }
    result
}

/// A checkpoint on its way to a sink.
#[derive(Debug)]
pub(super) struct Publication<'a> {
    pub(super) scene: &'a Scene<'a>,
    pub(super) note: &'a str,
    pub(super) checkpoint: &'a Checkpoint,
    /// The last record of this sink in the anchor log.
    pub(super) last: Option<&'a AnchorRecord>,
}

impl Publication<'_> {
    /// Returns the checkpoint that this sink was given last, as far as the anchor log knows.
    pub(super) fn last_checkpoint(&self) -> Option<Checkpoint> {
        self.last.and_then(|record| record.verify(self.scene.keys).ok())
    }

    /// Returns the text that signatures are over.
    pub(super) fn text(&self) -> Result<String, SinkError> {
        let note = SignedNote::parse(self.note);
        Ok(note.map_err(|error| SinkError::Refused(error.to_string()))?.text)
    }
}

/// What a sink holds: a note, and what is to be said about it.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) note: String,
    pub(super) detail: String,
}

/// Whether a sink can be asked what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    /// It was asked; every holding was told.
    Yes,
    /// It only takes.
    No(&'static str),
}

/// What comes back with a checkpoint.
pub(super) type Receipt = Map<String, Value>;

/// A place that checkpoints are given to.
pub(super) trait Sink: Send + Sync + fmt::Debug {
    fn name(&self) -> &str;
    fn kind(&self) -> &'static str;
    /// Gives it a checkpoint. What it holds already is compared with the ledger first, where it can be read.
    fn publish(&self, publication: &Publication<'_>) -> Result<Receipt, SinkError>;
    /// Tells what it holds, oldest first; stops at the first error.
    fn holdings(
        &self,
        scene: &Scene<'_>,
        tell: &mut dyn FnMut(Holding) -> Result<(), SinkError>,
    ) -> Result<Readable, SinkError>;
}
