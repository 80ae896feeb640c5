//! How a command ends. Every exit code is decided here, whatever the command and the output format.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | clean |
//! | 1 | a finding: tampering found, gate fired, tests failed |
//! | 2 | usage, or input that cannot be used |
//! | 3 | a result that cannot be trusted: unknown key, incomplete, rolled back, not reproduced |
//! | 4 | environment: files, permissions, port, disk, a second writer |

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use verdict_diff::DiffError;
use verdict_exporters::evidence::{ExportError, MaterialError};
use verdict_ledger::anchor::AnchorError;
use verdict_ledger::key::KeyError;
use verdict_ledger::{AppendError, LedgerError};
use verdict_replay::policy::registry::RegistryError;
use verdict_replay::policy::{BundleError, PolicyError};
use verdict_replay::run::{ReplayError, SourceError};
use verdict_ui::auth::store::StoreError;
use verdict_ui::config::{CheckError, ConfigError};
use verdict_ui::web::{ServeError, TlsError};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nothing to say.
    Clean,
    /// The command did its work and found something.
    Finding,
    /// Usage or input.
    Unusable,
    /// The result cannot be trusted.
    Untrusted,
    /// The machine.
    Environment,
}

impl Exit {
    /// Returns the process exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Finding => 1,
            Self::Unusable => 2,
            Self::Untrusted => 3,
            Self::Environment => 4,
        }
    }

    /// Reads the exit code that a library decided.
    pub(crate) const fn of_code(code: u8) -> Self {
        match code {
            0 => Self::Clean,
            1 => Self::Finding,
            2 => Self::Unusable,
            3 => Self::Untrusted,
            _ => Self::Environment,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Usage, or input that cannot be used.
    Unusable,
    /// What was found cannot be trusted.
    Untrusted,
    /// The machine does not let us.
    Environment,
    /// Something was changed that must not change.
    Finding,
}

impl Kind {
    /// Returns how a command ends that fails for this reason.
    pub(crate) const fn exit(self) -> Exit {
        match self {
            Self::Unusable => Exit::Unusable,
            Self::Untrusted => Exit::Untrusted,
            Self::Environment => Exit::Environment,
            Self::Finding => Exit::Finding,
        }
    }

    /// Returns the name in JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unusable => "unusable",
            Self::Untrusted => "untrusted",
            Self::Environment => "environment",
            Self::Finding => "finding",
        }
    }
}

/// Why a command did not do its work, and the way out.
#[derive(Debug)]
pub(crate) struct CliError {
    /// Kind.
    pub(crate) kind: Kind,
    /// What happened, where.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hints: Vec<String>,
}

impl CliError {
    /// Makes an error.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new() }
    }

    /// Usage, or input that cannot be used.
    pub(crate) fn unusable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unusable, message)
    }

    /// A file or directory that does not work.
    pub(crate) fn io(what: &str, path: &Path, error: &std::io::Error) -> Self {
        let message = format!("{what} {}: {error}", path.display());
        match error.kind() {
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::IsADirectory
            | std::io::ErrorKind::NotADirectory
            | std::io::ErrorKind::InvalidData => Self::unusable(message),
            std::io::ErrorKind::StorageFull
            | std::io::ErrorKind::FileTooLarge
            | std::io::ErrorKind::QuotaExceeded => {
                Self::new(Kind::Environment, message).hint("free some space and run the command again")
            }
            _ => Self::new(Kind::Environment, message),
        }
    }

    /// Adds a way out.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Puts a place before the message, unless the message names it already.
    #[must_use]
    pub(crate) fn at(mut self, place: impl std::fmt::Display) -> Self {
        let place = place.to_string();
        if !self.message.contains(&place) {
            self.message = format!("{place}: {}", self.message);
        }
        self
    }

    pub(crate) fn of(kind: Kind, error: &dyn Error) -> Self {
        Self::new(kind, chain(error))
    }
}

/// Writes an error with its causes; a cause that the text before it already tells is left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            let _ = write!(text, ": {told}");
        }
        cause = error.source();
    }
    text
}

const FULL: &str =
    "free some space, then run the command again: what was acknowledged is kept and is not added twice";

