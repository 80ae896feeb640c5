//! How much of the ledger's own durable append rate reaches clients over OTLP/HTTP, how long they wait, and what memory
//! does meanwhile.
//!
//! 64 connections post protobuf requests of 50 spans, each connection one after the other. Beside it, in the same run:
//! the same events appended by 64 threads without HTTP and mapping, and the same number of bytes in the same batches in
//! raw RocksDB, each batch durable before its thread goes on. Afterwards everything is read back.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a bench measures wall time, prints, and may stop at the first error"
)]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;
use rocksdb::{DB, WriteBatch, WriteOptions};
use verdict_ledger::clock::SystemClock;
use verdict_ledger::ingest::{self, Format, Limits, Signal};
use verdict_ledger::{Batch, InitOptions, Ledger};
use verdict_ui::web::{ServeOptions, Server};

/// The allocator of the `verdict` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: u64 = 64;
const REQUESTS: u64 = 50;
const SPANS: u64 = 50;
const ROUNDS: usize = 3;

fn main() {
    let spans = CONNECTIONS * REQUESTS * SPANS;
    println!(
        "{CONNECTIONS} connections, {REQUESTS} requests of {SPANS} spans each; a request is {} bytes",
        request(0).len()
    );
    let (mut served, mut own, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        served.push(over_http(&dir.path().join("served")));
        own.push(by_threads(&dir.path().join("own")));
        raw.push(raw_commits(&dir.path().join("raw")));
    }
    let best = |runs: &[Run]| runs.iter().map(|run| run.wall).min().unwrap();
    let rate = |runs: &[Run]| spans as f64 / best(runs).as_secs_f64();
    let p99 = |runs: &[Run]| runs.iter().map(|run| run.p99).min().unwrap();
    println!("\n{:<46} {:>14} {:>14} {:>14}", "", "over OTLP/HTTP", "ledger alone", "raw RocksDB");
    println!("{:<46} {:>14.0} {:>14.0} {:>14.0}", "spans/s", rate(&served), rate(&own), rate(&raw));
    println!(
        "{:<46} {:>14.2} {:>14.2} {:>14}",
        "of the ledger alone, of raw RocksDB",
        rate(&served) / rate(&own),
        rate(&served) / rate(&raw),
        ""
    );
    println!(
        "{:<46} {:>14.1} {:>14.1} {:>14.1}",
        "acknowledgement, p99, ms",
        ms(p99(&served)),
        ms(p99(&own)),
        ms(p99(&raw))
    );
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

struct Run {
    wall: Duration,
    p99: Duration,
}

/// Lets every connection work off its requests at once; each returns how long it took.
fn race(each: impl Fn(u64) -> Vec<Duration> + Sync) -> Run {
    let ready = Barrier::new(usize::try_from(CONNECTIONS).unwrap() + 1);
    let times = Mutex::new(Vec::new());
    let wall = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                let (ready, times, each) = (&ready, &times, &each);
                scope.spawn(move || {
                    ready.wait();
                    let took = each(connection);
                    times.lock().unwrap().extend(took);
                })
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        for thread in threads {
            thread.join().unwrap();
        }
        start.elapsed()
    });
    let mut times = times.into_inner().unwrap();
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap();
    Run { wall, p99 }
}

fn init(dir: &Path) -> Ledger {
    Ledger::init(dir, &InitOptions::new("bench.example"), Arc::new(SystemClock)).unwrap()
}

fn over_http(dir: &Path) -> Run {
    let ledger = init(dir);
    let (told, address) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = ledger.clone();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = ServeOptions::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            let server = Server::bind(served, options).await.unwrap();
            told.send(server.local_addr()).unwrap();
            server.run(async move { drop(stopped.await) }).await.unwrap();
        });
    });
    let address = address.recv().unwrap();
    let bodies: Vec<Vec<Vec<u8>>> = (0..CONNECTIONS).map(requests).collect();
    let before = resident();
    let run = race(|connection| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let bodies = bodies.get(usize::try_from(connection).unwrap()).unwrap();
        bodies.iter().map(|body| post(&mut stream, body)).collect()
    });
    println!(
        "memory: {} MiB before, {} MiB after (with the requests that wait to be sent)",
        before >> 20,
        resident() >> 20
    );
    stop.send(()).unwrap();
    server.join().unwrap();
    read_back(&ledger);
    run
}

