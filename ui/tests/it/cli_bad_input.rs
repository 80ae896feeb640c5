//! Every kind of bad input: the exit code, the place that is named, the way out, and nothing lost.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use super::cli_support::{Bench, copy, event};

#[test]
fn a_truncated_line_is_named_and_nothing_of_the_file_is_added() {
    let bench = Bench::with_ledger();
    let before = bench.size();
    let whole = event(1);
    let cut = &whole[..whole.len() / 2];
    let file = bench.file("cut.ndjson", format!("{}\n{cut}", event(0)));
    bench.run(&["ingest", &file]).fails(2, &["cut.ndjson", "line 2", "hint: ", "--keep-going"]);
    assert_eq!(bench.size(), before);
    let said = bench.run(&["ingest", "--keep-going", &file]).calm();
    assert_eq!(said.code, 2, "{said:#?}");
    assert!(said.err.contains("line 2") && said.out.contains("1 appended"), "{said:#?}");
    assert_eq!(bench.size(), before + 1);
}

#[test]
fn a_malformed_line_is_named_and_what_was_acknowledged_before_stays() {
    let bench = Bench::with_ledger();
    let good = bench.file("a-good.ndjson", event(0));
    let bad = bench.file("b-bad.ndjson", format!("{}\n{{\"id\": }}\n{}\n", event(1), event(2)));
    let said = bench.run(&["ingest", &good, &bad]).fails(2, &["b-bad.ndjson", "line 2", "hint: "]);
    assert!(said.out.contains("1 appended"), "{said:#?}");
    let size = bench.size();
    let unknown = bench.file(
        "c.ndjson",
        "{\"id\": \"x\", \"actoin\": {}, \"action\": {\"kind\": \"tool\", \"name\": \"t\"}}",
    );
    bench.run(&["ingest", &unknown]).fails(2, &["c.ndjson", "line 1", "actoin"]);
    assert_eq!(bench.size(), size);
    bench.run(&["verify"]).ok();
}

#[test]
fn a_body_that_is_not_otlp_is_named() {
    let bench = Bench::with_ledger();
    let protobuf = bench.file("body.pb", [0x0a, 0xff, 0xff, 0x03, 1, 2, 3]);
    bench
        .run(&["ingest", "--input-format", "otlp-proto", &protobuf])
        .fails(2, &["body.pb", "byte ", "hint: "]);
    let json = bench.file("body.json", "{\"resourceSpans\": 7}");
    bench
        .run(&["ingest", "--input-format", "otlp-json", &json])
        .fails(2, &["body.json", "resourceSpans", "hint: "]);
    let text = bench.file("notes.txt", "these are notes");
    bench.run(&["ingest", &text]).fails(2, &["notes.txt", "no format that is known", "--input-format"]);
    let gzip = bench.file("cut.gz", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1]);
    bench.run(&["ingest", "--input-format", "native", &gzip]).fails(2, &["cut.gz", "gzip"]);
    bench.run(&["ingest", "no-such-file.json"]).fails(2, &["no-such-file.json"]);
    bench.run(&["ingest", bench.file("empty.json", "").as_str()]).fails(2, &["empty.json", "empty"]);
}

#[test]
fn a_policy_that_does_not_compile_names_file_and_line() {
    let bench = Bench::with_ledger();
    let before = bench.size();
    let policy = bench.policy("1", 5_000);
    bench.file("policies/1/policy/broken.rego", "package shop\n\nfindings contains x if {\n\tx := \n}\n");
    for args in [&["policy", "publish", &policy][..], &["replay", "run", "--policy", &policy]] {
        bench.run(args).fails(2, &["policy/broken.rego:", "policy check"]);
    }
    let said = bench.run(&["policy", "check", &policy]).calm();
    assert_eq!(said.code, 2, "{said:#?}");
    assert!(said.out.contains("policy/broken.rego:"), "{said:#?}");
    assert_eq!(bench.size(), before);
    bench.run(&["policy", "publish", "no/such/dir"]).fails(2, &["no/such/dir"]);
    let empty = bench.file("not-a-bundle/readme", "x");
    let empty = empty.strip_suffix("/readme").unwrap();
    bench.run(&["policy", "publish", empty]).fails(2, &["not-a-bundle", "verdict.toml"]);
}

#[test]
fn an_unknown_policy_version_names_those_that_are_there() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(4)]).ok();
    bench.run(&["replay", "run", "--policy", "active"]).fails(2, &["no policy is active", "policy activate"]);
    bench.run(&["policy", "publish", &bench.policy("1", 5_000)]).ok();
    bench
        .run(&["replay", "diff", "--from", "shop@1", "--to", "shop@7"])
        .fails(2, &["shop@7", "shop@1", "policy list"]);
}

