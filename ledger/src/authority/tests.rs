use serde_json::json;

use super::*;
use crate::chain::Link;
use crate::clock::SteppingEntropy;
use crate::entry::EntryParts;
use crate::key::SigningKey;
use crate::merkle::Hash;

const ORIGIN: &str = "ledger.example/test";

fn pair(seed: u64) -> SigningKey {
    SigningKey::generate(&SteppingEntropy::starting_at(seed)).unwrap()
}

fn vkey(name: &str, seed: u64) -> VerifierKey {
    VerifierKey::new(name, pair(seed).public()).unwrap()
}

fn log_key(seed: u64) -> VerifierKey {
    vkey(ORIGIN, seed)
}

fn bundle_key(seed: u64) -> VerifierKey {
    vkey("ledger.example/test/bundle", seed)
}

fn entry(seq: u64, origin: &str, kind: &str, body: &Value) -> Vec<u8> {
    let body = serde_json::to_vec(body).unwrap();
    let parts = EntryParts {
        seq,
        ts: "2026-11-25T00:00:00.000000000Z",
        kind,
        prev: Link([0; 32]),
        origin,
        stream: None,
        body: &body,
    };
    parts.to_bytes()
}

fn genesis() -> Vec<u8> {
    let body = json!({"uuid": "00", "verifier_key": log_key(1), "bundle_key": bundle_key(2)});
    entry(0, ORIGIN, LEDGER_CREATED, &body)
}

fn rotated(seq: u64, old: &VerifierKey, new: &VerifierKey) -> Vec<u8> {
    let size = (seq + 1).to_string();
    let body = json!({"role": "log", "old": old, "new": new, "size": size, "reason": "yearly"});
    entry(seq, old.name(), KEY_ROTATED, &body)
}

fn rotated_bundle(seq: u64, old: u64, new: u64) -> Vec<u8> {
    let body = json!({"role": "bundle", "old": bundle_key(old), "new": bundle_key(new), "reason": "r"});
    entry(seq, ORIGIN, KEY_ROTATED, &body)
}

fn revoked(seq: u64, role: &str, key: &VerifierKey, last_size: u64) -> Vec<u8> {
    let body = json!({"role": role, "key": key, "last_size": last_size.to_string(), "reason": "stolen"});
    entry(seq, ORIGIN, KEY_REVOKED, &body)
}

fn restored(seq: u64, old: &str, new: &str, key: u64) -> Vec<u8> {
    let body = json!({"old_origin": old, "origin": new, "verifier_key": vkey(new, key), "size": seq.to_string(),
        "lost_end": "99", "reason": "disk"});
    entry(seq, new, RESTORE_PERFORMED, &body)
}

fn fold(entries: &[(u64, Vec<u8>)]) -> Result<Authority, String> {
    let entries = std::iter::once((0, genesis())).chain(entries.iter().cloned()).collect::<Vec<_>>();
    let borrowed = entries.iter().map(|(seq, entry)| (*seq, entry.as_slice()));
    Authority::fold(borrowed).map_err(|error| format!("{}: {error}", error.seq))
}

fn keys_at(authority: &Authority, size: u64) -> Vec<String> {
    authority.log_keys_at(size).map(|span| span.key.to_string()).collect()
}

fn checkpoint(origin: &str, size: u64) -> Checkpoint {
    Checkpoint { origin: origin.to_owned(), size, root: Hash([3; 32]) }
}

#[test]
fn the_first_entry_alone_names_the_keys() {
    let authority = fold(&[]).unwrap();
    assert_eq!(authority.origin(), ORIGIN);
    assert_eq!(*authority.current(Role::Log), log_key(1));
    assert_eq!(*authority.current(Role::Bundle), bundle_key(2));
    assert_eq!(keys_at(&authority, 7), [log_key(1).to_string()]);
    assert_eq!(authority.path(&log_key(1), 7), Ok(vec![]));
    assert!(matches!(authority.path(&log_key(9), 7), Err(TrustError::Unknown { .. })));
}

