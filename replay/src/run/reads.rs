//! Which members of the input a policy can read: equal ones give equal decisions.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::policy::Policy;

/// What a policy can read of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reads {
    /// `None`: anything.
    paths: Option<Vec<Vec<String>>>,
}

impl Reads {
    pub(super) fn of(policy: &Policy) -> Self {
        Self { paths: policy.reads() }
    }

    /// Tells whether anything at or below a JSON pointer may be read.
    pub(super) fn may_read(&self, pointer: &str) -> bool {
        let Some(paths) = &self.paths else { return true };
        let steps: Vec<&str> = pointer.split('/').skip(1).collect();
        paths.iter().any(|path| path.iter().zip(&steps).all(|(a, b)| a == b))
    }

    /// Returns the part of an input that can be read: equal parts give equal decisions. `None` is all of it.
    pub(super) fn part(&self, input: &Value) -> Option<Value> {
        let mut out = Value::Object(Map::new());
        for path in self.paths.as_ref()? {
            copy(input, &mut out, path);
        }
        Some(out)
    }

    /// Lists what can be read at or below JSON pointers; nothing when anything can.
    pub(super) fn below(&self, pointers: &[String]) -> Vec<Vec<String>> {
        let mut found = BTreeSet::new();
        for pointer in pointers {
            let steps: Vec<&str> = pointer.split('/').skip(1).collect();
            for path in self.paths.iter().flatten() {
                if path.iter().zip(&steps).all(|(a, b)| a == b) {
                    // A read of something above the pointer is a read of all that the pointer names.
                    let of_pointer = || steps.iter().map(|step| (*step).to_owned()).collect();
                    found.insert(if path.len() < steps.len() { of_pointer() } else { path.clone() });
                }
            }
        }
        found.into_iter().collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(text: &str) -> Vec<String> {
        text.split('/').map(str::to_owned).collect()
    }

    #[test]
    fn a_read_covers_what_is_above_and_below() {
        let reads = Reads { paths: Some(vec![path("action/arguments/amount"), path("user")]) };
        assert!(reads.may_read("/action/arguments"));
        assert!(reads.may_read("/user/id"));
        assert!(!reads.may_read("/action/name"));
        assert!(!reads.may_read("/on_behalf_of"));
        let input = json!({"action": {"arguments": {"amount": 1, "note": "x"}, "name": "f"}, "user": {"id": "u"}, "event": {"seq": 1}});
        assert_eq!(
            reads.part(&input),
            Some(json!({"action": {"arguments": {"amount": 1}}, "user": {"id": "u"}}))
        );
        let list = json!({"action": {"arguments": [1, 2]}});
        assert_eq!(reads.part(&list), Some(list));
        let missing = ["/action/arguments".to_owned(), "/user/id".to_owned(), "/action/name".to_owned()];
        assert_eq!(reads.below(&missing), [vec!["action", "arguments", "amount"], vec!["user", "id"]]);
    }
}