impl From<LedgerError> for CliError {
    fn from(error: LedgerError) -> Self {
        match &error {
            LedgerError::NotALedger { path } => Self::of(Kind::Unusable, &error)
                .hint(format!("create one with `verdict --ledger {} init`", path.display()))
                .hint("or name the right directory with --ledger DIR or VERDICT_LEDGER"),
            LedgerError::NotEmpty { .. } => {
                Self::of(Kind::Unusable, &error).hint("name another directory with --ledger DIR")
            }
            LedgerError::LockExists { .. } => Self::of(Kind::Unusable, &error).hint(
                "if that ledger is gone on purpose, move the lock file away; otherwise restore the ledger",
            ),
            LedgerError::AnchorsExist { .. } => Self::of(Kind::Unusable, &error).hint(
                "if that ledger is gone on purpose, move this file away with its lock; otherwise restore the ledger",
            ),
            LedgerError::Anchored { .. } => Self::of(Kind::Untrusted, &error)
                .hint("do not append to it: the lock agrees with the database, and the anchor with neither")
                .hint("keep everything as it is, and compare it with a backup and with the other anchors"),
            LedgerError::Anchor(AnchorError::Damaged { .. }) => Self::of(Kind::Untrusted, &error)
                .hint("restore the file, or move it away if it belongs to another ledger"),
            LedgerError::Settings { .. } => Self::of(Kind::Unusable, &error)
                .hint("restore verdict.json from a backup of the ledger directory"),
            LedgerError::Newer { .. } => {
                Self::of(Kind::Unusable, &error).hint("use a newer version of verdict")
            }
            LedgerError::Rows { found, known } if found < known => Self::of(Kind::Unusable, &error)
                .hint("run `verdict rebuild`: it makes the rows again from the entries"),
            LedgerError::Rows { .. } => Self::of(Kind::Unusable, &error).hint("use a newer version of verdict"),
            LedgerError::Reopen => Self::of(Kind::Environment, &error).hint("run the command again"),
            LedgerError::Rebuilding => Self::of(Kind::Environment, &error)
                .hint("wait until `verdict rebuild` is done, or run it again if it was cut short: it starts over"),
            LedgerError::OutOfRange { .. } => Self::of(Kind::Unusable, &error),
            LedgerError::Busy { .. } => Self::of(Kind::Environment, &error)
                .hint("a ledger has one writer, and `verdict serve` is one for as long as it runs")
                .hint(
                    "what only reads works meanwhile: find, stats, trace, replay, fsck, verify, export events, keys show",
                ),
            LedgerError::LockMissing { .. } => Self::of(Kind::Untrusted, &error)
                .hint("restore the lock file, or name where it is now with --lock PATH"),
            LedgerError::RolledBack { .. } => Self::of(Kind::Untrusted, &error)
                .hint("do not append to it; compare it with a backup and with checkpoints that others keep")
                .hint("if this is a backup that was put back on purpose, `verdict restore` goes on from it under a new origin and records what is lost"),
            _ if error.is_untrusted() => Self::of(Kind::Untrusted, &error)
                .hint("do not append to it; compare it with a backup and with checkpoints that others keep"),
            LedgerError::Damaged { place, .. } if place.starts_with("tree hash") || place.starts_with("row of `ix_") => {
                Self::of(Kind::Untrusted, &error)
                    .hint("what is damaged can be made again from the entries: run `verdict rebuild`, then `verdict verify`")
            }
            LedgerError::Damaged { .. } => Self::of(Kind::Untrusted, &error)
                .hint("run `verdict fsck` to find every damaged place, then restore from a backup"),
            LedgerError::Database(cause) => {
                let text = cause.to_string();
                if text.starts_with("Corruption") {
                    Self::of(Kind::Untrusted, &error).hint("run `verdict fsck`, then restore from a backup")
                } else if text.contains("No space left") || text.contains("File too large") {
                    Self::of(Kind::Environment, &error).hint(FULL)
                } else {
                    Self::of(Kind::Environment, &error)
                }
            }
            LedgerError::Note(_) => Self::of(Kind::Unusable, &error)
                .hint("an origin looks like `example.org/verdict/prod`: no spaces and no plus signs"),
            LedgerError::Io { path, source } => Self::io("cannot access", path, source),
            LedgerError::Genesis(cause) => {
                let mut inner = Self::from((**cause).clone());
                inner.message = format!("{error}: {}", inner.message);
                inner
            }
            LedgerError::Key(key) => {
                let out = Self::of(key_kind(key), &error);
                match key_hint(key) {
                    Some(hint) => out.hint(hint),
                    None => out.hint("a ledger needs the files in `keys/`: restore them from a backup"),
                }
            }
            LedgerError::SignerConfig(_) | LedgerError::KeyChange(_) | LedgerError::Restore(_) => {
                Self::of(Kind::Unusable, &error)
            }
            LedgerError::Rotation { .. } => Self::of(Kind::Environment, &error)
                .hint("both keys must sign it once; make the former key's signer work, then open the ledger again"),
            LedgerError::Append(cause) => Self::from(cause.clone()),
            _ => Self::of(Kind::Environment, &error),
        }
    }
}

