//! Private files: read only when nobody else can, written with mode 0600, replaced whole or not at all.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::KeyError;

/// Most bytes of a key file that are read; whatever is longer is no key.
pub(crate) const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    // The open file is asked, not the path: between two looks at a path another file can take its place.
    let file = fs::File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(KeyError::Format { path: path.to_owned(), what: "a file" });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

/// Writes a new file; never over an existing one.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // A key that is cut in the middle must not lie where one is looked for. What fails here fails above too.
        let _ = fs::remove_file(path);
        return Err(io(error));
    }
    sync_dir(path)
}

/// Puts bytes into the place of a file, whole or not at all.
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let next = beside(path, ".next");
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        // Left behind by a replacement that was cut.
        _ => {}
    }
    write_private(&next, bytes)?;
    fs::rename(&next, path).map_err(io)?;
    sync_dir(path)
}

/// Flushes the directory that names a file: without it the file may not be there after a power cut.
pub(crate) fn sync_dir(path: &Path) -> Result<(), KeyError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    let synced = fs::File::open(parent).and_then(|dir| dir.sync_all());
    synced.map_err(|source| KeyError::Io { path: parent.to_owned(), source })
}

/// Checks that nobody but the owner, who is this user or root, can change an open file that says what to run.
pub(crate) fn check_not_writable_by_others(path: &Path, file: &fs::File) -> Result<(), KeyError> {
    let metadata = file.metadata().map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    let owner = metadata.uid();
    if mode & 0o022 != 0 || (owner != 0 && owner != rustix::process::geteuid().as_raw()) {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}
