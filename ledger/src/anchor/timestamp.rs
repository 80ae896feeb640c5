//! RFC 3161: a time stamp authority says when it saw a checkpoint.
//!
//! The request is over SHA-256 of the whole note. A response is checked for what it is about: granted, our imprint,
//! our nonce. Its signature is checked with the certificate of the authority that the verifier gives. That
//! certificate is pinned: no chain is built and no revocation list is asked. `openssl ts -verify -data NOTE -in
//! RESPONSE -CAfile ROOTS` does both with the same two files.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::digest;
use ring::signature as sig;
use sha2::{Digest as _, Sha256};

use super::der::{
    BIT_STRING, BOOLEAN, DerError, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, SET,
    UTC_TIME, UTF8_STRING, Value, context,
};

/// Content type of a request.
pub const QUERY_CONTENT_TYPE: &str = "application/timestamp-query";
/// Content type of a response.
pub const REPLY_CONTENT_TYPE: &str = "application/timestamp-reply";
/// Longest response that is read.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;

/// Object identifiers, without tag and length.
mod oid {
    pub(super) const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
    pub(super) const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
    pub(super) const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];
    pub(super) const SHA512: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03];
    pub(super) const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    pub(super) const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];
    pub(super) const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
    pub(super) const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
    pub(super) const SIGNING_CERTIFICATE: &[u8] =
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x0c];
    pub(super) const SIGNING_CERTIFICATE_V2: &[u8] =
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x2f];
    pub(super) const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    pub(super) const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
    pub(super) const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
    pub(super) const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
    pub(super) const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    pub(super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    pub(super) const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
    pub(super) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    pub(super) const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
    pub(super) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    pub(super) const TIME_STAMPING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
}

