//! Erasing: what goes, what stays provable, what holds keep, and that the bytes are gone from the files.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests stop at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use rocksdb::{DB, IteratorMode, Options};
use serde_json::{Value, json};
use verdict_ledger::erasure::{
    Basis, ERASE_DEFERRED, ErasureError, EventRef, NewHold, PAYLOAD_ERASED, RetentionRule, Selection,
};
use verdict_ledger::event::Event;
use verdict_ledger::id::Digest;
use verdict_ledger::merkle;
use verdict_ledger::note::Checkpoint;
use verdict_ledger::{Batch, Class, Index, Ledger, LedgerError, NewRecord};

use super::store::{Bench, T0, event, trace, verifier};

const NOW: u64 = T0 + 1_000_000_000;
const DAY_NS: u64 = 86_400_000_000_000;

fn basis() -> Basis {
    Basis {
        legal_basis: "Art. 17(1)(b) GDPR".into(),
        reason: "consent withdrawn".into(),
        by: "dpo-7".into(),
        requested_by: Some("ada.requests@example.org".into()),
    }
}

/// An event whose values can be recognised, from one of ten users.
fn secret(number: u32) -> Event {
    let mut event = event(number);
    event.user = Some(format!("user-{}@example.org", number % 10));
    event.session = Some(format!("session-{}", number % 4));
    event.action.arguments = Some(json!({"iban": format!("DE-iban-{number:06}"), "note": "x".repeat(300)}));
    event
}

/// Events of one request, with its raw body.
fn request(numbers: impl IntoIterator<Item = u32>) -> Batch {
    let events: Vec<Event> = numbers.into_iter().map(secret).collect();
    let body = serde_json::to_vec(&events).unwrap();
    let digest = Digest::of(&body);
    let records = events.into_iter().map(|mut event| {
        event.source.raw = Some(digest);
        NewRecord::from_event(&event).unwrap()
    });
    Batch { records: records.collect(), blobs: vec![body] }
}

/// A ledger of requests of four events each; event n is entry n + 1.
fn filled(bench: &Bench, requests: u32) -> Ledger {
    let ledger = bench.init();
    for first in 0..requests {
        ledger.append(request(first * 4..first * 4 + 4)).unwrap();
    }
    ledger.settle().unwrap();
    ledger
}

fn body_of(number: u32) -> Digest {
    let first = number / 4 * 4;
    Digest::of(&request(first..first + 4).blobs[0])
}

#[track_caller]
fn assert_clean(ledger: &Ledger) {
    let report = ledger.verify(&mut |_, _| {}).unwrap();
    assert!(report.is_clean(), "{report:#?}");
}

/// Everything that would give a value away: what it says, its salt, and every row that holds a form of it.
struct Traces(Vec<Vec<u8>>);

impl Traces {
    /// Reads them from the files of a closed ledger. `seqs` lose all they have.
    fn of(dir: &Path, plain: &[String], salts: &[Vec<u8>], seqs: &[u64], bodies: &[Digest]) -> Self {
        let mut needles: Vec<Vec<u8>> = plain.iter().map(|text| text.as_bytes().to_vec()).collect();
        needles.extend(salts.iter().cloned());
        let db = open_raw(dir);
        let get = |name: &str, key: &[u8]| db.get_cf(db.cf_handle(name).unwrap(), key).unwrap();
        for seq in seqs {
            let row = get("disclosures", &seq.to_be_bytes()).unwrap();
            // The row is the subject, nonce, length and ciphertext: its end is ciphertext for sure.
            needles.push(row[row.len() - 64..].to_vec());
            needles.push(row[16..28].to_vec());
        }
        for body in bodies {
            let row = get("blobs", &body.0).unwrap();
            needles.push(row[8..row.len().min(72)].to_vec());
        }
        Self(needles)
    }

