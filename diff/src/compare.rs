//! The comparison: two runs of the same decisions in, one [`Diff`] out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use verdict_ledger::event::ActionKind;
use verdict_ledger::id::{Digest, TraceId};
use verdict_replay::run::{Point, Run, Semantics};

use crate::blame::{Blame, Places, RuleBlame, Table, blame};
use crate::coverage::{Coverage, Gaps, Side, Unexercised, unexercised};
use crate::error::DiffError;
use crate::matrix::Matrix;
use crate::pattern::{Pattern, Patterns, Shape};
use crate::reproduction::{Reproduction, check};
use crate::ruling::{Ruling, View};
use crate::transition::{Class, classify};
use crate::weight::{Scale, Weight, decimal};

/// What one side is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Subject {
    /// A policy bundle, replayed.
    Policy {
        /// Name.
        name: String,
        /// Version label.
        version: String,
        /// Digest.
        bundle: Digest,
        /// What evaluated it.
        engine: String,
        /// Digest of the run.
        run: Digest,
    },
    /// The decisions that were recorded.
    Recorded,
}

impl Subject {
    fn of(run: &Run) -> Self {
        Self::Policy {
            name: run.header.policy_name.clone(),
            version: run.header.policy_version.clone(),
            bundle: run.header.policy_digest,
            engine: run.header.engine.0.clone(),
            run: run.digest,
        }
    }
}

/// What both sides were run over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Origin of the ledger.
    pub origin: String,
    /// First entry.
    pub first_seq: u64,
    /// One past the last entry.
    pub end_seq: u64,
    /// RFC 6962 root of the first `end_seq` entries, hex.
    pub root: String,
    /// Version of the input document.
    pub input_schema: String,
    /// Semantics.
    pub semantics: Semantics,
}

/// Time of the first and last decision point, Unix nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// First.
    #[serde(with = "decimal")]
    pub first_ns: u64,
    /// Last.
    #[serde(with = "decimal")]
    pub last_ns: u64,
}

/// One decision that is not the same on both sides, or cannot be told to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Action key: position of its first entry.
    pub key: u64,
    /// Class.
    pub class: Class,
    /// Trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// Agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Kind of the action.
    pub kind: ActionKind,
    /// Name of the action.
    pub name: String,
    /// When, Unix nanoseconds.
    #[serde(with = "decimal")]
    pub at_ns: u64,
    /// Before.
    pub from: Ruling,
    /// After.
    pub to: Ruling,
    /// What it is blamed on; empty for `unknown`.
    pub blame: Vec<Blame>,
    /// Digest of the input document.
    pub input: Digest,
}

/// Everything that changes between two sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Before.
    pub from: Subject,
    /// After.
    pub to: Subject,
    /// What both were run over.
    pub range: Range,
    /// When it happened; absent when there is no decision point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Whether the bundles give the decisions that were recorded under their name.
    pub reproduction: Vec<Reproduction>,
    /// What could be compared.
    pub coverage: Coverage,
    /// Weight of each class, every class present.
    pub classes: BTreeMap<Class, Weight>,
    /// Effect against effect.
    pub matrix: Matrix,
    /// Which rules did it, the most consequential first.
    pub rules: Vec<RuleBlame>,
    /// Alike changes told once, by class and then by number.
    pub patterns: Vec<Pattern>,
    /// Rules that no traffic exercised.
    pub unexercised: Unexercised,
    /// Every decision that is not `unchanged`, in log order.
    pub changes: Vec<Change>,
    /// SHA-256 over the canonical JSON (RFC 8785) of everything above: same runs, same digest.
    #[serde(skip)]
    pub digest: Digest,
}

impl Diff {
    /// Returns the weight of a class.
    pub fn weight(&self, class: Class) -> &Weight {
        static NOTHING: std::sync::LazyLock<Weight> = std::sync::LazyLock::new(Weight::default);
        self.classes.get(&class).unwrap_or(&NOTHING)
    }

    /// Tells whether any decision is known to change.
    pub fn has_changes(&self) -> bool {
        Class::ALL.into_iter().any(|class| class.is_change() && self.weight(class).points > 0)
    }
}

/// Compares two runs over the same decisions.
pub fn compare(from: &Run, to: &Run) -> Result<Diff, DiffError> {
    same_range(from, to)?;
    same_points(from, to)?;
    let pairs = from.points.iter().zip(&to.points).map(|(before, after)| {
        (&before.point, View::replayed(&before.answer), View::replayed(&after.answer))
    });
    collect(
        pairs,
        Frame {
            from: Subject::of(from),
            to: Subject::of(to),
            run: to,
            places: (Places::of_run(from), Places::of_run(to)),
            reproduction: vec![check(Side::From, from), check(Side::To, to)],
            unexercised: Unexercised { from: unexercised(from), to: unexercised(to) },
        },
    )
}

/// Sets the decisions that were recorded against one run. Recordings state an effect and perhaps rules, so
/// obligations are not compared; a point without a recorded decision is `unknown` before.
pub fn compare_recorded(to: &Run) -> Result<Diff, DiffError> {
    let pairs = to
        .points
        .iter()
        .map(|replayed| (&replayed.point, View::recorded(&replayed.point), View::replayed(&replayed.answer)));
    collect(
        pairs,
        Frame {
            from: Subject::Recorded,
            to: Subject::of(to),
            run: to,
            places: (Places::default(), Places::of_run(to)),
            reproduction: vec![check(Side::To, to)],
            unexercised: Unexercised { from: Vec::new(), to: unexercised(to) },
        },
    )
}

