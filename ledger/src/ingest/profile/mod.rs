//! Profiles: what a convention inside OTLP means.
//!
//! A profile is a row of [`PROFILES`]: how it is told, its version, and a pure function that moves what it
//! understands out of the attributes into the event. What it does not understand it does not touch.
//! `docs/profiles.md` shows how to add one.

mod claude_code;
mod codex;
mod generic;
mod genops;
mod mcp;
mod openai_agents;
mod openclaw;
mod openinference;
mod otel_genai;
mod pydantic_ai;
mod strands;
mod traceloop;
mod vercel_ai;

use std::rc::Rc;

use super::fields::{Fields, Held};
use super::otlp::shared::Shared;
use crate::event::{
    ActionKind, Agent, AuthorityKind, Cost, Decision, Effect, ErrorInfo, Event, Outcome, Status, Usage,
};

/// A convention and its mapper.
struct Profile {
    /// `source.profile`.
    name: &'static str,
    /// `source.mapper`. Raised when the same record would map to another event.
    version: u32,
    /// Tells whether a record follows the convention.
    applies: fn(&Draft) -> bool,
    /// Moves what the convention defines from the attributes into the event.
    map: fn(&mut Draft),
}

/// Every profile; the first that applies is used, so the more specific come first.
const PROFILES: [Profile; 14] = [
    claude_code::PROFILE,
    codex::PROFILE,
    openclaw::PROFILE,
    genops::SPECIFICATION,
    genops::SDK,
    openinference::PROFILE,
    mcp::PROFILE,
    traceloop::PROFILE,
    vercel_ai::PROFILE,
    strands::PROFILE,
    pydantic_ai::PROFILE,
    openai_agents::PROFILE,
    otel_genai::PROFILE,
    generic::PROFILE,
];

/// Maps a draft by the first profile that applies.
pub(super) fn apply(draft: &mut Draft) {
    if let Some(profile) = PROFILES.iter().find(|profile| (profile.applies)(draft)) {
        draft.event.source.profile = Some(profile.name.to_owned());
        draft.event.source.mapper = profile.version;
        (profile.map)(draft);
    }
}

/// An event in the making, and the parts of the record that are still to be used.
pub(super) struct Draft {
    /// The event; ids, times, service, environment, `session.id` and `user.id` are set already.
    pub(super) event: Event,
    /// Attributes of the span or log record.
    pub(super) fields: Fields,
    /// Attributes of the resource; they are stated for every record of it.
    pub(super) resource: Shared,
    /// Name of the instrumentation scope.
    pub(super) scope_name: Rc<str>,
    /// The scope.
    pub(super) scope: Shared,
    /// The rest of the record.
    pub(super) record: Record,
    /// Warnings.
    pub(super) notes: Vec<String>,
}

/// What is not an attribute.
pub(super) enum Record {
    /// Of a span.
    Span(SpanParts),
    /// Of a log record.
    Log(LogParts),
}

/// What a span states outside of its attributes.
pub(super) struct SpanParts {
    pub(super) name: String,
    pub(super) kind: i32,
    pub(super) code: i32,
    pub(super) message: String,
    pub(super) trace_state: String,
    pub(super) flags: u32,
    pub(super) points: Vec<Point>,
    pub(super) links_left: Vec<Held>,
}

/// A span event: a named point in time.
pub(super) struct Point {
    pub(super) name: String,
    pub(super) time_ns: u64,
    pub(super) fields: Fields,
}

/// What a log record states outside of its attributes.
pub(super) struct LogParts {
    pub(super) event_name: String,
    pub(super) body: Held,
    pub(super) severity_number: i32,
    pub(super) severity_text: String,
    pub(super) time_ns: u64,
    pub(super) observed_ns: u64,
    pub(super) flags: u32,
}

/// Status codes of OTLP.
const STATUS_OK: i32 = 1;
const STATUS_ERROR: i32 = 2;

/// What a span without a status means under a convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unset {
    /// The convention asks for the status of failures, so that no status is success.
    MeansOk,
    /// Nothing.
    SaysNothing,
}

impl Draft {
    /// Returns the span parts.
    pub(super) const fn span(&self) -> Option<&SpanParts> {
        match &self.record {
            Record::Span(parts) => Some(parts),
            Record::Log(_) => None,
        }
    }

    /// Returns the name of a log event. The attribute comes first: some clients put a source location into the
    /// field.
    pub(super) fn log_event(&self) -> Option<&str> {
        match &self.record {
            Record::Log(parts) => Some(self.fields.get_text("event.name").unwrap_or(&parts.event_name)),
            Record::Span(_) => None,
        }
    }

    /// Takes the first of several texts that the record or its resource states.
    pub(super) fn stated(&mut self, names: &[&str]) -> Option<String> {
        self.fields.first_text(names).or_else(|| self.resource.first_text(names))
    }

    /// Sets the session from other names unless `session.id` did.
    pub(super) fn session_from(&mut self, names: &[&str]) {
        if self.event.session.is_none() {
            self.event.session = self.stated(names);
        }
    }

    /// Sets the user from other names unless `user.id` did.
    pub(super) fn user_from(&mut self, names: &[&str]) {
        if self.event.user.is_none() {
            self.event.user = self.stated(names);
        }
    }

