//! `anchors.toml`: where checkpoints are anchored.
//!
//! Unknown keys are errors. Relative paths are relative to the file. Secrets are named by the file that holds them and
//! never stand here.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use verdict_ledger::anchor::timestamp::Certificate;
use verdict_ledger::anchor::webhook::WebhookSecret;
use verdict_ledger::cosignature::CosignerKey;

/// Largest settings file, and largest file that it names.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// An example with every key; `verdict anchor check-config` accepts it as it is in a test.
pub const EXAMPLE: &str = include_str!("anchors.example.toml");

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The text is not settings, with line and column where the parser knows them.
    #[error("{}: {detail}", path.display())]
    Form {
        /// File.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A sink's settings cannot be right.
    #[error("{}: sink `{sink}`: {detail}", path.display())]
    Sink {
        /// File.
        path: PathBuf,
        /// Sink.
        sink: String,
        /// What is wrong.
        detail: String,
    },
}

/// The settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The file, for messages.
    #[serde(skip)]
    path: PathBuf,
    /// `verdict serve` anchors a new checkpoint at most once in so many seconds.
    pub interval_seconds: u64,
    /// Longest time for one attempt at one sink, seconds.
    pub timeout_seconds: u64,
    /// Attempts at a sink that cannot be reached; the pauses between them double from one second on.
    pub attempts: u32,
    /// Files, best on another volume.
    pub file: Vec<FileConfig>,
    /// Git repositories.
    pub git: Vec<GitConfig>,
    /// RFC 3161 time stamp authorities.
    pub rfc3161: Vec<TimestampConfig>,
    /// Webhooks.
    pub webhook: Vec<WebhookConfig>,
    /// C2SP tlog-witnesses.
    pub witness: Vec<WitnessConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            interval_seconds: 60,
            timeout_seconds: 20,
            attempts: 3,
            file: Vec::new(),
            git: Vec::new(),
            rfc3161: Vec::new(),
            webhook: Vec::new(),
            witness: Vec::new(),
        }
    }
}

/// A file sink.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Name in results and in the anchor log.
    pub name: String,
    /// File of anchor records; its directory must be there.
    pub path: PathBuf,
}

/// A git sink.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitConfig {
    /// Name in results and in the anchor log.
    pub name: String,
    /// What `git push` is given: a URL or a path.
    pub url: String,
    /// Branch; made when the repository has none of this name.
    #[serde(default = "default_branch")]
    pub branch: String,
    /// File in the repository that holds the newest checkpoint.
    #[serde(default = "default_path")]
    pub path: String,
    /// Bare repository that commits are made in before they are pushed; made when it is missing.
    pub directory: PathBuf,
    /// Name of the author of commits.
    #[serde(default = "default_author")]
    pub author_name: String,
    /// Mail address of the author of commits.
    #[serde(default = "default_email")]
    pub author_email: String,
}

fn default_branch() -> String {
    "main".to_owned()
}

fn default_path() -> String {
    "checkpoint.txt".to_owned()
}

fn default_author() -> String {
    "Verdict anchor".to_owned()
}

fn default_email() -> String {
    "verdict@localhost".to_owned()
}

/// A time stamp authority.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampConfig {
    /// Name in results and in the anchor log.
    pub name: String,
    /// Where requests are posted.
    pub url: String,
    /// The authority's certificate, PEM or DER: with it every token's signature is checked.
    pub certificate: Option<PathBuf>,
    /// Root certificates for https, PEM, instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
}

/// A webhook.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Name in results and in the anchor log.
    pub name: String,
    /// Where checkpoints are posted.
    pub url: String,
    /// File with the shared secret, `whsec_` and base64.
    pub secret_file: PathBuf,
    /// Root certificates for https, PEM, instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
}

/// A witness.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessConfig {
    /// Name in results and in the anchor log.
    pub name: String,
    /// Submission prefix: `add-checkpoint` is appended to it.
    pub url: String,
    /// The witness's verifier key, type 0x04.
    pub key: String,
    /// Root certificates for https, PEM, instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
}

