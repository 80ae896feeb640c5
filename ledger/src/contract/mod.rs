//! The trace contract: what a recorded action must state, so that somebody can answer for it.
//!
//! A contract is a file that people write; `docs/contract.md` in the crate's docs describes it. Its identity is its label
//! and the SHA-256 of its bytes, and every verdict names it. It is checked on settled actions, after inheritance and
//! pricing, and on what a single request can prove when it arrives.
//!
//! # Invariants
//! - A verdict is an appended entry. Late data gives a new verdict, never an edit.
//! - Null is not zero: no statement about violations is not "no violations".
//! - What a strict contract refuses stays in the same chain, is left out of governed projections, and comes back by a
//!   recorded decision with who and why.

mod check;
mod ingest;
mod quarantine;
mod run;
mod safety;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use check::{Coverage, FieldCoverage, Judgement, Standing, judge};
pub use ingest::{AtIngest, Lacking, LineError};
pub use quarantine::{
    Held, QUARANTINED, Quarantine, RELEASED, Release, ReleaseError, Releaser, Selected, Stage, release,
};
pub use run::{Outcome, Past, RunError, VERDICT, Verdict, Verdicts, plan, run};
pub use safety::{SAFETY, Safety};

use crate::activation::{self, Activation, ActivationError, Kind};
use crate::event::{ActionKind, Status};
use crate::id::Digest;
use crate::record::Receipt;
use crate::store::Ledger;

/// Entry `type` of a contract that is in force from then on.
pub const CONTRACT_ACTIVATED: &str = "contract.activated";

const KIND: Kind = Kind { entry: CONTRACT_ACTIVATED, what: "contract" };
const CONTRACT_BYTES_MAX: usize = 256 << 10;
const ROWS_MAX: usize = 256;
const WORDS_MAX: usize = 256;

/// The contract that comes with this version.
const SHIPPED: &str = include_str!("default.toml");

/// Something that an action must state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// Service.
    Service,
    /// Environment.
    Environment,
    /// Session.
    Session,
    /// User.
    User,
    /// Model.
    Model,
    /// Input tokens.
    InputTokens,
    /// Output tokens.
    OutputTokens,
    /// Cost, reported or priced.
    Cost,
    /// How long it took.
    Latency,
    /// A decision, whatever it was.
    PolicyDecision,
    /// How many violations somebody saw who looked.
    SafetyViolations,
    /// A trace or a session that a record can be found by; of single records only.
    Correlation,
}

impl Field {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Environment => "environment",
            Self::Session => "session",
            Self::User => "user",
            Self::Model => "model",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Cost => "cost",
            Self::Latency => "latency",
            Self::PolicyDecision => "policy_decision",
            Self::SafetyViolations => "safety_violations",
            Self::Correlation => "correlation",
        }
    }

    /// Says what is missing to whoever sends.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Service => "service.name",
            Self::Environment => "deployment.environment.name",
            Self::Correlation => "a trace id or session.id",
            other => other.as_str(),
        }
    }

    /// Tells whether one record can prove it by itself.
    const fn is_provable_at_ingest(self) -> bool {
        matches!(self, Self::Service | Self::Environment | Self::Correlation)
    }
}

/// What happens to what does not meet a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Accepted and marked.
    Lenient,
    /// Kept, and left out until somebody releases it.
    Strict,
}

impl Mode {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lenient => "lenient",
            Self::Strict => "strict",
        }
    }
}

/// One row of a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Require {
    /// What must be stated.
    pub field: Field,
    /// On actions of these kinds.
    pub kinds: Vec<ActionKind>,
    /// Only on those that ended so; empty means all.
    #[serde(default)]
    pub outcomes: Vec<Status>,
    /// Whether it may be inherited.
    #[serde(default = "yes")]
    pub inherited: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    label: String,
    mode: Mode,
    #[serde(default)]
    at_ingest: Vec<Field>,
    #[serde(default)]
    require: Vec<Require>,
    #[serde(default)]
    safety: Safety,
}

/// Why a contract cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// Larger than anybody can read.
    #[error("the contract has {bytes} bytes, and {CONTRACT_BYTES_MAX} are the most")]
    TooLarge {
        /// Size.
        bytes: usize,
    },
    /// Not TOML of this form.
    #[error("the contract cannot be read: {detail}")]
    Syntax {
        /// What and where.
        detail: String,
    },
    /// A value that cannot be.
    #[error("{place}: {detail}")]
    Value {
        /// Row.
        place: String,
        /// What is wrong.
        detail: String,
    },
}

