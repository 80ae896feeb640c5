//! The secret of the erasable store, plain or encrypted.
//!
//! Plain: 64 hexadecimal digits and a line feed. Encrypted: four lines of ASCII,
//!
//! ```text
//! verdict-secret-v1
//! scrypt <log2 N> <r> <p> <salt, 16 bytes in base64>
//! aes-256-gcm-siv <nonce, 12 bytes in base64>
//! <ciphertext and tag, 48 bytes in base64>
//! ```
//!
//! The key is `scrypt(passphrase, salt)`, 32 bytes; the associated data are the first three lines with their line
//! feeds, so that no parameter can be changed unnoticed.

use std::fmt;
use std::path::Path;

use aes_gcm_siv::aead::{Aead as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit as _, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::{Zeroize as _, Zeroizing};

use super::pem::{SCRYPT_LOG_N, SCRYPT_P, SCRYPT_R};
use super::{KeyError, Passphrase, Passphrases, Protection, ask, file, replace_private};
use crate::clock::Entropy;

/// First line of an encrypted secret.
pub(super) const MAGIC: &str = "verdict-secret-v1";

const KIND: &str = "a store secret (64 hexadecimal digits, or an encrypted one)";

/// The secret of the erasable store, from which the index key and the key that wraps data keys are derived.
#[derive(Clone)]
pub struct StoreSecret(Zeroizing<[u8; 32]>);

impl StoreSecret {
    /// Makes a new secret.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, KeyError> {
        let mut secret = Zeroizing::new([0; 32]);
        entropy.fill(&mut *secret)?;
        Ok(Self(secret))
    }

    /// Reads the secret.
    pub fn load(path: &Path, passphrases: &dyn Passphrases) -> Result<Self, KeyError> {
        let format = || KeyError::Format { path: path.to_owned(), what: KIND };
        let bytes = file::read_private(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| format())?;
        if text.starts_with(MAGIC) {
            let sealed = Sealed::parse(text).ok_or_else(format)?;
            return sealed.open(path, &ask(passphrases, path)?);
        }
        let mut secret = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim_ascii(), &mut *secret).map_err(|_| format())?;
        Ok(Self(secret))
    }

    /// Writes the secret with mode 0600, encrypted if there is a passphrase; never over an existing file.
    pub fn save(&self, path: &Path, protection: &Protection<'_>) -> Result<(), KeyError> {
        file::write_private(path, self.to_text(path, protection)?.as_bytes())
    }

    /// Puts the secret into an existing file's place, whole or not at all.
    pub fn replace(&self, path: &Path, protection: &Protection<'_>) -> Result<(), KeyError> {
        replace_private(path, self.to_text(path, protection)?.as_bytes())
    }

    fn to_text(&self, path: &Path, protection: &Protection<'_>) -> Result<Zeroizing<String>, KeyError> {
        match protection {
            Protection::Plain => Ok(Zeroizing::new(format!("{}\n", hex::encode(*self.0)))),
            Protection::Encrypted { passphrase, entropy } => {
                Ok(Zeroizing::new(self.seal(path, passphrase, *entropy)?))
            }
        }
    }

    fn seal(&self, path: &Path, passphrase: &Passphrase, entropy: &dyn Entropy) -> Result<String, KeyError> {
        let format = || KeyError::Format { path: path.to_owned(), what: "a secret that can be encrypted" };
        if !passphrase.is_strong_enough() {
            return Err(KeyError::WeakPassphrase);
        }
        let (mut salt, mut nonce) = ([0; 16], [0; 12]);
        entropy.fill(&mut salt)?;
        entropy.fill(&mut nonce)?;
        let header = format!(
            "{MAGIC}\nscrypt {SCRYPT_LOG_N} {SCRYPT_R} {SCRYPT_P} {}\naes-256-gcm-siv {}\n",
            BASE64.encode(salt),
            BASE64.encode(nonce)
        );
        let cipher = cipher(passphrase, &salt).ok_or_else(format)?;
        let payload = Payload { msg: &*self.0, aad: header.as_bytes() };
        let sealed = cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| format())?;
        Ok(format!("{header}{}\n", BASE64.encode(sealed)))
    }

    /// Derives the key under which disclosed values and contents are digested for indexes.
    pub fn index_key(&self) -> [u8; 32] {
        blake3::derive_key("verdict 2026-11 index key v1", &*self.0)
    }

    /// Derives the key that wraps data keys.
    pub fn wrapping_key(&self) -> [u8; 32] {
        blake3::derive_key("verdict 2026-11 data key wrap v1", &*self.0)
    }
}

