//! The checks of what a bundle says, given that its files are those that were signed. The exporter runs the same
//! checks over what it is about to sign.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use verdict_ledger::disclosure::{self, Disclosure};
use verdict_ledger::merkle::{self, Hash};
use verdict_ledger::note::{Checkpoint, SignedNote, TlogProof};

use super::check::{Checked, Checks, Fault};
use super::facts::{self, Facts};
use super::history::{self, HISTORY, History};
use super::proof::range_root;
use super::verify::VerifierKeys;
use super::{policies, redaction};
use crate::statement::{Predicate, SelectionRef};

/// Files by path below the base directory.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) const EVENTS: &str = "data/events.jsonl";
pub(crate) const DISCLOSURES: &str = "data/disclosures.jsonl";
pub(crate) const INDEX: &str = "data/index.csv";
pub(crate) const REDACTIONS: &str = "data/redactions.csv";
pub(crate) const CHECKPOINT: &str = "data/log/checkpoint";
pub(crate) const PROOFS: &str = "data/proofs/";

/// One line of `data/disclosures.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DisclosureLine {
    /// Position, decimal.
    pub(crate) seq: String,
    /// RFC 9901 disclosure, base64url.
    pub(crate) d: String,
}

/// Returns the path of an entry's proof.
pub(crate) fn proof_path(seq: u64) -> String {
    format!("{PROOFS}{seq}.tlog-proof")
}

/// What the checks look at. Files that are known to be damaged are not among `files`.
pub(crate) struct Content<'a> {
    pub(crate) files: &'a Files,
    pub(crate) predicate: &'a Predicate,
    pub(crate) keys: &'a VerifierKeys,
}

/// What a bundle says about its log: the checkpoint that it claims, and the keys that it proves against it.
pub(crate) struct LogChecks {
    /// `None` in bundles from before there was a history; then only the keys that are given count.
    pub(crate) history: Result<(Option<History>, String), Fault>,
    /// The checkpoint, if the verifier's keys lead to the one that signed it.
    pub(crate) checkpoint: Result<(Checkpoint, String), Fault>,
}

