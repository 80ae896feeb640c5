//! `verdict incident`.

use serde_json::{Value, json};
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::{counted, time, visible};
use verdict_ledger::Ledger;
use verdict_ledger::action::labels::LabelSource;
use verdict_ledger::event::Trust;
use verdict_ledger::id::TraceId;
use verdict_ledger::view::View;
use verdict_replay::graph::{Confidence, ExecutionGraph};
use verdict_replay::incident::{Incident, IncidentError, Join, Limits, Seed};

use super::graphing::{self, GraphArgs};
use super::{trace, viewing};
use crate::cli::Context;
use crate::exit::{CliError, Exit, Kind};

/// Flows that are listed.
const FLOWS_MAX: usize = 40;

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show which traces belong together and why, what happened in them, and what outside sources reached
    #[command(after_help = "\
Examples:
  verdict incident show --trace 4bf92f3577b34da6a3ce929d0e0e4736
  verdict incident show --approval approval-311 --format json
  verdict incident show --event 412 --max-traces 200

Traces are joined by links, by approvals and by sessions, each with the event that says so. Whatever stops at a limit
is said. Links and approvals that others state are looked for around the place that was asked for; see --scan.")]
    Show {
        #[command(flatten)]
        around: Around,
    },
    /// Write one execution graph over all traces of an incident
    #[command(after_help = "\
Examples:
  verdict incident graph --session session-returns-9 > incident.svg
  verdict incident graph --event 412 --downstream-of https://carrier.example/notices/7731
  verdict incident graph --event 412 --upstream-of 415 --confidence inferred
  verdict incident graph --approval approval-311 --format json | jq '.trust_flow.flows[] | .path'")]
    Graph {
        #[command(flatten)]
        around: Around,
        #[command(flatten)]
        graph: GraphArgs,
    },
}

/// What an incident is around.
#[derive(Debug, clap::Args)]
pub(crate) struct Around {
    #[command(flatten)]
    seed: SeedArg,
    /// Traces that are taken in at most.
    #[arg(long, default_value_t = Limits::default().traces, value_name = "N")]
    max_traces: usize,
    /// Events that are taken in at most.
    #[arg(long, default_value_t = Limits::default().events, value_name = "N")]
    max_events: usize,
    /// Entries in which links and approvals are looked for, around what was asked for.
    #[arg(long, default_value_t = Limits::default().scan, value_name = "N")]
    scan: u64,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct SeedArg {
    /// A trace (32 hexadecimal digits).
    #[arg(long, value_name = "ID")]
    trace: Option<TraceId>,
    /// A session.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// An approval.
    #[arg(long, value_name = "ID")]
    approval: Option<String>,
    /// An event, by position or id.
    #[arg(long, value_name = "SEQ|ID")]
    event: Option<String>,
}

impl SeedArg {
    fn seed(&self, ledger: &Ledger) -> Result<Seed, CliError> {
        Ok(match (&self.trace, &self.session, &self.approval, &self.event) {
            (Some(trace), ..) => Seed::Trace(*trace),
            (_, Some(session), ..) => Seed::Session(session.clone()),
            (_, _, Some(approval), _) => Seed::Approval(approval.clone()),
            (_, _, _, event) => Seed::Event(position(ledger, event.as_deref().unwrap_or_default())?),
        })
    }
}

/// Finds an event by position or id.
pub(crate) fn position(ledger: &Ledger, event: &str) -> Result<u64, CliError> {
    if let Ok(seq) = event.parse() {
        return Ok(seq);
    }
    match ledger.find_id(event)?.as_slice() {
        [seq] => Ok(*seq),
        [] => Err(CliError::unusable(format!("the ledger has no event `{}`", visible(event)))
            .hint("`verdict find` shows positions and ids")),
        several => {
            let seqs: Vec<String> = several.iter().take(8).map(u64::to_string).collect();
            Err(CliError::unusable(format!("{} events have the id `{}`", several.len(), visible(event)))
                .hint(format!("name one by its position: {}", seqs.join(", "))))
        }
    }
}

/// Runs an incident command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Show { around } => show(around, context),
        Command::Graph { around, graph } => {
            let (incident, view) = collect(around, context)?;
            let drawn = ExecutionGraph::of(&view.actions, &incident.records);
            told(&incident, context);
            graphing::write(&drawn, graph, &members(&incident, &drawn), context)
        }
    }
}

