//! The seam between a bundle and the engine that evaluates it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use verdict_ledger::event::Effect;

use super::bundle::Bundle;
use super::check::Problem;
use super::decision::{Decision, EvalError, Finding, RuleRef};
use super::lattice;
use super::settings::EngineKind;

/// Pins what evaluated: crate, version, features and mode, like `regorus@0.14.1+interpreter+strict+verdict-adapter.1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EngineId(pub String);

impl std::fmt::Display for EngineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// Why a bundle does not become a policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The check found errors. The first is in the message, all are in `problems`.
    #[error("policy bundle {name}@{version} does not compile: {}", summary(problems))]
    Invalid {
        /// Bundle name.
        name: String,
        /// Bundle version.
        version: String,
        /// Everything that the check found, in order of file and line.
        problems: Vec<Problem>,
    },
    /// This build lacks the engine.
    #[error("policy bundle {name}@{version} needs the engine `{engine}`, which this build was made without")]
    NoEngine {
        /// Bundle name.
        name: String,
        /// Bundle version.
        version: String,
        /// Engine.
        engine: &'static str,
    },
}

fn summary(problems: &[Problem]) -> String {
    let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).collect();
    match errors.as_slice() {
        [] => "no reason was given".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// Whether a decision needs members of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dependence {
    /// Proved: whatever the members hold, and whether they are there at all, the findings are the same.
    No,
    /// Not proved.
    Maybe,
}

/// Members of the input that a bundle can read, each as the steps of a JSON pointer: everything at, below and above a
/// path. `None` is the whole document.
pub type Reads = Option<Vec<Vec<String>>>;

/// Lines of the sources, by file: those that an evaluation reached, and those that it did not.
pub type Lines = BTreeMap<String, (BTreeSet<u32>, BTreeSet<u32>)>;

/// Evaluates one bundle. Implementations are pure: same input, same findings.
pub trait Engine: Send + Sync + std::fmt::Debug {
    /// Returns what evaluates.
    fn id(&self) -> &EngineId;
    /// Lists every rule that findings can name, with its place, sorted by id.
    fn rules(&self) -> &[RuleRef];
    /// Evaluates the entry point; findings in any order.
    fn findings(&self, input: &Value) -> Result<Vec<Finding>, EvalError>;
    /// Tells which members of the input any evaluation can read.
    fn reads(&self) -> Reads;
    /// Tells which lines an evaluation reaches, for the coverage of tests.
    fn lines(&self, input: &Value) -> Lines;
    /// Tells whether the findings for this input depend on what stands at the given JSON pointers.
    fn depends(&self, input: &Value, pointers: &[String]) -> Dependence;
}

/// Tells whether a read of one path can see what stands at another.
pub(super) fn overlap(a: &[String], b: &[String]) -> bool {
    a.iter().zip(b).all(|(a, b)| a == b)
}

/// Returns the message that a panic was raised with.
#[cfg(any(feature = "engine-rego", feature = "engine-cedar"))]
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// Takes a JSON pointer apart.
pub(super) fn steps(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
}

/// What [`Policy::decide`] itself reads of an input.
const DECIDE_READS: [&str; 2] = ["/schema", "/action/kind"];

/// A bundle ready to decide.
#[derive(Debug)]
pub struct Policy {
    bundle: Bundle,
    engine: Box<dyn Engine>,
}

impl Policy {
    /// Compiles a bundle with the engine that its `verdict.toml` names. What [`super::check::check`] calls an
    /// error refuses the bundle here; a warning does not.
    pub fn compile(bundle: Bundle) -> Result<Self, PolicyError> {
        let engine: Box<dyn Engine> = match bundle.settings().engine {
            #[cfg(feature = "engine-rego")]
            EngineKind::Rego => Box::new(super::rego::RegoEngine::compile(&bundle)?),
            #[cfg(not(feature = "engine-rego"))]
            EngineKind::Rego => {
                return Err(PolicyError::NoEngine {
                    name: bundle.name().to_owned(),
                    version: bundle.version().to_owned(),
                    engine: "rego",
                });
            }
            #[cfg(feature = "engine-cedar")]
            EngineKind::Cedar => Box::new(super::cedar::CedarEngine::compile(&bundle)?),
            #[cfg(not(feature = "engine-cedar"))]
            EngineKind::Cedar => {
                return Err(PolicyError::NoEngine {
                    name: bundle.name().to_owned(),
                    version: bundle.version().to_owned(),
                    engine: "cedar",
                });
            }
        };
        Ok(Self { bundle, engine })
    }

    /// Returns the bundle.
    pub const fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Returns what evaluates.
    pub fn engine_id(&self) -> &EngineId {
        self.engine.id()
    }

    /// Lists every rule that a decision can name, with its place, sorted by id. Found in the source without
    /// evaluating it, so that a rule that never spoke is known too.
    pub fn rules(&self) -> &[RuleRef] {
        self.engine.rules()
    }

    /// Decides: the one pure function, live and in replay. `input` is built by [`crate::input::build`].
    pub fn decide(&self, input: &Value) -> Decision {
        if let Err(error) = self.accepts(input) {
            return lattice::failed(error);
        }
        match self.engine.findings(input) {
            Ok(findings) => lattice::decide(findings, self.default_for(input)),
            Err(error) => lattice::failed(error),
        }
    }

    /// Tells which lines of the sources a decision on this input reaches. In Cedar a policy is one line, and reached when
    /// it holds.
    pub fn lines(&self, input: &Value) -> Lines {
        self.engine.lines(input)
    }

    /// Tells which members of the input a decision can depend on: equal members, equal decisions. `None` is all.
    pub fn reads(&self) -> Reads {
        let mut paths = self.engine.reads()?;
        paths.extend(DECIDE_READS.iter().map(|pointer| steps(pointer)));
        paths.sort();
        paths.dedup();
        Some(paths)
    }

    /// Tells whether the decision on this input depends on what stands at the given JSON pointers. `No` is proved:
    /// the input may hold anything there, or nothing, and the decision is the same.
    pub fn depends(&self, input: &Value, pointers: &[String]) -> Dependence {
        let wanted: Vec<_> = pointers.iter().map(|pointer| steps(pointer)).collect();
        let here = DECIDE_READS.iter().map(|pointer| steps(pointer));
        if here.into_iter().any(|read| wanted.iter().any(|wanted| overlap(&read, wanted))) {
            return Dependence::Maybe;
        }
        self.engine.depends(input, pointers)
    }

    /// A document of another schema has its facts elsewhere; a policy would find none of them and abstain.
    fn accepts(&self, input: &Value) -> Result<(), EvalError> {
        let want = &self.bundle.settings().input_schema;
        let found = input.get("schema").and_then(Value::as_str);
        if found == Some(want) {
            return Ok(());
        }
        let detail = match found {
            Some(found) => format!("the input is `{found}`, the policy is written for `{want}`"),
            None => format!("the input has no `schema`, the policy is written for `{want}`"),
        };
        Err(EvalError { code: "missing_input".to_owned(), detail })
    }

    /// The default is for actions with effects; what merely happens (a model call, a plan) needs no permission.
    fn default_for(&self, input: &Value) -> Option<Effect> {
        let kind = input.pointer("/action/kind").and_then(Value::as_str);
        // An action of no known kind is treated like one with effects.
        let passive = matches!(kind, Some("model" | "agent" | "guard" | "plan" | "other"));
        (!passive).then(|| self.bundle.default_effect())
    }
}
