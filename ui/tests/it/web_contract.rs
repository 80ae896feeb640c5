//! The trace contract in force answers whoever sends: native events with 422 and the lines, OTLP with `partial_success`.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::cli_support::{Bench, terminate};

/// The real server on a free port.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(bench: &Bench) -> Self {
        let mut child = bench
            .command()
            .args(["serve", "--check", "none", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        Self { child, address }
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        terminate(&mut self.child);
    }
}

fn under(mode: &str) -> (Bench, Running) {
    let bench = Bench::with_ledger();
    let shipped = bench.run(&["contract", "show", "--default", "--file"]).ok().out;
    let changed = shipped
        .replace("mode = \"lenient\"", &format!("mode = \"{mode}\""))
        .replace("verdict-default-1", "ours");
    let file = bench.file("contract.toml", changed);
    bench.run(&["contract", "use", &file, "--reason", "start"]).ok();
    let running = Running::start(&bench);
    (bench, running)
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
    let (bench, server) = under("strict");
    let (status, answer) = server.post("/api/v1/events", &json!([native("a", None), without_service("b")]));
    assert_eq!(status, 422, "{answer}");
    assert_eq!(answer["errors"], json!([{"line": 2, "missing": ["service"]}]));
    assert!(answer["detail"].as_str().unwrap().contains("nothing was appended"), "{answer}");
    let (status, answer) = server.post("/api/v1/events", &native("a", None));
    assert_eq!((status, &answer["appended"], &answer["quarantined"]), (200, &json!(1), &json!(0)));
    let (status, answer) = server.post("/api/v1/events?mode=quarantine", &without_service("b"));
    assert_eq!((status, &answer["quarantined"]), (200, &json!(1)), "{answer}");
    let (status, _) = server.post("/api/v1/events?mode=other", &native("c", None));
    assert_eq!(status, 400);
    let (status, answer) = server.post("/v1/traces", &otlp());
    assert_eq!((status, answer["partialSuccess"]["rejectedSpans"].as_str()), (200, Some("1")), "{answer}");
    let said = answer["partialSuccess"]["errorMessage"].as_str().unwrap();
    assert!(said.contains("ours") && said.contains("quarantine"), "{said}");
    drop(server);
    let stats = bench.run(&["stats", "--include-quarantined", "--format", "json"]).ok().json();
    assert_eq!(stats["events"], json!(3), "what is quarantined is kept");
    assert_eq!(stats["quarantined"]["actions"], json!(2), "{stats}");
    assert_eq!(bench.run(&["verify"]).code, 0);
}

#[test]
fn a_lenient_contract_takes_everything_and_says_what_is_missing() {
    let (_bench, server) = under("lenient");
    let (status, answer) = server.post("/api/v1/events", &without_service("b"));
    assert_eq!((status, &answer["appended"]), (200, &json!(1)));
    assert!(answer["warnings"].to_string().contains("without service.name"), "{answer}");
    let (status, answer) = server.post("/v1/traces", &otlp());
    assert_eq!(status, 200);
    let partial = &answer["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], json!("0"), "{answer}");
    assert!(partial["errorMessage"].as_str().unwrap().contains("accepted and marked"), "{answer}");
}
