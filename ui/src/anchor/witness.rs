//! The client of a C2SP tlog-witness.

use std::time::Duration;

use serde_json::{Value, json};
use verdict_ledger::anchor::Contradiction;
use verdict_ledger::cosignature::{CosignerKey, add_lines};
use verdict_ledger::note::{NoteError, NoteSignature};
use verdict_ledger::witness::protocol::{ANSWER_BYTES_MAX, AddCheckpoint, Answer};

use super::config::WitnessConfig;
use super::http::Http;
use super::sink::{Holding, Publication, Readable, Receipt, Scene, Sink, SinkError};

/// How often the size is corrected by what the witness says within one attempt: once, and once more when another
/// process of ours was at the witness in between.
const CORRECTIONS_MAX: usize = 2;

#[derive(Debug)]
pub(super) struct WitnessSink {
    name: String,
    http: Http,
    key: CosignerKey,
}

impl WitnessSink {
    pub(super) fn new(config: &WitnessConfig, timeout: Duration) -> Result<Self, String> {
        let url = format!("{}/add-checkpoint", config.url.trim_end_matches('/'));
        Ok(Self {
            name: config.name.clone(),
            http: Http::new(&url, timeout, config.ca_file.as_deref())?,
            key: config.key()?,
        })
    }

    fn ask(&self, publication: &Publication<'_>, old: u64) -> Result<Answer, SinkError> {
        let refused = |error: NoteError| SinkError::Refused(error.to_string());
        let size = publication.checkpoint.size;
        // RFC 6962 has no proof from the empty tree: there is nothing to prove.
        let proof =
            if old == 0 { Vec::new() } else { publication.scene.ledger.consistency_proof(old, size)? };
        let request = AddCheckpoint::new(old, proof, publication.note).map_err(refused)?;
        let headers = [("content-type", "text/plain; charset=utf-8")];
        let answer = self.http.post(&headers, request.to_string().as_bytes(), ANSWER_BYTES_MAX)?;
        if matches!(answer.status, 200 | 409 | 422) {
            let parsed = Answer::parse(answer.status, &answer.content_type, &answer.body);
            return parsed.map_err(|error| SinkError::Refused(format!("the witness: {error}")));
        }
        Err(answer.refusal("the witness"))
    }

    /// Finds the witness's own line in what it answered and verifies it.
    fn accept(&self, publication: &Publication<'_>, lines: &[NoteSignature]) -> Result<Receipt, SinkError> {
        let text = publication.text()?;
        let mut ours = Vec::new();
        let mut time = None;
        for line in lines.iter().filter(|line| self.key.is_of(line)) {
            let at = self.key.verify(&text, line);
            time = time.max(Some(at.map_err(|error| SinkError::Unfaithful(error.to_string()))?));
            ours.push(line.to_string().trim_end().to_owned());
        }
        let Some(time) = time else {
            return Err(SinkError::Unfaithful(format!(
                "the witness answered without a cosignature by `{}`, the key in the settings",
                self.key
            )));
        };
        let mut receipt = Receipt::new();
        receipt.insert("cosignatures".to_owned(), json!(ours));
        receipt.insert("time".to_owned(), Value::from(time));
        Ok(receipt)
    }
}

impl Sink for WitnessSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "witness"
    }

    fn publish(&self, publication: &Publication<'_>) -> Result<Receipt, SinkError> {
        let ledger = publication.scene.ledger;
        let size = publication.checkpoint.size;
        let mut old = publication.last_checkpoint().map_or(0, |last| last.size).min(size);
        for _ in 0..=CORRECTIONS_MAX {
            match self.ask(publication, old)? {
                Answer::Cosigned(lines) => return self.accept(publication, &lines),
                // The sizes agree and it still says no: it has cosigned another root.
                Answer::Conflict { size: seen } if seen == old => {
                    return Err(SinkError::Forked { size: seen });
                }
                Answer::Conflict { size: seen } if seen <= size => old = seen,
                Answer::Conflict { size: seen } => {
                    ledger.refresh()?;
                    let have = ledger.head().size;
                    if have < seen {
                        return Err(Contradiction::RolledBack { have, want: seen }.into());
                    }
                    // It is ahead of this checkpoint, not of the ledger; the next attempt takes a newer one.
                    return Err(SinkError::Unreachable(format!(
                        "the witness has cosigned {seen} entries already, more than the {size} of this checkpoint"
                    )));
                }
                Answer::Inconsistent => return Err(SinkError::Forked { size: old }),
                Answer::Refused { status, text } => {
                    return Err(SinkError::Refused(format!("the witness answered {status} {text}")));
                }
            }
        }
        Err(SinkError::Unreachable("the witness's size changes faster than it can be followed".to_owned()))
    }

    /// A witness is asked the only way there is: by giving it the newest checkpoint.
    fn holdings(
        &self,
        scene: &Scene<'_>,
        tell: &mut dyn FnMut(Holding) -> Result<(), SinkError>,
    ) -> Result<Readable, SinkError> {
        let Some(note) = scene.ledger.checkpoint()? else { return Ok(Readable::Yes) };
        let checkpoint = scene.check(&note, "the ledger")?;
        let recent = scene.log.recent().map_err(|error| SinkError::Refused(error.to_string()))?;
        let last = recent.iter().rfind(|record| record.sink == self.name && record.kind == self.kind());
        let publication = Publication { scene, note: &note, checkpoint: &checkpoint, last };
        let receipt = self.publish(&publication)?;
        let lines = receipt.get("cosignatures").and_then(Value::as_array).into_iter().flatten();
        let lines: Vec<NoteSignature> =
            lines.filter_map(Value::as_str).filter_map(|line| NoteSignature::parse(line).ok()).collect();
        let time = receipt.get("time").and_then(Value::as_u64).unwrap_or_default();
        let time = i64::try_from(time).ok().and_then(|time| jiff::Timestamp::from_second(time).ok());
        let time = time.map(|time| time.to_string()).unwrap_or_default();
        tell(Holding { note: add_lines(&note, &lines), detail: format!("cosigned {time}") })?;
        Ok(Readable::Yes)
    }
}
