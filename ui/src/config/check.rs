//! Start-up checks: everything that settings name is looked at before anything is opened or listened on, so that a
//! mistake is one clear message and not a server that fails later.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{AuthMode, Config, Loaded};
use crate::auth::gate::Gate;
use crate::auth::store::{StoreError, TokenFile};
use crate::web::{Tls, TlsError, TlsFiles};

/// Largest file of headers.
const HEADERS_BYTES_MAX: u64 = 64 << 10;

/// What settings name, read and found good.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ready {
    /// TLS.
    pub tls: Option<Tls>,
    /// Who may do what.
    pub gate: Option<Arc<Gate>>,
    /// Headers of the requests with the server's own spans.
    pub telemetry_headers: Vec<(String, Secret)>,
}

/// A text that is not shown.
#[derive(Clone)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// Returns the text, to be sent and not shown.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The address can be reached by others and nobody would be asked who they are.
    #[error("refusing to listen on {listen}: without authentication only loopback addresses are served")]
    Open {
        /// Address.
        listen: std::net::SocketAddr,
    },
    /// Spans of the server would come back to it, and make new ones.
    #[error("telemetry.endpoint {endpoint} is this server; send its own spans elsewhere")]
    Loop {
        /// Endpoint.
        endpoint: String,
    },
    /// The ledger directory cannot be written.
    #[error("cannot write into {}: {source}", path.display())]
    Unwritable {
        /// Directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token file.
    #[error(transparent)]
    Tokens(#[from] StoreError),
    /// The file of headers cannot be read.
    #[error("cannot read telemetry.headers_file {}: {source}", path.display())]
    Headers {
        /// File.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The file of headers is not one.
    #[error("telemetry.headers_file {}: {detail}", path.display())]
    HeadersForm {
        /// File.
        path: PathBuf,
        /// What is wrong; never what the file holds.
        detail: String,
    },
}

/// Looks at everything that the settings name. `ledger` is where the ledger lies.
pub fn check(loaded: &Loaded, ledger: &Path) -> Result<Ready, CheckError> {
    let config = &loaded.config;
    let open = [Some(config.listen), config.grpc_listen].into_iter().flatten();
    if let Some(listen) = open.filter(|address| !address.ip().is_loopback()).find(|_| !loaded.is_guarded()) {
        return Err(CheckError::Open { listen });
    }
    if let Some(endpoint) = config.telemetry_endpoint.as_ref().filter(|endpoint| is_own(endpoint, config)) {
        return Err(CheckError::Loop { endpoint: endpoint.clone() });
    }
    let tls = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => {
            let mut files = TlsFiles::new(cert, key);
            files.client_ca.clone_from(&config.client_ca);
            files.client_cert_required = config.client_cert_required;
            Some(Tls::load(&files)?)
        }
        _ => None,
    };
    let gate = if loaded.is_guarded() {
        let file = config.tokens.as_ref().map_or_else(|| TokenFile::of_ledger(ledger), TokenFile::new);
        // Beside a certificate a token is an extra; without one it is the only way in, and the file need not be there
        // yet: tokens may be made while the server runs.
        let scopes = config.client_scopes.clone();
        Some(Arc::new(Gate::open(file, scopes)?))
    } else {
        None
    };
    let guards_by_token = config.auth == AuthMode::Token;
    let telemetry_headers = match &config.telemetry_headers {
        Some(path) => headers(path)?,
        None => Vec::new(),
    };
    // A directory that is not there is told by opening the ledger, with the way out.
    if ledger.is_dir() {
        writable(ledger)?;
    }
    if let (true, Some(gate)) = (guards_by_token, &gate)
        && let Some(dir) = gate.file().path().parent().filter(|dir| !dir.as_os_str().is_empty())
    {
        writable(dir)?;
    }
    Ok(Ready { tls, gate, telemetry_headers })
}

/// Tells whether a URL names a port of this server on this machine, as far as its text tells.
fn is_own(endpoint: &str, config: &Config) -> bool {
    let Ok(uri) = endpoint.parse::<axum::http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let address: Option<std::net::IpAddr> = host.parse().ok();
    let is_here =
        host.eq_ignore_ascii_case("localhost") || address.is_some_and(|address| address.is_loopback());
    let mut own = [Some(config.listen), config.grpc_listen].into_iter().flatten();
    own.any(|listen| {
        let same = address == Some(listen.ip());
        listen.port() == port
            && (same || (is_here && (listen.ip().is_loopback() || listen.ip().is_unspecified())))
    })
}

/// Tells whether files can be made in a directory, by making one.
fn writable(dir: &Path) -> Result<(), CheckError> {
    let path = dir.join(format!(".verdict-{}.probe", std::process::id()));
    let probe = fs::File::create(&path).and_then(|_| fs::remove_file(&path));
    probe.map_err(|source| CheckError::Unwritable { path: dir.to_owned(), source })
}

fn headers(path: &Path) -> Result<Vec<(String, Secret)>, CheckError> {
    let io = |source| CheckError::Headers { path: path.to_owned(), source };
    let form = |detail: String| CheckError::HeadersForm { path: path.to_owned(), detail };
    let file = fs::File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(form(format!(
            "can be read by everybody (mode {mode:04o}); take that away with `chmod o-rwx {}`",
            path.display()
        )));
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    file.take(HEADERS_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let pair = line.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
        match pair {
            Some((name, value)) if axum::http::HeaderName::try_from(name).is_ok() && !value.is_empty() => {
                all.push((name.to_owned(), Secret(zeroize::Zeroizing::new(value.to_owned()))));
            }
            _ => return Err(form(format!("line {} is not `Name: value`", number + 1))),
        }
    }
    Ok(all)
}
