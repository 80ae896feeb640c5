//! The arguments of the command line. Each command's own are in its file under `cmd`.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use verdict_ledger::action::SETTLE_NS;
use verdict_ledger::clock::SystemClock;
use verdict_ledger::id::TraceId;
use verdict_ledger::key::Passphrases;
use verdict_ledger::{Ledger, LedgerError, OpenOptions};
use verdict_ui::anchor::Config;

use crate::cmd;
use crate::exit::CliError;
use crate::output::Output;
use crate::passphrase::Source;

/// Audit ledger for AI agents: keeps what was decided so that it cannot be quietly changed, and decides it again
/// under other policies.
#[derive(Debug, Parser)]
#[command(
    name = "verdict",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  verdict init                                    create ./verdict-ledger
  verdict ingest traces.json agent-log.jsonl      add recorded traffic
  verdict policy publish policies/v2 --activate   store a policy version and put it in force
  verdict replay diff --from shop@1 --to shop@2           what would have been decided otherwise?
  verdict export evidence --trace ID --out e.zip  a signed bundle for an auditor
  verdict verify e.zip --key auditor.keys         check it, without the ledger
  verdict find --effect block --since 24h         what was refused since yesterday?
  verdict explain 412                             who did it, on whose word, by which rule?
  verdict cost --by agent,team --since 7d         what did whom cost?
  verdict serve                                   web interface and OTLP/HTTP on 127.0.0.1:7878

Exit codes: 0 clean; 1 finding (tampering, gate fired, tests failed); 2 usage or unusable input;
3 cannot be trusted (unknown key, rolled back, not reproduced); 4 environment (files, port, disk)."
)]
pub(crate) struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    // The environment is read in `Context::of`: clap refuses a variable that is set to nothing, which is how
    // CI systems unset one.
    /// Ledger directory [env: VERDICT_LEDGER] [default: verdict-ledger].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) ledger: Option<PathBuf>,
    /// Lock file: where `init` puts it, best on another volume; elsewhere where it is now, if it was moved
    /// [env: VERDICT_LOCK].
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) lock: Option<PathBuf>,
    /// File whose first line is the passphrase of encrypted key files; without it the terminal asks
    /// [env: VERDICT_PASSPHRASE_FILE].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Where checkpoints are anchored [env: VERDICT_ANCHORS] [default: anchors.toml in the ledger directory].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) anchors: Option<PathBuf>,
    /// How long nothing must be heard of an action before what is missing counts as missing (90s, 15m, 2h)
    /// [env: VERDICT_SETTLE] [default: 15m].
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_settle)]
    pub(crate) settle: Option<u64>,
    /// Form of the result; a command says which it can write.
    #[arg(long, global = true, value_enum)]
    pub(crate) format: Option<Format>,
    /// Colour of results; `auto` is a terminal without NO_COLOR.
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
    /// Say nothing on stderr but warnings and errors.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
}

/// Form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people.
    Human,
    /// JSON.
    Json,
    /// Markdown for a pull-request comment (replay diff).
    Markdown,
    /// A picture (graphs).
    Svg,
    /// Graphviz (graphs).
    Dot,
    /// What Cedar's own tools read (policy schema, policy input).
    Cedar,
}

