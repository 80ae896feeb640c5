//! Actions as people are shown them: folded, priced, judged by the contract in force, with what is in quarantine
//! marked. One function of the log at a position and of the time that counts as settled; everything that counts or
//! renders starts from here.

use std::ops::Range;
use std::sync::Arc;

use crate::action::labels::{Collector, LabelSource, Labels};
use crate::action::{self, Action};
use crate::activation::ActivationError;
use crate::contract::{self, Contract, Judgement, Quarantine};
use crate::pricing::{self, Table};
use crate::record::Record;
use crate::store::Ledger;

/// The attribute that joins the two sides of an MCP call.
const MCP_METHOD: &str = "mcp.method.name";

/// Actions and what is said about them.
#[derive(Debug)]
pub struct View {
    /// Actions by key, priced.
    pub actions: Vec<Action>,
    /// Their labels: team, feature, customer.
    pub labels: Vec<Labels>,
    /// What rules at its position.
    pub rules: Arc<Rules>,
    violations: Vec<Option<u64>>,
}

/// What rules at a position of the log, read once for any number of views.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Price table in force.
    pub table: Table,
    /// Contract in force.
    pub contract: Contract,
    /// What is held back.
    pub quarantine: Quarantine,
    /// Where labels are looked for.
    pub labels: Vec<LabelSource>,
}

impl Rules {
    /// Reads what is in force below a position.
    pub fn read(ledger: &Ledger, below: u64, labels: Vec<LabelSource>) -> Result<Arc<Self>, ActivationError> {
        Ok(Arc::new(Self {
            table: pricing::registry::in_force(ledger, below)?.0,
            contract: contract::in_force(ledger, below)?.0,
            quarantine: Quarantine::read(ledger, below)?,
            labels,
        }))
    }

    /// Starts to collect what the views need of attributes.
    pub fn collector(&self) -> Collector {
        let mut sources = self.labels.clone();
        sources.push(self.table.variant_source());
        sources.push(self.contract.safety().source());
        Collector::new(sources)
    }
}

impl View {
    /// Reads a range of the log. `seen` is told how many entries were read; attributes, arguments and results, which
    /// are most of the bytes, are not kept.
    pub fn read(
        ledger: &Ledger,
        range: Range<u64>,
        rules: &Arc<Rules>,
        settled_before_ns: u64,
        seen: &mut dyn FnMut(&Record),
    ) -> Result<Self, ActivationError> {
        let mut collector = rules.collector();
        let mut records = Vec::new();
        for record in ledger.records(range) {
            let mut record = record?;
            collector.see(&record);
            if let Some(event) = &mut record.event {
                event.attributes.retain(|name, _| name == MCP_METHOD);
                event.action.arguments = None;
                if let Some(outcome) = &mut event.outcome {
                    outcome.result = None;
                }
            }
            seen(&record);
            records.push(record);
        }
        Ok(Self::with(&records, rules, &collector, settled_before_ns))
    }

    /// Makes the view of some records.
    pub fn of(records: &[Record], rules: &Arc<Rules>, settled_before_ns: u64) -> Self {
        let mut collector = rules.collector();
        for record in records {
            collector.see(record);
        }
        Self::with(records, rules, &collector, settled_before_ns)
    }

    fn with(records: &[Record], rules: &Arc<Rules>, collector: &Collector, settled_before_ns: u64) -> Self {
        let mut actions = action::fold(records, settled_before_ns);
        let labels = collector.labels(&actions);
        pricing::apply(&rules.table, &mut actions, &labels);
        let violations = rules.contract.safety().count(&actions, &labels);
        Self { actions, labels, rules: Arc::clone(rules), violations }
    }

    /// Judges an action by the contract in force; `None` when the contract says nothing about it.
    pub fn judgement(&self, index: usize) -> Option<Judgement> {
        let violations = self.violations.get(index).copied().flatten();
        contract::judge(&self.rules.contract, self.actions.get(index)?, violations)
    }

    /// Returns what was said about the safety of an action.
    pub fn violations(&self, index: usize) -> Option<u64> {
        self.violations.get(index).copied().flatten()
    }

    /// Returns the actions that are not held back, with their labels and positions in the view.
    pub fn governed(&self) -> impl Iterator<Item = (usize, &Action, Option<&Labels>)> {
        let actions = self.actions.iter().enumerate();
        actions
            .filter(|(_, action)| !self.rules.quarantine.holds_action(action))
            .map(|(index, action)| (index, action, self.labels.get(index)))
    }
}
