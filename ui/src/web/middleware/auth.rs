//! Lets through who may.
//!
//! Without a gate everybody may, which is for loopback only. With one, every route asks for what it declared: nobody
//! known is 401, somebody who may not is 403 and learns the scope that is missing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use tokio::sync::Semaphore;

use crate::auth::gate::{Caller, Denied, Gate, Shown};
use crate::auth::{Permission, Scope};
use crate::telemetry::Context;
use crate::web::AppState;
use crate::web::error::PageError;
use crate::web::ingest::Code;
use crate::web::listen::Peer;
use crate::web::surface::Surface;
use crate::web::view::url;

/// Name of the session cookie. Over TLS it has the prefix that lets nobody but this host set it.
const SESSION: &str = "verdict_session";
const SESSION_TLS: &str = "__Host-verdict_session";
/// Answers that are late at the same time; beyond it they come at once.
const LATE_MAX: usize = 64;

static LATE: Semaphore = Semaphore::const_new(LATE_MAX);

/// What a route declared.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) state: AppState,
    pub(crate) permission: Permission,
    pub(crate) surface: Surface,
}

/// Asks who sends the request and whether they may.
pub(crate) async fn check(
    State(declared): State<Arc<Declared>>,
    mut request: Request,
    next: Next,
) -> Response {
    let state = &declared.state;
    let (Some(gate), Permission::Scope(_)) = (state.gate(), declared.permission) else {
        let span = request.extensions().get::<Context>().copied();
        request.extensions_mut().insert(Caller { span, ..Caller::default() });
        return next.run(request).await;
    };
    let peer = request.extensions().get::<Peer>().cloned();
    let certificate = peer.as_ref().and_then(|peer| peer.certificate.clone());
    let is_tls = peer.as_ref().is_some_and(|peer| peer.tls);
    let cookie = session_cookie(request.headers(), is_tls);
    let shown = match bearer(request.headers()) {
        Ok(bearer) => Ok(Shown { bearer, session: cookie.as_deref(), certificate: certificate.as_deref() }),
        Err(denied) => Err(denied),
    };
    let now_ns = state.now_ns();
    match shown.and_then(|shown| gate.identify(shown, now_ns)) {
        Ok(mut caller) => match declared.permission.check(&caller.scopes) {
            Ok(()) => {
                caller.span = request.extensions().get::<Context>().copied();
                request.extensions_mut().insert(caller);
                next.run(request).await
            }
            Err(missing) => {
                state.metrics().denied("scope");
                tracing::warn!(token = caller.token_id, peer = caller.peer, %missing, "scope is missing");
                let (parts, _body) = request.into_parts();
                forbidden(declared.surface, &parts, missing)
            }
        },
        Err(denied) => {
            state.metrics().denied("unauthenticated");
            let address = peer.map(|peer| peer.address.ip());
            tracing::info!(?address, %denied, "not let in");
            let (parts, _body) = request.into_parts();
            // Who shows nothing is told at once: that is how clients and browsers find out.
            if denied != Denied::Missing {
                wait(gate, address, now_ns).await;
            }
            unauthorized(declared.surface, &parts, denied)
        }
    }
}

/// Keeps those waiting who fail again and again.
pub(crate) async fn wait(gate: &Gate, address: Option<IpAddr>, now_ns: u64) {
    let Some(address) = address else { return };
    let delay = gate.throttle.failed(address, now_ns);
    if delay > Duration::ZERO
        && let Ok(_place) = LATE.try_acquire()
    {
        tokio::time::sleep(delay).await;
    }
}

/// Returns what stands after `Bearer`; another scheme, or something that is not text, is an error and not nothing.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Denied::Unknown)?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(Denied::Unknown),
    }
}

/// Returns what a cookie holds.
pub(crate) fn cookie<'h>(headers: &'h HeaderMap, wanted: &str) -> Option<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == wanted)
        .map(|(_, value)| value)
}

/// Returns what the session cookie holds.
pub(crate) fn session_cookie(headers: &HeaderMap, is_tls: bool) -> Option<String> {
    cookie(headers, if is_tls { SESSION_TLS } else { SESSION }).map(str::to_owned)
}

/// Writes the header that sets the session cookie, or removes it when there is no value.
pub(crate) fn set_session(value: Option<&str>, seconds: u64, is_tls: bool) -> Option<HeaderValue> {
    let name = if is_tls { SESSION_TLS } else { SESSION };
    let secure = if is_tls { "; Secure" } else { "" };
    let (value, seconds) = value.map_or(("", 0), |value| (value, seconds));
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(cookie).ok()
}

fn unauthorized(surface: Surface, parts: &Parts, denied: Denied) -> Response {
    let wants_page = surface == Surface::Page
        && parts.method == Method::GET
        && !parts.headers.contains_key(header::AUTHORIZATION)
        && parts
            .headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("text/html"));
    if wants_page {
        let here = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        return Redirect::to(&format!("/login?to={}", url::encode(here))).into_response();
    }
    let message = denied.to_string();
    let mut response =
        surface.refuse(&parts.headers, StatusCode::UNAUTHORIZED, Code::Unauthenticated, &message);
    let challenge = match denied {
        Denied::Missing => "Bearer realm=\"verdict\"",
        _ => "Bearer realm=\"verdict\", error=\"invalid_token\"",
    };
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

fn forbidden(surface: Surface, parts: &Parts, missing: Scope) -> Response {
    let detail = format!("this needs the scope `{missing}`, which the token does not have");
    if surface == Surface::Page {
        return PageError::Forbidden { detail }.into_response();
    }
    let mut response = surface.refuse(&parts.headers, StatusCode::FORBIDDEN, Code::PermissionDenied, &detail);
    let challenge = format!("Bearer realm=\"verdict\", error=\"insufficient_scope\", scope=\"{missing}\"");
    if let Ok(challenge) = HeaderValue::try_from(challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_strictly() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            headers
        };
        assert_eq!(bearer(&HeaderMap::new()), Ok(None));
        assert_eq!(bearer(&with("Bearer abc")), Ok(Some("abc")));
        assert_eq!(bearer(&with("bearer  abc ")), Ok(Some("abc")));
        for bad in ["abc", "Basic YTpi", "Bearer", ""] {
            assert_eq!(bearer(&with(bad)), Err(Denied::Unknown), "{bad}");
        }
    }

    #[test]
    fn the_cookie_is_for_this_site_only_and_over_tls_for_nothing_else() {
        let plain = set_session(Some("x"), 9, false).unwrap();
        assert_eq!(plain, "verdict_session=x; Path=/; Max-Age=9; HttpOnly; SameSite=Strict");
        let tls = set_session(Some("x"), 9, true).unwrap();
        let tls = tls.to_str().unwrap();
        assert!(tls.starts_with("__Host-verdict_session=x;") && tls.ends_with("; Secure"), "{tls}");
        assert!(set_session(None, 9, true).unwrap().to_str().unwrap().contains("Max-Age=0"));
    }
}