impl Format {
    /// Returns the name on the command line.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Svg => "svg",
            Self::Dot => "dot",
            Self::Cedar => "cedar",
        }
    }
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal without NO_COLOR.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a ledger: database, keys, lock file and first entry
    Init(cmd::init::Args),
    /// Add recorded traffic: OTLP, CloudEvents, OPA decision logs, MCP, LangChain, AISecOps, native events
    Ingest(cmd::ingest::Args),
    /// Serve the web interface, the API, OTLP/HTTP and OTLP/gRPC
    Serve(cmd::serve::Args),
    /// API tokens of the server: create, list, revoke
    #[command(subcommand)]
    Token(cmd::token::Command),
    /// Settings of the server: show where each comes from, check them
    #[command(subcommand)]
    Config(cmd::config::Command),
    /// Check the ledger, everything in it, and name the first bad place
    Fsck(cmd::fsck::Args),
    /// Check the ledger, an evidence bundle or a checkpoint
    Verify(cmd::verify::Args),
    /// Make indexes and tree hashes again from the entries
    Rebuild(cmd::rebuild::Args),
    /// Signed statements of the log about itself
    #[command(subcommand)]
    Checkpoint(cmd::checkpoint::Command),
    /// Checkpoints that live elsewhere: give them to others, and compare the ledger with what they hold
    #[command(subcommand)]
    Anchor(cmd::anchor::Command),
    /// Be a witness for other people's logs (C2SP tlog-witness)
    Witness(cmd::witness::Args),
    /// Policy versions: publish, activate, look at, check and test
    #[command(subcommand)]
    Policy(cmd::policy::Command),
    /// What recorded actions must state: contract, verdicts, quarantine
    #[command(subcommand)]
    Contract(cmd::contract::Command),
    /// Price tables for calls that report tokens and no cost
    #[command(subcommand)]
    Pricing(cmd::pricing::Command),
    /// What it cost, by agent, team, user, model, day and more
    Cost(cmd::cost::Args),
    /// Decide recorded actions again under a policy
    #[command(subcommand)]
    Replay(cmd::replay::Command),
    /// Recorded traces
    #[command(subcommand)]
    Trace(cmd::trace::Command),
    /// Traces that belong together: joined by links, approvals and sessions
    #[command(subcommand)]
    Incident(cmd::incident::Command),
    /// Answer what an investigator asks about an action, each from the events that say it
    Explain(cmd::explain::Args),
    /// One entry: what it says, where it came from, its original bytes
    #[command(subcommand)]
    Event(cmd::event::Command),
    /// Read raw bodies again with the mappers of this version
    Remap(cmd::remap::Args),
    /// Find entries by agent, tool, effect, rule, user, words, time
    Find(Box<cmd::find::Args>),
    /// Count what is in the ledger
    Stats(cmd::stats::Args),
    /// Take evidence or events out of the ledger
    #[command(subcommand)]
    Export(cmd::export::Command),
    /// Erase personal values; every proof stays
    Redact(Box<cmd::redact::Args>),
    /// Legal holds, which keep values from being erased
    #[command(subcommand)]
    Hold(cmd::hold::Command),
    /// How long values are kept
    #[command(subcommand)]
    Retention(cmd::retention::Command),
    /// Keys: those that others need to verify; rotate, revoke, encrypt
    #[command(subcommand)]
    Keys(cmd::keys::Command),
    /// Go on from a backup, under a new origin, and record what is lost
    Restore(cmd::restore::Args),
    /// Write a shell completion script
    Completions(cmd::completions::Args),
}

/// What every command needs.
#[derive(Debug)]
pub(crate) struct Context {
    /// Ledger directory.
    pub(crate) ledger: PathBuf,
    /// Lock file.
    pub(crate) lock: Option<PathBuf>,
    /// Where the passphrase of encrypted key files comes from.
    pub(crate) passphrases: Arc<Source>,
    /// Anchor settings.
    pub(crate) anchors: Option<PathBuf>,
    /// Settle window, nanoseconds.
    pub(crate) settle_ns: u64,
    /// Output.
    pub(crate) output: Output,
}

impl Context {
    /// Reads the global options.
    pub(crate) fn of(global: &Global) -> Result<Self, CliError> {
        let settle = std::env::var("VERDICT_SETTLE").ok().filter(|text| !text.is_empty());
        let settle = settle.map(|text| {
            parse_settle(&text).map_err(|error| CliError::unusable(format!("VERDICT_SETTLE: {error}")))
        });
        let settle_ns = global.settle.map(Ok).or(settle).transpose()?.unwrap_or(SETTLE_NS);
        Ok(Self {
            settle_ns,
            ledger: from_environment(global.ledger.clone(), "VERDICT_LEDGER")
                .unwrap_or_else(|| PathBuf::from("verdict-ledger")),
            lock: from_environment(global.lock.clone(), "VERDICT_LOCK"),
            passphrases: Arc::new(Source::new(from_environment(
                global.passphrase_file.clone(),
                "VERDICT_PASSPHRASE_FILE",
            ))),
            anchors: from_environment(global.anchors.clone(), "VERDICT_ANCHORS"),
            output: Output::new(global.format, global.color, global.quiet),
        })
    }

    /// Opens the ledger for reading, also while another process writes it.
    pub(crate) fn reader(&self) -> Result<Ledger, CliError> {
        Ok(Ledger::open_reader(&self.ledger, &self.options()?)?)
    }

    /// Opens the ledger for writing. `while_served` says what to do when `verdict serve` has it open.
    pub(crate) fn writer(&self, while_served: &str) -> Result<Ledger, CliError> {
        Ledger::open(&self.ledger, &self.options()?, Arc::new(SystemClock)).map_err(|error| {
            let busy = matches!(error, LedgerError::Busy { .. });
            let error = CliError::from(error);
            if busy { error.hint(while_served) } else { error }
        })
    }

