//! Numbers about the server, for Prometheus. Every label has a few known values; none comes from outside.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use verdict_ledger::ingest::Mapped;

use super::ingest::{Refusal, Stored};

/// Upper ends of the buckets of append latency, seconds.
const APPEND_SECONDS: [f64; 12] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// The same of requests.
const REQUEST_SECONDS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecordLabels {
    format: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// The numbers that are counted as things happen, and those that are set when they are asked for.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabel, Histogram, fn() -> Histogram>,
    records: Family<RecordLabels, Counter>,
    refused: Family<ReasonLabel, Counter>,
    denied: Family<ReasonLabel, Counter>,
    appends: Histogram,
    /// Set when asked for.
    pub(crate) gauges: Gauges,
}

/// What is looked up when somebody asks.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) inflight_bytes: Gauge<i64, AtomicI64>,
    pub(crate) connections: Gauge<i64, AtomicI64>,
    pub(crate) requests: Gauge<i64, AtomicI64>,
    pub(crate) entries: Gauge<i64, AtomicI64>,
    pub(crate) unsigned_entries: Gauge<i64, AtomicI64>,
    pub(crate) checkpoint_lag: Gauge<f64, AtomicU64>,
    pub(crate) disk_bytes: Gauge<i64, AtomicI64>,
    pub(crate) fsck_clean: Gauge<i64, AtomicI64>,
    pub(crate) fsck_age: Gauge<f64, AtomicU64>,
    pub(crate) tokens: Gauge<i64, AtomicI64>,
    pub(crate) ready: Gauge<i64, AtomicI64>,
    pub(crate) resident_bytes: Gauge<i64, AtomicI64>,
}

fn request_histogram() -> Histogram {
    Histogram::new(REQUEST_SECONDS)
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("verdict");
        let requests = Family::default();
        let durations: Family<RouteLabel, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(request_histogram);
        let (records, refused, denied) = (Family::default(), Family::default(), Family::default());
        let appends = Histogram::new(APPEND_SECONDS);
        let gauges = Gauges::default();
        registry.register("http_requests", "Requests answered, of HTTP and gRPC", requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time from the headers of a request to those of its answer",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("ingest_records", "Records by what became of them", records.clone());
        registry.register("ingest_refused", "Requests that were not taken, by reason", refused.clone());
        registry.register("auth_denied", "Requests of callers who are not known or may not", denied.clone());
        registry.register_with_unit(
            "append_duration",
            "Time from handing a batch to the ledger until it is durable",
            Unit::Seconds,
            appends.clone(),
        );
        let mut gauge =
            |name: &str, help: &str, unit: Option<Unit>, metric: &Gauge<i64, AtomicI64>| match unit {
                Some(unit) => registry.register_with_unit(name, help, unit, metric.clone()),
                None => registry.register(name, help, metric.clone()),
            };
        gauge("ingest_inflight", "Request bodies in memory", Some(Unit::Bytes), &gauges.inflight_bytes);
        gauge("connections_open", "Open connections", None, &gauges.connections);
        gauge("ingest_requests_running", "Ingest requests that are being worked on", None, &gauges.requests);
        gauge("ledger_entries", "Entries in the ledger", None, &gauges.entries);
        gauge(
            "checkpoint_unsigned_entries",
            "Entries that no checkpoint covers yet",
            None,
            &gauges.unsigned_entries,
        );
        gauge("ledger_disk", "Size of the database files", Some(Unit::Bytes), &gauges.disk_bytes);
        gauge(
            "fsck_clean",
            "1: the last verification of everything found nothing; 0: it did; -1: there was none yet",
            None,
            &gauges.fsck_clean,
        );
        gauge("tokens_in_force", "API tokens that work", None, &gauges.tokens);
        gauge("ready", "1 when the server is ready, as /readyz says", None, &gauges.ready);
        gauge("process_resident_memory", "Resident memory", Some(Unit::Bytes), &gauges.resident_bytes);
        registry.register_with_unit(
            "checkpoint_lag",
            "Age of the oldest entry that no checkpoint covers; 0 when all are covered",
            Unit::Seconds,
            gauges.checkpoint_lag.clone(),
        );
        registry.register_with_unit(
            "fsck_age",
            "Time since the last verification of everything ended; -1: there was none yet",
            Unit::Seconds,
            gauges.fsck_age.clone(),
        );
        Self { registry, requests, durations, records, refused, denied, appends, gauges }
    }

    /// Counts an answer. `route` is the pattern that matched, never the path.
    pub(crate) fn answered(
        &self,
        route: Option<&str>,
        method: &axum::http::Method,
        status: u16,
        seconds: f64,
    ) {
        let route = route.unwrap_or("unmatched").to_owned();
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            _ => "other",
        };
        self.durations.get_or_create(&RouteLabel { route: route.clone() }).observe(seconds);
        self.requests.get_or_create(&RequestLabels { route, method, status }).inc();
    }

    /// Counts what a mapper made of a body, and returns where what the ledger makes of it is counted.
    pub(crate) fn mapped(&self, mapped: &Mapped) -> FormatMetrics<'_> {
        let counted = FormatMetrics { metrics: self, format: mapped.format.as_str() };
        counted.add("rejected", mapped.rejected.len() as u64);
        counted
    }

    /// Counts a request that was not taken.
    pub(crate) fn refusal(&self, refusal: &Refusal) {
        self.refused(match refusal {
            Refusal::TooLarge { .. } => "too_large",
            Refusal::Encoding { .. } | Refusal::MediaType { .. } => "media_type",
            Refusal::NotGzip | Refusal::Malformed { .. } | Refusal::Ingest(_) => "malformed",
            Refusal::Incomplete => "incomplete",
            Refusal::Slow | Refusal::Deadline => "slow",
            Refusal::Saturated => "saturated",
            Refusal::Append(_) => "append",
            Refusal::Panicked => "internal",
        });
    }

    /// Counts a request that was not taken.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a caller that was turned away.
    pub(crate) fn denied(&self, reason: &'static str) {
        self.denied.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Writes the text that Prometheus reads.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Counters of one format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FormatMetrics<'m> {
    metrics: &'m Metrics,
    format: &'static str,
}

impl FormatMetrics<'_> {
    fn add(&self, result: &'static str, count: u64) {
        if count > 0 {
            let labels = RecordLabels { format: self.format, result };
            self.metrics.records.get_or_create(&labels).inc_by(count);
        }
    }

    /// Counts what the ledger did with a batch.
    pub(crate) fn appended(&self, stored: &Stored, took_ns: u64) {
        self.add("appended", stored.appended);
        self.add("duplicate", stored.duplicates);
        self.add("conflict", stored.conflicts);
        self.add("refused", stored.refused.len() as u64);
        self.metrics.appends.observe(std::time::Duration::from_nanos(took_ns).as_secs_f64());
    }
}
