//! `verdict serve`.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use verdict_ledger::{Depth, Ledger, VerifyOptions};
use verdict_ui::anchor::{Background, Config};
use verdict_ui::web::{ServeOptions, Server};

use crate::cli::{Context, Format};
use crate::cmd::anchor::sinks;
use crate::cmd::fsck;
use crate::exit::{CliError, Exit, Kind};
use crate::progress::Progress;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict serve
  verdict serve --listen 127.0.0.1:0                         a free port, printed on stdout
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:7878 agent    send traces to it
  verdict serve --check full --fsck-every 6h                 everything first, and every 6 hours

A ledger that does not hold is not served: exit code 1 or 3 and the first bad place, as with fsck.

With an anchors.toml, every new checkpoint is given to its sinks in the background; failures are
logged and shown on the page Integrity, and never keep an event waiting.
Only loopback addresses are served: there is no authentication yet. RUST_LOG sets the log level.")]
pub(crate) struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:7878", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// What is checked before serving: the log, everything, or nothing but what opening checks.
    #[arg(long, value_enum, default_value_t = Check::Quick, value_name = "WHAT")]
    check: Check,
    /// How often everything is checked while serving, in the background (30m, 24h, 7d, or `never`); the result is
    /// logged and on the page Integrity.
    #[arg(long, default_value = "24h", value_name = "INTERVAL", value_parser = parse_interval)]
    fsck_every: Interval,
}

/// What is checked before serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Check {
    /// Entries, chain, tree, checkpoints, lock, key files.
    Quick,
    /// Everything.
    Full,
    /// Only what opening checks.
    None,
}

/// How often; `None` is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval(Option<Duration>);

fn parse_interval(text: &str) -> Result<Interval, String> {
    if text == "never" {
        return Ok(Interval(None));
    }
    let expected =
        || format!("`{text}` is not an interval: write a number with s, m, h or d, like 24h, or `never`");
    let unit = text.chars().last().ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| expected())?;
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0).ok_or_else(expected)?;
    Ok(Interval(Some(Duration::from_secs(seconds))))
}

/// Serves until told to stop.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    log_to_stderr(context.output.format(&[Format::Human, Format::Json])? == Format::Json);
    // The cheap refusals come before the ledger is opened.
    let mut options = ServeOptions::new(args.listen);
    options.ledger_dir = Some(context.ledger.clone());
    options.fsck_every = args.fsck_every.0;
    options.limits.settle_ns = context.settle_ns;
    let ledger = context
        .writer("if that is another `verdict serve`, use its address, or stop it first; one server takes any number of agents")
        .map_err(|error| match error.kind {
            // Whoever must mend it needs to know where.
            Kind::Untrusted | Kind::Finding => match fsck::first_bad_place(context) {
                Some(place) => error.hint(place),
                None => error,
            },
            _ => error,
        })?;
    check_first(args.check, &ledger, context)?;
    let settings = context.anchor_settings()?.filter(|settings| settings.sinks() > 0);
    let anchoring = settings.map(|settings| start_anchoring(&settings, &ledger)).transpose()?;
    options.anchors = anchoring.as_ref().map(Background::status);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Kind::Environment, format!("cannot start threads: {error}")))?;
    runtime.block_on(async {
        let server = Server::bind(ledger, options).await?;
        let address = server.local_addr();
        if json {
            context
                .output
                .json(&json!({"address": address.to_string(), "url": format!("http://{address}/")}))?;
        } else {
            context.output.result(&format!("http://{address}/\n"))?;
            context.output.note("serving; stop with Ctrl-C");
        }
        server.run(told_to_stop()).await?;
        Ok(Exit::Clean)
    })
}

fn start_anchoring(settings: &Config, ledger: &Ledger) -> Result<Background, CliError> {
    let interval = Duration::from_secs(settings.interval_seconds);
    Background::start(ledger.clone(), sinks(settings)?, interval)
        .map_err(|error| CliError::new(Kind::Environment, format!("cannot start threads: {error}")))
}

/// Checks the ledger before anybody is served from it.
fn check_first(check: Check, ledger: &Ledger, context: &Context) -> Result<(), CliError> {
    let depth = match check {
        Check::None => return Ok(()),
        Check::Quick => Depth::Log,
        Check::Full => Depth::Everything,
    };
    let progress = Progress::start(context.output, "check");
    let options = VerifyOptions { depth, ..VerifyOptions::default() };
    let report =
        ledger.verify_with(&options, &mut |done, all| progress.at(done, all)).map_err(fsck::damaged)?;
    drop(progress);
    fsck::refuse(ledger.dir(), &report)
        .map_err(|error| error.hint("`verdict fsck` names every place; a damaged ledger is not served"))
}

/// Sends what operators read to stderr.
pub(crate) fn log_to_stderr(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber in one process would be a mistake of ours, and only logs would suffer.
    let _ = if json { logs.json().try_init() } else { logs.try_init() };
}

/// Waits for Ctrl-C or a request to end.
pub(crate) async fn told_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_a_unit_and_are_never_nothing() {
        let seconds = |text: &str| parse_interval(text).map(|interval| interval.0.map(|time| time.as_secs()));
        assert_eq!(seconds("90s"), Ok(Some(90)));
        assert_eq!(seconds("24h"), Ok(Some(86_400)));
        assert_eq!(seconds("7d"), Ok(Some(604_800)));
        assert_eq!(seconds("never"), Ok(None));
        for bad in ["", "0h", "24", "h", "-1h", "1.5h", "1w", "é", "99999999999999999999d"] {
            assert!(parse_interval(bad).is_err(), "{bad}");
        }
    }
}
