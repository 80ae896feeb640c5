//! `verdict stats`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use verdict_diff::render::text::{amount, visible};
use verdict_diff::weight::Nano;
use verdict_ledger::Ledger;
use verdict_ledger::action::labels::LabelSource;
use verdict_ledger::action::{self, Action, Conflict};
use verdict_ledger::contract::Coverage;
use verdict_ledger::view::View;

use super::viewing;
use crate::cli::Context;
use crate::exit::{CliError, Exit};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict stats
  verdict stats --format json | jq .findings
  verdict stats --format json | jq .contract.coverage.fields

Findings need no policy: `ungoverned` ran without a decision, `enforcement_failure` was blocked and ran,
`unfinished` was allowed and never ended, `conflict` has two decisions that differ, or an event id that came with
different contents.

Costs that are marked ~ come from the price table in force. What is in quarantine is counted, and counts nowhere else.")]
pub(crate) struct Args {
    /// Count what is in quarantine like everything else.
    #[arg(long)]
    include_quarantined: bool,
}

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
    conflicts: Conflicts,
    quarantined: Quarantined,
    contract: Contracted,
    system_facts: BTreeMap<String, u64>,
    input_tokens: u64,
    output_tokens: u64,
    cost_nano: BTreeMap<String, Nano>,
    pricing: Priced,
}

/// What contradicts each other.
#[derive(Debug, Default, Serialize)]
struct Conflicts {
    /// Actions with enforced decisions that differ.
    decisions: u64,
    /// Event ids that came with different contents.
    statements: u64,
}

/// What is held back.
#[derive(Debug, Default, Serialize)]
struct Quarantined {
    actions: u64,
    /// Holds that ended.
    released: u64,
}

/// How much of what the contract asks for is stated, by what has settled.
#[derive(Debug, Default, Serialize)]
struct Contracted {
    id: String,
    label: String,
    mode: &'static str,
    coverage: Coverage,
    unsettled: u64,
}

/// Where costs are from.
#[derive(Debug, Default, Serialize)]
struct Priced {
    table: String,
    /// Actions with a reported cost.
    reported: u64,
    /// Actions that the table priced.
    priced: u64,
    /// Actions that have no cost though they should, by reason.
    unpriced: BTreeMap<&'static str, u64>,
    /// The part of `cost_nano` that is from the table.
    priced_nano: BTreeMap<String, Nano>,
}

/// Counts.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let mut stats = count(&ledger, args, context)?;
    let signed = ledger.checkpoints(1)?.first().map_or(0, |(size, _)| *size);
    stats.unsigned = stats.entries.saturating_sub(signed);
    if json {
        context.output.json(&stats)?;
    } else {
        context.output.result(&told(&stats))?;
    }
    Ok(Exit::Clean)
}

fn count(ledger: &Ledger, args: &Args, context: &Context) -> Result<Stats, CliError> {
    let size = ledger.head().size;
    let mut stats = Stats { entries: size, ..Stats::default() };
    let mut traces = BTreeSet::new();
    let view = viewing::view(ledger, 0..size, LabelSource::defaults(), context, &mut |record| match &record
        .event
    {
        Some(event) => {
            stats.events += 1;
            traces.extend(event.trace_id);
        }
        None => *stats.system_facts.entry(record.kind.clone()).or_default() += 1,
    })?;
    stats.traces = traces.len() as u64;
    stats.pricing.table = view.rules.table.id();
    stats.contract.id = view.rules.contract.id();
    view.rules.contract.label().clone_into(&mut stats.contract.label);
    stats.contract.mode = view.rules.contract.mode().as_str();
    let released = view.rules.quarantine.holds().iter().filter(|held| held.released.is_some());
    stats.quarantined.released = released.count() as u64;
    let mut agents = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (at, action) in view.actions.iter().enumerate() {
        let held = view.rules.quarantine.holds_action(action);
        stats.quarantined.actions += u64::from(held);
        if held && !args.include_quarantined {
            continue;
        }
        agents.extend(action.agent_label().map(str::to_owned));
        for conflict in &action.conflicts {
            match conflict {
                Conflict::Decisions { .. } => stats.conflicts.decisions += 1,
                Conflict::Statements { id, .. } => {
                    stats.conflicts.statements += u64::from(ids.insert(id.clone()));
                }
            }
        }
        stats.judge(&view, at, action);
        stats.add(action);
    }
    stats.agents = agents.len() as u64;
    Ok(stats)
}

impl Stats {
    fn judge(&mut self, view: &View, at: usize, action: &Action) {
        match view.judgement(at) {
            Some(judgement) if action.settled => self.contract.coverage.add(&judgement),
            Some(_) => self.contract.unsettled += 1,
            None => {}
        }
    }

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
        let add = |sums: &mut BTreeMap<String, Nano>, currency: &str, nano: i64| {
            let sum = sums.entry(currency.to_owned()).or_default();
            sum.0 = sum.0.saturating_add(i128::from(nano));
        };
        if let Some(cost) = action.cost() {
            add(&mut self.cost_nano, &cost.currency, cost.nano);
            if cost.basis == "reported" {
                self.pricing.reported += 1;
            } else {
                self.pricing.priced += 1;
                add(&mut self.pricing.priced_nano, &cost.currency, cost.nano);
            }
        }
        if let Some(reason) = action.unpriced {
            *self.pricing.unpriced.entry(reason.as_str()).or_default() += 1;
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
        .map(|(currency, nano)| {
            let mark = if stats.pricing.priced_nano.contains_key(currency) { "~" } else { "" };
            format!("{mark}{} {}", amount(*nano), visible(currency))
        })
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
    text.push_str(&format!(
        "conflicts    {} between decisions, {} between statements with one id\n",
        stats.conflicts.decisions, stats.conflicts.statements
    ));
    text.push_str(&format!(
        "quarantine   {} actions, {} holds released\n",
        stats.quarantined.actions, stats.quarantined.released
    ));
    let coverage = &stats.contract.coverage;
    text.push_str(&format!(
        "contract     {} ({}): {} of {} settled actions meet it, {} not settled\n",
        visible(&stats.contract.label),
        stats.contract.mode,
        coverage.met,
        coverage.actions,
        stats.contract.unsettled
    ));
    for (field, one) in &coverage.fields {
        text.push_str(&format!(
            "  {:<18} own {} of {}, after inheritance {}\n",
            field.as_str(),
            one.own,
            one.asked,
            one.own + one.inherited
        ));
    }
    text.push_str(&group("facts", &stats.system_facts));
    text.push_str(&format!("tokens       {} in, {} out\n", stats.input_tokens, stats.output_tokens));
    text.push_str(&format!(
        "cost         {}\n",
        if cost.is_empty() { "-".to_owned() } else { cost.join(", ") }
    ));
    let unpriced: Vec<String> =
        stats.pricing.unpriced.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    text.push_str(&format!(
        "  reported   {}\n  priced     {}\n  unpriced   {}\n",
        stats.pricing.reported,
        stats.pricing.priced,
        if unpriced.is_empty() { "0".to_owned() } else { unpriced.join(", ") }
    ));
    text
}
