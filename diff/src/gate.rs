//! The gate: turns a diff into a verdict that CI can act on.
//!
//! Without a file, loosening and lost coverage fail, tightening warns, and the rest is only told. A file
//! (`verdict-gate.toml`) sets an action, and the number of points from which it applies, for each subject:
//!
//! ```toml
//! [classes]
//! loosened = "fail"                            # the first one fails
//! tightened = { action = "fail", max = 20 }    # the twenty-first fails
//! obligations_changed = "warn"
//! ```
//!
//! The gate is monotone: more changes never turn a failure into a pass. Nothing in the file can waive a result
//! that cannot be trusted. Acknowledgements of single changes, and limits by agent, tool, tenant and money, are
//! not part of this version of the file; unknown keys are refused, so that a gate never silently ignores one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::compare::Diff;
use crate::coverage::Side;
use crate::transition::Class;

/// What a gate looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Points that are known before and unknown after.
    LostCoverage,
    /// Points of class `loosened`.
    Loosened,
    /// Points of class `tightened`.
    Tightened,
    /// Points of class `obligations_changed`.
    ObligationsChanged,
    /// Points of class `rule_changed`.
    RuleChanged,
    /// Points of class `unknown`.
    Unknown,
}

impl Measure {
    /// Every measure, in the order of a report.
    pub const ALL: [Self; 6] = [
        Self::Loosened,
        Self::LostCoverage,
        Self::Tightened,
        Self::ObligationsChanged,
        Self::RuleChanged,
        Self::Unknown,
    ];

    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LostCoverage => "lost_coverage",
            Self::Loosened => "loosened",
            Self::Tightened => "tightened",
            Self::ObligationsChanged => "obligations_changed",
            Self::RuleChanged => "rule_changed",
            Self::Unknown => "unknown",
        }
    }

    fn points(self, diff: &Diff) -> u64 {
        let class = match self {
            Self::LostCoverage => return diff.coverage.lost,
            Self::Loosened => Class::Loosened,
            Self::Tightened => Class::Tightened,
            Self::ObligationsChanged => Class::ObligationsChanged,
            Self::RuleChanged => Class::RuleChanged,
            Self::Unknown => Class::Unknown,
        };
        diff.weight(class).points
    }

    const fn default_action(self) -> Action {
        match self {
            Self::Loosened | Self::LostCoverage => Action::Fail,
            Self::Tightened => Action::Warn,
            Self::ObligationsChanged | Self::RuleChanged | Self::Unknown => Action::Ignore,
        }
    }
}

/// What to do when a measure is above its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Tell only.
    Ignore,
    /// Warn.
    Warn,
    /// Fail.
    Fail,
}

impl Action {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Action and limit of one measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limit {
    action: Action,
    max: u64,
}

/// A gate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gate {
    limits: BTreeMap<Measure, Limit>,
}

/// Why a text is not a gate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The text is not TOML, or not this TOML.
    #[error("line {line}, column {column}: {message}")]
    Parse {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
}

impl Gate {
    /// Reads `verdict-gate.toml`; what it does not name keeps its default.
    pub fn parse(text: &str) -> Result<Self, GateError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            GateError::Parse { line, column, message: error.message().replace('\n', " ") }
        })?;
        let limits = file
            .classes
            .into_iter()
            .map(|(measure, setting)| {
                let limit = match setting {
                    Setting::Action(action) => Limit { action, max: 0 },
                    Setting::Limit(Bounded { action, max }) => Limit { action, max },
                };
                (measure, limit)
            })
            .collect();
        Ok(Self { limits })
    }

    /// Judges a diff.
    pub fn judge(&self, diff: &Diff) -> Verdict {
        let checks: Vec<Check> = Measure::ALL
            .into_iter()
            .map(|measure| {
                let default = Limit { action: measure.default_action(), max: 0 };
                let limit = self.limits.get(&measure).copied().unwrap_or(default);
                let points = measure.points(diff);
                let fired = points > limit.max && limit.action != Action::Ignore;
                Check { measure, points, max: limit.max, action: limit.action, fired }
            })
            .collect();
        let distrust: Vec<Distrust> = diff
            .reproduction
            .iter()
            .filter(|check| !check.mismatches.is_empty())
            .map(|check| Distrust::NotReproduced {
                side: check.side,
                mismatches: check.mismatches.len() as u64,
                checked: check.checked,
            })
            .collect();
        let fired = checks.iter().filter(|check| check.fired).map(|check| check.action).max();
        let empty = diff.coverage.compared == 0;
        let outcome = match fired {
            _ if !distrust.is_empty() => Outcome::Untrusted,
            Some(Action::Fail) => Outcome::Fail,
            Some(Action::Warn) => Outcome::Warn,
            // A gate that looked at nothing has not passed.
            _ if empty => Outcome::Warn,
            _ => Outcome::Pass,
        };
        Verdict { outcome, checks, distrust, empty }
    }
}

