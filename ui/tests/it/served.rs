//! A server on a real port over a real ledger, and a client that knows only HTTP.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use verdict_ledger::clock::SteppingClock;
use verdict_ledger::{Batch, InitOptions, Ledger, NewRecord};
use verdict_ui::web::{ServeOptions, Server};

/// Name of the log.
pub(crate) const ORIGIN: &str = "harbor.example/verdict/served";

/// A running server; it stops when it is dropped.
pub(crate) struct Served {
    pub(crate) ledger: Ledger,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Deleted with the server.
    _dir: tempfile::TempDir,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Served {
    /// Serves a ledger of `size` small entries, all under a checkpoint.
    pub(crate) fn with(size: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SteppingClock::starting_at(1_793_800_000_000_000_000));
        let ledger =
            Ledger::init(&dir.path().join("ledger"), &InitOptions::new(ORIGIN), clock.clone()).unwrap();
        let (told, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let served = ledger.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let options = ServeOptions::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
                let server = Server::bind_with_clock(served, options, clock).await.unwrap();
                told.send(server.local_addr()).unwrap();
                server.run(async move { drop(stopped.await) }).await.unwrap();
            });
        });
        let address = address.recv().unwrap();
        let served = Self { ledger, address, stop: Some(stop), thread: Some(thread), _dir: dir };
        served.grow_to(size);
        served
    }

    /// Appends until the log has `size` entries, and has a checkpoint over all of them.
    pub(crate) fn grow_to(&self, size: u64) {
        let mut next = self.ledger.head().size;
        while next < size {
            let records = (next..size.min(next + 4_096)).map(record).collect();
            next = self.ledger.append(Batch { records, blobs: Vec::new() }).unwrap().size;
        }
        self.ledger.settle().unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[])
    }

    /// Fetches what must be there.
    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
        reply.body
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let more: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let more = more.concat();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{more}connection: close\r\n\r\n",
            self.address
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Reply { status, headers, body: answer[end + 4..].to_vec() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A small system fact; every seventh has something to disclose.
fn record(number: u64) -> NewRecord {
    let mut body: Map<String, Value> =
        json!({"id": format!("note-{number}"), "number": number}).as_object().unwrap().clone();
    if number % 7 == 3 && number < 1_000 {
        body.insert("by".to_owned(), json!(format!("ada-{number}@example.org")));
    }
    NewRecord::system("test.note", body)
}
