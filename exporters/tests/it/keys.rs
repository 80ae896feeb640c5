//! Bundles over rotations, revocations and a restore: who holds an old key follows, or is told why not. The verifier
//! page must say the same as the program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use verdict_exporters::evidence::{
    Built, ExportOptions, Outcome, Selection, SizeRange, VerifierKeys, Withhold, export,
};
use verdict_ledger::authority::Role;
use verdict_ledger::clock::{Clock, SteppingClock, SteppingEntropy};
use verdict_ledger::event::{Action, ActionKind, Event};
use verdict_ledger::key::SigningKey;
use verdict_ledger::note::VerifierKey;
use verdict_ledger::{
    Batch, InitOptions, KeySource, Ledger, NewRecord, OpenOptions, RestoreOptions, Revoking, Rotation,
};

use crate::fixture::check;

struct Kept {
    dir: tempfile::TempDir,
    clock: Arc<dyn Clock>,
}

impl Kept {
    fn new() -> Self {
        let kept = Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000)),
        };
        let options = InitOptions {
            entropy: Arc::new(SteppingEntropy::starting_at(40)),
            ..InitOptions::new("example.com/keys")
        };
        drop(Ledger::init(&kept.path(), &options, Arc::clone(&kept.clock)).unwrap());
        kept
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn open(&self) -> Ledger {
        Ledger::open(&self.path(), &OpenOptions::default(), Arc::clone(&self.clock)).unwrap()
    }

    fn append(&self, ids: &[&str]) {
        let ledger = self.open();
        for id in ids {
            let event = Event::new((*id).to_owned(), Action::new(ActionKind::Tool, "t"));
            let record = NewRecord::from_event(&event).unwrap();
            ledger.append(Batch { records: vec![record], blobs: Vec::new() }).unwrap();
        }
        ledger.settle().unwrap();
    }

    fn rotate(&self, role: Role, seed: u64) {
        let rotation = Rotation {
            role,
            source: KeySource::Pair(SigningKey::generate(&SteppingEntropy::starting_at(seed)).unwrap()),
            passphrase: None,
            reason: "test".into(),
            by: "t".into(),
        };
        Ledger::rotate_key(&self.path(), &OpenOptions::default(), Arc::clone(&self.clock), &rotation)
            .unwrap();
    }

    fn revoke(&self, role: Role, key: &VerifierKey, last_size: u64) {
        let revoking =
            Revoking { role, key: key.clone(), last_size, reason: "stolen".into(), by: "t".into() };
        Ledger::revoke_key(&self.path(), &OpenOptions::default(), Arc::clone(&self.clock), &revoking)
            .unwrap();
    }

    fn keys(&self) -> (VerifierKey, VerifierKey) {
        let authority = self.open().authority();
        (authority.current(Role::Log).clone(), authority.current(Role::Bundle).clone())
    }

    /// Puts a backup in the ledger's place and goes on from it.
    fn put_back(&self, backup: &Path) {
        std::fs::remove_dir_all(self.path()).unwrap();
        Ledger::copy(backup, &self.path()).unwrap();
        let options = RestoreOptions {
            open: OpenOptions::default(),
            reason: "disk".into(),
            by: "t".into(),
            without_lock: false,
            checkpoints: Vec::new(),
        };
        let lock = Ledger::lock_path_for(&self.path(), &self.path(), &options.open).unwrap();
        let plan = Ledger::plan_restore(&self.path(), &lock, &options, &mut |_, _| {}).unwrap();
        drop(Ledger::restore(&self.path(), &plan, &options.open, Arc::clone(&self.clock)).unwrap());
    }

    /// A bundle of everything.
    fn bundle(&self) -> Built {
        let ledger = self.open();
        ledger.settle().unwrap();
        let signer = ledger.bundle_signer().unwrap();
        let options = ExportOptions {
            signer: &*signer,
            signer_name: "example.com/keys/bundle",
            tool_version: "0.0.0-test",
            withhold: Withhold::Nothing,
            checkpoint: None,
        };
        export(&ledger, &Selection::Range(0..ledger.head().size), &options).unwrap()
    }
}