/// What a gate says of a diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Result.
    pub outcome: Outcome,
    /// Each measure.
    pub checks: Vec<Check>,
    /// Why the result cannot be trusted; empty when it can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distrust: Vec<Distrust>,
    /// Set when not one decision could be compared.
    pub empty: bool,
}

/// Result of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing fired.
    Pass,
    /// Something to look at.
    Warn,
    /// The gate fired.
    Fail,
    /// The result cannot be trusted, whatever it says.
    Untrusted,
}

impl Outcome {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Untrusted => "untrusted",
        }
    }

    /// Returns the process exit code: 0 for pass and warn, 1 for fail, 3 for untrusted.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Pass | Self::Warn => 0,
            Self::Fail => 1,
            Self::Untrusted => 3,
        }
    }
}

/// One measure against its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Measure.
    pub measure: Measure,
    /// Points.
    pub points: u64,
    /// Points that are let pass.
    pub max: u64,
    /// What happens above.
    pub action: Action,
    /// Whether it happens.
    pub fired: bool,
}

/// Why a result cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Distrust {
    /// A bundle does not give the decisions that were recorded under its digest.
    NotReproduced {
        /// Side.
        side: Side,
        /// Decisions that differ.
        mismatches: u64,
        /// Recorded decisions that name the bundle.
        checked: u64,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    classes: BTreeMap<Measure, Setting>,
}

#[derive(Debug)]
enum Setting {
    Action(Action),
    Limit(Bounded),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounded {
    action: Action,
    #[serde(default)]
    max: u64,
}

// By hand: serde's untagged enums answer every mistake with "did not match any variant".
impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Setting;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"fail\", \"warn\", \"ignore\" or { action = \"…\", max = N }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Setting, E> {
                Action::deserialize(serde::de::value::StrDeserializer::new(text)).map(Setting::Action)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Setting, A::Error> {
                Bounded::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Setting::Limit)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_file_names_actions_and_limits() {
        let gate = Gate::parse(
            "[classes]\nloosened = \"warn\"\ntightened = { action = \"fail\", max = 20 }\nlost_coverage = { action = \"ignore\" }\n",
        )
        .unwrap();
        assert_eq!(gate.limits[&Measure::Loosened], Limit { action: Action::Warn, max: 0 });
        assert_eq!(gate.limits[&Measure::Tightened], Limit { action: Action::Fail, max: 20 });
        assert_eq!(gate.limits[&Measure::LostCoverage], Limit { action: Action::Ignore, max: 0 });
        assert_eq!(Gate::parse("").unwrap(), Gate::default());
    }

    #[test]
    fn a_bad_gate_file_names_line_and_key() {
        let message = |text: &str| Gate::parse(text).unwrap_err().to_string();
        for (text, line, word) in [
            ("[classes]\nlosened = \"fail\"\n", "line 2", "losened"),
            ("[classes]\nloosened = \"explode\"\n", "line 2", "explode"),
            ("[classes]\nloosened = 3\n", "line 2", "fail"),
            ("[classes]\nloosened = { action = \"fail\", maximum = 1 }\n", "line 2", "maximum"),
            ("[classes]\ntightened = { action = \"fail\", max = -1 }\n", "line 2", "-1"),
            ("[agents]\n", "line 1", "agents"),
            ("[classes\n", "line 1", "]"),
        ] {
            let message = message(text);
            assert!(message.starts_with(line) && message.contains(word), "{text:?}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
