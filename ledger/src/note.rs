//! C2SP signed notes, tlog checkpoints and tlog proofs (<https://c2sp.org>), byte for byte.
//!
//! A note is text and signature lines; a checkpoint is a note whose text is origin, size and root. Verifiers
//! ignore signatures by keys that they do not know, so that keys can rotate and witnesses can cosign.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};

use crate::merkle::{self, Hash, ProofError};
use crate::signer::{Signer, SignerError, sign_verified};
use crate::tile::decimal;

/// Signature type of a plain Ed25519 note signature.
const ED25519: u8 = 0x01;

/// Longest note that is parsed.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;

/// Most signature lines that are parsed (C2SP asks for at least 16; cosigned checkpoints stay far below).
const SIGNATURES_MAX: usize = 100;

/// Why a note, checkpoint, proof or key is not one, or does not verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text is not of the form that the specification asks for.
    #[error("not a valid {what}: {why}")]
    Malformed {
        /// What was parsed.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// No signature by the key that the verifier gave.
    #[error("no signature by `{key}`")]
    Unsigned {
        /// Name of the key.
        key: String,
    },
    /// A signature by the verifier's key does not verify.
    #[error("the signature by `{key}` does not verify")]
    BadSignature {
        /// Name of the key.
        key: String,
    },
    /// The checkpoint belongs to another log.
    #[error("checkpoint of log `{got}`, expected `{want}`")]
    Origin {
        /// Origin in the checkpoint.
        got: String,
        /// Origin expected.
        want: String,
    },
    /// The Merkle proof does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// Why a checkpoint was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The origin cannot name a key, or what is to be signed is no checkpoint.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The signer gave no signature.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

pub(crate) const fn malformed(what: &'static str, why: &'static str) -> NoteError {
    NoteError::Malformed { what, why }
}

/// Tells whether a text can name a key: not empty, no Unicode spaces, no plus.
pub fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// Computes the key hash that signature lines carry.
pub(crate) fn key_id(name: &str, algorithm: u8, key: &[u8]) -> [u8; 4] {
    let digest = Sha256::new()
        .chain_update(name.as_bytes())
        .chain_update([b'\n', algorithm])
        .chain_update(key)
        .finalize();
    let mut id = [0; 4];
    for (to, from) in id.iter_mut().zip(digest) {
        *to = from;
    }
    id
}

/// Splits the text form of a key of any type into name, hash, type and key.
pub(crate) fn split_key(text: &str) -> Result<(&str, &str, u8, Vec<u8>), NoteError> {
    let what = "verifier key";
    let mut parts = text.trim().splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(malformed(what, "expected name+hash+base64"));
    };
    let bytes = BASE64.decode(key).map_err(|_| malformed(what, "the key is not base64"))?;
    let Some((algorithm, key)) = bytes.split_first() else {
        return Err(malformed(what, "the key is empty"));
    };
    Ok((name, id, *algorithm, key.to_vec()))
}

/// Reads an Ed25519 public key.
pub(crate) fn ed25519_key(bytes: &[u8]) -> Result<VerifyingKey, NoteError> {
    let what = "verifier key";
    let raw = bytes.try_into().map_err(|_| malformed(what, "an Ed25519 key has 32 bytes"))?;
    VerifyingKey::from_bytes(raw).map_err(|_| malformed(what, "not a point on the curve"))
}

/// An Ed25519 note verifier key, `name+hash+base64(type ‖ key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl VerifierKey {
    /// Names a public key. The name must satisfy [`is_key_name`].
    pub fn new(name: &str, key: VerifyingKey) -> Result<Self, NoteError> {
        if !is_key_name(name) {
            return Err(malformed("verifier key", "the name is empty or holds a space or a plus sign"));
        }
        Ok(Self { name: name.to_owned(), id: key_id(name, ED25519, key.as_bytes()), key })
    }

    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, id, algorithm, key) = split_key(text)?;
        if algorithm != ED25519 {
            return Err(malformed("verifier key", "only Ed25519 keys (type 0x01) are supported"));
        }
        let parsed = Self::new(name, ed25519_key(&key)?)?;
        if hex::encode(parsed.id) != id {
            return Err(malformed("verifier key", "the hash does not match name and key"));
        }
        Ok(parsed)
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the key hash that signature lines carry.
    pub const fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Returns the public key.
    pub const fn public(&self) -> &VerifyingKey {
        &self.key
    }

    /// Verifies an Ed25519 signature over bytes.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id), BASE64.encode(key))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl serde::Serialize for VerifierKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One signature line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// Key hash.
    pub id: [u8; 4],
    /// Signature, whose form depends on the key.
    pub bytes: Vec<u8>,
}

