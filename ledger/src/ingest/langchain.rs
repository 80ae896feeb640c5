//! Callback events of LangChain and LangGraph, one a line: what a callback handler is told (`cb`), and what
//! `astream_events` (v2) yields (`event`).
//!
//! A run has a start and an end, which are two events of one span: a run id is a UUID, whose last eight bytes are random
//! and name the span; the run at the root names the trace. The end of a run repeats neither its name nor its arguments,
//! and parents are named one step at a time, so that a body is read as a whole.
//!
//! Approval is an interrupt: the graph stops to wait for a person. Who asked, and what was answered, is not said.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{Fields, Held, TEXT_BYTES_MAX};
use super::profile::failure;
use super::records;
use super::time::any_nanoseconds;
use super::{IngestError, Reason, Sink};
use crate::event::{
    Action, ActionKind, Agent, AuthorityKind, Decision, Effect, Event, Outcome, Status, Usage,
};
use crate::id::{SpanId, TraceId};

pub(super) const FORMAT: &str = "langchain";
/// Raised when the same callback would map to another event.
const MAPPER: u32 = 1;
/// Runs that are remembered while a body is read.
const RUNS_MAX: usize = 200_000;
/// Longest chain of parents that is followed.
const PARENTS_MAX: usize = 64;

pub(super) fn map(body: &[u8], sink: &mut Sink<'_>) -> Result<(), IngestError> {
    let mut runs = Runs::default();
    records::each(body, sink, |piece, sink| {
        let mut event = runs.read(records::foreign(piece, sink)?, piece.bytes, sink)?;
        event.source.path = Some(piece.path.clone());
        sink.take(event)
    })
}

/// Reads one callback by itself.
pub(super) fn single(fields: Fields, bytes: &[u8], sink: &mut Sink<'_>) -> Result<Event, Reason> {
    Runs::default().read(fields, bytes, sink)
}

struct Callback {
    name: String,
    kind: ActionKind,
    stage: Stage,
    once: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Start,
    End,
    Error,
    Other,
}

fn name_of(fields: &Fields) -> Option<(Callback, String)> {
    let name = ["cb", "callback", "event", "event_type", "type"]
        .iter()
        .find_map(|name| fields.get_text(name).filter(|name| name.starts_with("on_") && name.len() <= 64))?;
    let rest = name.strip_prefix("on_")?;
    let run = fields.get_text("run_id").filter(|run| !run.is_empty() && run.len() <= 64)?;
    let (what, stage) = match rest.rsplit_once('_') {
        Some((what, "start")) => (what, Stage::Start),
        Some((what, "end" | "finish")) => (what, Stage::End),
        Some((what, "error")) => (what, Stage::Error),
        // Parts of what the end says as a whole.
        Some((what, "stream")) => (what, Stage::Other),
        _ if rest == "llm_new_token" => ("llm", Stage::Other),
        _ => (rest, Stage::Other),
    };
    let kind = match what {
        "tool" => ActionKind::Tool,
        "llm" | "chat_model" => ActionKind::Model,
        "retriever" => ActionKind::Data,
        _ => ActionKind::Other,
    };
    let once = stage != Stage::Other;
    Some((Callback { name: name.to_owned(), kind, stage, once }, run.to_owned()))
}

/// What is known of the runs of a body.
#[derive(Default)]
struct Runs {
    runs: BTreeMap<String, Run>,
}

#[derive(Clone, Default)]
struct Run {
    parent: Option<String>,
    name: Option<String>,
    call_id: Option<String>,
    /// A tool below it waits for a person.
    asked: bool,
}

/// Who a callback itself says acted.
#[derive(Default)]
struct Said {
    agent: Option<Agent>,
    user: Option<String>,
    session: Option<String>,
}

impl Runs {
    fn read(&mut self, mut fields: Fields, bytes: &[u8], sink: &mut Sink<'_>) -> Result<Event, Reason> {
        let Some((callback, run)) = name_of(&fields) else {
            let message = "not a LangChain callback: `run_id`, and `cb` or `event`, are required".to_owned();
            return Err(Reason::Shape { message });
        };
        fields.drop_nulls();
        let version =
            if fields.get("parent_ids").is_some() || fields.get("data").is_some() { "v2:" } else { "" };
        let mut event = self.event(fields, &callback, &run);
        // A run starts and ends once; everything else can come many times.
        event.id = if callback.once {
            format!("langchain:{version}{run}:{}", callback.name)
        } else {
            sink.ids.id(&format!("langchain:{version}{run}:{}:", callback.name), bytes)
        };
        Ok(event)
    }

