//! Putting another key into force, and taking back trust in a former one.
//!
//! A rotation is one entry. Before it the new key lies under a name of its own in `keys/`; after it the next open
//! finds that key in force and has both keys sign the checkpoint over the entry. Cut anywhere, the ledger opens with
//! the old key (the entry is not there) or finishes (it is).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::custody::{self, KeySource, Place};
use super::error::LedgerError;
use super::{Ledger, OpenOptions};
use crate::authority::{KEY_REVOKED, KEY_ROTATED, Role};
use crate::clock::Clock;
use crate::key::{self, KeyError, Passphrase, Passphrases, Protection, SigningKey, StoreSecret};
use crate::note::VerifierKey;
use crate::record::{Batch, NewRecord};

/// Longest reason that an entry keeps.
const REASON_BYTES_MAX: usize = 1024;

/// A key that is to come into force.
#[derive(Debug)]
pub struct Rotation {
    /// What it signs.
    pub role: Role,
    /// The key.
    pub source: KeySource,
    /// Encrypts its file when there is one.
    pub passphrase: Option<Passphrase>,
    /// Why; recorded in the clear.
    pub reason: String,
    /// Who; recorded as a value that can be erased.
    pub by: String,
}

/// A former key that is not to be trusted beyond a size.
#[derive(Debug)]
pub struct Revoking {
    /// What it signed.
    pub role: Role,
    /// The key.
    pub key: VerifierKey,
    /// Last size up to which its signatures count.
    pub last_size: u64,
    /// Why; recorded in the clear.
    pub reason: String,
    /// Who; recorded as a value that can be erased.
    pub by: String,
}

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// What the keys sign.
    pub role: Role,
    /// Key before.
    pub old: String,
    /// Key after.
    pub new: String,
    /// Position of the entry.
    pub seq: u64,
    /// File of the key before, which nothing needs any more.
    pub old_file: Option<PathBuf>,
    /// File of the key after.
    pub new_file: Option<PathBuf>,
}

impl Ledger {
    /// Puts another key into force and returns when both keys have signed the checkpoint over that. The ledger must
    /// not be open for writing anywhere.
    pub fn rotate_key(
        dir: &Path,
        options: &OpenOptions,
        clock: Arc<dyn Clock>,
        rotation: &Rotation,
    ) -> Result<Change, LedgerError> {
        check_reason(&rotation.reason)?;
        let ledger = Self::open(dir, options, Arc::clone(&clock))?;
        let authority = ledger.authority();
        let role = rotation.role;
        let old = authority.current(role).clone();
        let public = rotation.source.public()?;
        let new = VerifierKey::new(old.name(), public)?;
        if let Some(used) = authority.uses(&new) {
            let detail = format!("this key is or was the {used} key of the ledger; a key serves once");
            return Err(LedgerError::KeyChange(detail));
        }
        // Whatever stands in the log so far is signed by the old key; if that cannot sign now, nothing is begun.
        ledger.settle()?;
        let layout = &ledger.inner.layout;
        let stem = custody::stem_of_later(role, &public);
        if custody::place(layout, &stem).is_some() {
            // Left by a rotation that was cut before its entry; it is used if it is that key.
            custody::open(layout, &stem, &public, &*options.passphrases)?;
        } else {
            let protection = match &rotation.passphrase {
                Some(passphrase) => Protection::Encrypted { passphrase, entropy: &*options.entropy },
                None => Protection::Plain,
            };
            rotation.source.save(layout, &stem, &protection)?;
        }
        let mut body = Map::new();
        body.insert("id".to_owned(), format!("{KEY_ROTATED}/{role}/{}", key::fingerprint(&public)).into());
        body.insert("role".to_owned(), role.as_str().into());
        body.insert("old".to_owned(), old.to_string().into());
        body.insert("new".to_owned(), new.to_string().into());
        // Nobody else appends: this ledger was opened here and is given to nobody.
        let seq = ledger.head().size;
        body.insert("size".to_owned(), (seq + 1).to_string().into());
        ledger.append_about_keys(KEY_ROTATED, body, &rotation.reason, &rotation.by)?;
        let old_stem = custody::stem(&authority, role, old.public());
        let file = |stem: &str| {
            custody::place(layout, stem).map(|place| match place {
                Place::Pem(path) | Place::Signer(path) => path,
            })
        };
        let change = Change {
            role,
            old: old.to_string(),
            new: new.to_string(),
            seq,
            old_file: file(&old_stem),
            new_file: file(&stem),
        };
        // Closing has the old key sign the entry; opening has the new one do it, exactly as after a crash.
        drop(ledger);
        Self::open(dir, options, clock)?.settle()?;
        Ok(change)
    }

