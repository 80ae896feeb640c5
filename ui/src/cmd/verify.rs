//! `verdict verify`.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use verdict_exporters::evidence::{self, Limits, SizeRange, Status, VerifierKeys};
use verdict_ledger::authority::{Step, TrustError};
use verdict_ledger::note::{Checkpoint, NoteError, VerifierKey};
use verdict_ledger::{Ledger, VerifyOptions};

use crate::cli::Context;
use crate::cmd::fsck;
use crate::cmd::keys::parse_line;
use crate::exit::{CliError, Exit, Kind, chain};

/// Largest text that is looked at as a checkpoint.
const NOTE_BYTES_MAX: usize = 1 << 20;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict verify                                      the ledger of --ledger: the same as `verdict fsck`
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

/// The same check as `verdict fsck`. Checkpoints are checked with the keys that the ledger's entries name; whoever gives
/// keys wants to know whether those lead there.
fn ledger(dir: &Path, keys: &Given, context: &Context) -> Result<Exit, CliError> {
    let known = |ledger: &Ledger| if keys.0.is_empty() { Ok(()) } else { follow(ledger, keys, dir) };
    fsck::check(dir, &VerifyOptions::default(), context, known)
}

/// Checks that one of the given keys leads to the key that is in force: through rotations that both keys have signed.
fn follow(ledger: &Ledger, keys: &Given, dir: &Path) -> Result<(), CliError> {
    let authority = ledger.authority();
    let size = ledger.head().size;
    let own = authority.log_key_at(size);
    let mut why = Vec::new();
    for (key, sizes) in &keys.0 {
        let steps = match authority.path(key, size) {
            Ok(steps) => steps,
            Err(error) => {
                if !matches!(error, TrustError::Unknown { .. }) {
                    why.push(error.to_string());
                }
                continue;
            }
        };
        let rotations = steps.iter().filter_map(|step| match step {
            Step::Rotation { size, from, to } => Some((*size, *from, *to)),
            Step::Restore { .. } => None,
        });
        let vouches = rotations.clone().next().map_or(size, |(size, ..)| size);
        if !sizes.holds(vouches) {
            why.push(format!("the key file says that {key} does not answer for size {vouches}"));
            continue;
        }
        let mut unsigned = None;
        for (size, from, to) in rotations {
            let note = ledger.checkpoint_at(size).map_err(fsck::damaged)?.unwrap_or_default();
            let signed = |key| Checkpoint::verify(&note, key).map(drop);
            if let Err(error) = signed(from).and_then(|()| signed(to)) {
                unsigned = Some(format!("the rotation of size {size} is not signed by both keys: {error}"));
            }
        }
        match unsigned {
            None => return Ok(()),
            Some(detail) => why.push(detail),
        }
    }
    let text = format!("{} signs its checkpoints with {own}, which is none of the given keys", dir.display());
    let mut error = CliError::new(Kind::Untrusted, text);
    for why in why {
        error = error.hint(why);
    }
    Err(error.hint("ask its owner for its keys by another way, or find out whether the ledger was replaced"))
}

fn checkpoint(path: &Path, note: &str, keys: &Given, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    if keys.0.is_empty() {
        return Err(needs_key(path));
    }
    let mut last = None;
    for (key, sizes) in &keys.0 {
        match Checkpoint::verify(note, key) {
            Ok(checkpoint) if !sizes.holds(checkpoint.size) => {
                let text = format!(
                    "it is signed by {key}, which does not answer for size {}: it was replaced or revoked",
                    checkpoint.size
                );
                return Err(CliError::new(Kind::Untrusted, text)
                    .at(path.display())
                    .hint("get a newer checkpoint, and the newest keys (`verdict keys show`), from the owner of the ledger"));
            }
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
    for (key, sizes) in keys(args)?.0 {
        known.sizes.insert(key.to_string(), sizes);
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

/// Keys that the caller gave, and the sizes that each answers for.
struct Given(Vec<(VerifierKey, SizeRange)>);

fn keys(args: &Args) -> Result<Given, CliError> {
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
    Ok(Given(keys))
}

fn parse(text: &str, place: &str) -> Result<(VerifierKey, SizeRange), CliError> {
    parse_line(text).map_err(|error| {
        CliError::unusable(error)
            .at(place)
            .hint("a verifier key looks like `name+hash+base64`; from=SIZE and to=SIZE may follow")
    })
}

fn needs_key(path: &Path) -> CliError {
    CliError::unusable(format!("{} cannot be verified without a key", path.display()))
        .hint("get the verifier keys from the owner of the ledger (`verdict keys show`) by another way, and pass --key FILE")
        .hint("a key inside the file itself would prove nothing")
}
