//! Records of a JSON body: one object a line, one array of objects, or one object that may span lines.
//!
//! A sender that posts an array and one that posts lines say the same, so every JSON format takes all three. A body
//! that is broken in one place is still taken apart, so that only the broken record is refused.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::fields::Fields;
use super::json::{self, JsonError, Numbers, Rules};
use super::lines::lines;
use super::{IngestError, Reason, Sink};

/// One record that is not blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece<'b> {
    /// Where it is, in `source.path`: `line/12`, `item/3`, `line/12/item/0` or `document`.
    pub(super) path: String,
    /// Offset of its first byte in the body.
    pub(super) offset: usize,
    /// Its bytes.
    pub(super) bytes: &'b [u8],
    /// True when the body ends with it and no line end or bracket follows: the writer may have been cut off.
    pub(super) open: bool,
}

impl Piece<'_> {
    /// Names the record in messages: `line 12`, `item 3`.
    pub(super) fn place(&self) -> String {
        self.path.replace('/', " ")
    }
}

/// Takes a body apart.
pub(super) fn pieces(body: &[u8]) -> Vec<Piece<'_>> {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let skipped = body.len().saturating_sub(text.len());
    let blank = text.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let start = text.get(blank..).unwrap_or_default();
    let first_end = value_end(start);
    let first_line = start.iter().position(|&byte| byte == b'\n').unwrap_or(start.len());
    let spans_lines = first_end.is_none_or(|end| end > first_line);
    let offset = skipped.saturating_add(blank);
    let rest_is_blank = |end: usize| start.get(end..).is_some_and(|rest| rest.trim_ascii().is_empty());
    match (start.first(), first_end) {
        (Some(b'['), Some(end)) if rest_is_blank(end) => items(start, offset, ""),
        // An array that never ends is one that was cut off, unless its first line is whole in itself.
        (Some(b'['), None) => items(start, offset, ""),
        (Some(b'{'), Some(end))
            if spans_lines
                && rest_is_blank(end)
                && serde_json::from_slice::<IgnoredAny>(start.get(..end).unwrap_or_default()).is_ok() =>
        {
            let bytes = start.get(..end).unwrap_or_default();
            vec![Piece { path: "document".to_owned(), offset, bytes, open: false }]
        }
        _ => {
            let mut all = Vec::new();
            for line in lines(body) {
                if line.bytes.trim_ascii_start().first() == Some(&b'[') {
                    all.extend(items(line.bytes, line.offset, &format!("{}/", line.path())));
                } else {
                    let path = line.path();
                    all.push(Piece { path, offset: line.offset, bytes: line.bytes, open: line.open });
                }
            }
            all
        }
    }
}

/// Takes an array apart; what follows a broken item is one broken record.
fn items<'b>(text: &'b [u8], offset: usize, prefix: &str) -> Vec<Piece<'b>> {
    let mut found = Vec::new();
    let Some(mut at) = text.iter().position(|&byte| byte == b'[').map(|at| at.saturating_add(1)) else {
        return found;
    };
    let mut push = |start: usize, end: usize, open: bool| {
        let bytes = text.get(start..end).unwrap_or_default();
        let path = format!("{prefix}item/{}", found.len());
        found.push(Piece { path, offset: offset.saturating_add(start), bytes, open });
    };
    loop {
        at = at.saturating_add(blanks(text, at));
        match text.get(at) {
            None => {
                // Everything so far is whole, and the end of the array is missing: say so.
                push(at, at, true);
                break;
            }
            Some(b']') => break,
            Some(_) => {}
        }
        let rest = text.get(at..).unwrap_or_default();
        let Some(len) = value_end(rest).filter(|&len| len > 0) else {
            push(at, text.len(), true);
            break;
        };
        let end = at.saturating_add(len);
        let next = end.saturating_add(blanks(text, end));
        match text.get(next) {
            Some(b',') => {
                push(at, end, false);
                at = next.saturating_add(1);
            }
            Some(b']') => {
                push(at, end, false);
                break;
            }
            None => {
                push(at, end, false);
                at = next;
            }
            // Two values without a comma: the reader of the record says where.
            Some(_) => {
                push(at, text.len(), false);
                break;
            }
        }
    }
    found
}

