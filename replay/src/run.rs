//! Replay: every decision point of a range under one policy.
//!
//! # What is decided in which state
//! A decision point is an action of kind `tool`, `data`, `message`, `agent` or `model`, whether or not its source
//! recorded a ruling. Points come in log order, which is the order of their keys. The action is taken as it is
//! known at the end of the range; its state is what came before its first event in the log, as [`Semantics`] says. See
//! `docs/replay.md`.
//!
//! # Invariants
//! - The result depends on the log, the policy, the range and the semantics only: not on threads, time, what is cached or
//!   where the fold of the state began.
//! - A decision that needs a member which is erased or withheld is `Unknown`; whether it does is found by evaluating it.
//! - What is held of the log at a time is one epoch and what its events belong to, never the range.

mod alter;
mod carry;
mod causes;
mod course;
mod epoch;
mod evaluate;
mod gather;
mod missing;
mod money;
mod reads;
mod reproduce;
mod select;
mod source;
pub mod stored;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use verdict_ledger::action::{Action, Ruling};
use verdict_ledger::event::{ActionKind, AuthorityKind, Cost, Effect, Event, Status};
use verdict_ledger::id::{Digest, TraceId};
use verdict_ledger::pricing::Table;
use verdict_ledger::{Ledger, Record, canon};

use crate::policy::{Decision, EngineId, Policy, RuleRef};

pub use carry::Carry;
pub use causes::Because;
pub use money::{Amount, Basis, Money, Price};
pub use reproduce::{Mismatch, Reproduction, reproduce};
pub use select::{Sample, Select};
pub use source::{Corpus, LedgerSource, Source, SourceError};
pub use tally::{Flip, MoneySum, Tally, confidence};

use course::{Course, SoFar, walk_recorded};
use epoch::{Epoch, Wanted};

/// Which history a decision is re-evaluated in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Semantics {
    /// The state that history really had.
    #[default]
    Pointwise,
    /// The state that the replayed decisions make.
    Stateful,
    /// The same, without what a stopped step would have brought about.
    Causal,
}

impl Semantics {
    /// Every semantics.
    pub const ALL: [Self; 3] = [Self::Pointwise, Self::Stateful, Self::Causal];

    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pointwise => "pointwise",
            Self::Stateful => "stateful",
            Self::Causal => "causal",
        }
    }
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
    /// Price table that gave the points their cost: label and digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<String>,
    /// Which points were chosen, when not all.
    #[serde(default, skip_serializing_if = "Select::is_all")]
    pub select: Select,
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
        /// Effects that the policy gives for extreme values of what is missing: the direction, never the answer.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        possible: BTreeSet<Effect>,
    },
    /// The action would not have been asked for.
    NotReached {
        /// Step that is stopped.
        by: u64,
        /// Why this one depends on it, at the last link of the chain.
        because: Because,
    },
}

impl Answer {
    /// Makes an unknown answer.
    pub fn unknown(reason: &str, missing: Vec<String>) -> Self {
        Self::Unknown { reason: reason.to_owned(), missing, possible: BTreeSet::new() }
    }

    /// Returns the effect, when there is a decision.
    pub const fn effect(&self) -> Option<Effect> {
        course::effect(self)
    }
}

/// A decision that is what it is because an earlier one came out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Induced {
    /// Effect in the state that history had; `None` when there is no decision in it.
    pub in_recorded_state: Option<Effect>,
    /// Earlier flips that led to it, the latest last. The latest is the last one that changed what this decision reads.
    pub chain: Vec<u64>,
    /// Members of the input that are other than in the recorded state, as far as the policy can read them.
    pub reads: Vec<String>,
    /// Digest of the input that it was decided on.
    pub input: Digest,
}

/// One point and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The point.
    pub point: Point,
    /// The answer.
    pub answer: Answer,
    /// Set when an earlier flip made the answer what it is; a flip without it is direct.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub induced: Option<Induced>,
    /// Step from which on the run would have gone otherwise: what comes later may never have been asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diverged: Option<u64>,
    /// True when the action was stopped and would run now: nobody saw what would have followed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unobserved: bool,
    /// What it means in money, where the action runs now and did not, or the other way round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
}

