//! A file of anchor records that only grows: the anchor log beside the lock, and file sinks elsewhere.
//!
//! A line is written with one call to an append-only descriptor and flushed before it counts. What a power cut left
//! of a line has no newline at its end: the next writer ends it, and readers pass over what is no record. A file that
//! has bytes but no record in its last part is damaged, and is said to be.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::record::{AnchorRecord, LINE_BYTES_MAX, RecordError};
use crate::note::{Checkpoint, VerifierKey};

/// How much of the end of a file is looked at for the newest record.
const TAIL_BYTES: u64 = 4 * LINE_BYTES_MAX as u64;

/// Why a file of anchor records cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// The file cannot be read or written.
    #[error("cannot access anchor file {}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The file has bytes but no record that counts.
    #[error("anchor file {}: {detail}", path.display())]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong, and where.
        detail: String,
    },
    /// A record that is too long to be read again.
    #[error("an anchor record of {bytes} bytes is longer than the limit of {LINE_BYTES_MAX}")]
    TooLong {
        /// Length.
        bytes: usize,
    },
}

/// A checkpoint that a file holds, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchored {
    /// The checkpoint, with its signature verified.
    pub checkpoint: Checkpoint,
    /// The record.
    pub record: AnchorRecord,
}

/// The records of the last part of a file, not verified yet.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    /// Oldest first.
    records: Vec<AnchorRecord>,
    /// Why the first line that is no record is none.
    bad: Option<RecordError>,
}

impl Tail {
    /// Returns the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the largest checkpoint that one of the keys signed; those of the last key's origin come before those of
    /// origins that were left by a restore.
    pub(crate) fn newest(&self, keys: &[VerifierKey]) -> Result<Option<Anchored>, AnchorError> {
        let origin = keys.last().map(VerifierKey::name);
        let rank = |checkpoint: &Checkpoint| (Some(checkpoint.origin.as_str()) == origin, checkpoint.size);
        let mut newest: Option<Anchored> = None;
        let mut refused = self.bad.clone();
        for record in &self.records {
            match record.verify(keys) {
                Ok(checkpoint) => {
                    if newest.as_ref().is_none_or(|newest| rank(&checkpoint) >= rank(&newest.checkpoint)) {
                        newest = Some(Anchored { checkpoint, record: record.clone() });
                    }
                }
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        match (newest, refused) {
            // A note that the log's key did not sign proves nothing, but it must not hide those that it did sign.
            (Some(newest), _) => Ok(Some(newest)),
            (None, Some(error)) => Err(AnchorError::Damaged {
                path: self.path.clone(),
                detail: format!("no record at its end is a checkpoint of this ledger ({error})"),
            }),
            (None, None) => Ok(None),
        }
    }
}

/// A file of anchor records.
#[derive(Debug, Clone)]
pub struct AnchorFile {
    path: PathBuf,
}

impl AnchorFile {
    /// Names a file, which need not be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Names the anchor log that belongs to a lock: beside it, so that it is where the database is not.
    pub fn beside_lock(lock: &Path) -> Self {
        let mut name = lock.file_name().unwrap_or_default().to_os_string();
        name.push(".anchors.jsonl");
        Self::new(lock.with_file_name(name))
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn io(&self, source: io::Error) -> AnchorError {
        AnchorError::Io { path: self.path.clone(), source }
    }

    /// Appends a record; it is durable when this returns.
    pub fn append(&self, record: &AnchorRecord) -> Result<(), AnchorError> {
        let mut line = serde_json::to_vec(record).map_err(|error| self.io(error.into()))?;
        line.push(b'\n');
        if line.len() > LINE_BYTES_MAX {
            return Err(AnchorError::TooLong { bytes: line.len() });
        }
        self.append_line(line).map_err(|source| self.io(source))
    }

    fn append_line(&self, mut line: Vec<u8>) -> io::Result<()> {
        let new = !self.path.exists();
        // Append only, never truncate: the file may be marked so by its operating system (`chattr +a`).
        let mut file =
            fs::OpenOptions::new().read(true).append(true).create(true).mode(0o644).open(&self.path)?;
        // Two processes may anchor at the same time; released when the file is closed.
        file.lock()?;
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.read_exact_at(&mut last, length - 1)?;
        }
        if last != [b'\n'] {
            line.insert(0, b'\n');
        }
        file.write_all(&line)?;
        file.sync_all()?;
        match self.path.parent().filter(|parent| new && !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Returns the largest verified checkpoint near the end of the file; `None` when the file is missing or empty.
    /// The cost does not grow with the file.
    pub fn newest(&self, keys: &[VerifierKey]) -> Result<Option<Anchored>, AnchorError> {
        self.tail()?.newest(keys)
    }

    /// Returns the newest checkpoint of the last part that has cosignatures, with the lines of all of its records.
    pub fn cosigned(&self, keys: &[VerifierKey]) -> Result<Option<(Checkpoint, String)>, AnchorError> {
        let records = self.tail()?.records;
        let mut best: Option<(Checkpoint, String)> = None;
        for record in records {
            let lines = record.cosignatures();
            let Ok(checkpoint) = record.verify(keys) else { continue };
            if lines.is_empty() {
                continue;
            }
            best = Some(match best {
                Some((newest, note)) if newest.size > checkpoint.size => (newest, note),
                Some((newest, note)) if newest == checkpoint => {
                    (newest, crate::cosignature::add_lines(&note, &lines))
                }
                _ => (checkpoint, crate::cosignature::add_lines(&record.note, &lines)),
            });
        }
        Ok(best)
    }

    /// Returns the records of the last part of the file, oldest first; the cost does not grow with the file.
    pub fn recent(&self) -> Result<Vec<AnchorRecord>, AnchorError> {
        Ok(self.tail()?.records)
    }

    /// Reads the whole records of the last part.
    pub(crate) fn tail(&self) -> Result<Tail, AnchorError> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Tail { path: self.path.clone(), records: Vec::new(), bad: None });
            }
            Err(source) => return Err(self.io(source)),
        };
        let mut bytes = Vec::new();
        let mut read = || -> io::Result<bool> {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            (&file).take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(length > TAIL_BYTES)
        };
        let cut = read().map_err(|source| self.io(source))?;
        let mut bad = None;
        let mut records = Vec::new();
        // The first line may have lost its beginning; the last one has no newline when it was torn.
        for line in bytes.split_inclusive(|byte| *byte == b'\n').skip(usize::from(cut)) {
            let Some(line) = line.strip_suffix(b"\n") else { continue };
            if line.is_empty() {
                continue;
            }
            match AnchorRecord::parse(line) {
                Ok(record) => records.push(record),
                Err(error) => {
                    bad.get_or_insert(error);
                }
            }
        }
        Ok(Tail { path: self.path.clone(), records, bad })
    }

