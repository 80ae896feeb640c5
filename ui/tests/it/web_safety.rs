//! Headers, hosts, origins, themes, limits.

use std::net::{Ipv4Addr, SocketAddr};

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use verdict_ui::web::{Limits, ServeError, ServeOptions, Server};

use crate::site::Site;

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let site = Site::full();
    for path in [
        "/traces",
        "/nothing",
        "/healthz",
        "/api/v1/traces",
        "/checkpoint",
        "/tile/entries/000.p/1",
        "/tile/0/999",
        "/events/1/entry",
        "/theme?theme=dark&to=/",
    ] {
        let answer = site.get(path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin", "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin", "{path}");
        // Only what can hold no erasable value may be kept by anybody.
        let cached = match path {
            "/checkpoint" => "max-age=1",
            "/tile/entries/000.p/1" => "max-age=31536000, immutable",
            _ => "no-store",
        };
        assert_eq!(answer.header("cache-control"), cached, "{path}");
        assert!(
            !answer.header("permissions-policy").is_empty() && !answer.header("x-request-id").is_empty(),
            "{path}"
        );
    }
    let page = site.page("/traces").await;
    for (_, rest) in page.match_indices("/static/").map(|(at, found)| (found, &page[at..])) {
        let path = &rest[..rest.find('"').unwrap()];
        let file = site.get(path).await;
        assert_eq!(file.status, StatusCode::OK, "{path}");
        assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable");
    }
    assert_eq!(site.get("/static/verdict-000000000000.css").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn other_hosts_and_other_origins_are_refused() {
    let site = Site::empty();
    for host in ["evil.example", "127.0.0.1.evil.example:7878", "192.0.2.1"] {
        let request = Request::get("/traces").header(header::HOST, host).body(Body::empty()).unwrap();
        assert_eq!(site.send(request).await.status, StatusCode::FORBIDDEN, "{host}");
    }
    let request = Request::get("/traces").body(Body::empty()).unwrap();
    assert_eq!(site.send(request).await.status, StatusCode::BAD_REQUEST, "no host");
    for headers in [
        [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        [("sec-fetch-site", "same-site"), ("origin", "http://localhost:1")],
        [("accept", "*/*"), ("origin", "null")],
    ] {
        for path in ["/integrity/verify", "/v1/traces", "/api/v1/events"] {
            let answer = site.post(path, &headers, "").await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {headers:?}");
        }
    }
    assert_eq!(site.post("/traces", &[], "").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(site.get("/integrity/verify").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_theme_is_a_cookie_and_leads_nowhere_else() {
    let site = Site::empty();
    let answer = site.get("/theme?theme=dark&to=%2Ftraces%3Ftool%3Da").await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/traces?tool=a"));
    let cookie = answer.header("set-cookie");
    assert!(cookie.starts_with("verdict_theme=dark;") && cookie.contains("SameSite=Lax"), "{cookie}");
    for to in
        ["%2F%2Fevil.example", "https%3A%2F%2Fevil.example", "%2F%5Cevil.example", "%2Fa%0d%0aset-cookie%3Ax"]
    {
        let answer = site.get(&format!("/theme?theme=dark&to={to}")).await;
        assert_eq!(answer.header("location"), "/", "{to}");
    }
    let request = Request::get("/traces")
        .header(header::HOST, "localhost")
        .header(header::COOKIE, "verdict_theme=dark")
        .body(Body::empty())
        .unwrap();
    assert!(site.send(request).await.text().contains("data-theme=\"dark\""));
    assert!(site.get("/theme?theme=x%22&to=/").await.header("set-cookie").starts_with("verdict_theme=auto;"));
}

#[tokio::test]
async fn too_much_work_is_asked_to_come_back() {
    let site = Site::with_limits({
        let mut limits = Limits::default();
        limits.requests_max = 0;
        limits.page_seconds_max = 0;
        limits
    });
    assert_eq!(site.get("/traces").await.status, StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test]
async fn only_loopback_is_served_and_a_port_in_use_is_named() {
    let site = Site::empty();
    let open = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let refused = Server::bind(site.ledger.clone(), ServeOptions::new(open)).await.unwrap_err();
    assert!(matches!(refused, ServeError::NotLoopback { .. }), "{refused}");
    assert!(refused.to_string().contains("only loopback"), "{refused}");
    let first =
        Server::bind(site.ledger.clone(), ServeOptions::new((Ipv4Addr::LOCALHOST, 0).into())).await.unwrap();
    let taken = first.local_addr();
    let second = Server::bind(site.ledger.clone(), ServeOptions::new(taken)).await.unwrap_err();
    assert!(matches!(second, ServeError::InUse { listen, .. } if listen == taken), "{second}");
    // A shutdown that has already been asked for ends the server.
    first.run(async {}).await.unwrap();
}
