//! Incidents, answers and what-if as pages and as API.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::markup;
use crate::site::Site;

/// Position of the refused refund.
fn refund(site: &Site) -> u64 {
    let size = site.ledger.head().size;
    let is_it = |seq: &u64| {
        let event = site.ledger.record(*seq).unwrap().unwrap().event;
        event.is_some_and(|event| {
            event.action.arguments.is_some_and(|arguments| arguments["amount_cents"] == 80_000)
        })
    };
    (0..size).find(is_it).unwrap()
}

fn seq(site: &Site, id: &str) -> u64 {
    site.ledger.find_id(id).unwrap()[0]
}

#[tokio::test]
async fn an_incident_page_joins_traces_and_says_why() {
    let site = Site::full();
    let empty = site.page("/incidents").await;
    assert!(markup::lint(&empty).is_empty() && empty.contains("Name a trace, a session"));
    let event = seq(&site, "harbor-04-04");
    for query in [format!("event={event}"), "approval=approval-311".to_owned()] {
        let html = site.page(&format!("/incidents?{query}")).await;
        let wrong = markup::lint(&html);
        assert!(wrong.is_empty(), "{query}: {wrong:#?}");
        let elements = markup::read(&html);
        let traces = elements.iter().filter(|e| {
            e.name == "a"
                && e.attribute("href").is_some_and(|h| h.starts_with("/traces/"))
                && e.attribute("class") == Some("id")
                && e.attribute("title").is_none()
        });
        assert_eq!(traces.count(), 2, "{query}");
        assert!(html.contains("Link to exactly this view") && html.contains("svg xmlns"), "{query}");
        // Without script or picture: every node is in the list, every action in the table.
        assert!(elements.iter().any(|e| e.name == "ol" && e.attribute("class") == Some("graph-list")));
    }
    for (query, status, words) in [
        ("event=0", 400, "entry 0 is a"),
        ("event=x", 400, "got `x`"),
        ("trace=zz", 400, "is not a trace id"),
        ("trace=0123456789abcdef0123456789abcdef", 404, "no incident around"),
        ("session=a&event=1", 400, "name one of"),
        ("approval=nothing", 400, "`nothing`"),
        ("event=1&at=99999", 400, "no view at 99999"),
    ] {
        let answer = site.get(&format!("/incidents?{query}")).await;
        assert_eq!(answer.status.as_u16(), status, "{query}: {}", answer.text());
        assert!(answer.text().contains(words), "{query}: {}", answer.text());
    }
}

#[tokio::test]
async fn graphs_answer_questions_over_the_api() {
    let site = Site::full();
    let event = seq(&site, "harbor-04-04");
    let body = site.get(&format!("/api/v1/incidents?event={event}")).await.json();
    assert_eq!(body["schema"], "verdict-graph/1");
    assert_eq!(body["incident"]["traces"].as_array().unwrap().len(), 2);
    assert!(body["trust_flow"]["flows"].is_array());
    let dot = site.get(&format!("/api/v1/incidents?event={event}&format=dot")).await;
    assert!(dot.text().starts_with("digraph execution {"));
    let svg = site.get(&format!("/api/v1/incidents?event={event}&format=svg")).await;
    assert_eq!(svg.header("content-type"), "image/svg+xml; charset=utf-8");
    let trace = site.ledger.record(event).unwrap().unwrap().event.unwrap().trace_id.unwrap();
    let ask = |query: String| {
        let path = format!("/api/v1/traces/{trace}/graph?{query}");
        let site = &site;
        async move { site.get(&path).await }
    };
    let all = ask(String::new()).await.json();
    let up = ask(format!("upstream_of={event}&confidence=explicit")).await.json();
    assert!(up["nodes"].as_array().unwrap().len() < all["nodes"].as_array().unwrap().len());
    assert_eq!(up["question"]["upstream_of"], event.to_string());
    for (query, status) in [
        ("upstream_of=1&downstream_of=2", 400),
        ("downstream_of=nothing", 404),
        ("format=png", 400),
        ("downstream_of=chat&confidence=maybe", 400),
    ] {
        let answer = ask(query.to_owned()).await;
        assert_eq!(answer.status.as_u16(), status, "{query}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{query}");
    }
}