    /// Takes back trust in a former key; returns the position of the entry. The ledger must not be open for writing
    /// anywhere.
    pub fn revoke_key(
        dir: &Path,
        options: &OpenOptions,
        clock: Arc<dyn Clock>,
        revoking: &Revoking,
    ) -> Result<u64, LedgerError> {
        check_reason(&revoking.reason)?;
        let ledger = Self::open(dir, options, clock)?;
        let authority = ledger.authority();
        let Revoking { role, key, last_size, .. } = revoking;
        let refuse = |detail: String| Err(LedgerError::KeyChange(detail));
        if authority.current(*role).public() == key.public() {
            return refuse(format!("{key} is in force; put another in its place first, then revoke it"));
        }
        if !authority.spans(*role).iter().any(|span| span.key.public() == key.public()) {
            return refuse(format!("{key} was never a {role} key of this ledger"));
        }
        let size = ledger.head().size;
        if *last_size > size {
            return refuse(format!(
                "the ledger has {size} entries, so the key signed nothing of size {last_size}"
            ));
        }
        let print = key::fingerprint(key.public());
        let mut body = Map::new();
        body.insert("id".to_owned(), format!("{KEY_REVOKED}/{role}/{print}/{last_size}").into());
        body.insert("role".to_owned(), role.as_str().into());
        body.insert("key".to_owned(), key.to_string().into());
        body.insert("last_size".to_owned(), last_size.to_string().into());
        let seq = ledger.append_about_keys(KEY_REVOKED, body, &revoking.reason, &revoking.by)?;
        ledger.settle()?;
        Ok(seq)
    }

    fn append_about_keys(
        &self,
        kind: &str,
        mut body: Map<String, Value>,
        reason: &str,
        by: &str,
    ) -> Result<u64, LedgerError> {
        body.insert("reason".to_owned(), reason.into());
        body.insert("by".to_owned(), by.into());
        let batch = Batch { records: vec![NewRecord::system(kind, body)], blobs: Vec::new() };
        let receipt = self.append_own(batch)?;
        receipt.seqs.first().copied().ok_or_else(|| LedgerError::KeyChange("nothing was appended".to_owned()))
    }

    /// Lists the files in `keys/` with what they are for; nothing is opened.
    pub fn key_files(&self) -> Result<Vec<KeyFile>, LedgerError> {
        let layout = &self.inner.layout;
        let authority = self.authority();
        let mut files = Vec::new();
        for role in [Role::Log, Role::Bundle] {
            for span in authority.spans(role) {
                let public = span.key.public();
                let place = custody::place(layout, &custody::stem(&authority, role, public));
                let (path, external) = match place {
                    None => continue,
                    Some(Place::Pem(path)) => (path, false),
                    Some(Place::Signer(path)) => (path, true),
                };
                if files.iter().any(|file: &KeyFile| file.path == path) {
                    continue;
                }
                let in_force = authority.current(role).public() == public;
                let encrypted = !external && key::is_encrypted(&path)?;
                files.push(KeyFile { path, role: Some(role), in_force, external, encrypted });
            }
        }
        let path = layout.store_secret();
        let encrypted = key::is_encrypted(&path)?;
        files.push(KeyFile { path, role: None, in_force: true, external: false, encrypted });
        Ok(files)
    }

    /// Encrypts every key file and the store's secret under a passphrase, or decrypts them; returns the files that
    /// changed. `before` opens those that are encrypted now. Each file is replaced whole, and when this is cut, doing
    /// it again finishes it: a file that opens with the new passphrase already is left alone.
    pub fn protect_keys(
        &self,
        before: &dyn Passphrases,
        after: &Protection<'_>,
    ) -> Result<Vec<PathBuf>, LedgerError> {
        let mut changed = Vec::new();
        for KeyFile { path, role, external, encrypted, .. } in self.key_files()? {
            let done = match after {
                Protection::Plain => !encrypted,
                Protection::Encrypted { passphrase, .. } => encrypted && opens(&path, role, *passphrase)?,
            };
            if external || done {
                continue;
            }
            match role {
                Some(_) => SigningKey::load(&path, before)?.replace(&path, after)?,
                None => StoreSecret::load(&path, before)?.replace(&path, after)?,
            }
            changed.push(path);
        }
        Ok(changed)
    }
}

