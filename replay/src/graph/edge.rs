//! Edges: what leads to what, why the graph says so, and how sure that is.

use serde::Serialize;

/// How one node leads to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// A user acts through an agent, an agent acts.
    ActsAs,
    /// A source informs a step.
    Informs,
    /// A step causes another.
    Causes,
    /// A decision rules on a step.
    Rules,
    /// A person answers.
    Approves,
    /// A step ends.
    Yields,
    /// A step is tried again.
    Retries,
    /// A step undoes another.
    Compensates,
    /// A step or user hands over to an agent.
    Delegates,
    /// A step came before, and nothing but the order is known.
    Precedes,
}

impl EdgeKind {
    /// Returns the wire name, which is also the class suffix.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ActsAs => "acts_as",
            Self::Informs => "informs",
            Self::Causes => "causes",
            Self::Rules => "rules",
            Self::Approves => "approves",
            Self::Yields => "yields",
            Self::Retries => "retries",
            Self::Compensates => "compensates",
            Self::Delegates => "delegates",
            Self::Precedes => "precedes",
        }
    }
}

/// How sure an edge is, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// A source states it.
    Explicit,
    /// It follows from what sources state, and no source states it.
    Inferred,
    /// One came before the other where it could be seen; nothing more is known.
    Order,
}

impl Confidence {
    /// Every confidence, the surest first.
    pub const ALL: [Self; 3] = [Self::Explicit, Self::Inferred, Self::Order];

    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Inferred => "inferred",
            Self::Order => "order",
        }
    }

    /// Reads a wire name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|confidence| confidence.as_str() == name)
    }
}

/// Why an edge is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The event itself says so: its ruling, its outcome, its source, its agent.
    Stated,
    /// The parent span that the event states.
    ParentSpan,
    /// A link that the event states.
    Link,
    /// An approval id that question and answer share.
    ApprovalId,
    /// The agent is known for the action from elsewhere: an ancestor, the trace root, the one value of the trace.
    Inherited,
    /// The step states a source with the digest of the result of the other.
    SameDigest,
    /// The step states a source with the address that the other read.
    SameUri,
    /// The step states a source with the name of the other.
    SameName,
    /// The same call again right after it failed.
    Repeat,
    /// The step below is of another agent.
    OtherAgent,
    /// Earlier in the same trace.
    TraceOrder,
    /// Earlier in the same session.
    SessionOrder,
}

impl Basis {
    /// Returns how sure an edge for this reason is.
    pub const fn confidence(self) -> Confidence {
        match self {
            Self::Stated | Self::ParentSpan | Self::Link | Self::ApprovalId => Confidence::Explicit,
            Self::Inherited
            | Self::SameDigest
            | Self::SameUri
            | Self::SameName
            | Self::Repeat
            | Self::OtherAgent => Confidence::Inferred,
            Self::TraceOrder | Self::SessionOrder => Confidence::Order,
        }
    }

    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stated => "stated",
            Self::ParentSpan => "parent_span",
            Self::Link => "link",
            Self::ApprovalId => "approval_id",
            Self::Inherited => "inherited",
            Self::SameDigest => "same_digest",
            Self::SameUri => "same_uri",
            Self::SameName => "same_name",
            Self::Repeat => "repeat",
            Self::OtherAgent => "other_agent",
            Self::TraceOrder => "trace_order",
            Self::SessionOrder => "session_order",
        }
    }

    /// Says it for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Stated => "the event says so",
            Self::ParentSpan => "parent span",
            Self::Link => "a link that the event states",
            Self::ApprovalId => "the same approval id",
            Self::Inherited => "known from an ancestor or the trace",
            Self::SameDigest => "the digest of its result is stated as a source",
            Self::SameUri => "the address that it read is stated as a source",
            Self::SameName => "its name is stated as a source",
            Self::Repeat => "the same call right after a failure",
            Self::OtherAgent => "the step below is another agent's",
            Self::TraceOrder => "earlier in the same trace",
            Self::SessionOrder => "earlier in the same session",
        }
    }
}

/// An edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// How.
    pub kind: EdgeKind,
    /// Why it is there.
    pub basis: Basis,
    /// Event that says so, or from which it follows.
    pub seq: u64,
}

impl Edge {
    /// Returns how sure it is.
    pub const fn confidence(self) -> Confidence {
        self.basis.confidence()
    }

    /// Tells whether no source states it.
    pub const fn inferred(self) -> bool {
        !matches!(self.confidence(), Confidence::Explicit)
    }

    /// Tells whether nothing but the order is known. Such edges are in JSON and tables and not in pictures, which
    /// they would make one long row.
    pub const fn is_order(self) -> bool {
        matches!(self.confidence(), Confidence::Order)
    }

    /// Tells whether influence runs against the edge: what was undone led to its undoing.
    pub const fn runs_back(self) -> bool {
        matches!(self.kind, EdgeKind::Compensates)
    }
}
