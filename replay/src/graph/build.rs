//! From actions to nodes and edges.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::Graph;
use petgraph::graph::NodeIndex;
use verdict_ledger::Record;
use verdict_ledger::action::{Action, Ruling};
use verdict_ledger::event::{ActionKind, AuthorityKind, Provenance, Rel, Status};

use super::{Basis, Edge, EdgeKind, ExecutionGraph, Node, NodeKind, data, order};

/// Where an action starts and stands in the graph.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// First of its decisions, else the action.
    pub(super) entry: NodeIndex,
    pub(super) action: NodeIndex,
}

pub(super) fn build(actions: &[Action], records: &[Record]) -> ExecutionGraph {
    let mut actions: Vec<&Action> = actions.iter().collect();
    actions.sort_by_key(|action| action.key);
    let mut builder = Builder {
        graph: Graph::new(),
        people: BTreeMap::new(),
        sources: BTreeMap::new(),
        edges: BTreeSet::new(),
        stated_by: stated_by(records),
    };
    let places: BTreeMap<u64, Place> =
        actions.iter().map(|action| (action.key, builder.steps(action))).collect();
    let by_key: BTreeMap<u64, &Action> = actions.iter().map(|action| (action.key, *action)).collect();
    for action in &actions {
        if let Some(place) = places.get(&action.key) {
            builder.connect(action, *place, &places, &by_key);
        }
    }
    builder.inferred_retries(&actions, &places);
    for (from, to, basis) in data::flows(&actions) {
        if let (Some(from), Some(place)) = (places.get(&from), places.get(&to.key)) {
            builder.edge(from.action, place.entry, EdgeKind::Informs, basis, to.key);
        }
    }
    for (from, to, basis) in order::order(&actions) {
        if let (Some(from), Some(to)) = (places.get(&from), places.get(&to))
            && !builder.connected(from.action, to.entry)
        {
            let seq = builder.graph.node_weight(to.action).map_or(0, |node| node.seq);
            builder.edge(from.action, to.entry, EdgeKind::Precedes, basis, seq);
        }
    }
    // Edges in order of their ends, so that the bytes do not depend on how they were found.
    let edges: Vec<_> = builder.edges.iter().copied().collect();
    for (from, to, edge) in edges {
        builder.graph.add_edge(from, to, edge);
    }
    ExecutionGraph { graph: builder.graph }
}

type SourceKey = (String, verdict_ledger::event::Trust, Option<String>, Option<String>, Option<String>);

fn source_key(source: &Provenance) -> SourceKey {
    (source.kind.clone(), source.trust, source.name.clone(), source.uri.clone(), source.digest.clone())
}

/// The first event that states each source.
fn stated_by(records: &[Record]) -> BTreeMap<SourceKey, u64> {
    let mut first = BTreeMap::new();
    for record in records {
        for source in record.event.iter().flat_map(|event| &event.provenance) {
            let seq = first.entry(source_key(source)).or_insert(record.seq);
            *seq = record.seq.min(*seq);
        }
    }
    first
}

struct Builder {
    graph: Graph<Node, Edge>,
    people: BTreeMap<(NodeKind, String), NodeIndex>,
    sources: BTreeMap<SourceKey, NodeIndex>,
    edges: BTreeSet<(NodeIndex, NodeIndex, Edge)>,
    stated_by: BTreeMap<SourceKey, u64>,
}

impl Builder {
    /// Adds decisions, answers, the action and its outcome.
    fn steps(&mut self, action: &Action) -> Place {
        let rulings: Vec<NodeIndex> = action
            .rulings
            .iter()
            .enumerate()
            .map(|(position, ruling)| self.graph.add_node(ruling_node(action, ruling, position)))
            .collect();
        let node = self.graph.add_node(action_node(action));
        // A ruling of the guard itself is the guard's own word about something else; it still stands before it.
        let next = rulings.iter().skip(1).chain(std::iter::once(&node));
        for (ruling, next) in rulings.iter().zip(next) {
            let answers = self.graph.node_weight(*ruling).is_some_and(|n| n.kind == NodeKind::Approval);
            let kind = if answers { EdgeKind::Approves } else { EdgeKind::Rules };
            let (basis, seq) = self.ruling_basis(action, *ruling);
            self.edge(*ruling, *next, kind, basis, seq);
        }
        if let Some(status) = action.outcome {
            let outcome = self.graph.add_node(outcome_node(action, status));
            let seq = action.outcome_seq.unwrap_or(action.key);
            self.edge(node, outcome, EdgeKind::Yields, Basis::Stated, seq);
        }
        Place { entry: rulings.first().copied().unwrap_or(node), action: node }
    }

