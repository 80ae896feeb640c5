//! Everything about an append that does not depend on its position, done in the caller's thread.

use serde_json::{Map, Value};

use super::error::AppendError;
use super::seal::{SealError, Sealed, Sealer, Subject};
use crate::canon;
use crate::disclosure::{self, Disclosure};
use crate::entry::{ENTRY_BYTES_MAX, ENVELOPE_BYTES_MAX};
use crate::event::ACTION_REPORTED;
use crate::id::{Digest, TraceId};
use crate::record::{Batch, NewRecord, Stream};

/// Longest id, type, stream name and indexed text.
const TEXT_BYTES_MAX: usize = 512;

/// Longest text that is indexed as it is; longer ones are cut for the index only.
const INDEXED_BYTES_MAX: usize = 200;

/// Most records in one batch.
pub(super) const BATCH_RECORDS_MAX: usize = 100_000;

/// Most bytes of raw bodies in one batch.
const BATCH_BLOB_BYTES_MAX: usize = 256 << 20;

/// zstd level for raw bodies.
const BLOB_ZSTD_LEVEL: i32 = 3;

/// One record, ready for its position.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Keyed digest of the id.
    pub(super) id: [u8; 16],
    /// Keyed digest of the content.
    pub(super) content: [u8; 16],
    pub(super) kind: String,
    pub(super) stream: Option<Stream>,
    /// Canonical body.
    pub(super) body: Vec<u8>,
    pub(super) disclosures: Vec<Sealed>,
    pub(super) subject: Option<Subject>,
    pub(super) trace: Option<TraceId>,
    pub(super) agent: Option<String>,
    pub(super) tool: Option<String>,
    pub(super) effect: Option<String>,
}

/// A batch, ready for its position.
#[derive(Debug, Default)]
pub(super) struct PreparedBatch {
    pub(super) records: Vec<Prepared>,
    /// Digest and zstd frame of each raw body.
    pub(super) blobs: Vec<(Digest, Vec<u8>)>,
    /// Bytes that it will take, roughly.
    pub(super) bytes: usize,
}

pub(super) fn prepare(batch: Batch, sealer: &Sealer, origin: &str) -> Result<PreparedBatch, AppendError> {
    let too_large = |what, got, max| Err(AppendError::BatchTooLarge { what, got, max });
    if batch.records.len() > BATCH_RECORDS_MAX {
        return too_large("records", batch.records.len(), BATCH_RECORDS_MAX);
    }
    let blob_bytes: usize = batch.blobs.iter().map(Vec::len).sum();
    if blob_bytes > BATCH_BLOB_BYTES_MAX {
        return too_large("bytes of raw bodies", blob_bytes, BATCH_BLOB_BYTES_MAX);
    }
    // Everything is checked before anything is sealed: a refused batch must leave no data keys behind.
    let records = batch.records.into_iter().enumerate();
    let checked =
        records.map(|(index, record)| check(index, record, sealer, origin)).collect::<Result<Vec<_>, _>>()?;
    let mut prepared = PreparedBatch::default();
    for (mut record, subject, disclosures) in checked {
        record.disclosures = seal(&disclosures, subject, sealer)?;
        record.subject = (!disclosures.is_empty()).then_some(subject);
        prepared.bytes += record.body.len() + record.disclosures.iter().map(|d| d.row.len()).sum::<usize>();
        prepared.records.push(record);
    }
    for blob in batch.blobs {
        let packed = zstd::bulk::compress(&blob, BLOB_ZSTD_LEVEL)
            .map_err(|error| AppendError::Storage { detail: error.to_string(), full: false })?;
        prepared.bytes += packed.len();
        prepared.blobs.push((Digest::of(&blob), packed));
    }
    Ok(prepared)
}

