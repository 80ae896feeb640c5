//! An incident: the traces that belong together around one trace, session, approval or event.
//!
//! Traces are joined by links that events state (`delegated_by`, `caused_by`, `retry_of`, `compensates`, `follows`,
//! `approves`), by an approval id that question and answer share, and by the session. Each trace says by what it was
//! joined and which event says so.
//!
//! # Bounds
//! Traces, events and sessions are found by their indexes. No index has the targets of links and approvals, so they
//! are looked for in a window of the log around what was asked for ([`Limits::scan`]); in a log that is no longer than
//! the window nothing is missed. Whatever stops at a limit is said in [`Incident::stops`].
//!
//! # Invariants
//! - Everything in an incident is in the log below [`Incident::end_seq`].
//! - Another tenant's events are never joined by a session or an approval, whose names may be anybody's.

mod collect;
mod links;
pub mod reached;

use std::collections::BTreeSet;

use serde::Serialize;
use verdict_ledger::id::TraceId;
use verdict_ledger::{Ledger, LedgerError, QueryError, Record};

/// What an incident is around.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "around", content = "id")]
pub enum Seed {
    /// A trace.
    Trace(TraceId),
    /// A session.
    Session(String),
    /// An approval.
    Approval(String),
    /// An event, by position.
    Event(u64),
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Trace(trace) => write!(f, "trace {trace}"),
            Self::Session(session) => write!(f, "session {session}"),
            Self::Approval(approval) => write!(f, "approval {approval}"),
            Self::Event(seq) => write!(f, "event {seq}"),
        }
    }
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Traces.
    pub traces: usize,
    /// Events.
    pub events: usize,
    /// Entries in which links and approvals are looked for.
    pub scan: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { traces: 64, events: 20_000, scan: 100_000 }
    }
}

/// Why a trace belongs to an incident.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Join {
    /// It was asked for.
    Asked,
    /// A link, and the event that states it.
    Link {
        /// Relation.
        rel: &'static str,
        /// Event.
        seq: u64,
    },
    /// An approval that both name, and the event that names it.
    Approval {
        /// Approval.
        approval_id: String,
        /// Event.
        seq: u64,
    },
    /// A session that both are in, and an event of the session.
    Session {
        /// Session.
        session: String,
        /// Event.
        seq: u64,
    },
}

/// A trace of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Trace; `None` stands for all events without one.
    pub trace_id: Option<TraceId>,
    /// By what it was joined; the first that was found.
    pub joined: Join,
    /// Events of it in the incident.
    pub events: usize,
    /// Its first event in the incident.
    pub first_seq: u64,
}

/// Where the search for an incident stopped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "limit")]
pub enum Stop {
    /// Traces that belong to it were left out.
    Traces {
        /// Limit.
        max: usize,
        /// Traces that are known and left out.
        left_out: usize,
    },
    /// Events were left out.
    Events {
        /// Limit.
        max: usize,
        /// Events that are known and left out.
        left_out: usize,
    },
    /// Links and approvals outside of a window were not looked for.
    Scan {
        /// First entry of the window.
        first_seq: u64,
        /// One past its last entry.
        end_seq: u64,
    },
    /// A session has more events than were looked at.
    Session {
        /// Session.
        session: String,
        /// Events that were looked at, the nearest first.
        looked_at: usize,
    },
    /// An id that too many events have says nothing.
    Ambiguous {
        /// Id.
        id: String,
        /// Events that have it.
        events: usize,
    },
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Traces { max, left_out } => {
                write!(f, "stopped at {max} traces: {left_out} more are known and left out")
            }
            Self::Events { max, left_out } => {
                write!(f, "stopped at {max} events: {left_out} more are known and left out")
            }
            Self::Scan { first_seq, end_seq } => write!(
                f,
                "links and approvals that others state were looked for in entries {first_seq}..{end_seq} only"
            ),
            Self::Session { session, looked_at } => {
                write!(f, "session {session} has more events than the {looked_at} that were looked at")
            }
            Self::Ambiguous { id, events } => {
                write!(f, "event id {id} is that of {events} events, so links to it were not followed")
            }
        }
    }
}

/// Traces that belong together.
#[derive(Debug, Clone)]
pub struct Incident {
    /// What it is around.
    pub seed: Seed,
    /// Size of the log that was looked at.
    pub end_seq: u64,
    /// Its traces, by first event.
    pub members: Vec<Member>,
    /// Every event, in log order.
    pub records: Vec<Record>,
    /// Where the search stopped.
    pub stops: BTreeSet<Stop>,
}

/// Why there is no incident.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IncidentError {
    /// The ledger cannot be read.
    #[error("the ledger cannot be read")]
    Ledger(#[from] LedgerError),
    /// An index cannot be read.
    #[error("an index cannot be read")]
    Query(#[from] QueryError),
    /// Nothing goes by that name.
    #[error("the ledger has no {seed} among its first {end_seq} entries")]
    Unknown {
        /// What was asked for.
        seed: Seed,
        /// Size of the log that was looked at.
        end_seq: u64,
    },
    /// The entry is no statement about an action.
    #[error("entry {seq} is a `{kind}`, which belongs to no trace")]
    NoAction {
        /// Entry.
        seq: u64,
        /// Its type.
        kind: String,
    },
    /// The approval was not found where it was looked for.
    #[error(
        "no event in entries {first_seq}..{end_seq} names approval `{approval}`; approvals are in no index, so a larger window finds older ones"
    )]
    NoApproval {
        /// Approval.
        approval: String,
        /// First entry that was looked at.
        first_seq: u64,
        /// One past the last.
        end_seq: u64,
    },
}

impl Incident {
    /// Collects what belongs together in the first `end_seq` entries of a ledger.
    pub fn collect(ledger: &Ledger, seed: Seed, end_seq: u64, limits: Limits) -> Result<Self, IncidentError> {
        collect::collect(ledger, seed, end_seq, limits)
    }

    /// Returns what is said about the incident beside its graph.
    pub fn summary(&self) -> serde_json::Value {
        serde_json::json!({
            "seed": self.seed, "end_seq": self.end_seq, "traces": self.members, "events": self.records.len(),
            "stops": self.stops.iter().map(|stop| serde_json::json!({"what": stop, "words": stop.to_string()})).collect::<Vec<_>>(),
        })
    }
}
