//! The container: a ZIP archive with exactly one way to write any list of files.
//!
//! Signatures cover files, not archives, and an ordinary ZIP has room for bytes that no file owns: extra fields,
//! comments, gaps, attributes, two different names for one file. So every header is a function of (name, method,
//! CRC, sizes), members follow each other without gaps, and [`read`] rebuilds each header and compares. Whatever
//! is not a member's data is therefore known in advance, and a change in it is found and named.

use std::collections::BTreeSet;
use std::io::Read as _;

/// 1980-01-01, the first day that ZIP can express; time 0. A real date would make equal content unequal.
const DOS_DATE: u16 = 0x0021;
/// Version 2.0 (deflate and directories), the least that readers must know.
const VERSION_NEEDED: u16 = 20;
/// Made by version 2.0 on Unix, so that the permissions below mean something.
const VERSION_MADE_BY: u16 = 0x0314;
/// Names are UTF-8.
const FLAGS: u16 = 0x0800;
/// A regular file, 0644.
const EXTERNAL_ATTRIBUTES: u32 = 0o100_644 << 16;
const LOCAL_LEN: usize = 30;
const CENTRAL_LEN: usize = 46;
const END_LEN: usize = 22;
const LOCAL_MAGIC: u32 = 0x0403_4b50;
const CENTRAL_MAGIC: u32 = 0x0201_4b50;
const END_MAGIC: u32 = 0x0605_4b50;
/// Below this a stored member is as good, and a changed byte in it stays a changed byte.
const DEFLATE_FROM_BYTES: usize = 1024;

/// How a member's bytes stand in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// As they are.
    Stored,
    /// Raw deflate.
    Deflate,
}

impl Method {
    const fn code(self) -> u16 {
        match self {
            Self::Stored => 0,
            Self::Deflate => 8,
        }
    }
}

/// A member ready to be written.
#[derive(Debug)]
pub(crate) struct Packed {
    name: String,
    method: Method,
    crc: u32,
    size: u32,
    stored: Vec<u8>,
}

impl Packed {
    /// Packs a file as it is.
    pub(crate) fn stored(name: impl Into<String>, content: Vec<u8>) -> Result<Self, ArchiveError> {
        let name = name.into();
        let size = small(content.len(), &name)?;
        Ok(Self { crc: crc(&content), size, stored: content, method: Method::Stored, name })
    }

    /// Packs a file with deflate, when that makes it smaller.
    pub(crate) fn deflated(name: impl Into<String>, content: Vec<u8>) -> Result<Self, ArchiveError> {
        if content.len() < DEFLATE_FROM_BYTES {
            return Self::stored(name, content);
        }
        let name = name.into();
        let mut encoder =
            flate2::bufread::DeflateEncoder::new(content.as_slice(), flate2::Compression::new(6));
        let mut stored = Vec::with_capacity(content.len() / 3);
        encoder
            .read_to_end(&mut stored)
            .map_err(|source| ArchiveError::Deflate { name: name.clone(), source })?;
        if stored.len() >= content.len() {
            return Self::stored(name, content);
        }
        let size = small(content.len(), &name)?;
        small(stored.len(), &name)?;
        Ok(Self { crc: crc(&content), size, stored, method: Method::Deflate, name })
    }

    /// Returns the bytes as they will stand in the archive.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.stored
    }

    /// Returns how they stand there.
    pub(crate) const fn method(&self) -> Method {
        self.method
    }
}

/// Why an archive cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Not a ZIP archive at all.
    #[error("this is not a ZIP archive: it neither begins nor ends like one")]
    NotAZip,
    /// A part of the archive is not what the format prescribes.
    #[error("{structure} at byte {offset}: {detail}")]
    Structure {
        /// Which part.
        structure: String,
        /// Where it begins.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
    /// More than the format or the reader's limits allow.
    #[error("{what} is {got}, the limit is {limit}")]
    Limit {
        /// What there is too much of.
        what: String,
        /// How much there is.
        got: u64,
        /// How much may be.
        limit: u64,
    },
    /// A name that is not safe to hand to a file system.
    #[error("`{name}` cannot name a file in a bundle: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// Compression failed.
    #[error("`{name}` cannot be compressed")]
    Deflate {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Bounds on what a reader takes from a file that anybody may have made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Size of the archive, bytes.
    pub archive_bytes: u64,
    /// Number of files.
    pub files: u64,
    /// Size of one file after inflation, bytes.
    pub file_bytes: u64,
    /// Size of all files after inflation, bytes.
    pub total_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { archive_bytes: 1 << 30, files: 60_000, file_bytes: 1 << 30, total_bytes: 2 << 30 }
    }
}

