//! What if: a recorded input, edited, and what a policy says to both.
//!
//! The recorded input is that of the one builder ([`crate::input`]), in the state that history had. Edits are checked
//! against the schema of the input before anything is decided: a member that no input has cannot be what a policy
//! looks at. What follows from an edited member (`arguments_digest`, `features`, `lowest_trust`) is computed again,
//! by the same builder, unless it was edited itself. Nothing is written to the ledger.

mod edit;
mod recorded;
mod schema;
mod trace;

use serde::Serialize;
use serde_json::{Value, json};
use verdict_ledger::LedgerError;
use verdict_ledger::action::Action;
use verdict_ledger::event::Provenance;

pub use edit::{EDITS_MAX, Edit, VALUE_BYTES_MAX};
pub use recorded::{Recorded, recorded_input};
pub use trace::{RuleTrace, Spoke};

use crate::input;
use crate::policy::{Decision, Finding, Policy};
use crate::run::ReplayError;
use crate::state::State;

/// Members that follow from others, and what they follow from.
const DERIVED: [(&str, &[&str]); 5] = [
    ("/action/arguments_digest", &["/action/arguments"]),
    ("/features/url_host", &["/action/arguments", "/action/resource"]),
    ("/features/email_domain", &["/action/arguments"]),
    ("/features/lowest_trust_rank", &["/provenance"]),
    ("/provenance/lowest_trust", &["/provenance"]),
];

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhatIfError {
    /// The ledger cannot be read.
    #[error("the ledger cannot be read")]
    Ledger(#[from] LedgerError),
    /// What came before the action cannot be read.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The entry is not there.
    #[error("there is no event {seq}: the ledger has {size} entries")]
    NoEntry {
        /// Entry.
        seq: u64,
        /// Entries that there are.
        size: u64,
    },
    /// The entry is no statement about an action.
    #[error("entry {seq} is a `{kind}`, which no policy rules on")]
    NoAction {
        /// Entry.
        seq: u64,
        /// Its type.
        kind: String,
    },
    /// No policy rules on such an action.
    #[error("event {seq} reports an action of kind `{action_kind}`, which no policy rules on")]
    NoPoint {
        /// Entry.
        seq: u64,
        /// Kind of the action.
        action_kind: &'static str,
    },
    /// An edit that cannot be made.
    #[error("cannot edit `{pointer}`: {reason}")]
    Edit {
        /// Place.
        pointer: String,
        /// Why.
        reason: String,
    },
    /// Too many edits.
    #[error("{got} edits are more than the limit of {EDITS_MAX}")]
    TooManyEdits {
        /// Edits.
        got: usize,
    },
    /// The edited document is no input.
    #[error("the edited input does not fit its schema: {}", problems.join("; "))]
    Schema {
        /// What does not fit.
        problems: Vec<String>,
    },
}

/// A difference between the two inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Place.
    pub pointer: String,
    /// Value before; `None` when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// Value after; `None` when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// True when it follows from an edit and was not edited itself.
    pub derived: bool,
}

/// What a policy says to both inputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhatIf {
    /// Key of the action.
    pub action: u64,
    /// The recorded input.
    pub recorded: Value,
    /// The edited input.
    pub edited: Value,
    /// Where they differ.
    pub changed: Vec<Changed>,
    /// What the policy says to the recorded input.
    pub before: Decision,
    /// What it says to the edited input.
    pub after: Decision,
    /// Findings that only the edited input has.
    pub appeared: Vec<Finding>,
    /// Findings that only the recorded input has.
    pub gone: Vec<Finding>,
    /// Every rule, and whether it spoke.
    pub rules: Vec<RuleTrace>,
    /// Members of the input that are absent because what they come from is erased or withheld.
    pub missing: Vec<String>,
}

