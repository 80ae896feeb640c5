//! The search: from thread to thread, the nearest first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use verdict_ledger::event::Event;
use verdict_ledger::id::TraceId;
use verdict_ledger::{Ledger, Order, Query, Record};

use super::links::{LinkTable, rel_name};
use super::{Incident, IncidentError, Join, Limits, Member, Seed, Stop};

/// Events of a session that are looked at, half of them on each side.
const SESSION_EVENTS_MAX: usize = 4_000;
/// An event id that more events have names none of them.
const SAME_ID_MAX: usize = 16;
/// Events that name an approval or link to one thing, which are followed.
const NAMED_BY_MAX: usize = 1_000;

pub(super) fn collect(
    ledger: &Ledger,
    seed: Seed,
    end_seq: u64,
    limits: Limits,
) -> Result<Incident, IncidentError> {
    let end_seq = end_seq.min(ledger.head().size);
    let around = around(ledger, &seed, end_seq, limits)?;
    let window = window(around.position, end_seq, limits.scan);
    let mut stops = BTreeSet::new();
    if window != (0..end_seq) {
        stops.insert(Stop::Scan { first_seq: window.start, end_seq: window.end });
    }
    let table = match around.table {
        Some(table) if table.window == window => table,
        _ => LinkTable::read(ledger, window)?,
    };
    let mut search = Search {
        ledger,
        end_seq,
        limits,
        table,
        position: around.position,
        near: VecDeque::new(),
        sessions: VecDeque::new(),
        seen_sessions: BTreeSet::new(),
        seen_approvals: BTreeSet::new(),
        seen_ids: BTreeSet::new(),
        members: BTreeMap::new(),
        records: BTreeMap::new(),
        left_out: BTreeSet::new(),
        events_left_out: 0,
        stops,
    };
    match &seed {
        Seed::Trace(trace) => search.trace(*trace, Join::Asked)?,
        Seed::Session(session) => search.session(session, None)?,
        Seed::Approval(approval) => search.approval(approval, None),
        Seed::Event(seq) => match around.event.and_then(|event| event.trace_id) {
            Some(trace) => search.trace(trace, Join::Asked)?,
            None => search.lone(*seq, Join::Asked)?,
        },
    }
    search.run()?;
    if search.records.is_empty() {
        return Err(IncidentError::Unknown { seed, end_seq });
    }
    Ok(search.finish(seed))
}

/// The place in the log that a seed names.
struct Around {
    position: u64,
    event: Option<Event>,
    table: Option<LinkTable>,
}

fn around(ledger: &Ledger, seed: &Seed, end_seq: u64, limits: Limits) -> Result<Around, IncidentError> {
    let unknown = || IncidentError::Unknown { seed: seed.clone(), end_seq };
    let at = |position| Around { position, event: None, table: None };
    match seed {
        Seed::Trace(trace) => {
            let first = ledger.trace_seqs(trace)?.first().copied().filter(|seq| *seq < end_seq);
            first.map(at).ok_or_else(unknown)
        }
        Seed::Session(session) => {
            let query = Query { sessions: vec![session.clone()], end_seq: Some(end_seq), ..Query::default() };
            let newest = ledger.query(&query, Order::Newest, None)?.next().transpose()?;
            newest.map(at).ok_or_else(unknown)
        }
        Seed::Event(seq) => {
            let record = ledger.record(*seq)?.filter(|record| record.seq < end_seq).ok_or_else(unknown)?;
            let kind = record.kind;
            let event = record.event.ok_or(IncidentError::NoAction { seq: *seq, kind })?;
            Ok(Around { position: *seq, event: Some(*event), table: None })
        }
        // Approvals are in no index: the newest that are still open are asked about, so the end is looked at first.
        Seed::Approval(approval) => {
            let window = window(end_seq, end_seq, limits.scan);
            let table = LinkTable::read(ledger, window.clone())?;
            let Some(first) = table.of_approval(approval).first().map(|says| says.seq) else {
                return Err(IncidentError::NoApproval {
                    approval: approval.clone(),
                    first_seq: window.start,
                    end_seq: window.end,
                });
            };
            Ok(Around { position: first, event: None, table: Some(table) })
        }
    }
}

/// As many entries as may be scanned, around a position.
fn window(position: u64, end_seq: u64, scan: u64) -> Range<u64> {
    let start = position.saturating_sub(scan / 2);
    let end = start.saturating_add(scan).min(end_seq);
    end.saturating_sub(scan)..end
}

/// What is named: a trace, or an event that has none.
enum Named {
    Trace(TraceId),
    Event(u64),
}

