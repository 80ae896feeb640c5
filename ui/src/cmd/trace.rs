//! `verdict trace`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::{time, visible};
use verdict_ledger::action::{self, Action};
use verdict_ledger::clock::{Clock as _, SystemClock};
use verdict_ledger::id::TraceId;
use verdict_ledger::{Ledger, Record, TraceRef};
use verdict_replay::graph::ExecutionGraph;

use super::files;
use super::stats::{SETTLE_NS, finding_name};
use crate::cli::{Context, Format};
use crate::exit::{CliError, Exit};

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List traces, newest first
    List {
        /// How many.
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
        limit: u16,
        /// Only traces that start before this entry.
        #[arg(long, value_name = "SEQ")]
        before: Option<u64>,
    },
    /// Show the actions of a trace, how each was decided and how it ended
    Show {
        /// Trace id (32 hexadecimal digits).
        id: TraceId,
    },
    /// Write the execution graph of a trace: who acted, what informed it, what ruled, what happened
    #[command(after_help = "\
Examples:
  verdict trace graph 4bf92f3577b34da6a3ce929d0e0e4736 > trace.svg
  verdict trace graph 4bf92f3577b34da6a3ce929d0e0e4736 --format dot | dot -Tpdf > trace.pdf

The picture draws repeats as one when there are very many; dot and json hold every step.")]
    Graph {
        /// Trace id (32 hexadecimal digits).
        id: TraceId,
        /// Write here instead of to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Runs a trace command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::List { limit, before } => list(usize::from(*limit), *before, context),
        Command::Show { id } => show(id, context),
        Command::Graph { id, out } => graph(id, out.as_deref(), context),
    }
}

fn list(limit: usize, before: Option<u64>, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let traces = ledger.traces(before, limit)?;
    let mut rows = Vec::with_capacity(traces.len());
    for trace in &traces {
        rows.push(Row::of(&ledger, *trace)?);
    }
    if json {
        let traces: Vec<Value> = rows.iter().map(Row::json).collect();
        context.output.json(&json!({"traces": traces}))?;
        return Ok(Exit::Clean);
    }
    if rows.is_empty() {
        context.output.note("no traces; `verdict ingest FILE` adds some");
        return Ok(Exit::Clean);
    }
    let mut table = Table::new(&[
        ("trace", Align::Left),
        ("entry", Align::Right),
        ("start", Align::Left),
        ("actions", Align::Right),
        ("stopped", Align::Right),
        ("findings", Align::Right),
        ("agents", Align::Left),
    ]);
    for row in &rows {
        table.row(vec![
            row.trace.trace_id.to_string(),
            row.trace.first_seq.to_string(),
            row.start_ns.map_or_else(|| "-".to_owned(), time),
            row.actions.to_string(),
            row.stopped.to_string(),
            row.findings.to_string(),
            visible(&row.agents.iter().cloned().collect::<Vec<_>>().join(", ")),
        ]);
    }
    // The trace id is what the next command needs: a terminal may wrap, the id is never cut.
    context.output.result(&(table.lines(160).join("\n") + "\n"))?;
    if rows.len() == limit {
        let next = rows.last().map_or(0, |row| row.trace.first_seq);
        context.output.note(&format!("there may be more: --before {next}"));
    }
    Ok(Exit::Clean)
}

struct Row {
    trace: TraceRef,
    start_ns: Option<u64>,
    actions: usize,
    stopped: usize,
    findings: usize,
    agents: BTreeSet<String>,
}

impl Row {
    fn of(ledger: &Ledger, trace: TraceRef) -> Result<Self, CliError> {
        let actions = actions(ledger, &trace.trace_id)?;
        Ok(Self {
            trace,
            start_ns: actions.iter().map(|action| action.start_ns).filter(|ns| *ns > 0).min(),
            actions: actions.len(),
            stopped: actions
                .iter()
                .filter_map(Action::ruling)
                .filter(|ruling| !ruling.decision.effect.lets_run())
                .count(),
            findings: actions.iter().map(|action| action.findings.len()).sum(),
            agents: actions.iter().filter_map(|action| action.agent_label().map(str::to_owned)).collect(),
        })
    }