    fn connect(
        &mut self,
        action: &Action,
        place: Place,
        places: &BTreeMap<u64, Place>,
        by_key: &BTreeMap<u64, &Action>,
    ) {
        let parent = action.parent.and_then(|parent| Some((places.get(&parent)?, *by_key.get(&parent)?)));
        let agent = action.agent_label();
        let handed_over = parent.is_some_and(|(_, parent)| agent.is_some() && parent.agent_label() != agent);
        if let Some((parent, _)) = parent {
            // A parent is found by span, or by a link where there is none.
            let basis = if action.parent_span_id.is_some() { Basis::ParentSpan } else { Basis::Link };
            self.edge(parent.action, place.entry, EdgeKind::Causes, basis, action.key);
        }
        if let Some(label) = agent.filter(|_| parent.is_none() || handed_over) {
            let inherited = action.agent.as_ref().is_some_and(|agent| agent.inherited);
            let agent = self.person(NodeKind::Agent, label, action, inherited);
            self.edge(agent, place.entry, EdgeKind::ActsAs, known_by(inherited), action.key);
            match (parent, &action.user) {
                (Some((_, parent)), _) => {
                    if let Some(from) = parent.agent_label() {
                        let inherited = parent.agent.as_ref().is_some_and(|agent| agent.inherited);
                        let from = self.person(NodeKind::Agent, from, parent, inherited);
                        self.edge(from, agent, EdgeKind::Delegates, Basis::OtherAgent, action.key);
                    }
                }
                (None, Some(user)) => {
                    let basis = known_by(user.inherited);
                    let user = self.person(NodeKind::User, &user.value, action, user.inherited);
                    self.edge(user, agent, EdgeKind::ActsAs, basis, action.key);
                }
                (None, None) => {}
            }
            let mut to = agent;
            for delegator in &action.on_behalf_of {
                let from = self.person(NodeKind::User, delegator, action, false);
                self.edge(from, to, EdgeKind::Delegates, Basis::Stated, action.key);
                to = from;
            }
        } else if let (None, None, Some(user)) = (parent, agent, &action.user) {
            let basis = known_by(user.inherited);
            let user = self.person(NodeKind::User, &user.value, action, user.inherited);
            self.edge(user, place.entry, EdgeKind::ActsAs, basis, action.key);
        }
        for source in &action.provenance {
            let source = self.source(source, action.key);
            self.edge(source, place.entry, EdgeKind::Informs, Basis::Stated, action.key);
        }
        for relation in &action.relations {
            let Some(other) = places.get(&relation.key) else { continue };
            let (here, there) = (place, other);
            let (from, to, kind) = match relation.rel {
                Rel::CausedBy | Rel::Follows => (there.action, here.entry, EdgeKind::Causes),
                Rel::RetryOf => (there.action, here.entry, EdgeKind::Retries),
                Rel::Compensates => (here.action, there.action, EdgeKind::Compensates),
                Rel::DelegatedBy => (there.action, here.entry, EdgeKind::Delegates),
                Rel::Approves => (here.action, there.action, EdgeKind::Approves),
            };
            self.edge(from, to, kind, Basis::Link, action.key);
        }
    }

    /// The same call again right after it failed is a retry, though no source says so.
    fn inferred_retries(&mut self, actions: &[&Action], places: &BTreeMap<u64, Place>) {
        let mut last: BTreeMap<_, &Action> = BTreeMap::new();
        let mut in_time: Vec<&&Action> = actions.iter().filter(|a| a.kind == ActionKind::Tool).collect();
        in_time.sort_by_key(|action| (action.start_ns, action.key));
        for action in in_time {
            let arguments = action.arguments.as_ref().map(ToString::to_string);
            let call = (action.trace_id, action.agent_label(), action.name.as_str(), arguments);
            if let Some(earlier) = last.insert(call, action)
                && earlier.outcome == Some(Status::Error)
                && let (Some(from), Some(to)) = (places.get(&earlier.key), places.get(&action.key))
                && !self.edges_between(from.action, to.entry).any(|edge| edge.kind == EdgeKind::Retries)
            {
                self.edge(from.action, to.entry, EdgeKind::Retries, Basis::Repeat, action.key);
            }
        }
    }

