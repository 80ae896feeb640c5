//! `verdict witness`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use verdict_ledger::clock::{SystemClock, SystemEntropy};
use verdict_ledger::cosignature::Cosigner;
use verdict_ledger::key::{Protection, SigningKey};
use verdict_ledger::note::VerifierKey;
use verdict_ledger::witness::{StateDir, StateError, Witness};
use verdict_ui::witness::{WitnessServeError, WitnessServer};

use crate::cli::Context;
use crate::cmd::serve::{log_to_stderr, told_to_stop};
use crate::exit::{CliError, Exit, Kind, chain};

/// Name of the key file in the state directory, when no other is given.
const KEY: &str = "witness.pem";
/// Most logs of a witness.
const LOGS_MAX: usize = 10_000;
/// Largest list of logs.
const LIST_BYTES_MAX: u64 = 8 << 20;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  verdict witness init --name witness.example.org/w1 --state /var/lib/witness    prints the witness's key
  verdict witness --state /var/lib/witness --log \"$(ssh ledger verdict keys show | sed -n 2p)\"
  verdict witness --state /var/lib/witness --logs logs.txt --listen 0.0.0.0:7900

Speaks C2SP tlog-witness: POST add-checkpoint. It cosigns a checkpoint only when the log's signature
verifies and the tree contains the one that it cosigned last; 409 and 422 are what a log that was
rolled back or rewritten gets. A log is trusted with its first checkpoint. GET /logs shows how far each
has come. Everything that it says is public, so that it may listen on any address; put a proxy with TLS
and rate limits before it. RUST_LOG sets the log level."
)]
pub(crate) struct Args {
    /// Make a new witness instead.
    #[command(subcommand)]
    command: Option<Command>,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:7900", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Directory of what was cosigned, made by `verdict witness init`.
    #[arg(long, required = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Signing key of the witness [default: witness.pem in the state directory].
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Verifier key of a log to cosign, as `verdict keys show` prints it; may be given again.
    #[arg(long, value_name = "VKEY")]
    log: Vec<String>,
    /// File with one verifier key a line; lines that start with # are remarks.
    #[arg(long, value_name = "FILE")]
    logs: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a new witness: its key and the directory of its state
    #[command(after_help = "\
Example:
  verdict witness init --name witness.example.org/w1 --state /var/lib/witness

Prints the verifier key. Give it to the operators of logs (for `key` in their anchors.toml) and to
auditors. Keep a backup of the signing key, and never serve an old copy of the state directory: a
witness that forgets what it cosigned is no witness.")]
    Init {
        /// Name of the witness, like `witness.example.org/w1`; it cannot be changed later.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Directory of what is cosigned; made when it is missing.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Where the signing key is written, or read when it is there [default: witness.pem in the directory].
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
}

/// Makes or serves a witness.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    match &args.command {
        Some(Command::Init { name, state, key }) => init(name, state, key.as_deref(), context),
        None => serve(args, context),
    }
}

fn init(name: &str, state: &Path, key: Option<&Path>, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let default = state.join(KEY);
    let path = key.unwrap_or(&default);
    // The name is checked before anything is written.
    let there = path.exists();
    let key = if there {
        SigningKey::load(path, &*context.passphrases)?
    } else {
        SigningKey::generate(&SystemEntropy)?
    };
    let signer = Cosigner::new(name, key.clone()).map_err(|error| {
        CliError::unusable(error.to_string())
            .hint("a name looks like `witness.example.org/w1`: no spaces and no plus signs")
    })?;
    StateDir::create(state, signer.verifier())?;
    if !there {
        key.save(path, &Protection::Plain)?;
    }
    let verifier = signer.verifier().to_string();
    if json {
        context.output.json(&json!({
            "name": name,
            "key": verifier,
            "state": state.display().to_string(),
            "signing_key": path.display().to_string(),
        }))?;
    } else {
        context.output.result(&format!("{verifier}\n"))?;
        context.output.note(&format!("signing key in {}; back it up", path.display()));
    }
    Ok(Exit::Clean)
}

fn serve(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    log_to_stderr(json);
    let state = args.state.as_deref().ok_or_else(|| CliError::unusable("--state DIR is missing"))?;
    let keys = logs(args)?;
    let dir = StateDir::open(state)?;
    let key = SigningKey::load(args.key.as_deref().unwrap_or(&state.join(KEY)), &*context.passphrases)?;
    let witness = Witness::start(dir, key, keys, Arc::new(SystemClock))?;
    let verifier = witness.signer().verifier().to_string();
    let count = witness.logs().len();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Kind::Environment, format!("cannot start threads: {error}")))?;
    runtime.block_on(async {
        let server = WitnessServer::bind(witness, args.listen).await?;
        let address = server.local_addr();
        if json {
            context.output.json(&json!({
                "address": address.to_string(),
                "url": format!("http://{address}/"),
                "key": verifier,
                "logs": count,
            }))?;
        } else {
            context.output.result(&format!("http://{address}/\n"))?;
            context.output.note(&format!("witness {verifier}, {count} logs; stop with Ctrl-C"));
        }
        server.run(told_to_stop()).await?;
        Ok(Exit::Clean)
    })
}

/// Collects the logs of arguments and file.
fn logs(args: &Args) -> Result<Vec<VerifierKey>, CliError> {
    let mut keys = Vec::new();
    for text in &args.log {
        let key = VerifierKey::parse(text)
            .map_err(|error| CliError::unusable(format!("--log {text}: {error}")).hint(KEYS_HINT))?;
        keys.push(key);
    }
    if let Some(path) = &args.logs {
        for (number, line) in (1..).zip(read(path)?.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = VerifierKey::parse(line).map_err(|error| {
                CliError::unusable(format!("{} line {number}: {error}", path.display())).hint(KEYS_HINT)
            })?;
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return Err(CliError::unusable("no logs to witness").hint("name them with --log VKEY or --logs FILE"));
    }
    if keys.len() > LOGS_MAX {
        return Err(CliError::unusable(format!("{} logs are more than {LOGS_MAX}", keys.len())));
    }
    Ok(keys)
}

const KEYS_HINT: &str = "a log's key is what `verdict keys show` prints under \"signs checkpoints\"";

fn read(path: &Path) -> Result<String, CliError> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| CliError::io("cannot read", path, &error);
    let mut text = String::new();
    fs::File::open(path).map_err(failed)?.take(LIST_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

impl From<StateError> for CliError {
    fn from(error: StateError) -> Self {
        let message = chain(&error);
        match &error {
            StateError::Exists { .. } => Self::unusable(message)
                .hint("start it with `verdict witness --state DIR`, or name another directory"),
            StateError::Missing { .. } => Self::unusable(message)
                .hint("make a new witness with `verdict witness init`; if there was one, restore its directory"),
            StateError::Busy { .. } => {
                Self::new(Kind::Environment, message).hint("a witness is one process; stop the other one")
            }
            StateError::Damaged { .. } => Self::new(Kind::Untrusted, message).hint(
                "restore the newest backup of this file; starting without it would cosign what contradicts it",
            ),
            _ => Self::new(Kind::Environment, message),
        }
    }
}

impl From<WitnessServeError> for CliError {
    fn from(error: WitnessServeError) -> Self {
        Self::new(Kind::Environment, chain(&error)).hint("choose another address with --listen ADDRESS:PORT")
    }
}
