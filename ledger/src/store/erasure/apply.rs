//! Erasing: part by part, each part one atomic commit that also says what went.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use serde_json::{Map, Value, json};

use super::changes::Changes;
use super::compact::Touched;
use super::hold::{Holds, append_fact, random_name};
use super::plan::{self, Bodies, Held, PlannedEntry, values_json};
use super::selection::{Scope, Selection};
use super::{ERASE_DEFERRED, ErasureError, PAYLOAD_ERASED, Parsed, text_member};
use crate::disclosure::{Hidden, Salts};
use crate::id::Digest;
use crate::record::{Batch, NewRecord};
use crate::store::Ledger;
use crate::store::codec::{self, IdRow};
use crate::store::error::{AppendError, LedgerError};
use crate::store::families::{self, family};
use crate::store::postings::BLOCK;
use crate::store::prepare;
use crate::store::seal::{Sealer, Subject};
use crate::store::shelf;
use crate::store::terms::Tag;

/// Entries of one part: what is erased, and what appends wait for, at a time.
const PART_ENTRIES: usize = 1024;

/// Bytes of digests in one `payload.erased` entry; the entry has a limit of 64 KiB.
const LISTED_BYTES_MAX: usize = 40 << 10;

/// Longest selection that an entry states; a longer one is a list of events, which the digests name anyway.
const SCOPE_BYTES_MAX: usize = 8 << 10;

/// Longest text of a basis.
const TEXT_BYTES_MAX: usize = 4096;

/// Positions that an entry about deferred erasures lists for a hold; the rest is counted.
const DEFERRED_LISTED: usize = 200;

/// Why something is erased.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Basis {
    /// Legal basis, like `Art. 17(1)(b) GDPR`.
    pub legal_basis: String,
    /// Reason. It stands in the entry for good: no personal data.
    pub reason: String,
    /// Who does it; kept as a value of the entry that can itself be erased.
    pub by: String,
    /// Who asked for it; the entry holds only a salted commitment.
    pub requested_by: Option<String>,
}

/// What an erasure did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ErasureReceipt {
    /// Name of the erasure, in each of its entries.
    pub erasure: String,
    /// Positions of its `payload.erased` entries.
    pub entries: Vec<u64>,
    /// Values erased.
    pub values: u64,
    /// Bytes of those values.
    pub bytes: u64,
    /// Raw bodies erased.
    pub bodies: Vec<Digest>,
    /// Data keys destroyed.
    pub keys: u64,
    /// What holds kept.
    pub held: Vec<Held>,
    /// Position of the `payload.erase.deferred` entry.
    pub deferred: Option<u64>,
    /// Why the bytes may still be in the files, when compaction failed: the erasure itself is done and durable.
    pub not_compacted: Option<String>,
}

impl Ledger {
    /// Erases what a selection names, except what holds keep, and compacts the files that held it. Running it again
    /// after a failure erases what is left.
    pub fn erase(
        &self,
        selection: &Selection,
        basis: &Basis,
        now_ns: u64,
    ) -> Result<ErasureReceipt, ErasureError> {
        let scope = selection.resolve(self)?;
        let seqs = scope.positions(self, 0..self.head().size)?;
        run(self, scope, &seqs, basis, now_ns)
    }
}