#[test]
fn a_directory_that_is_not_a_ledger_is_named() {
    let bench = Bench::empty();
    for args in [&["stats"][..], &["verify"], &["ingest", "x"], &["trace", "list"], &["export", "events"]] {
        bench.run(args).fails(2, &["ledger", "is not a ledger", "init", "VERDICT_LEDGER"]);
    }
    let said = bench.run(&["--format", "json", "stats"]);
    assert_eq!(said.code, 2);
    let error: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!((&error["error"]["kind"], &error["error"]["exit_code"]), (&"unusable".into(), &2.into()));
    bench.file("ledger/something", "else");
    bench.run(&["init"]).fails(2, &["not empty", "--ledger"]);
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(4)]).ok();
    let mut server = bench
        .command()
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut address).unwrap();
    assert!(address.starts_with("http://127.0.0.1:"), "{address}");
    let second = bench.run(&["ingest", &bench.events(5)]);
    let reader = bench.run(&["stats"]);
    let out = bench.path("e.zip");
    let export = bench.run(&["export", "evidence", "--range", "..", "--out", out.to_str().unwrap()]);
    let publish = bench.run(&["policy", "publish", &bench.policy("1", 1)]);
    server.kill().unwrap();
    server.wait().unwrap();
    second.fails(4, &["is being written by another process", "one writer", "/api/v1/events"]);
    for refused in [export, publish] {
        refused.fails(4, &["is being written by another process", "stop `verdict serve`"]);
    }
    assert!(!out.exists());
    reader.ok();
    bench.run(&["ingest", &bench.events(5)]).ok();
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(4)]).ok();
    let before = bench.size();
    let many: String = (100..3_000).map(|number| event(number) + "\n").collect();
    let file = bench.file("many.ndjson", many);
    // The largest file that the process may write stands in for the disk; the signal would end it silently.
    let said = bench.shell(&format!("trap '' XFSZ; ulimit -f 256; \"$VERDICT\" ingest '{file}'"));
    said.fails(4, &["hint: "]);
    let after = bench.size();
    assert!(after >= before, "{after} < {before}");
    bench.run(&["verify"]).ok();
    bench.run(&["ingest", &file]).ok();
    assert_eq!(bench.size(), before + 2_900);
    bench.run(&["verify"]).ok();
}

#[test]
fn a_port_in_use_is_named_and_so_is_an_address_that_others_can_reach() {
    let bench = Bench::with_ledger();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    bench.run(&["serve", "--listen", &address]).fails(4, &[&address, "in use", "--listen"]);
    bench.run(&["serve", "--listen", "0.0.0.0:0"]).fails(2, &["loopback"]);
}

#[test]
fn a_bundle_that_is_not_a_bundle_is_named() {
    let bench = Bench::with_ledger();
    let keys = bench.file("keys", bench.run(&["keys", "show"]).ok().out);
    let text = bench.file("evidence.zip", "not a zip");
    bench
        .run(&["verify", &text, "--key", &keys])
        .fails(2, &["evidence.zip", "not an evidence bundle", "export evidence"]);
    bench.run(&["verify", "missing.zip", "--key", &keys]).fails(2, &["missing.zip"]);
    bench.run(&["verify", &text, "--key", &text]).fails(2, &["evidence.zip, line 1", "verifier key"]);
    bench.run(&["verify", &text, "--key", "no-such-file"]).fails(2, &["no-such-file"]);
}

#[test]
fn a_bundle_without_or_with_a_foreign_key_is_not_trusted_and_a_changed_byte_is_tampering() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(8)]).ok();
    let keys = bench.file("keys", bench.run(&["keys", "show"]).ok().out);
    let out = bench.path("evidence.zip");
    let path = out.to_str().unwrap();
    bench.run(&["export", "evidence", "--range", "..", "--out", path]).ok();
    bench.run(&["verify", path, "--key", &keys]).ok();
    bench.run(&["verify", path]).fails(2, &["without a key", "keys show"]);
    let other = Bench::with_ledger();
    let foreign = other.file("keys", other.run(&["keys", "show"]).ok().out);
    let said = bench.run(&["verify", path, "--key", &foreign]).calm();
    assert_eq!(said.code, 3, "{said:#?}");
    let mut bytes = std::fs::read(&out).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let bad = bench.file("bad.zip", bytes);
    let said = bench.run(&["verify", &bad, "--key", &keys]).calm();
    assert_eq!(said.code, 1, "{said:#?}");
    assert!(said.out.contains("FAILED"), "{said:#?}");
}

#[test]
fn a_ledger_that_was_rolled_back_is_not_trusted() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(4)]).ok();
    let (ledger, backup) = (bench.path("ledger"), bench.path("backup"));
    copy(&ledger, &backup);
    bench.run(&["ingest", &bench.events(9)]).ok();
    std::fs::remove_dir_all(&ledger).unwrap();
    copy(&backup, &ledger);
    for args in [&["verify"][..], &["stats"], &["ingest", "events.ndjson"]] {
        bench.run(args).fails(3, &["hint: "]);
    }
}

