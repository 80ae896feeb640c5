//! `verdict stats`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use verdict_diff::render::text::{amount, visible};
use verdict_diff::weight::Nano;
use verdict_ledger::action::{self, Action};
use verdict_ledger::clock::{Clock as _, SystemClock};
use verdict_ledger::{Ledger, Record};

use crate::cli::Context;
use crate::exit::{CliError, Exit};
use crate::progress::Progress;

/// An action without outcome counts as settled when its last event is this old.
pub(crate) const SETTLE_NS: u64 = 15 * 60 * 1_000_000_000;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict stats
  verdict stats --format json | jq .findings

Findings need no policy: `ungoverned` ran without a decision, `enforcement_failure` was blocked and ran,
`unfinished` was allowed and never ended, `conflict` has two decisions that differ.")]
pub(crate) struct Args {}

/// What is in a ledger.
#[derive(Debug, Default, Serialize)]
struct Stats {
    entries: u64,
    /// Entries after the newest checkpoint; many, or for long, mean that the signer of the log key does not work.
    unsigned: u64,
    events: u64,
    traces: u64,
    agents: u64,
    actions: u64,
    actions_by_kind: BTreeMap<String, u64>,
    decisions_by_effect: BTreeMap<String, u64>,
    /// Decisions that nothing acted on.
    shadow: u64,
    undecided: u64,
    outcomes: BTreeMap<String, u64>,
    findings: BTreeMap<String, u64>,
    system_facts: BTreeMap<String, u64>,
    input_tokens: u64,
    output_tokens: u64,
    cost_nano: BTreeMap<String, Nano>,
}

/// Counts.
pub(crate) fn run(context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let records = read(&ledger, context)?;
    let mut stats = count(&ledger, &records);
    let signed = ledger.checkpoints(1)?.first().map_or(0, |(size, _)| *size);
    stats.unsigned = stats.entries.saturating_sub(signed);
    if json {
        context.output.json(&stats)?;
    } else {
        context.output.result(&told(&stats))?;
    }
    Ok(Exit::Clean)
}

/// Reads every record of a ledger.
fn read(ledger: &Ledger, context: &Context) -> Result<Vec<Record>, CliError> {
    let size = ledger.head().size;
    let progress = Progress::start(context.output, "read");
    let mut records = Vec::new();
    for (done, record) in ledger.records(0..size).enumerate() {
        let mut record = record?;
        if let Some(event) = &mut record.event {
            // Most of the bytes, and nothing here counts them.
            event.attributes.clear();
            event.action.arguments = None;
        }
        records.push(record);
        if done.is_multiple_of(1_024) {
            progress.at(done as u64, size);
        }
    }
    Ok(records)
}

fn count(ledger: &Ledger, records: &[Record]) -> Stats {
    let mut stats = Stats { entries: ledger.head().size, ..Stats::default() };
    let mut traces = BTreeSet::new();
    for record in records {
        match &record.event {
            Some(event) => {
                stats.events += 1;
                traces.extend(event.trace_id);
            }
            None => *stats.system_facts.entry(record.kind.clone()).or_default() += 1,
        }
    }
    stats.traces = traces.len() as u64;
    let mut agents = BTreeSet::new();
    let actions = action::fold(records, SystemClock.now_ns().saturating_sub(SETTLE_NS));
    for action in &actions {
        agents.extend(action.agent_label().map(str::to_owned));
        stats.add(action);
    }
    stats.agents = agents.len() as u64;
    stats
}

impl Stats {
    fn add(&mut self, action: &Action) {
        self.actions += 1;
        *self.actions_by_kind.entry(action.kind.as_str().to_owned()).or_default() += 1;
        match action.ruling() {
            Some(ruling) if !ruling.decision.enforced => self.shadow += 1,
            Some(ruling) => {
                *self.decisions_by_effect.entry(ruling.decision.effect.to_string()).or_default() += 1;
            }
            None => self.undecided += 1,
        }
        if let Some(outcome) = action.outcome {
            *self.outcomes.entry(outcome.as_str().to_owned()).or_default() += 1;
        }
        for finding in &action.findings {
            *self.findings.entry(finding_name(*finding).to_owned()).or_default() += 1;
        }
        if let Some(usage) = action.own_usage() {
            self.input_tokens = self.input_tokens.saturating_add(usage.input_tokens.unwrap_or_default());
            self.output_tokens = self.output_tokens.saturating_add(usage.output_tokens.unwrap_or_default());
        }
        if let Some(cost) = action.cost() {
            let sum = self.cost_nano.entry(cost.currency.clone()).or_default();
            sum.0 = sum.0.saturating_add(i128::from(cost.nano));
        }
    }
}

/// Returns the wire name of a finding.
pub(crate) const fn finding_name(finding: action::Finding) -> &'static str {
    match finding {
        action::Finding::Ungoverned => "ungoverned",
        action::Finding::EnforcementFailure => "enforcement_failure",
        action::Finding::Unfinished => "unfinished",
        action::Finding::Conflict => "conflict",
    }
}

fn told(stats: &Stats) -> String {
    let group = |title: &str, counts: &BTreeMap<String, u64>| -> String {
        let counts: Vec<String> =
            counts.iter().map(|(name, count)| format!("{} {count}", visible(name))).collect();
        format!("{title:<12} {}\n", if counts.is_empty() { "-".to_owned() } else { counts.join(", ") })
    };
    let cost: Vec<String> = stats
        .cost_nano
        .iter()
        .map(|(currency, nano)| format!("{} {}", amount(*nano), visible(currency)))
        .collect();
    let mut text = format!(
        "entries      {}\n  unsigned   {}\nevents       {}\ntraces       {}\nagents       {}\nactions      {}\n",
        stats.entries, stats.unsigned, stats.events, stats.traces, stats.agents, stats.actions
    );
    text.push_str(&group("  by kind", &stats.actions_by_kind));
    text.push_str(&group("decisions", &stats.decisions_by_effect));
    text.push_str(&format!("  shadow     {}\n  none       {}\n", stats.shadow, stats.undecided));
    text.push_str(&group("outcomes", &stats.outcomes));
    text.push_str(&group("findings", &stats.findings));
    text.push_str(&group("facts", &stats.system_facts));
    text.push_str(&format!("tokens       {} in, {} out\n", stats.input_tokens, stats.output_tokens));
    text.push_str(&format!(
        "cost         {}\n",
        if cost.is_empty() { "-".to_owned() } else { cost.join(", ") }
    ));
    text
}
