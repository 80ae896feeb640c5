//! The real server on real ports, with any options, in a thread of its own.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use verdict_ledger::clock::{SystemClock, SystemEntropy};
use verdict_ledger::{InitOptions, Ledger};
use verdict_ui::auth::Scope;
use verdict_ui::auth::gate::Gate;
use verdict_ui::auth::store::{NewToken, TokenFile};
use verdict_ui::auth::token::Token;
use verdict_ui::web::{ServeOptions, Server};

/// A running server; it stops when it is dropped.
pub(crate) struct Running {
    pub(crate) ledger: Ledger,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub(crate) dir: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Makes a token in the ledger's token file and returns it.
pub(crate) fn token(dir: &Path, name: &str, scopes: &[Scope]) -> String {
    let token = Token::generate(&SystemEntropy).unwrap();
    let new = NewToken { name, scopes, expires_ns: None, by: "tests", now_ns: 1 };
    TokenFile::of_ledger(&dir.join("ledger")).create(&token, &new).unwrap();
    token.reveal().to_owned()
}

/// A gate over the ledger's token file.
pub(crate) fn gate(dir: &Path) -> Arc<Gate> {
    Arc::new(Gate::open(TokenFile::of_ledger(&dir.join("ledger")), vec![Scope::Ingest]).unwrap())
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::with(|_, _| {})
    }

    /// Changes the options, knowing the directory, before the server is bound.
    pub(crate) fn with(change: impl FnOnce(&Path, &mut ServeOptions)) -> Self {
        Self::over(|_| {}, change)
    }

    /// The same over a ledger that holds something already.
    pub(crate) fn over(fill: impl FnOnce(&Ledger), change: impl FnOnce(&Path, &mut ServeOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = InitOptions::new("harbor.example/verdict/running");
        let ledger = Ledger::init(&dir.path().join("ledger"), &options, Arc::new(SystemClock)).unwrap();
        fill(&ledger);
        let mut options = ServeOptions::new((Ipv4Addr::LOCALHOST, 0).into());
        options.grpc_listen = Some((Ipv4Addr::LOCALHOST, 0).into());
        change(dir.path(), &mut options);
        let (told, addresses) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let served = ledger.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(served, options).await.unwrap();
                told.send((server.local_addr(), server.grpc_addr().unwrap())).unwrap();
                server.run(async move { drop(stopped.await) }).await.unwrap();
            });
        });
        let (http, grpc) = addresses.recv().unwrap();
        Self { ledger, http, grpc, stop: Some(stop), thread: Some(thread), dir }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(2))).unwrap();
        stream
    }

    /// Sends one request on a connection of its own and reads the answer to its end.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.connect();
        let more: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let more = more.concat();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n{more}connection: close\r\n\r\n",
            self.http,
            body.len()
        );
        // A server that refuses a body by its headers may close before all of it is sent.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        Self::reply(stream)
    }

    pub(crate) fn reply(mut stream: TcpStream) -> Reply {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(answer.len());
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
        Reply { status, head, body: answer.get(end + 4..).unwrap_or_default().to_vec() }
    }

    /// Tells the server to stop, without waiting for it.
    pub(crate) fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the server has stopped.
    pub(crate) fn join(&mut self) {
        self.tell_to_stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.join();
    }
}
