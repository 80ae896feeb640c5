//! A webhook after the Standard Webhooks specification.

use std::time::Duration;

use serde_json::{Value, json};
use verdict_ledger::anchor::webhook::WebhookSecret;

use super::config::WebhookConfig;
use super::http::Http;
use super::sink::{Holding, Publication, Readable, Receipt, Scene, Sink, SinkError};

/// Longest answer that is read; nothing in it is used.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct WebhookSink {
    name: String,
    http: Http,
    secret: WebhookSecret,
}

impl WebhookSink {
    pub(super) fn new(config: &WebhookConfig, timeout: Duration) -> Result<Self, String> {
        Ok(Self {
            name: config.name.clone(),
            http: Http::new(&config.url, timeout, config.ca_file.as_deref())?,
            secret: config.secret()?,
        })
    }
}

impl Sink for WebhookSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn publish(&self, publication: &Publication<'_>) -> Result<Receipt, SinkError> {
        let checkpoint = publication.checkpoint;
        let now_ns = publication.scene.clock.now_ns();
        let timestamp = now_ns / 1_000_000_000;
        let time = jiff::Timestamp::from_nanosecond(i128::from(now_ns)).unwrap_or(jiff::Timestamp::MAX);
        let body = json!({
            "type": "checkpoint.signed",
            "timestamp": time.to_string(),
            "data": {
                "origin": checkpoint.origin,
                "size": checkpoint.size.to_string(),
                "root": checkpoint.root.to_string(),
                "note": publication.note,
            },
        })
        .to_string();
        // The same checkpoint has the same id, so that a receiver tells a repetition.
        let id = format!("cp_{}_{}", checkpoint.size, checkpoint.root);
        let signature = self.secret.sign(&id, timestamp, body.as_bytes());
        let timestamp = timestamp.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("webhook-id", id.as_str()),
            ("webhook-timestamp", timestamp.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        let answer = self.http.post(&headers, body.as_bytes(), ANSWER_BYTES_MAX)?;
        if !(200..300).contains(&answer.status) {
            return Err(answer.refusal("the webhook"));
        }
        let mut receipt = Receipt::new();
        receipt.insert("id".to_owned(), Value::from(id));
        receipt.insert("status".to_owned(), Value::from(answer.status));
        Ok(receipt)
    }

    fn holdings(
        &self,
        _scene: &Scene<'_>,
        _tell: &mut dyn FnMut(Holding) -> Result<(), SinkError>,
    ) -> Result<Readable, SinkError> {
        Ok(Readable::No(
            "a webhook only takes; ask its receiver for the newest checkpoint and `verdict verify` it",
        ))
    }
}
