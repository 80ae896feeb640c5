//! `verdict contract`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use verdict_diff::render::table::{Align, Table as Lines};
use verdict_diff::render::text::{counted, visible};
use verdict_ledger::action::labels::LabelSource;
use verdict_ledger::contract::{
    self, Contract, ContractError, Coverage, Field, Held, ReleaseError, Releaser, RunError, Selected,
    Verdicts,
};
use verdict_ledger::id::TraceId;
use verdict_ledger::view::View;

use super::{files, viewing};
use crate::cli::{Attribution, Context};
use crate::exit::{CliError, Exit, Kind};

/// What to do when a server has the ledger open.
const WHILE_SERVED: &str = "this is an entry of the ledger: stop `verdict serve` (agents send again what it did not acknowledge), run this, start it again; a server checks settled actions by itself";

/// Actions that a report lists.
const LISTED_MAX: usize = 50;

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the contract in force, or the one that comes with this version
    #[command(after_help = "\
Examples:
  verdict contract show
  verdict contract show --default --file > contract.toml      a start for a contract of your own")]
    Show {
        /// The contract that comes with this version.
        #[arg(long)]
        default: bool,
        /// Write its file.
        #[arg(long)]
        file: bool,
    },
    /// Check a contract and name what is wrong, with its place
    Check {
        /// Contract (TOML).
        file: PathBuf,
    },
    /// Put a contract in force from now on
    Use {
        /// Contract (TOML).
        file: PathBuf,
        #[command(flatten)]
        attribution: Attribution,
    },
    /// Judge what has settled, and record every verdict that is new or changed
    #[command(after_help = "\
Examples:
  verdict contract run
  verdict contract run --dry-run --format json      what would be recorded

An action has settled when nothing of its trace came for the settle window (--settle). A verdict is an entry that names
the contract by the digest of its file; late data makes a new verdict and edits nothing. Under a strict contract what
does not meet it is quarantined: it stays in the log, and counts nowhere until it is released.
Exit code 1: something was quarantined.")]
    Run {
        /// Record nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// How much of what the contract asks for is stated, by field, and which actions do not meet it
    Report {
        /// Exit with 1 when an action that has settled does not meet the contract.
        #[arg(long)]
        fail_on_unmet: bool,
    },
    /// Let something out of quarantine, as a recorded decision
    #[command(after_help = "\
Examples:
  verdict contract release --action 4211 --by ada --reason 'batch job without a user, ticket 91'
  verdict contract release --trace 4bf92f3577b34da6a3ce929d0e0e4736 --by ada --reason 'backfill'")]
    Release {
        /// Action, by its entry.
        #[arg(long, value_name = "ENTRY", group = "what")]
        action: Option<u64>,
        /// Event, by its id.
        #[arg(long, value_name = "ID", group = "what")]
        event: Option<String>,
        /// Everything of a trace.
        #[arg(long, value_name = "ID", group = "what", required_unless_present_any = ["action", "event"])]
        trace: Option<TraceId>,
        /// Who decided it.
        #[arg(long, value_name = "NAME")]
        by: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Runs a contract command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Show { default, file } => show(*default, *file, context),
        Command::Check { file } => check(file, context),
        Command::Use { file, attribution } => put_in_force(file, attribution, context),
        Command::Run { dry_run } => judge(*dry_run, context),
        Command::Report { fail_on_unmet } => report(*fail_on_unmet, context),
        Command::Release { action, event, trace, by, reason } => {
            let selected = match (action, event, trace) {
                (Some(key), ..) => Selected::Action(*key),
                (_, Some(id), _) => Selected::Event(id.clone()),
                (_, _, Some(trace)) => Selected::Trace(*trace),
                (None, None, None) => {
                    return Err(CliError::unusable("name what to release with --action, --event or --trace"));
                }
            };
            release(&selected, by, reason, context)
        }
    }
}

impl From<ContractError> for CliError {
    fn from(error: ContractError) -> Self {
        Self::of(Kind::Unusable, &error)
            .hint("`verdict contract show --default --file` writes one that can be used")
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Ledger(error) => error.into(),
            RunError::Activation(error) => error.into(),
            RunError::Append(error) => error.into(),
            _ => Self::of(Kind::Unusable, &error),
        }
    }
}

impl From<ReleaseError> for CliError {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::Ledger(error) => error.into(),
            ReleaseError::Append(error) => error.into(),
            ReleaseError::Nothing => {
                Self::of(Kind::Unusable, &error).hint("`verdict contract report` lists what is in quarantine")
            }
            _ => Self::of(Kind::Unusable, &error),
        }
    }
}

fn load(path: &Path) -> Result<Contract, CliError> {
    let bytes = files::read_small(path)?;
    Contract::parse(&bytes).map_err(|error| CliError::from(error).at(path.display()))
}

