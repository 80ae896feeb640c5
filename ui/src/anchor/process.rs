//! Other programs, with a limit on their time and on what they say.

use std::io::{Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Most bytes of an output that are read.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// What a program said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) ok: bool,
    pub(super) out: Vec<u8>,
    pub(super) err: String,
}

/// Why a program did not end by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProcessError {
    #[error("cannot start `{program}`: {source}")]
    Start { program: String, source: std::io::Error },
    #[error("`{program}` did not end within {seconds} seconds and was stopped")]
    Slow { program: String, seconds: u64 },
    #[error("cannot follow `{program}`: {source}")]
    Follow { program: String, source: std::io::Error },
}

/// Runs a program to its end, or kills it.
pub(super) fn run(command: &mut Command, input: &[u8], timeout: Duration) -> Result<Said, ProcessError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let follow = |source| ProcessError::Follow { program: program.clone(), source };
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|source| ProcessError::Start { program: program.clone(), source })?;
    if let Some(mut stdin) = child.stdin.take() {
        // Ours are short notes, far below what a pipe holds, so that this cannot block; a program that does not
        // read them says why itself.
        let _ = stdin.write_all(input);
    }
    let out = child.stdout.take().map(collect);
    let err = child.stderr.take().map(collect);
    let mut outputs = Vec::with_capacity(2);
    for output in [out, err].into_iter().flatten() {
        // A program that has closed both has nothing more to say; its end is waited for below.
        match output.recv_timeout(timeout) {
            Ok(bytes) => outputs.push(bytes),
            Err(RecvTimeoutError::Timeout) => {
                stop(&mut child);
                return Err(ProcessError::Slow { program, seconds: timeout.as_secs() });
            }
            Err(RecvTimeoutError::Disconnected) => outputs.push(Vec::new()),
        }
    }
    let status = child.wait().map_err(follow)?;
    let err = outputs.pop().unwrap_or_default();
    let out = outputs.pop().unwrap_or_default();
    Ok(Said { ok: status.success(), out, err: String::from_utf8_lossy(&err).trim().to_owned() })
}

/// Reads an output in a thread of its own, so that a full pipe cannot stop the program.
fn collect(output: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (done, wait) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut output = output.take(OUTPUT_BYTES_MAX);
        let _ = output.read_to_end(&mut bytes);
        let _ = std::io::copy(&mut output.into_inner(), &mut std::io::sink());
        let _ = done.send(bytes);
    });
    wait
}

fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_heard_and_a_slow_one_is_stopped() {
        let said = run(
            Command::new("sh").args(["-c", "cat; echo no >&2; exit 3"]),
            b"note",
            Duration::from_secs(20),
        );
        let said = said.unwrap();
        assert_eq!((said.ok, said.out.as_slice(), said.err.as_str()), (false, &b"note"[..], "no"));
        let slow = run(Command::new("sh").args(["-c", "exec sleep 60"]), b"", Duration::from_millis(50));
        assert!(matches!(slow, Err(ProcessError::Slow { .. })));
        let missing = run(&mut Command::new("no-such-program"), b"", Duration::from_secs(1));
        assert!(missing.unwrap_err().to_string().contains("no-such-program"));
        let loud =
            run(Command::new("sh").args(["-c", "head -c 3000000 /dev/zero"]), b"", Duration::from_secs(20));
        assert_eq!(loud.unwrap().out.len(), 1 << 20);
    }
}