/// Writes an archive.
pub(crate) fn write(members: &[Packed]) -> Result<Vec<u8>, ArchiveError> {
    let count = u16::try_from(members.len()).ok().filter(|count| *count < u16::MAX).ok_or_else(|| {
        ArchiveError::Limit {
            what: "the number of files".into(),
            got: members.len() as u64,
            limit: u64::from(u16::MAX) - 1,
        }
    })?;
    let mut out = Vec::new();
    let mut directory = Vec::new();
    let mut names = Names::default();
    for member in members {
        names.admit(&member.name)?;
        let offset = small(out.len(), "the archive")?;
        let header = Header {
            name: &member.name,
            method: member.method.code(),
            crc: member.crc,
            stored: small(member.stored.len(), &member.name)?,
            size: member.size,
        };
        out.extend(header.local());
        out.extend(&member.stored);
        directory.extend(header.central(offset));
    }
    let offset = small(out.len(), "the archive")?;
    let length = small(directory.len(), "the central directory")?;
    out.extend(directory);
    out.extend(end(count, length, offset));
    small(out.len(), "the archive")?;
    Ok(out)
}

/// A member as it stands in an archive; nothing is inflated yet.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    /// Path, base directory included.
    pub(crate) name: &'a str,
    /// How its bytes stand.
    pub(crate) method: Method,
    /// Its bytes in the archive.
    pub(crate) stored: &'a [u8],
    crc: u32,
    size: u32,
}

/// Why a member cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Damaged {
    /// What is wrong.
    pub(crate) detail: String,
    /// What could be inflated before the damage, so that it can be located.
    pub(crate) partial: Vec<u8>,
}

impl Member<'_> {
    /// Returns the content. Never yields more than the size that the header states and the limits admitted.
    pub(crate) fn content(&self) -> Result<Vec<u8>, Damaged> {
        let content = match self.method {
            Method::Stored => self.stored.to_vec(),
            Method::Deflate => self.inflate()?,
        };
        if content.len() as u64 != u64::from(self.size) {
            let detail = format!("has {} bytes, its header says {}", content.len(), self.size);
            return Err(Damaged { detail, partial: content });
        }
        if crc(&content) != self.crc {
            return Err(Damaged { detail: "does not match its CRC-32".into(), partial: content });
        }
        Ok(content)
    }

    fn inflate(&self) -> Result<Vec<u8>, Damaged> {
        let mut decoder = flate2::bufread::DeflateDecoder::new(self.stored);
        let mut content = Vec::new();
        let mut chunk = [0u8; 16 * 1024];
        loop {
            match decoder.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => content.extend(chunk.get(..read).unwrap_or_default()),
                Err(error) => {
                    return Err(Damaged { detail: format!("cannot be inflated: {error}"), partial: content });
                }
            }
            if content.len() as u64 > u64::from(self.size) {
                let detail = format!("inflates to more than the {} bytes of its header", self.size);
                return Err(Damaged { detail, partial: content });
            }
        }
        if decoder.total_in() != self.stored.len() as u64 {
            let detail = "has bytes after the end of its deflate stream".into();
            return Err(Damaged { detail, partial: content });
        }
        Ok(content)
    }
}

/// Reads an archive that [`write`] wrote; every other way to write the same files is refused.
pub(crate) fn read<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Vec<Member<'a>>, ArchiveError> {
    let whole = bytes.len() as u64;
    limit("the size of the archive", whole, limits.archive_bytes)?;
    let begins = u32_at(bytes, 0) == Some(LOCAL_MAGIC);
    let end_at = bytes.len().checked_sub(END_LEN);
    let ends = end_at.is_some_and(|at| u32_at(bytes, at) == Some(END_MAGIC));
    let Some(end_at) = end_at.filter(|_| begins || ends) else { return Err(ArchiveError::NotAZip) };

    let end_record = || "ZIP end-of-central-directory record".to_owned();
    let count = u16_at(bytes, end_at + 10).unwrap_or(0);
    let length = u32_at(bytes, end_at + 12).unwrap_or(0);
    let directory_at = u32_at(bytes, end_at + 16).unwrap_or(0);
    if bytes.get(end_at..) != Some(end(count, length, directory_at).as_slice())
        || u64::from(directory_at) + u64::from(length) != end_at as u64
    {
        return Err(structure(
            end_record(),
            end_at,
            "not where and what it must be; the file was cut, extended or changed",
        ));
    }
    limit("the number of files", u64::from(count), limits.files)?;

    let mut members = Vec::with_capacity(usize::from(count));
    let mut names = Names::default();
    let mut total = 0u64;
    let mut at = directory_at as usize;
    let mut data_at = 0usize;
    for number in 1..=count {
        let entry = || format!("ZIP central directory entry {number}");
        let (header, offset) = Header::parse_central(bytes, at, end_at)
            .ok_or_else(|| structure(entry(), at, "it is cut short or its name is not UTF-8"))?;
        let entry = || format!("ZIP central directory entry of `{}`", header.name.escape_default());
        let central = header.central(offset);
        if bytes.get(at..at + central.len()) != Some(central.as_slice()) {
            return Err(structure(entry(), at, "it holds something that a bundle's headers never hold"));
        }
        let local = header.local();
        let content_at = data_at + local.len();
        let content_end = content_at + header.stored as usize;
        if offset as usize != data_at || bytes.get(data_at..content_at) != Some(local.as_slice()) {
            return Err(structure(
                format!("ZIP headers of `{}`", header.name.escape_default()),
                data_at,
                "the local header and the central directory entry do not agree",
            ));
        }
        names.admit(header.name)?;
        limit(&format!("the size of `{}`", header.name), u64::from(header.size), limits.file_bytes)?;
        total += u64::from(header.size);
        limit("the size of all files together", total, limits.total_bytes)?;
        let method = match header.method {
            0 if header.stored == header.size => Method::Stored,
            8 => Method::Deflate,
            _ => return Err(structure(entry(), at, "it names a compression method that bundles do not use")),
        };
        let stored = bytes
            .get(content_at..content_end)
            .filter(|_| content_end <= directory_at as usize)
            .ok_or_else(|| structure(entry(), at, "its data runs into the central directory"))?;
        members.push(Member { name: header.name, method, stored, crc: header.crc, size: header.size });
        at += central.len();
        data_at = content_end;
    }
    if at != end_at || data_at != directory_at as usize {
        return Err(structure(end_record(), end_at, "the files and their entries do not fill the archive"));
    }
    Ok(members)
}

