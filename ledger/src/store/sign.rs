//! Signs checkpoints so that nobody who appends waits for a signer outside this process.
//!
//! A key in memory signs at once. An external signer is asked from a thread of its own, one checkpoint at a time;
//! its failure is logged and kept for whoever asks, and makes checkpoints late. It never touches what is durable.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::error::LedgerError;
use crate::note::Checkpoint;
use crate::signer::Signer;

/// Pauses after failures: doubled from the first to the last, so that a broken signer is not run without end.
const RETRY_NS_FIRST: u64 = 1_000_000_000;
const RETRY_NS_LAST: u64 = 60_000_000_000;

/// Why the newest checkpoint is late.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SigningFailure {
    /// When it was last tried, Unix nanoseconds.
    pub at_ns: u64,
    /// Attempts that failed one after the other.
    pub attempts: u32,
    /// What the signer said.
    pub detail: String,
}

/// Shared with whoever wants to know.
pub(super) type SharedFailure = Arc<Mutex<Option<SigningFailure>>>;

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Signed {
    /// A note over so many entries.
    Note(u64, String),
    /// Nothing was signed; this is what to tell who waits.
    Failed(String),
}

type Outcome = (u64, Result<String, String>);

/// Where checkpoints are signed.
#[derive(Debug)]
pub(super) struct Signing {
    signer: Arc<dyn Signer>,
    /// Set when the signer is not in this process.
    worker: Option<Worker>,
    /// An attempt that has ended and was not looked at.
    ready: Option<Outcome>,
    pending: bool,
    failure: SharedFailure,
    retry_at_ns: u64,
}

impl Signing {
    pub(super) fn start(signer: Arc<dyn Signer>) -> Result<Self, LedgerError> {
        let worker = if signer.is_external() { Some(Worker::spawn(Arc::clone(&signer))?) } else { None };
        Ok(Self {
            signer,
            worker,
            ready: None,
            pending: false,
            failure: SharedFailure::default(),
            retry_at_ns: 0,
        })
    }

    pub(super) fn failure(&self) -> SharedFailure {
        Arc::clone(&self.failure)
    }

    /// Tells whether a checkpoint is being signed.
    pub(super) const fn is_pending(&self) -> bool {
        self.pending
    }

    /// Tells whether to wait some more after a failure. A clock that was set back must not make that long.
    pub(super) fn is_pausing(&self, now_ns: u64) -> bool {
        now_ns < self.retry_at_ns && self.retry_at_ns - now_ns <= RETRY_NS_LAST
    }

    /// Begins to sign, unless something is being signed.
    pub(super) fn begin(&mut self, checkpoint: Checkpoint) {
        if self.pending {
            return;
        }
        self.pending = true;
        match &self.worker {
            None => {
                let size = checkpoint.size;
                let note = checkpoint.sign(&*self.signer).map_err(|error| chain(&error));
                self.ready = Some((size, note));
            }
            Some(worker) => worker.ask(checkpoint),
        }
    }

    /// Returns an attempt that has ended.
    pub(super) fn poll(&mut self, now_ns: u64) -> Option<Signed> {
        let ended = match (self.ready.take(), &self.worker) {
            (Some(ended), _) => Some(ended),
            (None, Some(worker)) if self.pending => worker.poll(),
            _ => None,
        };
        ended.map(|ended| self.end(ended, now_ns))
    }

    /// Waits until what is being signed has ended; a signer has a deadline.
    pub(super) fn wait(&mut self, now_ns: u64) -> Option<Signed> {
        let ended = match (self.ready.take(), &self.worker) {
            (Some(ended), _) => Some(ended),
            (None, Some(worker)) if self.pending => Some(worker.wait()),
            _ => None,
        };
        ended.map(|ended| self.end(ended, now_ns))
    }

    fn end(&mut self, (size, note): Outcome, now_ns: u64) -> Signed {
        self.pending = false;
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match note {
            Ok(note) => {
                *failure = None;
                self.retry_at_ns = 0;
                Signed::Note(size, note)
            }
            Err(detail) => {
                let attempts = failure.as_ref().map_or(0, |failure| failure.attempts).saturating_add(1);
                let pause = RETRY_NS_FIRST.saturating_mul(1 << (attempts - 1).min(6)).min(RETRY_NS_LAST);
                self.retry_at_ns = now_ns.saturating_add(pause);
                tracing::error!(
                    size,
                    attempts,
                    error = detail,
                    "the checkpoint was not signed and will be late; what was appended is durable"
                );
                *failure = Some(SigningFailure { at_ns: now_ns, attempts, detail: detail.clone() });
                Signed::Failed(detail)
            }
        }
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = error.source();
    }
    text
}

