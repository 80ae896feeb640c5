//! What the indexes find an entry by.
//!
//! Everything here follows from the entry alone, except the subject, which follows from the row of its disclosed
//! values: a disclosed value never reaches an index in the clear.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::seal::Subject;
use crate::event::ACTION_REPORTED;
use crate::id::TraceId;

/// Longest text that is indexed as it is; longer ones are cut for the index only.
const INDEXED_BYTES_MAX: usize = 200;

/// Words of one entry that are indexed.
const WORDS_MAX: usize = 64;

/// Shortest and longest indexed word, in characters.
const WORD_CHARS: std::ops::RangeInclusive<usize> = 2..=32;

/// An index; its number starts the keys of its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Tag {
    Kind = 1,
    Agent = 2,
    Tool = 3,
    Effect = 4,
    Rule = 5,
    Word = 6,
    Session = 7,
    Trace = 16,
    Subject = 17,
}

impl Tag {
    /// Starts a key of this index that ends with a position block: a text is closed by NUL, which it cannot hold;
    /// identifiers have a fixed length.
    pub(super) fn key(self, term: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(term.len() + 2 + size_of::<u64>());
        self.append(term, &mut key);
        key
    }

    fn append(self, term: &[u8], out: &mut Vec<u8>) {
        out.push(self as u8);
        out.extend_from_slice(term);
        if !matches!(self, Self::Trace | Self::Subject) {
            out.push(0);
        }
    }
}

/// The terms of one entry, as starts of keys, and its trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// Starts of keys, one after the other: one allocation for some twenty of them.
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    /// The trace that an event belongs to.
    pub(super) trace: Option<TraceId>,
}

impl Terms {
    /// Reads them from a body, before or after its disclosures were split off.
    pub(super) fn of(kind: &str, body: &Map<String, Value>, subject: Option<Subject>) -> Self {
        let mut terms = Self { bytes: Vec::with_capacity(320), ends: Vec::with_capacity(24), trace: None };
        terms.text(Tag::Kind, kind);
        if let Some(subject) = subject {
            terms.add(Tag::Subject, &subject);
        }
        if kind != ACTION_REPORTED {
            return terms;
        }
        let text = |path: &[&str]| at(body, path).and_then(Value::as_str);
        let (agent, tool) = (text(&["agent", "name"]), text(&["action", "name"]));
        let texts = [
            (Tag::Agent, agent.or_else(|| text(&["agent", "id"]))),
            (Tag::Tool, tool),
            (Tag::Effect, text(&["decision", "effect"])),
            (Tag::Session, text(&["session"])),
        ];
        for (tag, text) in texts {
            text.inspect(|text| terms.text(tag, text));
        }
        let rules = at(body, &["decision", "policy", "rules"]).and_then(Value::as_array);
        for rule in rules.map(Vec::as_slice).unwrap_or_default() {
            rule.as_str().inspect(|rule| terms.text(Tag::Rule, rule));
        }
        let said = [
            text(&["decision", "reason"]),
            text(&["decision", "code"]),
            tool,
            agent,
            text(&["outcome", "error", "type"]),
        ];
        for word in words(said.into_iter().flatten()) {
            terms.add(Tag::Word, word.as_bytes());
        }
        terms.trace = text(&["trace_id"]).and_then(|id| id.parse::<TraceId>().ok());
        if let Some(trace) = terms.trace {
            terms.add(Tag::Trace, &trace.0);
        }
        terms
    }

    fn text(&mut self, tag: Tag, text: &str) {
        self.add(tag, indexed_text(text).as_bytes());
    }

    fn add(&mut self, tag: Tag, term: &[u8]) {
        tag.append(term, &mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Lists the starts of keys; one may come more than once.
    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let key = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            key
        })
    }

    /// Bytes that they take.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }
}

fn at<'a>(body: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(body.get(*first)?, |value, name| value.get(name))
}

/// Returns a text as the indexes hold it: without NUL, which ends it in a key, and cut.
pub(super) fn indexed_text(text: &str) -> Cow<'_, str> {
    let cut = if text.contains('\0') { Cow::from(text.replace('\0', "")) } else { Cow::from(text) };
    if cut.len() <= INDEXED_BYTES_MAX {
        return cut;
    }
    let end = cut.floor_char_boundary(INDEXED_BYTES_MAX);
    Cow::from(cut.get(..end).unwrap_or_default().to_owned())
}

/// Splits texts into the words that are indexed: runs of letters, lower case. Numbers and identifiers are left out:
/// each occurs once, and an index of them would be larger than what it finds; they have indexes of their own.
pub(super) fn words<'a>(texts: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Cow<'a, str>> {
    texts
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty() && !word.chars().any(char::is_numeric))
        .filter(|word| WORD_CHARS.contains(&word.chars().count()))
        .map(|word| {
            let lower = word.bytes().all(|byte| byte.is_ascii_lowercase());
            if lower { Cow::from(word) } else { Cow::from(word.to_lowercase()) }
        })
        .take(WORDS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_found_by_what_it_says_in_the_clear() {
        let body = json!({
            "id": "e", "trace_id": "0102030405060708090a0b0c0d0e0f10", "session": "s-1",
            "agent": {"id": "a-7", "name": "support-agent"},
            "action": {"kind": "tool", "name": "issue_refund"},
            "decision": {"effect": "block", "reason": "Over the limit of 500 EUR", "policy": {"rules": ["r.one", "r.two"]}},
            "user": "ada@example.org",
        });
        let terms = Terms::of(ACTION_REPORTED, body.as_object().unwrap(), Some([9; 16]));
        let has = |tag: Tag, text: &str| terms.keys().any(|key| key == tag.key(text.as_bytes()));
        assert!(
            has(Tag::Agent, "support-agent") && has(Tag::Tool, "issue_refund") && has(Tag::Effect, "block")
        );
        assert!(has(Tag::Rule, "r.one") && has(Tag::Rule, "r.two") && has(Tag::Session, "s-1"));
        assert!(has(Tag::Word, "limit") && has(Tag::Word, "refund") && !has(Tag::Word, "500"));
        let has_id = |tag: Tag, id: [u8; 16]| terms.keys().any(|key| key == tag.key(&id));
        assert!(has_id(Tag::Subject, [9; 16]) && has_id(Tag::Trace, terms.trace.unwrap().0));
        assert!(!terms.keys().any(|key| key.windows(3).any(|part| part == b"ada")));
    }

    #[test]
    fn texts_are_cut_at_characters_and_hold_no_nul() {
        assert_eq!(indexed_text("a\0b"), "ab");
        assert_eq!(indexed_text(&"é".repeat(101)).len(), 200);
    }
}
