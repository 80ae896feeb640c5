//! Everything about an append that does not depend on its position, done in the caller's thread.

use std::ops::Range;

use rayon::prelude::*;
use serde_json::{Map, Value};

use super::codec::Content;
use super::erasure::Changes;
use super::error::AppendError;
use super::seal::{SealError, Sealer, Subject};
use super::terms::Terms;
use crate::canon::{self, CanonError};
use crate::disclosure::{self, Hidden};
use crate::entry::{ENTRY_BYTES_MAX, ENVELOPE_BYTES_MAX};
use crate::id::Digest;
use crate::record::{Batch, NewRecord, Stream};

/// Longest id, type and stream name.
const TEXT_BYTES_MAX: usize = 512;

/// Most records in one batch.
pub(super) const BATCH_RECORDS_MAX: usize = 100_000;

/// Most bytes of raw bodies in one batch.
const BATCH_BLOB_BYTES_MAX: usize = 256 << 20;

/// Preparing takes some ten microseconds a record, waking a thread for it about as long.
const ITEMS_A_TASK: usize = 32;

/// Random bytes that an entry needs: the secret of its salts, and the nonce of its values.
const SEED_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// zstd level for raw bodies.
const BLOB_ZSTD_LEVEL: i32 = 3;

/// One record, ready for its position.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Keyed digest of the id.
    pub(super) id: [u8; 16],
    /// Keyed digest of the content.
    pub(super) content: Content,
    pub(super) kind: String,
    pub(super) stream: Option<Stream>,
    /// Canonical body.
    pub(super) body: Vec<u8>,
    /// Row of `disclosures`, and whose data key it is sealed with; `None` when nothing is disclosed.
    pub(super) disclosures: Option<(Subject, Vec<u8>)>,
    pub(super) terms: Terms,
}

impl Prepared {
    fn bytes(&self) -> usize {
        self.body.len() + self.disclosures.as_ref().map_or(0, |(_, row)| row.len()) + self.terms.len()
    }
}

/// A batch, ready for its position.
#[derive(Debug, Default)]
pub(super) struct PreparedBatch {
    pub(super) records: Vec<Prepared>,
    /// Digest and zstd frame of each raw body.
    pub(super) blobs: Vec<(Digest, Vec<u8>)>,
    /// What it takes out of the database; only an erasure does.
    pub(super) changes: Changes,
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
    // One call for the whole batch: each costs as much as encrypting a value does.
    let mut random = vec![[0u8; SEED_BYTES + NONCE_BYTES]; batch.records.len()];
    sealer.entropy().fill(random.as_flattened_mut())?;
    let records: Vec<_> = batch.records.into_iter().zip(random).enumerate().collect();
    let checked =
        on_all_cores(records, |(index, (record, random))| check(index, record, &random, sealer, origin));
    let checked = checked.into_iter().collect::<Result<Vec<_>, _>>()?;
    let sealed = on_all_cores(checked, |(mut record, unsealed)| {
        if let Some(Unsealed { subject, hidden, nonce }) = unsealed {
            let row = sealer.seal(subject, &hidden, nonce).map_err(|error| match error {
                SealError::Entropy(error) => AppendError::Entropy(error),
                other => AppendError::Storage { detail: other.to_string(), full: false },
            })?;
            record.disclosures = Some((subject, row));
        }
        Ok(record)
    });
    let records = sealed.into_iter().collect::<Result<Vec<_>, AppendError>>()?;
    let bytes = records.iter().map(Prepared::bytes).sum();
    let mut prepared = PreparedBatch { records, bytes, ..PreparedBatch::default() };
    for blob in batch.blobs {
        let packed = zstd::bulk::compress(&blob, BLOB_ZSTD_LEVEL)
            .map_err(|error| AppendError::Storage { detail: error.to_string(), full: false })?;
        prepared.bytes += packed.len();
        prepared.blobs.push((Digest::of(&blob), packed));
    }
    Ok(prepared)
}

/// Works on many things at once where there are enough of them to be worth it; keeps their order.
fn on_all_cores<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    items.into_par_iter().with_min_len(ITEMS_A_TASK).map(work).collect()
}

/// Estimates the bytes of a batch without preparing it; `None` when there are more than `max`.
pub(super) fn weight(batch: &Batch, max: usize) -> Option<usize> {
    let mut left = max;
    for blob in &batch.blobs {
        left = left.checked_sub(blob.len())?;
    }
    for record in &batch.records {
        left = members_weight(&record.body, left)?;
    }
    Some(max - left)
}