fn collect(around: &Around, context: &Context) -> Result<(Incident, View), CliError> {
    let ledger = context.reader()?;
    let limits = Limits { traces: around.max_traces, events: around.max_events, scan: around.scan };
    let seed = around.seed.seed(&ledger)?;
    let incident = Incident::collect(&ledger, seed, ledger.head().size, limits)?;
    let rules = viewing::rules(&ledger, LabelSource::defaults())?;
    let view = View::of(&incident.records, &rules, viewing::settled_before_ns(context));
    Ok((incident, view))
}

/// Says on stderr where the search stopped.
fn told(incident: &Incident, context: &Context) {
    for stop in &incident.stops {
        context.output.warn(&visible(&stop.to_string()));
    }
}

fn members(incident: &Incident, graph: &ExecutionGraph) -> Value {
    json!({
        "incident": incident.summary(),
        "trust_flow": graph.trust_flow(Trust::External, Confidence::Order),
    })
}

fn show(around: &Around, context: &Context) -> Result<Exit, CliError> {
    let as_json = context.output.is_json()?;
    let (incident, view) = collect(around, context)?;
    let graph = ExecutionGraph::of(&view.actions, &incident.records);
    if as_json {
        let mut report = members(&incident, &graph);
        if let Some(report) = report.as_object_mut() {
            report.insert("actions".to_owned(), json!(view.actions));
        }
        context.output.json(&report)?;
        return Ok(Exit::Clean);
    }
    told(&incident, context);
    let start_ns = view.actions.iter().map(|action| action.start_ns).filter(|ns| *ns > 0).min();
    let mut text = format!(
        "incident around {}\n{} in {}, {}, from {}\n",
        visible(&incident.seed.to_string()),
        counted(incident.records.len() as u64, "event"),
        counted(incident.members.len() as u64, "trace"),
        counted(view.actions.len() as u64, "action"),
        start_ns.map_or_else(|| "a time that is not stated".to_owned(), time),
    );
    let mut table = Table::new(&[
        ("trace", Align::Left),
        ("entry", Align::Right),
        ("events", Align::Right),
        ("joined by", Align::Left),
    ]);
    for member in &incident.members {
        table.row(vec![
            member.trace_id.map_or_else(|| "without a trace".to_owned(), |trace| trace.to_string()),
            member.first_seq.to_string(),
            member.events.to_string(),
            visible(&join_words(&member.joined)),
        ]);
    }
    text.push_str(&(table.lines(160).join("\n") + "\n\n"));
    text.push_str(&trace::actions_table(&view, start_ns));
    text.push('\n');
    text.push_str(&graphing::trust_lines(&graph, FLOWS_MAX));
    context.output.result(&text)?;
    context.output.note("(i) is inherited; ~ is from the price table");
    Ok(Exit::Clean)
}

fn join_words(join: &Join) -> String {
    match join {
        Join::Asked => "asked for".to_owned(),
        Join::Link { rel, seq } => format!("link {rel} of event {seq}"),
        Join::Approval { approval_id, seq } => format!("approval {approval_id}, named by event {seq}"),
        Join::Session { session, seq } => format!("session {session}, stated by event {seq}"),
    }
}

impl From<IncidentError> for CliError {
    fn from(error: IncidentError) -> Self {
        match error {
            IncidentError::Ledger(error) => error.into(),
            IncidentError::Query(error) => error.into(),
            IncidentError::NoApproval { .. } => Self::unusable(error.to_string())
                .hint("--scan N looks at more entries; `verdict find --text approval` may find its event"),
            IncidentError::Unknown { .. } => Self::unusable(error.to_string())
                .hint("`verdict find` and `verdict trace list` show what is there"),
            IncidentError::NoAction { .. } => Self::unusable(error.to_string())
                .hint("`verdict find --type action.reported` shows events of actions"),
            _ => Self::of(Kind::Environment, &error),
        }
    }
}