impl Replayed {
    /// Makes a point whose answer is what it is in the state that history had.
    pub const fn new(point: Point, answer: Answer) -> Self {
        Self { point, answer, induced: None, diverged: None, unobserved: false, money: None }
    }

    /// Returns the effect that the policy has in the state that history had.
    pub fn in_recorded_state(&self) -> Option<Effect> {
        match &self.induced {
            Some(induced) => induced.in_recorded_state,
            None => self.answer.effect(),
        }
    }
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
    /// Only this trace. What happened outside of it stays as it was.
    pub trace: Option<TraceId>,
    /// Which points of them.
    pub select: Select,
    /// Which history they are decided in.
    pub semantics: Semantics,
}

/// Chooses how to replay; nothing in here changes the result.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'c> {
    /// Threads; `None` is as many as the machine offers.
    pub threads: Option<NonZeroUsize>,
    /// Set to end the replay early, with [`ReplayError::Cancelled`].
    pub cancel: Option<&'c AtomicBool>,
    /// Fold the state from entry 0, whatever is kept.
    pub from_the_beginning: bool,
}

/// Where the points of a replay go.
pub trait Sink {
    /// Takes the next point, in log order.
    fn point(&mut self, point: Replayed) -> io::Result<()>;
    /// Takes a place from which the replay can go on, after everything that came before it.
    fn pause(&mut self, _pause: &dyn Fn() -> Pause) -> io::Result<()> {
        Ok(())
    }
}

/// A place from which a replay can go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What is replayed: whoever goes on must be asked for the same.
    #[serde(with = "as_json")]
    pub header: RunHeader,
    /// Next entry.
    pub at: u64,
    so_far: SoFar,
}

/// A header leaves members out, which the encoding of projections cannot.
mod as_json {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::RunHeader;

    pub(super) fn serialize<S: Serializer>(header: &RunHeader, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(header).map_err(S::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RunHeader, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// How to go on with a replay: from where, and what was told before.
pub struct Resume<'r> {
    /// The place.
    pub pause: Pause,
    /// The points that came before it, in order.
    pub told: &'r mut dyn Iterator<Item = io::Result<Replayed>>,
}

impl std::fmt::Debug for Resume<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resume").field("at", &self.pause.at).finish_non_exhaustive()
    }
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
        source: SourceError,
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
    /// The price table of this version cannot be used.
    #[error("the price table that comes with this version cannot be used: {detail}")]
    Prices {
        /// What is wrong.
        detail: String,
    },
    /// The threads could not be started.
    #[error("cannot start the threads of the replay: {detail}; try fewer (`--threads`)")]
    Threads {
        /// What the system says.
        detail: String,
    },
    /// A sample says nothing about a state that every decision moves.
    #[error(
        "a sample can be replayed pointwise only: {semantics} replay needs every decision before the next"
    )]
    Sampled {
        /// Semantics asked for.
        semantics: &'static str,
    },
    /// What was begun was another replay.
    #[error("what was begun is a replay of something else; start it anew")]
    OtherRun,
    /// The points could not be written, or what was written before could not be read.
    #[error("the points of the replay cannot be kept")]
    Sink {
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Somebody asked for an end.
    #[error("the replay was stopped at entry {at}")]
    Cancelled {
        /// Entry that was next.
        at: u64,
    },
}

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
    options: Options<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Run, ReplayError> {
    let source = LedgerSource::new(ledger).map_err(|source| ReplayError::Ledger { seq: 0, source })?;
    collect(&source, scope, policy, options, progress)
}

/// Replays records that were read before, as from an exported corpus: every record from entry 0 to the end of
/// the range, in log order. Equal records give an equal run. Costs that nobody reports are those of the price table that
/// comes with this version.
pub fn replay_records(
    origin: &Origin,
    records: &[Record],
    scope: &Scope,
    policy: &Policy,
    options: Options<'_>,
) -> Result<Run, ReplayError> {
    let prices = Table::shipped().map_err(|error| ReplayError::Prices { detail: error.to_string() })?;
    let source = Corpus::new(&origin.origin, &origin.root, records, Arc::new(prices));
    collect(&source, scope, policy, options, &mut |_, _| {})
}

