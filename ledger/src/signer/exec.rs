//! A program that signs: the message on its standard input, the signature on its standard output.
//!
//! The answer is the 64 bytes of the signature, or their base64, with or without a line feed. The program must end
//! with status 0 before the deadline; at the deadline it is killed together with everything that it started.

use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::VerifyingKey;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{SIGNATURE_BYTES, Signer, SignerError};

/// More than this is no signature in any form.
const ANSWER_BYTES_MAX: u64 = 1024;

/// Signs by running a program.
#[derive(Debug, Clone)]
pub struct ExecSigner {
    public: VerifyingKey,
    command: Vec<String>,
    timeout: Duration,
}

impl ExecSigner {
    /// Makes a signer of a public key and a command.
    pub const fn new(public: VerifyingKey, command: Vec<String>, timeout: Duration) -> Self {
        Self { public, command, timeout }
    }

    fn program(&self) -> String {
        self.command.first().cloned().unwrap_or_default()
    }

    fn start(&self) -> std::io::Result<Child> {
        let (program, arguments) =
            self.command.split_first().ok_or_else(|| std::io::Error::other("no program"))?;
        Command::new(program)
            .args(arguments)
            .env("VERDICT_PUBLIC_KEY", BASE64.encode(self.public.as_bytes()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // What it complains about belongs into the log of whoever runs the ledger.
            .stderr(Stdio::inherit())
            // A group of its own, so that a hanging script does not leave its children behind.
            .process_group(0)
            .spawn()
    }

    fn run(&self, message: &[u8]) -> Result<(Vec<u8>, ExitStatus), SignerError> {
        let start = |source| SignerError::Start { program: self.program(), source };
        let child = self.start().map_err(start)?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let (done, answer) = channel();
        let reaped = Arc::new(Mutex::new(false));
        let (message, flag) = (message.to_vec(), Arc::clone(&reaped));
        std::thread::Builder::new()
            .name("signer-exec".to_owned())
            .spawn(move || attend(child, pid, message, &flag, &done))
            .map_err(start)?;
        match answer.recv_timeout(self.timeout) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(start(source)),
            Err(_) => {
                // While the flag is held the process is not reaped, so its number is nobody else's.
                let reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
                if let (false, Some(pid)) = (*reaped, pid) {
                    // A group that is gone already is what was wanted.
                    let _ = kill_process_group(pid, Signal::KILL);
                }
                let timeout_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
                Err(SignerError::TimedOut { signer: self.program(), timeout_ms })
            }
        }
    }
}

type Answer = std::io::Result<(Vec<u8>, ExitStatus)>;

/// Feeds the program, reads its answer and waits for its end.
fn attend(mut child: Child, pid: Option<Pid>, message: Vec<u8>, reaped: &Mutex<bool>, done: &Sender<Answer>) {
    if let Some(mut stdin) = child.stdin.take() {
        // Beside the reading: a program that answers before it has read everything must not block both. One that
        // does not read at all is judged by its answer.
        let feed = move || drop(stdin.write_all(&message));
        if let Err(error) = std::thread::Builder::new().name("signer-stdin".to_owned()).spawn(feed) {
            let _ = child.kill();
            let _ = done.send(Err(error));
        }
    }
    let mut output = Vec::new();
    let read = match child.stdout.take() {
        Some(stdout) => stdout.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut output),
        None => Ok(0),
    };
    // Waits without reaping, and reaps under the flag: see `run`.
    if let Some(pid) = pid {
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    }
    let status = {
        let mut reaped = reaped.lock().unwrap_or_else(PoisonError::into_inner);
        *reaped = true;
        child.wait()
    };
    // Nobody listens after the deadline.
    let _ = done.send(read.and_then(|_| Ok((output, status?))));
}

impl Signer for ExecSigner {
    fn public(&self) -> VerifyingKey {
        self.public
    }

    fn sign_bytes(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], SignerError> {
        let (output, status) = self.run(message)?;
        if !status.success() {
            return Err(SignerError::Failed { program: self.program(), status: status.to_string() });
        }
        signature(&output).ok_or_else(|| SignerError::Answer {
            signer: self.program(),
            detail: format!("{} bytes that are neither 64 bytes nor their base64", output.len()),
        })
    }

