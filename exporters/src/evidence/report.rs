//! `data/report.html`: the bundle for people. One page, no script, no request to anywhere.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use serde_json::Value;
use verdict_ledger::disclosure::Disclosure;
use verdict_ledger::note::VerifierKey;

use super::compliance;
use super::facts::Facts;
use super::redaction::{Reason, Redaction};
use super::transcript::Transcript;
use crate::dsse;
use crate::statement::{Predicate, SelectionRef};

/// Entries that the page shows; the rest is in `events.jsonl`. Browsers get slow before auditors get bored.
const ROWS_MAX: usize = 1_000;
/// Characters of a disclosed value that the page shows.
const VALUE_CHARS_MAX: usize = 400;

/// What the report is made of.
pub(crate) struct Input<'a> {
    pub(crate) predicate: &'a Predicate,
    pub(crate) facts: &'a [Facts],
    pub(crate) disclosed: &'a BTreeMap<u64, Vec<Disclosure>>,
    pub(crate) redactions: &'a [Redaction],
    pub(crate) transcript: Option<&'a Transcript>,
    pub(crate) controls: &'a [compliance::Row],
    pub(crate) log_key: &'a VerifierKey,
    pub(crate) bundle_key: &'a VerifierKey,
}

/// The page.
#[derive(Template)]
#[template(path = "report.html")]
struct Report<'a> {
    predicate: &'a Predicate,
    is_range: bool,
    selection: String,
    period: (&'a str, &'a str),
    agents: Vec<&'a str>,
    gaps: Vec<String>,
    withheld: usize,
    erased: usize,
    transcript: Option<&'a Transcript>,
    controls: &'a [compliance::Row],
    log_key: String,
    bundle_key: String,
    bundle_key_id: String,
    rows: Vec<Row<'a>>,
    left_out: usize,
}

/// One entry.
struct Row<'a> {
    seq: u64,
    ts: &'a str,
    kind: &'a str,
    held: bool,
    agent: &'a str,
    what: String,
    effect: &'a str,
    reason: String,
    outcome: &'a str,
    values: Vec<(String, String)>,
    missing: Vec<(&'a str, &'static str)>,
    leaf: String,
}

/// Renders the page.
pub(crate) fn render(input: &Input<'_>) -> Result<String, String> {
    let facts = input.facts;
    let counted = || facts.iter().filter(|entry| !entry.held);
    let agents: BTreeSet<&str> = counted().filter_map(Facts::agent).collect();
    let erased = input.redactions.iter().filter(|redaction| redaction.reason == Reason::Erased).count();
    let mut missing: BTreeMap<u64, Vec<(&str, &'static str)>> = BTreeMap::new();
    for redaction in input.redactions {
        missing.entry(redaction.seq).or_default().push((&redaction.member, redaction.reason.as_str()));
    }
    let rows = facts.iter().take(ROWS_MAX).map(|entry| row(entry, input.disclosed, &mut missing)).collect();
    let report = Report {
        predicate: input.predicate,
        is_range: matches!(input.predicate.selection, SelectionRef::Range { .. }),
        selection: selection(&input.predicate.selection),
        period: (facts.first().map_or("", |e| &e.ts), facts.last().map_or("", |e| &e.ts)),
        agents: agents.into_iter().collect(),
        gaps: gaps(facts),
        withheld: input.redactions.len() - erased,
        erased,
        transcript: input.transcript,
        controls: input.controls,
        log_key: input.log_key.to_string(),
        bundle_key: input.bundle_key.to_string(),
        bundle_key_id: dsse::key_id(input.bundle_key.public().as_bytes()),
        rows,
        left_out: facts.len().saturating_sub(ROWS_MAX),
    };
    report.render().map_err(|error| error.to_string())
}

fn selection(selection: &SelectionRef) -> String {
    match selection {
        SelectionRef::Range { first, last } => format!("every entry from {first} to {last}"),
        SelectionRef::Trace { trace_id } => {
            format!("the events of trace {trace_id} and the entries about its policies")
        }
    }
}

/// What an attentive reader of the table would ask about.
fn gaps(facts: &[Facts]) -> Vec<String> {
    let counted = || facts.iter().filter(|entry| !entry.held);
    let count = |matches: &dyn Fn(&Facts) -> bool| counted().filter(|entry| matches(entry)).count();
    let mut gaps = Vec::new();
    let mut note = |n: usize, text: &str| {
        if n > 0 {
            gaps.push(format!("{text}: {n}"));
        }
    };
    let acts = |entry: &Facts| matches!(entry.text("/action/kind"), Some("tool" | "data" | "message"));
    note(
        count(&|entry| entry.is_event() && acts(entry) && entry.has("/outcome") && !entry.has("/decision")),
        "events that report an outcome and, in the same statement, no decision",
    );
    note(
        count(&|entry| entry.effect().is_some() && entry.policy().is_none()),
        "recorded decisions that name no policy digest, so that nobody can decide them again",
    );
    note(
        count(&|entry| {
            entry.effect().is_some() && entry.body.pointer("/decision/enforced") == Some(&Value::Bool(false))
        }),
        "recorded decisions that were not enforced",
    );
    note(count(&|entry| entry.is_event() && entry.agent().is_none()), "events that name no agent");
    note(
        facts.len() - counted().count(),
        "entries that a strict trace contract held in quarantine, marked below and counted nowhere else",
    );
    gaps
}

fn row<'a>(
    entry: &'a Facts,
    disclosed: &BTreeMap<u64, Vec<Disclosure>>,
    missing: &mut BTreeMap<u64, Vec<(&'a str, &'static str)>>,
) -> Row<'a> {
    let values = disclosed.get(&entry.seq).map(Vec::as_slice).unwrap_or_default();
    // Attributes repeat what the other members say, in the source's words; they are in the files.
    let values = values.iter().filter(|disclosure| disclosure.name() != "attributes");
    let what = match (entry.text("/action/kind"), entry.text("/action/name")) {
        (Some(kind), Some(name)) => format!("{kind} {name}"),
        _ => entry.text("/name").or_else(|| entry.text("/id")).unwrap_or_default().to_owned(),
    };
    let rules = entry.body.pointer("/decision/policy/rules").and_then(Value::as_array);
    let rules: Vec<_> = rules.into_iter().flatten().filter_map(Value::as_str).collect();
    let reason = [entry.text("/decision/reason").unwrap_or_default(), &rules.join(", ")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" · ");
    Row {
        seq: entry.seq,
        ts: &entry.ts,
        kind: &entry.kind,
        held: entry.held,
        agent: entry.agent().unwrap_or_default(),
        what,
        effect: entry.effect().unwrap_or_default(),
        reason,
        outcome: entry.text("/outcome/status").unwrap_or_default(),
        values: values.map(|disclosure| (disclosure.name().to_owned(), short(disclosure.value()))).collect(),
        missing: missing.remove(&entry.seq).unwrap_or_default(),
        leaf: entry.leaf.to_string(),
    }
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Writes `README.txt`.
pub(crate) fn readme(predicate: &Predicate) -> String {
    format!(
        "Evidence from the decision log {origin}: {selection}.\n\
         Read data/report.html first; it begins with what this does not prove.\n\
         Verify with keys that you got from somewhere else than this file:\n\
         verdict verify FILE.zip --key KEYS, or open data/verify.html in a browser, offline;\n\
         sha256sum -c manifest-sha256.txt shows only that the copy is whole, not who made it.\n",
        origin = predicate.origin,
        selection = selection(&predicate.selection),
    )
}
