//! Runs the real binary in a directory of its own.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// What a run said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: &std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts a clean end.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// Asserts a failure: its code, what the message names, a way out, and nothing of a crash.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, names: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.err.contains("error: "), "{self:#?}");
        for name in names {
            assert!(self.err.contains(name), "no `{name}` in {self:#?}");
        }
        self.calm()
    }

    /// Asserts that nothing looks like a crash.
    #[track_caller]
    pub(crate) fn calm(self) -> Self {
        for crash in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
            assert!(!self.err.contains(crash) && !self.out.contains(crash), "{self:#?}");
        }
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Asks a process to stop, as a service manager does, and waits until it did.
pub(crate) fn terminate(child: &mut std::process::Child) {
    let told = Command::new("kill").arg(child.id().to_string()).status();
    assert!(told.is_ok_and(|told| told.success()), "kill could not be run");
    child.wait().unwrap();
}

/// A directory with a place for a ledger.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
}

impl Bench {
    /// Makes an empty one.
    pub(crate) fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Makes one with a ledger.
    pub(crate) fn with_ledger() -> Self {
        let bench = Self::empty();
        bench.run(&["init", "--origin", "example.org/verdict/test"]).ok();
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and returns its path as an argument.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The command, with its ledger in this directory.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_verdict"));
        command
            .current_dir(self.dir.path())
            .env("VERDICT_LEDGER", self.path("ledger"))
            .env("USER", "tester")
            .env_remove("VERDICT_LOCK")
            .env_remove("VERDICT_ANCHORS")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    /// Runs it.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        Said::of(&self.command().args(args).output().unwrap())
    }

    /// Runs a shell line in which `$VERDICT` is the binary.
    pub(crate) fn shell(&self, line: &str) -> Said {
        let mut command = Command::new("bash");
        command
            .args(["-c", line])
            .current_dir(self.dir.path())
            .env("VERDICT", env!("CARGO_BIN_EXE_verdict"))
            .env("VERDICT_LEDGER", self.path("ledger"))
            .stdin(Stdio::null());
        Said::of(&command.output().unwrap())
    }

    /// Writes a small policy bundle and returns its path.
    pub(crate) fn policy(&self, version: &str, limit: u64) -> String {
        let dir = format!("policies/{version}");
        self.file(
            &format!("{dir}/verdict.toml"),
            format!(
                "name = \"shop\"\nversion = \"{version}\"\nengine = \"rego\"\nentrypoint = \"data.shop.findings\"\n\
                 input_schema = \"verdict-input/1\"\ndefault_effect = \"allow\"\n"
            ),
        );
        self.file(
            &format!("{dir}/policy/shop.rego"),
            format!(
                "package shop\n\nfindings contains {{\"effect\": \"block\", \"rule\": \"refund.limit\", \
                 \"reason\": \"too much\"}} if {{\n\tinput.action.name == \"issue_refund\"\n\t\
                 input.action.arguments.amount_cents > {limit}\n}}\n"
            ),
        );
        self.path(&dir).to_str().unwrap().to_owned()
    }

    /// Writes native events and returns the file's path.
    pub(crate) fn events(&self, count: u64) -> String {
        let lines: String = (0..count).map(|number| event(number) + "\n").collect();
        self.file("events.ndjson", lines)
    }

    /// Returns how many entries the ledger has.
    pub(crate) fn size(&self) -> u64 {
        self.run(&["stats", "--format", "json"]).ok().json()["entries"].as_u64().unwrap()
    }
}

/// One refund.
pub(crate) fn event(number: u64) -> String {
    serde_json::json!({
        "id": format!("refund-{number}"),
        "trace_id": format!("{:032x}", number / 4 + 1),
        "span_id": format!("{:016x}", number + 1),
        "start_ns": (1_763_670_000_000_000_000u64 + number).to_string(),
        "agent": {"name": "support-agent"},
        "action": {"kind": "tool", "name": "issue_refund", "arguments": {"order_id": "A1", "amount_cents": number * 1_000}},
        "outcome": {"status": "ok"},
    })
    .to_string()
}

/// Copies a directory.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
