//! Legal holds: what they are on is not erased until they are released or their time is over.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::plan::{Bodies, Held, PlannedEntry};
use super::selection::{Scope, Selection};
use super::{ErasureError, HOLD_PLACED, HOLD_RELEASED, Parsed, text_member};
use crate::clock::EntropyError;
use crate::record::{Batch, NewRecord};
use crate::store::Ledger;
use crate::store::error::{AppendError, LedgerError};

/// A hold to be placed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewHold {
    /// What it is on; whole entries, also those that come later.
    pub selection: Selection,
    /// Matter: a case number, not a person.
    pub matter: String,
    /// When it ends by itself, Unix nanoseconds.
    pub until_ns: Option<u64>,
    /// Who places it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A hold as the log tells of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Hold {
    /// Name.
    pub hold: String,
    /// Entry that placed it.
    pub seq: u64,
    /// Matter.
    pub matter: String,
    /// What it is on.
    pub scope: Scope,
    /// When it ends by itself.
    pub until_ns: Option<u64>,
    /// Entry that released it.
    pub released: Option<u64>,
    /// Tells whether it keeps anything now.
    pub active: bool,
}

impl Ledger {
    /// Places a hold; returns its name and position.
    pub fn place_hold(&self, hold: &NewHold) -> Result<(String, u64), ErasureError> {
        if hold.matter.trim().is_empty() {
            return Err(ErasureError::Basis { what: "matter" });
        }
        if !hold.selection.fields.is_empty() {
            return Err(ErasureError::HoldFields);
        }
        let scope = hold.selection.resolve(self)?;
        let name = random_name(self)?;
        let mut body = Map::new();
        body.insert("id".to_owned(), Value::from(format!("hold:{name}")));
        body.insert("hold".to_owned(), Value::from(name.as_str()));
        body.insert("matter".to_owned(), Value::from(hold.matter.as_str()));
        body.insert("scope".to_owned(), scope.to_json());
        if let Some(until) = hold.until_ns {
            body.insert("until_ns".to_owned(), Value::from(until.to_string()));
        }
        text_member(&mut body, "by", &hold.by);
        text_member(&mut body, "reason", &hold.reason);
        Ok((name, append_fact(self, HOLD_PLACED, body)?))
    }

    /// Releases a hold; returns the position of the entry that says so.
    pub fn release_hold(&self, hold: &str, by: &str, reason: &str, now_ns: u64) -> Result<u64, ErasureError> {
        if !self.holds(now_ns)?.iter().any(|known| known.hold == hold && known.released.is_none()) {
            return Err(ErasureError::NoHold { hold: hold.to_owned() });
        }
        let mut body = Map::new();
        body.insert("id".to_owned(), Value::from(format!("hold:{hold}:released")));
        body.insert("hold".to_owned(), Value::from(hold));
        text_member(&mut body, "by", by);
        text_member(&mut body, "reason", reason);
        append_fact(self, HOLD_RELEASED, body)
    }

    /// Lists every hold that was ever placed. One that cannot be read is an error: it might be on anything.
    pub fn holds(&self, now_ns: u64) -> Result<Vec<Hold>, ErasureError> {
        let fact = |seq, kind: &str, detail| ErasureError::Fact { seq, kind: kind.to_owned(), detail };
        let mut released = BTreeMap::new();
        for seq in self.find_kind(HOLD_RELEASED)? {
            let parsed = Parsed::read(self, seq)?;
            let hold = parsed.text("hold").ok_or_else(|| fact(seq, HOLD_RELEASED, "it names no hold"))?;
            released.entry(hold.to_owned()).or_insert(seq);
        }
        let mut holds = Vec::new();
        for seq in self.find_kind(HOLD_PLACED)? {
            let parsed = Parsed::read(self, seq)?;
            let fact = |detail| fact(seq, HOLD_PLACED, detail);
            let hold = parsed.text("hold").ok_or_else(|| fact("it has no name"))?.to_owned();
            let scope = parsed.body.get("scope").and_then(Scope::from_json);
            let until_ns = match parsed.body.get("until_ns") {
                None => None,
                Some(until) => {
                    let until = until.as_str().and_then(|until| until.parse().ok());
                    Some(until.ok_or_else(|| fact("its end is not a time"))?)
                }
            };
            let released = released.get(&hold).copied().filter(|released| *released > seq);
            holds.push(Hold {
                seq,
                matter: parsed.text("matter").unwrap_or_default().to_owned(),
                scope: scope.ok_or_else(|| fact("its scope is not one that this version knows"))?,
                until_ns,
                released,
                active: released.is_none() && until_ns.is_none_or(|until| until > now_ns),
                hold,
            });
        }
        Ok(holds)
    }
}

/// The holds that keep something now.
pub(super) struct Holds(Vec<Hold>);

impl Holds {
    pub(super) fn active(ledger: &Ledger, now_ns: u64) -> Result<Self, ErasureError> {
        Ok(Self(ledger.holds(now_ns)?.into_iter().filter(|hold| hold.active).collect()))
    }

    /// Splits entries into those that may be touched and those that a hold keeps. This is the only way from a
    /// selection to what is deleted.
    pub(super) fn split(
        &self,
        ledger: &Ledger,
        entries: Vec<PlannedEntry>,
        bodies: &Bodies,
    ) -> Result<(Vec<PlannedEntry>, Vec<Held>), ErasureError> {
        let mut concerned: BTreeSet<u64> = entries.iter().map(|entry| entry.seq).collect();
        for digest in entries.iter().filter_map(|entry| entry.body) {
            concerned.extend(bodies.named_by(&digest));
        }
        let Some((first, last)) = concerned.first().zip(concerned.last()) else {
            return Ok((entries, Vec::new()));
        };
        let mut kept: BTreeMap<u64, &Hold> = BTreeMap::new();
        for hold in &self.0 {
            for seq in hold.scope.positions(ledger, *first..last.saturating_add(1))? {
                if concerned.contains(&seq) {
                    kept.entry(seq).or_insert(hold);
                }
            }
        }
        let (mut free, mut held) = (Vec::new(), Vec::new());
        for entry in entries {
            let through = entry.body.and_then(|digest| {
                let hold = bodies.named_by(&digest).iter().find_map(|seq| kept.get(seq))?;
                Some((*hold, Some(digest)))
            });
            match kept.get(&entry.seq).map(|hold| (*hold, None)).or(through) {
                Some((hold, body)) => held.push(Held {
                    seq: entry.seq,
                    hold: hold.hold.clone(),
                    matter: hold.matter.clone(),
                    body,
                }),
                None => free.push(entry),
            }
        }
        Ok((free, held))
    }
}

/// Draws a name.
pub(super) fn random_name(ledger: &Ledger) -> Result<String, ErasureError> {
    let mut name = [0; 8];
    ledger
        .inner
        .sealer
        .entropy()
        .fill(&mut name)
        .map_err(|error: EntropyError| ErasureError::Append(AppendError::Entropy(error)))?;
    Ok(hex::encode(name))
}

/// Appends one system fact; returns its position.
pub(super) fn append_fact(
    ledger: &Ledger,
    kind: &str,
    body: Map<String, Value>,
) -> Result<u64, ErasureError> {
    let batch = Batch { records: vec![NewRecord::system(kind, body)], blobs: Vec::new() };
    let receipt = ledger.append(batch)?;
    receipt.seqs.first().copied().ok_or_else(|| {
        ErasureError::Ledger(LedgerError::Damaged {
            place: "receipt".to_owned(),
            detail: "names no entry".to_owned(),
        })
    })
}
