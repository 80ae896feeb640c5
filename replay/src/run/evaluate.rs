//! Decides inputs: each different one once, on all threads, in an order that nobody can see.

use std::collections::BTreeMap;

use rayon::ThreadPool;
use rayon::prelude::*;
use serde_json::Value;
use verdict_ledger::action::Action;
use verdict_ledger::canon;
use verdict_ledger::id::Digest;

use super::Answer;
use super::missing::{missing, possible};
use super::reads::Reads;
use crate::input::{self, Context};
use crate::policy::{Dependence, Policy};

/// How many inputs are held at a time.
const BATCH: usize = 2_048;
/// How many different inputs the cache remembers before it starts afresh.
const CACHE_MAX: usize = 65_536;

/// One question: an action in a context.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) action: &'a Action,
    pub(super) context: &'a Context,
}

/// Its answer, and what was asked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    pub(super) answer: Answer,
    /// Digest and length of the input document.
    pub(super) input: Digest,
    pub(super) input_bytes: u64,
    /// Digest of the part of the input that the policy can read.
    pub(super) part: Digest,
}

/// Evaluates a policy.
#[derive(Debug)]
pub(super) struct Evaluator<'p> {
    policy: &'p Policy,
    pool: &'p ThreadPool,
    pub(super) reads: Reads,
    cache: BTreeMap<Digest, Answer>,
}

/// An input that was built.
struct Built {
    input: Digest,
    bytes: u64,
    part: Digest,
    missing: Vec<String>,
    /// Kept only where it has to be decided.
    document: Option<Value>,
}

impl<'p> Evaluator<'p> {
    pub(super) fn new(policy: &'p Policy, pool: &'p ThreadPool) -> Self {
        Self { policy, pool, reads: Reads::of(policy), cache: BTreeMap::new() }
    }

    /// Answers questions in their order.
    pub(super) fn ask(&mut self, questions: &[Question<'_>]) -> Vec<Told> {
        questions.chunks(BATCH).flat_map(|batch| self.batch(batch)).collect()
    }

    fn batch(&mut self, questions: &[Question<'_>]) -> Vec<Told> {
        if self.cache.len() > CACHE_MAX {
            self.cache.clear();
        }
        let (reads, cache, policy) = (&self.reads, &self.cache, self.policy);
        let built: Vec<Built> = self
            .pool
            .install(|| questions.par_iter().map(|question| build(question, reads, cache)).collect());
        let mut todo: BTreeMap<Digest, &Value> = BTreeMap::new();
        for built in built.iter().filter(|built| built.missing.is_empty()) {
            if let Some(document) = &built.document {
                todo.entry(built.part).or_insert(document);
            }
        }
        let todo: Vec<(Digest, &Value)> = todo.into_iter().collect();
        let answers: Vec<(Digest, Answer)> = self
            .pool
            .install(|| todo.par_iter().map(|(part, input)| (*part, answer(policy, input))).collect());
        let without = |built: &Built| {
            let document = built.document.as_ref().filter(|_| !built.missing.is_empty())?;
            Some(unknown(policy, reads, document, &built.missing))
        };
        let unknown: Vec<Option<Answer>> = self.pool.install(|| built.par_iter().map(without).collect());
        self.cache.extend(answers);
        built
            .into_iter()
            .zip(unknown)
            .map(|(built, unknown)| Told {
                answer: unknown.or_else(|| self.cache.get(&built.part).cloned()).unwrap_or_else(|| {
                    // Every part without an answer was decided above.
                    Answer::unknown("not_evaluated", Vec::new())
                }),
                input: built.input,
                input_bytes: built.bytes,
                part: built.part,
            })
            .collect()
    }
}

fn build(question: &Question<'_>, reads: &Reads, cache: &BTreeMap<Digest, Answer>) -> Built {
    let document = input::build_in(question.action, question.context);
    let bytes = canon::digest_bytes(&document);
    let missing: Vec<String> =
        missing(question.action, &document).into_iter().filter(|pointer| reads.may_read(pointer)).collect();
    let part = match reads.part(&document) {
        Some(part) => input::digest(&part),
        None => Digest::of(&bytes),
    };
    let known = missing.is_empty() && cache.contains_key(&part);
    Built {
        input: Digest::of(&bytes),
        bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        part,
        missing,
        document: (!known).then_some(document),
    }
}

fn answer(policy: &Policy, document: &Value) -> Answer {
    let decision = policy.decide(document);
    match decision.error {
        // A failure is no decision of the policy, whatever it does to a live caller.
        Some(error) => Answer::unknown(&format!("runtime_error:{}", error.code), Vec::new()),
        None => Answer::Decided { decision },
    }
}

/// Answers where members are missing: what the policy says all the same when it never looks at them, else unknown with
/// what it would say for the values that they may have had.
fn unknown(policy: &Policy, reads: &Reads, document: &Value, missing: &[String]) -> Answer {
    if policy.depends(document, missing) == Dependence::No {
        return answer(policy, document);
    }
    let possible = possible(policy, reads, document, missing);
    Answer::Unknown { reason: "missing_input".to_owned(), missing: missing.to_vec(), possible }
}
