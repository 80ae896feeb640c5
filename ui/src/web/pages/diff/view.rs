//! A comparison in the words of the page.

use verdict_diff::blame::{Blame, Cause};
use verdict_diff::compare::Change;
use verdict_diff::coverage::Side;
use verdict_diff::gate::{Distrust, Outcome};
use verdict_diff::matrix::LABELS;
use verdict_diff::ruling::Ruling;
use verdict_diff::weight::Weight;
use verdict_diff::{Class, Diff, Subject};
use verdict_ledger::event::Effect;
use verdict_replay::policy::RuleRef;

use super::{Comparison, Links};
use crate::web::error::PageError;
use crate::web::state::shell_word;
use crate::web::view::badge::{self, Badge};
use crate::web::view::number;
use crate::web::view::time::{self, Moment};

/// Changes on one page.
const CHANGES_MAX: usize = 100;

/// Which changes are listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    class: Option<Class>,
    before: String,
    after: String,
    rule: String,
    beyond: Option<u64>,
}

impl Filter {
    /// Reads the parameters.
    pub(crate) fn read(
        class: &str,
        before: &str,
        after: &str,
        rule: &str,
        beyond: Option<u64>,
    ) -> Result<Self, PageError> {
        let class = match class.trim() {
            "" => None,
            name => Some(Class::ALL.into_iter().find(|class| class.as_str() == name).ok_or_else(|| {
                let known: Vec<&str> = Class::ALL.iter().map(|class| class.as_str()).collect();
                PageError::BadRequest {
                    detail: format!("`{name}` is not a class; known are {}", known.join(", ")),
                }
            })?),
        };
        for effect in [before, after].into_iter().filter(|effect| !effect.is_empty()) {
            if !LABELS.contains(&effect) {
                let detail = format!("`{effect}` is not an effect; known are {}", LABELS.join(", "));
                return Err(PageError::BadRequest { detail });
            }
        }
        Ok(Self { class, before: before.to_owned(), after: after.to_owned(), rule: rule.to_owned(), beyond })
    }

    fn is_set(&self) -> bool {
        self.class.is_some() || !self.before.is_empty() || !self.after.is_empty() || !self.rule.is_empty()
    }

    fn matches(&self, change: &Change) -> bool {
        self.class.is_none_or(|class| class == change.class)
            && (self.before.is_empty() || change.from.label() == self.before)
            && (self.after.is_empty() || change.to.label() == self.after)
            && (self.rule.is_empty() || change.blame.iter().any(|blame| blame.cause.label() == self.rule))
    }

    fn words(&self) -> String {
        let mut words = Vec::new();
        words.extend(self.class.map(|class| class_words(class).to_owned()));
        if !self.before.is_empty() {
            words.push(format!("before {}", self.before));
        }
        if !self.after.is_empty() {
            words.push(format!("after {}", self.after));
        }
        if !self.rule.is_empty() {
            words.push(format!("blamed on {}", self.rule));
        }
        words.join(", ")
    }

    fn pairs(&self) -> Vec<(&'static str, &str)> {
        vec![
            ("class", self.class.map_or("", Class::as_str)),
            ("before", &self.before),
            ("after", &self.after),
            ("rule", &self.rule),
        ]
    }
}

/// One side.
#[derive(Debug)]
pub(crate) struct SideView {
    /// What it is called.
    pub(crate) label: String,
    /// Bundle digest; empty for what was recorded.
    pub(crate) bundle: String,
    /// Engine.
    pub(crate) engine: String,
    /// Digest of the run.
    pub(crate) run: String,
    /// What the reproduction check says.
    pub(crate) reproduction: Option<ReproductionView>,
}

/// The reproduction check of one side.
#[derive(Debug)]
pub(crate) struct ReproductionView {
    /// Badge.
    pub(crate) badge: Badge,
    /// In words.
    pub(crate) words: String,
    /// Entries that differ, with what was recorded and what replay says.
    pub(crate) mismatches: Vec<(u64, String, String)>,
}

/// One row of the matrix.
#[derive(Debug)]
pub(crate) struct MatrixRow {
    /// Effect before.
    pub(crate) badge: Badge,
    /// Count, link when there is something to list, and whether the effect is the same.
    pub(crate) cells: Vec<(String, Option<String>, bool)>,
}

