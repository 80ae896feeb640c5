//! A directory that holds a log as static files, and how files get into it.
//!
//! The file `checkpoint` says what the directory holds, so it comes last: everything that it covers is on the disk
//! before it. An export that was interrupted is therefore one with an older checkpoint, or with none, and goes on
//! from there. No file is ever seen half: it is written under `.partial`, flushed, and moved to its place.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use verdict_ledger::tile::Tile;

use crate::exit::CliError;

/// Name of the file that says what the directory holds.
const CHECKPOINT: &str = "checkpoint";
/// Where files are written before they are moved. Not below `tile/`, which holds tiles and nothing else.
const PARTIAL: &str = ".partial";
/// Files that are flushed together: the first flush takes the others along, so that a file costs little.
const GROUP: usize = 256;
/// Longest checkpoint that is read back.
const CHECKPOINT_BYTES_MAX: u64 = 64 << 10;

/// A directory with a log.
#[derive(Debug)]
pub(super) struct Mirror {
    dir: PathBuf,
    /// Written, not yet flushed and moved: file, where it is, its name.
    pending: Vec<(File, PathBuf, PathBuf)>,
    /// Directories whose list of files changed.
    changed: BTreeSet<PathBuf>,
    files: u64,
    bytes: u64,
}

impl Mirror {
    /// Opens a directory, which must be missing, empty or a log.
    pub(super) fn open(dir: &Path) -> Result<Self, CliError> {
        let write = |error: io::Error| CliError::io("cannot write to", dir, &error);
        fs::create_dir_all(dir).map_err(write)?;
        let names = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(write)?;
        let ours = [CHECKPOINT, "tile", PARTIAL];
        if !names.is_empty() && !names.iter().any(|name| ours.iter().any(|ours| name.file_name() == *ours)) {
            return Err(CliError::unusable(format!(
                "{} is not empty and holds no exported log",
                dir.display()
            ))
            .hint("name a directory that does not exist, is empty, or holds an earlier export of this log"));
        }
        let partial = dir.join(PARTIAL);
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write(error)),
            _ => fs::create_dir(&partial).map_err(write)?,
        }
        Ok(Self { dir: dir.to_owned(), pending: Vec::new(), changed: BTreeSet::new(), files: 0, bytes: 0 })
    }

    /// Reads the checkpoint of an earlier export.
    pub(super) fn checkpoint(&self) -> Result<Option<String>, CliError> {
        let path = self.dir.join(CHECKPOINT);
        let text = File::open(&path).and_then(|file| {
            if file.metadata()?.len() > CHECKPOINT_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long for a checkpoint"));
            }
            io::read_to_string(file)
        });
        match text {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CliError::io("cannot read", &path, &error)),
        }
    }

    /// Adds a file, or replaces it.
    pub(super) fn put(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), CliError> {
        self.put_all(name, std::iter::once(Ok(bytes)))
    }

    /// Adds a file, or replaces it, piece by piece.
    pub(super) fn put_all(
        &mut self,
        name: &str,
        pieces: impl Iterator<Item = Result<Vec<u8>, CliError>>,
    ) -> Result<(), CliError> {
        let partial = self.dir.join(PARTIAL).join(self.pending.len().to_string());
        let write = |error: io::Error| CliError::io("cannot write", &partial, &error);
        let mut file = BufWriter::new(File::create(&partial).map_err(write)?);
        for piece in pieces {
            let piece = piece?;
            file.write_all(&piece).map_err(write)?;
            self.bytes += piece.len() as u64;
        }
        let file = file.into_inner().map_err(|error| write(error.into_error()))?;
        self.pending.push((file, partial, self.dir.join(name)));
        self.files += 1;
        if self.pending.len() == GROUP { self.settle() } else { Ok(()) }
    }

    /// Puts the checkpoint over everything that was added before it, and ends. Then partial tiles that a full one
    /// has replaced may go: the specification allows it.
    pub(super) fn finish(mut self, checkpoint: &str, full: &[Tile]) -> Result<(u64, u64), CliError> {
        self.settle()?;
        self.flush_directories()?;
        self.put(CHECKPOINT, checkpoint.as_bytes().to_vec())?;
        self.settle()?;
        for tile in full {
            self.drop_partials_of(tile)?;
        }
        fs::remove_dir(self.dir.join(PARTIAL))
            .and_then(|()| sync_directory(&self.dir))
            .map_err(|error| CliError::io("cannot write to", &self.dir, &error))?;
        Ok((self.files, self.bytes))
    }

    fn drop_partials_of(&self, tile: &Tile) -> Result<(), CliError> {
        let path = self.dir.join(format!("{tile}.p"));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CliError::io("cannot remove", &path, &error))
            }
            _ => Ok(()),
        }
    }

    fn settle(&mut self) -> Result<(), CliError> {
        for (file, partial, _) in &self.pending {
            file.sync_all().map_err(|error| CliError::io("cannot write", partial, &error))?;
        }
        for (_, partial, path) in self.pending.drain(..) {
            let moved =
                path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::rename(&partial, &path));
            moved.map_err(|error| CliError::io("cannot write", &path, &error))?;
            self.changed.extend(
                path.ancestors().skip(1).take_while(|dir| dir.starts_with(&self.dir)).map(Path::to_owned),
            );
        }
        Ok(())
    }

    fn flush_directories(&mut self) -> Result<(), CliError> {
        // From the leaves up: a name is durable only when all directories above it are.
        for dir in std::mem::take(&mut self.changed).iter().rev() {
            sync_directory(dir).map_err(|error| CliError::io("cannot write to", dir, &error))?;
        }
        Ok(())
    }
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
