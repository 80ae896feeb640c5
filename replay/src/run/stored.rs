//! Runs that are kept under a name, for the diff, for people, and to go on with after an interruption.
//!
//! A run is a folder: `points.ndjson.zst` with a point a line, and `run.json` with what is said beside them, which is written
//! last. While it is on its way there is `pause.bin` instead, and the points up to there. Runs are projections: they lie
//! beside the database, go when something is erased, and whoever has the same ledger and policy makes them again.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use verdict_ledger::{Ledger, projection};

use super::{Pause, Replayed, Sink, Summary};

/// Characters of a name.
const NAME_MAX: usize = 64;
/// Compression of points: they are alike, and written once.
const LEVEL: i32 = 3;

/// Where the runs of a ledger are kept.
#[derive(Debug, Clone)]
pub struct Runs {
    dir: PathBuf,
}

/// Why there is no such run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// The name is none.
    #[error(
        "`{name}` is no name for a run: 1 to 64 letters, digits, `.`, `_` or `-`, the first a letter or digit"
    )]
    Name {
        /// As given.
        name: String,
    },
    /// There is one already.
    #[error(
        "there is a run `{name}`; delete it, choose another name, or go on with it if it was interrupted"
    )]
    Exists {
        /// Name.
        name: String,
    },
    /// There is none.
    #[error("there is no run `{name}`")]
    Missing {
        /// Name.
        name: String,
    },
    /// It was interrupted.
    #[error("the run `{name}` was interrupted before its end")]
    Unfinished {
        /// Name.
        name: String,
    },
    /// Its bytes are not what was written.
    #[error("the run `{name}` cannot be used: {detail}; delete it and make it again")]
    Damaged {
        /// Name.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// The system says no.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A run that is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Name.
    pub name: String,
    /// What is said beside its points; `None` while it is not finished.
    #[serde(flatten)]
    pub summary: Option<Summary>,
}

#[derive(Serialize, Deserialize)]
struct PauseFile {
    /// Bytes of the points before it.
    bytes: u64,
    pause: Pause,
}

impl Runs {
    /// Returns the runs of a ledger.
    pub fn of(ledger: &Ledger) -> Self {
        Self { dir: ledger.projections().join("runs") }
    }

    /// Lists the runs by name.
    pub fn list(&self) -> Result<Vec<Entry>, StoredError> {
        let mut names: Vec<String> = match fs::read_dir(&self.dir) {
            Ok(files) => files.filter_map(|file| file.ok()?.file_name().into_string().ok()).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(StoredError::Io { path: self.dir.clone(), source }),
        };
        names.sort_unstable();
        let entry = |name: String| match self.summary(&name) {
            Ok(summary) => Some(Entry { name, summary: Some(summary) }),
            Err(StoredError::Unfinished { .. }) => Some(Entry { name, summary: None }),
            Err(_) => None,
        };
        Ok(names.into_iter().filter_map(entry).collect())
    }