/// Checks a record and prepares all of it but its disclosures.
fn check(
    index: usize,
    record: NewRecord,
    sealer: &Sealer,
    origin: &str,
) -> Result<(Prepared, Subject, Vec<Disclosure>), AppendError> {
    let id = record.id().filter(|id| is_text(id)).map(str::to_owned);
    let id = id.ok_or(AppendError::Id { index, max: TEXT_BYTES_MAX })?;
    let name = |what| AppendError::Name { index, id: id.clone(), what, max: TEXT_BYTES_MAX };
    if !is_text(&record.kind) {
        return Err(name("the type"));
    }
    if record.stream.as_ref().is_some_and(|stream| !is_text(&stream.id) || !is_text(&stream.seq)) {
        return Err(name("the stream"));
    }
    let canon = |source| AppendError::Canon { index, id: id.clone(), source };

    let content = content_digest(&record, sealer).map_err(canon)?;
    let subject = sealer.subject(&record.body);
    let indexed = Indexed::of(&record.kind, &record.body);
    let (body, disclosures) = disclosure::split(record.body, sealer.entropy())
        .map_err(|source| AppendError::Disclosure { index, id: id.clone(), source })?;
    let body = canon::entry_bytes(&Value::Object(body)).map_err(canon)?;

    let stream_bytes =
        record.stream.as_ref().map_or(0, |stream| 2 * (stream.id.len() + stream.seq.len()) + 32);
    let max = ENTRY_BYTES_MAX
        .saturating_sub(ENVELOPE_BYTES_MAX + 2 * origin.len() + 2 * record.kind.len() + stream_bytes);
    if body.len() > max {
        return Err(AppendError::TooLarge { index, id, bytes: body.len(), max });
    }
    let prepared = Prepared {
        id: sealer.index_digest(&[b"id", id.as_bytes()]),
        content,
        kind: record.kind,
        stream: record.stream,
        body,
        subject: None,
        disclosures: Vec::new(),
        trace: indexed.trace,
        agent: indexed.agent,
        tool: indexed.tool,
        effect: indexed.effect,
    };
    Ok((prepared, subject, disclosures))
}

fn seal(disclosures: &[Disclosure], subject: Subject, sealer: &Sealer) -> Result<Vec<Sealed>, AppendError> {
    disclosures
        .iter()
        .map(|disclosure| {
            let digest = disclosure::raw_digest(disclosure.encoded());
            sealer.seal(subject, digest, disclosure.encoded()).map_err(|error| match error {
                SealError::Entropy(error) => AppendError::Entropy(error),
                other => AppendError::Storage { detail: other.to_string(), full: false },
            })
        })
        .collect()
}

/// Tells whether a text can be a name: not empty, bounded, no control characters (index keys end with NUL).
fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Digests what was said, not how it came: the same statement in another request or from another peer is the same.
fn content_digest(record: &NewRecord, sealer: &Sealer) -> Result<[u8; 16], canon::CanonError> {
    let mut body = record.body.clone();
    if let Some(Value::Object(source)) = body.get_mut("source") {
        for volatile in ["raw", "path", "peer"] {
            source.remove(volatile);
        }
    }
    let bytes = canon::entry_bytes(&Value::Object(body))?;
    Ok(sealer.index_digest(&[b"content", record.kind.as_bytes(), &bytes]))
}

/// What the indexes find an event by.
#[derive(Debug, Default)]
pub(super) struct Indexed {
    pub(super) trace: Option<TraceId>,
    pub(super) agent: Option<String>,
    pub(super) tool: Option<String>,
    pub(super) effect: Option<String>,
}

impl Indexed {
    /// Reads them from a body, before or after its disclosures were split off: none of them is disclosed.
    pub(super) fn of(kind: &str, body: &Map<String, Value>) -> Self {
        if kind != ACTION_REPORTED {
            return Self::default();
        }
        let member = |object: &str, name: &str| text(body.get(object)?.as_object()?, name);
        Self {
            trace: body.get("trace_id").and_then(Value::as_str).and_then(|id| id.parse().ok()),
            agent: member("agent", "name").or_else(|| member("agent", "id")),
            tool: member("action", "name"),
            effect: member("decision", "effect"),
        }
    }
}

fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(indexed_text)
}

/// Returns a text as the indexes hold it: without NUL, which ends it in a key, and cut.
pub(super) fn indexed_text(text: &str) -> String {
    let mut cut: String = text.chars().filter(|c| *c != '\0').collect();
    let mut end = cut.len().min(INDEXED_BYTES_MAX);
    while !cut.is_char_boundary(end) {
        end -= 1;
    }
    cut.truncate(end);
    cut
}
