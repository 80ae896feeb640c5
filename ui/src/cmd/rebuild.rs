//! `verdict rebuild`.

use serde_json::json;
use verdict_diff::render::text::visible;
use verdict_ledger::{Class, Ledger, LedgerError, Rebuilt, VerifyFailure};

use crate::cli::Context;
use crate::exit::{CliError, Exit};
use crate::progress::Progress;

/// Failures that are listed for people; JSON has all that the report has.
const FAILURES_SHOWN: usize = 20;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict rebuild --check     do the indexes say what the entries say? also while the ledger is served
  verdict rebuild             make indexes and tree hashes again, from entries and disclosed values

First the log is checked against its lock, so that nothing is thrown away unless it is the one that was acknowledged.
Nobody can open the ledger until it is done; a rebuild that was cut short is finished by running it again. It ends
with the same bytes, whatever was there before.

Exit codes: 0 done, or --check found no difference; 1 --check found one; 3 the log itself is not what was
acknowledged (see `verdict verify`); 4 the ledger is being written, or a file cannot be.")]
pub(crate) struct Args {
    /// Compare and change nothing.
    #[arg(long)]
    check: bool,
}

/// Rebuilds, or compares.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    if args.check { check(context) } else { rebuild(context) }
}

fn rebuild(context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let progress = Progress::start(context.output, "rebuild");
    let rebuilt =
        Ledger::rebuild(&context.ledger, &context.options()?, &mut |done, all| progress.at(done, all));
    drop(progress);
    let rebuilt = rebuilt.map_err(|error| match error {
        LedgerError::Busy { .. } => {
            CliError::from(error).hint("stop `verdict serve`, rebuild, and start it again")
        }
        error => error.into(),
    })?;
    if json {
        context.output.json(&json!({"rebuilt": rebuilt}))?;
    } else {
        context.output.result(&told(&rebuilt, context))?;
    }
    if rebuilt.unreadable > 0 {
        context.output.warn(&format!(
            "disclosed values of {} are there and cannot be read; `verdict verify` tells which",
            super::entries(rebuilt.unreadable)
        ));
    }
    Ok(Exit::Clean)
}

fn told(rebuilt: &Rebuilt, context: &Context) -> String {
    let rows: Vec<String> = rebuilt.rows.iter().map(|(family, rows)| format!("{family} {rows}")).collect();
    format!(
        "rebuilt {}\n  {}, root {}\n  rows: {}\n",
        context.ledger.display(),
        super::entries(rebuilt.entries),
        rebuilt.root,
        rows.join(", ")
    )
}

fn check(context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = Ledger::open_to_inspect(&context.ledger, &context.options()?)?;
    let progress = Progress::start(context.output, "compare");
    let report = ledger.verify(&mut |done, all| progress.at(done, all))?;
    drop(progress);
    let derived = |failure: &&VerifyFailure| matches!(failure.class, Class::Index | Class::Tree);
    let differ: Vec<&VerifyFailure> = report.failures.iter().filter(derived).collect();
    let log = report.failures.len() - differ.len();
    if json {
        context.output.json(&json!({
            "same": differ.is_empty() && log == 0,
            "entries": report.entries,
            "index_rows": report.index_rows,
            "differences": differ,
            "other_failures": log,
        }))?;
    } else {
        let mut text = format!(
            "{} {}\n  {}, {} index rows\n",
            if differ.is_empty() { "same" } else { "DIFFERENT" },
            context.ledger.display(),
            super::entries(report.entries),
            report.index_rows
        );
        for failure in differ.iter().take(FAILURES_SHOWN) {
            text.push_str(&format!("  {}: {}\n", failure.class, visible(&failure.detail)));
        }
        context.output.result(&text)?;
    }
    if log > 0 {
        context.output.warn("the log is not what was acknowledged: run `verdict verify`, and do not rebuild");
        return Ok(Exit::Untrusted);
    }
    if differ.is_empty() {
        return Ok(Exit::Clean);
    }
    context.output.note("`verdict rebuild` makes them again");
    Ok(Exit::Finding)
}
