//! The lock file: what was acknowledged, kept where the database is not.
//!
//! RocksDB reopens cleanly after its WAL was cut or deleted, so a chain alone proves nothing about its end. The
//! lock holds the last acknowledged size and root, the size in flight and the last signed checkpoint. It is one
//! fixed file of two slots that are written in turn, so that a torn write leaves the other slot whole; writing a
//! slot is one positioned write and one flush.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::error::LedgerError;
use crate::merkle::Hash;

const SLOT_LENGTH: usize = 8192;
const SLOT_BYTES: u64 = SLOT_LENGTH as u64;
const MAGIC: &[u8; 8] = b"VRDLOCK1";
const HEADER_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 32;
const CHECKSUM_CONTEXT: &str = "verdict 2026-11 lock slot v1";

/// How often a reader looks before it calls the lock damaged: the writer may be inside a slot at each look.
const LOOKS: usize = 4;

/// What the lock says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockState {
    /// Counts writes; the higher slot is the newer.
    pub(super) counter: u64,
    /// Origin of the ledger.
    pub(super) origin: String,
    /// UUID of the ledger, hex.
    pub(super) uuid: String,
    /// Entries acknowledged.
    pub(super) acked: u64,
    /// Root of the acknowledged entries, hex.
    pub(super) root: String,
    /// Chain link to the last acknowledged entry: what the next one must have as its `prev`.
    pub(super) link: String,
    /// Entries after the group commit that was being written.
    pub(super) in_flight: u64,
    /// Last signed checkpoint.
    pub(super) checkpoint: Option<String>,
    /// A restore that was ordered and whose entry may not be written yet: the members of the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) restore: Option<Box<serde_json::Map<String, serde_json::Value>>>,
}

impl LockState {
    /// Stands for a lock that cannot be read, where somebody looks at a ledger all the same.
    pub(super) fn unknown(origin: &str, uuid: &str) -> Self {
        Self {
            counter: 0,
            origin: origin.to_owned(),
            uuid: uuid.to_owned(),
            acked: 0,
            root: String::new(),
            link: String::new(),
            in_flight: 0,
            checkpoint: None,
            restore: None,
        }
    }

    /// Returns the acknowledged root.
    pub(super) fn root(&self) -> Option<Hash> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&self.root, &mut bytes).ok()?;
        Some(Hash(bytes))
    }
}

/// What a slot of the lock holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    /// Nothing was written yet.
    Empty,
    /// A state.
    Whole(LockState),
    /// Something else, and what is wrong with it.
    Damaged(&'static str),
}

/// An open lock file.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    path: PathBuf,
    /// Up to where each slot was ever written: a shorter state is filled up with zeros, so that every byte of a slot is
    /// known.
    used: [AtomicUsize; 2],
}

