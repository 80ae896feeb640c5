//! The style sheet, the script and the icon: compiled in, named by their content, cached for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use verdict_ledger::id::Digest;

use super::error::PageError;

/// One file and the name it is served under.
#[derive(Debug)]
struct Asset {
    name: String,
    content_type: &'static str,
    bytes: &'static [u8],
}

impl Asset {
    fn new(stem: &str, extension: &str, content_type: &'static str, bytes: &'static [u8]) -> Self {
        let digest = Digest::of(bytes).to_hex();
        let short = digest.get(..12).unwrap_or_default();
        Self { name: format!("{stem}-{short}.{extension}"), content_type, bytes }
    }
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("verdict", "css", "text/css; charset=utf-8", include_bytes!("../../static/verdict.css"))
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("verdict", "js", "text/javascript; charset=utf-8", include_bytes!("../../static/verdict.js"))
});
static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_bytes!("../../static/icon.svg")));

/// Returns the path of the style sheet.
pub(crate) fn style_path() -> String {
    format!("/static/{}", STYLE.name)
}

/// Returns the path of the script.
pub(crate) fn script_path() -> String {
    format!("/static/{}", SCRIPT.name)
}

/// Returns the path of the icon.
pub(crate) fn icon_path() -> String {
    format!("/static/{}", ICON.name)
}

/// `GET /static/{name}`
pub(crate) async fn serve(Path(name): Path<String>) -> Result<Response, PageError> {
    let asset = [&STYLE, &SCRIPT, &ICON]
        .into_iter()
        .map(|asset| &**asset)
        .find(|asset| asset.name == name)
        .ok_or_else(|| PageError::not_found("file", &name))?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    Ok((StatusCode::OK, headers, asset.bytes).into_response())
}
