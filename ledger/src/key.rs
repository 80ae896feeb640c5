//! Keys: Ed25519 signing keys as PKCS#8 files, and the secret of the erasable store.
//!
//! The log key signs checkpoints and nothing else; the bundle key signs evidence bundles and nothing else.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signer as _, VerifyingKey};

use crate::clock::{Entropy, EntropyError};

/// Most bytes of a key file that are read; whatever is longer is no key.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a key cannot be made, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot access key file {}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The file is not a key.
    #[error("{} is not {what}", path.display())]
    Format {
        /// File.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// Other users can read the file.
    #[error("{} can be read by other users (mode {mode:o}); run chmod 600 on it", path.display())]
    Exposed {
        /// File.
        path: PathBuf,
        /// Mode bits.
        mode: u32,
    },
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// An Ed25519 signing key.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Makes a new key.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, KeyError> {
        let mut secret = [0; 32];
        entropy.fill(&mut secret)?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&secret)))
    }

    /// Reads a PKCS#8 PEM file (RFC 8410) that nobody but its owner can read.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = read_private(path)?;
        let text = std::str::from_utf8(&text).ok();
        text.and_then(|text| ed25519_dalek::SigningKey::from_pkcs8_pem(text).ok()).map(Self).ok_or_else(
            || KeyError::Format { path: path.to_owned(), what: "an Ed25519 private key in PKCS#8 PEM" },
        )
    }

    /// Writes a PKCS#8 PEM file with mode 0600; never over an existing file.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        // Version 1 without the public key: what OpenSSL and every RFC 8410 reader accept.
        let bytes = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let pem = bytes
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| KeyError::Format { path: path.to_owned(), what: "an encodable key" })?;
        write_private(path, pem.as_bytes())
    }

    /// Returns the public key.
    pub fn public(&self) -> VerifyingKey {
        self.0.verifying_key()
    }

    /// Signs bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(public {})", hex::encode(self.public().as_bytes()))
    }
}

/// The secret of the erasable store, from which the index key and the key that wraps data keys are derived.
#[derive(Clone)]
pub struct StoreSecret([u8; 32]);

impl StoreSecret {
    /// Makes a new secret.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, KeyError> {
        let mut secret = [0; 32];
        entropy.fill(&mut secret)?;
        Ok(Self(secret))
    }

    /// Reads the secret.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = read_private(path)?;
        let mut secret = [0; 32];
        hex::decode_to_slice(text.trim_ascii(), &mut secret).map_err(|_| KeyError::Format {
            path: path.to_owned(),
            what: "a store secret (64 hexadecimal digits)",
        })?;
        Ok(Self(secret))
    }

    /// Writes the secret with mode 0600; never over an existing file.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        write_private(path, format!("{}\n", hex::encode(self.0)).as_bytes())
    }

    /// Derives the key under which disclosed values and contents are digested for indexes.
    pub fn index_key(&self) -> [u8; 32] {
        blake3::derive_key("verdict 2026-11 index key v1", &self.0)
    }

    /// Derives the key that wraps data keys.
    pub fn wrapping_key(&self) -> [u8; 32] {
        blake3::derive_key("verdict 2026-11 data key wrap v1", &self.0)
    }
}

impl fmt::Debug for StoreSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSecret(…)")
    }
}

fn read_private(path: &Path) -> Result<Vec<u8>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    // The open file is asked, not the path: between two looks at a path another file can take its place.
    let file = fs::File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    if !metadata.is_file() {
        return Err(KeyError::Format { path: path.to_owned(), what: "a file" });
    }
    let mut bytes = Vec::new();
    file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.sync_all().map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppingEntropy;

    #[test]
    fn keys_survive_the_file_and_exposed_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.pem");
        let key = SigningKey::generate(&SteppingEntropy::default()).unwrap();
        key.save(&path).unwrap();
        assert_eq!(SigningKey::load(&path).unwrap().public(), key.public());
        assert!(matches!(key.save(&path), Err(KeyError::Io { .. })), "never overwrites");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(SigningKey::load(&path), Err(KeyError::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn a_file_that_is_not_a_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.pem");
        write_private(&path, b"hello").unwrap();
        let error = SigningKey::load(&path).unwrap_err();
        assert!(
            error.to_string().ends_with("log.pem is not an Ed25519 private key in PKCS#8 PEM"),
            "{error}"
        );
        assert!(matches!(StoreSecret::load(&path), Err(KeyError::Format { .. })));
    }
}
