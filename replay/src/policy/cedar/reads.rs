//! Which members of the input a Cedar policy reads, and in which order.
//!
//! A policy holds when its scope and then its conditions hold, one after the other; the first that does not ends it.
//! So a policy is a row of conjuncts, and what a later one reads is never looked at once an earlier one is false. That
//! gives a proof that a decision does not depend on a member: the conjuncts before the first that reads it are
//! evaluated alone, as a policy of their own, and when that does not hold, the whole does not, whatever the member is.
//!
//! Works on Cedar's JSON policy format.

use serde_json::{Map, Value, json};

use super::shape::{Member, Shape, document};
use crate::policy::engine::{overlap, steps};

/// Steps below the input.
pub(super) type Path = Vec<String>;

/// A policy as a row of conjuncts.
#[derive(Debug, Clone)]
pub(super) struct Conjuncts {
    /// Effect and scope, without conditions and annotations.
    scope: Value,
    scope_reads: Vec<Path>,
    /// Bodies of `when` clauses, each with what it reads.
    conditions: Vec<(Value, Vec<Path>)>,
}

impl Conjuncts {
    /// Takes a policy apart.
    pub(super) fn of(policy: &Value) -> Self {
        let part = |name: &str| policy.get(name).cloned().unwrap_or_else(|| json!({"op": "All"}));
        let scope = json!({
            "effect": policy.get("effect"), "principal": part("principal"), "action": part("action"),
            "resource": part("resource"), "conditions": [],
        });
        let constrains = |name: &str| policy.pointer(&format!("/{name}/op")).is_some_and(|op| op != "All");
        let mut scope_reads = Vec::new();
        for (name, pointers) in VARIABLES {
            if constrains(name) {
                scope_reads.extend(pointers.iter().map(|pointer| steps(pointer)));
            }
        }
        let mut conditions = Vec::new();
        for clause in policy.get("conditions").and_then(Value::as_array).into_iter().flatten() {
            let Some(body) = clause.get("body") else { continue };
            flatten(body, clause.get("kind").is_some_and(|kind| kind == "unless"), &mut conditions);
        }
        let conditions = conditions
            .into_iter()
            .map(|body| {
                let mut reads = Vec::new();
                scan(&body, &mut reads);
                (body, reads)
            })
            .collect();
        Self { scope, scope_reads, conditions }
    }

    /// Lists everything that the policy can read.
    pub(super) fn reads(&self) -> impl Iterator<Item = &Path> {
        self.scope_reads.iter().chain(self.conditions.iter().flat_map(|(_, reads)| reads))
    }

    /// Returns the policy cut off before the first conjunct that can see one of the paths; `None` when its very scope
    /// can. A policy that sees none of them comes back whole.
    pub(super) fn before(&self, wanted: &[Path]) -> Option<Value> {
        let sees =
            |reads: &[Path]| reads.iter().any(|read| wanted.iter().any(|wanted| overlap(read, wanted)));
        if sees(&self.scope_reads) {
            return None;
        }
        let clean = self.conditions.iter().take_while(|(_, reads)| !sees(reads));
        let conditions: Vec<_> = clean.map(|(body, _)| json!({"kind": "when", "body": body})).collect();
        let mut policy = self.scope.clone();
        if let Value::Object(policy) = &mut policy {
            policy.insert("conditions".to_owned(), Value::Array(conditions));
        }
        Some(policy)
    }
}

/// What the variables of a request are made of.
const VARIABLES: [(&str, &[&str]); 3] = [
    ("principal", &["/agent/name", "/agent/id"]),
    ("action", &["/action/kind"]),
    ("resource", &["/action/name", "/action/kind"]),
];

/// Splits a condition at its outermost conjunctions, in the order in which they are evaluated.
fn flatten(body: &Value, negated: bool, out: &mut Vec<Value>) {
    let both = if negated { "||" } else { "&&" };
    let sides = body.get(both).and_then(|sides| Some((sides.get("left")?, sides.get("right")?)));
    if let Some((left, right)) = sides {
        flatten(left, negated, out);
        flatten(right, negated, out);
    } else if let Some(inner) = body.get("!").and_then(|not| not.get("arg")) {
        flatten(inner, !negated, out);
    } else if negated {
        out.push(json!({"!": {"arg": body}}));
    } else {
        out.push(body.clone());
    }
}

