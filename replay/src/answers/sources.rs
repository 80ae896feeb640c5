//! Which sources influenced an action, and whether they are trusted.

use serde_json::json;
use verdict_ledger::action::Action;
use verdict_ledger::event::{Provenance, Trust};

use super::evidence::Evidence;
use super::{How, Statement};
use crate::graph::query::Direction;
use crate::graph::{Confidence, NodeKind};

/// Sources that are named; more are counted.
const NAMED_MAX: usize = 24;

/// Steps between that are looked at, the nearest to the source.
const STEPS_MAX: usize = 256;

/// A source that reached the action.
pub(super) struct Source {
    provenance: Provenance,
    confidence: Confidence,
    /// True when the action itself states it.
    own: bool,
    /// Steps between, the nearest to the source first: name and event.
    through: Vec<(String, u64)>,
    seq: u64,
}

pub(super) fn sources(action: &Action, evidence: &Evidence<'_>) -> Vec<Source> {
    let graph = evidence.graph;
    let nodes: Vec<_> = graph.nodes().collect();
    let id = format!("action:{}", action.key);
    let Some(at) = nodes.iter().position(|node| node.id == id) else { return Vec::new() };
    let reached = graph.reach(&[at], Direction::Upstream, Confidence::Order);
    let mut found: Vec<Source> = reached
        .nodes
        .iter()
        .filter_map(|(source, arrival)| {
            let node = nodes.get(*source)?;
            let provenance = node.source.clone()?;
            // From the action up to the source, so the other way round for people.
            let through: Vec<(String, u64)> = reached
                .end_of_path(*source, STEPS_MAX)
                .into_iter()
                .rev()
                .filter_map(|(at, _)| nodes.get(at))
                .filter(|node| matches!(node.kind, NodeKind::Action | NodeKind::Plan | NodeKind::Check))
                .filter(|node| node.action != Some(action.key))
                .map(|node| (node.label.clone(), node.seq))
                .collect();
            let own = action.provenance.contains(&provenance);
            let seq = if own { action.key } else { through.first().map_or(node.seq, |(_, seq)| *seq) };
            Some(Source { provenance, confidence: arrival.confidence, own, through, seq })
        })
        .collect();
    found.sort_by(|a, b| {
        let order = |source: &Source| {
            (source.confidence, !source.own, std::cmp::Reverse(source.provenance.trust), source.seq)
        };
        order(a).cmp(&order(b))
    });
    for source in found.iter_mut().filter(|source| source.own) {
        let seqs = evidence
            .action(action.key)
            .map(|action| evidence.saying(action, |event| event.provenance.contains(&source.provenance)));
        source.seq = seqs.and_then(|seqs| seqs.first().copied()).unwrap_or(source.seq);
    }
    found
}

pub(super) fn influenced_by(found: &[Source]) -> Vec<Statement> {
    if found.is_empty() {
        return vec![Statement::unknown("sources")];
    }
    let mut says: Vec<Statement> = found.iter().take(NAMED_MAX).map(statement).collect();
    if found.len() > NAMED_MAX {
        let rest = found.iter().skip(NAMED_MAX);
        let text = format!("and {} more, the surest are above", found.len() - NAMED_MAX);
        says.push(Statement::new(
            How::Order,
            text,
            rest.map(|source| source.seq).take(NAMED_MAX),
            json!(null),
        ));
    }
    says
}

fn statement(source: &Source) -> Statement {
    let Source { provenance, confidence, own, through, seq } = source;
    let way = if *own {
        "stated with the action".to_owned()
    } else {
        let names: Vec<&str> = through.iter().map(|(name, _)| name.as_str()).collect();
        let (first, last) = (names.first().copied().unwrap_or("an earlier step"), names.last().copied());
        let through = match (names.len(), last) {
            (0 | 1, _) | (_, None) => first.to_owned(),
            (2, Some(last)) => format!("{first}, then {last}"),
            (count, Some(last)) => format!("{first}, then {} more steps up to {last}", count - 1),
        };
        match confidence {
            Confidence::Explicit => format!("through {through}"),
            Confidence::Inferred => format!("through {through} (inferred)"),
            Confidence::Order => format!("it reached {first} earlier; only the order is known"),
        }
    };
    let how = match confidence {
        Confidence::Explicit if *own => How::Stated,
        Confidence::Explicit | Confidence::Inferred => How::Inferred,
        Confidence::Order => How::Order,
    };
    let seqs =
        std::iter::once(*seq).chain(through.iter().map(|(_, seq)| *seq).take(super::evidence::SEQS_MAX));
    let value =
        json!({"source": provenance, "confidence": confidence, "own": own, "steps_between": through.len()});
    Statement::new(how, format!("{}: {way}", named(provenance)), seqs, value)
}

/// Names a source with its trust.
fn named(source: &Provenance) -> String {
    let name =
        source.name.as_ref().or(source.digest.as_ref()).map(|name| format!(" {name}")).unwrap_or_default();
    let uri = source.uri.as_ref().map(|uri| format!(" ({uri})")).unwrap_or_default();
    format!("{} {}{name}{uri}", source.trust.as_str(), source.kind)
}

pub(super) fn trusted(found: &[Source]) -> Vec<Statement> {
    let lowest = |sure: bool| {
        let sources = found.iter().filter(|source| (source.confidence != Confidence::Order) == sure);
        sources.max_by_key(|source| (source.provenance.trust, std::cmp::Reverse(source.seq)))
    };
    let mut says = Vec::new();
    match lowest(true) {
        Some(source) => says.push(verdict(source, "of what is known to have influenced it")),
        None if found.is_empty() => says.push(Statement::unknown("trust")),
        None => says.push(Statement::new(
            How::Unknown,
            "unknown: no source is stated for it or for what led to it",
            [],
            json!(null),
        )),
    }
    // What only came earlier matters where it is worse.
    let sure = lowest(true).map(|source| source.provenance.trust);
    if let Some(source) = lowest(false)
        .filter(|source| Some(source.provenance.trust) > sure && !is_trusted(source.provenance.trust))
    {
        says.push(verdict(source, "of what came earlier, where it could have been seen"));
    }
    says
}

const fn is_trusted(trust: Trust) -> bool {
    matches!(trust, Trust::Trusted | Trust::Internal)
}

fn verdict(source: &Source, among: &str) -> Statement {
    let trust = source.provenance.trust;
    let word = match trust {
        Trust::Trusted => "yes",
        Trust::Internal => "yes, as internal",
        Trust::External | Trust::Unverified => "no",
        Trust::Unknown => "nobody vouches for it",
    };
    let how = match source.confidence {
        Confidence::Explicit if source.own => How::Stated,
        Confidence::Explicit | Confidence::Inferred => How::Inferred,
        Confidence::Order => How::Order,
    };
    let text = format!("{word}: the least trusted {among} is {}", named(&source.provenance));
    Statement::new(how, text, [source.seq], json!({"lowest_trust": trust, "trusted": is_trusted(trust)}))
}