/// Replays from a source and keeps every point.
pub fn collect(
    source: &dyn Source,
    scope: &Scope,
    policy: &Policy,
    options: Options<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Run, ReplayError> {
    let mut points = Vec::new();
    let Summary { header, rules, digest, .. } =
        stream(source, scope, policy, options, progress, None, &mut points)?;
    Ok(Run { header, points, rules, digest })
}

impl Sink for Vec<Replayed> {
    fn point(&mut self, point: Replayed) -> io::Result<()> {
        self.push(point);
        Ok(())
    }
}

/// What a replay says beside its points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// What was replayed.
    pub header: RunHeader,
    /// Rules of the bundle with their places, sorted.
    pub rules: Vec<RuleRef>,
    /// Points.
    pub points: u64,
    /// SHA-256 over header and points.
    pub digest: Digest,
}

/// Replays from a source and hands out every point in log order; none is kept.
pub fn stream(
    source: &dyn Source,
    scope: &Scope,
    policy: &Policy,
    options: Options<'_>,
    progress: &mut dyn FnMut(u64, u64),
    resume: Option<Resume<'_>>,
    sink: &mut dyn Sink,
) -> Result<Summary, ReplayError> {
    stream_in(source, scope, policy, options, Grain::default(), progress, resume, sink)
}

/// Returns what a replay of a scope is of.
pub fn header(source: &dyn Source, scope: &Scope, policy: &Policy) -> Result<RunHeader, ReplayError> {
    let Span { first, end, .. } = Span::of(source, scope)?;
    let at_end = |source: SourceError| ReplayError::Ledger { seq: end, source };
    Ok(RunHeader {
        origin: source.origin().to_owned(),
        first_seq: first,
        end_seq: end,
        root: source.root(end).map_err(at_end)?,
        policy_name: policy.bundle().name().to_owned(),
        policy_version: policy.bundle().version().to_owned(),
        policy_digest: policy.bundle().digest(),
        engine: policy.engine_id().clone(),
        input_schema: crate::input::SCHEMA.to_owned(),
        semantics: scope.semantics,
        prices: Some(source.prices(end).map_err(at_end)?.id()),
        select: scope.select.clone(),
    })
}

/// How finely a replay is cut. The length of an epoch is part of what the state means; only tests use another one.
#[derive(Debug, Clone, Copy)]
struct Grain {
    entries: u64,
    rounds: usize,
}

impl Default for Grain {
    fn default() -> Self {
        Self { entries: epoch::ENTRIES, rounds: course::ROUNDS }
    }
}

