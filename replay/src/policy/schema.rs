//! The paths that an input document can have, so that a misspelled one is found before it silently never holds.

/// What may stand at a place of the input document.
#[derive(Debug)]
enum Shape {
    /// A string, number or boolean.
    Leaf,
    /// Whatever the caller sent.
    Any,
    /// An object with these members and no other.
    Object(&'static [(&'static str, Shape)]),
    /// An object with any keys.
    Map(&'static Shape),
    /// An array.
    List(&'static Shape),
}

use Shape::{Any, Leaf, List, Map, Object};

/// One step of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// `.name` or `["name"]`.
    Field(String),
    /// `[variable]`, `[_]` or `[0]`.
    Any,
}

const COUNTERS: Shape = Object(&[("tool_calls", Leaf), ("spent_nano", Map(&Leaf))]);

/// `verdict-input/1`, as the builder in `input` writes it.
static INPUT: Shape = Object(&[
    ("schema", Leaf),
    (
        "event",
        Object(&[("seq", Leaf), ("ts_ns", Leaf), ("trace", Leaf), ("span", Leaf), ("parent", Leaf)]),
    ),
    ("agent", Object(&[("id", Leaf), ("name", Leaf), ("version", Leaf), ("inherited", Leaf)])),
    ("user", Object(&[("id", Leaf)])),
    ("session", Leaf),
    ("service", Leaf),
    ("environment", Leaf),
    ("tenant", Leaf),
    ("on_behalf_of", List(&Leaf)),
    (
        "action",
        Object(&[
            ("kind", Leaf),
            ("name", Leaf),
            ("call_id", Leaf),
            ("arguments", Any),
            ("arguments_digest", Leaf),
            ("resource", Leaf),
            ("capabilities", List(&Leaf)),
            ("estimated_cost_nano", Leaf),
        ]),
    ),
    (
        "provenance",
        Object(&[
            (
                "sources",
                List(&Object(&[
                    ("kind", Leaf),
                    ("trust", Leaf),
                    ("name", Leaf),
                    ("uri", Leaf),
                    ("digest", Leaf),
                    ("via", Leaf),
                ])),
            ),
            ("lowest_trust", Leaf),
        ]),
    ),
    ("classification", Leaf),
    (
        "budget",
        Object(&[("name", Leaf), ("unit", Leaf), ("limit", Leaf), ("used", Leaf), ("reserved", Leaf)]),
    ),
    (
        "approvals",
        List(&Object(&[("approval_id", Leaf), ("by", Leaf), ("at_ns", Leaf), ("effect", Leaf)])),
    ),
    ("controls", List(&Any)),
    (
        "state",
        Object(&[
            (
                "trace",
                Object(&[
                    ("tool_calls", Leaf),
                    ("model_calls", Leaf),
                    ("blocked", Leaf),
                    ("spent_nano", Map(&Leaf)),
                    ("consecutive_tool_calls", Leaf),
                    ("consecutive_same_tool", Leaf),
                ]),
            ),
            ("session", COUNTERS),
            (
                "agent",
                Object(&[
                    ("tool_calls", Leaf),
                    ("spent_nano", Map(&Leaf)),
                    ("blocked", Leaf),
                    ("cooldown_until_ns", Leaf),
                ]),
            ),
            ("tenant", COUNTERS),
            ("windows", Object(&[("agent_1h", COUNTERS), ("agent_24h", COUNTERS)])),
        ]),
    ),
    ("features", Object(&[("url_host", Leaf), ("email_domain", Leaf), ("lowest_trust_rank", Leaf)])),
]);

/// A step that no input document has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    /// Index of the step.
    pub(super) at: usize,
    /// What is wrong with it.
    pub(super) message: String,
    /// What may have been meant.
    pub(super) hint: Option<String>,
}

/// Follows a reference below `input`; `None` when every step can exist.
pub(super) fn unknown_step(steps: &[Step]) -> Option<Unknown> {
    let mut shape = &INPUT;
    let mut path = "input".to_owned();
    for (at, step) in steps.iter().enumerate() {
        let not_there = |hint| {
            let name = match step {
                Step::Field(name) => format!("{path}.{name}"),
                Step::Any => format!("{path}[…]"),
            };
            Unknown { at, message: format!("`{name}` does not exist in {}", crate::input::SCHEMA), hint }
        };
        shape = match (shape, step) {
            (Any, _) => return None,
            (Leaf, _) => return Some(not_there(Some(format!("`{path}` is a single value")))),
            (Object(members), Step::Field(name)) => match members.iter().find(|(key, _)| key == name) {
                Some((_, below)) => below,
                None => return Some(not_there(Some(suggest(name, members)))),
            },
            (List(_), Step::Field(name)) => {
                return Some(not_there(Some(format!("`{path}` is an array; write `some x in {path}` and `x.{name}`"))));
            }
            // A variable over the members of an object: each of them must allow the rest, so look no further.
            (Object(_), Step::Any) => return None,
            (Map(below), _) | (List(below), Step::Any) => below,
        };
        match step {
            Step::Field(name) => {
                path.push('.');
                path.push_str(name);
            }
            Step::Any => path.push_str("[_]"),
        }
    }
    None
}

fn suggest(name: &str, members: &[(&str, Shape)]) -> String {
    let near = members.iter().map(|(key, _)| (distance(name, key), *key)).min();
    match near {
        Some((far, key)) if far <= 2 => format!("did you mean `{key}`?"),
        _ => {
            let keys: Vec<_> = members.iter().map(|(key, _)| format!("`{key}`")).collect();
            format!("there are {}", keys.join(", "))
        }
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let up = *cell;
            left = (diagonal + usize::from(ca != *cb)).min(up + 1).min(left + 1);
            diagonal = up;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Option<Unknown> {
        let steps: Vec<Step> = path
            .split('.')
            .map(|part| if part == "_" { Step::Any } else { Step::Field(part.to_owned()) })
            .collect();
        unknown_step(&steps)
    }

    #[test]
    fn known_paths_pass_and_typos_are_suggested() {
        for good in [
            "agent.name",
            "action.arguments.anything.goes._",
            "provenance.sources._.trust",
            "state.trace.spent_nano.USD",
            "state.windows.agent_24h.spent_nano.EUR",
            "state._.tool_calls",
            "approvals._.by",
            "controls._.kind",
        ] {
            assert_eq!(at(good), None, "{good}");
        }
        let typo = at("agent.nmae").unwrap();
        assert_eq!((typo.at, typo.message.as_str()), (1, "`input.agent.nmae` does not exist in verdict-input/1"));
        assert_eq!(typo.hint.as_deref(), Some("did you mean `name`?"));
        assert_eq!(at("session.id").unwrap().hint.as_deref(), Some("`input.session` is a single value"));
        assert!(at("provenance.sources.trust").unwrap().hint.unwrap().contains("some x in"));
        assert!(at("budgets.x").unwrap().hint.unwrap().contains("`budget`"));
        assert!(at("state.windows.agent_7d").is_some());
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("name", "name"), 0);
    }
}
