//! Who and what the money went to: sums of cost and tokens by any of a fixed list of dimensions.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Unpriced;
use crate::action::Action;
use crate::action::labels::Labels;

/// Most dimensions of one breakdown.
pub const DIMENSIONS_MAX: usize = 6;

/// What costs can be told apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// User.
    User,
    /// Session.
    Session,
    /// Agent.
    Agent,
    /// Service.
    Service,
    /// Environment.
    Environment,
    /// Tenant.
    Tenant,
    /// Provider of the model.
    Provider,
    /// Model.
    Model,
    /// Day of the call, UTC.
    Day,
    /// A label: `team`, `feature`, `customer`, or one that was configured.
    Label(String),
}

impl Dimension {
    /// Reads a name; whatever is no member of the event model is a label.
    pub fn parse(name: &str) -> Self {
        match name {
            "user" => Self::User,
            "session" => Self::Session,
            "agent" => Self::Agent,
            "service" => Self::Service,
            "environment" => Self::Environment,
            "tenant" => Self::Tenant,
            "provider" => Self::Provider,
            "model" => Self::Model,
            "day" => Self::Day,
            label => Self::Label(label.to_owned()),
        }
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::User => "user",
            Self::Session => "session",
            Self::Agent => "agent",
            Self::Service => "service",
            Self::Environment => "environment",
            Self::Tenant => "tenant",
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Day => "day",
            Self::Label(name) => name,
        }
    }

    fn of(&self, action: &Action, labels: Option<&Labels>) -> Option<String> {
        let stated =
            |value: &Option<crate::action::Stated<String>>| value.as_ref().map(|stated| stated.value.clone());
        let usage = action.usage.as_ref();
        match self {
            Self::User => stated(&action.user),
            Self::Session => stated(&action.session),
            Self::Agent => action.agent_label().map(str::to_owned),
            Self::Service => stated(&action.service),
            Self::Environment => stated(&action.environment),
            Self::Tenant => stated(&action.tenant),
            Self::Provider => usage.and_then(|usage| usage.provider.clone()),
            Self::Model => usage.and_then(|usage| usage.model.clone()),
            Self::Day => {
                let at = Timestamp::from_nanosecond(i128::from(action.start_ns)).ok()?;
                (action.start_ns > 0).then(|| at.to_zoned(TimeZone::UTC).date().to_string())
            }
            Self::Label(name) => labels?.get(name).map(|label| label.value.clone()),
        }
    }
}

/// Money of one currency, by where the amount is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Reported by sources, nano-units.
    pub reported: i128,
    /// From a price table, nano-units.
    pub priced: i128,
}

impl Sum {
    /// Returns both together.
    pub const fn total(&self) -> i128 {
        self.reported.saturating_add(self.priced)
    }
}

/// Sums of one combination of values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// A value for each dimension; `None` where nothing says it.
    pub values: Vec<Option<String>>,
    /// Actions that used or cost something, each counted once.
    pub actions: u64,
    /// Those with a reported cost.
    pub reported: u64,
    /// Those with a cost from a table.
    pub priced: u64,
    /// Those without, by reason.
    pub unpriced: BTreeMap<Unpriced, u64>,
    /// Money by currency; currencies are never added.
    pub cost: BTreeMap<String, Sum>,
    /// Input tokens as stated.
    pub input_tokens: u64,
    /// Output tokens as stated.
    pub output_tokens: u64,
    /// Input tokens that a cache served.
    pub cache_read_tokens: u64,
    /// Input tokens written to a cache.
    pub cache_write_tokens: u64,
}

impl Row {
    fn add(&mut self, action: &Action) {
        let Some(usage) = action.own_usage() else { return };
        self.actions += 1;
        let add = |sum: &mut u64, count: Option<u64>| *sum = sum.saturating_add(count.unwrap_or(0));
        add(&mut self.input_tokens, usage.input_tokens);
        add(&mut self.output_tokens, usage.output_tokens);
        add(&mut self.cache_read_tokens, usage.cache_read_tokens);
        add(&mut self.cache_write_tokens, usage.cache_write_tokens);
        if let Some(cost) = &usage.cost {
            let sum = self.cost.entry(cost.currency.clone()).or_default();
            let nano = i128::from(cost.nano);
            if cost.basis == "reported" {
                self.reported += 1;
                sum.reported = sum.reported.saturating_add(nano);
            } else {
                self.priced += 1;
                sum.priced = sum.priced.saturating_add(nano);
            }
        } else if let Some(reason) = action.unpriced {
            *self.unpriced.entry(reason).or_default() += 1;
        }
    }

    /// Returns how many have no cost though they should.
    pub fn unpriced_count(&self) -> u64 {
        self.unpriced.values().sum()
    }
}

/// A breakdown: the rows, and all of them together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Breakdown {
    /// Rows, dearest first, then by their values.
    pub rows: Vec<Row>,
    /// Everything.
    pub total: Row,
}

impl Breakdown {
    /// Writes it as JSON; amounts are nano-units as decimal strings.
    pub fn json(&self, by: &[Dimension], limit: usize) -> Value {
        let rows: Vec<Value> = self.rows.iter().take(limit).map(|row| row.json(by)).collect();
        json!({
            "by": by.iter().map(Dimension::as_str).collect::<Vec<_>>(),
            "rows": rows,
            "rows_left_out": self.rows.len().saturating_sub(limit),
            "total": self.total.json(&[]),
        })
    }
}