    /// Asserts that no file of the ledger and no row holds any of them.
    #[track_caller]
    fn assert_gone(&self, dir: &Path) {
        let mut files = 0;
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                files += 1;
                let bytes = fs::read(&path).unwrap();
                let found = self.found(&bytes);
                assert_eq!(found, [] as [String; 0], "{}", path.display());
            }
        }
        assert!(files > 8, "the files of a ledger");
    }

    /// Asserts that it is in the files: a search that cannot find proves nothing.
    #[track_caller]
    fn assert_rows_there(&self, dir: &Path, from: usize) {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(dir.join("db")).unwrap() {
            found.extend(self.found(&fs::read(entry.unwrap().path()).unwrap()));
        }
        for needle in &self.0[from..] {
            assert!(found.contains(&show(needle)), "{} is found before it is erased", show(needle));
        }
    }

    /// Names those that some bytes hold.
    fn found(&self, bytes: &[u8]) -> Vec<String> {
        let mut starts: Vec<Vec<&Vec<u8>>> = vec![Vec::new(); 1 << 16];
        for needle in &self.0 {
            starts[usize::from(u16::from_le_bytes([needle[0], needle[1]]))].push(needle);
        }
        let mut found = BTreeSet::new();
        for (at, pair) in bytes.windows(2).enumerate() {
            let candidates = &starts[usize::from(u16::from_le_bytes([pair[0], pair[1]]))];
            found.extend(candidates.iter().filter(|needle| bytes[at..].starts_with(needle)).map(|n| show(n)));
        }
        found.into_iter().collect()
    }
}

fn show(needle: &[u8]) -> String {
    String::from_utf8(needle.to_vec()).unwrap_or_else(|_| format!("{needle:02x?}"))
}

fn open_raw(dir: &Path) -> DB {
    let path = dir.join("db");
    let names = DB::list_cf(&Options::default(), &path).unwrap();
    DB::open_cf(&Options::default(), &path, names).unwrap()
}

/// Salts as they are disclosed, raw and in base64url.
fn salts(ledger: &Ledger, seq: u64) -> Vec<Vec<u8>> {
    let salts = ledger.disclosures(seq).unwrap().into_iter().flat_map(|encoded| {
        let triple: Value = serde_json::from_slice(&BASE64URL.decode(encoded).unwrap()).unwrap();
        let salt = triple[0].as_str().unwrap().to_owned();
        [BASE64URL.decode(&salt).unwrap(), salt.into_bytes()]
    });
    salts.collect()
}

