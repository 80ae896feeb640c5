//! `verdict remap`.

use std::collections::BTreeMap;

use serde_json::json;
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::{counted, visible};
use verdict_ledger::remap::{Change, RemapError, Tally, remap};

use crate::cli::Context;
use crate::exit::{CliError, Exit, Kind};
use crate::progress::Progress;

/// Changes that are listed one by one; all of them are counted.
const SHOWN_MAX: usize = 20;
const WHILE_SERVED: &str = "stop `verdict serve` (agents send again what it did not acknowledge), remap, start it again; without --apply it works at any time";

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict remap                      what would the mappers of this version make of what is there?
  verdict remap --apply              append the new readings; each takes the place of the one it names
  verdict remap --format json

Bodies are kept as they came. An event that an older mapper read out of one, and that comes out otherwise
now, is not edited: the new reading is appended and names it in `source.supersedes`, and everything that
counts actions takes the newer. Running it again adds nothing. Nothing comes back that was erased: events
whose raw body or of whose values something was erased stay as they are, and so does what is in quarantine.
Exit code 1 (without --apply): something would change.")]
pub(crate) struct Args {
    /// Append the new readings.
    #[arg(long)]
    apply: bool,
}

impl From<RemapError> for CliError {
    fn from(error: RemapError) -> Self {
        match error {
            RemapError::Ledger(error) => error.into(),
            RemapError::Append(error) => error.into(),
            _ => Self::of(Kind::Unusable, &error),
        }
    }
}

/// Reads raw bodies again.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = if args.apply { context.writer(WHILE_SERVED)? } else { context.reader()? };
    let progress = Progress::start(context.output, "read again");
    let mut shown = Vec::new();
    let mut readers: BTreeMap<(String, String), u64> = BTreeMap::new();
    let result = remap(
        &ledger,
        args.apply,
        &mut |change| {
            *readers.entry((change.from.clone(), change.to.clone())).or_default() += 1;
            if shown.len() < SHOWN_MAX {
                shown.push(change.clone());
            }
        },
        &mut |done, total| progress.at(done, total),
    );
    drop(progress);
    if args.apply {
        ledger.settle()?;
    }
    let tally = result?;
    if json {
        let readers: Vec<_> = readers
            .iter()
            .map(|((from, to), events)| json!({"from": from, "to": to, "events": events}))
            .collect();
        context.output.json(&json!({
            "dry_run": !args.apply, "tally": tally, "readers": readers, "changes": shown,
        }))?;
    } else {
        context.output.result(&told(&tally, &readers, &shown, args.apply))?;
        if !args.apply && tally.changed > 0 {
            context.output.note("nothing was changed; --apply appends the new readings");
        }
    }
    Ok(if tally.changed > 0 && !args.apply { Exit::Finding } else { Exit::Clean })
}

fn told(tally: &Tally, readers: &BTreeMap<(String, String), u64>, shown: &[Change], applied: bool) -> String {
    let mut text = format!(
        "{} {} from {} that came in {}\n",
        counted(tally.changed, "new reading"),
        if applied { "appended" } else { "would be appended" },
        counted(tally.events, "event"),
        if tally.bodies == 1 { "1 raw body".to_owned() } else { format!("{} raw bodies", tally.bodies) },
    );
    for ((from, to), events) in readers {
        text.push_str(&format!("  {events:>8}  {} -> {}\n", visible(from), visible(to)));
    }
    if !shown.is_empty() {
        let mut table =
            Table::new(&[("entry", Align::Right), ("id", Align::Left), ("what differs", Align::Left)]);
        for change in shown {
            table.row(vec![change.seq.to_string(), visible(&change.id), change.fields.join(" ")]);
        }
        text.push_str(&(table.lines(160).join("\n") + "\n"));
        let more = tally.changed.saturating_sub(shown.len() as u64);
        if more > 0 {
            text.push_str(&format!("{more} more\n"));
        }
    }
    for (count, what) in [
        (tally.current, "read by the mapper of this version"),
        (tally.same, "read by an older mapper, to the same end"),
        (tally.superseded, "superseded before"),
        (tally.body_erased, "left: their raw body was erased"),
        (tally.value_erased, "left: a value of theirs was erased, and must not come back"),
        (tally.quarantined, "left: they are in quarantine; release them first"),
        (tally.newer, "left: a newer version of verdict read them"),
        (tally.other_profile, "left: read under another profile now, whose version is not higher"),
        (tally.not_found, "left: this version does not find them in their body"),
        (tally.unreadable, "left: this version cannot read their body"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count:>10}  {what}\n"));
        }
    }
    text
}
