//! A real client against a real witness process.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::anchor_support::{Snapshot, Spawned, grow, log_key};
use super::cli_support::{Bench, Said};

struct Pair {
    bench: Bench,
    key: String,
    log: String,
}

impl Pair {
    fn new() -> Self {
        let bench = Bench::with_ledger();
        let key = Spawned::init(&bench);
        let log = log_key(&bench);
        Self { bench, key, log }
    }

    fn start(&self) -> Spawned {
        let witness = Spawned::start(&self.bench, &[&self.log]);
        self.settings(&witness.url, 1);
        witness
    }

    fn settings(&self, url: &str, attempts: u32) {
        let text = format!(
            "attempts = {attempts}\n[[witness]]\nname = \"w\"\nurl = \"{url}\"\nkey = \"{}\"\n",
            self.key
        );
        self.bench.file("ledger/anchors.toml", text);
    }

    fn anchor(&self) -> Said {
        self.bench.run(&["anchor", "run", "--format", "json"]).calm()
    }
}

fn outcome(said: &Said) -> (i32, String, String) {
    let report = &said.json()["sinks"][0];
    let text = |name: &str| report[name].as_str().unwrap().to_owned();
    (said.code, text("outcome"), text("detail"))
}

/// How far the witness says that the log has come.
fn witnessed(witness: &Spawned) -> String {
    let (status, _, body) = witness.get("/logs");
    assert_eq!(status, 200);
    let logs: serde_json::Value = serde_json::from_str(&body).unwrap();
    logs["logs"][0]["size"].as_str().unwrap().to_owned()
}

#[test]
fn a_growing_ledger_is_cosigned_and_the_checkpoint_carries_it() {
    let pair = Pair::new();
    let witness = pair.start();
    for end in [4, 9, 70] {
        grow(&pair.bench, 0..end);
        let said = pair.anchor();
        assert_eq!(said.code, 0, "{said:#?}");
        let report = &said.json()["sinks"][0];
        assert_eq!(report["outcome"], "anchored");
        let lines = report["receipt"]["cosignatures"].as_array().unwrap();
        assert!(lines[0].as_str().unwrap().starts_with("— witness.example/w1 "));
        assert_eq!(report["size"].as_str().unwrap(), witnessed(&witness));
    }
    assert_eq!(outcome(&pair.anchor()).1, "already", "the same checkpoint is not given twice");
    let again = pair.bench.run(&["anchor", "run", "--again"]).ok();
    assert!(again.out.contains("anchored") && again.out.contains("cosigned 20"), "{}", again.out);
    pair.bench.run(&["anchor", "verify"]).ok();
    // The cosigned note is kept by the witness too, and anybody with the log's key verifies it.
    let (_, _, logs) = witness.get("/logs");
    let logs: serde_json::Value = serde_json::from_str(&logs).unwrap();
    let note = pair.bench.file("cosigned.txt", logs["logs"][0]["checkpoint"].as_str().unwrap());
    let keys = pair.bench.file("auditor.keys", pair.bench.run(&["keys", "show"]).ok().out);
    pair.bench.run(&["verify", &note, "--key", &keys]).ok();
    assert!(witness.terminate(), "a witness that is told to stop ends well");
}

#[test]
fn a_ledger_that_was_rolled_back_with_everything_local_is_refused_with_the_missing_range() {
    let pair = Pair::new();
    let witness = pair.start();
    grow(&pair.bench, 0..10);
    pair.anchor().ok();
    let snapshot = Snapshot::take(&pair.bench);
    grow(&pair.bench, 10..20);
    pair.anchor().ok();

    // Database, lock and anchor log agree with each other: nothing on this machine can tell.
    snapshot.roll_back(&pair.bench, true);
    pair.bench.run(&["verify"]).ok();
    let (code, outcome_, detail) =
        outcome(&pair.bench.run(&["anchor", "run", "--again", "--format", "json"]));
    assert_eq!((code, outcome_.as_str()), (3, "untrusted"));
    assert!(detail.contains("entries 11..21 were anchored and are missing"), "{detail}");
    let verified = pair.bench.run(&["anchor", "verify"]);
    assert_eq!(verified.code, 3, "{verified:#?}");
    assert!(verified.out.contains("11..21"), "{}", verified.out);

    // Grown again beside what the witness saw: the tree does not contain it.
    grow(&pair.bench, 50..80);
    let (code, outcome_, detail) = outcome(&pair.anchor());
    assert_eq!((code, outcome_.as_str()), (3, "untrusted"), "{detail}");
    assert!(detail.contains("saw another history") && detail.contains("21 entries"), "{detail}");
    assert_eq!(witnessed(&witness), "21", "the witness stays where it was");
}