    /// Returns what is said beside the points of a run.
    pub fn summary(&self, name: &str) -> Result<Summary, StoredError> {
        let dir = self.folder(name)?;
        let path = dir.join("run.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(name, &error.to_string())),
            Err(_) if dir.join("pause.bin").exists() => {
                Err(StoredError::Unfinished { name: name.to_owned() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoredError::Missing { name: name.to_owned() })
            }
            Err(source) => Err(StoredError::Io { path, source }),
        }
    }

    /// Reads the points of a run in log order. Whoever needs to know that they are those that were written compares the
    /// digest; see [`super::Run::expected_digest`].
    pub fn points(
        &self,
        name: &str,
    ) -> Result<impl Iterator<Item = io::Result<Replayed>> + use<>, StoredError> {
        self.summary(name)?;
        let path = self.folder(name)?.join("points.ndjson.zst");
        let file = File::open(&path).map_err(|source| StoredError::Io { path: path.clone(), source })?;
        read(file).map_err(|source| StoredError::Io { path, source })
    }

    /// Removes a run, finished or not.
    pub fn delete(&self, name: &str) -> Result<(), StoredError> {
        let dir = self.folder(name)?;
        fs::remove_dir_all(&dir).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoredError::Missing { name: name.to_owned() },
            _ => StoredError::Io { path: dir, source },
        })
    }

    /// Begins a run.
    pub fn begin(&self, name: &str) -> Result<Writer, StoredError> {
        let dir = self.folder(name)?;
        if dir.exists() {
            return Err(StoredError::Exists { name: name.to_owned() });
        }
        let io = |source| StoredError::Io { path: dir.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io)?;
        let file = File::create_new(dir.join("points.ndjson.zst")).map_err(io)?;
        Writer::new(dir.clone(), file).map_err(io)
    }

    /// Goes on with a run that was interrupted: where, what it told, and where more is written.
    #[expect(clippy::type_complexity, reason = "the three things that going on needs")]
    pub fn resume(
        &self,
        name: &str,
    ) -> Result<(Pause, Box<dyn Iterator<Item = io::Result<Replayed>>>, Writer), StoredError> {
        let dir = self.folder(name)?;
        if dir.join("run.json").exists() {
            return Err(StoredError::Exists { name: name.to_owned() });
        }
        let bytes =
            fs::read(dir.join("pause.bin")).map_err(|_| StoredError::Missing { name: name.to_owned() })?;
        let PauseFile { bytes: length, pause } =
            projection::decode(&bytes).map_err(|error| damaged(name, &error.to_string()))?;
        let path = dir.join("points.ndjson.zst");
        let io = |source| StoredError::Io { path: path.clone(), source };
        let mut file = fs::OpenOptions::new().read(true).write(true).open(&path).map_err(io)?;
        file.set_len(length).map_err(io)?;
        let told = read(File::open(&path).map_err(io)?).map_err(io)?;
        file.seek(SeekFrom::End(0)).map_err(io)?;
        Ok((pause, Box::new(told), Writer::new(dir, file).map_err(io)?))
    }

    fn folder(&self, name: &str) -> Result<PathBuf, StoredError> {
        let fits = name.len() <= NAME_MAX
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        if fits { Ok(self.dir.join(name)) } else { Err(StoredError::Name { name: name.to_owned() }) }
    }
}

fn damaged(name: &str, detail: &str) -> StoredError {
    StoredError::Damaged { name: name.to_owned(), detail: detail.to_owned() }
}

fn read(file: File) -> io::Result<impl Iterator<Item = io::Result<Replayed>>> {
    let lines = BufReader::new(zstd::Decoder::new(file)?).lines();
    Ok(lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::from)))
}

/// Writes a run.
pub struct Writer {
    dir: PathBuf,
    /// A frame of its own between two pauses, so that a file can be cut at any of them.
    out: Option<zstd::Encoder<'static, BufWriter<File>>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Writer {
    fn new(dir: PathBuf, file: File) -> io::Result<Self> {
        Ok(Self { dir, out: Some(frame(BufWriter::new(file))?) })
    }

    /// Ends the run.
    pub fn finish(mut self, summary: &Summary) -> io::Result<()> {
        if let Some(out) = self.out.take() {
            out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        }
        write(&self.dir.join("run.json"), &serde_json::to_vec_pretty(summary)?)?;
        match fs::remove_file(self.dir.join("pause.bin")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Sink for Writer {
    fn point(&mut self, point: Replayed) -> io::Result<()> {
        let out = self.out.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        serde_json::to_writer(&mut *out, &point)?;
        out.write_all(b"\n")
    }

    fn pause(&mut self, pause: &dyn Fn() -> Pause) -> io::Result<()> {
        let out = self.out.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut file = out.finish()?;
        file.flush()?;
        let bytes = file.get_mut().stream_position()?;
        write(&self.dir.join("pause.bin"), &projection::encode(&PauseFile { bytes, pause: pause() })?)?;
        self.out = Some(frame(file)?);
        Ok(())
    }
}

fn frame(file: BufWriter<File>) -> io::Result<zstd::Encoder<'static, BufWriter<File>>> {
    zstd::Encoder::new(file, LEVEL)
}

/// Replaces a file in one step.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("part");
    fs::write(&draft, bytes)?;
    fs::rename(draft, path)
}
