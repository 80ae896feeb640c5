//! Bytes as they arrive: gzip by its magic number, and never more than the limit in memory.

use std::io::Read;

use super::{IngestError, Limits};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Reads a body to its end, decompressing gzip; neither form may pass its limit.
///
/// A compressed body is told by its first two bytes, which start no other format that is taken in here, so that
/// files and requests need no header to be read right.
pub fn read_body(reader: impl Read, limits: &Limits) -> Result<Vec<u8>, IngestError> {
    let raw = read_bounded(reader, limits.body_bytes_max)?
        .ok_or(IngestError::BodyTooLarge { limit: limits.body_bytes_max })?;
    decompress(raw, limits)
}

/// Decompresses `bytes` if they are gzip and returns them as they are if not.
pub(super) fn decompress(bytes: Vec<u8>, limits: &Limits) -> Result<Vec<u8>, IngestError> {
    if bytes.len() > limits.body_bytes_max {
        return Err(IngestError::BodyTooLarge { limit: limits.body_bytes_max });
    }
    if !is_gzip(&bytes) {
        return Ok(bytes);
    }
    let plain =
        read_bounded(flate2::read::MultiGzDecoder::new(bytes.as_slice()), limits.decompressed_bytes_max)
            .map_err(|error| match error {
                IngestError::Read { source } => IngestError::Gzip { source },
                other => other,
            })?
            .ok_or(IngestError::DecompressedTooLarge { limit: limits.decompressed_bytes_max })?;
    if is_gzip(&plain) {
        return Err(IngestError::NestedGzip);
    }
    Ok(plain)
}

pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&GZIP_MAGIC)
}

/// Reads the start of a compressed body, for format detection; what cannot be read is left out.
pub(super) fn peek(bytes: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut start = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    // A broken tail does not matter here; reading the whole body will report it.
    let _ = flate2::read::MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut start);
    start
}

/// Reads to the end; `None` when there is more than `limit`.
fn read_bounded(reader: impl Read, limit: usize) -> Result<Option<Vec<u8>>, IngestError> {
    let mut bytes = Vec::new();
    let allowed = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(allowed).read_to_end(&mut bytes).map_err(|source| IngestError::Read { source })?;
    Ok((bytes.len() <= limit).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let limits = Limits { decompressed_bytes_max: 1 << 20, ..Limits::default() };
        let bomb = gzip(&vec![0; 8 << 20]);
        assert!(bomb.len() < 20_000);
        assert!(matches!(
            read_body(bomb.as_slice(), &limits),
            Err(IngestError::DecompressedTooLarge { limit: 1_048_576 })
        ));
        assert!(matches!(read_body(gzip(&bomb).as_slice(), &limits), Err(IngestError::NestedGzip)));
    }

    #[test]
    fn members_are_joined_and_damage_is_reported() {
        let limits = Limits::default();
        let two = [gzip(b"one\n"), gzip(b"two\n")].concat();
        assert_eq!(read_body(two.as_slice(), &limits).unwrap(), b"one\ntwo\n");
        let cut = two.get(..two.len() - 3).unwrap();
        assert!(matches!(read_body(cut, &limits), Err(IngestError::Gzip { .. })));
        let limits = Limits { body_bytes_max: 4, ..limits };
        assert!(matches!(read_body(&b"12345"[..], &limits), Err(IngestError::BodyTooLarge { limit: 4 })));
        assert_eq!(read_body(&b"1234"[..], &limits).unwrap(), b"1234");
    }
}
