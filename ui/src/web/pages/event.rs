//! One entry: the exact bytes that are hashed, what they say, and the proof of their place in the log.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use verdict_ledger::Record;
use verdict_ledger::chain::Link;
use verdict_ledger::disclosure::Disclosure;
use verdict_ledger::entry::EntryView;
use verdict_ledger::erasure::ErasureNote;
use verdict_ledger::merkle;

use super::{Page, render};
use crate::web::error::PageError;
use crate::web::inclusion::{self, Inclusion, Side};
use crate::web::investigate::{self, PANEL_LIMITS};
use crate::web::request::{host, position};
use crate::web::view::answers::AnswersView;
use crate::web::view::json;
use crate::web::view::page::Shell;
use crate::web::view::time::{self, Moment};
use crate::web::{AppState, blocking};

/// A value that the entry commits to and that is still here.
#[derive(Debug)]
struct Present {
    name: String,
    digest: String,
    value: String,
}

/// A value that the entry commits to and that is not here.
#[derive(Debug)]
struct Gone {
    pointer: String,
    /// What the log says about it.
    erased: Option<Erased>,
}

/// An erasure, as the log records it.
#[derive(Debug)]
struct Erased {
    seq: u64,
    at: Moment,
    by: String,
    legal_basis: String,
}

/// One line of the drawn path.
#[derive(Debug)]
struct PathLine {
    level: usize,
    left: bool,
    sibling: String,
    node: String,
    is_root: bool,
}

/// What the check says, in the words of the page.
#[derive(Debug)]
enum Verdict {
    Verified { size: u64, root: String },
    NotCovered { size: Option<u64> },
    Failed { detail: String, size: Option<u64> },
}

#[derive(Debug, Template)]
#[template(path = "event.html")]
struct EventPage {
    shell: Shell,
    seq: u64,
    /// Entry type.
    kind: String,
    received: Option<Moment>,
    /// Trace that the event belongs to.
    trace: Option<String>,
    /// Event id.
    id: String,
    source: String,
    /// Exact bytes as text.
    bytes: String,
    byte_count: usize,
    /// False when the bytes are not UTF-8, which an entry always is.
    is_text: bool,
    pretty: String,
    prev: String,
    chain: String,
    leaf: String,
    verdict: Verdict,
    path: Vec<PathLine>,
    present: Vec<Present>,
    withheld: Vec<Gone>,
    /// Digest of the raw body and whether it is held.
    raw: Option<(String, bool)>,
    /// Why the raw body is not held.
    raw_erased: Option<Erased>,
    raw_path: String,
    /// Answers about the action that it reports.
    answers: Option<AnswersView>,
    /// Why there are none.
    no_answers: String,
    has_previous: bool,
    has_next: bool,
    host: String,
    verifier_key: String,
    ledger_arg: String,
}

/// `GET /events/{seq}`
pub(crate) async fn show(
    State(state): State<AppState>,
    shell: Shell,
    headers: HeaderMap,
    Path(seq): Path<String>,
) -> Page {
    let seq = position("the event", &seq)?;
    let host = host(&headers);
    blocking::run(move || render(&build(&state, shell, seq, host)?)).await
}

