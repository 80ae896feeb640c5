//! Reading a request body within its limits of size, time and memory.

use std::future::Future;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use verdict_ledger::ingest::Limits;

use super::budget::Share;
use super::refusal::Refusal;
use crate::web::AppState;

/// Share of the budget that a body of unknown length starts with.
const START_BYTES: usize = 64 << 10;

/// A body that has arrived, and its share of the budget.
#[derive(Debug)]
pub(super) struct Received {
    /// The bytes as they came, compressed or not.
    pub(super) bytes: Bytes,
    /// Held until the request is answered.
    pub(super) share: Share,
}

/// Returns the limits of the mappers for this server.
pub(super) fn limits(state: &AppState) -> Limits {
    Limits {
        body_bytes_max: state.limits().body_bytes_max,
        decompressed_bytes_max: state.limits().decoded_bytes_max,
        ..Limits::default()
    }
}

/// Reads a body to its end. Decompression comes later, where its limit is known.
pub(super) async fn read(state: &AppState, headers: &HeaderMap, body: Body) -> Result<Received, Refusal> {
    let limit = state.limits().body_bytes_max;
    let gzip = is_gzip(headers)?;
    let stated =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let stated = match stated.map(usize::try_from) {
        // No need to read what will not be taken.
        Some(Err(_)) => return Err(Refusal::TooLarge { limit }),
        Some(Ok(stated)) if stated > limit => return Err(Refusal::TooLarge { limit }),
        Some(Ok(stated)) => Some(stated),
        None => None,
    };
    let patience = Duration::from_secs(state.limits().ingest_wait_seconds_max);
    let share = state.budget().take(stated.unwrap_or(START_BYTES), patience).await;
    let share = share.map_err(|_| Refusal::Saturated)?;
    let mut collector = Collector { bytes: BytesMut::with_capacity(stated.unwrap_or(0)), share, limit };
    in_time(state, async {
        let mut body = body;
        while let Some(data) = next(state, &mut body).await? {
            collector.add(&data)?;
        }
        Ok(())
    })
    .await?;
    let Collector { bytes, share, .. } = collector;
    if gzip && !bytes.is_empty() && !bytes.starts_with(&[0x1f, 0x8b]) {
        return Err(Refusal::NotGzip);
    }
    Ok(Received { bytes: bytes.freeze(), share })
}

/// Bytes so far.
#[derive(Debug)]
struct Collector {
    bytes: BytesMut,
    share: Share,
    limit: usize,
}

impl Collector {
    fn add(&mut self, data: &[u8]) -> Result<(), Refusal> {
        let size = self.bytes.len().saturating_add(data.len());
        if size > self.limit {
            return Err(Refusal::TooLarge { limit: self.limit });
        }
        // The buffer doubles when it is full, and so does what it counts for.
        if size > self.bytes.capacity() {
            let capacity = size.max(self.bytes.capacity().saturating_mul(2)).min(self.limit);
            self.share.grow_to(capacity).map_err(|_| Refusal::Saturated)?;
            self.bytes.reserve(capacity.saturating_sub(self.bytes.len()));
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

/// Gives a whole body its time.
pub(super) async fn in_time<T>(
    state: &AppState,
    reading: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let time = Duration::from_secs(state.limits().body_seconds_max);
    tokio::time::timeout(time, reading).await.unwrap_or(Err(Refusal::Slow))
}

/// Returns the next piece of a body; a client must not pause too long either.
pub(super) async fn next(state: &AppState, body: &mut Body) -> Result<Option<Bytes>, Refusal> {
    let pause = Duration::from_secs(state.limits().body_pause_seconds_max);
    loop {
        match tokio::time::timeout(pause, body.frame()).await {
            Err(_elapsed) => return Err(Refusal::Slow),
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => return Err(Refusal::Incomplete),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Refusal> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(false) };
    let encoding = String::from_utf8_lossy(encoding.as_bytes()).trim().to_ascii_lowercase();
    match encoding.as_str() {
        "gzip" | "x-gzip" => Ok(true),
        "" | "identity" => Ok(false),
        _ => Err(Refusal::Encoding { encoding }),
    }
}

/// Returns the media type without its parameters, in lower case.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value =
        headers.get(header::CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