/// One class with its weight.
#[derive(Debug)]
pub(crate) struct ClassRow {
    /// Badge.
    pub(crate) badge: Badge,
    /// Decisions.
    pub(crate) points: u64,
    /// Link to the list.
    pub(crate) link: Option<String>,
    /// Actions that ran.
    pub(crate) ran: u64,
    /// Agents.
    pub(crate) agents: u64,
    /// Traces.
    pub(crate) traces: u64,
    /// Money of those that ran.
    pub(crate) cost: String,
    /// Last time.
    pub(crate) last: Option<Moment>,
}

/// One blamed rule.
#[derive(Debug)]
pub(crate) struct RuleRow {
    /// Rule.
    pub(crate) label: String,
    /// Places before.
    pub(crate) from: String,
    /// Places after.
    pub(crate) to: String,
    /// Points by class.
    pub(crate) classes: Vec<(Badge, u64)>,
    /// Agents and traces.
    pub(crate) agents: u64,
    /// Traces.
    pub(crate) traces: u64,
    /// Money.
    pub(crate) cost: String,
    /// Link to the list.
    pub(crate) link: String,
    /// Smallest example.
    pub(crate) example: Option<u64>,
}

/// One decision on one side.
#[derive(Debug)]
pub(crate) struct RulingView {
    /// Badge.
    pub(crate) badge: Badge,
    /// Rules with their places.
    pub(crate) rules: Vec<String>,
    /// Reasons, or why it is unknown.
    pub(crate) reasons: Vec<String>,
}

/// One changed decision.
#[derive(Debug)]
pub(crate) struct ChangeRow {
    /// Action key.
    pub(crate) key: u64,
    /// Class.
    pub(crate) class: Badge,
    /// Trace, for the link.
    pub(crate) trace: Option<String>,
    /// When.
    pub(crate) at: Moment,
    /// Agent.
    pub(crate) agent: String,
    /// Action.
    pub(crate) action: String,
    /// Before.
    pub(crate) from: RulingView,
    /// After.
    pub(crate) to: RulingView,
    /// Blame with its sign.
    pub(crate) blame: Vec<String>,
}

/// A comparison in the words of the page.
#[derive(Debug)]
pub(crate) struct DiffView {
    pub(crate) outcome: Badge,
    pub(crate) headline: String,
    pub(crate) exit_code: u8,
    pub(crate) checks: Vec<String>,
    pub(crate) distrust: Vec<String>,
    pub(crate) from: SideView,
    pub(crate) to: SideView,
    pub(crate) range: String,
    pub(crate) origin: String,
    pub(crate) root: String,
    pub(crate) input_schema: String,
    pub(crate) semantics: String,
    pub(crate) window: Option<(Moment, Moment)>,
    pub(crate) digest: String,
    pub(crate) points: u64,
    pub(crate) compared: u64,
    pub(crate) lost: u64,
    pub(crate) columns: Vec<Badge>,
    pub(crate) matrix: Vec<MatrixRow>,
    pub(crate) classes: Vec<ClassRow>,
    pub(crate) rules: Vec<RuleRow>,
    pub(crate) unknowns: Vec<(String, String, String, u64, u64)>,
    pub(crate) unexercised_from: Vec<String>,
    pub(crate) unexercised_to: Vec<String>,
    pub(crate) changes: Vec<ChangeRow>,
    pub(crate) change_count: usize,
    pub(crate) filter: String,
    pub(crate) unfiltered: String,
    pub(crate) more: Option<String>,
    pub(crate) permalink: String,
    pub(crate) command: String,
}

