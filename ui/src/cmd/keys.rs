//! `verdict keys`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use verdict_ledger::authority::{Authority, KeySpan, Role};
use verdict_ledger::clock::{SystemClock, SystemEntropy};
use verdict_ledger::key::{KeyError, Protection, SigningKey, fingerprint};
use verdict_ledger::note::VerifierKey;
use verdict_ledger::{KeyFile, KeySource, Ledger, LedgerError, Revoking, Rotation};

use crate::cli::Context;
use crate::exit::{CliError, Exit};
use crate::passphrase;

const WHILE_SERVED: &str = "a change of keys is an entry: stop `verdict serve` (agents send again what it did not acknowledge), change, start it again";

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the verifier keys, to be handed to auditors by another way than the evidence
    #[command(after_help = "\
Examples:
  verdict keys show > auditor.keys                  hand this file over, by a way that you trust
  verdict verify evidence.zip --key auditor.keys    what the auditor runs
  verdict keys show --format json                   also the files of the keys and every revocation

Former keys are listed with the sizes of checkpoints that they answer for (from=, to=).")]
    Show,
    /// Make a key file that belongs to no ledger yet
    #[command(after_help = "\
Examples:
  verdict keys generate --out next.pem --encrypt
  verdict keys rotate --role log --new-key next.pem --reason yearly")]
    Generate(Generate),
    /// Put another key into force
    #[command(after_help = "\
Examples:
  verdict keys rotate --role log --reason yearly
  verdict keys rotate --role bundle --reason 'new custodian' --new-key next.pem
  verdict keys rotate --role log --reason 'to the HSM' --new-signer hsm.signer.toml

The checkpoint over the change is signed by both log keys, so that whoever holds the former one can follow.
The new file is encrypted if the former one is, or with --encrypt.")]
    Rotate(Rotate),
    /// Take back trust in a former key, from a size on
    #[command(after_help = "\
Example:
  verdict keys rotate --role log --reason 'old server stolen'
  verdict keys revoke 'example.org/verdict+1a2b3c4d+AZ…' --last-size 120 --reason 'old server stolen'

Checkpoints beyond --last-size that it signed are not believed any more. Send `verdict keys show` to all
who verify: nothing else reaches those who see neither the log nor newer evidence.")]
    Revoke(Revoke),
    /// Encrypt the key files and the store secret, or change their passphrase
    #[command(after_help = "\
Examples:
  verdict keys encrypt                                          asks on the terminal
  verdict keys encrypt --new-passphrase-file /etc/verdict/new   also to change the passphrase")]
    Encrypt(Encrypt),
    /// Write the key files and the store secret without encryption
    Decrypt,
}

/// Arguments of `generate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Generate {
    /// File to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Encrypt it with a passphrase.
    #[arg(long)]
    encrypt: bool,
    /// Also print the verifier key under this name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// What a key signs.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RoleArg {
    /// Checkpoints.
    Log,
    /// Evidence bundles.
    Bundle,
}

/// Arguments of `rotate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// Which key.
    #[arg(long, value_enum)]
    role: RoleArg,
    /// Why; recorded as given.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who does this; recorded as given.
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true, value_name = "NAME")]
    by: String,
    /// A key file to use instead of a new key.
    #[arg(long, value_name = "FILE", conflicts_with = "new_signer")]
    new_key: Option<PathBuf>,
    /// A `*.signer.toml` that says how to reach a key that lives elsewhere.
    #[arg(long, value_name = "FILE")]
    new_signer: Option<PathBuf>,
    /// Encrypt the new key's file, also when the former one is not.
    #[arg(long)]
    encrypt: bool,
}

/// Arguments of `revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct Revoke {
    /// Verifier key, as `verdict keys show` prints it.
    #[arg(value_name = "KEY")]
    key: String,
    /// Size of the last checkpoint that is to be believed.
    #[arg(long, value_name = "SIZE")]
    last_size: u64,
    /// Why; recorded as given.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who does this; recorded as given.
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true, value_name = "NAME")]
    by: String,
}

/// Arguments of `encrypt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Encrypt {
    /// File with the new passphrase; without it the terminal asks.
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

/// Runs a command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Show => show(context),
        Command::Generate(args) => generate(args, context),
        Command::Rotate(args) => rotate(args, context),
        Command::Revoke(args) => revoke(args, context),
        Command::Encrypt(args) => encrypt(args, context),
        Command::Decrypt => decrypt(context),
    }
}

fn show(context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let authority = ledger.authority();
    if json {
        let keys: Vec<Value> = [Role::Log, Role::Bundle]
            .into_iter()
            .flat_map(|role| authority.spans(role).iter().map(move |span| key_json(role, span)))
            .collect();
        context.output.json(&json!({
            "origin": ledger.origin(), "log": ledger.verifier_key(), "bundle": ledger.bundle_verifier_key(),
            "keys": keys, "files": ledger.key_files()?,
        }))?;
    } else {
        context.output.result(&listed(&authority))?;
    }
    Ok(Exit::Clean)
}

