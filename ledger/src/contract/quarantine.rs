//! What a strict contract holds back. Entries are never moved or hidden from a proof: quarantine is a fact about them,
//! and so is its end.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Field;
use crate::action::Action;
use crate::activation::object;
use crate::id::TraceId;
use crate::record::{Batch, NewRecord, Receipt, Record};
use crate::store::{AppendError, Ledger, LedgerError};

/// Entry `type` of what is held back.
pub const QUARANTINED: &str = "contract.quarantined";
/// Entry `type` of a release.
pub const RELEASED: &str = "contract.released";

/// Holds that one release names; an entry has a limit.
const RELEASES_MAX: usize = 2_000;

/// When something was held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// When it arrived.
    Ingest,
    /// When its action had settled.
    Settled,
}

/// Who released something, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Release {
    /// Entry.
    pub seq: u64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// One fact that holds events back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Entry that says so.
    pub seq: u64,
    /// When it was held back.
    pub stage: Stage,
    /// Contract.
    pub contract: String,
    /// Action, of a settled one.
    pub action: Option<u64>,
    /// Id of the event, of one that was held back when it arrived.
    pub id: Option<String>,
    /// Entries that are held back.
    pub events: Vec<u64>,
    /// What is missing.
    pub missing: Vec<Field>,
    /// Its end.
    pub released: Option<Release>,
}

/// Everything that is or was held back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quarantine {
    holds: Vec<Held>,
    /// Entries that are held back now.
    held: BTreeSet<u64>,
}

impl Quarantine {
    /// Reads the facts below a position.
    pub fn read(ledger: &Ledger, below: u64) -> Result<Self, LedgerError> {
        let mut quarantine = Self::default();
        let facts = |kind: &str| -> Result<Vec<Record>, LedgerError> {
            let mut records = Vec::new();
            for seq in ledger.find_kind(kind)?.into_iter().take_while(|seq| *seq < below) {
                records.extend(ledger.record(seq)?);
            }
            Ok(records)
        };
        for record in facts(QUARANTINED)? {
            let mut held = held(&record);
            if let Some(id) = &held.id {
                held.events = ledger.find_id(id)?.into_iter().filter(|seq| *seq < below).collect();
            }
            quarantine.holds.push(held);
        }
        let index: BTreeMap<u64, usize> =
            quarantine.holds.iter().enumerate().map(|(at, held)| (held.seq, at)).collect();
        for record in facts(RELEASED)? {
            let text =
                |member: &str| record.body.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
            for hold in positions(record.body.get("holds")) {
                let held = index.get(&hold).and_then(|at| quarantine.holds.get_mut(*at));
                if let Some(held) = held.filter(|held| held.seq < record.seq && held.released.is_none()) {
                    held.released = Some(Release { seq: record.seq, by: text("by"), reason: text("reason") });
                }
            }
        }
        let open = quarantine.holds.iter().filter(|held| held.released.is_none());
        quarantine.held = open.flat_map(|held| &held.events).copied().collect();
        Ok(quarantine)
    }

    /// Tells whether nothing is held back.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Returns every fact, released ones too, in log order.
    pub fn holds(&self) -> &[Held] {
        &self.holds
    }

    /// Tells whether an entry is held back.
    pub fn holds_event(&self, seq: u64) -> bool {
        self.held.contains(&seq)
    }

    /// Tells whether an action is held back: one of its events is.
    pub fn holds_action(&self, action: &Action) -> bool {
        !self.held.is_empty() && action.seqs.iter().any(|seq| self.held.contains(seq))
    }

    /// Returns the open facts that hold an action back.
    pub fn open_for<'q>(&'q self, action: &'q Action) -> impl Iterator<Item = &'q Held> {
        let open = self.holds.iter().filter(|held| held.released.is_none());
        open.filter(|held| held.events.iter().any(|seq| action.seqs.binary_search(seq).is_ok()))
    }
}

