//! Which traces a filter can match, as far as the indexes tell.
//!
//! A filter asks about actions, which are folded from the events of a trace. Whatever an action has was said by some
//! event, so a trace without such an event need not be read, decrypted and folded to be passed over.

use verdict_ledger::event::Effect;
use verdict_ledger::id::TraceId;
use verdict_ledger::{Index, Ledger, Order, Query, QueryError};

use super::traces::Filter;
use crate::web::error::PageError;

/// Names that are looked through for a part of one.
const NAMES_MAX: usize = 2_000;
/// Names that are asked for; when more have the part, it says too little.
const ASKED_MAX: usize = 32;
/// Indexed texts from this length on may have been cut.
const CUT_BYTES: usize = 197;

/// What some event of a trace must have said.
#[derive(Debug, Default)]
pub(crate) struct Chance {
    conditions: Vec<Query>,
    none: bool,
}

impl Chance {
    /// Works out what the indexes can be asked.
    pub(crate) fn of(ledger: &Ledger, filter: &Filter) -> Result<Self, PageError> {
        let mut chance = Self::default();
        if Effect::ALL.iter().any(|effect| effect.as_str() == filter.effect) {
            let effects = vec![filter.effect.clone()];
            chance.conditions.push(Query { effects, ..Query::default() });
        }
        if let Some(agents) = names(ledger, Index::Agent, &filter.agent)? {
            chance.none |= agents.is_empty();
            chance.conditions.push(Query { agents, ..Query::default() });
        }
        if let Some(tools) = names(ledger, Index::Tool, &filter.tool)? {
            chance.none |= tools.is_empty();
            chance.conditions.push(Query { tools, ..Query::default() });
        }
        Ok(chance)
    }

    /// Tells whether a trace can match at a position of the log.
    pub(crate) fn has(&self, ledger: &Ledger, trace: &TraceId, at: u64) -> Result<bool, PageError> {
        if self.none {
            return Ok(false);
        }
        for condition in &self.conditions {
            let query = Query { traces: vec![*trace], end_seq: Some(at), ..condition.clone() };
            let mut found = ledger.query(&query, Order::Newest, None).map_err(refused)?;
            if found.next().transpose()?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn refused(error: QueryError) -> PageError {
    match error {
        QueryError::Ledger(error) => error.into(),
        other => PageError::BadRequest { detail: other.to_string() },
    }
}

/// Lists the names of an index that have a part, when that says something.
fn names(ledger: &Ledger, index: Index, part: &str) -> Result<Option<Vec<String>>, PageError> {
    // The index holds no NUL.
    let part = part.replace('\0', "").to_lowercase();
    if part.is_empty() {
        return Ok(None);
    }
    let names = ledger.index_values(index, NAMES_MAX)?;
    if names.len() == NAMES_MAX {
        return Ok(None);
    }
    let has = |name: &String| name.len() >= CUT_BYTES || name.to_lowercase().contains(&part);
    let names: Vec<String> = names.into_iter().filter(has).collect();
    Ok((names.len() <= ASKED_MAX).then_some(names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use verdict_ledger::clock::SteppingClock;
    use verdict_ledger::event::Event;
    use verdict_ledger::{Batch, InitOptions, NewRecord, action};

    const EVENTS: &str = include_str!("../../../../testdata/native/harbor-goods.ndjson");

    #[test]
    fn no_trace_that_matches_is_passed_over_and_some_that_do_not_are() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(SteppingClock::starting_at(1_763_670_000_000_000_000));
        let options = InitOptions::new("ledger.example/chance");
        let ledger = Ledger::init(&dir.path().join("ledger"), &options, clock).unwrap();
        let records = EVENTS.lines().map(|line| {
            let event: Event = serde_json::from_str(line).unwrap();
            NewRecord::from_event(&event).unwrap()
        });
        ledger.append(Batch { records: records.collect(), blobs: Vec::new() }).unwrap();
        let size = ledger.head().size;
        let traces = ledger.traces(None, 1_000).unwrap();
        assert!(traces.len() > 5);
        let (mut matched, mut spared) = (0, 0);
        for (agent, tool) in [("", ""), ("SUPPORT", ""), ("agent", "refund"), ("", "sql"), ("nobody", "")] {
            for effect in ["", "none", "allow", "block", "require_approval"] {
                let filter = Filter {
                    agent: agent.into(),
                    tool: tool.into(),
                    effect: effect.into(),
                    ..Filter::default()
                };
                let chance = Chance::of(&ledger, &filter).unwrap();
                for trace in &traces {
                    let actions = action::fold(&ledger.trace(&trace.trace_id).unwrap(), 0);
                    let matches = filter.matches(&trace.trace_id.to_string(), &actions);
                    let has = chance.has(&ledger, &trace.trace_id, size).unwrap();
                    assert!(has || !matches, "{filter:?} passes over {}", trace.trace_id);
                    matched += u32::from(matches);
                    spared += u32::from(!has);
                }
            }
        }
        assert!(matched > 20 && spared > 100, "{matched} matched, {spared} spared");
    }
}
