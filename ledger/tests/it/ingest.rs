//! Ingest against the recorded traffic in `testdata/`, and against bytes that nobody sent.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use verdict_ledger::canon;
use verdict_ledger::event::{ActionKind, Effect, Event, Status};
use verdict_ledger::id::Digest;
use verdict_ledger::ingest::{self, Format, IngestError, Limits, Mapped, Signal};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

/// Maps every body of a folder, in order of arrival; a body sent twice counts twice.
fn folder(name: &str) -> Vec<Mapped> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(testdata().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let is_body = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        !name.ends_with(".headers.json")
            && [".pb", ".pb.gz", ".json", ".ndjson", ".jsonl"].iter().any(|end| name.ends_with(end))
    };
    files.iter().filter(|path| is_body(path)).map(|path| map_file(path)).collect()
}

fn map_file(path: &Path) -> Mapped {
    let bytes = std::fs::read(path).unwrap();
    let format = Format::detect(path.file_name().and_then(|name| name.to_str()), None, &bytes)
        .unwrap_or_else(|| panic!("{} is of no known format", path.display()));
    ingest::map(format, &bytes, &Limits::default())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Distinct events of a folder by id; the same id must come with the same content.
fn events(name: &str) -> BTreeMap<String, Event> {
    let mut all = BTreeMap::new();
    for mapped in folder(name) {
        assert_eq!(mapped.rejected, [], "{name}");
        for event in mapped.events {
            let bare = Event { source: verdict_ledger::event::Source::default(), ..event.clone() };
            if let Some(known) = all.insert(event.id.clone(), bare.clone()) {
                assert_eq!(known, bare, "{name}: a repeated delivery says something else");
            }
        }
    }
    all
}

/// Counts events by what matters of them.
fn tally(name: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for mapped in folder(name) {
        for event in mapped.events {
            let decision = event.decision.as_ref().map_or("-", |decision| decision.effect.as_str());
            let shadow =
                if event.decision.as_ref().is_some_and(|decision| !decision.enforced) { "?" } else { "" };
            let outcome = event.outcome.as_ref().map_or("-", |outcome| outcome.status.as_str());
            let profile = event.source.profile.as_deref().unwrap_or("-");
            let key = format!("{profile} {} {decision}{shadow} {outcome}", event.action.kind.as_str());
            *counts.entry(key).or_insert(0) += 1;
        }
    }
    counts
}

#[test]
fn recorded_traffic_maps_to_the_same_statements() {
    let tallies: BTreeMap<&str, BTreeMap<String, usize>> =
        ["otlp/langgraph-openinference", "otlp/genai-otel", "otlp/mcp", "aisecops", "native"]
            .map(|name| (name, tally(name)))
            .into();
    insta::assert_json_snapshot!("tallies", tallies);
}

#[test]
fn a_body_sent_twice_has_the_same_ids() {
    let bodies = folder("otlp/langgraph-openinference");
    let sent: usize = bodies.iter().map(|mapped| mapped.events.len()).sum();
    // Body 002 was answered 503 and came again as 003.
    assert_eq!(bodies[1].events, bodies[2].events);
    assert_eq!(events("otlp/langgraph-openinference").len(), sent - bodies[1].events.len());
}

#[test]
fn an_interrupt_is_a_wait_and_a_policy_exception_is_a_failure() {
    let events = events("otlp/langgraph-openinference");
    let decided: Vec<_> = events.values().filter(|event| event.decision.is_some()).collect();
    assert_eq!(decided.len(), 1, "the node above the tool does not ask again");
    let waiting = decided[0];
    assert_eq!((waiting.action.kind, waiting.action.name.as_str()), (ActionKind::Tool, "issue_refund"));
    assert_eq!(waiting.decision.as_ref().unwrap().effect, Effect::RequireApproval);
    assert_eq!(waiting.outcome.as_ref().unwrap().status, Status::Pending);
    let refused: Vec<_> = events
        .values()
        .filter_map(|event| event.outcome.as_ref()?.error.as_ref()?.message.as_deref())
        .filter(|message| message.contains("blocked by policy"))
        .collect();
    assert!(!refused.is_empty());
}

#[test]
fn lost_attributes_are_counted_and_not_filled_in() {
    let events = events("otlp/langgraph-openinference");
    let model = |event: &&Event| event.action.kind == ActionKind::Model;
    let nameless = events.values().filter(model).filter(|event| event.session.is_none()).count();
    assert_eq!(nameless, 4);
    let lost = folder("otlp/langgraph-openinference")
        .iter()
        .flat_map(|mapped| &mapped.events)
        .filter(|event| event.source.lost > 0)
        .count();
    assert!(lost >= nameless);
}

#[test]
fn every_event_has_a_canonical_form_and_points_at_its_bytes() {
    for name in ["otlp/langgraph-openinference", "otlp/genai-otel", "otlp/mcp", "aisecops", "native"] {
        for mapped in folder(name) {
            let (count, raw) = (mapped.events.len(), Digest::of(&mapped.body));
            for event in &mapped.events {
                let value = serde_json::to_value(event).unwrap();
                canon::entry_bytes(&value).unwrap();
                for pointer in &event.source.restated {
                    assert!(value.pointer(pointer).is_some_and(Value::is_string), "{pointer}");
                }
            }
            let batch = mapped.clone().into_batch(Some("collector-1")).unwrap();
            assert_eq!(batch.records.len(), count);
            assert_eq!(batch.blobs, [mapped.body]);
            for record in &batch.records {
                assert_eq!(record.body["source"]["raw"], json!(raw.to_string()));
                assert_eq!(record.body["source"]["peer"], "collector-1");
            }
        }
    }
}

#[test]
fn defects_are_named_by_line_and_the_other_lines_are_kept() {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(testdata().join("native/bad")).unwrap() {
        let path = entry.unwrap().path();
        let mapped = map_file(&path);
        let reasons: Vec<String> = mapped.rejected.iter().map(ToString::to_string).collect();
        found.insert(
            path.file_name().unwrap().to_str().unwrap().to_owned(),
            json!({"kept": mapped.events.len(), "rejected": reasons}),
        );
    }
    insta::assert_json_snapshot!("defects", found);
}

/// One event of each sort that a folder holds, whole.
fn samples(name: &str) -> Vec<Event> {
    let mut seen = BTreeMap::new();
    for mapped in folder(name) {
        for event in mapped.events {
            let sort = (
                event.source.profile.clone(),
                event.action.kind,
                event.decision.as_ref().map(|decision| decision.effect),
                event.outcome.as_ref().map(|outcome| outcome.status),
            );
            seen.entry(sort).or_insert(event);
        }
    }
    seen.into_values().collect()
}

#[test]
fn samples_of_each_profile() {
    for name in ["otlp/langgraph-openinference", "otlp/genai-otel", "otlp/mcp", "aisecops"] {
        let mut samples = serde_json::to_value(samples(name)).unwrap();
        shorten(&mut samples);
        insta::assert_json_snapshot!(format!("samples-{}", name.replace('/', "-")), samples);
    }
}

/// Long texts are prompts and stack traces, which bury what a reader of the snapshot looks for.
fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.chars().count() > 120 => {
            let start: String = text.chars().take(80).collect();
            *text = format!("{start}… {} characters, {}", text.chars().count(), Digest::of(text.as_bytes()));
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(members) => members.values_mut().for_each(shorten),
        _ => {}
    }
}

