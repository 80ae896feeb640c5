//! `verdict pricing`.

use std::path::{Path, PathBuf};

use serde_json::json;
use verdict_diff::render::table::{Align, Table as Lines};
use verdict_diff::render::text::{amount, counted, time, visible};
use verdict_diff::weight::Nano;
use verdict_ledger::pricing::{Price, Table, TableError, registry};

use super::files;
use crate::cli::{Attribution, Context};
use crate::exit::{CliError, Exit, Kind};

/// What to do when a server has the ledger open.
const WHILE_SERVED: &str = "a price table is an entry of the ledger: stop `verdict serve` (agents send again what it did not acknowledge), run this, start it again";

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the table in force, or the one that comes with this version
    #[command(after_help = "\
Examples:
  verdict pricing show
  verdict pricing show --default --file > prices.toml      a start for a table of your own")]
    Show {
        /// The table that comes with this version.
        #[arg(long)]
        default: bool,
        /// Write its file.
        #[arg(long)]
        file: bool,
    },
    /// Check a table and name what is wrong, with its place
    Check {
        /// Price table (TOML).
        file: PathBuf,
    },
    /// Put a table in force from now on; the ledger keeps it, so that what it priced can be priced again
    #[command(after_help = "\
Example:
  verdict pricing use prices.toml --by finops --reason 'new contract with the provider'")]
    Use {
        /// Price table (TOML).
        file: PathBuf,
        #[command(flatten)]
        attribution: Attribution,
    },
    /// List the tables that were put in force
    List,
}

/// Runs a pricing command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Show { default, file } => show(*default, *file, context),
        Command::Check { file } => check(file, context),
        Command::Use { file, attribution } => put_in_force(file, attribution, context),
        Command::List => list(context),
    }
}

fn load(path: &Path) -> Result<Table, CliError> {
    let bytes = files::read_small(path)?;
    Table::parse(&bytes).map_err(|error| CliError::from(error).at(path.display()))
}

impl From<TableError> for CliError {
    fn from(error: TableError) -> Self {
        Self::of(Kind::Unusable, &error)
            .hint("`verdict pricing show --default --file` writes one that can be used")
    }
}

fn show(default: bool, file: bool, context: &Context) -> Result<Exit, CliError> {
    let json = !file && context.output.is_json()?;
    let (table, activation) = if default {
        (Table::shipped()?, None)
    } else {
        let ledger = context.reader()?;
        registry::in_force(&ledger, ledger.head().size)?
    };
    if file {
        context.output.bytes(table.bytes())?;
        return Ok(Exit::Clean);
    }
    if json {
        context.output.json(&json!({
            "label": table.label(), "digest": table.digest(), "id": table.id(), "activation": activation,
            "prices": table.prices(),
        }))?;
        return Ok(Exit::Clean);
    }
    let since = activation.map_or_else(
        || "comes with this version".to_owned(),
        |activation| format!("in force since entry {}, by {}", activation.seq, visible(&activation.by)),
    );
    let mut text = format!("{}\n  {}\n  {since}\n", visible(table.label()), table.digest());
    let mut lines = Lines::new(&[
        ("provider", Align::Left),
        ("model", Align::Left),
        ("from", Align::Left),
        ("input", Align::Right),
        ("output", Align::Right),
        ("cache read", Align::Right),
        ("cache write", Align::Right),
        ("", Align::Left),
        ("read", Align::Left),
    ]);
    for price in table.prices() {
        lines.row(row(price));
    }
    text.push_str(
        &(lines.lines(160).join("\n") + "\nfor a million tokens; sources are in the file (--file)\n"),
    );
    context.output.result(&text)?;
    Ok(Exit::Clean)
}

fn row(price: &Price) -> Vec<String> {
    let rate = |rate: Option<i64>| rate.map_or_else(|| "-".to_owned(), |nano| amount(Nano(i128::from(nano))));
    let mut model = visible(&price.model);
    if let Some(variant) = &price.variant {
        model.push_str(&format!(" ({})", visible(variant)));
    }
    if price.above_input_tokens > 0 {
        model.push_str(&format!(" above {} input", price.above_input_tokens));
    }
    vec![
        visible(&price.provider),
        model,
        price.from.to_string(),
        rate(price.rates.input),
        rate(price.rates.output),
        rate(price.rates.cache_read),
        rate(price.rates.cache_write),
        price.currency.clone(),
        price.read.to_string(),
    ]
}

fn check(file: &Path, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let table = load(file)?;
    if json {
        context.output.json(
            &json!({"label": table.label(), "digest": table.digest(), "prices": table.prices().len()}),
        )?;
    } else {
        context.output.result(&format!(
            "{}: {}\n  {}\n",
            visible(table.label()),
            counted(table.prices().len() as u64, "price"),
            table.digest()
        ))?;
    }
    Ok(Exit::Clean)
}

fn put_in_force(file: &Path, attribution: &Attribution, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    // Before the ledger is opened: what cannot be used must not wait for the writer.
    let table = load(file)?;
    let ledger = context.writer(WHILE_SERVED)?;
    let receipt = registry::activate(&ledger, &table, &attribution.by, &attribution.reason)?;
    ledger.settle()?;
    let known = receipt.duplicates > 0;
    if json {
        context.output.json(&json!({
            "label": table.label(), "digest": table.digest(), "seq": receipt.seqs.first(), "already_in_force": known,
        }))?;
    } else {
        let what = if known { "was in force already" } else { "is in force from now on" };
        context.output.result(&format!("{} {what}\n  {}\n", visible(table.label()), table.digest()))?;
    }
    Ok(Exit::Clean)
}

fn list(context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let history = registry::history(&context.reader()?)?;
    if json {
        context.output.json(&json!({"tables": history}))?;
        return Ok(Exit::Clean);
    }
    if history.is_empty() {
        context.output.note("no table was put in force; the one that comes with this version prices");
        return Ok(Exit::Clean);
    }
    let mut lines = Lines::new(&[
        ("entry", Align::Right),
        ("since", Align::Left),
        ("table", Align::Left),
        ("digest", Align::Left),
        ("by", Align::Left),
        ("why", Align::Left),
    ]);
    for activation in &history {
        lines.row(vec![
            activation.seq.to_string(),
            time(activation.ts_ns),
            visible(&activation.label),
            activation.digest.to_string().chars().take("sha256:".len() + 16).collect(),
            visible(&activation.by),
            visible(&activation.reason),
        ]);
    }
    context.output.result(&(lines.lines(160).join("\n") + "\n"))?;
    Ok(Exit::Clean)
}