    fn name(&self) -> String {
        self.program()
    }
}

fn signature(output: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
    if let Ok(raw) = output.try_into() {
        return Some(raw);
    }
    BASE64.decode(output.trim_ascii()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;
    use crate::clock::SteppingEntropy;
    use crate::key::SigningKey;
    use crate::signer::sign_verified;

    const MESSAGE: &[u8] = b"ledger.example/test\n1\nroot\n";

    fn script(dir: &Path, text: &str) -> Vec<String> {
        let path = dir.join("sign.sh");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        vec![path.display().to_string(), "argument with spaces".to_owned()]
    }

    fn sign(text: &str, timeout_ms: u64) -> Result<[u8; 64], SignerError> {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate(&SteppingEntropy::default()).unwrap();
        fs::write(dir.path().join("raw"), key.sign(MESSAGE)).unwrap();
        fs::write(dir.path().join("base64"), BASE64.encode(key.sign(MESSAGE)) + "\n").unwrap();
        fs::write(dir.path().join("other"), key.sign(b"something else")).unwrap();
        let command = script(dir.path(), &format!("cd '{}'\n{text}", dir.path().display()));
        sign_verified(&ExecSigner::new(key.public(), command, Duration::from_millis(timeout_ms)), MESSAGE)
    }

    #[test]
    fn both_forms_of_a_signature_are_taken() {
        assert!(sign("cat >/dev/null; cat raw", 30_000).is_ok());
        assert!(sign("cat >/dev/null; cat base64", 30_000).is_ok());
        assert!(sign("cat raw", 30_000).is_ok(), "a program that ignores its input is judged by its answer");
    }

    #[test]
    fn the_program_gets_exactly_the_message_its_arguments_and_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate(&SteppingEntropy::default()).unwrap();
        let text = format!(
            "cat > '{0}/seen'; printf '%s|%s' \"$1\" \"$VERDICT_PUBLIC_KEY\" > '{0}/said'",
            dir.path().display()
        );
        let signer = ExecSigner::new(key.public(), script(dir.path(), &text), Duration::from_secs(30));
        let message = vec![b'x'; 300_000];
        assert!(matches!(signer.sign_bytes(&message), Err(SignerError::Answer { .. })));
        assert_eq!(fs::read(dir.path().join("seen")).unwrap(), message);
        let said = fs::read_to_string(dir.path().join("said")).unwrap();
        assert_eq!(said, format!("argument with spaces|{}", BASE64.encode(key.public().as_bytes())));
    }

    #[test]
    fn whatever_else_it_does_is_a_named_error() {
        let failed = sign("cat raw; exit 3", 30_000).unwrap_err();
        assert!(failed.to_string().contains("sign.sh` ended with exit status: 3"), "{failed}");
        for text in ["", "echo hello", "cat raw raw", "head -c 63 raw", "cat /dev/zero"] {
            let error = sign(text, 30_000).unwrap_err();
            let cut = matches!(error, SignerError::Failed { .. });
            assert!(cut || matches!(error, SignerError::Answer { .. }), "{text}: {error}");
        }
        assert!(matches!(sign("cat other", 30_000), Err(SignerError::WrongSignature { .. })));
        let key = SigningKey::generate(&SteppingEntropy::default()).unwrap();
        let missing = ExecSigner::new(key.public(), vec!["/no/such/program".into()], Duration::from_secs(1));
        assert!(matches!(missing.sign_bytes(b""), Err(SignerError::Start { .. })));
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::generate(&SteppingEntropy::default()).unwrap();
        // The grandchild holds the output open; the pipe that it inherits tells when it is gone.
        let fifo = dir.path().join("alive");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let text = format!("sleep 1000 > '{}' &\nsleep 1000", fifo.display());
        let command = script(dir.path(), &text);
        let signer = ExecSigner::new(key.public(), command, Duration::from_millis(300));
        let reader = std::thread::spawn(move || fs::read(fifo).unwrap());
        assert!(matches!(signer.sign_bytes(MESSAGE), Err(SignerError::TimedOut { timeout_ms: 300, .. })));
        // Ends only when every writer of the pipe is dead.
        assert!(reader.join().unwrap().is_empty());
    }
}
