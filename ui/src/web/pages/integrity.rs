//! Whether the log holds: head, checkpoints and their consistency, and a full verification on demand.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use verdict_ledger::id::Digest;
use verdict_ledger::merkle;
use verdict_ledger::note::VerifierKey;
use verdict_ledger::{Ledger, VerifyOptions};

use super::{Page, render};
use crate::anchor::{Outcome, SinkStatus, StatusView};
use crate::web::error::PageError;
use crate::web::state::Verified;
use crate::web::view::page::Shell;
use crate::web::view::time::{self, Moment};
use crate::web::view::{number, text};
use crate::web::{AppState, blocking};

/// Checkpoints that the page lists and checks against each other.
const HISTORY_MAX: usize = 20;
/// Failures of a verification that the page lists.
const FAILURES_MAX: usize = 50;

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Check {
    /// It holds.
    Holds,
    /// It does not, and why.
    Fails(String),
    /// There is nothing to check against.
    Nothing,
}

impl Check {
    fn of(result: Result<(), impl ToString>) -> Self {
        result.map_or_else(|error| Self::Fails(error.to_string()), |()| Self::Holds)
    }

    fn fails(&self) -> bool {
        matches!(self, Self::Fails(_))
    }
}

/// One checkpoint of the history.
#[derive(Debug)]
struct CheckpointRow {
    size: u64,
    size_text: String,
    root: String,
    root_short: String,
    /// Signature by the log key and agreement with the tree of that size.
    signed: Check,
    /// The tree of the checkpoint before is a prefix of this one.
    consistent: Check,
    /// Size of the checkpoint before.
    before: Option<u64>,
}

/// The last full verification.
#[derive(Debug)]
struct VerifiedView {
    at: Moment,
    age: String,
    took: String,
    entries: String,
    bytes: String,
    disclosures: String,
    checkpoints: String,
    beside: String,
    size: String,
    failures: Vec<(String, String, String)>,
    failures_left_out: usize,
    first_bad: Option<u64>,
    holds: bool,
    behind: u64,
}

/// How it stands with one anchor.
#[derive(Debug)]
struct AnchorRow {
    name: String,
    kind: &'static str,
    /// Size and time of the last success.
    anchored: Option<(String, Moment)>,
    state: Check,
}

impl AnchorRow {
    fn of(status: SinkStatus) -> Self {
        let SinkStatus { last, anchored, .. } = status;
        let state = match last.outcome {
            Outcome::Anchored | Outcome::Already => Check::Holds,
            Outcome::Failed | Outcome::Untrusted => Check::Fails(last.detail),
        };
        let size = |size: String| number::count(size.parse().unwrap_or_default());
        let anchored = anchored.map(|(at, when)| (size(at), time::moment(when)));
        Self { name: last.sink, kind: last.kind, anchored, state }
    }
}

#[derive(Debug, Template)]
#[template(path = "integrity.html")]
struct IntegrityPage {
    shell: Shell,
    key: String,
    key_name: String,
    fingerprint: String,
    /// Newest checkpoint as its note.
    note: Option<String>,
    /// Entries after the newest checkpoint.
    uncovered: u64,
    /// Why the newest checkpoint is late: when it was last tried, and what the signer said.
    unsigned: Option<(Moment, String)>,
    /// When the last entry that the newest checkpoint covers was received.
    covered_until: Option<Moment>,
    covered_age: String,
    rows: Vec<CheckpointRow>,
    more_history: bool,
    verified: Option<VerifiedView>,
    /// How it stands with the anchors; empty when nothing is anchored while serving.
    anchors: Vec<AnchorRow>,
    /// True when something that was checked on this request does not hold.
    broken: bool,
    ledger_arg: String,
}

/// `GET /integrity`
pub(crate) async fn show(State(state): State<AppState>, shell: Shell) -> Page {
    blocking::run(move || render(&build(&state, shell)?)).await
}

/// `POST /integrity/verify`: checks everything, then shows the page.
pub(crate) async fn verify(State(state): State<AppState>) -> Result<Response, PageError> {
    let permits = state.verifications();
    blocking::run_limited(permits, "verifications", move || {
        state.verify(&VerifyOptions::default())?;
        Ok(())
    })
    .await?;
    // The answer to a form is a redirect, so that a reload does not verify again.
    Ok(Redirect::to("/integrity#verification").into_response())
}

