//! What the pages show.

use axum::http::StatusCode;
use verdict_ledger::ingest::Format;

use crate::markup;
use crate::site::{HOSTILE_TRACE, Site, testdata};

#[tokio::test]
async fn every_page_keeps_the_rules() {
    let site = Site::full();
    let verified = site.post("/integrity/verify", &[], "").await;
    assert_eq!(verified.status, StatusCode::SEE_OTHER, "{}", verified.text());
    let mut pages = site.pages();
    assert!(pages.len() > 20, "recorded traffic is there");
    pages.sort();
    for page in pages {
        let wrong = markup::lint(&site.page(&page).await);
        assert!(wrong.is_empty(), "{page}: {wrong:#?}");
    }
}

#[tokio::test]
async fn empty_ledgers_and_errors_keep_the_rules_too() {
    let site = Site::empty();
    for page in ["/traces", "/diff", "/policies", "/integrity", "/events/0"] {
        let wrong = markup::lint(&site.page(page).await);
        assert!(wrong.is_empty(), "{page}: {wrong:#?}");
    }
    assert!(site.page("/traces").await.contains("No traces yet"));
    for page in [
        "/nothing",
        "/traces/zz",
        "/events/99",
        "/events/-1",
        "/diff?from=a@1&to=b@2",
        "/traces?effect=maybe",
    ] {
        let answer = site.get(page).await;
        assert!(answer.status.is_client_error(), "{page}: {}", answer.status);
        let wrong = markup::lint(&answer.text());
        assert!(wrong.is_empty(), "{page}: {wrong:#?}");
        assert!(answer.text().contains("href=\"/traces\""), "{page} has a way back");
    }
}

#[tokio::test]
async fn errors_say_what_was_wrong() {
    let site = Site::full();
    for (page, status, words) in [
        ("/traces/1234", 400, "trace_id must be 32 hexadecimal digits, got 4"),
        ("/traces/0123456789abcdef0123456789abcdef", 404, "no trace `0123456789abcdef0123456789abcdef`"),
        ("/events/123456", 404, "no entry `123456`"),
        ("/events/x", 400, "got `x`"),
        ("/traces?at=999999", 400, "so there is no view at 999999"),
        ("/traces?before=-1", 400, "before must be a position"),
        ("/traces?finding=bad", 400, "known are"),
        ("/diff?from=nobody@1&amp;to=nobody@2&to=x", 404, "no published policy `nobody@1`"),
        ("/diff?from=recorded&to=active&class=bad", 400, "`bad` is not a class"),
    ] {
        let answer = site.get(page).await;
        assert_eq!(answer.status.as_u16(), status, "{page}: {}", answer.text());
        assert!(answer.text().contains(words), "{page}: {}", answer.text());
    }
}

#[tokio::test]
async fn the_list_filters_pages_and_stays_when_pinned() {
    let site = Site::full();
    let all = site.page("/traces").await;
    let rows = |html: &str| {
        let elements = markup::read(html);
        let ids = elements.iter().filter(|e| e.name == "a" && e.attribute("class") == Some("id"));
        ids.map(|e| e.attribute("title").unwrap().to_owned()).collect::<Vec<_>>()
    };
    let traces: Vec<String> =
        site.ledger.traces(None, 100).unwrap().iter().map(|trace| trace.trace_id.to_string()).collect();
    assert_eq!(rows(&all), traces, "newest first");
    let blocked = rows(&site.page("/traces?effect=block").await);
    assert!(!blocked.is_empty() && blocked.len() < traces.len());
    assert!(blocked.contains(&HOSTILE_TRACE.to_owned()));
    assert_eq!(rows(&site.page(&format!("/traces?text={HOSTILE_TRACE}")).await), [HOSTILE_TRACE]);
    assert!(rows(&site.page("/traces?agent=no-such-agent").await).is_empty());

    let size = site.ledger.head().size;
    let before = rows(&site.page(&format!("/traces?at={size}")).await);
    let outlet = std::fs::read(testdata("native/harbor-outlet.ndjson")).unwrap();
    site.ingest(Format::Native, &outlet);
    assert_eq!(rows(&site.page(&format!("/traces?at={size}")).await), before, "a pinned list does not grow");
    assert!(rows(&site.page("/traces").await).len() > before.len());
    let oldest = site.ledger.traces(None, 100).unwrap().last().unwrap().first_seq;
    assert!(rows(&site.page(&format!("/traces?before={oldest}")).await).is_empty());
    let newest = site.ledger.traces(None, 1).unwrap()[0].first_seq;
    let all = rows(&site.page("/traces").await);
    assert_eq!(rows(&site.page(&format!("/traces?before={newest}")).await), all[1..]);
}

#[tokio::test]
async fn a_trace_shows_its_actions_rulings_graph_and_events() {
    let site = Site::full();
    for trace in site.ledger.traces(None, 100).unwrap() {
        let html = site.page(&format!("/traces/{}", trace.trace_id)).await;
        let elements = markup::read(&html);
        let ids: Vec<&str> = elements.iter().filter_map(|element| element.attribute("id")).collect();
        for seq in site.ledger.trace_seqs(&trace.trace_id).unwrap() {
            assert!(ids.contains(&format!("e-{seq}").as_str()), "{}: event {seq}", trace.trace_id);
        }
        let graph =
            elements.iter().find(|e| e.name == "svg" && e.attribute("class") == Some("graph")).unwrap();
        assert!(!graph.text.trim().is_empty());
        assert!(
            elements
                .iter()
                .any(|e| e.name == "rect" && e.attribute("class").is_some_and(|c| c.starts_with("bar")))
        );
    }
}

