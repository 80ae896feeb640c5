//! What it costs to make events of a body, beside the bare decode of its protobuf, in alternating rounds of one run.

use std::path::Path;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use verdict_ledger::ingest::{self, Format, Limits, Signal};

use crate::measure::Took;

const ROUNDS: usize = 15;
/// Bodies are repeated until a round takes long enough for the clock.
const ROUND_BYTES: usize = 8 << 20;

/// Prints, for each client, megabytes of body a second.
pub(crate) fn run() {
    crate::head("mapping and bare decode, kB of body a second", "map", "decode");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let (mut mapped, mut decoded) = (0.0, 0.0);
    for folder in [
        "otlp/langgraph-openinference",
        "otlp/genai-otel",
        "clients/claude-code-loop",
        "clients/langgraph-traceloop",
        "clients/langgraph-otel-genai",
        "clients/genops-sdk",
        "clients/mcp-native",
    ] {
        let bodies = bodies(&root.join(folder));
        let bytes: usize = bodies.iter().map(|(_, body)| body.len()).sum();
        let repeats = (ROUND_BYTES / bytes).max(1);
        let limits = Limits::default();
        let (mut map, mut decode) = (f64::MAX, f64::MAX);
        for _ in 0..ROUNDS {
            let took = Took::of(|| {
                for (signal, body) in bodies.iter().cycle().take(repeats * bodies.len()) {
                    std::hint::black_box(ingest::map(Format::OtlpProtobuf(*signal), body, &limits).unwrap());
                }
            });
            map = map.min(took.wall.as_secs_f64());
            let took = Took::of(|| {
                for (signal, body) in bodies.iter().cycle().take(repeats * bodies.len()) {
                    self::decode(*signal, body);
                }
            });
            decode = decode.min(took.wall.as_secs_f64());
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let size = (bytes * repeats) as f64 / 1000.0;
        crate::row(folder, size / map, size / decode);
        mapped += map * 1e6 / size;
        decoded += decode * 1e6 / size;
    }
    println!("mapping costs {:.2} times the bare decode", mapped / decoded);
}

fn decode(signal: Signal, body: &[u8]) {
    match signal {
        Signal::Logs => drop(std::hint::black_box(ExportLogsServiceRequest::decode(body).unwrap())),
        _ => drop(std::hint::black_box(ExportTraceServiceRequest::decode(body).unwrap())),
    }
}

fn bodies(folder: &Path) -> Vec<(Signal, Vec<u8>)> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut bodies = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "pb")) {
        let bytes = std::fs::read(path).unwrap();
        if let Some(Format::OtlpProtobuf(signal @ (Signal::Traces | Signal::Logs))) =
            Format::detect(None, None, &bytes)
        {
            bodies.push((signal, bytes));
        }
    }
    bodies
}