    /// Returns where the anchor settings are, or would be.
    pub(crate) fn anchors_path(&self) -> PathBuf {
        self.anchors.clone().unwrap_or_else(|| self.ledger.join("anchors.toml"))
    }

    /// Reads the anchor settings. A file that was named must be there; without a name there need be none.
    pub(crate) fn anchor_settings(&self) -> Result<Option<Config>, CliError> {
        Ok(match &self.anchors {
            Some(path) => Some(Config::load(path)?),
            None => Config::load_if_there(&self.anchors_path())?,
        })
    }

    /// How the ledger is opened.
    pub(crate) fn options(&self) -> Result<OpenOptions, CliError> {
        // A ledger that cannot be told from one that was rolled back is not opened: bad settings are an error.
        let anchors = self.anchor_settings()?.map(|config| config.local_files()).unwrap_or_default();
        Ok(OpenOptions {
            lock: self.lock.clone(),
            anchors,
            passphrases: Arc::clone(&self.passphrases) as Arc<dyn Passphrases>,
            ..OpenOptions::default()
        })
    }
}

/// Reads a settle window, in nanoseconds.
fn parse_settle(text: &str) -> Result<u64, String> {
    let ns = verdict_ui::config::seconds(text).and_then(|seconds| seconds.checked_mul(1_000_000_000));
    ns.ok_or_else(|| format!("`{text}` is not a duration: write a number with s, m, h or d, like 15m"))
}

/// A variable that is set to nothing is not set.
pub(crate) fn from_environment(given: Option<PathBuf>, variable: &str) -> Option<PathBuf> {
    given.or_else(|| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from))
}

/// Who does something and why, for commands that leave an entry.
#[derive(Debug, Args)]
pub(crate) struct Attribution {
    /// Who does this; recorded as given.
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true, value_name = "NAME")]
    pub(crate) by: String,
    /// Why; recorded as given.
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
}

/// Part of the ledger.
#[derive(Debug, Default, Args)]
pub(crate) struct Selection {
    /// Only this trace (32 hexadecimal digits; `verdict trace list` shows them).
    #[arg(long, value_name = "ID")]
    pub(crate) trace: Option<TraceId>,
    /// Only entries A up to B, without B; either side may be left out.
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    pub(crate) range: Option<EntryRange>,
}

/// A range whose ends may be open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EntryRange {
    /// First entry.
    pub(crate) first: Option<u64>,
    /// One past the last.
    pub(crate) end: Option<u64>,
}

impl EntryRange {
    /// Closes the range at the size of the ledger.
    pub(crate) fn within(self, size: u64) -> Result<Range<u64>, CliError> {
        let range = self.first.unwrap_or(0)..self.end.unwrap_or(size);
        if range.start > range.end || range.end > size {
            return Err(CliError::unusable(format!(
                "entries {}..{} are not in the ledger, which has {size} entries",
                range.start, range.end
            ))
            .hint(format!("choose a range within 0..{size}")));
        }
        Ok(range)
    }
}

/// Reads `A..B`.
pub(crate) fn parse_range(text: &str) -> Result<EntryRange, String> {
    let bound = |part: &str| match part {
        "" => Ok(None),
        number => number.parse().map(Some).map_err(|_| format!("`{number}` is not a position")),
    };
    let (first, end) = text.split_once("..").ok_or("expected A..B, like 0..100 or 100..")?;
    let range = EntryRange { first: bound(first)?, end: bound(end)? };
    match (range.first, range.end) {
        (Some(first), Some(end)) if first > end => Err(format!("{first} is after {end}")),
        _ => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_settle_window_has_a_unit_and_may_be_nothing() {
        assert_eq!(parse_settle("15m"), Ok(SETTLE_NS));
        assert_eq!(parse_settle("0s"), Ok(0));
        for bad in ["", "15", "m", "-1s", "1.5h", "99999999999d", "é"] {
            assert!(parse_settle(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_may_be_open_and_must_be_in_order() {
        assert_eq!(parse_range("3..9"), Ok(EntryRange { first: Some(3), end: Some(9) }));
        assert_eq!(parse_range("..9"), Ok(EntryRange { first: None, end: Some(9) }));
        assert_eq!(parse_range(".."), Ok(EntryRange::default()));
        for bad in ["", "3", "9..3", "a..b", "-1..2", "1...2"] {
            assert!(parse_range(bad).is_err(), "{bad}");
        }
        assert_eq!(EntryRange::default().within(7).unwrap(), 0..7);
        assert!(EntryRange { first: Some(8), end: None }.within(7).is_err());
    }
}
