//! `verdict hold`.

use serde_json::json;
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::{time, visible};
use verdict_ledger::clock::{Clock as _, SystemClock};
use verdict_ledger::erasure::{Hold, NewHold};

use super::find::parse_time;
use super::selecting::{Selecting, WHILE_SERVED};
use crate::cli::{Attribution, Context};
use crate::exit::{CliError, Exit};

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Keep what a selection names from being erased, also what comes later
    #[command(after_help = "\
Examples:
  verdict hold place --user ada@example.org --tenant harbor --matter 'C-12/26'
  verdict hold place --agent intern-bot --since 2026-10-01 --matter audit-7 --until 2027-12-31

While a hold is on an entry, no erasure and no retention policy takes its values or the raw body
that it came in. The matter stands in the log for good: a case number, no names.")]
    Place {
        #[command(flatten)]
        selecting: Box<Selecting>,
        /// Matter, such as a case number.
        #[arg(long, value_name = "TEXT")]
        matter: String,
        /// When it ends by itself.
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        until: Option<u64>,
        #[command(flatten)]
        attribution: Attribution,
    },
    /// End a hold
    Release {
        /// Hold, as `verdict hold list` shows it.
        hold: String,
        #[command(flatten)]
        attribution: Attribution,
    },
    /// List holds; released and ended ones too with --all
    List {
        /// Also those that keep nothing any more.
        #[arg(long)]
        all: bool,
    },
}

/// Runs a hold command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let now_ns = SystemClock.now_ns();
    match command {
        Command::Place { selecting, matter, until, attribution } => {
            if until.is_some_and(|until| until <= now_ns) {
                return Err(CliError::unusable("--until is in the past: the hold would keep nothing")
                    .hint("give a day to come, like 2027-12-31"));
            }
            let hold = NewHold {
                selection: selecting.selection(&[]),
                matter: matter.clone(),
                until_ns: *until,
                by: attribution.by.clone(),
                reason: attribution.reason.clone(),
            };
            let ledger = context.writer(WHILE_SERVED)?;
            let (name, seq) = ledger.place_hold(&hold)?;
            ledger.settle()?;
            if json {
                context.output.json(&json!({"hold": name, "seq": seq}))?;
            } else {
                context.output.result(&format!("hold {name} is placed (entry {seq})\n"))?;
            }
        }
        Command::Release { hold, attribution } => {
            let ledger = context.writer(WHILE_SERVED)?;
            let seq = ledger.release_hold(hold, &attribution.by, &attribution.reason, now_ns)?;
            ledger.settle()?;
            if json {
                context.output.json(&json!({"hold": hold, "seq": seq}))?;
            } else {
                context.output.result(&format!("hold {hold} is released (entry {seq})\n"))?;
            }
        }
        Command::List { all } => {
            let mut holds = context.reader()?.holds(now_ns)?;
            holds.retain(|hold| *all || hold.active);
            if json {
                context.output.json(&json!({"holds": holds.iter().map(listed).collect::<Vec<_>>()}))?;
            } else if holds.is_empty() {
                context.output.note("no hold");
            } else {
                context.output.result(&table(&holds))?;
            }
        }
    }
    Ok(Exit::Clean)
}

/// Nanoseconds pass 2^53 and are text in JSON.
fn listed(hold: &Hold) -> serde_json::Value {
    json!({
        "hold": hold.hold, "seq": hold.seq, "matter": hold.matter, "scope": hold.scope,
        "until_ns": hold.until_ns.map(|ns| ns.to_string()), "released": hold.released, "active": hold.active,
    })
}

fn table(holds: &[Hold]) -> String {
    let mut table = Table::new(&[
        ("hold", Align::Left),
        ("matter", Align::Left),
        ("entry", Align::Right),
        ("until", Align::Left),
        ("on", Align::Left),
    ]);
    for hold in holds {
        let until = match (hold.released, hold.until_ns) {
            (Some(seq), _) => format!("released ({seq})"),
            (None, Some(ns)) => time(ns),
            (None, None) => "it is released".to_owned(),
        };
        let on = serde_json::to_string(&hold.scope).unwrap_or_default();
        table.row(vec![hold.hold.clone(), visible(&hold.matter), hold.seq.to_string(), until, visible(&on)]);
    }
    table.lines(160).join("\n") + "\n"
}
