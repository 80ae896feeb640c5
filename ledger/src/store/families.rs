//! Column families, their options, and the encoding of their keys.

use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode, Options,
};

use super::codec::{self, IdRow};
use super::error::LedgerError;

/// Entries: position → exact bytes.
pub(super) const ENTRIES: &str = "entries";
/// Hashes of perfect subtrees at the tile levels 8, 16, …: (level, index) → hash.
pub(super) const TILES: &str = "tiles";
/// Disclosed values: position → the values of the entry, encrypted.
pub(super) const DISCLOSURES: &str = "disclosures";
/// Data keys: subject → wrapped key.
pub(super) const DATA_KEYS: &str = "data_keys";
/// Raw bodies and archives: SHA-256 → zstd.
pub(super) const BLOBS: &str = "blobs";
/// Checkpoints: size → signed note.
pub(super) const CHECKPOINTS: &str = "checkpoints";
/// Index: keyed digest of the id → every statement under it.
pub(super) const BY_ID: &str = "ix_id";
/// Index: (index, term, block of positions) → offsets in the block.
pub(super) const POSTINGS: &str = "ix_terms";
/// Index: trace → position of its first event.
pub(super) const TRACES: &str = "ix_traces";
/// Index: position of the first event of a trace → trace.
pub(super) const TRACE_STARTS: &str = "ix_trace_starts";
/// Format and index versions.
pub(super) const META: &str = "meta";

/// The family that every database has; it stays empty.
pub(super) const DEFAULT: &str = "default";

const ALL: [&str; 11] =
    [ENTRIES, TILES, DISCLOSURES, DATA_KEYS, BLOBS, CHECKPOINTS, BY_ID, POSTINGS, TRACES, TRACE_STARTS, META];

/// What follows from entries and disclosed values, and is made again by a rebuild.
pub(super) const DERIVED: [&str; 5] = [TILES, BY_ID, POSTINGS, TRACES, TRACE_STARTS];

/// Options of the database as a whole.
pub(super) fn db_options() -> Options {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    // A torn tail is what a power cut leaves of writes that were never acknowledged; damage before the tail is an
    // error. What a cut tail may hide, the lock file tells.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_db_write_buffer_size(128 << 20);
    options.set_max_total_wal_size(256 << 20);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(4);
    // A secondary instance must be able to hold every file open.
    options.set_max_open_files(-1);
    options
}

/// One descriptor for each column family, and the default one, which stays empty.
pub(super) fn descriptors() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(64 << 20);
    let mut list = vec![ColumnFamilyDescriptor::new(DEFAULT, Options::default())];
    list.extend(ALL.iter().map(|name| ColumnFamilyDescriptor::new(*name, family_options(name, &cache))));
    list
}

/// Throws the rows of a family away; tells whether the family had to be made anew for it, which only one is that
/// cannot be read any more.
///
/// RocksDB 11.8 logs a dropped family after it was freed when a secondary instance follows over the drop, and the
/// reader crashes. Whoever is told `true` must open the database once more before readers may: that starts a new
/// manifest, in which the drop is not told.
pub(super) fn clear(db: &mut DB, name: &str) -> Result<bool, LedgerError> {
    let readable = match db.cf_handle(name) {
        Some(rows) => db.iterator_cf(rows, IteratorMode::Start).all(|row| row.is_ok()),
        None => false,
    };
    if readable {
        let rows = family(db, name)?;
        // No key is as long as this and no shorter one comes after it.
        let (first, end) = (&[][..], &[0xff; 64][..]);
        db.delete_range_cf(rows, first, end)?;
        db.flush_cf(rows)?;
        let mut compact = CompactOptions::default();
        compact.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        db.compact_range_cf_opt(rows, None::<&[u8]>, None::<&[u8]>, &compact);
        return Ok(false);
    }
    let dropped = db.cf_handle(name).is_some();
    if dropped {
        db.drop_cf(name)?;
    }
    db.create_cf(name, &family_options(name, &Cache::new_lru_cache(8 << 20)))?;
    Ok(dropped)
}