impl Config {
    /// Reads a settings file. What its sinks are made of (keys, certificates, secrets) is looked at by
    /// [`Self::check`]: whoever only opens a ledger need not be able to read a webhook's secret.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let form = |detail: String| ConfigError::Form { path: path.to_owned(), detail };
        let text = String::from_utf8(read(path)?).map_err(|_| form("it is not UTF-8".to_owned()))?;
        let mut config: Self =
            toml::from_str(&text).map_err(|error| form(error.to_string().trim().to_owned()))?;
        config.resolve(path.parent().unwrap_or(Path::new("")));
        path.clone_into(&mut config.path);
        config.check_form(path)?;
        Ok(config)
    }

    /// Reads a settings file; one that is missing has no sinks.
    pub fn load_if_there(path: &Path) -> Result<Option<Self>, ConfigError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => Self::load(path).map(Some),
        }
    }

    /// Counts the sinks.
    pub fn sinks(&self) -> usize {
        self.file.len() + self.git.len() + self.rfc3161.len() + self.webhook.len() + self.witness.len()
    }

    /// Returns the files that opening a ledger compares it with.
    pub fn local_files(&self) -> Vec<PathBuf> {
        self.file.iter().map(|sink| sink.path.clone()).collect()
    }

    fn resolve(&mut self, base: &Path) {
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        let place = |path: &mut PathBuf| *path = base.join(&*path);
        self.file.iter_mut().for_each(|sink| place(&mut sink.path));
        self.git.iter_mut().for_each(|sink| place(&mut sink.directory));
        for sink in &mut self.rfc3161 {
            [&mut sink.certificate, &mut sink.ca_file].into_iter().flatten().for_each(place);
        }
        for sink in &mut self.webhook {
            place(&mut sink.secret_file);
            sink.ca_file.iter_mut().for_each(place);
        }
        self.witness.iter_mut().for_each(|sink| sink.ca_file.iter_mut().for_each(place));
    }

    fn names(&self) -> Vec<&str> {
        let names = self.file.iter().map(|sink| sink.name.as_str());
        let names = names.chain(self.git.iter().map(|sink| sink.name.as_str()));
        let names = names.chain(self.rfc3161.iter().map(|sink| sink.name.as_str()));
        let names = names.chain(self.webhook.iter().map(|sink| sink.name.as_str()));
        names.chain(self.witness.iter().map(|sink| sink.name.as_str())).collect()
    }

    fn check_form(&self, path: &Path) -> Result<(), ConfigError> {
        let form = |detail: &str| Err(ConfigError::Form { path: path.to_owned(), detail: detail.to_owned() });
        if !(1..=86_400).contains(&self.interval_seconds) {
            return form("`interval_seconds` is not between 1 and 86400");
        }
        if !(1..=600).contains(&self.timeout_seconds) {
            return form("`timeout_seconds` is not between 1 and 600");
        }
        if !(1..=10).contains(&self.attempts) {
            return form("`attempts` is not between 1 and 10");
        }
        let mut seen = std::collections::BTreeSet::new();
        for name in self.names() {
            let bad = |detail: &str| {
                Err(ConfigError::Sink {
                    path: path.to_owned(),
                    sink: name.to_owned(),
                    detail: detail.to_owned(),
                })
            };
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                return bad("a name has 1 to 64 letters, digits, hyphens, underscores or dots");
            }
            if !seen.insert(name) {
                return bad("two sinks have this name");
            }
        }
        Ok(())
    }

    /// Checks what the sinks are made of, so that a mistake is found at the start, not at night.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_sinks().map_err(|(sink, detail)| self.mistake(sink, detail))
    }

    /// Says what is wrong with a sink.
    pub(super) fn mistake(&self, sink: String, detail: String) -> ConfigError {
        ConfigError::Sink { path: self.path.clone(), sink, detail }
    }

    fn check_sinks(&self) -> Result<(), (String, String)> {
        let at = |name: &str| {
            let name = name.to_owned();
            move |detail: String| (name, detail)
        };
        for sink in &self.git {
            check_git(sink).map_err(at(&sink.name))?;
        }
        for sink in &self.rfc3161 {
            check_url(&sink.url).map_err(at(&sink.name))?;
            sink.certificate().map_err(at(&sink.name))?;
        }
        for sink in &self.webhook {
            check_url(&sink.url).map_err(at(&sink.name))?;
            sink.secret().map_err(at(&sink.name))?;
        }
        for sink in &self.witness {
            check_url(&sink.url).map_err(at(&sink.name))?;
            sink.key().map_err(at(&sink.name))?;
        }
        Ok(())
    }
}