/// The fields that determine both headers of a member.
struct Header<'a> {
    name: &'a str,
    method: u16,
    crc: u32,
    stored: u32,
    size: u32,
}

impl<'a> Header<'a> {
    fn common(&self, out: &mut Vec<u8>) {
        for field in [VERSION_NEEDED, FLAGS, self.method, 0, DOS_DATE] {
            out.extend(field.to_le_bytes());
        }
        for field in [self.crc, self.stored, self.size] {
            out.extend(field.to_le_bytes());
        }
        // Names are bounded far below 64 KiB when they are admitted; a longer one makes headers that no reader accepts.
        out.extend(u16::try_from(self.name.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend([0; 2]);
    }

    fn local(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LOCAL_LEN + self.name.len());
        out.extend(LOCAL_MAGIC.to_le_bytes());
        self.common(&mut out);
        out.extend(self.name.as_bytes());
        out
    }

    fn central(&self, offset: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(CENTRAL_LEN + self.name.len());
        out.extend(CENTRAL_MAGIC.to_le_bytes());
        out.extend(VERSION_MADE_BY.to_le_bytes());
        self.common(&mut out);
        // Comment length, disk number, internal attributes.
        out.extend([0; 6]);
        out.extend(EXTERNAL_ATTRIBUTES.to_le_bytes());
        out.extend(offset.to_le_bytes());
        out.extend(self.name.as_bytes());
        out
    }

    fn parse_central(bytes: &'a [u8], at: usize, end_at: usize) -> Option<(Self, u32)> {
        let name_len = usize::from(u16_at(bytes, at + 28)?);
        let name_at = at + CENTRAL_LEN;
        let name = bytes.get(name_at..name_at + name_len).filter(|_| name_at + name_len <= end_at)?;
        let header = Self {
            name: std::str::from_utf8(name).ok()?,
            method: u16_at(bytes, at + 10)?,
            crc: u32_at(bytes, at + 16)?,
            stored: u32_at(bytes, at + 20)?,
            size: u32_at(bytes, at + 24)?,
        };
        Some((header, u32_at(bytes, at + 42)?))
    }
}

fn end(count: u16, length: u32, offset: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(END_LEN);
    out.extend(END_MAGIC.to_le_bytes());
    out.extend([0; 4]);
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend([0; 2]);
    out
}

/// The names of an archive, each safe and none twice, also where the file system ignores case.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn admit(&mut self, name: &str) -> Result<(), ArchiveError> {
        let refuse = |reason| Err(ArchiveError::Name { name: name.escape_default().to_string(), reason });
        if let Err(reason) = safe_path(name) {
            return refuse(reason);
        }
        if !self.0.insert(name.to_lowercase()) {
            return refuse("another file has the same name, letter case aside");
        }
        Ok(())
    }
}

/// Tells whether a relative path is safe to write below a directory on any common file system.
pub(crate) fn safe_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > 1024 {
        return Err("it is empty or longer than 1024 bytes");
    }
    if path.chars().any(|c| c.is_control() || matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')) {
        return Err("it holds a control character or one of \\ : * ? \" < > |");
    }
    for part in path.split('/') {
        if part.is_empty() || part == "." || part == ".." {
            return Err("it has an empty, `.` or `..` part");
        }
        if part.ends_with(['.', ' ']) || part.starts_with(' ') {
            return Err("a part begins with a space or ends with a dot or space");
        }
    }
    Ok(())
}