impl DiffView {
    /// Puts a comparison into words.
    pub(crate) fn new(comparison: &Comparison, filter: &Filter, links: &Links<'_>, ledger_arg: &str) -> Self {
        let diff = &comparison.diff;
        let verdict = &comparison.verdict;
        let matching: Vec<&Change> = diff.changes.iter().filter(|change| filter.matches(change)).collect();
        let change_count = matching.len();
        let mut shown =
            matching.into_iter().filter(|change| filter.beyond.is_none_or(|beyond| change.key > beyond));
        let changes: Vec<ChangeRow> = shown.by_ref().take(CHANGES_MAX).map(change_row).collect();
        let more = shown.next().and(changes.last()).map(|last| {
            let beyond = last.key.to_string();
            let mut pairs = filter.pairs();
            pairs.push(("beyond", &beyond));
            links.with(&pairs)
        });
        Self {
            outcome: outcome_badge(verdict.outcome),
            headline: headline(diff, verdict.outcome, verdict.empty),
            exit_code: verdict.outcome.exit_code(),
            checks: verdict
                .checks
                .iter()
                .filter(|check| check.fired)
                .map(|check| {
                    let measure = check.measure.as_str().replace('_', " ");
                    format!("{}: {measure} {} (more than {})", check.action.as_str(), check.points, check.max)
                })
                .collect(),
            distrust: verdict.distrust.iter().map(distrust_words).collect(),
            from: side(&diff.from, diff, Side::From, &comparison.labels.0),
            to: side(&diff.to, diff, Side::To, &comparison.labels.1),
            range: format!("{} … {}", diff.range.first_seq, diff.range.end_seq.saturating_sub(1)),
            origin: diff.range.origin.clone(),
            root: diff.range.root.clone(),
            input_schema: diff.range.input_schema.clone(),
            semantics: serde_json::to_value(diff.range.semantics)
                .ok()
                .and_then(|name| name.as_str().map(str::to_owned))
                .unwrap_or_default(),
            window: diff.window.map(|window| (time::moment(window.first_ns), time::moment(window.last_ns))),
            digest: diff.digest.to_string(),
            points: diff.coverage.points,
            compared: diff.coverage.compared,
            lost: diff.coverage.lost,
            columns: effects().map(effect_badge).collect(),
            matrix: matrix(diff, links),
            classes: Class::ALL
                .into_iter()
                .map(|class| class_row(class, diff.weight(class), links))
                .collect(),
            rules: diff.rules.iter().map(|rule| rule_row(rule, links)).collect(),
            unknowns: diff
                .coverage
                .reasons
                .iter()
                .map(|reason| {
                    (
                        side_words(reason.side).to_owned(),
                        reason.reason.clone(),
                        reason.missing.join(", "),
                        reason.points,
                        reason.example.key,
                    )
                })
                .collect(),
            unexercised_from: diff.unexercised.from.iter().map(rule_words).collect(),
            unexercised_to: diff.unexercised.to.iter().map(rule_words).collect(),
            changes,
            change_count,
            filter: if filter.is_set() { filter.words() } else { String::new() },
            unfiltered: format!("{}#changes", links.with(&[])),
            more,
            permalink: links.with(&filter.pairs()),
            command: command(comparison, ledger_arg),
        }
    }
}

impl DiffView {
    /// Returns both sides with the word that the page puts before them.
    pub(crate) const fn sides(&self) -> [(&'static str, &SideView); 2] {
        [("Before", &self.from), ("After", &self.to)]
    }
}

fn command(comparison: &Comparison, ledger_arg: &str) -> String {
    let (from, to) = &comparison.labels;
    let trace = comparison.trace.map(|trace| format!(" --trace {trace}")).unwrap_or_default();
    format!(
        "verdict --ledger {ledger_arg} replay diff --from {} --to {}{trace}",
        shell_word(from),
        shell_word(to)
    )
}

fn outcome_badge(outcome: Outcome) -> Badge {
    let (label, like, meaning) = match outcome {
        Outcome::Pass => ("pass", badge::effect(Effect::Allow), "nothing fired"),
        Outcome::Warn => ("warn", badge::effect(Effect::RequireApproval), "something to look at"),
        Outcome::Fail => ("fail", badge::effect(Effect::Block), "the gate fired"),
        Outcome::Untrusted => {
            ("not trustworthy", badge::effect(Effect::Block), "the result cannot be trusted")
        }
    };
    Badge { label, meaning, ..like }
}

fn headline(diff: &Diff, outcome: Outcome, empty: bool) -> String {
    let count = |class: Class| diff.weight(class).points;
    match outcome {
        Outcome::Untrusted => {
            "Not trustworthy: replay does not give the decisions that were recorded".to_owned()
        }
        _ if empty => "Nothing could be compared".to_owned(),
        _ if !diff.has_changes() => "No decision changes".to_owned(),
        _ => {
            let parts: Vec<String> = Class::ALL
                .into_iter()
                .filter(|class| *class != Class::Unchanged && count(*class) > 0)
                .map(|class| format!("{} {}", count(class), class_words(class)))
                .collect();
            parts.join(", ")
        }
    }
}

fn distrust_words(distrust: &Distrust) -> String {
    match distrust {
        Distrust::NotReproduced { side, mismatches, checked } => format!(
            "The {} bundle gives {mismatches} of {checked} recorded decisions differently, so what is replayed is not what ran.",
            side_words(*side)
        ),
    }
}

const fn side_words(side: Side) -> &'static str {
    match side {
        Side::From => "before",
        Side::To => "after",
    }
}