/// Entries of every type about keys, one a line: where a fuzzer starts from.
pub(crate) fn a_history() -> Vec<u8> {
    let kept = Kept::new();
    let first = kept.keys();
    kept.rotate(Role::Log, 50);
    kept.rotate(Role::Bundle, 51);
    kept.revoke(Role::Log, &first.0, 1);
    let backup = kept.dir.path().join("backup");
    Ledger::copy(&kept.path(), &backup).unwrap();
    kept.append(&["lost"]);
    kept.put_back(&backup);
    let ledger = kept.open();
    let entries = ledger
        .authority()
        .entries()
        .iter()
        .map(|seq| ledger.entry(*seq).unwrap().unwrap())
        .collect::<Vec<_>>();
    entries.join(&b'\n')
}

fn holding((log, bundle): &(VerifierKey, VerifierKey)) -> VerifierKeys {
    VerifierKeys { log: vec![log.clone()], bundle: vec![bundle.clone()], ..VerifierKeys::default() }
}

/// Verifies with the program and with the page, which must agree, and returns how it ended and why.
fn verified(built: &Built, keys: &VerifierKeys) -> (Outcome, String) {
    let report = check(&built.bytes, keys);
    let why = report.first_failure().map(|check| format!("{}: {}", check.name, check.detail));
    let told = why.unwrap_or_else(|| {
        report.checks.iter().map(|check| check.detail.clone()).collect::<Vec<_>>().join("\n")
    });
    if let Some(page) = page_says(&built.bytes, keys) {
        for check in &report.checks {
            let status = serde_json::to_value(check.status).unwrap();
            let theirs = page.iter().find(|line| line["name"] == check.name);
            let theirs = theirs.unwrap_or_else(|| panic!("the page has no check {}", check.name));
            assert_eq!(theirs["status"], status, "{}: {}\npage: {theirs}", check.name, check.detail);
        }
    }
    (report.outcome, told)
}