#[test]
fn a_rotation_overlaps_in_exactly_its_own_checkpoint() {
    let authority = fold(&[(5, rotated(5, &log_key(1), &log_key(3)))]).unwrap();
    assert_eq!(keys_at(&authority, 5), [log_key(1).to_string()]);
    assert_eq!(keys_at(&authority, 6), [log_key(1).to_string(), log_key(3).to_string()]);
    assert_eq!(keys_at(&authority, 7), [log_key(3).to_string()]);
    assert_eq!(authority.path(&log_key(1), 6), Ok(vec![]), "it signed that one itself");
    let (from, to) = (log_key(1), log_key(3));
    let step = Step::Rotation { size: 6, from: &from, to: &to };
    assert_eq!(authority.path(&log_key(1), 40), Ok(vec![step]));
    let later = authority.path(&log_key(3), 5);
    assert_eq!(later, Err(TrustError::Later { key: log_key(3).to_string(), from: 6, size: 5 }));

    // Old notes verify with the old key, new ones with the new, neither with the other.
    for (size, good, bad) in [(5, 1, 3), (7, 3, 1)] {
        assert!(authority.verify_checkpoint(&checkpoint(ORIGIN, size).sign(&pair(good)).unwrap()).is_ok());
        let note = checkpoint(ORIGIN, size).sign(&pair(bad)).unwrap();
        assert!(matches!(authority.verify_checkpoint(&note), Err(NoteError::Unsigned { .. })), "{size}");
    }
    let both = Checkpoint::add_signature(&checkpoint(ORIGIN, 6).sign(&pair(1)).unwrap(), &pair(3)).unwrap();
    assert!(Checkpoint::verify(&both, &log_key(1)).is_ok() && Checkpoint::verify(&both, &log_key(3)).is_ok());
    assert_eq!(Checkpoint::add_signature(&both, &pair(3)).unwrap(), both, "no second signature by one key");
}

#[test]
fn a_revoked_key_vouches_up_to_its_last_size_and_for_a_rotation_only_within_it() {
    let rotation = (5, rotated(5, &log_key(1), &log_key(3)));
    let kept = fold(&[rotation.clone(), (9, revoked(9, "log", &log_key(1), 6))]).unwrap();
    assert_eq!(kept.path(&log_key(1), 40).unwrap().len(), 1);
    assert!(kept.check_trusted(5).is_ok());

    let cut = fold(&[rotation, (9, revoked(9, "log", &log_key(1), 4))]).unwrap();
    let revoked_at = |size| TrustError::Revoked { key: log_key(1).to_string(), seq: 9, last_size: 4, size };
    assert_eq!(cut.path(&log_key(1), 40), Err(revoked_at(6)), "its rotation is beyond its last size");
    assert_eq!(cut.path(&log_key(1), 5), Err(revoked_at(5)));
    assert_eq!(cut.path(&log_key(1), 4), Ok(vec![]));
    assert_eq!(cut.path(&log_key(3), 40), Ok(vec![]));
    assert_eq!(cut.check_trusted(5), Err(revoked_at(5)));
    assert!(cut.check_trusted(6).is_ok(), "the new key signed that one too");
}

#[test]
fn what_was_taken_back_stays_taken_back() {
    let rotation = (5, rotated(5, &log_key(1), &log_key(3)));
    let widened = fold(&[
        rotation.clone(),
        (8, revoked(8, "log", &log_key(1), 3)),
        (9, revoked(9, "log", &log_key(1), 6)),
    ]);
    let span = widened.unwrap().spans(Role::Log)[0].revoked.clone().unwrap();
    assert_eq!((span.seq, span.last_size), (8, 3));
    let narrowed =
        fold(&[rotation, (8, revoked(8, "log", &log_key(1), 6)), (9, revoked(9, "log", &log_key(1), 3))]);
    let span = narrowed.unwrap().spans(Role::Log)[0].revoked.clone().unwrap();
    assert_eq!((span.seq, span.last_size), (9, 3));
}

#[test]
fn bundle_keys_follow_each_other_through_the_log() {
    let authority =
        fold(&[(4, rotated_bundle(4, 2, 5)), (8, revoked(8, "bundle", &bundle_key(2), 4))]).unwrap();
    assert_eq!(*authority.current(Role::Bundle), bundle_key(5));
    assert_eq!(authority.bundle_successor(&bundle_key(2), &bundle_key(5), 9), Ok(()));
    assert_eq!(authority.bundle_successor(&bundle_key(2), &bundle_key(2), 4), Ok(()));
    let old = authority.bundle_successor(&bundle_key(2), &bundle_key(2), 9);
    assert!(matches!(old, Err(TrustError::Revoked { last_size: 4, size: 9, .. })));
    let backwards = authority.bundle_successor(&bundle_key(5), &bundle_key(2), 3);
    assert!(matches!(backwards, Err(TrustError::Later { .. })));
    let unknown = authority.bundle_successor(&bundle_key(9), &bundle_key(5), 9);
    assert!(matches!(unknown, Err(TrustError::Unknown { .. })));
}

