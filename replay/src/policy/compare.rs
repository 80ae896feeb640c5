//! What differs between two bundles as texts: files, the rules that changed lines belong to, and data. Not what differs
//! in decisions; that is what a replay tells.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::decision::RuleRef;
use super::engine::Policy;

/// Lines around a change that are shown with it.
const CONTEXT_LINES: usize = 3;

/// What differs between two bundles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Rules that only the second has.
    pub rules_added: Vec<RuleRef>,
    /// Rules that only the first has.
    pub rules_removed: Vec<RuleRef>,
    /// Rules of both whose text changed, with their place in the second.
    pub rules_changed: Vec<RuleRef>,
    /// Values of the `data` document that differ, by JSON pointer.
    pub data: Vec<DataChange>,
    /// Files that differ, by path.
    pub files: Vec<FileChange>,
}

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataChange {
    /// JSON pointer below `data`.
    pub pointer: String,
    /// Value in the first, if there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Value>,
    /// Value in the second, if there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<Value>,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Path.
    pub path: String,
    /// How.
    pub change: Change,
    /// Changed parts of a text file that both have.
    pub hunks: Vec<Hunk>,
}

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have it, with other bytes.
    Changed,
}

/// A changed part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hunk {
    /// First line in the first bundle, from 1.
    pub base_line: u32,
    /// First line in the second bundle, from 1.
    pub head_line: u32,
    /// Rules that the changed lines belong to.
    pub rules: BTreeSet<String>,
    /// Lines, each with its mark: ` `, `-` or `+`.
    pub lines: Vec<String>,
}

/// Compares two bundles.
pub fn compare(base: &Policy, head: &Policy) -> Comparison {
    let names =
        |policy: &Policy| -> BTreeSet<String> { policy.rules().iter().map(|rule| rule.id.clone()).collect() };
    let (before, after) = (names(base), names(head));
    let files = files(base, head);
    let touched: BTreeSet<&String> =
        files.iter().flat_map(|file| file.hunks.iter().flat_map(|hunk| &hunk.rules)).collect();
    let only = |policy: &Policy, others: &BTreeSet<String>| -> Vec<RuleRef> {
        policy.rules().iter().filter(|rule| !others.contains(&rule.id)).cloned().collect()
    };
    let changed = head.rules().iter().filter(|rule| before.contains(&rule.id) && touched.contains(&rule.id));
    let mut data = Vec::new();
    values(Some(base.bundle().data()), Some(head.bundle().data()), &mut String::new(), &mut data);
    Comparison {
        rules_added: only(head, &before),
        rules_removed: only(base, &after),
        rules_changed: changed.cloned().collect(),
        data,
        files,
    }
}

fn files(base: &Policy, head: &Policy) -> Vec<FileChange> {
    let (before, after) = (base.bundle().files(), head.bundle().files());
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut out = Vec::new();
    for path in paths {
        let (change, hunks) = match (before.get(path), after.get(path)) {
            (Some(before), Some(after)) if before == after => continue,
            (Some(before), Some(after)) => {
                let hunks = match (std::str::from_utf8(before), std::str::from_utf8(after)) {
                    (Ok(before), Ok(after)) => {
                        hunks(before, after, &Heads::of(base, path), &Heads::of(head, path))
                    }
                    // Bytes that are no text differ as a whole.
                    _ => Vec::new(),
                };
                (Change::Changed, hunks)
            }
            (None, _) => (Change::Added, Vec::new()),
            (_, None) => (Change::Removed, Vec::new()),
        };
        out.push(FileChange { path: path.clone(), change, hunks });
    }
    out
}

/// Where the rules of a file begin.
struct Heads(BTreeMap<u32, BTreeSet<String>>);

impl Heads {
    fn of(policy: &Policy, path: &str) -> Self {
        let mut heads: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for rule in policy.rules().iter().filter(|rule| rule.file.as_deref() == Some(path)) {
            heads.entry(rule.line.unwrap_or(1)).or_default().insert(rule.id.clone());
        }
        Self(heads)
    }

    /// Rules that a line belongs to: those that begin last at or before it.
    fn at(&self, line: u32) -> impl Iterator<Item = &String> {
        self.0.range(..=line).next_back().into_iter().flat_map(|(_, rules)| rules)
    }
}

fn hunks(base: &str, head: &str, base_heads: &Heads, head_heads: &Heads) -> Vec<Hunk> {
    let diff = TextDiff::from_lines(base, head);
    let line = |index: Option<usize>| index.map(|index| u32::try_from(index + 1).unwrap_or(u32::MAX));
    let mut out = Vec::new();
    for group in diff.grouped_ops(CONTEXT_LINES) {
        let mut hunk = Hunk { base_line: 0, head_line: 0, rules: BTreeSet::new(), lines: Vec::new() };
        if let Some(first) = group.first() {
            hunk.base_line = line(Some(first.old_range().start)).unwrap_or(1);
            hunk.head_line = line(Some(first.new_range().start)).unwrap_or(1);
        }
        for op in &group {
            for change in diff.iter_changes(op) {
                let text = change.value().trim_end_matches(['\n', '\r']);
                let mark = match change.tag() {
                    ChangeTag::Equal => ' ',
                    ChangeTag::Delete => '-',
                    ChangeTag::Insert => '+',
                };
                // A blank line between two rules belongs to neither.
                if mark != ' ' && !text.trim().is_empty() {
                    let (at, heads) = match mark {
                        '-' => (line(change.old_index()), base_heads),
                        _ => (line(change.new_index()), head_heads),
                    };
                    hunk.rules.extend(at.into_iter().flat_map(|at| heads.at(at)).cloned());
                }
                hunk.lines.push(format!("{mark}{text}"));
            }
        }
        out.push(hunk);
    }
    out
}

fn values(base: Option<&Value>, head: Option<&Value>, pointer: &mut String, out: &mut Vec<DataChange>) {
    match (base, head) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let len = pointer.len();
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                values(before.get(key), after.get(key), pointer, out);
                pointer.truncate(len);
            }
        }
        (base, head) if base == head => {}
        (base, head) => {
            out.push(DataChange { pointer: pointer.clone(), base: base.cloned(), head: head.cloned() });
        }
    }
}