/// Reads a fact; what is not as it should be holds nothing back.
fn held(record: &Record) -> Held {
    let member = |name: &str| record.body.get(name).cloned().unwrap_or(Value::Null);
    let text = |name: &str| record.body.get(name).and_then(Value::as_str);
    Held {
        seq: record.seq,
        stage: serde_json::from_value(member("stage")).unwrap_or(Stage::Ingest),
        contract: text("contract").unwrap_or_default().to_owned(),
        action: text("action").and_then(|key| key.parse().ok()),
        id: text("event").map(str::to_owned),
        events: positions(record.body.get("events")),
        missing: serde_json::from_value(member("missing")).unwrap_or_default(),
        released: None,
    }
}

fn positions(value: Option<&Value>) -> Vec<u64> {
    let items = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(|item| item.as_str()?.parse().ok()).collect()
}

/// What is to be released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// The action with this key.
    Action(u64),
    /// The event with this id.
    Event(String),
    /// Everything of this trace.
    Trace(TraceId),
}

/// Why nothing is released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger did not take the entry.
    #[error("the ledger did not take the entry")]
    Append(#[from] AppendError),
    /// There is nothing to release.
    #[error("nothing of that is in quarantine")]
    Nothing,
    /// A decision without somebody who answers for it.
    #[error("a release must say who decided it and why")]
    Unattributed,
    /// A name or a reason that is a document.
    #[error("who decided a release, and why, must be at most {TEXT_BYTES_MAX} bytes each")]
    TooLong,
}

/// Who decides on a release, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Releaser<'a> {
    /// Who, as stated.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
    /// Who was authenticated, where somebody was: what `by` says is a claim of theirs.
    pub peer: Option<&'a str>,
}

/// Longest name and longest reason of a release, in bytes: they stand in an entry.
const TEXT_BYTES_MAX: usize = 2_000;

/// Releases what is selected and held back, as one decision of somebody. Returns the facts that it ends.
pub fn release(
    ledger: &Ledger,
    selected: &Selected,
    attribution: &Releaser<'_>,
) -> Result<(Vec<Held>, Receipt), ReleaseError> {
    let Releaser { by, reason, .. } = attribution;
    if by.trim().is_empty() || reason.trim().is_empty() {
        return Err(ReleaseError::Unattributed);
    }
    if by.len().max(reason.len()) > TEXT_BYTES_MAX {
        return Err(ReleaseError::TooLong);
    }
    let wanted: BTreeSet<u64> = match selected {
        Selected::Action(_) => BTreeSet::new(),
        Selected::Event(id) => ledger.find_id(id)?.into_iter().collect(),
        Selected::Trace(trace) => ledger.trace_seqs(trace)?.into_iter().collect(),
    };
    let quarantine = Quarantine::read(ledger, u64::MAX)?;
    let chosen = |held: &&Held| match selected {
        Selected::Action(key) => held.action == Some(*key) || held.events.contains(key),
        Selected::Event(_) | Selected::Trace(_) => held.events.iter().any(|seq| wanted.contains(seq)),
    };
    let open: Vec<Held> =
        quarantine.holds.iter().filter(|held| held.released.is_none()).filter(chosen).cloned().collect();
    if open.is_empty() {
        return Err(ReleaseError::Nothing);
    }
    let records = release_records(&open, attribution);
    let receipt = ledger.append(Batch { records, blobs: Vec::new() })?;
    Ok((open, receipt))
}

/// Writes the facts that end others.
pub(super) fn release_records(open: &[Held], attribution: &Releaser<'_>) -> Vec<NewRecord> {
    open.chunks(RELEASES_MAX)
        .map(|open| {
            let holds: Vec<String> = open.iter().map(|held| held.seq.to_string()).collect();
            // A fact is ended once, so that its first and the number of them name the release.
            let first = holds.first().cloned().unwrap_or_default();
            let mut body = object(json!({
                "id": format!("{RELEASED}:{first}:{}", holds.len()),
                "holds": holds,
                "by": attribution.by,
                "reason": attribution.reason,
            }));
            if let Some(peer) = attribution.peer {
                body.insert("peer".to_owned(), Value::from(peer));
            }
            NewRecord::system(RELEASED, body)
        })
        .collect()
}
