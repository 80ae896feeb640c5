//! `verdict anchor`.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::json;
use verdict_ledger::Ledger;
use verdict_ledger::clock::{SystemClock, SystemEntropy};
use verdict_ui::anchor::{
    Anchors, Config, ConfigError, EXAMPLE, Outcome, PlaceReport, RunError, Stop, verify,
};

use crate::cli::Context;
use crate::exit::{CliError, Exit, Kind, chain};

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Give the newest checkpoint to the sinks in anchors.toml
    #[command(after_help = "\
Examples:
  verdict anchor run                     all sinks; run it from a timer, or let `verdict serve` do it
  verdict anchor run --sink second-team  one sink
  verdict anchor run --format json       with the receipts

Exit codes: 0 every sink has it; 3 a sink holds what contradicts the ledger (rolled back, rewritten),
or lost what it was given; 4 a sink could not be reached or refused.")]
    Run {
        /// Only this sink; may be given again.
        #[arg(long, value_name = "NAME")]
        sink: Vec<String>,
        /// Also to those that have this checkpoint.
        #[arg(long)]
        again: bool,
    },
    /// Compare the ledger with every checkpoint that was anchored
    #[command(after_help = "\
Examples:
  verdict anchor verify                  anchor log and all sinks; a witness is given the newest checkpoint
  verdict anchor verify --sink timestamp

Exit codes: 0 the ledger contains everything that was anchored; 3 it does not, and the missing or
rewritten range is named, or a sink lost what it was given; 4 a sink could not be asked.")]
    Verify {
        /// Only this sink; may be given again.
        #[arg(long, value_name = "NAME")]
        sink: Vec<String>,
    },
    /// Show what was anchored where, newest last
    List {
        /// At most so many, the newest.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Check anchors.toml without reaching any sink, or print an example of it
    #[command(after_help = "\
Examples:
  verdict anchor check-config
  verdict anchor check-config --example > anchors.toml")]
    CheckConfig {
        /// Print an example with every key instead.
        #[arg(long)]
        example: bool,
    },
}

/// Runs a command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Run { sink, again } => publish(sink, *again, context),
        Command::Verify { sink } => compare(sink, context),
        Command::List { limit } => list(*limit, context),
        Command::CheckConfig { example: true } => {
            context.output.result(EXAMPLE)?;
            Ok(Exit::Clean)
        }
        Command::CheckConfig { example: false } => check_config(context),
    }
}

/// Makes the sinks of settings.
pub(crate) fn sinks(config: &Config) -> Result<Anchors, CliError> {
    Ok(Anchors::new(config, Arc::new(SystemClock), Arc::new(SystemEntropy))?)
}

fn settings(context: &Context) -> Result<Config, CliError> {
    let path = context.anchors_path();
    let config = context.anchor_settings()?;
    config.filter(|config| config.sinks() > 0).ok_or_else(|| {
        CliError::unusable(format!("{} names no sinks", path.display()))
            .hint("`verdict anchor check-config --example` prints an example to start from")
    })
}

fn publish(names: &[String], again: bool, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let anchors = sinks(&settings(context)?)?;
    let ledger = context.reader()?;
    // Ctrl-C ends the process as ever; nothing here needs to be ended gently.
    let (_running, stop) = Stop::new();
    let reports = anchors.run(&ledger, names, again, &stop)?;
    let mut exit = Exit::Clean;
    for report in &reports {
        exit = match report.outcome {
            Outcome::Untrusted => Exit::Untrusted,
            Outcome::Failed if exit == Exit::Clean => Exit::Environment,
            _ => exit,
        };
    }
    if json {
        context.output.json(&json!({"origin": ledger.origin(), "sinks": reports}))?;
    } else {
        let mut text = String::new();
        for report in &reports {
            let outcome = match report.outcome {
                Outcome::Anchored => "anchored",
                Outcome::Already => "already",
                Outcome::Failed => "FAILED",
                Outcome::Untrusted => "UNTRUSTED",
            };
            let _ = writeln!(
                text,
                "{outcome:<10} {:<8} {} {} {}",
                report.kind,
                report.sink,
                super::entries(report.size.parse().unwrap_or_default()),
                report.detail
            );
        }
        context.output.result(&text)?;
    }
    Ok(exit)
}