struct Search<'a> {
    ledger: &'a Ledger,
    end_seq: u64,
    limits: Limits,
    table: LinkTable,
    position: u64,
    /// What a link or an approval names. A queue, since a chain of links may be as long as its sender likes.
    near: VecDeque<(Named, Join)>,
    /// Sessions come last: they are the widest.
    sessions: VecDeque<(String, Option<String>)>,
    seen_sessions: BTreeSet<(String, Option<String>)>,
    seen_approvals: BTreeSet<String>,
    seen_ids: BTreeSet<String>,
    members: BTreeMap<Option<TraceId>, Join>,
    records: BTreeMap<u64, Record>,
    /// Traces that are known and left out.
    left_out: BTreeSet<TraceId>,
    events_left_out: usize,
    stops: BTreeSet<Stop>,
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), IncidentError> {
        loop {
            if let Some((named, join)) = self.near.pop_front() {
                match named {
                    Named::Trace(trace) => self.trace(trace, join)?,
                    Named::Event(seq) => self.lone(seq, join)?,
                }
            } else if let Some((session, tenant)) = self.sessions.pop_front() {
                self.session(&session, tenant.as_deref())?;
            } else {
                return Ok(());
            }
        }
    }

    /// Takes a trace in and follows what it names.
    fn trace(&mut self, trace: TraceId, join: Join) -> Result<(), IncidentError> {
        if self.members.contains_key(&Some(trace)) || self.left_out.contains(&trace) {
            return Ok(());
        }
        let mut seqs = self.ledger.trace_seqs(&trace)?;
        seqs.retain(|seq| *seq < self.end_seq);
        if seqs.is_empty() {
            // A link to a trace that nobody reported.
            return Ok(());
        }
        if self.members.len() >= self.limits.traces {
            self.left_out.insert(trace);
            return Ok(());
        }
        let room = self.limits.events.saturating_sub(self.records.len());
        if seqs.len() > room {
            self.events_left_out += seqs.len() - room;
            // Of a trace that is too long, what stands around the place that was asked for.
            let at = seqs.partition_point(|seq| *seq < self.position);
            let start = at.saturating_sub(room / 2).min(seqs.len() - room);
            seqs = seqs.split_off(start);
            seqs.truncate(room);
        }
        self.members.insert(Some(trace), join);
        self.named_by(&trace);
        for seq in seqs {
            self.take(seq)?;
        }
        Ok(())
    }

    /// Takes one event in that has no trace.
    fn lone(&mut self, seq: u64, join: Join) -> Result<(), IncidentError> {
        if self.records.contains_key(&seq) {
            return Ok(());
        }
        if self.records.len() >= self.limits.events {
            self.events_left_out += 1;
            return Ok(());
        }
        self.members.entry(None).or_insert(join);
        self.take(seq)
    }

    fn take(&mut self, seq: u64) -> Result<(), IncidentError> {
        let Some(record) = self.ledger.record(seq)? else { return Ok(()) };
        if let Some(event) = &record.event {
            self.follow(seq, event)?;
        }
        self.records.insert(seq, record);
        Ok(())
    }

    /// Queues what an event names, and who names it.
    fn follow(&mut self, seq: u64, event: &Event) -> Result<(), IncidentError> {
        for link in &event.links {
            let join = Join::Link { rel: rel_name(link.rel), seq };
            if let Some(trace) = link.to.trace_id {
                self.near.push_back((Named::Trace(trace), join.clone()));
            }
            if let Some(id) = &link.to.event {
                self.linked_event(id, &join)?;
            }
            if let Some(approval) = &link.to.approval_id {
                self.approval(approval, Some(event));
            }
        }
        if let Some(approval) = event.decision.as_ref().and_then(|decision| decision.approval_id.as_ref()) {
            self.approval(approval, Some(event));
        }
        let naming: Vec<_> = self.table.to_event(&event.id).take(NAMED_BY_MAX).collect();
        let found: Vec<_> = naming
            .into_iter()
            .map(|(says, rel)| (says.seq, says.trace, Join::Link { rel: rel_name(rel), seq: says.seq }))
            .collect();
        self.queue(found);
        if let Some(session) = &event.session {
            let key = (session.clone(), event.tenant.clone());
            if self.seen_sessions.insert(key.clone()) {
                self.sessions.push_back(key);
            }
        }
        Ok(())
    }

    /// Events of traces are queued with their trace; one without a trace is taken as it is.
    fn queue(&mut self, found: Vec<(u64, Option<TraceId>, Join)>) {
        self.near.extend(
            found
                .into_iter()
                .filter(|(seq, ..)| *seq < self.end_seq)
                .map(|(seq, trace, join)| (trace.map_or(Named::Event(seq), Named::Trace), join)),
        );
    }

    /// Queues the traces that link into a trace as a whole.
    fn named_by(&mut self, trace: &TraceId) {
        let found = self.table.to_trace(trace).take(NAMED_BY_MAX);
        let found: Vec<_> = found
            .map(|(says, rel)| (says.seq, says.trace, Join::Link { rel: rel_name(rel), seq: says.seq }))
            .collect();
        self.queue(found);
    }

    fn linked_event(&mut self, id: &str, join: &Join) -> Result<(), IncidentError> {
        if !self.seen_ids.insert(id.to_owned()) {
            return Ok(());
        }
        let seqs = self.ledger.find_id(id)?;
        if seqs.len() > SAME_ID_MAX {
            self.stops.insert(Stop::Ambiguous { id: id.to_owned(), events: seqs.len() });
            return Ok(());
        }
        let mut found = Vec::new();
        for seq in seqs.into_iter().filter(|seq| *seq < self.end_seq && !self.records.contains_key(seq)) {
            let event = self.ledger.record(seq)?.and_then(|record| record.event);
            if let Some(event) = event {
                found.push((seq, event.trace_id, join.clone()));
            }
        }
        self.queue(found);
        Ok(())
    }

    /// Queues everybody who names an approval; `by` is an event that does, when there is one.
    fn approval(&mut self, approval: &str, by: Option<&Event>) {
        if !self.seen_approvals.insert(approval.to_owned()) {
            return;
        }
        let naming: Vec<_> = self.table.of_approval(approval).into_iter().take(NAMED_BY_MAX).collect();
        let asked = by.is_none();
        // Without an event to start from, whoever asked says whose approval it is.
        let first = || naming.first().and_then(|says| says.tenant.as_deref());
        let tenant = by.map_or_else(first, |event| event.tenant.as_deref());
        let found: Vec<_> = naming
            .iter()
            .filter(|says| same_tenant(tenant, says.tenant.as_deref()))
            .map(|says| {
                let join = Join::Approval { approval_id: approval.to_owned(), seq: says.seq };
                (says.seq, says.trace, if asked { Join::Asked } else { join })
            })
            .collect();
        self.queue(found);
    }

    /// Takes in the traces of a session, those around the place that was asked for first.
    fn session(&mut self, session: &str, tenant: Option<&str>) -> Result<(), IncidentError> {
        let query = |first_seq, end_seq| Query {
            sessions: vec![session.to_owned()],
            first_seq: Some(first_seq),
            end_seq: Some(end_seq),
            ..Query::default()
        };
        let asked = self.members.is_empty();
        let half = SESSION_EVENTS_MAX / 2;
        let middle = self.position.saturating_add(1).min(self.end_seq);
        let before = self.ledger.query(&query(0, middle), Order::Newest, None)?.take(half + 1);
        let before = before.collect::<Result<Vec<u64>, _>>()?;
        let after = self.ledger.query(&query(middle, self.end_seq), Order::Oldest, None)?.take(half + 1);
        let after = after.collect::<Result<Vec<u64>, _>>()?;
        if before.len() > half || after.len() > half {
            self.stops.insert(Stop::Session { session: session.to_owned(), looked_at: SESSION_EVENTS_MAX });
        }
        let mut seqs: Vec<u64> = before.into_iter().take(half).chain(after.into_iter().take(half)).collect();
        seqs.sort_by_key(|seq| seq.abs_diff(self.position));
        let mut tenant = tenant.map(str::to_owned);
        for seq in seqs {
            if self.records.contains_key(&seq) {
                continue;
            }
            let Some(event) = self.ledger.record(seq)?.and_then(|record| record.event) else { continue };
            // An index cuts long texts, so two sessions may look like one to it.
            if event.session.as_deref() != Some(session) {
                continue;
            }
            // A session that was asked for is that of the nearest event.
            if asked && tenant.is_none() {
                tenant.clone_from(&event.tenant);
            }
            if !same_tenant(tenant.as_deref(), event.tenant.as_deref()) {
                continue;
            }
            let join = if asked { Join::Asked } else { Join::Session { session: session.to_owned(), seq } };
            match event.trace_id {
                Some(trace) => self.trace(trace, join)?,
                None => self.lone(seq, join)?,
            }
        }
        Ok(())
    }

    fn finish(mut self, seed: Seed) -> Incident {
        if !self.left_out.is_empty() {
            self.stops.insert(Stop::Traces { max: self.limits.traces, left_out: self.left_out.len() });
        }
        if self.events_left_out > 0 {
            self.stops.insert(Stop::Events { max: self.limits.events, left_out: self.events_left_out });
        }
        let mut counts: BTreeMap<Option<TraceId>, (u64, usize)> = BTreeMap::new();
        for (seq, record) in &self.records {
            let trace = record.event.as_ref().and_then(|event| event.trace_id);
            counts.entry(trace).or_insert((*seq, 0)).1 += 1;
        }
        let mut members: Vec<Member> = self
            .members
            .into_iter()
            .filter_map(|(trace_id, joined)| {
                let (first_seq, events) = *counts.get(&trace_id)?;
                Some(Member { trace_id, joined, events, first_seq })
            })
            .collect();
        members.sort_by_key(|member| member.first_seq);
        let records = self.records.into_values().collect();
        Incident { seed, end_seq: self.end_seq, members, records, stops: self.stops }
    }
}

/// Names of different tenants are different names; who states none may be anybody's.
fn same_tenant(a: Option<&str>, b: Option<&str>) -> bool {
    a.is_none() || b.is_none() || a == b
}
