//! The little of DER that time stamp tokens and certificates need: one value after another, definite lengths.
//!
//! The crates for CMS and time stamps are pre-releases or not kept up, and their types would be more text than this
//! reader. It copies nothing, allocates nothing and cannot recurse.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// Context-specific, constructed: `[0]`, `[1]`, …
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DerError(pub(super) &'static str);

/// One value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    pub(super) bytes: &'a [u8],
    /// Tag and length too.
    pub(super) whole: &'a [u8],
}

impl<'a> Value<'a> {
    /// Reads what is inside.
    pub(super) const fn inside(self) -> Reader<'a> {
        Reader { rest: self.bytes }
    }
}

/// Reads values one after another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Tells the tag of the next value.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Reads the next value, whatever it is.
    pub(super) fn any(&mut self) -> Result<Value<'a>, DerError> {
        const CUT: DerError = DerError("it ends inside a value");
        let (&tag, rest) = self.rest.split_first().ok_or(CUT)?;
        if tag & 0x1f == 0x1f {
            return Err(DerError("it has a tag of more than one byte"));
        }
        let (&first, mut rest) = rest.split_first().ok_or(CUT)?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let count = usize::from(first & 0x7f);
            if count == 0 {
                return Err(DerError("it has a value of indefinite length, which DER does not allow"));
            }
            if count > 4 {
                return Err(DerError("it has a value of more than 4 GiB"));
            }
            let (digits, after) = rest.split_at_checked(count).ok_or(CUT)?;
            length = digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit));
            if length < 0x80 || digits.first() == Some(&0) {
                return Err(DerError("it has a length that is not the shortest one"));
            }
            rest = after;
        }
        let (bytes, after) = rest.split_at_checked(length).ok_or(CUT)?;
        let (whole, _) = self.rest.split_at(self.rest.len() - after.len());
        self.rest = after;
        Ok(Value { tag, bytes, whole })
    }

    /// Reads the next value, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8, missing: &'static str) -> Result<Value<'a>, DerError> {
        if self.peek() == Some(tag) { self.any() } else { Err(DerError(missing)) }
    }

    /// Reads the next value if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Value<'a>>, DerError> {
        if self.peek() == Some(tag) { self.any().map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_order_and_what_is_not_der_is_refused() {
        let mut reader = Reader::new(&[0x30, 0x03, 0x02, 0x01, 0x05, 0x04, 0x00]);
        let sequence = reader.any().unwrap();
        assert_eq!((sequence.tag, sequence.whole.len()), (SEQUENCE, 5));
        assert_eq!(sequence.inside().expect(INTEGER, "").unwrap().bytes, [5]);
        assert_eq!(reader.optional(INTEGER), Ok(None));
        assert!(reader.optional(OCTET_STRING).unwrap().unwrap().bytes.is_empty());
        assert!(reader.is_empty() && reader.any().is_err());

        let mut long = vec![0x04, 0x81, 0x80];
        long.extend([7; 0x80]);
        assert_eq!(Reader::new(&long).any().unwrap().bytes.len(), 0x80);
        for bad in [
            &[0x04][..],
            &[0x04, 0x01],
            &[0x04, 0x80, 0x00, 0x00],
            &[0x04, 0x81],
            &[0x04, 0x81, 0x01, 0x00],
            &[0x04, 0x82, 0x00, 0x80],
            &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x04, 0x85, 1, 1, 1, 1, 1],
            &[0x1f, 0x01, 0x00],
        ] {
            assert!(Reader::new(bad).any().is_err(), "{bad:x?}");
        }
    }
}