/// Why a response, token or certificate does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimestampError {
    /// Not the bytes of one.
    #[error("not a {what}: {source}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong.
        source: DerError,
    },
    /// The authority did not stamp.
    #[error("the time stamp authority refused with status {status}{}", reason(text))]
    Status {
        /// PKI status.
        status: u8,
        /// What it wrote.
        text: String,
    },
    /// The token is about something else.
    #[error("the token stamps other bytes than the checkpoint")]
    Imprint,
    /// The token answers another request.
    #[error("the token answers another request: its nonce is not the one that was sent")]
    Nonce,
    /// The signature does not hold.
    #[error("the token's signature does not hold: {0}")]
    Signature(&'static str),
    /// An algorithm that is not known here.
    #[error("{0} is not supported here; check the token with `openssl ts -verify`")]
    Unsupported(&'static str),
}

fn reason(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

fn malformed(what: &'static str) -> impl Fn(DerError) -> TimestampError {
    move |source| TimestampError::Malformed { what, source }
}

/// Writes a request to stamp a note. The nonce is changed so that it is a positive number of eight bytes; the request
/// and what [`Timestamp::parse`] is to be given come back.
pub fn request(note: &[u8], mut nonce: [u8; 8]) -> (Vec<u8>, [u8; 8]) {
    let [first, ..] = &mut nonce;
    *first = (*first & 0x7f) | 0x40;
    let mut body = vec![INTEGER, 1, 1, SEQUENCE, 49, SEQUENCE, 13, OID, 9];
    body.extend_from_slice(oid::SHA256);
    body.extend_from_slice(&[0x05, 0, OCTET_STRING, 32]);
    body.extend_from_slice(&Sha256::digest(note));
    body.extend_from_slice(&[INTEGER, 8]);
    body.extend_from_slice(&nonce);
    // certReq: the token is to bring its certificate, so that an auditor needs nothing but the root.
    body.extend_from_slice(&[BOOLEAN, 1, 0xff]);
    let mut request = vec![SEQUENCE, u8::try_from(body.len()).unwrap_or(u8::MAX)];
    request.append(&mut body);
    (request, nonce)
}

/// A time stamp response that is about what it should be about. Its signature is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    /// When, RFC 3339 UTC, as precise as the authority said.
    pub time: String,
    /// Serial number of the token, hexadecimal.
    pub serial: String,
    /// Policy of the authority, dotted.
    pub policy: String,
    response: Vec<u8>,
    /// The time as digits, for comparisons.
    moment: String,
}

impl Timestamp {
    /// Reads a response to a request over `note`; `nonce` is the one that was sent, `None` when that is long past.
    pub fn parse(response: &[u8], note: &[u8], nonce: Option<[u8; 8]>) -> Result<Self, TimestampError> {
        let parts = Parts::read(response)?;
        let mut info = Reader::new(parts.content);
        let what = malformed("time stamp");
        let mut info = info.expect(SEQUENCE, "it has no TSTInfo").map_err(&what)?.inside();
        let mut next = |tag, missing| info.expect(tag, missing).map_err(&what);
        next(INTEGER, "it has no version")?;
        let policy = dotted(next(OID, "it has no policy")?.bytes);
        let mut imprint = next(SEQUENCE, "it has no message imprint")?.inside();
        let serial = hex::encode(next(INTEGER, "it has no serial number")?.bytes);
        let moment = next(GENERALIZED_TIME, "it has no time")?.bytes;
        let algorithm = algorithm(&mut imprint).map_err(&what)?;
        let hash = imprint.expect(OCTET_STRING, "it has no hash").map_err(&what)?.bytes;
        if algorithm != oid::SHA256 || hash != Sha256::digest(note).as_slice() {
            return Err(TimestampError::Imprint);
        }
        // Accuracy and ordering stand between time and nonce, both optional.
        info.optional(SEQUENCE).map_err(&what)?;
        info.optional(BOOLEAN).map_err(&what)?;
        let got = info.optional(INTEGER).map_err(&what)?;
        if nonce.is_some_and(|nonce| got.is_none_or(|got| got.bytes != nonce)) {
            return Err(TimestampError::Nonce);
        }
        let (time, moment) =
            generalized(moment).ok_or(DerError("its time is not one in UTC")).map_err(&what)?;
        Ok(Self { time, serial, policy, response: response.to_vec(), moment })
    }

    /// Returns the response as it came, the file that `openssl ts -verify -in` reads.
    pub fn response(&self) -> &[u8] {
        &self.response
    }

    /// Checks the signature with the authority's own certificate: the token names it, the certificate is for time
    /// stamping and was valid at that time, and its key signed the content.
    pub fn verify(&self, certificate: &Certificate) -> Result<(), TimestampError> {
        let parts = Parts::read(&self.response)?;
        let signer = &parts.signer;
        if signer.issuer_and_serial.is_some_and(|named| named != certificate.issuer_and_serial()) {
            return Err(TimestampError::Signature("it was made with another certificate"));
        }
        let attributes = Attributes::read(signer.attributes)?;
        let hash = digest_of(signer.digest)?;
        if attributes.content_type != oid::TST_INFO {
            return Err(TimestampError::Signature("what was signed is no time stamp"));
        }
        if digest::digest(hash, parts.content).as_ref() != attributes.message_digest {
            return Err(TimestampError::Signature("the content is not the one that was signed"));
        }
        let (hash, want) = attributes.certificate;
        if digest::digest(hash, &certificate.der).as_ref() != want {
            return Err(TimestampError::Signature("it was made with another certificate"));
        }
        if !certificate.time_stamping {
            return Err(TimestampError::Signature("the certificate is not for time stamping"));
        }
        if self.moment < certificate.not_before || self.moment > certificate.not_after {
            return Err(TimestampError::Signature("the certificate was not valid at that time"));
        }
        // Signed is the set of attributes as a set, not under the tag that it has in the token.
        let mut message = signer.attributes.whole.to_vec();
        if let Some(tag) = message.first_mut() {
            *tag = SET;
        }
        let verifier = certificate.verifier(signer.signature_algorithm, signer.digest)?;
        sig::UnparsedPublicKey::new(verifier, &certificate.key)
            .verify(&message, signer.signature)
            .map_err(|_| TimestampError::Signature("the certificate's key did not make it"))
    }
}

/// The parts of a response that mean something here.
struct Parts<'a> {
    /// Encoded TSTInfo.
    content: &'a [u8],
    signer: Signer<'a>,
}

