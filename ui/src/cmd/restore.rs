//! `verdict restore`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use verdict_ledger::clock::SystemClock;
use verdict_ledger::note::NoteError;
use verdict_ledger::{Ledger, LedgerError, RestoreOptions, RestorePlan};

use crate::cli::Context;
use crate::cmd::keys::read_note;
use crate::exit::{CliError, Exit, Kind};
use crate::progress::Progress;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict restore --from /backup/verdict-ledger --reason 'disk died' --dry-run    what would be lost?
  verdict restore --from /backup/verdict-ledger --reason 'disk died'              copies it to --ledger
  verdict restore --from verdict-ledger --reason 'snapshot put back'              goes on from it where it is

The copy is verified first, every entry of it. The log then goes on under a new origin (ORIGIN/2, …), and
its first entry there, `restore.performed`, says which entries are lost, what proves it, who restored and
why. The old lock file is kept beside the new one. Give the new key (`verdict keys show`) to those who
verify, and the new origin to witnesses.")]
pub(crate) struct Args {
    /// Ledger directory that is behind its lock: a backup, or the ledger itself after an old state was put back.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Why; recorded as given.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Who does this; recorded as given.
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true, value_name = "NAME")]
    by: String,
    /// Say what would be lost, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// A checkpoint that was kept elsewhere, of what may be lost; may be repeated.
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Go on although the lock file is lost too: only checkpoints then tell how much is missing.
    #[arg(long)]
    without_lock: bool,
}

/// Restores.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let in_place = same(&args.from, &context.ledger);
    if !in_place && context.ledger.exists() {
        return Err(CliError::unusable(format!("{} is there already", context.ledger.display()))
            .hint("a restore overwrites nothing: move it away first (its lock file stays where it is)")
            .hint(format!("or go on from it where it is: --from {}", context.ledger.display())));
    }
    let options = RestoreOptions {
        open: context.options()?,
        reason: args.reason.clone(),
        by: args.by.clone(),
        without_lock: args.without_lock,
        checkpoints: args.checkpoints.iter().map(read_note).collect::<Result<_, _>>()?,
    };
    let lock = Ledger::lock_path_for(&args.from, &context.ledger, &options.open)?;
    let planned = plan(&args.from, &lock, &options, context)?;
    if args.dry_run {
        return tell(&planned, "would restore", args, context, json);
    }
    if !in_place {
        Ledger::copy(&args.from, &context.ledger)?;
    }
    // Verified again where it now is: what is restored is what was copied, not what was meant to be.
    let planned = if in_place { planned } else { plan(&context.ledger, &lock, &options, context)? };
    let ledger = Ledger::restore(&context.ledger, &planned, &options.open, Arc::new(SystemClock))?;
    drop(ledger);
    tell(&planned, "restored", args, context, json)
}

fn plan(
    dir: &Path,
    lock: &Path,
    options: &RestoreOptions,
    context: &Context,
) -> Result<RestorePlan, CliError> {
    let progress = Progress::start(context.output, "verify");
    Ledger::plan_restore(dir, lock, options, &mut |done, all| progress.at(done, all)).map_err(|error| {
        match &error {
            LedgerError::LockMissing { .. } | LedgerError::LockDamaged { .. } => CliError::from(error).hint(
                "if it is lost for good, --without-lock goes on without it; pass what you have with --checkpoint FILE",
            ),
            LedgerError::Note(NoteError::Malformed { .. }) => {
                CliError::new(Kind::Unusable, error.to_string())
                    .hint("--checkpoint takes a signed note, as `verdict checkpoint show` prints it")
            }
            LedgerError::Note(_) => CliError::new(Kind::Untrusted, error.to_string())
                .hint("a checkpoint counts when a key of this log signed it; `verdict keys show` lists them"),
            _ => CliError::from(error),
        }
    })
}

fn tell(plan: &RestorePlan, did: &str, args: &Args, context: &Context, json: bool) -> Result<Exit, CliError> {
    if json {
        context.output.json(&json!({"dry_run": args.dry_run, "restore": plan}))?;
        return Ok(Exit::Clean);
    }
    let mut text = format!(
        "{did} {}: {} verified, root {}\n",
        args.from.display(),
        super::entries(plan.size),
        plan.root
    );
    // Writing into a string does not fail.
    let _ = match plan.lost_end {
        Some(end) => writeln!(
            text,
            "lost        entries {}..{end}, {}; all were acknowledged to somebody",
            plan.size,
            super::entries(end - plan.size)
        ),
        None => writeln!(text, "lost        unknown: everything after entry {}", plan.size.saturating_sub(1)),
    };
    if let Some(ts) = &plan.last_ts {
        let _ = writeln!(text, "last kept   received {ts}");
    }
    if plan.checkpoint.is_some() {
        let verified = if plan.checkpoint_verified {
            "signed by a key of the log"
        } else {
            "NOT signed by any key that this copy knows"
        };
        let _ = writeln!(text, "proof       the newest known checkpoint goes into the entry ({verified})");
    }
    let _ = writeln!(
        text,
        "origin      {} -> {}\nlog key     {}",
        plan.old_origin, plan.new_origin, plan.verifier_key
    );
    if let Some(kept) = &plan.kept_lock {
        let _ = writeln!(text, "old lock    {}", kept.display());
    }
    context.output.result(&text)?;
    if args.dry_run {
        context.output.note("nothing was changed; run it without --dry-run to restore");
    } else {
        context.output.note("give the new log key to those who verify, and tell them what is lost");
        context.output.note(
            "what was erased since the backup is there again: repeat those erasures (`verdict redact`)",
        );
    }
    Ok(Exit::Clean)
}

fn same(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
