//! OPA's bundle signatures: `.signatures.json`, a JWT that lists every file of the bundle with its hash.
//!
//! Verified when somebody names a key, never by themselves. The algorithm comes from the key, never from the token: a
//! token that chose its own could turn a public key into a secret. Every file of the bundle must be in the list with its
//! hash, and every file in the list must be in the bundle.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pkcs8::der::Document;
use pkcs8::spki::SubjectPublicKeyInfoRef;
use ring::{hmac, signature};
use serde::Deserialize;
use serde_json::Value;
use sha2::Digest as _;
use verdict_ledger::id::Digest;

use super::archive::is_ignored;
use super::bundle::{Bundle, MANIFEST_FILE, SIGNATURES_FILE};

/// Why a bundle's signature does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// There is no signature.
    #[error("the bundle has no {SIGNATURES_FILE}, so nothing says that it is what the key's owner signed")]
    Unsigned,
    /// The file is not what OPA writes.
    #[error("{SIGNATURES_FILE}: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// The key cannot be read.
    #[error("the verification key is not usable: {reason}")]
    Key {
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// The token is of another algorithm than the key.
    #[error("{SIGNATURES_FILE} is signed with {found} and the key is for {wanted}")]
    Algorithm {
        /// Algorithm in the token.
        found: String,
        /// Algorithm of the key.
        wanted: &'static str,
    },
    /// The token names another key.
    #[error("{SIGNATURES_FILE} is signed with the key `{found}` and not with `{wanted}`")]
    KeyId {
        /// Key id in the token.
        found: String,
        /// Key id that was asked for.
        wanted: String,
    },
    /// The token is for another scope.
    #[error("{SIGNATURES_FILE} is for the scope `{found}` and not for `{wanted}`")]
    Scope {
        /// Scope in the token.
        found: String,
        /// Scope that was asked for.
        wanted: String,
    },
    /// The signature is not of this key over this list.
    #[error(
        "the signature in {SIGNATURES_FILE} does not fit the key: another key signed it, or the list was changed"
    )]
    Wrong,
    /// A file that is not in the list.
    #[error("{file} is in the bundle and not in its signature: it was added after signing")]
    Extra {
        /// File.
        file: String,
    },
    /// A file that is only in the list.
    #[error("{file} is in the signature and not in the bundle: it was taken away after signing")]
    Missing {
        /// File.
        file: String,
    },
    /// A file with another hash.
    #[error(
        "{file} is not the file that was signed: its {algorithm} is {found} and the signature says {signed}"
    )]
    Changed {
        /// File.
        file: String,
        /// Hash algorithm.
        algorithm: String,
        /// Hash of the file.
        found: String,
        /// Hash in the list.
        signed: String,
    },
}

/// Signature algorithms, by their names in a JWT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA PKCS#1 1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 1.5 with SHA-512.
    Rs512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All that are verified.
    pub const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Returns the name in a JWT.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Finds an algorithm by its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    const fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    fn public(self) -> &'static dyn signature::VerificationAlgorithm {
        match self {
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::EdDsa => &signature::ED25519,
            Self::Rs256 | Self::Hs256 | Self::Hs384 | Self::Hs512 => &signature::RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// Who may have signed.
#[derive(Debug)]
pub struct Key {
    algorithm: Algorithm,
    material: Material,
    digest: Digest,
    /// Key id that the token must have, if any is asked for.
    id: Option<String>,
    scope: String,
}

enum Material {
    Secret(hmac::Key),
    Public(Vec<u8>),
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret",
            Self::Public(_) => "Public",
        })
    }
}

/// Object identifiers of the keys that are read, and the algorithm that each is for unless another is named.
const KEYS: [(&str, Option<&str>, Algorithm); 4] = [
    ("1.2.840.113549.1.1.1", None, Algorithm::Rs256),
    ("1.2.840.10045.2.1", Some("1.2.840.10045.3.1.7"), Algorithm::Es256),
    ("1.2.840.10045.2.1", Some("1.3.132.0.34"), Algorithm::Es384),
    ("1.3.101.112", None, Algorithm::EdDsa),
];