struct Signer<'a> {
    /// Issuer and serial number, whole; `None` when the signer is named by its key identifier.
    issuer_and_serial: Option<(&'a [u8], &'a [u8])>,
    digest: &'a [u8],
    attributes: Value<'a>,
    signature_algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn read(response: &'a [u8]) -> Result<Self, TimestampError> {
        let what = malformed("time stamp response");
        let mut outer = Reader::new(response);
        let mut response = outer.expect(SEQUENCE, "it is no sequence").map_err(&what)?.inside();
        if !outer.is_empty() {
            return Err(what(DerError("bytes follow it")));
        }
        let status = response.expect(SEQUENCE, "it has no status").map_err(&what)?;
        check_status(status).map_err(&what)??;
        let token = response.expect(SEQUENCE, "it is granted and has no token").map_err(&what)?;
        Self::of_token(token).map_err(malformed("time stamp token"))
    }

    fn of_token(token: Value<'a>) -> Result<Self, DerError> {
        let mut token = token.inside();
        if token.expect(OID, "it has no content type")?.bytes != oid::SIGNED_DATA {
            return Err(DerError("it is not signed data"));
        }
        let mut explicit = token.expect(context(0), "it has no content")?.inside();
        let mut data = explicit.expect(SEQUENCE, "it has no signed data")?.inside();
        data.expect(INTEGER, "it has no version")?;
        data.expect(SET, "it has no digest algorithms")?;
        let mut encapsulated = data.expect(SEQUENCE, "it has no encapsulated content")?.inside();
        if encapsulated.expect(OID, "its content has no type")?.bytes != oid::TST_INFO {
            return Err(DerError("its content is not a time stamp"));
        }
        let mut explicit = encapsulated.expect(context(0), "its content is detached")?.inside();
        let content = explicit.expect(OCTET_STRING, "its content is detached")?.bytes;
        data.optional(context(0))?;
        data.optional(context(1))?;
        let mut signers = data.expect(SET, "it has no signers")?.inside();
        let mut signer = signers.expect(SEQUENCE, "nobody signed it")?.inside();
        if !signers.is_empty() {
            return Err(DerError("it has more than one signer"));
        }
        signer.expect(INTEGER, "its signer has no version")?;
        let named = signer.any()?;
        let issuer_and_serial = if named.tag == SEQUENCE {
            let mut named = named.inside();
            let issuer = named.expect(SEQUENCE, "its signer has no issuer")?.whole;
            Some((issuer, named.expect(INTEGER, "its signer has no serial number")?.bytes))
        } else {
            None
        };
        let digest = algorithm(&mut signer)?;
        let attributes = signer.expect(context(0), "it has no signed attributes")?;
        let signature_algorithm = algorithm(&mut signer)?;
        let signature = signer.expect(OCTET_STRING, "it has no signature")?.bytes;
        let signer = Signer { issuer_and_serial, digest, attributes, signature_algorithm, signature };
        Ok(Self { content, signer })
    }
}

/// Longest text of an authority that is repeated.
const TEXT_CHARS_MAX: usize = 200;

fn check_status(status: Value<'_>) -> Result<Result<(), TimestampError>, DerError> {
    let mut status = status.inside();
    let code = match status.expect(INTEGER, "it has no status")?.bytes {
        // 0 is granted, 1 granted with changes that the request allows.
        [0 | 1] => return Ok(Ok(())),
        [code] => *code,
        _ => return Err(DerError("its status is not a small number")),
    };
    let mut text = String::new();
    if let Some(texts) = status.optional(SEQUENCE)? {
        let mut texts = texts.inside();
        while !texts.is_empty() {
            let part = texts.expect(UTF8_STRING, "its status text is not text")?.bytes;
            text.push_str(&String::from_utf8_lossy(part));
        }
    }
    let text = text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect();
    Ok(Err(TimestampError::Status { status: code, text }))
}

/// Reads an AlgorithmIdentifier and returns its object identifier.
fn algorithm<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DerError> {
    let mut identifier = reader.expect(SEQUENCE, "it has no algorithm")?.inside();
    Ok(identifier.expect(OID, "its algorithm has no name")?.bytes)
}

fn digest_of(algorithm: &[u8]) -> Result<&'static digest::Algorithm, TimestampError> {
    match algorithm {
        oid::SHA256 => Ok(&digest::SHA256),
        oid::SHA384 => Ok(&digest::SHA384),
        oid::SHA512 => Ok(&digest::SHA512),
        _ => Err(TimestampError::Unsupported("the token's digest")),
    }
}

/// The signed attributes that RFC 3161 and RFC 5816 ask for.
struct Attributes<'a> {
    content_type: &'a [u8],
    message_digest: &'a [u8],
    /// Digest of the signer's certificate, and with what.
    certificate: (&'static digest::Algorithm, &'a [u8]),
}