fn structure(structure: String, offset: usize, detail: &str) -> ArchiveError {
    ArchiveError::Structure { structure, offset: offset as u64, detail: detail.to_owned() }
}

fn limit(what: &str, got: u64, limit: u64) -> Result<(), ArchiveError> {
    if got > limit { Err(ArchiveError::Limit { what: what.to_owned(), got, limit }) } else { Ok(()) }
}

fn small(len: usize, what: &str) -> Result<u32, ArchiveError> {
    u32::try_from(len).map_err(|_| ArchiveError::Limit {
        what: format!("the size of {what}"),
        got: len as u64,
        limit: u64::from(u32::MAX),
    })
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let text = "the same line again\n".repeat(200).into_bytes();
        write(&[
            Packed::stored("bag/bagit.txt", b"BagIt\n".to_vec()).unwrap(),
            Packed::deflated("bag/data/a.txt", text).unwrap(),
            Packed::deflated("bag/data/empty", Vec::new()).unwrap(),
        ])
        .unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = sample();
        let members = read(&bytes, &Limits::default()).unwrap();
        let names: Vec<_> = members.iter().map(|m| (m.name, m.method)).collect();
        assert_eq!(
            names,
            [
                ("bag/bagit.txt", Method::Stored),
                ("bag/data/a.txt", Method::Deflate),
                ("bag/data/empty", Method::Stored)
            ]
        );
        assert_eq!(members[1].content().unwrap().len(), 4000);
    }

    #[test]
    fn every_flip_outside_the_data_is_named_and_inside_stored_data_changes_it() {
        let good = sample();
        let data: Vec<_> = {
            let members = read(&good, &Limits::default()).unwrap();
            members
                .iter()
                .map(|m| {
                    let start = m.stored.as_ptr() as usize - good.as_ptr() as usize;
                    (start..start + m.stored.len(), m.name.to_owned())
                })
                .collect()
        };
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let inside = data.iter().any(|(range, _)| range.contains(&at));
                match read(&bad, &Limits::default()) {
                    Ok(_) => assert!(inside, "flip of bit {bit} in byte {at} was not seen"),
                    Err(error) => {
                        assert!(!inside, "byte {at}: {error}");
                        let text = error.to_string();
                        assert!(text.contains("ZIP") || text.contains("cannot name"), "byte {at}: {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn limits_hold_before_anything_is_inflated() {
        let bomb = write(&[Packed::deflated("bag/zeros", vec![0; 8 << 20]).unwrap()]).unwrap();
        assert!(bomb.len() < 64 * 1024);
        let limits = Limits { file_bytes: 1 << 20, ..Limits::default() };
        let error = read(&bomb, &limits).unwrap_err();
        assert_eq!(error.to_string(), "the size of `bag/zeros` is 8388608, the limit is 1048576");
        let limits = Limits { total_bytes: 1 << 20, ..Limits::default() };
        assert!(matches!(read(&bomb, &limits), Err(ArchiveError::Limit { .. })));
        let limits = Limits { archive_bytes: 100, ..Limits::default() };
        assert!(matches!(read(&bomb, &limits), Err(ArchiveError::Limit { .. })));
    }

    #[test]
    fn unsafe_and_colliding_names_are_refused() {
        for name in ["../x", "/x", "a//b", "a/./b", "a\\b", "c:x", "", "a\nb", "nul ", "x."] {
            assert!(write(&[Packed::stored(name, Vec::new()).unwrap()]).is_err(), "{name:?}");
        }
        let twice = [Packed::stored("a/B", Vec::new()).unwrap(), Packed::stored("a/b", Vec::new()).unwrap()];
        assert!(write(&twice).unwrap_err().to_string().contains("same name"));
    }

    #[test]
    fn other_files_are_not_zips_and_extra_bytes_are_seen() {
        assert!(matches!(read(b"", &Limits::default()), Err(ArchiveError::NotAZip)));
        assert!(matches!(read(&[7; 500], &Limits::default()), Err(ArchiveError::NotAZip)));
        let mut appended = sample();
        appended.push(0);
        assert!(matches!(read(&appended, &Limits::default()), Err(ArchiveError::Structure { .. })));
        let mut prepended = vec![0u8; 10];
        prepended.extend(sample());
        assert!(matches!(read(&prepended, &Limits::default()), Err(ArchiveError::Structure { .. })));
        let mut cut = sample();
        cut.truncate(cut.len() - 30);
        assert!(matches!(read(&cut, &Limits::default()), Err(ArchiveError::Structure { .. })));
    }
}
