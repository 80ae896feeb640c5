//! Encoding of index and key rows with bincode: private, versioned, rebuilt when the version differs. Nothing
//! that is hashed or exported passes through here.

use bincode::config::Configuration;
use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use super::error::LedgerError;
use crate::disclosure::{Hidden, Place, Salts};

/// Version of every row below; stored in the `meta` family.
pub(super) const ROWS_VERSION: u32 = 1;

pub(super) const CONFIG: Configuration = bincode::config::standard();

/// Keyed digest of what a statement says. It tells a repetition from another statement under the same id, and nobody who
/// does not have the key can look for two that agree.
pub(super) type Content = [u8; 16];

/// Row of `ix_id`: a statement under an id. The first has the id as its key, the others the id and their position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) struct IdRow {
    /// Position.
    pub(super) seq: u64,
    /// Keyed digest of the content, to tell a duplicate from a conflict; `None` when a value of it was erased.
    pub(super) content: Option<Content>,
    /// Tells, in the first, whether there are others: a conflict.
    pub(super) more: bool,
}

/// Row of `disclosures`: all disclosed values of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct DisclosureRow {
    /// Whose data key encrypts them.
    pub(super) subject: [u8; 16],
    /// Nonce.
    pub(super) nonce: [u8; 12],
    /// Length of the encoded [`Hidden`] before compression.
    pub(super) length: u32,
    /// Ciphertext of the encoded [`Hidden`], compressed with zstd where that makes it shorter.
    pub(super) sealed: Vec<u8>,
}

// What is inside a row of `disclosures`. Written by hand so that the types of the disclosure module need not know of
// bincode.
impl Encode for Hidden {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        match &self.salts {
            Salts::Seed(seed) => (0u8, seed).encode(encoder)?,
            Salts::Each(salts) => (1u8, salts).encode(encoder)?,
        }
        let members: Vec<(u8, u32)> = self
            .members
            .iter()
            .map(|(place, end)| (place.0, u32::try_from(*end).unwrap_or(u32::MAX)))
            .collect();
        members.encode(encoder)?;
        self.values.encode(encoder)
    }
}

impl<C> Decode<C> for Hidden {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let salts = match u8::decode(decoder)? {
            0 => Salts::Seed(Decode::decode(decoder)?),
            1 => Salts::Each(Decode::decode(decoder)?),
            _ => return Err(DecodeError::Other("kind of salts")),
        };
        let members: Vec<(u8, u32)> = Decode::decode(decoder)?;
        let members = members
            .into_iter()
            .map(|(place, end)| (Place(place), usize::try_from(end).unwrap_or(usize::MAX)))
            .collect();
        Ok(Self { salts, members, values: Decode::decode(decoder)? })
    }
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