fn opens(path: &Path, role: Option<Role>, passphrases: &dyn Passphrases) -> Result<bool, KeyError> {
    let opened = match role {
        Some(_) => SigningKey::load(path, passphrases).map(drop),
        None => StoreSecret::load(path, passphrases).map(drop),
    };
    match opened {
        Ok(()) => Ok(true),
        Err(KeyError::WrongPassphrase { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn check_reason(reason: &str) -> Result<(), LedgerError> {
    if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX || reason.chars().any(char::is_control) {
        let detail = format!("a reason is 1 to {REASON_BYTES_MAX} bytes of text without control characters");
        return Err(LedgerError::KeyChange(detail));
    }
    Ok(())
}

/// A file in `keys/`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KeyFile {
    /// Path.
    pub path: PathBuf,
    /// What its key signs; `None` for the secret of the erasable store.
    pub role: Option<Role>,
    /// Whether it is needed now.
    pub in_force: bool,
    /// Whether it only says how to reach a key.
    pub external: bool,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SteppingClock, SteppingEntropy};
    use crate::note::Checkpoint;
    use crate::store::InitOptions;
    use crate::store::families::{self, CHECKPOINTS, family};
    use crate::store::lock::LockFile;

    fn clock() -> Arc<dyn Clock> {
        Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000))
    }

    /// Puts a ledger back into the state before its checkpoint of `size` was signed, or was signed by all.
    fn forget_checkpoint(dir: &Path, lock: &Path, size: u64, row: Option<&str>, locked: Option<&str>) {
        let db = rocksdb::DB::open_cf_descriptors(
            &families::db_options(),
            dir.join("db"),
            families::descriptors(),
        );
        let db = db.unwrap();
        let checkpoints = family(&db, CHECKPOINTS).unwrap();
        match row {
            Some(note) => db.put_cf(checkpoints, size.to_be_bytes(), note).unwrap(),
            None => db.delete_cf(checkpoints, size.to_be_bytes()).unwrap(),
        }
        let (file, mut state) = LockFile::open(lock, true).unwrap();
        state.counter += 1;
        state.checkpoint = locked.map(str::to_owned);
        file.write(&state).unwrap();
    }

    /// Every state that a rotation can be cut in behind its entry: nobody has signed the checkpoint over it, or only
    /// the old key has, and the lock knows of it before the database does.
    #[test]
    fn a_rotation_that_is_cut_behind_its_entry_is_finished_by_the_next_open() {
        let temp = tempfile::tempdir().unwrap();
        for case in 0..5 {
            let dir = temp.path().join(format!("ledger-{case}"));
            let options = InitOptions {
                entropy: Arc::new(SteppingEntropy::default()),
                ..InitOptions::new("l.example")
            };
            let ledger = Ledger::init(&dir, &options, clock()).unwrap();
            let lock = ledger.lock_path().to_owned();
            let before = ledger.checkpoint().unwrap().unwrap();
            drop(ledger);
            let new = SigningKey::generate(&SteppingEntropy::starting_at(50)).unwrap();
            let rotation = Rotation {
                role: Role::Log,
                source: KeySource::Pair(new),
                passphrase: None,
                reason: "test".into(),
                by: "t".into(),
            };
            let change = Ledger::rotate_key(&dir, &OpenOptions::default(), clock(), &rotation).unwrap();
            let reader = Ledger::open_reader(&dir, &OpenOptions::default()).unwrap();
            let both = reader.checkpoint_at(2).unwrap().unwrap();
            drop(reader);
            let (text, lines) = both.rsplit_once("\n\n").unwrap();
            let old_only = format!("{text}\n\n{}\n", lines.lines().next().unwrap());
            let (row, locked) = match case {
                0 => (None, Some(before.as_str())),
                1 => (None, Some(old_only.as_str())),
                2 => (Some(old_only.as_str()), Some(old_only.as_str())),
                3 => (Some(old_only.as_str()), Some(both.as_str())),
                _ => (None, Some(both.as_str())),
            };
            forget_checkpoint(&dir, &lock, 2, row, locked);
            // A reader of the unfinished state sees a whole ledger.
            let reader = Ledger::open_reader(&dir, &OpenOptions::default()).unwrap();
            assert!(reader.verify(&mut |_, _| {}).unwrap().is_clean(), "case {case}");
            drop(reader);
            let ledger = Ledger::open(&dir, &OpenOptions::default(), clock()).unwrap();
            let note = ledger.checkpoint_at(2).unwrap().unwrap();
            for key in [&change.old, &change.new] {
                let key = VerifierKey::parse(key).unwrap();
                assert!(Checkpoint::verify(&note, &key).is_ok(), "case {case}: {key}\n{note}");
            }
            assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean(), "case {case}");
        }
    }

    /// The old key is destroyed in the same moment: the ledger goes on, and says who cannot follow.
    #[test]
    fn a_rotation_whose_old_key_is_gone_does_not_strand_the_ledger() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("ledger");
        let ledger = Ledger::init(&dir, &InitOptions::new("l.example"), clock()).unwrap();
        let lock = ledger.lock_path().to_owned();
        let before = ledger.checkpoint().unwrap().unwrap();
        drop(ledger);
        let new = SigningKey::generate(&SteppingEntropy::starting_at(50)).unwrap();
        let rotation = Rotation {
            role: Role::Log,
            source: KeySource::Pair(new),
            passphrase: None,
            reason: "test".into(),
            by: "t".into(),
        };
        let change = Ledger::rotate_key(&dir, &OpenOptions::default(), clock(), &rotation).unwrap();
        forget_checkpoint(&dir, &lock, 2, None, Some(&before));
        std::fs::remove_file(change.old_file.unwrap()).unwrap();
        let ledger = Ledger::open(&dir, &OpenOptions::default(), clock()).unwrap();
        let note = ledger.checkpoint_at(2).unwrap().unwrap();
        assert!(Checkpoint::verify(&note, &VerifierKey::parse(&change.new).unwrap()).is_ok());
        assert!(Checkpoint::verify(&note, &VerifierKey::parse(&change.old).unwrap()).is_err());
    }
}
