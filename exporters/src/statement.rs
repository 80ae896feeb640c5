//! What the exporter signs: an in-toto Statement v1 over every file, with a predicate that says what the bundle is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Statement type of in-toto.
pub(crate) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Type of [`Predicate`]. A URN, because a bundle must mean the same when no web server answers any more.
pub const PREDICATE_TYPE: &str = "urn:verdict:evidence-bundle:v1";

/// An in-toto Statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Statement {
    #[serde(rename = "_type")]
    pub(crate) type_: String,
    /// Every file but the manifests of tag files and the signatures themselves.
    pub(crate) subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    pub(crate) predicate_type: String,
    pub(crate) predicate: Predicate,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) digest: Sha256Hex,
}

/// A digest set with the one algorithm that bundles use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sha256Hex {
    pub(crate) sha256: String,
}

/// What an evidence bundle says about itself. Positions and sizes are decimal strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicate {
    /// Name of the bundle: the base directory in the archive.
    pub name: String,
    /// Program that made it.
    pub tool: Tool,
    /// Log that it comes from.
    pub origin: String,
    /// Checkpoint that everything is proven against.
    pub checkpoint: CheckpointRef,
    /// What was asked for.
    pub selection: SelectionRef,
    /// What is in it.
    pub counts: Counts,
    /// Positions of the entries that were in quarantine at the checkpoint. A strict contract held them back and nobody had
    /// released them: they are here because they are part of the log, and count for nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<String>,
    /// Policy bundles that the decisions name or that were in force.
    pub policies: Vec<PolicyInForce>,
    /// SHA-256 of the compressed bytes of every deflated file, so that nothing unsigned is ever inflated.
    pub deflated: BTreeMap<String, String>,
}

/// Program and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
}

/// Names a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointRef {
    /// Tree size, decimal.
    pub size: String,
    /// Root, base64 as in the checkpoint.
    pub root: String,
}

/// What a bundle was asked to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum SelectionRef {
    /// Every entry of a range; nothing in between can be missing.
    Range {
        /// First position.
        first: String,
        /// Last position.
        last: String,
    },
    /// The events of one trace and the policy entries that they depend on. Proves each, not that there are no others.
    Trace {
        /// Trace id, hex.
        trace_id: String,
    },
}

/// Counts that a verifier recomputes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Entries.
    pub entries: u64,
    /// Values disclosed.
    pub disclosures: u64,
    /// Values that entries commit to and the bundle does not hold.
    pub redactions: u64,
    /// Entries in quarantine.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub quarantined: u64,
    /// Entries by type, without those in quarantine.
    pub by_type: BTreeMap<String, u64>,
    /// Recorded decisions by effect, without those in quarantine.
    pub by_effect: BTreeMap<String, u64>,
}

/// For serde: absent in a bundle without quarantine, as in those from before there was one.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A policy bundle and whether its files are here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyInForce {
    /// Digest, `sha256:<hex>`.
    pub digest: String,
    /// Name, when the ledger knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Version label, when the ledger knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Recorded decisions in this bundle that name it.
    pub decisions: u64,
    /// Whether its files are under `data/policy/`.
    pub included: bool,
}
