//! Table cases: what a policy must say about an input, in `tests/*.toml` or `tests/*.json`.
//!
//! A case states what differs from a minimal valid input; `base` states it for all cases of a file.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use toml::Spanned;
use verdict_ledger::event::{Effect, Obligation};

use super::{Outcome, TestResult};
use crate::input;
use crate::policy::bundle::{Bundle, BundleError};
use crate::policy::check::{Problem, Severity};
use crate::policy::decision::Decision;
use crate::policy::engine::{Lines, Policy};
use crate::policy::settings::{content, json_content, text};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Merged over the minimal input, for all cases.
    #[serde(default)]
    base: Value,
    cases: Vec<Spanned<Case>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile<'a> {
    #[serde(default)]
    base: Value,
    #[serde(borrow)]
    cases: Vec<&'a RawValue>,
}

/// One case. What it does not state is not compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Merged over the base: objects member by member, everything else as a whole; `null` takes a member away.
    #[serde(default)]
    input: Value,
    /// JSON pointers of members to take away, for TOML, which has no `null`.
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    skip: bool,
    effect: Option<Effect>,
    /// Ids of the rules that the decision names: those with its effect.
    rules: Option<BTreeSet<String>>,
    /// Ids of all rules that spoke.
    findings: Option<BTreeSet<String>>,
    obligations: Option<BTreeSet<Obligation>>,
    /// Code of the error.
    error: Option<String>,
}

/// A case with its place and its complete input.
struct Placed {
    file: String,
    line: u32,
    case: Case,
    input: Value,
}

/// Finds what is wrong with the tables of a bundle.
pub(in crate::policy) fn problems(bundle: &Bundle) -> Vec<Problem> {
    let mut problems = Vec::new();
    read(bundle, &mut problems);
    problems
}

/// Runs the cases of a bundle; adds the lines that they reached.
pub(super) fn run(policy: &Policy, lines: &mut Lines) -> Vec<TestResult> {
    let mut cases = read(policy.bundle(), &mut Vec::new());
    // What no case reaches has its lines too; for Cedar this is where they come from.
    add(lines, policy.lines(&input::minimal()), false);
    cases
        .drain(..)
        .map(|Placed { file, line, case, input }| {
            let outcome = if case.skip {
                Outcome::Skip
            } else {
                add(lines, policy.lines(&input), true);
                compare(&case, &policy.decide(&input))
            };
            TestResult { name: case.name, file, line, outcome }
        })
        .collect()
}

fn add(lines: &mut Lines, more: Lines, count: bool) {
    for (file, (hit, missed)) in more {
        let (known_hit, known_missed) = lines.entry(file).or_default();
        if count {
            known_hit.extend(hit);
        } else {
            known_missed.extend(hit);
        }
        known_missed.extend(missed);
    }
}

fn compare(case: &Case, decision: &Decision) -> Outcome {
    match (&case.error, &decision.error) {
        (None, Some(error)) => return Outcome::Error { detail: error.to_string() },
        (Some(wanted), None) => {
            return Outcome::Fail {
                detail: format!("the decision is {}, not the error {wanted}", decision.effect),
            };
        }
        (Some(wanted), Some(error)) if *wanted != error.code => {
            return Outcome::Fail { detail: format!("the error is {error}, not {wanted}") };
        }
        _ => {}
    }
    let mut wrong = Vec::new();
    if let Some(wanted) = case.effect.filter(|wanted| *wanted != decision.effect) {
        let why: Vec<_> = decision.rules.iter().map(|rule| rule.id.as_str()).collect();
        let by = if why.is_empty() { "no rule".to_owned() } else { why.join(", ") };
        wrong.push(format!("the effect is {} (by {by}), not {wanted}", decision.effect));
    }
    let rules = decision.rules.iter().map(|rule| rule.id.clone()).collect();
    difference("rules", case.rules.as_ref(), &rules, Clone::clone, &mut wrong);
    let findings = decision.findings.iter().map(|finding| finding.rule.id.clone()).collect();
    difference("findings", case.findings.as_ref(), &findings, Clone::clone, &mut wrong);
    let obligations = decision.obligations.iter().cloned().collect();
    difference("obligations", case.obligations.as_ref(), &obligations, written, &mut wrong);
    if wrong.is_empty() { Outcome::Pass } else { Outcome::Fail { detail: wrong.join("; ") } }
}

fn difference<T: Ord>(
    what: &str,
    wanted: Option<&BTreeSet<T>>,
    found: &BTreeSet<T>,
    write: impl Fn(&T) -> String,
    wrong: &mut Vec<String>,
) {
    let Some(wanted) = wanted else { return };
    let list = |items: Vec<&T>| items.into_iter().map(&write).collect::<Vec<_>>().join(", ");
    let (missing, more) =
        (wanted.difference(found).collect::<Vec<_>>(), found.difference(wanted).collect::<Vec<_>>());
    if !missing.is_empty() {
        wrong.push(format!("{what}: missing {}", list(missing)));
    }
    if !more.is_empty() {
        wrong.push(format!("{what}: unexpected {}", list(more)));
    }
}