fn members_weight(members: &Map<String, Value>, left: usize) -> Option<usize> {
    members
        .iter()
        .try_fold(left, |left, (name, value)| value_weight(value, left.checked_sub(name.len() + 4)?))
}

fn value_weight(value: &Value, left: usize) -> Option<usize> {
    match value {
        Value::String(text) => left.checked_sub(text.len() + 2),
        Value::Array(items) => items.iter().try_fold(left, |left, item| value_weight(item, left)),
        Value::Object(members) => members_weight(members, left),
        Value::Null | Value::Bool(_) | Value::Number(_) => left.checked_sub(8),
    }
}

/// Disclosed values that wait for the rest of their batch to be checked.
struct Unsealed {
    subject: Subject,
    hidden: Hidden,
    nonce: [u8; 12],
}

/// Checks a record and prepares all of it but the encryption of its disclosed values.
fn check(
    index: usize,
    record: NewRecord,
    random: &[u8; SEED_BYTES + NONCE_BYTES],
    sealer: &Sealer,
    origin: &str,
) -> Result<(Prepared, Option<Unsealed>), AppendError> {
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

    let NewRecord { kind, mut body, stream } = record;
    let subject = sealer.subject(&body);
    let (mut seed, mut nonce) = ([0; SEED_BYTES], [0; NONCE_BYTES]);
    let (for_seed, for_nonce) = random.split_at(SEED_BYTES);
    seed.copy_from_slice(for_seed);
    nonce.copy_from_slice(for_nonce);
    let hidden = disclosure::hide(&mut body, &seed).map_err(|source| match source {
        disclosure::DisclosureError::Canon(source) => canon(source),
        source => AppendError::Disclosure { index, id: id.clone(), source },
    })?;
    let statement = StatementBytes::of(&body).map_err(canon)?;

    let stream_bytes = stream.as_ref().map_or(0, |stream| 2 * (stream.id.len() + stream.seq.len()) + 32);
    let max =
        ENTRY_BYTES_MAX.saturating_sub(ENVELOPE_BYTES_MAX + 2 * origin.len() + 2 * kind.len() + stream_bytes);
    if statement.body.len() > max {
        return Err(AppendError::TooLarge { index, id, bytes: statement.body.len(), max });
    }
    let has_values = !hidden.members.is_empty();
    let prepared = Prepared {
        id: sealer.index_digest(&[b"id", id.as_bytes()]),
        content: statement.content(&kind, &hidden, sealer),
        terms: Terms::of(&kind, &body, has_values.then_some(subject)),
        kind,
        stream,
        body: statement.body,
        disclosures: None,
    };
    Ok((prepared, has_values.then_some(Unsealed { subject, hidden, nonce })))
}

/// Tells whether a text can be a name: not empty, bounded, no control characters (index keys end with NUL).
fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

/// The canonical body of an entry, and what of it was said, not how it came.
pub(super) struct StatementBytes {
    /// Canonical body.
    pub(super) body: Vec<u8>,
    /// Ranges of the body without its digests of disclosed values and without the members of `source` that say by
    /// which way it came.
    said: Vec<Range<usize>>,
}

impl StatementBytes {
    pub(super) fn of(body: &Map<String, Value>) -> Result<Self, CanonError> {
        let mut bytes = Vec::with_capacity(768);
        let said = canon::append_with_skips(body, &mut bytes, &|path| {
            disclosure::is_commitment(path) || matches!(path, ["source", "raw" | "path" | "peer"])
        })?;
        Ok(Self { body: bytes, said })
    }

    /// Digests what was said: the same statement in another request or from another peer is the same.
    pub(super) fn content(&self, kind: &str, hidden: &Hidden, sealer: &Sealer) -> Content {
        let said = self.said.iter().map(|range| self.body.get(range.clone()).unwrap_or_default());
        let said = said.collect::<Vec<_>>().concat();
        let mut parts: Vec<&[u8]> = vec![b"content", kind.as_bytes(), &said];
        let places: Vec<[u8; 1]> = hidden.members().map(|member| [member.place.0]).collect();
        for (place, member) in places.iter().zip(hidden.members()) {
            parts.extend([&place[..], member.value]);
        }
        sealer.index_digest(&parts)
    }
}