fn show(default: bool, file: bool, context: &Context) -> Result<Exit, CliError> {
    let json = !file && context.output.is_json()?;
    let (contract, activation) = if default {
        (Contract::shipped()?, None)
    } else {
        let ledger = context.reader()?;
        contract::in_force(&ledger, ledger.head().size)?
    };
    if file {
        context.output.bytes(contract.bytes())?;
        return Ok(Exit::Clean);
    }
    if json {
        context.output.json(&json!({
            "label": contract.label(), "digest": contract.digest(), "id": contract.id(), "mode": contract.mode(),
            "at_ingest": contract.at_ingest(), "require": contract.require(), "safety": contract.safety(),
            "activation": activation,
        }))?;
        return Ok(Exit::Clean);
    }
    let since = activation.map_or_else(
        || "comes with this version".to_owned(),
        |activation| format!("in force since entry {}, by {}", activation.seq, visible(&activation.by)),
    );
    let at_ingest: Vec<&str> = contract.at_ingest().iter().map(|field| field.as_str()).collect();
    let mut text = format!(
        "{} ({})\n  {}\n  {since}\n  when it arrives: {}\n",
        visible(contract.label()),
        contract.mode().as_str(),
        contract.digest(),
        if at_ingest.is_empty() { "-".to_owned() } else { at_ingest.join(", ") }
    );
    let mut lines = Lines::new(&[
        ("field", Align::Left),
        ("inherited", Align::Left),
        ("on actions", Align::Left),
        ("that ended", Align::Left),
    ]);
    for row in contract.require() {
        let outcomes: Vec<&str> = row.outcomes.iter().map(|outcome| outcome.as_str()).collect();
        lines.row(vec![
            row.field.as_str().to_owned(),
            if row.inherited { "may be" } else { "no" }.to_owned(),
            row.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", "),
            if outcomes.is_empty() { "in any way".to_owned() } else { outcomes.join(", ") },
        ]);
    }
    text.push_str(&(lines.lines(120).join("\n") + "\n"));
    context.output.result(&text)?;
    Ok(Exit::Clean)
}

fn check(file: &Path, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let contract = load(file)?;
    if json {
        context.output.json(&json!({
            "label": contract.label(), "digest": contract.digest(), "mode": contract.mode(),
            "rows": contract.require().len(),
        }))?;
    } else {
        context.output.result(&format!(
            "{}: {}, {}\n  {}\n",
            visible(contract.label()),
            contract.mode().as_str(),
            counted(contract.require().len() as u64, "row"),
            contract.digest()
        ))?;
    }
    Ok(Exit::Clean)
}

fn put_in_force(file: &Path, attribution: &Attribution, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let contract = load(file)?;
    let ledger = context.writer(WHILE_SERVED)?;
    let receipt = contract::activate(&ledger, &contract, &attribution.by, &attribution.reason)?;
    ledger.settle()?;
    let known = receipt.duplicates > 0;
    if json {
        context.output.json(&json!({
            "label": contract.label(), "digest": contract.digest(), "mode": contract.mode(),
            "seq": receipt.seqs.first(), "already_in_force": known,
        }))?;
    } else {
        let what = if known { "was in force already" } else { "is in force from now on" };
        context.output.result(&format!(
            "{} ({}) {what}\n  {}\n",
            visible(contract.label()),
            contract.mode().as_str(),
            contract.digest()
        ))?;
    }
    Ok(Exit::Clean)
}

fn judge(dry_run: bool, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = if dry_run { context.reader()? } else { context.writer(WHILE_SERVED)? };
    let view = viewing::view(&ledger, 0..ledger.head().size, LabelSource::defaults(), context, &mut |_| {})?;
    let outcome = if dry_run {
        contract::plan(&view, &Verdicts::read(&ledger)?).0
    } else {
        let outcome = contract::run(&ledger, &view)?;
        ledger.settle()?;
        outcome
    };
    if json {
        context.output.json(&outcome)?;
    } else {
        context.output.result(&format!(
            "{} settled: {} met, {} unmet\n{} not settled yet\n{} {}, {} quarantined, {} released by late data\n",
            counted(outcome.checked, "action"),
            outcome.met,
            outcome.unmet,
            outcome.unsettled,
            counted(outcome.verdicts, "verdict"),
            if dry_run { "would be recorded" } else { "recorded" },
            outcome.quarantined,
            outcome.released
        ))?;
    }
    Ok(if outcome.quarantined > 0 { Exit::Finding } else { Exit::Clean })
}

