//! `verdict ingest` on a disk that fails: exit code 4, the cause, a way out, and nothing acknowledged is lost.
//!
//! The ledger's own crash tests try every call; here the real binary meets a handful of them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use crate::cli_support::{Bench, event};

/// Tells whether calls can be made to fail here; says loudly when not.
fn strace_works() -> bool {
    let wanted = std::env::var_os("SKIP_STRACE").is_none_or(|value| value != "1");
    let works = wanted
        && Command::new("strace")
            .args(["-f", "-o", "/dev/null", "true"])
            .output()
            .is_ok_and(|output| output.status.success());
    if !works {
        std::io::stderr()
            .write_all(b"SKIPPED: no strace here, no disk was made to fail under verdict\n")
            .unwrap();
    }
    works
}

/// A shell line that runs `verdict ingest` under strace.
fn ingest(strace: &str, file: &str) -> String {
    format!(
        "exec strace -f -qqq -e signal=none {strace} -o calls timeout -s KILL 60 \"$VERDICT\" ingest '{file}'"
    )
}

/// The file that the next writer makes its write-ahead log: found out with a copy of the ledger.
fn next_log(bench: &Bench, file: &str) -> PathBuf {
    let copy = Bench::empty();
    let line = format!(
        "cp -a '{0}' '{0}.lock' . && {1}",
        bench.path("ledger").display(),
        ingest("-y -s 0 -e trace=fdatasync", file)
    );
    copy.shell(&line).ok();
    let calls = std::fs::read_to_string(copy.path("calls")).unwrap();
    let log =
        calls.lines().rev().find_map(|line| line.split_once(".log>")).unwrap_or_else(|| panic!("{calls}"));
    let number = log.0.rsplit_once('/').unwrap().1;
    bench.path(&format!("ledger/db/{number}.log"))
}

#[test]
fn a_failing_disk_ends_with_four_names_the_cause_and_loses_nothing() {
    if !strace_works() {
        return;
    }
    // What fails, where, with which error, and what of it must be said.
    let cases = [
        ("fdatasync", "log", "EIO", "Input/output error"),
        ("fdatasync", "lock", "EIO", "Input/output error"),
        ("write", "log", "ENOSPC", "No space left on device"),
        ("pwrite64", "lock", "ENOSPC", "No space left on device"),
        ("fsync,fdatasync", "current", "EIO", "Input/output error"),
    ];
    for (call, place, error, told) in cases {
        let bench = Bench::with_ledger();
        bench.run(&["ingest", &bench.events(4)]).ok();
        let before = bench.size();
        let file = bench.file("more.ndjson", (10..60).map(|n| event(n) + "\n").collect::<String>());
        let path = match place {
            "lock" => bench.path("ledger.lock"),
            "log" => next_log(&bench, &file),
            _ => bench.path("ledger/db"),
        };
        let strace = format!(
            "-e trace={call} -e inject={call}:error={error}:when=1+ -P '{}'",
            path.canonicalize().unwrap_or(path).display()
        );
        let said = bench.shell(&ingest(&strace, &file));
        let calls = std::fs::read_to_string(bench.path("calls")).unwrap();
        assert!(calls.contains("(INJECTED)"), "{call} on {place}: no call failed");
        let said = said.fails(4, &[told]);
        assert!(said.err.contains("hint: ") || place == "current", "{said:#?}");

        // The disk is well again.
        bench.run(&["verify"]).ok();
        assert!(bench.size() >= before);
        bench.run(&["ingest", &file]).ok();
        assert_eq!(bench.size(), before + 50, "{call} on {place}");
        bench.run(&["verify"]).ok();
    }
}
