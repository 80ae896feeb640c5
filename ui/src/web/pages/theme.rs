//! Choosing light or dark. The choice is a cookie, so that the server renders it without script and flash.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::web::error::PageError;
use crate::web::request::Params;
use crate::web::view::page::{THEME_COOKIE, Theme};
use crate::web::view::url;

/// Parameters.
#[derive(Debug, Deserialize)]
pub(crate) struct Choice {
    theme: String,
    #[serde(default)]
    to: String,
}

/// `GET /theme?theme=dark&to=/traces`
pub(crate) async fn choose(Params(choice): Params<Choice>) -> Result<Response, PageError> {
    let theme = Theme::from_name(&choice.theme);
    let cookie =
        format!("{THEME_COOKIE}={}; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly", theme.as_str());
    let unreadable = |_| PageError::BadRequest { detail: "`to` is not an address of this server".to_owned() };
    let cookie = HeaderValue::try_from(cookie).map_err(unreadable)?;
    let location = HeaderValue::try_from(url::local_or_root(&choice.to)).map_err(unreadable)?;
    Ok((StatusCode::SEE_OTHER, [(header::SET_COOKIE, cookie), (header::LOCATION, location)]).into_response())
}
