//! Cedar, by the `cedar-policy` crate.
//!
//! Cedar answers allow or deny, and where a forbid holds it does not say which permits held too. So permits and forbids
//! are asked apart, every policy that holds is a finding, and the host joins them as it does for every engine. Cedar
//! ignores a policy whose condition fails; here any failure is an error, since a forbid that was ignored would permit.

mod annotation;
mod reads;
mod request;
pub mod schema;
mod shape;
mod source;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Policy as CedarPolicy,
    PolicyId, PolicySet, Request, Response, RestrictedExpression,
};
use serde_json::Value;

use self::request::{Asked, Held, Term, Uid};
use self::shape::Member;
use self::source::{Rule, Source};
use super::bundle::Bundle;
use super::check::Problem;
use super::decision::{EvalError, Finding, RuleRef};
use super::engine::{Dependence, Engine, EngineId, Lines, PolicyError, Reads, overlap, panic_text, steps};
use super::settings::Limits;

/// Version of the engine crate; a test compares it with the lock file.
pub const CEDAR_VERSION: &str = "4.14.1";
/// Version of the code that makes requests of inputs and findings of answers.
const ADAPTER_VERSION: u32 = 1;

/// A compiled Cedar bundle.
#[derive(Debug)]
pub struct CedarEngine {
    id: EngineId,
    limits: Limits,
    authorizer: Authorizer,
    permits: PolicySet,
    forbids: PolicySet,
    /// By policy id.
    rules: BTreeMap<String, Rule>,
    places: Vec<RuleRef>,
    /// What the bundle brings.
    entities: Entities,
    /// The members of the input that any policy reads.
    wanted: Vec<Member>,
    names: Names,
}

impl CedarEngine {
    /// Compiles a bundle.
    pub fn compile(bundle: &Bundle) -> Result<Self, PolicyError> {
        let Source { permits, forbids, rules, entities, problems } = analysed(bundle);
        if problems.iter().any(Problem::is_error) {
            return Err(PolicyError::Invalid {
                name: bundle.name().to_owned(),
                version: bundle.version().to_owned(),
                problems,
            });
        }
        let mut places: Vec<_> = rules.values().map(|rule| rule.place.clone()).collect();
        places.sort();
        Ok(Self {
            id: engine_id(),
            limits: bundle.settings().limits,
            authorizer: Authorizer::new(),
            permits,
            forbids,
            rules,
            places,
            entities,
            wanted: Vec::new(),
            names: Names::new(),
        }
        .with_wanted())
    }

    fn with_wanted(mut self) -> Self {
        self.wanted = match self.reads() {
            Some(paths) => shape::seen(shape::document(), &paths, &[]),
            None => shape::document().to_vec(),
        };
        self
    }

    fn rule(&self, id: &PolicyId) -> Option<&Rule> {
        let id: &str = id.as_ref();
        self.rules.get(id)
    }

    fn asked(&self, input: &Value) -> Result<(Request, Entities), EvalError> {
        let limit = u64::from(self.limits.input_bytes);
        if size(input) > limit {
            return Err(fail("limit_exceeded", format!("the input is larger than {limit} bytes")));
        }
        self.built(Asked::of(input, &self.wanted)?).map_err(|why| fail("engine_error", why))
    }

    /// Hands a request to the engine's own types.
    fn built(&self, asked: Asked) -> Result<(Request, Entities), String> {
        let names = &self.names;
        let principal = names.uid(&asked.principal)?;
        let resource = names.uid(&asked.resource)?;
        let mut held =
            asked.entities.into_iter().map(|held| names.entity(held)).collect::<Result<Vec<_>, _>>()?;
        for uid in [&principal, &resource] {
            // One that the bundle knows comes with its groups.
            if self.entities.get(uid).is_none() && held.iter().all(|held| held.uid() != *uid) {
                held.push(Entity::new_no_attrs(uid.clone(), [].into()));
            }
        }
        let entities = self.entities.clone().add_entities(held, None).map_err(|error| error.to_string())?;
        let context = Context::from_pairs(names.pairs(asked.context)?).map_err(|error| error.to_string())?;
        let request = Request::new(principal, names.uid(&asked.action)?, resource, context, None);
        Ok((request.map_err(|error| error.to_string())?, entities))
    }