/// How a command ends that cannot use a key file.
pub(crate) const fn key_kind(error: &KeyError) -> Kind {
    match error {
        KeyError::Format { .. }
        | KeyError::Locked { .. }
        | KeyError::WrongPassphrase { .. }
        | KeyError::NoPassphrase { .. }
        | KeyError::WeakPassphrase
        | KeyError::Cost { .. } => Kind::Unusable,
        _ => Kind::Environment,
    }
}

/// The way out, where it is another than a backup.
pub(crate) const fn key_hint(error: &KeyError) -> Option<&'static str> {
    match error {
        KeyError::Locked { .. } => Some(
            "name a file that holds the passphrase with --passphrase-file or VERDICT_PASSPHRASE_FILE, or run the command on a terminal, which asks",
        ),
        KeyError::WrongPassphrase { .. } => Some(
            "passphrases are told apart by every byte; the first line of the file is taken, without its line feed",
        ),
        KeyError::Exposed { .. } => {
            Some("whoever could read it has the key: think about `verdict keys rotate`")
        }
        _ => None,
    }
}

impl From<KeyError> for CliError {
    fn from(error: KeyError) -> Self {
        let out = match &error {
            KeyError::Io { path, source } => Self::io("cannot access key file", path, source),
            _ => Self::of(key_kind(&error), &error),
        };
        match key_hint(&error) {
            Some(hint) => out.hint(hint),
            None => out,
        }
    }
}

impl From<AppendError> for CliError {
    fn from(error: AppendError) -> Self {
        match &error {
            AppendError::Storage { full: true, .. } => Self::of(Kind::Environment, &error).hint(FULL),
            AppendError::Storage { .. } | AppendError::Poisoned { .. } => Self::of(Kind::Environment, &error)
                .hint("run the command again: what was acknowledged is kept and is not added twice"),
            AppendError::Unsigned { .. } => Self::of(Kind::Environment, &error)
                .hint("make the signer of the log key work; `verdict keys show` tells where it is"),
            AppendError::ReadOnly | AppendError::Entropy(_) => Self::of(Kind::Environment, &error),
            _ => Self::of(Kind::Unusable, &error),
        }
    }
}

impl From<PolicyError> for CliError {
    fn from(error: PolicyError) -> Self {
        let mut out = Self::of(Kind::Unusable, &error);
        if let PolicyError::Invalid { problems, .. } = &error {
            let errors = problems.iter().filter(|problem| problem.is_error());
            out.hints.extend(errors.skip(1).take(19).map(|problem| format!("also {problem}")));
            out = out.hint("fix the file, then try it with `verdict policy check PATH`");
        }
        out
    }
}

impl From<BundleError> for CliError {
    fn from(error: BundleError) -> Self {
        match &error {
            BundleError::Read { source, path } => Self::io("cannot read", path, source),
            _ => Self::of(Kind::Unusable, &error).hint(
                "a bundle is a directory or .tar.gz with verdict.toml and policy/*.rego or policy/*.cedar",
            ),
        }
    }
}

impl From<RegistryError> for CliError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Ledger(error) => error.into(),
            RegistryError::Append(error) => error.into(),
            RegistryError::Policy(error) => error.into(),
            RegistryError::Bundle { reference, source } => Self::from(source).at(reference),
            RegistryError::Unknown { .. } | RegistryError::Ambiguous { .. } | RegistryError::Reference { .. } => {
                Self::of(Kind::Unusable, &error)
                    .hint("see `verdict policy list`; a policy is named name@version, digest (its first 8 digits do), `active`, or a path with a `/`")
            }
            RegistryError::TestsFail { .. } => Self::of(Kind::Finding, &error)
                .hint("see `verdict policy test PATH`; `--override WHY` publishes it all the same and records why"),
            RegistryError::NoneActive { .. } => {
                Self::of(Kind::Unusable, &error)
                    .hint("put one in force: `verdict policy publish PATH --activate`, or `verdict policy activate REF` for one that is published")
            }
            RegistryError::ArchiveMissing { .. }
            | RegistryError::ArchiveDiffers { .. }
            | RegistryError::Entry { .. } => {
                Self::of(Kind::Untrusted, &error).hint("run `verdict fsck` to see what else is damaged")
            }
            _ => Self::of(Kind::Unusable, &error),
        }
    }
}

