//! What signs: a key in memory, a program, or an SSH agent.
//!
//! A checkpoint and a bundle do not care which. Whatever signs, each signature is verified against the public key that
//! the ledger's entries name before it is used, so that a broken or bribed signer can delay a checkpoint and nothing
//! else.

mod agent;
mod config;
mod exec;

use std::fmt;
use std::io;
use std::path::PathBuf;

use ed25519_dalek::VerifyingKey;

use crate::key::SigningKey;
pub use agent::AgentSigner;
pub use config::{SignerConfig, SignerConfigError};
pub use exec::ExecSigner;

/// Bytes of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// The program cannot be started.
    #[error("cannot start the signer `{program}`")]
    Start {
        /// Program.
        program: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The program failed.
    #[error("the signer `{program}` ended with {status}")]
    Failed {
        /// Program.
        program: String,
        /// Exit status.
        status: String,
    },
    /// The agent cannot be spoken to.
    #[error("cannot speak to the signing agent at {}", path.display())]
    Agent {
        /// Socket.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The agent does not sign: it has not got the key, or asks somebody who said no.
    #[error("the agent at {} refused to sign; has it got the key?", path.display())]
    Refused {
        /// Socket.
        path: PathBuf,
    },
    /// No answer in time.
    #[error("the signer `{signer}` gave no answer within {timeout_ms} ms")]
    TimedOut {
        /// Signer.
        signer: String,
        /// Deadline.
        timeout_ms: u64,
    },
    /// The answer is not a signature.
    #[error("the signer `{signer}` gave {detail}")]
    Answer {
        /// Signer.
        signer: String,
        /// What it gave.
        detail: String,
    },
    /// The answer is a signature, and not one by this key over these bytes.
    #[error("the signer `{signer}` gave a signature that does not verify with {public}")]
    WrongSignature {
        /// Signer.
        signer: String,
        /// Public key, hex.
        public: String,
    },
}

/// Signs with one key.
pub trait Signer: Send + Sync + fmt::Debug {
    /// Returns the public key that signatures verify with.
    fn public(&self) -> VerifyingKey;

    /// Signs exactly these bytes. The result is not trusted yet: call [`sign_verified`].
    fn sign_bytes(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SignerError>;

    /// Names the signer in messages.
    fn name(&self) -> String;

    /// Tells whether signing waits for something outside this process, so that nobody who appends may wait for it.
    fn is_external(&self) -> bool {
        true
    }
}

impl Signer for SigningKey {
    fn public(&self) -> VerifyingKey {
        Self::public(self)
    }

    fn sign_bytes(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SignerError> {
        Ok(self.sign(message))
    }

    fn name(&self) -> String {
        "key file".to_owned()
    }

    fn is_external(&self) -> bool {
        false
    }
}

/// Signs and verifies. For a key in memory too: a signature that was computed wrongly once (a flipped bit, a fault that
/// somebody caused) gives the private key away to whoever reads it.
pub fn sign_verified(signer: &dyn Signer, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SignerError> {
    let signature = signer.sign_bytes(message)?;
    let parsed = ed25519_dalek::Signature::from_bytes(&signature);
    let public = signer.public();
    if public.verify_strict(message, &parsed).is_err() {
        let public = hex::encode(public.as_bytes());
        return Err(SignerError::WrongSignature { signer: signer.name(), public });
    }
    Ok(signature)
}
