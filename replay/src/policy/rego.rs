//! Rego, by the regorus interpreter in strict mode.
//!
//! Strict: a builtin that gets a value of the wrong type is an error and not "undefined", so that a rule cannot
//! vanish because its input was malformed. The interpreter and not the faster bytecode mode: that one swallows
//! errors. The crate is built without clock, network, UUID and environment builtins.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine as Interpreter, LimitError, Value as Rego};
use serde_json::Value;
use verdict_ledger::event::{Effect, Obligation};

use super::analysis::Analysis;
use super::bundle::Bundle;
use super::decision::{EvalError, Finding, RuleRef};
use super::engine::{Dependence, Engine, EngineId, Lines, PolicyError, Reads, panic_text};
use super::rego_reads::ReadSites;
use super::settings::{Adapter, Limits};

/// Version of the engine crate; a test compares it with the lock file.
pub const REGORUS_VERSION: &str = "0.14.1";
/// Version of the code that turns what a policy returns into findings.
const ADAPTER_VERSION: u32 = 1;
/// Evaluation steps between two looks at the clock.
const TIMER_STEPS: NonZeroU32 = NonZeroU32::new(1_024).unwrap();
/// Bytes of a value that an error quotes.
const QUOTE_BYTES_MAX: usize = 200;

/// A compiled Rego bundle.
#[derive(Debug)]
pub struct RegoEngine {
    id: EngineId,
    entrypoint: String,
    adapter: Adapter,
    limits: Limits,
    rules: Vec<RuleRef>,
    places: BTreeMap<String, RuleRef>,
    reads: ReadSites,
    /// Compiled and without input. Every evaluation runs on a copy, which shares the compiled policy and costs a
    /// quarter of a microsecond: nothing that an evaluation, an error or a panic leaves behind inside an
    /// interpreter reaches the next decision.
    prototype: Interpreter,
}

impl RegoEngine {
    /// Compiles a bundle.
    pub fn compile(bundle: &Bundle) -> Result<Self, PolicyError> {
        let Analysis { engine: mut prototype, rules, problems } = Analysis::of(bundle);
        if problems.iter().any(super::check::Problem::is_error) {
            return Err(PolicyError::Invalid {
                name: bundle.name().to_owned(),
                version: bundle.version().to_owned(),
                problems,
            });
        }
        let settings = bundle.settings();
        prototype.set_execution_timer_config(timer(settings.limits));
        Ok(Self {
            id: engine_id(),
            entrypoint: settings.entrypoint.clone(),
            adapter: settings.adapter,
            limits: settings.limits,
            places: rules.iter().map(|rule| (rule.id.clone(), rule.clone())).collect(),
            rules,
            reads: ReadSites::of(&mut prototype),
            prototype,
        })
    }

    fn rule(&self, id: &str) -> RuleRef {
        let unknown = || RuleRef { id: id.to_owned(), file: None, line: None };
        self.places.get(id).cloned().unwrap_or_else(unknown)
    }

    fn evaluate(&self, input: Rego) -> Result<Rego, EvalError> {
        let mut interpreter = self.prototype.clone();
        interpreter.set_input(input);
        let entrypoint = self.entrypoint.clone();
        // The interpreter moves into the closure: after a panic it is gone, and nothing half done is left to see.
        match catch_unwind(AssertUnwindSafe(move || interpreter.eval_rule(entrypoint))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(match error.downcast_ref::<LimitError>() {
                // Without the time that it took, which differs from run to run.
                Some(LimitError::TimeLimitExceeded { .. }) => fail(
                    "limit_exceeded",
                    format!("the evaluation took longer than the {} ms that it has", self.limits.wall_ms),
                ),
                Some(limit) => fail("limit_exceeded", limit.to_string()),
                None => fail("engine_error", one_line(&format!("{error:#}"))),
            }),
            Err(panic) => Err(fail("engine_panic", panic_text(&*panic).to_owned())),
        }
    }

    /// Evaluates with coverage; `None` when the run ended at a limit or in a panic, and so says nothing of the next.
    fn covered(&self, input: Rego) -> Option<Lines> {
        let mut interpreter = self.prototype.clone();
        interpreter.set_enable_coverage(true);
        interpreter.set_input(input);
        let entrypoint = self.entrypoint.clone();
        let report = catch_unwind(AssertUnwindSafe(move || {
            let ended = interpreter.eval_rule(entrypoint);
            let limited = ended.is_err_and(|error| error.downcast_ref::<LimitError>().is_some());
            (!limited).then(|| interpreter.get_coverage_report().ok()).flatten()
        }));
        let files = report.ok().flatten()?.files.into_iter();
        Some(files.map(|file| (file.path, (file.covered, file.not_covered))).collect())
    }

    fn adapt(&self, value: &Rego) -> Result<Vec<Finding>, EvalError> {
        match self.adapter {
            Adapter::Findings => self.items(value)?.into_iter().map(|item| self.finding(item)).collect(),
            Adapter::Allow => self.allow(value),
            Adapter::Deny => self.deny(value),
        }
    }

