//! Keys: Ed25519 signing keys as PKCS#8 files, and the secret of the erasable store.
//!
//! The log key signs checkpoints and nothing else; the bundle key signs evidence bundles and nothing else. Each file
//! is readable by its owner alone, and may be encrypted with a passphrase: an administrator who copies the directory
//! then has ciphertext. `docs/keys.md` in this crate describes the files for their owner.

mod file;
mod pem;
mod secret;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::{Signer as _, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::clock::{Entropy, EntropyError};
pub(crate) use file::{KEY_FILE_BYTES_MAX, check_not_writable_by_others, replace_private, sync_dir};
pub use secret::StoreSecret;

/// Shortest passphrase that encrypts anything.
pub const PASSPHRASE_CHARS_MIN: usize = 8;

/// Longest passphrase.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;

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
    /// The file is encrypted and nobody gave a passphrase.
    #[error("{} is encrypted, and no passphrase was given", path.display())]
    Locked {
        /// File.
        path: PathBuf,
    },
    /// The file is encrypted and the passphrase does not open it.
    #[error("{} cannot be decrypted: the passphrase is wrong, or the file is damaged", path.display())]
    WrongPassphrase {
        /// File.
        path: PathBuf,
    },
    /// The passphrase could not be had.
    #[error("the passphrase for {} could not be read: {detail}", path.display())]
    NoPassphrase {
        /// File.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// A passphrase that cannot protect a key.
    #[error(
        "a passphrase has {PASSPHRASE_CHARS_MIN} characters or more, and at most {PASSPHRASE_BYTES_MAX} bytes"
    )]
    WeakPassphrase,
    /// The file asks for more work than any honest writer does: opening it would stop the program.
    #[error("{} asks for {what} to derive its key, beyond the limit of this program", path.display())]
    Cost {
        /// File.
        path: PathBuf,
        /// What it asks for.
        what: String,
    },
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// A passphrase: wiped when dropped, never shown.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// Takes a text; one that is empty or too long is none.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = Zeroizing::new(text.into());
        (!text.is_empty() && text.len() <= PASSPHRASE_BYTES_MAX).then_some(Self(text))
    }

    /// Tells whether two are one.
    pub fn is_same_as(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }

    /// Tells whether it is long enough to encrypt with. Files of other programs open with any.
    pub fn is_strong_enough(&self) -> bool {
        self.0.chars().count() >= PASSPHRASE_CHARS_MIN
    }

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// Where passphrases come from. Asked only when a file turns out to be encrypted, so that nobody is asked for nothing.
pub trait Passphrases: Send + Sync + fmt::Debug {
    /// Returns the passphrase of a file; `Ok(None)` when there is nobody to ask, `Err` says why asking failed.
    fn passphrase(&self, file: &Path) -> Result<Option<Passphrase>, String>;
}

/// Nobody to ask: every key file must be plain.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPassphrases;

impl Passphrases for NoPassphrases {
    fn passphrase(&self, _: &Path) -> Result<Option<Passphrase>, String> {
        Ok(None)
    }
}

/// One passphrase for every file.
impl Passphrases for Passphrase {
    fn passphrase(&self, _: &Path) -> Result<Option<Passphrase>, String> {
        Ok(Some(self.clone()))
    }
}

fn ask(passphrases: &dyn Passphrases, path: &Path) -> Result<Passphrase, KeyError> {
    match passphrases.passphrase(path) {
        Ok(Some(passphrase)) => Ok(passphrase),
        Ok(None) => Err(KeyError::Locked { path: path.to_owned() }),
        Err(detail) => Err(KeyError::NoPassphrase { path: path.to_owned(), detail }),
    }
}

/// An Ed25519 signing key in memory; wiped when dropped.
#[derive(Clone)]
pub struct SigningKey(Arc<ed25519_dalek::SigningKey>);

impl SigningKey {
    /// Makes a new key.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, KeyError> {
        let mut secret = [0; 32];
        entropy.fill(&mut secret)?;
        let key = ed25519_dalek::SigningKey::from_bytes(&secret);
        secret.zeroize();
        Ok(Self(Arc::new(key)))
    }

    /// Makes the key of a seed; test vectors are given so.
    #[cfg(test)]
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Self {
        Self(Arc::new(ed25519_dalek::SigningKey::from_bytes(seed)))
    }

    /// Reads a PKCS#8 PEM file (RFC 8410), plain or encrypted, that nobody but its owner can read.
    pub fn load(path: &Path, passphrases: &dyn Passphrases) -> Result<Self, KeyError> {
        let text = file::read_private(path)?;
        let key = pem::decode(path, &text, passphrases)?;
        Ok(Self(Arc::new(key)))
    }

    /// Writes a PKCS#8 PEM file with mode 0600, encrypted if there is a passphrase; never over an existing file.
    pub fn save(&self, path: &Path, protection: &Protection<'_>) -> Result<(), KeyError> {
        file::write_private(path, self.to_pem(path, protection)?.as_bytes())
    }

    /// Puts the key into an existing file's place, whole or not at all.
    pub fn replace(&self, path: &Path, protection: &Protection<'_>) -> Result<(), KeyError> {
        replace_private(path, self.to_pem(path, protection)?.as_bytes())
    }

    /// Tells whether bytes are the file that [`SigningKey::save`] writes for this key without a passphrase.
    pub(crate) fn is_plain_file(&self, path: &Path, bytes: &[u8]) -> bool {
        self.to_pem(path, &Protection::Plain).is_ok_and(|pem| pem.as_bytes() == bytes)
    }

    fn to_pem(&self, path: &Path, protection: &Protection<'_>) -> Result<Zeroizing<String>, KeyError> {
        pem::encode(path, &self.0, protection)
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

/// How a key file is written.
#[derive(Debug, Clone, Copy)]
pub enum Protection<'a> {
    /// Readable by whoever can read the file.
    Plain,
    /// Encrypted under a passphrase.
    Encrypted {
        /// The passphrase.
        passphrase: &'a Passphrase,
        /// Where salt and nonce come from.
        entropy: &'a dyn Entropy,
    },
}