/// Erases from a ledger of 300 entries in two blocks, and looks for what went in every file and row.
#[track_caller]
fn erase_and_search(selection: &Selection, events: &[u32]) {
    let bench = Bench::new();
    let ledger = filled(&bench, 75);
    let head = ledger.head();
    let note = ledger.checkpoint().unwrap().unwrap();
    let before: Vec<_> = (0..head.size)
        .map(|seq| (ledger.entry(seq).unwrap().unwrap(), ledger.inclusion_proof(seq, head.size).unwrap()))
        .collect();
    let seqs: Vec<u64> = events.iter().map(|number| u64::from(*number) + 1).collect();
    let salts: Vec<Vec<u8>> = seqs.iter().flat_map(|seq| salts(&ledger, *seq)).collect();
    let mut plain: Vec<String> = events.iter().map(|number| format!("DE-iban-{number:06}")).collect();
    plain.push("ada.requests@example.org".into());
    let bodies: BTreeSet<Digest> = events.iter().map(|number| body_of(*number)).collect();
    let bodies: Vec<Digest> = bodies.into_iter().collect();
    drop(ledger);
    let traces = Traces::of(&bench.path(), &plain, &salts, &seqs, &bodies);
    traces.assert_rows_there(&bench.path(), plain.len() + salts.len());

    let ledger = bench.open().unwrap();
    let receipt = ledger.erase(selection, &basis(), NOW).unwrap();
    assert_eq!(receipt.values, 3 * seqs.len() as u64, "user, attributes and arguments of each");
    assert_eq!((receipt.bodies, receipt.not_compacted), (bodies, None));
    // While the ledger is open, and after it was closed.
    traces.assert_gone(&bench.path());
    assert_clean(&ledger);
    ledger.settle().unwrap();
    drop(ledger);
    traces.assert_gone(&bench.path());

    let ledger = bench.open().unwrap();
    assert_clean(&ledger);
    assert_clean(&bench.reader().unwrap());
    for seq in &seqs {
        let record = ledger.record(*seq).unwrap().unwrap();
        assert_eq!(record.withheld, ["/user", "/attributes", "/action/arguments"]);
        assert_eq!(record.event.unwrap().user, None);
        assert_eq!(ledger.disclosures(*seq).unwrap(), [] as [String; 0]);
    }
    // Every proof from before the erasure holds, over the same bytes.
    let signed = Checkpoint::verify(&note, &verifier(&ledger)).unwrap();
    for (seq, (entry, proof)) in (0..).zip(&before) {
        assert_eq!(ledger.entry(seq).unwrap().as_ref(), Some(entry));
        merkle::verify_inclusion(seq, signed.size, &merkle::leaf_hash(entry), proof, &signed.root).unwrap();
    }
    let now = ledger.head();
    let proof = ledger.consistency_proof(head.size, now.size).unwrap();
    merkle::verify_consistency(head.size, now.size, &head.root, &now.root, &proof).unwrap();
    drop(ledger);
    let db = open_raw(&bench.path());
    for name in DB::list_cf(&Options::default(), bench.path().join("db")).unwrap() {
        for row in db.iterator_cf(db.cf_handle(&name).unwrap(), IteratorMode::Start) {
            let (key, value) = row.unwrap();
            let row = [&key[..], &value[..]].concat();
            assert_eq!(traces.found(&row), [] as [String; 0], "a row of {name}");
        }
    }
}

#[test]
fn an_event_is_gone_from_every_file() {
    // In a closed block, and in the open one.
    erase_and_search(&Selection::event(8), &[7]);
    let by_id = Selection { events: vec![EventRef::Id("event-290".into())], ..Selection::default() };
    erase_and_search(&by_id, &[290]);
}

#[test]
fn a_subject_is_gone_from_every_file_and_index() {
    let events: Vec<u32> = (0..300).filter(|number| number % 10 == 3).collect();
    erase_and_search(&Selection::user(Some("harbor"), "user-3@example.org"), &events);
}

#[test]
fn what_a_query_finds_is_gone_from_every_file() {
    let events: Vec<u32> = (0..300).filter(|number| number % 4 == 2).collect();
    let selection = Selection {
        session: Some("session-2".into()),
        terms: vec![(Index::Tool, "issue_refund".into())],
        tenant: Some("harbor".into()),
        since_ns: Some(T0),
        ..Selection::default()
    };
    erase_and_search(&selection, &events);
}

#[test]
fn a_field_goes_and_the_others_stay_with_their_own_salts() {
    let bench = Bench::new();
    let ledger = filled(&bench, 3);
    let kept_before = salts(&ledger, 2);
    let selection = Selection { fields: vec!["/action/arguments".into()], ..Selection::event(2) };
    let plan = ledger.plan_erasure(&selection, NOW).unwrap();
    assert_eq!(plan.by_member().into_iter().collect::<Vec<_>>(), [("/action/arguments".to_owned(), 1)]);
    assert_eq!(
        (plan.bodies[0].entries.as_slice(), plan.bodies[0].others.as_slice()),
        (&[2][..], &[1, 3, 4][..])
    );
    assert_eq!(ledger.head().size, 13, "a plan changes nothing");
    let receipt = ledger.erase(&selection, &basis(), NOW).unwrap();
    assert_eq!((receipt.values, receipt.keys), (1, 0));
    let record = ledger.record(2).unwrap().unwrap();
    assert_eq!(record.withheld, ["/action/arguments"]);
    let event = record.event.unwrap();
    assert_eq!((event.user.as_deref(), event.action.arguments), (Some("user-1@example.org"), None));
    let kept = salts(&ledger, 2);
    assert!(kept.len() == kept_before.len() - 2 && kept.iter().all(|salt| kept_before.contains(salt)));
    assert_clean(&ledger);
    // The rest of it later, and the same again.
    assert_eq!(ledger.erase(&Selection::event(2), &basis(), NOW).unwrap().values, 2);
    let size = ledger.head().size;
    let again = ledger.erase(&Selection::event(2), &basis(), NOW).unwrap();
    assert_eq!((again.values, again.entries.len(), ledger.head().size), (0, 0, size));
    assert_clean(&ledger);
}

