//! What every page has around its content.

use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::{number, time};
use crate::auth::gate::Caller;
use crate::web::middleware::auth::cookie;
use crate::web::{AppState, assets};

/// Name of the cookie that keeps the chosen theme.
pub(crate) const THEME_COOKIE: &str = "verdict_theme";

/// Light or dark, as chosen; `Auto` follows the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Theme {
    /// As the browser prefers.
    #[default]
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    /// Returns the name in the cookie and the markup.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// Reads a name; anything else is `Auto`.
    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::Auto,
        }
    }

    fn from_headers(headers: &HeaderMap) -> Self {
        cookie(headers, THEME_COOKIE).map_or(Self::Auto, Self::from_name)
    }
}

/// What every page has around its content.
#[derive(Debug, Clone)]
pub(crate) struct Shell {
    /// Theme.
    pub(crate) theme: Theme,
    /// First segment of the path: which entry of the navigation is current.
    pub(crate) section: String,
    /// This page, for coming back after a change of theme.
    pub(crate) here: String,
    /// Whether the reader has signed in, and can sign out.
    pub(crate) signed_in: bool,
    /// Origin of the ledger.
    pub(crate) origin: String,
    /// Entries in the ledger.
    pub(crate) size: u64,
    /// The same, grouped.
    pub(crate) size_text: String,
    /// Root of the tree, hex.
    pub(crate) root: String,
    /// When the page was made.
    pub(crate) now: time::Moment,
    /// The same, Unix nanoseconds.
    pub(crate) now_ns: u64,
    /// Paths of the files.
    pub(crate) style: String,
    /// Script.
    pub(crate) script: String,
    /// Icon.
    pub(crate) icon: String,
}

impl Shell {
    /// Reads the request and the head of the ledger.
    pub(crate) fn new(parts: &Parts, state: &AppState) -> Self {
        let path = parts.uri.path();
        let here = parts.uri.path_and_query().map_or(path, |path| path.as_str());
        let head = state.ledger().head();
        let root = hex::encode(head.root.0);
        let now_ns = state.now_ns();
        Self {
            theme: Theme::from_headers(&parts.headers),
            section: path.split('/').nth(1).unwrap_or_default().to_owned(),
            // A form that was posted cannot be come back to with a GET.
            here: if parts.method == axum::http::Method::GET { here.to_owned() } else { "/".to_owned() },
            signed_in: parts.extensions.get::<Caller>().is_some_and(|caller| {
                caller.token_id.is_some() && parts.headers.contains_key(header::COOKIE)
            }),
            origin: state.ledger().origin().to_owned(),
            size: head.size,
            size_text: number::count(head.size),
            root,
            now: time::moment(now_ns),
            now_ns,
            style: assets::style_path(),
            script: assets::script_path(),
            icon: assets::icon_path(),
        }
    }

    /// Writes `aria-current` for the navigation.
    pub(crate) fn is_section(&self, section: &str) -> bool {
        self.section == section || (section == "traces" && self.section == "events")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn the_theme_cookie_is_found_among_others_and_only_known_names_count() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_static(value));
            Theme::from_headers(&headers)
        };
        assert_eq!(with("a=b; verdict_theme=dark"), Theme::Dark);
        assert_eq!(with("verdict_theme=\"><script>"), Theme::Auto);
        assert_eq!(with("xverdict_theme=dark"), Theme::Auto);
    }
}