    fn json(&self) -> Value {
        json!({
            "trace_id": self.trace.trace_id.to_string(),
            "first_seq": self.trace.first_seq,
            "start_ns": self.start_ns.map(|ns| ns.to_string()),
            "actions": self.actions,
            "stopped": self.stopped,
            "findings": self.findings,
            "agents": self.agents,
        })
    }
}

/// Folds the events of one trace.
fn actions(ledger: &Ledger, trace: &TraceId) -> Result<Vec<Action>, CliError> {
    Ok(fold(&ledger.trace(trace)?))
}

fn fold(records: &[Record]) -> Vec<Action> {
    action::fold(records, SystemClock.now_ns().saturating_sub(SETTLE_NS))
}

fn graph(id: &TraceId, out: Option<&Path>, context: &Context) -> Result<Exit, CliError> {
    let format = context.output.format(&[Format::Svg, Format::Dot, Format::Json])?;
    let records = context.reader()?.trace(id)?;
    if records.is_empty() {
        return Err(no_trace(id));
    }
    let graph = ExecutionGraph::of(&fold(&records), &records);
    let mut text = match format {
        Format::Json => format!("{:#}", graph.json()),
        Format::Dot => graph.dot(),
        _ => graph.svg(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    match out {
        None => context.output.result(&text)?,
        Some(path) => files::write(path, text.as_bytes())?,
    }
    Ok(Exit::Clean)
}

fn no_trace(id: &TraceId) -> CliError {
    CliError::unusable(format!("the ledger has no event of trace {id}"))
        .hint("`verdict trace list` shows the traces that are there")
}

fn show(id: &TraceId, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let actions = actions(&ledger, id)?;
    if actions.is_empty() {
        return Err(no_trace(id));
    }
    if json {
        context.output.json(&json!({"trace_id": id.to_string(), "actions": actions}))?;
        return Ok(Exit::Clean);
    }
    let mut text = format!("trace {id}\n");
    let depth = depths(&actions);
    let mut table = Table::new(&[
        ("entry", Align::Right),
        ("start", Align::Left),
        ("action", Align::Left),
        ("agent", Align::Left),
        ("decision", Align::Left),
        ("outcome", Align::Left),
        ("findings", Align::Left),
    ]);
    for action in &actions {
        let indent = "  ".repeat(depth.get(&action.key).copied().unwrap_or_default().min(12));
        let findings: Vec<&str> = action.findings.iter().map(|finding| finding_name(*finding)).collect();
        table.row(vec![
            action.key.to_string(),
            time(action.start_ns),
            format!("{indent}{} {}", action.kind.as_str(), visible(&action.name)),
            action.agent_label().map_or_else(|| "-".to_owned(), visible),
            action.ruling().map_or_else(|| "-".to_owned(), |ruling| ruling.decision.effect.to_string()),
            action.outcome.map_or("-", verdict_ledger::event::Status::as_str).to_owned(),
            findings.join(", "),
        ]);
    }
    text.push_str(&(table.lines(160).join("\n") + "\n"));
    context.output.result(&text)?;
    Ok(Exit::Clean)
}

/// Counts the ancestors of each action that are in the list. A parent comes from outside and may form a circle.
fn depths(actions: &[Action]) -> BTreeMap<u64, usize> {
    let parents: BTreeMap<u64, u64> =
        actions.iter().filter_map(|action| Some((action.key, action.parent?))).collect();
    let depth = |key: u64| {
        let mut seen = BTreeSet::from([key]);
        let mut at = key;
        while let Some(parent) = parents.get(&at) {
            if !seen.insert(*parent) {
                break;
            }
            at = *parent;
        }
        seen.len() - 1
    };
    actions.iter().map(|action| (action.key, depth(action.key))).collect()
}