#[test]
fn what_stands_in_the_entry_is_refused_with_what_can_be_erased() {
    let bench = Bench::new();
    let ledger = filled(&bench, 1);
    let refused = |fields: &[&str], seq| {
        let fields = fields.iter().map(|field| (*field).to_owned()).collect();
        ledger.plan_erasure(&Selection { fields, ..Selection::event(seq) }, NOW).unwrap_err()
    };
    let error = refused(&["/action/name"], 1);
    assert!(
        matches!(error, ErasureError::NotDisclosed { .. }) && error.to_string().contains("/outcome/result")
    );
    assert!(matches!(refused(&["/action/arguments/iban"], 1), ErasureError::NotDisclosed { .. }));
    assert!(
        matches!(refused(&["/outcome/result"], 1), ErasureError::NoField { have, .. } if have.contains(&"/user".to_owned()))
    );
    assert!(matches!(refused(&[], 99), ErasureError::NoEvent { .. }));
    assert!(matches!(ledger.plan_erasure(&Selection::default(), NOW), Err(ErasureError::Nothing)));
    let no_reason = Basis { reason: " ".into(), ..basis() };
    assert!(matches!(
        ledger.erase(&Selection::event(1), &no_reason, NOW),
        Err(ErasureError::Basis { what: "reason" })
    ));
    assert_eq!(ledger.head().size, 5);
}

#[test]
fn an_erasure_says_what_went_and_keeps_a_commitment_to_who_asked() {
    let bench = Bench::new();
    let ledger = filled(&bench, 2);
    let receipt =
        ledger.erase(&Selection::user(Some("harbor"), "user-0@example.org"), &basis(), NOW).unwrap();
    assert_eq!(receipt.keys, 1, "nothing is left under the data key");
    let seq = receipt.entries[0];
    let entry = String::from_utf8(ledger.entry(seq).unwrap().unwrap()).unwrap();
    for personal in ["user-0", "ada.requests", "dpo-7"] {
        assert!(!entry.contains(personal), "{entry}");
    }
    let record = ledger.record(seq).unwrap().unwrap();
    assert_eq!(record.kind, PAYLOAD_ERASED);
    assert_eq!(record.body["by"], json!("dpo-7"));
    assert_eq!(record.body["on_behalf_of"], json!(["ada.requests@example.org"]));
    assert_eq!(record.body["legal_basis"], json!("Art. 17(1)(b) GDPR"));
    assert_eq!(record.body["values"]["1"].as_object().unwrap().len(), 3);
    assert_eq!(record.body["bodies"], json!([body_of(0).to_string()]));
    let notes = ledger.erasures_of(1, Some(&body_of(0))).unwrap();
    assert_eq!(notes.len(), 4);
    assert_eq!((notes[0].seq, notes[0].by.as_deref()), (seq, Some("dpo-7")));
    assert!(
        ledger
            .plan_erasure(&Selection::user(Some("harbor"), "user-0@example.org"), NOW)
            .unwrap()
            .entries
            .is_empty()
    );
}