fn key_json(role: Role, span: &KeySpan) -> Value {
    let mut value = json!({
        "role": role, "state": state(span), "key": span.key, "fingerprint": fingerprint(span.key.public()),
        "seq": span.seq, "from": span.from, "until": span.until,
    });
    if let Some(members) = value.as_object_mut() {
        members.insert("revoked".into(), json!(span.revoked));
        members.insert("restored".into(), json!(span.restored));
    }
    value
}

const fn state(span: &KeySpan) -> &'static str {
    match (&span.revoked, span.until) {
        (Some(_), _) => "revoked",
        (None, Some(_)) => "retired",
        (None, None) => "in_force",
    }
}

/// A file of keys for `verdict verify --key`: those in force first, former ones with the sizes that they answer for.
fn listed(authority: &Authority) -> String {
    let mut text = String::new();
    for (role, signs) in [(Role::Log, "checkpoints"), (Role::Bundle, "evidence bundles")] {
        for span in authority.spans(role).iter().rev() {
            let seq = span.seq;
            let since = if seq == 0 { String::new() } else { format!(", since entry {seq}") };
            // Writing into a string does not fail.
            let _ = match (&span.revoked, span.until) {
                (Some(revoked), _) => writeln!(
                    text,
                    "# REVOKED by entry {}: signed {signs}{since}, counts up to size {}",
                    revoked.seq, revoked.last_size
                ),
                (None, Some(until)) => {
                    writeln!(text, "# former key: signed {signs}{since}, up to size {until}")
                }
                (None, None) => writeln!(text, "# signs {signs}{since}"),
            };
            if let Some(loss) = &span.restored {
                let end = loss.end.map_or_else(|| "?".to_owned(), |end| end.to_string());
                let _ = writeln!(
                    text,
                    "# the log was restored at entry {seq}; entries {}..{end} of `{}` are lost",
                    loss.first, loss.old_origin
                );
            }
            let last = match (&span.revoked, span.until) {
                (Some(revoked), Some(until)) => Some(revoked.last_size.min(until)),
                (Some(revoked), None) => Some(revoked.last_size),
                (None, until) => until,
            };
            let from = if span.from > 0 { format!(" from={}", span.from) } else { String::new() };
            let to = last.map_or_else(String::new, |last| format!(" to={last}"));
            let _ = writeln!(text, "{}{from}{to}", span.key);
        }
    }
    text
}

fn generate(args: &Generate, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let key = SigningKey::generate(&SystemEntropy).map_err(LedgerError::from)?;
    let name = args.name.as_deref();
    let verifier = name
        .map(|name| VerifierKey::new(name, key.public()))
        .transpose()
        .map_err(|error| CliError::unusable(error.to_string()))?;
    let passphrase = args.encrypt.then(|| context.passphrases.for_new_files()).transpose()?;
    let protection = match &passphrase {
        Some(passphrase) => Protection::Encrypted { passphrase, entropy: &SystemEntropy },
        None => Protection::Plain,
    };
    key.save(&args.out, &protection).map_err(|error| match error {
        KeyError::Io { path, source } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            CliError::unusable(format!("{} exists already", path.display()))
                .hint("a key is never written over another file: name a new one with --out")
        }
        error => LedgerError::from(error).into(),
    })?;
    let fingerprint = fingerprint(&key.public());
    if json {
        context.output.json(&json!({
            "file": args.out.display().to_string(), "fingerprint": fingerprint,
            "encrypted": args.encrypt, "key": verifier,
        }))?;
    } else {
        let key = verifier.map_or_else(String::new, |key| format!("key          {key}\n"));
        context.output.result(&format!("wrote {}\nfingerprint  {fingerprint}\n{key}", args.out.display()))?;
    }
    Ok(Exit::Clean)
}

fn rotate(args: &Rotate, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let role = match args.role {
        RoleArg::Log => Role::Log,
        RoleArg::Bundle => Role::Bundle,
    };
    // Looked at before anything is asked or made.
    let files = context.reader()?.key_files()?;
    let was_encrypted = files.iter().any(|file| file.role == Some(role) && file.in_force && file.encrypted);
    let source = match (&args.new_key, &args.new_signer) {
        (Some(path), _) => {
            KeySource::Pair(SigningKey::load(path, &*context.passphrases).map_err(LedgerError::from)?)
        }
        (None, Some(path)) => KeySource::External(path.clone()),
        (None, None) => KeySource::Pair(SigningKey::generate(&SystemEntropy).map_err(LedgerError::from)?),
    };
    let encrypt = args.new_signer.is_none() && (args.encrypt || was_encrypted);
    let passphrase = encrypt.then(|| context.passphrases.for_new_files()).transpose()?;
    let rotation = Rotation { role, source, passphrase, reason: args.reason.clone(), by: args.by.clone() };
    let change = Ledger::rotate_key(&context.ledger, &context.options()?, Arc::new(SystemClock), &rotation)
        .map_err(served)?;
    if json {
        context.output.json(&change)?;
        return Ok(Exit::Clean);
    }
    context.output.result(&format!(
        "rotated the {role} key with entry {}\nold  {}\nnew  {}\n",
        change.seq, change.old, change.new
    ))?;
    if let Some(old) = change.old_file {
        context
            .output
            .note(&format!("{} is needed for nothing any more: destroy it, and its copies", old.display()));
    }
    context
        .output
        .note("send `verdict keys show` to those who verify; with the former key they can follow, too");
    Ok(Exit::Clean)
}

