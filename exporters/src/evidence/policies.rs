//! Policy bundles in a bundle of evidence: `data/policy/<digest>/…`, files exactly as published.

use std::collections::BTreeMap;

use verdict_ledger::id::Digest;
use verdict_replay::policy::Bundle;
use verdict_replay::policy::registry::{POLICY_ACTIVATED, POLICY_PUBLISHED};

use super::check::{Checked, Fault};
use super::content::Files;
use super::facts::{self, Facts};
use crate::statement::Predicate;

const POLICY: &str = "data/policy/";

/// Entry types that say which policy bundle was there and which ruled.
pub(crate) const POLICY_KINDS: [&str; 2] = [POLICY_PUBLISHED, POLICY_ACTIVATED];

/// Returns where the files of a policy bundle stand.
pub(crate) fn directory(digest: &Digest) -> String {
    format!("{POLICY}{}/", digest.to_hex())
}

/// Tells whether an entry is about a policy bundle rather than about an action.
pub(crate) fn is_policy_entry(entry: &Facts) -> bool {
    POLICY_KINDS.contains(&entry.kind.as_str())
}

/// Returns the policy digest that a policy entry is about.
pub(crate) fn subject_of(entry: &Facts) -> Option<Digest> {
    if !is_policy_entry(entry) {
        return None;
    }
    // `digest` is that of the content; `archive` only names the bytes that it is stored as.
    entry.text("/digest").and_then(|text| text.parse().ok())
}

/// Every policy that is said to be here is here, whole, under the digest of its content; no other is.
pub(crate) fn check(files: &Files, predicate: &Predicate, facts: Option<&[Facts]>) -> Checked {
    let mut here: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for (name, content) in files {
        let Some(rest) = name.strip_prefix(POLICY) else { continue };
        let (digest, path) = rest
            .split_once('/')
            .ok_or_else(|| Fault::failed(name, "is not inside the directory of a policy bundle"))?;
        here.entry(digest.to_owned()).or_default().insert(path.to_owned(), content.clone());
    }
    let decisions = facts.map(facts::decisions_by_policy).unwrap_or_default();
    for policy in &predicate.policies {
        let named = decisions.get(&policy.digest).copied().unwrap_or_default();
        if facts.is_some() && named != policy.decisions {
            let detail =
                format!("{named} decisions name {}, the statement says {}", policy.digest, policy.decisions);
            return Err(Fault::failed("signature.dsse.json", detail));
        }
        if !policy.included {
            continue;
        }
        let bad = |why: String| Fault::failed(format!("{POLICY}{}", policy.digest), why);
        let digest: Digest = policy.digest.parse().map_err(|error| bad(format!("{error}")))?;
        let content = here
            .remove(&digest.to_hex())
            .ok_or_else(|| Fault::not_run(format!("the files of policy {digest} are missing or damaged")))?;
        let directory = directory(&digest);
        let bundle =
            Bundle::from_files(content).map_err(|error| Fault::failed(&directory, error.to_string()))?;
        if bundle.digest() != digest {
            return Err(Fault::failed(&directory, format!("its files have the digest {}", bundle.digest())));
        }
    }
    if let Some(extra) = here.keys().next() {
        let detail = "is the directory of a policy that the signed statement does not name";
        return Err(Fault::failed(format!("{POLICY}{extra}"), detail));
    }
    let included = predicate.policies.iter().filter(|policy| policy.included).count();
    Ok(((), format!("{included} policy bundles have the digest that they are named by")))
}