#[test]
fn an_erased_statement_that_is_sent_again_stays_erased() {
    let bench = Bench::new();
    let ledger = filled(&bench, 2);
    ledger.erase(&Selection::event(2), &basis(), NOW).unwrap();
    // At once, and when nothing is in memory any more.
    let mut ledger = Some(ledger);
    for _ in 0..2 {
        let ledger = ledger.take().unwrap_or_else(|| bench.open().unwrap());
        let size = ledger.head().size;
        let again = ledger.append(request(0..4)).unwrap();
        assert_eq!((again.appended, again.duplicates, again.seqs), (0, 4, vec![1, 2, 3, 4]));
        assert_eq!((ledger.head().size, ledger.blob(&body_of(0)).unwrap()), (size, None));
        assert_eq!(ledger.record(2).unwrap().unwrap().withheld.len(), 3);
        assert_clean(&ledger);
    }
}

#[test]
fn a_body_that_brings_an_erased_statement_with_new_ones_is_not_kept() {
    let bench = Bench::new();
    let ledger = filled(&bench, 2);
    ledger.erase(&Selection::event(2), &basis(), NOW).unwrap();
    let mixed = request([1, 100, 101]);
    let digest = Digest::of(&mixed.blobs[0]);
    let receipt = ledger.append(mixed.clone()).unwrap();
    assert_eq!((receipt.appended, receipt.duplicates, receipt.seqs[0]), (2, 1, 2));
    assert_eq!(ledger.blob(&digest).unwrap(), None, "it holds the erased values");
    assert_eq!(ledger.record(receipt.seqs[1]).unwrap().unwrap().withheld, [] as [String; 0]);
    let size = ledger.head().size;
    assert_eq!(receipt.size, size);
    assert_eq!(ledger.append(mixed).unwrap().appended, 0);
    assert_eq!(ledger.head().size, size);
    assert_clean(&ledger);
    drop(ledger);
    assert_clean(&bench.open().unwrap());
}

#[test]
fn a_subject_may_come_back_with_new_statements_under_a_new_key() {
    let bench = Bench::new();
    let ledger = filled(&bench, 5);
    let user = Selection::user(Some("harbor"), "user-3@example.org");
    ledger.erase(&user, &basis(), NOW).unwrap();
    let receipt = ledger.append(request([43])).unwrap();
    drop(ledger);
    let ledger = bench.open().unwrap();
    let event = ledger.record(receipt.seqs[0]).unwrap().unwrap().event.unwrap();
    assert_eq!(event.user.as_deref(), Some("user-3@example.org"), "readable after the cache is gone");
    assert_eq!(ledger.plan_erasure(&user, NOW).unwrap().entries.len(), 1);
    assert_clean(&ledger);
}

/// Everything that deletes.
fn every_way_to_erase(ledger: &Ledger, now_ns: u64) {
    let ways = [
        Selection::event(2),
        Selection { fields: vec!["/user".into()], ..Selection::event(2) },
        // Came in the same raw body.
        Selection::event(3),
        Selection::user(Some("harbor"), "user-1@example.org"),
        Selection { session: Some("session-1".into()), ..Selection::default() },
        Selection { tenant: Some("harbor".into()), ..Selection::default() },
        Selection { terms: vec![(Index::Word, "get".into())], ..Selection::default() },
        Selection { since_ns: Some(0), ..Selection::default() },
    ];
    for way in &ways {
        let receipt = ledger.erase(way, &basis(), now_ns).unwrap();
        assert!(receipt.held.iter().any(|held| held.seq == 2 || held.seq == 3), "{way:?}: {receipt:?}");
        let deferred = ledger.record(receipt.deferred.unwrap()).unwrap().unwrap();
        assert_eq!(deferred.kind, ERASE_DEFERRED);
    }
    let (receipt, applied) = ledger.apply_retention("cron", now_ns).unwrap();
    assert!(!receipt.held.is_empty() && applied.is_some());
    // Nothing but redelivery is left that decides about a raw body.
    ledger.append(request(0..4)).unwrap();
}

