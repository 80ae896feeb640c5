//! The state machine of a witness.
//!
//! INVARIANT: no cosignature leaves before the checkpoint that it is on is durable, and a recorded size never
//! shrinks. Checking the old size, recording the new one and signing happen under one lock a log, so that two
//! requests for one log cannot both be right.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::protocol::{AddCheckpoint, Refusal};
use super::state_dir::{StateDir, StateError};
use crate::clock::Clock;
use crate::cosignature::{Cosigner, add_lines};
use crate::key::SigningKey;
use crate::merkle;
use crate::note::{Checkpoint, NoteError, NoteSignature, SignedNote, VerifierKey};

/// Why a witness does not answer with a cosignature.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The protocol says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The state could not be made durable. Whether it was recorded is unknown, so that nothing more is cosigned
    /// for this log until the witness is started again and has read what is there.
    #[error("the witness cannot record what it cosigns for `{origin}` until it is restarted: {detail}")]
    State {
        /// Log.
        origin: String,
        /// First failure.
        detail: String,
    },
}

/// How far a log has come, as a witness saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    /// Origin.
    pub origin: String,
    /// Last cosigned checkpoint with the log's signature and the cosignature; `None`: nothing was cosigned yet.
    pub note: Option<String>,
    /// Its size, 0 for none.
    pub size: u64,
    /// Time of the cosignature, Unix seconds.
    pub time: u64,
}

