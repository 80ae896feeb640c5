//! Compression of disclosed values, which are small: one event has some hundred bytes of them.
//!
//! zstd needs tables that cost more than such a value to build, and repeats that one value does not hold. A dictionary
//! brings both. It is part of the rows: `values-1.dict`, zstd dictionary 1, was trained (`zstd --train --maxdict=8192
//! --dictID=1`) on the disclosed values of the events in `testdata/`, and is never changed; a better one gets another
//! number. Contexts are kept between values, and there are as many as there are values compressed at once: one for each
//! of hundreds of threads would always be cold.

use std::io;
use std::sync::{LazyLock, Mutex, PoisonError};

use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

/// zstd level: on the hot path.
const LEVEL: i32 = 1;

/// Shorter values are stored as they are.
const COMPRESS_FROM: usize = 64;

/// Contexts that are kept; more are made when they are needed and dropped after use.
const KEPT_MAX: usize = 16;

const DICTIONARY: &[u8] = include_bytes!("values-1.dict");
static ENCODER: LazyLock<EncoderDictionary<'static>> =
    LazyLock::new(|| EncoderDictionary::copy(DICTIONARY, LEVEL));
static DECODER: LazyLock<DecoderDictionary<'static>> = LazyLock::new(|| DecoderDictionary::copy(DICTIONARY));

/// Compresses and decompresses values.
#[derive(Default)]
pub(super) struct Packer {
    compressors: Pool<Compressor<'static>>,
    decompressors: Pool<Decompressor<'static>>,
}

impl Packer {
    /// Compresses where that makes it shorter; a packed value as long as its plain one is the plain one.
    pub(super) fn pack(&self, plain: Vec<u8>) -> io::Result<Vec<u8>> {
        if plain.len() < COMPRESS_FROM {
            return Ok(plain);
        }
        let packed = self.compressors.with(
            || Compressor::with_prepared_dictionary(&ENCODER),
            |compressor| compressor.compress(&plain),
        )?;
        Ok(if packed.len() < plain.len() { packed } else { plain })
    }

    /// Gives back a value of `length` bytes.
    pub(super) fn unpack(&self, packed: Vec<u8>, length: usize) -> io::Result<Vec<u8>> {
        if packed.len() == length {
            return Ok(packed);
        }
        let plain = self.decompressors.with(
            || Decompressor::with_prepared_dictionary(&DECODER),
            |decompressor| decompressor.decompress(&packed, length),
        )?;
        if plain.len() == length { Ok(plain) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// Things that are dear to make.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Pool<T> {
    fn with<R>(
        &self,
        make: impl FnOnce() -> io::Result<T>,
        work: impl FnOnce(&mut T) -> io::Result<R>,
    ) -> io::Result<R> {
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = kept().pop();
        let mut thing = match taken {
            Some(thing) => thing,
            None => make()?,
        };
        // After a failure nobody knows what state it is in.
        let result = work(&mut thing)?;
        let mut kept = kept();
        if kept.len() < KEPT_MAX {
            kept.push(thing);
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(value in prop::collection::vec(any::<u8>(), 0..600), times in 1usize..5) {
            let (packer, plain) = (Packer::default(), value.repeat(times));
            let packed = packer.pack(plain.clone()).unwrap();
            prop_assert!(packed.len() <= plain.len());
            prop_assert_eq!(packer.unpack(packed, plain.len()).unwrap(), plain);
        }
    }

    #[test]
    fn the_dictionary_is_the_one_that_rows_were_written_with() {
        assert_eq!(DICTIONARY.len(), 8192);
        assert_eq!(
            blake3::hash(DICTIONARY).to_hex().as_str(),
            "2f9c9502d0277a561476c55dedde81c650a8deb2e0a0159b81c63eecbc892c3f"
        );
    }

    #[test]
    fn what_was_not_packed_is_an_error() {
        let packer = Packer::default();
        assert!(packer.unpack(vec![1, 2, 3], 9).is_err());
        let packed = packer.pack(vec![7; 500]).unwrap();
        assert!(packer.unpack(packed.clone(), 400).is_err());
        assert!(packer.unpack(packed, 600).is_err());
    }
}
