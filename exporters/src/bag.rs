//! The BagIt 1.0 (RFC 8493) tag files of a bundle. A manifest is also what `sha256sum -c` reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// `bagit.txt`.
pub(crate) const DECLARATION: &str = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n";

/// What `bag-info.txt` says.
#[derive(Debug)]
pub(crate) struct Info<'a> {
    /// Name of the bag: the base directory.
    pub(crate) identifier: &'a str,
    /// One line on the content.
    pub(crate) description: &'a str,
    /// Date of the checkpoint's last entry, `YYYY-MM-DD`.
    pub(crate) date: &'a str,
    /// Tool and version.
    pub(crate) software: &'a str,
}

impl Info<'_> {
    /// Writes `bag-info.txt`; payload is every file below `data/`.
    pub(crate) fn to_text(&self, payload: &BTreeMap<String, Vec<u8>>) -> String {
        let bytes: usize = payload.values().map(Vec::len).sum();
        format!(
            "Bag-Software-Agent: {}\nBagging-Date: {}\nExternal-Description: {}\nExternal-Identifier: {}\nPayload-Oxum: {bytes}.{}\n",
            one_line(self.software),
            one_line(self.date),
            one_line(self.description),
            one_line(self.identifier),
            payload.len(),
        )
    }
}

/// Writes a manifest over files in the order of their names.
pub(crate) fn manifest<'a>(files: impl IntoIterator<Item = (&'a String, &'a Vec<u8>)>) -> String {
    let mut out = String::new();
    for (name, content) in files {
        // RFC 8493 encodes CR, LF and %; control characters never get into a bundle's names.
        let name = name.replace('%', "%25");
        let _ = writeln!(out, "{}  {name}", hex::encode(Sha256::digest(content)));
    }
    out
}

/// Reads a manifest back into (name, SHA-256 hex); `Err` is the number of the line that is not one.
pub(crate) fn parse_manifest(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut entries = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let (digest, name) = line.split_once("  ").ok_or(number + 1)?;
        if digest.len() != 64 || entries.insert(name.replace("%25", "%"), digest.to_owned()).is_some() {
            return Err(number + 1);
        }
    }
    Ok(entries)
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_back() {
        let files = BTreeMap::from([
            ("data/100%.txt".to_owned(), b"abc".to_vec()),
            ("data/b".to_owned(), Vec::new()),
        ]);
        let text = manifest(&files);
        assert!(text.starts_with(
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  data/100%25.txt\n"
        ));
        let entries = parse_manifest(&text).unwrap();
        assert_eq!(entries.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
        assert_eq!(parse_manifest("abc  data/x\n"), Err(1));
    }
}
