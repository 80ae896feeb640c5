//! The state machine of a witness: what it cosigns, what it refuses, and what it remembers.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

use verdict_ledger::clock::{Clock, SteppingClock, SteppingEntropy};
use verdict_ledger::cosignature::{Cosigner, CosignerKey};
use verdict_ledger::key::SigningKey;
use verdict_ledger::merkle::{self, Hash, Nodes};
use verdict_ledger::note::{Checkpoint, NoteSignature, SignedNote, VerifierKey};
use verdict_ledger::witness::protocol::{AddCheckpoint, Refusal};
use verdict_ledger::witness::{StateDir, StateError, Witness, WitnessError};

const ORIGIN: &str = "ledger.example/t";
const T0_NS: u64 = 1_763_670_000_000_000_000;

/// A log in memory. `fork` makes its entries from that position on others than those of the plain log.
pub(crate) struct Log {
    key: SigningKey,
    leaves: Vec<Hash>,
}

impl Nodes for Log {
    type Error = std::convert::Infallible;

    fn perfect(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let start = usize::try_from(index << level).unwrap();
        Ok(merkle::root_of(self.leaves[start..start + (1 << level)].iter().copied()))
    }
}

impl Log {
    fn new(fork: usize) -> Self {
        let leaf = |number: usize| merkle::leaf_hash(format!("{number}{}", number >= fork).as_bytes());
        let key = SigningKey::generate(&SteppingEntropy::starting_at(1)).unwrap();
        Self { key, leaves: (0..100).map(leaf).collect() }
    }

    fn verifier(&self) -> VerifierKey {
        VerifierKey::new(ORIGIN, self.key.public()).unwrap()
    }

    fn checkpoint(&self, size: u64) -> Checkpoint {
        let root = merkle::root_of(self.leaves.iter().copied().take(usize::try_from(size).unwrap()));
        Checkpoint { origin: ORIGIN.to_owned(), size, root }
    }

    fn request(&self, old: u64, size: u64) -> AddCheckpoint {
        let proof = if old == 0 || old > size {
            Vec::new()
        } else {
            merkle::consistency_proof(self, old, size).unwrap()
        };
        AddCheckpoint::new(old, proof, &self.checkpoint(size).sign(&self.key).unwrap()).unwrap()
    }

    fn body(&self, old: u64, size: u64) -> Vec<u8> {
        self.request(old, size).to_string().into_bytes()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    log: Log,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(SteppingClock::starting_at(T0_NS)),
            log: Log::new(100),
        };
        StateDir::create(&bench.state(), &Bench::key()).unwrap();
        bench
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn signing_key() -> SigningKey {
        SigningKey::generate(&SteppingEntropy::starting_at(2)).unwrap()
    }

    fn key() -> CosignerKey {
        Cosigner::new("witness.example/w1", Self::signing_key()).unwrap().verifier().clone()
    }

    fn start(&self) -> Result<Witness, StateError> {
        let dir = StateDir::open(&self.state())?;
        Witness::start(dir, Self::signing_key(), [self.log.verifier()], Arc::clone(&self.clock))
    }

    fn state_file(&self) -> PathBuf {
        let is_state = |path: &Path| path.extension().is_some_and(|extension| extension == "checkpoint");
        let mut files = fs::read_dir(self.state()).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| is_state(path)).unwrap()
    }
}

