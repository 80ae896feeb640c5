//! The classes of a change, by the lattice of effects.
//!
//! A pointwise replay can only produce the classes named here. `not_reached`, `diverged`, `unobserved`,
//! `maybe_tightened` and `maybe_loosened` come with the replay semantics that can observe them; naming them
//! before would put zeros into every report that look like findings.

use serde::{Deserialize, Serialize};

use crate::ruling::View;

/// What became of one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The effect is more permissive than before.
    Loosened,
    /// The effect is stricter than before.
    Tightened,
    /// Same effect, other obligations.
    ObligationsChanged,
    /// Same effect and obligations, determined by other rules.
    RuleChanged,
    /// At least one side could not be evaluated or was never recorded.
    Unknown,
    /// Same effect, obligations and determining rules.
    Unchanged,
}

impl Class {
    /// Every class, in the order of a report.
    pub const ALL: [Self; 6] = [
        Self::Loosened,
        Self::Tightened,
        Self::ObligationsChanged,
        Self::RuleChanged,
        Self::Unknown,
        Self::Unchanged,
    ];

    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loosened => "loosened",
            Self::Tightened => "tightened",
            Self::ObligationsChanged => "obligations_changed",
            Self::RuleChanged => "rule_changed",
            Self::Unknown => "unknown",
            Self::Unchanged => "unchanged",
        }
    }

    /// Tells whether both sides are known and differ.
    pub const fn is_change(self) -> bool {
        matches!(self, Self::Loosened | Self::Tightened | Self::ObligationsChanged | Self::RuleChanged)
    }

    /// Returns the class of the same point when the sides are swapped.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::Loosened => Self::Tightened,
            Self::Tightened => Self::Loosened,
            same => same,
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Classifies one decision. A side that does not state its rules or obligations (a foreign recording) is not
/// held to them: what was not said is not a difference.
pub(crate) fn classify(from: &View<'_>, to: &View<'_>) -> Class {
    let (View::Decided(from), View::Decided(to)) = (from, to) else { return Class::Unknown };
    match to.effect.cmp(&from.effect) {
        std::cmp::Ordering::Less => return Class::Loosened,
        std::cmp::Ordering::Greater => return Class::Tightened,
        std::cmp::Ordering::Equal => {}
    }
    if let (Some(from), Some(to)) = (from.obligations, to.obligations)
        && from != to
    {
        return Class::ObligationsChanged;
    }
    if let (Some(from), Some(to)) = (from.stated_rules(), to.stated_rules())
        && from != to
    {
        return Class::RuleChanged;
    }
    Class::Unchanged
}
