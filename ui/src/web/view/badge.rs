//! Effects, states and findings as text plus shape, never as colour alone.

use verdict_ledger::action::{Finding, State};
use verdict_ledger::event::{ActionKind, Effect, Trust};

/// A word with a shape and a colour class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Badge {
    /// Words.
    pub(crate) label: &'static str,
    /// Colour class in the style sheet.
    pub(crate) tone: &'static str,
    /// Path of the shape in a 12 by 12 box.
    pub(crate) shape: &'static str,
    /// What it means, for the tooltip.
    pub(crate) meaning: &'static str,
}

const CHECK: &str = "M2 6.5 5 9.5 10 3";
const CROSS: &str = "M3 3l6 6M9 3l-6 6";
const DIAMOND: &str = "M6 1.5 10.5 6 6 10.5 1.5 6z";
const HOURGLASS: &str = "M2.5 1.5h7l-7 9h7z";
const CLOCK: &str = "M6 1.5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9M6 3.5v3l2 1";
const RING: &str = "M6 2a4 4 0 1 0 0 8a4 4 0 1 0 0-8";
const DASH: &str = "M2.5 6h7";
const BACK: &str = "M5 2.5 2 5.5l3 3M2 5.5h5a2.5 2.5 0 0 1 0 5H6";
const WARN: &str = "M6 1.5 11 10.5H1zM6 5v2.5M6 9v.2";
const SPLIT: &str = "M2 6h3l4-3.5M5 6l4 3.5";
const LOCK: &str = "M3 5.5h6V10H3zM4.2 5.5V4a1.8 1.8 0 0 1 3.6 0v1.5";
const DOTS: &str = "M2.5 6h.2M6 6h.2M9.5 6h.2";

const fn badge(label: &'static str, tone: &'static str, shape: &'static str, meaning: &'static str) -> Badge {
    Badge { label, tone, shape, meaning }
}

/// Returns the badge of an effect.
pub(crate) const fn effect(effect: Effect) -> Badge {
    match effect {
        Effect::NoOp => badge("no-op", "quiet", DASH, "evaluated and not applicable"),
        Effect::Allow => badge("allow", "good", CHECK, "go ahead"),
        Effect::DryRun => badge("dry run", "info", RING, "simulate, without side effect"),
        Effect::RequireApproval => badge("approval", "wait", DIAMOND, "wait for an approval"),
        Effect::Cooldown => badge("cooldown", "wait", HOURGLASS, "refuse now, try again later"),
        Effect::Block => badge("block", "bad", CROSS, "refuse"),
    }
}

/// Tells whether an action of a kind changes or reveals something, so that a missing ruling is worth saying.
pub(crate) const fn has_effects(kind: ActionKind) -> bool {
    matches!(kind, ActionKind::Tool | ActionKind::Data | ActionKind::Message)
}

/// Returns the badge of "nothing was said about a decision", which is not an allow.
pub(crate) const fn no_decision() -> Badge {
    badge("no ruling", "quiet", DOTS, "no source stated a decision; this is not an allow")
}

/// Returns the badge of a replay that could not decide.
pub(crate) const fn unknown() -> Badge {
    badge("unknown", "info", DOTS, "the decision needs what is missing; never a guess")
}

/// Returns the badge of a state.
pub(crate) const fn state(state: State) -> Badge {
    match state {
        State::Asked => badge("asked", "quiet", DOTS, "asked for; nothing ruled, nothing happened"),
        State::Allowed => badge("allowed", "info", CHECK, "allowed, not ended"),
        State::Blocked => badge("blocked", "bad", CROSS, "refused and not run"),
        State::Waiting => badge("waiting", "wait", DIAMOND, "waits for an approval"),
        State::Cooling => badge("cooling", "wait", HOURGLASS, "refused until a time"),
        State::Done => badge("done", "good", CHECK, "ran and succeeded"),
        State::Failed => badge("failed", "bad", WARN, "ran, or tried to, and failed"),
        State::Cancelled => badge("cancelled", "quiet", DASH, "cancelled"),
        State::Compensated => badge("compensated", "info", BACK, "undone by another action"),
    }
}

/// Returns the badge of a finding.
pub(crate) const fn finding(finding: Finding) -> Badge {
    match finding {
        Finding::Ungoverned => badge("ungoverned", "wait", WARN, "it ran and no source stated a decision"),
        Finding::EnforcementFailure => badge("enforcement failure", "bad", WARN, "blocked, yet it ran"),
        Finding::Unfinished => {
            badge("unfinished", "wait", CLOCK, "allowed or waiting, and no outcome followed")
        }
        Finding::Conflict => {
            badge("conflict", "bad", SPLIT, "two decisions that differ, or one event id with two contents")
        }
    }
}

/// Returns the badge of what a strict contract holds back.
pub(crate) const fn quarantined() -> Badge {
    badge("quarantined", "bad", LOCK, "held back by a strict contract; counts nowhere until it is released")
}

/// Returns the badge of a settled action that does not meet the contract.
pub(crate) const fn unmet() -> Badge {
    badge("contract unmet", "wait", DASH, "something that the contract asks for is stated nowhere")
}

/// Every finding, most urgent first.
pub(crate) const FINDINGS: [Finding; 4] =
    [Finding::EnforcementFailure, Finding::Conflict, Finding::Ungoverned, Finding::Unfinished];

/// Returns the badge of a trust level.
pub(crate) const fn trust(trust: Trust) -> Badge {
    match trust {
        Trust::Trusted => badge("trusted", "good", CHECK, "the source vouches for it"),
        Trust::Internal => badge("internal", "info", RING, "from inside the organisation"),
        Trust::External => badge("external", "wait", DIAMOND, "from a known outsider"),
        Trust::Unverified => badge("unverified", "bad", WARN, "from anybody"),
        Trust::Unknown => badge("trust unknown", "quiet", DOTS, "nothing was said"),
    }
}

/// Returns the shape of an action kind, in a 12 by 12 box.
pub(crate) const fn kind_shape(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::Tool => {
            "M7.5 1.8a3 3 0 0 0-2.6 4.3L1.8 9.2l1 1 3.1-3.1a3 3 0 0 0 4-3.7L8 5.2 6.8 4l1.8-1.9z"
        }
        ActionKind::Model => "M6 1.2 7.3 4.7 10.8 6 7.3 7.3 6 10.8 4.7 7.3 1.2 6l3.5-1.3z",
        ActionKind::Agent => "M2.5 4.5h7v5h-7zM6 4.5V2M4.5 6.8v.4M7.5 6.8v.4",
        ActionKind::Data => "M2 3c0-1 8-1 8 0v6c0 1-8 1-8 0zM2 3c0 1 8 1 8 0",
        ActionKind::Message => "M1.5 3h9v6h-9zM1.5 3 6 6.5 10.5 3",
        ActionKind::Guard => "M6 1.5 10 3v3c0 2.5-1.7 4-4 4.8C3.7 10 2 8.5 2 6V3z",
        ActionKind::Plan => "M2 3h8M2 6h8M2 9h5",
        ActionKind::Other => RING,
    }
}
