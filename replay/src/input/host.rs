//! Features that need parsing: the host of a URL and the domain of an e-mail address.
//!
//! Policies compare these with allow-lists and block-lists, so a text that two programs could read in two ways
//! has no host: the feature is then [`UNREADABLE`], a reserved name (RFC 2606) that no list of real hosts holds.
//! It is present, so that a rule like `host != "ours"` fires. Where arguments name several hosts, the feature is
//! all of them, sorted and joined with `,`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

/// Stands for a text that is meant as a URL or address and cannot be read in one way only.
pub(super) const UNREADABLE: &str = "unreadable.invalid";

const URL_ARGUMENTS: [&str; 5] = ["url", "urls", "uri", "href", "endpoint"];
const EMAIL_ARGUMENTS: [&str; 7] = ["to", "cc", "bcc", "recipient", "recipients", "email", "emails"];

/// Returns the host of the arguments that hold a URL, else of the resource when it is one.
pub(super) fn url_host(arguments: Option<&Value>, resource: Option<&str>) -> Option<String> {
    let texts = texts(arguments, &URL_ARGUMENTS);
    if !texts.is_empty() {
        return join(texts.into_iter().map(|text| host(text).unwrap_or_else(|| UNREADABLE.to_owned())));
    }
    let resource = resource.filter(|text| text.contains("://"))?;
    Some(host(resource).unwrap_or_else(|| UNREADABLE.to_owned()))
}

/// Returns the domain of the arguments that hold e-mail addresses.
pub(super) fn email_domain(arguments: Option<&Value>) -> Option<String> {
    let texts = texts(arguments, &EMAIL_ARGUMENTS);
    // A recipient that is no address at all (a user name, a channel) says nothing about mail.
    if !texts.iter().any(|text| text.contains('@')) {
        return None;
    }
    let addresses =
        texts.iter().flat_map(|text| text.split([',', ';'])).filter(|text| !text.trim().is_empty());
    join(addresses.map(|address| domain(address).unwrap_or_else(|| UNREADABLE.to_owned())))
}

fn texts<'v>(arguments: Option<&'v Value>, names: &[&str]) -> Vec<&'v str> {
    let Some(Value::Object(members)) = arguments else { return Vec::new() };
    let matching = members.iter().filter(|(name, _)| names.contains(&name.to_ascii_lowercase().as_str()));
    matching
        .flat_map(|(_, value)| match value {
            Value::Array(items) => items.iter().collect(),
            other => vec![other],
        })
        .filter_map(Value::as_str)
        .filter(|text| !text.trim().is_empty())
        .collect()
}

fn join(hosts: impl Iterator<Item = String>) -> Option<String> {
    let all: BTreeSet<String> = hosts.collect();
    (!all.is_empty()).then(|| all.into_iter().collect::<Vec<_>>().join(","))
}

/// Reads the host of a URL, or of the scheme-less form that fetchers complete (`example.org/x`).
fn host(text: &str) -> Option<String> {
    let text = text.trim();
    // Browsers read `\` as `/` and skip tabs and line breaks; other programs do not.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return None;
    }
    let rest = match text.split_once("://") {
        Some((scheme, rest)) => {
            let mut bytes = scheme.bytes();
            let well_formed = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
            well_formed.then_some(rest)?
        }
        None => text.strip_prefix("//").unwrap_or(text),
    };
    let authority = rest.split(['/', '?', '#']).next()?;
    let mut parts = authority.split('@');
    let (first, second) = (parts.next()?, parts.next());
    // Programs differ on which `@` ends the user name.
    if parts.next().is_some() {
        return None;
    }
    let host_port = second.unwrap_or(first);
    if let Some(bracketed) = host_port.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        let address: Ipv6Addr = address.parse().ok().filter(|_| port_ok)?;
        return Some(match address.to_ipv4_mapped() {
            Some(v4) => v4.to_string(),
            None => format!("[{address}]"),
        });
    }
    let name = match host_port.split_once(':') {
        Some((name, port)) => Some(name).filter(|_| port.is_empty() || is_port(port))?,
        None => host_port,
    };
    name_or_ipv4(name)
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Reads a host name in ASCII (IDNs in their `xn--` form) or a dotted IPv4 address.
fn name_or_ipv4(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.is_empty() || name.len() > 253 || !name.split('.').all(label_ok) {
        return None;
    }
    let last = name.rsplit('.').next()?;
    // `2130706433`, `0x7f.1` and `127.1` are addresses to a browser: only the plain dotted form is one to us.
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")).is_some();
    if numeric {
        return name.parse::<Ipv4Addr>().ok().map(|address| address.to_string());
    }
    Some(name.to_ascii_lowercase())
}

