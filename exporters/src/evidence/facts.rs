//! What can be read off an entry without its disclosures: the rows of the index, and everything that is counted.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use verdict_ledger::entry::EntryView;
use verdict_ledger::event::ACTION_REPORTED;
use verdict_ledger::merkle::{Hash, leaf_hash};

use crate::statement::Counts;

/// Facts of one entry.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) seq: u64,
    pub(crate) ts: String,
    pub(crate) kind: String,
    pub(crate) origin: String,
    pub(crate) leaf: Hash,
    pub(crate) body: Value,
    /// True when it is in quarantine: it is here, and counts for nothing.
    pub(crate) held: bool,
}

impl Facts {
    /// Reads an entry; `Err` says what is wrong with it.
    pub(crate) fn read(entry: &[u8]) -> Result<Self, String> {
        let view = EntryView::parse(entry).map_err(|error| error.to_string())?;
        let seq =
            view.seq.parse().map_err(|_| format!("`{}` is not a position", view.seq.escape_default()))?;
        let body = serde_json::from_str(view.body.get()).map_err(|error| format!("body: {error}"))?;
        Ok(Self {
            seq,
            ts: view.ts.into_owned(),
            kind: view.kind.into_owned(),
            origin: view.origin.into_owned(),
            leaf: leaf_hash(entry),
            body,
            held: false,
        })
    }

    /// Returns a member that is a string.
    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.body.pointer(pointer).and_then(Value::as_str)
    }

    /// Tells whether the entry has a member.
    pub(crate) fn has(&self, pointer: &str) -> bool {
        self.body.pointer(pointer).is_some_and(|value| !value.is_null())
    }

    /// Tells whether the entry reports an action.
    pub(crate) fn is_event(&self) -> bool {
        self.kind == ACTION_REPORTED
    }

    /// Returns the agent as stated in the entry.
    pub(crate) fn agent(&self) -> Option<&str> {
        self.text("/agent/name").or_else(|| self.text("/agent/id"))
    }

    /// Returns the effect of a recorded decision.
    pub(crate) fn effect(&self) -> Option<&str> {
        if self.is_event() { self.text("/decision/effect") } else { None }
    }

    /// Returns the policy digest that a recorded decision names.
    pub(crate) fn policy(&self) -> Option<&str> {
        if self.is_event() { self.text("/decision/policy/bundle") } else { None }
    }
}

/// Marks what the statement says is in quarantine.
pub(crate) fn mark(facts: &mut [Facts], held: &BTreeSet<u64>) {
    for entry in facts {
        entry.held = held.contains(&entry.seq);
    }
}

/// Counts what a verifier can count again. What is in quarantine is among the entries, and counted nowhere else.
pub(crate) fn count(facts: &[Facts], disclosures: u64, redactions: u64) -> Counts {
    let mut counts = Counts { entries: facts.len() as u64, disclosures, redactions, ..Counts::default() };
    for entry in facts {
        if entry.held {
            counts.quarantined += 1;
            continue;
        }
        *counts.by_type.entry(entry.kind.clone()).or_default() += 1;
        if let Some(effect) = entry.effect() {
            *counts.by_effect.entry(effect.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Counts recorded decisions by the policy digest that they name.
pub(crate) fn decisions_by_policy(facts: &[Facts]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for policy in facts.iter().filter(|entry| !entry.held).filter_map(Facts::policy) {
        *counts.entry(policy.to_owned()).or_default() += 1;
    }
    counts
}

/// Columns of `data/index.csv`.
const COLUMNS: [&str; 13] = [
    "seq",
    "ts",
    "type",
    "trace_id",
    "span_id",
    "agent",
    "kind",
    "name",
    "effect",
    "rules",
    "outcome",
    "policy_digest",
    "leaf_sha256",
];

/// Writes `data/index.csv`: what the entries say in the clear, for spreadsheets. Where something is in quarantine one more
/// column says what.
pub(crate) fn index_csv(facts: &[Facts]) -> String {
    let any_held = facts.iter().any(|entry| entry.held);
    let [columns @ .., last] = &COLUMNS;
    let mut columns: Vec<&str> = columns.to_vec();
    if any_held {
        columns.push("quarantined");
    }
    columns.push(last);
    let mut out = columns.join(",");
    out.push('\n');
    for entry in facts {
        let rules = entry.body.pointer("/decision/policy/rules").and_then(Value::as_array);
        let rules: Vec<_> = rules.into_iter().flatten().filter_map(Value::as_str).collect();
        let seq = entry.seq.to_string();
        let leaf = entry.leaf.to_string();
        let rules = rules.join(" ");
        let mut row: Vec<&str> = vec![
            &seq,
            &entry.ts,
            &entry.kind,
            entry.text("/trace_id").unwrap_or_default(),
            entry.text("/span_id").unwrap_or_default(),
            entry.agent().unwrap_or_default(),
            entry.text("/action/kind").unwrap_or_default(),
            entry.text("/action/name").unwrap_or_default(),
            entry.effect().unwrap_or_default(),
            &rules,
            entry.text("/outcome/status").unwrap_or_default(),
            entry.policy().unwrap_or_default(),
        ];
        if any_held {
            row.push(if entry.held { "yes" } else { "" });
        }
        row.push(&leaf);
        csv_row(&mut out, &row);
    }
    out
}

/// Reads (seq, leaf hash in hex) back from an index; rows that are not of that form are left out.
pub(crate) fn index_leaves(csv: &str) -> Vec<(u64, String)> {
    let row = |line: &str| {
        let (seq, _) = line.split_once(',')?;
        let (_, leaf) = line.rsplit_once(',')?;
        Some((seq.parse().ok()?, leaf.to_owned()))
    };
    csv.lines().skip(1).filter_map(row).collect()
}

/// Writes one row as RFC 4180 asks. A cell that a spreadsheet would run as a formula gets an apostrophe: names of
/// tools and agents come from outside.
pub(crate) fn csv_row(out: &mut String, cells: &[&str]) {
    for (number, cell) in cells.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        let cell: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let cell = if cell.starts_with(['=', '+', '-', '@']) { format!("'{cell}") } else { cell };
        if cell.contains([',', '"']) {
            out.push('"');
            out.push_str(&cell.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(&cell);
        }
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        let mut out = String::new();
        csv_row(&mut out, &["=1+1", "a,b", "say \"x\"", "two\nlines", "-5", "plain"]);
        assert_eq!(out, "'=1+1,\"a,b\",\"say \"\"x\"\"\",two lines,'-5,plain\n");
    }

    #[test]
    fn an_index_is_read_back_by_seq_and_leaf() {
        let csv = "seq,ts,leaf_sha256\n7,\"a,b\",00ff\nbroken\n";
        assert_eq!(index_leaves(csv), [(7, "00ff".to_owned())]);
    }
}
