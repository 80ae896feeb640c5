//! Getting erased bytes off the disk: what a batch deletes stays in the write-ahead log and in older tables until they
//! are rewritten.

use rocksdb::{BottommostLevelCompaction, ColumnFamily, CompactOptions, DB, FlushOptions};

use super::changes::Changes;
use crate::store::Ledger;
use crate::store::error::LedgerError;
use crate::store::families::{self, family};
use crate::store::postings;

/// So many keys are compacted one by one; more as one range.
const SINGLE_KEYS_MAX: usize = 8;

/// Families that an erasure takes something out of.
const ERASED_FROM: [&str; 5] =
    [families::DISCLOSURES, families::DATA_KEYS, families::BLOBS, families::BY_ID, families::POSTINGS];

/// Keys that an erasure took something out of, by family.
#[derive(Debug, Default)]
pub(super) struct Touched([Keys; 5]);

#[derive(Debug, Default)]
struct Keys {
    /// All of them, while they are few.
    few: Vec<Vec<u8>>,
    /// Least and greatest.
    range: Option<(Vec<u8>, Vec<u8>)>,
}

impl Keys {
    fn add(&mut self, key: Vec<u8>) {
        self.range = Some(match self.range.take() {
            None => (key.clone(), key.clone()),
            Some((least, greatest)) => {
                if key < least {
                    (key.clone(), greatest)
                } else if key > greatest {
                    (least, key.clone())
                } else {
                    (least, greatest)
                }
            }
        });
        if self.few.len() <= SINGLE_KEYS_MAX {
            self.few.push(key);
        }
    }
}

impl Touched {
    pub(super) fn add(&mut self, changes: &Changes) {
        let [disclosures, data_keys, blobs, by_id, postings] = &mut self.0;
        changes.disclosures.keys().for_each(|seq| disclosures.add(seq.to_be_bytes().to_vec()));
        changes.data_keys.iter().for_each(|subject| data_keys.add(subject.to_vec()));
        changes.blobs.iter().for_each(|digest| blobs.add(digest.0.to_vec()));
        changes.ids.keys().for_each(|key| by_id.add(key.clone()));
        changes.postings.keys().for_each(|(start, block)| postings.add(postings::key(start, *block)));
    }

    /// Rewrites the tables that hold these keys, and lets go of the write-ahead logs that hold their rows.
    pub(super) fn compact(&self, ledger: &Ledger) -> Result<(), LedgerError> {
        if self.0.iter().all(|keys| keys.range.is_none()) {
            return Ok(());
        }
        let db = &ledger.inner.db;
        flush(db)?;
        for (name, keys) in ERASED_FROM.iter().zip(&self.0) {
            let Some((least, greatest)) = &keys.range else { continue };
            let family = family(db, name)?;
            if keys.few.len() <= SINGLE_KEYS_MAX {
                keys.few.iter().for_each(|key| compact_range(db, family, Some(key), Some(key)));
            } else {
                compact_range(db, family, Some(least), Some(greatest));
            }
        }
        check(db)
    }
}

impl Ledger {
    /// Compacts everything that erasures take something out of: after a crash between an erasure and its own
    /// compaction, or when that failed.
    pub fn compact_erased(&self) -> Result<(), LedgerError> {
        let db = &self.inner.db;
        flush(db)?;
        for name in ERASED_FROM {
            compact_range(db, family(db, name)?, None, None);
        }
        check(db)
    }
}

/// Writes every memtable into a table: a write-ahead log goes when no family needs it any more.
fn flush(db: &DB) -> Result<(), LedgerError> {
    let mut options = FlushOptions::default();
    options.set_wait(true);
    let families = families::all(db)?;
    let families: Vec<&ColumnFamily> = families.into_iter().collect();
    db.flush_cfs_opt(&families, &options)?;
    Ok(())
}

/// Rewrites a range down to the last level, which alone drops what was deleted.
fn compact_range(db: &DB, family: &ColumnFamily, least: Option<&Vec<u8>>, greatest: Option<&Vec<u8>>) {
    let mut options = CompactOptions::default();
    options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    db.compact_range_cf_opt(family, least, greatest, &options);
}

/// Asks the database whether all that went well: a compaction itself does not say.
fn check(db: &DB) -> Result<(), LedgerError> {
    match db.property_int_value("rocksdb.background-errors")? {
        None | Some(0) => Ok(()),
        Some(errors) => Err(LedgerError::Damaged {
            place: "database".to_owned(),
            detail: format!("{errors} failures while tables were rewritten; its LOG says which"),
        }),
    }
}
