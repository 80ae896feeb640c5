//! `verdict serve`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use verdict_ledger::{Depth, Ledger, VerifyOptions};
use verdict_ui::anchor::{Background, Config as AnchorConfig};
use verdict_ui::config::{self, Check, FILE_NAME, Loaded};
use verdict_ui::telemetry;
use verdict_ui::web::{ServeOptions, Server};

use crate::cli::{Context, Format, from_environment};
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
  verdict serve --grpc-listen 127.0.0.1:4317                 OTLP/gRPC too
  verdict serve --listen 0.0.0.0:7878 --auth token --tls-cert cert.pem --tls-key key.pem
  verdict serve --check full --fsck-every 6h                 everything first, and every 6 hours
  verdict serve --set limits.body_bytes=16777216             any key of `verdict config show`

Settings come from a file, then VERDICT_SERVE_… variables, then these options; `verdict config check` looks at them
without serving. With --auth token every caller shows a token made by `verdict token create`; without it only loopback
addresses are served.

A ledger that does not hold is not served: exit code 1 or 3 and the first bad place, as with fsck.

With an anchors.toml, every new checkpoint is given to its sinks in the background; failures are
logged and shown on the page Integrity, and never keep an event waiting.
RUST_LOG sets the log level.")]
pub(crate) struct Args {
    /// Settings.
    #[command(flatten)]
    settings: Settings,
}

/// Where settings come from: the same for `serve` and `config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// Settings file [env: VERDICT_CONFIG] [default: serve.toml in the ledger directory, if there].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the web interface, the API and OTLP/HTTP [default: 127.0.0.1:7878].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of OTLP/gRPC, or `none` [default: none].
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<String>,
    /// What is checked before serving: `quick` (the log), `full` (everything) or `none` (but what opening checks)
    /// [default: quick].
    #[arg(long, value_name = "WHAT")]
    check: Option<String>,
    /// How often everything is checked while serving, in the background (30m, 24h, 7d, or `never`); the result is
    /// logged and on the page Integrity [default: 24h].
    #[arg(long, value_name = "INTERVAL")]
    fsck_every: Option<String>,
    /// Who is asked for an API token: `none` or `token` [default: none].
    #[arg(long, value_name = "MODE")]
    auth: Option<String>,
    /// Certificate chain (PEM); with --tls-key both ports speak TLS.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// Private key (PEM).
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Certificates that client certificates must go back to (PEM); clients must then have one.
    #[arg(long, value_name = "FILE")]
    client_ca: Option<String>,
    /// Any other setting; `verdict config show` lists them.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Settings {
    /// Brings the settings together.
    pub(crate) fn load(&self, context: &Context) -> Result<Loaded, CliError> {
        let mut loaded = Loaded::default();
        let named = from_environment(self.config.clone(), "VERDICT_CONFIG");
        let usual = || Some(context.ledger.join(FILE_NAME)).filter(|path| path.exists());
        if let Some(path) = named.or_else(usual) {
            loaded.file(&path)?;
        }
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        loaded.variables(variables)?;
        let flags = [
            ("listen", &self.listen),
            ("grpc.listen", &self.grpc_listen),
            ("check", &self.check),
            ("fsck_every", &self.fsck_every),
            ("auth.mode", &self.auth),
            ("tls.cert", &self.tls_cert),
            ("tls.key", &self.tls_key),
            ("tls.client_ca", &self.client_ca),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                loaded.flag(key, value)?;
            }
        }
        for pair in &self.set {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(CliError::unusable(format!("--set {pair}: write KEY=VALUE")));
            };
            loaded.flag(key.trim(), value.trim())?;
        }
        loaded.together()?;
        Ok(loaded)
    }
}

/// Serves until told to stop.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    // The cheap refusals come before the ledger is opened.
    let loaded = args.settings.load(context)?;
    let ready = config::check(&loaded, &context.ledger)?;
    let config = &loaded.config;
    let is_json = context.output.format(&[Format::Human, Format::Json])? == Format::Json;
    log_with(config.log_json.unwrap_or(is_json), &config.log_level);
    let mut options = ServeOptions::new(config.listen);
    options.grpc_listen = config.grpc_listen;
    options.tls = ready.tls;
    options.gate = ready.gate;
    options.telemetry = config.telemetry_endpoint.clone().map(|endpoint| {
        Arc::new(telemetry::Settings {
            endpoint,
            service: config.telemetry_service.clone(),
            headers: ready.telemetry_headers,
        })
    });
    options.limits = config.limits;
    options.ledger_dir = Some(context.ledger.clone());
    options.limits.settle_ns = context.settle_ns;
    options.fsck_every = config.fsck_every;
    let scheme = if options.tls.is_some() { "https" } else { "http" };
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
    check_first(config.check, &ledger, context)?;
    let settings = context.anchor_settings()?.filter(|settings| settings.sinks() > 0);
    let anchoring = settings.map(|settings| start_anchoring(&settings, &ledger)).transpose()?;
    options.anchors = anchoring.as_ref().map(Background::status);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(Kind::Environment, format!("cannot start threads: {error}")))?;
    runtime.block_on(async {
        let server = Server::bind(ledger, options).await?;
        let (address, grpc) = (server.local_addr(), server.grpc_addr());
        if json {
            context.output.json(&json!({
                "address": address.to_string(),
                "url": format!("{scheme}://{address}/"),
                "grpc": grpc.map(|address| address.to_string()),
            }))?;
        } else {
            context.output.result(&format!("{scheme}://{address}/\n"))?;
            if let Some(address) = grpc {
                context.output.note(&format!("OTLP/gRPC on {address}"));
            }
            context.output.note("serving; stop with Ctrl-C");
        }
        server.run(told_to_stop()).await?;
        Ok(Exit::Clean)
    })
}

fn start_anchoring(settings: &AnchorConfig, ledger: &Ledger) -> Result<Background, CliError> {
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
    log_with(json, "warn");
}

/// The same with a level for when RUST_LOG says none.
fn log_with(json: bool, level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
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
