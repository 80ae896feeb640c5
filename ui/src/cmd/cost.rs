//! `verdict cost`.

use serde_json::json;
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::{amount, counted, visible};
use verdict_diff::weight::Nano;
use verdict_ledger::action::Action;
use verdict_ledger::action::labels::LabelSource;
use verdict_ledger::id::TraceId;
use verdict_ledger::pricing::breakdown::{Breakdown, DIMENSIONS_MAX, Dimension, Row, breakdown};

use super::find::parse_time;
use super::viewing;
use crate::cli::Context;
use crate::exit::{CliError, Exit};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict cost --by agent,team --since 7d
  verdict cost --by model,day --format json | jq '.rows[] | select(.unpriced_count > 0)'
  verdict cost --by cost_center --label cost_center=genops.cost_center,metadata.cost_center

Dimensions: user, session, agent, service, environment, tenant, provider, model, day, and the labels team, feature and
customer, which are read from attributes of GenOps, OpenInference metadata and resources. A reported cost wins; tokens
without one are priced by the table in force (`verdict pricing show`) and marked ~. What the table does not know is
unpriced, never free. Currencies are never added. Each call counts once, whatever number of sources reported it.")]
pub(crate) struct Args {
    /// Tell costs apart by these, in this order.
    #[arg(long, value_name = "DIMENSION,…", value_delimiter = ',')]
    by: Vec<String>,
    /// Only calls that began at this time or later: 2026-11-20, 2026-11-20T08:00:00Z, or 90m, 24h, 7d ago.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<u64>,
    /// Only calls that began before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<u64>,
    /// Only this trace.
    #[arg(long, value_name = "ID")]
    trace: Option<TraceId>,
    /// Where a label is looked for, instead of the usual attributes.
    #[arg(long = "label", value_name = "NAME=ATTRIBUTE,…", value_parser = viewing::parse_label)]
    labels: Vec<LabelSource>,
    /// Count what is in quarantine too.
    #[arg(long)]
    include_quarantined: bool,
    /// How many rows; the rest is counted.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

/// Breaks costs down.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let labels = viewing::labels(&args.labels)?;
    let by = dimensions(&args.by, &labels)?;
    let ledger = context.reader()?;
    let view = viewing::view(&ledger, 0..ledger.head().size, labels, context, &mut |_| {})?;
    let mut left_out = 0_u64;
    let chosen = view.actions.iter().zip(&view.labels).filter(|(action, _)| {
        let wanted = args.since.is_none_or(|since| action.start_ns >= since)
            && args.until.is_none_or(|until| action.start_ns < until)
            && args.trace.is_none_or(|trace| action.is_in(&trace));
        let held = wanted && !args.include_quarantined && view.rules.quarantine.holds_action(action);
        left_out += u64::from(held);
        wanted && !held
    });
    let found = breakdown(chosen.map(|(action, labels)| (action, Some(labels))), &by);
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    if json {
        let mut report = found.json(&by, limit);
        if let Some(members) = report.as_object_mut() {
            members.insert("price_table".to_owned(), json!(view.rules.table.id()));
            members.insert("quarantined_left_out".to_owned(), json!(left_out));
        }
        context.output.json(&report)?;
        return Ok(Exit::Clean);
    }
    context.output.result(&told(&found, &by, limit))?;
    context.output.note(&format!("~ is from price table {}", view.rules.table.label()));
    if left_out > 0 {
        context.output.note(&format!(
            "{} in quarantine left out; --include-quarantined counts what is there too",
            counted(left_out, "action")
        ));
    }
    Ok(Exit::Clean)
}

/// Reads the names of dimensions; one that is neither a member of the model nor a label is a mistake.
fn dimensions(names: &[String], labels: &[LabelSource]) -> Result<Vec<Dimension>, CliError> {
    let names: Vec<&str> = names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
    if names.len() > DIMENSIONS_MAX {
        return Err(CliError::unusable(format!("--by takes at most {DIMENSIONS_MAX} dimensions")));
    }
    let mut by = Vec::with_capacity(names.len());
    for name in names {
        let dimension = Dimension::parse(name);
        if let Dimension::Label(label) = &dimension
            && !labels.iter().any(|source| source.name == *label)
        {
            let labels: Vec<&str> = labels.iter().map(|source| source.name.as_str()).collect();
            return Err(CliError::unusable(format!("`{label}` is no dimension")).hint(format!(
                "there are user, session, agent, service, environment, tenant, provider, model, day, {}; \
                 --label {label}=ATTRIBUTE makes another",
                labels.join(", ")
            )));
        }
        if by.contains(&dimension) {
            return Err(CliError::unusable(format!("`{name}` is given twice")));
        }
        by.push(dimension);
    }
    Ok(by)
}

fn told(found: &Breakdown, by: &[Dimension], limit: usize) -> String {
    let mut head: Vec<(&str, Align)> = by.iter().map(|dimension| (dimension.as_str(), Align::Left)).collect();
    if by.is_empty() {
        head.push(("", Align::Left));
    }
    head.extend(["cost", "calls", "unpriced", "input", "output", "cached"].map(|name| (name, Align::Right)));
    let mut table = Table::new(&head);
    for row in found.rows.iter().take(limit) {
        let values = row.values.iter().map(|value| value.as_deref().map_or_else(|| "-".to_owned(), visible));
        table.row(values.chain(numbers(row)).collect());
    }
    let mut total = vec![String::new(); by.len().max(1)];
    if let Some(first) = total.first_mut() {
        "total".clone_into(first);
    }
    total.extend(numbers(&found.total));
    table.row(total);
    let mut text = table.lines(160).join("\n") + "\n";
    if found.rows.len() > limit {
        text.push_str(&format!("{} more rows\n", found.rows.len() - limit));
    }
    for (reason, count) in &found.total.unpriced {
        text.push_str(&format!("unpriced {count}: {}\n", reason.words()));
    }
    text
}

fn numbers(row: &Row) -> [String; 6] {
    [
        money(row),
        row.actions.to_string(),
        if row.unpriced.is_empty() { "-".to_owned() } else { row.unpriced_count().to_string() },
        row.input_tokens.to_string(),
        row.output_tokens.to_string(),
        row.cache_read_tokens.saturating_add(row.cache_write_tokens).to_string(),
    ]
}

/// Writes what one action cost, or that nobody knows.
pub(crate) fn of_action(action: &Action) -> String {
    match (action.cost(), action.unpriced) {
        (Some(cost), _) => {
            let mark = if cost.basis == "reported" { "" } else { "~" };
            format!("{mark}{} {}", amount(Nano(i128::from(cost.nano))), visible(&cost.currency))
        }
        (None, Some(_)) => "unpriced".to_owned(),
        (None, None) => "-".to_owned(),
    }
}

/// Writes the sums of a row, one a currency; `~` marks those that a table is part of.
fn money(row: &Row) -> String {
    let sums: Vec<String> = row
        .cost
        .iter()
        .map(|(currency, sum)| {
            let mark = if row.priced > 0 && sum.priced != 0 { "~" } else { "" };
            format!("{mark}{} {}", amount(Nano(sum.total())), visible(currency))
        })
        .collect();
    if sums.is_empty() { "-".to_owned() } else { sums.join(" + ") }
}
