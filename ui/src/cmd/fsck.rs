//! `verdict fsck`, and the check of a ledger that `verdict verify` and `verdict serve` share with it.

use std::path::Path;

use serde_json::{Value, json};
use verdict_diff::render::text::{counted, visible};
use verdict_ledger::{Depth, Ledger, LedgerError, Report, Standing, VerifyFailure, VerifyOptions};

use crate::cli::Context;
use crate::exit::{CliError, Exit, Kind};
use crate::progress::Progress;

/// Failures that are named one by one.
const FAILURES_SHOWN: usize = 50;
/// Most threads that can be asked for.
const THREADS_MAX: u16 = 256;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict fsck                          everything: entries, chain, tree, checkpoints, lock, keys,
                                        indexes, disclosed values, data keys, raw bodies
  verdict fsck --quick                  the log alone, without what stands beside it
  verdict fsck --format json | jq .first_bad

Works while another process writes the ledger, and on a ledger that every other command refuses.
Exit code 0: all holds. 1: something was changed or lost, and the first bad place is named.
3: what is there is consistent and not what was acknowledged or signed: rolled back, forked, or
the lock is missing or damaged. 4: a file or the disk does not let us look.")]
pub(crate) struct Args {
    /// Check the log and leave out what stands beside it: indexes, disclosed values, raw bodies.
    #[arg(long)]
    quick: bool,
    /// Threads that share the work [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(THREADS_MAX)))]
    threads: Option<u16>,
}

/// Checks the ledger.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let mut options = VerifyOptions::default();
    options.depth = if args.quick { Depth::Log } else { Depth::Everything };
    options.threads = args.threads.map_or(options.threads, usize::from);
    check(&context.ledger, &options, context, |_| Ok(()))
}

/// Checks a ledger and tells what was found; `known` says first whether it is the ledger that the caller means.
pub(crate) fn check(
    dir: &Path,
    options: &VerifyOptions,
    context: &Context,
    known: impl FnOnce(&Ledger) -> Result<(), CliError>,
) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = Ledger::open_to_inspect(dir, &context.options()?).map_err(damaged)?;
    known(&ledger)?;
    let depth = options.depth;
    let progress = Progress::start(context.output, "fsck");
    let report = ledger.verify_with(options, &mut |done, all| progress.at(done, all)).map_err(damaged)?;
    drop(progress);
    if json {
        context.output.json(&to_json(&report, depth))?;
    } else {
        context.output.result(&to_text(ledger.dir(), &report, depth))?;
    }
    refuse(ledger.dir(), &report).map(|()| Exit::Clean)
}

/// Makes a report that is not clean an error: the first bad place, and the way out.
pub(crate) fn refuse(dir: &Path, report: &Report) -> Result<(), CliError> {
    let kind = match report.standing() {
        Standing::Verified => return Ok(()),
        Standing::Damaged => Kind::Finding,
        Standing::Untrusted => Kind::Untrusted,
    };
    let Some(first) = report.first_bad() else { return Ok(()) };
    let mut error = CliError::new(kind, format!("{} does not hold: {}", dir.display(), line(first)));
    // What contradicts from outside explains more than what it left behind.
    let contradiction = report.failures.iter().find(|failure| failure.class.is_contradiction());
    if let Some(other) = contradiction.filter(|other| kind == Kind::Untrusted && *other != first) {
        error = error.hint(line(other));
    }
    let class =
        contradiction.filter(|_| kind == Kind::Untrusted).map_or(first.class, |failure| failure.class);
    Err(error.hint(class.way_out()))
}

/// Says which place is bad first in a ledger that could not be opened, as far as the log alone tells.
pub(crate) fn first_bad_place(context: &Context) -> Option<String> {
    let ledger = Ledger::open_to_inspect(&context.ledger, &context.options().ok()?).ok()?;
    let options = VerifyOptions { depth: Depth::Log, ..VerifyOptions::default() };
    let report = ledger.verify_with(&options, &mut |_, _| {}).ok()?;
    Some(format!("first bad place: {}", line(report.first_bad()?)))
}

