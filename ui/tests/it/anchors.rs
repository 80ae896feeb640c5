//! Files, git repositories, time stamps and webhooks as anchors, with real counterparts on this machine.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr, reason = "tests")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::anchor_support::{Server, Snapshot, Spawned, closed_port, grow};
use super::cli_support::{Bench, Said};

fn with_settings(text: &str) -> Bench {
    let bench = Bench::with_ledger();
    bench.file("ledger/anchors.toml", text);
    grow(&bench, 0..10);
    bench
}

fn anchor(bench: &Bench) -> Said {
    bench.run(&["anchor", "run", "--format", "json"]).calm()
}

fn detail(said: &Said) -> (i32, String) {
    (said.code, said.json()["sinks"][0]["detail"].as_str().unwrap().to_owned())
}

const FILE: &str = "[[file]]\nname = \"other\"\npath = \"../elsewhere.jsonl\"\n";

#[test]
fn a_file_elsewhere_notices_a_rollback_of_everything_else_at_every_open() {
    let bench = with_settings(FILE);
    anchor(&bench).ok();
    let snapshot = Snapshot::take(&bench);
    grow(&bench, 10..20);
    anchor(&bench).ok();
    let ok = bench.run(&["anchor", "verify"]).ok();
    assert!(ok.out.contains("consistent file     other: 2 checkpoints, up to 21 entries"), "{}", ok.out);
    assert!(ok.err.contains("0 entries after the newest anchor"), "{}", ok.err);

    snapshot.roll_back(&bench, true);
    let names = ["entries 11..21 were anchored and are missing", "elsewhere.jsonl", "hint: "];
    bench.run(&["stats"]).fails(3, &names);
    bench.run(&["ingest", &bench.events(3)]).fails(3, &names);
    bench.run(&["anchor", "verify"]).fails(3, &names);
    let json = bench.run(&["stats", "--format", "json"]);
    assert!(json.code == 3 && json.err.contains("\"exit_code\":3"), "{json:#?}");

    // The file is hidden and the ledger grows beside it.
    std::fs::rename(bench.path("elsewhere.jsonl"), bench.path("hidden")).unwrap();
    grow(&bench, 30..60);
    let (code, why) = detail(&anchor(&bench));
    assert!(code == 3 && why.contains("has lost checkpoints"), "{why}");
    let verified = bench.run(&["anchor", "verify"]);
    assert!(verified.code == 4 && verified.out.contains("is missing"), "{verified:#?}");
    std::fs::rename(bench.path("hidden"), bench.path("elsewhere.jsonl")).unwrap();
    bench.run(&["stats"]).fails(3, &["rewritten", "first 21 entries", "elsewhere.jsonl"]);
}

#[test]
fn the_anchor_log_beside_the_lock_alone_notices_a_rollback_of_database_and_lock() {
    let bench = with_settings(FILE);
    let snapshot = Snapshot::take(&bench);
    grow(&bench, 10..20);
    anchor(&bench).ok();
    snapshot.roll_back(&bench, false);
    std::fs::remove_file(bench.path("elsewhere.jsonl")).unwrap();
    bench.run(&["stats"]).fails(3, &["11..21", "ledger.lock.anchors.jsonl"]);
}

#[test]
fn settings_are_checked_and_can_live_elsewhere() {
    let bench = Bench::with_ledger();
    bench.run(&["anchor", "run"]).fails(2, &["names no sinks", "check-config --example"]);
    bench.run(&["anchor", "verify"]).fails(2, &["nothing was anchored", "anchor run"]);
    assert_eq!(bench.run(&["anchor", "list"]).ok().out, "");
    let example = bench.run(&["anchor", "check-config", "--example"]).ok().out;
    assert!(example.contains("[[witness]]") && example.contains("secret_file"), "{example}");

    bench.file("ledger/anchors.toml", "[[file]]\nname = \"a\"\npth = \"x\"\n");
    // Settings that cannot be read would hide an anchor: no command opens the ledger with them.
    bench.run(&["stats"]).fails(2, &["anchors.toml", "pth", "line 3"]);
    bench.run(&["anchor", "check-config"]).fails(2, &["pth"]);
    bench.run(&["--anchors", "none.toml", "stats"]).fails(2, &["none.toml"]);

    let elsewhere = bench.file("conf/anchors.toml", "[[file]]\nname = \"a\"\npath = \"a.jsonl\"\n");
    let said = bench.run(&["--anchors", &elsewhere, "anchor", "check-config"]).ok();
    assert!(said.out.contains("file             a\n"), "{}", said.out);
    bench.run(&["--anchors", &elsewhere, "anchor", "run"]).ok();
    assert!(bench.path("conf/a.jsonl").exists(), "paths are relative to the settings");
    bench.run(&["--anchors", &elsewhere, "anchor", "run", "--sink", "b"]).fails(2, &["`b`", "there are: a"]);
    let list = bench.run(&["anchor", "list", "--format", "json"]);
    assert_eq!(list.code, 2, "the bad settings of the ledger directory still stand: {list:#?}");
}

