//! Events as facts: the span forest that they stand in, and what they inherit from it.

use std::collections::BTreeMap;

use super::statements::Statements;

use crate::event::{ActionKind, Agent, Event};
use crate::id::{SpanId, TraceId};
use crate::record::Record;

/// One event with its place in the span forest.
#[derive(Debug)]
pub(super) struct Fact<'a> {
    pub(super) record: &'a Record,
    pub(super) event: &'a Event,
    /// The span that this event reports; `None` for a log record, which only sits in a span.
    pub(super) span: Option<usize>,
    /// The first span above this event.
    pub(super) above: Option<usize>,
    /// Position in the event's trace among all traces.
    trace: Option<usize>,
    /// Tells statements apart that have one id and say different things, by what they say.
    pub(super) rank: u32,
}

impl Fact<'_> {
    /// Returns the stated start, else the receiver's clock.
    pub(super) fn at_ns(&self) -> u64 {
        self.event.start_ns.unwrap_or(self.record.ts_ns)
    }

    /// Orders facts by what they say, whatever came first.
    pub(super) fn order(&self) -> (u64, &str, u32) {
        (self.at_ns(), &self.event.id, self.rank)
    }

    /// Returns the call id, unless it is a JSON-RPC counter, which says nothing outside its connection.
    pub(super) fn call_id(&self) -> Option<&str> {
        self.event.action.call_id.as_deref().filter(|id| {
            let counter = self.event.source.profile.as_deref().is_some_and(|p| p.starts_with("mcp"))
                && id.bytes().all(|byte| byte.is_ascii_digit());
            !counter
        })
    }

    /// Returns the MCP method, which the mapper keeps among the attributes.
    pub(super) fn mcp_method(&self) -> Option<&str> {
        self.event.attributes.get("mcp.method.name").and_then(serde_json::Value::as_str)
    }

    /// Returns the tokens, in and out, of a model call that states both and some.
    pub(super) fn metered(&self) -> Option<(u64, u64)> {
        let usage = self.event.usage.as_ref().filter(|usage| !usage.aggregate)?;
        let tokens = (usage.input_tokens?, usage.output_tokens?);
        (self.event.action.kind == ActionKind::Model && tokens != (0, 0)).then_some(tokens)
    }

    /// Tells whether the other fact is about the same kind and name.
    pub(super) fn same_thing(&self, other: &Fact<'_>) -> bool {
        self.event.action.kind == other.event.action.kind && self.event.action.name == other.event.action.name
    }
}

/// A span that was reported or is named as a parent.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) parent: Option<usize>,
    /// Distance from its root.
    pub(super) depth: u32,
    /// Facts that report the span itself.
    pub(super) facts: Vec<usize>,
    trace: usize,
}

/// A value that was stated on the fact or inherited.
#[derive(Debug)]
pub(super) struct Known<'a, T: ?Sized> {
    pub(super) value: &'a T,
    pub(super) inherited: bool,
}

// By hand: a reference is `Copy` whatever it points to.
impl<T: ?Sized> Clone for Known<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Known<'_, T> {}

/// What one fact knows of who acted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) agent: Option<Known<'a, Agent>>,
    pub(super) user: Option<Known<'a, str>>,
    pub(super) session: Option<Known<'a, str>>,
    pub(super) service: Option<Known<'a, str>>,
    pub(super) environment: Option<Known<'a, str>>,
    pub(super) tenant: Option<Known<'a, str>>,
}

/// All events of a fold. Facts are in the order of their records, spans in the order of their ids, so that
/// nothing below depends on arrival.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    list: Vec<Fact<'a>>,
    spans: Vec<Span>,
    pub(super) who: Vec<Who<'a>>,
    /// What was said more than once, and what was said again by a later mapper.
    pub(super) statements: Statements,
    span_ids: Vec<(TraceId, SpanId)>,
    traces: usize,
    /// Spans, parents first.
    order: Vec<usize>,
}

impl<'a> Facts<'a> {
    pub(super) fn read(records: &'a [Record]) -> Self {
        let (events, statements) = Statements::sort_out(records);
        let mut trace_ids: Vec<TraceId> = events.iter().filter_map(|(_, event, _)| event.trace_id).collect();
        trace_ids.sort_unstable();
        trace_ids.dedup();
        let mut span_ids: Vec<(TraceId, SpanId)> = events
            .iter()
            .filter_map(|(_, event, _)| event.trace_id.map(|trace| (trace, event)))
            .flat_map(|(trace, event)| {
                [event.span_id, event.parent_span_id].into_iter().flatten().map(move |s| (trace, s))
            })
            .collect();
        span_ids.sort_unstable();
        span_ids.dedup();

        let mut facts = Self {
            spans: span_ids
                .iter()
                .map(|(trace, _)| Span {
                    parent: None,
                    depth: 0,
                    facts: Vec::new(),
                    trace: trace_ids.binary_search(trace).unwrap_or_default(),
                })
                .collect(),
            list: Vec::with_capacity(events.len()),
            who: Vec::new(),
            statements,
            span_ids,
            traces: trace_ids.len(),
            order: Vec::new(),
        };
        for (record, event, rank) in events {
            let trace = event.trace_id.and_then(|trace| trace_ids.binary_search(&trace).ok());
            facts.place(record, event, rank, trace);
        }
        for fact in &mut facts.list {
            if let Some(span) = fact.span.and_then(|span| facts.spans.get(span)) {
                fact.above = span.parent;
            }
        }
        facts.cut_cycles();
        for fact in &mut facts.list {
            if let Some(span) = fact.span.and_then(|span| facts.spans.get(span)) {
                fact.above = span.parent;
            }
        }
        facts.who = facts.know();
        facts
    }

