//! The log for other people's monitors, mirrors and auditors: C2SP tlog-tiles (<https://c2sp.org/tlog-tiles>).
//!
//! These are static files that happen to be computed. A tile is there once a *signed* checkpoint covers it:
//! what is acknowledged but not yet signed could not be verified by whoever fetches it, and would be cached for
//! ever. Every other address below `/tile/` is an ordinary 404 in plain text, also one that is spelled wrongly:
//! a file server would say the same.

use std::io::Write as _;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use verdict_ledger::Ledger;
use verdict_ledger::tile::{Tile, TileKind};

use super::error::PageError;
use super::{AppState, blocking};

const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// "SHOULD prevent caching beyond a few seconds": under load there is a new one every second.
const BRIEFLY: HeaderValue = HeaderValue::from_static("max-age=1");
/// A tile never changes: it holds no disclosed value, so that nothing can be erased from it. Not `public`: a shared
/// cache must not keep what was answered to somebody who had to say who they are.
const FOR_EVER: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");

/// An error in plain text, for programs.
#[derive(Debug)]
pub(crate) struct FileError(PageError);

impl From<PageError> for FileError {
    fn from(error: PageError) -> Self {
        Self(error)
    }
}

impl IntoResponse for FileError {
    fn into_response(self) -> Response {
        self.0.log();
        let info = self.0.info();
        (info.status, [(header::CONTENT_TYPE, TEXT)], format!("{}\n", info.message)).into_response()
    }
}

/// `GET /checkpoint`: the newest checkpoint, a C2SP signed note.
pub(crate) async fn checkpoint(State(state): State<AppState>) -> Result<Response, FileError> {
    let note = blocking::run(move || {
        state.ledger().published_checkpoint()?.ok_or_else(|| PageError::not_found("checkpoint", "newest"))
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, BRIEFLY)], note).into_response())
}

/// `GET /tile/<L>/<N>[.p/<W>]` and `GET /tile/entries/<N>[.p/<W>]`.
pub(crate) async fn tile(
    State(state): State<AppState>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, FileError> {
    // The address as it was sent: a tile has one spelling, and percent signs are not in it.
    let path = uri.path();
    let name = path.strip_prefix('/').unwrap_or(path);
    let tile = Tile::parse(name).map_err(|_| PageError::not_found("tile", name))?;
    let wants_gzip = tile.kind == TileKind::Entries && accepts_gzip(&headers);
    let (bytes, packed) = blocking::run(move || {
        let bytes = read(state.ledger(), &tile)?;
        let packed = if wants_gzip { gzip(&bytes) } else { None };
        Ok(packed.map_or((bytes, false), |packed| (packed, true)))
    })
    .await?;
    let mut answer = HeaderMap::new();
    answer.insert(header::CONTENT_TYPE, BYTES);
    answer.insert(header::CACHE_CONTROL, FOR_EVER);
    if tile.kind == TileKind::Entries {
        answer.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if packed {
        answer.insert(header::CONTENT_ENCODING, GZIP);
    }
    Ok((StatusCode::OK, answer, bytes).into_response())
}

/// Reads a tile that the newest checkpoint covers.
fn read(ledger: &Ledger, tile: &Tile) -> Result<Vec<u8>, PageError> {
    if !tile.is_within(signed_size(ledger)?) {
        return Err(PageError::not_found("tile", tile));
    }
    Ok(ledger.tile_bytes(tile)?)
}

/// Entries that the newest checkpoint covers. It is our own, so that its size needs no signature here.
fn signed_size(ledger: &Ledger) -> Result<u64, PageError> {
    Ok(ledger.checkpoints(1)?.pop().map_or(0, |(size, _)| size))
}

/// Entries are JSON full of repeated names: a quarter of the bytes are left.
fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).ok()
}

/// Reads `Accept-Encoding` (RFC 9110 section 12.5.3): gzip by name or by `*`, and not with weight 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut any = false;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for coding in value.to_str().unwrap_or_default().split(',') {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let refused = parts.any(|part| {
                let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
                weight.is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
            });
            if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
                return !refused;
            }
            any |= name == "*" && !refused;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_ask_for_it() {
        for (value, want) in [
            ("", false),
            ("identity", false),
            ("gzip", true),
            ("br, GZIP", true),
            ("deflate, gzip;q=0.5, *;q=0", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000, *", false),
            ("*", true),
            ("*;q=0", false),
            ("gzippy", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepts_gzip(&headers), want, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
