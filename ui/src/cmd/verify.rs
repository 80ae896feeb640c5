//! `verdict verify`.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use verdict_exporters::evidence::{self, Limits, Status, VerifierKeys};
use verdict_ledger::note::{Checkpoint, NoteError, VerifierKey};
use verdict_ledger::{Ledger, LedgerError, OpenOptions, Report};

use crate::cli::Context;
use crate::exit::{CliError, Exit, Kind, chain};
use crate::progress::Progress;

/// Largest text that is looked at as a checkpoint.
const NOTE_BYTES_MAX: usize = 1 << 20;
/// Failures that are named one by one.
const FAILURES_SHOWN: usize = 50;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict verify                                      the ledger of --ledger: every entry, tree, disclosure,
                                                      checkpoint, and the lock
  verdict verify evidence.zip --key auditor.keys      an evidence bundle, without any ledger
  verdict verify checkpoint.txt --key 'example.org/verdict+1a2b3c4d+AZ…'

Keys come from the owner of the ledger (`verdict keys show`) by another way than the evidence: a key
inside a bundle proves nothing. Exit code 1: something was changed. 3: it cannot be told, because a key
is unknown or the ledger was cut.")]
pub(crate) struct Args {
    /// Evidence bundle, checkpoint or ledger directory; without it the ledger of --ledger.
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    /// Verifier key (`name+hash+base64`), or a file with one on each line; may be repeated.
    #[arg(long = "key", value_name = "KEY|FILE")]
    keys: Vec<String>,
}

/// Verifies.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let Some(path) = &args.path else {
        return ledger(&context.ledger, &keys(args)?, context);
    };
    if path.is_dir() {
        return ledger(path, &keys(args)?, context);
    }
    let file = fs::File::open(path).map_err(|error| CliError::io("cannot read", path, &error))?;
    let mut bytes = Vec::new();
    let most = Limits::default().archive_bytes.saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(|error| CliError::io("cannot read", path, &error))?;
    match std::str::from_utf8(&bytes) {
        Ok(note) if note.len() <= NOTE_BYTES_MAX && note.contains("\n\n\u{2014} ") => {
            checkpoint(path, note, &keys(args)?, context)
        }
        _ => bundle(path, &bytes, args, context),
    }
}

fn ledger(dir: &Path, keys: &[VerifierKey], context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let options = OpenOptions { lock: context.lock.clone(), ..OpenOptions::default() };
    let ledger = Ledger::open_reader(dir, &options).map_err(found)?;
    // Checkpoints are checked with the key that the ledger says is its own; whoever gives keys wants to know
    // whether that is one of them.
    let own = ledger.verifier_key();
    if !keys.is_empty() && !keys.iter().any(|key| key.to_string() == own) {
        return Err(CliError::new(
            Kind::Untrusted,
            format!("{} signs its checkpoints with {own}, which is none of the given keys", dir.display()),
        )
        .hint("ask its owner for its keys by another way, or find out whether the ledger was replaced"));
    }
    let progress = Progress::start(context.output, "verify");
    let report = ledger.verify(&mut |done, all| progress.at(done, all)).map_err(found)?;
    drop(progress);
    if json {
        context.output.json(&json!({"verified": report.is_clean(), "report": report}))?;
    } else {
        context.output.result(&told(&ledger, &report))?;
    }
    if report.is_clean() {
        return Ok(Exit::Clean);
    }
    context.output.note("keep this ledger as it is, stop writing to it, and compare it with a backup");
    Ok(Exit::Finding)
}

/// Bytes that are not what was written are what this command looks for.
fn found(error: LedgerError) -> CliError {
    let damaged = match &error {
        LedgerError::Damaged { .. } => true,
        LedgerError::Database(cause) => cause.to_string().starts_with("Corruption"),
        _ => false,
    };
    let mut error = CliError::from(error);
    if damaged {
        error.kind = Kind::Finding;
        error.hints = vec!["keep the damaged ledger as it is and restore another from a backup".to_owned()];
    }
    error
}

fn told(ledger: &Ledger, report: &Report) -> String {
    use verdict_diff::render::text::{counted, visible};
    let mut text = format!(
        "{} {}\n  {} ({} bytes), {}, {}, {}\n  size {}, root {}\n",
        if report.is_clean() { "verified" } else { "NOT verified" },
        ledger.dir().display(),
        super::entries(report.entries),
        report.bytes,
        counted(report.disclosures, "disclosed value"),
        if report.blobs == 1 { "1 raw body".to_owned() } else { format!("{} raw bodies", report.blobs) },
        counted(report.checkpoints, "checkpoint"),
        report.size,
        report.root
    );
    for failure in report.failures.iter().take(FAILURES_SHOWN) {
        let place = failure.seq.map_or_else(|| "ledger".to_owned(), |seq| format!("entry {seq}"));
        text.push_str(&format!("  {place}: {}: {}\n", failure.class, visible(&failure.detail)));
    }
    let rest = report.failures.len().saturating_sub(FAILURES_SHOWN) as u64 + report.more_failures;
    if rest > 0 {
        text.push_str(&format!("  and {rest} more\n"));
    }
    text
}

