//! Settings of `verdict serve`: a file, then the environment, then the command line; each overrules the ones before.
//!
//! Every key stands once, in [`KEYS`]: its name, what it means, its unit, its default, and how its value is read and
//! written. The file, the variables (`VERDICT_SERVE_` and the name in capitals, with `_` for `.`), `verdict config
//! show` and the documentation all come from there. Unknown keys and variables are errors. Secrets are named by the
//! file that holds them and never stand here.

mod check;
mod keys;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use check::{CheckError, Ready, Secret, check};
pub use keys::{KEYS, Key, interval, seconds};

use crate::auth::Scope;
use crate::web::Limits;

/// Largest settings file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What variables start with.
pub const VARIABLES: &str = "VERDICT_SERVE_";
/// Name of the file in the ledger directory that is read when no other is named.
pub const FILE_NAME: &str = "serve.toml";

/// What is checked before serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Entries, chain, tree, checkpoints, lock, key files.
    Quick,
    /// Everything.
    Full,
    /// Only what opening checks.
    None,
}

/// Who is asked for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Nobody; for loopback addresses only.
    None,
    /// Everybody.
    Token,
}

/// The settings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Address of HTTP.
    pub listen: SocketAddr,
    /// Address of gRPC.
    pub grpc_listen: Option<SocketAddr>,
    /// What is checked before serving.
    pub check: Check,
    /// How often everything is checked while serving.
    pub fsck_every: Option<Duration>,
    /// Who is asked for a token.
    pub auth: AuthMode,
    /// Token file; `None`: `tokens.json` in the ledger directory.
    pub tokens: Option<PathBuf>,
    /// TLS certificate.
    pub tls_cert: Option<PathBuf>,
    /// TLS key.
    pub tls_key: Option<PathBuf>,
    /// Certificates that client certificates go back to.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub client_cert_required: bool,
    /// What a client certificate alone allows.
    pub client_scopes: Vec<Scope>,
    /// Whether logs are JSON; `None`: as `--format` says.
    pub log_json: Option<bool>,
    /// Which logs; `RUST_LOG` overrules it.
    pub log_level: String,
    /// Where spans of the server go.
    pub telemetry_endpoint: Option<String>,
    /// Name that the server has in them.
    pub telemetry_service: String,
    /// File with headers of their requests.
    pub telemetry_headers: Option<PathBuf>,
    /// Limits.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7878)),
            grpc_listen: None,
            check: Check::Quick,
            fsck_every: Some(Duration::from_hours(24)),
            auth: AuthMode::None,
            tokens: None,
            tls_cert: None,
            tls_key: None,
            client_ca: None,
            client_cert_required: true,
            client_scopes: vec![Scope::Ingest],
            log_json: None,
            log_level: "warn".to_owned(),
            telemetry_endpoint: None,
            telemetry_service: "verdict".to_owned(),
            telemetry_headers: None,
            limits: Limits::default(),
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// The file.
    File(PathBuf),
    /// A variable.
    Variable(String),
    /// The command line.
    CommandLine,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {detail}", path.display())]
    Form {
        /// File.
        path: PathBuf,
        /// What is wrong, with line and column.
        detail: String,
    },
    /// A key that there is not.
    #[error("{source}: there is no key `{key}`{}", meant(suggestion.as_deref()))]
    Unknown {
        /// Where it stands.
        #[source]
        source: Place,
        /// As written.
        key: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// A value that the key cannot have.
    #[error("{source}: `{key}` = `{value}`: {detail}")]
    Value {
        /// Where it stands.
        #[source]
        source: Place,
        /// Key.
        key: &'static str,
        /// As written.
        value: String,
        /// What it may be.
        detail: String,
    },
    /// Values that contradict each other.
    #[error("{detail}")]
    Together {
        /// Which, and what to do.
        detail: String,
    },
}

/// A source as a part of an error.
#[derive(Debug)]
pub struct Place(Source);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Place {}

fn meant(suggestion: Option<&str>) -> String {
    suggestion.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// Settings as they come together, with where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Source of each key, in the order of [`KEYS`].
    sources: Vec<Source>,
}

impl Default for Loaded {
    fn default() -> Self {
        Self { config: Config::default(), sources: vec![Source::Default; KEYS.len()] }
    }
}