/// Every span is there, once.
fn read_back(ledger: &Ledger) {
    let mut ids = BTreeSet::new();
    let mut events = 0;
    for record in ledger.records(0..u64::MAX) {
        if let Some(event) = record.unwrap().event {
            events += 1;
            ids.insert(event.id);
        }
    }
    assert_eq!((events, ids.len() as u64), (CONNECTIONS * REQUESTS * SPANS, CONNECTIONS * REQUESTS * SPANS));
}

fn post(stream: &mut TcpStream, body: &[u8]) -> Duration {
    let start = Instant::now();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut reply = Vec::new();
    let mut part = [0; 4096];
    loop {
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "the server closed the connection");
        reply.extend_from_slice(part.get(..read).unwrap());
        let text = String::from_utf8_lossy(&reply);
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if rest.len() >= length.unwrap_or(0) {
                return start.elapsed();
            }
        }
    }
}

fn by_threads(dir: &Path) -> Run {
    let ledger = init(dir);
    let batches: Vec<Mutex<Vec<Batch>>> = (0..CONNECTIONS)
        .map(|connection| {
            let of = |body: Vec<u8>| {
                let mapped =
                    ingest::map(Format::OtlpProtobuf(Signal::Traces), &body, &Limits::default()).unwrap();
                mapped.into_batch(None).unwrap()
            };
            Mutex::new(requests(connection).into_iter().map(of).collect())
        })
        .collect();
    race(|connection| {
        let batches =
            std::mem::take(&mut *batches.get(usize::try_from(connection).unwrap()).unwrap().lock().unwrap());
        let append = |batch| {
            let start = Instant::now();
            ledger.append(batch).unwrap();
            start.elapsed()
        };
        batches.into_iter().map(append).collect()
    })
}

fn raw_commits(dir: &Path) -> Run {
    let db = DB::open_default(dir).unwrap();
    let bodies: Vec<Vec<Vec<u8>>> = (0..CONNECTIONS).map(requests).collect();
    race(|connection| {
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        let bodies = bodies.get(usize::try_from(connection).unwrap()).unwrap();
        let put = |(number, body): (u64, &Vec<u8>)| {
            let start = Instant::now();
            let mut batch = WriteBatch::default();
            for (span, part) in (0u64..).zip(body.chunks(body.len() / usize::try_from(SPANS).unwrap() + 1)) {
                batch
                    .put([connection.to_be_bytes(), number.to_be_bytes(), span.to_be_bytes()].concat(), part);
            }
            db.write_opt(batch, &durable).unwrap();
            start.elapsed()
        };
        (0u64..).zip(bodies).map(put).collect()
    })
}

fn requests(connection: u64) -> Vec<Vec<u8>> {
    (0..REQUESTS).map(|number| request(connection * REQUESTS + number)).collect()
}

/// A request as an SDK sends it: one resource, one scope, tool calls with arguments.
fn request(number: u64) -> Vec<u8> {
    let spans = (0..SPANS).map(|span| {
        let id = number * SPANS + span + 1;
        let call = format!("call_{id}");
        let arguments =
            format!("{{\"order_id\":\"H-{id}\",\"amount_cents\":{},\"currency\":\"EUR\"}}", id % 90_000);
        Span {
            trace_id: [0x5au8; 8].into_iter().chain((number + 1).to_be_bytes()).collect(),
            span_id: id.to_be_bytes().to_vec(),
            name: "execute_tool issue_refund".to_owned(),
            kind: 1,
            start_time_unix_nano: 1_793_800_000_000_000_000 + id * 1_000,
            end_time_unix_nano: 1_793_800_000_000_900_000 + id * 1_000,
            attributes: vec![
                text("gen_ai.operation.name", "execute_tool"),
                text("gen_ai.tool.name", "issue_refund"),
                text("gen_ai.tool.call.id", &call),
                text("gen_ai.tool.call.arguments", &arguments),
                text("gen_ai.agent.name", "support-agent"),
                text("session.id", &format!("session-{}", number % 500)),
                text("user.id", &format!("customer-{}", number % 500)),
                text(
                    "gen_ai.tool.call.result",
                    "The refund was paid to the card that was used for the order.",
                ),
            ],
            status: Some(Status::default()),
            ..Span::default()
        }
    });
    let resource = Resource {
        attributes: vec![text("service.name", "support"), text("deployment.environment.name", "production")],
        ..Resource::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { spans: spans.collect(), ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// Resident memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