/// Names a key pair in file names and lists: 16 hexadecimal digits of the SHA-256 of its 32 public bytes. It is the
/// same under every key name, so that a restore, which renames the log key, does not rename its file.
pub fn fingerprint(public: &VerifyingKey) -> String {
    let digest = Sha256::digest(public.as_bytes());
    hex::encode(digest.get(..8).unwrap_or_default())
}

/// Tells whether a key file is encrypted, without opening it.
pub fn is_encrypted(path: &Path) -> Result<bool, KeyError> {
    let bytes = file::read_private(path)?;
    Ok(bytes.starts_with(pem::ENCRYPTED_BEGIN.as_bytes()) || bytes.starts_with(secret::MAGIC.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::clock::SteppingEntropy;

    fn passphrase() -> Passphrase {
        Passphrase::new("correct horse battery").unwrap()
    }

    fn encrypted<'a>(passphrase: &'a Passphrase, entropy: &'a SteppingEntropy) -> Protection<'a> {
        Protection::Encrypted { passphrase, entropy }
    }

    #[test]
    fn keys_survive_the_file_and_exposed_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.pem");
        let key = SigningKey::generate(&SteppingEntropy::default()).unwrap();
        key.save(&path, &Protection::Plain).unwrap();
        assert_eq!(SigningKey::load(&path, &NoPassphrases).unwrap().public(), key.public());
        assert!(!is_encrypted(&path).unwrap());
        let again = key.save(&path, &Protection::Plain);
        assert!(matches!(again, Err(KeyError::Io { .. })), "never overwrites");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            SigningKey::load(&path, &NoPassphrases),
            Err(KeyError::Exposed { mode: 0o644, .. })
        ));
    }

    #[test]
    fn an_encrypted_key_opens_with_its_passphrase_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.pem");
        let entropy = SteppingEntropy::default();
        let key = SigningKey::generate(&entropy).unwrap();
        let passphrase = passphrase();
        key.save(&path, &encrypted(&passphrase, &entropy)).unwrap();
        assert!(is_encrypted(&path).unwrap());
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(SigningKey::load(&path, &passphrase).unwrap().public(), key.public());
        assert!(matches!(SigningKey::load(&path, &NoPassphrases), Err(KeyError::Locked { .. })));
        let other = Passphrase::new("correct horse batterz").unwrap();
        assert!(matches!(SigningKey::load(&path, &other), Err(KeyError::WrongPassphrase { .. })));

        // Changing the passphrase leaves one whole file.
        key.replace(&path, &encrypted(&other, &entropy)).unwrap();
        assert_eq!(SigningKey::load(&path, &other).unwrap().public(), key.public());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_cut_of_a_key_file_is_a_named_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.pem");
        let key = SigningKey::generate(&SteppingEntropy::default()).unwrap();
        key.save(&path, &Protection::Plain).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() - 1 {
            replace_private(&path, &whole[..length]).unwrap();
            let error = SigningKey::load(&path, &NoPassphrases).unwrap_err();
            assert!(matches!(error, KeyError::Format { .. }), "{length}: {error}");
        }
    }

    #[test]
    fn a_file_that_is_not_a_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.pem");
        file::write_private(&path, b"hello").unwrap();
        let error = SigningKey::load(&path, &NoPassphrases).unwrap_err();
        assert!(
            error.to_string().ends_with("log.pem is not an Ed25519 private key in PKCS#8 PEM"),
            "{error}"
        );
        assert!(matches!(StoreSecret::load(&path, &NoPassphrases), Err(KeyError::Format { .. })));
    }

    #[test]
    fn passphrases_are_bounded_and_never_shown() {
        assert!(Passphrase::new("").is_none());
        assert!(Passphrase::new("x".repeat(PASSPHRASE_BYTES_MAX + 1)).is_none());
        assert!(!Passphrase::new("seven77").unwrap().is_strong_enough());
        assert!(passphrase().is_strong_enough());
        assert!(!format!("{:?}", passphrase()).contains("horse"));
        let dir = tempfile::tempdir().unwrap();
        let entropy = SteppingEntropy::default();
        let key = SigningKey::generate(&entropy).unwrap();
        let weak = Passphrase::new("seven77").unwrap();
        let refused = key.save(&dir.path().join("k"), &encrypted(&weak, &entropy));
        assert!(matches!(refused, Err(KeyError::WeakPassphrase)));
    }
}