    /// Returns a fact. Every look at one goes through here or [`Facts::all`], so that tests can count them.
    pub(super) fn get(&self, fact: usize) -> Option<&Fact<'a>> {
        work::looked();
        self.list.get(fact)
    }

    /// Returns every fact with its number.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &Fact<'a>)> {
        self.list.iter().enumerate().inspect(|_| work::looked())
    }

    /// Returns how many facts there are.
    pub(super) const fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns a span.
    pub(super) fn span(&self, span: usize) -> Option<&Span> {
        work::looked();
        self.spans.get(span)
    }

    /// Returns every span.
    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Finds a span by its ids.
    pub(super) fn find_span(&self, trace: TraceId, span: SpanId) -> Option<usize> {
        self.span_ids.binary_search(&(trace, span)).ok()
    }

    /// Returns the distance of a fact from its trace's root.
    pub(super) fn depth(&self, fact: &Fact<'_>) -> u32 {
        let of = |span: Option<usize>| span.and_then(|span| self.spans.get(span)).map(|span| span.depth);
        of(fact.span).or_else(|| of(fact.above).map(|depth| depth + 1)).unwrap_or_default()
    }

    fn place(&mut self, record: &'a Record, event: &'a Event, rank: u32, trace: Option<usize>) {
        let index = self.list.len();
        let find = |span: Option<SpanId>| event.trace_id.zip(span).and_then(|(t, s)| self.find_span(t, s));
        let (own, parent) = (find(event.span_id), find(event.parent_span_id));
        let (span, above) = if is_log(event) { (None, own.or(parent)) } else { (own, parent) };
        if let Some(span) = span.and_then(|span| self.spans.get_mut(span)) {
            span.facts.push(index);
            // Reports of one span that disagree about its parent: the smallest id, whatever came first.
            span.parent = match (span.parent, parent.filter(|parent| Some(*parent) != own)) {
                (Some(known), Some(new)) => Some(known.min(new)),
                (known, new) => known.or(new),
            };
        }
        self.list.push(Fact { record, event, span, above, trace, rank });
    }

    /// Makes the parents a forest (a hostile source can name a cycle), and sets depths and the order.
    fn cut_cycles(&mut self) {
        const NEW: u8 = 0;
        const ON_PATH: u8 = 1;
        const DONE: u8 = 2;
        let mut mark = vec![NEW; self.spans.len()];
        let mut path = Vec::new();
        for start in 0..self.spans.len() {
            let mut at = Some(start);
            while let Some(span) = at {
                match mark.get(span).copied().unwrap_or(DONE) {
                    NEW => {
                        path.push(span);
                        if let Some(mark) = mark.get_mut(span) {
                            *mark = ON_PATH;
                        }
                        at = self.spans.get(span).and_then(|span| span.parent);
                    }
                    ON_PATH => {
                        // The smallest span of the cycle loses its parent. Starts ascend, so whichever start
                        // meets the cycle, the cut is the same.
                        let cycle = path.iter().position(|on| *on == span).unwrap_or_default();
                        let smallest = path.iter().skip(cycle).min().copied().unwrap_or(span);
                        if let Some(span) = self.spans.get_mut(smallest) {
                            span.parent = None;
                        }
                        at = None;
                    }
                    _ => at = None,
                }
            }
            for span in path.drain(..) {
                if let Some(mark) = mark.get_mut(span) {
                    *mark = DONE;
                }
            }
        }
        self.set_depths();
    }

    fn set_depths(&mut self) {
        let mut known = vec![false; self.spans.len()];
        let mut path = Vec::new();
        for start in 0..self.spans.len() {
            let mut at = Some(start);
            while let Some(span) = at.filter(|span| known.get(*span) == Some(&false)) {
                path.push(span);
                at = self.spans.get(span).and_then(|span| span.parent);
            }
            let top = at.and_then(|span| self.spans.get(span)).map(|span| span.depth + 1).unwrap_or_default();
            for (depth, span) in (top..).zip(path.drain(..).rev()) {
                if let (Some(entry), Some(known)) = (self.spans.get_mut(span), known.get_mut(span)) {
                    entry.depth = depth;
                    *known = true;
                }
            }
        }
        self.order = (0..self.spans.len()).collect();
        self.order.sort_by_key(|span| self.spans.get(*span).map(|span| span.depth));
    }

    fn know(&self) -> Vec<Who<'a>> {
        let session = self.inherit(|event| event.session.as_deref(), None);
        let by = Some(session.as_slice());
        let agent = self.inherit(|event| event.agent.as_ref(), by);
        let user = self.inherit(|event| event.user.as_deref(), by);
        let service = self.inherit(|event| event.service.as_deref(), by);
        let environment = self.inherit(|event| event.environment.as_deref(), by);
        let tenant = self.inherit(|event| event.tenant.as_deref(), by);
        let six = session.iter().zip(agent).zip(user).zip(service).zip(environment).zip(tenant);
        six.map(|(((((session, agent), user), service), environment), tenant)| Who {
            agent,
            user,
            session: *session,
            service,
            environment,
            tenant,
        })
        .collect()
    }

    /// Finds one attribute of every fact: as stated, else from the nearest ancestor that states it, else from
    /// the trace's roots, else the only value in the trace, else the only value in the session. Values that
    /// contradict each other at one of these steps give none, and no later step is asked.
    fn inherit<T: PartialEq + ?Sized>(
        &self,
        get: impl Fn(&'a Event) -> Option<&'a T>,
        sessions: Option<&[Option<Known<'a, str>>]>,
    ) -> Vec<Option<Known<'a, T>>> {
        let mut at_span: Vec<Slot<'a, T>> = vec![Slot::Empty; self.spans.len()];
        let mut in_trace: Vec<Slot<'a, T>> = vec![Slot::Empty; self.traces];
        let mut in_root: Vec<Slot<'a, T>> = vec![Slot::Empty; self.traces];
        let mut in_session: BTreeMap<&str, Slot<'a, T>> = BTreeMap::new();
        for (index, fact) in self.list.iter().enumerate() {
            let Some(value) = get(fact.event) else { continue };
            if let Some(slot) = fact.span.and_then(|span| at_span.get_mut(span)) {
                slot.add(value);
            }
            if let Some(slot) = fact.trace.and_then(|trace| in_trace.get_mut(trace)) {
                slot.add(value);
            }
            if let Some(session) = sessions.and_then(|sessions| sessions.get(index).copied().flatten()) {
                in_session.entry(session.value).or_insert(Slot::Empty).add(value);
            }
        }
        for span in &self.order {
            let Some(entry) = self.spans.get(*span) else { continue };
            let above = entry.parent.and_then(|parent| at_span.get(parent).copied()).unwrap_or(Slot::Empty);
            if let Some(slot) = at_span.get_mut(*span) {
                if matches!(slot, Slot::Empty) {
                    *slot = above;
                } else if entry.parent.is_none()
                    && let (Some(root), Slot::One(value)) = (in_root.get_mut(entry.trace), &slot)
                {
                    root.add(*value);
                }
            }
        }
        let facts = self.list.iter().enumerate();
        facts
            .map(|(index, fact)| {
                if let Some(value) = get(fact.event) {
                    return Some(Known { value, inherited: false });
                }
                let session = sessions.and_then(|sessions| sessions.get(index).copied().flatten());
                let steps = [
                    fact.span.or(fact.above).and_then(|span| at_span.get(span)),
                    fact.trace.and_then(|trace| in_root.get(trace)),
                    fact.trace.and_then(|trace| in_trace.get(trace)),
                    session.and_then(|session| in_session.get(session.value)),
                ];
                let found = steps.into_iter().flatten().find(|slot| !matches!(slot, Slot::Empty))?;
                match found {
                    Slot::One(value) => Some(Known { value, inherited: true }),
                    Slot::Empty | Slot::Many => None,
                }
            })
            .collect()
    }
}

