//! From a body that has arrived to entries that are durable: decompress, map, append.
//!
//! Mapping is work for a core, so that only as many bodies are mapped at the same time as there are cores (and only
//! as many are in memory taken apart). Appending waits for the disk, and the more wait together the better: group
//! commit takes all of them at once.

use bytes::Bytes;
use verdict_ledger::AppendError;
use verdict_ledger::contract::AtIngest;
use verdict_ledger::ingest::{self, Format, IngestError, Mapped, Rejected, Warning};

use super::append::{self, Stored};
use super::body::{self, Received};
use super::refusal::Refusal;
use crate::auth::gate::Caller;
use crate::telemetry::{Attribute, Context, Ended};
use crate::web::AppState;

/// Whether one bad record keeps out the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// What can be taken is.
    Partial,
    /// Everything or nothing, also by a strict contract.
    Whole,
    /// Everything or nothing; what a strict contract does not take is kept in quarantine.
    Quarantine,
}

/// What was done with a body.
#[derive(Debug)]
pub(super) struct Taken {
    /// Format that it was read as.
    pub(super) format: Format,
    /// What the ledger did; `None` when nothing was appended because of `rejected`.
    pub(super) stored: Option<Stored>,
    /// What the mapper could not take.
    pub(super) rejected: Vec<Rejected>,
    /// What was odd but taken.
    pub(super) warnings: Vec<Warning>,
    /// Data points of metrics, which are not kept.
    pub(super) metric_points: u64,
    /// What the contract in force says of the request.
    pub(super) contract: Option<AtIngest>,
}

impl Taken {
    /// Returns every reason for which a record is not in the ledger.
    pub(super) fn reasons(&self) -> Vec<String> {
        let refused = self.stored.iter().flat_map(|stored| stored.refused.iter().cloned());
        self.rejected.iter().map(ToString::to_string).chain(refused).collect()
    }
}

/// Takes a body in.
pub(super) async fn take(
    state: &AppState,
    received: Received,
    caller: Caller,
    rule: Rule,
    format: impl FnOnce(&[u8]) -> Result<Format, Refusal> + Send + 'static,
) -> Result<Taken, Refusal> {
    let Ok(core) = state.mappers().acquire_owned().await else { return Err(Refusal::Saturated) };
    let asked = state;
    let state = state.clone();
    let work = tokio::task::spawn_blocking(move || {
        let Received { bytes, mut share } = received;
        let peer = caller.peer;
        let limits = body::limits(&state);
        let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
            let plain = ingest::read_body(&*bytes, &limits)?;
            // What a body is in memory counts, not what it was on the wire.
            share.grow_to(plain.len()).map_err(|_| Refusal::Saturated)?;
            Bytes::from(plain)
        } else {
            bytes
        };
        let format = format(&bytes)?;
        let mapped = ingest::map(format, &bytes, &limits)?;
        let metric_points = mapped.metric_points;
        let counted = state.metrics().mapped(&mapped);
        let contract = state.contract().map(|contract| AtIngest::check(contract, &mapped.events));
        let unmet = rule == Rule::Whole && contract.as_ref().is_some_and(|said| said.rejected() > 0);
        let done = if unmet || (rule != Rule::Partial && !mapped.rejected.is_empty()) {
            Taken {
                format,
                stored: None,
                rejected: mapped.rejected,
                warnings: mapped.warnings,
                metric_points,
                contract,
            }
        } else {
            // In the same batch: what is quarantined is never there without the entry that says so.
            let facts = || contract.iter().flat_map(AtIngest::facts);
            let (rejected, warnings, mut batch) = split(mapped, peer.as_deref())?;
            batch.records.extend(facts());
            drop(core);
            let again = || -> Result<_, Refusal> {
                let mut batch = split(ingest::map(format, &bytes, &limits)?, peer.as_deref())?.2;
                batch.records.extend(facts());
                Ok(batch)
            };
            let start_ns = state.now_ns();
            let stored = append::append(state.ledger(), batch, again);
            let end_ns = state.now_ns();
            traced(&state, caller.span, format, &stored, start_ns, end_ns);
            let stored = stored?;
            counted.appended(&stored, end_ns.saturating_sub(start_ns));
            tracing::debug!(
                format = format.as_str(),
                appended = stored.appended,
                duplicates = stored.duplicates,
                size = stored.size,
                "durable"
            );
            Taken { format, stored: Some(stored), rejected, warnings, metric_points, contract }
        };
        drop(share);
        Ok(done)
    });
    let result = work.await.unwrap_or(Err(Refusal::Panicked));
    if let Err(refusal) = &result {
        refusal.log();
        if matches!(refusal, Refusal::Append(AppendError::Poisoned { .. })) {
            asked.poison();
        }
    }
    result
}

/// Tells the server's own trace about an append.
fn traced(
    state: &AppState,
    above: Option<Context>,
    format: Format,
    stored: &Result<Stored, Refusal>,
    start_ns: u64,
    end_ns: u64,
) {
    let (Some(telemetry), Some(above)) = (state.telemetry(), above) else { return };
    let Some(context) = telemetry.begin(Some(above)) else { return };
    let mut attributes = vec![("verdict.format", Attribute::Text(format.as_str().to_owned()))];
    if let Ok(stored) = stored {
        let number = |value: u64| Attribute::Number(i64::try_from(value).unwrap_or(i64::MAX));
        attributes.push(("verdict.appended", number(stored.appended)));
        attributes.push(("verdict.duplicates", number(stored.duplicates)));
        attributes.push(("verdict.ledger.size", number(stored.size)));
    }
    telemetry.end(Ended {
        context,
        parent: Some(above.span_id),
        name: "append".to_owned(),
        is_server: false,
        start_ns,
        end_ns,
        is_error: stored.is_err(),
        attributes,
    });
}

fn split(
    mut mapped: Mapped,
    peer: Option<&str>,
) -> Result<(Vec<Rejected>, Vec<Warning>, verdict_ledger::Batch), IngestError> {
    let rejected = std::mem::take(&mut mapped.rejected);
    let warnings = std::mem::take(&mut mapped.warnings);
    Ok((rejected, warnings, mapped.into_batch(peer)?))
}
