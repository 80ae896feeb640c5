//! What a bundle is made of, taken from a ledger. The only part of an export that reads one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use verdict_ledger::contract::Quarantine;
use verdict_ledger::id::{Digest, TraceId};
use verdict_ledger::merkle::Hash;
use verdict_ledger::note::{Checkpoint, NoteError, SignedNote};
use verdict_ledger::{Ledger, LedgerError};
use verdict_replay::policy::{Bundle, Policy};
use verdict_replay::run::{Run, Scope, replay};

use super::facts::{self, Facts};
use super::history::{self, HistoryEntry};
use super::policies::{self, POLICY_KINDS};

/// What to export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The events of a trace, and the entries about the policies that ruled in it.
    Trace(TraceId),
    /// Every entry of a range of positions.
    Range(Range<u64>),
}

/// Why there is nothing to export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaterialError {
    /// The ledger cannot be read.
    #[error("cannot read the ledger")]
    Ledger(#[from] LedgerError),
    /// The ledger has not signed anything yet.
    #[error("the ledger has no checkpoint{}; let it sign one first (`verdict checkpoint`)", at_size(*.size))]
    NoCheckpoint {
        /// Size that was asked for.
        size: Option<u64>,
    },
    /// A checkpoint of the ledger does not parse.
    #[error("the checkpoint of the ledger cannot be read")]
    Checkpoint(#[source] NoteError),
    /// The range is not below the checkpoint.
    #[error(
        "entries {first} to {end} (exclusive) are not a range of the {size} entries that the checkpoint covers"
    )]
    Range {
        /// First position.
        first: u64,
        /// One past the last position.
        end: u64,
        /// Size of the checkpoint.
        size: u64,
    },
    /// No event of the trace below the checkpoint.
    #[error("no event of trace {trace} among the {size} entries that the checkpoint covers")]
    Trace {
        /// The trace.
        trace: TraceId,
        /// Size of the checkpoint.
        size: u64,
    },
    /// The store has no entry at a position below the checkpoint.
    #[error("entry {seq} is missing in the ledger; run `verdict verify`")]
    Missing {
        /// Position.
        seq: u64,
    },
    /// An entry cannot be read.
    #[error("entry {seq} of the ledger cannot be read: {detail}; run `verdict verify`")]
    Entry {
        /// Position.
        seq: u64,
        /// What is wrong.
        detail: String,
    },
}

fn at_size(size: Option<u64>) -> String {
    size.map(|size| format!(" of size {size}")).unwrap_or_default()
}

/// A policy bundle that decisions name or that was published in the selection.
#[derive(Debug, Clone)]
pub struct PolicyMaterial {
    /// Digest.
    pub digest: Digest,
    /// Name, when the ledger knows it.
    pub name: Option<String>,
    /// Version label, when the ledger knows it.
    pub version: Option<String>,
    /// Files as published; `None` when the ledger does not hold them.
    pub files: Option<BTreeMap<String, Vec<u8>>>,
}

/// Decisions re-evaluated under the bundle that they name.
#[derive(Debug, Clone)]
pub struct Reevaluation {
    /// Bundle.
    pub digest: Digest,
    /// Result, or why there is none.
    pub run: Result<Run, String>,
}

/// Everything that a bundle is made of; [`super::build`] is a function of it and of the options alone.
#[derive(Debug, Clone)]
pub struct Material {
    /// What was asked for.
    pub selection: Selection,
    /// Signed checkpoint that everything is proven against.
    pub checkpoint: String,
    /// Verifier key of the log.
    pub log_key: String,
    /// Exact bytes of the entries, by position.
    pub entries: BTreeMap<u64, Vec<u8>>,
    /// Positions among them that are in quarantine at the checkpoint.
    pub quarantined: BTreeSet<u64>,
    /// Inclusion proofs: of every entry of a trace, of the first and last of a range.
    pub proofs: BTreeMap<u64, Vec<Hash>>,
    /// Disclosures that the ledger still holds, by position.
    pub disclosures: BTreeMap<u64, Vec<String>>,
    /// Policies, by digest.
    pub policies: Vec<PolicyMaterial>,
    /// Entries about keys below the checkpoint.
    pub history: Vec<HistoryEntry>,
    /// Replays, by digest of the bundle.
    pub reevaluations: Vec<Reevaluation>,
}

impl Material {
    /// Reads a selection below a checkpoint: that of `size` entries, or the newest.
    pub fn collect(ledger: &Ledger, selection: &Selection, size: Option<u64>) -> Result<Self, MaterialError> {
        let note = match size {
            Some(size) => ledger.checkpoint_at(size)?,
            None => ledger.checkpoint()?,
        };
        let note = note.ok_or(MaterialError::NoCheckpoint { size })?;
        let checkpoint = SignedNote::parse(&note)
            .and_then(|note| Checkpoint::from_text(&note.text))
            .map_err(MaterialError::Checkpoint)?;
        let mut facts = BTreeMap::new();
        let mut entries = select(ledger, selection, checkpoint.size, &mut facts)?;
        let policies = policies_of(ledger, selection, &checkpoint, &mut entries, &mut facts)?;

        let edges = [entries.keys().next().copied(), entries.keys().next_back().copied()];
        let proven: BTreeSet<u64> = match selection {
            Selection::Range(_) => edges.into_iter().flatten().collect(),
            Selection::Trace(_) => entries.keys().copied().collect(),
        };
        let mut proofs = BTreeMap::new();
        for seq in proven {
            proofs.insert(seq, ledger.inclusion_proof(seq, checkpoint.size)?);
        }
        let mut disclosures = BTreeMap::new();
        for seq in entries.keys() {
            let mut given = ledger.disclosures(*seq)?;
            if !given.is_empty() {
                // The order in which the store returns them is nobody's business; the bytes of a bundle are.
                given.sort();
                disclosures.insert(*seq, given);
            }
        }
        let quarantine = Quarantine::read(ledger, checkpoint.size)?;
        let quarantined: BTreeSet<u64> =
            entries.keys().copied().filter(|seq| quarantine.holds_event(*seq)).collect();
        let mut facts: Vec<Facts> = facts.into_values().collect();
        facts::mark(&mut facts, &quarantined);
        let reevaluations = reevaluate(ledger, selection, &checkpoint, &policies, &facts);
        Ok(Self {
            selection: selection.clone(),
            checkpoint: note,
            log_key: ledger.authority().log_key_at(checkpoint.size).to_string(),
            entries,
            quarantined,
            proofs,
            disclosures,
            policies,
            history: history::collect(ledger, checkpoint.size)?,
            reevaluations,
        })
    }
}