impl<'a> Attributes<'a> {
    fn read(attributes: Value<'a>) -> Result<Self, TimestampError> {
        let what = malformed("time stamp token");
        let (mut content_type, mut message_digest, mut certificate) = (None, None, None);
        let mut attributes = attributes.inside();
        while !attributes.is_empty() {
            let attribute = attributes.expect(SEQUENCE, "an attribute is no sequence").map_err(&what)?;
            let mut attribute = attribute.inside();
            let name = attribute.expect(OID, "an attribute has no name").map_err(&what)?.bytes;
            let values = attribute.expect(SET, "an attribute has no values").map_err(&what)?;
            let mut value = values.inside();
            match name {
                oid::CONTENT_TYPE => {
                    content_type =
                        Some(value.expect(OID, "its content type is no name").map_err(&what)?.bytes);
                }
                oid::MESSAGE_DIGEST => {
                    let digest = value.expect(OCTET_STRING, "its digest is no string").map_err(&what)?;
                    message_digest = Some(digest.bytes);
                }
                // The second version wins: the first can only hold SHA-1.
                oid::SIGNING_CERTIFICATE_V2 => certificate = Some(Self::certificate(value, None)?),
                oid::SIGNING_CERTIFICATE if certificate.is_none() => {
                    certificate = Some(Self::certificate(value, Some(&digest::SHA1_FOR_LEGACY_USE_ONLY))?);
                }
                _ => {}
            }
        }
        match (content_type, message_digest, certificate) {
            (Some(content_type), Some(message_digest), Some(certificate)) => {
                Ok(Self { content_type, message_digest, certificate })
            }
            _ => Err(TimestampError::Signature("a signed attribute that RFC 3161 asks for is missing")),
        }
    }

    /// Reads the first certificate identifier, the signer's own.
    fn certificate(
        mut value: Reader<'a>,
        first_version: Option<&'static digest::Algorithm>,
    ) -> Result<(&'static digest::Algorithm, &'a [u8]), TimestampError> {
        let what = malformed("time stamp token");
        let missing = "it names no certificate";
        let mut list = value.expect(SEQUENCE, missing).map_err(&what)?.inside();
        let mut list = list.expect(SEQUENCE, missing).map_err(&what)?.inside();
        let mut identifier = list.expect(SEQUENCE, missing).map_err(&what)?.inside();
        let algorithm = match first_version {
            Some(algorithm) => algorithm,
            None if identifier.peek() == Some(SEQUENCE) => {
                match algorithm(&mut identifier).map_err(&what)? {
                    oid::SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
                    other => digest_of(other)?,
                }
            }
            None => &digest::SHA256,
        };
        Ok((algorithm, identifier.expect(OCTET_STRING, missing).map_err(&what)?.bytes))
    }
}

/// The certificate of a time stamp authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    issuer: Vec<u8>,
    serial: Vec<u8>,
    not_before: String,
    not_after: String,
    /// Object identifier of the kind of key, and of its curve.
    key_kind: (Vec<u8>, Vec<u8>),
    key: Vec<u8>,
    time_stamping: bool,
}

