//! Ingest: pure mappers from what clients send to events.
//!
//! A body goes in, [`Mapped`] comes out: the events, what was odd about the body, and what in it could not be
//! taken. Nothing here reads a clock, a random number or a file; the same bytes always give the same events.
//!
//! # Invariants
//! - What was said is carried, nothing is filled in: no decision in the source means no decision in the event.
//! - Nothing is dropped silently. Whatever a profile does not consume stays in `attributes`; the raw body is kept
//!   by digest; what cannot be taken is named in [`Mapped::rejected`] with its place.
//! - Whether a body with rejected records is appended is the caller's decision, never made here.
//! - Everything from outside is bounded by [`Limits`] before memory is spent on it.
//!
//! `docs/events.md` describes the native format, the profiles and how to add one.

mod aisecops;
mod body;
mod check;
mod cloudevents;
mod decimal;
mod fields;
mod format;
mod json;
mod langchain;
mod lines;
mod locate;
mod mcp;
mod native;
mod opa;
mod otlp;
mod profile;
mod records;
mod shape;
mod time;

use std::collections::BTreeMap;
use std::fmt;

pub use body::read_body;
pub use check::Reason;
pub use cloudevents::structured as structured_cloudevent;
pub use format::{Format, Signal};
pub use json::JsonError;
pub use locate::{Leaf, LocateError, Located, Origin, locate, record as locate_record};

use crate::event::Event;
use crate::id::Digest;
use crate::record::{Batch, NewRecord, Stream};

/// Bounds on everything that comes from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest body as it arrives.
    pub body_bytes_max: usize,
    /// Largest body after decompression.
    pub decompressed_bytes_max: usize,
    /// Longest line of a line-based format.
    pub line_bytes_max: usize,
    /// Most events in one body.
    pub events_max: usize,
    /// Deepest nesting of a JSON document; at most 120.
    pub json_depth_max: usize,
    /// Most values in one JSON document, and most messages in one protobuf body.
    pub nodes_max: usize,
    /// Largest event without its arguments, result, error message, user and attributes: the part that every
    /// proof carries and that nothing can erase.
    pub statement_bytes_max: usize,
    /// Most distinct warnings kept for one body.
    pub warnings_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // What OTLP recommends for a receiver.
            body_bytes_max: 64 << 20,
            decompressed_bytes_max: 64 << 20,
            line_bytes_max: 4 << 20,
            events_max: 250_000,
            json_depth_max: 96,
            nodes_max: 4_000_000,
            // An entry is at most 65,535 bytes and also holds the envelope and the disclosure digests.
            statement_bytes_max: 48 << 10,
            warnings_max: 64,
        }
    }
}

/// What a body says.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// Format that the body was read as.
    pub format: Format,
    /// The events, in the order of the body.
    pub events: Vec<Event>,
    /// The body after decompression: the bytes that `source.path` points into.
    pub body: Vec<u8>,
    /// What was odd but taken.
    pub warnings: Vec<Warning>,
    /// What could not be taken.
    pub rejected: Vec<Rejected>,
    /// Data points of metrics, which are no events and are not kept.
    pub metric_points: u64,
    /// The producer's own counters, by the position of the event; few formats have any.
    pub streams: BTreeMap<usize, Stream>,
}

impl Mapped {
    /// Makes the batch to append: every record points at the raw body, which the batch carries, and names the
    /// authenticated sender. A body without events makes an empty batch.
    pub fn into_batch(self, peer: Option<&str>) -> Result<Batch, IngestError> {
        if self.events.is_empty() {
            return Ok(Batch::default());
        }
        let raw = Digest::of(&self.body);
        let mut records = Vec::with_capacity(self.events.len());
        let mut streams = self.streams;
        for (index, mut event) in self.events.into_iter().enumerate() {
            event.source.raw = Some(raw);
            event.source.peer = peer.map(str::to_owned);
            let mut record = NewRecord::from_event(&event)
                .map_err(|source| IngestError::Record { id: event.id.clone(), source })?;
            record.stream = streams.remove(&index);
            records.push(record);
        }
        Ok(Batch { records, blobs: vec![self.body] })
    }
}

/// Something odd in a body that was taken anyway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where it was seen first.
    pub place: String,
    /// What.
    pub message: String,
    /// How often.
    pub count: u64,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if self.count > 1 { write!(f, " ({} times)", self.count) } else { Ok(()) }
    }
}

/// A record that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where: `line 12`, `resourceSpans/0/scopeSpans/0/spans/3`.
    pub place: String,
    /// Byte offset in the body after decompression, where it is known.
    pub offset: Option<usize>,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{} (byte {offset}): {}", self.place, self.reason),
            None => write!(f, "{}: {}", self.place, self.reason),
        }
    }
}

