//! What the indexes find an entry by.
//!
//! Everything here follows from the entry alone, except the subject, which follows from the row of its disclosed
//! values: a disclosed value never reaches an index in the clear.

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
        key.push(self as u8);
        key.extend_from_slice(term);
        if !matches!(self, Self::Trace | Self::Subject) {
            key.push(0);
        }
        key
    }
}

/// The terms of one entry, as starts of keys, and its trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Terms {
    /// Starts of keys, sorted, each once.
    pub(super) keys: Vec<Vec<u8>>,
    /// The trace that an event belongs to.
    pub(super) trace: Option<TraceId>,
}

impl Terms {
    /// Reads them from a body, before or after its disclosures were split off.
    pub(super) fn of(kind: &str, body: &Map<String, Value>, subject: Option<Subject>) -> Self {
        let mut keys = vec![Tag::Kind.key(indexed_text(kind).as_bytes())];
        keys.extend(subject.map(|subject| Tag::Subject.key(&subject)));
        if kind != ACTION_REPORTED {
            return Self { keys: sorted(keys), trace: None };
        }
        let mut add = |tag: Tag, text: Option<&str>| {
            if let Some(text) = text {
                keys.push(tag.key(indexed_text(text).as_bytes()));
            }
        };
        let text = |path: &[&str]| at(body, path).and_then(Value::as_str);
        add(Tag::Agent, text(&["agent", "name"]).or_else(|| text(&["agent", "id"])));
        add(Tag::Tool, text(&["action", "name"]));
        add(Tag::Effect, text(&["decision", "effect"]));
        add(Tag::Session, text(&["session"]));
        let rules = at(body, &["decision", "policy", "rules"]).and_then(Value::as_array);
        for rule in rules.map(Vec::as_slice).unwrap_or_default() {
            add(Tag::Rule, rule.as_str());
        }
        let said = [
            &["decision", "reason"][..],
            &["decision", "code"],
            &["action", "name"],
            &["agent", "name"],
            &["outcome", "error", "type"],
        ];
        for word in words(said.iter().filter_map(|path| text(path))) {
            add(Tag::Word, Some(&word));
        }
        let trace = text(&["trace_id"]).and_then(|id| id.parse::<TraceId>().ok());
        keys.extend(trace.map(|trace| Tag::Trace.key(&trace.0)));
        Self { keys: sorted(keys), trace }
    }
}

fn sorted(mut keys: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn at<'a>(body: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(body.get(*first)?, |value, name| value.get(name))
}

/// Returns a text as the indexes hold it: without NUL, which ends it in a key, and cut.
pub(super) fn indexed_text(text: &str) -> String {
    let mut cut: String = text.chars().filter(|c| *c != '\0').collect();
    let mut end = cut.len().min(INDEXED_BYTES_MAX);
    while !cut.is_char_boundary(end) {
        end -= 1;
    }
    cut.truncate(end);
    cut
}

/// Splits texts into the words that are indexed: runs of letters, lower case. Numbers and identifiers are left out:
/// each occurs once, and an index of them would be larger than what it finds; they have indexes of their own.
pub(super) fn words<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut words: Vec<String> = texts
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty() && !word.chars().any(char::is_numeric))
        .filter(|word| WORD_CHARS.contains(&word.chars().count()))
        .map(str::to_lowercase)
        .take(WORDS_MAX)
        .collect();
    words.sort_unstable();
    words.dedup();
    words
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
        let has = |tag: Tag, text: &str| terms.keys.contains(&tag.key(text.as_bytes()));
        assert!(
            has(Tag::Agent, "support-agent") && has(Tag::Tool, "issue_refund") && has(Tag::Effect, "block")
        );
        assert!(has(Tag::Rule, "r.one") && has(Tag::Rule, "r.two") && has(Tag::Session, "s-1"));
        assert!(has(Tag::Word, "limit") && has(Tag::Word, "refund") && !has(Tag::Word, "500"));
        assert!(
            terms.keys.contains(&Tag::Subject.key(&[9; 16]))
                && terms.keys.contains(&Tag::Trace.key(&terms.trace.unwrap().0))
        );
        assert!(!terms.keys.iter().any(|key| key.windows(3).any(|part| part == b"ada")));
    }

    #[test]
    fn texts_are_cut_at_characters_and_hold_no_nul() {
        assert_eq!(indexed_text("a\0b"), "ab");
        assert_eq!(indexed_text(&"é".repeat(101)).len(), 200);
    }
}
