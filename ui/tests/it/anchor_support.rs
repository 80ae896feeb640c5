//! Counterparts of anchors: a witness process, and a little HTTP server that answers as it is told.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::cli_support::Bench;

/// A running `verdict witness` or `verdict serve`; killed when it is dropped.
pub(crate) struct Spawned {
    child: Child,
    pub(crate) url: String,
}

impl Spawned {
    /// Makes the state of a witness in a bench and returns its key.
    pub(crate) fn init(bench: &Bench) -> String {
        let said = bench.run(&["witness", "init", "--name", "witness.example/w1", "--state", "witness"]).ok();
        said.out.trim().to_owned()
    }

    /// Starts it for some logs.
    pub(crate) fn start(bench: &Bench, logs: &[&str]) -> Self {
        let mut command = bench.command();
        command.args(["witness", "--state", "witness", "--listen", "127.0.0.1:0"]);
        for log in logs {
            command.args(["--log", log]);
        }
        Self::spawn(command)
    }

    /// Starts `verdict serve` instead.
    pub(crate) fn serve(bench: &Bench) -> Self {
        let mut command = bench.command();
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("http://"), "{line:?}");
        Self { child, url: line.trim().to_owned() }
    }

    /// Asks it to stop and waits; tells whether it ended well.
    pub(crate) fn terminate(mut self) -> bool {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().success()
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends bytes as they are and returns status, head and body.
    pub(crate) fn raw(&self, request: &[u8]) -> (u16, String, String) {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        // A server that refuses a body before it has read it may reset the connection after its answer.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status in {answer:?}")), head.to_owned(), body.to_owned())
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> (u16, String, String) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String, String) {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").as_bytes())
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request as a test server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> String {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.head)).1.trim().to_owned()
    }
}

/// What a test server answers: status, content type, body.
pub(crate) type Reply = (u16, &'static str, Vec<u8>);

/// A server on a free port. It ends with the test process.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Starts it; `answer` is given each request and its number from 0.
    pub(crate) fn start(answer: impl Fn(usize, &Seen) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let request = read_request(&mut stream);
                shared.lock().unwrap().push(request.clone());
                let (status, content_type, body) = answer(number, &request);
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            }
        });
        Self { url, seen }
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn read_request(stream: &mut TcpStream) -> Seen {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut request = Seen { head, body: Vec::new() };
    let length = request.header("content-length").parse().unwrap();
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).unwrap();
    request
}

/// A port that nobody listens on.
pub(crate) fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

/// Keeps and puts back a ledger with its lock and, if wanted, its anchor log.
pub(crate) struct Snapshot {
    files: [&'static str; 2],
}

impl Snapshot {
    pub(crate) fn take(bench: &Bench) -> Self {
        super::cli_support::copy(&bench.path("ledger"), &bench.path("backup"));
        let files = ["ledger.lock", "ledger.lock.anchors.jsonl"];
        for name in files {
            let _ = std::fs::copy(bench.path(name), bench.path(&format!("backup-{name}")));
        }
        Self { files }
    }

    /// Rolls back database and lock; with `anchor_log` that too, to what it was or was not.
    pub(crate) fn roll_back(&self, bench: &Bench, anchor_log: bool) {
        let settings = std::fs::read(bench.path("ledger/anchors.toml")).ok();
        std::fs::remove_dir_all(bench.path("ledger")).unwrap();
        super::cli_support::copy(&bench.path("backup"), &bench.path("ledger"));
        if let Some(settings) = settings {
            std::fs::write(bench.path("ledger/anchors.toml"), settings).unwrap();
        }
        for name in &self.files[..if anchor_log { 2 } else { 1 }] {
            let _ = std::fs::remove_file(bench.path(name));
            let _ = std::fs::copy(bench.path(&format!("backup-{name}")), bench.path(name));
        }
    }
}

/// The log key of a bench's ledger.
pub(crate) fn log_key(bench: &Bench) -> String {
    bench.run(&["keys", "show", "--format", "json"]).ok().json()["log"].as_str().unwrap().to_owned()
}

/// Adds so many events, from a number on.
pub(crate) fn grow(bench: &Bench, numbers: std::ops::Range<u64>) {
    let lines: String = numbers.clone().map(|number| super::cli_support::event(number) + "\n").collect();
    let file = bench.file(&format!("events-{}-{}.ndjson", numbers.start, numbers.end), lines);
    bench.run(&["ingest", &file]).ok();
}
