//! `policy test`: the OPA-style tests of a bundle.
//!
//! A test is a rule whose name begins with `test_` in `tests/**.rego` or `*_test.rego`. It passes when it is
//! true; `todo_test_…` is skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use regorus::unstable::{Rule, RuleHead};
use regorus::{Engine as Interpreter, Value as Rego};
use serde::Serialize;

use super::analysis::{Analysis, add, load, of_tests, prepare};
use super::bundle::Bundle;
use super::check::Problem;
use super::engine::{PolicyError, panic_text};
use super::rego::timer;

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It is true.
    Pass,
    /// It is false or undefined.
    Fail {
        /// What it is instead, and what it printed.
        detail: String,
    },
    /// It could not be evaluated.
    Error {
        /// Text of the engine.
        detail: String,
    },
    /// Its name begins with `todo_`.
    Skip,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// Full path, like `data.acme.agents_test.test_refund`.
    pub name: String,
    /// File inside the bundle.
    pub file: String,
    /// Line of the rule.
    pub line: u32,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Which lines of a policy file the tests evaluated.
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
        self.tests
            .iter()
            .filter(|test| matches!(test.outcome, Outcome::Fail { .. } | Outcome::Error { .. }))
            .count()
    }
}

/// Runs the tests of a bundle. A bundle whose policies or tests do not compile is refused.
pub fn run(bundle: &Bundle) -> Result<TestReport, PolicyError> {
    let mut problems = Analysis::of(bundle).problems;
    problems.extend(of_tests(bundle));
    refuse(bundle, problems)?;
    let mut problems = Vec::new();
    let mut engine = load(bundle, bundle.policies(), &mut problems);
    add(&mut engine, bundle.tests(), &mut problems);
    prepare(&mut engine, &bundle.settings().entrypoint, &mut problems);
    refuse(bundle, problems)?;
    engine.set_execution_timer_config(timer(bundle.settings().limits));
    engine.set_enable_coverage(true);
    // Empty, so that a test that forgets `with input as` meets a document without facts and not a missing one.
    engine.set_input(Rego::new_object());

    let mut covered = Lines::new();
    let mut tests = Vec::new();
    for (name, file, line) in list(bundle, &mut engine) {
        let short = name.rsplit('.').next().unwrap_or_default();
        let outcome =
            if short.starts_with("todo_") { Outcome::Skip } else { evaluate(&engine, &name, &mut covered) };
        tests.push(TestResult { name, file, line, outcome });
    }
    let policies: BTreeSet<&str> = bundle.policies().map(|(path, _)| path).collect();
    let coverage = covered
        .into_iter()
        .filter(|(file, _)| policies.contains(file.as_str()))
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

/// Lists the tests by file and line.
fn list(bundle: &Bundle, engine: &mut Interpreter) -> Vec<(String, String, u32)> {
    let files: BTreeSet<&str> = bundle.tests().map(|(path, _)| path).collect();
    let mut found = BTreeMap::new();
    for module in engine.get_modules() {
        let file = module.package.span.source.get_path();
        if !files.contains(file.as_str()) {
            continue;
        }
        let package = module
            .package
            .refr
            .span()
            .source
            .contents()
            .get(module.package.refr.span().start as usize..module.package.refr.span().end as usize);
        for rule in &module.policy {
            let Rule::Spec { head: RuleHead::Compr { refr, .. }, .. } = rule.as_ref() else { continue };
            let name = refr.span().text();
            if name.starts_with("test_") || name.starts_with("todo_test_") {
                let path = format!("data.{}.{name}", package.unwrap_or_default());
                // A test of several bodies is one rule and stands at its first.
                found.entry(path).or_insert((file.clone(), rule.span().line));
            }
        }
    }
    let mut tests: Vec<_> = found.into_iter().map(|(name, (file, line))| (name, file, line)).collect();
    tests.sort_by(|a, b| (&a.1, a.2, &a.0).cmp(&(&b.1, b.2, &b.0)));
    tests
}

type Lines = BTreeMap<String, (BTreeSet<u32>, BTreeSet<u32>)>;

fn evaluate(engine: &Interpreter, name: &str, lines: &mut Lines) -> Outcome {
    // A copy for each test, so that none sees what another left behind.
    let mut copy = engine.clone();
    let path = name.to_owned();
    let ended = catch_unwind(AssertUnwindSafe(move || {
        let value = copy.eval_rule(path);
        let prints = copy.take_prints().unwrap_or_default();
        (value, prints, copy.get_coverage_report().ok())
    }));
    let (value, prints, report) = match ended {
        Ok(ended) => ended,
        Err(panic) => return Outcome::Error { detail: format!("engine_panic: {}", panic_text(&*panic)) },
    };
    for file in report.into_iter().flat_map(|report| report.files) {
        let (hit, missed) = lines.entry(file.path).or_default();
        hit.extend(file.covered);
        missed.extend(file.not_covered);
    }
    let printed =
        |text: String| if prints.is_empty() { text } else { format!("{text}; {}", prints.join(" | ")) };
    match value {
        Ok(Rego::Bool(true)) => Outcome::Pass,
        Ok(Rego::Undefined) => Outcome::Fail { detail: printed("undefined".to_owned()) },
        Ok(value) => Outcome::Fail { detail: printed(value.to_string()) },
        Err(error) => Outcome::Error {
            detail: printed(format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")),
        },
    }
}