    fn event(&mut self, mut fields: Fields, callback: &Callback, id: &str) -> Event {
        let (run, said) = self.note(&fields, id, callback);
        let root = self.root(&fields, id);
        let mut event = Event::new("", Action::new(callback.kind, ""));
        FORMAT.clone_into(&mut event.source.format);
        event.source.profile = Some(FORMAT.to_owned());
        event.source.mapper = MAPPER;
        event.trace_id = trace(&root);
        event.span_id = span(id);
        event.parent_span_id = run.parent.as_deref().and_then(span);
        let at = time(&mut fields);
        if matches!(callback.stage, Stage::End | Stage::Error) {
            event.end_ns = at;
        } else {
            event.start_ns = at;
        }
        // The run at the root is the agent; other chains are the nodes that it is made of.
        if callback.kind == ActionKind::Other && run.parent.is_none() && callback.name.contains("chain") {
            event.action.kind = ActionKind::Agent;
        }
        event.action.name = run.name.clone().unwrap_or_else(|| callback.name.clone());
        if run.name.is_none() && callback.kind == ActionKind::Tool {
            // Without a name it cannot be matched as a tool; its call id finds the tool.
            event.action.kind = ActionKind::Other;
        }
        (event.agent, event.user, event.session) = (said.agent, said.user, said.session);
        if callback.kind == ActionKind::Tool {
            event.action.call_id.clone_from(&run.call_id);
            if callback.stage == Stage::Start {
                arguments(&mut fields, &mut event);
            }
        }
        if callback.kind == ActionKind::Model && callback.stage == Stage::End {
            event.usage = usage(&fields);
        }
        match callback.stage {
            Stage::End => event.outcome = Some(ended(&mut fields, &mut event)),
            Stage::Error => self.failed(&mut fields, &mut event, &run),
            Stage::Other if callback.name == "on_interrupt" => waits(&mut event, interrupt_id(&fields)),
            Stage::Other if callback.name == "on_resume" => event.decision = resumed(&fields),
            Stage::Start | Stage::Other => {}
        }
        if fields.get_text("name") == Some(&event.action.name) {
            fields.take("name");
        }
        event.attributes = fields.into_map("/attributes", &[], &mut event.source.restated);
        event
    }

    /// Adds what a callback says of its run; returns all that is known of it.
    fn note(&mut self, fields: &Fields, id: &str, callback: &Callback) -> (Run, Said) {
        let mut who = Said::default();
        let mut run = self.runs.get(id).cloned().unwrap_or_default();
        let text = |value: Option<&Value>| {
            value
                .and_then(Value::as_str)
                .filter(|text| (1..=TEXT_BYTES_MAX).contains(&text.len()))
                .map(str::to_owned)
        };
        let parent = text(fields.get("parent_run_id"))
            .or_else(|| text(fields.get("parent_ids").and_then(Value::as_array).and_then(|ids| ids.last())));
        run.parent = run.parent.or(parent);
        let serialized = fields.get("serialized").and_then(|serialized| serialized.get("name"));
        run.name = run.name.or_else(|| text(fields.get("name"))).or_else(|| text(serialized));
        if let Some(metadata) = fields.get("metadata") {
            let said = |names: &[&str]| names.iter().find_map(|name| text(metadata.get(name)));
            // A model run is named by its model where that is said.
            if callback.kind == ActionKind::Model {
                run.name = said(&["ls_model_name"]).or(run.name);
            }
            who.agent = said(&["lc_agent_name", "agent_name"]).map(Agent::named);
            who.user = said(&["user_id"]);
            who.session = said(&["session_id", "thread_id", "conversation_id"]);
        }
        let output = fields.get("output").or_else(|| fields.get("data").and_then(|data| data.get("output")));
        run.call_id = run
            .call_id
            .or_else(|| text(fields.get("tool_call_id")))
            .or_else(|| text(output.and_then(|output| output.get("tool_call_id"))));
        if self.runs.len() < RUNS_MAX {
            self.runs.insert(id.to_owned(), run.clone());
        }
        (run, who)
    }

