//! The `verdict` command line: parse, run one command, say how it ended.

mod cli;
mod cmd;
mod exit;
mod output;
mod passphrase;
mod progress;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let context = cli::Context::of(&cli.global);
    match cmd::run(cli.command, &context) {
        Ok(exit) => exit.into(),
        Err(error) => {
            context.output.error(&error);
            error.kind.exit().into()
        }
    }
}
