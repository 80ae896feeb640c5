//! The ledger directory: `verdict.json`, `db/`, `keys/`; the lock lies outside.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::LedgerError;
use crate::note::VerifierKey;

/// Format of directory, entries and rows.
pub(super) const FORMAT: u32 = 1;

/// Contents of `verdict.json`. Nothing in it is trusted: the genesis entry commits to origin, UUID and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Format.
    pub(super) format: u32,
    /// Origin.
    pub(super) origin: String,
    /// UUID, hex.
    pub(super) uuid: String,
    /// First verifier key.
    pub(super) verifier_key: String,
    /// Verifier key of evidence bundles.
    pub(super) bundle_key: String,
    /// Lock file; absent: beside the directory, with `.lock` appended to its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lock: Option<PathBuf>,
}

/// The one member of `verdict.json` that every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Paths inside a ledger directory.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    pub(super) fn new(dir: &Path) -> Self {
        // Absolute, so that "beside the directory" means something for `.` too.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn db(&self) -> PathBuf {
        self.dir.join("db")
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// Projections that are kept as files; see `shelf`.
    pub(super) fn projections(&self) -> PathBuf {
        self.dir.join("projections")
    }

    pub(super) fn store_secret(&self) -> PathBuf {
        self.keys().join("store.secret")
    }

    fn settings(&self) -> PathBuf {
        self.dir.join("verdict.json")
    }

    /// Returns where the lock lies unless somebody says otherwise.
    pub(super) fn default_lock(&self) -> PathBuf {
        // The same ledger has the same lock under every spelling of its path, through links and `..` too.
        let dir = fs::canonicalize(&self.dir).unwrap_or_else(|_| self.dir.clone());
        let mut name = dir.file_name().map_or_else(|| "verdict".into(), std::ffi::OsStr::to_os_string);
        name.push(".lock");
        dir.with_file_name(name)
    }

    /// Makes the directory; it must be missing or empty.
    pub(super) fn create(&self) -> Result<(), LedgerError> {
        let io = |source| LedgerError::Io { path: self.dir.clone(), source };
        fs::create_dir_all(&self.dir).map_err(io)?;
        if fs::read_dir(&self.dir).map_err(io)?.next().is_some() {
            return Err(LedgerError::NotEmpty { path: self.dir.clone() });
        }
        let keys = fs::DirBuilder::new().mode(0o700).create(self.keys());
        keys.map_err(|source| LedgerError::Io { path: self.keys(), source })
    }

    /// Flushes the directories: a file is not there after a power cut until the directory that names it is. What is
    /// acknowledged must not outlive the keys that it is read with.
    pub(super) fn sync(&self) -> Result<(), LedgerError> {
        let parent = self.dir.parent().map(Path::to_owned);
        for path in [Some(self.keys()), Some(self.dir.clone()), parent].into_iter().flatten() {
            let synced = fs::File::open(&path).and_then(|dir| dir.sync_all());
            synced.map_err(|source| LedgerError::Io { path, source })?;
        }
        Ok(())
    }

    pub(super) fn write_settings(&self, settings: &Settings) -> Result<(), LedgerError> {
        let path = self.settings();
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
            serde_json::to_writer_pretty(&mut file, settings)?;
            file.write_all(b"\n")?;
            file.sync_all()
        };
        write().map_err(|source| LedgerError::Io { path: path.clone(), source })
    }

    pub(super) fn read_settings(&self) -> Result<Settings, LedgerError> {
        let path = self.settings();
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                LedgerError::NotALedger { path: self.dir.clone() }
            }
            _ => LedgerError::Io { path: path.clone(), source },
        })?;
        let bad = |error: serde_json::Error| LedgerError::Settings {
            path: path.clone(),
            detail: error.to_string(),
        };
        // The format is read first: a newer one may have other members.
        let Format { format } = serde_json::from_slice(&bytes).map_err(bad)?;
        if format > FORMAT {
            return Err(LedgerError::Newer { found: format, known: FORMAT });
        }
        if format == 0 {
            return Err(LedgerError::Settings { path, detail: "there is no format 0".to_owned() });
        }
        let settings: Settings = serde_json::from_slice(&bytes).map_err(bad)?;
        for (name, key) in [("verifier_key", &settings.verifier_key), ("bundle_key", &settings.bundle_key)] {
            VerifierKey::parse(key).map_err(|error| LedgerError::Settings {
                path: path.clone(),
                detail: format!("`{name}`: {error}"),
            })?;
        }
        let digits = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if settings.uuid.len() != 32 || !settings.uuid.chars().all(digits) {
            let detail = "`uuid` is not 32 hexadecimal digits in lower case".to_owned();
            return Err(LedgerError::Settings { path, detail });
        }
        Ok(settings)
    }
}
