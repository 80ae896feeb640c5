//! Refuses requests that name another host. A page on the internet can make its own name resolve to 127.0.0.1
//! (DNS rebinding) and would then be same-origin with this server; its `Host` header gives it away.

use axum::extract::{Request, State};
use axum::http::{Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::web::AppState;
use crate::web::error::PageError;

/// Lets only loopback names through, unless there is a gate: a page under another name has no session there.
pub(crate) async fn check(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if state.gate().is_some() {
        return next.run(request).await;
    }
    let host = request.uri().authority().map(|authority| authority.as_str().to_owned()).or_else(|| {
        request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned)
    });
    match host {
        Some(host) if is_loopback(&host) => next.run(request).await,
        Some(host) => PageError::Forbidden {
            detail: format!("this server answers only to localhost, 127.0.0.1 and [::1], not to `{host}`"),
        }
        .into_response(),
        None => PageError::BadRequest { detail: "the request has no Host header".to_owned() }.into_response(),
    }
}

/// Tells whether `host[:port]` is a name of this machine that no DNS server has a say in.
pub(crate) fn is_loopback(host: &str) -> bool {
    // `Uri` reads authorities strictly; a name with user info or a bad port is not one of ours.
    let Ok(uri) = format!("http://{host}/").parse::<Uri>() else { return false };
    let Some(authority) = uri.authority() else { return false };
    let name = authority.host();
    // What follows the name is nothing or a port; the name stands first, so that there is no user info.
    let port_is_good = authority.as_str().strip_prefix(name).is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
    });
    if !port_is_good || uri.path() != "/" {
        return false;
    }
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_pass() {
        for good in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:4650"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io:80",
            "evil@localhost",
            "localhost/x",
            "::1",
            "0.0.0.0",
            "localhost:99999999",
            "a b",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