fn same_range(from: &Run, to: &Run) -> Result<(), DiffError> {
    let (a, b) = (&from.header, &to.header);
    if a.origin != b.origin {
        return Err(DiffError::DifferentLedger { from: a.origin.clone(), to: b.origin.clone() });
    }
    if (a.first_seq, a.end_seq) != (b.first_seq, b.end_seq) {
        return Err(DiffError::DifferentRange {
            from_first: a.first_seq,
            from_end: a.end_seq,
            to_first: b.first_seq,
            to_end: b.end_seq,
        });
    }
    if a.root != b.root {
        return Err(DiffError::DifferentRoot { size: a.end_seq, from: a.root.clone(), to: b.root.clone() });
    }
    if a.input_schema != b.input_schema {
        return Err(DiffError::DifferentInputSchema {
            from: a.input_schema.clone(),
            to: b.input_schema.clone(),
        });
    }
    if a.semantics != b.semantics {
        return Err(DiffError::DifferentSemantics);
    }
    Ok(())
}

fn same_points(from: &Run, to: &Run) -> Result<(), DiffError> {
    for index in 0..from.points.len().max(to.points.len()) {
        let (before, after) = (from.points.get(index), to.points.get(index));
        let (Some(before), Some(after)) = (before, after) else {
            return Err(DiffError::DifferentPoints {
                index,
                from: before.map(|replayed| replayed.point.key),
                to: after.map(|replayed| replayed.point.key),
            });
        };
        let (before, after) = (&before.point, &after.point);
        if before.key != after.key {
            return Err(DiffError::DifferentPoints { index, from: Some(before.key), to: Some(after.key) });
        }
        if before.input != after.input {
            return Err(DiffError::DifferentPoint { key: before.key, what: "input document" });
        }
        if before != after {
            return Err(DiffError::DifferentPoint { key: before.key, what: "description" });
        }
    }
    Ok(())
}

/// Everything about a comparison that is not a pair of decisions.
struct Frame<'a> {
    from: Subject,
    to: Subject,
    run: &'a Run,
    places: (Places, Places),
    reproduction: Vec<Reproduction>,
    unexercised: Unexercised,
}

fn collect<'a>(
    pairs: impl Iterator<Item = (&'a Point, View<'a>, View<'a>)>,
    frame: Frame<'_>,
) -> Result<Diff, DiffError> {
    let mut scales: BTreeMap<Class, Scale<'_>> =
        Class::ALL.into_iter().map(|class| (class, Scale::default())).collect();
    let mut all = Scale::default();
    let mut matrix = Matrix::default();
    let mut gaps = Gaps::default();
    let mut table = Table::default();
    let mut patterns = Patterns::default();
    let mut changes = Vec::new();
    for (point, from, to) in pairs {
        let class = classify(&from, &to);
        all.add(point);
        scales.entry(class).or_default().add(point);
        matrix.add(from.effect(), to.effect());
        gaps.add(&from, &to, point);
        if class == Class::Unchanged {
            continue;
        }
        let blamed = blame(class, &from, &to);
        table.add(class, &blamed, point);
        if let (true, Some(before), Some(after)) = (class.is_change(), from.effect(), to.effect()) {
            let shape = Shape {
                class,
                from: before,
                to: after,
                kind: point.kind,
                name: point.name.clone(),
                agent: point.agent.clone(),
                blame: blamed.clone(),
            };
            patterns.add(shape, point);
        }
        changes.push(change(point, class, &from, &to, blamed));
    }
    let all = all.finish();
    let header = &frame.run.header;
    let mut diff = Diff {
        from: frame.from,
        to: frame.to,
        range: Range {
            origin: header.origin.clone(),
            first_seq: header.first_seq,
            end_seq: header.end_seq,
            root: header.root.clone(),
            input_schema: header.input_schema.clone(),
            semantics: header.semantics,
        },
        window: all.first_ns.zip(all.last_ns).map(|(first_ns, last_ns)| Window { first_ns, last_ns }),
        reproduction: frame.reproduction,
        coverage: gaps.finish(),
        classes: scales.into_iter().map(|(class, scale)| (class, scale.finish())).collect(),
        matrix,
        rules: table.finish(&frame.places.0, &frame.places.1),
        patterns: patterns.finish(),
        unexercised: frame.unexercised,
        changes,
        digest: Digest([0; 32]),
    };
    let canonical =
        serde_json_canonicalizer::to_vec(&diff).map_err(|source| DiffError::Canonical { source })?;
    diff.digest = Digest::of(&canonical);
    Ok(diff)
}

fn change(point: &Point, class: Class, from: &View<'_>, to: &View<'_>, blame: Vec<Blame>) -> Change {
    Change {
        key: point.key,
        class,
        trace_id: point.trace_id,
        agent: point.agent.clone(),
        tenant: point.tenant.clone(),
        kind: point.kind,
        name: point.name.clone(),
        at_ns: point.at_ns,
        from: from.to_ruling(),
        to: to.to_ruling(),
        blame,
        input: point.input,
    }
}
