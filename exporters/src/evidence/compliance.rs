//! Controls that a decision log helps with: `data/compliance/controls.csv` and an OSCAL assessment-results file.
//!
//! A log *supports* a control; whether the control is satisfied is for whoever assesses it. So nothing here says
//! "satisfied", every row names the query that was run over this bundle, and a row that finds nothing says 0.
//! Topics are in our own words; the texts of the standards are their publishers'.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::facts::{Facts, csv_row};

/// What to count in a bundle. The text form is in the file, so that anyone can count again.
#[derive(Debug, Clone, Copy)]
enum Query {
    /// Every entry.
    All,
    /// Entries of these types.
    Types(&'static [&'static str]),
    /// Entries that report an action and have this member.
    Has(&'static str),
    /// Recorded decisions with one of these effects.
    Effects(&'static [&'static str]),
    /// Decisions by a person, and answers to approvals.
    HumanDecisions,
    /// Events that name a source of instructions that is not trusted or internal.
    UntrustedSources,
    /// Values that are committed to and not shown.
    Redactions,
}

impl Query {
    fn text(self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Types(types) => format!("type in ({})", types.join(", ")),
            Self::Has(member) => format!("has({member})"),
            Self::Effects(effects) => format!("decision.effect in ({})", effects.join(", ")),
            Self::HumanDecisions => "decision.by.kind = human or links.rel = approves".to_owned(),
            Self::UntrustedSources => "provenance.trust in (external, unverified, unknown)".to_owned(),
            Self::Redactions => "redactions()".to_owned(),
        }
    }

    fn count(self, facts: &[Facts], redactions: u64) -> u64 {
        // What is in quarantine supports nothing.
        let counted = || facts.iter().filter(|entry| !entry.held);
        let count =
            |matches: &dyn Fn(&Facts) -> bool| counted().filter(|entry| matches(entry)).count() as u64;
        match self {
            Self::All => counted().count() as u64,
            Self::Types(types) => count(&|entry| types.contains(&entry.kind.as_str())),
            Self::Has(member) => {
                let pointer = format!("/{}", member.replace('.', "/"));
                count(&|entry| entry.is_event() && entry.has(&pointer))
            }
            Self::Effects(effects) => {
                count(&|entry| entry.effect().is_some_and(|effect| effects.contains(&effect)))
            }
            Self::HumanDecisions => count(&|entry| {
                entry.text("/decision/by/kind") == Some("human") || any(entry, "/links", "rel", &["approves"])
            }),
            Self::UntrustedSources => {
                count(&|entry| any(entry, "/provenance", "trust", &["external", "unverified", "unknown"]))
            }
            Self::Redactions => redactions,
        }
    }
}

