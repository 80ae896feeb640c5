//! What every event must satisfy whatever format it came in, and ids for records that have none.

use std::collections::BTreeMap;

use super::JsonError;
use crate::event::Event;
use crate::id::{Digest, IdError};

/// Why a record could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Not strict JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The last line ends inside its value and has no line end.
    #[error("the last line is truncated; its writer was cut off, send it again whole")]
    Truncated,
    /// The line is too long.
    #[error("the line is longer than {limit} bytes; move large values out of the event")]
    LineTooLong {
        /// The limit.
        limit: usize,
    },
    /// A JSON value that is not an object.
    #[error("expected one JSON object, found {found}")]
    NotObject {
        /// What is there.
        found: &'static str,
    },
    /// An object that is not an event.
    #[error("{message}")]
    Shape {
        /// What is wrong.
        message: String,
    },
    /// A member with a value that it cannot have.
    #[error("`{field}` {problem}")]
    Field {
        /// The member.
        field: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// An invalid identifier.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The part of the event that cannot be erased is too large.
    #[error(
        "the statement is {bytes} bytes without its arguments, result and attributes, more than {limit}; move \
         large values there"
    )]
    Statement {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl Reason {
    /// Makes a [`Reason::Field`].
    pub(super) fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }
}

/// Holds an event to the size of an entry.
pub(super) fn statement(event: &Event, limit: usize) -> Result<(), Reason> {
    // The members that become disclosures do not count. What is left is measured exactly only when it could
    // matter: a character takes at most six bytes.
    if rough(event).saturating_mul(6) <= limit {
        return Ok(());
    }
    let mut rest = event.clone();
    rest.attributes.clear();
    rest.action.arguments = None;
    rest.user = None;
    rest.on_behalf_of.clear();
    if let Some(outcome) = &mut rest.outcome {
        outcome.result = None;
        if let Some(error) = &mut outcome.error {
            error.message = None;
        }
    }
    let bytes = serde_json::to_vec(&rest).map_or(usize::MAX, |bytes| bytes.len());
    if bytes > limit { Err(Reason::Statement { bytes, limit }) } else { Ok(()) }
}

/// Adds up the text and the structure of what is not disclosed, generously.
fn rough(event: &Event) -> usize {
    let text = |value: &Option<String>| value.as_ref().map_or(0, String::len);
    let mut sum = 1024_usize.saturating_add(event.id.len()).saturating_add(event.action.name.len());
    for value in [
        &event.session,
        &event.service,
        &event.environment,
        &event.tenant,
        &event.classification,
        &event.action.call_id,
        &event.action.resource,
        &event.source.profile,
        &event.source.path,
        &event.source.peer,
    ] {
        sum = sum.saturating_add(text(value));
    }
    if let Some(agent) = &event.agent {
        sum = sum.saturating_add(text(&agent.id) + text(&agent.name) + text(&agent.version));
    }
    for capability in event.action.capabilities.iter().chain(&event.source.restated) {
        sum = sum.saturating_add(capability.len() + 3);
    }
    sum = sum.saturating_add(event.links.len() * 200);
    for link in &event.links {
        sum = sum.saturating_add(text(&link.to.event) + text(&link.to.call_id) + text(&link.to.approval_id));
    }
    for source in &event.provenance {
        sum = sum.saturating_add(
            80 + source.kind.len() + text(&source.name) + text(&source.uri) + text(&source.digest),
        );
    }
    if let Some(budget) = &event.budget {
        sum = sum.saturating_add(text(&budget.name) + budget.unit.len());
    }
    if let Some(decision) = &event.decision {
        sum = sum.saturating_add(
            text(&decision.code)
                + text(&decision.reason)
                + text(&decision.by.id)
                + text(&decision.approval_id),
        );
        sum = decision.flags.iter().fold(sum, |sum, flag| sum.saturating_add(flag.len() + 3));
        if let Some(policy) = &decision.policy {
            sum = sum.saturating_add(text(&policy.name) + text(&policy.version));
            sum = policy.rules.iter().fold(sum, |sum, rule| sum.saturating_add(rule.len() + 3));
        }
        for obligation in &decision.obligations {
            sum = sum.saturating_add(obligation.kind.len() + 32);
            sum = obligation
                .params
                .iter()
                .fold(sum, |sum, (name, value)| sum.saturating_add(name.len() + value.len() + 8));
        }
    }
    if let Some(error) = event.outcome.as_ref().and_then(|outcome| outcome.error.as_ref()) {
        sum = sum.saturating_add(text(&error.kind));
    }
    if let Some(usage) = &event.usage {
        sum = sum.saturating_add(text(&usage.provider) + text(&usage.model));
        sum =
            sum.saturating_add(usage.cost.as_ref().map_or(0, |cost| cost.currency.len() + cost.basis.len()));
    }
    sum
}

/// Gives identical records of one body different ids: the first has none, the second `#2`, and so on. Delivered
/// again in the same body they get the same ids again.
#[derive(Debug, Default)]
pub(super) struct Ordinals {
    seen: BTreeMap<Digest, u64>,
}

impl Ordinals {
    /// Makes the id of a record from the digest of its content.
    pub(super) fn id(&mut self, prefix: &str, content: &[u8]) -> String {
        self.numbered(prefix, Digest::of(content))
    }

    /// Makes the id of a record whose content was digested already.
    pub(super) fn numbered(&mut self, prefix: &str, digest: Digest) -> String {
        let count = self.seen.entry(digest).or_insert(0);
        *count = count.saturating_add(1);
        if *count == 1 { format!("{prefix}{digest}") } else { format!("{prefix}{digest}#{count}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, ActionKind};
    use serde_json::json;

    #[test]
    fn only_what_cannot_be_erased_counts() {
        let mut event = Event::new("e", Action::new(ActionKind::Tool, "t"));
        event.action.arguments = Some(json!("x".repeat(100_000)));
        event.attributes.insert("y".into(), json!("y".repeat(100_000)));
        assert_eq!(statement(&event, 48 << 10), Ok(()));
        event.action.resource = Some("\u{1}".repeat(9000));
        assert!(
            matches!(statement(&event, 48 << 10), Err(Reason::Statement { bytes, .. }) if bytes > 54_000)
        );
        event.action.resource = Some("z".repeat(9000));
        assert_eq!(statement(&event, 48 << 10), Ok(()));
    }

    #[test]
    fn identical_records_are_numbered() {
        let mut ids = Ordinals::default();
        let first = ids.id("p:", b"same");
        assert!(first.starts_with("p:sha256:") && !first.contains('#'));
        assert_eq!(ids.id("p:", b"same"), format!("{first}#2"));
        assert_ne!(ids.id("p:", b"other"), first);
    }
}
