//! The commands, one file each. Each has its arguments and a `run` that says how it ended.

pub(crate) mod anchor;
pub(crate) mod checkpoint;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod contract;
pub(crate) mod cost;
pub(crate) mod event;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod files;
pub(crate) mod find;
pub(crate) mod fsck;
pub(crate) mod graphing;
pub(crate) mod hold;
pub(crate) mod incident;
pub(crate) mod ingest;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod policy;
pub(crate) mod pricing;
pub(crate) mod rebuild;
pub(crate) mod redact;
pub(crate) mod remap;
pub(crate) mod replay;
pub(crate) mod restore;
pub(crate) mod retention;
pub(crate) mod selecting;
pub(crate) mod serve;
pub(crate) mod stats;
pub(crate) mod token;
pub(crate) mod trace;
pub(crate) mod verify;
pub(crate) mod viewing;
pub(crate) mod what_if;
pub(crate) mod witness;

use crate::cli::{Command, Context};
use crate::exit::{CliError, Exit};

/// Counts entries, for people.
pub(crate) fn entries(number: u64) -> String {
    if number == 1 { "1 entry".to_owned() } else { format!("{number} entries") }
}

/// Runs a command.
pub(crate) fn run(command: Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Init(args) => init::run(args, context),
        Command::Ingest(args) => ingest::run(&args, context),
        Command::Serve(args) => serve::run(&args, context),
        Command::Token(command) => token::run(&command, context),
        Command::Config(command) => config::run(&command, context),
        Command::Fsck(args) => fsck::run(&args, context),
        Command::Verify(args) => verify::run(&args, context),
        Command::Checkpoint(command) => checkpoint::run(&command, context),
        Command::Policy(command) => policy::run(command, context),
        Command::Pricing(command) => pricing::run(&command, context),
        Command::Contract(command) => contract::run(&command, context),
        Command::Cost(args) => cost::run(&args, context),
        Command::Rebuild(args) => rebuild::run(&args, context),
        Command::Replay(command) => replay::run(command, context),
        Command::Trace(command) => trace::run(&command, context),
        Command::Incident(command) => incident::run(&command, context),
        Command::Explain(args) => explain::run(&args, context),
        Command::Event(command) => event::run(&command, context),
        Command::Remap(args) => remap::run(&args, context),
        Command::Find(args) => find::run(&args, context),
        Command::Stats(args) => stats::run(&args, context),
        Command::Export(command) => export::run(command, context),
        Command::Redact(args) => redact::run(&args, context),
        Command::Hold(command) => hold::run(&command, context),
        Command::Retention(command) => retention::run(&command, context),
        Command::Keys(command) => keys::run(&command, context),
        Command::Restore(args) => restore::run(&args, context),
        Command::Anchor(command) => anchor::run(&command, context),
        Command::Witness(args) => witness::run(&args, context),
        Command::Completions(args) => completions::run(&args, context),
    }
}
