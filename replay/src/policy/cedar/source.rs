//! The Cedar sources of a bundle: parsed, validated against the schema, and taken apart into rules.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use cedar_policy::{
    Effect as Side, Entities, Policy, PolicyId, PolicySet, Schema, SchemaFragment, ValidationMode, Validator,
};
use miette::Diagnostic;
use verdict_ledger::event::Effect;

use super::annotation::{Duty, KNOWN, Template, default_effect, effect};
use super::reads::Conjuncts;
use super::schema;
use crate::policy::bundle::{Bundle, SETTINGS_FILE};
use crate::policy::check::{Problem, Severity};
use crate::policy::decision::RuleRef;
use crate::policy::schema::distance;
use crate::policy::settings::text;

/// A policy of the bundle, and what its annotations say.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) place: RuleRef,
    pub(super) effect: Effect,
    pub(super) reason: Option<Template>,
    pub(super) duties: Vec<Duty>,
    pub(super) conjuncts: Conjuncts,
}

/// Everything that is known about a bundle's sources.
#[derive(Debug)]
pub(super) struct Source {
    /// Permits and forbids apart, since an answer names the one sort only when the other has nothing to say.
    pub(super) permits: PolicySet,
    pub(super) forbids: PolicySet,
    /// By policy id, which is the file and the number of the policy in it.
    pub(super) rules: BTreeMap<String, Rule>,
    /// Entities that the bundle brings: groups and their members, and whatever its own schema declares.
    pub(super) entities: Entities,
    /// What is wrong, sorted.
    pub(super) problems: Vec<Problem>,
}

impl Source {
    /// Reads a bundle.
    pub(super) fn of(bundle: &Bundle) -> Self {
        let mut source = Self::empty();
        let mut all = PolicySet::new();
        for (file, bytes) in bundle.policies() {
            match text(file, bytes) {
                Ok(source_text) => source.parse(file, source_text, &mut all),
                Err(error) => source.problems.push(plain(file, &error.to_string())),
            }
        }
        if source.rules.is_empty() && source.problems.is_empty() {
            let mut problem = plain(SETTINGS_FILE, "the bundle has no policy");
            problem.hint = Some("policies are the .cedar files outside `tests/`".to_owned());
            source.problems.push(problem);
        }
        if let Some(schema) = source.schema(bundle) {
            source.read_entities(bundle, &schema);
            source.validate(&all, schema, bundle);
        }
        source.note_duplicates();
        source.problems.sort();
        source.problems.dedup();
        source
    }

    /// Stands for a bundle whose analysis panicked.
    pub(super) fn panicked(why: &str) -> Self {
        let problems = vec![plain(SETTINGS_FILE, &format!("the engine panicked: {why}"))];
        Self { problems, ..Self::empty() }
    }

    fn empty() -> Self {
        Self {
            permits: PolicySet::new(),
            forbids: PolicySet::new(),
            rules: BTreeMap::new(),
            entities: Entities::empty(),
            problems: Vec::new(),
        }
    }

    fn parse(&mut self, file: &str, source: &str, all: &mut PolicySet) {
        let parsed = match PolicySet::from_str(source) {
            Ok(parsed) => parsed,
            Err(errors) => {
                for error in errors.iter() {
                    self.problems.push(diagnosed(file, source, error, Severity::Error));
                }
                return;
            }
        };
        for template in parsed.templates() {
            let at = if let Some(place) = template.as_ref().loc() { place.start() } else { 0 };
            let mut problem = at_offset(file, source, at, "a template decides nothing until it is linked");
            problem.hint = Some(
                "write the principal and the resource in place of `?principal` and `?resource`".to_owned(),
            );
            self.problems.push(problem);
        }
        let mut policies = BTreeMap::new();
        for policy in parsed.policies() {
            if let Some(place) = policy.as_ref().loc() {
                policies.insert(place.start(), policy);
            }
        }
        for (number, (at, policy)) in (1..).zip(policies) {
            let id = format!("{file}#{number}");
            let rule = self.rule(file, source, at, &id, policy);
            let policy = policy.new_id(PolicyId::new(&id));
            let side = match policy.effect() {
                Side::Permit => &mut self.permits,
                Side::Forbid => &mut self.forbids,
            };
            // An id is a path and a number, so it stands once.
            if side.add(policy.clone()).is_ok() && all.add(policy).is_ok() {
                self.rules.insert(id, rule);
            }
        }
    }

