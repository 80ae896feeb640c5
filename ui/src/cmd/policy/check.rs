//! `verdict policy check` and `test`.

use serde_json::json;
use verdict_diff::render::text::{counted, visible};
use verdict_replay::policy::test::{self, Outcome};
use verdict_replay::policy::{Policy, check as checks};

use super::{Verification, resolve};
use crate::cli::Context;
use crate::exit::{CliError, Exit};

pub(super) fn check(
    reference: &str,
    verification: &Verification,
    context: &Context,
) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let bundle = resolve(reference, context)?;
    let verified = verification.verify(&bundle).map_err(|error| error.at(reference))?;
    let problems = checks::check(&bundle);
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if json {
        context.output.json(&json!({
            "name": bundle.name(), "version": bundle.version(), "digest": bundle.digest(), "problems": problems,
            "signature": verified,
        }))?;
    } else {
        let mut text: String = problems.iter().map(|problem| visible(&problem.to_string()) + "\n").collect();
        if let Some(verified) = &verified {
            text.push_str(&format!("signed with {} by the key {}\n", verified.algorithm, verified.key));
        }
        text.push_str(&format!(
            "{}@{}: {}, {}\n",
            visible(bundle.name()),
            visible(bundle.version()),
            counted(errors as u64, "error"),
            counted((problems.len() - errors) as u64, "warning")
        ));
        context.output.result(&text)?;
    }
    if errors > 0 {
        return Ok(Exit::Unusable);
    }
    // What the checks let pass must also compile as a whole.
    Policy::compile(bundle).map_err(|error| CliError::from(error).at(reference))?;
    Ok(Exit::Clean)
}

pub(super) fn test(
    reference: &str,
    coverage: bool,
    threshold: Option<u32>,
    context: &Context,
) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let bundle = resolve(reference, context)?;
    let report = test::run(&bundle).map_err(|error| CliError::from(error).at(reference))?;
    if report.tests.is_empty() {
        return Err(CliError::unusable(format!("{reference}: the bundle has no tests"))
            .hint("write rules named test_… in tests/*.rego, or cases in tests/*.toml; a run of no tests proves nothing"));
    }
    let points = report.covered_basis_points();
    let percent = format!("{}.{:02}", points / 100, points % 100);
    let short = threshold.filter(|threshold| points < threshold * 100);
    if json {
        context.output.json(&json!({
            "tests": report.tests, "coverage": report.coverage, "covered_basis_points": points,
            "passed": report.passed(), "failed": report.failures(), "skipped": report.skipped(),
        }))?;
    } else {
        let mut text = String::new();
        for result in &report.tests {
            let (word, detail) = match &result.outcome {
                Outcome::Pass => ("pass", String::new()),
                Outcome::Skip => ("skip", String::new()),
                Outcome::Fail { detail } => ("FAIL", format!(": {}", visible(detail))),
                Outcome::Error { detail } => ("ERROR", format!(": {}", visible(detail))),
            };
            text.push_str(&format!(
                "{word:<5}  {}:{}  {}{detail}\n",
                visible(&result.file),
                result.line,
                visible(&result.name)
            ));
        }
        if coverage {
            for file in &report.coverage {
                let lines: Vec<String> = file.not_covered.iter().map(u32::to_string).collect();
                let missed = if lines.is_empty() { "none".to_owned() } else { lines.join(", ") };
                text.push_str(&format!("{}: lines not evaluated: {missed}\n", visible(&file.file)));
            }
        }
        if coverage || threshold.is_some() {
            text.push_str(&format!("{percent} % of the policies evaluated\n"));
        }
        text.push_str(&format!(
            "{}, {} failed\n",
            counted(report.tests.len() as u64, "test"),
            report.failures()
        ));
        context.output.result(&text)?;
    }
    if let Some(threshold) = short {
        context
            .output
            .warn(&format!("the tests evaluate {percent} % of the policies, and {threshold} % are wanted"));
    }
    Ok(if report.failures() > 0 || short.is_some() { Exit::Finding } else { Exit::Clean })
}
