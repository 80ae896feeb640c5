//! Data provenance: a step states a source that is what an earlier step read or gave.
//!
//! A source says what it is, not which step brought it. The step is found by digest of the result, else by the
//! address that it read, else by its name; the nearest earlier one counts. So the edge is inferred, and the source
//! itself is stated.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::Digest as _;
use verdict_ledger::action::{Action, State};
use verdict_ledger::canon;
use verdict_ledger::event::{ActionKind, Provenance};
use verdict_ledger::id::TraceId;

use super::Basis;

/// Arguments that name what a step reads.
const ADDRESSES: [&str; 6] = ["url", "uri", "href", "path", "file", "endpoint"];

/// Finds (earlier action, later action, why), over actions in any order.
pub(super) fn flows<'a>(actions: &[&'a Action]) -> Vec<(u64, &'a Action, Basis)> {
    let mut in_time = actions.to_vec();
    in_time.sort_by_key(|action| (action.start_ns, action.key));
    let mut given = Given::default();
    let mut out = Vec::new();
    for action in in_time {
        for source in &action.provenance {
            if let Some((from, basis)) = given.by(source, action).filter(|(from, _)| *from != action.key) {
                out.push((from, action, basis));
            }
        }
        if gave(action) {
            given.add(action);
        }
    }
    out.sort_by_key(|(from, to, basis)| (*from, to.key, *basis));
    out.dedup_by_key(|(from, to, basis)| (*from, to.key, *basis));
    out
}

/// Tells whether anything came back from a step: what was refused, waits or was cancelled reached nobody.
pub(super) const fn gave(action: &Action) -> bool {
    !matches!(action.state, State::Blocked | State::Waiting | State::Cooling | State::Cancelled)
}

/// What earlier steps gave; the latest of each name.
#[derive(Default)]
struct Given<'a> {
    digests: BTreeMap<String, u64>,
    addresses: BTreeMap<&'a str, u64>,
    /// A name holds inside its trace.
    names: BTreeMap<(Option<TraceId>, &'a str), u64>,
}

impl<'a> Given<'a> {
    fn add(&mut self, action: &'a Action) {
        for digest in action.result.iter().flat_map(digests) {
            self.digests.insert(digest, action.key);
        }
        let arguments = action.arguments.as_ref().and_then(Value::as_object);
        let named = ADDRESSES.iter().filter_map(|name| arguments?.get(*name)?.as_str());
        for address in named.chain(action.resource.as_deref()) {
            self.addresses.insert(address, action.key);
        }
        let agent = (action.kind == ActionKind::Message).then(|| action.agent_label()).flatten();
        let reads = matches!(action.kind, ActionKind::Tool | ActionKind::Data | ActionKind::Agent);
        let name = reads.then_some(action.name.as_str());
        for name in [name, agent, action.call_id.as_deref()].into_iter().flatten() {
            self.names.insert((action.trace_id, name), action.key);
        }
    }

    fn by(&self, source: &Provenance, action: &Action) -> Option<(u64, Basis)> {
        let digest = source.digest.as_deref().and_then(|digest| self.digests.get(digest));
        if let Some(key) = digest {
            return Some((*key, Basis::SameDigest));
        }
        if let Some(key) = source.uri.as_deref().and_then(|uri| self.addresses.get(uri)) {
            return Some((*key, Basis::SameUri));
        }
        // A prompt or a skill may be called like a tool without being its result.
        let is_data =
            matches!(source.kind.as_str(), "tool_result" | "retrieval" | "memory" | "agent_message");
        let name = source.name.as_deref().filter(|_| is_data)?;
        Some((*self.names.get(&(action.trace_id, name))?, Basis::SameName))
    }
}

/// The digests that a source may state for a result: of the text itself, and of its canonical JSON.
fn digests(result: &Value) -> Vec<String> {
    let of = |bytes: &[u8]| format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)));
    let mut out = vec![of(&canon::digest_bytes(result))];
    out.extend(result.as_str().map(|text| of(text.as_bytes())));
    out
}
