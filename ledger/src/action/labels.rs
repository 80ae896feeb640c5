//! What an action belongs to beside the members of the event model: team, feature, customer, and whatever else an
//! organisation names, read from attributes whose names are configurable.
//!
//! Attributes are most of the bytes of an event, so they are looked at once, while records go by, and only what was
//! asked for is kept.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Action, Stated};
use crate::event::Event;
use crate::record::Record;

/// Bytes of a value that are kept; more is no label.
const LABEL_BYTES_MAX: usize = 256;

/// Where the values of one label are looked for, first that states one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelSource {
    /// Name of the label: `team`.
    pub name: String,
    /// Names of attributes: of the record, else of its resource. `metadata.team` is also the member `team` of an
    /// attribute `metadata` that holds an object, or JSON as text.
    pub attributes: Vec<String>,
}

impl LabelSource {
    /// Names a label and its attributes.
    pub fn new(name: &str, attributes: &[&str]) -> Self {
        Self { name: name.to_owned(), attributes: attributes.iter().map(|&name| name.to_owned()).collect() }
    }

    /// Team, feature and customer as GenOps, OpenInference metadata, traceloop properties and resources name them.
    pub fn defaults() -> Vec<Self> {
        let usual = |name: &str, genops: &str, more: &[&str]| {
            let mut source = Self::new(name, &[genops, name]);
            for prefix in ["metadata", "traceloop.association.properties", "langfuse.trace.metadata"] {
                source.attributes.push(format!("{prefix}.{name}"));
            }
            source.attributes.extend(more.iter().map(|&name| name.to_owned()));
            source
        };
        vec![
            usual("team", "genops.team", &["team.name", "service.team", "service.owner"]),
            usual("feature", "genops.feature", &["feature.name"]),
            usual(
                "customer",
                "genops.customer_id",
                &[
                    "customer_id",
                    "customer.id",
                    "metadata.customer_id",
                    "traceloop.association.properties.customer_id",
                ],
            ),
        ]
    }
}

/// The labels of one action.
pub type Labels = BTreeMap<String, Stated<String>>;

/// Collects labels from records.
#[derive(Debug)]
pub struct Collector {
    sources: Vec<LabelSource>,
    /// What each event states, one slot a source.
    stated: BTreeMap<u64, Vec<Option<String>>>,
}

impl Collector {
    /// Starts to look for labels.
    pub fn new(sources: Vec<LabelSource>) -> Self {
        Self { sources, stated: BTreeMap::new() }
    }

    /// Looks at a record.
    pub fn see(&mut self, record: &Record) {
        let Some(event) = &record.event else { return };
        let found: Vec<Option<String>> =
            self.sources.iter().map(|source| find(event, &source.attributes)).collect();
        if found.iter().any(Option::is_some) {
            self.stated.insert(record.seq, found);
        }
    }

    /// Returns the labels of each action, in their order: as stated on it, else of the nearest action above it, else
    /// the only value in its trace.
    pub fn labels(&self, actions: &[Action]) -> Vec<Labels> {
        let mut all = vec![Labels::new(); actions.len()];
        for (slot, source) in self.sources.iter().enumerate() {
            let values = self.one(actions, slot);
            for (labels, value) in all.iter_mut().zip(values) {
                if let Some(value) = value {
                    labels.insert(source.name.clone(), value);
                }
            }
        }
        all
    }

    fn one(&self, actions: &[Action], slot: usize) -> Vec<Option<Stated<String>>> {
        let own: Vec<Option<&String>> = actions
            .iter()
            .map(|action| action.seqs.iter().find_map(|seq| self.stated.get(seq)?.get(slot)?.as_ref()))
            .collect();
        // `None` for values that contradict each other.
        let mut in_trace: BTreeMap<_, Option<&String>> = BTreeMap::new();
        for (action, value) in actions.iter().zip(&own) {
            if let (Some(trace), Some(value)) = (action.trace_id, *value) {
                let known = in_trace.entry(trace).or_insert(Some(value));
                *known = known.filter(|known| *known == value);
            }
        }
        let index: BTreeMap<u64, usize> =
            actions.iter().enumerate().map(|(at, action)| (action.key, at)).collect();
        let above = |at: usize| actions.get(at).and_then(|action| index.get(&action.parent?)).copied();
        // What is found at the top of a way holds for all of it; a link can close a ring, which then has nothing.
        let mut known: Vec<Option<Option<&String>>> = own.iter().map(|value| value.map(Some)).collect();
        for start in 0..actions.len() {
            let mut way = Vec::new();
            let mut at = Some(start);
            while let Some(here) = at.filter(|here| known.get(*here).copied().flatten().is_none()) {
                if let Some(slot) = known.get_mut(here) {
                    *slot = Some(None);
                }
                way.push(here);
                at = above(here);
            }
            let found = at.and_then(|here| known.get(here).copied().flatten()).flatten();
            for here in way {
                if let Some(slot) = known.get_mut(here) {
                    *slot = Some(found);
                }
            }
        }
        actions
            .iter()
            .zip(&own)
            .zip(known)
            .map(|((action, own), known)| {
                if let Some(value) = own {
                    return Some(Stated { value: (*value).clone(), inherited: false });
                }
                let only = || action.trace_id.and_then(|trace| in_trace.get(&trace).copied().flatten());
                let value = known.flatten().or_else(only)?;
                Some(Stated { value: value.clone(), inherited: true })
            })
            .collect()
    }
}

