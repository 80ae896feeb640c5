//! Refuses changes that another site asked a browser to make.
//!
//! Browsers say with `Sec-Fetch-Site` and `Origin` who asks; programs that are not browsers send neither and
//! pass, which is safe here: without a gate a program on this machine is as good as its user, and with one it has to show a
//! token.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::host::is_loopback;
use crate::web::AppState;
use crate::web::error::PageError;

/// Lets a request with side effects through when no browser says that another origin made it.
pub(crate) async fn check(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if safe || same_origin(request.headers(), state.gate().is_some()) {
        return next.run(request).await;
    }
    PageError::Forbidden { detail: "another site asked your browser to send this".to_owned() }.into_response()
}

fn same_origin(headers: &HeaderMap, guarded: bool) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        // `none` is the user's own doing: the address bar.
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok();
    let plain = origin.and_then(|origin| origin.strip_prefix("http://"));
    // A proxy in front of a guarded server may speak TLS.
    let origin =
        plain.or_else(|| origin.and_then(|origin| origin.strip_prefix("https://")).filter(|_| guarded));
    matches!(
        (origin, host),
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) && (guarded || is_loopback(origin))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn other_origins_are_refused_and_programs_pass() {
        assert!(same_origin(&headers(&[]), false));
        assert!(same_origin(&headers(&[("sec-fetch-site", "same-origin")]), false));
        assert!(!same_origin(&headers(&[("sec-fetch-site", "cross-site")]), false));
        assert!(!same_origin(
            &headers(&[("sec-fetch-site", "same-site"), ("origin", "http://localhost:1")]),
            false
        ));
        assert!(same_origin(&headers(&[("origin", "http://localhost:1"), ("host", "localhost:1")]), false));
        assert!(!same_origin(&headers(&[("origin", "http://localhost:2"), ("host", "localhost:1")]), false));
        assert!(!same_origin(&headers(&[("origin", "null"), ("host", "localhost:1")]), false));
        assert!(!same_origin(
            &headers(&[("origin", "https://evil.example"), ("host", "localhost:1")]),
            false
        ));
        let away = headers(&[("origin", "https://verdict.example"), ("host", "verdict.example")]);
        assert!(same_origin(&away, true) && !same_origin(&away, false));
        assert!(!same_origin(
            &headers(&[("origin", "https://evil.example"), ("host", "verdict.example")]),
            true
        ));
    }
}
