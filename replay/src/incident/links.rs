//! Who names whom, in a window of the log.
//!
//! Entries are read as bytes; only those that hold the name of such a member are parsed, and nothing disclosed is read.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use verdict_ledger::event::{Effect, Link, Rel};
use verdict_ledger::id::TraceId;
use verdict_ledger::{Ledger, LedgerError};

/// What one event says of others.
#[derive(Debug, Clone)]
pub(super) struct Says {
    pub(super) seq: u64,
    pub(super) trace: Option<TraceId>,
    pub(super) tenant: Option<String>,
    pub(super) links: Vec<Link>,
    pub(super) approval: Option<String>,
    /// True when it asks for the approval.
    pub(super) asks: bool,
}

/// Everything that events of a window say of others.
#[derive(Debug, Default)]
pub(super) struct LinkTable {
    pub(super) window: Range<u64>,
    said: Vec<Says>,
    by_event: BTreeMap<String, Vec<(usize, Rel)>>,
    by_trace: BTreeMap<TraceId, Vec<(usize, Rel)>>,
    by_approval: BTreeMap<String, Vec<usize>>,
}

#[derive(Deserialize)]
struct Entry {
    body: Body,
}

#[derive(Deserialize)]
struct Body {
    trace_id: Option<TraceId>,
    tenant: Option<String>,
    #[serde(default)]
    links: Vec<Link>,
    decision: Option<Decision>,
}

#[derive(Deserialize)]
struct Decision {
    effect: Option<Effect>,
    approval_id: Option<String>,
}

impl LinkTable {
    pub(super) fn read(ledger: &Ledger, window: Range<u64>) -> Result<Self, LedgerError> {
        let mut table = Self { window: window.clone(), ..Self::default() };
        for entry in ledger.entries(window) {
            let (seq, bytes) = entry?;
            // What is no text, or has another form, says nothing here; `fsck` names it.
            let Ok(text) = std::str::from_utf8(&bytes) else { continue };
            if !text.contains("\"links\":[") && !text.contains("\"approval_id\":") {
                continue;
            }
            let Ok(Entry { body }) = serde_json::from_str::<Entry>(text) else { continue };
            let (effect, approval) =
                body.decision.map_or((None, None), |decision| (decision.effect, decision.approval_id));
            table.add(Says {
                seq,
                trace: body.trace_id,
                tenant: body.tenant,
                links: body.links,
                asks: effect == Some(Effect::RequireApproval),
                approval,
            });
        }
        Ok(table)
    }

    fn add(&mut self, says: Says) {
        let at = self.said.len();
        let mut approvals: Vec<&String> = says.approval.iter().collect();
        for link in &says.links {
            if let Some(event) = &link.to.event {
                self.by_event.entry(event.clone()).or_default().push((at, link.rel));
            }
            if let Some(trace) = link.to.trace_id {
                self.by_trace.entry(trace).or_default().push((at, link.rel));
            }
            approvals.extend(&link.to.approval_id);
        }
        approvals.sort_unstable();
        approvals.dedup();
        for approval in approvals {
            self.by_approval.entry(approval.clone()).or_default().push(at);
        }
        self.said.push(says);
    }

    /// Events that link to an event id.
    pub(super) fn to_event(&self, id: &str) -> impl Iterator<Item = (&Says, Rel)> {
        let found = self.by_event.get(id).into_iter().flatten();
        found.filter_map(|(at, rel)| Some((self.said.get(*at)?, *rel)))
    }

    /// Events that link into a trace.
    pub(super) fn to_trace(&self, trace: &TraceId) -> impl Iterator<Item = (&Says, Rel)> {
        let found = self.by_trace.get(trace).into_iter().flatten();
        found.filter_map(|(at, rel)| Some((self.said.get(*at)?, *rel)))
    }

    /// Events that name an approval, whoever asks first.
    pub(super) fn of_approval(&self, approval: &str) -> Vec<&Says> {
        let found = self.by_approval.get(approval).into_iter().flatten();
        let mut found: Vec<&Says> = found.filter_map(|at| self.said.get(*at)).collect();
        found.sort_by_key(|says| (!says.asks, says.seq));
        found
    }
}

/// Returns the wire name of a relation.
pub(super) const fn rel_name(rel: Rel) -> &'static str {
    match rel {
        Rel::CausedBy => "caused_by",
        Rel::RetryOf => "retry_of",
        Rel::Approves => "approves",
        Rel::Compensates => "compensates",
        Rel::Follows => "follows",
        Rel::DelegatedBy => "delegated_by",
    }
}