impl Key {
    /// Reads a key: a public key in PEM, or, for the HS algorithms, a secret. `algorithm` is what the key is for; a
    /// public key says so itself when none is named.
    pub fn read(
        bytes: &[u8],
        algorithm: Option<Algorithm>,
        id: Option<String>,
        scope: Option<String>,
    ) -> Result<Self, SignatureError> {
        let unusable = |reason: &str| SignatureError::Key { reason: reason.to_owned() };
        let (algorithm, material) = if let Some((algorithm, hmac)) =
            algorithm.and_then(|algorithm| Some((algorithm, algorithm.hmac()?)))
        {
            // Editors end a file with a line break, which nobody means to be part of a secret.
            let secret = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            if secret.is_empty() {
                return Err(unusable("the file is empty"));
            }
            if secret.starts_with(b"-----BEGIN") {
                return Err(unusable(
                    "it is in PEM, and a secret is not; name the algorithm of the public key",
                ));
            }
            (algorithm, Material::Secret(hmac::Key::new(hmac, secret)))
        } else {
            let text = std::str::from_utf8(bytes).map_err(|_| unusable("it is not PEM"))?;
            public(text, algorithm)?
        };
        Ok(Self { algorithm, material, digest: Digest::of(bytes), id, scope: scope.unwrap_or_default() })
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let fits = match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature),
            Material::Public(key) => {
                signature::UnparsedPublicKey::new(self.algorithm.public(), key).verify(message, signature)
            }
        };
        fits.map_err(|_| SignatureError::Wrong)
    }
}

fn public(text: &str, algorithm: Option<Algorithm>) -> Result<(Algorithm, Material), SignatureError> {
    let unusable = |reason: String| SignatureError::Key { reason };
    let (label, document) = Document::from_pem(text.trim()).map_err(|error| {
        unusable(format!("expected a public key in PEM ({error}); a secret needs an HS algorithm"))
    })?;
    let (natural, bytes) = match label {
        "RSA PUBLIC KEY" => (Algorithm::Rs256, document.as_bytes().to_vec()),
        "PUBLIC KEY" => {
            let info = SubjectPublicKeyInfoRef::try_from(document.as_bytes())
                .map_err(|error| unusable(format!("the PEM holds no public key ({error})")))?;
            let curve = info.algorithm.parameters_oid().ok().map(|oid| oid.to_string());
            let found = KEYS.iter().find(|(oid, parameters, _)| {
                info.algorithm.oid.to_string() == *oid
                    && (parameters.is_none() || curve.as_deref() == *parameters)
            });
            let (.., natural) = found.ok_or_else(|| {
                unusable(format!(
                    "it is of the type {}; RSA, P-256, P-384 and Ed25519 are verified",
                    info.algorithm.oid
                ))
            })?;
            (*natural, info.subject_public_key.raw_bytes().to_vec())
        }
        other => return Err(unusable(format!("the PEM holds `{other}`; expected `PUBLIC KEY`"))),
    };
    let algorithm = algorithm.unwrap_or(natural);
    let family = |algorithm: Algorithm| match algorithm {
        Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 | Algorithm::Rs384 | Algorithm::Rs512 => {
            Algorithm::Rs256
        }
        other => other,
    };
    if family(algorithm) != natural {
        return Err(unusable(format!("it is for {}, not for {}", natural.as_str(), algorithm.as_str())));
    }
    Ok((algorithm, Material::Public(bytes)))
}

/// A signature that holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Algorithm.
    pub algorithm: &'static str,
    /// Key id in the token; empty when it has none.
    pub key_id: String,
    /// SHA-256 of the key file.
    pub key: Digest,
}

#[derive(Deserialize)]
struct Signatures {
    signatures: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

#[derive(Deserialize)]
struct Payload {
    files: Vec<Signed>,
    #[serde(default)]
    keyid: String,
    #[serde(default)]
    scope: String,
}

#[derive(Deserialize)]
struct Signed {
    name: String,
    hash: String,
    algorithm: String,
}

/// Verifies the signature of a bundle: that the key signed the list, and that the list is the bundle.
pub fn verify(bundle: &Bundle, key: &Key) -> Result<Verified, SignatureError> {
    let malformed = |reason: String| SignatureError::Malformed { reason };
    let bytes = bundle.files().get(SIGNATURES_FILE).ok_or(SignatureError::Unsigned)?;
    let file: Signatures = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
    let [token] = file.signatures.as_slice() else {
        return Err(malformed(format!("it holds {} tokens; there must be one", file.signatures.len())));
    };
    let (message, signature) =
        token.rsplit_once('.').ok_or_else(|| malformed("the token is no JWT".to_owned()))?;
    let (header, payload) =
        message.split_once('.').ok_or_else(|| malformed("the token is no JWT".to_owned()))?;
    let decode = |what: &str, text: &str| {
        URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|error| malformed(format!("the {what} of the token is no base64url: {error}")))
    };
    let header: Header = serde_json::from_slice(&decode("header", header)?)
        .map_err(|error| malformed(format!("the header of the token: {error}")))?;
    if header.alg != key.algorithm.as_str() {
        return Err(SignatureError::Algorithm { found: header.alg, wanted: key.algorithm.as_str() });
    }
    // Before anything of the payload is believed.
    key.verify(message.as_bytes(), &decode("signature", signature)?)?;
    let payload: Payload = serde_json::from_slice(&decode("payload", payload)?)
        .map_err(|error| malformed(format!("the payload of the token: {error}")))?;
    let key_id = if header.kid.is_empty() { payload.keyid.clone() } else { header.kid };
    if let Some(wanted) = key.id.as_ref().filter(|wanted| **wanted != key_id) {
        return Err(SignatureError::KeyId { found: key_id, wanted: wanted.clone() });
    }
    if payload.scope != key.scope {
        return Err(SignatureError::Scope { found: payload.scope, wanted: key.scope.clone() });
    }
    compare(bundle, &payload.files)?;
    Ok(Verified { algorithm: key.algorithm.as_str(), key_id, key: key.digest })
}

