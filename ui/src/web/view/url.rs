//! Writing addresses: every link is built here, so that what agents named cannot change where it leads.

use std::fmt::Write;

/// Percent-encodes a query value or path segment; only unreserved characters stay.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                // Writing to a string does not fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// Writes a path with the query pairs that have a value, in the order given.
pub(crate) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut out = path.to_owned();
    let mut separator = '?';
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        out.push(separator);
        out.push_str(name);
        out.push('=');
        out.push_str(&encode(value));
        separator = '&';
    }
    out
}

/// Returns a path of this server as it is, and `/` for anything that could lead elsewhere.
pub(crate) fn local_or_root(target: &str) -> &str {
    let local = target.starts_with('/')
        && !target.starts_with("//")
        && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if local { target } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_break_out_of_their_place() {
        assert_eq!(encode("a&b=c#d/é"), "a%26b%3Dc%23d%2F%C3%A9");
        assert_eq!(
            with_query("/traces", &[("agent", ""), ("tool", "a b"), ("at", "7")]),
            "/traces?tool=a%20b&at=7"
        );
        assert_eq!(with_query("/traces", &[]), "/traces");
    }

    #[test]
    fn redirects_stay_here() {
        assert_eq!(local_or_root("/traces?at=7"), "/traces?at=7");
        for bad in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "",
            "/a\r\nb",
            "javascript:alert(1)",
        ] {
            assert_eq!(local_or_root(bad), "/", "{bad}");
        }
    }
}