impl Loaded {
    /// Reads a file; a path in it is relative to the file.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let io = |source| ConfigError::Io { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(io)?.len();
        let form = |detail: String| ConfigError::Form { path: path.to_owned(), detail };
        if length > FILE_BYTES_MAX {
            return Err(form(format!("is larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let table: toml::Table = toml::from_str(&text).map_err(|error| form(error.to_string()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        let source = Source::File(path.to_owned());
        for (name, value) in flat("", &table) {
            let text = written(&value)
                .ok_or_else(|| form(format!("`{name}` has a value of a kind that no key has")))?;
            self.set(&name, &text, Some(base), &source)?;
        }
        Ok(())
    }

    /// Reads variables.
    pub fn variables(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (variable, value) in variables {
            let Some(name) = variable.strip_prefix(VARIABLES) else { continue };
            // A variable that is set to nothing is not set: that is how CI systems unset one.
            if value.is_empty() {
                continue;
            }
            let source = Source::Variable(variable.clone());
            let key = KEYS.iter().find(|key| key.variable() == variable);
            match key {
                Some(key) => self.set(key.name, &value, None, &source)?,
                None => return Err(unknown(&name.to_ascii_lowercase(), source)),
            }
        }
        Ok(())
    }

    /// Takes a value from the command line.
    pub fn flag(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        self.set(name, value, None, &Source::CommandLine)
    }

    fn set(
        &mut self,
        name: &str,
        value: &str,
        base: Option<&Path>,
        source: &Source,
    ) -> Result<(), ConfigError> {
        let Some((index, key)) = KEYS.iter().enumerate().find(|(_, key)| key.name == name) else {
            return Err(unknown(name, source.clone()));
        };
        (key.set)(&mut self.config, value, base).map_err(|detail| ConfigError::Value {
            source: Place(source.clone()),
            key: key.name,
            value: value.to_owned(),
            detail,
        })?;
        if let Some(slot) = self.sources.get_mut(index) {
            *slot = source.clone();
        }
        Ok(())
    }

    /// Returns every key with its value and where that came from.
    pub fn values(&self) -> impl Iterator<Item = (&'static Key, String, &Source)> {
        KEYS.iter().zip(&self.sources).map(|(key, source)| (key, (key.get)(&self.config), source))
    }

    /// Checks what values must be together.
    pub fn together(&self) -> Result<(), ConfigError> {
        let config = &self.config;
        let error = |detail: &str| Err(ConfigError::Together { detail: detail.to_owned() });
        if config.tls_cert.is_some() != config.tls_key.is_some() {
            return error("`tls.cert` and `tls.key` go together: name both or neither");
        }
        if config.client_ca.is_some() && config.tls_cert.is_none() {
            return error("`tls.client_ca` needs TLS: name `tls.cert` and `tls.key` too");
        }
        let limits = &config.limits;
        let largest = limits.body_bytes_max.saturating_add(limits.decoded_bytes_max);
        if limits.ingest_bytes_max < largest {
            return error(
                "`limits.ingest_bytes` must have room for one body, before and after decompression: make it at least \
                 `limits.body_bytes` + `limits.decoded_bytes`",
            );
        }
        Ok(())
    }

    /// Tells whether callers are asked who they are.
    pub fn is_guarded(&self) -> bool {
        self.config.auth == AuthMode::Token || self.config.client_ca.is_some()
    }
}

/// Writes settings as a file: every key with what it means, those that have their default as a comment.
pub fn as_file(loaded: &Loaded) -> String {
    let mut text = String::from("# Settings of `verdict serve`. Lines that are comments are defaults.\n");
    let mut table = "";
    for (key, value, source) in loaded.values() {
        let (in_table, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if in_table != table {
            table = in_table;
            text.push_str(&format!("\n[{table}]\n"));
        }
        text.push_str(&format!("\n# {} ({}; {})\n", key.doc, key.unit, key.variable()));
        let value = if value.parse::<u64>().is_ok() { value } else { toml::Value::from(value).to_string() };
        match source {
            Source::Default => text.push_str(&format!("# {name} = {value}\n")),
            source => text.push_str(&format!("# from {source}\n{name} = {value}\n")),
        }
    }
    text
}

fn unknown(name: &str, source: Source) -> ConfigError {
    let alike = KEYS
        .iter()
        .map(|key| (strsim::jaro_winkler(name, key.name), key.name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    ConfigError::Unknown {
        source: Place(source),
        key: name.to_owned(),
        suggestion: alike.map(|(_, name)| name.to_owned()),
    }
}

fn flat(prefix: &str, table: &toml::Table) -> Vec<(String, toml::Value)> {
    let mut all = Vec::new();
    for (name, value) in table {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => all.extend(flat(&name, inner)),
            value => all.push((name, value.clone())),
        }
    }
    all
}

fn written(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            items.iter().map(written).collect::<Option<Vec<_>>>().map(|items| items.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Loaded, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serve.toml");
        std::fs::write(&path, text).unwrap();
        let mut loaded = Loaded::default();
        loaded.file(&path).map(|()| loaded)
    }

    #[test]
    fn later_sources_overrule_earlier_ones() {
        let mut loaded =
            file("listen = \"127.0.0.1:1\"\nfsck_every = \"never\"\n[limits]\nbody_bytes = 7\n").unwrap();
        assert_eq!((loaded.config.listen.port(), loaded.config.fsck_every), (1, None));
        assert_eq!(loaded.config.limits.body_bytes_max, 7);
        let variable = ("VERDICT_SERVE_LISTEN".to_owned(), "127.0.0.1:2".to_owned());
        let empty = ("VERDICT_SERVE_LOG_LEVEL".to_owned(), String::new());
        loaded.variables([variable, empty]).unwrap();
        assert_eq!(loaded.config.listen.port(), 2);
        loaded.flag("listen", "127.0.0.1:3").unwrap();
        let (_, value, source) = loaded.values().find(|(key, ..)| key.name == "listen").unwrap();
        assert_eq!((value.as_str(), source), ("127.0.0.1:3", &Source::CommandLine));
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named_with_what_was_meant() {
        let error = file("[limits]\nbody_byte = 7\n").unwrap_err().to_string();
        assert!(
            error.contains("serve.toml") && error.contains("did you mean `limits.body_bytes`?"),
            "{error}"
        );
        let mut loaded = Loaded::default();
        let variable = ("VERDICT_SERVE_LISTN".to_owned(), "x".to_owned());
        let error = loaded.variables([variable]).unwrap_err().to_string();
        assert!(error.contains("VERDICT_SERVE_LISTN") && error.contains("`listen`"), "{error}");
        for (key, value) in [
            ("listen", "localhost"),
            ("limits.body_bytes", "-1"),
            ("limits.body_bytes", "64MB"),
            ("check", "fast"),
            ("auth.mode", "basic"),
            ("tls.client_scopes", "ingest,root"),
            ("fsck_every", "1w"),
            ("telemetry.endpoint", "ftp://x"),
        ] {
            let error = loaded.flag(key, value).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
        assert!(
            file("listen = 1.5").is_err() && file("listen = ").is_err() && file("x = {}\ny = 1").is_err()
        );
        loaded.flag("tls.cert", "a").unwrap();
        assert!(loaded.together().is_err());
    }

    #[test]
    fn what_is_shown_is_a_file_that_says_the_same() {
        let mut loaded = Loaded::default();
        loaded.flag("limits.body_bytes", "7").unwrap();
        loaded.flag("tls.client_scopes", "read,metrics").unwrap();
        loaded.flag("check", "full").unwrap();
        let again = file(&as_file(&loaded)).unwrap();
        let values = |loaded: &Loaded| loaded.values().map(|(_, value, _)| value).collect::<Vec<_>>();
        assert_eq!(values(&again), values(&loaded));
        // With every comment taken for a line it is a file too: defaults are written as they are read.
        let all: String = as_file(&Loaded::default())
            .lines()
            .filter(|line| line.starts_with('[') || (line.contains(" = ") && !line.ends_with("\"\"")))
            .map(|line| line.trim_start_matches("# ").to_owned() + "\n")
            .collect();
        assert_eq!(values(&file(&all).unwrap()), values(&Loaded::default()), "{all}");
    }

    #[test]
    fn the_page_lists_every_key() {
        let page = include_str!("../../docs/configuration.md");
        let rows: Vec<String> = Loaded::default()
            .values()
            .map(|(key, value, _)| {
                format!("| `{}` | {} | {} | {} |", key.name, shown(&value), key.unit, key.doc)
            })
            .collect();
        for row in &rows {
            assert!(page.contains(row.as_str()), "docs/configuration.md is to have:\n{}", rows.join("\n"));
        }
        assert_eq!(page.lines().filter(|line| line.starts_with("| `")).count(), rows.len());
    }

    fn shown(value: &str) -> String {
        if value.is_empty() { String::new() } else { format!("`{value}`") }
    }

    #[test]
    fn defaults_are_written_and_read_back_alike() {
        let loaded = Loaded::default();
        for (key, value, source) in loaded.values() {
            assert_eq!(*source, Source::Default);
            let mut again = Loaded::default();
            if !value.is_empty() {
                again.flag(key.name, &value).unwrap();
            }
            assert_eq!((key.get)(&again.config), value, "{}", key.name);
            assert!(!key.doc.is_empty() && key.doc.ends_with('.'), "{}", key.name);
        }
    }
}
