//! `verdict replay run`, and the runs that are kept.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use verdict_ledger::Ledger;
use verdict_ledger::event::{ActionKind, Effect};
use verdict_replay::policy::Policy;
use verdict_replay::run::stored::{Entry, Runs, StoredError};
use verdict_replay::run::{
    LedgerSource, Options, Replayed, Resume, Run, Sample, Scope, Select, Semantics, Sink, Summary, Tally,
    stream,
};

use super::super::find::parse_time;
use super::super::policy;
use super::tell::{told, told_list};
use super::{deliver, pinned};
use crate::cli::{Context, Selection};
use crate::exit::{CliError, Exit, Kind};
use crate::progress::Progress;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Policy: name@version, digest (its first 8 digits do), `active`, or a path with a `/`.
    #[arg(long, value_name = "REF")]
    policy: String,
    #[command(flatten)]
    selection: Selection,
    /// In which history a decision is made again.
    #[arg(long, value_enum, default_value_t = SemanticsArg::Causal, value_name = "SEMANTICS")]
    semantics: SemanticsArg,
    /// Only decisions about what this agent did; may be repeated, like all of these.
    #[arg(long = "agent", value_name = "NAME", help_heading = "Which decisions are shown")]
    agents: Vec<String>,
    /// Only this tool or other action.
    #[arg(long = "tool", value_name = "NAME", help_heading = "Which decisions are shown")]
    tools: Vec<String>,
    /// Only this tenant.
    #[arg(long = "tenant", value_name = "NAME", help_heading = "Which decisions are shown")]
    tenants: Vec<String>,
    /// Only actions of this kind: tool, data, message, agent, model.
    #[arg(long = "kind", value_name = "KIND", value_parser = parse_kind, help_heading = "Which decisions are shown")]
    kinds: Vec<ActionKind>,
    /// Only decisions that were recorded with this effect.
    #[arg(long = "effect", value_name = "EFFECT", value_parser = parse_effect, help_heading = "Which decisions are shown")]
    effects: Vec<Effect>,
    /// Only actions that started at this time or later: 2026-11-20, 2026-11-20T08:00:00Z, or 24h, 7d ago.
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Which decisions are shown")]
    since: Option<u64>,
    /// Only actions that started before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Which decisions are shown")]
    before: Option<u64>,
    /// Only so many of a hundred, chosen by chance that --seed repeats; pointwise replay only.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, help_heading = "Which decisions are shown")]
    sample: Option<u32>,
    /// Chooses another sample.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        requires = "sample",
        help_heading = "Which decisions are shown"
    )]
    seed: u64,
    /// Threads; the result is the same with any number.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Keep the run under this name; `verdict replay show NAME` shows it again.
    #[arg(long, value_name = "NAME", conflicts_with = "out")]
    save: Option<String>,
    /// Go on with the run of this name that was interrupted.
    #[arg(long, requires = "save")]
    resume: bool,
    /// Write the result here instead of to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Arguments that name a run.
#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    /// Name of the run.
    #[arg(value_name = "NAME")]
    name: String,
}

/// History that decisions are made in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SemanticsArg {
    /// Each in the state that history really had.
    Pointwise,
    /// In the state that the replayed decisions make: budgets, loops and cooldowns carry a change forward.
    Stateful,
    /// The same, and what a stopped step would have brought about is not reached.
    Causal,
}

impl From<SemanticsArg> for Semantics {
    fn from(semantics: SemanticsArg) -> Self {
        match semantics {
            SemanticsArg::Pointwise => Self::Pointwise,
            SemanticsArg::Stateful => Self::Stateful,
            SemanticsArg::Causal => Self::Causal,
        }
    }
}

/// Counts what goes by, and keeps it where that is wanted.
struct Counted<'s> {
    tally: Tally,
    header: verdict_replay::run::RunHeader,
    inner: &'s mut dyn Sink,
}

impl Sink for Counted<'_> {
    fn point(&mut self, point: Replayed) -> std::io::Result<()> {
        self.tally.add(&self.header, &point);
        self.inner.point(point)
    }

    fn pause(&mut self, pause: &dyn Fn() -> verdict_replay::run::Pause) -> std::io::Result<()> {
        self.inner.pause(pause)
    }
}

