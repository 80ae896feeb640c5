//! Writing result files so that nobody ever sees half of one, and reading those that people write.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::exit::CliError;

/// Writes a file beside its place and moves it there; a failure leaves what was there before.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    if path.is_dir() {
        return Err(CliError::unusable(format!("cannot write {}: it is a directory", path.display()))
            .hint("name the file in it that is to be written"));
    }
    let partial = partial(path);
    let written = (|| -> io::Result<()> {
        let mut file = fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    })();
    written.map_err(|error| {
        // The failure is what matters; a partial file that cannot be removed is left behind.
        let _ = fs::remove_file(&partial);
        match error.kind() {
            io::ErrorKind::NotFound => {
                CliError::unusable(format!("cannot write {}: its directory does not exist", path.display()))
            }
            _ => CliError::io("cannot write", path, &error),
        }
    })
}

/// Bytes of a file that is written by hand; the reader of it has a limit of its own below this.
const SMALL_BYTES_MAX: u64 = 4 << 20;

/// Reads a file that people write, and not much of one that they do not.
pub(crate) fn read_small(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(SMALL_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| CliError::io("cannot read", path, &error))?;
    Ok(bytes)
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        write(&path, b"one").unwrap();
        assert!(write(&path.join("below-a-file"), b"two").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write(&dir.path().join("no/such/dir"), b"x").unwrap_err().message.contains("does not exist"));
    }
}