fn build(state: &AppState, shell: Shell) -> Result<IntegrityPage, PageError> {
    let ledger = state.ledger();
    let key = ledger.verifier_key();
    let parsed = VerifierKey::parse(&key).ok();
    let mut notes = ledger.checkpoints(HISTORY_MAX + 1)?;
    let more_history = notes.len() > HISTORY_MAX;
    let rows = history(ledger, &notes)?;
    notes.truncate(HISTORY_MAX);
    let newest = notes.into_iter().next();
    let covered = newest.as_ref().map_or(0, |(size, _)| *size);
    let last_covered = covered.checked_sub(1).map(|seq| ledger.record(seq)).transpose()?.flatten();
    let verified = state.verified().map(|verified| verified_view(&verified, &shell));
    let anchors = state.anchors().map(StatusView::sinks).unwrap_or_default();
    let contradicted = anchors.iter().any(|status| status.last.outcome == Outcome::Untrusted);
    let broken = contradicted
        || rows.iter().any(|row| row.signed.fails() || row.consistent.fails())
        || verified.as_ref().is_some_and(|verified| !verified.holds);
    Ok(IntegrityPage {
        key_name: parsed.as_ref().map(|key| key.name().to_owned()).unwrap_or_default(),
        fingerprint: parsed
            .as_ref()
            .map(|key| Digest::of(key.public().as_bytes()).to_string())
            .unwrap_or_default(),
        key,
        note: newest.map(|(_, note)| note),
        uncovered: shell.size.saturating_sub(covered),
        unsigned: ledger.signing_failure().map(|failure| (time::moment(failure.at_ns), failure.detail)),
        covered_age: last_covered
            .as_ref()
            .map(|record| time::duration(shell.now_ns.saturating_sub(record.ts_ns)))
            .unwrap_or_default(),
        covered_until: last_covered.map(|record| time::moment(record.ts_ns)),
        rows,
        more_history,
        verified,
        anchors: anchors.into_iter().map(AnchorRow::of).collect(),
        broken,
        ledger_arg: state.ledger_arg(),
        shell,
    })
}

/// Checks every checkpoint's signature and root, and each against the one before it.
fn history(ledger: &Ledger, notes: &[(u64, String)]) -> Result<Vec<CheckpointRow>, PageError> {
    let mut parsed = Vec::with_capacity(notes.len());
    for (size, note) in notes {
        // Each with the key that was in force at its size.
        parsed.push((*size, ledger.verify_checkpoint(note)));
    }
    let mut rows = Vec::new();
    for (index, (size, checkpoint)) in parsed.iter().enumerate().take(HISTORY_MAX) {
        let signed = match checkpoint {
            Err(error) => Check::Fails(error.to_string()),
            Ok(checkpoint) if checkpoint.size != *size => {
                Check::Fails(format!("stored under size {size} and says {}", checkpoint.size))
            }
            Ok(checkpoint) => {
                let root = ledger.root_at(*size)?;
                if root == checkpoint.root {
                    Check::Holds
                } else {
                    Check::Fails(format!("signed root {}, the stored tree has {root}", checkpoint.root))
                }
            }
        };
        let older = parsed.get(index + 1);
        let consistent = match (older, checkpoint) {
            (Some((_, Ok(older))), Ok(newer)) => {
                let proof = ledger.consistency_proof(older.size, newer.size)?;
                let held =
                    merkle::verify_consistency(older.size, newer.size, &older.root, &newer.root, &proof);
                Check::of(held)
            }
            _ => Check::Nothing,
        };
        let root = match checkpoint {
            Ok(checkpoint) => checkpoint.root.to_string(),
            _ => String::new(),
        };
        rows.push(CheckpointRow {
            size: *size,
            size_text: number::count(*size),
            root_short: text::short_hex(&root),
            root,
            signed,
            consistent,
            before: older.map(|(size, _)| *size),
        });
    }
    Ok(rows)
}

fn verified_view(verified: &Verified, shell: &Shell) -> VerifiedView {
    let report = &verified.report;
    let failures = report
        .failures
        .iter()
        .take(FAILURES_MAX)
        .map(|failure| {
            let seq = failure.seq.map(|seq| seq.to_string()).unwrap_or_default();
            (seq, failure.class.to_string(), failure.detail.clone())
        })
        .collect();
    VerifiedView {
        at: time::moment(verified.at_ns),
        age: time::duration(shell.now_ns.saturating_sub(verified.at_ns)),
        took: time::duration(verified.took_ns),
        entries: number::count(report.entries),
        bytes: number::count(report.bytes),
        disclosures: number::count(report.disclosures),
        checkpoints: number::count(report.checkpoints),
        beside: format!(
            "{} tree hashes, {} index rows, {} data keys, {} raw bodies",
            number::count(report.tree_hashes),
            number::count(report.index_rows),
            number::count(report.data_keys),
            number::count(report.blobs)
        ),
        size: number::count(report.size),
        failures,
        failures_left_out: report.failures.len().saturating_sub(FAILURES_MAX)
            + usize::try_from(report.more_failures).unwrap_or(usize::MAX),
        first_bad: report.failures.iter().filter_map(|failure| failure.seq).min(),
        holds: report.failures.is_empty(),
        behind: shell.size.saturating_sub(report.size),
    }
}
