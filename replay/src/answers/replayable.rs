//! Whether an action can be replayed: is its input complete, and is the policy that decided in the ledger.

use std::collections::BTreeMap;

use serde_json::json;
use verdict_ledger::Ledger;
use verdict_ledger::action::Action;
use verdict_ledger::event::{AuthorityKind, PolicyRef};

use super::{How, Statement};
use crate::policy::Policy;
use crate::policy::registry::{self, Published, RegistryError};
use crate::run::is_point;

/// Published policies that are compiled to find the lines of rules; a policy that is not needed is not compiled.
pub(super) struct Policies {
    published: Vec<Published>,
    ledger: Ledger,
}

/// A policy that a ruling names, as far as the ledger has it.
pub(super) struct Found {
    /// For people.
    pub(super) label: String,
    /// True when the ruling names the content, not only a label.
    pub(super) exact: bool,
    /// `file:line` by rule.
    places: BTreeMap<String, String>,
}

impl Found {
    pub(super) fn place(&self, rule: &str) -> Option<&str> {
        self.places.get(rule).map(String::as_str)
    }
}

impl Policies {
    pub(super) fn read(ledger: &Ledger) -> Result<Self, RegistryError> {
        Ok(Self { published: registry::list(ledger)?, ledger: ledger.clone() })
    }

    /// Finds the bundle that a ruling names: by its content, else by label when only one has it.
    pub(super) fn of(&self, policy: &PolicyRef) -> Option<Found> {
        let by_content =
            policy.bundle.and_then(|digest| self.published.iter().find(|known| known.digest == digest));
        if let Some(published) = by_content {
            return Some(self.found(published, true));
        }
        // Content that is not here is not replaced by something with its label.
        if policy.bundle.is_some() {
            return None;
        }
        let version = policy.version.as_ref()?;
        let mut same = self.published.iter().filter(|known| {
            known.version == *version && policy.name.as_ref().is_none_or(|name| *name == known.name)
        });
        let only = same.next().filter(|_| same.next().is_none())?;
        Some(self.found(only, false))
    }

    fn found(&self, published: &Published, exact: bool) -> Found {
        let name = format!("{}@{}", published.name, published.version);
        let label = if exact {
            format!("{name} ({})", short(&published.digest.to_string()))
        } else {
            format!(
                "{name}, the only one published under that label; the log states the label, not the content"
            )
        };
        // Rules of a bundle that no longer compiles here have no places; that does not make it less the bundle.
        let policy = registry::resolve(Some(&self.ledger), &published.digest.to_string()).ok();
        let policy = policy.and_then(|bundle| Policy::compile(bundle).ok());
        let mut places = BTreeMap::new();
        for rule in policy.iter().flat_map(Policy::rules) {
            if let (Some(file), Some(line)) = (&rule.file, rule.line) {
                places.entry(rule.id.clone()).or_insert_with(|| format!("{file}:{line}"));
            }
        }
        Found { label, exact, places }
    }

    /// Names a policy that is not in the ledger, as the ruling does.
    pub(super) fn named(policy: &PolicyRef) -> String {
        match (&policy.name, &policy.version, policy.bundle) {
            (_, _, Some(digest)) => {
                format!("; policy {}, which is not in this ledger", short(&digest.to_string()))
            }
            (Some(name), Some(version), None) => format!("; policy {name}@{version}, content not stated"),
            (Some(name), None, None) => format!("; policy {name}, version not stated"),
            (None, Some(version), None) => format!("; policy version {version}, content not stated"),
            (None, None, None) => "; no policy is named".to_owned(),
        }
    }
}

fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

pub(super) fn replayable(action: &Action, policies: &Policies) -> Vec<Statement> {
    if !is_point(action.kind) {
        let text = format!("no: a {} is no decision point, no policy rules on it", action.kind.as_str());
        return vec![Statement::new(How::Inferred, text, [action.key], json!({"replayable": false}))];
    }
    let mut missing: Vec<String> = action.withheld.clone();
    missing.sort();
    // What is nowhere in an input is not missed.
    missing.retain(|pointer| {
        !pointer.starts_with("/attributes") && !pointer.starts_with("/outcome") && pointer != "/by"
    });
    let input = if missing.is_empty() {
        let text = if action.arguments.is_some() {
            "its input is complete: nothing of it is erased or withheld"
        } else {
            "its input has no arguments, because nobody stated any; nothing is erased or withheld"
        };
        Statement::new(How::Stated, text, action.seqs.iter().copied(), json!({"input_complete": true}))
    } else {
        let text = format!("its input lacks what is erased or withheld: {}", missing.join(", "));
        Statement::new(
            How::Stated,
            text,
            action.seqs.iter().copied(),
            json!({"input_complete": false, "missing": missing}),
        )
    };
    let ruling = action.ruling_among(|ruling| ruling.decision.by.kind != AuthorityKind::Human);
    let policy = ruling.and_then(|ruling| ruling.decision.policy.clone());
    let seqs = ruling.map(|ruling| ruling.seq);
    let found = policy.as_ref().and_then(|policy| policies.of(policy));
    let (bundle, in_ledger) = match (&policy, &found) {
        (None, _) => (
            Statement::new(
                How::Unknown,
                "which policy decided is unknown: nobody stated it",
                seqs,
                json!({"bundle_in_ledger": null}),
            ),
            false,
        ),
        (Some(_), Some(found)) if found.exact => (
            Statement::new(
                How::Stated,
                format!("the policy that decided is in this ledger: {}", found.label),
                seqs,
                json!({"bundle_in_ledger": true}),
            ),
            true,
        ),
        (Some(_), Some(found)) => {
            let text = format!("the policy that decided may be {}", found.label);
            (
                Statement::new(
                    How::Inferred,
                    text,
                    seqs,
                    json!({"bundle_in_ledger": null, "same_label": true}),
                ),
                false,
            )
        }
        (Some(policy), None) => {
            let named = Policies::named(policy);
            let text = format!("the policy that decided is not in this ledger{named}");
            (Statement::new(How::Stated, text, seqs, json!({"bundle_in_ledger": false})), false)
        }
    };
    let verdict = match (missing.is_empty(), in_ledger) {
        (true, true) => "yes, exactly: under the policy that decided, or under any other",
        (true, false) => {
            "yes, under any policy that is at hand; the recorded decision itself cannot be checked by replay"
        }
        (false, _) => {
            "only as far as a policy does not look at what is missing; else the answer is unknown, never a guess"
        }
    };
    let value = json!({"replayable": missing.is_empty(), "reproducible": missing.is_empty() && in_ledger});
    vec![Statement::new(How::Inferred, verdict, [action.key], value), input, bundle]
}