/// Reads the domain of one address, bare or in angle brackets after a display name.
fn domain(text: &str) -> Option<String> {
    let text = text.trim();
    let address = match text.split_once('<') {
        Some((_, rest)) => rest.strip_suffix('>')?,
        None => text,
    };
    let mut parts = address.split('@');
    let (local, domain) = (parts.next()?, parts.next()?);
    // `@` inside a quoted local part, comments and address literals are legal and unread here.
    let plain =
        |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '"' | '(' | ')' | '<' | '>' | '\\');
    if parts.next().is_some() || local.is_empty() || !address.chars().all(plain) {
        return None;
    }
    name_or_ipv4(domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hosts_are_read_in_one_way_or_not_at_all() {
        let cases = [
            ("https://Example.ORG/path?q#f", Some("example.org")),
            ("https://user:pw@example.org:8443/x", Some("example.org")),
            ("http://example.org.", Some("example.org")),
            ("HTTP://[2001:DB8::1]:80/", Some("[2001:db8::1]")),
            ("http://[::ffff:127.0.0.1]/", Some("127.0.0.1")),
            ("http://127.0.0.1/", Some("127.0.0.1")),
            ("example.org/x", Some("example.org")),
            ("//example.org/x", Some("example.org")),
            ("localhost:8080/x", Some("localhost")),
            ("http://xn--bcher-kva.example/", Some("xn--bcher-kva.example")),
            ("  https://example.org ", Some("example.org")),
            ("https://example.org?x=https://evil.example", Some("example.org")),
            ("https://good.example\\@evil.example/", None),
            ("https://a@b@evil.example/", None),
            ("https://good.example%2eevil.example/", None),
            ("https://exa\tmple.org/", None),
            ("http://2130706433/", None),
            ("http://0x7f.1/", None),
            ("http://127.1/", None),
            ("http://bücher.example/", None),
            ("http://[::1", None),
            ("http://[::1]x/", None),
            ("http://example.org:99999/", None),
            ("javascript:alert(1)", None),
            ("data:text/html,x", None),
            ("http:///etc/passwd", None),
            ("", None),
            ("1x://example.org", None),
        ];
        for (text, want) in cases {
            assert_eq!(host(text).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn several_hosts_are_all_named_and_unreadable_ones_are_present() {
        let arguments =
            json!({"url": ["https://b.example", "https://a.example"], "uri": "https://b.example/2"});
        assert_eq!(url_host(Some(&arguments), None).as_deref(), Some("a.example,b.example"));
        let bad = json!({"URL": "http://a@b@c/"});
        assert_eq!(url_host(Some(&bad), Some("https://x.example")).as_deref(), Some(UNREADABLE));
        assert_eq!(
            url_host(Some(&json!({"q": "x"})), Some("https://x.example/d")).as_deref(),
            Some("x.example")
        );
        assert_eq!(url_host(Some(&json!({"q": "x"})), Some("orders")), None);
        assert_eq!(url_host(None, None), None);
    }

    #[test]
    fn mail_domains() {
        let one = |to: Value| email_domain(Some(&json!({ "to": to })));
        assert_eq!(one(json!("Ann <ann@Example.ORG>")).as_deref(), Some("example.org"));
        assert_eq!(one(json!("a@b.example, c@d.example")).as_deref(), Some("b.example,d.example"));
        assert_eq!(one(json!(["a@b.example", "x"])).as_deref(), Some("b.example,unreadable.invalid"));
        assert_eq!(one(json!("\"a@b\"@c.example")).as_deref(), Some(UNREADABLE));
        assert_eq!(one(json!("alice")), None);
        assert_eq!(
            email_domain(Some(&json!({"to": "a@ours.example", "bcc": "z@evil.example"}))).as_deref(),
            Some("evil.example,ours.example")
        );
    }
}
