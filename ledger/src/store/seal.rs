//! The erasable store: disclosed values, encrypted with a data key per subject.
//!
//! Destroying a data key makes every value under it unreadable wherever copies of the ciphertext may lie.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aes_gcm_siv::aead::{Aead as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit as _, Nonce};
use rocksdb::DB;
use serde_json::{Map, Value};

use super::codec::{self, DataKeyRow, DisclosureRow};
use super::error::LedgerError;
use super::families::{DATA_KEYS, DISCLOSURES, family};
use super::pack::Packer;
use crate::clock::{Entropy, EntropyError};
use crate::disclosure::Hidden;
use crate::key::StoreSecret;

/// Whose data a key protects: a keyed digest of tenant and user, else of the session, else of the trace.
pub(super) type Subject = [u8; 16];

/// Data keys that are kept unwrapped in memory.
const CACHED_KEYS_MAX: usize = 4096;

/// Most bytes of the values of one entry when decompressed: each of them at its limit.
const PLAIN_BYTES_MAX: usize = 8 * crate::disclosure::DISCLOSURE_BYTES_MAX;

struct DataKey {
    key: [u8; 32],
    /// The row to write while no batch that carries it is known to be durable.
    unwritten: Option<Vec<u8>>,
}

/// Seals and opens disclosures.
pub(super) struct Sealer {
    db: Arc<DB>,
    origin: String,
    index_key: [u8; 32],
    wrapping_key: [u8; 32],
    entropy: Arc<dyn Entropy>,
    keys: Mutex<BTreeMap<Subject, DataKey>>,
    /// Counts how often keys were forgotten; changes only while `keys` is locked.
    forgotten: AtomicU64,
    packer: Packer,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Why a disclosure could not be sealed.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum SealError {
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    #[error("a disclosed value could not be compressed or encrypted")]
    Encrypt,
    #[error("the data key could not be read: {0}")]
    Key(String),
}

impl Sealer {
    pub(super) fn new(db: Arc<DB>, origin: &str, secret: &StoreSecret, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            db,
            origin: origin.to_owned(),
            index_key: secret.index_key(),
            wrapping_key: secret.wrapping_key(),
            entropy,
            keys: Mutex::new(BTreeMap::new()),
            forgotten: AtomicU64::new(0),
            packer: Packer::default(),
        }
    }

    pub(super) fn entropy(&self) -> &dyn Entropy {
        &*self.entropy
    }

