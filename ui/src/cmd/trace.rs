//! `verdict trace`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::{time, visible};
use verdict_ledger::action::labels::LabelSource;
use verdict_ledger::action::{self, Action, Finding, Ruling};
use verdict_ledger::event::Trust;
use verdict_ledger::id::TraceId;
use verdict_ledger::view::{Rules, View};
use verdict_ledger::{Ledger, TraceRef};
use verdict_replay::graph::{Confidence, ExecutionGraph};

use super::graphing::{self, GraphArgs};
use super::stats::finding_name;
use super::{cost, viewing};
use crate::cli::Context;
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
  verdict trace graph 4bf92f3577b34da6a3ce929d0e0e4736 --downstream-of https://carrier.example/notices/7731
  verdict trace graph 4bf92f3577b34da6a3ce929d0e0e4736 --upstream-of 415 --confidence inferred --format json

The picture draws repeats as one when there are very many, and no edges of which only the order is known; dot and json
hold every step and every edge, with its reason. `verdict incident graph` joins the traces that belong together.")]
    Graph {
        /// Trace id (32 hexadecimal digits).
        id: TraceId,
        #[command(flatten)]
        graph: GraphArgs,
    },
}

/// Runs a trace command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::List { limit, before } => list(usize::from(*limit), *before, context),
        Command::Show { id } => show(id, context),
        Command::Graph { id, graph } => write_graph(id, graph, context),
    }
}

