//! Settings, start-up checks and tokens by the real binary.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::cli_support::Bench;

/// `verdict serve` as a process.
struct Process {
    child: Child,
    said: Value,
}

impl Process {
    fn start(bench: &Bench, args: &[&str]) -> Self {
        let mut command: Command = bench.command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--format", "json"]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        // The object is written over several lines.
        while serde_json::from_str::<Value>(&text).is_err() {
            assert!(out.read_line(&mut text).unwrap() > 0, "it ended: {text}");
        }
        Self { child, said: serde_json::from_str(&text).unwrap() }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.said["address"].as_str().unwrap()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks it to end and returns its exit code and what it logged.
    fn stop(mut self) -> (Option<i32>, String) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        let code = self.child.wait().unwrap().code();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (code, log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mistakes_in_settings_are_one_clear_message_before_anything_is_opened() {
    let bench = Bench::with_ledger();
    let typo = bench.file("typo.toml", "[limits]\nbody_byte = 7\n");
    for command in [&["serve"][..], &["config", "check"], &["config", "show"]] {
        let args = [command, &["--config", typo.as_str()]].concat();
        bench.run(&args).fails(2, &["typo.toml", "`limits.body_byte`", "did you mean `limits.body_bytes`?"]);
    }
    let mut command = bench.command();
    let said = command.env("VERDICT_SERVE_GRPC_LISTN", "x").args(["config", "check"]).output().unwrap();
    super::cli_support::Said::of(&said).fails(2, &["VERDICT_SERVE_GRPC_LISTN", "`grpc.listen`"]);
    for (args, code, names) in [
        (&["--config", "missing.toml"][..], 2, &["missing.toml"][..]),
        (&["--listen", "0.0.0.0:7878"], 2, &["refusing to listen on 0.0.0.0:7878", "verdict token create"]),
        (&["--grpc-listen", "[::]:4317"], 2, &["refusing to listen on [::]:4317"]),
        (&["--tls-cert", "missing.pem"], 2, &["tls.key"]),
        (&["--tls-cert", "missing.pem", "--tls-key", "missing.pem"], 2, &["TLS certificate", "missing.pem"]),
        (&["--tls-cert", &typo, "--tls-key", &typo], 2, &["TLS certificate", "typo.toml"]),
        (&["--set", "limits.ingest_bytes=1"], 2, &["limits.ingest_bytes", "limits.body_bytes"]),
        (&["--set", "telemetry.headers_file=missing"], 2, &["telemetry.headers_file", "missing"]),
    ] {
        for command in [&["serve"][..], &["config", "check"]] {
            bench.run(&[command, args].concat()).fails(code, names);
        }
    }
    bench.run(&["config", "check"]).ok();
    let json = bench.run(&["config", "show", "--format", "json", "--listen", "127.0.0.1:1"]).ok().json();
    assert_eq!(json["settings"][0]["source"], "command line");
    let file = bench.run(&["config", "show", "--listen", "127.0.0.1:1"]).ok().out;
    let path = bench.file("shown.toml", file);
    let again = bench.run(&["config", "show", "--config", &path, "--format", "json"]).ok().json();
    assert_eq!(again["settings"][0]["value"], "127.0.0.1:1");
}

#[test]
fn files_and_directories_that_do_not_do_are_named() {
    let bench = Bench::with_ledger();
    bench.run(&["token", "create", "a", "--scope", "ingest"]).ok();
    let tokens = bench.path("ledger").join("tokens.json");
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o644)).unwrap();
    for command in [&["serve", "--auth", "token"][..], &["token", "list"]] {
        bench.run(command).fails(4, &["tokens.json", "0644", "chmod 600"]);
    }
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&tokens, "{").unwrap();
    bench.run(&["serve", "--auth", "token"]).fails(2, &["tokens.json", "not a token file"]);
    let key = bench.file("key.pem", "secret");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o604)).unwrap();
    let headers = format!("telemetry.headers_file={key}");
    bench.run(&["serve", "--set", &headers]).fails(2, &["key.pem", "0604", "chmod o-rwx"]);
}

#[test]
fn tokens_are_shown_once_listed_without_their_secret_and_revoked() {
    let bench = Bench::with_ledger();
    let made = bench.run(&["token", "create", "collector", "--scope", "ingest", "--expires", "90d"]).ok();
    let token = made.out.trim();
    assert!(token.starts_with("verdict_") && token.len() == 80, "{made:#?}");
    assert!(made.err.contains("collector") && !made.err.contains(token), "{made:#?}");
    bench.run(&["token", "create", "collector", "--scope", "read"]).fails(2, &["collector", "in force"]);
    bench.run(&["token", "create", "x"]).fails(2, &["--scope"]);
    bench.run(&["token", "create", "x", "--scope", "root"]).fails(2, &["ingest, read, metrics, admin"]);
    bench.run(&["token", "create", "x", "--scope", "read", "--expires", "soon"]).fails(2, &["soon"]);
    bench.run(&["token", "create", "a b", "--scope", "read"]).fails(2, &["`a b`"]);
    let list = bench.run(&["token", "list"]).ok();
    assert!(list.out.contains("collector") && list.out.contains("never used"), "{list:#?}");
    let json = bench.run(&["token", "list", "--format", "json"]).ok();
    assert_eq!(json.json()["tokens"][0]["state"], "in force");
    assert!(!json.out.contains(token.get(8..40).unwrap()));
    bench.run(&["token", "revoke", "collector"]).ok();
    bench.run(&["token", "revoke", "collector"]).fails(2, &["collector", "token list"]);
    assert_eq!(
        bench.run(&["token", "list", "--format", "json"]).ok().json()["tokens"][0]["state"],
        "revoked"
    );
    Bench::empty().run(&["token", "list"]).fails(2, &["not a ledger"]);
}

#[test]
fn a_guarded_server_takes_tokens_that_are_made_while_it_runs_and_logs_none() {
    let bench = Bench::with_ledger();
    let server = Process::start(
        &bench,
        &["--auth", "token", "--grpc-listen", "127.0.0.1:0", "--set", "log.level=debug"],
    );
    assert!(server.said["grpc"].as_str().unwrap().starts_with("127.0.0.1:"));
    let stranger = "GET /traces HTTP/1.1\r\nhost: x\r\nauthorization: Bearer no\r\nconnection: close\r\n\r\n";
    assert!(server.ask(stranger).starts_with("HTTP/1.1 401"));
    let token = bench.run(&["token", "create", "late", "--scope", "ingest"]).ok().out.trim().to_owned();
    let event = super::cli_support::event(1);
    let request = format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{event}",
        event.len()
    );
    let taken = (0..10_000).map(|_| server.ask(&request)).find(|answer| !answer.starts_with("HTTP/1.1 401"));
    assert!(taken.unwrap().starts_with("HTTP/1.1 200"), "the file is looked at every second");
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("not let in") && !log.contains(&token) && !log.contains("order_id"), "{log}");
    let found = bench.run(&["find", "--type", "token.created", "--format", "json"]).ok();
    assert!(found.out.contains("late"), "{found:#?}");
    let list = bench.run(&["token", "list"]).ok();
    assert!(list.out.contains("last used 20"), "written down when the server ends: {list:#?}");
}