/// A witness.
#[derive(Debug)]
pub struct Witness {
    signer: Cosigner,
    logs: BTreeMap<String, Log>,
    dir: StateDir,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Log {
    keys: Vec<VerifierKey>,
    latest: Mutex<Latest>,
}

#[derive(Debug)]
struct Latest {
    checkpoint: Checkpoint,
    note: Option<String>,
    time: u64,
    failed: Option<String>,
}

impl Witness {
    /// Starts a witness for logs with these keys; the name of a key is the origin of its log, and a log may have
    /// several. A log that was never cosigned is trusted with its first checkpoint: somebody has to be first. What
    /// is on the disk is verified; a file that is not what was written is refused, never begun anew.
    pub fn start(
        dir: StateDir,
        key: SigningKey,
        keys: impl IntoIterator<Item = VerifierKey>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StateError> {
        let signer = Cosigner::new(dir.key().name(), key);
        let signer = signer.ok().filter(|signer| signer.verifier() == dir.key()).ok_or_else(|| {
            StateError::Damaged {
                path: dir.path("").with_file_name("witness.json"),
                detail: format!("the signing key is not the one of `{}`", dir.key()),
            }
        })?;
        let mut by_origin: BTreeMap<String, Vec<VerifierKey>> = BTreeMap::new();
        for key in keys {
            let keys = by_origin.entry(key.name().to_owned()).or_default();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut logs = BTreeMap::new();
        for (origin, keys) in by_origin {
            let latest = load(&dir, &origin, &keys, &signer)?;
            logs.insert(origin, Log { keys, latest: Mutex::new(latest) });
        }
        Ok(Self { signer, logs, dir, clock })
    }

    /// Returns the signer, whose key others verify with.
    pub const fn signer(&self) -> &Cosigner {
        &self.signer
    }

    /// Tells how far every log has come.
    pub fn logs(&self) -> Vec<LogState> {
        self.logs
            .iter()
            .map(|(origin, log)| {
                let latest = log.latest.lock().unwrap_or_else(PoisonError::into_inner);
                LogState {
                    origin: origin.clone(),
                    note: latest.note.clone(),
                    size: latest.checkpoint.size,
                    time: latest.time,
                }
            })
            .collect()
    }

    /// Answers an `add-checkpoint` request. Blocks while the new state is flushed.
    pub fn add_checkpoint(&self, body: &[u8]) -> Result<NoteSignature, WitnessError> {
        let request = AddCheckpoint::parse(body).map_err(Refusal::from)?;
        let AddCheckpoint { old, proof, note, checkpoint } = request;
        let log = self
            .logs
            .get(&checkpoint.origin)
            .ok_or_else(|| Refusal::UnknownLog { origin: checkpoint.origin.clone() })?;
        check_signature(&note, &checkpoint, &log.keys)?;
        if old > checkpoint.size {
            return Err(Refusal::OldSize { old, size: checkpoint.size }.into());
        }
        // A panic while the lock was held would have come from a bug after which the recorded state is still what
        // was written last; `Latest` changes only as a whole.
        let mut latest = log.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(detail) = &latest.failed {
            return Err(WitnessError::State { origin: checkpoint.origin, detail: detail.clone() });
        }
        let have = &latest.checkpoint;
        if old != have.size {
            return Err(Refusal::Conflict { size: have.size }.into());
        }
        if old == checkpoint.size && have.root != checkpoint.root {
            return Err(Refusal::Forked { size: have.size }.into());
        }
        merkle::verify_consistency(old, checkpoint.size, &have.root, &checkpoint.root, &proof)
            .map_err(Refusal::from)?;
        // A clock that was set back must not make a later statement look like an earlier one.
        let time = (self.clock.now_ns() / 1_000_000_000).max(latest.time);
        let line = self.signer.cosign(&note.text, time);
        if checkpoint.size > have.size || latest.note.is_none() {
            let cosigned = recorded(&note, &log.keys, &line);
            if let Err(error) = self.dir.store(&checkpoint.origin, &cosigned) {
                let detail = crate::anchor::chain(&error);
                latest.failed = Some(detail.clone());
                return Err(WitnessError::State { origin: checkpoint.origin, detail });
            }
            *latest = Latest { checkpoint, note: Some(cosigned), time, failed: None };
        } else {
            latest.time = time;
        }
        Ok(line)
    }
}

/// One good signature by a trusted key is enough; one by a trusted key that is bad spoils the request.
fn check_signature(note: &SignedNote, checkpoint: &Checkpoint, keys: &[VerifierKey]) -> Result<(), Refusal> {
    let mut signed = false;
    for key in keys {
        match note.verify(key) {
            Ok(()) => signed = true,
            Err(NoteError::Unsigned { .. }) => {}
            Err(_) => return Err(Refusal::Unsigned { origin: checkpoint.origin.clone() }),
        }
    }
    if signed { Ok(()) } else { Err(Refusal::Unsigned { origin: checkpoint.origin.clone() }) }
}

/// What is kept of a checkpoint: its text, the signatures by trusted keys, and our own. Whatever else the sender
/// attached is not ours to repeat.
fn recorded(note: &SignedNote, keys: &[VerifierKey], line: &NoteSignature) -> String {
    let trusted = |signature: &&NoteSignature| {
        keys.iter().any(|key| key.name() == signature.name && key.id() == signature.id)
    };
    let text = format!("{}\n", note.text);
    let lines: Vec<&NoteSignature> = note.signatures.iter().filter(trusted).chain([line]).collect();
    add_lines(&text, lines)
}

/// Reads and verifies what is on the disk about a log.
fn load(dir: &StateDir, origin: &str, keys: &[VerifierKey], signer: &Cosigner) -> Result<Latest, StateError> {
    let Some(text) = dir.load(origin)? else {
        let checkpoint = Checkpoint { origin: origin.to_owned(), size: 0, root: merkle::empty_root() };
        return Ok(Latest { checkpoint, note: None, time: 0, failed: None });
    };
    let damaged = |detail: String| StateError::Damaged { path: dir.path(origin), detail };
    let bad = |error: NoteError| {
        damaged(format!("is not the checkpoint that this witness cosigned last for `{origin}` ({error})"))
    };
    let note = SignedNote::parse(&text).map_err(bad)?;
    let checkpoint = Checkpoint::from_text(&note.text).map_err(bad)?;
    if checkpoint.origin != origin {
        return Err(bad(NoteError::Origin { got: checkpoint.origin, want: origin.to_owned() }));
    }
    let time = signer.verifier().time_in(&note).map_err(bad)?;
    check_signature(&note, &checkpoint, keys)
        .map_err(|refusal| damaged(format!("{refusal}; was its key taken off the list?")))?;
    Ok(Latest { checkpoint, note: Some(text), time, failed: None })
}
