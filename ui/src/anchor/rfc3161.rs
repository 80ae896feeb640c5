//! A time stamp authority after RFC 3161.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use verdict_ledger::anchor::timestamp::{
    Certificate, QUERY_CONTENT_TYPE, REPLY_BYTES_MAX, REPLY_CONTENT_TYPE, Timestamp, TimestampError, request,
};

use super::config::{TimestampConfig, chain};
use super::http::Http;
use super::sink::{Holding, Publication, Readable, Receipt, Scene, Sink, SinkError};

#[derive(Debug)]
pub(super) struct TimestampSink {
    name: String,
    http: Http,
    certificate: Option<Certificate>,
}

impl TimestampSink {
    pub(super) fn new(config: &TimestampConfig, timeout: Duration) -> Result<Self, String> {
        Ok(Self {
            name: config.name.clone(),
            http: Http::new(&config.url, timeout, config.ca_file.as_deref())?,
            certificate: config.certificate()?,
        })
    }

    fn check(
        &self,
        response: &[u8],
        note: &str,
        nonce: Option<[u8; 8]>,
    ) -> Result<Timestamp, TimestampError> {
        let stamp = Timestamp::parse(response, note.as_bytes(), nonce)?;
        if let Some(certificate) = &self.certificate {
            stamp.verify(certificate)?;
        }
        Ok(stamp)
    }
}

impl Sink for TimestampSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "rfc3161"
    }

    fn publish(&self, publication: &Publication<'_>) -> Result<Receipt, SinkError> {
        let mut nonce = [0; 8];
        let filled = publication.scene.entropy.fill(&mut nonce);
        filled.map_err(|error| SinkError::Refused(error.to_string()))?;
        let (query, nonce) = request(publication.note.as_bytes(), nonce);
        let answer = self.http.post(&[("content-type", QUERY_CONTENT_TYPE)], &query, REPLY_BYTES_MAX)?;
        if answer.status != 200 {
            return Err(answer.refusal("the time stamp authority"));
        }
        let kind = answer.content_type.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case(REPLY_CONTENT_TYPE) {
            return Err(SinkError::Refused(format!(
                "the time stamp authority answered with `{kind}` instead of {REPLY_CONTENT_TYPE}"
            )));
        }
        let stamp = self.check(&answer.body, publication.note, Some(nonce)).map_err(|error| match error {
            TimestampError::Status { .. } | TimestampError::Unsupported(_) => {
                SinkError::Refused(error.to_string())
            }
            other => SinkError::Unfaithful(chain(&other)),
        })?;
        let mut receipt = Receipt::new();
        receipt.insert("time".to_owned(), Value::from(stamp.time.as_str()));
        receipt.insert("serial".to_owned(), Value::from(stamp.serial.as_str()));
        receipt.insert("policy".to_owned(), Value::from(stamp.policy.as_str()));
        receipt.insert("response".to_owned(), Value::from(BASE64.encode(stamp.response())));
        Ok(receipt)
    }

    /// An authority keeps nothing. Its tokens are in the anchor log, and each is checked again.
    fn holdings(
        &self,
        scene: &Scene<'_>,
        tell: &mut dyn FnMut(Holding) -> Result<(), SinkError>,
    ) -> Result<Readable, SinkError> {
        let mut result = Ok(());
        let read = scene.log.read(|line, record| {
            let Ok(record) = record else { return };
            if record.sink != self.name || record.kind != self.kind() || result.is_err() {
                return;
            }
            let response = record.receipt.get("response").and_then(Value::as_str);
            let response = response.and_then(|text| BASE64.decode(text).ok()).unwrap_or_default();
            result = match self.check(&response, &record.note, None) {
                Ok(stamp) => {
                    let signed =
                        if self.certificate.is_some() { "signature good" } else { "signature not checked" };
                    let detail = format!("stamped {}, {signed}", stamp.time);
                    tell(Holding { note: record.note, detail })
                }
                Err(error @ TimestampError::Unsupported(_)) => {
                    Err(SinkError::Refused(format!("{} line {line}: {error}", scene.log.path().display())))
                }
                Err(error) => Err(SinkError::Unfaithful(format!(
                    "{} line {line}: {}",
                    scene.log.path().display(),
                    chain(&error)
                ))),
            };
        });
        read.map_err(|error| SinkError::Refused(chain(&error)))?;
        result.map(|()| Readable::Yes)
    }
}
