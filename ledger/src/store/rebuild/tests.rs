//! The rows before a rebuild are the rows after it, whatever stood there.

use std::path::PathBuf;

use rocksdb::{IteratorMode, Options};
use serde_json::{Value, json};

use super::*;
use crate::clock::{Clock, SteppingClock, SteppingEntropy};
use crate::event::ACTION_REPORTED;
use crate::record::{Batch, NewRecord};
use crate::store::erasure::{Basis, Selection};
use crate::store::{InitOptions, Ledger, Order, Query};

type Dump = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<dyn Clock>,
}

impl Bench {
    /// Makes a ledger with duplicates, conflicts, long ids' worth of them, odd texts and many groupings.
    fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        let bench = Self { dir: tempfile::tempdir().unwrap(), clock: Arc::clone(&clock) };
        let entropy = Arc::new(SteppingEntropy::default());
        let options = InitOptions { entropy, ..InitOptions::new("ledger.example/rebuild") };
        let ledger = Ledger::init(&bench.path(), &options, clock).unwrap();
        let mut number = 0u64;
        for size in [1usize, 7, 1, 255, 256, 3, 40, 257, 1, 90] {
            let records = (0..size).map(|_| {
                number += 1;
                record(number)
            });
            let records = records.collect();
            ledger.append(Batch { records, blobs: vec![b"raw body".to_vec()] }).unwrap();
        }
        let system = json!({"id": "review-1", "reason": "kept for a court"}).as_object().unwrap().clone();
        let system = NewRecord::system("review.opened", system);
        ledger.append(Batch { records: vec![system], blobs: Vec::new() }).unwrap();
        bench
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn open(&self) -> Result<Ledger, LedgerError> {
        Ledger::open(&self.path(), &OpenOptions::default(), Arc::clone(&self.clock))
    }

    fn reader(&self) -> Result<Ledger, LedgerError> {
        Ledger::open_reader(&self.path(), &OpenOptions::default())
    }

    fn rebuild(&self) -> Result<Rebuilt, LedgerError> {
        rebuild(&self.path(), &OpenOptions::default(), &mut |_, _| {})
    }

    fn db(&self) -> DB {
        let path = Layout::new(&self.path()).db();
        DB::open_cf_descriptors(&families::db_options(), path, families::descriptors()).unwrap()
    }

    /// Reads every row of every family.
    fn dump(&self) -> Dump {
        let path = Layout::new(&self.path()).db();
        let names = DB::list_cf(&Options::default(), &path).unwrap();
        let db = DB::open_cf_for_read_only(&Options::default(), &path, &names, false).unwrap();
        let rows = |name: &String| {
            let rows = db.iterator_cf(db.cf_handle(name).unwrap(), IteratorMode::Start);
            rows.map(|row| row.map(|(key, row)| (key.to_vec(), row.to_vec())).unwrap()).collect()
        };
        names.iter().map(|name| (name.clone(), rows(name))).collect()
    }

    fn clear(&self, names: &[&str]) {
        let db = self.db();
        for name in names {
            let cf = family(&db, name).unwrap();
            for row in db.iterator_cf(cf, IteratorMode::Start) {
                db.delete_cf(cf, row.unwrap().0).unwrap();
            }
        }
    }

    fn meta(&self, key: &[u8], value: &[u8]) {
        let db = self.db();
        db.put_cf(family(&db, META).unwrap(), key, value).unwrap();
    }
}

fn record(number: u64) -> NewRecord {
    let odd = ["plain", "nul\0inside", "", "é\u{202e}x", "\u{0}", "a\u{1}b"];
    let name = odd.get(usize::try_from(number).unwrap() % odd.len()).copied().unwrap_or_default();
    // Some ids come again with other content, and again, and some with the same.
    let id = match number % 10 {
        0..3 => format!("often-{}", number % 3),
        3 => format!("twice-{}", number / 20),
        _ => format!("id-{number}"),
    };
    let mut body: Value = json!({
        "id": id,
        "action": {"kind": "tool", "name": name, "arguments": {"n": number}},
        "agent": {"name": format!("agent {}", "ä".repeat(usize::try_from(number % 150).unwrap()))},
        "decision": {"effect": "block", "reason": "Over the LIMIT, straße", "policy": {"rules": ["a", "a\0", "b"]}},
        "tenant": "harbor",
    });
    let members = body.as_object_mut().unwrap();
    if !number.is_multiple_of(4) {
        members.insert("trace_id".into(), format!("{:032x}", number / 5 + 1).into());
    }
    if number.is_multiple_of(3) {
        members.insert("user".into(), format!("user-{}", number % 7).into());
    }
    if number.is_multiple_of(11) {
        members.get_mut("action").unwrap().as_object_mut().unwrap().remove("arguments");
    }
    NewRecord { kind: ACTION_REPORTED.into(), body: members.clone(), stream: None }
}