/// Keeps nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn point(&mut self, _: Replayed) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) fn run(args: &RunArgs, context: &Context) -> Result<Exit, CliError> {
    let as_json = context.output.is_json()?;
    let policy = policy::compile(&args.policy, context)?;
    let ledger = context.reader()?;
    let selection = pinned(&args.selection, ledger.head().size);
    let scope = scope(args, &selection);
    let (summary, tally, points) = if let Some(name) = &args.save {
        let (summary, tally) = kept(&ledger, &scope, &policy, args, name, context)?;
        (summary, tally, None)
    } else {
        let (mut points, mut nowhere) = (Vec::new(), Nowhere);
        let sink: &mut dyn Sink = if as_json { &mut points } else { &mut nowhere };
        let (summary, tally) = replayed(&ledger, &scope, &policy, args, None, sink, context)?;
        (summary, tally, as_json.then_some(points))
    };
    let text = match points {
        Some(points) => {
            let Summary { header, rules, digest, .. } = summary;
            pretty(&Run { header, points, rules, digest })?
        }
        None if as_json => pretty(&serde_json::json!({"run": summary, "tally": tally}))?,
        None => told(&summary, &tally),
    };
    deliver(args.out.as_ref(), &text, context)?;
    if let Some(name) = &args.save {
        context.output.note(&format!("kept as `{name}`; `verdict replay show {name}` shows it again"));
    }
    Ok(Exit::Clean)
}

fn scope(args: &RunArgs, selection: &Selection) -> Scope {
    let range = selection.range.unwrap_or_default();
    Scope {
        first_seq: range.first,
        end_seq: range.end,
        trace: selection.trace,
        select: Select {
            agents: args.agents.iter().cloned().collect(),
            names: args.tools.iter().cloned().collect(),
            tenants: args.tenants.iter().cloned().collect(),
            kinds: args.kinds.iter().copied().collect(),
            effects: args.effects.iter().copied().collect(),
            from_ns: args.since,
            until_ns: args.before,
            sample: args.sample.map(|per_million| Sample { per_million, seed: args.seed }),
        },
        semantics: args.semantics.into(),
    }
}

fn kept(
    ledger: &Ledger,
    scope: &Scope,
    policy: &Policy,
    args: &RunArgs,
    name: &str,
    context: &Context,
) -> Result<(Summary, Tally), CliError> {
    let runs = Runs::of(ledger);
    if !args.resume {
        let mut writer = runs.begin(name)?;
        let told = replayed(ledger, scope, policy, args, None, &mut writer, context)?;
        writer.finish(&told.0).map_err(|error| unwritten(name, &error))?;
        return Ok(told);
    }
    let (pause, mut told, mut writer) = runs.resume(name)?;
    // What is gone on with is what was begun: to the size that the ledger had then.
    let scope = Scope { end_seq: Some(pause.header.end_seq), ..scope.clone() };
    context.output.note(&format!("going on at entry {}", pause.at));
    let resume = Resume { pause, told: &mut told };
    let (summary, _) = replayed(ledger, &scope, policy, args, Some(resume), &mut writer, context)?;
    writer.finish(&summary).map_err(|error| unwritten(name, &error))?;
    // Counted from what was kept: two halves of a count are not one.
    Ok((summary, tally_of(&runs, name)?.1))
}

fn unwritten(name: &str, error: &std::io::Error) -> CliError {
    CliError::new(Kind::Environment, format!("cannot keep the run `{name}`: {error}"))
}

fn replayed(
    ledger: &Ledger,
    scope: &Scope,
    policy: &Policy,
    args: &RunArgs,
    resume: Option<Resume<'_>>,
    sink: &mut dyn Sink,
    context: &Context,
) -> Result<(Summary, Tally), CliError> {
    let source = LedgerSource::new(ledger)
        .map_err(|source| verdict_replay::run::ReplayError::Ledger { seq: 0, source })?;
    let options = Options { threads: args.threads, ..Options::default() };
    let progress = Progress::start(context.output, "replay");
    let header = verdict_replay::run::header(&source, scope, policy)?;
    let mut counted = Counted { tally: Tally::default(), header, inner: sink };
    let mut at = |done, all| progress.at(done, all);
    let summary = stream(&source, scope, policy, options, &mut at, resume, &mut counted)?;
    Ok((summary, counted.tally.finish()))
}

