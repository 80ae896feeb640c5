//! What an erasure would take, without taking it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::{Map, Value};

use super::hold::Holds;
use super::selection::{Scope, Selection};
use super::{ErasureError, Parsed};
use crate::contract::CONTRACT_ACTIVATED;
use crate::disclosure::{self, Hidden};
use crate::id::Digest;
use crate::pricing::registry::PRICING_ACTIVATED;
use crate::store::Ledger;
use crate::store::error::LedgerError;
use crate::store::families::{self, family};

/// Entry type whose `archive` is a raw body that no erasure may take: past decisions run again from it.
const POLICY_PUBLISHED: &str = "policy.published";

/// What starts the digest of the raw body in the bytes of an entry.
const RAW: &[u8] = b"\"raw\":\"sha256:";

/// One value that goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PlannedMember {
    /// Where it stands, as JSON pointer.
    pub pointer: String,
    /// `_sd` digest by which the entry commits to it.
    pub digest: String,
    /// Length of the canonical value.
    pub bytes: u64,
}

/// What goes of one entry.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PlannedEntry {
    /// Position.
    pub seq: u64,
    /// Entry type.
    pub kind: String,
    /// Values.
    pub members: Vec<PlannedMember>,
    /// The raw body that it came in, when that is still there: it holds everything.
    pub body: Option<Digest>,
}

/// A raw body that goes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PlannedBody {
    /// Digest.
    pub digest: Digest,
    /// Bytes as stored.
    pub bytes: u64,
    /// Selected entries that came in it.
    pub entries: Vec<u64>,
    /// Entries that were not selected, came in it too, and lose it.
    pub others: Vec<u64>,
}

/// What a hold keeps.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Held {
    /// Selected entry that is left as it is.
    pub seq: u64,
    /// Hold.
    pub hold: String,
    /// Matter of the hold.
    pub matter: String,
    /// Set when the hold is on another entry from this same raw body: erasing the values and leaving a copy of them
    /// in the body would be no erasure.
    pub body: Option<Digest>,
}

/// What an erasure would take.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ErasurePlan {
    /// Size of the log that was looked at; later entries are not selected.
    pub size: u64,
    /// What was asked for, as the log would state it.
    pub scope: Scope,
    /// Entries of which something goes.
    pub entries: Vec<PlannedEntry>,
    /// Raw bodies that go.
    pub bodies: Vec<PlannedBody>,
    /// What holds keep.
    pub held: Vec<Held>,
    /// Selected entries that have nothing left to erase.
    pub nothing_left: u64,
}

impl ErasurePlan {
    /// Counts values and their bytes.
    pub fn values(&self) -> (u64, u64) {
        let members = self.entries.iter().flat_map(|entry| &entry.members);
        members.fold((0, 0), |(count, bytes), member| (count + 1, bytes + member.bytes))
    }

    /// Counts values by member.
    pub fn by_member(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for member in self.entries.iter().flat_map(|entry| &entry.members) {
            *counts.entry(member.pointer.clone()).or_default() += 1;
        }
        counts
    }
}

impl Ledger {
    /// Says what an erasure would take and what holds would keep, and changes nothing.
    pub fn plan_erasure(&self, selection: &Selection, now_ns: u64) -> Result<ErasurePlan, ErasureError> {
        let scope = selection.resolve(self)?;
        let size = self.head().size;
        let seqs = scope.positions(self, 0..size)?;
        plan(self, scope, &seqs, now_ns).map(|(plan, _)| plan)
    }
}

/// Plans for these entries.
pub(super) fn plan(
    ledger: &Ledger,
    scope: Scope,
    seqs: &[u64],
    now_ns: u64,
) -> Result<(ErasurePlan, Bodies), ErasureError> {
    let size = ledger.head().size;
    let mut bodies = Bodies::of(ledger)?;
    let gathered = gather(ledger, &scope, seqs, &mut bodies)?;
    if let Some(field) = scope.fields().iter().find(|field| !gathered.had.contains(*field)) {
        return Err(ErasureError::NoField {
            field: field.clone(),
            have: gathered.had.iter().cloned().collect(),
        });
    }
    bodies.share(ledger, &gathered.entries)?;
    let (entries, held) = Holds::active(ledger, now_ns)?.split(ledger, gathered.entries, &bodies)?;
    let mut going: BTreeMap<Digest, Vec<u64>> = BTreeMap::new();
    for entry in &entries {
        if let Some(digest) = entry.body {
            going.entry(digest).or_default().push(entry.seq);
        }
    }
    let planned = going.into_iter().map(|(digest, entries)| {
        let others =
            bodies.named_by(&digest).iter().copied().filter(|seq| entries.binary_search(seq).is_err());
        PlannedBody { bytes: bodies.bytes(&digest), others: others.collect(), entries, digest }
    });
    let planned = planned.collect();
    let plan =
        ErasurePlan { size, scope, entries, bodies: planned, held, nothing_left: gathered.nothing_left };
    Ok((plan, bodies))
}

/// What selected entries still have.
pub(super) struct Gathered {
    pub(super) entries: Vec<PlannedEntry>,
    /// Members that the entries have or had.
    had: BTreeSet<String>,
    nothing_left: u64,
}