    /// Adds a finding for every policy of one side that holds.
    fn collect(&self, response: &Response, input: &Value, out: &mut Vec<Finding>) -> Result<(), EvalError> {
        // Both come in the order of a hash table.
        let mut errors: Vec<String> =
            response.diagnostics().errors().map(|error| self.explained(error)).collect();
        errors.sort();
        if let Some(first) = errors.into_iter().next() {
            return Err(fail("engine_error", first));
        }
        for id in response.diagnostics().reason() {
            let Some(rule) = self.rule(id) else { continue };
            let duties = rule.duties.iter().map(|duty| duty.fill(input));
            let obligations = duties.collect::<Result<_, _>>().map_err(|why| {
                fail("bad_result", format!("{}: rule `{}`: {why}", place(&rule.place), rule.place.id))
            })?;
            // A reason is for people: what it cannot quote changes no decision.
            let reason = rule
                .reason
                .as_ref()
                .map(|reason| reason.fill(input).unwrap_or_else(|why| format!("({why})")));
            out.push(Finding { effect: rule.effect, rule: rule.place.clone(), reason, obligations });
        }
        Ok(())
    }

    fn explained(&self, error: &cedar_policy::AuthorizationError) -> String {
        let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
        let why = error.inner().to_string();
        let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
        match self.rule(error.policy_id()) {
            Some(rule) => format!("{}: rule `{}`: {why}", place(&rule.place), rule.place.id),
            None => why,
        }
    }

    /// Tells whether what stands in front of the reads of a policy keeps it from holding, whatever they would find.
    fn is_settled(
        &self,
        rule: &Rule,
        wanted: &[Vec<String>],
        request: &Request,
        entities: &Entities,
    ) -> bool {
        let Some(before) = rule.conjuncts.before(wanted) else { return false };
        // An authorizer answers with the effect of the set when the policy holds, and with deny when it does not.
        let mut set = PolicySet::new();
        let Ok(policy) = CedarPolicy::from_json(Some(PolicyId::new("before")), before) else { return false };
        if set.add(policy).is_err() {
            return false;
        }
        let response = self.authorizer.is_authorized(request, &set, entities);
        // One that fails here fails before it reads, and so does the whole policy.
        response.diagnostics().reason().next().is_none()
    }
}

impl Engine for CedarEngine {
    fn id(&self) -> &EngineId {
        &self.id
    }

    fn rules(&self) -> &[RuleRef] {
        &self.places
    }

    fn findings(&self, input: &Value) -> Result<Vec<Finding>, EvalError> {
        let (request, entities) = self.asked(input)?;
        let answers = catch_unwind(AssertUnwindSafe(|| {
            [&self.forbids, &self.permits].map(|set| self.authorizer.is_authorized(&request, set, &entities))
        }));
        let answers = answers.map_err(|panic| fail("engine_panic", panic_text(&*panic).to_owned()))?;
        let mut findings = Vec::new();
        for answer in &answers {
            self.collect(answer, input, &mut findings)?;
        }
        if findings.len() > self.limits.findings as usize {
            let detail = format!("{} findings; the bundle allows {}", findings.len(), self.limits.findings);
            return Err(fail("limit_exceeded", detail));
        }
        Ok(findings)
    }

    fn reads(&self) -> Reads {
        let mut paths: Vec<_> =
            self.rules.values().flat_map(|rule| rule.conjuncts.reads().cloned()).collect();
        paths.extend(self.rules.values().flat_map(Rule::quoted));
        paths.sort();
        paths.dedup();
        (!paths.iter().any(Vec::is_empty)).then_some(paths)
    }

    fn lines(&self, input: &Value) -> Lines {
        let held = self.findings(input).unwrap_or_default();
        let mut lines = Lines::new();
        for rule in &self.places {
            let (Some(file), Some(line)) = (&rule.file, rule.line) else { continue };
            let (hit, missed) = lines.entry(file.clone()).or_default();
            let side = if held.iter().any(|finding| finding.rule == *rule) { hit } else { missed };
            side.insert(line);
        }
        lines
    }

    fn depends(&self, input: &Value, pointers: &[String]) -> Dependence {
        let wanted: Vec<_> = pointers.iter().map(|pointer| steps(pointer)).collect();
        let sees = |path: &[String]| wanted.iter().any(|wanted| overlap(path, wanted));
        let concerned = self.rules.values().filter(|rule| {
            rule.conjuncts.reads().any(|path| sees(path)) || rule.quoted().any(|path| sees(&path))
        });
        let concerned: Vec<_> = concerned.collect();
        if concerned.is_empty() {
            return Dependence::No;
        }
        let Ok((request, entities)) = self.asked(input) else { return Dependence::Maybe };
        let settled = catch_unwind(AssertUnwindSafe(|| {
            concerned.iter().all(|rule| self.is_settled(rule, &wanted, &request, &entities))
        }));
        match settled {
            Ok(true) => Dependence::No,
            _ => Dependence::Maybe,
        }
    }
}