    /// Reads every line from the start, with its number from 1; a line that is no record is told, not left out.
    /// Memory does not grow with the file.
    pub fn read(
        &self,
        mut visit: impl FnMut(u64, Result<AnchorRecord, RecordError>),
    ) -> Result<(), AnchorError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(self.io(source)),
        };
        let mut reader = BufReader::new(file);
        let mut number = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = LINE_BYTES_MAX as u64;
            let read = reader.by_ref().take(limit).read_until(b'\n', &mut line);
            if read.map_err(|source| self.io(source))? == 0 {
                return Ok(());
            }
            number += 1;
            match line.strip_suffix(b"\n") {
                Some([]) => {}
                Some(line) => visit(number, AnchorRecord::parse(line)),
                None => {
                    let why = "the line has no end: it was torn, or is longer than a record can be";
                    visit(number, Err(RecordError::Form(why.to_owned())));
                    reader.skip_until(b'\n').map_err(|source| self.io(source))?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppingEntropy;
    use crate::cosignature::Cosigner;
    use crate::key::SigningKey;
    use crate::merkle::leaf_hash;
    use serde_json::{Map, json};

    struct Bench {
        dir: tempfile::TempDir,
        key: SigningKey,
    }

    impl Bench {
        fn new() -> Self {
            let key = SigningKey::generate(&SteppingEntropy::default()).unwrap();
            Self { dir: tempfile::tempdir().unwrap(), key }
        }

        fn file(&self) -> AnchorFile {
            AnchorFile::beside_lock(&self.dir.path().join("l.lock"))
        }

        fn keys(&self) -> Vec<VerifierKey> {
            vec![VerifierKey::new("ledger.example/t", self.key.public()).unwrap()]
        }

        fn record(&self, size: u64, receipt: Map<String, serde_json::Value>) -> AnchorRecord {
            let root = leaf_hash(&size.to_be_bytes());
            let note = Checkpoint { origin: "ledger.example/t".into(), size, root }.sign(&self.key).unwrap();
            AnchorRecord::new(1_763_670_000_000_000_000, "s", "file", &note, receipt).unwrap()
        }
    }

    #[test]
    fn what_is_appended_is_read_back_and_the_newest_is_found() {
        let bench = Bench::new();
        let file = bench.file();
        assert_eq!(file.path().file_name().unwrap(), "l.lock.anchors.jsonl");
        assert_eq!(file.newest(&bench.keys()).unwrap(), None);
        for size in [1, 5, 3] {
            file.append(&bench.record(size, Map::new())).unwrap();
        }
        let newest = file.newest(&bench.keys()).unwrap().unwrap();
        assert_eq!(newest.checkpoint.size, 5);
        assert_eq!(newest.record.time, "2025-11-20T20:20:00.000000000Z");
        let mut seen = Vec::new();
        file.read(|number, record| seen.push((number, record.unwrap().size().to_owned()))).unwrap();
        assert_eq!(seen, [(1, "1".to_owned()), (2, "5".into()), (3, "3".into())]);
    }

    #[test]
    fn a_torn_line_hides_nothing_and_is_ended_by_the_next() {
        let bench = Bench::new();
        let file = bench.file();
        file.append(&bench.record(1, Map::new())).unwrap();
        file.append(&bench.record(2, Map::new())).unwrap();
        let whole = fs::read(file.path()).unwrap();
        let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in second..whole.len() {
            fs::write(file.path(), &whole[..cut]).unwrap();
            assert_eq!(file.newest(&bench.keys()).unwrap().unwrap().checkpoint.size, 1, "cut at {cut}");
        }
        fs::write(file.path(), &whole[..second + 40]).unwrap();
        file.append(&bench.record(3, Map::new())).unwrap();
        assert_eq!(file.newest(&bench.keys()).unwrap().unwrap().checkpoint.size, 3);
        let mut bad = Vec::new();
        file.read(|number, record| bad.extend(record.is_err().then_some(number))).unwrap();
        assert_eq!(bad, [2]);
    }

    #[test]
    fn a_file_without_a_checkpoint_of_this_ledger_is_damaged_and_foreign_lines_hide_nothing() {
        let (ours, theirs) = (Bench::new(), Bench::new());
        let foreign =
            Bench { key: SigningKey::generate(&SteppingEntropy::starting_at(9)).unwrap(), ..theirs };
        let file = ours.file();
        file.append(&foreign.record(7, Map::new())).unwrap();
        let error = file.newest(&ours.keys()).unwrap_err().to_string();
        assert!(error.contains("anchors.jsonl") && error.contains("no signature"), "{error}");
        file.append(&ours.record(4, Map::new())).unwrap();
        file.append(&foreign.record(9, Map::new())).unwrap();
        assert_eq!(file.newest(&ours.keys()).unwrap().unwrap().checkpoint.size, 4);

        for garbage in ["x\n", "{}\n", "{\"v\":2}\n", "\u{0}\u{0}\n"] {
            fs::write(file.path(), garbage).unwrap();
            assert!(matches!(file.newest(&ours.keys()), Err(AnchorError::Damaged { .. })), "{garbage:?}");
        }
    }

    #[test]
    fn a_long_file_is_read_from_its_end_only() {
        let bench = Bench::new();
        let file = bench.file();
        let mut padding = Map::new();
        padding.insert("pad".into(), json!("x".repeat(200_000)));
        for size in 1..=8 {
            file.append(&bench.record(size, padding.clone())).unwrap();
        }
        assert!(fs::metadata(file.path()).unwrap().len() > TAIL_BYTES);
        assert_eq!(file.newest(&bench.keys()).unwrap().unwrap().checkpoint.size, 8);
        padding.insert("pad".into(), json!("x".repeat(300_000)));
        let error = file.append(&bench.record(9, padding)).unwrap_err();
        assert!(matches!(error, AnchorError::TooLong { .. }));
    }

    #[test]
    fn cosignatures_of_one_checkpoint_are_joined() {
        let bench = Bench::new();
        let file = bench.file();
        let mut keys = Vec::new();
        for (number, size) in [(1u64, 2), (2, 3), (3, 3), (4, 1)] {
            let key = SigningKey::generate(&SteppingEntropy::starting_at(number + 20)).unwrap();
            let witness = Cosigner::new(&format!("w{number}"), key).unwrap();
            let record = bench.record(size, Map::new());
            let text = crate::note::SignedNote::parse(&record.note).unwrap().text;
            let line = witness.cosign(&text, 7).to_string();
            let mut receipt = Map::new();
            receipt.insert("cosignatures".into(), json!([line.trim_end()]));
            file.append(&bench.record(size, receipt)).unwrap();
            keys.push(witness.verifier().clone());
        }
        let (checkpoint, note) = file.cosigned(&bench.keys()).unwrap().unwrap();
        assert_eq!(checkpoint.size, 3);
        let note = crate::note::SignedNote::parse(&note).unwrap();
        assert_eq!(note.signatures.len(), 3);
        for key in [&keys[1], &keys[2]] {
            assert_eq!(key.time_in(&note), Ok(7));
        }
    }
}