/// The thread that asks an external signer.
#[derive(Debug)]
struct Worker {
    checkpoints: Option<Sender<Checkpoint>>,
    outcomes: Receiver<Outcome>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn spawn(signer: Arc<dyn Signer>) -> Result<Self, LedgerError> {
        let (checkpoints, work) = channel::<Checkpoint>();
        let (done, outcomes) = channel();
        let thread = std::thread::Builder::new()
            .name("ledger-sign".to_owned())
            .spawn(move || {
                for checkpoint in work {
                    let size = checkpoint.size;
                    let note = checkpoint.sign(&*signer).map_err(|error| chain(&error));
                    if done.send((size, note)).is_err() {
                        return;
                    }
                }
            })
            .map_err(|source| LedgerError::Io { path: "ledger-sign thread".into(), source })?;
        Ok(Self { checkpoints: Some(checkpoints), outcomes, thread: Some(thread) })
    }

    fn ask(&self, checkpoint: Checkpoint) {
        // A thread that is gone shows when its answer is waited for.
        let _ = self.checkpoints.as_ref().map(|work| work.send(checkpoint));
    }

    fn poll(&self) -> Option<Outcome> {
        match self.outcomes.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(gone()),
        }
    }

    fn wait(&self) -> Outcome {
        self.outcomes.recv().unwrap_or_else(|_| gone())
    }
}

fn gone() -> Outcome {
    (0, Err("the signing thread has stopped".to_owned()))
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.checkpoints = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::VerifyingKey;

    use super::*;
    use crate::clock::SteppingEntropy;
    use crate::key::SigningKey;
    use crate::merkle::Hash;
    use crate::signer::SignerError;

    /// An external signer that answers when it is told to.
    #[derive(Debug)]
    struct Slow(SigningKey, Mutex<Receiver<bool>>);

    impl Signer for Slow {
        fn public(&self) -> VerifyingKey {
            self.0.public()
        }

        fn sign_bytes(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
            if self.1.lock().unwrap().recv().unwrap() {
                return Ok(self.0.sign(message));
            }
            Err(SignerError::TimedOut { signer: "slow".into(), timeout_ms: 1 })
        }

        fn name(&self) -> String {
            "slow".into()
        }
    }

    fn checkpoint(size: u64) -> Checkpoint {
        Checkpoint { origin: "ledger.example/t".into(), size, root: Hash([1; 32]) }
    }

    #[test]
    fn nobody_waits_for_an_external_signer_and_its_failures_are_kept_and_spaced() {
        let (tell, told) = channel();
        let key = SigningKey::generate(&SteppingEntropy::default()).unwrap();
        let mut signing = Signing::start(Arc::new(Slow(key, Mutex::new(told)))).unwrap();
        signing.begin(checkpoint(1));
        assert!(signing.is_pending() && signing.poll(0).is_none());
        signing.begin(checkpoint(2));
        tell.send(false).unwrap();
        assert!(matches!(signing.wait(5), Some(Signed::Failed(_))));
        let failure = signing.failure().lock().unwrap().clone().unwrap();
        assert_eq!((failure.at_ns, failure.attempts), (5, 1));
        assert!(failure.detail.contains("gave no answer within 1 ms"), "{}", failure.detail);
        assert!(signing.is_pausing(6) && !signing.is_pausing(6 + RETRY_NS_FIRST));
        assert!(signing.poll(7).is_none() && signing.wait(7).is_none(), "the second was not begun");

        signing.begin(checkpoint(2));
        tell.send(true).unwrap();
        assert!(matches!(signing.wait(9), Some(Signed::Note(2, _))));
        assert!(signing.failure().lock().unwrap().is_none());
    }

    #[test]
    fn a_key_in_memory_signs_at_once() {
        let key = SigningKey::generate(&SteppingEntropy::default()).unwrap();
        let mut signing = Signing::start(Arc::new(key)).unwrap();
        signing.begin(checkpoint(3));
        assert!(matches!(signing.poll(0), Some(Signed::Note(3, _))));
        assert!(!signing.is_pending());
    }
}
