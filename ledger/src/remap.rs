//! Reading raw bodies again with the mappers of this build.
//!
//! A mapper that has learned something changes nothing that is there. What it now makes of the bytes that were kept is
//! appended, and each new event names in `source.supersedes` the one whose place it takes (see `docs/actions.md`).
//!
//! # Invariants
//! - Nothing comes back that was erased: a body that went cannot be read, and an event of which a value went is left as it
//!   is, also where a second body still holds that value.
//! - What a contract holds in quarantine is not let out by a new reading.
//! - Running it twice adds nothing the second time, and an older build never takes the place of a newer one.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::contract::Quarantine;
use crate::event::{Event, Source};
use crate::id::Digest;
use crate::ingest::{self, Format, Limits};
use crate::record::{Batch, NewRecord, Record};
use crate::store::{AppendError, Ledger, LedgerError};

/// Events appended in one atomic write.
const RECORDS_PER_BATCH: usize = 1_000;
/// What the id of a new reading starts with.
const PREFIX: &str = "remap:";
/// Highest version of a mapper. Erasure asks for the reading of each.
const MAPPER_MAX: u32 = 64;

/// The id under which an event was read first.
fn base(id: &str) -> &str {
    id.strip_prefix(PREFIX).and_then(|rest| rest.split_once(':')).map_or(id, |(_, id)| id)
}

/// Lists the ids that other readings of an event would have. That one of them is there does not say that it is one: anybody
/// may choose an id.
fn other_readings(id: &str) -> impl Iterator<Item = String> + use<'_> {
    let base = base(id);
    let readings = (1..=MAPPER_MAX).map(move |mapper| format!("{PREFIX}{mapper}:{base}"));
    std::iter::once(base.to_owned()).chain(readings).filter(move |other| other != id)
}

/// Why reading again stopped. What was appended before stays, and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemapError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger did not take the new events.
    #[error("the ledger did not take the new events")]
    Append(#[from] AppendError),
    /// An event has no JSON form.
    #[error("event `{id}` has no JSON form")]
    Record {
        /// Its id.
        id: String,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

impl Ledger {
    /// Finds what other mappers made of the bytes in which an event came.
    pub fn readings_of(&self, event: &Event) -> Result<Vec<u64>, LedgerError> {
        let place = |event: &Event| Some((event.source.raw?, event.source.path.clone()?));
        let Some(wanted) = place(event) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for id in other_readings(&event.id) {
            for seq in self.find_id(&id)? {
                let other = self.record(seq)?.and_then(|record| record.event);
                if other.is_some_and(|other| place(&other).as_ref() == Some(&wanted)) {
                    found.push(seq);
                }
            }
        }
        Ok(found)
    }
}

/// An event whose place a new reading takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its entry.
    pub seq: u64,
    /// Its id.
    pub id: String,
    /// Id of the new one.
    pub new_id: String,
    /// Profile and version of the mapper that read it first.
    pub from: String,
    /// Those that read it now.
    pub to: String,
    /// JSON pointers of the members that differ.
    pub fields: Vec<String>,
}

/// What became of every event that came in a raw body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Raw bodies that events name.
    pub bodies: u64,
    /// Events that name one.
    pub events: u64,
    /// Whose place a newer event has taken already.
    pub superseded: u64,
    /// Read by the mapper that this build has.
    pub current: u64,
    /// Read by an older mapper, which says the same as this one.
    pub same: u64,
    /// Whose place a new reading takes.
    pub changed: u64,
    /// Whose raw body was erased.
    pub body_erased: u64,
    /// Of which a value was erased or withheld.
    pub value_erased: u64,
    /// Held in quarantine.
    pub quarantined: u64,
    /// Read by a newer build than this one.
    pub newer: u64,
    /// Read under another profile than now, whose version is not lower: versions say which of two readings stands.
    pub other_profile: u64,
    /// That this build does not take out of the body any more, or finds in another number at their place.
    pub not_found: u64,
    /// Whose body this build cannot read.
    pub unreadable: u64,
}

