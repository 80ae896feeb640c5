//! `policy check`: what is wrong with a bundle, found without evaluating it.

use std::path::Path;

use serde::Serialize;

use super::bundle::{Bundle, SETTINGS_FILE};
use super::settings::EngineKind;

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
pub fn check(bundle: &Bundle) -> Vec<Problem> {
    let mut problems = match bundle.settings().engine {
        #[cfg(feature = "engine-rego")]
        EngineKind::Rego => {
            let mut problems = super::analysis::Analysis::of(bundle).problems;
            problems.extend(super::analysis::of_tests(bundle));
            problems
        }
        #[cfg(feature = "engine-cedar")]
        EngineKind::Cedar => super::cedar::problems(bundle),
        #[cfg(not(all(feature = "engine-rego", feature = "engine-cedar")))]
        engine => vec![no_engine(engine)],
    };
    problems.extend(super::test::problems(bundle));
    problems.extend(unread(bundle));
    problems.sort();
    problems.dedup();
    problems
}

/// Sources of the other engine: whoever wrote them thinks that they decide.
fn unread(bundle: &Bundle) -> Vec<Problem> {
    let own = bundle.settings().engine.extension();
    let foreign = [EngineKind::Rego, EngineKind::Cedar].map(EngineKind::extension);
    let files = bundle.files().keys().filter(|file| {
        let extension = Path::new(file).extension();
        foreign.iter().any(|foreign| *foreign != own && extension.is_some_and(|end| end == *foreign))
    });
    let problem = |file: &String| Problem {
        file: file.clone(),
        line: 1,
        column: None,
        severity: Severity::Warning,
        message: format!("the bundle's engine is {own}, so this file decides nothing"),
        hint: Some(format!("`engine` is set in {SETTINGS_FILE}")),
    };
    files.map(problem).collect()
}

#[cfg(not(all(feature = "engine-rego", feature = "engine-cedar")))]
fn no_engine(engine: EngineKind) -> Problem {
    Problem {
        file: SETTINGS_FILE.to_owned(),
        line: 1,
        column: None,
        severity: Severity::Error,
        message: format!(
            "the bundle needs the engine `{}`, which this build was made without",
            engine.extension()
        ),
        hint: None,
    }
}
