//! Transcripts of the Model Context Protocol: JSON-RPC messages, one a line, bare or as `{dir, t_unix_ns, msg}`.
//!
//! Every message is one event. A body is the transcript of one connection, so that a response is read together with the
//! request of its id, which says what the response is about. Newer protocol versions (2026-07-28) are stateless and say
//! with each message who client and server are, older ones say it once; an event carries only what its own message says.
//!
//! A request names its call by the id of the JSON-RPC message, which is unique on its connection only. The recorder may
//! name the connection; if it does not, the digest of the first message does when times make that one unlike any other,
//! else the digest of the whole body. Trace and span come from `traceparent`; without it the connection is the trace and
//! the request the span, both made from those digests.

use std::collections::BTreeMap;

use serde_json::Value;

use super::cloudevents::traceparent;
use super::fields::{Fields, Held};
use super::profile::failure;
use super::records::{self, Piece};
use super::time::any_nanoseconds;
use super::{IngestError, Reason, Sink};
use crate::event::{
    Action, ActionKind, Agent, AuthorityKind, Decision, Effect, Event, Link, Outcome, Rel, Status, Target,
    Usage,
};
use crate::id::{Digest, SpanId, TraceId};

pub(super) const FORMAT: &str = "mcp";
const PROFILE: &str = "mcp-jsonrpc";
/// Raised when the same message would map to another event.
const MAPPER: u32 = 1;
/// Requests whose response is awaited, and tools whose hints are remembered.
const REMEMBERED_MAX: usize = 100_000;

const PREFIX: &str = "io.modelcontextprotocol/";

pub(super) fn map(body: &[u8], sink: &mut Sink<'_>) -> Result<(), IngestError> {
    let mut connections = Connections::new(body);
    records::each(body, sink, |piece, sink| {
        let mut event = connections.event(records::foreign(piece, sink)?, piece, sink)?;
        event.source.path = Some(piece.path.clone());
        sink.take(event)
    })
}

/// Reads one message by itself, on a connection that its carrier names.
pub(super) fn single(fields: Fields, connection: &str, sink: &mut Sink<'_>) -> Result<Event, Reason> {
    let piece = Piece { path: String::new(), offset: 0, bytes: connection.as_bytes(), open: false };
    Connections::new(connection.as_bytes()).event(fields, &piece, sink)
}

/// One JSON-RPC message and what its recorder wrote beside it.
struct Message {
    /// Of the recorder: direction, time and whatever else.
    beside: Fields,
    fields: Fields,
    /// Name of the member that the message came in.
    within: Option<&'static str>,
}

impl Message {
    fn of(mut outer: Fields) -> Option<Self> {
        let within = if outer.get("jsonrpc").is_some() {
            None
        } else {
            // Some recorders write the message as text.
            let names = ["msg", "message", "payload", "data", "rpc"];
            for name in names {
                outer.unfold(name);
            }
            Some(
                names
                    .into_iter()
                    .find(|name| outer.get(name).is_some_and(|msg| msg.get("jsonrpc").is_some()))?,
            )
        };
        let (beside, fields) = match within.and_then(|name| outer.take(name)) {
            Some(Held { value: Value::Object(members), restated }) => {
                (outer, Fields::from_object(members, &restated))
            }
            _ => (Fields::default(), outer),
        };
        (fields.get_text("jsonrpc") == Some("2.0")).then_some(Self { beside, fields, within })
    }
}

/// The connections of a body: one, unless the recorder names several.
struct Connections<'b> {
    body: &'b [u8],
    /// What an unnamed connection goes by.
    unnamed: Option<String>,
    known: BTreeMap<String, Connection>,
}

impl<'b> Connections<'b> {
    const fn new(body: &'b [u8]) -> Self {
        Self { body, unnamed: None, known: BTreeMap::new() }
    }