const fn class_words(class: Class) -> &'static str {
    match class {
        Class::Loosened => "loosened",
        Class::Tightened => "tightened",
        Class::ObligationsChanged => "obligations changed",
        Class::RuleChanged => "rule changed",
        Class::Unknown => "unknown",
        Class::Unchanged => "unchanged",
    }
}

const fn class_badge(class: Class) -> Badge {
    let (tone, shape, meaning) = match class {
        Class::Loosened => ("bad", "M6 10V2M2.5 5.5 6 2l3.5 3.5", "more permissive than before"),
        Class::Tightened => ("wait", "M6 2v8M2.5 6.5 6 10l3.5-3.5", "stricter than before"),
        Class::ObligationsChanged => ("info", "M2 3h8M2 6h8M2 9h5", "same effect, other obligations"),
        Class::RuleChanged => ("info", "M2 4h7L7 2M10 8H3l2 2", "same effect, determined by other rules"),
        Class::Unknown => {
            ("quiet", "M2.5 6h.2M6 6h.2M9.5 6h.2", "could not be evaluated or was never recorded")
        }
        Class::Unchanged => ("quiet", "M2.5 4.5h7M2.5 7.5h7", "same effect, obligations and rules"),
    };
    Badge { label: class_words(class), tone, shape, meaning }
}

fn effects() -> impl Iterator<Item = Option<Effect>> {
    Effect::ALL.into_iter().map(Some).chain([None])
}

fn effect_badge(effect: Option<Effect>) -> Badge {
    effect.map_or_else(badge::unknown, badge::effect)
}

fn effect_name(effect: Option<Effect>) -> &'static str {
    effect.map_or("unknown", Effect::as_str)
}

fn side(subject: &Subject, diff: &Diff, which: Side, label: &str) -> SideView {
    let found = diff.reproduction.iter().find(|check| check.side == which);
    let reproduction = found.map(|check| {
        let (badge, words) = if !check.mismatches.is_empty() {
            let fails = Badge { label: "fails", ..badge::effect(Effect::Block) };
            (
                fails,
                format!(
                    "{} of {} recorded decisions that name this bundle come out differently",
                    check.mismatches.len(),
                    check.checked
                ),
            )
        } else if check.checked == 0 {
            let nothing = Badge { label: "not checked", ..badge::no_decision() };
            (nothing, "no recorded decision names this bundle by digest".to_owned())
        } else {
            let holds = Badge { label: "holds", ..badge::effect(Effect::Allow) };
            let rest = if check.not_evaluated > 0 {
                format!(", {} could not be evaluated", check.not_evaluated)
            } else {
                String::new()
            };
            (holds, format!("{} of {} recorded decisions reproduced{rest}", check.reproduced, check.checked))
        };
        let mismatches = check
            .mismatches
            .iter()
            .take(20)
            .map(|mismatch| {
                (mismatch.seq, mismatch.recorded.to_string(), mismatch.replayed.label().to_owned())
            })
            .collect();
        ReproductionView { badge, words, mismatches }
    });
    match subject {
        Subject::Policy { bundle, engine, run, .. } => SideView {
            label: label.to_owned(),
            bundle: bundle.to_string(),
            engine: engine.clone(),
            run: run.to_string(),
            reproduction,
        },
        Subject::Recorded => SideView {
            label: "what was recorded".to_owned(),
            bundle: String::new(),
            engine: String::new(),
            run: String::new(),
            reproduction,
        },
    }
}

