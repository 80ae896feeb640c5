//! What is looked up when somebody asks for the numbers: nothing here is counted as it happens.

use std::path::Path;

use super::AppState;
use super::error::PageError;

/// Looks everything up.
pub(crate) fn look_up(state: &AppState, ready: bool) -> Result<(), PageError> {
    let gauges = &state.metrics().gauges;
    let now_ns = state.now_ns();
    let head = state.ledger().head();
    gauges.ready.set(i64::from(ready));
    gauges.inflight_bytes.set(signed(state.budget().taken()));
    let limits = state.limits();
    gauges
        .connections
        .set(signed(limits.connections_max.saturating_sub(state.connections().available_permits())));
    gauges
        .requests
        .set(signed(limits.ingest_requests_max.saturating_sub(state.ingests().available_permits())));
    gauges.entries.set(i64::try_from(head.size).unwrap_or(i64::MAX));
    let signed_size = state
        .ledger()
        .checkpoint()?
        .and_then(|note| state.ledger().verify_checkpoint(&note).ok())
        .map_or(0, |checkpoint| checkpoint.size);
    gauges.unsigned_entries.set(i64::try_from(head.size.saturating_sub(signed_size)).unwrap_or(i64::MAX));
    let oldest = if signed_size < head.size { state.ledger().record(signed_size)? } else { None };
    gauges.checkpoint_lag.set(oldest.map_or(0.0, |record| seconds(now_ns.saturating_sub(record.ts_ns))));
    if let Some(verified) = state.verified() {
        gauges.fsck_clean.set(i64::from(verified.report.is_clean()));
        gauges.fsck_age.set(seconds(now_ns.saturating_sub(verified.at_ns)));
    } else {
        gauges.fsck_clean.set(-1);
        gauges.fsck_age.set(-1.0);
    }
    gauges.tokens.set(state.gate().map_or(0, |gate| signed(gate.in_force(now_ns))));
    gauges.disk_bytes.set(files(&state.ledger().dir().join("db")));
    gauges.resident_bytes.set(resident().unwrap_or(0));
    Ok(())
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

/// Sums the files of a directory; the database keeps no others in it.
fn files(dir: &Path) -> i64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len());
    i64::try_from(bytes.fold(0, u64::saturating_add)).unwrap_or(i64::MAX)
}

/// Reads the resident memory of this process, where the system tells it.
fn resident() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}