impl LockFile {
    /// Creates the file; it must not exist.
    pub(super) fn create(path: &Path, state: &LockState) -> Result<Self, LedgerError> {
        let io_error = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => LedgerError::LockExists { path: path.to_owned() },
            _ => LedgerError::Io { path: path.to_owned(), source },
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(io_error)?;
        let lock = Self { file, path: path.to_owned(), used: Default::default() };
        lock.own()?;
        // Written, not only reserved: a full disk must not be found out by the first commit.
        for slot in 0..2 {
            lock.file.write_all_at(&[0; SLOT_LENGTH], slot * SLOT_BYTES).map_err(io_error)?;
        }
        lock.write(state).map_err(io_error)?;
        lock.file.sync_all().map_err(io_error)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error)?;
        }
        Ok(lock)
    }

    /// Opens the file and reads the newer whole slot.
    pub(super) fn open(path: &Path, write: bool) -> Result<(Self, LockState), LedgerError> {
        let file =
            OpenOptions::new().read(true).write(write).open(path).map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => LedgerError::LockMissing { path: path.to_owned() },
                _ => LedgerError::Io { path: path.to_owned(), source },
            })?;
        let lock = Self { file, path: path.to_owned(), used: Default::default() };
        if write {
            lock.own()?;
            for (slot, used) in (0..).zip(&lock.used) {
                // One that cannot be read is found out below.
                let bytes = lock.read(slot).unwrap_or_default();
                used.store(bytes.len() - trailing_zeros(&bytes), Ordering::Relaxed);
            }
        }
        // It is made in its full length, so that no crash leaves it shorter, and no slot could be lost with the rest.
        let bytes =
            lock.file.metadata().map_err(|source| LedgerError::Io { path: path.to_owned(), source })?.len();
        if bytes != 2 * SLOT_BYTES {
            let detail = format!("it has {bytes} bytes, and a lock has {}", 2 * SLOT_BYTES);
            return Err(LedgerError::LockDamaged { path: lock.path, detail });
        }
        let look = || [0, 1].into_iter().filter_map(|slot| lock.slot(slot)).max_by_key(|state| state.counter);
        match (0..LOOKS).find_map(|_| look()) {
            Some(state) => Ok((lock, state)),
            None => Err(LedgerError::LockDamaged {
                path: lock.path,
                detail: "neither of its two slots is whole".to_owned(),
            }),
        }
    }

    /// Takes the file for this process. RocksDB's own lock keeps two writers out of one database; this one keeps a
    /// writer of a *copy* of the database from acknowledging a second history under the same lock and key.
    fn own(&self) -> Result<(), LedgerError> {
        self.file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LedgerError::Busy { path: self.path.clone() },
            TryLockError::Error(source) => LedgerError::Io { path: self.path.clone(), source },
        })
    }

    /// Writes a state into the slot of its counter, over everything that was ever written there, and flushes it to the
    /// disk: a shorter state does not leave the end of a longer one behind.
    pub(super) fn write(&self, state: &LockState) -> io::Result<()> {
        let mut slot = Self::slot_bytes(state)?;
        let number = state.counter % 2;
        let used = if number == 0 { &self.used[0] } else { &self.used[1] };
        let before = used.fetch_max(slot.len(), Ordering::Relaxed);
        slot.resize(slot.len().max(before), 0);
        self.file.write_all_at(&slot, number * SLOT_BYTES)?;
        self.file.sync_data()
    }

    /// Bytes of a whole file with this one state in it.
    pub(super) fn encode(state: &LockState) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; if state.counter.is_multiple_of(2) { 0 } else { SLOT_LENGTH }];
        bytes.extend(Self::slot_bytes(state)?);
        bytes.resize(2 * SLOT_LENGTH, 0);
        Ok(bytes)
    }

    fn slot_bytes(state: &LockState) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(state)?;
        let mut slot = Vec::with_capacity(json.len() + HEADER_BYTES + CHECKSUM_BYTES);
        slot.extend_from_slice(MAGIC);
        slot.extend_from_slice(&u32::try_from(json.len()).map_err(io::Error::other)?.to_le_bytes());
        slot.extend_from_slice(&json);
        slot.extend_from_slice(&blake3::derive_key(CHECKSUM_CONTEXT, &json));
        if slot.len() as u64 > SLOT_BYTES {
            return Err(io::Error::other("the lock state does not fit its slot"));
        }
        Ok(slot)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a slot anew that a crash cut short: what the lock says is in the other, and the next crash must find two.
    pub(super) fn mend(&self, state: &mut LockState) -> io::Result<()> {
        let damaged = (0..2).map(|slot| self.read_slot(slot)).any(|slot| matches!(slot, Slot::Damaged(_)));
        if damaged {
            tracing::warn!(
                path = %self.path.display(),
                acknowledged = state.acked,
                "a slot of the lock is not whole, as a crash leaves it; it is written anew from the other"
            );
            // The slots are written in turn, so that the next one is the one that is not whole; both, so that whatever
            // stands behind the state in the other is gone too.
            for _ in 0..2 {
                state.counter += 1;
                self.write(state)?;
            }
        }
        Ok(())
    }

    fn read(&self, slot: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; SLOT_LENGTH];
        self.file.read_exact_at(&mut bytes, slot * SLOT_BYTES)?;
        Ok(bytes)
    }

    /// Says what a slot holds, every byte of it considered.
    fn read_slot(&self, number: u64) -> Slot {
        let Ok(bytes) = self.read(number) else { return Slot::Damaged("is not there") };
        if trailing_zeros(&bytes) == bytes.len() {
            return Slot::Empty;
        }
        let Some((state, rest)) = parse(&bytes) else { return Slot::Damaged("is not whole") };
        if state.counter % 2 != number {
            return Slot::Damaged("holds a state that belongs into the other");
        }
        if trailing_zeros(rest) == rest.len() {
            Slot::Whole(state)
        } else {
            Slot::Damaged("has bytes behind its end")
        }
    }

    fn slot(&self, slot: u64) -> Option<LockState> {
        Some(parse(&self.read(slot).ok()?)?.0)
    }
}

