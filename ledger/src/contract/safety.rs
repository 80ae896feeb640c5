//! What was said about violations of an action. Nothing said is not none found.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::action::labels::{LabelSource, Labels};
use crate::event::{ActionKind, AuthorityKind, Effect};

/// Label of a stated number of violations.
pub const SAFETY: &str = "safety_violations";

/// What counts as a statement about safety.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Safety {
    /// Flags of a decision that are a violation.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Attributes that state the number of violations.
    #[serde(default)]
    pub attributes: Vec<String>,
}

impl Safety {
    pub(super) const fn words(&self) -> usize {
        self.flags.len() + self.attributes.len()
    }

    /// Returns where the stated number is looked for.
    pub fn source(&self) -> LabelSource {
        LabelSource { name: SAFETY.to_owned(), attributes: self.attributes.clone() }
    }

    /// Counts the violations of each action; `None` where nobody said anything. A guardrail is an action of its own
    /// under the one that it looked at, and speaks for that one too.
    pub fn count(&self, actions: &[Action], labels: &[Labels]) -> Vec<Option<u64>> {
        let index: BTreeMap<u64, usize> =
            actions.iter().enumerate().map(|(at, action)| (action.key, at)).collect();
        let mut guards: BTreeMap<usize, Vec<&Action>> = BTreeMap::new();
        for action in actions.iter().filter(|action| action.kind == ActionKind::Guard) {
            if let Some(parent) = action.parent.and_then(|parent| index.get(&parent)) {
                guards.entry(*parent).or_default().push(action);
            }
        }
        let none = Vec::new();
        actions
            .iter()
            .enumerate()
            .map(|(at, action)| self.of(action, labels.get(at), guards.get(&at).unwrap_or(&none)))
            .collect()
    }

    fn of(&self, action: &Action, labels: Option<&Labels>, guards: &[&Action]) -> Option<u64> {
        let stated = labels.and_then(|labels| labels.get(SAFETY)).filter(|label| !label.inherited);
        if let Some(count) = stated.and_then(|label| label.value.parse().ok()) {
            return Some(count);
        }
        let flags: BTreeSet<&str> = std::iter::once(action)
            .chain(guards.iter().copied())
            .flat_map(|action| &action.rulings)
            .flat_map(|ruling| &ruling.decision.flags)
            .map(String::as_str)
            .filter(|flag| self.flags.iter().any(|known| known == flag))
            .collect();
        let flagged = flags.len() as u64;
        // Permission gates and people rule too, and say nothing about safety.
        let looked = |action: &&Action| {
            action
                .rulings
                .iter()
                .any(|ruling| matches!(ruling.decision.by.kind, AuthorityKind::Model | AuthorityKind::Policy))
        };
        let own = Some(action).filter(|action| action.kind == ActionKind::Guard);
        let looked: Vec<&Action> = guards.iter().copied().chain(own).filter(looked).collect();
        if looked.is_empty() {
            return (flagged > 0).then_some(flagged);
        }
        let refused = looked
            .iter()
            .filter(|guard| guard.rulings.iter().any(|ruling| ruling.decision.effect == Effect::Block));
        // A guard that refused and named no flag saw one violation.
        Some(flagged.max(refused.count() as u64))
    }
}
