//! Line-based bodies: numbers, offsets and limits.

/// One line that is not blank.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'b> {
    /// Number, from 1.
    pub(super) number: usize,
    /// Offset of its first byte.
    pub(super) offset: usize,
    /// Its bytes without the line end.
    pub(super) bytes: &'b [u8],
    /// True for a last line that no line end follows: the writer may have been cut off.
    pub(super) open: bool,
}

impl Line<'_> {
    /// Names the line in messages.
    pub(super) fn place(&self) -> String {
        format!("line {}", self.number)
    }

    /// Names the line in `source.path`.
    pub(super) fn path(&self) -> String {
        format!("line/{}", self.number)
    }
}

/// Iterates over the lines that are not blank. A byte order mark before the first is skipped.
pub(super) fn lines(body: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut offset = 0_usize;
    body.split_inclusive(|&byte| byte == b'\n').enumerate().filter_map(move |(index, raw)| {
        let start = offset;
        offset = offset.saturating_add(raw.len());
        let (bytes, open) = match raw.strip_suffix(b"\n") {
            Some(rest) => (rest.strip_suffix(b"\r").unwrap_or(rest), false),
            None => (raw, true),
        };
        let (bytes, start) = match bytes.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if index == 0 => (rest, start.saturating_add(3)),
            _ => (bytes, start),
        };
        let blank = bytes.iter().all(u8::is_ascii_whitespace);
        (!blank).then_some(Line { number: index.saturating_add(1), offset: start, bytes, open })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_offsets_count_blank_lines() {
        let body = b"\xef\xbb\xbfa\r\n\n  \nbb\nccc";
        let found: Vec<_> =
            lines(body).map(|line| (line.number, line.offset, line.bytes.to_vec(), line.open)).collect();
        assert_eq!(
            found,
            [(1, 3, b"a".to_vec(), false), (4, 10, b"bb".to_vec(), false), (5, 13, b"ccc".to_vec(), true)]
        );
    }
}
