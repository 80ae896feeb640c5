//! The report for programs; `docs/diff.md` describes it.

use serde::Serialize;
use verdict_ledger::id::Digest;

use crate::compare::Diff;
use crate::error::DiffError;
use crate::gate::Verdict;

/// Identifier of the report's form. A member may be added under it; none changes its meaning or goes away.
pub const SCHEMA: &str = "verdict-diff/1";

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    digest: Digest,
    gate: &'a Verdict,
    #[serde(flatten)]
    diff: &'a Diff,
}

/// Writes a diff and its verdict as indented JSON with a final newline.
pub fn json(diff: &Diff, verdict: &Verdict) -> Result<String, DiffError> {
    let report = Report { schema: SCHEMA, digest: diff.digest, gate: verdict, diff };
    let mut text = serde_json::to_string_pretty(&report).map_err(|source| DiffError::Canonical { source })?;
    text.push('\n');
    Ok(text)
}
