//! Order: what a step could have seen, and nothing more is known.
//!
//! A model reads its whole context, so whatever came back to a trace may have influenced every later step of it. One
//! edge leads to each step from the last that gave something; what a step could have seen is what reaches it over such
//! edges. The first step of a trace goes on from the last of its session.
//!
//! Order is that of time, since parents are recorded after their children as a rule; the input of a policy
//! ([`crate::input`]) goes by the log, because a live caller has nothing else.

use std::collections::BTreeMap;

use verdict_ledger::action::Action;
use verdict_ledger::id::TraceId;

use super::Basis;
use super::data::gave;

/// Finds (earlier key, later key, why), over actions in any order.
pub(super) fn order(actions: &[&Action]) -> Vec<(u64, u64, Basis)> {
    let mut in_time = actions.to_vec();
    in_time.sort_by_key(|action| (action.start_ns, action.key));
    let mut last_of_trace: BTreeMap<TraceId, Option<u64>> = BTreeMap::new();
    let mut last_of_session: BTreeMap<&str, u64> = BTreeMap::new();
    let mut out = Vec::new();
    for action in in_time {
        let session = action.session.as_ref().map(|session| session.value.as_str());
        let known = action.trace_id.map(|trace| last_of_trace.get(&trace).copied());
        match known {
            // Later in its trace.
            Some(Some(Some(earlier))) => out.push((earlier, action.key, Basis::TraceOrder)),
            // Nothing came back to the trace so far.
            Some(Some(None)) => {}
            // The first of its trace, or without one.
            Some(None) | None => {
                if let Some(earlier) = session.and_then(|session| last_of_session.get(session)) {
                    out.push((*earlier, action.key, Basis::SessionOrder));
                }
            }
        }
        let given = gave(action).then_some(action.key);
        if let Some(trace) = action.trace_id {
            let last = last_of_trace.entry(trace).or_default();
            *last = given.or(*last);
        }
        if let (Some(key), Some(session)) = (given, session) {
            last_of_session.insert(session, key);
        }
    }
    out
}
