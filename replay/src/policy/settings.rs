//! What a bundle says about itself: `verdict.toml` and OPA's `.manifest`.

use serde::Deserialize;
use verdict_ledger::event::Effect;

use super::bundle::{BundleError, MANIFEST_FILE, SETTINGS_FILE};
use crate::input;

/// What `verdict.toml` says. Unknown keys are refused: a misspelled limit must not be no limit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Name of the bundle; the same for all its versions.
    pub name: String,
    /// Version label. Only a label: the identity is the digest.
    pub version: String,
    /// What the bundle is for, for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Engine that evaluates.
    pub engine: EngineKind,
    /// Rule that is evaluated, like `data.acme.agents.findings`. Rego only, and required there; empty for Cedar, where
    /// every policy is asked.
    #[serde(default)]
    pub entrypoint: String,
    /// How the entry point's value becomes findings. Rego only.
    #[serde(default)]
    pub adapter: Adapter,
    /// Version of the input document that the policies are written for.
    #[serde(default = "current_schema")]
    pub input_schema: String,
    /// Effect when every rule abstains on an action with effects.
    #[serde(default = "block")]
    pub default_effect: Effect,
    /// Limits of one evaluation.
    #[serde(default)]
    pub limits: Limits,
    /// State reducers that the policies read.
    #[serde(default)]
    pub reducers: Vec<Reducer>,
}

/// Engine that evaluates a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EngineKind {
    /// Rego, by the regorus interpreter.
    Rego,
    /// Cedar, by the `cedar-policy` crate.
    Cedar,
}

impl EngineKind {
    /// Returns how names of sources end.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Rego => "rego",
            Self::Cedar => "cedar",
        }
    }
}

/// How the value of the entry point becomes findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Adapter {
    /// A set of `{effect, rule, reason, obligations}` objects.
    #[default]
    Findings,
    /// A boolean: true allows, false or undefined blocks.
    Allow,
    /// A set of messages: any blocks, none allows.
    Deny,
}

/// A part of the state that is folded from history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reducer {
    /// Money spent.
    Budget,
    /// Calls, and calls in a row.
    Loop,
    /// Cooldowns.
    Cooldown,
    /// Sums over time windows.
    Window,
}

/// Limits of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Limits {
    /// Wall time in milliseconds: a safety net, far above what an evaluation takes.
    pub wall_ms: u32,
    /// Size of the input: bytes of all keys and strings, and 8 for every other value.
    pub input_bytes: u32,
    /// Findings of one evaluation.
    pub findings: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { wall_ms: 1_000, input_bytes: 1 << 20, findings: 1_000 }
    }
}

impl Limits {
    const WALL_MS_MAX: u32 = 60_000;
    const INPUT_BYTES_MAX: u32 = 64 << 20;
    const FINDINGS_MAX: u32 = 100_000;
}

const LABEL_BYTES_MAX: usize = 64;

impl Settings {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let text = text(SETTINGS_FILE, bytes)?;
        let settings: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            content(SETTINGS_FILE, text, at, error.message())
        })?;
        settings
            .check()
            .map_err(|(key, message)| content(SETTINGS_FILE, text, key_at(text, key), &message))?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if !is_label(&self.name) {
            return Err(("name", label_rule("name", &self.name)));
        }
        if !is_label(&self.version) {
            return Err(("version", label_rule("version", &self.version)));
        }
        if self.engine == EngineKind::Cedar {
            if !self.entrypoint.is_empty() {
                return Err(("entrypoint", "entrypoint is for Rego; Cedar asks every policy".to_owned()));
            }
            if self.adapter != Adapter::Findings {
                return Err((
                    "adapter",
                    "adapter is for Rego; Cedar's annotations say the effect".to_owned(),
                ));
            }
        } else if self.entrypoint.is_empty() {
            let message =
                "entrypoint is missing; name the rule that is evaluated, like `data.acme.agents.findings`";
            return Err(("engine", message.to_owned()));
        } else if !is_rule_path(&self.entrypoint) {
            let message = format!(
                "entrypoint `{}` is not a rule path; write it like `data.acme.agents.findings`",
                self.entrypoint
            );
            return Err(("entrypoint", message));
        }
        if self.input_schema != input::SCHEMA {
            let message = format!(
                "input_schema `{}` is not known here; this build makes `{}`",
                self.input_schema,
                input::SCHEMA
            );
            return Err(("input_schema", message));
        }
        for (key, value, max) in [
            ("wall_ms", self.limits.wall_ms, Limits::WALL_MS_MAX),
            ("input_bytes", self.limits.input_bytes, Limits::INPUT_BYTES_MAX),
            ("findings", self.limits.findings, Limits::FINDINGS_MAX),
        ] {
            if value == 0 || value > max {
                return Err((key, format!("limits.{key} is {value}; it must be between 1 and {max}")));
            }
        }
        Ok(())
    }
}

/// What OPA's `.manifest` says, as far as it changes how a bundle is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// Revision label.
    #[serde(default)]
    pub revision: String,
    /// Paths below `data` that the bundle owns; packages and data must lie inside.
    #[serde(default = "whole_tree")]
    pub roots: Vec<String>,
    /// Version of the language, 1 unless stated.
    #[serde(default = "one")]
    pub rego_version: u8,
    /// Versions by file, which are not supported.
    #[serde(default)]
    file_rego_versions: serde_json::Map<String, serde_json::Value>,
    /// WebAssembly modules, which are not supported.
    #[serde(default)]
    wasm: Vec<serde_json::Value>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            revision: String::new(),
            roots: whole_tree(),
            rego_version: one(),
            file_rego_versions: serde_json::Map::new(),
            wasm: Vec::new(),
        }
    }
}