#[test]
fn usage_errors_and_bad_gate_files_end_with_two() {
    let bench = Bench::with_ledger();
    for args in [
        &["frobnicate"][..],
        &["replay", "diff"],
        &["export", "events", "--range", "9..3"],
        &["trace", "show", "xyz"],
    ] {
        let said = bench.run(args).calm();
        assert_eq!(said.code, 2, "{said:#?}");
        assert!(said.err.starts_with("error: "), "{said:#?}");
    }
    let gate = bench.file("gate.toml", "[classes]\nlosened = \"fail\"\n");
    let policy = bench.policy("1", 1);
    bench
        .run(&["replay", "diff", "--from", &policy, "--to", &policy, "--gate", &gate])
        .fails(2, &["gate.toml", "line 2", "losened"]);
    bench.run(&["stats", "--format", "markdown"]).fails(2, &["markdown", "--format human or json"]);
    bench.run(&["export", "events", "--range", "0..999"]).fails(2, &["0..999", "choose a range"]);
    bench.run(&["trace", "show", &"ab".repeat(16)]).fails(2, &["no event of trace", "trace list"]);
    bench.run(&["export", "evidence", "--out", "x.zip"]).fails(2, &["--trace", "--range"]);
}

#[test]
fn a_directory_tells_what_it_skips_and_refuses_what_is_broken() {
    let bench = Bench::with_ledger();
    bench.file("mixed/settings.json", "{\"colour\": 1}");
    bench.file("mixed/empty.ndjson", "");
    let mixed = bench.path("mixed").to_str().unwrap().to_owned();
    bench
        .run(&["ingest", &mixed])
        .fails(2, &["mixed/settings.json", "mixed/empty.ndjson", "2 files skipped"]);
    bench.file("mixed/good.ndjson", event(0));
    let said = bench.run(&["ingest", "--quiet", &mixed]).ok();
    assert!(said.out.contains("1 file, 1 event: 1 appended"), "{said:#?}");
    assert!(said.err.contains("warning: skipped ") && said.err.contains("settings.json"), "{said:#?}");
    // By its name, and by a word in it, these were to be OTLP: passing over them would lose what they hold.
    for (name, bytes) in [("cut.pb", &b"\x0a\xff\xff\x03\x01"[..]), ("cut.json", b"{\"resourceSpans\": [{")] {
        let file = bench.file(&format!("mixed/{name}"), bytes);
        bench.run(&["ingest", &mixed]).fails(2, &[name, "it breaks: ", "byte "]);
        bench.run(&["ingest", &file]).fails(2, &[name, "it breaks: ", "byte "]);
        std::fs::remove_file(file).unwrap();
    }
    let wrong: String = (0..9).map(|number| event(number) + "\n").collect();
    let wrong = bench.file("wrong.ndjson", wrong);
    let said = bench
        .run(&["ingest", "--input-format", "aisecops", &wrong])
        .fails(2, &["line 1", "also line 2", "and 4 more", "not one record", "--input-format"]);
    assert!(!said.err.contains("line 6"), "{said:#?}");
}

#[test]
fn a_ledger_that_is_there_is_not_made_again() {
    let bench = Bench::with_ledger();
    bench.run(&["init"]).fails(2, &["is a ledger already", "--ledger"]);
    std::fs::remove_dir_all(bench.path("ledger")).unwrap();
    bench.run(&["init"]).fails(2, &["ledger.lock", "move the lock file away"]);
}

#[test]
fn what_cannot_be_withheld_is_refused_before_anything_is_written() {
    let bench = Bench::with_ledger();
    bench.run(&["ingest", &bench.events(4)]).ok();
    let size = bench.size();
    let out = bench.path("e.zip");
    let export = |member: &str| {
        bench.run(&[
            "export",
            "evidence",
            "--range",
            "..",
            "--out",
            out.to_str().unwrap(),
            "--withhold",
            member,
        ])
    };
    for typo in ["/action/argument", "user", "/agent"] {
        export(typo).fails(2, &[typo, "/action/arguments", "/user"]);
    }
    assert!(!out.exists() && bench.size() == size);
    assert!(export("/action/arguments").ok().out.contains("4 withheld"));
}

#[test]
fn bytes_that_are_no_text_are_unusable_input() {
    let bench = Bench::with_ledger();
    let bytes = bench.file("bytes", [0xff, 0xfe, 0]);
    let policy = bench.policy("1", 1);
    bench
        .run(&["replay", "diff", "--from", &policy, "--to", &policy, "--gate", &bytes])
        .fails(2, &["gate file", "bytes"]);
    bench.run(&["verify", "--key", &bytes]).fails(2, &["key file", "bytes"]);
    bench.run(&["replay", "run", "--policy", &policy, "--out", "."]).fails(2, &["cannot write"]);
}

#[test]
fn with_json_every_line_of_stderr_is_json() {
    let bench = Bench::with_ledger();
    bench.file("mixed/settings.json", "{}");
    bench.file("mixed/good.ndjson", event(0));
    bench.file("mixed/z-bad.ndjson", "{");
    let said = bench.run(&["--format", "json", "ingest", bench.path("mixed").to_str().unwrap()]).calm();
    assert_eq!(said.code, 2, "{said:#?}");
    let lines: Vec<serde_json::Value> =
        said.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{said:#?}");
    assert!(lines[0]["warning"].is_string() && lines[1]["error"]["message"].is_string(), "{said:#?}");
    assert_eq!(said.json()["appended"], 1);
}
