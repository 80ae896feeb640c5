//! What one request can prove: the part of a contract that is answered to whoever sends.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::quarantine::QUARANTINED;
use super::{Contract, Field, Mode, Stage};
use crate::activation::object;
use crate::event::Event;
use crate::record::NewRecord;

/// An event that lacks something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lacking {
    /// Position among the events of the request.
    pub index: usize,
    /// Id of the event.
    pub id: String,
    /// Line of the body, where it has lines.
    pub line: Option<u64>,
    /// What is missing.
    pub missing: Vec<Field>,
}

/// One line of a body that a strict contract does not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineError {
    /// Line, from 1; of a body without lines the position of the event, from 1.
    pub line: u64,
    /// What is missing.
    pub missing: Vec<Field>,
}

/// What a contract says of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtIngest {
    mode: Mode,
    contract: String,
    checked: usize,
    lacking: Vec<Lacking>,
}

impl AtIngest {
    /// Checks the events of one request.
    pub fn check(contract: &Contract, events: &[Event]) -> Self {
        let missing = |event: &Event| -> Vec<Field> {
            let lacks = |field: &Field| match field {
                Field::Service => event.service.is_none(),
                Field::Environment => event.environment.is_none(),
                Field::Correlation => event.trace_id.is_none() && event.session.is_none(),
                // A contract that asks for more here is refused when it is read.
                _ => false,
            };
            contract.at_ingest().iter().copied().filter(lacks).collect()
        };
        let lacking = events
            .iter()
            .enumerate()
            .map(|(index, event)| Lacking {
                index,
                id: event.id.clone(),
                line: line(event),
                missing: missing(event),
            })
            .filter(|lacking| !lacking.missing.is_empty())
            .collect();
        Self { mode: contract.mode(), contract: contract.id(), checked: events.len(), lacking }
    }

    /// Returns the events that lack something.
    pub fn lacking(&self) -> &[Lacking] {
        &self.lacking
    }

    /// Returns those that are quarantined: none under a lenient contract.
    pub fn quarantined(&self) -> &[Lacking] {
        match self.mode {
            Mode::Lenient => &[],
            Mode::Strict => &self.lacking,
        }
    }

    /// Returns how many records OTLP's `partial_success` says are rejected. They are kept, in quarantine.
    pub fn rejected(&self) -> i64 {
        i64::try_from(self.quarantined().len()).unwrap_or(i64::MAX)
    }

    /// Writes the text of `partial_success`; none when nothing is missing.
    pub fn message(&self) -> Option<String> {
        if self.lacking.is_empty() {
            return None;
        }
        let mut counts: BTreeMap<Field, usize> = BTreeMap::new();
        for field in self.lacking.iter().flat_map(|lacking| &lacking.missing) {
            *counts.entry(*field).or_default() += 1;
        }
        let parts: Vec<String> =
            counts.iter().map(|(field, count)| format!("{count} without {}", field.words())).collect();
        let what = match self.mode {
            Mode::Lenient => "accepted and marked",
            Mode::Strict => "kept in quarantine until released",
        };
        // The digest is in every verdict; a sender only needs to know whom to ask.
        let label = self.contract.split('@').next().unwrap_or_default();
        Some(format!(
            "{} of {} records do not meet contract {label}: {}; {what}",
            self.lacking.len(),
            self.checked,
            parts.join(", ")
        ))
    }

    /// Lists the lines that a native endpoint refuses with 422; nothing of the request is appended then, unless it was
    /// sent with `?mode=quarantine`. Empty under a lenient contract.
    pub fn line_errors(&self) -> Vec<LineError> {
        self.quarantined()
            .iter()
            .map(|lacking| LineError {
                line: lacking.line.unwrap_or(lacking.index as u64 + 1),
                missing: lacking.missing.clone(),
            })
            .collect()
    }

    /// Writes the facts that go into the same batch as the events, so that neither is there without the other. The same
    /// event delivered again makes the same fact, which adds nothing.
    pub fn facts(&self) -> Vec<NewRecord> {
        self.quarantined()
            .iter()
            .map(|lacking| {
                let mut digest = Sha256::new_with_prefix(self.contract.as_bytes());
                digest.update([0]);
                digest.update(lacking.id.as_bytes());
                let body = object(json!({
                    "id": format!("{QUARANTINED}:{}", hex::encode(digest.finalize())),
                    "stage": Stage::Ingest,
                    "contract": self.contract,
                    "event": lacking.id,
                    "missing": lacking.missing,
                }));
                NewRecord::system(QUARANTINED, body)
            })
            .collect()
    }
}

/// Reads the line out of `line/12` or `line/12/…`.
fn line(event: &Event) -> Option<u64> {
    let path = event.source.path.as_deref()?.strip_prefix("line/")?;
    path.split('/').next()?.parse().ok()
}
