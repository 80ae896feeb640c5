//! The keys of the log over time, as a bundle carries them: every entry about keys below the checkpoint, each with its
//! proof, and for each rotation of the log key the checkpoint that both keys have signed.
//!
//! An auditor who holds any earlier key follows from there to the key that signed the bundle's checkpoint. One whose
//! key was revoked before that is told so.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use verdict_ledger::Ledger;
use verdict_ledger::authority::{Authority, Role, Step, TrustError};
use verdict_ledger::merkle::{self, Hash, leaf_hash};
use verdict_ledger::note::{Checkpoint, NoteError, SignedNote, VerifierKey};

use super::check::Fault;
use super::content::CHECKPOINT;
use super::material::MaterialError;
use super::verify::VerifierKeys;

pub(crate) const HISTORY: &str = "data/log/key-history.jsonl";

/// An entry about keys, with what proves it.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// Position.
    pub seq: u64,
    /// Exact bytes.
    pub entry: Vec<u8>,
    /// Inclusion in the tree of the bundle's checkpoint.
    pub inclusion: Vec<Hash>,
    /// Of a rotation of the log key: the checkpoint over it, and its consistency with the bundle's checkpoint.
    pub handover: Option<(String, Vec<Hash>)>,
}

/// Reads what the ledger has about its keys below a checkpoint.
pub(crate) fn collect(ledger: &Ledger, size: u64) -> Result<Vec<HistoryEntry>, MaterialError> {
    let authority = ledger.authority();
    let mut history = Vec::new();
    for seq in authority.entries().iter().copied().filter(|seq| *seq < size) {
        let rotated = |span: &&verdict_ledger::authority::KeySpan| {
            span.seq == seq && seq > 0 && span.restored.is_none()
        };
        let handover = match authority.spans(Role::Log).iter().find(rotated) {
            // One that nobody signed leads nowhere, and nobody is told that it does.
            Some(span) => match ledger.checkpoint_at(span.from)? {
                Some(note) => Some((note, ledger.consistency_proof(span.from, size)?)),
                None => None,
            },
            None => None,
        };
        history.push(HistoryEntry {
            seq,
            entry: ledger.entry(seq)?.ok_or(MaterialError::Missing { seq })?,
            inclusion: ledger.inclusion_proof(seq, size)?,
            handover,
        });
    }
    Ok(history)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: String,
    /// Exact bytes, which are UTF-8.
    entry: String,
    inclusion: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handover: Option<Handover>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Handover {
    checkpoint: String,
    consistency: Vec<String>,
}

/// Writes the file.
pub(crate) fn to_jsonl(history: &[HistoryEntry]) -> Result<Vec<u8>, serde_json::Error> {
    let texts = |hashes: &[Hash]| hashes.iter().map(|hash| STANDARD.encode(hash.0)).collect();
    let mut out = Vec::new();
    for entry in history {
        let line = Line {
            seq: entry.seq.to_string(),
            entry: String::from_utf8_lossy(&entry.entry).into_owned(),
            inclusion: texts(&entry.inclusion),
            handover: entry.handover.as_ref().map(|(checkpoint, consistency)| Handover {
                checkpoint: checkpoint.clone(),
                consistency: texts(consistency),
            }),
        };
        serde_json::to_writer(&mut out, &line)?;
        out.push(b'\n');
    }
    Ok(out)
}

/// The keys of the log as a bundle proves them against its checkpoint.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) authority: Authority,
    /// Checkpoints over rotations, by size.
    handovers: BTreeMap<u64, String>,
}