impl Rule {
    /// Lists what the annotations quote.
    fn quoted(&self) -> impl Iterator<Item = Vec<String>> {
        let reason = self.reason.iter().flat_map(annotation::Template::pointers);
        reason.chain(self.duties.iter().flat_map(annotation::Duty::pointers)).map(steps)
    }
}

/// Finds what is wrong with a bundle's Cedar.
pub(super) fn problems(bundle: &Bundle) -> Vec<Problem> {
    analysed(bundle).problems
}

/// Analyses a bundle; a panic of the parser or the validator is a problem like any other.
fn analysed(bundle: &Bundle) -> Source {
    catch_unwind(AssertUnwindSafe(|| Source::of(bundle)))
        .unwrap_or_else(|panic| Source::panicked(panic_text(&*panic)))
}

/// Writes an input document as the two files that `cedar authorize` takes: the request and the entities. The groups
/// that a bundle brings are in its own `entities/`.
pub fn files(input: &Value) -> Result<(Value, Value), EvalError> {
    let asked = Asked::of(input, shape::document())?;
    Ok((asked.request_json(), asked.entities_json()))
}

/// Returns what pins this engine.
pub fn engine_id() -> EngineId {
    EngineId(format!("cedar-policy@{CEDAR_VERSION}+strict+verdict-request.{ADAPTER_VERSION}"))
}

/// Hands plain values to the engine's own types.
#[derive(Debug)]
struct Names {
    /// Types that occur in requests. Cedar parses a name with its whole grammar, which costs more than an evaluation.
    kinds: BTreeMap<String, EntityTypeName>,
}

impl Names {
    fn new() -> Self {
        let named = request::KINDS.iter().map(|(_, resource)| *resource);
        let all =
            named.chain(request::FOREIGN.map(|(kind, _)| kind)).chain([schema::NOBODY, "Action", "Money"]);
        let kinds = all.filter_map(|kind| Some((kind.to_owned(), EntityTypeName::from_str(kind).ok()?)));
        Self { kinds: kinds.collect() }
    }

    fn uid(&self, uid: &Uid) -> Result<EntityUid, String> {
        let kind = match self.kinds.get(&uid.kind) {
            Some(kind) => kind.clone(),
            None => EntityTypeName::from_str(&uid.kind).map_err(|error| error.to_string())?,
        };
        Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(&uid.id)))
    }

    fn entity(&self, held: Held) -> Result<Entity, String> {
        let attributes = self.pairs(held.attributes)?;
        let tags = self.pairs(held.tags)?;
        Entity::new_with_tags(self.uid(&held.uid)?, attributes, [], tags).map_err(|error| error.to_string())
    }

    fn pairs(&self, terms: BTreeMap<String, Term>) -> Result<Vec<(String, RestrictedExpression)>, String> {
        terms.into_iter().map(|(name, term)| Ok((name, self.expression(term)?))).collect()
    }

    fn expression(&self, term: Term) -> Result<RestrictedExpression, String> {
        Ok(match term {
            Term::Bool(value) => RestrictedExpression::new_bool(value),
            Term::Long(value) => RestrictedExpression::new_long(value),
            Term::Text(value) => RestrictedExpression::new_string(value),
            Term::Set(items) => {
                let items =
                    items.into_iter().map(|item| self.expression(item)).collect::<Result<Vec<_>, _>>()?;
                RestrictedExpression::new_set(items)
            }
            Term::Record(members) => {
                RestrictedExpression::new_record(self.pairs(members)?).map_err(|error| error.to_string())?
            }
            Term::Entity(name) => RestrictedExpression::new_entity_uid(self.uid(&name)?),
        })
    }
}

/// Size of an input: the bytes of keys and strings, 8 for the rest.
fn size(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => 8 + items.iter().map(size).sum::<u64>(),
        Value::Object(members) => members.iter().map(|(key, value)| key.len() as u64 + size(value)).sum(),
        _ => 8,
    }
}

fn place(rule: &RuleRef) -> String {
    format!("{}:{}", rule.file.as_deref().unwrap_or_default(), rule.line.unwrap_or_default())
}

fn fail(code: &str, detail: String) -> EvalError {
    EvalError { code: code.to_owned(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_id_names_the_version_in_the_lock_file() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
        let entry = format!("name = \"cedar-policy\"\nversion = \"{CEDAR_VERSION}\"\n");
        assert!(lock.contains(&entry), "CEDAR_VERSION is not the version in Cargo.lock");
        assert_eq!(engine_id().0, "cedar-policy@4.14.1+strict+verdict-request.1");
    }
}