impl From<ReplayError> for CliError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Ledger { seq, source: SourceError::Ledger(source) } => {
                Self::from(source).at(format_args!("entry {seq}"))
            }
            ReplayError::Ledger { seq, source: SourceError::Activation(source) } => {
                Self::from(source).at(format_args!("entry {seq}"))
            }
            ReplayError::Sampled { .. } | ReplayError::OtherRun => Self::of(Kind::Unusable, &error),
            ReplayError::Sink { .. } | ReplayError::Threads { .. } => Self::of(Kind::Environment, &error),
            ReplayError::Range { .. } | ReplayError::NoTrace { .. } => Self::of(Kind::Unusable, &error)
                .hint("see `verdict trace list` and `verdict stats` for what is there"),
            _ => Self::of(Kind::Untrusted, &error),
        }
    }
}

impl From<DiffError> for CliError {
    fn from(error: DiffError) -> Self {
        Self::of(Kind::Untrusted, &error)
    }
}

impl From<ExportError> for CliError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Material(MaterialError::Ledger(error)) => error.into(),
            ExportError::Material(
                MaterialError::Range { .. }
                | MaterialError::Trace { .. }
                | MaterialError::NoCheckpoint { .. },
            ) => Self::of(Kind::Unusable, &error)
                .hint("see `verdict trace list` and `verdict stats` for what is there"),
            ExportError::KeyName { .. } | ExportError::SharedKey | ExportError::TooManyFiles { .. } => {
                Self::of(Kind::Unusable, &error)
            }
            ExportError::Material(_) | ExportError::Entry { .. } | ExportError::Unsound { .. } => {
                Self::of(Kind::Untrusted, &error)
            }
            _ => Self::of(Kind::Environment, &error),
        }
    }
}

impl From<ServeError> for CliError {
    fn from(error: ServeError) -> Self {
        match &error {
            ServeError::NotLoopback { .. } => Self::of(Kind::Unusable, &error).hint(GUARD),
            // The cause is "address in use", which the message says already.
            ServeError::InUse { .. } => Self::new(Kind::Environment, error.to_string())
                .hint("choose another address with --listen 127.0.0.1:PORT"),
            _ => Self::of(Kind::Environment, &error),
        }
    }
}

const GUARD: &str =
    "make a token with `verdict token create NAME --scope ingest` and serve with --auth token";

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Name { .. } | StoreError::NameTaken { .. } => Self::of(Kind::Unusable, &error),
            StoreError::Unknown { .. } => Self::of(Kind::Unusable, &error).hint("see `verdict token list`"),
            StoreError::Form { .. } => Self::of(Kind::Unusable, &error)
                .hint("restore the file from a backup, or move it away and make new tokens"),
            StoreError::Exposed { .. } => Self::of(Kind::Environment, &error)
                .hint("it holds digests and no tokens, but whoever can write it can let anybody in"),
            _ => Self::of(Kind::Environment, &error),
        }
    }
}

impl From<TlsError> for CliError {
    fn from(error: TlsError) -> Self {
        match &error {
            TlsError::Io { what, path, source } => Self::io(&format!("cannot read {what}"), path, source),
            TlsError::Exposed { .. } => Self::of(Kind::Environment, &error),
            _ => Self::of(Kind::Unusable, &error),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Io { path, source } => Self::io("cannot read", path, source),
            ConfigError::Unknown { .. } => {
                Self::of(Kind::Unusable, &error).hint("`verdict config show` lists every key")
            }
            _ => Self::of(Kind::Unusable, &error),
        }
    }
}

impl From<CheckError> for CliError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Tls(error) => error.into(),
            CheckError::Tokens(error) => error.into(),
            CheckError::Headers { path, source } => {
                Self::io("cannot read telemetry.headers_file", &path, &source)
            }
            CheckError::Open { listen } => Self::of(Kind::Unusable, &error)
                .hint(GUARD)
                .hint(format!("or listen on 127.0.0.1:{}, and reach it through a tunnel", listen.port())),
            CheckError::HeadersForm { .. } | CheckError::Loop { .. } => Self::of(Kind::Unusable, &error),
            _ => Self::of(Kind::Environment, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_table() {
        let all = [Exit::Clean, Exit::Finding, Exit::Unusable, Exit::Untrusted, Exit::Environment];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4]);
        assert!(all.into_iter().all(|exit| Exit::of_code(exit.code()) == exit));
    }

    #[test]
    fn a_ledger_that_contradicts_its_lock_is_untrusted_and_a_full_disk_is_the_machine() {
        let rolled = CliError::from(LedgerError::RolledBack { have: 3, want: 5 });
        assert_eq!((rolled.kind, rolled.message.contains("3..5")), (Kind::Untrusted, true));
        let full =
            CliError::from(AppendError::Storage { detail: "No space left on device".into(), full: true });
        assert_eq!(full.kind, Kind::Environment);
        assert!(full.hints.iter().any(|hint| hint.contains("free some space")));
    }
}