#[test]
fn a_rebuild_gives_every_row_back_byte_for_byte() {
    let bench = Bench::new();
    let before = bench.dump();
    for name in DERIVED {
        assert!(!before[name].is_empty(), "the ledger has rows in `{name}`");
    }
    assert!(before[families::BY_ID].keys().any(|key| key.len() > 16), "and conflicts");
    let rebuilt = bench.rebuild().unwrap();
    assert_eq!(bench.dump(), before);
    assert_eq!(rebuilt.unreadable, 0);
    for name in DERIVED.into_iter().filter(|name| *name != families::BY_ID) {
        assert_eq!(rebuilt.rows[name], before[name].len() as u64, "{name}");
    }

    bench.clear(&DERIVED);
    assert!(bench.open().is_err(), "without its tree a ledger cannot be held against its lock");
    bench.rebuild().unwrap();
    assert_eq!(bench.dump(), before, "from nothing");

    // Rows that nothing gives are gone too.
    let db = bench.db();
    db.put_cf(family(&db, families::POSTINGS).unwrap(), b"\x03refund\0\0\0\0\0\0\0\0\0", [1]).unwrap();
    db.put_cf(family(&db, families::TILES).unwrap(), families::tile_key(8, 0), [1; 32]).unwrap();
    drop(db);
    bench.rebuild().unwrap();
    assert_eq!(bench.dump(), before, "from falsehoods");
    let ledger = bench.open().unwrap();
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
    assert_eq!(ledger.append(Batch { records: vec![record(4)], blobs: vec![] }).unwrap().duplicates, 1);
}

#[test]
fn what_was_erased_stays_out_of_the_indexes() {
    let bench = Bench::new();
    let user = Query {
        users: vec![crate::store::User { tenant: Some("harbor".into()), user: "user-3".into() }],
        ..Query::default()
    };
    let ledger = bench.reader().unwrap();
    let found: Vec<u64> = ledger.query(&user, Order::Oldest, None).unwrap().map(Result::unwrap).collect();
    let gone = *found.first().unwrap();
    drop(ledger);
    let basis = Basis { legal_basis: "Art. 17".into(), reason: "asked".into(), ..Basis::default() };
    let ledger = bench.open().unwrap();
    ledger.erase(&Selection::event(gone), &basis, 0).unwrap();
    let fields = vec!["/action/arguments".to_owned()];
    ledger.erase(&Selection { fields, ..Selection::event(gone + 1) }, &basis, 0).unwrap();
    ledger.settle().unwrap();
    drop(ledger);
    let once = bench.dump();
    bench.rebuild().unwrap();
    assert_eq!(bench.dump(), once, "an erasure leaves the very rows that a rebuild makes");
    let ledger = bench.open().unwrap();
    assert!(ledger.verify(&mut |_, _| {}).unwrap().is_clean());
    let left: Vec<u64> = ledger.query(&user, Order::Oldest, None).unwrap().map(Result::unwrap).collect();
    assert_eq!(left, found.get(1..).unwrap());
}

#[test]
fn a_rebuild_that_was_cut_short_is_refused_by_all_and_finished_by_the_next() {
    let bench = Bench::new();
    let before = bench.dump();
    // As a crash leaves it: marked, one family gone, another empty, a third half full.
    bench.clear(&[families::BY_ID]);
    let mut db = bench.db();
    db.put_cf(family(&db, META).unwrap(), MARKER, ROWS_VERSION.to_be_bytes()).unwrap();
    db.drop_cf(families::TRACES).unwrap();
    drop(db);
    assert!(bench.open().is_err() && bench.reader().is_err());
    let rebuilt = bench.rebuild().unwrap();
    assert_eq!(rebuilt.entries, before[families::ENTRIES].len() as u64);
    assert_eq!(bench.dump(), before);

    bench.meta(MARKER, b"");
    assert!(matches!(bench.open(), Err(LedgerError::Rebuilding)));
    assert!(matches!(bench.reader(), Err(LedgerError::Rebuilding)));
    let inspected = Ledger::open_to_inspect(&bench.path(), &OpenOptions::default());
    assert!(matches!(inspected, Err(LedgerError::Rebuilding)));
    bench.rebuild().unwrap();
    assert!(bench.open().is_ok());
}

