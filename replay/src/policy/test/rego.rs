//! OPA-style tests: rules whose names begin with `test_` in `tests/**.rego` or `*_test.rego`.
//!
//! A test passes when it is true; `todo_test_…` is skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use regorus::unstable::{Rule, RuleHead};
use regorus::{Engine as Interpreter, Value as Rego};

use super::{Outcome, TestResult, refuse};
use crate::policy::analysis::{add, load, prepare};
use crate::policy::bundle::Bundle;
use crate::policy::engine::{Lines, PolicyError, panic_text};
use crate::policy::rego::timer;
use crate::policy::syntax::each_expr;

/// Runs the tests of a bundle whose check found no error; adds the lines of all its sources that they reached.
pub(super) fn run(bundle: &Bundle, lines: &mut Lines) -> Result<Vec<TestResult>, PolicyError> {
    let mut problems = Vec::new();
    let mut engine = load(bundle, bundle.policies(), &mut problems);
    add(&mut engine, bundle.tests(), &mut problems);
    prepare(&mut engine, &bundle.settings().entrypoint, &mut problems);
    refuse(bundle, problems)?;
    engine.set_execution_timer_config(timer(bundle.settings().limits));
    engine.set_enable_coverage(true);
    // Empty, so that a test that forgets `with input as` meets a document without facts and not a missing one.
    engine.set_input(Rego::new_object());

    let mut tests = Vec::new();
    for (name, file, line) in list(bundle, &mut engine) {
        let short = name.rsplit('.').next().unwrap_or_default();
        let outcome =
            if short.starts_with("todo_") { Outcome::Skip } else { evaluate(&engine, &name, lines) };
        tests.push(TestResult { name, file, line, outcome });
    }
    Ok(tests)
}

/// Adds the lines of sources of which nothing was evaluated: the interpreter says nothing about those.
pub(super) fn add_untouched(bundle: &Bundle, lines: &mut Lines) {
    let mut engine = load(bundle, bundle.policies(), &mut Vec::new());
    for module in engine.get_modules() {
        let file = module.package.span.source.get_path();
        if lines.contains_key(file) {
            continue;
        }
        let mut missed = BTreeSet::new();
        each_expr(module, |rule, expr| {
            // The name that a rule defines is not evaluated by anybody.
            let name = match rule {
                Rule::Spec {
                    head:
                        RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. },
                    ..
                }
                | Rule::Default { refr, .. } => refr,
            };
            if expr.span().start != name.span().start {
                missed.insert(expr.span().line);
            }
        });
        lines.insert(file.clone(), (BTreeSet::new(), missed));
    }
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
