//! Real clients export to a real server that is killed in the middle and started again: nothing that was acknowledged
//! is lost, and nothing is there twice. Without the clients these say aloud that they did not run.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests stop at the first surprise; a client in another process has no channel to wait on, only a file"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use verdict_ledger::{Ledger, OpenOptions};

use crate::cli_support::{Bench, terminate};

/// Longest time that a client may take with a server that comes back.
const PATIENCE: Duration = Duration::from_mins(3);

/// The interpreter with the packages of `.ci/python-clients.txt`.
#[expect(clippy::print_stderr, reason = "a check that did not run must not look like one that passed")]
fn python() -> Option<PathBuf> {
    let set = std::env::var_os("VERDICT_CLIENTS_PYTHON").map(PathBuf::from);
    if set.is_none() {
        eprintln!(
            "SKIPPED: VERDICT_CLIENTS_PYTHON names no Python with the packages of .ci/python-clients.txt"
        );
    }
    set
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients").join(name)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// A server with two addresses that stay when it is started again.
struct Server {
    bench: Bench,
    http: u16,
    grpc: u16,
    child: Option<Child>,
}

impl Server {
    fn start() -> Self {
        let mut server =
            Self { bench: Bench::with_ledger(), http: free_port(), grpc: free_port(), child: None };
        server.serve();
        server
    }

    fn serve(&mut self) {
        let mut child = self
            .bench
            .command()
            .args(["serve", "--check", "none", "--listen", &format!("127.0.0.1:{}", self.http)])
            .args(["--grpc-listen", &format!("127.0.0.1:{}", self.grpc)])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("http://"), "it does not serve: {line}");
        self.child = Some(child);
    }

    /// As a power cut or the kernel ends it: no signal that it could handle.
    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn acknowledged(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

/// Runs a client, kills the server twice while it delivers, and returns what the ledger holds.
fn survive(python: &Path, name: &str, args: &[&str], kills_after: [usize; 2]) -> (Vec<String>, Stored) {
    let mut server = Server::start();
    let acks = server.bench.path("acknowledged");
    let mut client = Command::new(python)
        .arg("-B")
        .arg(script(name))
        .arg(&acks)
        .args(args)
        .env("VERDICT_HTTP", format!("http://127.0.0.1:{}", server.http))
        .env("VERDICT_GRPC", format!("http://127.0.0.1:{}", server.grpc))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    for count in kills_after {
        while acknowledged(&acks).len() < count {
            assert!(client.try_wait().unwrap().is_none(), "{name} ended before the server was killed");
            assert!(started.elapsed() < PATIENCE, "{name}: {} acknowledged", acknowledged(&acks).len());
            std::thread::sleep(Duration::from_millis(2));
        }
        server.kill();
        server.serve();
    }
    let ended = loop {
        if let Some(ended) = client.try_wait().unwrap() {
            break ended;
        }
        assert!(started.elapsed() < PATIENCE, "{name} does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(ended.success(), "{name}: {ended}");
    // A reader right after a kill may stop a group commit short of the end; a writer would not.
    terminate(&mut server.child.take().unwrap());
    let stored = Stored::read(&server.bench);
    (acknowledged(&acks), stored)
}

/// What a ledger holds after all of it.
struct Stored {
    /// How often each span is there, as `trace:span`.
    spans: BTreeMap<String, u64>,
    /// How often each message of a log record is there.
    logs: BTreeMap<String, u64>,
    stats: Value,
}

impl Stored {
    fn read(bench: &Bench) -> Self {
        let verified = bench.run(&["verify"]).ok();
        assert!(verified.calm().code == 0);
        let ledger = Ledger::open_reader(&bench.path("ledger"), &OpenOptions::default()).unwrap();
        let (mut spans, mut logs) = (BTreeMap::new(), BTreeMap::new());
        for record in ledger.records(0..u64::MAX) {
            let Some(event) = record.unwrap().event else { continue };
            let place = event.trace_id.zip(event.span_id);
            if let Some(body) = event.attributes.get("otlp.log").and_then(|log| log.get("body")) {
                *logs.entry(format!("log:{}", body.as_str().unwrap_or_default())).or_insert(0) += 1;
            } else if let Some((trace, span)) = place {
                *spans.entry(format!("{trace}:{span}")).or_insert(0) += 1;
            }
        }
        Self { spans, logs, stats: bench.run(&["stats", "--format", "json"]).ok().json() }
    }

    /// Nothing that was acknowledged is lost, and nothing is doubled.
    fn holds(&self, acknowledged: &[String]) {
        for line in acknowledged {
            let there = self.spans.get(line).or_else(|| self.logs.get(line));
            assert_eq!(there, Some(&1), "{line}");
        }
        let doubled: Vec<_> = self.spans.iter().chain(&self.logs).filter(|(_, count)| **count != 1).collect();
        assert!(doubled.is_empty(), "{doubled:?}");
    }

    fn tools(&self) -> u64 {
        self.stats.pointer("/actions_by_kind/tool").and_then(Value::as_u64).unwrap()
    }
}

fn sdk(kind: &str) {
    let Some(python) = python() else { return };
    let (acknowledged, stored) = survive(&python, "sdk.py", &[kind, "300"], [60, 300]);
    assert_eq!(acknowledged.len(), 600, "spans and log records");
    stored.holds(&acknowledged);
    assert_eq!((stored.spans.len(), stored.logs.len()), (300, 300));
    assert_eq!(stored.tools(), 300);
}

#[test]
fn the_sdk_over_http_loses_nothing_and_doubles_nothing() {
    sdk("http");
}

#[test]
fn the_sdk_over_grpc_loses_nothing_and_doubles_nothing() {
    sdk("grpc");
}

#[test]
fn an_mcp_client_and_its_server_tell_of_each_call_once() {
    let Some(python) = python() else { return };
    let (acknowledged, stored) = survive(&python, "mcp_host.py", &["40"], [20, 80]);
    stored.holds(&acknowledged);
    // Client and server both told of it.
    assert_eq!(stored.tools(), 40);
}

#[test]
fn langgraph_agents_lose_nothing_and_double_nothing() {
    let Some(python) = python() else { return };
    let (acknowledged, stored) = survive(&python, "graph.py", &["20"], [30, 120]);
    stored.holds(&acknowledged);
    assert_eq!(stored.tools(), 40, "two calls a run");
}
