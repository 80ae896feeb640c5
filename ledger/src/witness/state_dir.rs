//! What a witness remembers: one file a log, the last cosigned checkpoint.
//!
//! A file holds the note with the log's signature and the witness's own cosignature, so that whatever a disk makes
//! of it is noticed when it is read, without a checksum of its own. It is replaced as a whole: written beside its
//! place, flushed, moved, and the directory flushed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cosignature::CosignerKey;
use crate::note::NOTE_BYTES_MAX;

/// The one format of state directories.
const FORMAT: u32 = 1;
const SETTINGS: &str = "witness.json";
const LOCK: &str = "witness.lock";

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A witness was made here before.
    #[error("{} is the state of a witness already", path.display())]
    Exists {
        /// Directory.
        path: PathBuf,
    },
    /// There is no witness here. Starting from nothing would forget what was cosigned, so that it is never done
    /// without being asked for.
    #[error("{} is not the state of a witness: it has no {SETTINGS}", path.display())]
    Missing {
        /// Directory.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error("{} is in use by another witness process", path.display())]
    Busy {
        /// Directory.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot access {}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// A file is not what was written.
    #[error("{}: {detail}", path.display())]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

/// Contents of `witness.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    format: u32,
    /// The witness's key, as others know it: the name in it is the witness's name.
    key: String,
}

/// An open state directory; one process at a time.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    key: CosignerKey,
    /// Held locked for as long as the directory is open.
    #[expect(dead_code, reason = "held for its lock")]
    lock: File,
}

impl StateDir {
    /// Makes the state of a new witness in an empty or missing directory.
    pub fn create(dir: &Path, key: &CosignerKey) -> Result<(), StateError> {
        let io = |source| StateError::Io { path: dir.to_owned(), source };
        let path = dir.join(SETTINGS);
        if path.exists() {
            return Err(StateError::Exists { path: dir.to_owned() });
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let settings = Settings { format: FORMAT, key: key.to_string() };
        let mut text = serde_json::to_vec_pretty(&settings).map_err(|error| io(error.into()))?;
        text.push(b'\n');
        replace(&path, &text).map_err(|source| StateError::Io { path, source })
    }

    /// Opens the state of a witness.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(SETTINGS);
        let text = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                StateError::Missing { path: dir.to_owned() }
            }
            _ => StateError::Io { path: path.clone(), source },
        })?;
        let damaged = |detail: String| StateError::Damaged { path: path.clone(), detail };
        let settings: Settings = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if settings.format != FORMAT {
            return Err(damaged(format!("its format is {}, this version reads {FORMAT}", settings.format)));
        }
        let key = CosignerKey::parse(&settings.key).map_err(|error| damaged(error.to_string()))?;
        let path = dir.join(LOCK);
        let io = |source| StateError::Io { path: path.clone(), source };
        let lock = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(io)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StateError::Busy { path: dir.to_owned() },
            TryLockError::Error(source) => io(source),
        })?;
        Ok(Self { dir: dir.to_owned(), key, lock })
    }

    /// Returns the key that the witness is known by.
    pub const fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// Returns the file of a log. Origins can hold anything, and a digest cannot leave the directory.
    pub(super) fn path(&self, origin: &str) -> PathBuf {
        self.dir.join(format!("{}.checkpoint", hex::encode(Sha256::digest(origin))))
    }

    /// Reads the last cosigned checkpoint of a log.
    pub(super) fn load(&self, origin: &str) -> Result<Option<String>, StateError> {
        let path = self.path(origin);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let mut note = String::new();
        let read = file.take(NOTE_BYTES_MAX as u64 + 1).read_to_string(&mut note);
        match read {
            Ok(_) => Ok(Some(note)),
            Err(source) if source.kind() == io::ErrorKind::InvalidData => {
                Err(StateError::Damaged { path, detail: "is not text".to_owned() })
            }
            Err(source) => Err(StateError::Io { path, source }),
        }
    }

    /// Replaces the last cosigned checkpoint of a log; durable when it returns.
    pub(super) fn store(&self, origin: &str, note: &str) -> Result<(), StateError> {
        let path = self.path(origin);
        replace(&path, note.as_bytes()).map_err(|source| StateError::Io { path, source })
    }
}

/// Replaces a file as a whole and makes that durable.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
