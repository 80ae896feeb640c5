//! Bundle files in and out of directories and tar archives, with every limit and every refusal of a name.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::bundle::{
    BUNDLE_BYTES_MAX, BundleError, DEPTH_MAX, FILE_BYTES_MAX, FILES_MAX, MANIFEST_FILE, PATH_BYTES_MAX,
    SIGNATURES_FILE,
};

type Files = BTreeMap<String, Vec<u8>>;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const TAR_BLOCK: usize = 512;

/// Tells whether bytes start like a gzip stream or a POSIX or GNU tar header.
pub(super) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(GZIP_MAGIC) || bytes.get(257..262) == Some(b"ustar")
}

/// Reads every file below a directory.
pub(super) fn read_directory(root: &Path) -> Result<Files, BundleError> {
    let mut collector = Collector::default();
    walk(root, "", 0, &mut collector)?;
    Ok(collector.files)
}

fn walk(dir: &Path, prefix: &str, depth: usize, out: &mut Collector) -> Result<(), BundleError> {
    let read = |source| BundleError::Read { path: dir.to_owned(), source };
    if depth > DEPTH_MAX {
        return Err(too_large(prefix.to_owned(), DEPTH_MAX as u64, "directories in depth"));
    }
    let mut entries = fs::read_dir(dir).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    // The order of a directory differs from machine to machine; with it the first error would.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let os_name = entry.file_name();
        let Some(name) = os_name.to_str() else {
            return Err(BundleError::Name {
                name: format!("{prefix}{}", os_name.to_string_lossy().escape_debug()),
                reason: "it is not UTF-8",
            });
        };
        let path = format!("{prefix}{name}");
        if is_ignored(&path) {
            continue;
        }
        check_name(&path)?;
        let read = |source| BundleError::Read { path: entry.path(), source };
        // Of the entry itself: a link is seen as a link and never followed.
        let kind = entry.file_type().map_err(read)?;
        if kind.is_symlink() {
            return Err(BundleError::NotAFile { name: path, kind: "symbolic link" });
        } else if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), depth + 1, out)?;
        } else if kind.is_file() {
            let file = fs::File::open(entry.path()).map_err(read)?;
            let bytes = read_limited(file, FILE_BYTES_MAX).map_err(read)?;
            out.add(path, bytes)?;
        } else {
            return Err(BundleError::NotAFile { name: path, kind: "device, pipe or socket" });
        }
    }
    Ok(())
}

/// Reads a tar archive, gzipped or plain.
pub(super) fn read_archive(bytes: &[u8]) -> Result<Files, BundleError> {
    if !bytes.starts_with(GZIP_MAGIC) {
        return read_tar(bytes);
    }
    // Unpacked to its end before anything is believed: the checksum stands at the end of a gzip stream.
    let decoder = flate2::read::MultiGzDecoder::new(bytes);
    let plain = read_limited(decoder, BUNDLE_BYTES_MAX)
        .map_err(|source| BundleError::Archive { files: 0, source })?;
    if plain.len() as u64 > BUNDLE_BYTES_MAX {
        return Err(too_large("the unpacked archive".to_owned(), BUNDLE_BYTES_MAX, "bytes"));
    }
    read_tar(&plain)
}

