//! Implementations that we did not write read our log over HTTP: they fetch what they need, prove what they like,
//! and check it against our checkpoint.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use ct_merkle::{ConsistencyProof, HashableLeaf, InclusionProof, RootHash};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{
    Hash, HashReader as _, TileHashReader, TileReader, check_record, check_tree, prove_record, prove_tree,
    record_hash, tree_hash,
};
use verdict_ledger::tile;

use crate::served::Served;

/// Fetches tiles as another client would: by the names of its own library.
struct Remote<'a> {
    served: &'a Served,
    fetched: RefCell<BTreeSet<String>>,
}

impl TileReader for Remote<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let fetch = |tile: &tlog_tiles::Tile| {
            // Its paths are those of the Go checksum database, with the height of a tile in them.
            let path = tile.path().replacen("tile/8/", "/tile/", 1);
            self.fetched.borrow_mut().insert(path.clone());
            self.served.bytes(&path)
        };
        Ok(tiles.iter().map(fetch).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

impl<'a> Remote<'a> {
    fn of(served: &'a Served) -> Self {
        Self { served, fetched: RefCell::default() }
    }

    /// Fetches one entry out of its bundle, the full one where there is one.
    fn entry(&self, index: u64, size: u64) -> Vec<u8> {
        let (bundle, width) = (index / 256, 256.min(size - index / 256 * 256));
        let tile = tlog_tiles::Tile::new(8, 0, bundle, u32::try_from(width).unwrap(), true);
        let path = tile.path().replacen("tile/8/data/", "/tile/entries/", 1);
        let bytes = self.served.bytes(&path);
        tile::parse_entries(&bytes).unwrap()[usize::try_from(index % 256).unwrap()].to_vec()
    }
}

/// The newest checkpoint, with its signature verified by `signed_note` and its text read by `tlog_tiles`.
fn checkpoint(served: &Served) -> (u64, Hash) {
    let verifier = StandardVerifier::new(&served.ledger.verifier_key()).unwrap();
    let note = Note::from_bytes(&served.bytes("/checkpoint")).unwrap();
    let (verified, unknown) = note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
    assert_eq!((verified.len(), unknown.len()), (1, 0));
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(checkpoint.origin(), served.ledger.origin());
    (checkpoint.size(), *checkpoint.hash())
}

struct Raw(Vec<u8>);

impl HashableLeaf for Raw {
    fn hash<H: ct_merkle::digest::Update>(&self, hasher: &mut H) {
        hasher.update(&self.0);
    }
}

fn root_of(size: u64, hash: Hash) -> RootHash<sha2::Sha256> {
    RootHash::new(hash.0.into(), size)
}

fn flat(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Proves by `tlog_tiles` through our tiles that an entry is in a tree, and checks the proof with two others.
fn record_is_provable(served: &Served, size: u64, root: Hash, index: u64) {
    let remote = Remote::of(served);
    let tiles = TileHashReader::new(size, root, &remote);
    let entry = remote.entry(index, size);
    let leaf = record_hash(&entry);
    let proof = prove_record(size, index, &tiles).unwrap();
    check_record(&proof, size, root, index, leaf).unwrap();
    check_record(&proof, size, root, index, record_hash(&entry[1..])).unwrap_err();
    let ours: Vec<Hash> =
        served.ledger.inclusion_proof(index, size).unwrap().iter().map(|hash| Hash(hash.0)).collect();
    assert_eq!(proof, ours, "entry {index} of {size}");
    let proof = InclusionProof::<sha2::Sha256>::try_from_bytes(flat(&proof)).unwrap();
    root_of(size, root).verify_inclusion(&Raw(entry), index, &proof).unwrap();
    // No more than the path from leaf to root, and the tiles of the right edge that pin the root.
    let levels = 1 + size.ilog2() as usize / 8;
    assert!(remote.fetched.borrow().len() <= 2 * levels, "{:?}", remote.fetched.borrow());
}

/// Proves that an older tree is a prefix of a newer one, in the same way.
fn tree_is_provable(served: &Served, old: u64, old_root: Hash, new: u64, root: Hash) {
    let remote = Remote::of(served);
    let tiles = TileHashReader::new(new, root, &remote);
    assert_eq!(tree_hash(old, &TileHashReader::new(old, old_root, &remote)).unwrap(), old_root);
    let proof = prove_tree(new, old, &tiles).unwrap();
    check_tree(&proof, new, root, old, old_root).unwrap();
    check_tree(&proof, new, root, old, root).unwrap_err();
    let ours: Vec<Hash> =
        served.ledger.consistency_proof(old, new).unwrap().iter().map(|hash| Hash(hash.0)).collect();
    assert_eq!(proof, ours, "{old} in {new}");
    let proof = ConsistencyProof::<sha2::Sha256>::try_from_bytes(flat(&proof)).unwrap();
    root_of(new, root).verify_consistency(&root_of(old, old_root), &proof).unwrap();
}

/// Random sizes and indexes, and those at the edges of tiles.
fn proofs_hold(served: &Served, cases: u32) {
    let (signed, root) = checkpoint(served);
    let root_at = |size| if size == signed { root } else { Hash(served.ledger.root_at(size).unwrap().0) };
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>());
    runner
        .run(&numbers, |(size, index, old)| {
            let size = 1 + size % signed;
            record_is_provable(served, size, root_at(size), index % size);
            let old = 1 + old % size;
            if old < size {
                tree_is_provable(served, old, root_at(old), size, root_at(size));
            }
            Ok(())
        })
        .unwrap();
    let edges = [1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, signed];
    for size in edges.into_iter().filter(|size| *size <= signed) {
        for index in [0, size / 2, size - 1] {
            record_is_provable(served, size, root_at(size), index);
        }
        if size < signed {
            tree_is_provable(served, size, root_at(size), signed, root);
        }
    }
}

#[test]
fn others_prove_any_entry_and_any_size_through_our_tiles() {
    proofs_hold(&Served::with(1_500), 150);
}

#[test]
fn others_prove_entries_of_a_log_with_three_levels_of_tiles() {
    // Level 1 is full from 65,536 entries on.
    proofs_hold(&Served::with(66_000), 40);
}

#[test]
fn others_follow_the_log_while_it_grows() {
    let served = Served::with(3);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for size in (10..1_200).step_by(37) {
                served.grow_to(size);
            }
            done.store(true, Ordering::SeqCst);
        });
        let (mut old, mut old_root) = checkpoint(&served);
        let mut seen = BTreeSet::new();
        loop {
            // Before the checkpoint is fetched, so that the last look is at the last one.
            let last = done.load(Ordering::SeqCst);
            let (new, root) = checkpoint(&served);
            assert!(new >= old, "the log shrank from {old} to {new}");
            let remote = Remote::of(&served);
            let tiles = TileHashReader::new(new, root, &remote);
            tiles.read_hashes(&[tlog_tiles::stored_hash_index(0, new - 1)]).unwrap();
            if new > old {
                tree_is_provable(&served, old, old_root, new, root);
            }
            record_is_provable(&served, new, root, new - 1);
            seen.insert(new);
            (old, old_root) = (new, root);
            if last {
                break;
            }
        }
        assert!(old >= 1_150 && seen.len() > 1, "{seen:?}");
    });
}
