//! `/checkpoint` and `/tile/…`, to the letter of c2sp.org/tlog-tiles.

use std::io::Read as _;

use verdict_ledger::merkle;
use verdict_ledger::note::{Checkpoint, VerifierKey};
use verdict_ledger::tile::{self, Tile};

use crate::served::Served;

const DAYS_365: &str = "max-age=31536000, immutable";

#[test]
fn every_tile_that_the_checkpoint_needs_is_there_and_is_what_it_says() {
    let served = Served::with(700);
    let key = VerifierKey::parse(&served.ledger.verifier_key()).unwrap();
    let reply = served.get("/checkpoint");
    assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(reply.header("cache-control"), "max-age=1");
    let checkpoint = Checkpoint::verify(&reply.text(), &key).unwrap();
    assert_eq!(checkpoint.size, 700);

    let mut leaves = Vec::new();
    for tile in Tile::between(0, checkpoint.size) {
        let reply = served.get(&format!("/{tile}"));
        assert_eq!(reply.status, 200, "{tile}");
        assert_eq!(reply.header("content-type"), "application/octet-stream", "{tile}");
        assert_eq!(reply.header("cache-control"), DAYS_365, "{tile}");
        assert_eq!(reply.header("content-length"), reply.body.len().to_string());
        assert_eq!(reply.header("content-encoding"), "");
        match tile.kind {
            tile::TileKind::Entries => {
                let entries = tile::parse_entries(&reply.body).unwrap();
                assert_eq!(entries.len(), usize::from(tile.width));
                for entry in entries {
                    assert_eq!(entry, served.ledger.entry(leaves.len() as u64).unwrap().unwrap());
                    leaves.push(merkle::leaf_hash(entry));
                }
            }
            tile::TileKind::Hashes(level) => {
                let below = 256usize.pow(u32::from(level));
                let first = usize::try_from(tile.index).unwrap() * 256;
                let want: Vec<_> = leaves
                    .chunks_exact(below)
                    .skip(first)
                    .take(tile.width.into())
                    .map(|chunk| merkle::root_of(chunk.iter().copied()))
                    .collect();
                assert_eq!(tile::parse_hashes(&reply.body).unwrap(), want, "{tile}");
            }
        }
    }
    assert_eq!(merkle::root_of(leaves), checkpoint.root);
}

#[test]
fn a_partial_tile_of_any_width_that_the_log_had_is_the_start_of_the_full_one() {
    let served = Served::with(300);
    let (full, bundle) = (served.bytes("/tile/0/000"), served.bytes("/tile/entries/000"));
    for width in 1..256usize {
        assert_eq!(served.bytes(&format!("/tile/0/000.p/{width}")), full[..width * 32]);
        let part = served.bytes(&format!("/tile/entries/000.p/{width}"));
        assert_eq!(tile::parse_entries(&part).unwrap().len(), width);
        assert!(bundle.starts_with(&part));
    }
    assert_eq!(served.bytes("/tile/1/000.p/1").len(), 32);
}

#[test]
fn what_is_no_tile_of_this_log_is_not_found_however_it_is_asked_for() {
    let served = Served::with(300);
    for path in [
        // Beyond the checkpoint, too wide, empty.
        "/tile/0/001",
        "/tile/0/001.p/45",
        "/tile/0/002.p/1",
        "/tile/entries/001",
        "/tile/entries/001.p/45",
        "/tile/1/000",
        "/tile/1/000.p/2",
        "/tile/2/000.p/1",
        "/tile/8/000.p/1",
        "/tile/63/000.p/1",
        "/tile/0/x018/x446/x744/x073/x709/x551/615",
        "/tile/0/000.p/0",
        "/tile/entries/000.p/0",
        // Other spellings of what is there.
        "/tile/0/0",
        "/tile/0/00",
        "/tile/0/0000",
        "/tile/00/000",
        "/tile/+0/000",
        "/tile/0/x000/000",
        "/tile/0/000/",
        "/tile//0/000",
        "//tile/0/000",
        "/tile/0//000",
        "/tile/0/./000",
        "/tile/0/../0/000",
        "/tile/0/%30%30%30",
        "/tile/%30/000",
        "/tile/0/000.p/256",
        "/tile/0/000.p/01",
        "/tile/0/000.p/+1",
        "/tile/0/000.P/1",
        "/tile/0/000%2ep/1",
        "/tile/0/000.p/1/",
        "/tile/Entries/000",
        "/tile/entries/000%00",
        "/tile/8/0/000",
        "/tile/8/data/000",
        "/tile/data/000",
        "/tile/64/000",
        "/tile/-1/000",
        "/tile/256/000",
        "/tile",
        "/tile/",
        "/tile/0",
        "/tile/0/",
        "/tile/entries",
        "/checkpoint/",
        "/checkpoint/1",
    ] {
        let reply = served.get(path);
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(reply.header("cache-control"), "no-store", "{path}: a later log may have it");
    }
    // Told to programs in plain text, and as data, not as a page.
    let reply = served.get("/tile/0/001");
    assert_eq!(
        (reply.header("content-type"), reply.text().as_str()),
        ("text/plain; charset=utf-8", "no tile `tile/0/001`\n")
    );
    let reply = served.get("/tile/0/{script}");
    assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert_eq!(served.get(&format!("/tile/0/{}", "9".repeat(8_000))).status, 404);
}

#[test]
fn the_log_is_read_only() {
    let served = Served::with(10);
    for path in ["/checkpoint", "/tile/0/000.p/10", "/tile/entries/000.p/10"] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(served.ask(method, path, &[("content-length", "0")]).status, 405, "{method} {path}");
        }
        let (head, get) = (served.ask("HEAD", path, &[]), served.get(path));
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for header in ["content-type", "content-length", "cache-control"] {
            assert_eq!(head.header(header), get.header(header), "{path}");
        }
    }
}

#[test]
fn bundles_are_compressed_for_those_who_ask() {
    let served = Served::with(300);
    let plain = served.get("/tile/entries/000");
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"));
    let packed = served.ask("GET", "/tile/entries/000", &[("accept-encoding", "br, gzip, identity")]);
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), ("gzip", "accept-encoding"));
    assert_eq!(packed.header("cache-control"), DAYS_365);
    assert!(packed.body.len() * 2 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    // Hashes do not compress.
    let hashes = served.ask("GET", "/tile/0/000", &[("accept-encoding", "gzip")]);
    assert_eq!((hashes.header("content-encoding"), hashes.body.len()), ("", 8_192));
}

#[test]
fn nothing_is_served_before_a_checkpoint_covers_it() {
    let served = Served::with(1);
    for size in 2..200 {
        // Not settled: whether a checkpoint is there already is the writer's to decide.
        let receipt = served.ledger.append(verdict_ledger::Batch {
            records: vec![verdict_ledger::NewRecord::system(
                "test.note",
                serde_json::json!({"id": format!("extra-{size}")}).as_object().unwrap().clone(),
            )],
            blobs: Vec::new(),
        });
        assert_eq!(receipt.unwrap().size, size);
        let asked = [
            served.get(&format!("/tile/entries/000.p/{size}")),
            served.get(&format!("/tile/0/000.p/{size}")),
        ];
        let signed: u64 = served.get("/checkpoint").text().lines().nth(1).unwrap().parse().unwrap();
        for reply in asked {
            assert!(
                reply.status == 404 || (reply.status == 200 && signed >= size),
                "{signed} of {size}: {reply:?}"
            );
        }
    }
    served.ledger.settle().unwrap();
    assert_eq!(served.get("/tile/entries/000.p/199").status, 200);
}
