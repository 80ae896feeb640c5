//! Who may do what over HTTP.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use tower::ServiceExt as _;
use verdict_ledger::clock::SteppingClock;
use verdict_ui::auth::{Permission, Scope};
use verdict_ui::web::{self, AppState, Limits};

use crate::running::{Running, gate, token};
use crate::site::Site;

/// Routes that need nothing, all of them: a new one has to be added here on purpose.
const PUBLIC: [&str; 7] =
    ["/theme", "/login", "/logout", "/static/{name}", "/healthz", "/readyz", "/grpc.health.v1.Health/Check"];

fn guarded() -> (Site, AppState, tempfile::TempDir, [String; 3]) {
    let site = Site::empty();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("ledger")).unwrap();
    let tokens = [
        token(dir.path(), "collector", &[Scope::Ingest]),
        token(dir.path(), "auditor", &[Scope::Read]),
        token(dir.path(), "prometheus", &[Scope::Metrics]),
    ];
    let clock = Arc::new(SteppingClock::starting_at(1_793_800_000_000_000_000));
    let state = AppState::new(site.ledger.clone(), clock, Limits::default(), None);
    state.guard(gate(dir.path()));
    (site, state, dir, tokens)
}

async fn ask(state: &AppState, method: &str, path: &str, token: Option<&str>) -> StatusCode {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let app = if path.starts_with("/grpc.") || path.starts_with("/opentelemetry.") {
        web::grpc_app(state.clone())
    } else {
        web::app(state.clone())
    };
    let request = request.header("content-type", "application/grpc").body(Body::empty()).unwrap();
    let answer = app.oneshot(request).await.unwrap();
    // gRPC says it in its own status.
    match answer.headers().get("grpc-status").map(|status| status.to_str().unwrap()) {
        Some("16") => StatusCode::UNAUTHORIZED,
        Some("7") => StatusCode::FORBIDDEN,
        _ => answer.status(),
    }
}

#[tokio::test]
async fn no_route_is_forgotten() {
    let (_site, state, _dir, [ingest, read, metrics]) = guarded();
    let routes = web::declared(&state);
    assert!(routes.len() > 25, "{routes:?}");
    let public: Vec<_> = routes
        .iter()
        .filter(|route| route.permission == Permission::Public)
        .map(|route| route.path)
        .collect();
    assert_eq!(public, PUBLIC);
    for route in &routes {
        let path = route.path.replace("{id}", &"0a".repeat(16)).replace("{seq}", "0");
        let path = path.replace("{name}", "x").replace("{*name}", "0/000");
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let refused = |status: StatusCode| {
                [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status).then_some(status)
            };
            let nobody = refused(ask(&state, method, &path, None).await);
            let stranger =
                refused(ask(&state, method, &path, Some(&format!("verdict_{}", "0".repeat(72)))).await);
            let Permission::Scope(scope) = route.permission else {
                assert_eq!((nobody, stranger), (None, None), "{method} {path}");
                continue;
            };
            assert_eq!(nobody, Some(StatusCode::UNAUTHORIZED), "{method} {path}");
            assert_eq!(stranger, Some(StatusCode::UNAUTHORIZED), "{method} {path}");
            for (token, held) in [(&ingest, Scope::Ingest), (&read, Scope::Read), (&metrics, Scope::Metrics)]
            {
                let may = Permission::Scope(scope).check(&[held]).is_ok();
                let answer = refused(ask(&state, method, &path, Some(token)).await);
                assert_eq!(answer, (!may).then_some(StatusCode::FORBIDDEN), "{method} {path} {held}");
            }
        }
    }
    // What is not there is not told either.
    assert_eq!(ask(&state, "GET", "/nothing", None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&state, "GET", "/nothing", Some(&read)).await, StatusCode::NOT_FOUND);
}

#[test]
fn answers_say_what_is_missing_in_the_form_of_the_route() {
    let mut tokens = Vec::new();
    let server = Running::with(|dir, options| {
        tokens.push(token(dir, "auditor", &[Scope::Read]));
        options.gate = Some(gate(dir));
    });
    let json = ("content-type", "application/json");
    let reply = server.ask("POST", "/v1/traces", &[json], b"{}");
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("www-authenticate").as_deref(), Some("Bearer realm=\"verdict\""));
    assert!(reply.text().contains("\"code\":16"), "{}", reply.text());
    let bearer = format!("Bearer {}", tokens[0]);
    let reply = server.ask("POST", "/v1/traces", &[json, ("authorization", &bearer)], b"{}");
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("`ingest`") && reply.text().contains("\"code\":7"), "{}", reply.text());
    assert!(reply.header("www-authenticate").unwrap().contains("scope=\"ingest\""));
    let reply = server.ask("POST", "/api/v1/events", &[("authorization", "Basic YTpi")], b"{}");
    assert_eq!(
        (reply.status, reply.header("content-type").as_deref()),
        (401, Some("application/problem+json"))
    );
    assert!(reply.header("www-authenticate").unwrap().contains("invalid_token"));
    let reply = server.ask("GET", "/api/v1/traces", &[("authorization", &bearer)], b"");
    assert_eq!(reply.status, 200);
}