fn read_tar(bytes: &[u8]) -> Result<Files, BundleError> {
    let mut out = Collector::default();
    let mut archive = tar::Archive::new(bytes);
    let broken = |files, source| BundleError::Archive { files, source };
    let entries = archive.entries().map_err(|source| broken(0, source))?;
    for entry in entries {
        let mut entry = entry.map_err(|source| broken(out.files.len(), source))?;
        let raw = entry.path_bytes().into_owned();
        let Ok(name) = String::from_utf8(raw) else {
            let name = String::from_utf8_lossy(&entry.path_bytes()).escape_debug().to_string();
            return Err(BundleError::Name { name, reason: "it is not UTF-8" });
        };
        // `opa build` writes names with one leading slash and `tar -C dir .` with a leading `./`; both mean the
        // top of the bundle. Nothing is ever unpacked to a file system.
        let name = name.strip_prefix("./").or_else(|| name.strip_prefix('/')).unwrap_or(&name);
        let path = name.strip_suffix('/').unwrap_or(name).to_owned();
        let kind = match entry.header().entry_type() {
            tar::EntryType::Regular => None,
            // Comment of `git archive`; holds the commit id and no file.
            tar::EntryType::XGlobalHeader => continue,
            tar::EntryType::Directory => {
                if !matches!(path.as_str(), "" | ".") && !is_ignored(&path) {
                    check_name(&path)?;
                }
                continue;
            }
            tar::EntryType::Symlink => Some("symbolic link"),
            tar::EntryType::Link => Some("hard link"),
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => Some("device or pipe"),
            tar::EntryType::GNUSparse => Some("sparse file"),
            _ => Some("entry of a type that is not a plain file"),
        };
        if let Some(kind) = kind {
            return Err(BundleError::NotAFile { name: path, kind });
        }
        check_name(&path)?;
        if is_ignored(&path) {
            continue;
        }
        let files = out.files.len();
        let bytes = read_limited(&mut entry, FILE_BYTES_MAX).map_err(|source| broken(files, source))?;
        out.add(path, bytes)?;
    }
    // The tar reader takes a clean cut between two files for the end; a policy short of a file decides otherwise.
    let marked = bytes.len().checked_sub(2 * TAR_BLOCK).and_then(|at| bytes.get(at..));
    if !marked.is_some_and(|tail| tail.iter().all(|byte| *byte == 0)) {
        return Err(BundleError::Truncated { files: out.files.len() });
    }
    Ok(out.files)
}

/// Writes a plain tar: sorted, mode 0644, no owner, time zero.
#[expect(
    clippy::expect_used,
    reason = "writing to memory cannot fail and the names were checked on the way in"
)]
pub(super) fn write_archive(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, bytes.as_slice()).expect("a checked name fits a tar header");
    }
    builder.into_inner().expect("memory takes the end mark")
}

/// Checks every name and the limits of files that did not come through a reader of this module.
pub(super) fn check_names(files: &Files) -> Result<(), BundleError> {
    let mut collector = Collector::default();
    for (path, bytes) in files {
        check_name(path)?;
        if is_ignored(path) {
            return Err(BundleError::Name {
                name: path.clone(),
                reason: "hidden files and editor backups are not part of a bundle",
            });
        }
        collector.admit(path, bytes.len())?;
    }
    Ok(())
}

/// Checks a path inside a bundle. What it lets through is one file on every machine and needs no escaping in
/// the text that the identity is computed over.
pub(super) fn check_name(path: &str) -> Result<(), BundleError> {
    let reason = if path.is_empty() {
        "it is empty"
    } else if path.len() > PATH_BYTES_MAX {
        "it is longer than 200 bytes"
    } else if path.starts_with('/') || path.as_bytes().get(1) == Some(&b':') {
        "it is absolute"
    } else if path.contains('\\') {
        "it has a backslash, which separates directories on some machines"
    } else if path.chars().any(char::is_control) {
        "it has a control character"
    } else if path.split('/').any(|part| part == "..") {
        "it leads out of the bundle"
    } else if path.split('/').any(|part| matches!(part, "" | ".")) {
        "it has an empty or `.` component"
    } else if path.split('/').count() > DEPTH_MAX {
        "it is more than 16 directories deep"
    } else {
        return Ok(());
    };
    Err(BundleError::Name { name: path.escape_debug().to_string(), reason })
}

/// Tells whether a path is left out of every bundle: hidden files other than OPA's two, and what editors and
/// merge tools leave behind. They would make identities differ by what somebody had open.
pub(super) fn is_ignored(path: &str) -> bool {
    if path == MANIFEST_FILE || path == SIGNATURES_FILE {
        return false;
    }
    let leftover = |name: &str| {
        name.ends_with('~')
            || (name.starts_with('#') && name.ends_with('#'))
            || [".swp", ".swo", ".bak", ".orig", ".rej", ".tmp"].iter().any(|end| name.ends_with(end))
    };
    path.split('/').any(|part| (part.starts_with('.') && part != ".." && part != ".") || leftover(part))
}

