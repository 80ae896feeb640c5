//! Replay: every decision point of a range under one policy.
//!
//! # What is decided in which state
//! A decision point is an action of kind `tool`, `data`, `message`, `agent` or `model`, whether or not its source
//! recorded a ruling. Points come in log order, which is the order of their keys. The action is taken as it is
//! known at the end of the range; its state is what came before its first event in the log, folded from what was
//! recorded (pointwise semantics). See `docs/replay.md`.
//!
//! # Invariants
//! - The result depends on the records and the policy only: not on threads, time or cache.
//! - A decision that may need a member which is erased or withheld is `Unknown`; whether it may is read from the
//!   bundle's source, and in doubt it may.

mod evaluate;
mod reads;
mod reproduce;

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use verdict_ledger::action::{Action, Ruling};
use verdict_ledger::event::{ActionKind, AuthorityKind, Cost, Effect, Status};
use verdict_ledger::id::{Digest, TraceId};
use verdict_ledger::{Ledger, LedgerError, Record, canon};

use crate::policy::{Decision, EngineId, Policy, RuleRef};

pub use reproduce::{Mismatch, Reproduction, reproduce};

/// Which history a decision is re-evaluated in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Semantics {
    /// The state that history really had.
    Pointwise,
}

/// What was compared: whoever has the same header and the same ledger gets the same digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHeader {
    /// Origin of the ledger.
    pub origin: String,
    /// First entry of the range.
    pub first_seq: u64,
    /// One past the last entry of the range.
    pub end_seq: u64,
    /// RFC 6962 root of the first `end_seq` entries, hex.
    pub root: String,
    /// Bundle name.
    pub policy_name: String,
    /// Bundle version label.
    pub policy_version: String,
    /// Bundle digest.
    pub policy_digest: Digest,
    /// Engine.
    pub engine: EngineId,
    /// Input schema version.
    pub input_schema: String,
    /// Semantics.
    pub semantics: Semantics,
}

/// The decision that was recorded at a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Effect.
    pub effect: Effect,
    /// Rules as recorded.
    pub rules: Vec<String>,
    /// Bundle digest as recorded; `None` is "version unknown".
    pub bundle: Option<Digest>,
    /// Version label as recorded.
    pub version: Option<String>,
    /// Event that states it.
    pub seq: u64,
}

/// An action that a policy can rule on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Action key: position of the first event that reports the action.
    pub key: u64,
    /// Trace.
    pub trace_id: Option<TraceId>,
    /// Agent label.
    pub agent: Option<String>,
    /// Tenant.
    pub tenant: Option<String>,
    /// Kind.
    pub kind: ActionKind,
    /// Name (the tool).
    pub name: String,
    /// When, Unix nanoseconds.
    pub at_ns: u64,
    /// What was recorded, if anything was.
    pub recorded: Option<Recorded>,
    /// Outcome, if there is one.
    pub outcome: Option<Status>,
    /// Cost, if it is known.
    pub cost: Option<Cost>,
    /// Digest of the input document (JCS, SHA-256).
    pub input: Digest,
    /// Length of the input document (JCS) in bytes, so that a report can show the smallest example.
    #[serde(default)]
    pub input_bytes: u64,
}

/// What replay says about a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Answer {
    /// The policy decides.
    Decided {
        /// Its decision.
        decision: Decision,
    },
    /// The decision needs what is erased, withheld or was never recorded, or the engine failed; never a guess.
    Unknown {
        /// `missing_input`, `runtime_error:<code>`.
        reason: String,
        /// JSON pointers into the input that are missing.
        missing: Vec<String>,
    },
}

/// One point and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The point.
    pub point: Point,
    /// The answer.
    pub answer: Answer,
}

/// A replay of a range under one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What was replayed.
    pub header: RunHeader,
    /// Points in log order.
    pub points: Vec<Replayed>,
    /// Rules of the bundle with their places, sorted; a rule that no point names was not exercised.
    pub rules: Vec<RuleRef>,
    /// SHA-256 over header and points.
    pub digest: Digest,
}

/// Selects what to replay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// First entry; `None` is 0.
    pub first_seq: Option<u64>,
    /// One past the last entry; `None` is the head.
    pub end_seq: Option<u64>,
    /// Only this trace.
    pub trace: Option<TraceId>,
}

/// Chooses how to replay; nothing in here changes the result.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Threads that evaluate; `None` is as many as the machine offers.
    pub threads: Option<NonZeroUsize>,
}

/// Names the log that records come from, for the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Origin of the ledger.
    pub origin: String,
    /// RFC 6962 root at the end of the range, hex.
    pub root: String,
}

/// Why a replay did not come to an end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The ledger cannot be read.
    #[error("cannot read the ledger at entry {seq}")]
    Ledger {
        /// Entry that was next.
        seq: u64,
        /// What the ledger says.
        #[source]
        source: LedgerError,
    },
    /// The range is not in the ledger.
    #[error(
        "entries {first}..{end} are not in the ledger, which has {size} entries; choose a range within 0..{size}"
    )]
    Range {
        /// First entry asked for.
        first: u64,
        /// One past the last entry asked for.
        end: u64,
        /// Entries that there are.
        size: u64,
    },
    /// The trace has no event in the range.
    #[error("trace {trace} has no event in entries {first}..{end}")]
    NoTrace {
        /// Trace asked for.
        trace: TraceId,
        /// First entry asked for.
        first: u64,
        /// One past the last entry asked for.
        end: u64,
    },
    /// A thread of the evaluation ended abnormally.
    #[error("an evaluation thread failed; the result would not be complete")]
    Worker,
}