    /// Adds an edge; of several for the same reason the first event is named.
    fn edge(&mut self, from: NodeIndex, to: NodeIndex, kind: EdgeKind, basis: Basis, seq: u64) {
        let known = |edge: &Edge| (edge.kind, edge.basis) == (kind, basis);
        if from == to || self.edges_between(from, to).any(|edge| known(&edge)) {
            return;
        }
        self.edges.insert((from, to, Edge { kind, basis, seq }));
    }

    fn edges_between(&self, from: NodeIndex, to: NodeIndex) -> impl Iterator<Item = Edge> + '_ {
        let first = Edge { kind: EdgeKind::ActsAs, basis: Basis::Stated, seq: 0 };
        let last = Edge { kind: EdgeKind::Precedes, basis: Basis::SessionOrder, seq: u64::MAX };
        self.edges.range((from, to, first)..=(from, to, last)).map(|(_, _, edge)| *edge)
    }

    fn connected(&self, from: NodeIndex, to: NodeIndex) -> bool {
        self.edges_between(from, to).next().is_some()
    }

    /// A ruling that another event states joins by link or by approval id; one of the action's own is stated.
    fn ruling_basis(&self, action: &Action, ruling: NodeIndex) -> (Basis, u64) {
        let Some(node) = self.graph.node_weight(ruling) else { return (Basis::Stated, action.key) };
        let answers = node.kind == NodeKind::Approval;
        let by_id = answers && node.ruling.as_ref().is_some_and(|decision| decision.approval_id.is_some());
        (if by_id { Basis::ApprovalId } else { Basis::Stated }, node.seq)
    }

    fn person(&mut self, kind: NodeKind, label: &str, action: &Action, inherited: bool) -> NodeIndex {
        let graph = &mut self.graph;
        let index = *self.people.entry((kind, label.to_owned())).or_insert_with(|| {
            let mut title = format!("{} {label}", kind.as_str());
            if let Some(agent) = action.agent.as_ref().filter(|_| kind == NodeKind::Agent) {
                let parts = [("id", &agent.value.id), ("version", &agent.value.version)];
                for (name, value) in parts.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
                    title.push_str(&format!(", {name} {value}"));
                }
            }
            let id = format!("{}:{label}", kind.as_str());
            graph.add_node(Node {
                title,
                inherited: true,
                ..plain(id, kind, label.to_owned(), kind.as_str().to_owned(), action.key)
            })
        });
        // One action that states it is enough; the first is named.
        if let Some(node) = self.graph.node_weight_mut(index).filter(|node| node.inherited && !inherited) {
            (node.inherited, node.seq) = (false, action.key);
        }
        index
    }

    fn source(&mut self, source: &Provenance, fallback: u64) -> NodeIndex {
        let key = source_key(source);
        let seq = self.stated_by.get(&key).copied().unwrap_or(fallback);
        let number = self.sources.len();
        let graph = &mut self.graph;
        *self.sources.entry(key).or_insert_with(|| {
            let label = source.name.as_ref().or(source.uri.as_ref()).unwrap_or(&source.kind).clone();
            let uri = source.uri.as_ref().map(|uri| format!(", {uri}")).unwrap_or_default();
            let trust = source.trust.as_str();
            graph.add_node(Node {
                title: format!("{trust} source {label}, {}{uri}", source.kind),
                trust: Some(source.trust),
                source: Some(source.clone()),
                ..plain(
                    format!("source:{number}"),
                    NodeKind::Source,
                    label,
                    format!("{trust} · {}", source.kind),
                    seq,
                )
            })
        })
    }
}

/// Why an identity is known for an action.
const fn known_by(inherited: bool) -> Basis {
    if inherited { Basis::Inherited } else { Basis::Stated }
}

fn plain(id: String, kind: NodeKind, label: String, note: String, seq: u64) -> Node {
    Node {
        id,
        kind,
        label,
        note,
        title: String::new(),
        seq,
        action: None,
        trace_id: None,
        seqs: Vec::new(),
        ruling: None,
        source: None,
        inherited: false,
        effect: None,
        trust: None,
        state: None,
        cost: None,
        count: 1,
    }
}

