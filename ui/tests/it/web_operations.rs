//! Numbers, own traces, TLS, and stopping.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use verdict_ui::auth::Scope;
use verdict_ui::telemetry::Settings;
use verdict_ui::web::{Tls, TlsFiles};

use crate::cli_support::event;
use crate::running::{Running, gate, token};

#[test]
fn numbers_say_what_became_of_each_record_and_hold_nothing_from_outside() {
    let server = Running::start();
    let good = event(1);
    for body in [good.as_str(), good.as_str(), "{\"id\":\"x\"}", "garbage <secret>"] {
        server.ask("POST", "/api/v1/events", &[], body.as_bytes());
    }
    server.ask("POST", "/v1/traces", &[("content-type", "text/plain")], b"x");
    server.ask("GET", "/no/such/secret", &[], b"");
    server.ask("GET", &format!("/traces/{}", "0".repeat(32)), &[], b"");
    let reply = server.ask("GET", "/metrics", &[], b"");
    assert!(reply.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = reply.text();
    for line in [
        "verdict_ingest_records_total{format=\"native\",result=\"appended\"} 1",
        "verdict_ingest_records_total{format=\"native\",result=\"duplicate\"} 1",
        "verdict_ingest_refused_total{reason=\"media_type\"} 1",
        "verdict_http_requests_total{route=\"/api/v1/events\",method=\"POST\",status=\"200\"} 2",
        "verdict_http_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"} 1",
        "verdict_append_duration_seconds_count 2",
        "verdict_ledger_entries ",
        "verdict_ready 1",
        "verdict_fsck_clean -1",
        "verdict_ingest_inflight_bytes 0",
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
    assert!(text.ends_with("# EOF\n") && !text.contains("secret"), "{text}");
    assert!(text.contains("route=\"/traces/{id}\""), "{text}");
    let resident = text.lines().find_map(|line| line.strip_prefix("verdict_process_resident_memory_bytes "));
    assert!(resident.unwrap().parse::<u64>().unwrap() > 1 << 20);
}

/// Takes one OTLP request and answers it.
fn receive(listener: &TcpListener) -> (String, ExportTraceServiceRequest) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let read = stream.read(&mut piece).unwrap();
        bytes.extend_from_slice(&piece[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().parse().unwrap();
        if bytes.len() >= end + 4 + length {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            return (head, ExportTraceServiceRequest::decode(&bytes[end + 4..]).unwrap());
        }
    }
}

#[test]
fn requests_and_appends_are_traced_below_the_caller_and_hold_no_payload() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = Running::with(|_, options| {
        options.telemetry =
            Some(Arc::new(Settings { endpoint, service: "audit".to_owned(), headers: Vec::new() }));
    });
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let reply = server.ask("POST", "/api/v1/events", &[("traceparent", parent)], event(1).as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    server.ask("GET", "/healthz", &[], b"");
    // What waits is sent when the server ends.
    drop(server);
    let (head, request) = receive(&listener);
    assert!(head.starts_with("post /v1/traces "), "{head}");
    let resource = &request.resource_spans[0];
    assert!(format!("{:?}", resource.resource).contains("audit"));
    let spans = &resource.scope_spans[0].spans;
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["append", "POST /api/v1/events"]);
    for span in spans {
        assert_eq!(hex::encode(&span.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    assert_eq!(hex::encode(&spans[1].parent_span_id), "00f067aa0ba902b7");
    assert_eq!(spans[0].parent_span_id, spans[1].span_id);
    assert!(!format!("{request:?}").contains("issue_refund"));
}

/// Writes a file that only its owner reads.
fn private(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A certificate authority, a certificate of the server, and one of a client named by a SPIFFE id.
struct Pki {
    ca: String,
    client_cert: String,
    client_key: String,
    files: TlsFiles,
}

impl Pki {
    fn new(dir: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let client_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["collector.example.org".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://example.org/collector".try_into().unwrap()));
        let client = params.signed_by(&client_key, &ca).unwrap();
        let mut files = TlsFiles::new(
            private(dir, "cert.pem", &server.pem()),
            private(dir, "key.pem", &key.serialize_pem()),
        );
        files.client_ca = Some(private(dir, "ca.pem", &ca.pem()));
        Self { ca: ca.pem(), client_cert: client.pem(), client_key: client_key.serialize_pem(), files }
    }

    fn ask(&self, server: &Running, with_certificate: bool, request: &str) -> std::io::Result<String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if with_certificate {
            let certificate = CertificateDer::from_pem_slice(self.client_cert.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(self.client_key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let name = ServerName::try_from("localhost").unwrap();
        let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(server.http)?);
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        if answer.is_empty() {
            ended?;
        }
        Ok(String::from_utf8(answer).unwrap())
    }
}

fn post(body: &str, more: &str) -> String {
    format!(
        "POST /api/v1/events HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_client_certificate_lets_in_and_names_the_sender() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let server = Running::with(|ledger, options| {
        options.tls = Some(Tls::load(&pki.files).unwrap());
        options.gate = Some(gate(ledger));
    });
    let taken = pki.ask(&server, true, &post(&event(1), "")).unwrap();
    assert!(taken.starts_with("HTTP/1.1 200"), "{taken}");
    assert!(pki.ask(&server, false, &post(&event(2), "")).is_err(), "no certificate, no connection");
    let last = server.ledger.head().size - 1;
    let peer = server.ledger.record(last).unwrap().unwrap().event.unwrap().source.peer;
    assert_eq!(peer.as_deref(), Some("mtls:spiffe://example.org/collector"));
    let page = pki.ask(&server, true, "GET /traces HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(page.unwrap().starts_with("HTTP/1.1 403"), "a certificate alone may only send");
    // Without TLS nobody gets anywhere.
    assert_eq!(server.ask("GET", "/healthz", &[], b"").status, 0);
}

#[test]
fn with_optional_certificates_a_token_does_and_the_session_cookie_is_secure() {
    let dir = tempfile::tempdir().unwrap();
    let mut pki = Pki::new(dir.path());
    pki.files.client_cert_required = false;
    let mut tokens = Vec::new();
    let server = Running::with(|ledger, options| {
        options.tls = Some(Tls::load(&pki.files).unwrap());
        tokens.push(token(ledger, "ada", &[Scope::Ingest, Scope::Read]));
        options.gate = Some(gate(ledger));
    });
    assert!(pki.ask(&server, false, &post(&event(1), "")).unwrap().starts_with("HTTP/1.1 401"));
    let bearer = format!("authorization: Bearer {}\r\n", tokens[0]);
    assert!(pki.ask(&server, false, &post(&event(1), &bearer)).unwrap().starts_with("HTTP/1.1 200"));
    let body = format!("token={}", tokens[0]);
    let request = format!(
        "POST /login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = pki.ask(&server, false, &request).unwrap();
    assert!(
        answer.contains("set-cookie: __Host-verdict_session=") && answer.contains("; Secure"),
        "{answer}"
    );
    std::fs::set_permissions(&pki.files.key, std::fs::Permissions::from_mode(0o604)).unwrap();
    assert!(Tls::load(&pki.files).unwrap_err().to_string().contains("chmod o-rwx"));
}

#[test]
fn stopping_finishes_what_is_open_and_takes_nothing_new() {
    let mut server = Running::start();
    let before = server.ledger.head().size;
    // A request whose body is still on its way when the server is told to stop.
    let body = event(1);
    let mut open = server.connect();
    let (first, rest) = body.split_at(10);
    let head =
        format!("POST /api/v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    open.write_all(head.as_bytes()).unwrap();
    open.write_all(first.as_bytes()).unwrap();
    // The server has it when it has answered somebody who came later.
    while !server.ask("GET", "/metrics", &[], b"").text().contains("verdict_ingest_requests_running 1") {}
    server.tell_to_stop();
    while TcpStream::connect(server.http).is_ok() {}
    open.write_all(rest.as_bytes()).unwrap();
    let reply = Running::reply(open);
    assert_eq!(reply.status, 200, "{}", reply.head);
    server.join();
    assert_eq!(server.ledger.head().size, before + 1, "acknowledged and there");
}