#[expect(clippy::too_many_arguments, reason = "what `stream` takes, and how finely it is cut")]
fn stream_in(
    source: &dyn Source,
    scope: &Scope,
    policy: &Policy,
    options: Options<'_>,
    grain: Grain,
    progress: &mut dyn FnMut(u64, u64),
    resume: Option<Resume<'_>>,
    sink: &mut dyn Sink,
) -> Result<Summary, ReplayError> {
    if scope.select.sample.is_some() && scope.semantics != Semantics::Pointwise {
        return Err(ReplayError::Sampled { semantics: scope.semantics.as_str() });
    }
    let span = Span::of(source, scope)?;
    let at = |seq: u64| move |source: SourceError| ReplayError::Ledger { seq, source };
    let header = header(source, scope, policy)?;
    let mut hasher = Hasher::new(&header);
    let pool = pool(options.threads)?;
    let mut points = 0;
    let (start, so_far) = match resume {
        None => {
            let (start, carry) = begin(source, span.from, options)?;
            (start, SoFar::at(carry))
        }
        Some(Resume { pause, .. }) if pause.header != header => return Err(ReplayError::OtherRun),
        Some(Resume { pause, told }) => {
            for point in told {
                hasher.line(&point.map_err(|source| ReplayError::Sink { source })?);
                points += 1;
            }
            (pause.at, pause.so_far)
        }
    };
    let mut course = Course::new(policy, &pool, (scope.semantics, grain.rounds), so_far);
    // A replay that follows its own decisions takes all of them, whichever are shown.
    let every = scope.semantics != Semantics::Pointwise;
    let is_wanted = |action: &Action| {
        is_point(action.kind)
            && action.key >= span.first
            && scope.trace.is_none_or(|trace| action.is_in(&trace))
            && (every || scope.select.takes(action))
    };
    walk(start..span.last, span.end, grain.entries, options, progress, &mut |range| {
        let point: Option<&(dyn Fn(&Action) -> bool + Sync)> = (range.end > span.from).then_some(&is_wanted);
        let (from, to) = (range.start, range.end);
        let wanted = Wanted { end: span.end, point };
        let epoch = Epoch::read(source, &pool, range, &mut course.so_far.carry, &wanted).map_err(at(from))?;
        let told = course.epoch(source, &epoch).map_err(at(from))?;
        for (replayed, place) in told.into_iter().zip(&epoch.points) {
            if !every || epoch.action(*place).is_some_and(|action| scope.select.takes(action)) {
                hasher.line(&replayed);
                points += 1;
                sink.point(replayed).map_err(|source| ReplayError::Sink { source })?;
            }
        }
        if to.is_multiple_of(grain.entries) {
            source.keep(to, &course.so_far.carry);
            let pause = || Pause { header: header.clone(), at: to, so_far: course.so_far.clone() };
            sink.pause(&pause).map_err(|source| ReplayError::Sink { source })?;
        }
        Ok(())
    })?;
    let mut rules = policy.rules().to_vec();
    rules.sort();
    rules.dedup();
    Ok(Summary { header, rules, points, digest: hasher.finish() })
}

/// An action and the input that a policy decides it on, in the state that history had.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The action, as it is known at the end of the range.
    pub action: Action,
    /// Its input document.
    pub input: Value,
    /// JSON pointers of members that are erased or withheld.
    pub missing: Vec<String>,
}

