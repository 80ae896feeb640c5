//! What a policy says about one input.

use serde::{Deserialize, Serialize};
use verdict_ledger::event::{Effect, Obligation};

/// A rule and where it stands in the bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleRef {
    /// Rule id, as the finding names it.
    pub id: String,
    /// File inside the bundle, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line of the rule's head, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// What one rule says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// Effect that the rule asks for.
    pub effect: Effect,
    /// The rule.
    pub rule: RuleRef,
    /// Reason for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Obligations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub obligations: Vec<Obligation>,
}

/// The decision of a bundle on one input: the join of its findings. Every list is sorted, so that equal
/// decisions have equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Maximum of the findings, or the bundle's default when every rule abstains.
    pub effect: Effect,
    /// Rules whose finding has that effect.
    pub rules: Vec<RuleRef>,
    /// Union of all obligations.
    pub obligations: Vec<Obligation>,
    /// All findings.
    pub findings: Vec<Finding>,
    /// Set when the engine failed: live this blocks, in replay it is `unknown`; never a policy block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<EvalError>,
}

/// Why an evaluation gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct EvalError {
    /// `engine_error`, `engine_panic`, `bad_result`, `missing_input`, `limit_exceeded`.
    pub code: String,
    /// Text of the engine.
    pub detail: String,
}