impl NoteSignature {
    /// Parses one signature line, without its newline.
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let what = "signed note";
        let rest = line
            .strip_prefix("— ")
            .ok_or(malformed(what, "a signature line does not start with an em dash"))?;
        let (name, encoded) =
            rest.split_once(' ').ok_or(malformed(what, "a signature line has no signature"))?;
        let bytes = BASE64.decode(encoded).map_err(|_| malformed(what, "a signature is not base64"))?;
        let Some((id, signature)) = bytes.split_first_chunk::<4>() else {
            return Err(malformed(what, "a signature is too short"));
        };
        if !is_key_name(name) || signature.is_empty() {
            return Err(malformed(what, "a signature line has no key name or no signature"));
        }
        Ok(Self { name: name.to_owned(), id: *id, bytes: signature.to_vec() })
    }
}

/// Writes the line, with its newline.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.id.to_vec();
        bytes.extend_from_slice(&self.bytes);
        writeln!(f, "— {} {}", self.name, BASE64.encode(bytes))
    }
}

/// A parsed note; nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    /// Signed text, with its final newline.
    pub text: String,
    /// Signature lines.
    pub signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// Parses a note.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        let what = "signed note";
        if note.len() > NOTE_BYTES_MAX {
            return Err(malformed(what, "longer than 64 KiB"));
        }
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(malformed(what, "holds a control character"));
        }
        let split = note.rfind("\n\n").ok_or(malformed(what, "no blank line before the signatures"))?;
        let (text, lines) = note.split_at(split + 1);
        let lines = lines.strip_prefix('\n').unwrap_or(lines);
        if !lines.ends_with('\n') {
            return Err(malformed(what, "does not end with a newline"));
        }
        let mut signatures = Vec::new();
        for line in lines.lines() {
            if signatures.len() == SIGNATURES_MAX {
                return Err(malformed(what, "more than 100 signatures"));
            }
            signatures.push(NoteSignature::parse(line)?);
        }
        if signatures.is_empty() {
            return Err(malformed(what, "no signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Verifies the signature by one key; signatures by other keys are ignored.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let mut seen = false;
        for signature in self.signatures.iter().filter(|line| line.name == key.name && line.id == key.id) {
            seen = true;
            let bytes: Result<&[u8; 64], _> = signature.bytes.as_slice().try_into();
            if !bytes.is_ok_and(|bytes| key.verifies(self.text.as_bytes(), bytes)) {
                return Err(NoteError::BadSignature { key: key.name.clone() });
            }
        }
        if seen { Ok(()) } else { Err(NoteError::Unsigned { key: key.name.clone() }) }
    }
}

/// The statement of a log about itself: so many entries, this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
}

impl Checkpoint {
    /// Writes the note text.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.0))
    }

    /// Signs; the key's name is the origin.
    pub fn sign(&self, key: &dyn Signer) -> Result<String, SignError> {
        let line = self.signature_line(key)?;
        Ok(format!("{}\n{line}", self.text()))
    }

    /// Signs a note that is signed already, by another key or by a witness, and appends the signature. A note that
    /// this key has signed is returned as it is.
    pub fn add_signature(note: &str, key: &dyn Signer) -> Result<String, SignError> {
        let checkpoint = Self::from_text(&SignedNote::parse(note)?.text)?;
        match Self::verify(note, &VerifierKey::new(&checkpoint.origin, key.public())?) {
            Ok(_) => Ok(note.to_owned()),
            Err(NoteError::Unsigned { .. }) => Ok(format!("{note}{}", checkpoint.signature_line(key)?)),
            Err(error) => Err(error.into()),
        }
    }

    fn signature_line(&self, key: &dyn Signer) -> Result<String, SignError> {
        let verifier = VerifierKey::new(&self.origin, key.public())?;
        let mut signature = verifier.id.to_vec();
        signature.extend_from_slice(&sign_verified(key, self.text().as_bytes())?);
        Ok(format!("— {} {}\n", self.origin, BASE64.encode(signature)))
    }

    /// Parses the text of a note.
    pub fn from_text(text: &str) -> Result<Self, NoteError> {
        let what = "checkpoint";
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(malformed(what, "expected origin, size and root on three lines"));
        };
        if origin.is_empty() {
            return Err(malformed(what, "the origin is empty"));
        }
        let canonical = size == "0" || (!size.starts_with('0') && size.bytes().all(|b| b.is_ascii_digit()));
        let size = if canonical { size.parse().ok() } else { None };
        let size = size.ok_or(malformed(what, "the size is not a decimal number without leading zeros"))?;
        let root = BASE64.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let root = Hash(root.ok_or(malformed(what, "the root is not 32 bytes of base64"))?);
        Ok(Self { origin: origin.to_owned(), size, root })
    }

    /// Parses a signed checkpoint and verifies it with the verifier's key, whose name must be the origin.
    pub fn verify(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        let note = SignedNote::parse(note)?;
        let checkpoint = Self::from_text(&note.text)?;
        if checkpoint.origin != key.name {
            return Err(NoteError::Origin { got: checkpoint.origin, want: key.name.clone() });
        }
        note.verify(key)?;
        Ok(checkpoint)
    }
}

/// A C2SP tlog-proof: one entry's place under one checkpoint, in one text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Position of the entry.
    pub index: u64,
    /// Sibling hashes from the leaf up.
    pub hashes: Vec<Hash>,
    /// Signed checkpoint.
    pub checkpoint: String,
}