impl Manifest {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let unsupported =
            |reason: &str| BundleError::Unsupported { file: MANIFEST_FILE.into(), reason: reason.into() };
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| json_content(MANIFEST_FILE, &error))?;
        if manifest.rego_version > 1 {
            return Err(unsupported("`rego_version` must be 0 or 1"));
        }
        if !manifest.file_rego_versions.is_empty() {
            return Err(unsupported(
                "`file_rego_versions` is not supported; use one `rego_version` for the bundle",
            ));
        }
        if !manifest.wasm.is_empty() {
            return Err(unsupported("WebAssembly modules are not supported; ship the .rego sources"));
        }
        Ok(manifest)
    }

    /// Tells whether a path below `data` (`harbor/limits`) lies in one of the roots.
    pub(super) fn owns(&self, path: &[&str]) -> bool {
        self.roots.iter().any(|root| {
            let root: Vec<&str> = root.split('/').filter(|part| !part.is_empty()).collect();
            path.starts_with(&root)
        })
    }
}

/// Reads a file as UTF-8 text.
pub(super) fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, BundleError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(bytes.get(..error.valid_up_to()).unwrap_or_default());
        content(file, &before, before.len(), "this is not UTF-8 text")
    })
}

pub(super) fn json_content(file: &str, error: &serde_json::Error) -> BundleError {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).max(1);
    let message = error.to_string();
    // serde_json puts the place behind the message; here it stands in front.
    let message = message.split(" at line ").next().unwrap_or_default().to_owned();
    BundleError::Content {
        file: file.to_owned(),
        line: number(error.line()),
        column: number(error.column()),
        message,
    }
}

pub(super) fn content(file: &str, text: &str, at: usize, message: &str) -> BundleError {
    let before = text.get(..at).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    BundleError::Content {
        file: file.to_owned(),
        line: number(line),
        column: number(column),
        message: message.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// Finds where a key is set, for errors about values that parsed.
fn key_at(text: &str, key: &str) -> usize {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let rest = line.trim_start();
        if rest.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')) {
            return at + (line.len() - rest.len());
        }
        at += line.len();
    }
    0
}

fn is_label(text: &str) -> bool {
    text.len() <= LABEL_BYTES_MAX
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'))
}

fn label_rule(key: &str, value: &str) -> String {
    format!(
        "{key} `{value}` must be 1 to 64 letters, digits, `.`, `_`, `-` or `+`, and start with a letter or digit"
    )
}

fn is_rule_path(text: &str) -> bool {
    let mut parts = text.split('.');
    let identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    parts.next() == Some("data") && parts.clone().count() >= 2 && parts.all(identifier)
}

fn current_schema() -> String {
    input::SCHEMA.to_owned()
}

const fn block() -> Effect {
    Effect::Block
}

const fn one() -> u8 {
    1
}

fn whole_tree() -> Vec<String> {
    vec![String::new()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str =
        "name = \"a\"\nversion = \"1\"\nengine = \"rego\"\nentrypoint = \"data.a.findings\"\n";

    fn fails(extra: &str) -> String {
        Settings::parse(format!("{MINIMAL}{extra}").as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_strict() {
        let settings = Settings::parse(MINIMAL.as_bytes()).unwrap();
        assert_eq!(settings.default_effect, Effect::Block);
        assert_eq!(settings.adapter, Adapter::Findings);
        assert_eq!(settings.limits, Limits::default());
        assert_eq!(settings.input_schema, input::SCHEMA);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert!(
            fails("default_efect = \"block\"\n")
                .starts_with("verdict.toml:5:1: unknown field `default_efect`")
        );
        assert!(
            fails("default_effect = \"deny\"\n").starts_with("verdict.toml:5:18: unknown variant `deny`")
        );
        assert!(fails("[limits]\nwall_ms = 0\n").starts_with("verdict.toml:6:1: limits.wall_ms is 0"));
        assert!(fails("input_schema = \"verdict-input/9\"\n").contains("`verdict-input/9`"));
        assert!(fails("oops\n").starts_with("verdict.toml:5:"));
        let error = Settings::parse(MINIMAL.replace("data.a.findings", "a.findings").as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("verdict.toml:4:1: entrypoint"), "{error}");
        let error = Settings::parse(MINIMAL.replace("\"1\"", "\"1@2\"").as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("verdict.toml:2:1: version"), "{error}");
        let error = Settings::parse(b"name = \"\xff\"").unwrap_err();
        assert!(error.to_string().starts_with("verdict.toml:1:9: "), "{error}");
    }

    #[test]
    fn roots_own_what_is_below_them() {
        let manifest = Manifest::parse(br#"{"revision": "r1", "roots": ["harbor", "lib/a"]}"#).unwrap();
        assert!(manifest.owns(&["harbor", "limits"]) && manifest.owns(&["lib", "a"]));
        assert!(!manifest.owns(&["lib"]) && !manifest.owns(&["harborx"]));
        assert!(Manifest::default().owns(&["x"]));
        assert!(Manifest::parse(br#"{"wasm": [{"module": "x"}]}"#).is_err());
        assert!(Manifest::parse(br#"{"rego_version": 2}"#).is_err());
    }
}