/// Why a body as a whole cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// Reading the body failed.
    #[error("reading the body failed")]
    Read {
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The body is too large.
    #[error("the body is larger than {limit} bytes; send smaller batches")]
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The body is too large once decompressed.
    #[error("the body is larger than {limit} bytes after decompression; send smaller batches")]
    DecompressedTooLarge {
        /// The limit.
        limit: usize,
    },
    /// Damaged or truncated gzip.
    #[error("the body is damaged or truncated gzip: {source}")]
    Gzip {
        /// Cause.
        source: std::io::Error,
    },
    /// gzip inside gzip.
    #[error("the body is compressed twice; compress it once")]
    NestedGzip,
    /// More events than one body may hold.
    #[error("the body holds more than {limit} events; send smaller batches")]
    TooManyEvents {
        /// The limit.
        limit: usize,
    },
    /// A document that is not strict JSON.
    #[error("line {line}: {source}")]
    Json {
        /// Line on which the document starts.
        line: usize,
        /// Cause, with the offset inside the body.
        source: JsonError,
    },
    /// JSON that is not OTLP.
    #[error("{path}: {message}")]
    OtlpJson {
        /// Path inside the document.
        path: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// Bytes that are not the OTLP protobuf message they are said to be.
    #[error("{path} (byte {offset}): {message}; is this an OTLP {signal} request?")]
    Protobuf {
        /// Path inside the message.
        path: String,
        /// Byte offset in the body.
        offset: usize,
        /// What is wrong.
        message: &'static str,
        /// Message expected.
        signal: Signal,
    },
    /// A protobuf body with more parts than memory is spent on.
    #[error("{path}: the body holds more than {limit} messages; send smaller batches")]
    TooManyMessages {
        /// Place of the one too many.
        path: String,
        /// The limit.
        limit: usize,
    },
    /// An event that does not serialise.
    #[error("event `{id}` has no JSON form")]
    Record {
        /// Its id.
        id: String,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

/// Maps a body of a known format to events. gzip is undone first, told by its magic number.
pub fn map(format: Format, bytes: &[u8], limits: &Limits) -> Result<Mapped, IngestError> {
    let body = body::decompress(bytes.to_vec(), limits)?;
    let mut sink = Sink::new(limits);
    match format {
        Format::Native => native::map(&body, &mut sink)?,
        Format::AiSecOps => aisecops::map(&body, &mut sink)?,
        Format::CloudEvents => cloudevents::map(&body, &mut sink)?,
        Format::OpaDecisions => opa::map(&body, &mut sink)?,
        Format::Mcp => mcp::map(&body, &mut sink)?,
        Format::LangChain => langchain::map(&body, &mut sink)?,
        Format::OtlpJson => otlp::map_json(&body, &mut sink)?,
        Format::OtlpProtobuf(signal) => otlp::map_protobuf(signal, &body, &mut sink)?,
    }
    let Sink { events, warnings, rejected, streams, metric_points, .. } = sink;
    Ok(Mapped { format, events, body, warnings, rejected, metric_points, streams })
}

/// Collects what a mapper finds and holds it to the limits.
struct Sink<'l> {
    limits: &'l Limits,
    events: Vec<Event>,
    warnings: Vec<Warning>,
    rejected: Vec<Rejected>,
    ids: check::Ordinals,
    metric_points: u64,
    streams: BTreeMap<usize, Stream>,
}

impl<'l> Sink<'l> {
    fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            events: Vec::new(),
            warnings: Vec::new(),
            rejected: Vec::new(),
            ids: check::Ordinals::default(),
            metric_points: 0,
            streams: BTreeMap::new(),
        }
    }

    /// Takes an event, or says why it cannot be kept. The caller rejects it, and has made sure that there is room.
    fn take(&mut self, event: Event) -> Result<(), Reason> {
        check::statement(&event, self.limits.statement_bytes_max)?;
        self.events.push(event);
        Ok(())
    }

    /// Takes an event that names its place, or rejects it when its statement is too large to be kept.
    fn placed_event(&mut self, event: Event) -> Result<(), IngestError> {
        self.room()?;
        match check::statement(&event, self.limits.statement_bytes_max) {
            Ok(()) => self.events.push(event),
            Err(reason) => {
                let place = event.source.path.unwrap_or_default();
                self.rejected.push(Rejected { place, offset: None, reason });
            }
        }
        Ok(())
    }

    fn reject(&mut self, place: &str, offset: Option<usize>, reason: Reason) -> Result<(), IngestError> {
        self.room()?;
        self.rejected.push(Rejected { place: place.to_owned(), offset, reason });
        Ok(())
    }

    /// Stops a body that holds more than it may, after a record was taken.
    fn room_left(&self) -> Result<(), IngestError> {
        let limit = self.limits.events_max;
        if self.events.len().saturating_add(self.rejected.len()) > limit {
            return Err(IngestError::TooManyEvents { limit });
        }
        Ok(())
    }

    /// Rejected records take memory too and count against the same limit.
    fn room(&self) -> Result<(), IngestError> {
        let limit = self.limits.events_max;
        if self.events.len().saturating_add(self.rejected.len()) >= limit {
            return Err(IngestError::TooManyEvents { limit });
        }
        Ok(())
    }

    fn warn(&mut self, place: &str, message: impl Into<String>) {
        let message = message.into();
        if let Some(known) = self.warnings.iter_mut().find(|warning| warning.message == message) {
            known.count = known.count.saturating_add(1);
        } else if self.warnings.len() < self.limits.warnings_max {
            self.warnings.push(Warning { place: place.to_owned(), message, count: 1 });
        } else if let Some(last) = self.warnings.last_mut() {
            "further warnings were left out".clone_into(&mut last.message);
            last.count = last.count.saturating_add(1);
        }
    }
}