/// A span of a profile that `testdata/` holds no recording of.
fn one_span(scope: &str, span: &Value) -> Event {
    let mut whole = json!({
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "s",
        "startTimeUnixNano": "1", "endTimeUnixNano": "2",
    });
    whole.as_object_mut().unwrap().extend(span.as_object().unwrap().clone());
    let body = json!({"resourceSpans": [{"scopeSpans": [{"scope": {"name": scope}, "spans": [whole]}]}]});
    let mapped = ingest::map(Format::OtlpJson, body.to_string().as_bytes(), &Limits::default()).unwrap();
    assert_eq!(mapped.rejected, []);
    mapped.events.into_iter().next().unwrap()
}

fn attributes(pairs: &[(&str, Value)]) -> Value {
    pairs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

fn text(value: &str) -> Value {
    json!({"stringValue": value})
}

#[test]
fn genops_rules_by_its_event_and_a_stopped_unit_has_no_outcome() {
    let event = one_span(
        "genops.runtime",
        &json!({
            "attributes": attributes(&[
                ("genops.spec.version", text("0.1.0")), ("genops.operation.name", text("score")),
                ("genops.operation.type", text("inference")), ("genops.policy.result", text("RATE_LIMITED")),
                ("genops.policy.reason_code", text("RATE_LIMITED")), ("genops.accounting.unit", text("USD")),
                ("genops.accounting.reserved", json!({"doubleValue": 0.0023})),
                ("genops.cost.total", json!({"doubleValue": 0.000_000_45})), ("genops.cost.currency", text("EUR")),
            ]),
            "events": [{"name": "genops.policy.evaluated", "attributes": attributes(&[
                ("genops.policy.result", text("RATE_LIMITED")), ("genops.policy.name", text("burst")),
                ("genops.policy.reason_code", text("RATE_LIMITED")),
            ])}],
            "links": [{"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "00000000000000aa",
                "attributes": attributes(&[("genops.link", text("retry_of"))])}],
            "status": {"code": 1},
        }),
    );
    insta::assert_json_snapshot!("genops", event);
}

#[test]
fn a_guardrail_tells_the_verdict_from_the_action() {
    let event = one_span(
        "app",
        &json!({"attributes": attributes(&[
            ("gen_ai.operation.name", text("run_guardrail")), ("gen_ai.guardrail.component.name", text("PII")),
            ("gen_ai.guardrail.target.subtype", text("tool_call")), ("gen_ai.guardrail.target.id", text("call_9")),
            ("gen_ai.guardrail.verdict.type", text("warn")), ("gen_ai.guardrail.action.type", text("block")),
            ("gen_ai.guardrail.security.policy.id", text("pii")),
        ])}),
    );
    let decision = event.decision.unwrap();
    assert_eq!(
        (decision.effect, decision.enforced, decision.flags),
        (Effect::Block, true, vec!["verdict:warn".into()])
    );
    assert_eq!(event.action.call_id.as_deref(), Some("call_9"));
    let event = one_span(
        "app",
        &json!({"attributes": attributes(&[
            ("gen_ai.operation.name", text("run_guardrail")), ("gen_ai.security.verdict.type", text("deny")),
        ])}),
    );
    assert!(!event.decision.unwrap().enforced, "nothing says that the verdict was acted on");
}

#[test]
fn traceloop_arguments_are_the_tools_own() {
    let event = one_span(
        "opentelemetry.instrumentation.langchain",
        &json!({"attributes": attributes(&[
            ("traceloop.span.kind", text("tool")), ("gen_ai.operation.name", text("execute_tool")),
            ("gen_ai.tool.name", text("lookup_order")),
            ("traceloop.association.properties.session_id", text("sess-1")),
            ("gen_ai.agent.id", text("run-uuid")),
            ("gen_ai.tool.call.arguments", text(
                r#"{"input_str":"{'id': 1}","inputs":{"id":1},"kwargs":{"tool_call_id":"call_7"}}"#
            )),
        ])}),
    );
    assert_eq!(event.action.arguments, Some(json!({"id": 1})));
    assert_eq!(event.action.call_id.as_deref(), Some("call_7"));
    assert_eq!(event.session.as_deref(), Some("sess-1"));
    assert_eq!(event.agent, None);
    assert_eq!(event.attributes["gen_ai.agent.id"], "run-uuid");
    assert_eq!(event.attributes["gen_ai.tool.call.arguments"]["inputs"], json!({"id": 1}));
}

#[test]
fn claude_code_tells_who_ruled_and_what_it_cost() {
    let log = |pairs: &[(&str, Value)]| {
        let body = json!({"resourceLogs": [{"scopeLogs": [{
            "scope": {"name": "com.anthropic.claude_code.events"},
            "logRecords": [{"timeUnixNano": "2000000000", "body": text("claude_code.x"), "attributes": attributes(pairs)}],
        }]}]});
        let mapped = ingest::map(Format::OtlpJson, body.to_string().as_bytes(), &Limits::default()).unwrap();
        mapped.events.into_iter().next().unwrap()
    };
    let ruled = log(&[
        ("event.name", text("tool_decision")),
        ("decision", text("reject")),
        ("source", text("user_reject")),
        ("tool_name", text("mcp_tool")),
        ("tool_use_id", text("toolu_1")),
        ("session.id", text("s")),
        ("tool_parameters", text(r#"{"mcp_server_name":"files","mcp_tool_name":"delete_file"}"#)),
    ]);
    insta::assert_json_snapshot!("claude-code-tool-decision", ruled);
    let called = log(&[
        ("event.name", text("api_request")),
        ("model", text("m")),
        ("request_id", text("req_1")),
        ("input_tokens", json!({"intValue": "1200"})),
        ("cache_creation_tokens", json!({"intValue": 300})),
        ("cost_usd", json!({"doubleValue": 0.005_354_999_999_999_999_5})),
        ("cost_usd_micros", json!({"intValue": "5355"})),
        ("duration_ms", json!({"intValue": "161"})),
    ]);
    let usage = called.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.cache_write_tokens), (Some(1200), Some(300)));
    assert_eq!(usage.cost.unwrap().nano, 5_355_000);
    assert_eq!((called.start_ns, called.end_ns), (Some(1_839_000_000), Some(2_000_000_000)));
    let unknown = log(&[("event.name", text("tool_decision")), ("decision", text("unknown"))]);
    assert_eq!(unknown.decision, None);
}

#[test]
fn numbers_that_json_cannot_carry_are_restated_and_named() {
    let event = one_span(
        "app",
        &json!({"attributes": attributes(&[
            ("gen_ai.operation.name", text("execute_tool")), ("gen_ai.tool.name", text("t")),
            ("big", json!({"intValue": "9007199254740993"})), ("nan", json!({"doubleValue": "NaN"})),
            ("gen_ai.tool.call.arguments", json!({"kvlistValue": {"values": [
                {"key": "account", "value": {"intValue": "-9223372036854775808"}},
            ]}})),
            ("twice", json!({"intValue": 1})), ("twice", json!({"intValue": "9007199254740995"})),
        ])}),
    );
    let value = serde_json::to_value(&event).unwrap();
    assert_eq!(
        event.source.restated,
        [
            "/action/arguments/account",
            "/attributes/big",
            "/attributes/nan",
            "/attributes/otlp.ambiguous/twice/1"
        ]
    );
    let restated: Vec<_> =
        event.source.restated.iter().map(|pointer| value.pointer(pointer).unwrap()).collect();
    assert_eq!(
        json!(restated),
        json!(["-9223372036854775808", "9007199254740993", "NaN", "9007199254740995"])
    );
}

#[test]
fn metrics_are_answered_and_nothing_else() {
    let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "m", "sum": {"dataPoints": [{"asInt": "1"}, {"asInt": "2"}]}},
    ]}]}]});
    let mapped = ingest::map(Format::OtlpJson, body.to_string().as_bytes(), &Limits::default()).unwrap();
    assert_eq!(mapped.events, []);
    assert_eq!(
        mapped.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["request: metrics are not events: 2 data points not stored"]
    );
    assert_eq!(mapped.into_batch(None).unwrap(), verdict_ledger::Batch::default());
}