#[test]
fn no_way_to_erase_touches_what_a_hold_is_on() {
    let later = T0 + 400 * DAY_NS;
    let holds = [
        Selection::event(2),
        Selection::user(Some("harbor"), "user-1@example.org"),
        Selection { session: Some("session-1".into()), ..Selection::default() },
        Selection { terms: vec![(Index::Tool, "get_order".into())], ..Selection::default() },
    ];
    for selection in holds {
        let bench = Bench::new();
        let ledger = filled(&bench, 1);
        let rule =
            RetentionRule { kind: "action.reported".into(), days: Some(200), ..RetentionRule::default() };
        ledger.set_retention(&rule, "dpo-7", "").unwrap();
        let whole = ledger.record(2).unwrap();
        let body = ledger.blob(&body_of(1)).unwrap();
        assert!(body.is_some());
        let hold = NewHold { selection, matter: "C-12/26".into(), by: "legal".into(), ..NewHold::default() };
        let (name, _) = ledger.place_hold(&hold).unwrap();
        every_way_to_erase(&ledger, later);
        assert_eq!(ledger.record(2).unwrap(), whole);
        assert_eq!(ledger.blob(&body_of(1)).unwrap(), body);
        assert_clean(&ledger);

        ledger.release_hold(&name, "legal", "settled", later).unwrap();
        assert!(matches!(ledger.release_hold(&name, "legal", "", later), Err(ErasureError::NoHold { .. })));
        let (receipt, _) = ledger.apply_retention("cron", later).unwrap();
        assert!(receipt.held.is_empty() && receipt.bodies == [body_of(1)], "{receipt:?}");
        assert_eq!(ledger.record(2).unwrap().unwrap().withheld.len(), 3);
        assert_clean(&ledger);
    }
}

#[test]
fn a_hold_ends_by_itself_and_is_on_what_comes_later() {
    let bench = Bench::new();
    let ledger = filled(&bench, 1);
    let until_ns = Some(NOW + DAY_NS);
    let selection = Selection::user(Some("harbor"), "user-5@example.org");
    let hold = NewHold { selection: selection.clone(), matter: "M".into(), until_ns, ..NewHold::default() };
    ledger.place_hold(&hold).unwrap();
    ledger.append(request(4..8)).unwrap();
    assert_eq!(ledger.plan_erasure(&selection, NOW).unwrap().held.len(), 1);
    assert_eq!(ledger.plan_erasure(&selection, NOW + DAY_NS).unwrap().held, []);
    assert!(!ledger.holds(NOW + DAY_NS).unwrap()[0].active);
}

#[test]
fn retention_has_a_floor_and_rules_by_tenant() {
    let bench = Bench::new();
    let ledger = bench.init();
    for (number, tenant) in [(0, None), (1, Some("harbor")), (2, Some("long"))] {
        let mut event = secret(number);
        event.tenant = tenant.map(str::to_owned);
        let batch = Batch { records: vec![NewRecord::from_event(&event).unwrap()], blobs: vec![] };
        ledger.append(batch).unwrap();
    }
    let rule = |tenant: Option<&str>, days, below: Option<&str>| RetentionRule {
        kind: "action.reported".into(),
        tenant: tenant.map(str::to_owned),
        days,
        below_floor: below.map(str::to_owned),
        seq: 0,
    };
    let below = ledger.set_retention(&rule(None, Some(182), None), "dpo", "");
    assert!(matches!(below, Err(ErasureError::BelowFloor { days: 182 })));
    ledger.set_retention(&rule(None, Some(183), None), "dpo", "").unwrap();
    ledger.set_retention(&rule(Some("harbor"), Some(30), Some("test data only")), "dpo", "").unwrap();
    ledger.set_retention(&rule(Some("long"), None, None), "dpo", "").unwrap();
    let due = |days: u64| -> Vec<u64> {
        ledger
            .retention_due(T0 + days * DAY_NS + DAY_NS / 2)
            .unwrap()
            .plan
            .entries
            .iter()
            .map(|e| e.seq)
            .collect()
    };
    assert_eq!(
        (due(29), due(30), due(182), due(183), due(9000)),
        (vec![], vec![2], vec![2], vec![1, 2], vec![1, 2])
    );
    let (receipt, applied) = ledger.apply_retention("cron", T0 + 200 * DAY_NS).unwrap();
    assert_eq!(receipt.values, 6);
    assert_eq!(ledger.record(applied.unwrap()).unwrap().unwrap().kind, "retention.applied");
    assert_eq!(ledger.apply_retention("cron", T0 + 200 * DAY_NS).unwrap().1, None, "nothing is left to say");
    assert_clean(&ledger);
}