/// Tells whether an event comes from a log record: its span is where it was written, not what it reports.
fn is_log(event: &Event) -> bool {
    event.source.path.as_deref().is_some_and(|path| path.split('/').any(|part| part == "logRecords"))
}

/// No value, one value, or several that differ.
#[derive(Debug)]
enum Slot<'a, T: ?Sized> {
    Empty,
    One(&'a T),
    Many,
}

impl<T: ?Sized> Clone for Slot<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Slot<'_, T> {}

impl<'a, T: PartialEq + ?Sized> Slot<'a, T> {
    fn add(&mut self, value: &'a T) {
        *self = match self {
            Slot::Empty => Slot::One(value),
            Slot::One(known) if *known == value => Slot::One(value),
            Slot::One(_) | Slot::Many => Slot::Many,
        };
    }
}

/// How often the fold looked at a fact or span, which is what it costs. Only tests ask.
pub(super) mod work {
    #[cfg(test)]
    thread_local! {
        static LOOKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    pub(super) fn looked() {
        #[cfg(test)]
        LOOKS.with(|looks| looks.set(looks.get() + 1));
    }

    /// Returns the looks of a piece of work on this thread.
    #[cfg(test)]
    pub(in crate::action) fn of<T>(work: impl FnOnce() -> T) -> (T, u64) {
        let before = LOOKS.with(std::cell::Cell::get);
        let done = work();
        (done, LOOKS.with(std::cell::Cell::get) - before)
    }
}