#[test]
fn limits_hold_before_memory_is_spent() {
    let line = "{\"action\":{\"kind\":\"tool\",\"name\":\"t\"}}\n".repeat(11);
    let limits = Limits { events_max: 10, ..Limits::default() };
    assert!(matches!(
        ingest::map(Format::Native, line.as_bytes(), &limits),
        Err(IngestError::TooManyEvents { limit: 10 })
    ));
    let limits = Limits { line_bytes_max: 20, ..Limits::default() };
    let mapped = ingest::map(Format::Native, line.as_bytes(), &limits).unwrap();
    assert_eq!((mapped.events.len(), mapped.rejected.len()), (0, 11));
    let deep = format!("{{\"resourceSpans\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    assert!(matches!(
        ingest::map(Format::OtlpJson, deep.as_bytes(), &Limits::default()),
        Err(IngestError::Json { line: 1, .. })
    ));
    let error = ingest::map(Format::OtlpProtobuf(Signal::Traces), &[0x0a, 0x05, 0x12], &Limits::default())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "request (byte 0): a length runs past the end; is this an OTLP traces request?"
    );
}

#[test]
fn gzip_and_one_request_a_line_read_like_the_plain_body() {
    let first = std::fs::read(testdata().join("otlp/mcp/001.json")).unwrap();
    let plain = ingest::map(Format::OtlpJson, &first, &Limits::default()).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&first).unwrap();
    let packed = gzip.finish().unwrap();
    assert_eq!(Format::detect(None, None, &packed), Some(Format::OtlpJson));
    assert_eq!(ingest::map(Format::OtlpJson, &packed, &Limits::default()).unwrap(), plain);
    let compact = serde_json::from_slice::<Value>(&first).unwrap().to_string();
    let lines = format!("{compact}\n{compact}\n{{\"resourceSpans\":");
    let mapped = ingest::map(Format::OtlpJson, lines.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(mapped.events.len(), 2 * plain.events.len());
    assert!(mapped.rejected[0].to_string().starts_with("line 3 "), "{}", mapped.rejected[0]);
    assert!(mapped.events[0].source.path.as_deref().unwrap().starts_with("line/1/resourceSpans/0/"));
}

