//! A ledger with recorded traffic and a router over it, for every test anew.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::ServiceExt as _;
use verdict_ledger::clock::SteppingClock;
use verdict_ledger::ingest::{self, Format, Limits};
use verdict_ledger::{InitOptions, Ledger};
use verdict_replay::policy::{Bundle, registry};
use verdict_ui::web::{self, AppState};

/// Text that tries everything: markup, quotes, control and bidirectional characters.
pub(crate) const HOSTILE: &str =
    "<script>alert(1)</script>\" onclick='x' \u{202e}gpj.exe\u{0007}{{7*7}} javascript:alert(1)";
/// Trace of the hostile event.
pub(crate) const HOSTILE_TRACE: &str = "00000000000000000000000000000bad";

/// A ledger in a directory of its own and a router over it.
pub(crate) struct Site {
    pub(crate) ledger: Ledger,
    pub(crate) app: Router,
    /// Deleted with the site.
    _dir: tempfile::TempDir,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path)
}

impl Site {
    /// An empty ledger.
    pub(crate) fn empty() -> Self {
        Self::with_limits(web::Limits::default())
    }

    pub(crate) fn with_limits(limits: web::Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // A minute after the last recorded event.
        let clock = Arc::new(SteppingClock::starting_at(1_793_800_000_000_000_000));
        let options = InitOptions::new("harbor.example/verdict/test");
        let ledger = Ledger::init(&dir.path().join("ledger"), &options, clock.clone()).unwrap();
        let state = AppState::new(ledger.clone(), clock, limits, Some("harbor ledger".into()));
        Self { app: web::app(state), ledger, _dir: dir }
    }

    /// Recorded traffic, a hostile event and two policy versions, all under a checkpoint.
    pub(crate) fn full() -> Self {
        let site = Self::empty();
        let file = std::fs::read(testdata("native/harbor-goods.ndjson")).unwrap();
        site.ingest(Format::Native, &file);
        site.ingest(Format::Native, &hostile_event());
        for version in ["v1", "v2"] {
            let bundle = Bundle::load(&testdata("policies").join(version)).unwrap();
            registry::publish(&site.ledger, &bundle, "tests", "a reason with <b>markup</b>").unwrap();
        }
        site.ledger.settle().unwrap();
        site
    }

    pub(crate) fn ingest(&self, format: Format, bytes: &[u8]) {
        let mapped = ingest::map(format, bytes, &Limits::default()).unwrap();
        assert!(mapped.rejected.is_empty(), "{:?}", mapped.rejected);
        self.ledger.append(mapped.into_batch(None).unwrap()).unwrap();
    }

    /// Adds what the routes change while they run, then asks.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).header(header::HOST, "localhost:7878").body(Body::empty()).unwrap())
            .await
    }

    pub(crate) async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{path}");
        answer.text()
    }

    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::post(path).header(header::HOST, "localhost:7878");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    /// Address of the newest trace with a name in it.
    pub(crate) fn some_trace(&self) -> String {
        let traces = self.ledger.traces(None, 100).unwrap();
        traces[traces.len() / 2].trace_id.to_string()
    }

    /// Page of an event that reports a tool call.
    pub(crate) fn page_of_a_tool(&self) -> String {
        format!("/events/{}", self.ledger.find_id("harbor-04-04").unwrap()[0])
    }

    /// Every page, in states that differ.
    pub(crate) fn pages(&self) -> Vec<String> {
        let size = self.ledger.head().size;
        let published = registry::list(&self.ledger).unwrap();
        let digest = |index: usize| published[index].digest.to_string();
        let mut pages = vec![
            "/traces".to_owned(),
            format!("/traces?at={size}"),
            "/traces?agent=support&effect=block".to_owned(),
            "/traces?text=nothing-has-this".to_owned(),
            "/traces?finding=any&tool=refund".to_owned(),
            format!("/traces/{HOSTILE_TRACE}"),
            "/events/0".to_owned(),
            format!("/events/{}", size - 1),
            "/integrity".to_owned(),
            "/policies".to_owned(),
            "/about".to_owned(),
            "/diff".to_owned(),
            format!("/diff?from={}&to={}", digest(0), digest(1)),
            format!("/diff?from={}&to={}&at=5", digest(1), digest(0)),
            format!("/diff?from=recorded&to={}&class=unknown", digest(1)),
        ];
        let traces = self.ledger.traces(None, 100).unwrap();
        pages.push("/incidents".to_owned());
        pages.extend(traces.iter().map(|trace| format!("/incidents?trace={}", trace.trace_id)));
        pages.push(format!("/incidents?trace={HOSTILE_TRACE}"));
        pages.push(format!("/events/{}/what-if", self.ledger.find_id("hostile-1").unwrap()[0]));
        pages.extend(traces.iter().map(|trace| format!("/traces/{}", trace.trace_id)));
        pages.extend(traces.iter().map(|trace| format!("/events/{}", trace.first_seq)));
        pages
    }
}

fn hostile_event() -> Vec<u8> {
    let event = json!({
        "id": "hostile-1", "trace_id": HOSTILE_TRACE, "span_id": "00000000000000ba",
        "start_ns": "1793799000000000000", "end_ns": "1793799000000000001",
        "agent": {"name": HOSTILE}, "user": HOSTILE, "session": HOSTILE, "service": HOSTILE, "environment": HOSTILE,
        "action": {
            "kind": "tool", "name": HOSTILE, "call_id": HOSTILE, "arguments": {HOSTILE: HOSTILE}, "resource": HOSTILE,
        },
        "provenance": [{"kind": HOSTILE, "trust": "unverified", "name": HOSTILE, "uri": "javascript:alert(1)"}],
        "classification": HOSTILE,
        "decision": {
            "effect": "block", "code": HOSTILE, "reason": HOSTILE, "by": {"kind": "policy", "id": HOSTILE},
            "policy": {"name": HOSTILE, "version": HOSTILE, "rules": [HOSTILE]},
            "obligations": [{"kind": HOSTILE, "params": {HOSTILE: HOSTILE}}],
        },
        "outcome": {"status": "error", "error": {"type": HOSTILE, "message": HOSTILE}, "result": HOSTILE},
    });
    event.to_string().into_bytes()
}