impl Content<'_> {
    /// Runs every check; each that needs a missing or failed part says so.
    pub(crate) fn check(&self, log: LogChecks, checks: &mut Checks) {
        let history = checks.record("keys", log.history);
        let checkpoint = checks.record("checkpoint", log.checkpoint);
        let facts = checks.record("entries", self.entries(history.flatten().as_ref()));
        checks.record("inclusion", self.inclusion(checkpoint.as_ref(), facts.as_deref()));
        let disclosed = checks.record("disclosures", self.disclosures(facts.as_deref()));
        checks.record("redactions", self.redactions(disclosed.as_ref()));
        checks.record("index", self.index(facts.as_deref()));
        checks.record("policies", policies::check(self.files, self.predicate, facts.as_deref()));
        checks.record("counts", self.counts(facts.as_deref(), disclosed.as_ref()));
    }

    fn file(&self, name: &str) -> Result<&[u8], Fault> {
        let bytes = self.files.get(name).map(Vec::as_slice);
        bytes.ok_or_else(|| Fault::not_run(format!("{name} is missing or damaged")))
    }

    fn text(&self, name: &str) -> Result<&str, Fault> {
        std::str::from_utf8(self.file(name)?).map_err(|_| Fault::failed(name, "is not UTF-8"))
    }

    /// Checks what the log signed, before anything that rests on it.
    pub(crate) fn check_log(&self) -> LogChecks {
        let claimed = self.claimed();
        let history = claimed.clone().and_then(|claimed| {
            // One that was signed and is not here has failed the check `files` already.
            if !self.files.contains_key(HISTORY) {
                return Ok((
                    None,
                    "none in this bundle: the keys that are given are all that counts".to_owned(),
                ));
            }
            let (history, detail) = History::read(self.text(HISTORY)?, &claimed)?;
            Ok((Some(history), detail))
        });
        let checkpoint = claimed.and_then(|claimed| self.checkpoint(claimed, history.as_ref().ok()));
        LogChecks { history, checkpoint }
    }

    /// The checkpoint is the one that the statement names.
    fn claimed(&self) -> Result<Checkpoint, Fault> {
        let text = self.text(CHECKPOINT)?;
        let note = SignedNote::parse(text).map_err(|error| Fault::failed(CHECKPOINT, error.to_string()))?;
        let claimed = Checkpoint::from_text(&note.text)
            .map_err(|error| Fault::failed(CHECKPOINT, error.to_string()))?;
        let named = &self.predicate.checkpoint;
        if claimed.origin != self.predicate.origin
            || claimed.size.to_string() != named.size
            || STANDARD.encode(claimed.root.0) != named.root
        {
            return Err(Fault::failed(CHECKPOINT, "is not the checkpoint that the signed statement names"));
        }
        Ok(claimed)
    }

    /// The checkpoint is signed by the key of its time, to which a key that the verifier gave leads.
    fn checkpoint(
        &self,
        claimed: Checkpoint,
        history: Option<&(Option<History>, String)>,
    ) -> Result<(Checkpoint, String), Fault> {
        if self.keys.log.is_empty() {
            return Err(Fault::not_run(
                "no log key was given, so nothing says that the log made this checkpoint",
            ));
        }
        let note = self.text(CHECKPOINT)?;
        let (history, _) = needs(history, "keys")?;
        let detail = match history {
            Some(history) => history.trust(note, &claimed, self.keys)?,
            None => history::trust_directly(note, &claimed, self.keys)?,
        };
        Ok((claimed, detail))
    }

    /// Every line is an entry of this log, in order, and of the selection.
    fn entries(&self, history: Option<&History>) -> Result<(Vec<Facts>, String), Fault> {
        let bytes = self.file(EVENTS)?;
        let fail = |line: usize, why: String| Fault::failed(EVENTS, format!("line {line}: {why}"));
        let Some(lines) = bytes.strip_suffix(b"\n") else {
            return Err(Fault::failed(EVENTS, "does not end with a newline"));
        };
        let mut all: Vec<Facts> = Vec::new();
        for (number, line) in lines.split(|byte| *byte == b'\n').enumerate() {
            let number = number + 1;
            let entry = Facts::read(line).map_err(|why| fail(number, why))?;
            let seq = entry.seq;
            if all.last().is_some_and(|last| last.seq >= seq) {
                return Err(fail(number, format!("entry {seq} is out of order")).at(seq));
            }
            // Before a restore the log had another origin.
            let origin = history.map_or(&*self.predicate.origin, |h| h.authority.origin_of_entry(seq));
            if entry.origin != origin {
                return Err(fail(number, format!("entry {seq} is of another log")).at(seq));
            }
            all.push(entry);
        }
        self.matches_selection(&all)?;
        let held = self.quarantined(&all)?;
        facts::mark(&mut all, &held);
        let mut detail = format!("{} entries, in order, of one log", all.len());
        if !held.is_empty() {
            detail.push_str(&format!(", {} of them in quarantine", held.len()));
        }
        Ok((all, detail))
    }

    /// Reads which of the entries the statement says are in quarantine.
    fn quarantined(&self, facts: &[Facts]) -> Result<BTreeSet<u64>, Fault> {
        let here: BTreeSet<u64> = facts.iter().map(|entry| entry.seq).collect();
        let mut held = BTreeSet::new();
        for text in &self.predicate.quarantined {
            let seq = text.parse().ok().filter(|seq| here.contains(seq) && held.last() < Some(seq));
            let Some(seq) = seq else {
                let detail = format!(
                    "`{}` is said to be in quarantine and is no entry of this bundle, or out of order",
                    text.escape_default()
                );
                return Err(Fault::failed("signature.dsse.json", detail));
            };
            held.insert(seq);
        }
        Ok(held)
    }

    fn matches_selection(&self, facts: &[Facts]) -> Result<(), Fault> {
        match &self.predicate.selection {
            SelectionRef::Range { first, last } => {
                let bounds = first.parse::<u64>().ok().zip(last.parse::<u64>().ok());
                let (first, last) = bounds.filter(|(first, last)| first <= last).ok_or_else(|| {
                    Fault::failed("signature.dsse.json", "the range of the selection is not one")
                })?;
                let gap = facts.iter().zip(first..=last).find(|(entry, want)| entry.seq != *want);
                if let Some((entry, want)) = gap {
                    let detail = format!("entry {want} is missing before entry {}", entry.seq);
                    return Err(Fault::failed(EVENTS, detail).at(want));
                }
                if facts.len() as u64 != (last - first).saturating_add(1) {
                    let next = first + facts.len() as u64;
                    return Err(Fault::failed(EVENTS, format!("the range ends before entry {next}")).at(next));
                }
            }
            SelectionRef::Trace { trace_id } => {
                let foreign = facts.iter().find(|entry| {
                    entry.text("/trace_id") != Some(trace_id) && !policies::is_policy_entry(entry)
                });
                if let Some(entry) = foreign {
                    let detail = format!("entry {} is not of trace {trace_id}", entry.seq);
                    return Err(Fault::failed(EVENTS, detail).at(entry.seq));
                }
            }
        }
        Ok(())
    }

    /// Every entry is in the tree that the checkpoint signs; a range is complete.
    fn inclusion(&self, checkpoint: Option<&Checkpoint>, facts: Option<&[Facts]>) -> Checked {
        // Without the log's signature the proofs still hold against the root that the exporter signed.
        let claimed;
        let checkpoint = if let Some(checkpoint) = checkpoint {
            checkpoint
        } else {
            let note = SignedNote::parse(self.text(CHECKPOINT)?);
            claimed = note.and_then(|note| Checkpoint::from_text(&note.text));
            claimed.as_ref().map_err(|error| Fault::failed(CHECKPOINT, error.to_string()))?
        };
        let facts = needs(facts, "entries")?;
        let wanted: BTreeSet<u64> = match self.predicate.selection {
            SelectionRef::Range { .. } => {
                [facts.first(), facts.last()].into_iter().flatten().map(|e| e.seq).collect()
            }
            SelectionRef::Trace { .. } => facts.iter().map(|entry| entry.seq).collect(),
        };
        let mut proofs = BTreeMap::new();
        for seq in &wanted {
            proofs.insert(*seq, self.proof(*seq, checkpoint)?);
        }
        if let Some(extra) = self.files.keys().find(|name| {
            name.strip_prefix(PROOFS).is_some_and(|rest| {
                !rest
                    .strip_suffix(".tlog-proof")
                    .and_then(|seq| seq.parse().ok())
                    .is_some_and(|seq| wanted.contains(&seq))
            })
        }) {
            return Err(Fault::failed(extra, "is a proof of nothing in this bundle"));
        }
        for entry in facts {
            let Some(proof) = proofs.get(&entry.seq) else { continue };
            merkle::verify_inclusion(entry.seq, checkpoint.size, &entry.leaf, proof, &checkpoint.root)
                .map_err(|error| {
                    Fault::failed(EVENTS, format!("entry {}: {error}", entry.seq)).at(entry.seq)
                })?;
        }
        let n = facts.len();
        if let (SelectionRef::Trace { .. }, _) | (_, None) = (&self.predicate.selection, facts.first()) {
            return Ok(((), format!("{n} inclusion proofs lead to the root of the checkpoint")));
        }
        let edge = |entry: Option<&Facts>| {
            entry.and_then(|entry| proofs.get(&entry.seq)).map_or(&[][..], Vec::as_slice)
        };
        let first = facts.first().map_or(0, |entry| entry.seq);
        let leaves: Vec<Hash> = facts.iter().map(|entry| entry.leaf).collect();
        let root = range_root(first, &leaves, checkpoint.size, edge(facts.first()), edge(facts.last()))
            .map_err(|error| Fault::failed(EVENTS, error.to_string()))?;
        if root != checkpoint.root {
            let detail =
                "the entries between the first and the last do not lead to the root of the checkpoint";
            return Err(Fault::failed(EVENTS, detail));
        }
        Ok(((), format!("{n} entries without a gap lead to the root of the checkpoint")))
    }

    fn proof(&self, seq: u64, checkpoint: &Checkpoint) -> Result<Vec<Hash>, Fault> {
        let path = proof_path(seq);
        let text = self.text(&path)?;
        let fail = |why: &str| Fault::failed(&path, why).at(seq);
        let proof = TlogProof::parse(text).map_err(|error| fail(&error.to_string()))?;
        if proof.to_string() != text {
            return Err(fail("is not written as a tlog-proof is"));
        }
        if proof.index != seq {
            return Err(fail(&format!("proves entry {}", proof.index)));
        }
        if Some(proof.checkpoint.as_bytes()) != self.files.get(CHECKPOINT).map(Vec::as_slice) {
            return Err(fail(&format!(
                "is against another checkpoint than that of {} entries",
                checkpoint.size
            )));
        }
        Ok(proof.hashes)
    }

    /// Every disclosure is one that its entry commits to.
    fn disclosures(&self, facts: Option<&[Facts]>) -> Result<(Disclosed, String), Fault> {
        let facts = needs(facts, "entries")?;
        let mut by_seq: BTreeMap<u64, Vec<Disclosure>> = BTreeMap::new();
        let mut last = None;
        for (number, line) in self.text(DISCLOSURES)?.lines().enumerate() {
            let (seq, disclosure) = read_disclosure(line)
                .map_err(|why| Fault::failed(DISCLOSURES, format!("line {}: {why}", number + 1)).at(last))?;
            if last.is_some_and(|last| seq < last) {
                return Err(Fault::failed(DISCLOSURES, format!("line {}: out of order", number + 1)).at(seq));
            }
            last = Some(seq);
            by_seq.entry(seq).or_default().push(disclosure);
        }
        let mut disclosed = Disclosed::default();
        for entry in facts {
            let given = by_seq.remove(&entry.seq).unwrap_or_default();
            let body = entry.body.as_object().cloned().unwrap_or_default();
            let fail =
                |why: String| Fault::failed(DISCLOSURES, format!("entry {}: {why}", entry.seq)).at(entry.seq);
            let withheld = merge(body, &given).map_err(fail)?;
            disclosed.given += given.len() as u64;
            disclosed.withheld.extend(withheld.into_iter().map(|member| (entry.seq, member)));
        }
        if let Some(seq) = by_seq.keys().next() {
            let detail = format!("discloses values of entry {seq}, which is not in this bundle");
            return Err(Fault::failed(DISCLOSURES, detail).at(*seq));
        }
        let detail = format!("{} values match the digests in their entries", disclosed.given);
        Ok((disclosed, detail))
    }

    /// `redactions.csv` lists exactly what the entries commit to and the bundle does not hold.
    fn redactions(&self, disclosed: Option<&Disclosed>) -> Checked {
        let disclosed = needs(disclosed, "disclosures")?;
        let listed = redaction::parse(self.text(REDACTIONS)?)
            .map_err(|line| Fault::failed(REDACTIONS, format!("line {line} is not a redaction")))?;
        let differs = |pair: &&(u64, String)| !listed.contains(*pair) || !disclosed.withheld.contains(*pair);
        if let Some((seq, member)) = listed.union(&disclosed.withheld).find(differs) {
            let detail = format!(
                "entry {seq}: `{}` is listed but not withheld, or the reverse",
                member.escape_default()
            );
            return Err(Fault::failed(REDACTIONS, detail).at(*seq));
        }
        Ok(((), format!("{} withheld or erased values, each listed", listed.len())))
    }

    /// `index.csv` is what the entries say.
    fn index(&self, facts: Option<&[Facts]>) -> Checked {
        let facts = needs(facts, "entries")?;
        let want = facts::index_csv(facts);
        let got = self.text(INDEX)?;
        if got == want {
            return Ok(((), format!("{} rows are what the entries say", facts.len())));
        }
        let line = want.lines().zip(got.lines()).take_while(|(a, b)| a == b).count();
        let seq = line.checked_sub(1).and_then(|row| facts.get(row)).map(|entry| entry.seq);
        Err(Fault::failed(INDEX, format!("line {}: not what the entries say", line + 1)).at(seq))
    }

    /// The counts that the exporter signed are those of the content.
    fn counts(&self, facts: Option<&[Facts]>, disclosed: Option<&Disclosed>) -> Checked {
        let disclosed = needs(disclosed, "disclosures")?;
        let counts = facts::count(needs(facts, "entries")?, disclosed.given, disclosed.withheld.len() as u64);
        if counts != self.predicate.counts {
            return Err(Fault::failed(
                "signature.dsse.json",
                "the signed counts are not those of the content",
            ));
        }
        Ok(((), "the signed counts are those of the content".to_owned()))
    }
}

