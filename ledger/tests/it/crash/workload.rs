//! What the writer appends: a function of seed, thread and number, so that whoever looks at the ledger afterwards
//! knows every byte that must be there.

use serde_json::json;
use verdict_ledger::event::{Action, ActionKind, Agent, AuthorityKind, Decision, Effect, Event};
use verdict_ledger::id::{Digest, TraceId};
use verdict_ledger::{Batch, NewRecord};

use super::random::Random;

/// Name of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) struct BatchName {
    pub(super) seed: u64,
    pub(super) thread: u64,
    pub(super) number: u64,
}

/// The events of a batch, and the raw body that they came in, if it is kept.
pub(super) fn events(name: BatchName) -> (Vec<Event>, Option<Vec<u8>>) {
    let BatchName { seed, thread, number } = name;
    let mut random = Random::of(&[seed, thread, number]);
    // Mostly single events and small batches; some that fill several blocks of the write-ahead log.
    let (count, longest) = match random.below(20) {
        0 => (1 + random.below(40), 2_000),
        1 => (1 + random.below(4), 60_000),
        2..=8 => (1 + random.below(8), 1_500),
        _ => (1, 800),
    };
    let raw = random.percent(15).then(|| random.bytes(2_000));
    let digest = raw.as_deref().map(Digest::of);
    let events = (0..count).map(|place| {
        let (tool, effect) = match random.below(3) {
            0 => ("get_order", None),
            1 => ("issue_refund", Some(Effect::Allow)),
            _ => ("send_email", Some(Effect::Block)),
        };
        let mut action = Action::new(ActionKind::Tool, tool);
        // Half of it compresses, half does not.
        let length = usize::try_from(random.below(longest)).unwrap();
        let note = hex::encode(random.bytes(length / 4)) + &"x".repeat(length / 2);
        action.arguments = Some(json!({"amount_cents": random.below(100_000), "note": note}));
        let mut event = Event::new(format!("{seed:x}-{thread}-{number}-{place}"), action);
        let mut trace = [1; 16];
        trace[8..].copy_from_slice(&random.below(50).to_be_bytes());
        event.trace_id = Some(TraceId(trace));
        event.agent = Some(Agent::named(format!("agent-{}", random.below(5))));
        event.user = Some(format!("user-{}@example.org", random.below(20)));
        event.tenant = Some("harbor".to_owned());
        event.decision = effect.map(|effect| Decision::new(effect, AuthorityKind::Policy));
        event.source.raw = digest;
        event
    });
    (events.collect(), raw)
}

/// The batch as it is appended.
pub(super) fn batch(name: BatchName) -> Batch {
    let (events, raw) = events(name);
    let records = events.iter().map(|event| NewRecord::from_event(event).unwrap()).collect();
    Batch { records, blobs: raw.into_iter().collect() }
}
