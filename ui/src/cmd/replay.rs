//! `verdict replay`.

mod run;
mod tell;

use std::fs;
use std::path::PathBuf;

use verdict_diff::render::{human, json, markdown};
use verdict_diff::{Gate, compare, compare_recorded};
use verdict_ledger::Ledger;
use verdict_replay::policy::Policy;
use verdict_replay::run::{Run, Scope, replay};

use super::{files, policy};
use crate::cli::{Context, Format, Selection};
use crate::exit::{CliError, Exit};
use crate::progress::Progress;

/// What stands for the decisions that were recorded.
const RECORDED: &str = "recorded";

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Decide recorded actions again under one policy
    #[command(after_help = "\
Examples:
  verdict replay run --policy active
  verdict replay run --policy policies/ --trace 4bf92f3577b34da6a3ce929d0e0e4736 --format json
  verdict replay run --policy shop@2 --range 40000.. --agent support-agent --effect allow
  verdict replay run --policy shop@2 --semantics pointwise --sample 5      a quick estimate, with its confidence
  verdict replay run --policy shop@2 --save friday                         interrupted? add --resume

Every decision is made again by the function that decides live. `pointwise` takes each in the state that history had;
`stateful` lets budgets, loops and cooldowns follow the replayed decisions; `causal` also leaves out what a stopped
step would have brought about. What cannot be known is `unknown`, with the reason, and never a guess.")]
    Run(run::RunArgs),
    /// Runs that were kept with `run --save`
    List,
    /// What a kept run came to
    Show(run::NameArgs),
    /// Remove a kept run
    Delete(run::NameArgs),
    /// What would be decided otherwise under another policy?
    #[command(after_help = "\
Examples:
  verdict replay diff --from shop@1 --to shop@2
  verdict replay diff --from active --to policies/ --gate verdict-gate.toml      in CI, before a merge
  verdict replay diff --from shop@1 --to shop@2 --format markdown --out comment.md       for a pull request
  verdict replay diff --from recorded --to shop@2                               what really happened, against shop@2

Without --gate, loosening and lost coverage fail and tightening warns. The exit code is the same in every
format: 0 no failure, 1 the gate fired, 2 a policy or gate file cannot be used, 3 the result cannot be trusted.")]
    Diff(DiffArgs),
    /// What would be decided about one recorded action if its input were another?
    WhatIf(super::what_if::Args),
}

/// Arguments of `diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// Before: name@version, digest (its first 8 digits do), `active`, a path with a `/`, or `recorded`.
    #[arg(long, value_name = "REF")]
    from: String,
    /// After: the same, but not `recorded`.
    #[arg(long, value_name = "REF")]
    to: String,
    #[command(flatten)]
    selection: Selection,
    /// Gate file (`verdict-gate.toml`).
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
    /// Write the report here instead of to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs a replay command.
pub(crate) fn run(command: Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Run(args) => run::run(&args, context),
        Command::List => run::list(context),
        Command::Show(args) => run::show(&args, context),
        Command::Delete(args) => run::delete(&args, context),
        Command::Diff(args) => diff(&args, context),
        Command::WhatIf(args) => super::what_if::run(&args, context),
    }
}

fn diff(args: &DiffArgs, context: &Context) -> Result<Exit, CliError> {
    let format = context.output.format(&[Format::Human, Format::Json, Format::Markdown])?;
    if args.to == RECORDED {
        return Err(CliError::unusable("--to cannot be `recorded`")
            .hint("use --from recorded --to REF to set what happened against a policy"));
    }
    let gate = gate(args.gate.as_ref())?;
    let from = if args.from == RECORDED { None } else { Some(policy::compile(&args.from, context)?) };
    let to = policy::compile(&args.to, context)?;
    let ledger = context.reader()?;
    // The ledger may grow meanwhile: both sides are held to the size that is there now.
    let selection = pinned(&args.selection, ledger.head().size);
    let after = replayed(&ledger, &selection, &to, context)?;
    let diff = match from {
        None => compare_recorded(&after)?,
        Some(from) => compare(&replayed(&ledger, &selection, &from, context)?, &after)?,
    };
    let verdict = gate.judge(&diff);
    let text = match format {
        Format::Json => json(&diff, &verdict)?,
        Format::Markdown => markdown(&diff, &verdict),
        _ => human(&diff, &verdict, args.out.is_none() && context.output.colour()),
    };
    deliver(args.out.as_ref(), &text, context)?;
    if args.out.is_some() {
        context.output.note(&format!("gate: {}", verdict.outcome.as_str()));
    }
    Ok(Exit::of_code(verdict.outcome.exit_code()))
}

fn gate(path: Option<&PathBuf>) -> Result<Gate, CliError> {
    let Some(path) = path else { return Ok(Gate::default()) };
    let text =
        fs::read_to_string(path).map_err(|error| CliError::io("cannot read gate file", path, &error))?;
    Gate::parse(&text).map_err(|error| {
        CliError::unusable(error.to_string())
            .at(path.display())
            .hint("a gate file looks like `[classes]` and below it `loosened = \"fail\"`")
    })
}

fn pinned(selection: &Selection, size: u64) -> Selection {
    let mut range = selection.range.unwrap_or_default();
    range.end.get_or_insert(size);
    Selection { trace: selection.trace, range: Some(range) }
}

fn replayed(
    ledger: &Ledger,
    selection: &Selection,
    policy: &Policy,
    context: &Context,
) -> Result<Run, CliError> {
    let range = selection.range.unwrap_or_default();
    let scope =
        Scope { first_seq: range.first, end_seq: range.end, trace: selection.trace, ..Scope::default() };
    let progress = Progress::start(context.output, "replay");
    Ok(replay(ledger, &scope, policy, &mut |done, all| progress.at(done, all))?)
}

fn deliver(out: Option<&PathBuf>, text: &str, context: &Context) -> Result<(), CliError> {
    match out {
        None => context.output.result(text),
        Some(path) => {
            files::write(path, text.as_bytes())?;
            context.output.note(&format!("wrote {}", path.display()));
            Ok(())
        }
    }
}
