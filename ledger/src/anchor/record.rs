//! One line of an anchor log.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::note::{Checkpoint, NoteError, NoteSignature, SignedNote, VerifierKey};

/// The one version of lines.
const VERSION: u32 = 1;

/// Longest line that is read or written: a note and a receipt with a token and its certificates.
pub(super) const LINE_BYTES_MAX: usize = 256 * 1024;

/// Why a line is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not JSON of the right form.
    #[error("not an anchor record: {0}")]
    Form(String),
    /// A version that this program does not know.
    #[error("record version {0} is not {VERSION}, the one that this version reads")]
    Version(u32),
    /// The size beside the note is not the one in it.
    #[error("the record says size {says}, its note {signed}")]
    Size {
        /// In the record.
        says: String,
        /// In the note.
        signed: u64,
    },
    /// The note is not a checkpoint by the ledger's key.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// A checkpoint that was given to a sink, and what the sink said. Lines are not hashed and not trusted: the note in
/// each carries the log's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorRecord {
    /// Version of the line.
    v: u32,
    /// When the sink had it, RFC 3339 UTC.
    pub time: String,
    /// Name of the sink.
    pub sink: String,
    /// Kind of the sink: `file`, `git`, `rfc3161`, `webhook`, `witness`.
    pub kind: String,
    /// Entries, decimal.
    size: String,
    /// The signed checkpoint.
    pub note: String,
    /// What the sink gave back.
    pub receipt: Map<String, Value>,
}

impl AnchorRecord {
    /// Makes a record of a signed checkpoint; `time_ns` is Unix nanoseconds.
    pub fn new(
        time_ns: u64,
        sink: &str,
        kind: &str,
        note: &str,
        receipt: Map<String, Value>,
    ) -> Result<Self, RecordError> {
        let checkpoint = Checkpoint::from_text(&SignedNote::parse(note)?.text)?;
        let time = jiff::Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or(jiff::Timestamp::MAX);
        Ok(Self {
            v: VERSION,
            time: format!("{time:.9}"),
            sink: sink.to_owned(),
            kind: kind.to_owned(),
            size: checkpoint.size.to_string(),
            note: note.to_owned(),
            receipt,
        })
    }

    /// Parses a line.
    pub fn parse(line: &[u8]) -> Result<Self, RecordError> {
        let record: Self =
            serde_json::from_slice(line).map_err(|error| RecordError::Form(error.to_string()))?;
        if record.v == VERSION { Ok(record) } else { Err(RecordError::Version(record.v)) }
    }

    /// Returns the size that the record says; only [`Self::verify`] makes it a fact.
    pub fn size(&self) -> &str {
        &self.size
    }

    /// Returns the cosignature lines that came back. They are not verified: whoever reads a note ignores what it has
    /// no key for.
    pub fn cosignatures(&self) -> Vec<NoteSignature> {
        let lines = self.receipt.get("cosignatures").and_then(Value::as_array);
        let lines = lines.into_iter().flatten().filter_map(Value::as_str);
        lines.filter_map(|line| NoteSignature::parse(line).ok()).collect()
    }

    /// Verifies the note with the first of the log's keys that signed it.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<Checkpoint, RecordError> {
        let mut result = Err(NoteError::Malformed { what: "verifier key", why: "none was given" });
        for key in keys {
            result = Checkpoint::verify(&self.note, key);
            if !matches!(result, Err(NoteError::Unsigned { .. })) {
                break;
            }
        }
        let checkpoint = result?;
        if checkpoint.size.to_string() != self.size {
            return Err(RecordError::Size { says: self.size.clone(), signed: checkpoint.size });
        }
        Ok(checkpoint)
    }
}
