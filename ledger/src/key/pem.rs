//! PKCS#8 in PEM, plain (RFC 8410) or encrypted (PBES2, RFC 8018), as `openssl pkey` reads and writes them.

use std::path::Path;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::KeypairBytes;
use pkcs8::der::pem::LineEnding;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{self, Kdf};
use pkcs8::{
    DecodePrivateKey as _, EncodePrivateKey as _, EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef,
    SecretDocument,
};
use zeroize::Zeroizing;

use super::{KeyError, Passphrases, Protection, ask};

const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
pub(super) const ENCRYPTED_BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// What our own files ask for: 16 MiB, five times over. More memory at once is refused by OpenSSL, whose limit for
/// scrypt in key files is 32 MiB; N = 2^14, r = 8, p = 5 is one of the equal choices of OWASP's password advice.
pub(super) const SCRYPT_LOG_N: u8 = 14;
pub(super) const SCRYPT_R: u32 = 8;
pub(super) const SCRYPT_P: u32 = 5;

/// What a file may ask for: 1 GiB, or ten million rounds. Beyond that it is an attack on whoever opens it.
const SCRYPT_BYTES_MAX: u64 = 1 << 30;
const SCRYPT_P_MAX: u16 = 64;
const PBKDF2_ROUNDS_MAX: u32 = 10_000_000;

const KIND: &str = "an Ed25519 private key in PKCS#8 PEM";

pub(super) fn decode(
    path: &Path,
    text: &[u8],
    passphrases: &dyn Passphrases,
) -> Result<SigningKey, KeyError> {
    let format = || KeyError::Format { path: path.to_owned(), what: KIND };
    let text = std::str::from_utf8(text).map_err(|_| format())?;
    let (label, document) = SecretDocument::from_pem(text).map_err(|_| format())?;
    let document = match label {
        PLAIN => document,
        ENCRYPTED => {
            let sealed = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| format())?;
            check_cost(path, &sealed.encryption_algorithm)?;
            let passphrase = ask(passphrases, path)?;
            sealed
                .decrypt(passphrase.bytes())
                .map_err(|_| KeyError::WrongPassphrase { path: path.to_owned() })?
        }
        _ => return Err(format()),
    };
    SigningKey::from_pkcs8_der(document.as_bytes()).map_err(|_| format())
}

pub(super) fn encode(
    path: &Path,
    key: &SigningKey,
    protection: &Protection<'_>,
) -> Result<Zeroizing<String>, KeyError> {
    let format = || KeyError::Format { path: path.to_owned(), what: "an encodable key" };
    // Version 1 without the public key: what OpenSSL and every RFC 8410 reader accept.
    let bytes = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let document = bytes.to_pkcs8_der().map_err(|_| format())?;
    let Protection::Encrypted { passphrase, entropy } = protection else {
        return document.to_pem(PLAIN, LineEnding::LF).map_err(|_| format());
    };
    if !passphrase.is_strong_enough() {
        return Err(KeyError::WeakPassphrase);
    }
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    entropy.fill(&mut salt)?;
    entropy.fill(&mut iv)?;
    let parameters = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P)
        .ok()
        .and_then(|scrypt| pbes2::Parameters::generate_scrypt_aes256cbc(scrypt, &salt, iv).ok())
        .ok_or_else(format)?;
    let info = PrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| format())?;
    let sealed = info.encrypt_with_params(parameters, passphrase.bytes()).map_err(|_| format())?;
    sealed.to_pem(ENCRYPTED, LineEnding::LF).map_err(|_| format())
}

/// Refuses parameters that would stop the program before a passphrase is asked for.
fn check_cost(path: &Path, scheme: &EncryptionScheme) -> Result<(), KeyError> {
    let too_much = |what: String| Err(KeyError::Cost { path: path.to_owned(), what });
    let EncryptionScheme::Pbes2(parameters) = scheme else {
        let what = "an Ed25519 private key encrypted with PBES2 (older schemes are not secure)";
        return Err(KeyError::Format { path: path.to_owned(), what });
    };
    match &parameters.kdf {
        Kdf::Scrypt(scrypt) => {
            let bytes = scrypt.cost_parameter.saturating_mul(128 * u64::from(scrypt.block_size));
            if bytes > SCRYPT_BYTES_MAX || scrypt.parallelization > SCRYPT_P_MAX {
                return too_much(format!("{bytes} bytes of memory, {} times", scrypt.parallelization));
            }
        }
        Kdf::Pbkdf2(pbkdf2) if pbkdf2.iteration_count > PBKDF2_ROUNDS_MAX => {
            return too_much(format!("{} rounds", pbkdf2.iteration_count));
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppingEntropy;
    use crate::key::Passphrase;

    #[test]
    fn parameters_beyond_the_limits_are_refused_before_any_work() {
        let passphrase = Passphrase::new("correct horse battery").unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let bytes = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
        let document = bytes.to_pkcs8_der().unwrap();
        let info = PrivateKeyInfoRef::try_from(document.as_bytes()).unwrap();
        let mut sealed = {
            let cheap = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(1, &[1; 16], [2; 16]).unwrap();
            let sealed = info.encrypt_with_params(cheap, b"x").unwrap();
            pkcs8::EncryptedPrivateKeyInfoOwned::try_from(sealed.as_bytes()).unwrap()
        };
        let EncryptionScheme::Pbes2(parameters) = &mut sealed.encryption_algorithm else { panic!("PBES2") };
        let Kdf::Pbkdf2(pbkdf2) = &mut parameters.kdf else { panic!("PBKDF2") };
        pbkdf2.iteration_count = PBKDF2_ROUNDS_MAX + 1;
        let pem = SecretDocument::try_from(&sealed).unwrap().to_pem(ENCRYPTED, LineEnding::LF).unwrap();
        let error = decode(Path::new("k.pem"), pem.as_bytes(), &passphrase).unwrap_err();
        assert_eq!(
            error.to_string(),
            "k.pem asks for 10000001 rounds to derive its key, beyond the limit of this program"
        );
    }

    #[test]
    fn an_encrypted_key_is_another_text_each_time() {
        let passphrase = Passphrase::new("correct horse battery").unwrap();
        let entropy = SteppingEntropy::default();
        let key = SigningKey::from_bytes(&[7; 32]);
        let protection = Protection::Encrypted { passphrase: &passphrase, entropy: &entropy };
        let one = encode(Path::new("k"), &key, &protection).unwrap();
        let two = encode(Path::new("k"), &key, &protection).unwrap();
        assert!(one.starts_with(ENCRYPTED_BEGIN));
        assert_ne!(*one, *two);
    }
}