/// Bytes that are not what was written are what this command looks for.
pub(crate) fn damaged(error: LedgerError) -> CliError {
    let damaged = match &error {
        LedgerError::Damaged { .. } | LedgerError::Settings { .. } => true,
        LedgerError::Key(cause) => matches!(cause, verdict_ledger::key::KeyError::Format { .. }),
        LedgerError::Database(cause) => cause.to_string().starts_with("Corruption"),
        _ => false,
    };
    let mut error = CliError::from(error);
    if damaged {
        error.kind = Kind::Finding;
        // What follows from the entries needs no backup.
        if error.hints.iter().any(|hint| hint.contains("verdict rebuild")) {
            return error;
        }
        error.hints = vec!["keep the damaged ledger as it is and restore another from a backup".to_owned()];
    }
    error
}

fn line(failure: &VerifyFailure) -> String {
    let place = failure.seq.map_or_else(|| "ledger".to_owned(), |seq| format!("entry {seq}"));
    format!("{place}: {}: {}", failure.class, visible(&failure.detail))
}

const fn depth_name(depth: Depth) -> &'static str {
    match depth {
        Depth::Log => "log",
        Depth::Everything => "everything",
    }
}

/// The report as JSON: what it comes to, the first bad place, how much was checked, and every failure.
pub(crate) fn to_json(report: &Report, depth: Depth) -> Value {
    json!({
        "verified": report.is_clean(),
        "standing": report.standing(),
        "depth": depth_name(depth),
        "first_bad": report.first_bad(),
        "way_out": report.first_bad().map(|first| first.class.way_out()),
        "report": report,
    })
}

fn to_text(dir: &Path, report: &Report, depth: Depth) -> String {
    let word = match report.standing() {
        Standing::Verified => "verified",
        Standing::Damaged => "DAMAGED",
        Standing::Untrusted => "NOT TRUSTED",
    };
    let mut text = format!(
        "{word} {}\n  log       {}, {} bytes, against chain and tree; size {}, root {}\n            \
         {}, {}, {} of the lock\n",
        dir.display(),
        super::entries(report.entries),
        report.bytes,
        report.size,
        report.root,
        many(report.tree_hashes, "stored tree hash", "stored tree hashes"),
        counted(report.checkpoints, "checkpoint"),
        counted(report.lock_slots, "slot"),
    );
    if report.unacknowledged > 0 {
        text.push_str(&format!(
            "            {} behind the end, written and not acknowledged\n",
            super::entries(report.unacknowledged)
        ));
    }
    if report.unsigned > 0 {
        text.push_str(&format!(
            "            {} not signed by a checkpoint yet\n",
            super::entries(report.unsigned)
        ));
    }
    if report.revoked_checkpoints > 0 {
        text.push_str(&format!(
            "            {} by a key that was revoked for them; later ones speak for their entries\n",
            counted(report.revoked_checkpoints, "checkpoint")
        ));
    }
    match depth {
        Depth::Everything => text.push_str(&format!(
            "  beside it {}, {}, {}, {}\n",
            counted(report.disclosures, "disclosed value"),
            counted(report.data_keys, "data key"),
            many(report.blobs, "raw body", "raw bodies"),
            counted(report.index_rows, "index row"),
        )),
        Depth::Log => {
            text.push_str("  beside it not checked: disclosed values, raw bodies, indexes (--quick)\n");
        }
    }
    if report.withheld > 0 {
        text.push_str(&format!("            {} withheld\n", counted(report.withheld, "value")));
    }
    for failure in report.failures.iter().take(FAILURES_SHOWN) {
        text.push_str(&format!("  {}\n", line(failure)));
    }
    let rest = report.failures.len().saturating_sub(FAILURES_SHOWN) as u64 + report.more_failures;
    if rest > 0 {
        text.push_str(&format!("  and {rest} more\n"));
    }
    text
}

fn many(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}
