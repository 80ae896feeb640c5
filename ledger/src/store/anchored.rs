//! What anchors say at opening: a ledger that was rolled back together with its lock is noticed when one survives.
//!
//! Only the newest checkpoint of each local file is looked at, and only its size and root: the cost does not grow
//! with ledger or file. Anchors over a network are compared by `verdict anchor verify`.

use std::path::{Path, PathBuf};

use rocksdb::DB;

use super::Head;
use super::error::LedgerError;
use super::tree::StoredNodes;
use crate::anchor::{AnchorError, AnchorFile, Anchored, Tail, compare};
use crate::authority::Authority;
use crate::merkle;

/// The newest records of the local anchors.
#[derive(Debug, Default)]
pub(super) struct Pins(Vec<Tail>);

impl Pins {
    /// Reads them. INVARIANT: called before the lock is read: a checkpoint is anchored after the lock knows it, so
    /// that the lock and the database, looked at later, must know it too.
    pub(super) fn read(lock: &Path, others: &[PathBuf]) -> Self {
        let mut tails = Vec::new();
        let others = others.iter().map(AnchorFile::new);
        for file in std::iter::once(AnchorFile::beside_lock(lock)).chain(others) {
            match file.tail() {
                Ok(tail) => tails.push(tail),
                // What cannot be reached shows nothing.
                Err(error) => {
                    let cause = match &error {
                        AnchorError::Io { source, .. } => source.to_string(),
                        _ => String::new(),
                    };
                    tracing::warn!(%error, cause, "an anchor could not be read");
                }
            }
        }
        Self(tails)
    }

    /// Compares them with the first `size` entries of a database.
    pub(super) fn check(&self, db: &DB, size: u64, authority: &Authority) -> Result<(), LedgerError> {
        let keys = authority.every_log_key();
        // Only the size counts here; the root of the head is not asked for.
        let head = Head { size, root: merkle::empty_root() };
        for tail in &self.0 {
            let Some(Anchored { checkpoint, record }) = tail.newest(&keys)? else { continue };
            if authority.gave_up(&checkpoint, &record.note) {
                continue;
            }
            let nodes = StoredNodes::new(db)?;
            let found = compare(&checkpoint, head, |size| merkle::root_at(&nodes, size))?;
            if let Some(contradiction) = found {
                let anchor = format!("{} ({} by `{}`)", tail.path().display(), record.time, record.sink);
                return Err(LedgerError::Anchored { anchor, contradiction });
            }
        }
        Ok(())
    }
}