/// Says what both slots hold. A writer may be inside a slot: one that is not whole is looked at again.
pub(super) fn slots(path: &Path) -> Result<[Slot; 2], LedgerError> {
    let (lock, _) = LockFile::open(path, false)?;
    Ok([0, 1].map(|number| {
        let mut slot = lock.read_slot(number);
        for _ in 1..LOOKS {
            if !matches!(slot, Slot::Damaged(_)) {
                break;
            }
            slot = lock.read_slot(number);
        }
        slot
    }))
}

/// Reads the state in a slot, and the bytes behind it.
fn parse(bytes: &[u8]) -> Option<(LockState, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (json, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let (checksum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    if blake3::derive_key(CHECKSUM_CONTEXT, json) != *checksum {
        return None;
    }
    Some((serde_json::from_slice(json).ok()?, rest))
}

fn trailing_zeros(bytes: &[u8]) -> usize {
    bytes.iter().rev().take_while(|byte| **byte == 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(counter: u64) -> LockState {
        LockState {
            counter,
            origin: "ledger.example/t".into(),
            uuid: "00".repeat(16),
            acked: counter,
            root: "11".repeat(32),
            link: format!("b3:{}", "22".repeat(32)),
            in_flight: counter + 1,
            checkpoint: None,
            restore: None,
        }
    }

    #[test]
    fn the_newer_slot_wins_and_a_torn_write_leaves_the_older() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.lock");
        let lock = LockFile::create(&path, &state(1)).unwrap();
        lock.write(&state(2)).unwrap();
        assert_eq!(LockFile::open(&path, false).unwrap().1, state(2));

        // Slot 0 holds counter 2: tear it.
        lock.file.write_all_at(b"torn", 20).unwrap();
        assert_eq!(LockFile::open(&path, false).unwrap().1, state(1));
        assert_eq!(slots(&path).unwrap(), [Slot::Damaged("is not whole"), Slot::Whole(state(1))]);

        // The next writer mends it.
        let mut kept = state(1);
        lock.mend(&mut kept).unwrap();
        assert_eq!(kept.counter, 3);
        assert!(slots(&path).unwrap().iter().all(|slot| matches!(slot, Slot::Whole(_))));
        lock.file.write_all_at(b"torn", 20).unwrap();

        lock.file.write_all_at(b"torn", SLOT_BYTES + 20).unwrap();
        assert!(matches!(LockFile::open(&path, false), Err(LedgerError::LockDamaged { .. })));
        assert!(matches!(LockFile::create(&path, &state(1)), Err(LedgerError::LockExists { .. })));
        let missing = dir.path().join("other");
        assert!(matches!(LockFile::open(&missing, true), Err(LedgerError::LockMissing { .. })));
    }

    #[test]
    fn one_writer_holds_it_and_readers_look_at_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.lock");
        let lock = LockFile::create(&path, &state(1)).unwrap();
        assert!(matches!(LockFile::open(&path, true), Err(LedgerError::Busy { .. })));
        assert_eq!(LockFile::open(&path, false).unwrap().1, state(1));
        drop(lock);
        assert!(LockFile::open(&path, true).is_ok());
    }

    #[test]
    fn every_flipped_bit_of_both_slots_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.lock");
        let lock = LockFile::create(&path, &state(2)).unwrap();
        lock.write(&state(3)).unwrap();
        for position in 0..2 * SLOT_LENGTH * 8 {
            let mut byte = [0];
            let offset = u64::try_from(position / 8).unwrap();
            let number = offset / SLOT_BYTES;
            lock.file.read_exact_at(&mut byte, offset).unwrap();
            let flipped = [byte[0] ^ (1 << (position % 8))];
            lock.file.write_all_at(&flipped, offset).unwrap();
            assert!(matches!(lock.read_slot(number), Slot::Damaged(_)), "bit {position}");
            lock.file.write_all_at(&byte, offset).unwrap();
        }
        assert_eq!(slots(&path).unwrap(), [Slot::Whole(state(2)), Slot::Whole(state(3))]);
    }

    #[test]
    fn a_shorter_state_leaves_nothing_of_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.lock");
        let longer = LockState { checkpoint: Some("x".repeat(300)), ..state(1) };
        let lock = LockFile::create(&path, &longer).unwrap();
        lock.write(&state(3)).unwrap();
        assert_eq!(lock.read_slot(1), Slot::Whole(state(3)));
        drop(lock);
        // Nor after the file was opened anew.
        let (lock, _) = LockFile::open(&path, true).unwrap();
        lock.write(&LockState { counter: 5, ..longer }).unwrap();
        drop(lock);
        let (lock, _) = LockFile::open(&path, true).unwrap();
        lock.write(&state(7)).unwrap();
        assert_eq!(lock.read_slot(1), Slot::Whole(state(7)));
    }
}
