//! Encoding of index and key rows with bincode: private, versioned, rebuilt when the version differs. Nothing
//! that is hashed or exported passes through here.

use bincode::config::Configuration;
use bincode::{Decode, Encode};

use super::error::LedgerError;

/// Version of every row below; stored in the `meta` family.
pub(super) const ROWS_VERSION: u32 = 1;

const CONFIG: Configuration = bincode::config::standard();

/// Row of `ix_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) struct IdRow {
    /// Keyed digest of the content, to tell a duplicate from a conflict.
    pub(super) content: [u8; 16],
}

/// Row of `disclosures`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct DisclosureRow {
    /// Whose data key encrypts it.
    pub(super) subject: [u8; 16],
    /// Nonce.
    pub(super) nonce: [u8; 12],
    /// Length of the disclosure's JSON.
    pub(super) length: u32,
    /// Ciphertext of that JSON, compressed with zstd where that makes it shorter.
    pub(super) sealed: Vec<u8>,
}

/// Row of `data_keys`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct DataKeyRow {
    /// Nonce.
    pub(super) nonce: [u8; 12],
    /// Wrapped key.
    pub(super) wrapped: Vec<u8>,
}

pub(super) fn encode(row: &impl Encode) -> Vec<u8> {
    // Encoding into memory fails for no row above: they hold only integers, arrays and byte vectors.
    bincode::encode_to_vec(row, CONFIG).unwrap_or_default()
}

pub(super) fn decode<R: Decode<()>>(family: &str, bytes: &[u8]) -> Result<R, LedgerError> {
    match bincode::decode_from_slice(bytes, CONFIG) {
        Ok((row, read)) if read == bytes.len() => Ok(row),
        _ => Err(LedgerError::Damaged {
            place: format!("row of `{family}`"),
            detail: "cannot be decoded".to_owned(),
        }),
    }
}
