//! `verdict init`.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use verdict_ledger::clock::SystemClock;
use verdict_ledger::{InitOptions, Ledger, LedgerError};

use crate::cli::Context;
use crate::exit::{CliError, Exit};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict init
  verdict --ledger /var/lib/verdict init --origin example.org/verdict/prod --lock /mnt/other/verdict.lock
  verdict init --encrypt-keys --passphrase-file /run/secrets/verdict

The lock file holds what was last acknowledged. On another volume it shows when the ledger was cut or
rolled back together with its directory. Give `verdict keys show` to those who will verify.")]
pub(crate) struct Args {
    /// Name of the log in its checkpoints, like `example.org/verdict/prod`; it cannot be changed later.
    #[arg(long, default_value = "localhost/verdict", value_name = "NAME")]
    origin: String,
    /// Encrypt the key files and the store secret with a passphrase.
    #[arg(long)]
    encrypt_keys: bool,
    /// A `*.signer.toml` that says how to reach a log key that lives elsewhere; `verdict keys` has more.
    #[arg(long, value_name = "FILE")]
    log_signer: Option<PathBuf>,
    /// The same for the bundle key.
    #[arg(long, value_name = "FILE")]
    bundle_signer: Option<PathBuf>,
}

/// Creates a ledger.
pub(crate) fn run(args: Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let passphrase = args.encrypt_keys.then(|| context.passphrases.for_new_files()).transpose()?;
    let options = InitOptions {
        lock: context.lock.clone(),
        passphrase,
        log_signer: args.log_signer,
        bundle_signer: args.bundle_signer,
        ..InitOptions::new(args.origin)
    };
    let ledger = Ledger::init(&context.ledger, &options, Arc::new(SystemClock)).map_err(|error| {
        // Said first by what is there: the lock of a ledger that exists is no riddle.
        if matches!(error, LedgerError::LockExists { .. } | LedgerError::NotEmpty { .. })
            && context.ledger.join("verdict.json").exists()
        {
            return CliError::unusable(format!("{} is a ledger already", context.ledger.display()))
                .hint("use it as it is, or name another directory with --ledger DIR");
        }
        CliError::from(error)
    })?;
    if json {
        context.output.json(&json!({
            "ledger": ledger.dir().display().to_string(),
            "lock": ledger.lock_path().display().to_string(),
            "origin": ledger.origin(),
            "log_key": ledger.verifier_key(),
            "bundle_key": ledger.bundle_verifier_key(),
        }))?;
    } else {
        context.output.result(&format!(
            "created ledger {}\norigin      {}\nlock        {}\nlog key     {}\nbundle key  {}\n",
            ledger.dir().display(),
            ledger.origin(),
            ledger.lock_path().display(),
            ledger.verifier_key(),
            ledger.bundle_verifier_key(),
        ))?;
        context.output.note("next: `verdict ingest FILE` adds traffic, `verdict serve` shows it");
    }
    Ok(Exit::Clean)
}