fn checkpoint(path: &Path, note: &str, keys: &[VerifierKey], context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    if keys.is_empty() {
        return Err(needs_key(path));
    }
    let mut last = None;
    for key in keys {
        match Checkpoint::verify(note, key) {
            Ok(checkpoint) => {
                let root = hex::encode(checkpoint.root.0);
                if json {
                    context.output.json(&json!({
                        "verified": true, "origin": checkpoint.origin, "size": checkpoint.size, "root": root,
                    }))?;
                } else {
                    context.output.result(&format!(
                        "verified checkpoint of {}\n  size {}, root {root}\n",
                        verdict_diff::render::text::visible(&checkpoint.origin),
                        checkpoint.size
                    ))?;
                }
                return Ok(Exit::Clean);
            }
            // A signature that is there and wrong says more than one that is not there.
            Err(error @ NoteError::BadSignature { .. }) => last = Some(error),
            Err(error) => last = last.or(Some(error)),
        }
    }
    let Some(error) = last else { return Err(needs_key(path)) };
    let kind = match error {
        NoteError::Malformed { .. } => Kind::Unusable,
        NoteError::BadSignature { .. } => Kind::Finding,
        _ => Kind::Untrusted,
    };
    Err(CliError::new(kind, chain(&error)).at(path.display()))
}

fn bundle(path: &Path, bytes: &[u8], args: &Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let mut known = VerifierKeys::default();
    for key in keys(args)? {
        // By convention a bundle key is named after its log; a role that the name leaves open is settled by
        // the signature, because the names of keys are part of what is signed for.
        if key.name().ends_with("/bundle") {
            known.bundle.push(key);
        } else {
            known.log.push(key.clone());
            known.bundle.push(key);
        }
    }
    // What is no bundle at all needs no key to be told so.
    let report = evidence::verify(bytes, &known, &Limits::default()).map_err(|error| {
        let kind = match Exit::of_code(error.exit_code()) {
            Exit::Environment => Kind::Environment,
            _ => Kind::Unusable,
        };
        CliError::new(kind, chain(&error))
            .at(path.display())
            .hint("an evidence bundle is the .zip that `verdict export evidence` writes")
    })?;
    if args.keys.is_empty() {
        return Err(needs_key(path));
    }
    if json {
        context.output.json(&report)?;
    } else {
        context.output.result(&summary(path, &report))?;
    }
    Ok(Exit::of_code(report.outcome.exit_code()))
}

fn summary(path: &Path, report: &evidence::VerifyReport) -> String {
    use verdict_diff::render::text::visible;
    let word = match report.outcome {
        evidence::Outcome::Verified => "verified",
        evidence::Outcome::Tampered => "TAMPERED",
        evidence::Outcome::Untrusted => "NOT TRUSTED",
    };
    let mut text = format!("{word} {}\n", path.display());
    for check in &report.checks {
        let status = match check.status {
            Status::Ok => "ok",
            Status::Failed => "FAILED",
            Status::Untrusted => "untrusted",
            Status::NotRun => "not run",
        };
        let file = check.file.as_deref().map_or_else(String::new, |file| format!("{}: ", visible(file)));
        let seq = check.seq.map_or_else(String::new, |seq| format!("entry {seq}: "));
        text.push_str(&format!("  {status:<9}  {:<20}  {file}{seq}{}\n", check.name, visible(&check.detail)));
    }
    text.push_str(&format!("  sha256 {}\n", report.archive_sha256));
    text
}

fn keys(args: &Args) -> Result<Vec<VerifierKey>, CliError> {
    let mut keys = Vec::new();
    for given in &args.keys {
        // A verifier key has two plus signs; a file name rarely does, and then `./` helps.
        if given.matches('+').count() >= 2 && !Path::new(given).exists() {
            keys.push(parse(given, "--key")?);
            continue;
        }
        let path = Path::new(given);
        let text = fs::read_to_string(path).map_err(|error| {
            CliError::io("cannot read key file", path, &error)
                .hint("--key takes a verifier key (`name+hash+base64`) or a file that holds some")
        })?;
        let before = keys.len();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                keys.push(parse(line, &format!("{}, line {}", path.display(), number + 1))?);
            }
        }
        if keys.len() == before {
            return Err(CliError::unusable(format!("{} holds no verifier key", path.display()))
                .hint("the owner of the ledger makes such a file with `verdict keys show`"));
        }
    }
    Ok(keys)
}

fn parse(text: &str, place: &str) -> Result<VerifierKey, CliError> {
    VerifierKey::parse(text).map_err(|error| {
        CliError::unusable(chain(&error)).at(place).hint("a verifier key looks like `name+hash+base64`")
    })
}

fn needs_key(path: &Path) -> CliError {
    CliError::unusable(format!("{} cannot be verified without a key", path.display()))
        .hint("get the verifier keys from the owner of the ledger (`verdict keys show`) by another way, and pass --key FILE")
        .hint("a key inside the file itself would prove nothing")
}