impl Row {
    fn json(&self, by: &[Dimension]) -> Value {
        let values =
            by.iter().zip(&self.values).map(|(name, value)| (name.as_str().to_owned(), json!(value)));
        let cost = self.cost.iter().map(|(currency, sum)| {
            let nano = |nano: i128| nano.to_string();
            let sum = json!({
                "total_nano": nano(sum.total()), "reported_nano": nano(sum.reported), "priced_nano": nano(sum.priced),
            });
            (currency.clone(), sum)
        });
        let unpriced = self.unpriced.iter().map(|(reason, count)| (reason.as_str().to_owned(), json!(count)));
        json!({
            "values": values.collect::<Map<_, _>>(), "actions": self.actions, "cost": cost.collect::<Map<_, _>>(),
            "reported_count": self.reported, "priced_count": self.priced,
            "unpriced_count": self.unpriced_count(), "unpriced": unpriced.collect::<Map<_, _>>(),
            "input_tokens": self.input_tokens, "output_tokens": self.output_tokens,
            "cache_read_tokens": self.cache_read_tokens, "cache_write_tokens": self.cache_write_tokens,
        })
    }
}

/// Breaks down priced actions. `labels` are theirs, in their order.
pub fn breakdown<'a>(
    actions: impl IntoIterator<Item = (&'a Action, Option<&'a Labels>)>,
    by: &[Dimension],
) -> Breakdown {
    let mut rows: BTreeMap<Vec<Option<String>>, Row> = BTreeMap::new();
    let mut total = Row::default();
    for (action, labels) in actions {
        if action.own_usage().is_none() {
            continue;
        }
        total.add(action);
        if !by.is_empty() {
            let values: Vec<Option<String>> =
                by.iter().map(|dimension| dimension.of(action, labels)).collect();
            rows.entry(values).or_default().add(action);
        }
    }
    let mut rows: Vec<Row> = rows.into_iter().map(|(values, row)| Row { values, ..row }).collect();
    // Amounts of different currencies have no order among each other: each counts in turn, by its code.
    let currencies: Vec<&String> = total.cost.keys().collect();
    let amounts = |row: &Row| -> Vec<i128> {
        currencies.iter().map(|code| row.cost.get(*code).map_or(i128::MIN, Sum::total)).collect()
    };
    rows.sort_by(|a, b| {
        let tokens = |row: &Row| row.input_tokens.saturating_add(row.output_tokens);
        (amounts(b), tokens(b)).cmp(&(amounts(a), tokens(a))).then_with(|| a.values.cmp(&b.values))
    });
    Breakdown { rows, total }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::labels::{Collector, LabelSource};
    use crate::event::{ACTION_REPORTED, Action as Asked, ActionKind, Cost, Event, Usage};
    use crate::id::{SpanId, TraceId};
    use crate::pricing::{Table, apply};
    use crate::record::Record;

    fn call(seq: u64, team: &str, model: &str, cost: Option<(i64, &str)>) -> Record {
        let mut event = Event::new(format!("e{seq}"), Asked::new(ActionKind::Model, model));
        event.trace_id = Some(TraceId([u8::try_from(seq).unwrap_or(9); 16]));
        event.span_id = Some(SpanId(seq.to_be_bytes()));
        // 2026-06-01.
        event.start_ns = Some(1_780_272_000_000_000_000);
        event.attributes.insert("genops.team".to_owned(), team.into());
        event.usage = Some(Usage {
            provider: Some("openai".to_owned()),
            model: Some(model.to_owned()),
            input_tokens: Some(1_000),
            output_tokens: Some(0),
            cost: cost.map(|(nano, currency)| Cost {
                nano,
                currency: currency.to_owned(),
                basis: "reported".to_owned(),
            }),
            ..Usage::default()
        });
        Record {
            seq,
            ts_ns: seq,
            kind: ACTION_REPORTED.to_owned(),
            event: Some(Box::new(event)),
            body: serde_json::Map::new(),
            withheld: Vec::new(),
        }
    }

    #[test]
    fn reported_wins_currencies_stay_apart_and_the_unknown_is_counted() {
        let records = [
            call(1, "search", "gpt-4o-mini", None),
            call(2, "search", "gpt-4o-mini", Some((7, "USD"))),
            call(3, "shop", "gpt-4o-mini", Some((5, "EUR"))),
            call(4, "shop", "house-model", None),
        ];
        let table = Table::shipped().unwrap();
        let mut actions = crate::action::fold(&records, 0);
        let mut sources = LabelSource::defaults();
        sources.push(table.variant_source());
        let mut collector = Collector::new(sources);
        for record in &records {
            collector.see(record);
        }
        let labels = collector.labels(&actions);
        apply(&table, &mut actions, &labels);
        let by = ["team", "model", "day"].map(Dimension::parse);
        let found = breakdown(actions.iter().zip(labels.iter().map(Some)), &by);
        assert_eq!(found.total.actions, 4);
        assert_eq!(found.total.cost["USD"], Sum { reported: 7, priced: 150_000 });
        assert_eq!(found.total.cost["EUR"], Sum { reported: 5, priced: 0 });
        assert_eq!(found.total.unpriced, [(Unpriced::UnknownModel, 1)].into());
        let rows: Vec<Vec<&str>> = found
            .rows
            .iter()
            .map(|row| row.values.iter().map(|v| v.as_deref().unwrap_or("-")).collect())
            .collect();
        assert_eq!(
            rows,
            [
                ["shop", "gpt-4o-mini", "2026-06-01"],
                ["search", "gpt-4o-mini", "2026-06-01"],
                ["shop", "house-model", "2026-06-01"],
            ]
        );
        // Pricing again finds nothing left to do.
        let once = actions.clone();
        apply(&table, &mut actions, &labels);
        assert_eq!(actions, once);
    }
}