impl TlogProof {
    const HEADER: &str = "c2sp.org/tlog-proof@v1";

    /// Parses the file; an `extra` line is accepted and ignored, as the specification asks.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let what = "tlog proof";
        if text.len() > 2 * NOTE_BYTES_MAX {
            return Err(malformed(what, "too long"));
        }
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or(malformed(what, "no blank line before the checkpoint"))?;
        // Not `lines`, which would take a carriage return for a part of the line's end.
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(Self::HEADER) {
            return Err(malformed(what, "the first line is not c2sp.org/tlog-proof@v1"));
        }
        if let Some(extra) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            BASE64.decode(extra).map_err(|_| malformed(what, "the extra data is not base64"))?;
            lines.next();
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let index = index.ok_or(malformed(what, "no `index` line with a number without leading zeros"))?;
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == 64 {
                return Err(malformed(what, "more than 64 hashes"));
            }
            let hash = BASE64.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            hashes.push(Hash(hash.ok_or(malformed(what, "a hash is not 32 bytes of base64"))?));
        }
        Ok(Self { index, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// Verifies the checkpoint with the verifier's key and the entry's bytes against it.
    pub fn verify(&self, entry: &[u8], key: &VerifierKey) -> Result<Checkpoint, NoteError> {
        let checkpoint = Checkpoint::verify(&self.checkpoint, key)?;
        let leaf = merkle::leaf_hash(entry);
        merkle::verify_inclusion(self.index, checkpoint.size, &leaf, &self.hashes, &checkpoint.root)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nindex {}", Self::HEADER, self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", BASE64.encode(hash.0))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppingEntropy;
    use crate::key::SigningKey;

    fn signed() -> (String, VerifierKey, SigningKey) {
        let key = SigningKey::generate(&SteppingEntropy::default()).unwrap();
        let origin = "ledger.example/test";
        let checkpoint = Checkpoint { origin: origin.into(), size: 1, root: merkle::leaf_hash(b"entry") };
        let note = checkpoint.sign(&key).unwrap();
        (note, VerifierKey::new(origin, key.public()).unwrap(), key)
    }

    #[test]
    fn checkpoint_verifies_here_and_with_an_independent_implementation() {
        let (note, key, _) = signed();
        assert_eq!(Checkpoint::verify(&note, &key).unwrap().size, 1);
        assert_eq!(VerifierKey::parse(&key.to_string()).unwrap(), key);

        let theirs = signed_note::StandardVerifier::new(&key.to_string()).unwrap();
        let verifiers = signed_note::VerifierList::new(vec![Box::new(theirs)]);
        let parsed = signed_note::Note::from_bytes(note.as_bytes()).unwrap();
        let (verified, _) = parsed.verify(&verifiers).unwrap();
        assert_eq!(verified.len(), 1);
    }

    #[test]
    fn every_flipped_bit_of_a_checkpoint_is_refused() {
        let (note, key, _) = signed();
        for position in 0..note.len() * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[position / 8] ^= 1 << (position % 8);
            let refused = match String::from_utf8(bytes) {
                Err(_) => true,
                Ok(text) => Checkpoint::verify(&text, &key).is_err(),
            };
            assert!(refused, "bit {position} of\n{note}");
        }
    }

    #[test]
    fn unknown_signatures_are_ignored_and_missing_ones_named() {
        let (note, key, signer) = signed();
        let cosigned = format!("{note}— witness.example/w {}\n", BASE64.encode([7u8; 76]));
        assert!(Checkpoint::verify(&cosigned, &key).is_ok());
        let other = VerifierKey::new(
            "ledger.example/test",
            SigningKey::generate(&SteppingEntropy::starting_at(9)).unwrap().public(),
        )
        .unwrap();
        assert_eq!(
            Checkpoint::verify(&note, &other),
            Err(NoteError::Unsigned { key: "ledger.example/test".into() })
        );
        let renamed = VerifierKey::new("elsewhere", signer.public()).unwrap();
        assert!(matches!(Checkpoint::verify(&note, &renamed), Err(NoteError::Origin { .. })));
    }

    #[test]
    fn tlog_proof_round_trips_and_verifies() {
        let (note, key, _) = signed();
        let proof = TlogProof { index: 0, hashes: vec![], checkpoint: note };
        let text = proof.to_string();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 0\n\nledger.example/test\n1\n"), "{text}");
        let parsed = TlogProof::parse(&text).unwrap();
        assert_eq!(parsed, proof);
        assert!(parsed.verify(b"entry", &key).is_ok());
        assert!(parsed.verify(b"other", &key).is_err());
        let extra = text.replacen("@v1\n", "@v1\nextra AAAA\n", 1);
        assert_eq!(TlogProof::parse(&extra).unwrap(), proof);
        for (from, to) in [
            ("index 0", "index 00"),
            ("index 0", "index +0"),
            ("index 0\n", "index 0\r\n"),
            ("@v1\n", "@v1\nextra ?\n"),
        ] {
            assert!(TlogProof::parse(&text.replacen(from, to, 1)).is_err(), "{to:?}");
        }
    }
}
