//! The points of a range: state, inputs and decisions.

use std::collections::BTreeMap;

use serde_json::Value;
use verdict_ledger::action::{self, Action};
use verdict_ledger::event::Effect;
use verdict_ledger::id::{Digest, TraceId};
use verdict_ledger::{Record, canon};

use super::reads::Reads;
use super::{Answer, CONTROL_SET, Point, ReplayError, Replayed, is_point, recorded};
use crate::policy::Policy;
use crate::state::State;

/// How many inputs are held at a time; threads share them out.
const BATCH: usize = 2_048;
/// How many different inputs the cache remembers before it starts afresh.
const CACHE_MAX: usize = 65_536;

/// One move of the state, in log order.
enum Step<'a> {
    Control(&'a Record),
    Asked(&'a Action),
    Ruled(&'a Action, Effect, Option<u64>),
    Settled(&'a Action),
    Over(TraceId),
}

/// Builds the inputs of all points and decides them.
pub(super) fn points(
    records: &[Record],
    first: u64,
    trace: Option<&TraceId>,
    policy: &Policy,
    threads: usize,
) -> Result<Vec<Replayed>, ReplayError> {
    let actions = action::fold(records, 0);
    let mut evaluator = Evaluator {
        policy,
        reads: Reads::of(policy.bundle()),
        threads: threads.max(1),
        cache: BTreeMap::new(),
        jobs: Vec::new(),
        out: Vec::new(),
    };
    let mut state = State::default();
    for step in steps(records, &actions) {
        match step {
            Step::Control(record) => state.control(&record.body),
            Step::Asked(action) => {
                let wanted = action.key >= first && trace.is_none_or(|trace| action.is_in(trace));
                if wanted && is_point(action.kind) {
                    evaluator.add(action, crate::input::build(action, &state))?;
                }
                state.asked(action);
            }
            Step::Ruled(action, effect, until_ns) => state.ruled(action, effect, until_ns),
            Step::Settled(action) => state.settled(action),
            Step::Over(trace) => state.forget_trace(&trace),
        }
    }
    evaluator.flush()?;
    Ok(evaluator.out)
}

/// Orders the moves: by the entry that makes them, and within one entry question, ruling, outcome.
fn steps<'a>(records: &'a [Record], actions: &'a [Action]) -> Vec<Step<'a>> {
    let mut steps: Vec<(u64, u8, u64, Step<'a>)> = Vec::with_capacity(actions.len() * 3);
    let mut last: BTreeMap<TraceId, u64> = BTreeMap::new();
    for record in records.iter().filter(|record| record.kind == CONTROL_SET) {
        steps.push((record.seq, 0, 0, Step::Control(record)));
    }
    for action in actions {
        steps.push((action.key, 1, action.key, Step::Asked(action)));
        // The strictest enforced ruling counts, once, where it was first stated: several sources may repeat it.
        let enforced = action.rulings.iter().filter(|ruling| ruling.decision.enforced);
        let strictest = enforced.max_by_key(|ruling| (ruling.decision.effect, std::cmp::Reverse(ruling.seq)));
        if let Some(ruling) = strictest {
            let step = Step::Ruled(action, ruling.decision.effect, ruling.decision.until_ns);
            steps.push((ruling.seq.max(action.key), 2, action.key, step));
        }
        let end = action.seqs.last().copied().unwrap_or(action.key);
        steps.push((action.outcome_seq.unwrap_or(end), 3, action.key, Step::Settled(action)));
        if let Some(trace) = action.trace_id {
            let seen = last.entry(trace).or_default();
            *seen = end.max(*seen);
        }
    }
    steps.extend(last.into_iter().map(|(trace, seq)| (seq, 4, 0, Step::Over(trace))));
    steps.sort_by_key(|(seq, phase, key, _)| (*seq, *phase, *key));
    steps.into_iter().map(|(.., step)| step).collect()
}

/// One input that waits for its decision.
struct Job {
    point: Point,
    input: Value,
    /// Digest of the part of the input that the policy can read.
    part: Digest,
    missing: Vec<String>,
}

struct Evaluator<'p> {
    policy: &'p Policy,
    reads: Reads,
    threads: usize,
    cache: BTreeMap<Digest, Answer>,
    jobs: Vec<Job>,
    out: Vec<Replayed>,
}

impl Evaluator<'_> {
    fn add(&mut self, action: &Action, input: Value) -> Result<(), ReplayError> {
        let missing =
            missing(action, &input).into_iter().filter(|pointer| self.reads.may_read(pointer)).collect();
        let part = crate::input::digest(&self.reads.restrict(&input));
        let bytes = canon::digest_bytes(&input);
        let point = Point {
            key: action.key,
            trace_id: action.trace_id,
            agent: action.agent_label().map(str::to_owned),
            tenant: action.tenant.as_ref().map(|tenant| tenant.value.clone()),
            kind: action.kind,
            name: action.name.clone(),
            at_ns: action.start_ns,
            recorded: recorded(action),
            outcome: action.outcome,
            cost: action.cost().cloned(),
            input: Digest::of(&bytes),
            input_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        };
        self.jobs.push(Job { point, input, part, missing });
        if self.jobs.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    /// Decides what waits: different inputs once each, shared out over the threads in order.
    fn flush(&mut self) -> Result<(), ReplayError> {
        let jobs = std::mem::take(&mut self.jobs);
        if self.cache.len() > CACHE_MAX {
            self.cache.clear();
        }
        let mut todo: BTreeMap<Digest, &Value> = BTreeMap::new();
        for job in jobs.iter().filter(|job| job.missing.is_empty() && !self.cache.contains_key(&job.part)) {
            todo.entry(job.part).or_insert(&job.input);
        }
        let todo: Vec<(Digest, &Value)> = todo.into_iter().collect();
        let share = todo.len().div_ceil(self.threads).max(1);
        let policy = self.policy;
        let answers = std::thread::scope(|scope| {
            let workers: Vec<_> = todo
                .chunks(share)
                .map(|chunk| {
                    scope.spawn(move || {
                        chunk.iter().map(|(part, input)| (*part, answer(policy, input))).collect::<Vec<_>>()
                    })
                })
                .collect();
            let joined: Result<Vec<_>, _> =
                workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            joined.map_err(|_| ReplayError::Worker)
        })?;
        self.cache.extend(answers.into_iter().flatten());
        for Job { point, part, missing, .. } in jobs {
            let answer = if missing.is_empty() {
                self.cache.get(&part).cloned().ok_or(ReplayError::Worker)?
            } else {
                Answer::Unknown { reason: "missing_input".to_owned(), missing }
            };
            self.out.push(Replayed { point, answer });
        }
        Ok(())
    }
}

fn answer(policy: &Policy, input: &Value) -> Answer {
    let decision = policy.decide(input);
    match decision.error {
        // A failure is no decision of the policy, whatever it does to a live caller.
        Some(error) => {
            Answer::Unknown { reason: format!("runtime_error:{}", error.code), missing: Vec::new() }
        }
        None => Answer::Decided { decision },
    }
}

/// Lists the members of the input that are absent because what they are built from is erased or withheld.
fn missing(action: &Action, input: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    for pointer in &action.withheld {
        let members: &[&str] = match pointer.split('/').nth(1) {
            Some("action") if pointer.starts_with("/action/arguments") => &[
                "/action/arguments",
                "/action/arguments_digest",
                "/features/url_host",
                "/features/email_domain",
            ],
            Some("action") if pointer == "/action" => &["/action", "/features"],
            Some("action") => &[],
            Some("user") => &["/user/id"],
            Some("on_behalf_of") => &["/on_behalf_of"],
            Some("provenance") => &["/provenance", "/features/lowest_trust_rank"],
            Some("agent") => &["/agent"],
            Some("budget") => &["/budget"],
            _ => &[],
        };
        // Another source may have said it in the open.
        let anchor = members.first().copied().unwrap_or_default();
        if !anchor.is_empty()
            && (input.pointer(anchor).is_none() || anchor == "/provenance" || anchor == "/action")
        {
            missing.extend(
                members.iter().filter(|member| input.pointer(member).is_none() || **member == anchor),
            );
        }
        // Any other withheld member of the input stands under the same name.
        let named = pointer.as_str();
        if members.is_empty() && is_input_member(named) && input.pointer(named).is_none() {
            missing.push(named);
        }
    }
    let mut missing: Vec<String> = missing.into_iter().map(str::to_owned).collect();
    missing.sort();
    missing.dedup();
    missing
}

fn is_input_member(pointer: &str) -> bool {
    const SAME_NAME: [&str; 8] = [
        "/session",
        "/service",
        "/environment",
        "/tenant",
        "/classification",
        "/action/resource",
        "/action/capabilities",
        "/action/call_id",
    ];
    SAME_NAME.contains(&pointer)
}
