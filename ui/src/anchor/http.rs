//! The HTTP client of sinks: one request, one answer, both bounded.
//!
//! Redirects are not followed and bodies are not decompressed: a sink's address is in the settings, and an answer is
//! small. Proxies of the environment are used, but never to reach this machine itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::config::{chain, read};
use super::sink::SinkError;

/// Longest piece of an answer that is repeated in a message.
const TEXT_CHARS_MAX: usize = 200;

#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
    url: String,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
}

impl Http {
    /// Prepares a client for one address.
    pub(super) fn new(url: &str, timeout: Duration, ca_file: Option<&Path>) -> Result<Self, String> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("verdict/", env!("CARGO_PKG_VERSION")));
        if is_here(url) {
            config = config.proxy(None);
        }
        if let Some(path) = ca_file {
            let roots = roots(path)?;
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self { agent: config.build().new_agent(), url: url.to_owned() })
    }

    /// Posts a body and reads an answer of at most `limit` bytes.
    pub(super) fn post(
        &self,
        headers: &[(&str, &str)],
        body: &[u8],
        limit: usize,
    ) -> Result<Answer, SinkError> {
        let unreachable = |error: &ureq::Error| match error {
            ureq::Error::BodyExceedsLimit(_) => {
                SinkError::Refused(format!("{} answered with more than {limit} bytes", self.url))
            }
            error => SinkError::Unreachable(format!("cannot reach {}: {}", self.url, chain(error))),
        };
        let mut request = self.agent.post(&self.url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send(body).map_err(|error| unreachable(&error))?;
        let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let limited = response.body_mut().with_config().limit(limit as u64);
        let body = limited.read_to_vec().map_err(|error| unreachable(&error))?;
        Ok(Answer { status: response.status().as_u16(), content_type, body })
    }
}

impl Answer {
    /// Turns what is not a success into an error; what may pass by itself is worth another attempt.
    pub(super) fn refusal(&self, who: &str) -> SinkError {
        let text = String::from_utf8_lossy(&self.body);
        let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        let text: String = plain.take(TEXT_CHARS_MAX).collect();
        let message = format!("{who} answered {} {}", self.status, text.trim());
        match self.status {
            408 | 425 | 429 | 500..=599 => SinkError::Unreachable(message.trim_end().to_owned()),
            _ => SinkError::Refused(message.trim_end().to_owned()),
        }
    }
}

/// Tells whether an address is on this machine.
fn is_here(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn roots(path: &Path) -> Result<RootCerts, String> {
    let pem = read(path).map_err(|error| chain(&error))?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    if certificates.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_recognised() {
        for url in ["http://127.0.0.1:80/x", "http://localhost", "https://[::1]:8/", "http://LOCALHOST:1?x"] {
            assert!(is_here(url), "{url}");
        }
        for url in ["http://127.0.0.1.example.org/", "https://example.org/localhost", "http://[2001:db8::1]/"]
        {
            assert!(!is_here(url), "{url}");
        }
    }
}
