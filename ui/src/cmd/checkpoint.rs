//! `verdict checkpoint`.

use serde_json::json;

use crate::cli::Context;
use crate::exit::{CliError, Exit, Kind, chain};

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the newest checkpoint, a C2SP signed note
    #[command(after_help = "\
Examples:
  verdict checkpoint show > checkpoint.txt    keep it elsewhere: it pins the log up to here
  verdict verify checkpoint.txt --key auditor.keys")]
    Show {
        /// The checkpoint of exactly this many entries.
        #[arg(long, value_name = "N")]
        size: Option<u64>,
    },
}

/// Shows checkpoints.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    let Command::Show { size } = command;
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let note = match size {
        Some(size) => ledger.checkpoint_at(*size)?,
        None => ledger.checkpoint()?,
    };
    let Some(note) = note else {
        let which = size.map_or_else(String::new, |size| format!(" of {size} entries"));
        let sizes: Vec<String> = ledger.checkpoints(10)?.iter().map(|(size, _)| size.to_string()).collect();
        let error = CliError::unusable(format!("the ledger has no checkpoint{which}"));
        return Err(if sizes.is_empty() {
            error.hint(
                "a checkpoint is signed by whatever writes the ledger, `verdict ingest` or `verdict serve`",
            )
        } else {
            error.hint(format!("the newest are of {} entries", sizes.join(", ")))
        });
    };
    let untrusted = |error: &dyn std::error::Error| CliError::new(Kind::Untrusted, chain(error));
    let checkpoint = ledger.verify_checkpoint(&note).map_err(|error| {
        untrusted(&error).hint("the ledger's own checkpoint does not verify; run `verdict verify`")
    })?;
    if json {
        context.output.json(&json!({
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": hex::encode(checkpoint.root.0),
            "note": note,
        }))?;
    } else {
        context.output.result(&note)?;
    }
    Ok(Exit::Clean)
}