fn ruling_node(action: &Action, ruling: &Ruling, position: usize) -> Node {
    let decision = &ruling.decision;
    let kind = if decision.by.kind == AuthorityKind::Human { NodeKind::Approval } else { NodeKind::Decision };
    let effect = decision.effect.as_str();
    let policy = decision.policy.clone().unwrap_or_default();
    let rules = policy.rules.join(", ");
    let by = decision.by.id.clone().unwrap_or_else(|| decision.by.kind.as_str().to_owned());
    let note = if rules.is_empty() { format!("by {by}") } else { rules.clone() };
    let mut title = format!("{effect} on {} by {by}", action.name);
    let name = policy.name.as_ref().map(|name| match &policy.version {
        Some(version) => format!("{name}@{version}"),
        None => name.clone(),
    });
    let parts = [
        ("policy", name),
        ("rules", Some(rules).filter(|rules| !rules.is_empty())),
        ("code", decision.code.clone()),
        ("reason", decision.reason.clone()),
        ("approval", decision.approval_id.clone()),
        ("not enforced", Some(String::new()).filter(|_| !decision.enforced)),
    ];
    for (name, value) in parts.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        title.push_str(&format!(", {name} {value}"));
    }
    let label = if decision.enforced { effect.to_owned() } else { format!("{effect} (shadow)") };
    Node {
        title: title.trim_end().to_owned(),
        effect: Some(decision.effect),
        ruling: Some(decision.clone()),
        action: Some(action.key),
        trace_id: action.trace_id,
        ..plain(format!("ruling:{}.{position}", action.key), kind, label, note, ruling.seq)
    }
}

fn action_node(action: &Action) -> Node {
    let kind = match action.kind {
        ActionKind::Plan => NodeKind::Plan,
        ActionKind::Guard => NodeKind::Check,
        _ => NodeKind::Action,
    };
    let word = action.kind.as_str();
    let mut note = word.to_owned();
    let mut title = format!("{word} {}, {}", action.name, action.state.as_str());
    let cost = action.cost().cloned();
    if let Some(cost) = &cost {
        let money = money(cost);
        note.push_str(&format!(" · {money}"));
        title.push_str(&format!(", cost {money} ({})", cost.basis));
    }
    if let Some(usage) = action.own_usage() {
        let tokens = [("input", usage.input_tokens), ("output", usage.output_tokens)];
        for (name, count) in tokens.into_iter().filter_map(|(name, count)| Some((name, count?))) {
            title.push_str(&format!(", {count} {name} tokens"));
        }
    }
    for finding in &action.findings {
        title.push_str(&format!(", {}", finding.as_str()));
    }
    Node {
        title,
        state: Some(action.state.as_str()),
        cost,
        seqs: action.seqs.clone(),
        action: Some(action.key),
        trace_id: action.trace_id,
        ..plain(format!("action:{}", action.key), kind, action.name.clone(), note, action.key)
    }
}

fn outcome_node(action: &Action, status: Status) -> Node {
    let error = action.error.clone().unwrap_or_default();
    let note = error.kind.clone().unwrap_or_else(|| action.state.as_str().to_owned());
    let mut title = format!("{} ended {}", action.name, status.as_str());
    for text in [error.kind, error.message].into_iter().flatten() {
        title.push_str(&format!(", {text}"));
    }
    let seq = action.outcome_seq.unwrap_or(action.key);
    Node {
        title,
        state: Some(action.state.as_str()),
        action: Some(action.key),
        trace_id: action.trace_id,
        ..plain(format!("outcome:{}", action.key), NodeKind::Outcome, status.as_str().to_owned(), note, seq)
    }
}

/// Writes nano-units as a decimal amount without trailing zeros, at least two places.
pub(crate) fn money(cost: &verdict_ledger::event::Cost) -> String {
    let sign = if cost.nano < 0 { "-" } else { "" };
    let nano = cost.nano.unsigned_abs();
    let mut places = format!("{:09}", nano % 1_000_000_000);
    while places.len() > 2 && places.ends_with('0') {
        places.pop();
    }
    format!("{sign}{}.{places} {}", nano / 1_000_000_000, cost.currency)
}