fn select(
    ledger: &Ledger,
    selection: &Selection,
    size: u64,
    facts: &mut BTreeMap<u64, Facts>,
) -> Result<BTreeMap<u64, Vec<u8>>, MaterialError> {
    let mut entries = BTreeMap::new();
    match selection {
        Selection::Range(range) => {
            let &Range { start: first, end } = range;
            if first >= end || end > size {
                return Err(MaterialError::Range { first, end, size });
            }
            for item in ledger.entries(first..end) {
                let (seq, entry) = item?;
                entries.insert(seq, entry);
            }
            if let Some(seq) = (first..end).find(|seq| !entries.contains_key(seq)) {
                return Err(MaterialError::Missing { seq });
            }
        }
        Selection::Trace(trace) => {
            for seq in ledger.trace_seqs(trace)?.into_iter().filter(|seq| *seq < size) {
                entries.insert(seq, ledger.entry(seq)?.ok_or(MaterialError::Missing { seq })?);
            }
            if entries.is_empty() {
                return Err(MaterialError::Trace { trace: *trace, size });
            }
        }
    }
    for (seq, entry) in &entries {
        facts.insert(*seq, read(*seq, entry)?);
    }
    Ok(entries)
}

fn read(seq: u64, entry: &[u8]) -> Result<Facts, MaterialError> {
    Facts::read(entry).map_err(|detail| MaterialError::Entry { seq, detail })
}

/// Finds the policies that matter to a selection. A trace also gets the entries that published and activated them,
/// so that an auditor sees that the digest was known to the log.
fn policies_of(
    ledger: &Ledger,
    selection: &Selection,
    checkpoint: &Checkpoint,
    entries: &mut BTreeMap<u64, Vec<u8>>,
    facts: &mut BTreeMap<u64, Facts>,
) -> Result<Vec<PolicyMaterial>, MaterialError> {
    let mut wanted: BTreeSet<Digest> =
        facts.values().filter_map(Facts::policy).filter_map(|digest| digest.parse().ok()).collect();
    wanted.extend(facts.values().filter_map(policies::subject_of));
    let mut found: BTreeMap<Digest, PolicyMaterial> = wanted
        .iter()
        .map(|digest| (*digest, PolicyMaterial { digest: *digest, name: None, version: None, files: None }))
        .collect();
    for kind in POLICY_KINDS {
        for seq in ledger.find_kind(kind)?.into_iter().filter(|seq| *seq < checkpoint.size) {
            let entry = ledger.entry(seq)?.ok_or(MaterialError::Missing { seq })?;
            let fact = read(seq, &entry)?;
            let Some(policy) = policies::subject_of(&fact).and_then(|digest| found.get_mut(&digest)) else {
                continue;
            };
            policy.name = policy.name.take().or_else(|| fact.text("/name").map(str::to_owned));
            policy.version = policy.version.take().or_else(|| fact.text("/version").map(str::to_owned));
            if policy.files.is_none() {
                let archive = fact.text("/archive").and_then(|digest| digest.parse().ok());
                let bytes = archive.map(|digest: Digest| ledger.blob(&digest)).transpose()?.flatten();
                let bundle = bytes.and_then(|bytes| Bundle::from_archive(&bytes).ok());
                let bundle = bundle.filter(|bundle| bundle.digest() == policy.digest);
                policy.files = bundle.map(|bundle| bundle.files().clone());
            }
            if matches!(selection, Selection::Trace(_)) {
                entries.insert(seq, entry);
                facts.insert(seq, fact);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Replays what the decisions of a selection can be replayed under: the bundles that they name and that are here.
fn reevaluate(
    ledger: &Ledger,
    selection: &Selection,
    checkpoint: &Checkpoint,
    policies: &[PolicyMaterial],
    facts: &[Facts],
) -> Vec<Reevaluation> {
    let decisions = facts::decisions_by_policy(facts);
    let scope = match selection {
        Selection::Range(range) => {
            Scope { first_seq: Some(range.start), end_seq: Some(range.end), ..Scope::default() }
        }
        Selection::Trace(trace) => {
            Scope { end_seq: Some(checkpoint.size), trace: Some(*trace), ..Scope::default() }
        }
    };
    let named = |policy: &&PolicyMaterial| decisions.contains_key(&policy.digest.to_string());
    let run = |files: &BTreeMap<String, Vec<u8>>| -> Result<Run, String> {
        let bundle = Bundle::from_files(files.clone()).map_err(|error| error.to_string())?;
        let policy = Policy::compile(bundle).map_err(|error| error.to_string())?;
        replay(ledger, &scope, &policy, &mut |_, _| {}).map_err(|error| error.to_string())
    };
    policies
        .iter()
        .filter(named)
        .filter_map(|policy| Some(Reevaluation { digest: policy.digest, run: run(policy.files.as_ref()?) }))
        .collect()
}
