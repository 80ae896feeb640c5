//! Which rules did it: for every change, the rules without which it would not have happened.
//!
//! Effects join by maximum, so a decision is loosened exactly because every rule that asked for more than the
//! new effect is silent or milder now; those rules are blamed, and no others. A tightening is the mirror image.
//! A rule that still fires as before is never blamed, even when it has become the determining one.
//!
//! Blame per hunk of the policy text needs mixtures of the two versions to be evaluated (ablation) and is not
//! part of a comparison of two finished runs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use verdict_ledger::event::{ActionKind, Obligation};
use verdict_ledger::id::TraceId;
use verdict_replay::policy::RuleRef;
use verdict_replay::run::{Point, Run};

use crate::ruling::{Decided, View};
use crate::transition::Class;
use crate::weight::{Scale, Weight};

/// What a change is blamed on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "rule")]
pub enum Cause {
    /// A rule.
    Rule(String),
    /// The effect that applies when every rule abstains.
    Default,
    /// A recorded decision that does not say which rule determined it.
    Unstated,
}

impl Cause {
    /// Returns what to show.
    pub fn label(&self) -> &str {
        match self {
            Self::Rule(id) => id,
            Self::Default => "(default effect)",
            Self::Unstated => "(no rule recorded)",
        }
    }
}

/// What became of a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It applies before only.
    Removed,
    /// It applies after only.
    Added,
    /// It applies on both sides and asks for something else.
    Changed,
}

impl Role {
    /// Returns the sign that reports put before a rule.
    pub const fn sign(self) -> char {
        match self {
            Self::Removed => '-',
            Self::Added => '+',
            Self::Changed => '~',
        }
    }

    const fn mirrored(self) -> Self {
        match self {
            Self::Removed => Self::Added,
            Self::Added => Self::Removed,
            Self::Changed => Self::Changed,
        }
    }
}

/// A cause and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blame {
    /// The cause.
    pub cause: Cause,
    /// What became of it.
    pub role: Role,
}

/// A place in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// File inside the bundle.
    pub file: String,
    /// Line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// The decision to look at first: the one with the smallest input document, then the oldest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Example {
    /// Length of its input document in bytes.
    pub input_bytes: u64,
    /// Action key: position of its first entry.
    pub key: u64,
    /// Trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// Kind of the action.
    pub kind: ActionKind,
    /// Name of the action.
    pub name: String,
    /// Agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

impl Example {
    /// Makes an example of a point.
    pub(crate) fn of(point: &Point) -> Self {
        Self {
            input_bytes: point.input_bytes,
            key: point.key,
            trace_id: point.trace_id,
            kind: point.kind,
            name: point.name.clone(),
            agent: point.agent.clone(),
        }
    }

    /// Keeps the smaller of two examples.
    pub(crate) fn offer(slot: &mut Option<Self>, point: &Point) {
        if slot.as_ref().is_none_or(|held| (point.input_bytes, point.key) < (held.input_bytes, held.key)) {
            *slot = Some(Self::of(point));
        }
    }
}

/// One row of the table of causes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleBlame {
    /// The cause.
    pub cause: Cause,
    /// Where the rule stands before; empty when it is not there.
    pub from: Vec<Place>,
    /// Where the rule stands after; empty when it is not there.
    pub to: Vec<Place>,
    /// Points by class; only classes that occur.
    pub classes: BTreeMap<Class, u64>,
    /// Points by what became of the cause; only roles that occur.
    pub roles: BTreeMap<Role, u64>,
    /// Weight of all its points.
    pub weight: Weight,
    /// Smallest example of each class.
    pub examples: BTreeMap<Class, Example>,
}

impl RuleBlame {
    /// Returns the number of points of a class.
    pub fn count(&self, class: Class) -> u64 {
        self.classes.get(&class).copied().unwrap_or_default()
    }
}

/// Blames one change; empty for what is not a change.
pub(crate) fn blame(class: Class, from: &View<'_>, to: &View<'_>) -> Vec<Blame> {
    let (View::Decided(from), View::Decided(to)) = (from, to) else { return Vec::new() };
    let found = match class {
        Class::Loosened => lifted(from, to),
        Class::Tightened => {
            lifted(to, from).into_iter().map(|(cause, role)| (cause, role.mirrored())).collect()
        }
        Class::ObligationsChanged => obligations(from, to),
        Class::RuleChanged => determining(from, to),
        Class::Unknown | Class::Unchanged => return Vec::new(),
    };
    found.into_iter().map(|(cause, role)| Blame { cause, role }).collect()
}

type Found = BTreeMap<Cause, Role>;