fn any(entry: &Facts, list: &str, member: &str, values: &[&str]) -> bool {
    let items = entry.body.pointer(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items
        .iter()
        .any(|item| item.get(member).and_then(Value::as_str).is_some_and(|value| values.contains(&value)))
}

/// One control and what the log has for it.
struct Control {
    framework: &'static str,
    id: &'static str,
    topic: &'static str,
    query: Query,
    supports: &'static str,
}

const POLICY: Query = Query::Types(&["policy.published", "policy.activated"]);
const STOPPED: Query = Query::Effects(&["block", "cooldown", "require_approval"]);
const AI_ACT: &str = "EU AI Act (Reg. (EU) 2024/1689)";
const ISO_42001: &str = "ISO/IEC 42001:2023 Annex A";
const ISO_27001: &str = "ISO/IEC 27001:2022 Annex A";
const NIST_RMF: &str = "NIST AI RMF 1.0";
const NIST_53: &str = "NIST SP 800-53 Rev. 5";
const SOC2: &str = "SOC 2 TSC 2017 (rev. 2022)";
const ASI: &str = "OWASP Top 10 for Agentic Applications 2026";
const LLM: &str = "OWASP Top 10 for LLM Applications 2026";
const GDPR: &str = "GDPR (Reg. (EU) 2016/679)";

macro_rules! controls {
    ($($framework:expr, $id:literal, $topic:literal, $query:expr, $supports:literal;)*) => {
        &[$(Control { framework: $framework, id: $id, topic: $topic, query: $query, supports: $supports }),*]
    };
}

const CONTROLS: &[Control] = controls![
    AI_ACT, "Art. 12(1)", "automatic recording of events", Query::All, "entries were recorded as they arrived and cannot be changed unseen";
    AI_ACT, "Art. 14(4)(e)", "human intervention", Query::HumanDecisions, "decisions and approvals that people made, with their time";
    AI_ACT, "Art. 26(6)", "keeping of logs by deployers", Query::All, "log entries with the position and time at which they were kept";
    GDPR, "Art. 5", "storage limitation, accountability", Query::Types(&["payload.erased"]), "erasures that leave the log verifiable";
    GDPR, "Art. 17", "erasure", Query::Types(&["payload.erased"]), "erasures that leave the log verifiable";
    ISO_27001, "A.5.28", "collecting evidence", Query::Types(&["export.created"]), "exports of evidence with their digest";
    ISO_27001, "A.5.33", "protecting records", Query::All, "records under a signed Merkle tree";
    ISO_27001, "A.5.34", "privacy of personal data", Query::Redactions, "values that are committed to and not shown";
    ISO_27001, "A.8.15", "logs", Query::All, "records of activities and exceptions";
    ISO_42001, "A.6.2.6", "operating and monitoring", Query::Has("decision"), "rulings in operation";
    ISO_42001, "A.6.2.8", "event logs of the AI system", Query::All, "the event log itself";
    ISO_42001, "A.7.5", "where data comes from", Query::Has("provenance"), "sources that influenced an action, as stated";
    ISO_42001, "A.9.2", "responsible use", Query::HumanDecisions, "decisions and approvals that people made";
    NIST_RMF, "GOVERN 1.4", "transparent policies", POLICY, "policy versions by the digest of their content";
    NIST_RMF, "MEASURE 2.4", "monitoring in production", Query::Has("decision"), "rulings in operation";
    NIST_RMF, "MEASURE 2.8", "transparency and accountability", Query::Has("decision.policy"), "rulings that name their policy";
    NIST_RMF, "MANAGE 2.4", "overriding and deactivating", Query::Types(&["control.set"]), "uses of the kill switch and of quarantine";
    NIST_53, "AC-24", "access control decisions", Query::Has("decision"), "rulings on actions with their policy and reason";
    NIST_53, "AU-3", "content of audit records", Query::All, "what, when, by which source, with which outcome";
    NIST_53, "AU-9(3)", "cryptographic protection", Query::All, "SHA-256 Merkle tree, Ed25519 checkpoints";
    NIST_53, "AU-10(3)", "chain of custody", Query::Types(&["export.created"]), "exports of evidence with their digest";
    NIST_53, "AU-12", "generating audit records", Query::All, "records by type, counted in the signed statement";
    ASI, "ASI02", "tool misuse", STOPPED, "actions that were stopped or held";
    ASI, "ASI03", "identity and privilege abuse", Query::Has("agent"), "actions with the agent that is said to have acted";
    ASI, "ASI06", "poisoned memory and context", Query::UntrustedSources, "actions under the influence of sources nobody vouches for";
    LLM, "LLM03:2026", "excessive agency", STOPPED, "actions that were stopped or held";
    LLM, "LLM06:2026", "unbounded consumption", Query::Has("usage"), "events with tokens and cost";
    SOC2, "CC7.2", "watching for anomalies", STOPPED, "actions that were stopped or held";
    SOC2, "CC8.1", "controlled change", POLICY, "policy versions by the digest of their content";
];

/// One row for the report.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) framework: &'static str,
    pub(crate) id: &'static str,
    pub(crate) topic: &'static str,
    pub(crate) query: String,
    pub(crate) entries: u64,
    pub(crate) supports: &'static str,
}

/// Runs every query.
pub(crate) fn rows(facts: &[Facts], redactions: u64) -> Vec<Row> {
    let row = |control: &Control| Row {
        framework: control.framework,
        id: control.id,
        topic: control.topic,
        query: control.query.text(),
        entries: control.query.count(facts, redactions),
        supports: control.supports,
    };
    CONTROLS.iter().map(row).collect()
}

/// Writes `data/compliance/controls.csv`.
pub(crate) fn to_csv(rows: &[Row]) -> String {
    let mut out = "framework,control,topic,evidence_query,count,supported_by\n".to_owned();
    for row in rows {
        csv_row(
            &mut out,
            &[row.framework, row.id, row.topic, &row.query, &row.entries.to_string(), row.supports],
        );
    }
    out
}