/// Reads every raw body below the end of the log again, and tells `changed` of each event that comes out otherwise.
/// Appends the new readings when `apply` says so. `progress` is told how many bodies are done, of how many.
pub fn remap(
    ledger: &Ledger,
    apply: bool,
    changed: &mut dyn FnMut(&Change),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Tally, RemapError> {
    let size = ledger.head().size;
    let quarantine = Quarantine::read(ledger, size)?;
    let mut bodies: BTreeMap<Digest, Vec<u64>> = BTreeMap::new();
    for record in ledger.records(0..size) {
        let record = record?;
        if let Some(raw) = record.event.as_ref().and_then(|event| event.source.raw) {
            bodies.entry(raw).or_default().push(record.seq);
        }
    }
    // In the order in which they came, so that the log tells of them in that order.
    let mut bodies: Vec<(Digest, Vec<u64>)> = bodies.into_iter().collect();
    bodies.sort_by_key(|(_, seqs)| seqs.first().copied());
    let mut tally = Tally { bodies: bodies.len() as u64, ..Tally::default() };
    let mut records = Vec::new();
    let total = bodies.len() as u64;
    for (done, (raw, seqs)) in (0_u64..).zip(bodies) {
        progress(done, total);
        let mut there = Vec::with_capacity(seqs.len());
        for seq in seqs {
            there.extend(ledger.record(seq)?);
        }
        tally.events = tally.events.saturating_add(there.len() as u64);
        for (change, event) in read_again(ledger, &raw, &there, &quarantine, &mut tally)? {
            changed(&change);
            if apply {
                let record = NewRecord::from_event(&event)
                    .map_err(|source| RemapError::Record { id: event.id.clone(), source })?;
                records.push(record);
            }
        }
        if records.len() >= RECORDS_PER_BATCH {
            ledger.append(Batch { records: std::mem::take(&mut records), blobs: Vec::new() })?;
        }
    }
    if !records.is_empty() {
        ledger.append(Batch { records, blobs: Vec::new() })?;
    }
    Ok(tally)
}

/// What stands for a place in a body, and what is read there now.
type BeforeAndAfter<'e> = (Vec<(&'e Record, &'e Event)>, Vec<&'e Event>);

/// Reads one body again.
fn read_again(
    ledger: &Ledger,
    raw: &Digest,
    there: &[Record],
    quarantine: &Quarantine,
    tally: &mut Tally,
) -> Result<Vec<(Change, Event)>, LedgerError> {
    let events = there.iter().filter_map(|record| Some((record, record.event.as_deref()?)));
    let replaced: BTreeSet<(&str, Option<&str>)> = events
        .clone()
        .filter_map(|(_, event)| Some((event.source.supersedes.as_deref()?, event.source.path.as_deref())))
        .collect();
    let (old, stand): (Vec<_>, Vec<_>) =
        events.partition(|(_, event)| replaced.contains(&(&*event.id, event.source.path.as_deref())));
    tally.superseded = tally.superseded.saturating_add(old.len() as u64);
    let count = stand.len() as u64;
    let Some(body) = ledger.blob(raw)? else {
        tally.body_erased = tally.body_erased.saturating_add(count);
        return Ok(Vec::new());
    };
    let Some(fresh) = map(&stand, &body) else {
        tally.unreadable = tally.unreadable.saturating_add(count);
        return Ok(Vec::new());
    };
    let mut by_path: BTreeMap<Option<&str>, BeforeAndAfter<'_>> = BTreeMap::new();
    for pair in stand {
        by_path.entry(pair.1.source.path.as_deref()).or_default().0.push(pair);
    }
    for event in &fresh {
        // What this build finds where nothing was taken before is no new reading of anything.
        if let Some((_, found)) = by_path.get_mut(&event.source.path.as_deref()) {
            found.push(event);
        }
    }
    let mut changes = Vec::new();
    for (stand, found) in by_path.into_values() {
        if stand.len() != found.len() {
            tally.not_found = tally.not_found.saturating_add(stand.len() as u64);
            continue;
        }
        for ((record, event), fresh) in stand.into_iter().zip(found) {
            let counter = match judge(record, event, fresh, quarantine) {
                Judged::Changed(fields) => {
                    changes.push(change(record, event, fresh, fields));
                    &mut tally.changed
                }
                Judged::Current => &mut tally.current,
                Judged::Same => &mut tally.same,
                Judged::ValueErased => &mut tally.value_erased,
                Judged::Quarantined => &mut tally.quarantined,
                Judged::Newer => &mut tally.newer,
                Judged::OtherProfile => &mut tally.other_profile,
            };
            *counter = counter.saturating_add(1);
        }
    }
    changes.sort_by_key(|(change, _)| change.seq);
    Ok(changes)
}