    fn items<'a>(&self, value: &'a Rego) -> Result<Vec<&'a Rego>, EvalError> {
        let items: Vec<&Rego> = match value {
            Rego::Set(set) => set.iter().collect(),
            // What `[x | …]` gives; order and repetition mean nothing.
            Rego::Array(array) => array.iter().collect(),
            other => return Err(self.bad(&format!("must be a set, found {}", quote(other)))),
        };
        if items.len() > self.limits.findings as usize {
            let detail = format!("{} findings; the bundle allows {}", items.len(), self.limits.findings);
            return Err(fail("limit_exceeded", detail));
        }
        Ok(items)
    }

    fn finding(&self, value: &Rego) -> Result<Finding, EvalError> {
        let Rego::Object(members) = value else {
            return Err(self.bad(&format!("must hold objects, found {}", quote(value))));
        };
        let (mut effect, mut rule, mut reason, mut obligations) = (None, None, None, Vec::new());
        for (key, member) in members.iter() {
            let wrong = |want: &str| {
                self.bad(&format!("has a finding whose {} is not {want}: {}", quote(key), quote(value)))
            };
            match key.as_string().map(AsRef::as_ref) {
                Ok("effect") => {
                    let word = member.as_string().map(AsRef::as_ref).unwrap_or_default();
                    let known = Effect::ALL.into_iter().find(|effect| effect.as_str() == word);
                    effect = Some(known.ok_or_else(|| wrong("an effect"))?);
                }
                Ok("rule") => rule = Some(member.as_string().map_err(|_| wrong("a string"))?.to_string()),
                Ok("reason") => reason = Some(member.as_string().map_err(|_| wrong("a string"))?.to_string()),
                Ok("obligations") => {
                    let list: Vec<&Rego> = match member {
                        Rego::Array(list) => list.iter().collect(),
                        Rego::Set(set) => set.iter().collect(),
                        _ => return Err(wrong("a list")),
                    };
                    for item in list {
                        obligations.push(obligation(item).ok_or_else(|| wrong("a list of {kind, params}"))?);
                    }
                }
                // A misspelled member would otherwise be a finding without it.
                _ => {
                    return Err(self.bad(&format!(
                        "has a finding with the unknown member {}: {}",
                        quote(key),
                        quote(value)
                    )));
                }
            }
        }
        let missing = |name: &str| self.bad(&format!("has a finding without `{name}`: {}", quote(value)));
        let effect = effect.ok_or_else(|| missing("effect"))?;
        let rule = self.rule(&rule.ok_or_else(|| missing("rule"))?);
        Ok(Finding { effect, rule, reason, obligations })
    }

    fn allow(&self, value: &Rego) -> Result<Vec<Finding>, EvalError> {
        let (effect, reason) = match value {
            Rego::Bool(true) => (Effect::Allow, None),
            Rego::Bool(false) => (Effect::Block, None),
            // OPA's clients take an undefined answer for a refusal.
            Rego::Undefined => (Effect::Block, Some(format!("`{}` is undefined", self.entrypoint))),
            other => return Err(self.bad(&format!("must be true or false, found {}", quote(other)))),
        };
        Ok(vec![Finding { effect, rule: self.rule(&self.entrypoint), reason, obligations: Vec::new() }])
    }

    fn deny(&self, value: &Rego) -> Result<Vec<Finding>, EvalError> {
        let items = self.items(value)?;
        if items.is_empty() {
            let rule = self.rule(&self.entrypoint);
            return Ok(vec![Finding { effect: Effect::Allow, rule, reason: None, obligations: Vec::new() }]);
        }
        let says = |rule: &str, reason: &str| Finding {
            effect: Effect::Block,
            rule: self.rule(rule),
            reason: Some(reason.to_owned()),
            obligations: Vec::new(),
        };
        items
            .into_iter()
            .map(|item| match item {
                Rego::String(message) => Ok(says(&self.entrypoint, message)),
                Rego::Object(members) => {
                    let text =
                        |name: &str| members.get(&Rego::from(name)).and_then(|value| value.as_string().ok());
                    let message = text("msg")
                        .ok_or_else(|| self.bad(&format!("has an object without `msg`: {}", quote(item))))?;
                    Ok(says(text("rule").map_or(self.entrypoint.as_str(), AsRef::as_ref), message))
                }
                other => {
                    Err(self.bad(&format!("must hold strings or objects with `msg`, found {}", quote(other))))
                }
            })
            .collect()
    }

    fn bad(&self, what: &str) -> EvalError {
        fail("bad_result", format!("`{}` {what}", self.entrypoint))
    }
}

impl Engine for RegoEngine {
    fn id(&self) -> &EngineId {
        &self.id
    }

    fn rules(&self) -> &[RuleRef] {
        &self.rules
    }