#[tokio::test]
async fn hostile_text_is_shown_and_harmless() {
    let site = Site::full();
    for page in [format!("/traces/{HOSTILE_TRACE}"), "/traces".to_owned()] {
        let html = site.page(&page).await;
        assert!(html.contains("&lt;script&gt;alert(1)"), "{page}");
        assert!(!html.contains("<script>alert"), "{page}");
        assert!(!html.contains('\u{202e}') && !html.contains('\u{7}'), "{page} hides nothing");
        assert!(html.contains("\u{27e8}U+202E\u{27e9}"), "{page} names it");
    }
    let answer = site.get("/traces?text=%22%3E%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE").await;
    assert!(!answer.text().contains("<script>alert") && !answer.text().contains('\u{202e}'));
    let seq = site.ledger.traces(None, 1).unwrap()[0].first_seq;
    let html = site.page(&format!("/events/{seq}")).await;
    assert!(!html.contains("<script>alert") && !html.contains('\u{202e}'));
}

#[tokio::test]
async fn an_event_is_verified_on_the_request_and_failures_are_told() {
    let site = Site::full();
    let covered = site.page("/events/3").await;
    assert!(covered.contains("Verified on this request"), "{covered}");
    let entry = site.ledger.entry(3).unwrap().unwrap();
    let leaf = verdict_ledger::merkle::leaf_hash(&entry).to_string();
    assert!(covered.contains(&leaf));
    let outlet = std::fs::read(testdata("native/harbor-outlet.ndjson")).unwrap();
    site.ingest(Format::Native, &outlet);
    let newest = site.ledger.head().size - 1;
    let html = site.page(&format!("/events/{newest}")).await;
    let told = html.contains("Not yet covered by a checkpoint") || html.contains("Verified on this request");
    assert!(told, "{html}");
    site.ledger.settle().unwrap();
    assert!(site.page(&format!("/events/{newest}")).await.contains("Verified on this request"));
}

#[tokio::test]
async fn a_diff_links_its_numbers_to_decisions() {
    let site = Site::full();
    let published = verdict_replay::policy::registry::list(&site.ledger).unwrap();
    let base = format!("/diff?from={}&to={}", published[0].digest, published[1].digest);
    let html = site.page(&base).await;
    let elements = markup::read(&html);
    let cells: Vec<String> = elements
        .iter()
        .filter(|e| e.name == "a" && e.inside.iter().any(|outer| outer == "td"))
        .filter_map(|e| e.attribute("href"))
        .filter(|href| href.contains("before="))
        .map(str::to_owned)
        .collect();
    assert!(!cells.is_empty(), "the versions differ");
    for cell in cells {
        let html = site.page(cell.split('#').next().unwrap()).await;
        assert!(html.contains("Show all"), "{cell}");
        assert!(html.contains("id=\"c-"), "{cell} lists decisions");
    }
    assert!(
        html.contains("verdict --ledger &#39;harbor ledger&#39; replay diff --from"),
        "the command quotes the path"
    );
    let again = site.page(&base).await;
    let digest = |html: &str| html.split("Result digest</dt><dd><code>").nth(1).unwrap()[..71].to_owned();
    assert_eq!(digest(&html), digest(&again));
}

#[tokio::test]
async fn integrity_shows_checkpoints_and_a_verification() {
    let site = Site::full();
    let html = site.page("/integrity").await;
    assert!(html.contains("Not run since this server started"));
    assert!(html.contains(&site.ledger.head().root.to_string()));
    let answer = site.post("/integrity/verify", &[("sec-fetch-site", "same-origin")], "").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let html = site.page("/integrity").await;
    assert!(html.contains("Everything held"), "{html}");
}

#[tokio::test]
async fn the_api_and_the_probes_answer() {
    let site = Site::full();
    assert_eq!(site.get("/healthz").await.text(), "ok\n");
    assert_eq!(site.get("/readyz").await.text(), "ready\n");
    let list = site.get("/api/v1/traces?limit=2").await.json();
    assert_eq!(list["traces"].as_array().unwrap().len(), 2);
    let next = list["next_before"].as_str().unwrap().to_owned();
    let more = site.get(&format!("/api/v1/traces?limit=2&before={next}")).await.json();
    assert_ne!(list["traces"], more["traces"]);
    let trace = site.get(&format!("/api/v1/traces/{}", site.some_trace())).await.json();
    assert!(!trace["actions"].as_array().unwrap().is_empty());
    let missing = site.get("/api/v1/traces/0123456789abcdef0123456789abcdef").await;
    assert_eq!((missing.status.as_u16(), missing.header("content-type")), (404, "application/problem+json"));
    let bad = site.get("/api/v1/traces?limit=x").await;
    assert_eq!((bad.status.as_u16(), bad.header("content-type")), (400, "application/problem+json"));
}

#[tokio::test]
async fn the_last_verification_is_told_to_machines_too() {
    let site = Site::full();
    let before = site.get("/api/v1/integrity").await.json();
    assert!(before["last_verification"].is_null() && before["size"].as_str().is_some());
    site.post("/integrity/verify", &[], "").await;
    let after = site.get("/api/v1/integrity").await.json();
    let last = &after["last_verification"];
    assert_eq!((&last["verified"], &last["standing"]), (&true.into(), &"verified".into()), "{after:#}");
    assert_eq!(last["report"]["entries"].as_u64().unwrap().to_string(), after["size"].as_str().unwrap());
}