const FORMATS: &[Format] = &Format::ALL;

fn corrupted() -> impl Strategy<Value = (Format, Vec<u8>)> {
    let read = |name: &str| std::fs::read(testdata().join(name)).unwrap();
    let bodies = vec![
        (Format::OtlpProtobuf(Signal::Traces), read("otlp/genai-otel/003.pb")),
        (Format::OtlpJson, read("otlp/mcp/003.json")),
        (Format::AiSecOps, read("aisecops/audit-schema-0.5.0.jsonl")[..12_000].to_vec()),
        (Format::Native, read("native/harbor-outlet.ndjson")[..6_000].to_vec()),
    ];
    (prop::sample::select(bodies), any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..4))
        .prop_map(|((format, mut body), at, bytes)| {
            let at = at.index(body.len());
            let end = (at + bytes.len()).min(body.len());
            body.splice(at..end, bytes);
            (format, body)
        })
}

fn check_any(format: Format, bytes: &[u8]) {
    let limits = Limits::default();
    let first = ingest::map(format, bytes, &limits);
    let second = ingest::map(format, bytes, &limits);
    match (first, second) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first, second);
            for event in &first.events {
                canon::entry_bytes(&serde_json::to_value(event).unwrap()).unwrap();
                assert!(!event.id.is_empty() && !event.action.name.is_empty());
            }
        }
        (Err(first), Err(second)) => assert_eq!(first.to_string(), second.to_string()),
        _ => panic!("the same bytes were taken once and refused once"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Format::detect(Some("x.json"), None, &bytes);
        for format in FORMATS {
            check_any(*format, &bytes);
        }
    }

    #[test]
    fn damage_to_real_bodies_never_panics_and_is_read_the_same_twice((format, bytes) in corrupted()) {
        check_any(format, &bytes);
    }
}
