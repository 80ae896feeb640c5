//! Sums that can be taken back: calls, and money by currency.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Most currencies that one scope sums; what comes later is summed under `XXX` (ISO 4217: no currency).
pub const CURRENCIES_MAX: usize = 8;

/// Whether something is added or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Add,
    Take,
}

impl Sign {
    pub(super) const fn of(self, amount: i64) -> i64 {
        match self {
            Self::Add => amount,
            Self::Take => amount.saturating_neg(),
        }
    }
}

/// Calls and money.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) tool_calls: i64,
    pub(super) spent: Money,
}

impl Counters {
    pub(super) fn call(&mut self, sign: Sign) {
        self.tool_calls = self.tool_calls.saturating_add(sign.of(1));
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.tool_calls = self.tool_calls.saturating_add(other.tool_calls);
        for (currency, nano) in &other.spent.0 {
            self.spent.add(currency, *nano);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tool_calls == 0 && self.spent.0.is_empty()
    }

    pub(super) fn document(&self) -> Value {
        json!({"tool_calls": self.tool_calls, "spent_nano": self.spent.document()})
    }
}

/// Sums by currency; a sum of zero is not there, so that equal histories have equal bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Money(BTreeMap<String, i64>);

impl Money {
    pub(super) fn add(&mut self, currency: &str, nano: i64) {
        let well_formed = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
        let room = self.0.len() < CURRENCIES_MAX || self.0.contains_key(currency);
        let currency = if well_formed && room { currency } else { "XXX" };
        let sum = self.0.get(currency).copied().unwrap_or_default().saturating_add(nano);
        if sum == 0 {
            self.0.remove(currency);
        } else {
            self.0.insert(currency.to_owned(), sum);
        }
    }

    /// `USD` always stands, so that a rule about it never meets an absent member.
    pub(super) fn document(&self) -> Value {
        let mut object = Map::new();
        object.insert("USD".to_owned(), json!(0));
        for (currency, nano) in &self.0 {
            object.insert(currency.clone(), json!(nano));
        }
        Value::Object(object)
    }
}
