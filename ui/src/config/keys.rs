//! Every key of the settings, in one place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{AuthMode, Check, Config};

/// A key.
pub struct Key {
    /// Name in the file; a dot stands for a table.
    pub name: &'static str,
    /// Unit, or what the value looks like.
    pub unit: &'static str,
    /// What it means.
    pub doc: &'static str,
    pub(super) set: fn(&mut Config, &str, Option<&Path>) -> Result<(), String>,
    pub(super) get: fn(&Config) -> String,
}

impl Key {
    /// Returns the variable that sets it.
    pub fn variable(&self) -> String {
        format!("{}{}", super::VARIABLES, self.name.to_ascii_uppercase().replace('.', "_"))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A whole number of a limit.
macro_rules! number {
    ($name:literal, $unit:literal, $field:ident, $doc:literal) => {
        Key {
            name: $name,
            unit: $unit,
            doc: $doc,
            set: |config, text, _| {
                config.limits.$field =
                    text.parse().map_err(|_| format!("write a whole number of {}", $unit))?;
                Ok(())
            },
            get: |config| config.limits.$field.to_string(),
        }
    };
}

/// A path that may be absent.
macro_rules! path {
    ($name:literal, $field:ident, $doc:literal) => {
        Key {
            name: $name,
            unit: "path",
            doc: $doc,
            set: |config, text, base| {
                config.$field = Some(path(text, base)?);
                Ok(())
            },
            get: |config| config.$field.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        }
    };
}

/// Every key.
pub const KEYS: &[Key] = &[
    Key {
        name: "listen",
        unit: "address:port",
        doc: "Where the web interface, the API and OTLP/HTTP listen; port 0 picks a free one.",
        set: |config, text, _| {
            config.listen = address(text)?;
            Ok(())
        },
        get: |config| config.listen.to_string(),
    },
    Key {
        name: "check",
        unit: "quick, full or none",
        doc: "What is checked before serving: the log, everything, or nothing but what opening checks.",
        set: |config, text, _| {
            config.check = match text {
                "quick" => Check::Quick,
                "full" => Check::Full,
                "none" => Check::None,
                _ => return Err("write quick, full or none".to_owned()),
            };
            Ok(())
        },
        get: |config| {
            match config.check {
                Check::Quick => "quick",
                Check::Full => "full",
                Check::None => "none",
            }
            .to_owned()
        },
    },
    Key {
        name: "fsck_every",
        unit: "number with s, m, h or d, or never",
        doc: "How often everything is checked while serving, in the background.",
        set: |config, text, _| {
            config.fsck_every = interval(text)?;
            Ok(())
        },
        get: |config| {
            config.fsck_every.map_or_else(|| "never".to_owned(), |time| format!("{}s", time.as_secs()))
        },
    },
    Key {
        name: "grpc.listen",
        unit: "address:port or none",
        doc: "Where OTLP/gRPC listens; clients expect port 4317.",
        set: |config, text, _| {
            config.grpc_listen = if text == "none" { None } else { Some(address(text)?) };
            Ok(())
        },
        get: |config| config.grpc_listen.map_or_else(|| "none".to_owned(), |address| address.to_string()),
    },
    Key {
        name: "auth.mode",
        unit: "none or token",
        doc: "Whether callers must show an API token. Without it only loopback addresses are served.",
        set: |config, text, _| {
            config.auth = match text {
                "none" => AuthMode::None,
                "token" => AuthMode::Token,
                _ => return Err("write none or token".to_owned()),
            };
            Ok(())
        },
        get: |config| if config.auth == AuthMode::Token { "token" } else { "none" }.to_owned(),
    },
    path!("auth.tokens", tokens, "The token file, when it is not tokens.json in the ledger directory."),
    path!("tls.cert", tls_cert, "PEM file with the certificate chain; with tls.key, both ports speak TLS."),
    path!("tls.key", tls_key, "PEM file with the private key; not readable by everybody."),
    path!(
        "tls.client_ca",
        client_ca,
        "PEM file with the certificates that client certificates must go back to (mTLS)."
    ),
    Key {
        name: "tls.client_cert",
        unit: "required or optional",
        doc: "With tls.client_ca: whether a client without a certificate is refused, or asked for a token.",
        set: |config, text, _| {
            config.client_cert_required = match text {
                "required" => true,
                "optional" => false,
                _ => return Err("write required or optional".to_owned()),
            };
            Ok(())
        },
        get: |config| if config.client_cert_required { "required" } else { "optional" }.to_owned(),
    },
    Key {
        name: "tls.client_scopes",
        unit: "list of scopes",
        doc: "What a client certificate alone allows; a token beside it adds what it allows.",
        set: |config, text, _| {
            let scopes = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            config.client_scopes = scopes
                .map(|name| name.parse().map_err(|error| format!("{error}")))
                .collect::<Result<_, _>>()?;
            Ok(())
        },
        get: |config| config.client_scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(","),
    },
    Key {
        name: "log.format",
        unit: "human, json or auto",
        doc: "Form of the log on stderr; auto is JSON with --format json.",
        set: |config, text, _| {
            config.log_json = match text {
                "human" => Some(false),
                "json" => Some(true),
                "auto" => None,
                _ => return Err("write human, json or auto".to_owned()),
            };
            Ok(())
        },
        get: |config| {
            match config.log_json {
                Some(true) => "json",
                Some(false) => "human",
                None => "auto",
            }
            .to_owned()
        },
    },
    Key {
        name: "log.level",
        unit: "tracing filter",
        doc: "Which log lines are written, like info or verdict_ui=debug,warn; RUST_LOG overrules it.",
        set: |config, text, _| {
            text.parse::<tracing_subscriber::EnvFilter>().map_err(|error| error.to_string())?;
            text.clone_into(&mut config.log_level);
            Ok(())
        },
        get: |config| config.log_level.clone(),
    },
    Key {
        name: "telemetry.endpoint",
        unit: "URL",
        doc: "Where spans of this server itself are sent as OTLP/HTTP, without /v1/traces; not this server.",
        set: |config, text, _| {
            if !text.starts_with("http://") && !text.starts_with("https://") {
                return Err("write a URL that starts with http:// or https://".to_owned());
            }
            config.telemetry_endpoint = Some(text.trim_end_matches('/').to_owned());
            Ok(())
        },
        get: |config| config.telemetry_endpoint.clone().unwrap_or_default(),
    },
    Key {
        name: "telemetry.service_name",
        unit: "text",
        doc: "The service.name of those spans.",
        set: |config, text, _| {
            text.clone_into(&mut config.telemetry_service);
            Ok(())
        },
        get: |config| config.telemetry_service.clone(),
    },
    path!(
        "telemetry.headers_file",
        telemetry_headers,
        "File with headers for those requests, one `Name: value` a line; not readable by others."
    ),
    number!(
        "limits.body_bytes",
        "bytes",
        body_bytes_max,
        "Largest request body or gRPC message as it arrives."
    ),
    number!("limits.decoded_bytes", "bytes", decoded_bytes_max, "Largest body after decompression."),
    number!(
        "limits.ingest_bytes",
        "bytes",
        ingest_bytes_max,
        "Bodies in memory at the same time; what does not fit is answered with 503 before it is read."
    ),
    number!(
        "limits.ingest_requests",
        "requests",
        ingest_requests_max,
        "Ingest requests that are worked on at the same time."
    ),
    number!(
        "limits.ingest_wait_seconds",
        "seconds",
        ingest_wait_seconds_max,
        "Longest time that one waits for room."
    ),
    number!(
        "limits.mappers",
        "bodies",
        mappers_max,
        "Bodies that are mapped at the same time; 0 is one for each core."
    ),
    number!(
        "limits.header_seconds",
        "seconds",
        header_seconds_max,
        "Longest time for headers, a TLS handshake, or an idle HTTP/1 connection."
    ),
    number!("limits.body_seconds", "seconds", body_seconds_max, "Longest time for a body to arrive."),
    number!(
        "limits.body_pause_seconds",
        "seconds",
        body_pause_seconds_max,
        "Longest pause while a body arrives."
    ),
    number!(
        "limits.connections",
        "connections",
        connections_max,
        "Open connections on both ports; more wait."
    ),
    number!(
        "limits.drain_seconds",
        "seconds",
        drain_seconds_max,
        "Longest time that open requests get to finish after the signal to stop."
    ),
    number!("limits.requests", "requests", requests_max, "Requests for pages and the API at the same time."),
    number!("limits.replays", "replays", replays_max, "Replays at the same time."),
    number!(
        "limits.page_seconds",
        "seconds",
        page_seconds_max,
        "Longest time for a page or an answer of the API."
    ),
    number!(
        "limits.work_seconds",
        "seconds",
        work_seconds_max,
        "Longest time for a verification or a replay."
    ),
    number!("limits.trace_events", "events", trace_events_max, "Events of one trace that a page reads."),
    number!(
        "limits.traces_scanned",
        "traces",
        traces_scanned_max,
        "Traces that one list looks at while it filters."
    ),
    number!(
        "limits.breakdown_entries",
        "entries",
        breakdown_entries_max,
        "Entries that a page about costs or the contract reads."
    ),
];

fn address(text: &str) -> Result<std::net::SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, like 127.0.0.1:7878 or [::1]:7878".to_owned())
}

fn path(text: &str, base: Option<&Path>) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("write a path".to_owned());
    }
    Ok(base.map_or_else(|| PathBuf::from(text), |base| base.join(text)))
}

/// Reads a length of time, like `90d`; `None` is `never`.
pub fn interval(text: &str) -> Result<Option<Duration>, String> {
    if text == "never" {
        return Ok(None);
    }
    let seconds = seconds(text).filter(|seconds| *seconds > 0);
    let seconds = seconds.ok_or("write a number with s, m, h or d, like 24h, or `never`")?;
    Ok(Some(Duration::from_secs(seconds)))
}

/// Reads a number with s, m, h or d as seconds.
pub fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_a_unit_and_are_never_nothing() {
        let seconds = |text: &str| interval(text).map(|interval| interval.map(|time| time.as_secs()));
        assert_eq!(seconds("90s"), Ok(Some(90)));
        assert_eq!(seconds("24h"), Ok(Some(86_400)));
        assert_eq!(seconds("7d"), Ok(Some(604_800)));
        assert_eq!(seconds("never"), Ok(None));
        for bad in ["", "0h", "24", "h", "-1h", "1.5h", "1w", "é", "99999999999999999999d"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_variables_are_not_taken_twice() {
        let mut names: Vec<String> = KEYS.iter().map(Key::variable).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }
}
