//! What the writer says: one line of JSON, written with one system call after the ledger's answer and before
//! anything else, so that its place among the recorded calls is the moment of the acknowledgement.
//!
//! The call is `writev`, which nothing else in the process uses: faults are injected into `write`, and an injected
//! fault must not reach the messenger.

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write as _};
use std::path::Path;

use super::workload::BatchName;

/// One thing said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// The ledger is open; it was created if `created`.
    Open { created: bool, size: u64, root: String },
    /// A batch was acknowledged.
    Acked { name: BatchName, seqs: Vec<u64>, size: u64, root: String },
    /// `settle` returned; this is the newest checkpoint.
    Settled { size: u64 },
    /// An append or settle was refused, with the variant and the text of the error.
    Refused { variant: String, text: String },
    /// The ledger could not be opened or created.
    NotOpen { variant: String, text: String },
    /// The ledger was closed in good order.
    Closed,
    /// What a reader saw.
    Seen { size: u64, root: String },
}

/// Says things into a file.
#[derive(Debug)]
pub(super) struct Messenger(File);

impl Messenger {
    pub(super) fn new(path: &Path) -> Self {
        Self(OpenOptions::new().append(true).create(true).open(path).unwrap())
    }

    pub(super) fn say(&self, said: &Said) {
        let mut line = serde_json::to_vec(said).unwrap();
        line.push(b'\n');
        let written = (&self.0).write_vectored(&[IoSlice::new(&line)]).unwrap();
        assert_eq!(written, line.len(), "an acknowledgement was cut");
    }
}

/// Reads what was said; a process that is killed inside its last call leaves no part of a line.
pub(super) fn read(path: &Path) -> Vec<Said> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line: {text:?}");
    text.lines().map(parse).collect()
}

pub(super) fn parse(line: &str) -> Said {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// The variant of an error: its name in the source.
pub(super) fn variant(error: &impl std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}