impl Certificate {
    /// Reads a certificate, PEM or DER; the first one when a PEM file holds several.
    pub fn parse(bytes: &[u8]) -> Result<Self, TimestampError> {
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
        const END: &str = "-----END CERTIFICATE-----";
        let what = malformed("certificate");
        let pem = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once(BEGIN));
        let der = match pem {
            None => bytes.to_vec(),
            Some((_, rest)) => {
                let (encoded, _) = rest.split_once(END).ok_or(DerError("it has no end")).map_err(&what)?;
                let encoded: String = encoded.split_ascii_whitespace().collect();
                BASE64.decode(encoded).map_err(|_| what(DerError("it is not base64")))?
            }
        };
        Self::of_der(&der).map_err(what)
    }

    fn of_der(der: &[u8]) -> Result<Self, DerError> {
        let mut outer = Reader::new(der).expect(SEQUENCE, "it is no sequence")?.inside();
        let mut body = outer.expect(SEQUENCE, "it has no body")?.inside();
        body.optional(context(0))?;
        let serial = body.expect(INTEGER, "it has no serial number")?.bytes.to_vec();
        body.expect(SEQUENCE, "it has no algorithm")?;
        let issuer = body.expect(SEQUENCE, "it has no issuer")?.whole.to_vec();
        let mut validity = body.expect(SEQUENCE, "it has no validity")?.inside();
        let (not_before, not_after) = (moment(validity.any()?)?, moment(validity.any()?)?);
        body.expect(SEQUENCE, "it has no subject")?;
        let mut key_info = body.expect(SEQUENCE, "it has no key")?.inside();
        let mut kind = key_info.expect(SEQUENCE, "its key has no kind")?.inside();
        let algorithm = kind.expect(OID, "its key has no kind")?.bytes.to_vec();
        let curve = kind.optional(OID)?.map(|curve| curve.bytes.to_vec()).unwrap_or_default();
        let key = match key_info.expect(BIT_STRING, "it has no key")?.bytes {
            [0, key @ ..] => key.to_vec(),
            _ => return Err(DerError("its key is not whole bytes")),
        };
        body.optional(0x81)?;
        body.optional(0x82)?;
        let mut time_stamping = false;
        if let Some(explicit) = body.optional(context(3))? {
            let mut extensions = explicit.inside().expect(SEQUENCE, "its extensions are no list")?.inside();
            while !extensions.is_empty() {
                let mut extension = extensions.expect(SEQUENCE, "an extension is no sequence")?.inside();
                let name = extension.expect(OID, "an extension has no name")?.bytes;
                extension.optional(BOOLEAN)?;
                let value = extension.expect(OCTET_STRING, "an extension has no value")?.bytes;
                if name == oid::EXTENDED_KEY_USAGE {
                    let mut uses = Reader::new(value).expect(SEQUENCE, "its key usage is no list")?.inside();
                    while !uses.is_empty() {
                        time_stamping |=
                            uses.expect(OID, "a key usage has no name")?.bytes == oid::TIME_STAMPING;
                    }
                }
            }
        }
        let key_kind = (algorithm, curve);
        Ok(Self { der: der.to_vec(), issuer, serial, not_before, not_after, key_kind, key, time_stamping })
    }

    fn issuer_and_serial(&self) -> (&[u8], &[u8]) {
        (&self.issuer, &self.serial)
    }

    /// Chooses how to verify by the kind of key and the algorithm that the token names.
    fn verifier(
        &self,
        signature: &[u8],
        digest: &[u8],
    ) -> Result<&'static dyn sig::VerificationAlgorithm, TimestampError> {
        let (kind, curve) = (self.key_kind.0.as_slice(), self.key_kind.1.as_slice());
        Ok(match (kind, curve, signature, digest) {
            (oid::RSA, _, oid::RSA_SHA256, _) | (oid::RSA, _, oid::RSA, oid::SHA256) => {
                &sig::RSA_PKCS1_2048_8192_SHA256
            }
            (oid::RSA, _, oid::RSA_SHA384, _) | (oid::RSA, _, oid::RSA, oid::SHA384) => {
                &sig::RSA_PKCS1_2048_8192_SHA384
            }
            (oid::RSA, _, oid::RSA_SHA512, _) | (oid::RSA, _, oid::RSA, oid::SHA512) => {
                &sig::RSA_PKCS1_2048_8192_SHA512
            }
            (oid::EC, oid::P256, oid::ECDSA_SHA256, _) => &sig::ECDSA_P256_SHA256_ASN1,
            (oid::EC, oid::P256, oid::ECDSA_SHA384, _) => &sig::ECDSA_P256_SHA384_ASN1,
            (oid::EC, oid::P384, oid::ECDSA_SHA256, _) => &sig::ECDSA_P384_SHA256_ASN1,
            (oid::EC, oid::P384, oid::ECDSA_SHA384, _) => &sig::ECDSA_P384_SHA384_ASN1,
            _ => return Err(TimestampError::Unsupported("the certificate's kind of key and signature")),
        })
    }
}

/// Reads a time of a certificate as fourteen digits.
fn moment(value: Value<'_>) -> Result<String, DerError> {
    let bad = DerError("a time is not one in UTC");
    let text = std::str::from_utf8(value.bytes).map_err(|_| bad)?;
    let digits = match value.tag {
        GENERALIZED_TIME => text.to_owned(),
        // RFC 5280: two digits of a year are those of 1950 to 2049.
        UTC_TIME => {
            format!("{}{text}", if text.as_bytes().first().is_some_and(|c| *c >= b'5') { 19 } else { 20 })
        }
        _ => return Err(bad),
    };
    generalized(digits.as_bytes()).map(|(_, moment)| moment).ok_or(bad)
}

/// Reads `YYYYMMDDhhmmss[.fraction]Z`; returns RFC 3339 and the digits before the fraction.
fn generalized(bytes: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() != 14 || !digits(whole) || !digits(fraction) || text.ends_with('.') {
        return None;
    }
    let mut time = String::with_capacity(32);
    for (position, digit) in whole.chars().enumerate() {
        match position {
            4 | 6 => time.push('-'),
            8 => time.push('T'),
            10 | 12 => time.push(':'),
            _ => {}
        }
        time.push(digit);
    }
    if !fraction.is_empty() {
        time.push('.');
        time.push_str(fraction);
    }
    time.push('Z');
    // A month of 13 is digits too.
    time.parse::<jiff::Timestamp>().ok()?;
    Some((time, whole.to_owned()))
}

/// Writes an object identifier with dots.
fn dotted(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut arc = 0u64;
    for byte in bytes {
        arc = (arc << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        if text.is_empty() {
            let first = (arc / 40).min(2);
            let _ = write!(text, "{first}.{}", arc - first * 40);
        } else {
            let _ = write!(text, ".{arc}");
        }
        arc = 0;
    }
    text
}

#[cfg(test)]
mod tests;