    fn event(&mut self, fields: Fields, piece: &Piece<'_>, sink: &mut Sink<'_>) -> Result<Event, Reason> {
        let Some(message) = Message::of(fields) else {
            let message = "not a JSON-RPC message: `jsonrpc` must be \"2.0\"".to_owned();
            return Err(Reason::Shape { message });
        };
        let stated =
            ["connection", "connection_id", "conn", "mcp-session-id", "session_id", "sessionId", "server"]
                .iter()
                .find_map(|name| message.beside.get_text(name))
                .filter(|name| !name.is_empty() && name.len() <= 200)
                .map(str::to_owned);
        let name = if let Some(stated) = stated {
            digest(stated.as_bytes())
        } else {
            let timed = TIMES.iter().any(|name| message.beside.get(name).is_some());
            let body = if timed { piece.bytes } else { self.body };
            self.unnamed.get_or_insert_with(|| digest(body)).clone()
        };
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        let connection =
            self.known.entry(name.clone()).or_insert_with(|| Connection { name, ..Connection::default() });
        Ok(connection.event(message, piece.bytes, sink))
    }
}

fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string().chars().skip("sha256:".len()).take(32).collect()
}

/// What a connection has said so far.
#[derive(Default)]
struct Connection {
    name: String,
    /// Hints of the server about its tools.
    hints: BTreeMap<String, Vec<String>>,
    /// Requests that wait for their response, by side and id.
    asked: BTreeMap<(Side, String), Asked>,
}

/// Which side asked: both number their requests for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Client,
    Server,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "c2s",
            Self::Server => "s2c",
        }
    }

    /// Reads the direction that a recorder wrote.
    fn of(beside: &Fields) -> Option<Self> {
        let word = ["dir", "direction", "from"].iter().find_map(|name| beside.get_text(name))?;
        match word.to_ascii_lowercase().as_str() {
            "c2s" | "client_to_server" | "client-to-server" | "client->server" | "client" | "out"
            | "outgoing" | "send" | "sent" | "->" | ">" => Some(Self::Client),
            "s2c" | "server_to_client" | "server-to-client" | "server->client" | "server" | "in"
            | "incoming" | "recv" | "received" | "<-" | "<" => Some(Self::Server),
            _ => None,
        }
    }

    /// Tells the side by the method, for transcripts without directions.
    fn by_method(method: &str) -> Self {
        match method {
            "sampling/createMessage" | "elicitation/create" | "roots/list" => Self::Server,
            _ => Self::Client,
        }
    }
}

#[derive(Clone)]
struct Asked {
    action: Action,
    trace_id: Option<TraceId>,
    span_id: Option<SpanId>,
    method: String,
}

