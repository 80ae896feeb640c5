//! Every action that a source reached, over the whole log or a part of it.
//!
//! No index has sources, so entries are read as bytes and those that hold the text are parsed; nothing disclosed is
//! read. Each trace that states the source is then asked what is downstream of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use verdict_ledger::action::fold;
use verdict_ledger::event::Provenance;
use verdict_ledger::id::TraceId;
use verdict_ledger::{Ledger, Record};

use super::IncidentError;
use crate::graph::flow::Hop;
use crate::graph::query::Direction;
use crate::graph::{Confidence, ExecutionGraph, NodeKind};

/// Traces that are asked.
pub const TRACES_MAX: usize = 10_000;
/// Events of a trace that are folded.
const TRACE_EVENTS_MAX: usize = 100_000;
/// Actions that are listed.
pub const ACTIONS_MAX: usize = 1_000_000;

/// An action that the source reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReachedAction {
    /// Key.
    pub key: u64,
    /// Events that report it.
    pub seqs: Vec<u64>,
    /// Trace.
    pub trace_id: Option<TraceId>,
    /// How sure the path is.
    pub confidence: Confidence,
    /// The path.
    pub path: Vec<Hop>,
}

/// What was found, and where it stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReachedBy {
    /// Actions by key.
    pub actions: Vec<ReachedAction>,
    /// Events that state the source.
    pub stated_by: Vec<u64>,
    /// The entry behind the last that was looked at, when that is not all.
    pub stopped_at: Option<u64>,
    /// Traces that state it and were not asked.
    pub traces_left_out: usize,
}

#[derive(Deserialize)]
struct Entry {
    body: Body,
}

#[derive(Deserialize)]
struct Body {
    trace_id: Option<TraceId>,
    #[serde(default)]
    provenance: Vec<Provenance>,
}

/// Finds every action that a source of this name, address or digest reached, along edges that are at least this sure.
/// `seen` is told how many entries were looked at; at most `scan` are.
pub fn reached_by(
    ledger: &Ledger,
    range: Range<u64>,
    source: &str,
    least: Confidence,
    scan: u64,
    seen: &mut dyn FnMut(u64),
) -> Result<ReachedBy, IncidentError> {
    let end = range.end.min(ledger.head().size);
    let stop = range.start.saturating_add(scan).min(end);
    let mut out = ReachedBy { stopped_at: Some(stop).filter(|stop| *stop < end), ..ReachedBy::default() };
    // Entries are canonical JSON, so a text has one spelling.
    let needle = serde_json::Value::from(source).to_string();
    let mut traces: BTreeSet<TraceId> = BTreeSet::new();
    let mut lone = Vec::new();
    for (looked, entry) in (1u64..).zip(ledger.entries(range.start..stop)) {
        let (seq, bytes) = entry?;
        if looked % 4_096 == 0 {
            seen(looked);
        }
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        if !text.contains(&needle) {
            continue;
        }
        let Ok(Entry { body }) = serde_json::from_str::<Entry>(text) else { continue };
        if !body.provenance.iter().any(|known| is_named(known, source)) {
            continue;
        }
        out.stated_by.push(seq);
        match body.trace_id {
            Some(trace) if traces.len() < TRACES_MAX || traces.contains(&trace) => drop(traces.insert(trace)),
            Some(_) => out.traces_left_out += 1,
            None => lone.push(seq),
        }
    }
    let mut found: BTreeMap<u64, ReachedAction> = BTreeMap::new();
    for trace in traces {
        let seqs = ledger.trace_seqs(&trace)?.into_iter().filter(|seq| *seq < end).take(TRACE_EVENTS_MAX);
        let records = seqs.filter_map(|seq| ledger.record(seq).transpose()).collect::<Result<Vec<_>, _>>()?;
        downstream(&records, source, least, &mut found);
    }
    for seq in lone {
        let records: Vec<Record> = ledger.record(seq)?.into_iter().collect();
        downstream(&records, source, least, &mut found);
    }
    out.actions = found.into_values().take(ACTIONS_MAX).collect();
    Ok(out)
}

fn is_named(source: &Provenance, name: &str) -> bool {
    [&source.name, &source.uri, &source.digest].into_iter().flatten().any(|said| said == name)
}

fn downstream(records: &[Record], source: &str, least: Confidence, found: &mut BTreeMap<u64, ReachedAction>) {
    let graph = ExecutionGraph::of(&fold(records, 0), records);
    let starts: Vec<usize> = graph
        .nodes()
        .enumerate()
        .filter(|(_, node)| node.source.as_ref().is_some_and(|known| is_named(known, source)))
        .map(|(at, _)| at)
        .collect();
    let reached = graph.reach(&starts, Direction::Downstream, least);
    let steps = |kind| matches!(kind, NodeKind::Action | NodeKind::Plan | NodeKind::Check);
    for (at, node) in graph.nodes().enumerate().filter(|(_, node)| steps(node.kind)) {
        let Some(arrival) = reached.nodes.get(&at) else { continue };
        found.insert(
            node.seq,
            ReachedAction {
                key: node.seq,
                seqs: node.seqs.clone(),
                trace_id: node.trace_id,
                confidence: arrival.confidence,
                path: graph.hops(&reached, at).0,
            },
        );
    }
}