/// Looks at entries for what of them is in a scope and still there.
pub(super) fn gather(
    ledger: &Ledger,
    scope: &Scope,
    seqs: &[u64],
    bodies: &mut Bodies,
) -> Result<Gathered, ErasureError> {
    let mut gathered = Gathered { entries: Vec::new(), had: BTreeSet::new(), nothing_left: 0 };
    for seq in seqs {
        let parsed = Parsed::read(ledger, *seq)?;
        let listed = parsed.body.get(disclosure::MEMBERS).and_then(Value::as_array);
        let listed: Vec<&str> = listed.into_iter().flatten().filter_map(Value::as_str).collect();
        gathered.had.extend(listed.iter().map(|pointer| (*pointer).to_owned()));
        // A raw body holds every member, so it goes with any of them; a member that the entry never had is in none.
        let meant = scope.fields().is_empty() || listed.iter().any(|pointer| scope.has_field(pointer));
        let hidden = if meant { ledger.hidden(*seq)? } else { None };
        let members = hidden.iter().flat_map(Hidden::members).filter_map(|member| {
            let pointer = member.place.pointer();
            scope.has_field(&pointer).then(|| PlannedMember {
                digest: disclosure::digest(&member.encoded()),
                bytes: member.value.len() as u64,
                pointer,
            })
        });
        let members: Vec<PlannedMember> = members.collect();
        let body = match parsed.raw().filter(|_| meant) {
            Some(digest) if bodies.is_erasable(ledger, &digest)? => Some(digest),
            _ => None,
        };
        if members.is_empty() && body.is_none() {
            gathered.nothing_left += 1;
        } else {
            gathered.entries.push(PlannedEntry { seq: *seq, kind: parsed.kind, members, body });
        }
    }
    Ok(gathered)
}

/// Raw bodies, and which entries came in which.
pub(super) struct Bodies {
    /// Archives of policies.
    archives: BTreeSet<Digest>,
    /// Stored length of those that were looked for and are there.
    stored: BTreeMap<Digest, u64>,
    /// Entries that name a body, as far as `seen`.
    named: BTreeMap<Digest, Vec<u64>>,
    seen: u64,
}

impl Bodies {
    pub(super) fn of(ledger: &Ledger) -> Result<Self, LedgerError> {
        let mut archives = BTreeSet::new();
        // What was decided and priced by these must stay computable.
        for kind in [POLICY_PUBLISHED, PRICING_ACTIVATED, CONTRACT_ACTIVATED] {
            for seq in ledger.find_kind(kind)? {
                let parsed = Parsed::read(ledger, seq)?;
                archives.extend(parsed.text("archive").and_then(|digest| digest.parse::<Digest>().ok()));
            }
        }
        Ok(Self { archives, stored: BTreeMap::new(), named: BTreeMap::new(), seen: 0 })
    }

    /// Forgets which bodies are there, before they are looked for again.
    pub(super) fn look_again(&mut self) {
        self.stored.clear();
    }

    /// Tells whether a body is there and may go.
    fn is_erasable(&mut self, ledger: &Ledger, digest: &Digest) -> Result<bool, LedgerError> {
        if self.archives.contains(digest) {
            return Ok(false);
        }
        if self.stored.contains_key(digest) {
            return Ok(true);
        }
        let db = &ledger.inner.db;
        let row = db.get_pinned_cf(family(db, families::BLOBS)?, digest.0)?;
        if let Some(row) = &row {
            self.stored.insert(*digest, row.len() as u64);
        }
        Ok(row.is_some())
    }

    fn bytes(&self, digest: &Digest) -> u64 {
        self.stored.get(digest).copied().unwrap_or_default()
    }

    /// Lists every entry that names a body, once they were looked for.
    pub(super) fn named_by(&self, digest: &Digest) -> &[u64] {
        self.named.get(digest).map(Vec::as_slice).unwrap_or_default()
    }

    /// Finds every entry that came in the bodies of these. No index leads from a body to its entries, so that the
    /// log is read: once for all bodies, and then only what was added.
    pub(super) fn share(&mut self, ledger: &Ledger, entries: &[PlannedEntry]) -> Result<(), LedgerError> {
        let bodies = entries.iter().filter_map(|entry| entry.body);
        let new: BTreeSet<Digest> = bodies.filter(|digest| !self.named.contains_key(digest)).collect();
        let size = ledger.head().size;
        let added = self.seen..size;
        if !self.named.is_empty() {
            let known: BTreeSet<Digest> = self.named.keys().copied().collect();
            self.scan(ledger, &known, added)?;
        }
        if !new.is_empty() {
            self.named.extend(new.iter().map(|digest| (*digest, Vec::new())));
            self.scan(ledger, &new, 0..size)?;
        }
        self.seen = size;
        Ok(())
    }

    fn scan(
        &mut self,
        ledger: &Ledger,
        wanted: &BTreeSet<Digest>,
        range: Range<u64>,
    ) -> Result<(), LedgerError> {
        for row in ledger.entries(range) {
            let (seq, entry) = row?;
            if !names_one_of(&entry, wanted) {
                continue;
            }
            let digest = Parsed::parse(seq, &entry)?.raw().filter(|digest| wanted.contains(digest));
            if let Some(digest) = digest {
                self.named.entry(digest).or_default().push(seq);
            }
        }
        Ok(())
    }
}

/// Tells without parsing whether an entry may name one of these bodies.
fn names_one_of(entry: &[u8], wanted: &BTreeSet<Digest>) -> bool {
    let mut rest = entry;
    while let Some(at) = rest.windows(RAW.len()).position(|window| window == RAW) {
        rest = rest.get(at + RAW.len()..).unwrap_or_default();
        let mut digest = [0; 32];
        let named = rest.get(..64).is_some_and(|hex| hex::decode_to_slice(hex, &mut digest).is_ok());
        if named && wanted.contains(&Digest(digest)) {
            return true;
        }
    }
    false
}

/// Lists what goes, for an entry: position → pointer → digest.
pub(super) fn values_json(entry: &PlannedEntry) -> Map<String, Value> {
    entry.members.iter().map(|member| (member.pointer.clone(), Value::from(member.digest.as_str()))).collect()
}