/// Erases what a scope means of these entries.
pub(super) fn run(
    ledger: &Ledger,
    scope: Scope,
    seqs: &[u64],
    basis: &Basis,
    now_ns: u64,
) -> Result<ErasureReceipt, ErasureError> {
    if !ledger.is_writer() {
        return Err(AppendError::ReadOnly.into());
    }
    basis.check()?;
    let (plan, bodies) = plan::plan(ledger, scope, seqs, now_ns)?;
    let receipt = ErasureReceipt { erasure: random_name(ledger)?, ..ErasureReceipt::default() };
    let touched = Touched::default();
    let mut erasure = Erasure { ledger, scope: plan.scope, basis, now_ns, bodies, receipt, touched };
    let free = plan.entries.iter().map(|entry| entry.seq);
    // Those that a hold keeps are looked at again: it may be released meanwhile, and else they are listed.
    let mut seqs: Vec<u64> = free.chain(plan.held.iter().map(|held| held.seq)).collect();
    seqs.sort_unstable();
    let done = seqs.chunks(PART_ENTRIES).try_for_each(|part| erasure.part(part));
    // Also of what went before a failure.
    let forgotten = erasure.touched.compact(ledger).and_then(|()| {
        // A projection may hold what a value of an erased member made of it.
        shelf::clear(&ledger.inner.layout.projections())
    });
    erasure.receipt.not_compacted = forgotten.err().map(|error| error.to_string());
    done?;
    if !erasure.receipt.held.is_empty() {
        erasure.receipt.deferred = Some(erasure.defer()?);
    }
    Ok(erasure.receipt)
}

impl Basis {
    fn check(&self) -> Result<(), ErasureError> {
        for (what, text) in [("legal basis", &self.legal_basis), ("reason", &self.reason)] {
            if text.trim().is_empty() {
                return Err(ErasureError::Basis { what });
            }
            if text.len() > TEXT_BYTES_MAX {
                return Err(ErasureError::TooLong { what, bytes: text.len(), max: TEXT_BYTES_MAX });
            }
        }
        Ok(())
    }
}

struct Erasure<'a> {
    ledger: &'a Ledger,
    scope: Scope,
    basis: &'a Basis,
    now_ns: u64,
    bodies: Bodies,
    receipt: ErasureReceipt,
    touched: Touched,
}

