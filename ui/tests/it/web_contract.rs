//! The trace contract in force answers whoever sends: native events with 422 and the lines, OTLP with `partial_success`.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use serde_json::{Value, json};
use verdict_ledger::contract::{Contract, Quarantine, activate};

use crate::running::Running;

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