fn git(bench: &Bench, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(bench.dir.path()).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]);
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_git_repository_keeps_every_checkpoint_and_notices_rollbacks_and_rewrites() {
    let url = "remote.git";
    let bench = with_settings("");
    git(&bench, &["init", "-q", "--bare", "--initial-branch=main", url]);
    let url = bench.path(url);
    let settings = format!(
        "attempts = 1\n[[git]]\nname = \"g\"\nurl = \"{}\"\npath = \"prod/checkpoint.txt\"\ndirectory = \"../cache.git\"\n",
        url.display()
    );
    bench.file("ledger/anchors.toml", settings);
    anchor(&bench).ok();
    let snapshot = Snapshot::take(&bench);
    // Somebody else's file on the branch stays.
    git(&bench, &["clone", "-q", url.to_str().unwrap(), "clone"]);
    bench.file("clone/README", "theirs\n");
    git(&bench, &["-C", "clone", "add", "README"]);
    git(&bench, &["-C", "clone", "commit", "-qm", "theirs"]);
    git(&bench, &["-C", "clone", "push", "-q"]);
    grow(&bench, 10..20);
    let said = anchor(&bench).ok();
    let commit = said.json()["sinks"][0]["receipt"]["commit"].as_str().unwrap().to_owned();
    let remote = |args: &[&str]| git(&bench, &[&["--git-dir", url.to_str().unwrap()], args].concat());
    assert_eq!(remote(&["rev-parse", "main"]).trim(), commit);
    assert_eq!(remote(&["show", "main:README"]), "theirs\n");
    assert_eq!(remote(&["show", "main:prod/checkpoint.txt"]), bench.run(&["checkpoint", "show"]).ok().out);
    assert_eq!(
        remote(&["log", "--format=%s|%an", "main", "--", "prod"]),
        "Checkpoint of 21 entries|Verdict anchor\nCheckpoint of 11 entries|Verdict anchor\n"
    );
    let ok = bench.run(&["anchor", "verify", "--sink", "g"]).ok();
    assert!(ok.out.contains("2 checkpoints, up to 21 entries, commit"), "{}", ok.out);

    snapshot.roll_back(&bench, true);
    let verified = bench.run(&["anchor", "verify", "--sink", "g"]);
    assert!(verified.code == 3 && verified.out.contains("entries 11..21"), "{verified:#?}");
    let (code, why) = detail(&anchor_again(&bench));
    assert!(code == 3 && why.contains("entries 11..21"), "{why}");
    assert_eq!(remote(&["rev-parse", "main"]).trim(), commit, "nothing was pushed over it");

    // The owner of the remote rewrites the branch to hide it.
    remote(&["update-ref", "refs/heads/main", "main~2"]);
    let (code, why) = detail(&anchor_again(&bench));
    assert!(code == 3 && why.contains("was rewritten"), "{why}");
    remote(&["update-ref", "-d", "refs/heads/main"]);
    let (code, why) = detail(&anchor_again(&bench));
    assert!(code == 3 && why.contains("no longer has the branch"), "{why}");
    std::fs::remove_dir_all(&url).unwrap();
    let (code, why) = detail(&anchor_again(&bench));
    assert!(code == 4 && why.contains("git ls-remote"), "{why}");
}

fn anchor_again(bench: &Bench) -> Said {
    bench.run(&["anchor", "run", "--again", "--format", "json"]).calm()
}

