//! Signing in with a token, and out again. The token goes into no cookie: the browser gets a random number.

use askama::Template;
use axum::Form;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Deserialize;
use verdict_ledger::clock::SystemEntropy;

use crate::auth::gate::SignInError;
use crate::web::error::PageError;
use crate::web::listen::Peer;
use crate::web::middleware::auth::{session_cookie, set_session, wait};
use crate::web::request::Params;
use crate::web::view::url;
use crate::web::{AppState, assets};

/// It stands alone: who is not signed in learns nothing about the ledger.
#[derive(Debug, Template)]
#[template(path = "login.html")]
struct LoginPage {
    to: String,
    problem: String,
    /// Whether there is anything to sign in to.
    guarded: bool,
    style: String,
    icon: String,
}

/// Parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LoginQuery {
    to: String,
}

/// The form.
#[derive(Deserialize)]
pub(crate) struct LoginForm {
    token: String,
    #[serde(default)]
    to: String,
}

impl std::fmt::Debug for LoginForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginForm").field("to", &self.to).finish_non_exhaustive()
    }
}

fn page(state: &AppState, to: &str, problem: String) -> Result<Html<String>, PageError> {
    let page = LoginPage {
        to: url::local_or_root(to).to_owned(),
        problem,
        guarded: state.gate().is_some(),
        style: assets::style_path(),
        icon: assets::icon_path(),
    };
    Ok(Html(page.render()?))
}

/// `GET /login?to=/traces`
pub(crate) async fn show(
    State(state): State<AppState>,
    Params(query): Params<LoginQuery>,
) -> Result<Html<String>, PageError> {
    page(&state, &query.to, String::new())
}

/// `POST /login`
pub(crate) async fn sign_in(
    State(state): State<AppState>,
    peer: Option<Extension<Peer>>,
    Form(form): Form<LoginForm>,
) -> Result<Response, PageError> {
    let Some(gate) = state.gate() else { return Ok(see_other("/", None)) };
    let now_ns = state.now_ns();
    match gate.sign_in(form.token.trim(), now_ns, &SystemEntropy) {
        Ok((cookie, seconds)) => {
            let is_tls = peer.is_some_and(|peer| peer.tls);
            Ok(see_other(url::local_or_root(&form.to), set_session(Some(&cookie), seconds, is_tls)))
        }
        Err(error) => {
            state.metrics().denied("sign_in");
            wait(gate, peer.map(|peer| peer.address.ip()), now_ns).await;
            let problem = match error {
                SignInError::Denied(denied) => denied.to_string(),
                SignInError::Entropy(error) => error.to_string(),
            };
            Ok((StatusCode::UNAUTHORIZED, page(&state, &form.to, problem)?).into_response())
        }
    }
}

/// `POST /logout`
pub(crate) async fn sign_out(
    State(state): State<AppState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Response {
    let is_tls = peer.is_some_and(|peer| peer.tls);
    if let (Some(gate), Some(cookie)) = (state.gate(), session_cookie(&headers, is_tls)) {
        gate.sign_out(&cookie);
    }
    see_other("/login", set_session(None, 0, is_tls))
}

fn see_other(to: &str, cookie: Option<HeaderValue>) -> Response {
    let location = HeaderValue::try_from(to).unwrap_or(HeaderValue::from_static("/"));
    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