    /// Digests a value for an index: 16 bytes that mean nothing without the index key.
    pub(super) fn index_digest(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.index_key);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        digest
    }

    /// Finds the subject of a body.
    pub(super) fn subject(&self, body: &Map<String, Value>) -> Subject {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let tenant = text("tenant").unwrap_or_default();
        let (kind, who) = ["user", "session", "trace_id"]
            .iter()
            .find_map(|kind| text(kind).map(|who| (*kind, who)))
            .unwrap_or(("ledger", ""));
        self.index_digest(&[b"subject", tenant.as_bytes(), kind.as_bytes(), who.as_bytes()])
    }

    /// Finds the subject of what a user of a tenant said or was said to be.
    pub(super) fn user(&self, tenant: &str, user: &str) -> Subject {
        self.index_digest(&[b"subject", tenant.as_bytes(), b"user", user.as_bytes()])
    }

    /// Encrypts the disclosed values of one entry for a subject; returns the row of `disclosures`.
    pub(super) fn seal(
        &self,
        subject: Subject,
        hidden: &Hidden,
        nonce: [u8; 12],
    ) -> Result<Vec<u8>, SealError> {
        let key = self.key_for(subject)?;
        let plain = codec::encode(hidden);
        let length = u32::try_from(plain.len()).map_err(|_| SealError::Encrypt)?;
        let packed = self.packer.pack(plain).map_err(|_| SealError::Encrypt)?;
        let payload = Payload { msg: &packed, aad: &self.associated(&subject) };
        let sealed = cipher(&key).encrypt(&Nonce::from(nonce), payload).map_err(|_| SealError::Encrypt)?;
        Ok(codec::encode(&DisclosureRow { subject, nonce, length, sealed }))
    }

    /// Decrypts a row; `None` when the data key was destroyed. That the values are those of the entry is for the
    /// caller to check: the entry commits to each of them.
    pub(super) fn open(&self, seq: u64, row: &[u8]) -> Result<Option<Hidden>, LedgerError> {
        let row: DisclosureRow = codec::decode(DISCLOSURES, row)?;
        let Some(key) = self.stored_key(row.subject)? else { return Ok(None) };
        let damaged = || LedgerError::Damaged {
            place: format!("disclosed values of entry {seq}"),
            detail: "cannot be decrypted".to_owned(),
        };
        let payload = Payload { msg: &row.sealed, aad: &self.associated(&row.subject) };
        let packed = cipher(&key).decrypt(&Nonce::from(row.nonce), payload).map_err(|_| damaged())?;
        let length = usize::try_from(row.length).unwrap_or(usize::MAX).min(PLAIN_BYTES_MAX);
        let plain = self.packer.unpack(packed, length).map_err(|_| damaged())?;
        codec::decode(DISCLOSURES, &plain).map(Some)
    }

    /// Reads whose data key a row is encrypted with.
    pub(super) fn subject_of(row: &[u8]) -> Result<Subject, LedgerError> {
        codec::decode::<DisclosureRow>(DISCLOSURES, row).map(|row| row.subject)
    }

    /// Returns the rows of data keys that are not known to be durable, for these subjects.
    pub(super) fn unwritten(&self, subjects: impl Iterator<Item = Subject>) -> Vec<(Subject, Vec<u8>)> {
        let keys = self.lock();
        subjects
            .filter_map(|subject| {
                let row = keys.get(&subject)?.unwritten.clone()?;
                Some((subject, row))
            })
            .collect()
    }

    /// Notes that rows are durable now.
    pub(super) fn written(&self, subjects: impl Iterator<Item = Subject>) {
        let mut keys = self.lock();
        for subject in subjects {
            if let Some(key) = keys.get_mut(&subject) {
                key.unwritten = None;
            }
        }
        if keys.len() > CACHED_KEYS_MAX {
            keys.retain(|_, key| key.unwritten.is_some());
        }
    }

    /// Forgets keys whose rows were deleted. A reader that unwrapped one before and is slow to keep it must not bring
    /// it back: the next value of the subject would be sealed under a key that no database holds.
    pub(super) fn forget(&self, subjects: &[Subject]) {
        let mut keys = self.lock();
        self.forgotten.fetch_add(1, Ordering::Relaxed);
        for subject in subjects {
            keys.remove(subject);
        }
    }

    fn key_for(&self, subject: Subject) -> Result<[u8; 32], SealError> {
        let mut keys = self.lock();
        if let Some(found) = keys.get(&subject) {
            return Ok(found.key);
        }
        // A key that is there and cannot be read is an error: a second key would make its values unreadable for good.
        if let Some(key) = self.unwrap(subject).map_err(|error| SealError::Key(error.to_string()))? {
            keys.insert(subject, DataKey { key, unwritten: None });
            return Ok(key);
        }
        let (mut key, mut nonce) = ([0; 32], [0; 12]);
        self.entropy.fill(&mut key)?;
        self.entropy.fill(&mut nonce)?;
        let payload = Payload { msg: &key, aad: &self.associated(&subject) };
        let wrapped = cipher(&self.wrapping_key)
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| SealError::Encrypt)?;
        let row = codec::encode(&DataKeyRow { nonce, wrapped });
        keys.insert(subject, DataKey { key, unwritten: Some(row) });
        Ok(key)
    }

    fn stored_key(&self, subject: Subject) -> Result<Option<[u8; 32]>, LedgerError> {
        let forgotten = {
            let keys = self.lock();
            if let Some(found) = keys.get(&subject) {
                return Ok(Some(found.key));
            }
            self.forgotten.load(Ordering::Relaxed)
        };
        let found = self.unwrap(subject)?;
        if let Some(key) = found {
            let mut keys = self.lock();
            if self.forgotten.load(Ordering::Relaxed) != forgotten {
                return Ok(Some(key));
            }
            if keys.len() > CACHED_KEYS_MAX {
                keys.retain(|_, key| key.unwritten.is_some());
            }
            keys.insert(subject, DataKey { key, unwritten: None });
        }
        Ok(found)
    }

    fn unwrap(&self, subject: Subject) -> Result<Option<[u8; 32]>, LedgerError> {
        let row = self.db.get_pinned_cf(family(&self.db, DATA_KEYS)?, subject)?;
        row.map(|row| self.unwrap_row(subject, &row)).transpose()
    }

    /// Checks that a row of `data_keys` is a key of this subject.
    pub(super) fn check_data_key(&self, subject: Subject, row: &[u8]) -> Result<(), LedgerError> {
        self.unwrap_row(subject, row).map(drop)
    }

    fn unwrap_row(&self, subject: Subject, row: &[u8]) -> Result<[u8; 32], LedgerError> {
        let row: DataKeyRow = codec::decode(DATA_KEYS, row)?;
        let payload = Payload { msg: &row.wrapped, aad: &self.associated(&subject) };
        let key = cipher(&self.wrapping_key).decrypt(&Nonce::from(row.nonce), payload).ok();
        let key = key.and_then(|key| <[u8; 32]>::try_from(key).ok());
        key.ok_or_else(|| LedgerError::Damaged {
            place: format!("data key {}", hex::encode(subject)),
            detail: "cannot be unwrapped with this store secret".to_owned(),
        })
    }

    /// Binds a ciphertext to this ledger and to what it is about.
    fn associated(&self, about: &[u8]) -> Vec<u8> {
        [self.origin.as_bytes(), b"\n", about].concat()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Subject, DataKey>> {
        // The map is consistent between any two statements that change it.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cipher(key: &[u8; 32]) -> Aes256GcmSiv {
    Aes256GcmSiv::new(&(*key).into())
}