    /// Reads the annotations of a policy.
    fn rule(&mut self, file: &str, source: &str, at: usize, id: &str, policy: &Policy) -> Rule {
        let mut wrong = |severity, message: String, hint: Option<String>| {
            let mut problem = at_offset(file, source, at, &message);
            problem.severity = severity;
            problem.hint = hint;
            self.problems.push(problem);
        };
        let name = policy.annotation("id").filter(|name| !name.is_empty());
        if name.is_none() {
            let message = format!("this policy has no `@id`; decisions will name it `{id}`");
            wrong(
                Severity::Warning,
                message,
                Some("add `@id(\"…\")`, which stays when policies move".to_owned()),
            );
        }
        for (key, _) in policy.annotations().filter(|(key, _)| !KNOWN.contains(key)) {
            if let Some(near) = KNOWN.iter().find(|known| distance(key, known) <= 2) {
                wrong(
                    Severity::Warning,
                    format!("`@{key}` is not read"),
                    Some(format!("did you mean `@{near}`?")),
                );
            }
        }
        let mut effect_of = default_effect(policy.effect());
        match policy.annotation("effect").map(|word| effect(policy.effect(), word)) {
            Some(Ok(effect)) => effect_of = effect,
            Some(Err(message)) => wrong(Severity::Error, format!("@effect: {message}"), None),
            None => {}
        }
        let reason = match policy.annotation("reason").map(Template::parse) {
            Some(Ok(reason)) => Some(reason),
            Some(Err(message)) => {
                wrong(Severity::Error, format!("@reason: {message}"), None);
                None
            }
            None => None,
        };
        let duties = match policy.annotation("obligation").map(Duty::parse_all) {
            Some(Ok(duties)) => duties,
            Some(Err(message)) => {
                wrong(Severity::Error, format!("@obligation: {message}"), None);
                Vec::new()
            }
            None => Vec::new(),
        };
        let conjuncts = match policy.to_json() {
            Ok(json) => Conjuncts::of(&json),
            Err(error) => {
                wrong(Severity::Error, format!("the policy has no JSON form: {error}"), None);
                Conjuncts::of(&serde_json::Value::Null)
            }
        };
        let (line, _) = line_column(source, at);
        let place =
            RuleRef { id: name.unwrap_or(id).to_owned(), file: Some(file.to_owned()), line: Some(line) };
        Rule { place, effect: effect_of, reason, duties, conjuncts }
    }

    /// Makes the schema: the generated one and what the bundle declares below `schema/`.
    fn schema(&mut self, bundle: &Bundle) -> Option<Schema> {
        let mut own = Vec::new();
        for (file, bytes) in bundle.files() {
            let Some(below) = file.strip_prefix("schema/") else { continue };
            let parsed = match text(file, bytes) {
                Err(error) => Err(plain(file, &error.to_string())),
                Ok(source) if below.ends_with(".cedarschema") => SchemaFragment::from_cedarschema_str(source)
                    .map(|(fragment, _)| fragment)
                    .map_err(|error| diagnosed(file, source, &error, Severity::Error)),
                Ok(source) if below.ends_with(".cedarschema.json") => SchemaFragment::from_json_str(source)
                    .map_err(|error| diagnosed(file, source, &error, Severity::Error)),
                Ok(_) => continue,
            };
            match parsed {
                Ok(fragment) => own.push(fragment),
                Err(problem) => self.problems.push(problem),
            }
        }
        match schema::with(own) {
            Ok(schema) => Some(schema),
            Err(message) => {
                let first = bundle.files().keys().find(|file| file.starts_with("schema/"));
                let file = first.map_or(SETTINGS_FILE, String::as_str);
                let mut problem = plain(file, &message);
                problem.hint =
                    Some("types of the generated schema cannot be declared again; see `verdict policy schema --format cedar`".to_owned());
                self.problems.push(problem);
                None
            }
        }
    }