/// Reads at most one byte more than the limit, so that the caller sees that it is passed.
fn read_limited(reader: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn too_large(what: String, limit: u64, unit: &'static str) -> BundleError {
    BundleError::TooLarge { what, limit, unit }
}

/// Takes files in while the limits hold and no two names collide.
#[derive(Default)]
struct Collector {
    files: Files,
    folded: BTreeMap<String, String>,
    count: usize,
    bytes: u64,
}

impl Collector {
    fn add(&mut self, path: String, bytes: Vec<u8>) -> Result<(), BundleError> {
        self.admit(&path, bytes.len())?;
        self.files.insert(path, bytes);
        Ok(())
    }

    fn admit(&mut self, path: &str, len: usize) -> Result<(), BundleError> {
        let len = len as u64;
        if len > FILE_BYTES_MAX {
            return Err(too_large(path.to_owned(), FILE_BYTES_MAX, "bytes"));
        }
        self.bytes = self.bytes.saturating_add(len);
        if self.bytes > BUNDLE_BYTES_MAX {
            return Err(too_large("the bundle".to_owned(), BUNDLE_BYTES_MAX, "bytes"));
        }
        self.count += 1;
        if self.count > FILES_MAX {
            return Err(too_large("the bundle".to_owned(), FILES_MAX as u64, "files"));
        }
        match self.folded.insert(path.to_lowercase(), path.to_owned()) {
            None => {}
            Some(first) if first == path => return Err(BundleError::Duplicate { name: first }),
            Some(first) => {
                return Err(BundleError::CaseCollision { first, second: path.to_owned() });
            }
        }
        // Directories collide as files do: `Policy/a` and `policy/b` are one directory on some machines.
        for (at, _) in path.match_indices('/') {
            let Some(parent) = path.get(..at) else { continue };
            let seen = self
                .folded
                .entry(format!("{}/", parent.to_lowercase()))
                .or_insert_with(|| format!("{parent}/"));
            if *seen != format!("{parent}/") {
                return Err(BundleError::CaseCollision { first: seen.clone(), second: format!("{parent}/") });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out_or_collide_are_refused() {
        for bad in ["", "/etc/passwd", "../x", "a/../../b", "a//b", "a/./b", "C:/x", "a\\b", "a\nb"] {
            assert!(matches!(check_name(bad), Err(BundleError::Name { .. })), "{bad:?}");
        }
        assert!(check_name(&"x".repeat(201)).is_err());
        assert!(check_name("d/".repeat(16).trim_end_matches('/')).is_ok());
        assert!(check_name(&format!("{}f", "d/".repeat(16))).is_err());
        for good in ["policy/a b.rego", ".manifest", "a..b/c", "données/é.json"] {
            assert!(check_name(good).is_ok(), "{good:?}");
        }
        let mut out = Collector::default();
        out.add("Policy/a".into(), vec![]).unwrap();
        assert!(matches!(out.add("policy/b".into(), vec![]), Err(BundleError::CaseCollision { .. })));
    }

    #[test]
    fn leftovers_of_editors_and_hidden_files_are_left_out() {
        for path in
            [".git/config", "policy/.a.rego.swp", "policy/a.rego~", "#a#", "data/x.orig", "tests/.manifest"]
        {
            assert!(is_ignored(path), "{path}");
        }
        for path in [".manifest", ".signatures.json", "policy/a.rego", "a/README.md"] {
            assert!(!is_ignored(path), "{path}");
        }
    }

    #[test]
    fn an_archive_round_trips_with_long_names() {
        let mut files = Files::new();
        files.insert(format!("{}/x.rego", "d".repeat(150)), b"package a".to_vec());
        files.insert("a".into(), vec![0; 1000]);
        let bytes = write_archive(&files);
        assert_eq!(read_archive(&bytes).unwrap(), files);
        assert_eq!(bytes, write_archive(&files));
    }

    #[test]
    fn an_archive_cut_between_two_files_is_truncated() {
        let files = Files::from([("a".to_owned(), vec![1; 10]), ("b".to_owned(), vec![2; 10])]);
        let bytes = write_archive(&files);
        // Header and one block of `a`; exactly where the reader would see a clean end.
        let error = read_archive(&bytes[..1024]).unwrap_err();
        assert!(matches!(error, BundleError::Truncated { files: 1 }), "{error}");
    }
}