fn compare(bundle: &Bundle, signed: &[Signed]) -> Result<(), SignatureError> {
    let mut listed = std::collections::BTreeMap::new();
    for entry in signed {
        let name = entry.name.strip_prefix('/').unwrap_or(&entry.name);
        if listed.insert(name, entry).is_some() {
            return Err(SignatureError::Malformed { reason: format!("the token lists {name} twice") });
        }
    }
    for (file, bytes) in bundle.files().iter().filter(|(file, _)| file.as_str() != SIGNATURES_FILE) {
        let entry =
            listed.remove(file.as_str()).ok_or_else(|| SignatureError::Extra { file: file.clone() })?;
        let found = hash(file, bytes, &entry.algorithm)?;
        if !found.eq_ignore_ascii_case(&entry.hash) {
            return Err(SignatureError::Changed {
                file: file.clone(),
                algorithm: entry.algorithm.clone(),
                found,
                signed: entry.hash.clone(),
            });
        }
    }
    // What no bundle holds, like hidden files, may have been signed all the same.
    match listed.into_keys().find(|file| !is_ignored(file)) {
        Some(file) => Err(SignatureError::Missing { file: file.to_owned() }),
        None => Ok(()),
    }
}

fn hash(file: &str, bytes: &[u8], algorithm: &str) -> Result<String, SignatureError> {
    let name = file.rsplit('/').next().unwrap_or(file);
    // OPA hashes what these files say and not how they are written.
    let canonical = if name == "data.json" || name == MANIFEST_FILE {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| SignatureError::Malformed { reason: format!("{file} is not JSON: {error}") })?;
        let mut out = String::new();
        write_canonical(&value, &mut out);
        out.into_bytes()
    } else {
        bytes.to_vec()
    };
    Ok(match algorithm {
        "SHA-256" => hex::encode(sha2::Sha256::digest(canonical)),
        "SHA-384" => hex::encode(sha2::Sha384::digest(canonical)),
        "SHA-512" => hex::encode(sha2::Sha512::digest(canonical)),
        "SHA-512-256" => hex::encode(sha2::Sha512_256::digest(canonical)),
        other => {
            return Err(SignatureError::Malformed {
                reason: format!(
                    "{file} is hashed with {other}; SHA-256, SHA-384, SHA-512 and SHA-512-256 are accepted"
                ),
            });
        }
    })
}

/// Writes JSON as OPA hashes it: keys sorted by their bytes, no blanks, and texts as Go's encoder writes them.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            // Whatever order the map keeps.
            let sorted: std::collections::BTreeMap<_, _> = members.iter().collect();
            out.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_text(key, out);
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::String(text) => write_text(text, out),
        single => out.push_str(&single.to_string()),
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn structured_files_are_hashed_as_go_writes_them() {
        let mut out = String::new();
        write_canonical(
            &json!({"b": [1, {"z": null, "a": true}], "a<&>": "\u{2028}\"\\\n\u{1}\u{7f}é"}),
            &mut out,
        );
        assert_eq!(out, "{\"a<&>\":\"\\u2028\\\"\\\\\\n\\u0001\u{7f}é\",\"b\":[1,{\"a\":true,\"z\":null}]}");
        assert_eq!(
            hash("x/data.json", b" { \"b\" : 1,\n\"a\":2 } ", "SHA-256").unwrap(),
            hash("data.json", b"{\"a\":2,\"b\":1}", "SHA-256").unwrap()
        );
        assert_ne!(
            hash("other.json", b"{ }", "SHA-256").unwrap(),
            hash("other.json", b"{}", "SHA-256").unwrap()
        );
        assert!(hash("x", b"", "MD5").unwrap_err().to_string().contains("hashed with MD5"));
    }
}
