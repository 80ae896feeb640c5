//! `verdict completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::{Cli, Context};
use crate::exit::{CliError, Exit};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict completions bash > ~/.local/share/bash-completion/completions/verdict
  verdict completions zsh  > ~/.zfunc/_verdict
  verdict completions fish > ~/.config/fish/completions/verdict.fish")]
pub(crate) struct Args {
    /// Shell.
    shell: Shell,
}

/// Writes a completion script.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "verdict", &mut script);
    context.output.bytes(&script)?;
    Ok(Exit::Clean)
}
