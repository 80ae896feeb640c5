//! The input document that a recorded action gives: the one place that asks for it.

use serde_json::Value;
use verdict_ledger::Ledger;
use verdict_ledger::action::Action;

use super::WhatIfError;
use crate::run::{LedgerSource, ReplayError, input_of};

/// An action and the input that it gives in the state that history had.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The action, as it is known at the end of what was read.
    pub action: Action,
    /// The input document.
    pub input: Value,
    /// Members of the input that are absent because what they come from is erased or withheld, as JSON pointers.
    pub missing: Vec<String>,
}

/// Builds the input of the action that an event reports, from the first `end_seq` entries.
pub fn recorded_input(ledger: &Ledger, seq: u64, end_seq: u64) -> Result<Recorded, WhatIfError> {
    let end_seq = end_seq.min(ledger.head().size);
    if seq >= end_seq {
        return Err(WhatIfError::NoEntry { seq, size: end_seq });
    }
    let record = ledger.record(seq)?.ok_or(WhatIfError::NoEntry { seq, size: end_seq })?;
    let Some(event) = record.event else {
        return Err(WhatIfError::NoAction { seq, kind: record.kind });
    };
    let source = LedgerSource::new(ledger).map_err(|source| ReplayError::Ledger { seq, source })?;
    let asked = input_of(&source, seq, Some(end_seq))?;
    let asked = asked.ok_or(WhatIfError::NoPoint { seq, action_kind: event.action.kind.as_str() })?;
    Ok(Recorded { action: asked.action, input: asked.input, missing: asked.missing })
}
