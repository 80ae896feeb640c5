//! Projections that cost time to make again, kept as files beside the database: a reader may keep one too, which cannot
//! write to the database.
//!
//! A file says which ledger and position it follows from: the root of the tree at that position. It is passed over when it
//! does not fit, when its bytes are not those that were written, or when something was erased since it was made. Nothing
//! breaks when the whole folder is deleted.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::erasure::PAYLOAD_ERASED;
use super::error::LedgerError;
use super::{Index, Ledger};

/// Bytes of one file; a larger projection is not kept.
const BYTES_MAX: u64 = 1 << 30;

/// A sort of projection.
#[derive(Debug, Clone, Copy)]
pub struct Shelf {
    /// Name, which is the name of its folder.
    pub name: &'static str,
    /// Version of what it holds; another version is never read.
    pub version: u32,
}

/// First line of a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    origin: String,
    at: u64,
    root: String,
    /// Entries that there were when it was begun: what was erased later is not known to it.
    seen: u64,
    digest: String,
}

/// Encodes what a projection holds.
pub fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    bincode::serde::encode_to_vec(value, super::codec::CONFIG).map_err(io::Error::other)
}

/// Decodes what [`encode`] made; bytes that are left over are an error.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    match bincode::serde::decode_from_slice(bytes, super::codec::CONFIG) {
        Ok((value, read)) if read == bytes.len() => Ok(value),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than there should be")),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

impl Ledger {
    /// Returns the folder of the projections that are kept as files.
    pub fn projections(&self) -> PathBuf {
        self.inner.layout.projections()
    }

    /// Returns the newest projection at or before a position that still holds, and its position.
    pub fn shelved<T: DeserializeOwned>(
        &self,
        shelf: Shelf,
        at_most: u64,
    ) -> Result<Option<(u64, T)>, LedgerError> {
        let dir = self.shelf_dir(shelf);
        let mut positions: Vec<u64> = match fs::read_dir(&dir) {
            Ok(files) => files.filter_map(|file| position(&file.ok()?.path())).collect(),
            Err(_) => return Ok(None),
        };
        positions.retain(|at| *at <= at_most && *at <= self.head().size);
        positions.sort_unstable();
        while let Some(at) = positions.pop() {
            let path = file(&dir, at);
            if let Some(value) = self.read_shelved(&path, at)? {
                return Ok(Some((at, value)));
            }
            // It would be looked at again each time; whether it can be removed does not matter.
            let _ = fs::remove_file(&path);
        }
        Ok(None)
    }

    /// Tells whether there is a projection of exactly this position, whatever it holds.
    pub fn is_shelved(&self, shelf: Shelf, at: u64) -> bool {
        file(&self.shelf_dir(shelf), at).exists()
    }

    /// Keeps a projection of the first `at` entries. `seen` is how many entries there were before anything was read for it:
    /// a value that is erased meanwhile may be in it. It is a convenience: a folder that cannot be written is an error
    /// that the caller may pass over.
    pub fn shelve<T: Serialize>(
        &self,
        shelf: Shelf,
        at: u64,
        seen: u64,
        value: &T,
    ) -> Result<(), LedgerError> {
        let dir = self.shelf_dir(shelf);
        let io = |source| LedgerError::Io { path: dir.clone(), source };
        let payload = bincode::serde::encode_to_vec(value, super::codec::CONFIG)
            .map_err(|e| io(io::Error::other(e)))?;
        let header = Header {
            origin: self.origin().to_owned(),
            at,
            root: hex::encode(self.root_at(at)?.0),
            seen,
            digest: blake3::hash(&payload).to_hex().to_string(),
        };
        let write = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            // Two processes may make the same one; each renames a file of its own into place.
            let draft = dir.join(format!("{at:016x}.{}.part", std::process::id()));
            let mut out = fs::OpenOptions::new();
            let mut out = out.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            serde_json::to_writer(&mut out, &header)?;
            out.write_all(b"\n")?;
            out.write_all(&payload)?;
            drop(out);
            fs::rename(&draft, file(&dir, at))
        };
        write().map_err(io)
    }

    fn read_shelved<T: DeserializeOwned>(&self, path: &Path, at: u64) -> Result<Option<T>, LedgerError> {
        let Ok(bytes) = fs::metadata(path).and_then(|meta| {
            if meta.len() > BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { fs::read(path) }
        }) else {
            return Ok(None);
        };
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let (head, payload) =
            (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default());
        let Ok(header) = serde_json::from_slice::<Header>(head) else { return Ok(None) };
        let fits = header.at == at
            && header.origin == self.origin()
            && header.digest == blake3::hash(payload).to_hex().as_str()
            && header.root == hex::encode(self.root_at(at)?.0)
            && self.find(Index::Kind, PAYLOAD_ERASED, header.seen..u64::MAX, 1)?.is_empty();
        if !fits {
            return Ok(None);
        }
        Ok(decode(payload).ok())
    }

    fn shelf_dir(&self, shelf: Shelf) -> PathBuf {
        self.inner.layout.projections().join(format!("{}.v{}", shelf.name, shelf.version))
    }
}

/// Removes every projection: what they say of erased values must be gone from the disk.
pub(super) fn clear(projections: &Path) -> Result<(), LedgerError> {
    match fs::remove_dir_all(projections) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(LedgerError::Io { path: projections.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn file(dir: &Path, at: u64) -> PathBuf {
    dir.join(format!("{at:016x}.bin"))
}

fn position(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".bin")?;
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok()).flatten()
}