    fn read_entities(&mut self, bundle: &Bundle, schema: &Schema) {
        let files = bundle.files().iter().filter(|(file, _)| {
            file.starts_with("entities/") && Path::new(file).extension().is_some_and(|end| end == "json")
        });
        for (file, bytes) in files {
            let source = match text(file, bytes) {
                Ok(source) => source,
                Err(error) => {
                    self.problems.push(plain(file, &error.to_string()));
                    continue;
                }
            };
            // Read alone first: an error then is about this file.
            let read = Entities::from_json_str(source, Some(schema));
            let known = std::mem::replace(&mut self.entities, Entities::empty());
            let joined = match read {
                Ok(read) => known.add_entities(read, None),
                Err(error) => Err(error),
            };
            match joined {
                Ok(entities) => self.entities = entities,
                Err(error) => self.problems.push(diagnosed(file, source, &error, Severity::Error)),
            }
        }
    }

    fn validate(&mut self, all: &PolicySet, schema: Schema, bundle: &Bundle) {
        let result = Validator::new(schema).validate(all, ValidationMode::Strict);
        let place = |id: &PolicyId| {
            let id: &str = id.as_ref();
            let file = id.rsplit_once('#').map_or(SETTINGS_FILE, |(file, _)| file);
            let bytes = bundle.files().get(file).map(|bytes| String::from_utf8_lossy(bytes));
            (file.to_owned(), bytes.unwrap_or_default())
        };
        for error in result.validation_errors() {
            let (file, source) = place(error.policy_id());
            self.problems.push(diagnosed(&file, &source, error, Severity::Error));
        }
        for warning in result.validation_warnings() {
            let (file, source) = place(warning.policy_id());
            self.problems.push(diagnosed(&file, &source, warning, Severity::Warning));
        }
    }

    fn note_duplicates(&mut self) {
        let mut seen: BTreeMap<&str, &RuleRef> = BTreeMap::new();
        let mut places: Vec<&RuleRef> = self.rules.values().map(|rule| &rule.place).collect();
        places.sort();
        for place in places {
            let Some(first) = seen.insert(&place.id, place) else { continue };
            let (Some(file), Some(line), Some(first_file), Some(first_line)) =
                (&place.file, place.line, &first.file, first.line)
            else {
                continue;
            };
            self.problems.push(Problem {
                file: file.clone(),
                line,
                column: None,
                severity: Severity::Warning,
                message: format!("rule `{}` is also at {first_file}:{first_line}", place.id),
                hint: Some("give each policy its own id, unless they are one rule to you".to_owned()),
            });
        }
    }
}

fn plain(file: &str, message: &str) -> Problem {
    Problem {
        file: file.to_owned(),
        line: 1,
        column: None,
        severity: Severity::Error,
        message: one_line(message),
        hint: None,
    }
}

fn at_offset(file: &str, source: &str, at: usize, message: &str) -> Problem {
    let (line, column) = line_column(source, at);
    Problem { line, column: Some(column), ..plain(file, message) }
}

/// Turns a diagnostic of the engine into a problem at its first label.
fn diagnosed(file: &str, source: &str, error: &dyn Diagnostic, severity: Severity) -> Problem {
    let at = error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
    let mut message = error.to_string();
    // Which policy is said by the place.
    if let Some((_, rest)) = message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")) {
        message = rest.to_owned();
    }
    // The reason stands below some messages, like those of entities.
    if let Some(cause) = error.source().map(ToString::to_string).filter(|cause| !message.contains(cause)) {
        message = format!("{message}: {cause}");
    }
    let mut problem = match at {
        Some(at) => at_offset(file, source, at, &message),
        None => plain(file, &message),
    };
    problem.severity = severity;
    problem.hint = error.help().map(|help| one_line(&help.to_string()));
    problem
}

/// Line and column of a byte, both from 1, counted in characters.
fn line_column(source: &str, at: usize) -> (u32, u32) {
    let before = source.get(..at).unwrap_or(source);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    (number(line), number(column))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
