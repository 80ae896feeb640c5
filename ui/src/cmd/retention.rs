//! `verdict retention`.

use serde_json::{Value, json};
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::visible;
use verdict_ledger::clock::{Clock as _, SystemClock};
use verdict_ledger::erasure::{RETENTION_DAYS_MIN, RetentionRule};

use super::redact;
use super::selecting::WHILE_SERVED;
use crate::cli::{Attribution, Context};
use crate::exit::{CliError, Exit};

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show the rules in force
    Show,
    /// Say how long the values of a type of entry are kept
    #[command(after_help = "\
Examples:
  verdict retention set --days 400                     tenants without a rule of their own
  verdict retention set --tenant harbor --days 190
  verdict retention set --tenant court --forever

Only values go; entries and their proofs stay. The rule is an entry of the ledger. Less than 183
days (six months, which the EU AI Act asks of logs) needs --below-floor WHY, which stands in the
log.")]
    Set {
        /// Entry type.
        #[arg(long = "type", default_value = "action.reported", value_name = "TYPE")]
        kind: String,
        /// Only of this tenant.
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// Days.
        #[arg(long, value_name = "N", required_unless_present = "forever", conflicts_with = "forever")]
        days: Option<u32>,
        /// Without end.
        #[arg(long)]
        forever: bool,
        /// Why less than the floor.
        #[arg(long, value_name = "WHY")]
        below_floor: Option<String>,
        #[command(flatten)]
        attribution: Attribution,
    },
    /// Erase what is past its time, except what legal holds keep
    #[command(after_help = "\
Examples:
  verdict retention run --dry-run
  verdict retention run            from cron, once a day

Exit codes: 0 done, or shown; 1 a hold kept some of it.")]
    Run {
        /// Only say what would go.
        #[arg(long)]
        dry_run: bool,
        /// Who does this; recorded as given.
        #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true, value_name = "NAME")]
        by: String,
    },
}

/// Runs a retention command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let now_ns = SystemClock.now_ns();
    match command {
        Command::Show => {
            let rules = context.reader()?.retention()?;
            if json {
                context.output.json(&json!({"floor_days": RETENTION_DAYS_MIN, "rules": rules}))?;
            } else if rules.is_empty() {
                context.output.note("no rule is set: values are kept without end");
            } else {
                context.output.result(&table(&rules))?;
            }
        }
        Command::Set { kind, tenant, days, forever: _, below_floor, attribution } => {
            let rule = RetentionRule {
                kind: kind.clone(),
                tenant: tenant.clone(),
                days: *days,
                below_floor: below_floor.clone(),
                seq: 0,
            };
            let ledger = context.writer(WHILE_SERVED)?;
            let seq = ledger.set_retention(&rule, &attribution.by, &attribution.reason)?;
            ledger.settle()?;
            if json {
                context.output.json(&json!({"seq": seq, "kind": kind, "tenant": tenant, "days": days}))?;
            } else {
                context.output.result(&format!("the rule is set (entry {seq})\n"))?;
            }
        }
        Command::Run { dry_run: true, .. } => {
            let due = context.reader()?.retention_due(now_ns)?;
            if json {
                let plan = redact::plan_json(&due.plan);
                context.output.json(&with(plan, "rules", json!(due.rules)))?;
            } else {
                context.output.result(&redact::told(&due.plan))?;
            }
            return Ok(if due.plan.held.is_empty() { Exit::Clean } else { Exit::Finding });
        }
        Command::Run { by, .. } => {
            let ledger = context.writer(WHILE_SERVED)?;
            let (receipt, applied) = ledger.apply_retention(by, now_ns)?;
            ledger.settle()?;
            if json {
                let said = redact::receipt_json(&receipt);
                context.output.json(&with(said, "applied", json!(applied)))?;
            } else {
                context.output.result(&redact::done(&receipt))?;
            }
            return redact::ended(&receipt);
        }
    }
    Ok(Exit::Clean)
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Value::Object(members) = &mut object {
        members.insert(name.to_owned(), value);
    }
    object
}

fn table(rules: &[RetentionRule]) -> String {
    let mut table = Table::new(&[
        ("type", Align::Left),
        ("tenant", Align::Left),
        ("days", Align::Right),
        ("entry", Align::Right),
        ("below the floor because", Align::Left),
    ]);
    for rule in rules {
        table.row(vec![
            visible(&rule.kind),
            rule.tenant.as_deref().map_or_else(|| "any".to_owned(), visible),
            rule.days.map_or_else(|| "no end".to_owned(), |days| days.to_string()),
            rule.seq.to_string(),
            rule.below_floor.as_deref().map(visible).unwrap_or_default(),
        ]);
    }
    table.lines(120).join("\n") + "\n"
}
