//! The files beside the database: each must be the one that the ledger commits to. That `verdict.json` agrees with the
//! first entry was checked when the ledger was opened.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ed25519_dalek::VerifyingKey;

use super::{Class, Report};
use crate::authority::Role;
use crate::key::{self, KeyError, NoPassphrases, SigningKey};
use crate::store::Ledger;
use crate::store::custody::{self, Place};
use crate::store::error::LedgerError;
use crate::store::families::{self, family};

/// Checks the key pairs that are there, former ones too; a ledger whose keys are kept elsewhere, or by a signer, is
/// verified without them.
pub(super) fn check(ledger: &Ledger, report: &mut Report) -> Result<(), LedgerError> {
    let authority = ledger.authority();
    let mut seen = BTreeSet::new();
    for role in [Role::Log, Role::Bundle] {
        for span in authority.spans(role) {
            let public = span.key.public();
            let stem = custody::stem(&authority, role, public);
            let Some(Place::Pem(path)) = custody::place(&ledger.inner.layout, &stem) else { continue };
            // After a restore the same pair goes on under another name.
            if !seen.insert(stem) {
                continue;
            }
            if let Err(why) = belongs(&path, public) {
                report.fail(None, Class::File, format!("{}: {why}", path.display()));
            }
        }
    }
    check_secret(ledger, report)
}

/// Tells whether a key file holds the private half of a public key, and nothing else. One that is encrypted is left to
/// its passphrase: nobody is asked for it only to be told that a file is whole.
fn belongs(path: &Path, public: &VerifyingKey) -> Result<(), String> {
    let key = match SigningKey::load(path, &NoPassphrases) {
        Ok(key) => key,
        // A file that this user must not read is no damage.
        Err(KeyError::Io { .. } | KeyError::Exposed { .. } | KeyError::Locked { .. }) => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if *public != key.public() {
        return Err("this key does not belong to the ledger".to_owned());
    }
    if fs::read(path).is_ok_and(|bytes| !key.is_plain_file(path, &bytes)) {
        return Err("the key is right, and the file was changed around it".to_owned());
    }
    Ok(())
}

/// Checks that the secret is the one that the indexes and the data keys were made with: without it, every value and
/// every index row would look forged.
fn check_secret(ledger: &Ledger, report: &mut Report) -> Result<(), LedgerError> {
    let inner = &ledger.inner;
    let path = inner.layout.store_secret();
    let by_id = family(&inner.db, families::BY_ID)?;
    let first = inner.sealer.index_digest(&[b"id", format!("ledger:{}", inner.settings.uuid).as_bytes()]);
    if inner.db.get_pinned_cf(by_id, first)?.is_none() && ledger.head().size > 0 {
        let detail = "it is not the secret of this ledger, or the index of ids was made with another";
        report.fail(None, Class::File, format!("{}: {detail}", path.display()));
    } else if key::is_encrypted(&path).is_ok_and(|encrypted| !encrypted)
        && fs::read(&path).is_ok_and(|bytes| !is_secret(&bytes))
    {
        report.fail(None, Class::File, format!("{}: the file was changed around the secret", path.display()));
    }
    Ok(())
}

/// Tells whether a file is a secret as it is written: 64 lower-case hexadecimal digits and a line feed.
fn is_secret(bytes: &[u8]) -> bool {
    bytes.strip_suffix(b"\n").is_some_and(|digits| {
        digits.len() == 64 && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}
