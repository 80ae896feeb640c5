//! Policy bundles: a superset of OPA bundles, named by their content.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use verdict_ledger::event::Effect;
use verdict_ledger::id::Digest;

use super::archive;
use super::data;
use super::settings::{Manifest, Settings};

/// File with the bundle's settings.
pub const SETTINGS_FILE: &str = "verdict.toml";
/// OPA's manifest.
pub const MANIFEST_FILE: &str = ".manifest";
/// OPA's signatures; the one file that is not part of the identity, because it signs it.
pub const SIGNATURES_FILE: &str = ".signatures.json";

/// Files in a bundle.
pub const FILES_MAX: usize = 1_000;
/// Bytes of one file.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of all files, of an archive before it is unpacked and after.
pub const BUNDLE_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a path inside the bundle.
pub const PATH_BYTES_MAX: usize = 200;
/// Directories above a file.
pub const DEPTH_MAX: usize = 16;

/// Why a directory or archive is not a bundle; every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file system refused.
    #[error("cannot read {}", path.display())]
    Read {
        /// File or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Neither a directory nor a tar archive.
    #[error("{} is not a policy bundle: expected a directory or a .tar.gz", path.display())]
    NotABundle {
        /// The path as given.
        path: PathBuf,
    },
    /// The gzip or tar layer is broken.
    #[error("the archive cannot be read after {files} files; it may be truncated")]
    Archive {
        /// Files read before.
        files: usize,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The archive has no end mark.
    #[error("the archive ends after {files} files without its end-of-archive mark: it is truncated")]
    Truncated {
        /// Files read before.
        files: usize,
    },
    /// A limit is passed.
    #[error("{what} has more than {limit} {unit}, which is the limit of a policy bundle")]
    TooLarge {
        /// File, or `the bundle`.
        what: String,
        /// Limit.
        limit: u64,
        /// Unit of the limit.
        unit: &'static str,
    },
    /// A name that could lead out of the bundle or means different files on different machines.
    #[error("`{name}` is not a name that a bundle may hold: {reason}")]
    Name {
        /// Name as found, control characters escaped.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// A symbolic link, hard link, device or the like.
    #[error("`{name}` is a {kind}; a bundle holds plain files only, so copy the file itself")]
    NotAFile {
        /// Name.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// Two entries of an archive with one name.
    #[error("`{name}` is in the archive twice")]
    Duplicate {
        /// Name.
        name: String,
    },
    /// Two names that are one file on a case-insensitive file system.
    #[error("`{first}` and `{second}` differ in case only: they are one file on some machines")]
    CaseCollision {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// No `verdict.toml`.
    #[error(
        "there is no verdict.toml at the top of the bundle; it needs at least `name`, `version`, `engine` (\"rego\" or \"cedar\") and, for Rego, `entrypoint`"
    )]
    NoSettings,
    /// A file that does not parse or holds what it may not.
    #[error("{file}:{line}:{column}: {message}")]
    Content {
        /// File inside the bundle.
        file: String,
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
        /// What is wrong.
        message: String,
    },
    /// Two data files that give one path two values.
    #[error("{first} and {second} both set `data{pointer}`")]
    DataConflict {
        /// The one file.
        first: String,
        /// The other.
        second: String,
        /// Path, as a JSON pointer below `data`.
        pointer: String,
    },
    /// A thing that OPA would read and Verdict cannot; leaving it out silently would change what is decided.
    #[error("{file}: {reason}")]
    Unsupported {
        /// File.
        file: String,
        /// What and what to do.
        reason: String,
    },
}

/// A loaded bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Files by path with `/`, sorted; exact bytes.
    files: BTreeMap<String, Vec<u8>>,
    digest: Digest,
    settings: Settings,
    manifest: Manifest,
    data: Value,
}

impl Bundle {
    /// Loads a directory or a `.tar.gz`.
    pub fn load(path: &Path) -> Result<Self, BundleError> {
        let read = |source| BundleError::Read { path: path.to_owned(), source };
        // A bundle directory may itself be reached through a link; only what is inside may not be one.
        let meta = std::fs::metadata(path).map_err(read)?;
        if meta.is_dir() {
            return Self::from_files(archive::read_directory(path)?);
        }
        if !meta.is_file() {
            return Err(BundleError::NotABundle { path: path.to_owned() });
        }
        if meta.len() > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLarge {
                what: path.display().to_string(),
                limit: BUNDLE_BYTES_MAX,
                unit: "bytes",
            });
        }
        let bytes = std::fs::read(path).map_err(read)?;
        if !archive::is_archive(&bytes) {
            return Err(BundleError::NotABundle { path: path.to_owned() });
        }
        Self::from_archive(&bytes)
    }

    /// Reads an archive: the plain tar that [`Bundle::archive`] writes and the ledger stores, or a gzipped one.
    pub fn from_archive(bytes: &[u8]) -> Result<Self, BundleError> {
        Self::from_files(archive::read_archive(bytes)?)
    }

    /// Makes a bundle of files in memory; names follow the same rules as names in an archive.
    pub fn from_files(files: BTreeMap<String, Vec<u8>>) -> Result<Self, BundleError> {
        archive::check_names(&files)?;
        let settings = Settings::parse(files.get(SETTINGS_FILE).ok_or(BundleError::NoSettings)?)?;
        let manifest = match files.get(MANIFEST_FILE) {
            Some(bytes) => Manifest::parse(bytes)?,
            None => Manifest::default(),
        };
        let data = data::mount(&files, &manifest)?;
        let digest = identity(&files);
        Ok(Self { files, digest, settings, manifest, data })
    }

    /// Writes the deterministic archive that the ledger stores: a sorted plain tar with fixed metadata.
    pub fn archive(&self) -> Vec<u8> {
        archive::write_archive(&self.files)
    }

    /// Returns the identity: SHA-256 over the sorted (path, SHA-256 of exact bytes) list without signatures.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the name from `verdict.toml`.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Returns the version label from `verdict.toml`.
    pub fn version(&self) -> &str {
        &self.settings.version
    }

    /// Returns the effect when every rule abstains on an action with effects.
    pub const fn default_effect(&self) -> Effect {
        self.settings.default_effect
    }

    /// Returns what `verdict.toml` says.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns what OPA's `.manifest` says; its defaults when there is none.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the `data` document that the data files make.
    pub const fn data(&self) -> &Value {
        &self.data
    }

    /// Returns the files.
    pub const fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// Lists the files that make the identity with the SHA-256 of their bytes, sorted by path.
    pub fn listing(&self) -> Vec<(&str, Digest)> {
        listing(&self.files)
    }

    /// Returns the policy sources that decide, sorted by path: every source of the bundle's engine that is not a test.
    pub fn policies(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.sources().filter(|(path, _)| !is_test(path))
    }

    /// Returns the policy sources that test: `tests/**.rego` and `*_test.rego`.
    pub fn tests(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.sources().filter(|(path, _)| is_test(path))
    }

    fn sources(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let extension = self.settings.engine.extension();
        self.files
            .iter()
            .map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
            .filter(move |(path, _)| Path::new(path).extension().is_some_and(|end| end == extension))
    }
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.ends_with("_test.rego")
}

fn listing(files: &BTreeMap<String, Vec<u8>>) -> Vec<(&str, Digest)> {
    // BTreeMap<String, _> orders by the bytes of the UTF-8 text, which is what `LC_ALL=C sort` does.
    files
        .iter()
        .filter(|(path, _)| path.as_str() != SIGNATURES_FILE)
        .map(|(path, bytes)| (path.as_str(), Digest::of(bytes)))
        .collect()
}

/// Hashes the list in the very text that `sha256sum` prints, so that anybody can recompute an identity with
/// coreutils. Names are free of the characters that `sha256sum` would escape (see [`archive::check_name`]).
fn identity(files: &BTreeMap<String, Vec<u8>>) -> Digest {
    let mut text = String::new();
    for (path, digest) in listing(files) {
        text.push_str(&digest.to_hex());
        text.push_str("  ");
        text.push_str(path);
        text.push('\n');
    }
    Digest::of(text.as_bytes())
}