impl Erasure<'_> {
    /// Erases one part. Everything is looked at again behind the gate: holds, rows, and who shares a raw body.
    fn part(&mut self, seqs: &[u64]) -> Result<(), ErasureError> {
        let inner = &self.ledger.inner;
        // INVARIANT: see the module. Nothing may be returned to a caller of `append` while this is held.
        let _alone = inner.gate.write().unwrap_or_else(PoisonError::into_inner);
        let writer = inner.writer.as_ref().ok_or(AppendError::ReadOnly)?;
        self.bodies.look_again();
        let gathered = plan::gather(self.ledger, &self.scope, seqs, &mut self.bodies)?;
        self.bodies.share(self.ledger, &gathered.entries)?;
        let holds = Holds::active(self.ledger, self.now_ns)?;
        let (entries, held) = holds.split(self.ledger, gathered.entries, &self.bodies)?;
        self.receipt.held.extend(held);
        if entries.is_empty() {
            return Ok(());
        }
        let mut changes = Changes::default();
        let mut gone: BTreeMap<Subject, BTreeSet<u64>> = BTreeMap::new();
        let mut going = BTreeSet::new();
        for entry in &entries {
            going.extend(entry.body);
            if !entry.members.is_empty() {
                self.take_values(entry, &mut changes, &mut gone)?;
            }
        }
        changes.blobs = going.iter().copied().collect();
        self.take_keys(&gone, &mut changes)?;
        let records = self.records(&entries, &going);
        let parts = records.len();
        let batch = Batch { records, blobs: Vec::new() };
        let mut prepared = prepare::prepare(batch, &inner.sealer, &inner.origin)?;
        let keys = changes.data_keys.clone();
        self.touched.add(&changes);
        prepared.changes = changes;
        let receipt = writer.append_prepared(prepared)?;
        // Before the gate opens: from here on a value of this subject is sealed under a new key.
        inner.sealer.forget(&keys);
        inner.tail.forget();
        debug_assert_eq!(receipt.seqs.len(), parts, "each entry has a position");
        self.receipt.entries.extend(receipt.seqs);
        for member in entries.iter().flat_map(|entry| &entry.members) {
            self.receipt.values += 1;
            self.receipt.bytes += member.bytes;
        }
        self.receipt.keys += keys.len() as u64;
        self.receipt.bodies.extend(going);
        Ok(())
    }

    /// Takes values out of the row of an entry, and what only they gave out of the indexes.
    fn take_values(
        &self,
        entry: &PlannedEntry,
        changes: &mut Changes,
        gone: &mut BTreeMap<Subject, BTreeSet<u64>>,
    ) -> Result<(), ErasureError> {
        let inner = &self.ledger.inner;
        let seq = entry.seq;
        let disclosures = family(&inner.db, families::DISCLOSURES)?;
        let Some(row) = inner.db.get_pinned_cf(disclosures, seq.to_be_bytes())? else { return Ok(()) };
        let subject = Sealer::subject_of(&row)?;
        let Some(hidden) = inner.sealer.open(seq, &row)? else { return Ok(()) };
        // The secret that the salts of an entry come from would give those of the erased values, too.
        let mut left = Hidden { salts: Salts::default(), members: Vec::new(), values: Vec::new() };
        let mut salts = Vec::new();
        for member in hidden.members() {
            let pointer = member.place.pointer();
            if !entry.members.iter().any(|erased| erased.pointer == pointer) {
                left.values.extend_from_slice(member.value);
                left.members.push((member.place, left.values.len()));
                salts.push(member.salt);
            }
        }
        left.salts = Salts::Each(salts);
        let left = if left.members.is_empty() {
            gone.entry(subject).or_default().insert(seq);
            let offset = u8::try_from(seq % BLOCK).unwrap_or(u8::MAX);
            changes.postings.entry((Tag::Subject.key(&subject), seq / BLOCK)).or_default().push(offset);
            None
        } else {
            let mut nonce = [0; 12];
            inner.sealer.entropy().fill(&mut nonce).map_err(AppendError::Entropy)?;
            Some(inner.sealer.seal(subject, &left, nonce)?)
        };
        changes.disclosures.insert(seq, left);
        self.take_content(seq, changes)
    }

    /// Takes the digest of the content out of the row of the id: nobody can compute it again.
    fn take_content(&self, seq: u64, changes: &mut Changes) -> Result<(), ErasureError> {
        let inner = &self.ledger.inner;
        let parsed = Parsed::read(self.ledger, seq)?;
        let Some(id) = parsed.text("id") else { return Ok(()) };
        let id = inner.sealer.index_digest(&[b"id", id.as_bytes()]);
        let by_id = family(&inner.db, families::BY_ID)?;
        for key in [id.to_vec(), families::digest_key(&id, seq).to_vec()] {
            let Some(row) = inner.db.get_pinned_cf(by_id, &key)? else { continue };
            let row: IdRow = codec::decode(families::BY_ID, &row)?;
            if row.seq == seq {
                changes.ids.insert(key, codec::encode(&IdRow { content: None, ..row }));
                return Ok(());
            }
        }
        let place = format!("id of entry {seq}");
        let detail = "is not in the index; rebuild the indexes".to_owned();
        Err(LedgerError::Damaged { place, detail }.into())
    }

    /// Destroys the data keys under which nothing is left.
    fn take_keys(
        &self,
        gone: &BTreeMap<Subject, BTreeSet<u64>>,
        changes: &mut Changes,
    ) -> Result<(), ErasureError> {
        let inner = &self.ledger.inner;
        // The entries of this very erasure are sealed under it, and it protects nobody's data.
        let own = inner.sealer.subject(&Map::new());
        for (subject, gone) in gone.iter().filter(|(subject, _)| **subject != own) {
            let all = self.ledger.postings(&Tag::Subject.key(subject), 0..u64::MAX, usize::MAX)?;
            if all.iter().all(|seq| gone.contains(seq)) {
                changes.data_keys.push(*subject);
            }
        }
        Ok(())
    }

    /// Writes the entries that say what goes.
    fn records(&self, entries: &[PlannedEntry], bodies: &BTreeSet<Digest>) -> Vec<NewRecord> {
        let (mut lists, mut last) = (Vec::new(), Listed::default());
        for entry in entries.iter().filter(|entry| !entry.members.is_empty()) {
            let bytes =
                32 + entry.members.iter().map(|m| m.pointer.len() + m.digest.len() + 8).sum::<usize>();
            Listed::room(&mut lists, &mut last, bytes);
            last.values.insert(entry.seq.to_string(), Value::Object(values_json(entry)));
            last.count += entry.members.len() as u64;
            last.value_bytes += entry.members.iter().map(|member| member.bytes).sum::<u64>();
        }
        for digest in bodies {
            Listed::room(&mut lists, &mut last, 80);
            last.bodies.push(Value::from(digest.to_string()));
        }
        lists.push(last);
        let written = self.receipt.entries.len();
        let lists = lists.into_iter().zip(written..);
        lists.map(|(listed, part)| NewRecord::system(PAYLOAD_ERASED, self.body(listed, part))).collect()
    }

    fn body(&self, listed: Listed, part: usize) -> Map<String, Value> {
        let mut body = self.about(&format!("erasure:{}:{part}", self.receipt.erasure));
        body.insert("part".to_owned(), Value::from(part as u64));
        let counts = json!({
            "values": listed.count, "bytes": listed.value_bytes.to_string(), "bodies": listed.bodies.len(),
        });
        body.insert("counts".to_owned(), counts);
        body.insert("values".to_owned(), Value::Object(listed.values));
        body.insert("bodies".to_owned(), Value::from(listed.bodies));
        body
    }

    /// What every entry of an erasure says.
    fn about(&self, id: &str) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("id".to_owned(), Value::from(id));
        body.insert("erasure".to_owned(), Value::from(self.receipt.erasure.as_str()));
        text_member(&mut body, "legal_basis", &self.basis.legal_basis);
        text_member(&mut body, "reason", &self.basis.reason);
        text_member(&mut body, "by", &self.basis.by);
        // Split off like every `on_behalf_of`: the entry keeps a commitment to who asked, and no name.
        if let Some(requested_by) = &self.basis.requested_by {
            body.insert("on_behalf_of".to_owned(), json!([requested_by]));
        }
        let scope = self.scope.to_json();
        let bytes = scope.to_string().len();
        body.insert(
            "selection".to_owned(),
            if bytes <= SCOPE_BYTES_MAX { scope } else { json!({"bytes_left_out": bytes}) },
        );
        body
    }

    /// Logs what holds kept.
    fn defer(&self) -> Result<u64, ErasureError> {
        let mut held: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for kept in &self.receipt.held {
            held.entry(&kept.hold).or_default().push(kept.seq);
        }
        let listed = held.into_iter().map(|(hold, seqs)| {
            let first: Vec<String> = seqs.iter().take(DEFERRED_LISTED).map(u64::to_string).collect();
            (hold.to_owned(), json!({"entries": first, "count": seqs.len()}))
        });
        let listed: Map<String, Value> = listed.collect();
        let mut body = self.about(&format!("erasure:{}:deferred", self.receipt.erasure));
        body.insert("held".to_owned(), Value::Object(listed));
        append_fact(self.ledger, ERASE_DEFERRED, body)
    }
}

/// What one entry lists.
#[derive(Default)]
struct Listed {
    values: Map<String, Value>,
    bodies: Vec<Value>,
    count: u64,
    value_bytes: u64,
    bytes: usize,
}

impl Listed {
    /// Makes room for so many bytes, in a new entry if need be.
    fn room(full: &mut Vec<Self>, last: &mut Self, bytes: usize) {
        if last.bytes > 0 && last.bytes + bytes > LISTED_BYTES_MAX {
            full.push(std::mem::take(last));
        }
        last.bytes += bytes;
    }
}
