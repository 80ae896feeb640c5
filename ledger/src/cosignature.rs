//! C2SP tlog-cosignature (<https://c2sp.org/tlog-cosignature>): what a witness says about a checkpoint.
//!
//! A cosignature is a note signature with a time in it. It states that at that time the largest consistent tree
//! that the witness had seen of this log has this root. The `cosignature/v1` form with Ed25519 (type 0x04) is what
//! the public witness network speaks. The ML-DSA-44 form (type 0x06) is recognised and refused by name; its lines
//! in a note are passed over like those of any key that the verifier does not have.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::VerifyingKey;

use crate::key::SigningKey;
use crate::note::{
    NoteError, NoteSignature, SignedNote, VerifierKey, ed25519_key, key_id, malformed, split_key,
};

/// Signature type of a timestamped Ed25519 cosignature.
const ED25519_COSIGNATURE: u8 = 0x04;
/// Signature type of a timestamped ML-DSA-44 cosignature.
const ML_DSA_44_COSIGNATURE: u8 = 0x06;
/// Latest time that the specification allows.
const TIME_MAX: u64 = i64::MAX.unsigned_abs();

/// The key that a witness is known by, `name+hash+base64(0x04 ‖ key)`.
#[derive(Clone, PartialEq, Eq)]
pub struct CosignerKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl CosignerKey {
    /// Names a public key. The name is not in what is signed, so that a key must never serve two names.
    pub fn new(name: &str, key: VerifyingKey) -> Result<Self, NoteError> {
        // The rules of names are those of every note key.
        VerifierKey::new(name, key)?;
        Ok(Self { name: name.to_owned(), id: key_id(name, ED25519_COSIGNATURE, key.as_bytes()), key })
    }

    /// Parses the text form.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let what = "witness key";
        let (name, id, algorithm, key) = split_key(text)?;
        match algorithm {
            ED25519_COSIGNATURE => {}
            ML_DSA_44_COSIGNATURE => {
                return Err(malformed(
                    what,
                    "ML-DSA-44 witness keys (type 0x06) are not supported yet; ask for the witness's Ed25519 key",
                ));
            }
            _ => return Err(malformed(what, "only Ed25519 witness keys (type 0x04) are supported")),
        }
        let parsed = Self::new(name, ed25519_key(&key)?)?;
        if hex::encode(parsed.id) != id {
            return Err(malformed(what, "the hash does not match name and key"));
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

    /// Tells whether a signature line is by this key; lines by other keys are to be ignored.
    pub fn is_of(&self, line: &NoteSignature) -> bool {
        line.name == self.name && line.id == self.id
    }

    /// Verifies one line over the text of a note and returns its time, Unix seconds.
    pub fn verify(&self, text: &str, line: &NoteSignature) -> Result<u64, NoteError> {
        let bad = || NoteError::BadSignature { key: self.name.clone() };
        if !self.is_of(line) {
            return Err(NoteError::Unsigned { key: self.name.clone() });
        }
        let (time, signature) = line.bytes.split_first_chunk::<8>().ok_or_else(bad)?;
        let signature: &[u8; 64] = signature.try_into().map_err(|_| bad())?;
        let time = u64::from_be_bytes(*time);
        if time > TIME_MAX {
            return Err(bad());
        }
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.key.verify_strict(message(text, time).as_bytes(), &signature).map_err(|_| bad())?;
        Ok(time)
    }

    /// Finds this key's cosignatures in a note and returns the latest time. One that does not verify spoils the
    /// note; none at all is [`NoteError::Unsigned`].
    pub fn time_in(&self, note: &SignedNote) -> Result<u64, NoteError> {
        let mut latest = None;
        for line in note.signatures.iter().filter(|line| self.is_of(line)) {
            latest = latest.max(Some(self.verify(&note.text, line)?));
        }
        latest.ok_or_else(|| NoteError::Unsigned { key: self.name.clone() })
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519_COSIGNATURE];
        key.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id), BASE64.encode(key))
    }
}

impl fmt::Debug for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosignerKey({self})")
    }
}

/// A witness's name and signing key.
#[derive(Debug, Clone)]
pub struct Cosigner {
    key: SigningKey,
    verifier: CosignerKey,
}

impl Cosigner {
    /// Names a signing key.
    pub fn new(name: &str, key: SigningKey) -> Result<Self, NoteError> {
        let verifier = CosignerKey::new(name, key.public())?;
        Ok(Self { key, verifier })
    }

    /// Returns what others verify with.
    pub const fn verifier(&self) -> &CosignerKey {
        &self.verifier
    }

    /// Cosigns the text of a note as of a time, Unix seconds.
    pub fn cosign(&self, text: &str, time: u64) -> NoteSignature {
        let time = time.min(TIME_MAX);
        let mut bytes = time.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.key.sign(message(text, time).as_bytes()));
        NoteSignature { name: self.verifier.name.clone(), id: self.verifier.id, bytes }
    }
}

