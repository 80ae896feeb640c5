//! `policy check`: what is wrong with a bundle, found without evaluating it.

use serde::Serialize;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The bundle is refused.
    Error,
    /// The bundle works, though perhaps not as meant.
    Warning,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// File inside the bundle.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// How bad.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// Tells whether the problem refuses the bundle.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, ": {severity}: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Checks a bundle: every source and test parses and compiles; nothing nondeterministic or unbounded is
/// called; every call and every `input` path exists; every finding names its rule and a known effect. Sorted
/// by file and line; empty means clean. Floats and names were refused when the bundle was loaded.
#[cfg(feature = "engine-rego")]
pub fn check(bundle: &super::bundle::Bundle) -> Vec<Problem> {
    let mut problems = super::analysis::Analysis::of(bundle).problems;
    problems.extend(super::analysis::of_tests(bundle));
    problems.sort();
    problems.dedup();
    problems
}
