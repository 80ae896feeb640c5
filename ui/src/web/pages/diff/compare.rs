//! Running the two replays of a comparison, off the request threads and not too many at once.

use std::sync::Arc;

use verdict_diff::gate::Verdict;
use verdict_diff::{Diff, Gate, compare, compare_recorded};
use verdict_ledger::id::{Digest, TraceId};
use verdict_replay::policy::Policy;
use verdict_replay::policy::registry::{self, Published};
use verdict_replay::run::{Run, Scope, replay};

use super::{Asked, RECORDED};
use crate::web::error::{PageError, chain};
use crate::web::pages::policies;
use crate::web::{AppState, blocking};

/// A finished comparison. It is a pure function of its first four fields.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// Digest of the first bundle, or `recorded`.
    pub(crate) from: String,
    /// Digest of the second bundle.
    pub(crate) to: String,
    /// Only this trace.
    pub(crate) trace: Option<TraceId>,
    /// One past the last entry.
    pub(crate) end: u64,
    /// The result.
    pub(crate) diff: Diff,
    /// What the default gate says.
    pub(crate) verdict: Verdict,
    /// How the sides are called on a command line.
    pub(crate) labels: (String, String),
}

/// Returns a comparison that is kept, or runs it.
pub(crate) async fn find_or_run(state: &AppState, asked: Asked) -> Result<Arc<Comparison>, PageError> {
    let sides = {
        let (state, asked) = (state.clone(), asked.clone());
        blocking::run(move || Sides::find(&state, &asked)).await?
    };
    let (from, to) = (sides.name_before(), sides.to.digest.to_string());
    let kept = state.comparison(|kept| {
        kept.from == from && kept.to == to && kept.trace == asked.trace && kept.end == asked.end
    });
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let permits = state.replays();
    let worker = state.clone();
    let comparison =
        blocking::run_limited(permits, "replays", move || run(&worker, &sides, &asked).map(Arc::new)).await?;
    state.keep_comparison(Arc::clone(&comparison));
    Ok(comparison)
}

/// The two sides, found among what is published. A reference from a request is never a path.
#[derive(Debug)]
struct Sides {
    /// `None` is what was recorded.
    from: Option<Published>,
    to: Published,
}

impl Sides {
    fn find(state: &AppState, asked: &Asked) -> Result<Self, PageError> {
        let published = policies::list(state)?;
        let from = (asked.from != RECORDED).then(|| find(&published, &asked.from)).transpose()?;
        Ok(Self { from, to: find(&published, &asked.to)? })
    }

    fn name_before(&self) -> String {
        self.from.as_ref().map_or_else(|| RECORDED.to_owned(), |policy| policy.digest.to_string())
    }
}

fn find(published: &[Published], reference: &str) -> Result<Published, PageError> {
    let digest: Option<Digest> = reference.parse().ok();
    let found = published.iter().rev().find(|policy| {
        digest == Some(policy.digest)
            || policies::label(policy) == reference
            || (reference == "active" && policy.active)
    });
    found.cloned().ok_or_else(|| PageError::not_found("published policy", reference))
}

fn run(state: &AppState, sides: &Sides, asked: &Asked) -> Result<Comparison, PageError> {
    let to = replayed(state, &sides.to, asked)?;
    let diff = match &sides.from {
        Some(from) => compare(&replayed(state, from, asked)?, &to),
        None => compare_recorded(&to),
    };
    let diff = diff.map_err(|error| PageError::Policy { detail: chain(&error) })?;
    let verdict = Gate::default().judge(&diff);
    let from_label = sides.from.as_ref().map_or_else(|| RECORDED.to_owned(), policies::label);
    Ok(Comparison {
        from: sides.name_before(),
        to: sides.to.digest.to_string(),
        trace: asked.trace,
        end: asked.end,
        verdict,
        diff,
        labels: (from_label, policies::label(&sides.to)),
    })
}

fn replayed(state: &AppState, policy: &Published, asked: &Asked) -> Result<Run, PageError> {
    let failed =
        |detail: String| PageError::Policy { detail: format!("{}: {detail}", policies::label(policy)) };
    // By full digest, which is never taken for a path.
    let bundle = registry::resolve(Some(state.ledger()), &policy.digest.to_string())
        .map_err(|error| failed(chain(&error)))?;
    let compiled = Policy::compile(bundle).map_err(|error| failed(chain(&error)))?;
    let scope = Scope { end_seq: Some(asked.end), trace: asked.trace, ..Scope::default() };
    replay(state.ledger(), &scope, &compiled, &mut |_, _| {}).map_err(|error| failed(chain(&error)))
}