#[test]
fn a_large_erasure_takes_several_entries_that_each_fit() {
    let bench = Bench::new();
    let ledger = bench.init();
    for first in (0..2600).step_by(100) {
        ledger.append(request(first..first + 100)).unwrap();
    }
    let all = Selection { terms: vec![(Index::Kind, "action.reported".into())], ..Selection::default() };
    let receipt = ledger.erase(&all, &basis(), NOW).unwrap();
    assert_eq!((receipt.values, receipt.bodies.len(), receipt.keys), (7800, 26, 10));
    assert!(receipt.entries.len() > 10, "{:?}", receipt.entries);
    assert!(receipt.entries.iter().all(|seq| ledger.entry(*seq).unwrap().unwrap().len() < 65_536));
    assert_clean(&ledger);
    drop(ledger);
    let ledger = bench.open().unwrap();
    assert!(ledger.records(1..2601).all(|record| record.unwrap().withheld.len() == 3));
}

#[test]
fn appends_go_on_while_a_subject_is_erased_again_and_again() {
    let bench = Bench::new();
    let ledger = filled(&bench, 2);
    let user = Selection::user(Some("harbor"), "user-3@example.org");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let ledger = ledger.clone();
            scope.spawn(move || {
                for number in 0..120 {
                    ledger.append(request([10_003 + thread * 10_000 + number * 10])).unwrap();
                    // A reader's look at the key must not bring it back.
                    let last = ledger.head().size - 1;
                    ledger.record(last).unwrap();
                }
            });
        }
        for _ in 0..15 {
            ledger.erase(&user, &basis(), NOW).unwrap();
        }
    });
    assert_clean(&ledger);
    drop(ledger);
    let ledger = bench.open().unwrap();
    assert_clean(&ledger);
    let whole = ledger.records(0..u64::MAX).filter(|record| {
        let record = record.as_ref().unwrap();
        record.withheld.is_empty()
            && record.event.as_ref().is_some_and(|e| e.user.as_deref() == Some("user-3@example.org"))
    });
    let left = ledger.plan_erasure(&user, NOW).unwrap().entries.len();
    assert_eq!(whole.count(), left, "every statement is whole or erased");
    ledger.erase(&user, &basis(), NOW).unwrap();
    assert!(ledger.plan_erasure(&user, NOW).unwrap().entries.is_empty());
    assert_clean(&ledger);
}

/// Changes rows of a closed ledger and verifies it.
fn meddle(bench: &Bench, change: impl FnOnce(&DB)) -> Vec<(Class, String)> {
    change(&open_raw(&bench.path()));
    let ledger = bench.open().unwrap();
    let report = ledger.verify(&mut |_, _| {}).unwrap();
    report.failures.into_iter().map(|failure| (failure.class, failure.detail)).collect()
}