fn family_options(name: &str, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_format_version(5);
    let mut options = Options::default();
    match name {
        // JSON in large blocks: zstd stores it at a quarter of its size.
        ENTRIES => {
            table.set_block_size(32 << 10);
            options.set_compression_type(DBCompressionType::Zstd);
        }
        // Hashes, ciphertext and zstd frames do not compress.
        TILES | DISCLOSURES | DATA_KEYS | BLOBS => options.set_compression_type(DBCompressionType::None),
        // Digests, looked up by each append and nearly never there: filters answer without a read.
        BY_ID | TRACES => {
            table.set_bloom_filter(10.0, false);
            options.set_memtable_prefix_bloom_ratio(0.05);
            options.set_memtable_whole_key_filtering(true);
            options.set_compression_type(DBCompressionType::None);
        }
        _ => options.set_compression_type(DBCompressionType::Zstd),
    }
    options.set_block_based_table_factory(&table);
    options
}

/// Tells whether this program makes a family of this name.
pub(super) fn is_known(name: &str) -> bool {
    name == DEFAULT || ALL.contains(&name)
}

/// Looks a family up; a missing one means that the directory is not what it says.
pub(super) fn family<'a>(db: &'a DB, name: &str) -> Result<&'a ColumnFamily, LedgerError> {
    db.cf_handle(name).ok_or_else(|| LedgerError::Damaged {
        place: "database".to_owned(),
        detail: format!("column family `{name}` is missing"),
    })
}

/// Handles of every family, the empty default one included.
pub(super) fn all(db: &DB) -> Result<Vec<&ColumnFamily>, LedgerError> {
    ["default"].iter().chain(&ALL).map(|name| family(db, name)).collect()
}

/// Handles of the families that an append writes, looked up once for a batch.
#[derive(Clone, Copy)]
pub(super) struct Families<'a> {
    pub(super) entries: &'a ColumnFamily,
    pub(super) tiles: &'a ColumnFamily,
    pub(super) disclosures: &'a ColumnFamily,
    pub(super) data_keys: &'a ColumnFamily,
    pub(super) blobs: &'a ColumnFamily,
    pub(super) by_id: &'a ColumnFamily,
    pub(super) postings: &'a ColumnFamily,
    pub(super) traces: &'a ColumnFamily,
    pub(super) trace_starts: &'a ColumnFamily,
}

impl<'a> Families<'a> {
    pub(super) fn of(db: &'a DB) -> Result<Self, LedgerError> {
        Ok(Self {
            entries: family(db, ENTRIES)?,
            tiles: family(db, TILES)?,
            disclosures: family(db, DISCLOSURES)?,
            data_keys: family(db, DATA_KEYS)?,
            blobs: family(db, BLOBS)?,
            by_id: family(db, BY_ID)?,
            postings: family(db, POSTINGS)?,
            traces: family(db, TRACES)?,
            trace_starts: family(db, TRACE_STARTS)?,
        })
    }
}

/// Key of a subtree hash.
pub(super) fn tile_key(level: u32, index: u64) -> [u8; 9] {
    let mut key = [0; 9];
    let (head, tail) = key.split_at_mut(1);
    head.fill(u8::try_from(level).unwrap_or(u8::MAX));
    tail.copy_from_slice(&index.to_be_bytes());
    key
}

/// Reads the position at the end of a key.
pub(super) fn seq_of_key(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Key of a row that is found by 16 bytes and a position.
pub(super) fn digest_key(prefix: &[u8; 16], seq: u64) -> [u8; 24] {
    let mut key = [0; 24];
    let (head, tail) = key.split_at_mut(16);
    head.copy_from_slice(prefix);
    tail.copy_from_slice(&seq.to_be_bytes());
    key
}

/// Reads the statements under an id that were made after the first.
pub(super) fn statements_after_first<'a>(
    db: &'a DB,
    by_id: &ColumnFamily,
    id: &'a [u8; 16],
) -> impl Iterator<Item = Result<IdRow, LedgerError>> + 'a {
    let start = digest_key(id, 0);
    let rows = db.iterator_cf(by_id, IteratorMode::From(&start, Direction::Forward));
    rows.map_while(move |row| match row {
        Ok((key, _)) if !key.starts_with(id) => None,
        Ok((_, row)) => Some(codec::decode(BY_ID, &row)),
        Err(error) => Some(Err(error.into())),
    })
}
