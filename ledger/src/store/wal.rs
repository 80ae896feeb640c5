//! Record headers that RocksDB must not be shown.
//!
//! Its log reader (11.8.1, `Reader::ReadPhysicalRecord`) answers a header of a *recycled* kind in a log that is not
//! recycled with an error, and does not move past it: it reads that header for ever. We recycle no logs, so such a
//! header is never written; one turned bit, or a torn write, makes one. Opening must not hang, so the headers are looked
//! at first. The walk visits every header that RocksDB would, and perhaps more behind damaged ones; where it finds such
//! a header the log is damaged there or before.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::error::LedgerError;

/// Blocks of a log; no header crosses their border.
const BLOCK_BYTES: usize = 32 << 10;

/// Checksum, length, kind.
const HEADER_BYTES: usize = 7;

/// Kinds of records in recycled logs.
const RECYCLED: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// A file with a header that must not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    path: PathBuf,
    offset: u64,
}

impl Unreadable {
    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Finds such headers in the logs of a database. One in the manifest is an error by itself: nothing can be left out
/// of that.
pub(super) fn unreadable(db: &Path) -> Result<Vec<Unreadable>, LedgerError> {
    let mut found = Vec::new();
    for path in files(db)? {
        if path.extension().is_some_and(|extension| extension == "log") {
            found.extend(scan(&path)?.map(|offset| Unreadable { path, offset }));
        }
    }
    // What is missing or strange here RocksDB tells by itself.
    if let Ok(name) = fs::read_to_string(db.join("CURRENT")) {
        let path = db.join(name.trim_end());
        if let Some(offset) = scan(&path)? {
            return Err(damaged(&[Unreadable { path, offset }]));
        }
    }
    Ok(found)
}

/// The error for damage that hides something, or may.
pub(super) fn damaged(unreadable: &[Unreadable]) -> LedgerError {
    LedgerError::Damaged { place: "database".to_owned(), detail: told(unreadable) }
}

/// Says where.
pub(super) fn told(unreadable: &[Unreadable]) -> String {
    let places: Vec<_> =
        unreadable.iter().map(|file| format!("{} at offset {}", file.name(), file.offset)).collect();
    format!("{}: a record header of a kind that is never written", places.join(", "))
}

/// Makes a directory that looks like the database, with the logs cut before those headers.
pub(super) fn shadow(db: &Path, unreadable: &[Unreadable], to: &Path) -> Result<(), LedgerError> {
    for path in files(db)? {
        let Some(name) = path.file_name() else { continue };
        let copied = unreadable.iter().find(|file| file.path == path).map_or_else(
            || symlink(&path, to.join(name)),
            |file| {
                let mut from = File::open(&path)?.take(file.offset);
                io::copy(&mut from, &mut File::create(to.join(name))?).map(drop)
            },
        );
        copied.map_err(|source| LedgerError::Io { path: path.clone(), source })?;
    }
    Ok(())
}

/// Cuts the logs before those headers.
pub(super) fn cut(unreadable: &[Unreadable]) -> Result<(), LedgerError> {
    for Unreadable { path, offset } in unreadable {
        let cut = || {
            let file = File::options().write(true).open(path)?;
            file.set_len(*offset)?;
            file.sync_all()
        };
        cut().map_err(|source| LedgerError::Io { path: path.clone(), source })?;
    }
    Ok(())
}

/// Files of the database but RocksDB's own lock and information log.
fn files(db: &Path) -> Result<Vec<PathBuf>, LedgerError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut list = Vec::new();
        for entry in fs::read_dir(db)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type()?.is_file() && name != "LOCK" && !name.starts_with("LOG") {
                list.push(entry.path());
            }
        }
        list.sort();
        Ok(list)
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| LedgerError::Io { path: db.to_owned(), source }),
    }
}

/// Finds the first such header of a file. One that is gone has none: its writer may have removed it since.
fn scan(path: &Path) -> Result<Option<u64>, LedgerError> {
    let scanned = || -> io::Result<Option<u64>> {
        let mut file = File::open(path)?;
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let mut start = 0;
        loop {
            block.clear();
            (&mut file).take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
            if let Some(at) = scan_block(&block) {
                return Ok(Some(start + at as u64));
            }
            if block.len() < BLOCK_BYTES {
                return Ok(None);
            }
            start += BLOCK_BYTES as u64;
        }
    };
    match scanned() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map_err(|source| LedgerError::Io { path: path.to_owned(), source }),
    }
}

fn scan_block(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some([_, _, _, _, low, high, kind, ..]) = block.get(at..) {
        if RECYCLED.contains(kind) {
            return Some(at);
        }
        at += HEADER_BYTES + usize::from(u16::from_le_bytes([*low, *high]));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, length: u16) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(length.to_le_bytes());
        bytes.push(kind);
        // Content that looks like the header that is looked for, and is none.
        bytes.resize(HEADER_BYTES + usize::from(length), 5);
        bytes
    }

    #[test]
    fn headers_are_told_from_content_and_followed_over_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("000001.log");
        let mut bytes = [record(1, 100), record(2, 32_000)].concat();
        bytes.resize(BLOCK_BYTES, 0);
        bytes.extend(record(4, 50));
        fs::write(&path, &bytes).unwrap();
        assert_eq!(scan(&path).unwrap(), None);
        let end = bytes.len() as u64;
        for kind in 0..=u8::MAX {
            fs::write(&path, [bytes.clone(), record(kind, 9)].concat()).unwrap();
            let expected = RECYCLED.contains(&kind).then_some(end);
            assert_eq!(scan(&path).unwrap(), expected, "kind {kind}");
        }
        // A length that leaves the block ends it.
        fs::write(&path, [&record(1, u16::MAX)[..100], &record(5, 1)].concat()).unwrap();
        assert_eq!(scan(&path).unwrap(), None);
        assert_eq!(scan(&dir.path().join("gone.log")).unwrap(), None);
    }
}