#[test]
fn a_webhook_is_signed_tried_again_and_told_the_same_thing_twice() {
    let server = Server::start(|number, _| match number {
        0 => (503, "text/plain", b"busy".to_vec()),
        _ => (204, "text/plain", Vec::new()),
    });
    let bench = Bench::with_ledger();
    let secret = bench.file("ledger/hook.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    let settings = |url: &str, attempts: u32| {
        let text = format!(
            "attempts = {attempts}\n[[webhook]]\nname = \"h\"\nurl = \"{url}\"\nsecret_file = \"hook.secret\"\n"
        );
        bench.file("ledger/anchors.toml", text);
    };
    settings(&server.url, 2);
    bench.run(&["anchor", "check-config"]).fails(2, &["chmod 600", "hook.secret", "sink `h`"]);
    bench.run(&["stats"]).ok();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&secret, mode).unwrap();
    let said = anchor(&bench).ok();
    assert_eq!(said.json()["sinks"][0]["attempts"], 2);

    let requests = server.requests();
    let (first, second) = (&requests[0], &requests[1]);
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    let body: serde_json::Value = serde_json::from_slice(&second.body).unwrap();
    assert_eq!(
        (body["type"].as_str(), body["data"]["size"].as_str()),
        (Some("checkpoint.signed"), Some("1"))
    );
    assert_eq!(body["data"]["note"].as_str().unwrap(), bench.run(&["checkpoint", "show"]).ok().out);
    // The receiver's side of the specification, with OpenSSL.
    let signed = [
        format!("{}.{}.", second.header("webhook-id"), second.header("webhook-timestamp")).as_bytes(),
        &second.body,
    ]
    .concat();
    let signed = bench.file("signed", signed);
    let mac = bench.shell(&format!(
        "openssl dgst -sha256 -mac HMAC -macopt hexkey:$(printf %s MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw | base64 -d | od -An -tx1 | tr -d ' \\n') -binary {signed} | base64"
    ));
    assert_eq!(second.header("webhook-signature"), format!("v1,{}", mac.ok().out.trim()));

    let refusing = Server::start(|_, _| (410, "text/plain", b"gone\x1b[31m".to_vec()));
    settings(&refusing.url, 3);
    let (code, why) = detail(&anchor_again(&bench));
    assert!(code == 4 && why.contains("410 gone") && !why.contains('\x1b'), "{why:?}");
    assert_eq!(refusing.requests().len(), 1, "a refusal is not tried again");
    let moved = Server::start(|_, _| (307, "text/plain", Vec::new()));
    settings(&moved.url, 3);
    assert!(detail(&anchor_again(&bench)).1.contains("307"), "redirects are not followed");
    let endless = Server::start(|_, _| (200, "text/plain", vec![b'x'; 1 << 20]));
    settings(&endless.url, 1);
    let (code, why) = detail(&anchor_again(&bench));
    assert!(code == 4 && why.contains("more than 65536 bytes"), "{why}");
    settings(&closed_port(), 1);
    let (code, why) = detail(&anchor_again(&bench));
    assert!(code == 4 && why.contains("cannot reach"), "{why}");
    let verified = bench.run(&["anchor", "verify"]).ok();
    assert!(verified.out.contains("a webhook only takes"), "{}", verified.out);
}

/// A time stamp authority made with OpenSSL in a bench; `None`, said loudly, where there is no OpenSSL.
fn authority(bench: &Bench) -> Option<()> {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: no openssl on this machine, so no local time stamp authority");
        return None;
    }
    bench.file(
        "tsa.cnf",
        "[req]\ndistinguished_name = dn\nprompt = no\nx509_extensions = stamping\n[dn]\nCN = test authority\n\
         [stamping]\nkeyUsage = critical,digitalSignature\nextendedKeyUsage = critical,timeStamping\n\
         [tsa]\ndefault_tsa = conf\n[conf]\nserial = serial\nsigner_cert = tsa.pem\nsigner_key = key.pem\n\
         signer_digest = sha256\ndefault_policy = 1.2.3.4.1\ndigests = sha256\ness_cert_id_alg = sha256\n",
    );
    bench.file("serial", "01\n");
    bench
        .shell(
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem && \
             openssl req -config tsa.cnf -new -x509 -key key.pem -days 30 -out tsa.pem",
        )
        .ok();
    Some(())
}