impl TimestampConfig {
    /// Reads the certificate.
    pub(super) fn certificate(&self) -> Result<Option<Certificate>, String> {
        let Some(path) = &self.certificate else { return Ok(None) };
        let bytes = read(path).map_err(|error| chain(&error))?;
        Certificate::parse(&bytes).map(Some).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl WebhookConfig {
    /// Reads the secret.
    pub(super) fn secret(&self) -> Result<WebhookSecret, String> {
        let path = &self.secret_file;
        let bytes = read_private(path).map_err(|error| chain(&error))?;
        let secret = std::str::from_utf8(&bytes).ok().and_then(|text| WebhookSecret::parse(text).ok());
        secret.ok_or_else(|| {
            format!("{} does not hold `whsec_` and base64 of at least 24 bytes", path.display())
        })
    }
}

impl WitnessConfig {
    /// Reads the key.
    pub(super) fn key(&self) -> Result<CosignerKey, String> {
        CosignerKey::parse(&self.key).map_err(|error| format!("`key`: {error}"))
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if authority.is_empty() || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(format!("`{url}` is not an http:// or https:// URL"));
    }
    if authority.contains('@') {
        return Err("the URL holds a user or password; settings hold no secrets".to_owned());
    }
    Ok(())
}

fn check_git(sink: &GitConfig) -> Result<(), String> {
    if sink.url.is_empty() || sink.url.starts_with('-') || sink.url.contains(char::is_control) {
        return Err("`url` is empty or would be read as an option".to_owned());
    }
    let word = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let parts = || text.split('/');
        text.chars().all(plain)
            && parts().all(|part| !part.is_empty() && !part.starts_with('.') && !part.starts_with('-'))
            && !text.contains("..")
            && !parts().any(|part| {
                part.to_ascii_lowercase().rsplit('.').next() == Some("lock") || part.ends_with('.')
            })
    };
    if !word(&sink.branch) {
        return Err(format!("`branch` cannot be `{}`", sink.branch));
    }
    if !word(&sink.path) {
        return Err(format!("`path` cannot be `{}`: it is a relative path of plain names", sink.path));
    }
    let author = [&sink.author_name, &sink.author_email];
    if author
        .iter()
        .any(|text| text.is_empty() || text.contains(['<', '>']) || text.contains(char::is_control))
    {
        return Err("`author_name` or `author_email` cannot stand in a commit".to_owned());
    }
    Ok(())
}

/// Reads a file of bounded size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    use std::io::Read as _;
    let io = |source| ConfigError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(io)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let detail = format!("it is longer than {FILE_BYTES_MAX} bytes");
        return Err(ConfigError::Form { path: path.to_owned(), detail });
    }
    Ok(bytes)
}

/// Reads a file that nobody but its owner can read.
fn read_private(path: &Path) -> Result<Vec<u8>, ConfigError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = fs::metadata(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let detail = format!("it can be read by other users (mode {mode:o}); run chmod 600 on it");
        return Err(ConfigError::Form { path: path.to_owned(), detail });
    }
    read(path)
}