    fn findings(&self, input: &Value) -> Result<Vec<Finding>, EvalError> {
        let mut budget = u64::from(self.limits.input_bytes);
        let input = convert(input, &mut budget).map_err(|refused| match refused {
            Refused::TooLarge => {
                fail("limit_exceeded", format!("the input is larger than {} bytes", self.limits.input_bytes))
            }
            Refused::Float(text) => {
                fail("missing_input", format!("the input holds {text}, which is not an integer"))
            }
        })?;
        self.adapt(&self.evaluate(input)?)
    }

    fn reads(&self) -> Reads {
        self.reads.paths()
    }

    fn lines(&self, input: &Value) -> Lines {
        let mut budget = u64::from(self.limits.input_bytes);
        convert(input, &mut budget).ok().and_then(|input| self.covered(input)).unwrap_or_default()
    }

    /// The interpreter notes every line of which it evaluates an expression. When it reached no expression that can see
    /// the pointers, nothing that stands there can have led it anywhere else.
    fn depends(&self, input: &Value, pointers: &[String]) -> Dependence {
        if !self.reads.may_read(pointers) {
            return Dependence::No;
        }
        let mut budget = u64::from(self.limits.input_bytes);
        // The size of the input has a limit of its own, which what is missing could pass.
        let Ok(input) = convert(input, &mut budget) else { return Dependence::Maybe };
        match self.covered(input) {
            Some(covered) if self.reads.untouched(pointers, &covered) => Dependence::No,
            _ => Dependence::Maybe,
        }
    }
}

/// Returns what pins this engine.
pub fn engine_id() -> EngineId {
    EngineId(format!("regorus@{REGORUS_VERSION}+interpreter+strict+verdict-adapter.{ADAPTER_VERSION}"))
}

pub(super) fn timer(limits: Limits) -> ExecutionTimerConfig {
    ExecutionTimerConfig {
        limit: Duration::from_millis(u64::from(limits.wall_ms)),
        check_interval: TIMER_STEPS,
    }
}

enum Refused {
    TooLarge,
    Float(String),
}

/// Converts an input document, counting its size on the way: the bytes of keys and strings, 8 for the rest.
fn convert(value: &Value, budget: &mut u64) -> Result<Rego, Refused> {
    let mut spend = |bytes: usize| {
        *budget = budget.checked_sub(bytes as u64).ok_or(Refused::TooLarge)?;
        Ok(())
    };
    match value {
        Value::String(text) => spend(text.len())?,
        Value::Object(members) => spend(members.keys().map(String::len).sum())?,
        _ => spend(8)?,
    }
    Ok(match value {
        Value::Null => Rego::Null,
        Value::Bool(value) => Rego::from(*value),
        Value::Number(number) => match number.as_i64() {
            Some(value) => Rego::from(value),
            None => return Err(Refused::Float(number.to_string())),
        },
        Value::String(text) => Rego::String(text.as_str().into()),
        Value::Array(items) => {
            Rego::from(items.iter().map(|item| convert(item, budget)).collect::<Result<Vec<_>, _>>()?)
        }
        Value::Object(members) => {
            let mut object = BTreeMap::new();
            for (key, member) in members {
                object.insert(Rego::String(key.as_str().into()), convert(member, budget)?);
            }
            Rego::from(object)
        }
    })
}

fn obligation(value: &Rego) -> Option<Obligation> {
    let Rego::Object(members) = value else { return None };
    let mut obligation = Obligation { kind: String::new(), params: BTreeMap::new() };
    for (key, member) in members.iter() {
        match key.as_string().ok()?.as_ref() {
            "kind" => member.as_string().ok()?.as_ref().clone_into(&mut obligation.kind),
            "params" => {
                for (name, value) in member.as_object().ok()?.iter() {
                    let text = match value {
                        Rego::String(text) => text.to_string(),
                        Rego::Bool(value) => value.to_string(),
                        Rego::Number(_) => value.as_i64().ok()?.to_string(),
                        _ => return None,
                    };
                    obligation.params.insert(name.as_string().ok()?.to_string(), text);
                }
            }
            _ => return None,
        }
    }
    (!obligation.kind.is_empty()).then_some(obligation)
}

fn fail(code: &str, detail: String) -> EvalError {
    EvalError { code: code.to_owned(), detail }
}

fn quote(value: &Rego) -> String {
    let text = match value {
        Rego::Undefined => "nothing (undefined)".to_owned(),
        value => value.to_json_str().unwrap_or_else(|_| "a value that is not JSON".to_owned()),
    };
    let text = one_line(&text);
    match text.char_indices().nth(QUOTE_BYTES_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_id_names_the_version_in_the_lock_file() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        let entry = format!("name = \"regorus\"\nversion = \"{REGORUS_VERSION}\"\n");
        assert!(lock.contains(&entry), "REGORUS_VERSION is not the version in Cargo.lock");
        assert_eq!(engine_id().0, "regorus@0.14.1+interpreter+strict+verdict-adapter.1");
    }
}