/// What an OSCAL file says besides the rows.
#[derive(Debug)]
pub(crate) struct Oscal<'a> {
    /// Seed of the ids: what makes this bundle this bundle.
    pub(crate) seed: &'a str,
    /// Title.
    pub(crate) title: &'a str,
    /// Origin of the log.
    pub(crate) origin: &'a str,
    /// Size of the checkpoint.
    pub(crate) size: &'a str,
    /// Time of the first and of the last entry.
    pub(crate) period: (&'a str, &'a str),
    /// SHA-256 of `events.jsonl`, hex.
    pub(crate) events_sha256: &'a str,
}

/// Writes OSCAL 1.2.1 assessment results: one observation for each SP 800-53 row, and no finding.
pub(crate) fn to_oscal(rows: &[Row], about: &Oscal<'_>) -> Value {
    const NS: &str = "urn:verdict:oscal";
    let id = |name: &str| uuid(about.seed, name);
    let (start, end) = about.period;
    let rows: Vec<_> = rows.iter().filter(|row| row.framework == NIST_53).collect();
    let controls: Vec<_> = rows.iter().map(|row| json!({"control-id": control_id(row.id)})).collect();
    let observations: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "uuid": id(row.id),
                "title": format!("{}: {}", row.id, row.topic),
                "description": format!(
                    "{} of this bundle match `{}`: {}. This supports the control; it does not say that it is satisfied.",
                    row.entries, row.query, row.supports
                ),
                "props": [{"name": "count", "ns": NS, "value": row.entries.to_string()}],
                "methods": ["EXAMINE"],
                "relevant-evidence": [{
                    "href": "../events.jsonl",
                    "description": "exact entries of the log, one a line",
                    "props": [{"name": "sha256", "ns": NS, "value": about.events_sha256}],
                }],
                "collected": end,
            })
        })
        .collect();
    json!({"assessment-results": {
        "uuid": id("assessment-results"),
        "metadata": {
            "title": about.title,
            "last-modified": end,
            "version": about.size,
            "oscal-version": "1.2.1",
            "props": [
                {"name": "checkpoint-origin", "ns": NS, "value": about.origin},
                {"name": "checkpoint-size", "ns": NS, "value": about.size},
            ],
        },
        "import-ap": {"href": format!("#{}", id("plan"))},
        "results": [{
            "uuid": id("result"),
            "title": "Entries of the decision log",
            "description": "Automated counts over exported log entries. Not an assessment of conformity.",
            "start": start,
            "end": end,
            "reviewed-controls": {"control-selections": [{"include-controls": controls}]},
            "observations": observations,
        }],
        "back-matter": {"resources": [{
            "uuid": id("plan"),
            "title": "No assessment plan: this is an automated export",
        }]},
    }})
}

/// `AU-9(3)` is `au-9.3` in the OSCAL catalogue.
fn control_id(id: &str) -> String {
    id.to_lowercase().replace('(', ".").replace(')', "")
}

/// Makes a name-based UUID (version 5 layout over SHA-256), so that equal bundles have equal ids.
fn uuid(seed: &str, name: &str) -> String {
    let digest: [u8; 32] =
        Sha256::new().chain_update(seed).chain_update([0]).chain_update(name).finalize().into();
    let mut bytes = [0u8; 16];
    bytes.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    let mut number = u128::from_be_bytes(bytes);
    number = (number & !(0xf << 76)) | (0x5 << 76);
    number = (number & !(0x3 << 62)) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_version_5_and_repeatable() {
        let id = uuid("seed", "name");
        assert_eq!(id, uuid("seed", "name"));
        assert_ne!(id, uuid("seed", "other"));
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "5");
        assert!("89ab".contains(&id[19..20]));
    }

    #[test]
    fn no_control_is_listed_twice_and_none_is_called_satisfied() {
        let mut seen = std::collections::BTreeSet::new();
        for control in CONTROLS {
            assert!(seen.insert((control.framework, control.id)), "{} {}", control.framework, control.id);
            assert!(!control.supports.contains("satisf"));
        }
        assert_eq!(control_id("AU-9(3)"), "au-9.3");
    }
}