fn refused(result: Result<NoteSignature, WitnessError>) -> Refusal {
    match result {
        Err(WitnessError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_growing_log_is_cosigned_and_the_cosignature_verifies() {
    let bench = Bench::new();
    let witness = bench.start().unwrap();
    for (old, size) in [(0, 3), (3, 3), (3, 64), (64, 65), (65, 100)] {
        let line = witness.add_checkpoint(&bench.log.body(old, size)).unwrap();
        let text = bench.log.checkpoint(size).text();
        assert_eq!(Bench::key().verify(&text, &line), Ok(T0_NS / 1_000_000_000), "{old}..{size}");
        assert_eq!(witness.logs()[0].size, size);
    }
}

#[test]
fn whatever_does_not_grow_out_of_what_was_cosigned_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    let witness = bench.start().unwrap();
    let (log, fork) = (&bench.log, Log::new(40));
    let (_, stranger) = (0, SigningKey::generate(&SteppingEntropy::starting_at(9)).unwrap());
    witness.add_checkpoint(&log.body(0, 50)).unwrap();
    let before = fs::read(bench.state_file()).unwrap();

    let signed_by = |key: &SigningKey, origin: &str| {
        let note = Checkpoint { origin: origin.to_owned(), ..log.checkpoint(60) }.sign(key).unwrap();
        AddCheckpoint { note: SignedNote::parse(&note).unwrap(), ..log.request(50, 60) }.to_string()
    };
    let with_proof =
        |old, size, proof: Vec<Hash>| AddCheckpoint { proof, ..log.request(old, size) }.to_string();
    let hash = log.leaves[0];
    let mut spoiled = log.request(50, 60);
    spoiled.note.signatures[0].bytes[5] ^= 1;
    let mut swapped = log.request(50, 60);
    swapped.proof.swap(0, 1);

    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("replay of the first request", log.body(0, 50), 409),
        ("rolled back, honest about it", log.body(50, 45), 400),
        ("rolled back, with the smaller size as the old one", log.body(45, 45), 409),
        ("rolled back and grown again beside it", fork.body(45, 60), 409),
        ("forked at the same size", fork.body(50, 50), 409),
        ("forked with a proof of its own history", fork.body(50, 60), 422),
        ("forked beyond, from nothing", fork.body(0, 60), 409),
        ("old size that is ahead", log.body(55, 60), 409),
        ("old size beyond the checkpoint", log.body(61, 60), 400),
        ("no proof", with_proof(50, 60, vec![]).into(), 422),
        ("a proof that is too long", with_proof(50, 60, vec![hash; 63]).into(), 422),
        ("a proof of other hashes", swapped.to_string().into(), 422),
        ("a proof where none is needed", with_proof(50, 50, vec![hash]).into(), 422),
        ("another key", signed_by(&stranger, ORIGIN).into(), 403),
        ("a signature that does not verify", spoiled.to_string().into(), 403),
        ("another log", signed_by(&log.key, "ledger.example/other").into(), 404),
        ("an empty log", log.body(0, 0), 409),
        ("nothing", vec![], 400),
    ];
    for (what, body, status) in cases {
        let refusal = refused(witness.add_checkpoint(&body));
        assert_eq!(refusal.status(), status, "{what}: {refusal}");
        if status == 409 {
            assert_eq!(refusal.body().1, "50\n", "{what}");
        }
        assert_eq!(fs::read(bench.state_file()).unwrap(), before, "{what}");
    }
    witness.add_checkpoint(&log.body(50, 60)).unwrap();
}

#[test]
fn an_empty_log_is_cosigned_once_it_says_that_it_is_empty() {
    let bench = Bench::new();
    let witness = bench.start().unwrap();
    let mut other = bench.log.checkpoint(0);
    other.root = bench.log.leaves[0];
    let body = AddCheckpoint::new(0, vec![], &other.sign(&bench.log.key).unwrap()).unwrap().to_string();
    assert_eq!(refused(witness.add_checkpoint(body.as_bytes())).status(), 409, "an empty tree has one root");
    witness.add_checkpoint(&bench.log.body(0, 0)).unwrap();
    drop(witness);
    let witness = bench.start().unwrap();
    let proof = vec![bench.log.leaves[0]];
    let body = AddCheckpoint { proof, ..bench.log.request(0, 5) }.to_string();
    assert_eq!(
        refused(witness.add_checkpoint(body.as_bytes())).status(),
        422,
        "a proof from nothing is empty"
    );
    witness.add_checkpoint(&bench.log.body(0, 5)).unwrap();
}

#[test]
fn what_was_cosigned_is_remembered_over_a_restart_and_time_never_runs_back() {
    let bench = Bench::new();
    let witness = bench.start().unwrap();
    let line = witness.add_checkpoint(&bench.log.body(0, 50)).unwrap();
    let time = Bench::key().verify(&bench.log.checkpoint(50).text(), &line).unwrap();
    assert!(matches!(bench.start().unwrap_err(), StateError::Busy { .. }), "one process at a time");
    drop(witness);

    let early = Bench { clock: Arc::new(SteppingClock::starting_at(T0_NS / 2)), ..bench };
    let witness = early.start().unwrap();
    assert_eq!(refused(witness.add_checkpoint(&early.log.body(0, 40))), Refusal::Conflict { size: 50 });
    let line = witness.add_checkpoint(&early.log.body(50, 51)).unwrap();
    assert_eq!(Bench::key().verify(&early.log.checkpoint(51).text(), &line), Ok(time));
}

#[test]
fn of_concurrent_requests_from_one_size_exactly_one_is_cosigned() {
    let bench = Bench::new();
    let witness = Arc::new(bench.start().unwrap());
    witness.add_checkpoint(&bench.log.body(0, 10)).unwrap();
    for round in 0..8u64 {
        let old = witness.logs()[0].size;
        let barrier = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (1..=8u64)
            .map(|step| {
                let (witness, barrier) = (Arc::clone(&witness), Arc::clone(&barrier));
                let body = bench.log.body(old, old + step);
                std::thread::spawn(move || {
                    barrier.wait();
                    witness.add_checkpoint(&body).is_ok().then_some(old + step)
                })
            })
            .collect();
        let won: Vec<u64> = threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        assert_eq!(witness.logs()[0].size, won[0]);
        let kept = fs::read_to_string(bench.state_file()).unwrap();
        assert!(kept.starts_with(&format!("{ORIGIN}\n{}\n", won[0])));
    }
}

#[test]
fn a_state_file_that_is_not_what_was_written_is_refused_and_never_begun_anew() {
    let bench = Bench::new();
    let witness = bench.start().unwrap();
    witness.add_checkpoint(&bench.log.body(0, 50)).unwrap();
    drop(witness);
    let path = bench.state_file();
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(matches!(bench.start(), Err(StateError::Damaged { .. })), "cut at {cut}");
    }
    for bit in 0..whole.len() * 8 {
        let mut bad = whole.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        match bench.start() {
            Err(StateError::Damaged { path: named, .. }) => assert_eq!(named, path),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(bench.start().unwrap().logs()[0].size, 50);
}

#[test]
fn what_cannot_be_recorded_is_not_cosigned_and_nothing_is_until_it_is_started_again() {
    let bench = Bench::new();
    let witness = bench.start().unwrap();
    witness.add_checkpoint(&bench.log.body(0, 10)).unwrap();
    // Where the new state is written first there is a directory.
    let beside = bench.state_file().with_extension("new");
    fs::create_dir(&beside).unwrap();
    assert!(matches!(witness.add_checkpoint(&bench.log.body(10, 20)), Err(WitnessError::State { .. })));
    fs::remove_dir(&beside).unwrap();
    let again = witness.add_checkpoint(&bench.log.body(10, 20));
    assert!(matches!(again, Err(WitnessError::State { .. })), "{again:?}");
    drop(witness);
    let witness = bench.start().unwrap();
    assert_eq!(witness.logs()[0].size, 10);
    witness.add_checkpoint(&bench.log.body(10, 20)).unwrap();
}

#[test]
fn a_witness_is_made_once_and_served_with_its_own_key_only() {
    let bench = Bench::new();
    assert!(matches!(StateDir::create(&bench.state(), &Bench::key()), Err(StateError::Exists { .. })));
    let empty = bench.dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for dir in [&empty, &bench.dir.path().join("none")] {
        assert!(matches!(StateDir::open(dir), Err(StateError::Missing { .. })));
    }
    let other = SigningKey::generate(&SteppingEntropy::starting_at(7)).unwrap();
    let started = Witness::start(
        StateDir::open(&bench.state()).unwrap(),
        other,
        [bench.log.verifier()],
        Arc::clone(&bench.clock),
    );
    assert!(matches!(started, Err(StateError::Damaged { .. })));
}

#[test]
fn a_log_with_two_keys_may_sign_with_either() {
    let bench = Bench::new();
    let second = SigningKey::generate(&SteppingEntropy::starting_at(5)).unwrap();
    let keys = [bench.log.verifier(), VerifierKey::new(ORIGIN, second.public()).unwrap()];
    let dir = StateDir::open(&bench.state()).unwrap();
    let witness = Witness::start(dir, Bench::signing_key(), keys.clone(), Arc::clone(&bench.clock)).unwrap();
    witness.add_checkpoint(&bench.log.body(0, 50)).unwrap();
    let rotated = Log { key: second, leaves: bench.log.leaves.clone() };
    witness.add_checkpoint(&rotated.body(50, 60)).unwrap();
    drop(witness);
    // Without the key that signed the last checkpoint its record cannot be read any more, and that is said.
    let error = bench.start().unwrap_err();
    assert!(error.to_string().contains("was its key taken off the list"), "{error}");
}