/// Maps a body in the format in which its events came.
fn map(stand: &[(&Record, &Event)], body: &[u8]) -> Option<Vec<Event>> {
    let Some((_, event)) = stand.first() else { return Some(Vec::new()) };
    let format = Format::of_source(&event.source, body)?;
    Some(ingest::map(format, body, &Limits::default()).ok()?.events)
}

enum Judged {
    Changed(Vec<String>),
    Current,
    Same,
    ValueErased,
    Quarantined,
    Newer,
    OtherProfile,
}

fn judge(record: &Record, event: &Event, fresh: &Event, quarantine: &Quarantine) -> Judged {
    let (old, new) = (&event.source, &fresh.source);
    let same_profile = old.profile == new.profile && old.format == new.format;
    if same_profile && old.mapper == new.mapper {
        return Judged::Current;
    }
    if same_profile && old.mapper > new.mapper {
        return Judged::Newer;
    }
    if !record.withheld.is_empty() {
        return Judged::ValueErased;
    }
    let fields = differing(event, fresh);
    if fields.is_empty() {
        Judged::Same
    } else if old.mapper >= new.mapper {
        Judged::OtherProfile
    } else if quarantine.holds_event(record.seq) {
        Judged::Quarantined
    } else {
        Judged::Changed(fields)
    }
}

/// Lists what two readings say differently. Where it came from and who read it is no part of what was said; which numbers
/// are carried as text is.
fn differing(event: &Event, fresh: &Event) -> Vec<String> {
    let said = |event: &Event| {
        let source =
            Source { lost: event.source.lost, restated: event.source.restated.clone(), ..Source::default() };
        let bare = Event { id: String::new(), source, ..event.clone() };
        serde_json::to_value(bare).unwrap_or_default()
    };
    let (one, other) = (said(event), said(fresh));
    let empty = serde_json::Map::new();
    let (one, other) = (one.as_object().unwrap_or(&empty), other.as_object().unwrap_or(&empty));
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names
        .into_iter()
        .filter(|name| one.get(*name) != other.get(*name))
        .map(|name| format!("/{name}"))
        .collect()
}

fn change(record: &Record, event: &Event, fresh: &Event, fields: Vec<String>) -> (Change, Event) {
    let mut new = fresh.clone();
    new.id = format!("{PREFIX}{}:{}", fresh.source.mapper, base(&event.id));
    new.source.raw = event.source.raw;
    new.source.peer.clone_from(&event.source.peer);
    new.source.supersedes = Some(event.id.clone());
    let reader = |source: &Source| {
        format!("{} {}", source.profile.as_deref().unwrap_or(&source.format), source.mapper)
    };
    let change = Change {
        seq: record.seq,
        id: event.id.clone(),
        new_id: new.id.clone(),
        from: reader(&event.source),
        to: reader(&fresh.source),
        fields,
    };
    (change, new)
}