fn served(error: LedgerError) -> CliError {
    let busy = matches!(error, LedgerError::Busy { .. });
    let error = CliError::from(error);
    if busy { error.hint(WHILE_SERVED) } else { error }
}

fn revoke(args: &Revoke, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let key = VerifierKey::parse(&args.key).map_err(|error| {
        CliError::unusable(error.to_string()).hint("copy the key from `verdict keys show`: name+hash+base64")
    })?;
    let role = context.reader()?.authority().uses(&key).ok_or_else(|| {
        CliError::unusable(format!("{key} was never a key of this ledger"))
            .hint("`verdict keys show` lists all that were")
    })?;
    let revoking =
        Revoking { role, key, last_size: args.last_size, reason: args.reason.clone(), by: args.by.clone() };
    let seq = Ledger::revoke_key(&context.ledger, &context.options()?, Arc::new(SystemClock), &revoking)
        .map_err(served)?;
    if json {
        context
            .output
            .json(&json!({"role": role, "key": args.key, "last_size": args.last_size, "seq": seq}))?;
    } else {
        context.output.result(&format!(
            "revoked the {role} key {} with entry {seq}: its signatures count up to size {}\n",
            args.key, args.last_size
        ))?;
        context.output.note("send `verdict keys show` to all who verify; nothing else reaches everybody");
    }
    Ok(Exit::Clean)
}

fn encrypt(args: &Encrypt, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let files = ledger.key_files()?;
    // Where nothing is encrypted yet, the one passphrase that was named is the new one.
    let new = if args.new_passphrase_file.is_some() || files.iter().any(|file| file.encrypted) {
        passphrase::Source::new(args.new_passphrase_file.clone()).for_new_files()?
    } else {
        context.passphrases.for_new_files()?
    };
    let protection = Protection::Encrypted { passphrase: &new, entropy: &SystemEntropy };
    let changed = ledger.protect_keys(&*context.passphrases, &protection)?;
    told(context, json, "encrypted", &changed, &files)
}

fn decrypt(context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let files = ledger.key_files()?;
    let changed = ledger.protect_keys(&*context.passphrases, &Protection::Plain)?;
    told(context, json, "decrypted", &changed, &files)
}

fn told(
    context: &Context,
    json: bool,
    what: &str,
    changed: &[PathBuf],
    files: &[KeyFile],
) -> Result<Exit, CliError> {
    let names: Vec<String> = changed.iter().map(|path| path.display().to_string()).collect();
    let external: Vec<_> = files.iter().filter(|file| file.external).collect();
    if json {
        context.output.json(&json!({"done": what, "files": names}))?;
    } else {
        let mut text = format!("{what} {} of {} files\n", names.len(), files.len());
        for name in &names {
            // Writing into a string does not fail.
            let _ = writeln!(text, "  {name}");
        }
        context.output.result(&text)?;
        for file in external {
            context.output.note(&format!("{} only says where a key is", file.path.display()));
        }
    }
    Ok(Exit::Clean)
}

/// Reads a verifier key and the sizes that it answers for: `KEY [from=N] [to=N]`.
pub(crate) fn parse_line(line: &str) -> Result<(VerifierKey, SizeRange), String> {
    let mut words = line.split_whitespace();
    let key = VerifierKey::parse(words.next().unwrap_or_default()).map_err(|error| error.to_string())?;
    let mut range = SizeRange::default();
    for word in words {
        let number = |text: &str| text.parse().map_err(|_| format!("`{word}` does not name a size"));
        match word.split_once('=') {
            Some(("from", text)) => range.from = number(text)?,
            Some(("to", text)) => range.to = Some(number(text)?),
            _ => return Err(format!("`{word}` is neither from=SIZE nor to=SIZE")),
        }
    }
    Ok((key, range))
}

pub(crate) use verdict_exporters::evidence::SizeRange;

/// Reads a checkpoint file, for `restore`.
pub(crate) fn read_note(path: &PathBuf) -> Result<String, CliError> {
    fs::read_to_string(path).map_err(|error| CliError::io("cannot read checkpoint", path, &error))
}