fn written(obligation: &Obligation) -> String {
    let params: Vec<_> = obligation.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{}({})", obligation.kind, params.join(", "))
}

/// Reads every table; what is wrong with one leaves it out and is reported.
fn read(bundle: &Bundle, problems: &mut Vec<Problem>) -> Vec<Placed> {
    let mut out = Vec::new();
    for (file, bytes) in bundle.files() {
        let Some((name, end)) = file.strip_prefix("tests/").and_then(|name| name.rsplit_once('.')) else {
            continue;
        };
        // Below a folder are fixtures of other tests, and `data.json` is data of OPA's.
        if name.contains('/') || name == "data" {
            continue;
        }
        let table = match (end, text(file, bytes)) {
            ("toml" | "json", Err(error)) => Err(error),
            ("toml", Ok(source)) => toml_cases(file, source),
            ("json", Ok(source)) => json_cases(file, source),
            _ => continue,
        };
        match table {
            Ok((base, cases)) => {
                for (line, case) in cases {
                    match place(file, line, &base, case) {
                        Ok(placed) => out.push(placed),
                        Err(message) => problems.push(problem(file, line, None, message)),
                    }
                }
            }
            Err(BundleError::Content { file, line, column, message }) => {
                problems.push(problem(&file, line, Some(column), message));
            }
            Err(error) => problems.push(problem(file, 1, None, error.to_string())),
        }
    }
    out
}

type Cases = (Value, Vec<(u32, Case)>);

fn toml_cases(file: &str, source: &str) -> Result<Cases, BundleError> {
    let table: File = toml::from_str(source)
        .map_err(|error| content(file, source, error.span().map_or(0, |span| span.start), error.message()))?;
    let cases = table.cases.into_iter();
    Ok((table.base, cases.map(|case| (line_of(source, case.span().start), case.into_inner())).collect()))
}

fn json_cases(file: &str, source: &str) -> Result<Cases, BundleError> {
    let table: RawFile<'_> = serde_json::from_str(source).map_err(|error| json_content(file, &error))?;
    let start = source.as_ptr().addr();
    let mut cases = Vec::new();
    for raw in table.cases {
        // A raw value is a part of the source that it was read from.
        let at = raw.get().as_ptr().addr().saturating_sub(start);
        let line = line_of(source, at);
        let case = serde_json::from_str(raw.get()).map_err(|error| match json_content(file, &error) {
            BundleError::Content { file, line: inside, column, message } => {
                BundleError::Content { file, line: line + inside - 1, column, message }
            }
            other => other,
        })?;
        cases.push((line, case));
    }
    Ok((table.base, cases))
}

fn line_of(source: &str, at: usize) -> u32 {
    let before = source.get(..at).unwrap_or_default();
    u32::try_from(before.bytes().filter(|byte| *byte == b'\n').count() + 1).unwrap_or(u32::MAX)
}

fn place(file: &str, line: u32, base: &Value, case: Case) -> Result<Placed, String> {
    if case.effect.is_none()
        && case.rules.is_none()
        && case.findings.is_none()
        && case.obligations.is_none()
        && case.error.is_none()
    {
        return Err(format!(
            "the case `{}` expects nothing; state `effect`, `rules`, `findings`, `obligations` or `error`",
            case.name
        ));
    }
    let mut document = input::minimal();
    merge(&mut document, base);
    merge(&mut document, &case.input);
    for pointer in &case.remove {
        let parent =
            pointer.rsplit_once('/').and_then(|(parent, name)| Some((document.pointer_mut(parent)?, name)));
        let removed = parent.and_then(|(parent, name)| {
            parent.as_object_mut()?.remove(&name.replace("~1", "/").replace("~0", "~"))
        });
        if removed.is_none() {
            return Err(format!(
                "the case `{}` removes `{pointer}`, which its input does not have",
                case.name
            ));
        }
    }
    // A misspelled member would otherwise be one that no policy sees.
    match input::nonconformity(&document) {
        // What the case is about may be that the input is none.
        Some(_) if case.error.is_some() => {}
        Some(wrong) => return Err(format!("the input of the case `{}` is none: {wrong}", case.name)),
        None => {}
    }
    Ok(Placed { file: file.to_owned(), line, case, input: document })
}

/// JSON merge patch (RFC 7396), except that a patch that is no object at all changes nothing.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return };
    for (name, value) in patch {
        if !target.is_object() {
            *target = Value::Object(serde_json::Map::new());
        }
        let Value::Object(members) = target else { return };
        match value {
            Value::Null => drop(members.remove(name)),
            Value::Object(_) => {
                merge(members.entry(name.clone()).or_insert(Value::Object(serde_json::Map::new())), value);
            }
            single => drop(members.insert(name.clone(), single.clone())),
        }
    }
}

fn problem(file: &str, line: u32, column: Option<u32>, message: String) -> Problem {
    Problem { file: file.to_owned(), line, column, severity: Severity::Error, message, hint: None }
}
