//! C2SP tlog-tiles (<https://c2sp.org/tlog-tiles>): the names of a log's static files and what is in them.
//!
//! A log is served, mirrored and exported as three kinds of file: `checkpoint`, tiles of tree hashes
//! (`tile/<L>/<N>`), and bundles of entries (`tile/entries/<N>`). Pure functions over names and bytes; a
//! [`Ledger`](crate::Ledger) fills them in.

use std::fmt;

use crate::entry::ENTRY_BYTES_MAX;
use crate::merkle::Hash;

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;

/// Highest level that a name may have. A log of 2^64 entries ends at level 7; the specification allows more.
const LEVEL_MAX: u8 = 63;

/// Longest name that is looked at: `tile/entries/`, 2^64 in seven elements, a width.
const PATH_BYTES_MAX: usize = 64;

/// Why a text or bytes are not a tile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The name is not one that the specification gives to a tile.
    #[error("`{path}` does not name a tile: {why}")]
    Path {
        /// Name, cut where it is long.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The bytes are not so many hashes or entries.
    #[error("at byte {offset}: {why}")]
    Bytes {
        /// Where it goes wrong.
        offset: usize,
        /// What is wrong.
        why: &'static str,
    },
}

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of perfect subtrees of 256^level entries.
    Hashes(u8),
    /// Entries.
    Entries,
}

/// The name of a tile: one file of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// What it holds.
    pub kind: TileKind,
    /// Its place among the tiles of its kind.
    pub index: u64,
    /// How many hashes or entries it holds, 1 to 256; fewer than 256 is a partial tile.
    pub width: u16,
}