/// Builds the input of the decision point that an event belongs to; `None` when the event is none of one.
pub fn input_of(source: &dyn Source, seq: u64, end: Option<u64>) -> Result<Option<Asked>, ReplayError> {
    let at = |seq: u64| move |source: SourceError| ReplayError::Ledger { seq, source };
    let size = source.size();
    let end = end.unwrap_or(size);
    if seq >= end || end > size {
        return Err(ReplayError::Range { first: seq, end, size });
    }
    let Some(event) = source.record(seq).map_err(at(seq))?.and_then(|record| record.event) else {
        return Ok(None);
    };
    let first = earliest(source, seq, &event).map_err(at(seq))?;
    let options = Options::default();
    let (start, mut carry) = begin(source, first, options)?;
    let is_wanted = |action: &Action| is_point(action.kind) && action.seqs.contains(&seq);
    let mut found = None;
    let pool = pool(None)?;
    walk(start..seq.saturating_add(1), end, epoch::ENTRIES, options, &mut |_, _| {}, &mut |range| {
        let (from, to) = (range.start, range.end);
        let wanted = Wanted { end, point: Some(&is_wanted) };
        let epoch = Epoch::read(source, &pool, range, &mut carry, &wanted).map_err(at(from))?;
        walk_recorded(&epoch, &mut carry, &mut |action, state| {
            let input = crate::input::build(action, state);
            let missing = missing::missing(action, &input);
            found.get_or_insert(Asked { action: action.clone(), input, missing });
        });
        epoch.leave(&mut carry);
        if to.is_multiple_of(epoch::ENTRIES) {
            source.keep(to, &carry);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Finds the first entry that an event's action can have begun with: it may be far before, as after an approval.
fn earliest(source: &dyn Source, seq: u64, event: &Event) -> Result<u64, SourceError> {
    let mut first = seq;
    if let Some(session) = event.session.as_deref() {
        first = source.of_session(session, 0..seq, 1)?.first().map_or(first, |found| first.min(*found));
    }
    if let Some(trace) = event.trace_id {
        first = source.of_trace(&trace, 0..seq, 1)?.first().map_or(first, |found| first.min(*found));
    }
    Ok(first)
}

/// Goes through the epochs that touch a range.
fn walk(
    range: Range<u64>,
    end: u64,
    entries: u64,
    options: Options<'_>,
    progress: &mut dyn FnMut(u64, u64),
    epoch: &mut dyn FnMut(Range<u64>) -> Result<(), ReplayError>,
) -> Result<(), ReplayError> {
    let mut at = range.start;
    let all = range.end.saturating_sub(range.start);
    while at < range.end {
        if options.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(ReplayError::Cancelled { at });
        }
        progress(at.saturating_sub(range.start), all);
        let to = (at - at % entries).saturating_add(entries).min(end);
        epoch(at..to)?;
        at = to;
    }
    progress(all, all);
    Ok(())
}

/// Finds where to begin so that the state at a position is right.
fn begin(source: &dyn Source, first: u64, options: Options<'_>) -> Result<(u64, Carry), ReplayError> {
    if options.from_the_beginning {
        return Ok((0, Carry::default()));
    }
    let kept = source.carried(first).map_err(|source| ReplayError::Ledger { seq: first, source })?;
    Ok(kept.unwrap_or_default())
}

fn pool(threads: Option<NonZeroUsize>) -> Result<rayon::ThreadPool, ReplayError> {
    let threads = threads.or_else(|| std::thread::available_parallelism().ok());
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.map_or(1, NonZeroUsize::get))
        .build()
        .map_err(|error| ReplayError::Threads { detail: error.to_string() })
}

/// The entries that a scope means.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// First and one past the last entry of the range.
    first: u64,
    end: u64,
    /// First, and one past the last, entry that a wanted point can begin with.
    from: u64,
    last: u64,
}

impl Span {
    fn of(source: &dyn Source, scope: &Scope) -> Result<Self, ReplayError> {
        let size = source.size();
        let (first, end) = (scope.first_seq.unwrap_or(0), scope.end_seq.unwrap_or(size));
        if first > end || end > size {
            return Err(ReplayError::Range { first, end, size });
        }
        let Some(trace) = scope.trace else { return Ok(Self { first, end, from: first, last: end }) };
        let bounds = || -> Result<Option<(u64, u64)>, SourceError> {
            let seqs = source.of_trace(&trace, first..end, usize::MAX)?;
            let (Some(from), Some(to)) = (seqs.first(), seqs.last()) else { return Ok(None) };
            let event = source.record(*from)?.and_then(|record| record.event);
            let from = event.map_or(Ok(*from), |event| earliest(source, *from, &event))?;
            Ok(Some((from.max(first), to.saturating_add(1))))
        };
        match bounds().map_err(|source| ReplayError::Ledger { seq: first, source })? {
            Some((from, last)) => Ok(Self { first, end, from, last }),
            None => Err(ReplayError::NoTrace { trace, first, end }),
        }
    }
}

impl Run {
    /// Computes the digest that header and points must have; a run read from a file is checked with it.
    pub fn expected_digest(&self) -> Digest {
        let mut hasher = Hasher::new(&self.header);
        self.points.iter().for_each(|point| hasher.line(point));
        hasher.finish()
    }
}

/// SHA-256 over the canonical JSON of header and points, one line each, so that nothing is held twice.
struct Hasher(sha2::Sha256);

impl Hasher {
    fn new(header: &RunHeader) -> Self {
        let mut hasher = Self(sha2::Digest::new());
        hasher.line(header);
        hasher
    }

    fn line(&mut self, line: &impl Serialize) {
        use sha2::Digest as _;
        // These types have string keys and no foreign serializers, so they always have a JSON form.
        self.0.update(canon::digest_bytes(&serde_json::to_value(line).unwrap_or_default()));
        self.0.update(b"\n");
    }

    fn finish(self) -> Digest {
        use sha2::Digest as _;
        Digest(self.0.finalize().into())
    }
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
