//! `verdict keys`.

use serde_json::json;

use crate::cli::Context;
use crate::exit::{CliError, Exit};

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the verifier keys, to be handed to auditors by another way than the evidence
    #[command(after_help = "\
Example:
  verdict keys show > auditor.keys                  hand this file over once, by a way that you trust
  verdict verify evidence.zip --key auditor.keys    what the auditor runs")]
    Show,
}

/// Shows keys.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    let Command::Show = command;
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let (log, bundle) = (ledger.verifier_key(), ledger.bundle_verifier_key());
    if json {
        context.output.json(&json!({"origin": ledger.origin(), "log": log, "bundle": bundle}))?;
    } else {
        context
            .output
            .result(&format!("# signs checkpoints\n{log}\n# signs evidence bundles\n{bundle}\n"))?;
    }
    Ok(Exit::Clean)
}
