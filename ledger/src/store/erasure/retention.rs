//! How long values are kept, by entry type and tenant. Only values: entries and their proofs stay for good.
//!
//! A policy is an entry like any other, so that nobody can shorten it unseen, and it travels with the log.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::apply::{self, Basis, ErasureReceipt};
use super::hold::{append_fact, random_name};
use super::plan::{self, ErasurePlan};
use super::selection::Scope;
use super::{ErasureError, Parsed, RETENTION_APPLIED, RETENTION_SET, text_member};
use crate::store::{Index, Ledger};

/// Values are kept for at least so many days, unless an override says why not: six months, as the EU AI Act asks of
/// logs (Articles 19 and 26(6)).
pub const RETENTION_DAYS_MIN: u32 = 183;

const DAY_NS: u64 = 24 * 60 * 60 * 1_000_000_000;

/// How long the values of some entries are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct RetentionRule {
    /// Entry type.
    pub kind: String,
    /// Tenant; none: every tenant that has no rule of its own, and entries without one.
    pub tenant: Option<String>,
    /// Days; none: without end.
    pub days: Option<u32>,
    /// Why less than [`RETENTION_DAYS_MIN`] days.
    pub below_floor: Option<String>,
    /// Entry that set it; 0 in a rule that is to be set.
    pub seq: u64,
}

/// What is past its time.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Due {
    /// Rules that are in force.
    pub rules: Vec<RetentionRule>,
    /// What would be erased.
    pub plan: ErasurePlan,
}

impl Ledger {
    /// Sets how long values are kept; the newest rule of a type and tenant counts. Returns the entry's position.
    pub fn set_retention(&self, rule: &RetentionRule, by: &str, reason: &str) -> Result<u64, ErasureError> {
        if rule.kind.is_empty() {
            return Err(ErasureError::Nothing);
        }
        let written = rule.below_floor.as_ref().is_some_and(|why| !why.trim().is_empty());
        if let Some(days) = rule.days.filter(|days| *days < RETENTION_DAYS_MIN && !written) {
            return Err(ErasureError::BelowFloor { days });
        }
        let mut body = Map::new();
        let id = format!("retention-rule:{}", random_name(self)?);
        body.insert("id".to_owned(), Value::from(id));
        body.insert("kind".to_owned(), Value::from(rule.kind.as_str()));
        // Not as `tenant`: the rule is about its values and is not one of them.
        body.insert("for_tenant".to_owned(), Value::from(rule.tenant.clone()));
        body.insert("days".to_owned(), Value::from(rule.days));
        body.insert("floor_days".to_owned(), Value::from(RETENTION_DAYS_MIN));
        text_member(&mut body, "below_floor", rule.below_floor.as_deref().unwrap_or_default());
        text_member(&mut body, "reason", reason);
        text_member(&mut body, "by", by);
        append_fact(self, RETENTION_SET, body)
    }

    /// Lists the rules in force.
    pub fn retention(&self) -> Result<Vec<RetentionRule>, ErasureError> {
        let mut rules = BTreeMap::new();
        for seq in self.find_kind(RETENTION_SET)? {
            let parsed = Parsed::read(self, seq)?;
            let fact = |detail| ErasureError::Fact { seq, kind: RETENTION_SET.to_owned(), detail };
            let kind = parsed.text("kind").ok_or_else(|| fact("it names no type"))?.to_owned();
            let tenant = parsed.text("for_tenant").map(str::to_owned);
            let days = match parsed.body.get("days") {
                None | Some(Value::Null) => None,
                Some(days) => {
                    let days = days.as_u64().and_then(|days| u32::try_from(days).ok());
                    Some(days.ok_or_else(|| fact("`days` is not a number of days"))?)
                }
            };
            let below_floor = parsed.text("below_floor").map(str::to_owned);
            if days.is_some_and(|days| days < RETENTION_DAYS_MIN) && below_floor.is_none() {
                return Err(fact("it is below the floor and does not say why"));
            }
            let rule = RetentionRule { kind: kind.clone(), tenant: tenant.clone(), days, below_floor, seq };
            rules.insert((kind, tenant), rule);
        }
        Ok(rules.into_values().collect())
    }

