//! Verdicts: what a contract says of every settled action, as entries of the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::quarantine::{QUARANTINED, Quarantine, Releaser, Stage, release_records};
use super::{Contract, Field, Mode};
use crate::activation::{ActivationError, object};
use crate::pricing;
use crate::record::{Batch, NewRecord, Record};
use crate::store::{AppendError, Ledger, LedgerError};
use crate::view::View;

/// Entry `type` of a verdict.
pub const VERDICT: &str = "contract.verdict";

/// Records of one append, and events that one fact names.
const BATCH_MAX: usize = 10_000;
const EVENTS_MAX: usize = 2_000;

/// Whether an action meets a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It does.
    Met,
    /// It does not.
    Unmet,
}

/// What a verdict says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Past {
    /// Entry.
    pub seq: u64,
    /// Contract.
    pub contract: String,
    /// Verdict.
    pub verdict: Verdict,
    /// What is missing.
    pub missing: Vec<Field>,
    /// What is inherited.
    pub inherited: Vec<Field>,
}

/// The verdicts in the log: the last of each action, and how many there were.
#[derive(Debug, Default)]
pub struct Verdicts {
    last: BTreeMap<u64, Past>,
    count: BTreeMap<u64, u64>,
}

impl Verdicts {
    /// Reads them.
    pub fn read(ledger: &Ledger) -> Result<Self, LedgerError> {
        let mut verdicts = Self::default();
        for seq in ledger.find_kind(VERDICT)? {
            if let Some((action, past)) = ledger.record(seq)?.as_ref().and_then(past) {
                *verdicts.count.entry(action).or_default() += 1;
                verdicts.last.insert(action, past);
            }
        }
        Ok(verdicts)
    }

    /// Returns the last verdict on an action.
    pub fn last(&self, action: u64) -> Option<&Past> {
        self.last.get(&action)
    }
}

fn past(record: &Record) -> Option<(u64, Past)> {
    let text = |member: &str| record.body.get(member).and_then(Value::as_str);
    let fields = |member: &str| {
        let value = record.body.get(member).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value).unwrap_or_default()
    };
    let past = Past {
        seq: record.seq,
        contract: text("contract")?.to_owned(),
        verdict: serde_json::from_value(record.body.get("verdict")?.clone()).ok()?,
        missing: fields("missing"),
        inherited: fields("inherited"),
    };
    Some((text("action")?.parse().ok()?, past))
}

/// Why no verdicts were written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Price table or contract.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// The ledger did not take the entries.
    #[error("the ledger did not take the verdicts")]
    Append(#[from] AppendError),
}

/// What a run did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Outcome {
    /// Contract.
    pub contract: String,
    /// Settled actions that a row is about.
    pub checked: u64,
    /// Actions that have not settled yet.
    pub unsettled: u64,
    /// Those that meet the contract.
    pub met: u64,
    /// Those that do not.
    pub unmet: u64,
    /// Verdicts that are new or say something else than the last.
    pub verdicts: u64,
    /// Actions that are held back from now on.
    pub quarantined: u64,
    /// Actions that late data released.
    pub released: u64,
}

/// Works out the entries that are due: a verdict for every settled action about which the last says something else, and
/// under a strict contract what follows from it.
pub fn plan(view: &View, verdicts: &Verdicts) -> (Outcome, Vec<NewRecord>) {
    let contract = &view.rules.contract;
    let mut outcome = Outcome { contract: contract.id(), ..Outcome::default() };
    let mut records = Vec::new();
    for (at, action) in view.actions.iter().enumerate() {
        let Some(judgement) = view.judgement(at) else { continue };
        if !action.settled {
            outcome.unsettled += 1;
            continue;
        }
        outcome.checked += 1;
        let verdict = if judgement.is_met() { Verdict::Met } else { Verdict::Unmet };
        *match verdict {
            Verdict::Met => &mut outcome.met,
            Verdict::Unmet => &mut outcome.unmet,
        } += 1;
        let same = |past: &&Past| {
            past.contract == outcome.contract
                && past.verdict == verdict
                && past.missing == judgement.missing
                && past.inherited == judgement.inherited
        };
        if verdicts.last(action.key).is_some_and(|past| same(&past)) {
            continue;
        }
        outcome.verdicts += 1;
        let number = verdicts.count.get(&action.key).copied().unwrap_or(0);
        let id = format!("{VERDICT}:{}:{number}", action.key);
        let mut body = object(json!({
            "id": id,
            "contract": outcome.contract,
            "action": action.key.to_string(),
            "kind": action.kind,
            "event_count": action.seqs.len().to_string(),
            "verdict": verdict,
            "missing": judgement.missing,
            "inherited": judgement.inherited,
        }));
        let basis = action.cost().and_then(|cost| cost.basis.strip_prefix("priced:"));
        if let Some(table) = basis {
            body.insert("price_table".to_owned(), json!(table));
        }
        records.push(NewRecord::system(VERDICT, body));
        let quarantine = &view.rules.quarantine;
        match verdict {
            Verdict::Unmet
                if contract.mode() == Mode::Strict && !was_released(quarantine, action.key, contract) =>
            {
                outcome.quarantined += 1;
                for (part, events) in action.seqs.chunks(EVENTS_MAX).enumerate() {
                    let events: Vec<String> = events.iter().map(ToString::to_string).collect();
                    let body = object(json!({
                        "id": format!("{QUARANTINED}:{}:{number}:{part}", action.key),
                        "stage": Stage::Settled,
                        "contract": outcome.contract,
                        "action": action.key.to_string(),
                        "events": events,
                        "missing": judgement.missing,
                    }));
                    records.push(NewRecord::system(QUARANTINED, body));
                }
            }
            Verdict::Met => {
                let open: Vec<_> = quarantine.open_for(action).cloned().collect();
                if !open.is_empty() {
                    outcome.released += 1;
                    records.extend(release_records(
                        &open,
                        &Releaser {
                            by: "contract",
                            reason: "late data: the action meets the contract",
                            peer: None,
                        },
                    ));
                }
            }
            Verdict::Unmet => {}
        }
    }
    (outcome, records)
}

/// What somebody released under a contract stays released under it.
fn was_released(quarantine: &Quarantine, action: u64, contract: &Contract) -> bool {
    let id = contract.id();
    let own = |held: &&super::Held| held.action == Some(action) && held.contract == id;
    quarantine.holds().iter().filter(own).any(|held| held.released.is_some())
}

/// Writes the verdicts that are due. What they rest on is kept with them: the contract and the price table that come
/// with this version are put in force first where none is.
pub fn run(ledger: &Ledger, view: &View) -> Result<Outcome, RunError> {
    let (outcome, records) = plan(view, &Verdicts::read(ledger)?);
    if records.is_empty() {
        return Ok(outcome);
    }
    let reason = "comes with this version; verdicts rest on it";
    if super::history(ledger)?.is_empty() {
        super::activate(ledger, &view.rules.contract, "verdict", reason)?;
    }
    if pricing::registry::history(ledger)?.is_empty() {
        pricing::registry::activate(ledger, &view.rules.table, "verdict", reason)?;
    }
    for records in records.chunks(BATCH_MAX) {
        ledger.append(Batch { records: records.to_vec(), blobs: Vec::new() })?;
    }
    Ok(outcome)
}