/// Coverage of what has settled, and the places of what does not meet the contract.
fn settled(view: &View) -> (Coverage, Vec<(usize, Vec<Field>)>) {
    let mut coverage = Coverage::default();
    let mut unmet = Vec::new();
    for (at, action) in view.actions.iter().enumerate().filter(|(_, action)| action.settled) {
        let Some(judgement) = view.judgement(at) else { continue };
        coverage.add(&judgement);
        if !judgement.is_met() {
            debug_assert!(action.settled);
            unmet.push((at, judgement.missing));
        }
    }
    (coverage, unmet)
}

fn report(fail_on_unmet: bool, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let view = viewing::view(&ledger, 0..ledger.head().size, LabelSource::defaults(), context, &mut |_| {})?;
    let verdicts = Verdicts::read(&ledger)?;
    let (coverage, unmet) = settled(&view);
    let open: Vec<&Held> =
        view.rules.quarantine.holds().iter().filter(|held| held.released.is_none()).collect();
    if json {
        let unmet: Vec<Value> = unmet
            .iter()
            .take(LISTED_MAX)
            .filter_map(|(at, missing)| {
                let action = view.actions.get(*at)?;
                Some(json!({
                    "action": action.key, "kind": action.kind, "name": action.name, "trace_id": action.trace_id,
                    "missing": missing, "verdict_entry": verdicts.last(action.key).map(|past| past.seq),
                }))
            })
            .collect();
        context.output.json(&json!({
            "contract": view.rules.contract.id(), "mode": view.rules.contract.mode(), "coverage": coverage,
            "unmet": unmet, "unmet_count": coverage.actions - coverage.met,
            "quarantined": open, "released": view.rules.quarantine.holds().len() - open.len(),
        }))?;
    } else {
        context.output.result(&told(&view, &coverage, &unmet, &open))?;
    }
    let fails = fail_on_unmet && coverage.met < coverage.actions;
    Ok(if fails { Exit::Finding } else { Exit::Clean })
}

fn told(view: &View, coverage: &Coverage, unmet: &[(usize, Vec<Field>)], open: &[&Held]) -> String {
    let mut text = format!(
        "{} ({})\n{} of {} settled actions meet it\n",
        visible(view.rules.contract.label()),
        view.rules.contract.mode().as_str(),
        coverage.met,
        coverage.actions
    );
    let mut lines = Lines::new(&[
        ("field", Align::Left),
        ("asked of", Align::Right),
        ("own", Align::Right),
        ("after inheritance", Align::Right),
    ]);
    for (field, one) in &coverage.fields {
        lines.row(vec![
            field.as_str().to_owned(),
            one.asked.to_string(),
            share(one.own, one.asked),
            share(one.own + one.inherited, one.asked),
        ]);
    }
    text.push_str(&(lines.lines(120).join("\n") + "\n"));
    let names = |fields: &[Field]| fields.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(", ");
    if !unmet.is_empty() {
        let mut lines =
            Lines::new(&[("entry", Align::Right), ("action", Align::Left), ("missing", Align::Left)]);
        for (at, missing) in unmet.iter().take(LISTED_MAX) {
            if let Some(action) = view.actions.get(*at) {
                lines.row(vec![
                    action.key.to_string(),
                    format!("{} {}", action.kind.as_str(), visible(&action.name)),
                    names(missing),
                ]);
            }
        }
        text.push_str(&(lines.lines(160).join("\n") + "\n"));
        if unmet.len() > LISTED_MAX {
            text.push_str(&format!("{} more\n", unmet.len() - LISTED_MAX));
        }
    }
    text.push_str(&format!("quarantine: {}\n", counted(open.len() as u64, "hold")));
    for held in open.iter().take(LISTED_MAX) {
        let what = held.action.map_or_else(|| "an event".to_owned(), |key| format!("action {key}"));
        text.push_str(&format!("  entry {}: {what} lacks {}\n", held.seq, names(&held.missing)));
    }
    text
}

/// Writes a share in whole percents; never 100 when something is missing.
fn share(part: u64, all: u64) -> String {
    match part.saturating_mul(100).checked_div(all) {
        Some(percent) => format!("{percent} %"),
        None => "-".to_owned(),
    }
}

fn release(selected: &Selected, by: &str, reason: &str, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.writer(WHILE_SERVED)?;
    let (ended, receipt) = contract::release(&ledger, selected, &Releaser { by, reason, peer: None })?;
    ledger.settle()?;
    if json {
        let holds: Vec<String> = ended.iter().map(|held| held.seq.to_string()).collect();
        context.output.json(&json!({"released": holds, "entries": receipt.seqs}))?;
    } else {
        context.output.result(&format!("{} released\n", counted(ended.len() as u64, "hold")))?;
    }
    Ok(Exit::Clean)
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn nothing_that_is_missing_rounds_to_all() {
        assert_eq!([share(0, 0), share(1, 3), share(199, 200), share(2, 2)], ["-", "33 %", "99 %", "100 %"]);
    }
}