    /// Sets the agent, unless nothing is stated about it.
    pub(super) fn agent(&mut self, id: Option<String>, name: Option<String>, version: Option<String>) {
        if id.is_some() || name.is_some() || version.is_some() {
            self.event.agent = Some(Agent { id, name, version });
        }
    }

    /// Sets the arguments from the first name that holds any.
    pub(super) fn arguments(&mut self, names: &[&str]) {
        if self.event.action.arguments.is_none()
            && let Some(held) = self.fields.first_json(names)
        {
            self.event.action.arguments =
                Some(held.unpack("/action/arguments", &mut self.event.source.restated));
        }
    }

    /// Sets the result from the first name that holds any. A result without a known ending is `pending` no more
    /// than it is `ok`; it is set only on an outcome that is there.
    pub(super) fn result(&mut self, names: &[&str]) {
        if self.event.outcome.as_ref().is_some_and(|outcome| outcome.result.is_none())
            && let Some(held) = self.fields.first_json(names)
        {
            let value = held.unpack("/outcome/result", &mut self.event.source.restated);
            if let Some(outcome) = &mut self.event.outcome {
                outcome.result = Some(value);
            }
        }
    }

    /// Sets the outcome of a span from its status, `error.type` and exceptions. An exception alone is no failure:
    /// it may have been handled.
    pub(super) fn outcome_from_status(&mut self, unset: Unset) {
        let Record::Span(parts) = &self.record else { return };
        let code = parts.code;
        let ended = self.event.end_ns.is_some();
        let failed = code == STATUS_ERROR || self.fields.get_text("error.type").is_some();
        if failed {
            let exception = parts.points.iter().rev().find(|point| point.name == "exception");
            let of = |name| exception.and_then(|point| point.fields.get_text(name)).map(str::to_owned);
            let (exception_type, exception_message) = (of("exception.type"), of("exception.message"));
            let status_message = parts.message.clone();
            let kind = self.fields.text("error.type").or(exception_type);
            let message = exception_message.or(Some(status_message)).filter(|text| !text.is_empty());
            self.event.outcome = Some(failure(kind, message));
        } else if code == STATUS_OK || (unset == Unset::MeansOk && ended) {
            self.event.outcome = Some(Outcome::new(Status::Ok));
        }
    }

    /// Recognises a LangGraph interrupt: the graph stopped to wait for a person. The exception says so; who asked,
    /// under which policy, and about what is not said.
    ///
    /// It passes through the node that ran a tool, which then carries it too. The stack trace shows that, and the
    /// tool's own span is the one that asks.
    pub(super) fn interrupt(&mut self) {
        let interrupt = self.span().and_then(|parts| {
            parts.points.iter().find(|point| {
                let class = point.fields.get_text("exception.type").unwrap_or_default();
                point.name == "exception" && class.rsplit('.').next() == Some("GraphInterrupt")
            })
        });
        let Some(interrupt) = interrupt else { return };
        let stack = interrupt.fields.get_text("exception.stacktrace").unwrap_or_default();
        let from_tool = stack.contains("langchain_core/tools/") || stack.contains("langchain_core\\tools\\");
        self.event.outcome = Some(Outcome::new(Status::Pending));
        if self.event.action.kind == ActionKind::Tool || !from_tool {
            self.event.decision = Some(Decision::new(Effect::RequireApproval, AuthorityKind::Unknown));
        }
    }

    /// Takes an attribute of the first span event of a name, reading JSON that was sent inside a string.
    pub(super) fn point_json(&mut self, point: &str, name: &str) -> Option<Held> {
        let Record::Span(parts) = &mut self.record else { return None };
        parts.points.iter_mut().find(|candidate| candidate.name == point)?.fields.json(name)
    }

    /// Sets usage if it says anything.
    pub(super) fn usage(&mut self, usage: Usage) {
        let silent = Usage { aggregate: usage.aggregate, ..Usage::default() };
        if usage != silent {
            self.event.usage = Some(usage);
        }
    }

    /// Takes a reported cost.
    pub(super) fn cost(&mut self, names: &[&str], currency: &str) -> Option<Cost> {
        let nano = names.iter().find_map(|name| self.fields.nano(name))?;
        Some(Cost { nano, currency: currency.to_owned(), basis: "reported".to_owned() })
    }

    /// Sets the start of a log event that is written when the thing it tells of has ended.
    pub(super) fn lasted(&mut self, name: &str) {
        // The duration stays in the attributes: it is what the source said, the start is what follows from it.
        let duration = self.fields.get(name).and_then(super::fields::decimal);
        let nanos =
            duration.and_then(|ms| ms.to_nano()).and_then(|nano| u64::try_from(nano.value / 1000).ok());
        if let (Some(end), Some(duration)) = (self.event.start_ns, nanos) {
            self.event.end_ns = Some(end);
            self.event.start_ns = end.checked_sub(duration).or(Some(end));
        }
    }
}

/// Makes a failed outcome.
pub(super) fn failure(kind: Option<String>, message: Option<String>) -> Outcome {
    let error = (kind.is_some() || message.is_some()).then_some(ErrorInfo { kind, message });
    Outcome { status: Status::Error, error, result: None }
}
