//! Appending a batch and leaving out only the records that the ledger cannot hold.

use verdict_ledger::event::ACTION_REPORTED;
use verdict_ledger::{AppendError, Batch, Ledger, NewRecord, Receipt};

/// Smallest batch that is still split when it is too large.
const SPLIT_MIN: usize = 2;

/// What became of a batch. What stands beside the events and is no event, such as the note that one is in quarantine, is
/// not counted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Records that were added.
    pub(crate) appended: u64,
    /// Records that were already there.
    pub(crate) duplicates: u64,
    /// Records whose id is there with other content.
    pub(crate) conflicts: u64,
    /// Size of the log afterwards.
    pub(crate) size: u64,
    /// Records that the ledger cannot hold, and why.
    pub(crate) refused: Vec<String>,
}

/// Appends a batch in order. An error means that not everything is durable; since records are told by their ids,
/// sending the same batch again adds only what is missing.
///
/// Nearly every batch is appended as it is, and is not copied for that. When the ledger refuses a part of it, `again`
/// makes the same batch once more from the body, to be taken apart.
pub(super) fn append<E: From<AppendError>>(
    ledger: &Ledger,
    batch: Batch,
    again: impl FnOnce() -> Result<Batch, E>,
) -> Result<Stored, E> {
    if batch.records.is_empty() {
        return Ok(Stored { size: ledger.head().size, ..Stored::default() });
    }
    let count = batch.records.len();
    let events = events(&batch.records);
    match ledger.append(batch) {
        Ok(receipt) => {
            let mut stored = Stored::default();
            stored.add(&events, &receipt);
            Ok(stored)
        }
        Err(error) => match fault(&error) {
            Fault::Record(index) if index < count => Ok(in_parts(ledger, again()?)?),
            Fault::Size if count >= SPLIT_MIN => Ok(in_parts(ledger, again()?)?),
            _ => Err(error.into()),
        },
    }
}

/// Tells which records are events.
fn events(records: &[NewRecord]) -> Vec<bool> {
    records.iter().map(|record| record.kind == ACTION_REPORTED).collect()
}

impl Stored {
    fn add(&mut self, events: &[bool], receipt: &Receipt) {
        let is_new = receipt.is_new();
        let count = |wanted: bool| {
            let events = events.iter().zip(&is_new).filter(|(event, is_new)| **event && **is_new == wanted);
            events.count() as u64
        };
        self.appended += count(true);
        self.duplicates += count(false);
        self.conflicts += receipt.conflicts;
        self.size = receipt.size;
    }
}

fn in_parts(ledger: &Ledger, batch: Batch) -> Result<Stored, AppendError> {
    let mut stored = Stored { size: ledger.head().size, ..Stored::default() };
    // Parts still to do, the next one last; the raw bodies go with the first part that adds something.
    let mut parts: Vec<Vec<NewRecord>> = vec![batch.records];
    let mut blobs = batch.blobs;
    while let Some(mut records) = parts.pop() {
        if records.is_empty() {
            continue;
        }
        let events = events(&records);
        let attempt = Batch { records: records.clone(), blobs: blobs.clone() };
        match ledger.append(attempt) {
            Ok(receipt) => {
                stored.add(&events, &receipt);
                // Of a part that added nothing the raw bodies were not kept, and what comes after it names them.
                if receipt.appended > 0 {
                    blobs.clear();
                }
            }
            Err(error) => match fault(&error) {
                Fault::Record(index) if index < records.len() => {
                    stored.refused.push(super::super::error::chain(&error));
                    let rest = records.split_off(index + 1);
                    records.pop();
                    parts.push(rest);
                    parts.push(records);
                }
                Fault::Size if records.len() >= SPLIT_MIN => {
                    let rest = records.split_off(records.len() / 2);
                    parts.push(rest);
                    parts.push(records);
                }
                _ => return Err(error),
            },
        }
    }
    Ok(stored)
}

enum Fault {
    /// One record is at fault.
    Record(usize),
    /// There is too much at once.
    Size,
    /// The ledger is at fault.
    Ledger,
}

fn fault(error: &AppendError) -> Fault {
    match error {
        AppendError::Id { index, .. }
        | AppendError::TooLarge { index, .. }
        | AppendError::Canon { index, .. }
        | AppendError::Disclosure { index, .. }
        | AppendError::Name { index, .. } => Fault::Record(*index),
        AppendError::BatchTooLarge { .. } => Fault::Size,
        _ => Fault::Ledger,
    }
}