/// How many entries pass between two progress reports.
const PROGRESS_EVERY: u64 = 1_024;

/// Replays a range of a ledger. `progress` is told (done, all) entries.
pub fn replay(
    ledger: &Ledger,
    scope: &Scope,
    policy: &Policy,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Run, ReplayError> {
    replay_with(ledger, scope, policy, Options::default(), progress)
}

/// Replays a range of a ledger with options.
pub fn replay_with(
    ledger: &Ledger,
    scope: &Scope,
    policy: &Policy,
    options: Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Run, ReplayError> {
    let size = ledger.head().size;
    let (first, end) = (scope.first_seq.unwrap_or(0), scope.end_seq.unwrap_or(size));
    if first > end || end > size {
        return Err(ReplayError::Range { first, end, size });
    }
    let root = ledger.root_at(end).map_err(|source| ReplayError::Ledger { seq: end, source })?;
    let mut records = Vec::new();
    for (record, seq) in ledger.records(0..end).zip(0..end) {
        let record = record.map_err(|source| ReplayError::Ledger { seq, source })?;
        records.extend(slim(record));
        if seq % PROGRESS_EVERY == 0 {
            progress(seq, end);
        }
    }
    let origin = Origin { origin: ledger.origin().to_owned(), root: hex::encode(root.0) };
    let run =
        replay_records(&origin, &records, &Scope { end_seq: Some(end), ..scope.clone() }, policy, options)?;
    progress(end, end);
    Ok(run)
}

/// Replays records that were read before, as from an exported corpus: every record from entry 0 to the end of
/// the range, in log order. Equal records give an equal run.
pub fn replay_records(
    origin: &Origin,
    records: &[Record],
    scope: &Scope,
    policy: &Policy,
    options: Options,
) -> Result<Run, ReplayError> {
    let size = records.last().map_or(0, |record| record.seq + 1);
    let (first, end) = (scope.first_seq.unwrap_or(0), scope.end_seq.unwrap_or(size));
    if first > end {
        return Err(ReplayError::Range { first, end, size });
    }
    let in_range = |record: &&Record| (first..end).contains(&record.seq);
    if let Some(trace) = scope.trace {
        let of_trace =
            |record: &Record| record.event.as_ref().is_some_and(|event| event.trace_id == Some(trace));
        if !records.iter().filter(in_range).any(of_trace) {
            return Err(ReplayError::NoTrace { trace, first, end });
        }
    }
    let until = records.partition_point(|record| record.seq < end);
    let records = records.get(..until).unwrap_or(records);
    let threads = options.threads.or_else(|| std::thread::available_parallelism().ok());
    let points =
        evaluate::points(records, first, scope.trace.as_ref(), policy, threads.map_or(1, NonZeroUsize::get))?;
    let header = RunHeader {
        origin: origin.origin.clone(),
        first_seq: first,
        end_seq: end,
        root: origin.root.clone(),
        policy_name: policy.bundle().name().to_owned(),
        policy_version: policy.bundle().version().to_owned(),
        policy_digest: policy.bundle().digest(),
        engine: policy.engine_id().clone(),
        input_schema: crate::input::SCHEMA.to_owned(),
        semantics: Semantics::Pointwise,
    };
    let mut rules = policy.rules().to_vec();
    rules.sort();
    rules.dedup();
    let digest = digest(&header, &points);
    Ok(Run { header, points, rules, digest })
}

impl Run {
    /// Computes the digest that header and points must have; a run read from a file is checked with it.
    pub fn expected_digest(&self) -> Digest {
        digest(&self.header, &self.points)
    }
}

/// SHA-256 over the canonical JSON of header and points, one line each, so that nothing is held twice.
fn digest(header: &RunHeader, points: &[Replayed]) -> Digest {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut line = |value: Result<serde_json::Value, serde_json::Error>| {
        // These types have string keys and no foreign serializers, so they always have a JSON form.
        hasher.update(canon::digest_bytes(&value.unwrap_or_default()));
        hasher.update(b"\n");
    };
    line(serde_json::to_value(header));
    for point in points {
        line(serde_json::to_value(point));
    }
    Digest(hasher.finalize().into())
}

/// Keeps of a record what the fold and the state need: results and unconsumed attributes are most of its bytes.
fn slim(mut record: Record) -> Option<Record> {
    if let Some(event) = &mut record.event {
        event.attributes.retain(|name, _| name == "mcp.method.name");
        if let Some(outcome) = &mut event.outcome {
            outcome.result = None;
        }
        return Some(record);
    }
    (record.kind == CONTROL_SET).then_some(record)
}

/// Entry `type` of a control: a kill switch, a quarantine.
const CONTROL_SET: &str = "control.set";

/// Tells whether a policy can rule on a kind of action.
pub const fn is_point(kind: ActionKind) -> bool {
    matches!(
        kind,
        ActionKind::Tool | ActionKind::Data | ActionKind::Message | ActionKind::Agent | ActionKind::Model
    )
}

/// The ruling that a policy's decision is compared with: what stands among everybody but people, because an
/// answer to an approval is no decision of a policy; a person's only when there is no other.
fn recorded(action: &Action) -> Option<Recorded> {
    let no_person = |ruling: &Ruling| ruling.decision.by.kind != AuthorityKind::Human;
    let ruling = action.ruling_among(no_person).or_else(|| action.ruling())?;
    let policy = ruling.decision.policy.clone().unwrap_or_default();
    Some(Recorded {
        effect: ruling.decision.effect,
        rules: policy.rules,
        bundle: policy.bundle,
        version: policy.version,
        seq: ruling.seq,
    })
}
