//! The files of a log in tlog-tiles layout, read from the store.

use super::{Ledger, LedgerError, TILE_LEVELS};
use crate::tile::{self, Tile, TileKind};

impl Ledger {
    /// Returns the bytes of a tile or an entry bundle. It must be [within](Tile::is_within) the acknowledged size.
    pub fn tile_bytes(&self, tile: &Tile) -> Result<Vec<u8>, LedgerError> {
        let size = self.head().size;
        let beyond = || LedgerError::OutOfRange { seq: size, size };
        let range = tile.range().filter(|_| tile.is_within(size)).ok_or_else(beyond)?;
        match tile.kind {
            TileKind::Entries => {
                let mut bundle = Vec::new();
                for row in self.entries(range) {
                    let (seq, entry) = row?;
                    tile::push_entry(&mut bundle, &entry).map_err(|error| LedgerError::Damaged {
                        place: format!("entry {seq}"),
                        detail: error.to_string(),
                    })?;
                }
                Ok(bundle)
            }
            TileKind::Hashes(level) => {
                // The tree of exactly as many entries as the tile needs: a partial tile must not become a wider one.
                let size = range.end.checked_shl(u32::from(level) * TILE_LEVELS).ok_or_else(beyond)?;
                Ok(tile::hash_bytes(&self.tile(u32::from(level), tile.index, size)?))
            }
        }
    }
}