fn matrix(diff: &Diff, links: &Links<'_>) -> Vec<MatrixRow> {
    effects()
        .map(|before| MatrixRow {
            badge: effect_badge(before),
            cells: effects()
                .map(|after| {
                    let count = diff.matrix.count(before, after);
                    let same = before == after;
                    // Unchanged decisions are not listed; a cell of the diagonal may hold changed rules.
                    let listed = diff
                        .changes
                        .iter()
                        .any(|change| change.from.effect() == before && change.to.effect() == after);
                    let pairs = [("before", effect_name(before)), ("after", effect_name(after))];
                    let link = (count > 0 && listed).then(|| format!("{}#changes", links.with(&pairs)));
                    (number::count(count), link, same)
                })
                .collect(),
        })
        .collect()
}

fn class_row(class: Class, weight: &Weight, links: &Links<'_>) -> ClassRow {
    let listed = weight.points > 0 && class != Class::Unchanged;
    ClassRow {
        badge: class_badge(class),
        points: weight.points,
        link: listed.then(|| format!("{}#changes", links.with(&[("class", class.as_str())]))),
        ran: weight.ran,
        agents: weight.agents,
        traces: weight.traces,
        cost: cost(weight),
        last: weight.last_ns.map(time::moment),
    }
}

fn cost(weight: &Weight) -> String {
    let sums: Vec<String> =
        weight.cost.iter().map(|(currency, nano)| number::nano_text(nano.0, currency)).collect();
    match (sums.is_empty(), weight.ran_without_cost) {
        (true, 0) => String::new(),
        (true, _) => "unknown".to_owned(),
        (false, 0) => sums.join(" + "),
        (false, _) => format!("at least {}", sums.join(" + ")),
    }
}

fn rule_row(rule: &verdict_diff::blame::RuleBlame, links: &Links<'_>) -> RuleRow {
    let places = |places: &[verdict_diff::blame::Place]| {
        places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    RuleRow {
        label: rule.cause.label().to_owned(),
        from: places(&rule.from),
        to: places(&rule.to),
        classes: rule.classes.iter().map(|(class, count)| (class_badge(*class), *count)).collect(),
        agents: rule.weight.agents,
        traces: rule.weight.traces,
        cost: cost(&rule.weight),
        link: format!("{}#changes", links.with(&[("rule", rule.cause.label())])),
        example: rule.examples.values().next().map(|example| example.key),
    }
}

fn rule_words(rule: &RuleRef) -> String {
    match (&rule.file, rule.line) {
        (Some(file), Some(line)) => format!("{} ({file}:{line})", rule.id),
        (Some(file), None) => format!("{} ({file})", rule.id),
        _ => rule.id.clone(),
    }
}

fn ruling(ruling: &Ruling) -> RulingView {
    match ruling {
        Ruling::Decided { effect, rules, reasons, .. } => RulingView {
            badge: badge::effect(*effect),
            rules: rules.iter().map(rule_words).collect(),
            reasons: reasons.clone(),
        },
        Ruling::Unknown { reason, missing } => {
            let mut reasons = vec![reason.replace('_', " ")];
            if !missing.is_empty() {
                reasons.push(format!("missing {}", missing.join(", ")));
            }
            RulingView { badge: badge::unknown(), rules: Vec::new(), reasons }
        }
    }
}

fn change_row(change: &Change) -> ChangeRow {
    ChangeRow {
        key: change.key,
        class: class_badge(change.class),
        trace: change.trace_id.map(|trace| trace.to_string()),
        at: time::moment(change.at_ns),
        agent: change.agent.clone().unwrap_or_default(),
        action: format!("{} {}", change.kind.as_str(), change.name),
        from: ruling(&change.from),
        to: ruling(&change.to),
        blame: change.blame.iter().map(blame_words).collect(),
    }
}

fn blame_words(blame: &Blame) -> String {
    match &blame.cause {
        Cause::Rule(rule) => format!("{}{rule}", blame.role.sign()),
        other => format!("{}{}", blame.role.sign(), other.label()),
    }
}