fn build(state: &AppState, shell: Shell, seq: u64, host: String) -> Result<EventPage, PageError> {
    let ledger = state.ledger();
    let entry = ledger.entry(seq)?.ok_or_else(|| PageError::not_found("entry", seq))?;
    let record = ledger.record(seq)?.ok_or_else(|| PageError::not_found("entry", seq))?;
    let leaf = merkle::leaf_hash(&entry);
    let chain = Link::of_entry(&entry);
    let byte_count = entry.len();
    let prev = EntryView::parse(&entry).map(|view| view.prev.into_owned()).unwrap_or_default();
    let (verdict, path) = verdict(inclusion::check(ledger, seq, &entry)?);
    let present = ledger.disclosures(seq)?.iter().map(|encoded| present(encoded)).collect();
    let event = record.event.as_deref();
    let raw = event.and_then(|event| event.source.raw);
    let raw_held = raw.map(|digest| ledger.blob(&digest)).transpose()?.flatten().is_some();
    // Every erasure is read for this, so only where something is missing.
    let missing = !record.withheld.is_empty() || (raw.is_some() && !raw_held);
    let mut notes = if missing { ledger.erasures_of(seq, raw.as_ref())? } else { Vec::new() };
    let raw_erased = take(&mut notes, None);
    let withheld = record
        .withheld
        .iter()
        .map(|pointer| Gone { erased: take(&mut notes, Some(pointer)), pointer: pointer.clone() });
    let withheld = withheld.collect();
    let (answers, no_answers) = match event.map(|_| investigate::answers(state, seq, None, PANEL_LIMITS)) {
        None => (None, String::new()),
        Some(Ok(answers)) => (Some(AnswersView::of(answers)), String::new()),
        // The bytes and their proof are shown whatever is wrong with what they mean.
        Some(Err(error)) => {
            error.log();
            (None, error.to_string())
        }
    };
    let text = String::from_utf8(entry);
    let is_text = text.is_ok();
    let bytes = text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Ok(EventPage {
        seq,
        kind: record.kind.clone(),
        received: Some(time::moment(record.ts_ns)).filter(|_| record.ts_ns > 0),
        trace: event.and_then(|event| event.trace_id).map(|trace| trace.to_string()),
        id: event.map_or_else(|| text_member(&record, "id"), |event| event.id.clone()),
        source: event.map(source).unwrap_or_default(),
        byte_count,
        prev,
        chain: chain.to_string(),
        leaf: leaf.to_string(),
        pretty: pretty(&record),
        bytes,
        is_text,
        verdict,
        path,
        present,
        withheld,
        raw_erased,
        raw: raw.map(|digest| (digest.to_string(), raw_held)),
        raw_path: event.and_then(|event| event.source.path.clone()).unwrap_or_default(),
        answers,
        no_answers,
        has_previous: seq > 0,
        has_next: seq + 1 < shell.size,
        host,
        verifier_key: ledger.verifier_key(),
        ledger_arg: state.ledger_arg(),
        shell,
    })
}

/// Takes the note about a value, or about the raw body.
fn take(notes: &mut Vec<ErasureNote>, pointer: Option<&String>) -> Option<Erased> {
    let at = notes.iter().position(|note| note.pointer.as_ref() == pointer)?;
    let note = notes.swap_remove(at);
    Some(Erased {
        seq: note.seq,
        at: time::moment(note.ts_ns),
        by: note.by.unwrap_or_else(|| "somebody whose name was erased".to_owned()),
        legal_basis: note.legal_basis,
    })
}

fn text_member(record: &Record, name: &str) -> String {
    record.body.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
}

fn source(event: &verdict_ledger::event::Event) -> String {
    let mut parts = vec![event.source.format.clone()];
    parts.extend(event.source.profile.clone());
    if event.source.mapper > 0 {
        parts.push(format!("mapper {}", event.source.mapper));
    }
    if event.source.lost > 0 {
        parts.push(format!("{} fields dropped by the source", event.source.lost));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" · ")
}

fn pretty(record: &Record) -> String {
    match record.event.as_deref().map(serde_json::to_value) {
        Some(Ok(value)) => json::pretty(&value),
        Some(Err(error)) => error.to_string(),
        None => json::pretty(&serde_json::Value::Object(record.body.clone())),
    }
}

fn present(encoded: &str) -> Present {
    match Disclosure::parse(encoded) {
        Ok(disclosure) => Present {
            name: disclosure.name().to_owned(),
            digest: disclosure.digest(),
            value: json::pretty(disclosure.value()),
        },
        Err(error) => {
            Present { name: "unreadable".to_owned(), digest: String::new(), value: error.to_string() }
        }
    }
}

fn verdict(inclusion: Inclusion) -> (Verdict, Vec<PathLine>) {
    let lines = |steps: Vec<inclusion::Step>| {
        let count = steps.len();
        steps
            .into_iter()
            .enumerate()
            .map(|(index, step)| PathLine {
                level: index + 1,
                left: step.side == Side::Left,
                sibling: step.sibling.to_string(),
                node: step.node.to_string(),
                is_root: index + 1 == count,
            })
            .collect()
    };
    match inclusion {
        Inclusion::Verified { checkpoint, steps, .. } => {
            (Verdict::Verified { size: checkpoint.size, root: checkpoint.root.to_string() }, lines(steps))
        }
        Inclusion::NotCovered { size } => (Verdict::NotCovered { size }, Vec::new()),
        Inclusion::Failed { error, size, steps } => {
            (Verdict::Failed { detail: error.to_string(), size }, lines(steps))
        }
    }
}