impl Connection {
    fn event(&mut self, message: Message, bytes: &[u8], sink: &mut Sink<'_>) -> Event {
        let Message { mut beside, mut fields, within } = message;
        let mut event = Event::new("", Action::new(ActionKind::Other, "response"));
        FORMAT.clone_into(&mut event.source.format);
        event.source.profile = Some(PROFILE.to_owned());
        event.source.mapper = MAPPER;
        event.start_ns = time(&mut beside);
        let rpc = fields.get("id").filter(|id| !id.is_null()).map(|id| match id {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let rpc = rpc.filter(|id| !id.is_empty() && id.len() <= 128);
        let method = fields.get_text("method").map(str::to_owned);
        let sender = Side::of(&beside);
        match (&method, &rpc) {
            (Some(method), Some(rpc)) => {
                let side = sender.unwrap_or_else(|| Side::by_method(method));
                self.request(&mut event, &mut fields, method, Some((side, rpc)));
                let method: String = method.chars().take(64).collect();
                event.id = format!("mcp:{}:{}:{rpc}:{method}", self.name, side.as_str());
            }
            (None, Some(rpc)) => {
                let side = sender.map(Side::other);
                let side = side.unwrap_or_else(|| {
                    let waits = self.asked.contains_key(&(Side::Client, rpc.clone()));
                    if waits { Side::Client } else { Side::Server }
                });
                self.response(&mut event, &mut fields, side, rpc);
                event.id = format!("mcp:{}:{}:{rpc}:response", self.name, side.as_str());
            }
            (method, None) => {
                // Nothing but its content tells one notification from another.
                event.id = sink.ids.id(&format!("mcp:{}:", self.name), bytes);
                if let Some(method) = method {
                    self.request(&mut event, &mut fields, method, None);
                }
            }
        }
        self.learn(&fields);
        if event.trace_id.is_none() {
            event.trace_id = self.name.parse().ok();
        }
        fields.take("jsonrpc");
        if rpc.is_some()
            && let Some(id) = fields.take("id")
        {
            let id = id.unpack("/attributes/jsonrpc.request.id", &mut event.source.restated);
            event.attributes.insert("jsonrpc.request.id".to_owned(), id);
        }
        let kept = std::mem::take(&mut event.attributes);
        let prefix = if within.is_some() { "/attributes/mcp.message" } else { "/attributes" };
        let rest = fields.into_map(prefix, &[], &mut event.source.restated);
        if within.is_some() {
            event.attributes = beside.into_map("/attributes", &[], &mut event.source.restated);
            if !rest.is_empty() {
                event.attributes.insert("mcp.message".to_owned(), Value::Object(rest));
            }
        } else {
            event.attributes = rest;
        }
        event.attributes.extend(kept);
        event
    }

    /// Remembers what a server says of its tools.
    fn learn(&mut self, fields: &Fields) {
        let tools = fields.get("result").and_then(|result| result.get("tools")).and_then(Value::as_array);
        for tool in tools.into_iter().flatten().take(REMEMBERED_MAX) {
            if let Some(name) = tool.get("name").and_then(Value::as_str)
                && self.hints.len() < REMEMBERED_MAX
            {
                self.hints.insert(name.to_owned(), hints(tool));
            }
        }
    }

    /// Names the span of a request on a connection without trace context.
    fn span(&self, side: Side, rpc: &str) -> Option<SpanId> {
        digest(format!("{} {} {rpc}", self.name, side.as_str()).as_bytes()).get(..16)?.parse().ok()
    }

    fn request(
        &mut self,
        event: &mut Event,
        fields: &mut Fields,
        method: &str,
        rpc: Option<(Side, &String)>,
    ) {
        let text = |fields: &Fields, name: &str| {
            let text = fields.get("params").and_then(|params| params.get(name)).and_then(Value::as_str);
            text.filter(|text| !text.is_empty() && text.len() <= 512).map(str::to_owned)
        };
        let (kind, name) = match method {
            "tools/call" => (ActionKind::Tool, text(fields, "name")),
            "resources/read" => (ActionKind::Data, text(fields, "uri")),
            "prompts/get" => (ActionKind::Other, text(fields, "name")),
            "sampling/createMessage" => (ActionKind::Model, None),
            "elicitation/create" => (ActionKind::Guard, None),
            _ => (ActionKind::Other, None),
        };
        let mut action =
            Action::new(kind, name.clone().unwrap_or_else(|| method.chars().take(256).collect()));
        if kind == ActionKind::Data {
            action.resource.clone_from(&name);
        }
        if kind == ActionKind::Tool {
            action.capabilities =
                name.as_ref().and_then(|name| self.hints.get(name)).cloned().unwrap_or_default();
        }
        let context = fields
            .get("params")
            .and_then(|params| params.get("_meta")?.get("traceparent")?.as_str())
            .and_then(traceparent);
        if let Some((trace_id, span_id, _)) = context {
            (event.trace_id, event.span_id) = (Some(trace_id), Some(span_id));
        } else if let Some((side, rpc)) = rpc {
            event.span_id = self.span(side, rpc);
        }
        if let Some((side, rpc)) = rpc {
            action.call_id = Some(format!("jsonrpc:{}:{}:{rpc}", self.name, side.as_str()));
            if self.asked.len() < REMEMBERED_MAX {
                let asked = Asked {
                    action: action.clone(),
                    trace_id: event.trace_id,
                    span_id: event.span_id,
                    method: method.to_owned(),
                };
                self.asked.insert((side, rpc.clone()), asked);
            }
        }
        event.action = action;
        event.agent = client(fields);
        if method == "elicitation/create" {
            event.decision = Some(Decision::new(Effect::RequireApproval, AuthorityKind::Unknown));
        }
        if method == "notifications/cancelled" {
            self.cancelled(event, fields);
        }
        if kind == ActionKind::Tool || method == "prompts/get" {
            fields.within("params", |params| {
                params
                    .take("name")
                    .filter(|held| held.value.as_str() != name.as_deref())
                    .into_iter()
                    .for_each(|held| params.restore("name", held));
                if let Some(held) = params.take("arguments") {
                    event.action.arguments =
                        Some(held.unpack("/action/arguments", &mut event.source.restated));
                }
                answers(event, params);
            });
        }
        if method.len() <= 256 {
            fields.take("method");
            event.attributes.insert("mcp.method.name".to_owned(), Value::from(method));
        }
    }

    /// A notice that the sender no longer waits: it is about its own request.
    fn cancelled(&self, event: &mut Event, fields: &Fields) {
        let id = fields.get("params").and_then(|params| params.get("requestId"));
        let id = id.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
        let asked = id.and_then(|id| {
            [Side::Client, Side::Server].into_iter().find_map(|side| self.asked.get(&(side, id.clone())))
        });
        if let Some(asked) = asked {
            event.action = asked.action.clone();
            (event.trace_id, event.span_id) = (asked.trace_id, asked.span_id);
            event.outcome = Some(Outcome::new(Status::Cancelled));
        }
    }

    fn response(&mut self, event: &mut Event, fields: &mut Fields, side: Side, rpc: &String) {
        let asked = self.asked.remove(&(side, rpc.clone()));
        if let Some(asked) = &asked {
            event.action = asked.action.clone();
            (event.trace_id, event.span_id) = (asked.trace_id, asked.span_id);
            // What it was about is said by the request; here it only tells which tool answered.
            event.attributes.insert("mcp.method.name".to_owned(), Value::from(asked.method.as_str()));
        } else {
            event.action.call_id = Some(format!("jsonrpc:{}:{}:{rpc}", self.name, side.as_str()));
            event.span_id = self.span(side, rpc);
        }
        let method = asked.as_ref().map(|asked| asked.method.as_str()).unwrap_or_default();
        if let Some(server) = server(fields) {
            event.service.get_or_insert(server);
        }
        if fields.get("error").is_some() {
            let inner = fields.within("error", |error| {
                let code = error.take("code").map(|held| held.value.to_string());
                failure(code.map(|code| format!("jsonrpc {code}")), error.text("message"))
            });
            event.outcome = Some(inner.unwrap_or_else(|| failure(None, None)));
            return;
        }
        let result = fields.get("result").cloned().unwrap_or_default();
        if result.get("resultType").and_then(Value::as_str) == Some("input_required") {
            // The server waits for a person before it goes on.
            let mut decision = Decision::new(Effect::RequireApproval, AuthorityKind::Unknown);
            decision.approval_id = result.get("requestState").map(approval);
            event.decision = Some(decision);
            event.outcome = Some(Outcome::new(Status::Pending));
            return;
        }
        if method == "elicitation/create" {
            event.decision = answer(result.get("action").and_then(Value::as_str).unwrap_or_default());
            return;
        }
        if method == "sampling/createMessage" {
            let model = result.get("model").and_then(Value::as_str).filter(|model| model.len() <= 512);
            event.usage = model.map(|model| Usage { model: Some(model.to_owned()), ..Usage::default() });
        }
        let failed = result.get("isError").and_then(Value::as_bool) == Some(true);
        let mut outcome = if failed {
            let text = result.pointer("/content/0/text").and_then(Value::as_str);
            failure(Some("tool_error".to_owned()), text.map(str::to_owned))
        } else {
            Outcome::new(Status::Ok)
        };
        if event.action.kind != ActionKind::Other
            && let Some(held) = fields.take("result")
        {
            outcome.result = Some(held.unpack("/outcome/result", &mut event.source.restated));
        }
        event.outcome = Some(outcome);
    }
}

/// Names the pause that a result asks for; the client sends the state back as it came.
fn approval(state: &Value) -> String {
    match state {
        Value::String(text) if !text.is_empty() && text.len() <= 128 => format!("mcp:{text}"),
        other => format!("mcp:{}", digest(other.to_string().as_bytes())),
    }
}

/// A request that carries the answers of a person to what an earlier result asked for.
fn answers(event: &mut Event, params: &Fields) {
    let Some(Value::Object(answers)) = params.get("inputResponses") else { return };
    let words = answers.values().filter_map(|answer| {
        answer.get("action").or_else(|| answer.pointer("/result/action")).and_then(Value::as_str)
    });
    // One refusal refuses the whole.
    let strictest = words.filter_map(answer).max_by_key(|decision| decision.effect);
    let Some(mut decision) = strictest else { return };
    if let Some(state) = params.get("requestState") {
        let id = approval(state);
        let to = Target { approval_id: Some(id.clone()), ..Target::default() };
        event.links.push(Link { to, rel: Rel::Approves });
        decision.approval_id = Some(id);
    }
    event.decision = Some(decision);
}

/// Who the client says it is, in whichever version of the protocol it says it. It stays where it is.
fn client(fields: &Fields) -> Option<Agent> {
    let params = fields.get("params")?;
    let info = params
        .get("_meta")
        .and_then(|meta| meta.get(format!("{PREFIX}clientInfo")))
        .or_else(|| params.get("clientInfo"))?;
    let text = |name: &str| {
        let text = info.get(name).and_then(Value::as_str);
        text.filter(|text| (1..=256).contains(&text.len())).map(str::to_owned)
    };
    text("name").map(|name| Agent { id: None, name: Some(name), version: text("version") })
}

/// Who the server says it is.
fn server(fields: &Fields) -> Option<String> {
    let result = fields.get("result")?;
    let info = result
        .get("_meta")
        .and_then(|meta| meta.get(format!("{PREFIX}serverInfo")))
        .or_else(|| result.get("serverInfo"))?;
    info.get("name")?.as_str().filter(|name| (1..=256).contains(&name.len())).map(str::to_owned)
}

/// What a person answered to an elicitation.
fn answer(action: &str) -> Option<Decision> {
    let effect = match action {
        "accept" => Effect::Allow,
        "decline" | "cancel" => Effect::Block,
        _ => return None,
    };
    let mut decision = Decision::new(effect, AuthorityKind::Human);
    decision.code = Some(action.to_owned());
    Some(decision)
}

/// What a server hints about a tool. The protocol calls these untrusted, and so does their name here.
fn hints(tool: &Value) -> Vec<String> {
    let annotations = tool.get("annotations").and_then(Value::as_object);
    let mut hints: Vec<String> = annotations
        .into_iter()
        .flatten()
        .filter(|(name, value)| name.ends_with("Hint") && name.len() <= 64 && value.as_bool().is_some())
        .map(|(name, value)| {
            let name = name.trim_end_matches("Hint");
            if value.as_bool() == Some(true) { format!("hint:{name}") } else { format!("hint:not-{name}") }
        })
        .take(16)
        .collect();
    hints.sort();
    hints
}

/// What recorders call the time at which they saw a message.
const TIMES: [&str; 6] = ["t_unix_ns", "time_unix_nano", "timestamp", "time", "ts", "t"];

/// Takes the recorder's time.
fn time(beside: &mut Fields) -> Option<u64> {
    TIMES.iter().find_map(|name| {
        let ns = any_nanoseconds(beside.get(name)?)?;
        beside.take(name);
        Some(ns)
    })
}