impl History {
    /// Reads the file and proves every line of it against a checkpoint.
    pub(crate) fn read(text: &str, checkpoint: &Checkpoint) -> Result<(Self, String), Fault> {
        let mut entries: Vec<(u64, String)> = Vec::new();
        let mut handovers = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let fail = |why: String| Fault::failed(HISTORY, format!("line {}: {why}", number + 1));
            let parsed: Line = serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
            let seq: u64 = parsed.seq.parse().map_err(|_| fail("`seq` is not a position".to_owned()))?;
            let fail = |why: String| fail(why).at(seq);
            let proof = hashes(&parsed.inclusion).ok_or_else(|| fail("a hash is not one".to_owned()))?;
            let leaf = leaf_hash(parsed.entry.as_bytes());
            merkle::verify_inclusion(seq, checkpoint.size, &leaf, &proof, &checkpoint.root)
                .map_err(|error| fail(format!("entry {seq}: {error}")))?;
            if let Some(handover) = parsed.handover {
                let older = SignedNote::parse(&handover.checkpoint)
                    .and_then(|note| Checkpoint::from_text(&note.text))
                    .map_err(|error| fail(format!("its checkpoint: {error}")))?;
                if older.size != seq + 1 {
                    return Err(fail(format!("its checkpoint is of {} entries", older.size)));
                }
                let proof =
                    hashes(&handover.consistency).ok_or_else(|| fail("a hash is not one".to_owned()))?;
                merkle::verify_consistency(
                    older.size,
                    checkpoint.size,
                    &older.root,
                    &checkpoint.root,
                    &proof,
                )
                .map_err(|error| fail(format!("its checkpoint: {error}")))?;
                handovers.insert(older.size, handover.checkpoint);
            }
            entries.push((seq, parsed.entry));
        }
        let told = entries.iter().map(|(seq, entry)| (*seq, entry.as_bytes()));
        let authority = Authority::fold(told)
            .map_err(|error| Fault::failed(HISTORY, format!("entry {}: {error}", error.seq)).at(error.seq))?;
        if authority.origin() != checkpoint.origin {
            let detail = format!("leads to log `{}`, not to `{}`", authority.origin(), checkpoint.origin);
            return Err(Fault::failed(HISTORY, detail));
        }
        let detail = format!("{} about keys lead to the root of the checkpoint", count(entries.len()));
        Ok((Self { authority, handovers }, detail))
    }

    /// Says by which of the verifier's keys the checkpoint is to be believed.
    pub(crate) fn trust(
        &self,
        note: &str,
        checkpoint: &Checkpoint,
        keys: &VerifierKeys,
    ) -> Result<String, Fault> {
        match self.authority.verify_checkpoint(note) {
            Ok(_) => {}
            Err(NoteError::Unsigned { .. }) => {
                let key = self.authority.log_key_at(checkpoint.size);
                return Err(Fault::failed(
                    CHECKPOINT,
                    format!("is not signed by {key}, the log's key at its size"),
                ));
            }
            Err(error) => return Err(Fault::failed(CHECKPOINT, error.to_string())),
        }
        let mut why = None;
        for key in &keys.log {
            match self.follow(key, checkpoint.size, keys) {
                Ok(detail) => return Ok(detail),
                Err(Refusal::Forged(detail)) => return Err(Fault::failed(HISTORY, detail)),
                Err(Refusal::Unknown) => {}
                Err(Refusal::Untrusted(detail)) => why = Some(detail),
            }
        }
        let detail = why.unwrap_or_else(|| {
            format!(
                "is signed by {}, which none of the given log keys is or leads to",
                self.authority.log_key_at(checkpoint.size)
            )
        });
        Err(Fault::untrusted(CHECKPOINT, detail))
    }

    fn follow(&self, key: &VerifierKey, size: u64, keys: &VerifierKeys) -> Result<String, Refusal> {
        let steps = self.authority.path(key, size).map_err(|error| match error {
            TrustError::Unknown { .. } => Refusal::Unknown,
            error => Refusal::Untrusted(error.to_string()),
        })?;
        let mut vouches = size;
        let mut passed = Vec::new();
        for step in steps.iter().rev() {
            let Step::Rotation { size, from, to } = step else { continue };
            let note = self.handovers.get(size).ok_or_else(|| {
                Refusal::Untrusted(format!(
                    "the checkpoint of size {size}, over a rotation, is not in the bundle"
                ))
            })?;
            for key in [*from, *to] {
                match Checkpoint::verify(note, key) {
                    Ok(_) => {}
                    Err(NoteError::BadSignature { .. }) => {
                        return Err(Refusal::Forged(format!(
                            "the checkpoint of size {size}: {key} did not sign it"
                        )));
                    }
                    Err(error) => {
                        return Err(Refusal::Untrusted(format!(
                            "the rotation with the checkpoint of size {size} is not signed by both keys: {error}"
                        )));
                    }
                }
            }
            vouches = *size;
            passed.push((size - 1).to_string());
        }
        if !keys.allows(key, vouches) {
            return Err(Refusal::Untrusted(does_not_answer(key, vouches)));
        }
        passed.reverse();
        let signer = self.authority.log_key_at(size);
        let mut detail = format!("log `{}`, {size} entries, signed by {signer}", self.authority.origin());
        if !passed.is_empty() {
            detail.push_str(&format!(", to which your key leads through entries {}", passed.join(", ")));
        }
        for loss in self.authority.spans(Role::Log).iter().filter_map(|span| span.restored.as_ref()) {
            let end = loss.end.map_or_else(|| "?".to_owned(), |end| end.to_string());
            detail.push_str(&format!(
                "; RESTORED: entries {}..{end} of `{}` are lost",
                loss.first, loss.old_origin
            ));
        }
        Ok(detail)
    }

    /// Says whether a bundle signed by `signer` is to be believed by somebody who holds a former bundle key: the log,
    /// whose checkpoint the verifier trusts, vouches for each that followed.
    pub(crate) fn bundle_key(
        &self,
        signer: &VerifierKey,
        size: u64,
        keys: &VerifierKeys,
    ) -> Result<String, Option<String>> {
        let mut why = None;
        for key in &keys.bundle {
            match self.authority.bundle_successor(key, signer, size) {
                Ok(()) => return Ok(format!("{signer}, which the log put in the place of your key")),
                Err(TrustError::Unknown { .. }) => {}
                Err(error) => why = Some(error.to_string()),
            }
        }
        Err(why)
    }
}

/// Says by which of the verifier's keys a checkpoint is to be believed where nothing tells of other keys.
pub(crate) fn trust_directly(
    note: &str,
    checkpoint: &Checkpoint,
    keys: &VerifierKeys,
) -> Result<String, Fault> {
    let mut why = None;
    for key in &keys.log {
        match Checkpoint::verify(note, key) {
            Ok(_) if keys.allows(key, checkpoint.size) => {
                return Ok(format!(
                    "log `{}`, {} entries, signed by {key}",
                    checkpoint.origin, checkpoint.size
                ));
            }
            Ok(_) => why = Some(does_not_answer(key, checkpoint.size)),
            Err(error @ NoteError::BadSignature { .. }) => {
                return Err(Fault::failed(CHECKPOINT, error.to_string()));
            }
            Err(_) => {}
        }
    }
    let detail = why.unwrap_or_else(|| "is signed by none of the given log keys".to_owned());
    Err(Fault::untrusted(CHECKPOINT, detail))
}

fn does_not_answer(key: &VerifierKey, size: u64) -> String {
    format!("your key file says that {key} does not answer for size {size}: it was replaced or revoked")
}

enum Refusal {
    Unknown,
    Untrusted(String),
    Forged(String),
}

fn hashes(texts: &[String]) -> Option<Vec<Hash>> {
    let hash = |text: &String| STANDARD.decode(text).ok()?.try_into().ok().map(Hash);
    texts.iter().map(hash).collect()
}

fn count(entries: usize) -> String {
    if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") }
}