#[test]
fn a_restore_begins_an_origin_with_the_same_pair() {
    let second = "ledger.example/test/2";
    let authority = fold(&[(5, restored(5, ORIGIN, second, 1))]).unwrap();
    assert_eq!((authority.origin(), authority.generation()), (second, 2));
    assert_eq!(authority.origin_of_entry(4), ORIGIN);
    assert_eq!(authority.origin_of_entry(5), second);
    assert_eq!(keys_at(&authority, 5), [log_key(1).to_string()]);
    assert_eq!(keys_at(&authority, 6), [vkey(second, 1).to_string()]);
    let steps = authority.path(&log_key(1), 9).unwrap();
    let [Step::Restore { to }] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!(to.restored.as_ref().unwrap().end, Some(99));
    // The old origin beyond the restored size is another history, whoever signed it.
    let note = checkpoint(ORIGIN, 6).sign(&pair(1)).unwrap();
    assert!(matches!(authority.verify_checkpoint(&note), Err(NoteError::Origin { .. })));
    // Numbers only grow, and one may be left out: the backup may be older than an earlier restore.
    assert!(fold(&[(5, restored(5, ORIGIN, "ledger.example/test/3", 1))]).is_ok());
    let twice =
        fold(&[(5, restored(5, ORIGIN, second, 1)), (7, restored(7, second, "ledger.example/test/3", 1))]);
    assert_eq!(twice.unwrap().generation(), 3);
}

#[test]
fn an_entry_that_does_not_continue_the_history_is_refused_with_its_place() {
    let second = "ledger.example/test/2";
    let foreign = json!({"uuid": "00", "verifier_key": vkey("elsewhere", 1), "bundle_key": bundle_key(2)});
    let foreign = entry(0, ORIGIN, LEDGER_CREATED, &foreign);
    assert!(Authority::fold([(0, foreign.as_slice())]).is_err());
    let shared = json!({"uuid": "00", "verifier_key": log_key(1), "bundle_key": bundle_key(1)});
    let shared = entry(0, ORIGIN, LEDGER_CREATED, &shared);
    assert!(Authority::fold([(0, shared.as_slice())]).is_err());
    assert!(Authority::fold([]).is_err());

    let late = json!({"role": "log", "old": log_key(1), "new": log_key(3), "size": "9", "reason": ""});
    for (wrong, says) in [
        (vec![(5, rotated(5, &log_key(8), &log_key(3)))], "5: `key.rotated`: it replaces"),
        (vec![(5, rotated(5, &log_key(1), &vkey("elsewhere", 3)))], "the new key is named `elsewhere`"),
        (vec![(5, rotated(5, &log_key(1), &log_key(1)))], "the new key was a log key before"),
        (vec![(5, rotated(5, &log_key(1), &log_key(2)))], "the new key was a bundle key before"),
        (vec![(5, entry(5, ORIGIN, KEY_ROTATED, &late))], "it does not take effect with itself"),
        (vec![(5, revoked(5, "log", &log_key(1), 3))], "it revokes a key that is in force"),
        (vec![(5, revoked(5, "log", &log_key(7), 3))], "was never a log key"),
        (vec![(5, revoked(5, "root", &log_key(7), 3))], "`root` is no role"),
        (
            vec![(5, rotated(5, &log_key(1), &log_key(3))), (6, revoked(6, "log", &log_key(1), 7))],
            "6: `key.revoked`: it trusts the key up to size 7, beyond itself",
        ),
        (vec![(5, restored(5, ORIGIN, second, 3))], "it changes the log key"),
        (vec![(5, restored(5, "elsewhere", second, 1))], "it continues log `elsewhere`"),
        (vec![(5, restored(5, ORIGIN, "ledger.example/test/02", 1))], "is not an origin that follows"),
        (vec![(5, restored(5, ORIGIN, "ledger.example/other/2", 1))], "is not an origin that follows"),
        (
            vec![(5, restored(5, ORIGIN, second, 1)), (7, restored(7, second, second, 1))],
            "7: `restore.performed`: `ledger.example/test/2` is not an origin that follows",
        ),
        (vec![(5, rotated(6, &log_key(1), &log_key(3)))], "5: it is out of order"),
        (vec![(5, entry(5, ORIGIN, "policy.published", &json!({})))], "it says nothing about keys"),
        (vec![(5, entry(5, "elsewhere", KEY_ROTATED, &late))], "it belongs to log `elsewhere`"),
        (vec![(5, entry(5, ORIGIN, KEY_ROTATED, &json!({})))], "`role` is missing or no text"),
    ] {
        let error = fold(&wrong).unwrap_err();
        assert!(error.contains(says), "{error}\nexpected {says}");
    }
}
