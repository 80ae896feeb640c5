//! The history of keys, read from the entries of a database.

use std::collections::BTreeSet;
use std::sync::Arc;

use rocksdb::{DB, IteratorMode, ReadOptions, WriteOptions};

use super::error::LedgerError;
use super::families::{self, family};
use super::layout::{Layout, Settings};
use super::lock::{LockFile, LockState};
use super::terms::Tag;
use super::{custody, read, sign, tail};
use crate::authority::{AUTHORITY_KINDS, Authority, AuthorityError, Role};
use crate::entry::EntryView;
use crate::key::{KeyError, Passphrases};
use crate::note::{Checkpoint, SignError, VerifierKey};
use crate::signer::Signer;

/// Reads the history from the first `size` entries. Before the first entry is written it is what the settings say.
///
/// The entries are found by the index of types. An index that hides one leads to keys that do not match the lock's
/// checkpoint, and full verification reads every entry.
pub(super) fn load(db: &DB, settings: &Settings, size: u64) -> Result<Authority, LedgerError> {
    if size == 0 {
        return fold(&[], settings);
    }
    let seqs = match indexed(db, size) {
        Ok(seqs) if seqs.contains(&0) => seqs,
        // An index that does not even know of the first entry was deleted or damaged: it is a projection, and
        // nothing may depend on it.
        _ => scanned(db, size)?,
    };
    let family = family(db, families::ENTRIES)?;
    let mut entries = Vec::new();
    for seq in seqs {
        let entry = db.get_cf(family, seq.to_be_bytes())?;
        entries.push((seq, entry.ok_or_else(|| damaged(seq, "is missing".to_owned()))?));
    }
    fold(&entries, settings)
}

/// Derives the history from the entries about keys. Before the first entry is written it is what the settings say.
pub(super) fn fold(entries: &[(u64, Vec<u8>)], settings: &Settings) -> Result<Authority, LedgerError> {
    if entries.is_empty() {
        let log = VerifierKey::parse(&settings.verifier_key)?;
        let bundle = VerifierKey::parse(&settings.bundle_key)?;
        return Ok(Authority::first(&settings.origin, &settings.uuid, log, bundle));
    }
    let told = entries.iter().map(|(seq, entry)| (*seq, entry.as_slice()));
    Authority::fold(told).map_err(|error: AuthorityError| damaged(error.seq, error.detail))
}

fn damaged(seq: u64, detail: String) -> LedgerError {
    LedgerError::Damaged { place: format!("entry {seq}"), detail }
}

/// Finds the entries about keys by the index of types.
fn indexed(db: &DB, size: u64) -> Result<BTreeSet<u64>, LedgerError> {
    let (tail, mut seqs) = (tail::read(db, size)?, BTreeSet::new());
    for kind in AUTHORITY_KINDS {
        seqs.extend(read::term_positions(db, &tail, &Tag::Kind.key(kind.as_bytes()), 0..size, usize::MAX)?);
    }
    Ok(seqs)
}

/// Finds the entries about keys by looking at every entry.
fn scanned(db: &DB, size: u64) -> Result<BTreeSet<u64>, LedgerError> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(size.to_be_bytes());
    options.fill_cache(false);
    let mut seqs = BTreeSet::from([0]);
    for row in db.iterator_cf_opt(family(db, families::ENTRIES)?, options, IteratorMode::Start) {
        let (key, entry) = row?;
        // What cannot be read is named by a verification.
        if EntryView::parse(&entry).is_ok_and(|view| AUTHORITY_KINDS.contains(&&*view.kind)) {
            seqs.extend(families::seq_of_key(&key));
        }
    }
    Ok(seqs)
}

/// What a rotation that may be unfinished is finished with.
pub(super) struct Handover<'a> {
    pub(super) db: &'a DB,
    pub(super) layout: &'a Layout,
    pub(super) authority: &'a Authority,
    pub(super) lock: &'a LockFile,
    /// Link to the last entry.
    pub(super) link: String,
    /// Signs for the key in force.
    pub(super) signer: &'a dyn Signer,
    pub(super) passphrases: &'a dyn Passphrases,
}

impl Handover<'_> {
    /// Brings a rotation to its end that was cut between its entry and its checkpoint, which both keys sign.
    ///
    /// The log key changes only by the last entry of a ledger, so that nothing can stand behind an unsigned rotation.
    pub(super) fn finish(&self, state: &mut LockState, checkpoint: &Checkpoint) -> Result<(), LedgerError> {
        let size = checkpoint.size;
        let keys: Vec<_> = self.authority.log_keys_at(size).map(|span| span.key.clone()).collect();
        let [old, _] = keys.as_slice() else { return Ok(()) };
        let checkpoints = family(self.db, families::CHECKPOINTS)?;
        let stored = self.db.get_cf(checkpoints, size.to_be_bytes())?;
        let stored = stored.and_then(|note| String::from_utf8(note).ok());
        // The lock knows a checkpoint before the database does.
        let of_this = |note: &String| Checkpoint::verify(note, old).is_ok_and(|signed| signed == *checkpoint);
        let locked = state.checkpoint.clone().filter(of_this);
        let signed = |error: SignError| LedgerError::Rotation { size, detail: sign::chain(&error) };
        let note = match locked.or(stored) {
            Some(note) => note,
            None => self.sign_first(checkpoint, old)?,
        };
        let note = Checkpoint::add_signature(&note, self.signer).map_err(signed)?;
        if state.checkpoint.as_ref() != Some(&note) {
            state.counter += 1;
            state.acked = size;
            state.root = checkpoint.root.to_string();
            state.link.clone_from(&self.link);
            state.in_flight = size;
            state.checkpoint = Some(note.clone());
            let io = |source| LedgerError::Io { path: self.lock.path().to_owned(), source };
            self.lock.write(state).map_err(io)?;
        }
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        self.db.put_cf_opt(checkpoints, size.to_be_bytes(), note, &durable)?;
        Ok(())
    }

    /// The first signature is the old key's, unless its file is gone.
    fn sign_first(&self, checkpoint: &Checkpoint, old: &VerifierKey) -> Result<String, LedgerError> {
        let signed =
            |error: SignError| LedgerError::Rotation { size: checkpoint.size, detail: sign::chain(&error) };
        let stem = custody::stem(self.authority, Role::Log, old.public());
        match custody::open(self.layout, &stem, old.public(), self.passphrases) {
            Ok(old) => checkpoint.sign(&*old).map_err(signed),
            Err(LedgerError::Key(KeyError::Io { path, source }))
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                tracing::warn!(
                    key = %path.display(),
                    "the former log key is gone before it signed for its successor: verifiers that hold only \
                     the former key cannot follow, and need the new one by another way"
                );
                checkpoint.sign(self.signer).map_err(signed)
            }
            Err(error) => Err(error),
        }
    }
}

/// A history that readers share and a reader replaces when it has caught up.
pub(super) type SharedAuthority = std::sync::RwLock<Arc<Authority>>;