fn blanks(text: &[u8], at: usize) -> usize {
    text.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Returns where the first value of a text ends, by its brackets and quotes; `None` when it does not.
pub(super) fn value_end(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for (at, &byte) in text.iter().enumerate() {
        let after = at.saturating_add(1);
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    in_string = false;
                    if depth == 0 {
                        return Some(after);
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' if depth <= 1 => return Some(if depth == 0 { at } else { after }),
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return Some(at),
            byte if depth == 0 && byte.is_ascii_whitespace() && at > 0 => return Some(at),
            _ => {}
        }
    }
    (depth == 0 && !in_string && !text.is_empty()).then_some(text.len())
}

/// Reads a record as a bag of members; numbers that canonical JSON cannot carry become strings that the bag knows.
pub(super) fn foreign(piece: &Piece<'_>, sink: &Sink<'_>) -> Result<Fields, Reason> {
    let (value, restated) = value(piece, sink, Numbers::Restated)?;
    match value {
        Value::Object(members) => Ok(Fields::from_object(members, &restated)),
        other => Err(Reason::NotObject { found: json::type_name(&other) }),
    }
}

/// Reads a record, under the rules of every JSON format; with the pointers of numbers that became strings.
pub(super) fn value(
    piece: &Piece<'_>,
    sink: &Sink<'_>,
    numbers: Numbers,
) -> Result<(Value, Vec<String>), Reason> {
    let limits = sink.limits;
    if piece.bytes.len() > limits.line_bytes_max {
        return Err(Reason::LineTooLong { limit: limits.line_bytes_max });
    }
    let rules = Rules { depth_max: limits.json_depth_max.min(120), nodes_max: limits.nodes_max, numbers };
    json::read_restated(piece.bytes, rules).map_err(|error| match error {
        JsonError::Truncated { .. } if piece.open => Reason::Truncated,
        // Cut inside a character.
        JsonError::Utf8 { offset } if piece.open && piece.bytes.len().saturating_sub(offset) < 4 => {
            Reason::Truncated
        }
        other => Reason::Json(other.shifted(piece.offset)),
    })
}

/// Maps every record of a body by itself and rejects those that `map` cannot take.
pub(super) fn each(
    body: &[u8],
    sink: &mut Sink<'_>,
    mut map: impl FnMut(&Piece<'_>, &mut Sink<'_>) -> Result<(), Reason>,
) -> Result<(), IngestError> {
    for piece in pieces(body) {
        if let Err(reason) = map(&piece, sink) {
            sink.reject(&piece.place(), Some(piece.offset), reason)?;
        } else {
            sink.room_left()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(body: &str) -> Vec<(String, usize, String, bool)> {
        pieces(body.as_bytes())
            .into_iter()
            .map(|piece| {
                let text = String::from_utf8(piece.bytes.to_vec()).unwrap();
                (piece.path, piece.offset, text, piece.open)
            })
            .collect()
    }

    fn texts(body: &str) -> Vec<(String, String)> {
        found(body).into_iter().map(|(path, _, text, _)| (path, text)).collect()
    }

    #[test]
    fn lines_arrays_and_documents_are_told_apart() {
        assert_eq!(
            found("{\"a\":1}\n\n{\"b\":\"]\"}"),
            [
                ("line/1".into(), 0, "{\"a\":1}".into(), false),
                ("line/3".into(), 9, "{\"b\":\"]\"}".into(), true)
            ]
        );
        assert_eq!(
            found("\u{feff}[\n {\"a\":[1,2]} , {\"b\":\"},{\"}\n]\n"),
            [
                ("item/0".into(), 6, "{\"a\":[1,2]}".into(), false),
                ("item/1".into(), 20, "{\"b\":\"},{\"}".into(), false)
            ]
        );
        assert_eq!(texts("{\n \"a\": {}\n}\n"), [("document".into(), "{\n \"a\": {}\n}".into())]);
        assert_eq!(
            texts("[{\"a\":1},{\"b\":2}]\n{\"c\":3}\n"),
            [
                ("line/1/item/0".into(), "{\"a\":1}".into()),
                ("line/1/item/1".into(), "{\"b\":2}".into()),
                ("line/2".into(), "{\"c\":3}".into())
            ]
        );
        assert_eq!(texts("[]"), []);
        assert_eq!(texts(""), []);
    }

    #[test]
    fn a_broken_record_leaves_the_others_whole() {
        let broken = found("{\"a\":\n{\"b\":1}\n");
        assert_eq!(broken.len(), 2);
        assert_eq!(
            found("[{\"a\":1},{\"b\":"),
            [("item/0".into(), 1, "{\"a\":1}".into(), false), ("item/1".into(), 9, "{\"b\":".into(), true)]
        );
        // The bracket is missing: what came is kept, and that something is missing is said.
        assert_eq!(
            found("[{\"a\":1}"),
            [("item/0".into(), 1, "{\"a\":1}".into(), false), ("item/1".into(), 8, String::new(), true)]
        );
        assert_eq!(texts("[{\"a\":1} {\"b\":2}]").len(), 1);
    }

    proptest! {
        #[test]
        fn every_way_of_sending_gives_the_same_records(names in prop::collection::vec("[a-z\"\\\\\\[\\]{}, ]{0,6}", 1..6)) {
            let records: Vec<String> =
                names.iter().map(|name| serde_json::json!({"name": name, "list": [name]}).to_string()).collect();
            let as_lines: Vec<_> = texts(&records.join("\n")).into_iter().map(|(_, text)| text).collect();
            let as_array: Vec<_> =
                texts(&format!("[{}]", records.join(" ,\n"))).into_iter().map(|(_, text)| text).collect();
            prop_assert_eq!(&as_lines, &records);
            prop_assert_eq!(&as_array, &records);
        }

        #[test]
        fn pieces_are_parts_of_the_body(body in prop::collection::vec(any::<u8>(), 0..80)) {
            for piece in pieces(&body) {
                let end = piece.offset + piece.bytes.len();
                prop_assert_eq!(body.get(piece.offset..end), Some(piece.bytes));
            }
        }
    }
}