    /// Finds the run at the root; `None` when the way to it is not in this body.
    fn root(&self, fields: &Fields, id: &str) -> String {
        if let Some(ids) = fields.get("parent_ids").and_then(Value::as_array) {
            return ids.first().and_then(Value::as_str).unwrap_or(id).to_owned();
        }
        let mut at = id;
        for _ in 0..PARENTS_MAX {
            match self.runs.get(at).and_then(|run| run.parent.as_deref()) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        at.to_owned()
    }

    fn failed(&mut self, fields: &mut Fields, event: &mut Event, run: &Run) {
        let error = fields.get_text("error").unwrap_or_default().to_owned();
        let (kind, message) = exception(&error);
        if kind.as_deref().and_then(|kind| kind.rsplit('.').next()) == Some("GraphInterrupt") {
            // It passes through every run above the one that asked, which is the first that it passes.
            if run.asked {
                event.outcome = Some(Outcome::new(Status::Pending));
            } else {
                // `GraphInterrupt((Interrupt(value=…, id='…'),))`
                let id = error.rsplit_once("id='").and_then(|(_, rest)| rest.split('\'').next());
                waits(event, id.filter(|id| (1..=200).contains(&id.len())).map(str::to_owned));
            }
            let mut at = run.parent.clone();
            for _ in 0..PARENTS_MAX {
                let Some(above) = at.take().and_then(|id| self.runs.get_mut(&id)) else { break };
                above.asked = true;
                at.clone_from(&above.parent);
            }
        } else {
            event.outcome = Some(failure(kind, message));
        }
    }
}

/// Takes note of the interrupt that a graph's output names.
fn interrupt_id(fields: &Fields) -> Option<String> {
    let places = ["/id", "/interrupt_id", "/interrupt/id", "/interrupts/0/id"];
    let inside = ["interrupt", "interrupts", "data", "event", "payload"];
    let text = |value: &Value| value.as_str().filter(|id| (1..=200).contains(&id.len())).map(str::to_owned);
    fields.get("interrupt_id").and_then(text).or_else(|| {
        inside.iter().find_map(|name| {
            let value = fields.get(name)?;
            let first = value.get(0).unwrap_or(value);
            places.iter().find_map(|place| first.pointer(place).and_then(text))
        })
    })
}

/// Reads what a person answered: `{"decisions": [{"type": "approve"}]}`, a word, or a truth value.
fn resumed(fields: &Fields) -> Option<Decision> {
    let value = ["resume", "value", "data", "inputs"].iter().find_map(|name| fields.get(name))?;
    let value = value.get("resume").or_else(|| value.get("value")).unwrap_or(value);
    let words: Vec<&Value> = match value.get("decisions").and_then(Value::as_array) {
        Some(decisions) => decisions.iter().filter_map(|decision| decision.get("type")).collect(),
        None => vec![
            value
                .get("type")
                .or_else(|| value.get("action"))
                .or_else(|| value.get("decision"))
                .unwrap_or(value),
        ],
    };
    let effects: Option<Vec<_>> = words
        .into_iter()
        .map(|word| match word {
            Value::Bool(true) => Some((Effect::Allow, None, true)),
            Value::Bool(false) => Some((Effect::Block, None, true)),
            other => other.as_str().and_then(super::shape::effect),
        })
        .collect();
    // One refusal refuses the whole.
    let (effect, flag, _) = effects?.into_iter().max_by_key(|(effect, ..)| *effect)?;
    let mut decision = Decision::new(effect, AuthorityKind::Human);
    decision.flags.extend(flag.map(str::to_owned));
    decision.approval_id = interrupt_id(fields);
    Some(decision)
}

fn waits(event: &mut Event, approval_id: Option<String>) {
    let mut decision = Decision::new(Effect::RequireApproval, AuthorityKind::Unknown);
    decision.approval_id = approval_id;
    event.decision = Some(decision);
    event.outcome = Some(Outcome::new(Status::Pending));
}

/// Reads `PermissionError('policy refund_limit')`.
fn exception(text: &str) -> (Option<String>, Option<String>) {
    let is_name = |name: &&str| {
        !name.is_empty()
            && name.len() <= 200
            && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
    };
    match text.split_once('(') {
        Some((name, rest)) if is_name(&name) => {
            let message = rest.strip_suffix(')').unwrap_or(rest).trim_matches(['\'', '"', ',']);
            (Some(name.to_owned()), (!message.is_empty()).then(|| message.to_owned()))
        }
        _ => (None, (!text.is_empty()).then(|| text.to_owned())),
    }
}

/// Takes what a tool was called with; it stays inside of `data` no longer.
fn arguments(fields: &mut Fields, event: &mut Event) {
    let held = fields
        .first_json(&["inputs"])
        .or_else(|| fields.within("data", |data| data.json("input")).flatten())
        .or_else(|| fields.json("input_str"));
    if let Some(held) = held {
        event.action.arguments = Some(held.unpack("/action/arguments", &mut event.source.restated));
    }
}

fn ended(fields: &mut Fields, event: &mut Event) -> Outcome {
    let output = fields.get("output").or_else(|| fields.get("data").and_then(|data| data.get("output")));
    // A tool that handles its own errors ends well and says so in its message.
    let failed = event.action.kind == ActionKind::Tool
        && output.and_then(|output| output.get("status")).and_then(Value::as_str) == Some("error");
    let message = output.and_then(|output| output.get("content")).and_then(Value::as_str);
    // The graph ends well too when it stopped to wait for a person, and says so in its output.
    let interrupts = ["outputs", "output", "data"].iter().find_map(|name| {
        let value = fields.get(name)?;
        value.get("__interrupt__").or_else(|| value.pointer("/output/__interrupt__"))
    });
    if interrupts.is_some_and(|list| !list.is_null()) {
        return Outcome::new(Status::Pending);
    }
    let mut outcome = if failed {
        failure(Some("tool_error".to_owned()), message.map(str::to_owned))
    } else {
        Outcome::new(Status::Ok)
    };
    if matches!(event.action.kind, ActionKind::Tool | ActionKind::Data) {
        let held: Option<Held> =
            fields.take("output").or_else(|| fields.within("data", |data| data.take("output")).flatten());
        outcome.result = held.map(|held| held.unpack("/outcome/result", &mut event.source.restated));
    }
    outcome
}

/// Finds the usage of a model run: of its message, else of the response as a whole.
fn usage(fields: &Fields) -> Option<Usage> {
    let response =
        fields.get("response").or_else(|| fields.get("data").and_then(|data| data.get("output")))?;
    let message = response
        .pointer("/generations/0/0/message")
        .or_else(|| response.pointer("/generations/0/message"))
        .unwrap_or(response);
    let metadata = message.get("usage_metadata").filter(|usage| usage.is_object());
    let tokens = response
        .pointer("/llm_output/token_usage")
        .or_else(|| message.pointer("/response_metadata/token_usage"))
        .filter(|usage| usage.is_object());
    let count = |pointers: &[(Option<&Value>, &str)]| {
        pointers.iter().find_map(|(part, pointer)| (*part)?.pointer(pointer)?.as_u64())
    };
    let said = |pointers: &[&str]| {
        pointers.iter().find_map(|pointer| message.pointer(pointer)?.as_str().map(str::to_owned))
    };
    let run = |name: &str| fields.get("metadata").and_then(|run| run.get(name)?.as_str().map(str::to_owned));
    let usage = Usage {
        provider: said(&["/response_metadata/model_provider"]).or_else(|| run("ls_provider")),
        model: said(&["/response_metadata/model_name", "/response_metadata/model"])
            .or_else(|| response.pointer("/llm_output/model_name")?.as_str().map(str::to_owned))
            .or_else(|| run("ls_model_name")),
        input_tokens: count(&[(metadata, "/input_tokens"), (tokens, "/prompt_tokens")]),
        output_tokens: count(&[(metadata, "/output_tokens"), (tokens, "/completion_tokens")]),
        cache_read_tokens: count(&[
            (metadata, "/input_token_details/cache_read"),
            (tokens, "/prompt_tokens_details/cached_tokens"),
        ]),
        cache_write_tokens: count(&[
            (metadata, "/input_token_details/cache_creation"),
            (tokens, "/prompt_tokens_details/cache_write_tokens"),
        ]),
        reasoning_tokens: count(&[
            (metadata, "/output_token_details/reasoning"),
            (tokens, "/completion_tokens_details/reasoning_tokens"),
        ]),
        ..Usage::default()
    };
    (usage != Usage::default()).then_some(usage)
}

/// Takes the time at which the handler was called, which LangChain does not state: it is the recorder's.
fn time(fields: &mut Fields) -> Option<u64> {
    ["t_unix_ns", "time_unix_nano", "timestamp", "time", "ts"].iter().find_map(|name| {
        let ns = any_nanoseconds(fields.get(name)?)?;
        fields.take(name);
        Some(ns)
    })
}

fn digits(run: &str) -> String {
    run.replace('-', "")
}

fn trace(run: &str) -> Option<TraceId> {
    digits(run).parse().ok()
}

fn span(run: &str) -> Option<SpanId> {
    digits(run).get(16..)?.parse().ok()
}
