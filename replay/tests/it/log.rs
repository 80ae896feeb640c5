//! Ledgers with recorded traffic, for the modules that read one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use verdict_ledger::clock::SteppingClock;
use verdict_ledger::event::Event;
use verdict_ledger::ingest::{self, Format};
use verdict_ledger::{Batch, InitOptions, Ledger, NewRecord};
use verdict_replay::policy::{Bundle, registry};

/// A ledger in a directory that goes with it.
pub(crate) struct Log {
    pub(crate) ledger: Ledger,
    _dir: tempfile::TempDir,
}

pub(crate) fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path)
}

impl Log {
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SteppingClock::starting_at(1_793_800_000_000_000_000));
        let ledger = Ledger::init(&dir.path().join("l"), &InitOptions::new("example/t"), clock).unwrap();
        Self { ledger, _dir: dir }
    }

    /// Both shops, and both versions of their policy.
    pub(crate) fn harbor() -> Self {
        let log = Self::empty();
        for file in ["harbor-goods", "harbor-outlet"] {
            let bytes = std::fs::read(testdata(&format!("native/{file}.ndjson"))).unwrap();
            log.ingest(Format::Native, &bytes);
        }
        for version in ["v1", "v2"] {
            let bundle = Bundle::load(&testdata("policies").join(version)).unwrap();
            registry::publish(&log.ledger, &bundle, "tests", "").unwrap();
        }
        log
    }

    /// Made events.
    pub(crate) fn of(events: &[Value]) -> Self {
        let log = Self::empty();
        let records: Vec<NewRecord> = crate::sample::records(events)
            .into_iter()
            .map(|record| {
                let event: &Event = record.event.as_deref().unwrap();
                NewRecord::from_event(event).unwrap()
            })
            .collect();
        for part in records.chunks(2_000) {
            log.ledger.append(Batch { records: part.to_vec(), blobs: Vec::new() }).unwrap();
        }
        log
    }

    pub(crate) fn ingest(&self, format: Format, bytes: &[u8]) {
        let mapped = ingest::map(format, bytes, &ingest::Limits::default()).unwrap();
        assert!(mapped.rejected.is_empty(), "{:?}", mapped.rejected);
        self.ledger.append(mapped.into_batch(None).unwrap()).unwrap();
    }

    pub(crate) fn size(&self) -> u64 {
        self.ledger.head().size
    }

    /// Position of an event.
    pub(crate) fn seq(&self, id: &str) -> u64 {
        self.ledger.find_id(id).unwrap()[0]
    }
}
