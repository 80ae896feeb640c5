//! Column families, their options, and the encoding of their keys.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    Options, SliceTransform, WriteBatch,
};

use super::error::LedgerError;

/// Entries: position → exact bytes.
pub(super) const ENTRIES: &str = "entries";
/// Hashes of perfect subtrees at the tile levels 0, 8, 16, …: (level, index) → hash.
pub(super) const TILES: &str = "tiles";
/// Disclosed values: (position, digest) → encrypted disclosure.
pub(super) const DISCLOSURES: &str = "disclosures";
/// Data keys: subject → wrapped key.
pub(super) const DATA_KEYS: &str = "data_keys";
/// Raw bodies and archives: SHA-256 → zstd.
pub(super) const BLOBS: &str = "blobs";
/// Checkpoints: size → signed note.
pub(super) const CHECKPOINTS: &str = "checkpoints";
/// Index: (keyed digest of the id, position) → content digest.
pub(super) const BY_ID: &str = "ix_id";
/// Index: (trace, position).
pub(super) const BY_TRACE: &str = "ix_trace";
/// Index: position of the first event of a trace → trace.
pub(super) const TRACE_STARTS: &str = "ix_trace_starts";
/// Index: (entry type, position).
pub(super) const BY_KIND: &str = "ix_kind";
/// Index: (agent, position).
pub(super) const BY_AGENT: &str = "ix_agent";
/// Index: (action name, position).
pub(super) const BY_TOOL: &str = "ix_tool";
/// Index: (effect, position).
pub(super) const BY_EFFECT: &str = "ix_effect";
/// Format and index versions.
pub(super) const META: &str = "meta";

const ALL: [&str; 14] = [
    ENTRIES,
    TILES,
    DISCLOSURES,
    DATA_KEYS,
    BLOBS,
    CHECKPOINTS,
    BY_ID,
    BY_TRACE,
    TRACE_STARTS,
    BY_KIND,
    BY_AGENT,
    BY_TOOL,
    BY_EFFECT,
    META,
];

/// Length of the fixed prefix of keys in `ix_id` and `ix_trace`.
const DIGEST_PREFIX: usize = 16;

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
    let mut list = vec![ColumnFamilyDescriptor::new("default", Options::default())];
    list.extend(ALL.iter().map(|name| ColumnFamilyDescriptor::new(*name, family_options(name, &cache))));
    list
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
        BY_ID | BY_TRACE => {
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(DIGEST_PREFIX));
            options.set_memtable_prefix_bloom_ratio(0.05);
            table.set_bloom_filter(10.0, false);
            options.set_compression_type(DBCompressionType::None);
        }
        _ => options.set_compression_type(DBCompressionType::Zstd),
    }
    options.set_block_based_table_factory(&table);
    options
}

/// Looks a family up; a missing one means that the directory is not what it says.
pub(super) fn family<'a>(db: &'a DB, name: &str) -> Result<&'a ColumnFamily, LedgerError> {
    db.cf_handle(name).ok_or_else(|| LedgerError::Damaged {
        place: "database".to_owned(),
        detail: format!("column family `{name}` is missing"),
    })
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
    pub(super) by_trace: &'a ColumnFamily,
    pub(super) trace_starts: &'a ColumnFamily,
    pub(super) by_kind: &'a ColumnFamily,
    pub(super) by_agent: &'a ColumnFamily,
    pub(super) by_tool: &'a ColumnFamily,
    pub(super) by_effect: &'a ColumnFamily,
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
            by_trace: family(db, BY_TRACE)?,
            trace_starts: family(db, TRACE_STARTS)?,
            by_kind: family(db, BY_KIND)?,
            by_agent: family(db, BY_AGENT)?,
            by_tool: family(db, BY_TOOL)?,
            by_effect: family(db, BY_EFFECT)?,
        })
    }
}

/// Key of a row that is found by a text and a position: text, NUL, position. Texts hold no NUL.
pub(super) fn text_key(text: &str, seq: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(text.len() + 9);
    key.extend_from_slice(text.as_bytes());
    key.push(0);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// Key of a row that is found by 16 bytes and a position.
pub(super) fn digest_key(prefix: &[u8; 16], seq: u64) -> [u8; 24] {
    let mut key = [0; 24];
    let (head, tail) = key.split_at_mut(16);
    head.copy_from_slice(prefix);
    tail.copy_from_slice(&seq.to_be_bytes());
    key
}

/// Key of a disclosure: position, then digest, so that replay reads them in log order.
pub(super) fn disclosure_key(seq: u64, digest: &[u8; 32]) -> [u8; 40] {
    let mut key = [0; 40];
    let (head, tail) = key.split_at_mut(8);
    head.copy_from_slice(&seq.to_be_bytes());
    tail.copy_from_slice(digest);
    key
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

/// Adds an index row without a value.
pub(super) fn put_mark(batch: &mut WriteBatch, family: &ColumnFamily, key: impl AsRef<[u8]>) {
    batch.put_cf(family, key, []);
}