    /// Says what is past its time, and changes nothing.
    pub fn retention_due(&self, now_ns: u64) -> Result<Due, ErasureError> {
        let rules = self.retention()?;
        let seqs = self.past_retention(&rules, now_ns)?;
        let (plan, _) = plan::plan(self, Scope::default(), &seqs, now_ns)?;
        Ok(Due { rules, plan })
    }

    /// Erases what is past its time, except what holds keep. Returns what was erased and the position of the entry
    /// that says so, if there was anything.
    pub fn apply_retention(
        &self,
        by: &str,
        now_ns: u64,
    ) -> Result<(ErasureReceipt, Option<u64>), ErasureError> {
        let rules = self.retention()?;
        let seqs = self.past_retention(&rules, now_ns)?;
        let basis = Basis {
            legal_basis: "storage limitation: the retention policy of this ledger".to_owned(),
            reason: "past its time".to_owned(),
            by: by.to_owned(),
            requested_by: None,
        };
        let receipt = apply::run(self, Scope::default(), &seqs, &basis, now_ns)?;
        if receipt.entries.is_empty() && receipt.held.is_empty() {
            return Ok((receipt, None));
        }
        let listed = rules.iter().map(|rule| {
            json!({"kind": rule.kind, "tenant": rule.tenant, "days": rule.days, "set_by": rule.seq.to_string()})
        });
        let mut body = Map::new();
        body.insert("id".to_owned(), Value::from(format!("retention:{}", receipt.erasure)));
        body.insert("erasure".to_owned(), Value::from(receipt.erasure.as_str()));
        body.insert("at_ns".to_owned(), Value::from(now_ns.to_string()));
        // The rules can be told from their entries; of very many only those that fit are listed.
        body.insert("rules".to_owned(), listed.take(100).collect());
        let counts = json!({
            "values": receipt.values, "bytes": receipt.bytes.to_string(), "bodies": receipt.bodies.len(),
            "held": receipt.held.len(),
        });
        body.insert("counts".to_owned(), counts);
        text_member(&mut body, "by", by);
        let applied = append_fact(self, RETENTION_APPLIED, body)?;
        Ok((receipt, Some(applied)))
    }

    /// Finds the entries that are past their time.
    fn past_retention(&self, rules: &[RetentionRule], now_ns: u64) -> Result<Vec<u64>, ErasureError> {
        let mut by_kind: BTreeMap<&str, Vec<&RetentionRule>> = BTreeMap::new();
        for rule in rules {
            by_kind.entry(&rule.kind).or_default().push(rule);
        }
        let mut due = Vec::new();
        for (kind, rules) in by_kind {
            let mut ends = BTreeMap::new();
            for rule in &rules {
                // A rule without days ends nothing, and keeps the general rule of the type away from its tenant.
                let end = match rule.days {
                    Some(days) => {
                        self.seq_at(now_ns.saturating_sub(u64::from(days).saturating_mul(DAY_NS)))?
                    }
                    None => 0,
                };
                ends.insert(rule.tenant.as_deref(), end);
            }
            let last = ends.values().copied().max().unwrap_or_default();
            let general = ends.get(&None).copied().unwrap_or_default();
            for seq in self.find(Index::Kind, kind, 0..last, usize::MAX)? {
                let end = if ends.len() == 1 && ends.contains_key(&None) {
                    general
                } else {
                    let parsed = Parsed::read(self, seq)?;
                    ends.get(&parsed.tenant()).copied().unwrap_or(general)
                };
                if seq < end {
                    due.push(seq);
                }
            }
        }
        due.sort_unstable();
        due.dedup();
        Ok(due)
    }
}
