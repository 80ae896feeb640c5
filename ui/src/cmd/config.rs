//! `verdict config`: the settings of `verdict serve`, without serving.

use serde_json::{Value, json};
use verdict_ui::config;

use crate::cli::Context;
use crate::cmd::serve::Settings;
use crate::exit::{CliError, Exit};

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print every setting with its value, unit, meaning, and where the value comes from
    Show(Show),
    /// Look at everything that the settings name: files, permissions, directories
    Check(Check),
}

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict config show > serve.toml         a file to start from: what is not the default is not a comment
  verdict config show --format json
  VERDICT_SERVE_LIMITS_BODY_BYTES=1048576 verdict config show

The output is a settings file. Secrets are never part of it: settings name the files that hold them.")]
pub(crate) struct Show {
    #[command(flatten)]
    settings: Settings,
}

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict config check
  verdict config check --config /etc/verdict/serve.toml

`verdict serve` makes the same checks before it opens the ledger. Exit code 2: a setting is wrong; 4: a file or a
directory is.")]
pub(crate) struct Check {
    #[command(flatten)]
    settings: Settings,
}

/// Runs a command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Show(args) => show(&args.settings, context),
        Command::Check(args) => check(&args.settings, context),
    }
}

fn show(settings: &Settings, context: &Context) -> Result<Exit, CliError> {
    let loaded = settings.load(context)?;
    if context.output.is_json()? {
        let all: Vec<Value> = loaded
            .values()
            .map(|(key, value, source)| {
                json!({
                    "key": key.name,
                    "value": value,
                    "source": source.to_string(),
                    "unit": key.unit,
                    "variable": key.variable(),
                    "doc": key.doc,
                })
            })
            .collect();
        context.output.json(&json!({"settings": all}))?;
    } else {
        context.output.result(&config::as_file(&loaded))?;
    }
    Ok(Exit::Clean)
}

fn check(settings: &Settings, context: &Context) -> Result<Exit, CliError> {
    let is_json = context.output.is_json()?;
    let loaded = settings.load(context)?;
    config::check(&loaded, &context.ledger)?;
    // Opening for reading needs the key files and the lock, and disturbs no server.
    drop(context.reader()?);
    if is_json {
        context.output.json(&json!({"ok": true, "guarded": loaded.is_guarded()}))?;
    } else {
        let guard = if loaded.is_guarded() {
            "callers are asked who they are"
        } else {
            "loopback only, nobody is asked"
        };
        context.output.note(&format!("the settings hold; {guard}"));
    }
    Ok(Exit::Clean)
}
