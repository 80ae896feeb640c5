//! Which statements count: a record that is given twice is one, a redelivery that says something else is a conflict,
//! and what a later mapper made of the same bytes takes the place of what an earlier one made.

use std::collections::{BTreeMap, BTreeSet};

use crate::canon;
use crate::event::{Event, Source};
use crate::id::Digest;
use crate::record::Record;

/// What was set aside, by position in the log.
#[derive(Debug, Default)]
pub(super) struct Statements {
    /// Groups of positions that have one id and say different things.
    pub(super) conflicts: Vec<Vec<u64>>,
    /// Group of each of them.
    pub(super) conflicting: BTreeMap<u64, usize>,
    /// Positions that an event takes the place of.
    pub(super) superseded: BTreeMap<u64, Vec<u64>>,
}

/// A record, its event, and its rank among those that have the same id.
type Said<'a> = (&'a Record, &'a Event, u32);

impl Statements {
    /// Returns the events that count, in the order of their records.
    pub(super) fn sort_out(records: &[Record]) -> (Vec<Said<'_>>, Self) {
        let mut seen = BTreeSet::new();
        let mut events: Vec<Said<'_>> = records
            .iter()
            .filter_map(|record| Some((record, record.event.as_deref()?, 0)))
            .filter(|(record, ..)| seen.insert(record.seq))
            .collect();
        let mut statements = Self::default();
        let replaced = statements.supersede(&events);
        events.retain(|(record, ..)| !replaced.contains(&record.seq));
        let repeated = statements.conflict(&mut events);
        events.retain(|(record, ..)| !repeated.contains(&record.seq));
        (events, statements)
    }

    /// Finds the events whose place another takes. Only what was read out of the same bytes is the same statement: an
    /// id alone could be anybody's. Of several that take one place the latest mapper stands.
    fn supersede(&mut self, events: &[Said<'_>]) -> BTreeSet<u64> {
        type Place<'e> = (&'e str, &'e Digest, Option<&'e str>);
        fn place<'e>(id: &'e str, event: &'e Event) -> Option<Place<'e>> {
            Some((id, event.source.raw.as_ref()?, event.source.path.as_deref()))
        }
        fn claimed(event: &Event) -> Option<Place<'_>> {
            place(event.source.supersedes.as_deref().filter(|old| *old != event.id)?, event)
        }
        let mut newest: BTreeMap<Place<'_>, (u32, &str, u64)> = BTreeMap::new();
        for (record, event, _) in events {
            if let Some(place) = claimed(event) {
                let claim = (event.source.mapper, event.id.as_str(), record.seq);
                let known = newest.entry(place).or_insert(claim);
                *known = claim.max(*known);
            }
        }
        if newest.is_empty() {
            return BTreeSet::new();
        }
        let mut replaced: BTreeMap<u64, u64> = BTreeMap::new();
        for (record, event, _) in events {
            // By one that names it, or by a later one that takes the same place as it does.
            let named = place(&event.id, event).and_then(|place| newest.get(&place));
            let by = named.or_else(|| claimed(event).and_then(|place| newest.get(&place)));
            if let Some((mapper, _, seq)) = by
                && *mapper > event.source.mapper
            {
                replaced.insert(record.seq, *seq);
            }
        }
        for (old, by) in &replaced {
            // Mapper versions rise along a chain, so that it has an end.
            let mut stands = *by;
            while let Some(next) = replaced.get(&stands) {
                stands = *next;
            }
            self.superseded.entry(stands).or_default().push(*old);
        }
        replaced.into_keys().collect()
    }

    /// Finds ids that were used for different statements, ranks those by what they say, and returns the positions
    /// of exact repetitions.
    fn conflict(&mut self, events: &mut [Said<'_>]) -> BTreeSet<u64> {
        let mut by_id: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, (_, event, _)) in events.iter().enumerate() {
            by_id.entry(event.id.as_str()).or_default().push(index);
        }
        let groups: Vec<Vec<usize>> = by_id.into_values().filter(|group| group.len() > 1).collect();
        let mut repeated = BTreeSet::new();
        for group in groups {
            let mut contents: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for index in group {
                let Some((record, event, _)) = events.get(index) else { continue };
                contents.entry(content(record, event)).or_default().push(index);
            }
            let mut stand = Vec::new();
            for (rank, same) in (0_u32..).zip(contents.into_values()) {
                let first = same.iter().copied().min_by_key(|index| events.get(*index).map(|(r, ..)| r.seq));
                for index in same {
                    if let Some((record, _, slot)) = events.get_mut(index) {
                        *slot = rank;
                        if Some(index) == first {
                            stand.push(record.seq);
                        } else {
                            repeated.insert(record.seq);
                        }
                    }
                }
            }
            if stand.len() > 1 {
                stand.sort_unstable();
                self.conflicting.extend(stand.iter().map(|seq| (*seq, self.conflicts.len())));
                self.conflicts.push(stand);
            }
        }
        repeated
    }
}

/// Writes what was said, not how it came. Statements of which something is withheld are never taken for one.
fn content(record: &Record, event: &Event) -> String {
    let source = Source { raw: None, path: None, peer: None, ..event.source.clone() };
    let bare = Event { source, ..event.clone() };
    // Canonical: in which order a source writes its attributes says nothing.
    let said = canon::digest_bytes(&serde_json::to_value(&bare).unwrap_or_default());
    let mut text = String::from_utf8_lossy(&said).into_owned();
    if !record.withheld.is_empty() {
        text.push_str(&format!("\n{}", record.seq));
    }
    text
}