#[test]
fn people_sign_in_with_a_token_and_out_again() {
    let mut tokens = Vec::new();
    let server = Running::with(|dir, options| {
        tokens.push(token(dir, "ada", &[Scope::Read]));
        options.gate = Some(gate(dir));
    });
    let html = ("accept", "text/html");
    let reply = server.ask("GET", "/traces?tool=a", &[html], b"");
    assert_eq!(
        (reply.status, reply.header("location").as_deref()),
        (303, Some("/login?to=%2Ftraces%3Ftool%3Da"))
    );
    let page = server.ask("GET", "/login?to=%2Ftraces", &[html], b"");
    assert!(page.status == 200 && !page.text().contains("harbor.example"), "{}", page.text());

    let form = ("content-type", "application/x-www-form-urlencoded");
    let refused = server.ask("POST", "/login", &[form], b"token=verdict_x&to=/traces");
    assert!(refused.status == 401 && refused.text().contains("role=\"alert\""), "{}", refused.text());
    assert!(!refused.text().contains("verdict_x") && refused.header("set-cookie").is_none());
    let body = format!("token={}&to=https%3A%2F%2Fevil.example", tokens[0]);
    let other = ("origin", "https://evil.example");
    assert_eq!(server.ask("POST", "/login", &[form, other], body.as_bytes()).status, 403);
    let reply = server.ask("POST", "/login", &[form], body.as_bytes());
    assert_eq!((reply.status, reply.header("location").as_deref()), (303, Some("/")));
    let cookie = reply.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains(&tokens[0]), "{cookie}");
    let session = cookie.split(';').next().unwrap().to_owned();

    let page = server.ask("GET", "/traces", &[html, ("cookie", &session)], b"");
    assert!(page.status == 200 && page.text().contains("Sign out"), "{}", page.text());
    let ingest = server.ask("POST", "/api/v1/events", &[("cookie", &session)], b"");
    assert_eq!(ingest.status, 403, "a session allows what its token does");
    let crossed = [("cookie", session.as_str()), ("sec-fetch-site", "cross-site")];
    assert_eq!(server.ask("POST", "/integrity/verify", &crossed, b"").status, 403);
    assert_eq!(server.ask("POST", "/logout", &[("cookie", &session)], b"").status, 303);
    assert_eq!(server.ask("GET", "/traces", &[("cookie", &session)], b"").status, 401);
}

#[test]
fn tokens_are_made_and_revoked_while_the_server_runs_and_the_ledger_says_so() {
    let server = Running::with(|dir, options| options.gate = Some(gate(dir)));
    let late = token(server.dir.path(), "late", &[Scope::Read]);
    let bearer = format!("Bearer {late}");
    let status =
        || server.ask("GET", "/api/v1/traces", &[("authorization", &bearer), ("x", "y")], b"").status;
    let until = |wanted: u16| (0..100_000).any(|_| status() == wanted);
    assert!(until(200), "the file is looked at every second");
    verdict_ui::auth::store::TokenFile::of_ledger(&server.dir.path().join("ledger"))
        .revoke("late", "bob", 2)
        .unwrap();
    assert!(until(401));
    let kinds: Vec<String> = server
        .ledger
        .records(0..server.ledger.head().size)
        .map(|record| record.unwrap())
        .filter(|record| record.kind.starts_with("token."))
        .map(|record| {
            assert_eq!(record.body["name"], "late");
            record.kind
        })
        .collect();
    // Revoking may be said a moment after it works.
    assert!(kinds == ["token.created", "token.revoked"] || kinds == ["token.created"], "{kinds:?}");
}

#[test]
fn any_address_is_listened_on_behind_a_gate() {
    let mut tokens = Vec::new();
    let server = Running::with(|dir, options| {
        tokens.push(token(dir, "ada", &[Scope::Read]));
        options.listen = "0.0.0.0:0".parse().unwrap();
        options.gate = Some(gate(dir));
    });
    assert!(server.http.ip().is_unspecified());
}
