//! What it costs to make events of a body, beside the bare decode of its protobuf, in alternating rounds of one run.
//! Both are given the same bytes, and the decoder is the one that the mapper uses where it uses one (prost); what is
//! measured is time on the processor.

use std::path::Path;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use verdict_ledger::ingest::{self, Format, Limits, Signal};

use crate::measure::on_cpu;

const ROUNDS: usize = 15;
/// Bodies are repeated until a round takes long enough for the clock.
const ROUND_BYTES: usize = 8 << 20;

/// Prints, for each client, kilobytes of body a second.
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
        let (mut maps, mut decodes) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let took = on_cpu(|| {
                for (signal, body) in bodies.iter().cycle().take(repeats * bodies.len()) {
                    std::hint::black_box(ingest::map(Format::OtlpProtobuf(*signal), body, &limits).unwrap());
                }
            });
            maps.push(took.as_secs_f64());
            let took = on_cpu(|| {
                for (signal, body) in bodies.iter().cycle().take(repeats * bodies.len()) {
                    self::decode(*signal, body);
                }
            });
            decodes.push(took.as_secs_f64());
        }
        // The best of either says more of the neighbours' luck than of the code.
        let (map, decode) = (median(maps), median(decodes));
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let size = (bytes * repeats) as f64 / 1000.0;
        crate::row(folder, size / map, size / decode);
        mapped += map * 1e6 / size;
        decoded += decode * 1e6 / size;
    }
    println!("mapping costs {:.2} times the bare decode", mapped / decoded);
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
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
