//! The pages: one file each, one struct that derives the template.

pub(crate) mod about;
pub(crate) mod chance;
pub(crate) mod contract;
pub(crate) mod cost;
pub(crate) mod diff;
pub(crate) mod event;
pub(crate) mod incident;
pub(crate) mod integrity;
pub(crate) mod login;
pub(crate) mod policies;
pub(crate) mod release;
pub(crate) mod theme;
pub(crate) mod trace;
pub(crate) mod traces;
pub(crate) mod what_if;

use askama::Template;
use axum::response::Html;

use super::error::PageError;

/// What a handler of a page returns.
pub(crate) type Page = Result<Html<String>, PageError>;

/// Writes a template.
pub(crate) fn render(page: &impl Template) -> Page {
    Ok(Html(page.render()?))
}