pub(super) fn list(context: &Context) -> Result<Exit, CliError> {
    let as_json = context.output.is_json()?;
    let ledger = context.reader()?;
    let entries: Vec<Entry> = Runs::of(&ledger).list()?;
    let text = if as_json { pretty(&entries)? } else { told_list(&entries) };
    context.output.result(&text)?;
    Ok(Exit::Clean)
}

pub(super) fn show(args: &NameArgs, context: &Context) -> Result<Exit, CliError> {
    let as_json = context.output.is_json()?;
    let ledger = context.reader()?;
    let (summary, tally) = tally_of(&Runs::of(&ledger), &args.name)?;
    let text = if as_json {
        pretty(&serde_json::json!({"run": summary, "tally": tally}))?
    } else {
        told(&summary, &tally)
    };
    context.output.result(&text)?;
    Ok(Exit::Clean)
}

pub(super) fn delete(args: &NameArgs, context: &Context) -> Result<Exit, CliError> {
    let ledger = context.reader()?;
    Runs::of(&ledger).delete(&args.name)?;
    context.output.note(&format!("deleted the run `{}`", args.name));
    Ok(Exit::Clean)
}

fn tally_of(runs: &Runs, name: &str) -> Result<(Summary, Tally), CliError> {
    let summary = runs.summary(name)?;
    let mut tally = Tally::default();
    for point in runs.points(name)? {
        let point = point.map_err(|error| {
            CliError::new(Kind::Untrusted, format!("the points of the run `{name}` cannot be read: {error}"))
                .hint(format!("delete it with `verdict replay delete {name}` and make it again"))
        })?;
        tally.add(&summary.header, &point);
    }
    Ok((summary, tally.finish()))
}

fn pretty(value: &impl serde::Serialize) -> Result<String, CliError> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| {
        CliError::new(Kind::Environment, format!("cannot write the run as JSON: {error}"))
    })?;
    text.push('\n');
    Ok(text)
}

fn parse_kind(text: &str) -> Result<ActionKind, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| "expected tool, data, message, agent or model".to_owned())
}

fn parse_effect(text: &str) -> Result<Effect, String> {
    let known = || Effect::ALL.map(Effect::as_str).join(", ");
    Effect::ALL
        .into_iter()
        .find(|effect| effect.as_str() == text)
        .ok_or_else(|| format!("expected one of {}", known()))
}

/// Reads a percentage with up to four decimals as points in a million.
fn parse_percent(text: &str) -> Result<u32, String> {
    let expected = || "expected a percentage above 0 and up to 100, like 5 or 0.25".to_owned();
    let text = text.strip_suffix('%').unwrap_or(text);
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 4 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(expected());
    }
    let whole: u32 = whole.parse().map_err(|_| expected())?;
    let fraction: u32 = format!("{fraction:0<4}").parse().map_err(|_| expected())?;
    let per_million = whole.checked_mul(10_000).and_then(|whole| whole.checked_add(fraction));
    per_million.filter(|share| (1..=1_000_000).contains(share)).ok_or_else(expected)
}

impl From<StoredError> for CliError {
    fn from(error: StoredError) -> Self {
        match &error {
            StoredError::Missing { .. } => Self::of(Kind::Unusable, &error)
                .hint("`verdict replay list` lists what is kept; `replay run --save NAME` keeps one"),
            StoredError::Unfinished { name } => Self::of(Kind::Unusable, &error)
                .hint(format!("go on with it: the same `replay run … --save {name} --resume`")),
            StoredError::Damaged { .. } => Self::of(Kind::Untrusted, &error),
            StoredError::Io { .. } => Self::of(Kind::Environment, &error),
            _ => Self::of(Kind::Unusable, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_exact() {
        assert_eq!(parse_percent("5"), Ok(50_000));
        assert_eq!(parse_percent("0.25%"), Ok(2_500));
        assert_eq!(parse_percent("100"), Ok(1_000_000));
        for bad in ["0", "101", "1.23456", "x", "1.x", "-1", "", "99999999999"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }
}