#[test]
fn rows_of_an_older_version_are_made_again_and_of_a_newer_one_refused() {
    let bench = Bench::new();
    let before = bench.dump();
    bench.meta(b"rows", &0u32.to_be_bytes());
    for refused in [bench.open(), bench.reader()] {
        assert!(matches!(refused, Err(LedgerError::Rows { found: 0, .. })));
    }
    bench.rebuild().unwrap();
    assert_eq!(bench.dump(), before);
    bench.meta(b"rows", &(ROWS_VERSION + 1).to_be_bytes());
    let marked = bench.dump();
    assert!(matches!(bench.rebuild(), Err(LedgerError::Rows { .. })));
    assert_eq!(bench.dump(), marked, "nothing was touched");
}

#[test]
fn damaged_tables_of_indexes_are_replaced() {
    let bench = Bench::new();
    let before = bench.dump();
    let db = bench.db();
    for name in DERIVED {
        db.flush_cf(family(&db, name).unwrap()).unwrap();
    }
    let tables = db.live_files().unwrap();
    let tables = tables.iter().filter(|table| DERIVED.contains(&table.column_family_name.as_str()));
    let tables: Vec<PathBuf> = tables
        .map(|table| Layout::new(&bench.path()).db().join(table.name.trim_start_matches('/')))
        .collect();
    drop(db);
    assert!(tables.len() >= DERIVED.len());
    for table in tables {
        let mut bytes = std::fs::read(&table).unwrap();
        bytes[10] ^= 1;
        std::fs::write(&table, bytes).unwrap();
    }
    let report = bench.reader().and_then(|reader| reader.verify(&mut |_, _| {}));
    assert!(report.is_err() || !report.unwrap().is_clean());
    bench.rebuild().unwrap();
    assert_eq!(bench.dump(), before);
}

#[test]
fn nothing_is_thrown_away_unless_the_log_is_the_one_that_was_acknowledged() {
    for spoil in [spoil_an_entry, drop_the_last, swap_two] {
        let bench = Bench::new();
        let db = bench.db();
        spoil(&db);
        drop(db);
        let before = bench.dump();
        let error = bench.rebuild().unwrap_err();
        assert!(matches!(error, LedgerError::Damaged { .. } | LedgerError::RolledBack { .. }), "{error}");
        assert_eq!(bench.dump(), before, "{error}");
    }
}

fn spoil_an_entry(db: &DB) {
    let cf = family(db, families::ENTRIES).unwrap();
    let mut entry = db.get_cf(cf, 5u64.to_be_bytes()).unwrap().unwrap();
    let at = entry.windows(5).position(|window| window == b"block").unwrap();
    entry[at..at + 5].copy_from_slice(b"allow");
    db.put_cf(cf, 5u64.to_be_bytes(), entry).unwrap();
}

fn drop_the_last(db: &DB) {
    let size = open::stored_size(db).unwrap();
    db.delete_cf(family(db, families::ENTRIES).unwrap(), (size - 1).to_be_bytes()).unwrap();
}

fn swap_two(db: &DB) {
    let cf = family(db, families::ENTRIES).unwrap();
    let (a, b) = (db.get_cf(cf, 8u64.to_be_bytes()).unwrap(), db.get_cf(cf, 9u64.to_be_bytes()).unwrap());
    db.put_cf(cf, 8u64.to_be_bytes(), b.unwrap()).unwrap();
    db.put_cf(cf, 9u64.to_be_bytes(), a.unwrap()).unwrap();
}

#[test]
fn a_ledger_that_is_written_is_left_alone_and_one_that_is_read_goes_on_being_read() {
    let bench = Bench::new();
    let ledger = bench.open().unwrap();
    assert!(matches!(bench.rebuild(), Err(LedgerError::Busy { .. })));
    drop(ledger);
    let reader = bench.reader().unwrap();
    let blocked = Query { effects: vec!["block".into()], ..Query::default() };
    let count =
        |ledger: &Ledger| ledger.query(&blocked, Order::Newest, None).unwrap().map(Result::unwrap).count();
    let before = count(&reader);
    bench.rebuild().unwrap();
    assert_eq!(count(&reader), before);
    assert!(reader.verify(&mut |_, _| {}).unwrap().is_clean());
    // It can follow, or is told to open again where tables that it has not seen yet are gone.
    let refreshed = reader.refresh();
    assert!(matches!(refreshed, Ok(()) | Err(LedgerError::Reopen)), "{refreshed:?}");
    assert_eq!(count(&reader), before);
    assert_eq!(count(&bench.reader().unwrap()), before);
}