fn scan(expr: &Value, out: &mut Vec<Path>) {
    if let Some(path) = context_path(expr) {
        out.push(in_document(&path));
        return;
    }
    let Value::Object(node) = expr else {
        if let Value::Array(items) = expr {
            for item in items {
                scan(item, out);
            }
        }
        return;
    };
    if let Some(Value::String(variable)) = node.get("Var") {
        let known = VARIABLES.iter().find(|(name, _)| name == variable);
        out.extend(known.into_iter().flat_map(|(_, pointers)| pointers.iter()).map(|pointer| steps(pointer)));
    } else if node.get("Value").is_none() {
        node.values().for_each(|below| match (node.get("Record"), below) {
            // The keys of a record are the author's and no operators.
            (Some(_), Value::Object(members)) => members.values().for_each(|member| scan(member, out)),
            _ => operands(below, out),
        });
    }
}

/// Scans the operands of one operator: an object of them, or a list.
fn operands(below: &Value, out: &mut Vec<Path>) {
    match below {
        Value::Object(named) => named.values().for_each(|operand| scan(operand, out)),
        other => scan(other, out),
    }
}

/// Reads `context.a.b` or `context.a has b` as its steps.
fn context_path(expr: &Value) -> Option<Vec<&str>> {
    let node: &Map<String, Value> = expr.as_object()?;
    if node.get("Var").is_some_and(|name| name == "context") {
        return Some(Vec::new());
    }
    let access = node.get(".").or_else(|| node.get("has"))?;
    let mut path = context_path(access.get("left")?)?;
    match access.get("attr")? {
        Value::String(name) => path.push(name),
        // `has` takes a path.
        Value::Array(names) => path.extend(names.iter().filter_map(Value::as_str)),
        _ => {}
    }
    Some(path)
}

/// Cuts a path where the context stops to be built like the document: at columns, tags and leaves of arguments.
fn in_document(path: &[&str]) -> Path {
    let mut members: &[Member] = document();
    let mut out = Path::new();
    for step in path {
        let Some(member) = members.iter().find(|member| member.name == *step) else { break };
        out.push(member.name.clone());
        match &member.shape {
            Shape::Record(below) => members = below,
            _ => break,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conjuncts(source: &str) -> Conjuncts {
        let policy: cedar_policy::Policy = source.parse().unwrap();
        Conjuncts::of(&policy.to_json().unwrap())
    }

    fn reads(source: &str) -> Vec<String> {
        let mut reads: Vec<_> = conjuncts(source).reads().map(|path| path.join("/")).collect();
        reads.sort();
        reads.dedup();
        reads
    }

    #[test]
    fn reads_are_those_of_scope_and_conditions() {
        assert_eq!(reads("permit(principal, action, resource);"), [""; 0]);
        assert_eq!(
            reads("permit(principal == Agent::\"a\", action, resource is Tool);"),
            ["action/kind", "action/name", "agent/id", "agent/name"]
        );
        assert_eq!(
            reads(
                "forbid(principal, action, resource) when { context.action.arguments.integers.getTag(\"n\") > 1 }
                 unless { context has user && context.user.id == \"x\" };"
            ),
            ["action/arguments", "user", "user/id"]
        );
        assert_eq!(
            reads(
                "forbid(principal, action, resource) when { context.provenance.sources.trust.contains(context.session) };"
            ),
            ["provenance/sources", "session"]
        );
        assert_eq!(
            reads("forbid(principal, action, resource) when { context == {\"Var\": \"context\"} };"),
            [""]
        );
        assert_eq!(
            reads(
                "forbid(principal, action, resource) when { [{\".\": context.tenant}].contains({\".\": \"x\"}) };"
            ),
            ["tenant"]
        );
        assert_eq!(
            reads(
                "forbid(principal, action, resource) when { if principal in Group::\"g\" then true else resource == principal };"
            ),
            ["action/kind", "action/name", "agent/id", "agent/name"]
        );
        assert_eq!(
            reads("forbid(principal, action, resource) when { context has action.resource };"),
            ["action/resource"]
        );
    }

    #[test]
    fn a_policy_is_cut_before_the_first_conjunct_that_reads() {
        let policy = conjuncts(
            "forbid(principal, action, resource == Tool::\"t\") when { context.session == \"s\" && (context.tenant == \"t\" || true) }
             unless { context.environment == \"e\" || context.service == \"v\" };",
        );
        let cut = |pointer: &str| {
            let policy = policy.before(&[steps(pointer)])?;
            let policy = cedar_policy::Policy::from_json(None, policy).unwrap();
            Some(policy.to_string().matches("when").count())
        };
        assert_eq!(cut("/action/name"), None);
        assert_eq!(cut("/session"), Some(0));
        assert_eq!(cut("/tenant"), Some(1));
        assert_eq!(cut("/environment"), Some(2));
        assert_eq!(cut("/service"), Some(3));
        assert_eq!(cut("/user"), Some(4));
    }
}
