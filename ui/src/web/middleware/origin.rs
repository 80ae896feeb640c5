//! Refuses changes that another site asked a browser to make.
//!
//! Browsers say with `Sec-Fetch-Site` and `Origin` who asks; programs that are not browsers send neither and
//! pass, which is safe here because without authentication a program on this machine is as good as its user.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::host::is_loopback;
use crate::web::error::PageError;

/// Lets a request with side effects through when no browser says that another origin made it.
pub(crate) async fn check(request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if safe || same_origin(request.headers()) {
        return next.run(request).await;
    }
    PageError::Forbidden { detail: "another site asked your browser to send this".to_owned() }.into_response()
}

fn same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        // `none` is the user's own doing: the address bar.
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
    matches!((origin, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) && is_loopback(origin))
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
        assert!(same_origin(&headers(&[])));
        assert!(same_origin(&headers(&[("sec-fetch-site", "same-origin")])));
        assert!(!same_origin(&headers(&[("sec-fetch-site", "cross-site")])));
        assert!(!same_origin(&headers(&[("sec-fetch-site", "same-site"), ("origin", "http://localhost:1")])));
        assert!(same_origin(&headers(&[("origin", "http://localhost:1"), ("host", "localhost:1")])));
        assert!(!same_origin(&headers(&[("origin", "http://localhost:2"), ("host", "localhost:1")])));
        assert!(!same_origin(&headers(&[("origin", "null"), ("host", "localhost:1")])));
        assert!(!same_origin(&headers(&[("origin", "https://evil.example"), ("host", "localhost:1")])));
    }
}