/// Writes an error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("webhook.secret");
        fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let certificate = include_bytes!("../../../ledger/tests/fixtures/rfc3161/p256.pem");
        fs::write(dir.path().join("tsa.pem"), certificate).unwrap();
        fs::write(dir.path().join("open.secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let path = dir.path().join("anchors.toml");
        fs::write(&path, text).unwrap();
        let config = Config::load(&path).map_err(|error| chain(&error))?;
        config.check().map_err(|error| chain(&error))?;
        Ok(config)
    }

    #[test]
    fn the_example_is_accepted_and_an_empty_file_has_no_sinks() {
        let config = load(EXAMPLE).unwrap();
        assert_eq!(config.sinks(), 5);
        assert!(config.git[0].directory.is_absolute());
        let empty = load("").unwrap();
        assert_eq!((empty.sinks(), empty.interval_seconds, empty.attempts), (0, 60, 3));
        let here = tempfile::tempdir().unwrap();
        assert!(Config::load_if_there(&here.path().join("none")).unwrap().is_none());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let key = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
        let cases = [
            ("interval_secs = 3", "unknown field `interval_secs`"),
            ("interval_seconds = 0", "interval_seconds"),
            ("timeout_seconds = 601", "timeout_seconds"),
            ("attempts = 0", "attempts"),
            ("attempts = -1", "line 1"),
            ("[[file]]\nname = \"a\"\n", "path"),
            ("[[file]]\nname = \"a b\"\npath = \"x\"\n", "sink `a b`"),
            ("[[file]]\nname = \"\"\npath = \"x\"\n", "1 to 64"),
            ("[[file]]\nname = \"a\"\npath = \"x\"\n[[file]]\nname = \"a\"\npath = \"y\"\n", "two sinks"),
            ("[[file]]\nname = \"a\"\npath = \"x\"\nsecret = \"y\"\n", "unknown field"),
            ("[[git]]\nname = \"g\"\nurl = \"--upload-pack=x\"\ndirectory = \"d\"\n", "option"),
            ("[[git]]\nname = \"g\"\nurl = \"x\"\ndirectory = \"d\"\npath = \"../x\"\n", "path"),
            ("[[git]]\nname = \"g\"\nurl = \"x\"\ndirectory = \"d\"\npath = \"/x\"\n", "path"),
            ("[[git]]\nname = \"g\"\nurl = \"x\"\ndirectory = \"d\"\npath = \".git/config\"\n", "path"),
            ("[[git]]\nname = \"g\"\nurl = \"x\"\ndirectory = \"d\"\nbranch = \"-x\"\n", "branch"),
            ("[[rfc3161]]\nname = \"t\"\nurl = \"ftp://x\"\n", "http"),
            ("[[rfc3161]]\nname = \"t\"\nurl = \"http://\"\n", "http"),
            ("[[rfc3161]]\nname = \"t\"\nurl = \"https://u:p@x/\"\n", "secrets"),
            ("[[rfc3161]]\nname = \"t\"\nurl = \"https://x\"\ncertificate = \"none.pem\"\n", "none.pem"),
            (
                "[[rfc3161]]\nname = \"t\"\nurl = \"https://x\"\ncertificate = \"webhook.secret\"\n",
                "certificate",
            ),
            ("[[webhook]]\nname = \"w\"\nurl = \"https://x\"\nsecret_file = \"open.secret\"\n", "chmod 600"),
            ("[[webhook]]\nname = \"w\"\nurl = \"https://x\"\nsecret_file = \"gone\"\n", "gone"),
            ("[[webhook]]\nname = \"w\"\nurl = \"https://x\"\nsecret = \"whsec_x\"\n", "unknown field"),
            ("[[witness]]\nname = \"w\"\nurl = \"https://x\"\nkey = \"x\"\n", "name+hash"),
        ];
        for (text, why) in cases {
            let error = load(text).unwrap_err();
            assert!(error.contains("anchors.toml") && error.contains(why), "{text}\n{error}");
        }
        assert!(load(&format!("[[witness]]\nname = \"w\"\nurl = \"https://x\"\nkey = \"{key}\"\n")).is_ok());
    }
}