/// What the disclosures add up to.
#[derive(Debug, Default)]
pub(crate) struct Disclosed {
    given: u64,
    withheld: BTreeSet<(u64, String)>,
}

/// Reads one line of `disclosures.jsonl`.
pub(crate) fn read_disclosure(line: &str) -> Result<(u64, Disclosure), String> {
    let line: DisclosureLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let seq = line.seq.parse().map_err(|_| "`seq` is not a position".to_owned())?;
    Ok((seq, Disclosure::parse(&line.d).map_err(|error| error.to_string())?))
}

/// Puts disclosures in place and returns the JSON pointers of what is missing. A disclosure that the entry does
/// not commit to is an error: a verifier that ignores it would show forged values beside a valid proof.
pub(crate) fn merge(body: Map<String, Value>, given: &[Disclosure]) -> Result<Vec<String>, String> {
    let committed = disclosure::committed(&body).len();
    let merged = disclosure::merge(body, given).map_err(|error| error.to_string())?;
    if merged.withheld.len() + given.len() != committed {
        return Err("its list of disclosed members and its digests do not agree".to_owned());
    }
    Ok(merged.withheld)
}

fn needs<'a, T: ?Sized>(part: Option<&'a T>, name: &str) -> Result<&'a T, Fault> {
    part.ok_or_else(|| Fault::not_run(format!("needs the check `{name}`, which did not pass")))
}
