//! The form of an API token: `verdict_`, 64 hexadecimal digits of randomness, 8 of a checksum.
//!
//! The prefix and the checksum let secret scanners find a leaked token and tell it from a made-up one without asking
//! the server. Only SHA-256 of the whole is kept: a token holds 256 random bits, so there is nothing to guess and a
//! slow password hash would only make every request slow.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use verdict_ledger::clock::{Entropy, EntropyError};
use zeroize::Zeroizing;

/// What every token starts with.
pub const PREFIX: &str = "verdict_";
/// Random bytes of a token.
const SECRET_BYTES: usize = 32;
/// Digits of the checksum.
const CHECK_DIGITS: usize = 8;
/// Length of a token.
pub const TOKEN_CHARS: usize = PREFIX.len() + 2 * SECRET_BYTES + CHECK_DIGITS;

/// A token. It is shown once, when it is made.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.digest().id())
    }
}

impl Token {
    /// Makes a new one.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self, EntropyError> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        entropy.fill(&mut *secret)?;
        let digits = Zeroizing::new(hex::encode(*secret));
        Ok(Self(Zeroizing::new(format!("{PREFIX}{}{:08x}", *digits, checksum(&digits)))))
    }

    /// Reads what somebody sent; `None` when it cannot be a token.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != TOKEN_CHARS || !digits.bytes().all(lower_hex) {
            return None;
        }
        let (secret, check) = digits.split_at(2 * SECRET_BYTES);
        (format!("{:08x}", checksum(secret)) == check).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// Returns the token, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns what is kept of it.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.0.as_bytes()).into())
    }
}

fn checksum(digits: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(digits.as_bytes());
    crc.sum()
}

/// What is kept of a token.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Reads the form in the token file.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// Returns the form in the token file.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Returns the first digits: what lists, logs and entries call the token by.
    pub fn id(&self) -> String {
        let mut digits = self.to_hex();
        digits.truncate(12);
        digits
    }

    /// Compares in a time that does not depend on the digests.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use verdict_ledger::clock::SteppingEntropy;

    #[test]
    fn a_token_is_read_back_and_a_changed_one_is_not() {
        let entropy = SteppingEntropy::starting_at(1);
        let token = Token::generate(&entropy).unwrap();
        let text = token.reveal().to_owned();
        assert!(text.starts_with("verdict_") && text.len() == TOKEN_CHARS, "{text}");
        assert!(Token::parse(&text).unwrap().digest().is(&token.digest()));
        assert!(!Token::generate(&entropy).unwrap().digest().is(&token.digest()));
        for (at, byte) in text.bytes().enumerate() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if byte == b'0' { b'1' } else { b'0' };
            assert!(Token::parse(std::str::from_utf8(&changed).unwrap()).is_none(), "position {at}");
        }
        for bad in ["", "verdict_", &text[1..], &text.to_uppercase(), &format!("{text}0"), "verdict_é"] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let token = Token::generate(&SteppingEntropy::starting_at(2)).unwrap();
        let shown = format!("{token:?} {:?}", token.digest());
        assert!(!shown.contains(&token.reveal()[8..40]) && shown.contains(&token.digest().id()), "{shown}");
        assert!(!shown.contains(&token.digest().to_hex()), "{shown}");
    }
}
