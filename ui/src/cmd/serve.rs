//! `verdict serve`.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use verdict_ledger::Ledger;
use verdict_ui::anchor::{Background, Config};
use verdict_ui::web::{ServeOptions, Server};

use crate::cli::{Context, Format};
use crate::cmd::anchor::sinks;
use crate::exit::{CliError, Exit, Kind};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict serve
  verdict serve --listen 127.0.0.1:0                         a free port, printed on stdout
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:7878 agent    send traces to it

With an anchors.toml, every new checkpoint is given to its sinks in the background; failures are logged
and shown on the page Integrity, and never keep an event waiting.
Only loopback addresses are served: there is no authentication yet. RUST_LOG sets the log level.")]
pub(crate) struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:7878", value_name = "ADDRESS")]
    listen: SocketAddr,
}

/// Serves until told to stop.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    log_to_stderr(context.output.format(&[Format::Human, Format::Json])? == Format::Json);
    // The cheap refusals come before the ledger is opened.
    let mut options = ServeOptions::new(args.listen);
    options.ledger_dir = Some(context.ledger.clone());
    let ledger = context
        .writer("if that is another `verdict serve`, use its address, or stop it first; one server takes any number of agents")?;
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
