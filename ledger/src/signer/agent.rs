//! An SSH agent that signs: the key stays in the agent, which may be OpenSSH's, a hardware token's or a vault's.
//!
//! The protocol is that of `draft-ietf-sshm-ssh-agent`: one SIGN_REQUEST, one answer. An `ssh-ed25519` signature is
//! plain Ed25519 over exactly the message, so that it is a note signature as it is.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use ed25519_dalek::VerifyingKey;

use super::{SIGNATURE_BYTES, Signer, SignerError};

const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const FAILURE: u8 = 5;
const ALGORITHM: &[u8] = b"ssh-ed25519";

/// Longest answer that is read; a signature takes 88 bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// Signs through the socket of an agent.
#[derive(Debug, Clone)]
pub struct AgentSigner {
    public: VerifyingKey,
    socket: PathBuf,
    timeout: Duration,
}

impl AgentSigner {
    /// Makes a signer of a public key and a socket.
    pub const fn new(public: VerifyingKey, socket: PathBuf, timeout: Duration) -> Self {
        Self { public, socket, timeout }
    }
}

impl Signer for AgentSigner {
    fn public(&self) -> VerifyingKey {
        self.public
    }

    fn sign_bytes(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SignerError> {
        let agent = |source| SignerError::Agent { path: self.socket.clone(), source };
        let request = request(&self.public, message).map_err(agent)?;
        let (done, answer) = channel();
        let (socket, timeout) = (self.socket.clone(), self.timeout);
        // In a thread of its own, because connecting to a socket whose owner does not accept has no deadline.
        std::thread::Builder::new()
            .name("signer-agent".to_owned())
            .spawn(move || drop(done.send(exchange(&socket, &request, timeout))))
            .map_err(agent)?;
        let timed_out = || SignerError::TimedOut {
            signer: self.name(),
            timeout_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let answer = match answer.recv_timeout(self.timeout) {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(timed_out());
            }
            Ok(Err(source)) => return Err(agent(source)),
            Err(_) => return Err(timed_out()),
        };
        if answer.first() == Some(&FAILURE) {
            return Err(SignerError::Refused { path: self.socket.clone() });
        }
        signature(&answer).ok_or_else(|| SignerError::Answer {
            signer: self.name(),
            detail: format!("an answer of {} bytes that is no `ssh-ed25519` signature", answer.len()),
        })
    }

    fn name(&self) -> String {
        self.socket.display().to_string()
    }
}

fn request(public: &VerifyingKey, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut key = Vec::new();
    put_string(&mut key, ALGORITHM)?;
    put_string(&mut key, public.as_bytes())?;
    let mut body = vec![SIGN_REQUEST];
    put_string(&mut body, &key)?;
    put_string(&mut body, message)?;
    body.extend([0; 4]);
    let mut frame = Vec::with_capacity(body.len() + 4);
    put_string(&mut frame, &body)?;
    Ok(frame)
}

fn exchange(socket: &Path, request: &[u8], timeout: Duration) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > ANSWER_BYTES_MAX {
        return Err(io::Error::other(format!("it announces an answer of {length} bytes")));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn put_string(to: &mut Vec<u8>, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("the message is too long"))?;
    to.extend(length.to_be_bytes());
    to.extend(bytes);
    Ok(())
}

fn take_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn signature(answer: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
    let (blob, rest) = take_string(answer.strip_prefix(&[SIGN_RESPONSE])?)?;
    let (algorithm, blob) = take_string(blob)?;
    let (signature, end) = take_string(blob)?;
    if algorithm != ALGORITHM || !end.is_empty() || !rest.is_empty() {
        return None;
    }
    signature.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::clock::SteppingEntropy;
    use crate::key::SigningKey;
    use crate::signer::sign_verified;

    const MESSAGE: &[u8] = b"ledger.example/test\n1\nroot\n";

    fn key() -> SigningKey {
        SigningKey::generate(&SteppingEntropy::default()).unwrap()
    }

    /// An agent that answers one request with what `answer` makes of its body.
    fn agent(
        answer: impl FnOnce(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<[u8; 64], SignerError> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
            stream.read_exact(&mut body).unwrap();
            match answer(&body) {
                Some(answer) => drop(stream.write_all(&answer)),
                // Says nothing until the other side gives up.
                None => drop(stream.read_to_end(&mut body)),
            }
        });
        let signer = AgentSigner::new(key().public(), socket, Duration::from_millis(500));
        let result = sign_verified(&signer, MESSAGE);
        server.join().unwrap();
        result
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        put_string(&mut frame, body).unwrap();
        frame
    }

    fn response(signature: &[u8], algorithm: &[u8]) -> Vec<u8> {
        let mut blob = Vec::new();
        put_string(&mut blob, algorithm).unwrap();
        put_string(&mut blob, signature).unwrap();
        let mut body = vec![SIGN_RESPONSE];
        put_string(&mut body, &blob).unwrap();
        framed(&body)
    }

    #[test]
    fn a_request_is_that_of_the_protocol_and_its_answer_a_signature() {
        let result = agent(|body| {
            let (blob, rest) = take_string(body.strip_prefix(&[SIGN_REQUEST])?)?;
            let (algorithm, public) = take_string(blob)?;
            let (message, flags) = take_string(rest)?;
            assert_eq!((algorithm, flags), (ALGORITHM, &[0; 4][..]));
            assert_eq!(take_string(public)?.0, key().public().as_bytes());
            Some(response(&key().sign(message), ALGORITHM))
        });
        assert_eq!(result.unwrap(), key().sign(MESSAGE));
    }

    #[test]
    fn whatever_else_it_answers_is_a_named_error() {
        assert!(matches!(agent(|_| Some(framed(&[FAILURE]))), Err(SignerError::Refused { .. })));
        assert!(matches!(agent(|_| Some(framed(b""))), Err(SignerError::Answer { .. })));
        assert!(matches!(agent(|_| Some(framed(b"hello"))), Err(SignerError::Answer { .. })));
        assert!(matches!(agent(|_| Some(response(&[0; 63], ALGORITHM))), Err(SignerError::Answer { .. })));
        assert!(matches!(agent(|_| Some(response(&[0; 64], b"ssh-rsa"))), Err(SignerError::Answer { .. })));
        let wrong = agent(|_| Some(response(&key().sign(b"something else"), ALGORITHM)));
        assert!(matches!(wrong, Err(SignerError::WrongSignature { .. })));
        let cut = agent(|_| Some(response(&[0; 64], ALGORITHM).split_off(20)));
        assert!(matches!(cut, Err(SignerError::Agent { .. })));
        assert!(matches!(agent(|_| Some(vec![255; 8])), Err(SignerError::Agent { .. })), "no endless answer");
        assert!(matches!(agent(|_| None), Err(SignerError::TimedOut { .. })));
        let missing = AgentSigner::new(key().public(), "/no/such.sock".into(), Duration::from_secs(1));
        assert!(matches!(missing.sign_bytes(b""), Err(SignerError::Agent { .. })));
    }
}
