//! The trace contract in force answers whoever sends: native events with 422 and the lines, OTLP with `partial_success`.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use serde_json::{Value, json};
use verdict_ledger::contract::{AtIngest, Contract, Quarantine, activate};
use verdict_ledger::{Batch, NewRecord};
use verdict_ui::auth::Scope;

use crate::running::{Running, gate, token};

fn under(mode: &str) -> Running {
    let shipped = Contract::shipped().unwrap();
    let shipped = std::str::from_utf8(shipped.bytes()).unwrap();
    let ours = shipped
        .replace("mode = \"lenient\"", &format!("mode = \"{mode}\""))
        .replace("verdict-default-1", "ours");
    let contract = Contract::parse(ours.as_bytes()).unwrap();
    Running::over(|ledger| drop(activate(ledger, &contract, "ada", "start").unwrap()), |_, _| {})
}

fn post(server: &Running, path: &str, body: &Value) -> (u16, Value) {
    let json = [("content-type", "application/json")];
    let reply = server.ask("POST", path, &json, body.to_string().as_bytes());
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

fn get(server: &Running, path: &str) -> (u16, Value) {
    let reply = server.ask("GET", path, &[], b"");
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

fn native(id: &str, service: Option<&str>) -> Value {
    json!({"id": id, "session": "s", "environment": "test", "service": service.unwrap_or("shop"),
           "action": {"kind": "tool", "name": "get_order"}})
}

fn without_service(id: &str) -> Value {
    let mut event = native(id, None);
    event.as_object_mut().unwrap().remove("service");
    event
}

fn otlp() -> Value {
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [{
        "traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": "0102030405060708", "name": "execute_tool get_order",
        "startTimeUnixNano": "1", "endTimeUnixNano": "2",
        "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "execute_tool"}}],
    }]}]}]})
}

#[test]
fn a_strict_contract_refuses_native_events_by_line_and_quarantines_when_asked_to() {
    let server = under("strict");
    let (status, answer) = post(&server, "/api/v1/events", &json!([native("a", None), without_service("b")]));
    assert_eq!(status, 422, "{answer}");
    assert_eq!(answer["errors"], json!([{"line": 2, "missing": ["service"]}]));
    assert!(answer["detail"].as_str().unwrap().contains("nothing was appended"), "{answer}");
    let (status, answer) = post(&server, "/api/v1/events", &native("a", None));
    assert_eq!((status, &answer["appended"], &answer["quarantined"]), (200, &json!(1), &json!(0)));
    let (status, answer) = post(&server, "/api/v1/events?mode=quarantine", &without_service("b"));
    assert_eq!((status, &answer["quarantined"]), (200, &json!(1)), "{answer}");
    let (status, _) = post(&server, "/api/v1/events?mode=other", &native("c", None));
    assert_eq!(status, 400);
    let (status, answer) = post(&server, "/v1/traces", &otlp());
    assert_eq!((status, answer["partialSuccess"]["rejectedSpans"].as_str()), (200, Some("1")), "{answer}");
    let said = answer["partialSuccess"]["errorMessage"].as_str().unwrap();
    assert!(said.contains("ours") && said.contains("quarantine"), "{said}");
    let ledger = &server.ledger;
    let events =
        ledger.records(0..u64::MAX).filter(|record| record.as_ref().unwrap().event.is_some()).count();
    assert_eq!(events, 3, "what is quarantined is kept");
    let held = Quarantine::read(ledger, ledger.head().size).unwrap();
    assert_eq!(held.holds().len(), 2, "{held:?}");
}