#[test]
fn what_is_lost_without_an_erasure_is_damage_and_what_is_back_after_one_is_too() {
    let bench = Bench::new();
    let ledger = filled(&bench, 2);
    drop(ledger);
    let raw = open_raw(&bench.path());
    let (rows, blobs) = (raw.cf_handle("disclosures").unwrap(), raw.cf_handle("blobs").unwrap());
    let key = 2u64.to_be_bytes();
    let (row, body) =
        (raw.get_cf(rows, key).unwrap().unwrap(), raw.get_cf(blobs, body_of(1).0).unwrap().unwrap());
    drop(raw);
    let failures = meddle(&bench, |db| {
        db.delete_cf(db.cf_handle("disclosures").unwrap(), key).unwrap();
        db.delete_cf(db.cf_handle("blobs").unwrap(), body_of(1).0).unwrap();
    });
    let told = |class, text: &str| failures.iter().any(|(c, detail)| *c == class && detail.contains(text));
    assert!(told(Class::Disclosure, "/user, /attributes, /action/arguments are gone"), "{failures:?}");
    assert!(told(Class::Blob, "is gone, and no entry says"), "{failures:?}");
    let failures = meddle(&bench, |db| {
        db.put_cf(db.cf_handle("disclosures").unwrap(), key, &row).unwrap();
        db.put_cf(db.cf_handle("blobs").unwrap(), body_of(1).0, &body).unwrap();
    });
    assert_eq!(failures, [], "put back as it was");

    let ledger = bench.open().unwrap();
    let fields = vec!["/action/arguments".to_owned()];
    ledger.erase(&Selection { fields, ..Selection::event(2) }, &basis(), NOW).unwrap();
    drop(ledger);
    let failures = meddle(&bench, |db| {
        db.put_cf(db.cf_handle("disclosures").unwrap(), key, &row).unwrap();
        db.put_cf(db.cf_handle("blobs").unwrap(), body_of(1).0, &body).unwrap();
    });
    let told = |class, text: &str| failures.iter().any(|(c, detail)| *c == class && detail.contains(text));
    assert!(told(Class::Disclosure, "`/action/arguments` is there, and an entry says"), "{failures:?}");
    assert!(told(Class::Blob, "is there, and an entry says"), "{failures:?}");
}

#[test]
fn a_policy_archive_is_never_taken_for_a_raw_body() {
    let bench = Bench::new();
    let ledger = bench.init();
    let archive = b"bundle".to_vec();
    let digest = Digest::of(&archive);
    let body = json!({"id": "policy:1", "archive": digest.to_string()});
    let published = NewRecord::system("policy.published", body.as_object().unwrap().clone());
    ledger.append(Batch { records: vec![published], blobs: vec![archive] }).unwrap();
    let mut sly = secret(1);
    sly.source.raw = Some(digest);
    ledger.append(Batch { records: vec![NewRecord::from_event(&sly).unwrap()], blobs: vec![] }).unwrap();
    let receipt = ledger.erase(&Selection::event(2), &basis(), NOW).unwrap();
    assert_eq!((receipt.values, receipt.bodies), (3, vec![]));
    assert!(ledger.blob(&digest).unwrap().is_some());
    assert_clean(&ledger);
}

#[test]
fn a_reader_that_catches_up_sees_that_values_are_gone() {
    let bench = Bench::new();
    let ledger = filled(&bench, 2);
    let reader = bench.reader().unwrap();
    assert!(reader.record(2).unwrap().unwrap().withheld.is_empty());
    assert!(matches!(reader.erase(&Selection::event(2), &basis(), NOW), Err(ErasureError::Append(_))));
    ledger.erase(&Selection::user(Some("harbor"), "user-1@example.org"), &basis(), NOW).unwrap();
    ledger.settle().unwrap();
    // It may have the values in memory, so that it is not to be followed any further.
    assert!(matches!(reader.refresh(), Err(LedgerError::Reopen)));
    assert_eq!(reader.head().size, 9);
    let reader = bench.reader().unwrap();
    assert_eq!(reader.record(2).unwrap().unwrap().withheld.len(), 3);
    assert_clean(&reader);
    assert_eq!(reader.trace(&trace(0)).unwrap().len(), 4, "the clear part is still found");
}