/// The bytes that a cosignature signs.
fn message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Adds signature lines to a signed note; a line that is there already is not added again.
pub fn add_lines<'a>(note: &str, lines: impl IntoIterator<Item = &'a NoteSignature>) -> String {
    let mut cosigned = note.to_owned();
    for line in lines {
        let line = line.to_string();
        if !cosigned.lines().any(|there| there == line.trim_end()) {
            cosigned.push_str(&line);
        }
    }
    cosigned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppingEntropy;
    use crate::merkle;
    use crate::note::Checkpoint;

    /// The example of the specification.
    const SPEC: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

    /// RFC 8032 section 7.1, test 1: the one Ed25519 key that everybody can check a vector with.
    fn rfc8032() -> Cosigner {
        let mut seed = [0; 32];
        hex::decode_to_slice("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", &mut seed)
            .unwrap();
        Cosigner::new("witness.example.com/w1", SigningKey::from_seed(&seed)).unwrap()
    }

    #[test]
    fn the_example_of_the_specification_has_the_time_that_its_text_says() {
        let note = SignedNote::parse(SPEC).unwrap();
        let line = &note.signatures[1];
        assert_eq!((line.name.as_str(), hex::encode(line.id)), ("witness.example.com/w1", "8d66cf3f".into()));
        assert_eq!(u64::from_be_bytes(*line.bytes.first_chunk::<8>().unwrap()), 1_679_315_147);
        assert_eq!(line.bytes.len(), 72);
        let text = "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n\
                    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        assert_eq!(message(&note.text, 1_679_315_147), text);
        // The specification does not give the key, so that another key must not find its own line there.
        assert_eq!(
            rfc8032().verifier().time_in(&note),
            Err(NoteError::Unsigned { key: "witness.example.com/w1".into() })
        );
    }

    #[test]
    fn keys_of_other_implementations_are_read_and_written_back() {
        // A witness key in use, as the transparency-dev test data have it.
        let text = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
        let key = CosignerKey::parse(text).unwrap();
        assert_eq!((key.name(), key.to_string()), ("remora.n621.de", text.to_owned()));
        let refusals = [
            ("TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6", "type 0x04"),
            ("remora.n621.de+da77ade8+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2", "hash"),
            ("w+00000000+BgAA", "0x06"),
            ("w+00000000+", "empty"),
            ("w+00000000+!", "base64"),
            ("w+00000000", "name+hash"),
            ("", "name+hash"),
        ];
        for (bad, why) in refusals {
            let error = CosignerKey::parse(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn a_cosignature_with_a_public_key_is_the_same_everywhere() {
        let signer = rfc8032();
        let note = SignedNote::parse(SPEC).unwrap();
        let line = signer.cosign(&note.text, 1_679_315_147);
        // Computed with OpenSSL: `openssl pkeyutl -sign -rawin` over the message of the specification.
        assert_eq!(line.to_string(), GOLDEN);
        let parsed = NoteSignature::parse(GOLDEN.trim_end()).unwrap();
        assert_eq!(signer.verifier().verify(&note.text, &parsed), Ok(1_679_315_147));
    }

    const GOLDEN: &str = "— witness.example.com/w1 fm9KqgAAAABkGFDL+TPmh4BYuAjsYRoqMJCWb/gWJaeRF/kmm5tlCr9sJ57DLErur7K0yDXc2ArN+TIuotuB/HbuL3AJsp3bv/aNCQ==\n";

    #[test]
    fn a_cosigned_checkpoint_still_verifies_and_the_latest_time_counts() {
        let log = SigningKey::generate(&SteppingEntropy::default()).unwrap();
        let checkpoint =
            Checkpoint { origin: "ledger.example/t".into(), size: 1, root: merkle::leaf_hash(b"e") };
        let note = checkpoint.sign(&log).unwrap();
        let witness = rfc8032();
        let (first, second) = (witness.cosign(&checkpoint.text(), 5), witness.cosign(&checkpoint.text(), 9));
        let cosigned = add_lines(&add_lines(&note, [&first, &second]), [&first]);
        assert_eq!(cosigned.lines().count(), 7, "{cosigned}");
        let key = VerifierKey::new("ledger.example/t", log.public()).unwrap();
        assert_eq!(Checkpoint::verify(&cosigned, &key).unwrap(), checkpoint);
        let parsed = SignedNote::parse(&cosigned).unwrap();
        assert_eq!(witness.verifier().time_in(&parsed), Ok(9));
    }

    #[test]
    fn every_flipped_bit_of_a_cosignature_is_noticed() {
        let witness = rfc8032();
        let text = "ledger.example/t\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let line = witness.cosign(text, 1_679_315_147);
        for bit in 0..line.bytes.len() * 8 {
            let mut bad = line.clone();
            bad.bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(witness.verifier().verify(text, &bad).is_err(), "bit {bit}");
        }
        for (cut, length) in [(0, 0), (7, 7), (71, 71)] {
            let bad = NoteSignature { bytes: line.bytes[..cut].to_vec(), ..line.clone() };
            assert!(witness.verifier().verify(text, &bad).is_err(), "{length} bytes");
        }
    }
}
