//! `policy test`: the tests that a bundle brings, and which of its lines they reach.
//!
//! Rules named `test_…` in Rego (`rego`), and tables of cases for either engine (`table`).

#[cfg(feature = "engine-rego")]
mod rego;
mod table;

use serde::Serialize;

use super::bundle::Bundle;
use super::check::Problem;
use super::engine::{Lines, Policy, PolicyError};
use super::settings::EngineKind;

pub(super) use table::problems;

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It is true.
    Pass,
    /// It is false or undefined, or the decision is another one.
    Fail {
        /// What it is instead, and what it printed.
        detail: String,
    },
    /// It could not be evaluated.
    Error {
        /// Text of the engine.
        detail: String,
    },
    /// Its name begins with `todo_`, or the case says `skip`.
    Skip,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// Full path, like `data.acme.agents_test.test_refund`, or the name of a case.
    pub name: String,
    /// File inside the bundle.
    pub file: String,
    /// Line of the rule or the case.
    pub line: u32,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Which lines of a policy file the tests evaluated. In Cedar a policy counts as its first line, and as evaluated when
/// it held at least once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// File inside the bundle.
    pub file: String,
    /// Lines that were evaluated.
    pub covered: u32,
    /// Lines that were not.
    pub not_covered: Vec<u32>,
}

/// All tests of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// Tests, by file and line.
    pub tests: Vec<TestResult>,
    /// Coverage of the policy files by all tests together.
    pub coverage: Vec<Coverage>,
}

impl TestReport {
    /// Counts the tests that neither passed nor were skipped.
    pub fn failures(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Fail { .. } | Outcome::Error { .. }))
    }

    /// Counts the tests that passed.
    pub fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Pass)
    }

    /// Counts the tests that were skipped.
    pub fn skipped(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Skip)
    }

    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.tests.iter().filter(|test| wanted(&test.outcome)).count()
    }

    /// Returns how much of the policies the tests evaluated, in hundredths of a percent, rounded down. Nothing to
    /// evaluate is all of it.
    pub fn covered_basis_points(&self) -> u32 {
        let covered: u64 = self.coverage.iter().map(|file| u64::from(file.covered)).sum();
        let missed: u64 = self.coverage.iter().map(|file| file.not_covered.len() as u64).sum();
        let all = covered + missed;
        let points = (covered * 10_000).checked_div(all).unwrap_or(10_000);
        u32::try_from(points).unwrap_or(10_000)
    }
}

/// Runs the tests of a bundle. A bundle whose policies or tests do not compile is refused.
pub fn run(bundle: &Bundle) -> Result<TestReport, PolicyError> {
    refuse(bundle, super::check::check(bundle))?;
    let mut lines = Lines::new();
    let mut tests = match bundle.settings().engine {
        #[cfg(feature = "engine-rego")]
        EngineKind::Rego => rego::run(bundle, &mut lines)?,
        _ => Vec::new(),
    };
    let policy = Policy::compile(bundle.clone())?;
    tests.extend(table::run(&policy, &mut lines));
    #[cfg(feature = "engine-rego")]
    if bundle.settings().engine == EngineKind::Rego {
        rego::add_untouched(bundle, &mut lines);
    }
    tests.sort_by(|a, b| (&a.file, a.line, &a.name).cmp(&(&b.file, b.line, &b.name)));
    let coverage = bundle
        .policies()
        .filter_map(|(file, _)| lines.remove_entry(file))
        .map(|(file, (hit, missed))| Coverage {
            file,
            covered: u32::try_from(hit.len()).unwrap_or(u32::MAX),
            not_covered: missed.difference(&hit).copied().collect(),
        })
        .collect();
    Ok(TestReport { tests, coverage })
}

fn refuse(bundle: &Bundle, mut problems: Vec<Problem>) -> Result<(), PolicyError> {
    problems.sort();
    problems.dedup();
    if problems.iter().any(Problem::is_error) {
        let (name, version) = (bundle.name().to_owned(), bundle.version().to_owned());
        return Err(PolicyError::Invalid { name, version, problems });
    }
    Ok(())
}
