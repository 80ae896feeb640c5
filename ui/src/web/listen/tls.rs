//! TLS: certificate and key from files, and who a client certificate says its holder is.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// Longest name that is taken from a certificate.
const NAME_CHARS_MAX: usize = 256;

/// Files of TLS.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Certificates that client certificates must go back to; `None`: clients are not asked for any.
    pub client_ca: Option<PathBuf>,
    /// Whether a client without a certificate is refused.
    pub client_cert_required: bool,
}

impl TlsFiles {
    /// Names certificate and key.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { cert: cert.into(), key: key.into(), client_ca: None, client_cert_required: true }
    }
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {what} {}: {source}", path.display())]
    Io {
        /// What the file is.
        what: &'static str,
        /// File.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{what} {}: {detail}", path.display())]
    Form {
        /// What the file is.
        what: &'static str,
        /// File.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Everybody can read the private key.
    #[error(
        "TLS key {} can be read by everybody (mode {mode:04o}); take that away with `chmod o-rwx {}`",
        path.display(), path.display()
    )]
    Exposed {
        /// File.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// The settings of both ports.
#[derive(Debug, Clone)]
pub struct Tls {
    pub(crate) http: Arc<ServerConfig>,
    pub(crate) grpc: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let what = "TLS certificate";
        let chain = certificates(what, &files.cert)?;
        let key = private_key(&files.key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let bad = |what: &'static str, path: &Path, error: &dyn std::fmt::Display| TlsError::Form {
            what,
            path: path.to_owned(),
            detail: error.to_string(),
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(what, &files.cert, &error))?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("client CA", path)? {
                    roots.add(certificate).map_err(|error| bad("client CA", path, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if files.client_cert_required {
                    verifier.build()
                } else {
                    verifier.allow_unauthenticated().build()
                };
                builder.with_client_cert_verifier(verifier.map_err(|error| bad("client CA", path, &error))?)
            }
        };
        let mut http = builder
            .with_single_cert(chain, key)
            .map_err(|error| bad("TLS certificate and key", &files.cert, &error))?;
        let mut grpc = http.clone();
        http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        grpc.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { http: Arc::new(http), grpc: Arc::new(grpc) })
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(what, path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let form = |detail: String| TlsError::Form { what, path: path.to_owned(), detail };
    let all = all.map_err(|error| form(format!("is not PEM: {error}")))?;
    if all.is_empty() { Err(form("holds no certificate in PEM form".to_owned())) } else { Ok(all) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "TLS key";
    let text = zeroize::Zeroizing::new(read(what, path)?);
    let io = |source| TlsError::Io { what, path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(io)?.permissions().mode() & 0o7777;
    // Groups are let through: that is how keys are handed to containers.
    if mode & 0o007 != 0 {
        return Err(TlsError::Exposed { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| TlsError::Form {
        what,
        path: path.to_owned(),
        // The error may tell lengths and labels, never contents.
        detail: format!("holds no private key in PEM form: {error}"),
    })
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Io { what, path: path.to_owned(), source })
}

/// Returns who a client certificate says its holder is: the first URI in it (a SPIFFE id), else the first DNS name,
/// else the first mail address, else the subject.
pub(super) fn name(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let names = alternative.as_ref().map(|extension| extension.value.general_names.as_slice());
    let rank = |name: &GeneralName<'_>| match name {
        GeneralName::URI(text) => Some((0, (*text).to_owned())),
        GeneralName::DNSName(text) => Some((1, (*text).to_owned())),
        GeneralName::RFC822Name(text) => Some((2, (*text).to_owned())),
        _ => None,
    };
    let best = names.unwrap_or_default().iter().filter_map(rank).min_by_key(|(rank, _)| *rank);
    let name = best.map_or_else(|| parsed.subject().to_string(), |(_, name)| name);
    let name: String = name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    (!name.is_empty()).then(|| Arc::from(name))
}
