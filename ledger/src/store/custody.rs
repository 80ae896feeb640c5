//! Where the keys of a ledger are: a file of its own for each key pair, in `keys/`.
//!
//! `log` and `bundle` for the pairs of the first entry, `log-FINGERPRINT` and `bundle-FINGERPRINT` for those that came
//! after, each with `.pem` for a key or `.signer.toml` for how to reach one. Which of them is in force is said by the
//! entries alone, so that a rotation renames nothing and cannot be cut between two names.

use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::VerifyingKey;

use super::error::LedgerError;
use super::layout::Layout;
use crate::authority::{Authority, Role};
use crate::key::{self, KeyError, Passphrases, Protection, SigningKey};
use crate::signer::{Signer, SignerConfig};

/// A new key of a ledger.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A key pair, kept in a file of the ledger.
    Pair(SigningKey),
    /// A `*.signer.toml` that says how to reach a key; copied into the ledger.
    External(PathBuf),
}

impl KeySource {
    /// Returns the public half, after the signer of an external key has shown that it can sign.
    pub(super) fn public(&self) -> Result<VerifyingKey, LedgerError> {
        match self {
            Self::Pair(pair) => Ok(pair.public()),
            Self::External(path) => {
                let signer = SignerConfig::load(path)?.signer();
                // Not a note, nor anything else that a verifier would take for a statement.
                crate::signer::sign_verified(&*signer, b"verdict: can you sign?\n")?;
                Ok(signer.public())
            }
        }
    }

    /// Writes the file under a stem in `keys/`.
    pub(super) fn save(
        &self,
        layout: &Layout,
        stem: &str,
        protection: &Protection<'_>,
    ) -> Result<(), LedgerError> {
        match self {
            Self::Pair(pair) => pair.save(&layout.keys().join(format!("{stem}.pem")), protection)?,
            Self::External(path) => {
                let to = layout.keys().join(format!("{stem}.signer.toml"));
                let text =
                    std::fs::read(path).map_err(|source| LedgerError::Io { path: path.clone(), source })?;
                key::replace_private(&to, &text)?;
            }
        }
        Ok(())
    }
}

/// Names the file of a key pair, without its ending.
pub(super) fn stem(authority: &Authority, role: Role, public: &VerifyingKey) -> String {
    match authority.spans(role).first() {
        Some(first) if first.key.public() == public => role.as_str().to_owned(),
        _ => stem_of_later(role, public),
    }
}

/// The same for a pair that is not of the first entry.
pub(super) fn stem_of_later(role: Role, public: &VerifyingKey) -> String {
    format!("{}-{}", role.as_str(), key::fingerprint(public))
}

/// Where a key is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Pem(PathBuf),
    Signer(PathBuf),
}

pub(super) fn place(layout: &Layout, stem: &str) -> Option<Place> {
    let pem = layout.keys().join(format!("{stem}.pem"));
    let signer = layout.keys().join(format!("{stem}.signer.toml"));
    if signer.exists() {
        return Some(Place::Signer(signer));
    }
    pem.exists().then_some(Place::Pem(pem))
}

/// Opens the signer of a key; it must be the pair that the ledger names.
pub(super) fn open(
    layout: &Layout,
    stem: &str,
    public: &VerifyingKey,
    passphrases: &dyn Passphrases,
) -> Result<Arc<dyn Signer>, LedgerError> {
    let (signer, path): (Arc<dyn Signer>, PathBuf) = match place(layout, stem) {
        Some(Place::Signer(path)) => (SignerConfig::load(&path)?.signer(), path),
        Some(Place::Pem(path)) => (Arc::new(SigningKey::load(&path, passphrases)?), path),
        None => {
            let path = layout.keys().join(format!("{stem}.pem"));
            return Err(KeyError::Io { path, source: std::io::ErrorKind::NotFound.into() }.into());
        }
    };
    if signer.public() != *public {
        let detail = "this key does not belong to the ledger's verifier key".to_owned();
        return Err(LedgerError::Settings { path, detail });
    }
    Ok(signer)
}

/// Opens the signer that is in force in a role.
pub(super) fn current(
    layout: &Layout,
    authority: &Authority,
    role: Role,
    passphrases: &dyn Passphrases,
) -> Result<Arc<dyn Signer>, LedgerError> {
    let public = authority.current(role).public();
    open(layout, &stem(authority, role, public), public, passphrases)
}
