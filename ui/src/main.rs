//! The `verdict` command line: parse, run one command, say how it ended.

mod cli;
mod cmd;
mod exit;
mod output;
mod passphrase;
mod progress;

use std::process::ExitCode;

use clap::Parser as _;

/// Events are prepared in one thread and let go of in another, hundreds of times at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let context = match cli::Context::of(&cli.global) {
        Ok(context) => context,
        Err(error) => {
            output::Output::new(cli.global.format, cli.global.color, cli.global.quiet).error(&error);
            return error.kind.exit().into();
        }
    };
    match cmd::run(cli.command, &context) {
        Ok(exit) => exit.into(),
        Err(error) => {
            context.output.error(&error);
            error.kind.exit().into()
        }
    }
}
