//! Is this the log that was acknowledged? Asked of the entries alone, because what else could answer is about to be
//! thrown away.

use rocksdb::{DB, Direction, IteratorMode, ReadOptions};

use crate::authority::AUTHORITY_KINDS;
use crate::chain::Link;
use crate::entry::EntryView;
use crate::merkle::{self, Frontier};
use crate::note::{Checkpoint, NoteError, SignedNote};
use crate::store::Head;
use crate::store::error::LedgerError;
use crate::store::families::{self, family};
use crate::store::history;
use crate::store::open::{Parts, check_lock};
use crate::store::tree::missing_entry;

/// Entries between two words of progress.
const STEP: u64 = 1_024;

/// Checks every stored entry against the one before it, and the tree of all against the lock. Returns the head of all
/// that is stored, which may be a group commit more than was acknowledged.
pub(super) fn check(
    db: &DB,
    parts: &Parts,
    size: u64,
    progress: &mut dyn FnMut(u64),
) -> Result<Head, LedgerError> {
    let lock = &parts.lock_state;
    if size < lock.acked {
        return Err(LedgerError::RolledBack { have: size, want: lock.acked });
    }
    let lock_damaged = |detail: String| LedgerError::LockDamaged { path: parts.lock_path.clone(), detail };
    let acknowledged = lock.root().ok_or_else(|| lock_damaged("its root is not a hash".to_owned()))?;
    // Size and root can be written by whoever reaches the lock; the checkpoint only by who has the log key. Which key
    // that is, the entries say; its signature is verified when they are read.
    let of_lock = |error: NoteError| lock_damaged(format!("its checkpoint: {error}"));
    let claimed =
        lock.checkpoint.as_deref().map(|note| Checkpoint::from_text(&SignedNote::parse(note)?.text));
    let signed = claimed.transpose().map_err(of_lock)?;
    if let Some(signed) = signed.as_ref().filter(|signed| signed.size > lock.acked) {
        let detail = format!("its checkpoint signs {} entries, more than it acknowledges", signed.size);
        return Err(lock_damaged(detail));
    }
    let mut wanted = vec![(lock.acked, acknowledged)];
    wanted.extend(signed.map(|signed| (signed.size, signed.root)));

    let mut about_keys = Vec::new();
    let mut frontier = Frontier::default();
    let mut link = parts.genesis()?;
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    let mode = IteratorMode::From(&[], Direction::Forward);
    let mut rows = db.iterator_cf_opt(family(db, families::ENTRIES)?, options, mode);
    for seq in 0..size {
        check_roots(&wanted, &frontier)?;
        let (key, entry) = rows.next().ok_or_else(|| missing_entry(seq))??;
        if families::seq_of_key(&key) != Some(seq) {
            return Err(missing_entry(seq));
        }
        let damaged = |detail: String| LedgerError::Damaged { place: format!("entry {seq}"), detail };
        let view = EntryView::parse(&entry).map_err(|error| damaged(error.to_string()))?;
        if view.seq != seq.to_string() {
            return Err(damaged(format!("says that it is entry {}", view.seq)));
        }
        if view.prev != link.to_string() {
            return Err(damaged("is not linked to the entry before it".to_owned()));
        }
        link = Link::of_entry(&entry);
        if AUTHORITY_KINDS.contains(&&*view.kind) {
            about_keys.push((seq, entry.to_vec()));
        }
        frontier.push(merkle::leaf_hash(&entry), |_, _, _| {});
        if seq % STEP == 0 {
            progress(seq);
        }
    }
    check_roots(&wanted, &frontier)?;
    let authority = history::fold(&about_keys, &parts.settings)?;
    check_lock(&parts.lock_path, lock, &authority)?;
    if let Some(note) = &lock.checkpoint {
        authority.verify_checkpoint(note).map_err(of_lock)?;
    }
    progress(size);
    Ok(Head { size, root: frontier.root() })
}

fn check_roots(wanted: &[(u64, merkle::Hash)], frontier: &Frontier) -> Result<(), LedgerError> {
    for (size, want) in wanted.iter().filter(|(size, _)| *size == frontier.size()) {
        let got = if *size == 0 { merkle::empty_root() } else { frontier.root() };
        if got != *want {
            return Err(LedgerError::Forked { size: *size, got, want: *want });
        }
    }
    Ok(())
}