impl Tile {
    /// Parses a name, `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`. Every tile has exactly one name.
    pub fn parse(path: &str) -> Result<Self, TileError> {
        let wrong = |why| TileError::Path { path: path.chars().take(PATH_BYTES_MAX).collect(), why };
        if path.len() > PATH_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let rest = path.strip_prefix("tile/").ok_or_else(|| wrong("it does not start with tile/"))?;
        let (kind, rest) = rest.split_once('/').ok_or_else(|| wrong("it has no index"))?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => {
                let level = decimal(level).and_then(|level| u8::try_from(level).ok());
                let level = level.filter(|level| *level <= LEVEL_MAX);
                TileKind::Hashes(level.ok_or_else(|| wrong("the level is not a number from 0 to 63"))?)
            }
        };
        let (index, width) = match rest.split_once(".p/") {
            None => (rest, TILE_WIDTH),
            Some((index, width)) => {
                let width = decimal(width).and_then(|width| u16::try_from(width).ok());
                let width = width.filter(|width| (1..TILE_WIDTH).contains(width));
                (index, width.ok_or_else(|| wrong("the width is not a number from 1 to 255"))?)
            }
        };
        let index = parse_index(index)
            .ok_or_else(|| wrong("the index is not of three-digit elements like x001/x234/067"))?;
        let tile = Self { kind, index, width };
        // The index alone has more than one spelling (x000/001); only one is a name.
        if tile.to_string() == path {
            Ok(tile)
        } else {
            Err(wrong("the index has elements that it does not need"))
        }
    }

    /// Tells whether the tile is partial: at the right edge of the tree of some size.
    pub const fn is_partial(&self) -> bool {
        self.width < TILE_WIDTH
    }

    /// Returns the positions of the hashes (at its level) or entries in it; `None` when they are beyond any log.
    pub fn range(&self) -> Option<std::ops::Range<u64>> {
        let start = self.index.checked_mul(u64::from(TILE_WIDTH))?;
        Some(start..start.checked_add(u64::from(self.width))?)
    }

    /// Tells whether the log had it when it had `size` entries.
    pub fn is_within(&self, size: u64) -> bool {
        let there = match self.kind {
            TileKind::Entries => size,
            TileKind::Hashes(level) => size.checked_shr(u32::from(level) * 8).unwrap_or(0),
        };
        self.range().is_some_and(|range| range.end <= there)
    }

    /// Lists the tiles that a log of `size` entries has and one of `old` entries had not, in the order in which the
    /// log completed them within their kind: entries, then hashes from level 0 up. With `old` 0 it is every tile that
    /// a mirror needs, without partial tiles that full ones have replaced.
    pub fn between(old: u64, size: u64) -> impl Iterator<Item = Self> {
        let levels = (0..8u8).map(TileKind::Hashes);
        std::iter::once(TileKind::Entries).chain(levels).flat_map(move |kind| {
            let shift = if let TileKind::Hashes(level) = kind { u32::from(level) * 8 } else { 0 };
            let (had, has) = (old >> shift, size >> shift);
            let width = u64::from(TILE_WIDTH);
            let full = (had / width..has / width).map(move |index| Self { kind, index, width: TILE_WIDTH });
            let rest = u16::try_from(has % width).ok().filter(|width| *width > 0 && has > had);
            full.chain(rest.map(move |rest| Self { kind, index: has / width, width: rest }))
        })
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut power = 1u64;
        while self.index / power >= 1000 {
            power *= 1000;
        }
        while power >= 1000 {
            write!(f, "x{:03}/", self.index / power % 1000)?;
            power /= 1000;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if self.is_partial() { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

/// Reads a decimal without leading zeros or a sign.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}

fn parse_index(text: &str) -> Option<u64> {
    let mut index = 0u64;
    let mut elements = text.split('/').peekable();
    while let Some(element) = elements.next() {
        let digits = if elements.peek().is_some() { element.strip_prefix('x')? } else { element };
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(index)
}

/// Writes the bytes of a tile of hashes.
pub fn hash_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Reads the bytes of a tile of hashes.
pub fn parse_hashes(bytes: &[u8]) -> Result<Vec<Hash>, TileError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    let offset = bytes.len() - rest.len();
    if !rest.is_empty() {
        return Err(TileError::Bytes { offset, why: "the last hash is cut" });
    }
    match hashes.len() {
        0 => Err(TileError::Bytes { offset, why: "a tile is never empty" }),
        count if count > usize::from(TILE_WIDTH) => Err(TileError::Bytes {
            offset: usize::from(TILE_WIDTH) * 32,
            why: "a tile has at most 256 hashes",
        }),
        _ => Ok(hashes.iter().copied().map(Hash).collect()),
    }
}

/// Adds an entry to a bundle: its length as 16 bits, big-endian, then its bytes.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), TileError> {
    let length = u16::try_from(entry.len()).map_err(|_| TileError::Bytes {
        offset: bundle.len(),
        why: "the entry is longer than 65,535 bytes",
    })?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Reads the entries of a bundle.
pub fn parse_entries(bundle: &[u8]) -> Result<Vec<&[u8]>, TileError> {
    // What a length can say is what an entry can be.
    const { assert!(ENTRY_BYTES_MAX == u16::MAX as usize) };
    let mut entries = Vec::new();
    let mut rest = bundle;
    while !rest.is_empty() {
        let offset = bundle.len() - rest.len();
        if entries.len() == usize::from(TILE_WIDTH) {
            return Err(TileError::Bytes { offset, why: "a bundle has at most 256 entries" });
        }
        let cut = TileError::Bytes { offset, why: "the last entry is cut" };
        let (length, after) = rest.split_first_chunk::<2>().ok_or_else(|| cut.clone())?;
        let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(cut)?;
        entries.push(entry);
        rest = after;
    }
    if entries.is_empty() {
        return Err(TileError::Bytes { offset: 0, why: "a bundle is never empty" });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn tile(kind: TileKind, index: u64, width: u16) -> Tile {
        Tile { kind, index, width }
    }

    #[test]
    fn names_are_those_of_the_specification() {
        for (text, want) in [
            ("tile/0/x001/x234/067", tile(TileKind::Hashes(0), 1_234_067, 256)),
            ("tile/0/000", tile(TileKind::Hashes(0), 0, 256)),
            ("tile/63/999", tile(TileKind::Hashes(63), 999, 256)),
            ("tile/1/x001/000.p/17", tile(TileKind::Hashes(1), 1000, 17)),
            ("tile/entries/273.p/112", tile(TileKind::Entries, 273, 112)),
            ("tile/entries/x018/x446/x744/x073/x709/x551/615", tile(TileKind::Entries, u64::MAX, 256)),
        ] {
            assert_eq!(Tile::parse(text), Ok(want), "{text}");
            assert_eq!(want.to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_no_name() {
        for text in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/0/1",
            "tile/00/000",
            "tile/01/000",
            "tile/+1/000",
            "tile/-1/000",
            "tile/64/000",
            "tile/999/000",
            "tile//000",
            "tile/ 0/000",
            "tile/x/000",
            "tile/Entries/000",
            "tile/data/000",
            "tile/8/0/000",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/000.p",
            "tile/0/000.p/",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/+1",
            "tile/0/000.p/1/",
            "tile/0/000.p/1.p/1",
            "tile/0/000.P/1",
            "tile/0/x000/001",
            "tile/0/x000/000",
            "tile/0/001/002",
            "tile/0/x001/x002",
            "tile/0/x001",
            "tile/0/X001/002",
            "tile/0/xx01/002",
            "tile/0/x01/002",
            "tile/0/x0001/002",
            "tile/0/x001//002",
            "tile/0/00１",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/0/000\n",
            "tile/0/%30%30%30",
            "tile/0/../0/000",
            "tile/entries/000.p/999999999999999999999",
        ] {
            assert!(matches!(Tile::parse(text), Err(TileError::Path { .. })), "{text:?}");
        }
    }

    #[test]
    fn the_example_of_the_specification_has_the_tiles_that_it_says() {
        // "A tree of size 70,000 will be represented by 273 full level 0 tiles, one partial level 0 tile of width 112,
        // one full level 1 tile, one partial level 1 tile of width 17, and one partial level 2 tile of width 1."
        let tiles: Vec<Tile> = Tile::between(0, 70_000).collect();
        let count =
            |kind, full| tiles.iter().filter(|tile| tile.kind == kind && tile.is_partial() != full).count();
        assert_eq!((count(TileKind::Hashes(0), true), count(TileKind::Entries, true)), (273, 273));
        for partial in [
            tile(TileKind::Entries, 273, 112),
            tile(TileKind::Hashes(0), 273, 112),
            tile(TileKind::Hashes(1), 1, 17),
            tile(TileKind::Hashes(2), 0, 1),
        ] {
            assert!(tiles.contains(&partial), "{partial}");
        }
        assert_eq!(count(TileKind::Hashes(1), true), 1);
        assert_eq!(tiles.len(), 273 * 2 + 2 + 2 + 1);
        // "A tree of size 256 will be represented by a full level 0 tile and a partial level 1 tile of width 1."
        let names: Vec<String> = Tile::between(0, 256).map(|tile| tile.to_string()).collect();
        assert_eq!(names, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(Tile::between(0, 0).count(), 0);
    }

    #[test]
    fn a_tile_is_there_from_the_size_on_that_completes_it() {
        let wide = tile(TileKind::Hashes(1), 0, 2);
        assert!(!wide.is_within(511) && wide.is_within(512));
        let entries = tile(TileKind::Entries, 1, 256);
        assert!(!entries.is_within(511) && entries.is_within(512));
        for beyond in [
            tile(TileKind::Hashes(8), 0, 1),
            tile(TileKind::Hashes(63), 0, 1),
            tile(TileKind::Entries, u64::MAX, 1),
        ] {
            assert!(!beyond.is_within(u64::MAX), "{beyond}");
        }
    }

    #[test]
    fn bundles_and_tiles_that_are_cut_or_too_long_are_refused_with_the_place() {
        let mut bundle = Vec::new();
        push_entry(&mut bundle, b"one").unwrap();
        push_entry(&mut bundle, &vec![7; ENTRY_BYTES_MAX]).unwrap();
        push_entry(&mut bundle, b"").unwrap();
        assert_eq!(
            parse_entries(&bundle).unwrap().iter().map(|entry| entry.len()).collect::<Vec<_>>(),
            [3, 65_535, 0]
        );
        for end in [1, 2, 4, 6, bundle.len() - 1] {
            let error = parse_entries(&bundle[..end]).unwrap_err();
            assert!(matches!(error, TileError::Bytes { why: "the last entry is cut", .. }), "{end}: {error}");
        }
        assert!(push_entry(&mut bundle, &vec![0; ENTRY_BYTES_MAX + 1]).is_err());
        assert!(parse_entries(b"").is_err());
        assert!(parse_entries(&[0; 257 * 2]).is_err());
        assert_eq!(parse_entries(&[0; 256 * 2]).unwrap().len(), 256);
        assert_eq!(parse_hashes(&[3; 64]).unwrap(), [Hash([3; 32]); 2]);
        assert_eq!(parse_hashes(&[3; 65]), Err(TileError::Bytes { offset: 64, why: "the last hash is cut" }));
        assert!(parse_hashes(&[]).is_err() && parse_hashes(&[0; 257 * 32]).is_err());
    }

    proptest! {
        #[test]
        fn every_tile_has_one_name(level in 0u8..64, index in any::<u64>(), shift in 0u32..64, width in 1u16..=256, entries: bool) {
            let kind = if entries { TileKind::Entries } else { TileKind::Hashes(level) };
            let tile = tile(kind, index >> shift, width);
            prop_assert_eq!(Tile::parse(&tile.to_string()), Ok(tile));
            // The independent implementation puts the height of a tile into the name, and calls entries data.
            if level < 8 {
                let theirs = tlog_tiles::Tile::new(8, if entries { 0 } else { level }, index >> shift, width.into(), entries);
                let theirs = theirs.path().replacen("tile/8/", "tile/", 1).replacen("/data/", "/entries/", 1);
                prop_assert_eq!(theirs, tile.to_string());
            }
        }

        #[test]
        fn growing_in_steps_gives_every_tile_that_the_last_size_needs(sizes in prop::collection::vec(0u64..200_000, 1..6)) {
            let mut sizes = sizes;
            sizes.sort_unstable();
            let mut all = BTreeSet::new();
            let mut old = 0;
            for size in sizes {
                for tile in Tile::between(old, size) {
                    prop_assert!(tile.is_within(size) && (tile.is_partial() || !tile.is_within(old)), "{tile}");
                    all.insert(tile);
                }
                for needed in Tile::between(0, size) {
                    prop_assert!(all.contains(&needed), "{needed} of {size}");
                }
                old = size;
            }
        }
    }
}
