//! One side of a decision point: what a policy answers, or what was recorded.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use verdict_ledger::event::{Effect, Obligation};
use verdict_replay::policy::{Decision, RuleRef};
use verdict_replay::run::{Answer, Point, Recorded};

/// Reason of a point that has no recorded decision: absence is never "allow".
pub const NOT_RECORDED: &str = "not_recorded";

/// One side of a changed decision, as a report shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Ruling {
    /// There is a decision.
    Decided {
        /// Effect.
        effect: Effect,
        /// Rules that determined it; empty when the default applied or the recording names none.
        rules: Vec<RuleRef>,
        /// Obligations; empty for a recorded decision, whose obligations are not compared.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        obligations: Vec<Obligation>,
        /// Reasons that the determining rules give.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reasons: Vec<String>,
    },
    /// There is none.
    Unknown {
        /// Why.
        reason: String,
        /// JSON pointers of what is missing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        missing: Vec<String>,
    },
}

impl Ruling {
    /// Returns the effect, when there is one.
    pub const fn effect(&self) -> Option<Effect> {
        match self {
            Self::Decided { effect, .. } => Some(*effect),
            Self::Unknown { .. } => None,
        }
    }

    /// Returns the effect's wire name, or `unknown`.
    pub fn label(&self) -> &'static str {
        self.effect().map_or("unknown", Effect::as_str)
    }
}

/// A borrowed side, with just what classifying and blaming need.
#[derive(Debug)]
pub(crate) enum View<'a> {
    Decided(Decided<'a>),
    Unknown { reason: String, missing: &'a [String] },
}

/// A borrowed decision.
#[derive(Debug)]
pub(crate) struct Decided<'a> {
    pub(crate) effect: Effect,
    /// Ids of the determining rules.
    pub(crate) rules: BTreeSet<&'a str>,
    /// `None`: not stated, so not compared.
    pub(crate) obligations: Option<&'a [Obligation]>,
    /// Everything that fired; for a recording its rules at its effect.
    pub(crate) fired: Vec<Fired<'a>>,
    origin: Origin<'a>,
}

/// One rule that fired and what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fired<'a> {
    pub(crate) rule: &'a str,
    pub(crate) effect: Effect,
    pub(crate) obligations: &'a [Obligation],
}

#[derive(Debug)]
enum Origin<'a> {
    Replayed(&'a Decision),
    Recorded(&'a Recorded),
}

impl<'a> View<'a> {
    /// Views what a policy answered.
    pub(crate) fn replayed(answer: &'a Answer) -> Self {
        match answer {
            Answer::Unknown { reason, missing, .. } => Self::Unknown { reason: reason.clone(), missing },
            Answer::NotReached { .. } => Self::Unknown { reason: "not_reached".to_owned(), missing: &[] },
            // Live, an engine that fails blocks; that is not what the policy says, so it is no decision here.
            Answer::Decided { decision: Decision { error: Some(error), .. } } => {
                Self::Unknown { reason: format!("runtime_error:{}", error.code), missing: &[] }
            }
            Answer::Decided { decision } => Self::Decided(Decided {
                effect: decision.effect,
                rules: decision.rules.iter().map(|rule| rule.id.as_str()).collect(),
                obligations: Some(&decision.obligations),
                fired: decision
                    .findings
                    .iter()
                    .map(|finding| Fired {
                        rule: &finding.rule.id,
                        effect: finding.effect,
                        obligations: &finding.obligations,
                    })
                    .collect(),
                origin: Origin::Replayed(decision),
            }),
        }
    }

    /// Views what was recorded.
    pub(crate) fn recorded(point: &'a Point) -> Self {
        let Some(recorded) = &point.recorded else {
            return Self::Unknown { reason: NOT_RECORDED.to_owned(), missing: &[] };
        };
        Self::Decided(Decided {
            effect: recorded.effect,
            rules: recorded.rules.iter().map(String::as_str).collect(),
            obligations: None,
            fired: recorded
                .rules
                .iter()
                .map(|rule| Fired { rule, effect: recorded.effect, obligations: &[] })
                .collect(),
            origin: Origin::Recorded(recorded),
        })
    }

    /// Returns the effect, when there is one.
    pub(crate) const fn effect(&self) -> Option<Effect> {
        match self {
            Self::Decided(decided) => Some(decided.effect),
            Self::Unknown { .. } => None,
        }
    }

    /// Makes the owned form that a report shows.
    pub(crate) fn to_ruling(&self) -> Ruling {
        match self {
            Self::Unknown { reason, missing } => {
                Ruling::Unknown { reason: reason.clone(), missing: missing.to_vec() }
            }
            Self::Decided(decided) => decided.to_ruling(),
        }
    }
}

impl Decided<'_> {
    /// Returns the determining rules, unless this is a recording that names none.
    pub(crate) fn stated_rules(&self) -> Option<&BTreeSet<&str>> {
        (!self.is_silent()).then_some(&self.rules)
    }

    /// Tells whether this is a recording that does not say which rules determined it.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.origin, Origin::Recorded(_)) && self.rules.is_empty()
    }

    fn to_ruling(&self) -> Ruling {
        match self.origin {
            Origin::Recorded(recorded) => Ruling::Decided {
                effect: recorded.effect,
                rules: self
                    .rules
                    .iter()
                    .map(|id| RuleRef { id: (*id).to_owned(), file: None, line: None })
                    .collect(),
                obligations: Vec::new(),
                reasons: Vec::new(),
            },
            Origin::Replayed(decision) => Ruling::Decided {
                effect: decision.effect,
                rules: decision.rules.clone(),
                obligations: decision.obligations.clone(),
                reasons: decision
                    .findings
                    .iter()
                    .filter(|finding| finding.effect == decision.effect)
                    .filter_map(|finding| finding.reason.clone())
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect(),
            },
        }
    }
}