/// Explains why the effect fell from `high` to `low`, which is also why it rose the other way round.
fn lifted(high: &Decided<'_>, low: &Decided<'_>) -> Found {
    if high.is_silent() {
        return Found::from([(Cause::Unstated, Role::Removed)]);
    }
    let mut found = Found::new();
    if high.fired.is_empty() {
        // The default held the effect up; whatever rules now did away with it.
        for fired in low.fired.iter().filter(|fired| fired.effect == low.effect) {
            found.insert(Cause::Rule(fired.rule.to_owned()), Role::Added);
        }
    } else {
        for fired in high.fired.iter().filter(|fired| fired.effect > low.effect) {
            let role = if low.fired.iter().any(|other| other.rule == fired.rule) {
                Role::Changed
            } else {
                Role::Removed
            };
            found.insert(Cause::Rule(fired.rule.to_owned()), role);
        }
    }
    if found.is_empty() {
        // Two defaults that differ.
        found.insert(Cause::Default, Role::Changed);
    }
    found
}

fn obligations(from: &Decided<'_>, to: &Decided<'_>) -> Found {
    let of = |side: &Decided<'_>, rule: &str| -> BTreeSet<Obligation> {
        side.fired
            .iter()
            .filter(|fired| fired.rule == rule)
            .flat_map(|fired| fired.obligations)
            .cloned()
            .collect()
    };
    let rules: BTreeSet<&str> = from.fired.iter().chain(&to.fired).map(|fired| fired.rule).collect();
    let mut found = Found::new();
    for rule in rules {
        if of(from, rule) != of(to, rule) {
            let role = match (
                from.fired.iter().any(|fired| fired.rule == rule),
                to.fired.iter().any(|fired| fired.rule == rule),
            ) {
                (true, false) => Role::Removed,
                (false, true) => Role::Added,
                _ => Role::Changed,
            };
            found.insert(Cause::Rule(rule.to_owned()), role);
        }
    }
    if found.is_empty() {
        found.insert(Cause::Default, Role::Changed);
    }
    found
}

fn determining(from: &Decided<'_>, to: &Decided<'_>) -> Found {
    let mut found = Found::new();
    for rule in from.rules.difference(&to.rules) {
        found.insert(Cause::Rule((*rule).to_owned()), Role::Removed);
    }
    for rule in to.rules.difference(&from.rules) {
        found.insert(Cause::Rule((*rule).to_owned()), Role::Added);
    }
    found
}

/// Collects the table of causes.
#[derive(Debug, Default)]
pub(crate) struct Table<'a> {
    rows: BTreeMap<Cause, Row<'a>>,
}

#[derive(Debug, Default)]
struct Row<'a> {
    classes: BTreeMap<Class, u64>,
    roles: BTreeMap<Role, u64>,
    scale: Scale<'a>,
    examples: BTreeMap<Class, Option<Example>>,
}

impl<'a> Table<'a> {
    pub(crate) fn add(&mut self, class: Class, blamed: &[Blame], point: &'a Point) {
        for blame in blamed {
            let row = self.rows.entry(blame.cause.clone()).or_default();
            *row.classes.entry(class).or_default() += 1;
            *row.roles.entry(blame.role).or_default() += 1;
            row.scale.add(point);
            Example::offer(row.examples.entry(class).or_default(), point);
        }
    }

    pub(crate) fn finish(self, from: &Places, to: &Places) -> Vec<RuleBlame> {
        let mut rows: Vec<RuleBlame> = self
            .rows
            .into_iter()
            .map(|(cause, row)| RuleBlame {
                from: from.of(&cause),
                to: to.of(&cause),
                cause,
                classes: row.classes,
                roles: row.roles,
                weight: row.scale.finish(),
                examples: row
                    .examples
                    .into_iter()
                    .filter_map(|(class, example)| Some((class, example?)))
                    .collect(),
            })
            .collect();
        rows.sort_by_cached_key(|row| {
            let counts = Class::ALL.map(|class| Reverse(row.count(class)));
            (counts, row.cause.clone())
        });
        rows
    }
}

/// Where each rule of a bundle stands.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<String, BTreeSet<Place>>);

impl Places {
    /// Reads the places from a run: the bundle's own list, and what findings say.
    pub(crate) fn of_run(run: &Run) -> Self {
        let mut places = Self::default();
        for rule in &run.rules {
            places.add(rule);
        }
        for replayed in &run.points {
            if let verdict_replay::run::Answer::Decided { decision } = &replayed.answer {
                for finding in &decision.findings {
                    // Only for rules that the list does not place: an id may be made up at run time.
                    if !places.0.contains_key(&finding.rule.id) {
                        places.add(&finding.rule);
                    }
                }
            }
        }
        places
    }

    fn add(&mut self, rule: &RuleRef) {
        if let Some(file) = &rule.file {
            self.0.entry(rule.id.clone()).or_default().insert(Place { file: file.clone(), line: rule.line });
        }
    }

    fn of(&self, cause: &Cause) -> Vec<Place> {
        match cause {
            Cause::Rule(id) => self.0.get(id).into_iter().flatten().cloned().collect(),
            Cause::Default | Cause::Unstated => Vec::new(),
        }
    }
}
