//! `verdict token`: who may use the server. The token file is changed, never the ledger, so that these commands work
//! while `verdict serve` runs; it looks at the file every second.

use std::path::PathBuf;

use serde_json::{Value, json};
use verdict_ledger::clock::{Clock as _, SystemClock, SystemEntropy};
use verdict_ui::auth::Scope;
use verdict_ui::auth::gate::last_used;
use verdict_ui::auth::store::{Entry, NewToken, TokenFile};
use verdict_ui::auth::token::Token;

use crate::cli::Context;
use crate::exit::{CliError, Exit, Kind};

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a token; it is shown once
    Create(Create),
    /// List tokens: what they allow, when they were last used
    List(List),
    /// Revoke a token; a running server refuses it within seconds
    Revoke(Revoke),
}

/// Where the tokens are.
#[derive(Debug, clap::Args)]
struct Where {
    /// Token file, when it is not tokens.json in the ledger directory.
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
}

impl Where {
    fn file(&self, context: &Context) -> Result<TokenFile, CliError> {
        match &self.tokens {
            Some(path) => Ok(TokenFile::new(path)),
            None if context.ledger.join("verdict.json").exists() => Ok(TokenFile::of_ledger(&context.ledger)),
            None => Err(CliError::unusable(format!("{} is not a ledger", context.ledger.display()))
                .hint("name the right directory with --ledger DIR or VERDICT_LEDGER, or the token file with --tokens")),
        }
    }
}

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict token create collector --scope ingest
  verdict token create ada --scope read --expires 90d
  export OTEL_EXPORTER_OTLP_HEADERS=\"Authorization=Bearer $(verdict token create ci --scope ingest --expires 1d)\"

Scopes: ingest (append), read (everything, change nothing), metrics (/metrics only), admin (all of them).
Only a digest is kept: a token that is lost is revoked and made anew. Senders are recorded as `token:NAME`.")]
pub(crate) struct Create {
    /// Name: what the sender is called in the ledger.
    name: String,
    /// What it allows; may be given more than once.
    #[arg(long, required = true, value_name = "SCOPE")]
    scope: Vec<Scope>,
    /// When it stops working: 12h, 90d, or `never`.
    #[arg(long, default_value = "365d", value_name = "TIME")]
    expires: String,
    /// Who makes it; recorded as given.
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true, value_name = "NAME")]
    by: String,
    #[command(flatten)]
    place: Where,
}

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict token list
  verdict token list --format json

Last use is told to the hour, and written down by the server once a minute.")]
pub(crate) struct List {
    #[command(flatten)]
    place: Where,
}

/// Arguments of `revoke`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict token revoke collector
  verdict token revoke 3f1c9a0b77de         by the id that `list` shows")]
pub(crate) struct Revoke {
    /// Name or id.
    token: String,
    /// Who revokes it; recorded as given.
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true, value_name = "NAME")]
    by: String,
    #[command(flatten)]
    place: Where,
}

/// Runs a command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Create(args) => create(args, context),
        Command::List(args) => list(args, context),
        Command::Revoke(args) => revoke(args, context),
    }
}

fn create(args: &Create, context: &Context) -> Result<Exit, CliError> {
    let is_json = context.output.is_json()?;
    let file = args.place.file(context)?;
    let now_ns = SystemClock.now_ns();
    let lasts = verdict_ui::config::interval(&args.expires)
        .map_err(|detail| CliError::unusable(format!("--expires {}: {detail}", args.expires)))?;
    let expires_ns =
        lasts.map(|time| now_ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
    let token = Token::generate(&SystemEntropy)
        .map_err(|error| CliError::new(Kind::Environment, error.to_string()))?;
    let new = NewToken { name: &args.name, scopes: &args.scope, expires_ns, by: &args.by, now_ns };
    let entry = file.create(&token, &new)?;
    if is_json {
        let mut shown = described(&entry, now_ns, None);
        if let Some(object) = shown.as_object_mut() {
            object.insert("token".to_owned(), Value::from(token.reveal()));
        }
        context.output.json(&shown)?;
    } else {
        context.output.result(&format!("{}\n", token.reveal()))?;
        context.output.note(&format!(
            "token {} ({}), {}; it is shown this once and kept only as a digest",
            entry.name,
            scopes(&entry),
            expiry(&entry)
        ));
    }
    Ok(Exit::Clean)
}

fn list(args: &List, context: &Context) -> Result<Exit, CliError> {
    let is_json = context.output.is_json()?;
    let file = args.place.file(context)?;
    let (tokens, used) = (file.load()?, last_used(&file));
    let now_ns = SystemClock.now_ns();
    if is_json {
        let all: Vec<Value> =
            tokens.iter().map(|entry| described(entry, now_ns, used.get(&entry.id).copied())).collect();
        context.output.json(&json!({"tokens": all}))?;
        return Ok(Exit::Clean);
    }
    if tokens.is_empty() {
        context.output.note("there are no tokens; make one with `verdict token create NAME --scope ingest`");
    }
    let mut text = String::new();
    for entry in &tokens {
        let used = used
            .get(&entry.id)
            .map_or_else(|| "never used".to_owned(), |ns| format!("last used {}", hour(*ns)));
        text.push_str(&format!(
            "{}  {:<24} {:<8} {:<22} {}, {used}\n",
            entry.id,
            entry.name,
            state(entry, now_ns),
            scopes(entry),
            expiry(entry),
        ));
    }
    context.output.result(&text)?;
    Ok(Exit::Clean)
}

fn revoke(args: &Revoke, context: &Context) -> Result<Exit, CliError> {
    let is_json = context.output.is_json()?;
    let now_ns = SystemClock.now_ns();
    let entry = args.place.file(context)?.revoke(&args.token, &args.by, now_ns)?;
    if is_json {
        context.output.json(&described(&entry, now_ns, None))?;
    } else {
        context.output.note(&format!("token {} ({}) is revoked", entry.name, entry.id));
    }
    Ok(Exit::Clean)
}

fn state(entry: &Entry, now_ns: u64) -> &'static str {
    match entry {
        _ if entry.in_force(now_ns) => "in force",
        Entry { revoked_ns: Some(_), .. } => "revoked",
        _ => "expired",
    }
}

fn scopes(entry: &Entry) -> String {
    entry.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")
}

fn expiry(entry: &Entry) -> String {
    entry.expires_ns.map_or_else(|| "never expires".to_owned(), |ns| format!("expires {}", hour(ns)))
}

/// Writes a time to the hour.
fn hour(ns: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:00 UTC").to_string()
}

fn described(entry: &Entry, now_ns: u64, used_ns: Option<u64>) -> Value {
    json!({
        "id": entry.id,
        "name": entry.name,
        "scopes": entry.scopes,
        "state": state(entry, now_ns),
        "created_ns": entry.created_ns.to_string(),
        "created_by": entry.created_by,
        "expires_ns": entry.expires_ns.map(|ns| ns.to_string()),
        "revoked_ns": entry.revoked_ns.map(|ns| ns.to_string()),
        "revoked_by": entry.revoked_by,
        "last_used_ns": used_ns.map(|ns| ns.to_string()),
    })
}
