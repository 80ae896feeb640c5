//! Answers to the questions that an investigator asks about one action, each from evidence.
//!
//! # Invariants
//! - Every statement says how it is known and names the events that say so. What nobody stated is
//!   [`How::Unknown`], never a default: no statement about a decision is not "allow".
//! - What an action only inherits is marked so, and the events are those of whoever states it.
//! - An answer depends on the log below a position and on the settle time only.

mod decision;
mod evidence;
mod origin;
mod replayable;
mod sources;

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use verdict_ledger::Ledger;
use verdict_ledger::action::Action;
use verdict_ledger::id::TraceId;
use verdict_ledger::view::{Rules, View};

use crate::graph::ExecutionGraph;
use crate::incident::{Incident, IncidentError, Limits, Seed};
use crate::policy::registry::RegistryError;
use evidence::Evidence;

/// Version of the JSON form; `docs/graph.md` describes it.
pub const SCHEMA: &str = "verdict-answers/1";

/// How something is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// An event of the action states it.
    Stated,
    /// An ancestor, the root or the one value of the trace or session states it.
    Inherited,
    /// It follows from what events state.
    Inferred,
    /// Only the order is known.
    Order,
    /// Nobody stated it.
    Unknown,
}

impl How {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stated => "stated",
            Self::Inherited => "inherited",
            Self::Inferred => "inferred",
            Self::Order => "order",
            Self::Unknown => "unknown",
        }
    }
}

/// A question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Who or what started it.
    StartedBy,
    /// Which source influenced it.
    InfluencedBy,
    /// Whether that is trusted.
    Trusted,
    /// Which capability allowed it.
    Capability,
    /// Which rule decided.
    Rule,
    /// What was ruled, and who approved.
    Decision,
    /// What it cost.
    Cost,
    /// Whether it can be replayed.
    Replayable,
}

impl Question {
    /// Asks it in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::StartedBy => "Who or what started it?",
            Self::InfluencedBy => "Which prompt, skill, memory or retrieval influenced it?",
            Self::Trusted => "Was that source trusted?",
            Self::Capability => "Which capability allowed it?",
            Self::Rule => "Which rule produced the final decision?",
            Self::Decision => "Was it allowed, blocked, dry-run or escalated, and who approved?",
            Self::Cost => "What did it cost?",
            Self::Replayable => "Can it be replayed?",
        }
    }

    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartedBy => "started_by",
            Self::InfluencedBy => "influenced_by",
            Self::Trusted => "trusted",
            Self::Capability => "capability",
            Self::Rule => "rule",
            Self::Decision => "decision",
            Self::Cost => "cost",
            Self::Replayable => "replayable",
        }
    }
}

/// One statement of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Statement {
    /// For people.
    pub text: String,
    /// How it is known.
    pub how: How,
    /// The events that say so.
    pub seqs: Vec<u64>,
    /// For programs: the members that the documentation names.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub value: Value,
}

impl Statement {
    fn new(how: How, text: impl Into<String>, seqs: impl IntoIterator<Item = u64>, value: Value) -> Self {
        let mut seqs: Vec<u64> = seqs.into_iter().collect();
        seqs.sort_unstable();
        seqs.dedup();
        Self { text: text.into(), how, seqs, value }
    }

    fn unknown(what: &str) -> Self {
        Self::new(How::Unknown, format!("{what} unknown: nobody stated it"), [], Value::Null)
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// What is asked.
    pub question: Question,
    /// The same in words.
    pub asks: &'static str,
    /// What is known, the most direct first; never empty.
    pub says: Vec<Statement>,
}

/// The action that is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Key: its first event.
    pub key: u64,
    /// Every event that reports it.
    pub seqs: Vec<u64>,
    /// Trace.
    pub trace_id: Option<TraceId>,
    /// Kind.
    pub kind: &'static str,
    /// Name.
    pub name: String,
    /// State.
    pub state: &'static str,
    /// When it started, Unix nanoseconds, as text; `0` is not known.
    pub start_ns: String,
    /// Findings.
    pub findings: Vec<&'static str>,
}

/// All answers about one action.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answers {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Event that was asked about.
    pub seq: u64,
    /// Entries that were known.
    pub at: u64,
    /// The action that it reports.
    pub action: Subject,
    /// Everything in one sentence.
    pub headline: String,
    /// The answers, in the order of [`Question`].
    pub answers: Vec<Answer>,
    /// Where the search for what belongs to it stopped.
    pub stops: Vec<String>,
}

/// Why there are no answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// What belongs to the event cannot be collected.
    #[error(transparent)]
    Incident(#[from] IncidentError),
    /// The published policies cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The event is in no action, as one that was read again.
    #[error("event {seq} is in no action")]
    NoAction {
        /// Event.
        seq: u64,
    },
}

/// Answers every question about the action that an event reports, from the first `end_seq` entries.
pub fn explain(
    ledger: &Ledger,
    rules: &Arc<Rules>,
    seq: u64,
    end_seq: u64,
    settled_before_ns: u64,
    limits: Limits,
) -> Result<Answers, ExplainError> {
    let incident = Incident::collect(ledger, Seed::Event(seq), end_seq, limits)?;
    let view = View::of(&incident.records, rules, settled_before_ns);
    let policies = replayable::Policies::read(ledger)?;
    let action = view
        .actions
        .iter()
        .find(|action| action.seqs.contains(&seq) || action.superseded.contains(&seq))
        .ok_or(ExplainError::NoAction { seq })?;
    let graph = ExecutionGraph::of(&view.actions, &incident.records);
    let evidence = Evidence::of(&incident.records, &view.actions, &graph);
    let (started, found) = (origin::started_by(action, &evidence), sources::sources(action, &evidence));
    let answers = vec![
        answer(Question::StartedBy, started),
        answer(Question::InfluencedBy, sources::influenced_by(&found)),
        answer(Question::Trusted, sources::trusted(&found)),
        answer(Question::Capability, origin::capability(action, &evidence)),
        answer(Question::Rule, decision::rule(action, &policies)),
        answer(Question::Decision, decision::decision(action)),
        answer(Question::Cost, decision::cost(action)),
        answer(Question::Replayable, replayable::replayable(action, &policies)),
    ];
    Ok(Answers {
        schema: SCHEMA,
        seq,
        at: incident.end_seq,
        headline: headline(action),
        action: subject(action),
        answers,
        stops: incident.stops.iter().map(ToString::to_string).collect(),
    })
}

fn answer(question: Question, says: Vec<Statement>) -> Answer {
    Answer { question, asks: question.words(), says }
}

fn subject(action: &Action) -> Subject {
    Subject {
        key: action.key,
        seqs: action.seqs.clone(),
        trace_id: action.trace_id,
        kind: action.kind.as_str(),
        name: action.name.clone(),
        state: action.state.as_str(),
        start_ns: action.start_ns.to_string(),
        findings: action.findings.iter().map(|finding| finding.as_str()).collect(),
    }
}

fn headline(action: &Action) -> String {
    let agent = action.agent_label().unwrap_or("an agent that nobody stated");
    let user = action.user.as_ref().map(|user| format!(" for {}", user.value)).unwrap_or_default();
    format!("{} {} by {agent}{user}: {}", action.kind.as_str(), action.name, decision::in_short(action))
}