#[test]
fn a_fork_of_the_same_size_is_refused() {
    let pair = Pair::new();
    let witness = pair.start();
    grow(&pair.bench, 0..10);
    let snapshot = Snapshot::take(&pair.bench);
    grow(&pair.bench, 10..15);
    pair.anchor().ok();
    snapshot.roll_back(&pair.bench, true);
    grow(&pair.bench, 20..25);
    let (code, _, detail) = outcome(&pair.anchor());
    assert!(code == 3 && detail.contains("first 16 entries"), "{detail}");
    assert_eq!(witnessed(&witness), "16");
}

#[test]
fn a_killed_witness_remembers_and_a_torn_state_is_refused() {
    let pair = Pair::new();
    let witness = pair.start();
    grow(&pair.bench, 0..10);
    pair.anchor().ok();
    witness.kill();

    pair.settings("http://127.0.0.1:1/", 1);
    grow(&pair.bench, 10..12);
    let (code, outcome_, detail) = outcome(&pair.anchor());
    assert_eq!((code, outcome_.as_str()), (4, "failed"), "{detail}");
    assert!(detail.contains("cannot reach http://127.0.0.1:1/add-checkpoint"), "{detail}");

    let witness = pair.start();
    assert_eq!(witnessed(&witness), "11");
    pair.anchor().ok();
    witness.kill();

    let state = std::fs::read_dir(pair.bench.path("witness")).unwrap().map(|entry| entry.unwrap().path());
    let state = state.into_iter().find(|path| path.extension().is_some_and(|e| e == "checkpoint")).unwrap();
    let whole = std::fs::read(&state).unwrap();
    std::fs::write(&state, &whole[..whole.len() - 30]).unwrap();
    let args = ["witness", "--state", "witness", "--listen", "127.0.0.1:0", "--log", &pair.log];
    pair.bench
        .run(&args)
        .fails(3, &[state.file_name().unwrap().to_str().unwrap(), "hint: restore the newest backup"]);
}