fn list(limit: usize, before: Option<u64>, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let traces = ledger.traces(before, limit)?;
    let settled_before_ns = viewing::settled_before_ns(context);
    let mut rows = Vec::with_capacity(traces.len());
    for trace in &traces {
        rows.push(Row::of(&ledger, *trace, settled_before_ns)?);
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
    fn of(ledger: &Ledger, trace: TraceRef, settled_before_ns: u64) -> Result<Self, CliError> {
        let actions = action::fold(&ledger.trace(&trace.trace_id)?, settled_before_ns);
        Ok(Self {
            trace,
            start_ns: actions.iter().map(|action| action.start_ns).filter(|ns| *ns > 0).min(),
            actions: actions.len(),
            stopped: actions
                .iter()
                // What was ruled out and ran all the same is a finding, and was not stopped.
                .filter(|action| !action.findings.contains(&Finding::EnforcementFailure))
                .filter_map(Action::ruling)
                .filter(|ruling| ruling.decision.enforced && !ruling.decision.effect.lets_run())
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

fn write_graph(id: &TraceId, args: &GraphArgs, context: &Context) -> Result<Exit, CliError> {
    let ledger = context.reader()?;
    let records = ledger.trace(id)?;
    if records.is_empty() {
        return Err(no_trace(id));
    }
    // Priced, so that each step has its cost.
    let rules = viewing::rules(&ledger, LabelSource::defaults())?;
    let view = View::of(&records, &rules, viewing::settled_before_ns(context));
    let graph = ExecutionGraph::of(&view.actions, &records);
    let flow = graph.trust_flow(Trust::External, Confidence::Order);
    graphing::write(&graph, args, &json!({"trace_id": id.to_string(), "trust_flow": flow}), context)
}

fn no_trace(id: &TraceId) -> CliError {
    CliError::unusable(format!("the ledger has no event of trace {id}"))
        .hint("`verdict trace list` shows the traces that are there")
}

fn show(id: &TraceId, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let rules = viewing::rules(&ledger, LabelSource::defaults())?;
    let view = View::of(&ledger.trace(id)?, &rules, viewing::settled_before_ns(context));
    if view.actions.is_empty() {
        return Err(no_trace(id));
    }
    if json {
        context.output.json(&report(id, &view, &rules))?;
        return Ok(Exit::Clean);
    }
    let start_ns = view.actions.iter().map(|action| action.start_ns).filter(|ns| *ns > 0).min();
    let mut text = format!("trace {id}\nstart {}\n", start_ns.map_or_else(|| "not stated".to_owned(), time));
    text.push_str(&actions_table(&view, start_ns));
    context.output.result(&text)?;
    context.output.note("(i) is inherited; ~ is from the price table");
    Ok(Exit::Clean)
}

/// Lists actions as a tree, how each was decided and how it ended.
pub(crate) fn actions_table(view: &View, start_ns: Option<u64>) -> String {
    let actions = &view.actions;
    let mut table = Table::new(&[
        ("entry", Align::Right),
        ("after", Align::Right),
        ("action", Align::Left),
        ("agent", Align::Left),
        ("user", Align::Left),
        ("decision", Align::Left),
        ("outcome", Align::Left),
        ("cost", Align::Right),
        ("findings", Align::Left),
        ("lacks", Align::Left),
    ]);
    for (depth, action) in as_tree(actions) {
        let indent = "  ".repeat(depth.min(12));
        let mut findings: Vec<&str> = action.findings.iter().map(|finding| finding_name(*finding)).collect();
        if view.rules.quarantine.holds_action(action) {
            findings.push("QUARANTINED");
        }
        let at = actions.binary_search_by_key(&action.key, |action| action.key).ok();
        let lacks =
            at.and_then(|at| view.judgement(at)).map(|judgement| judgement.missing).unwrap_or_default();
        table.row(vec![
            action.key.to_string(),
            after(action.start_ns, start_ns),
            format!("{indent}{} {}", action.kind.as_str(), visible(&action.name)),
            marked(action.agent.as_ref().and_then(|agent| Some((agent.value.label()?, agent.inherited)))),
            marked(action.user.as_ref().map(|user| (user.value.as_str(), user.inherited))),
            action.ruling().map_or_else(|| "-".to_owned(), decision),
            action.outcome.map_or("-", verdict_ledger::event::Status::as_str).to_owned(),
            cost::of_action(action),
            findings.join(", "),
            lacks.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(", "),
        ]);
    }
    table.lines(200).join("\n") + "\n"
}

/// Writes a value, and whether it is the action's own.
fn marked(value: Option<(&str, bool)>) -> String {
    match value {
        None => "-".to_owned(),
        Some((value, false)) => visible(value),
        Some((value, true)) => format!("{} (i)", visible(value)),
    }
}

fn report(id: &TraceId, view: &View, rules: &Rules) -> Value {
    let contract: Vec<Value> = view
        .actions
        .iter()
        .enumerate()
        .filter_map(|(at, action)| {
            let judgement = view.judgement(at)?;
            Some(json!({
                "action": action.key, "settled": action.settled, "met": judgement.is_met(),
                "missing": judgement.missing, "inherited": judgement.inherited,
            }))
        })
        .collect();
    let held: Vec<u64> = view
        .actions
        .iter()
        .filter(|action| view.rules.quarantine.holds_action(action))
        .map(|a| a.key)
        .collect();
    json!({
        "trace_id": id.to_string(), "actions": view.actions, "quarantined": held,
        "contract": {"id": rules.contract.id(), "judgements": contract}, "price_table": rules.table.id(),
    })
}

/// Returns an effect, marked where nothing acted on it.
fn decision(ruling: &Ruling) -> String {
    let effect = ruling.decision.effect;
    if ruling.decision.enforced { effect.to_string() } else { format!("{effect} (shadow)") }
}

/// Returns the time since the start of the trace, in seconds.
fn after(ns: u64, start_ns: Option<u64>) -> String {
    match start_ns.and_then(|start| ns.checked_sub(start)) {
        Some(after) => format!("{}.{:03} s", after / 1_000_000_000, after / 1_000_000 % 1_000),
        None => "-".to_owned(),
    }
}

/// Orders actions below the action that caused them, and by time beside each other, with their depth. A parent
/// comes from outside and may form a circle; what hangs on one is listed at the end.
fn as_tree(actions: &[Action]) -> Vec<(usize, &Action)> {
    let mut sorted: Vec<&Action> = actions.iter().collect();
    sorted.sort_by_key(|action| (action.start_ns, action.key));
    let known: BTreeSet<u64> = actions.iter().map(|action| action.key).collect();
    let mut below: BTreeMap<Option<u64>, Vec<&Action>> = BTreeMap::new();
    for action in &sorted {
        below.entry(action.parent.filter(|parent| known.contains(parent))).or_default().push(action);
    }
    let mut out = Vec::with_capacity(actions.len());
    let mut seen = BTreeSet::new();
    // The tops first; then whatever no top leads to.
    for top in below.get(&None).into_iter().flatten().copied().chain(sorted.iter().copied()) {
        let mut open = vec![(0, top)];
        while let Some((depth, action)) = open.pop() {
            if seen.insert(action.key) {
                out.push((depth, action));
                let children = below.get(&Some(action.key)).into_iter().flatten();
                open.extend(children.rev().map(|child| (depth + 1, *child)));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use verdict_ledger::Record;
    use verdict_ledger::event::Event;

    fn record(seq: u64, span: u64, parent: Option<u64>, start_ns: u64) -> Record {
        let mut event = json!({
            "id": format!("e{seq}"), "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "span_id": format!("{span:016x}"), "start_ns": start_ns.to_string(),
            "action": {"kind": "tool", "name": format!("t{seq}")},
        });
        if let Some(parent) = parent {
            event["parent_span_id"] = format!("{parent:016x}").into();
        }
        let event: Event = serde_json::from_value(event).unwrap();
        Record {
            seq,
            ts_ns: start_ns,
            kind: "action.reported".into(),
            body: serde_json::Map::new(),
            withheld: Vec::new(),
            event: Some(Box::new(event)),
        }
    }

    #[test]
    fn actions_stand_below_their_cause_and_circles_end() {
        let records = [
            record(1, 11, Some(10), 30),
            record(2, 12, Some(10), 20),
            record(3, 10, None, 10),
            record(4, 21, Some(22), 40),
            record(5, 22, Some(21), 50),
        ];
        let actions = action::fold(&records, 0);
        let order: Vec<(usize, u64)> =
            as_tree(&actions).into_iter().map(|(depth, action)| (depth, action.key)).collect();
        assert_eq!(order, [(0, 3), (1, 2), (1, 1), (0, 4), (1, 5)]);
    }

    #[test]
    fn times_are_since_the_start_of_the_trace() {
        assert_eq!((after(1_502_000_000, Some(1_000_000)), after(5, None)), ("1.501 s".into(), "-".into()));
    }
}
