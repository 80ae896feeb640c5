//! One action against a contract, and many against each of its fields.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Contract, Field, Require};
use crate::action::Action;

/// How an action stands with one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Stated on the action itself; also what was stated and is erased.
    Own,
    /// Inherited.
    Inherited,
    /// Nowhere.
    Missing,
}

/// What a contract says of one action.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Judgement {
    /// What is missing.
    pub missing: Vec<Field>,
    /// What is inherited and may be.
    pub inherited: Vec<Field>,
    /// How it stands with each field that a row asks for.
    #[serde(skip)]
    pub fields: BTreeMap<Field, Standing>,
}

impl Judgement {
    /// Tells whether the action meets the contract.
    pub fn is_met(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Judges a priced action. `violations` is what was said about its safety. `None` when no row is about it.
pub fn judge(contract: &Contract, action: &Action, violations: Option<u64>) -> Option<Judgement> {
    let mut judgement = Judgement::default();
    for row in contract.require().iter().filter(|row| applies(row, action)) {
        let mut standing = standing(row.field, action, violations);
        if standing == Standing::Inherited && !row.inherited {
            standing = Standing::Missing;
        }
        match standing {
            Standing::Own => {}
            Standing::Inherited => judgement.inherited.push(row.field),
            Standing::Missing => judgement.missing.push(row.field),
        }
        judgement.fields.insert(row.field, standing);
    }
    judgement.missing.sort_unstable();
    judgement.inherited.sort_unstable();
    (!judgement.fields.is_empty()).then_some(judgement)
}

fn applies(row: &Require, action: &Action) -> bool {
    row.kinds.contains(&action.kind)
        && (row.outcomes.is_empty() || action.outcome.is_some_and(|outcome| row.outcomes.contains(&outcome)))
}

fn standing(field: Field, action: &Action, violations: Option<u64>) -> Standing {
    let inherited = |inherited: Option<bool>| match inherited {
        Some(false) => Standing::Own,
        Some(true) => Standing::Inherited,
        None => Standing::Missing,
    };
    let stated = |is_stated: bool| if is_stated { Standing::Own } else { Standing::Missing };
    let usage = action.own_usage();
    match field {
        Field::Service => inherited(action.service.as_ref().map(|value| value.inherited)),
        Field::Environment => inherited(action.environment.as_ref().map(|value| value.inherited)),
        Field::Session => inherited(action.session.as_ref().map(|value| value.inherited)),
        // What was stated and is erased or withheld was stated: the entry commits to it.
        Field::User if action.user.is_none() && action.withheld.iter().any(|at| at == "/user") => {
            Standing::Own
        }
        Field::User => inherited(action.user.as_ref().map(|value| value.inherited)),
        Field::Model => stated(usage.is_some_and(|usage| usage.model.is_some())),
        Field::InputTokens => stated(usage.is_some_and(|usage| usage.input_tokens.is_some())),
        Field::OutputTokens => stated(usage.is_some_and(|usage| usage.output_tokens.is_some())),
        Field::Cost => stated(action.cost().is_some()),
        Field::Latency => stated(action.end_ns.is_some_and(|end| end >= action.start_ns)),
        Field::PolicyDecision => stated(!action.rulings.is_empty()),
        Field::SafetyViolations => stated(violations.is_some()),
        Field::Correlation => stated(action.trace_id.is_some() || action.session.is_some()),
    }
}

/// How many actions state a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct FieldCoverage {
    /// Actions that a row asks for it.
    pub asked: u64,
    /// Those that state it themselves.
    pub own: u64,
    /// Those that inherit it.
    pub inherited: u64,
}

/// Coverage of every field that a contract asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Coverage {
    /// By field.
    pub fields: BTreeMap<Field, FieldCoverage>,
    /// Actions that a row is about.
    pub actions: u64,
    /// Those that meet the contract.
    pub met: u64,
}

impl Coverage {
    /// Adds a judgement.
    pub fn add(&mut self, judgement: &Judgement) {
        self.actions += 1;
        self.met += u64::from(judgement.is_met());
        for (field, standing) in &judgement.fields {
            let coverage = self.fields.entry(*field).or_default();
            coverage.asked += 1;
            coverage.own += u64::from(*standing == Standing::Own);
            coverage.inherited += u64::from(*standing == Standing::Inherited);
        }
    }
}