#[test]
fn a_time_stamp_by_a_local_authority_is_checked_kept_and_verified_by_openssl_too() {
    let bench = Bench::with_ledger();
    let Some(()) = authority(&bench) else { return };
    let dir = bench.dir.path().to_owned();
    let server = Server::start(move |number, request| {
        if number == 1 {
            return (200, "text/html", b"<html>".to_vec());
        }
        std::fs::write(dir.join("query.tsq"), &request.body).unwrap();
        let mut command = Command::new("openssl");
        command.current_dir(&dir).args(["ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query.tsq"]);
        let done = command.args(["-out", "reply.tsr"]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        (200, "application/timestamp-reply", std::fs::read(dir.join("reply.tsr")).unwrap())
    });
    let settings = format!(
        "attempts = 1\n[[rfc3161]]\nname = \"t\"\nurl = \"{}\"\ncertificate = \"../tsa.pem\"\n",
        server.url
    );
    bench.file("ledger/anchors.toml", &settings);
    let report = anchor(&bench).ok().json()["sinks"][0].clone();
    assert!(report["detail"].as_str().unwrap().starts_with("stamped 20"), "{report}");
    assert_eq!(server.requests()[0].header("content-type"), "application/timestamp-query");
    let (code, why) = detail(&anchor_again(&bench));
    assert!(code == 4 && why.contains("text/html"), "{why}");

    // What is kept is what OpenSSL verifies, with nothing else.
    let list = bench.run(&["anchor", "list", "--format", "json"]).ok().json();
    bench.file("note", list["records"][0]["note"].as_str().unwrap());
    bench.file("token.b64", list["records"][0]["receipt"]["response"].as_str().unwrap());
    bench
        .shell(
            "base64 -d token.b64 > token.tsr && openssl ts -verify -data note -in token.tsr -CAfile tsa.pem",
        )
        .ok();
    let ok = bench.run(&["anchor", "verify", "--sink", "t"]).ok();
    assert!(ok.out.contains("signature good"), "{}", ok.out);

    // Another authority's certificate: neither old tokens nor new ones count.
    let other = Bench::empty();
    authority(&other).unwrap();
    std::fs::copy(other.path("tsa.pem"), bench.path("tsa.pem.other")).unwrap();
    bench.file("ledger/anchors.toml", settings.replace("../tsa.pem", "../tsa.pem.other"));
    let verified = bench.run(&["anchor", "verify", "--sink", "t"]);
    assert!(verified.code == 3 && verified.out.contains("another certificate"), "{verified:#?}");
    let (code, why) = detail(&anchor_again(&bench));
    assert!(code == 3 && why.contains("another certificate"), "{why}");

    // A token for another request.
    let reply = std::fs::read(bench.path("reply.tsr")).unwrap();
    let replaying = Server::start(move |_, _| (200, "application/timestamp-reply", reply.clone()));
    bench.file("ledger/anchors.toml", settings.replace(&server.url, &replaying.url));
    let (code, why) = detail(&anchor_again(&bench));
    assert!(code == 3 && why.contains("nonce"), "{why}");
    grow(&bench, 0..3);
    let (code, why) = detail(&anchor_again(&bench));
    assert!(code == 3 && why.contains("other bytes"), "{why}");
}

#[test]
fn one_dead_sink_does_not_keep_the_others_from_their_checkpoint() {
    let bench = with_settings(&format!(
        "attempts = 1\n[[rfc3161]]\nname = \"dead\"\nurl = \"{}\"\n{FILE}",
        closed_port()
    ));
    let said = anchor(&bench);
    assert_eq!(said.code, 4, "{said:#?}");
    let report = said.json();
    let outcomes: Vec<_> =
        report["sinks"].as_array().unwrap().iter().map(|sink| sink["outcome"].clone()).collect();
    assert_eq!(outcomes, ["anchored", "failed"]);
    let list = bench.run(&["anchor", "list"]).ok().out;
    assert!(list.contains("file     other 11 entries"), "{list}");
}

#[test]
fn serving_anchors_in_the_background_and_shows_how_it_stands() {
    let (sender, heard) = channel();
    let server = Server::start(move |_, request| {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        sender.send(body["data"]["size"].as_str().unwrap().to_owned()).unwrap();
        (200, "text/plain", Vec::new())
    });
    let bench = Bench::with_ledger();
    let secret = bench.file("ledger/hook.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let dead = closed_port();
    bench.file(
        "ledger/anchors.toml",
        format!(
            "interval_seconds = 1\nattempts = 1\n\
             [[webhook]]\nname = \"hook\"\nurl = \"{}\"\nsecret_file = \"hook.secret\"\n\
             [[rfc3161]]\nname = \"dead-authority\"\nurl = \"{dead}\"\n",
            server.url
        ),
    );
    let served = Spawned::serve(&bench);
    let wait = Duration::from_mins(1);
    assert_eq!(heard.recv_timeout(wait).unwrap(), "1");
    let events: String = (0..5).map(|number| super::cli_support::event(number) + "\n").collect();
    assert_eq!(served.post("/api/v1/events", events.as_bytes()).0, 200);
    assert_eq!(heard.recv_timeout(wait).unwrap(), "6");
    // The answer to the webhook is under way to the page for a moment.
    let shown = (0..2_000).map(|_| served.get("/integrity").2).find(|page| {
        page.contains("<td>hook</td>") && page.contains("dead-authority") && page.contains("cannot reach")
    });
    assert!(shown.is_some(), "{}", served.get("/integrity").2);
    // The lines of the command line and of the server go into one log.
    bench.run(&["anchor", "run", "--sink", "hook", "--again"]).ok();
    assert_eq!(heard.recv_timeout(wait).unwrap(), "6");
    assert!(served.terminate(), "anchoring does not keep the server from ending");
    assert!(bench.run(&["anchor", "list"]).ok().out.matches("webhook").count() >= 3);
}

#[test]
fn the_checkpoint_that_others_fetch_carries_the_cosignatures() {
    let bench = Bench::with_ledger();
    let key = Spawned::init(&bench);
    let log = super::anchor_support::log_key(&bench);
    let witness = Spawned::start(&bench, &[&log]);
    let text = format!("[[witness]]\nname = \"w\"\nurl = \"{}\"\nkey = \"{key}\"\n", witness.url);
    bench.file("ledger/anchors.toml", text);
    grow(&bench, 0..3);
    anchor(&bench).ok();
    let served = Spawned::serve(&bench);
    let (status, _, note) = served.get("/checkpoint");
    assert!(status == 200 && note.contains("\n— witness.example/w1 "), "{note}");
    assert!(note.starts_with("example.org/verdict/test\n4\n"), "{note}");
    let note = bench.file("note", note);
    let keys = bench.file("keys", format!("{log}\n"));
    drop(served);
    bench.run(&["verify", &note, "--key", &keys]).ok();
}

#[test]
fn https_works_with_roots_that_the_operator_names_and_is_refused_without() {
    let bench = Bench::with_ledger();
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: no openssl on this machine, so no local https server");
        return;
    }
    bench
        .shell(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.pem -days 2 -subj /CN=localhost \
             -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE",
        )
        .ok();
    let mut server = Command::new("openssl");
    server.current_dir(bench.dir.path()).args(["s_server", "-accept", "127.0.0.1:0", "-cert", "tls.pem"]);
    let server =
        server.args(["-key", "tls.key"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = server.spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned)).unwrap();
    let secret = bench.file("ledger/hook.secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let settings = |more: &str| {
        let text = format!(
            "attempts = 1\n[[webhook]]\nname = \"h\"\nurl = \"https://{address}/\"\nsecret_file = \"hook.secret\"\n{more}"
        );
        bench.file("ledger/anchors.toml", text);
    };
    settings("");
    let (code, why) = detail(&anchor(&bench));
    assert!(code == 4 && why.contains("cannot reach https://") && why.contains("certificate"), "{why}");

    settings("ca_file = \"../tls.pem\"\n");
    let mut command = bench.command();
    let command = command.args(["anchor", "run"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = command.spawn().unwrap();
    assert!(lines.any(|line| line.to_ascii_lowercase().starts_with("webhook-signature: v1,")));
    server.stdin.take().unwrap().write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").unwrap();
    let output = running.wait_with_output().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(output.status.success(), "{output:?}");
}