#[tokio::test]
async fn an_event_page_answers_and_the_api_says_the_same() {
    let site = Site::full();
    let refund = refund(&site);
    let html = site.page(&format!("/events/{refund}")).await;
    let body = site.get(&format!("/api/v1/events/{refund}/answers")).await.json();
    assert_eq!(body["schema"], "verdict-answers/1");
    let elements = markup::read(&html);
    for answer in body["answers"].as_array().unwrap() {
        let asks = answer["asks"].as_str().unwrap();
        assert!(elements.iter().any(|e| e.name == "dt" && e.text.trim() == asks), "{asks}");
    }
    assert!(html.contains("/what-if") && html.contains("incidents?event="));
    // What is no event has no answers, and its page is as before.
    let genesis = site.page("/events/0").await;
    assert!(!genesis.contains("Answers about") && genesis.contains("Verified on this request"));
    assert_eq!(site.get("/api/v1/events/0/answers").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(site.get("/api/v1/events/99999/answers").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_what_if_has_its_state_in_the_address_and_needs_no_script() {
    let site = Site::full();
    let refund = refund(&site);
    let path = format!("/events/{refund}/what-if");
    let first = site.page(&path).await;
    assert!(markup::lint(&first).is_empty(), "{:#?}", markup::lint(&first));
    assert!(first.contains("Nothing is edited yet"), "{first}");
    let edited = site
        .page(&format!("{path}?policy=harbor-goods@1&edits=%2Faction%2Farguments%2Famount_cents%3D900"))
        .await;
    assert!(markup::lint(&edited).is_empty(), "{:#?}", markup::lint(&edited));
    for words in [
        "The decision changes.",
        "follows from it",
        "<b>gone</b>",
        "silent",
        "/action/arguments/amount_cents=900</textarea>",
        ".rego:",
    ] {
        assert!(edited.contains(words), "{words}");
    }
    let refused = site.page(&format!("{path}?edits=%2Facton%2Fname%3Dx")).await;
    assert!(markup::lint(&refused).is_empty(), "{:#?}", markup::lint(&refused));
    assert!(refused.contains("role=\"alert\"") && refused.contains("did you mean `action`?"), "{refused}");
    assert!(refused.contains("/acton/name=x</textarea>"), "what was typed stays");
    for (path, status) in [
        ("/events/0/what-if".to_owned(), 400),
        ("/events/99999/what-if".to_owned(), 404),
        (format!("{path}?policy=nobody@1"), 404),
        (format!("{path}?policy=..%2F..%2Fetc"), 404),
    ] {
        assert_eq!(site.get(&path).await.status.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn the_what_if_api_takes_json_and_refuses_what_it_cannot_read() {
    let site = Site::full();
    let refund = refund(&site);
    let post = |body: Value| {
        let site = &site;
        async move {
            site.post("/api/v1/what-if", &[("content-type", "application/json")], body.to_string()).await
        }
    };
    let answer = post(
        json!({"event": refund, "policy": "harbor-goods@1", "set": {"/action/arguments/amount_cents": 900}}),
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let body = answer.json();
    assert_eq!(
        (&body["answer"]["before"]["effect"], &body["answer"]["after"]["effect"]),
        (&json!("block"), &json!("allow"))
    );
    assert_eq!(body["answer"]["changed"][0]["pointer"], "/action/arguments/amount_cents");
    for (body, status) in [
        (json!({"event": refund, "policy": "harbor-goods@1", "set": {"/acton": 1}}), 400),
        (json!({"event": refund, "policy": "harbor-goods@1", "unset": ["/schema"]}), 400),
        (json!({"event": refund, "policy": "harbor-goods@1", "sett": {}}), 400),
        (json!({"event": refund, "policy": "../../etc/passwd"}), 404),
        (json!({"event": 99_999, "policy": "harbor-goods@1"}), 404),
        (json!("x".repeat(300_000)), 400),
    ] {
        let answer = post(body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let foreign = site
        .post(
            "/api/v1/what-if",
            &[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")],
            "{}",
        )
        .await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
}