fn compare(names: &[String], context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let config = context.anchor_settings()?.unwrap_or_default();
    let anchors = sinks(&config)?;
    let ledger = context.reader()?;
    let mut failed = None;
    let reports = verify(&anchors, &ledger, names, &mut |report| {
        if !json && failed.is_none() {
            failed = context.output.result(&line(report)).err();
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    let problems = || reports.iter().filter_map(|report| report.problem.as_ref());
    let exit = if problems().any(|problem| problem.untrusted) {
        Exit::Untrusted
    } else if problems().next().is_some() {
        Exit::Environment
    } else if reports.iter().all(|report| report.consistent == 0) {
        return Err(nothing(&ledger));
    } else {
        Exit::Clean
    };
    if json {
        context.output.json(&json!({
            "origin": ledger.origin(),
            "size": ledger.head().size.to_string(),
            "trusted": exit != Exit::Untrusted,
            "places": reports,
        }))?;
    } else if exit == Exit::Clean {
        let newest = reports.iter().filter_map(|report| report.newest.as_ref()?.parse::<u64>().ok()).max();
        let open = ledger.head().size.saturating_sub(newest.unwrap_or_default());
        context.output.note(&format!(
            "the ledger contains everything that was anchored; {} after the newest anchor",
            super::entries(open)
        ));
    }
    Ok(exit)
}

fn nothing(ledger: &Ledger) -> CliError {
    CliError::unusable(format!(
        "nothing was anchored: {} holds no record, and no sink holds a checkpoint",
        ledger.anchor_log().path().display()
    ))
    .hint("anchor the newest checkpoint with `verdict anchor run`")
}

fn line(report: &PlaceReport) -> String {
    let (verdict, detail) = match &report.problem {
        Some(problem) if problem.untrusted => ("UNTRUSTED", problem.detail.as_str()),
        Some(problem) => ("FAILED", problem.detail.as_str()),
        None if report.consistent == 0 => ("-", report.detail.as_str()),
        None => ("consistent", report.detail.as_str()),
    };
    let newest = report.newest.as_ref().map(|size| format!(" up to {size} entries,")).unwrap_or_default();
    format!(
        "{verdict:<10} {:<8} {}: {} checkpoints,{newest} {detail}\n",
        report.kind, report.place, report.consistent
    )
}

fn list(limit: usize, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.reader()?;
    let log = ledger.anchor_log();
    let mut records = std::collections::VecDeque::new();
    let read = log.read(|_, record| {
        if let Ok(record) = record {
            records.push_back(record);
            if records.len() > limit {
                records.pop_front();
            }
        }
    });
    read.map_err(|error| CliError::from(verdict_ledger::LedgerError::from(error)))?;
    if json {
        let log = log.path().display().to_string();
        context.output.json(&json!({"log": log, "records": records}))?;
        return Ok(Exit::Clean);
    }
    let mut text = String::new();
    for record in &records {
        let time = record.time.get(..19).unwrap_or(&record.time);
        let _ = writeln!(text, "{time}Z {:<8} {} {} entries", record.kind, record.sink, record.size());
    }
    context.output.result(&text)?;
    if records.is_empty() {
        context.output.note(&format!("{} holds no record", log.path().display()));
    }
    Ok(Exit::Clean)
}

fn check_config(context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let config = settings(context)?;
    let anchors = sinks(&config)?;
    let names = anchors.names();
    if json {
        let sinks: Vec<_> = names.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        context.output.json(&json!({
            "path": context.anchors_path().display().to_string(),
            "interval_seconds": config.interval_seconds,
            "timeout_seconds": config.timeout_seconds,
            "attempts": config.attempts,
            "sinks": sinks,
        }))?;
    } else {
        let mut text = format!(
            "interval_seconds {}\ntimeout_seconds  {}\nattempts         {}\n",
            config.interval_seconds, config.timeout_seconds, config.attempts
        );
        for (name, kind) in names {
            let _ = writeln!(text, "{kind:<16} {name}");
        }
        context.output.result(&text)?;
    }
    Ok(Exit::Clean)
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let message = chain(&error);
        match &error {
            ConfigError::Io { path, source } => Self::io("cannot read", path, source),
            _ => Self::unusable(message).hint("see `verdict anchor check-config --example` for every key"),
        }
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Ledger(error) => error.into(),
            RunError::Log(error) => verdict_ledger::LedgerError::from(error).into(),
            RunError::NoCheckpoint => Self::new(Kind::Unusable, error.to_string()).hint(
                "a checkpoint is signed by whatever writes the ledger, `verdict ingest` or `verdict serve`",
            ),
            RunError::UnknownSink { .. } => Self::unusable(error.to_string()),
        }
    }
}