fn find(event: &Event, names: &[String]) -> Option<String> {
    let resource = event.attributes.get("otlp.resource").and_then(|resource| resource.get("attributes"));
    names.iter().find_map(|name| {
        let own = event.attributes.get(name).and_then(text);
        own.or_else(|| text(resource?.get(name)?)).or_else(|| member(event, name))
    })
}

/// Finds `a.b` as the member `b` of the attribute `a`, with any of its points as the one between them.
fn member(event: &Event, name: &str) -> Option<String> {
    let splits = name.match_indices('.').map(|(at, _)| at);
    splits.filter_map(|at| Some((name.get(..at)?, name.get(at + 1..)?))).find_map(
        |(outer, inner)| match event.attributes.get(outer)? {
            Value::Object(members) => text(members.get(inner)?),
            Value::String(json) if json.starts_with('{') => {
                text(serde_json::from_str::<Value>(json).ok()?.get(inner)?)
            }
            _ => None,
        },
    )
}

fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => return None,
    };
    (!text.is_empty() && text.len() <= LABEL_BYTES_MAX).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action as Asked, ActionKind};
    use crate::id::{SpanId, TraceId};
    use serde_json::json;

    fn record(seq: u64, parent: Option<u64>, attributes: Value) -> Record {
        let mut event = Event::new(format!("e{seq}"), Asked::new(ActionKind::Model, "m"));
        event.trace_id = Some(TraceId([1; 16]));
        event.span_id = Some(SpanId(seq.to_be_bytes()));
        event.parent_span_id = parent.map(|parent| SpanId(parent.to_be_bytes()));
        if let Value::Object(attributes) = attributes {
            event.attributes = attributes;
        }
        Record {
            seq,
            ts_ns: seq,
            kind: crate::event::ACTION_REPORTED.to_owned(),
            event: Some(Box::new(event)),
            body: serde_json::Map::new(),
            withheld: Vec::new(),
        }
    }

    fn labels(records: &[Record]) -> Vec<Labels> {
        let mut collector = Collector::new(LabelSource::defaults());
        for record in records {
            collector.see(record);
        }
        collector.labels(&super::super::fold(records, 0))
    }

    #[test]
    fn labels_are_found_where_conventions_put_them() {
        for attributes in [
            json!({"genops.team": "search"}),
            json!({"metadata": {"team": "search"}}),
            json!({"metadata": "{\"team\":\"search\"}"}),
            json!({"traceloop.association.properties.team": "search"}),
            json!({"otlp.resource": {"attributes": {"team": "search"}}}),
        ] {
            let found = labels(&[record(1, None, attributes.clone())]);
            assert_eq!(
                found[0]["team"],
                Stated { value: "search".to_owned(), inherited: false },
                "{attributes}"
            );
        }
        let long = "x".repeat(LABEL_BYTES_MAX + 1);
        for nothing in
            [json!({"team": ""}), json!({"team": null}), json!({"team": ["a"]}), json!({"team": long})]
        {
            assert_eq!(labels(&[record(1, None, nothing)])[0], Labels::new());
        }
    }

    #[test]
    fn labels_come_down_from_the_nearest_action_above() {
        let found = labels(&[
            record(1, None, json!({"genops.team": "shop", "genops.feature": "refunds"})),
            record(2, Some(1), json!({"genops.team": "search"})),
            record(3, Some(2), json!({})),
            record(4, None, json!({"genops.customer_id": 42})),
        ]);
        let value = |at: usize, name: &str| found[at].get(name).map(|v| (v.value.as_str(), v.inherited));
        assert_eq!(value(2, "team"), Some(("search", true)));
        assert_eq!(value(2, "feature"), Some(("refunds", true)));
        assert_eq!(value(3, "customer"), Some(("42", false)));
        // The trace names two teams, so that none of them holds for what hangs under neither.
        assert_eq!(value(3, "team"), None);
        assert_eq!(value(0, "customer"), Some(("42", true)), "the only one in the trace");
    }
}