/// Edits the input of a recorded action and decides both under a policy.
pub fn what_if(recorded: &Recorded, edits: &[Edit], policy: &Policy) -> Result<WhatIf, WhatIfError> {
    if edits.len() > EDITS_MAX {
        return Err(WhatIfError::TooManyEdits { got: edits.len() });
    }
    let mut edited = recorded.input.clone();
    for edit in edits {
        edit.apply(&mut edited)?;
    }
    // Before what follows is computed: it is computed from members that have their types.
    let problems = schema::problems(&edited);
    if !problems.is_empty() {
        return Err(WhatIfError::Schema { problems });
    }
    derive(&recorded.action, edits, &mut edited);
    let (before, after) = (policy.decide(&recorded.input), policy.decide(&edited));
    let only = |these: &Decision, those: &Decision| {
        these.findings.iter().filter(|finding| !those.findings.contains(finding)).cloned().collect::<Vec<_>>()
    };
    let mut changed = Vec::new();
    differences(&recorded.input, &edited, String::new(), &mut changed);
    for change in &mut changed {
        change.derived = !edits
            .iter()
            .any(|edit| edit.is_below(&change.pointer) || is_below(&change.pointer, edit.pointer()));
    }
    Ok(WhatIf {
        action: recorded.action.key,
        recorded: recorded.input.clone(),
        changed,
        appeared: only(&after, &before),
        gone: only(&before, &after),
        rules: trace::trace(policy, &before, &after),
        missing: recorded.missing.clone(),
        before,
        after,
        edited,
    })
}

fn is_below(pointer: &str, above: &str) -> bool {
    pointer == above || pointer.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Computes again what follows from what was edited.
fn derive(action: &Action, edits: &[Edit], edited: &mut Value) {
    let mut action = action.clone();
    let text = |document: &Value, pointer: &str| {
        document.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
    };
    action.arguments = edited.pointer("/action/arguments").cloned();
    action.resource = text(edited, "/action/resource");
    let sources = edited.pointer("/provenance/sources").and_then(Value::as_array);
    action.provenance = sources
        .into_iter()
        .flatten()
        .filter_map(|source| {
            let mut source = source.as_object()?.clone();
            source.remove("via");
            serde_json::from_value::<Provenance>(Value::Object(source)).ok()
        })
        .collect();
    let built = input::build(&action, &State::default());
    for (pointer, from) in DERIVED {
        let touched = edits.iter().any(|edit| from.iter().any(|from| edit.is_below(from)));
        let itself = edits.iter().any(|edit| edit.is_below(pointer));
        if touched && !itself {
            put(edited, pointer, built.pointer(pointer).cloned());
        }
    }
    if edited.get("features").is_some_and(|features| *features == json!({}))
        && let Some(members) = edited.as_object_mut()
    {
        members.remove("features");
    }
}

/// Writes or removes a member of a member.
fn put(document: &mut Value, pointer: &str, value: Option<Value>) {
    let Some((above, name)) = pointer.rsplit_once('/') else { return };
    let top = above.trim_start_matches('/');
    match (document.as_object_mut(), value) {
        (Some(members), Some(value)) => {
            let below = members.entry(top.to_owned()).or_insert_with(|| json!({}));
            if let Some(below) = below.as_object_mut() {
                below.insert(name.to_owned(), value);
            }
        }
        (Some(members), None) => {
            if let Some(below) = members.get_mut(top).and_then(Value::as_object_mut) {
                below.remove(name);
            }
        }
        (None, _) => {}
    }
}

/// Lists where two documents differ, as deep as they are objects on both sides.
fn differences(before: &Value, after: &Value, at: String, out: &mut Vec<Changed>) {
    if before == after {
        return;
    }
    if let (Some(a), Some(b)) = (before.as_object(), after.as_object()) {
        let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            let at = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
            match (a.get(name), b.get(name)) {
                (Some(a), Some(b)) => differences(a, b, at, out),
                (a, b) => {
                    out.push(Changed { pointer: at, before: a.cloned(), after: b.cloned(), derived: false });
                }
            }
        }
        return;
    }
    out.push(Changed {
        pointer: at,
        before: Some(before.clone()),
        after: Some(after.clone()),
        derived: false,
    });
}
