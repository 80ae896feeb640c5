//! Which members of the input a bundle can read, found in its source.
//!
//! A read of a path is a read of everything below it. Whatever the scan does not understand (`input` on its own,
//! a variable right after it, a file that is not Rego) counts as a read of the whole document, so that the answer
//! errs on the side of "may read".

use serde_json::{Map, Value};

use crate::policy::Bundle;

/// Paths that the host itself reads to decide.
const HOST_READS: [&[&str]; 2] = [&["schema"], &["action", "kind"]];

/// What a bundle can read of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reads {
    /// `None`: anything.
    paths: Option<Vec<Vec<String>>>,
}

impl Reads {
    pub(super) fn of(bundle: &Bundle) -> Self {
        let mut paths: Vec<Vec<String>> = Vec::new();
        for (path, bytes) in bundle.policies() {
            let rego = std::path::Path::new(path).extension().is_some_and(|extension| extension == "rego");
            let Some(found) = std::str::from_utf8(bytes).ok().filter(|_| rego).and_then(scan) else {
                return Self { paths: None };
            };
            paths.extend(found);
        }
        paths.extend(HOST_READS.iter().map(|path| path.iter().map(|step| (*step).to_owned()).collect()));
        paths.sort();
        paths.dedup();
        Self { paths: Some(paths) }
    }

    /// Tells whether anything at or below a JSON pointer may be read.
    pub(super) fn may_read(&self, pointer: &str) -> bool {
        let Some(paths) = &self.paths else { return true };
        let steps: Vec<&str> = pointer.split('/').skip(1).collect();
        paths.iter().any(|path| path.iter().zip(&steps).all(|(a, b)| a == b))
    }

    /// Returns the part of an input that can be read: equal parts give equal decisions.
    pub(super) fn restrict(&self, input: &Value) -> Value {
        let Some(paths) = &self.paths else { return input.clone() };
        let mut out = Value::Object(Map::new());
        for path in paths {
            copy(input, &mut out, path);
        }
        out
    }
}

fn copy(from: &Value, to: &mut Value, path: &[String]) {
    let Some((step, rest)) = path.split_first() else {
        *to = from.clone();
        return;
    };
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            if let Some(value) = from.get(step) {
                // A path may go deeper into what a shorter one has copied whole; writing it again changes nothing.
                copy(value, to.entry(step.clone()).or_insert_with(|| Value::Object(Map::new())), rest);
            }
        }
        // A field of something that has none: that it is a list or a text is what the policy learns.
        (from, to) => *to = from.clone(),
    }
}

/// Finds the paths after `input` in Rego, or `None` for the whole document.
fn scan(source: &str) -> Option<Vec<Vec<String>>> {
    let mut paths = Vec::new();
    let mut rest = source;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let word_start = !(before.is_alphanumeric() || before == '_' || before == '.');
        if c == '#' {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            before = '\n';
            continue;
        }
        if c == '"' || c == '`' {
            rest = after_string(rest)?;
            before = c;
            continue;
        }
        if word_start
            && let Some(tail) = rest.strip_prefix("input")
            && !tail.starts_with(|next: char| next.is_alphanumeric() || next == '_')
        {
            let (path, tail) = path_after(tail);
            if path.is_empty() {
                return None;
            }
            paths.push(path);
            rest = tail;
            before = 't';
            continue;
        }
        before = c;
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    Some(paths)
}

/// Returns what follows a string literal.
fn after_string(text: &str) -> Option<&str> {
    let quote = text.chars().next()?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if c == quote {
            return text.get(at + 1..);
        }
    }
    None
}

fn path_after(mut text: &str) -> (Vec<String>, &str) {
    let mut path = Vec::new();
    loop {
        if let Some(rest) = text.strip_prefix('.') {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (name, tail) = rest.split_at(end);
            if name.is_empty() {
                return (path, text);
            }
            path.push(name.to_owned());
            text = tail;
        } else if let Some(rest) = text.strip_prefix("[\"") {
            match rest.split_once('"') {
                Some((name, tail)) if tail.starts_with(']') && !name.contains('\\') => {
                    path.push(name.to_owned());
                    text = tail.get(1..).unwrap_or_default();
                }
                _ => return (path, text),
            }
        } else {
            return (path, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn paths(source: &str) -> Option<Vec<String>> {
        scan(source).map(|paths| paths.iter().map(|path| path.join("/")).collect())
    }

    #[test]
    fn finds_paths_and_ignores_comments_strings_and_other_words() {
        let source = r#"
            package p # input.comment
            x if { input.action.arguments["amount"] > 1; my_input.a; a.input.b; inputs.c; "input.text \" input.q" != `input.raw` }
            y := input["state"].trace[k]
        "#;
        assert_eq!(paths(source).unwrap(), ["action/arguments/amount", "state/trace"]);
    }

    #[test]
    fn whatever_is_not_understood_is_the_whole_document() {
        for source in [
            "x := input",
            "input[k].a",
            "walk(input)",
            "f(input, 1)",
            "x := \"open",
            "object.get(input, [\"a\"], 0)",
        ] {
            assert_eq!(paths(source), None, "{source}");
        }
    }

    #[test]
    fn a_read_covers_what_is_above_and_below() {
        let reads = Reads { paths: scan("input.action.arguments.amount; input.user") };
        assert!(reads.may_read("/action/arguments"));
        assert!(reads.may_read("/user/id"));
        assert!(!reads.may_read("/action/name"));
        assert!(!reads.may_read("/on_behalf_of"));
        let input = json!({"action": {"arguments": {"amount": 1, "note": "x"}, "name": "f"}, "user": {"id": "u"}, "event": {"seq": 1}});
        assert_eq!(
            reads.restrict(&input),
            json!({"action": {"arguments": {"amount": 1}}, "user": {"id": "u"}})
        );
        let list = json!({"action": {"arguments": [1, 2]}});
        assert_eq!(reads.restrict(&list), list);
    }
}