/// Runs the script of the verifier page in Node, which has the same WebCrypto as browsers.
#[expect(clippy::print_stderr, reason = "a test that was left out says so")]
fn page_says(bytes: &[u8], keys: &VerifierKeys) -> Option<Vec<serde_json::Value>> {
    let version = Command::new("node").arg("--version").output().ok()?;
    let major: u32 = String::from_utf8_lossy(&version.stdout)
        .trim()
        .trim_start_matches('v')
        .split('.')
        .next()?
        .parse()
        .ok()?;
    if major < 20 {
        eprintln!("SKIPPED: the verifier page needs Node 20 or later, this is {major}");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/verify.html")).unwrap();
    let script = page.split("<script>").nth(1).unwrap().split("</script>").next().unwrap();
    let script = script.split("// ---- the page ----").next().unwrap();
    let field = |list: &[VerifierKey]| {
        let line = |key: &VerifierKey| {
            let range = keys.sizes.get(&key.to_string()).copied().unwrap_or_default();
            let to = range.to.map_or_else(String::new, |to| format!(" to={to}"));
            format!("{key} from={}{to}", range.from)
        };
        serde_json::Value::from(list.iter().map(line).collect::<Vec<_>>().join("\n"))
    };
    let run = format!(
        "{script}\n(async () => {{\n\
         const bytes = new Uint8Array(require('fs').readFileSync(process.argv[2]));\n\
         const log = await parseKeys({{ value: {} }}), bundle = await parseKeys({{ value: {} }});\n\
         console.log(JSON.stringify((await verify(bytes, log, bundle)).checks));\n\
         }})().catch(error => {{ console.error(error); process.exit(1); }});\n",
        field(&keys.log),
        field(&keys.bundle)
    );
    let (file, zip) = (dir.path().join("page.cjs"), dir.path().join("e.zip"));
    std::fs::write(&file, run).unwrap();
    std::fs::write(&zip, bytes).unwrap();
    let said = Command::new("node").arg(&file).arg(&zip).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Some(serde_json::from_slice(&said.stdout).unwrap())
}

#[test]
fn old_keys_verify_old_bundles_and_follow_rotations_to_new_ones() {
    let kept = Kept::new();
    kept.append(&["a", "b"]);
    let first = kept.keys();
    let old = kept.bundle();
    kept.rotate(Role::Log, 50);
    kept.append(&["c"]);
    kept.rotate(Role::Bundle, 51);
    kept.rotate(Role::Log, 52);
    kept.append(&["d"]);
    let last = kept.keys();
    let new = kept.bundle();
    for (built, keys, says) in [
        (&old, &first, "signed by"),
        (&new, &last, "signed by"),
        (&new, &first, "to which your key leads through entries 3, 6"),
    ] {
        let (outcome, told) = verified(built, &holding(keys));
        assert_eq!(outcome, Outcome::Verified, "{told}");
        assert!(told.contains(says), "{told}");
    }
    // The newest key vouches for nothing that was signed before it came.
    let (outcome, told) = verified(&old, &holding(&last));
    assert_eq!(outcome, Outcome::Untrusted, "{told}");
    // A key of no consequence.
    let strange = SigningKey::generate(&SteppingEntropy::starting_at(99)).unwrap();
    let strange = VerifierKey::new("example.com/keys", strange.public()).unwrap();
    let (outcome, told) = verified(&new, &holding(&(strange, last.1)));
    assert_eq!(outcome, Outcome::Untrusted);
    assert!(told.contains("none of the given log keys is or leads to"), "{told}");
}

#[test]
fn a_revoked_key_is_told_so_and_a_newer_one_is_not_touched() {
    let kept = Kept::new();
    kept.append(&["a", "b"]);
    let first = kept.keys();
    kept.rotate(Role::Log, 50);
    kept.revoke(Role::Log, &first.0, 2);
    let last = kept.keys();
    let built = kept.bundle();
    let (outcome, told) = verified(&built, &holding(&first));
    assert_eq!(outcome, Outcome::Untrusted);
    assert!(
        told.contains("was revoked by entry 4: its signatures count up to size 2, this is size 4"),
        "{told}"
    );
    assert_eq!(verified(&built, &holding(&last)).0, Outcome::Verified);

    // What the key file says counts too: the bundle may be one in which nobody heard of the theft.
    let mut limited = holding(&last);
    limited.sizes.insert(last.0.to_string(), SizeRange { from: 4, to: Some(4) });
    let (outcome, told) = verified(&built, &limited);
    assert_eq!(outcome, Outcome::Untrusted);
    assert!(told.contains("does not answer for size 5"), "{told}");

    // A stolen bundle key, with which somebody goes on making bundles.
    kept.rotate(Role::Bundle, 51);
    let stolen = last.1.clone();
    kept.revoke(Role::Bundle, &stolen, 3);
    let now = kept.keys();
    let (outcome, told) = verified(&kept.bundle(), &holding(&(now.0.clone(), stolen.clone())));
    assert_eq!(outcome, Outcome::Verified, "the log put another in its place: {told}");
    let ledger = kept.open();
    let file = kept.path().join("keys/bundle.pem");
    let thief = SigningKey::load(&file, &verdict_ledger::key::NoPassphrases).unwrap();
    let options = ExportOptions {
        signer: &thief,
        signer_name: "example.com/keys/bundle",
        tool_version: "0.0.0-test",
        withhold: Withhold::Nothing,
        checkpoint: None,
    };
    let forged = export(&ledger, &Selection::Range(0..3), &options).unwrap();
    drop(ledger);
    for bundle in [stolen, now.1] {
        let (outcome, told) = verified(&forged, &holding(&(now.0.clone(), bundle)));
        assert_eq!(outcome, Outcome::Untrusted);
        assert!(told.starts_with("signature: ") && told.contains("was revoked by entry"), "{told}");
    }
}

#[test]
fn a_restored_log_says_so_and_its_range_spans_both_origins() {
    let kept = Kept::new();
    kept.append(&["a", "b"]);
    let first = kept.keys();
    let backup = kept.dir.path().join("backup");
    Ledger::copy(&kept.path(), &backup).unwrap();
    kept.append(&["c"]);
    let lost = kept.bundle();
    kept.put_back(&backup);
    kept.append(&["d"]);
    kept.rotate(Role::Log, 60);
    let built = kept.bundle();
    for keys in [first.clone(), kept.keys()] {
        let (outcome, told) = verified(&built, &holding(&keys));
        assert_eq!(outcome, Outcome::Verified, "{told}");
        assert!(told.contains("RESTORED: entries 3..4 of `example.com/keys` are lost"), "{told}");
    }
    // What was exported before the loss is still what the log once said.
    assert_eq!(verified(&lost, &holding(&first)).0, Outcome::Verified);
}
