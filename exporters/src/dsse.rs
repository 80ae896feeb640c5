//! DSSE envelopes and the Sigstore form of the same.
//!
//! A signature covers the payload and its type and nothing else of the JSON around them. The envelope is therefore
//! written in one form only, and a reader rebuilds that form and compares, so that no byte of the file is free.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Type of an in-toto Statement in an envelope.
pub(crate) const IN_TOTO: &str = "application/vnd.in-toto+json";
const SIGSTORE_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// SubjectPublicKeyInfo of RFC 8410 up to the 32 bytes of the key.
const ED25519_SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A DSSE envelope with one signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: [Signature; 1],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
}

#[derive(Serialize)]
struct SigstoreBundle<'a> {
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    #[serde(rename = "verificationMaterial")]
    verification_material: VerificationMaterial<'a>,
    #[serde(rename = "dsseEnvelope")]
    dsse_envelope: &'a Envelope,
}

#[derive(Serialize)]
struct VerificationMaterial<'a> {
    #[serde(rename = "publicKey")]
    public_key: PublicKeyHint<'a>,
}

#[derive(Serialize)]
struct PublicKeyHint<'a> {
    hint: &'a str,
}

impl Envelope {
    /// Wraps a signature over [`pae`] of the payload.
    pub(crate) fn new(payload: &[u8], key_id: String, signature: &[u8; 64]) -> Self {
        Self {
            payload: STANDARD.encode(payload),
            payload_type: IN_TOTO.to_owned(),
            signatures: [Signature { keyid: key_id, sig: STANDARD.encode(signature) }],
        }
    }

    /// Writes the one form that an envelope has.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        line(self)
    }

    /// Writes the same as a Sigstore bundle v0.3 whose key is a hint.
    pub(crate) fn to_sigstore(&self) -> Result<Vec<u8>, serde_json::Error> {
        line(&SigstoreBundle {
            media_type: SIGSTORE_MEDIA_TYPE,
            verification_material: VerificationMaterial { public_key: PublicKeyHint { hint: self.key_id() } },
            dsse_envelope: self,
        })
    }

    /// Reads an envelope; `Err` says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes)
            .map_err(|error| format!("not a DSSE envelope with one signature: {error}"))
    }

    /// Returns the payload, its type and the signature.
    pub(crate) fn parts(&self) -> Result<(Vec<u8>, &str, [u8; 64]), String> {
        let payload = STANDARD.decode(&self.payload).map_err(|error| format!("payload: {error}"))?;
        let signature = STANDARD.decode(&self.signature().sig).map_err(|error| format!("sig: {error}"))?;
        let signature = signature.try_into().map_err(|bytes: Vec<u8>| {
            format!("sig: an Ed25519 signature has 64 bytes, this has {}", bytes.len())
        })?;
        Ok((payload, &self.payload_type, signature))
    }

    /// Returns the key id that the envelope claims.
    pub(crate) fn key_id(&self) -> &str {
        &self.signature().keyid
    }

    const fn signature(&self) -> &Signature {
        let [signature] = &self.signatures;
        signature
    }
}

/// Writes the pre-authentication encoding, the bytes that are signed.
pub(crate) fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend(payload);
    out
}

/// Writes an Ed25519 key as DER SubjectPublicKeyInfo, as `openssl` and WebCrypto take it.
pub(crate) fn spki(public: &[u8; 32]) -> Vec<u8> {
    [ED25519_SPKI_PREFIX.as_slice(), public].concat()
}

/// Names a key as the Sigstore tools do: SHA-256 of its SubjectPublicKeyInfo, hex.
pub(crate) fn key_id(public: &[u8; 32]) -> String {
    hex::encode(Sha256::digest(spki(public)))
}

fn line(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pae_is_as_the_specification_shows_it() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn an_envelope_has_one_form() {
        let envelope = Envelope::new(b"{}", key_id(&[7; 32]), &[1; 64]);
        let bytes = envelope.to_bytes().unwrap();
        assert_eq!(Envelope::parse(&bytes).unwrap(), envelope);
        assert_eq!(envelope.parts().unwrap(), (b"{}".to_vec(), IN_TOTO, [1; 64]));
        assert!(Envelope::parse(br#"{"payload":"","payloadType":"x","signatures":[]}"#).is_err());
        let sigstore: serde_json::Value = serde_json::from_slice(&envelope.to_sigstore().unwrap()).unwrap();
        assert_eq!(sigstore["verificationMaterial"]["publicKey"]["hint"], key_id(&[7; 32]));
    }
}
