//! `*.signer.toml`: how to reach a key that is not in a file.
//!
//! ```toml
//! public_key = "MCowBQYDK2VwAyEA…"        # base64: the 32 bytes, or the DER that `openssl pkey -pubout` writes
//! exec = ["/usr/local/bin/kms-sign", "--key", "verdict-log"]   # or:
//! # ssh_agent = "/run/verdict/agent.sock"
//! timeout_ms = 10000
//! ```

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::VerifyingKey;
use serde::Deserialize;

use super::{AgentSigner, ExecSigner, Signer};
use crate::key::{KEY_FILE_BYTES_MAX, KeyError, check_not_writable_by_others};

/// Deadlines in milliseconds: what is assumed, and what may be asked for.
const TIMEOUT_MS_DEFAULT: u64 = 10_000;
const TIMEOUT_MS_MAX: u64 = 120_000;

/// SubjectPublicKeyInfo of RFC 8410 up to the 32 bytes of the key.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a signer cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignerConfigError {
    /// The file cannot be read, or can be written by others.
    #[error(transparent)]
    File(#[from] KeyError),
    /// The file does not say how to sign.
    #[error("{}: {detail}", path.display())]
    Invalid {
        /// File.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    public_key: String,
    exec: Option<Vec<String>>,
    ssh_agent: Option<PathBuf>,
    timeout_ms: Option<u64>,
}

/// A parsed `*.signer.toml`.
#[derive(Debug, Clone)]
pub struct SignerConfig {
    public: VerifyingKey,
    way: Way,
    timeout: Duration,
}

#[derive(Debug, Clone)]
enum Way {
    Exec(Vec<String>),
    Agent(PathBuf),
}

impl SignerConfig {
    /// Reads a file. It says what program to run, so nobody but its owner may be able to write it.
    pub fn load(path: &Path) -> Result<Self, SignerConfigError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(io)?;
        check_not_writable_by_others(path, &file)?;
        let mut text = String::new();
        file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
        Self::parse(path, &text)
    }

    /// Parses a text; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SignerConfigError> {
        let invalid = |detail: String| SignerConfigError::Invalid { path: path.to_owned(), detail };
        let wire: Wire = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let public = public_key(&wire.public_key).map_err(|why| invalid(format!("`public_key` {why}")))?;
        let way = match (wire.exec, wire.ssh_agent) {
            (Some(command), None) => {
                // Not found by PATH: what signs must not depend on who started the ledger.
                if command.first().is_none_or(|program| !Path::new(program).is_absolute()) {
                    return Err(invalid("`exec` must begin with the absolute path of a program".to_owned()));
                }
                Way::Exec(command)
            }
            (None, Some(socket)) if socket.is_absolute() => Way::Agent(socket),
            (None, Some(_)) => return Err(invalid("`ssh_agent` must be an absolute path".to_owned())),
            _ => return Err(invalid("name one of `exec` and `ssh_agent`".to_owned())),
        };
        let timeout_ms = wire.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT);
        if timeout_ms == 0 || timeout_ms > TIMEOUT_MS_MAX {
            return Err(invalid(format!("`timeout_ms` must be 1 to {TIMEOUT_MS_MAX}")));
        }
        Ok(Self { public, way, timeout: Duration::from_millis(timeout_ms) })
    }

    /// Returns the public key.
    pub const fn public(&self) -> &VerifyingKey {
        &self.public
    }

    /// Makes the signer. Nothing is started or connected before something is to be signed.
    pub fn signer(&self) -> Arc<dyn Signer> {
        match &self.way {
            Way::Exec(command) => Arc::new(ExecSigner::new(self.public, command.clone(), self.timeout)),
            Way::Agent(socket) => Arc::new(AgentSigner::new(self.public, socket.clone(), self.timeout)),
        }
    }
}

fn public_key(text: &str) -> Result<VerifyingKey, &'static str> {
    let bytes = BASE64.decode(text.trim()).map_err(|_| "is not base64")?;
    let raw = bytes.strip_prefix(&SPKI_PREFIX).unwrap_or(&bytes);
    let raw: &[u8; 32] = raw.try_into().map_err(|_| "is not an Ed25519 key of 32 bytes, nor its DER")?;
    VerifyingKey::from_bytes(raw).map_err(|_| "is not a point on the curve")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppingEntropy;
    use crate::key::SigningKey;
    use std::os::unix::fs::PermissionsExt as _;

    fn parse(text: &str) -> Result<SignerConfig, String> {
        SignerConfig::parse(Path::new("log.signer.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_signer_is_a_program_or_an_agent_with_a_public_key() {
        let public = SigningKey::generate(&SteppingEntropy::default()).unwrap().public();
        let raw = BASE64.encode(public.as_bytes());
        let der = BASE64.encode([SPKI_PREFIX.as_slice(), public.as_bytes()].concat());
        for key in [&raw, &der] {
            let config = parse(&format!("public_key = '{key}'\nexec = ['/bin/sign', 'x']\n")).unwrap();
            assert_eq!(*config.public(), public);
            assert_eq!(config.signer().public(), public);
        }
        let agent =
            parse(&format!("public_key = '{raw}'\nssh_agent = '/run/a.sock'\ntimeout_ms = 5")).unwrap();
        assert!(agent.signer().is_external());
        for (text, says) in [
            (format!("public_key = '{raw}'"), "name one of `exec` and `ssh_agent`"),
            (format!("public_key = '{raw}'\nexec = []"), "absolute path of a program"),
            (format!("public_key = '{raw}'\nexec = ['sign']"), "absolute path of a program"),
            (format!("public_key = '{raw}'\nssh_agent = 'a.sock'"), "absolute path"),
            (format!("public_key = '{raw}'\nexec = ['/s']\nssh_agent = '/a'"), "name one of"),
            (format!("public_key = '{raw}'\nexec = ['/s']\ntimeout_ms = 0"), "`timeout_ms` must be"),
            (format!("public_key = '{raw}'\nexec = ['/s']\ntime = 1"), "unknown field"),
            ("public_key = 'AAAA'\nexec = ['/s']".to_owned(), "`public_key` is not an Ed25519 key"),
            ("public_key = '%'\nexec = ['/s']".to_owned(), "`public_key` is not base64"),
            ("exec = ['/s']".to_owned(), "missing field `public_key`"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with("log.signer.toml: ") && error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_runs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.signer.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        let error = SignerConfig::load(&path).unwrap_err();
        assert!(matches!(error, SignerConfigError::File(KeyError::Exposed { .. })), "{error}");
    }
}