#[test]
fn concurrent_anchoring_leaves_one_history() {
    let pair = Pair::new();
    let witness = pair.start();
    pair.settings(&witness.url, 4);
    grow(&pair.bench, 0..20);
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut command = pair.bench.command();
            command.args(["anchor", "run", "--again"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(witnessed(&witness), "21");
    let list = pair.bench.run(&["anchor", "list", "--format", "json"]).ok().json();
    assert_eq!(list["records"].as_array().unwrap().len(), 4, "no line was lost or mixed up");
}

#[test]
fn a_witness_with_another_key_or_without_the_log_is_told_apart() {
    let pair = Pair::new();
    let witness = pair.start();
    let other = Bench::empty();
    let key = Spawned::init(&other);
    let text = format!("[[witness]]\nname = \"w\"\nurl = \"http://127.0.0.1:1/\"\nkey = \"{key}\"\n");
    pair.bench.file("ledger/anchors.toml", text.replace("http://127.0.0.1:1/", &witness.url));
    let (code, _, detail) = outcome(&pair.anchor());
    assert!(code == 3 && detail.contains("without a cosignature"), "{detail}");
    drop(witness);

    let stranger = Bench::with_ledger();
    let witness = Spawned::start(&other, &[&log_key(&stranger)]);
    let text = text.replace("http://127.0.0.1:1/", &witness.url);
    pair.bench.file("ledger/anchors.toml", text);
    let (code, _, detail) = outcome(&pair.anchor());
    // Both ledgers have one origin, so that the log is known and the key is not.
    assert!(code == 4 && detail.contains("403"), "{detail}");
}

#[test]
fn every_malformed_request_gets_a_clear_refusal() {
    let pair = Pair::new();
    let witness = pair.start();
    let note = pair.bench.run(&["checkpoint", "show"]).ok().out;
    let foreign = note.replace("example.org/verdict/test", "example.org/other");
    let proof = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
    let cases: Vec<(Vec<u8>, u16, &str)> = vec![
        (vec![], 400, "old N"),
        (b"\n".to_vec(), 400, "old N"),
        (vec![0xff; 64], 400, "UTF-8"),
        (vec![0; 64], 400, "old N"),
        (note.clone().into(), 400, "old N"),
        (format!("old 01\n\n{note}").into(), 400, "old N"),
        (format!("old -1\n\n{note}").into(), 400, "old N"),
        (format!("old 99999999999999999999\n\n{note}").into(), 400, "old N"),
        (format!("old 0\r\n\r\n{note}").into(), 400, "old N"),
        (format!("old 0\n{note}").into(), 400, "32 bytes"),
        (format!("old 0\n{}\n{note}", proof.repeat(64)).into(), 400, "63"),
        (format!("old 0\nx\n\n{note}").into(), 400, "32 bytes"),
        (b"old 0\n\n".to_vec(), 400, "signed note"),
        (format!("old 0\n\n{}", note.split_once("\n\n").unwrap().0).into(), 400, "signed note"),
        (format!("old 0\n\n{}", note.trim_end()).into(), 400, "newline"),
        (format!("old 9\n\n{note}").into(), 400, "beyond"),
        (format!("old 0\n\n{}", note.replacen("\n1\n", "\n2\n", 1)).into(), 403, "no signature by a key"),
        (format!("old 0\n\n{foreign}").into(), 404, "not known"),
        (format!("old 0\n{proof}\n{note}").into(), 422, "proof"),
        (format!("old 1\n\n{note}").into(), 409, "0\n"),
    ];
    for (body, status, says) in cases {
        let (got, head, answer) = witness.post("/add-checkpoint", &body);
        let shown = String::from_utf8_lossy(&body);
        assert!(got == status && answer.contains(says), "{shown:.80}: {got} {answer}");
        let kind = if status == 409 { "text/x.tlog.size" } else { "text/plain; charset=utf-8" };
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
    }
    assert_eq!(witness.post("/add-checkpoint", &vec![b'x'; 200_000]).0, 413);
    assert_eq!(witness.get("/add-checkpoint").0, 405);
    assert_eq!(witness.post("/nowhere", b"").0, 404);
    assert_eq!(witness.post("/add-checkpoint/../x", b"").0, 404);
    assert_eq!(witness.raw(b"NONSENSE\r\n\r\n").0, 400);
    assert_eq!(witness.get("/healthz").0, 200);
    assert!(witness.get("/").2.contains(&pair.key));
    // After all of it the witness still works, from where it was.
    assert_eq!(witnessed(&witness), "0");
    let (status, _, line) = witness.post("/add-checkpoint", format!("old 0\n\n{note}").as_bytes());
    assert!(status == 200 && line.starts_with("— witness.example/w1 "), "{status} {line}");
    assert!(witness.terminate());
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let pair = Pair::new();
    let bench = &pair.bench;
    bench
        .run(&["witness", "init", "--name", "a b", "--state", "x"])
        .fails(2, &["name", "hint: a name looks like"]);
    bench.run(&["witness", "init", "--name", "w", "--state", "witness"]).fails(2, &["already"]);
    bench.run(&["witness", "--state", "none", "--log", &pair.log]).fails(2, &["none", "witness init"]);
    bench.run(&["witness", "--state", "witness"]).fails(2, &["no logs"]);
    bench.run(&["witness", "--state", "witness", "--log", "x"]).fails(2, &["--log x"]);
    bench.run(&["witness", "--state", "witness", "--log", &pair.key]).fails(2, &["0x01"]);
    let list = bench.file("logs.txt", format!("# a log\n\n{}\nnonsense\n", pair.log));
    bench.run(&["witness", "--state", "witness", "--logs", &list]).fails(2, &["logs.txt line 4"]);
    bench
        .run(&["witness", "--state", "witness", "--log", &pair.log, "--key", "none.pem"])
        .fails(2, &["none.pem"]);
    let running = pair.start();
    bench
        .run(&["witness", "--state", "witness", "--log", &pair.log, "--listen", "127.0.0.1:0"])
        .fails(4, &["in use"]);
    let address = running.url.trim_start_matches("http://").trim_end_matches('/');
    let other = Bench::empty();
    Spawned::init(&other);
    other
        .run(&["witness", "--state", "witness", "--log", &pair.log, "--listen", address])
        .fails(4, &[address]);
}