/// A checked contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    label: String,
    digest: Digest,
    bytes: Vec<u8>,
    mode: Mode,
    at_ingest: Vec<Field>,
    require: Vec<Require>,
    safety: Safety,
}

impl Contract {
    /// Returns the contract that comes with this version.
    pub fn shipped() -> Result<Self, ContractError> {
        Self::parse(SHIPPED.as_bytes())
    }

    /// Reads and checks a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, ContractError> {
        if bytes.len() > CONTRACT_BYTES_MAX {
            return Err(ContractError::TooLarge { bytes: bytes.len() });
        }
        let syntax = |detail: String| ContractError::Syntax { detail };
        let text = std::str::from_utf8(bytes).map_err(|_| syntax("it is not UTF-8 text".to_owned()))?;
        let form: FileForm = toml::from_str(text).map_err(|error| syntax(error.to_string()))?;
        let value = |place: String, detail: String| ContractError::Value { place, detail };
        if !crate::pricing::is_label(&form.label) {
            let detail =
                format!("`{}` is not a label: 1 to 64 letters, digits, `.`, `_` and `-`", form.label);
            return Err(value("label".to_owned(), detail));
        }
        if let Some(field) = form.at_ingest.iter().find(|field| !field.is_provable_at_ingest()) {
            let detail = format!(
                "one record cannot prove `{}`: it may be on another; service, environment and correlation it can",
                field.as_str()
            );
            return Err(value("at_ingest".to_owned(), detail));
        }
        if form.require.len() > ROWS_MAX || form.safety.words() > WORDS_MAX {
            let detail = format!("at most {ROWS_MAX} rows and {WORDS_MAX} words of [safety]");
            return Err(value("the contract".to_owned(), detail));
        }
        let mut seen = BTreeSet::new();
        for (number, row) in (1..).zip(&form.require) {
            let place = || format!("require {number} ({})", row.field.as_str());
            if row.field == Field::Correlation {
                return Err(value(place(), "that is of single records: name it in at_ingest".to_owned()));
            }
            if row.kinds.is_empty() {
                return Err(value(place(), "`kinds` names no kind of action".to_owned()));
            }
            if let Some(kind) = row.kinds.iter().find(|kind| !seen.insert((row.field, **kind))) {
                return Err(value(place(), format!("there is another row for kind `{}`", kind.as_str())));
            }
        }
        Ok(Self {
            label: form.label,
            digest: Digest::of(bytes),
            bytes: bytes.to_vec(),
            mode: form.mode,
            at_ingest: form.at_ingest,
            require: form.require,
            safety: form.safety,
        })
    }

    /// Returns what the author calls it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the digest of its bytes.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns its file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns its identity: label and digest.
    pub fn id(&self) -> String {
        format!("{}@{}", self.label, self.digest)
    }

    /// Returns what happens to what does not meet it.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns what every record must prove when it arrives.
    pub fn at_ingest(&self) -> &[Field] {
        &self.at_ingest
    }

    /// Returns its rows.
    pub fn require(&self) -> &[Require] {
        &self.require
    }

    /// Returns what counts as a statement about safety.
    pub const fn safety(&self) -> &Safety {
        &self.safety
    }
}

/// Puts a contract in force from the end of the log on. The one that is in force changes nothing.
pub fn activate(
    ledger: &Ledger,
    contract: &Contract,
    by: &str,
    reason: &str,
) -> Result<Receipt, ActivationError> {
    activation::activate(ledger, KIND, contract.label(), contract.bytes(), by, reason)
}

/// Lists what was put in force, oldest first.
pub fn history(ledger: &Ledger) -> Result<Vec<Activation>, ActivationError> {
    activation::history(ledger, KIND)
}

/// Returns the contract that is in force below a position: the last that was put in force, else the one that comes
/// with this version.
pub fn in_force(ledger: &Ledger, below: u64) -> Result<(Contract, Option<Activation>), ActivationError> {
    let unusable = |place: String| {
        move |error: ContractError| ActivationError::Content {
            what: KIND.what,
            place,
            detail: error.to_string(),
        }
    };
    match activation::in_force(ledger, KIND, below)? {
        Some((activation, bytes)) => {
            let contract = Contract::parse(&bytes).map_err(unusable(format!("entry {}", activation.seq)))?;
            Ok((contract, Some(activation)))
        }
        None => Ok((Contract::shipped().map_err(unusable("this version".to_owned()))?, None)),
    }
}

#[cfg(test)]
mod tests;