#[test]
fn a_lenient_contract_takes_everything_and_says_what_is_missing() {
    let server = under("lenient");
    let (status, answer) = post(&server, "/api/v1/events", &without_service("b"));
    assert_eq!((status, &answer["appended"]), (200, &json!(1)));
    assert!(answer["warnings"].to_string().contains("without service.name"), "{answer}");
    let (status, answer) = post(&server, "/v1/traces", &otlp());
    assert_eq!(status, 200);
    let partial = &answer["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], json!("0"), "{answer}");
    assert!(partial["errorMessage"].as_str().unwrap().contains("accepted and marked"), "{answer}");
}

#[test]
fn a_release_over_http_is_a_recorded_decision() {
    let server = under("strict");
    let (status, answer) = post(&server, "/api/v1/events?mode=quarantine", &without_service("b"));
    assert_eq!(
        (status, &answer["appended"]),
        (200, &json!(1)),
        "the note of the quarantine is no event: {answer}"
    );
    let (_, answer) = post(&server, "/api/v1/events?mode=quarantine", &without_service("b"));
    assert_eq!((&answer["appended"], &answer["duplicates"]), (&json!(0), &json!(1)), "{answer}");
    let (_, told) = get(&server, "/api/v1/contract");
    assert_eq!(told["quarantined_count"], 1, "{told}");
    let page = server.ask("GET", "/contract", &[], b"").text();
    assert!(
        page.contains("action=\"/contract/release\"") && page.contains("name=\"event\" value=\"b\""),
        "{page}"
    );

    let path = "/api/v1/contract/release";
    for (body, says) in [
        (json!({"event": "b", "reason": "known"}), "say who decides"),
        (json!({"event": "b", "by": "ada", "reason": " "}), "say why"),
        (json!({"event": "b", "action": "1", "by": "ada", "reason": "x"}), "exactly one"),
        (json!({"event": "b", "who": "ada"}), "unknown field"),
    ] {
        let (status, answer) = post(&server, path, &body);
        assert_eq!(status, 400, "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(says), "{answer}");
    }
    let (status, _) = post(&server, path, &json!({"event": "nobody", "by": "ada", "reason": "x"}));
    assert_eq!(status, 404);
    let (status, answer) =
        post(&server, path, &json!({"event": "b", "by": "ada", "reason": "batch job, ticket 91"}));
    assert_eq!((status, answer["released"].as_array().unwrap().len()), (200, 1), "{answer}");
    let held = Quarantine::read(&server.ledger, server.ledger.head().size).unwrap();
    let release = held.holds()[0].released.clone().unwrap();
    assert_eq!((release.by.as_str(), release.reason.as_str()), ("ada", "batch job, ticket 91"));
    assert!(held.is_empty());
    let (status, _) = post(&server, path, &json!({"event": "b", "by": "ada", "reason": "again"}));
    assert_eq!(status, 404, "it is out already");

    // The form of the page.
    post(&server, "/api/v1/events?mode=quarantine", &without_service("c"));
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let reply = server.ask("POST", "/contract/release", &form, b"action=&event=c&by=grace&reason=checked");
    assert_eq!((reply.status, reply.header("location").as_deref()), (303, Some("/contract#quarantine")));
    assert!(Quarantine::read(&server.ledger, u64::MAX).unwrap().is_empty());
    assert!(server.ask("GET", "/contract", &[], b"").text().contains("by grace: checked"));
}

#[test]
fn only_an_administrator_releases_and_is_named() {
    let mut tokens = Vec::new();
    let server = Running::with(|dir, options| {
        tokens.push(token(dir, "auditor", &[Scope::Read]));
        tokens.push(token(dir, "collector", &[Scope::Ingest]));
        tokens.push(token(dir, "duty", &[Scope::Admin]));
        options.gate = Some(gate(dir));
    });
    let body = json!({"event": "b", "reason": "known"}).to_string();
    let ask = |token: &str| {
        let bearer = format!("Bearer {token}");
        server.ask("POST", "/api/v1/contract/release", &[("authorization", &bearer)], body.as_bytes()).status
    };
    let shipped = Contract::shipped().unwrap();
    let strict =
        std::str::from_utf8(shipped.bytes()).unwrap().replace("mode = \"lenient\"", "mode = \"strict\"");
    let strict = Contract::parse(strict.as_bytes()).unwrap();
    let event: verdict_ledger::event::Event = serde_json::from_value(without_service("b")).unwrap();
    let mut records = vec![NewRecord::from_event(&event).unwrap()];
    records.extend(AtIngest::check(&strict, &[event]).facts());
    server.ledger.append(Batch { records, blobs: Vec::new() }).unwrap();
    assert_eq!([ask(&tokens[0]), ask(&tokens[1]), ask(&tokens[2])], [403, 403, 200]);
    let held = Quarantine::read(&server.ledger, u64::MAX).unwrap();
    let release = held.holds()[0].released.clone().unwrap();
    assert_eq!(release.by, "token:duty");
    let entry = server.ledger.record(release.seq).unwrap().unwrap();
    assert_eq!(entry.body["peer"], "token:duty");
}