impl fmt::Debug for StoreSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreSecret(…)")
    }
}

/// The one cost that is written and read: another one is another version of the file.
fn cipher(passphrase: &Passphrase, salt: &[u8; 16]) -> Option<Aes256GcmSiv> {
    let params = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P).ok()?;
    let mut key = [0; 32];
    scrypt::scrypt(passphrase.bytes(), salt, &params, &mut key).ok()?;
    let cipher = Aes256GcmSiv::new(&key.into());
    key.zeroize();
    Some(cipher)
}

/// The parts of an encrypted secret.
struct Sealed<'a> {
    header: &'a str,
    salt: [u8; 16],
    nonce: [u8; 12],
    sealed: Vec<u8>,
}

impl<'a> Sealed<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let body = text.strip_suffix('\n')?;
        let (header, sealed) = text.split_at(body.rfind('\n')? + 1);
        let mut lines = header.lines();
        let (first, kdf, aead) = (lines.next()?, lines.next()?, lines.next()?);
        if first != MAGIC || lines.next().is_some() {
            return None;
        }
        let salt = kdf.strip_prefix(&format!("scrypt {SCRYPT_LOG_N} {SCRYPT_R} {SCRYPT_P} "))?;
        let salt = BASE64.decode(salt).ok()?.try_into().ok()?;
        let nonce = BASE64.decode(aead.strip_prefix("aes-256-gcm-siv ")?).ok()?.try_into().ok()?;
        Some(Self { header, salt, nonce, sealed: BASE64.decode(sealed.trim_end()).ok()? })
    }

    fn open(&self, path: &Path, passphrase: &Passphrase) -> Result<StoreSecret, KeyError> {
        let wrong = || KeyError::WrongPassphrase { path: path.to_owned() };
        let cipher = cipher(passphrase, &self.salt).ok_or_else(wrong)?;
        let payload = Payload { msg: &self.sealed, aad: self.header.as_bytes() };
        let secret = Zeroizing::new(cipher.decrypt(&Nonce::from(self.nonce), payload).map_err(|_| wrong())?);
        let secret: [u8; 32] = secret.as_slice().try_into().map_err(|_| wrong())?;
        Ok(StoreSecret(Zeroizing::new(secret)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppingEntropy;
    use crate::key::NoPassphrases;

    #[test]
    fn a_secret_opens_with_its_passphrase_and_every_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.secret");
        let entropy = SteppingEntropy::default();
        let secret = StoreSecret::generate(&entropy).unwrap();
        secret.save(&path, &Protection::Plain).unwrap();
        assert_eq!(StoreSecret::load(&path, &NoPassphrases).unwrap().0, secret.0);

        let passphrase = Passphrase::new("correct horse battery").unwrap();
        secret.replace(&path, &Protection::Encrypted { passphrase: &passphrase, entropy: &entropy }).unwrap();
        assert_eq!(StoreSecret::load(&path, &passphrase).unwrap().0, secret.0);
        assert!(matches!(StoreSecret::load(&path, &NoPassphrases), Err(KeyError::Locked { .. })));
        let other = Passphrase::new("another passphrase").unwrap();
        assert!(matches!(StoreSecret::load(&path, &other), Err(KeyError::WrongPassphrase { .. })));

        let text = std::fs::read(&path).unwrap();
        // One byte in seven: each costs a whole key derivation.
        for position in (0..text.len()).step_by(7) {
            let mut changed = text.clone();
            changed[position] ^= 1;
            replace_private(&path, &changed).unwrap();
            assert!(StoreSecret::load(&path, &passphrase).is_err(), "byte {position}");
        }
        for length in [0, 10, text.len() / 2, text.len() - 2, text.len() - 1] {
            replace_private(&path, &text[..length]).unwrap();
            assert!(StoreSecret::load(&path, &passphrase).is_err(), "cut at {length}");
        }
    }
}
