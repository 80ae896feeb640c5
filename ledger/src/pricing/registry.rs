//! Price tables in the ledger: each that was put in force is an entry that keeps its file by digest, so that what it
//! priced can be priced again.

use crate::activation::{self, Activation, ActivationError, Kind};
use crate::pricing::Table;
use crate::{Ledger, Receipt};

/// Entry `type` of a table that is in force from then on.
pub const PRICING_ACTIVATED: &str = "pricing.activated";

const KIND: Kind = Kind { entry: PRICING_ACTIVATED, what: "price table" };

/// Puts a table in force from the end of the log on. The one that is in force changes nothing.
pub fn activate(ledger: &Ledger, table: &Table, by: &str, reason: &str) -> Result<Receipt, ActivationError> {
    activation::activate(ledger, KIND, table.label(), table.bytes(), by, reason)
}

/// Lists what was put in force, oldest first.
pub fn history(ledger: &Ledger) -> Result<Vec<Activation>, ActivationError> {
    activation::history(ledger, KIND)
}

/// Returns the table that is in force below a position: the last that was put in force, else the one that comes
/// with this version.
pub fn in_force(ledger: &Ledger, below: u64) -> Result<(Table, Option<Activation>), ActivationError> {
    let unusable = |place: String| {
        move |error: super::TableError| ActivationError::Content {
            what: KIND.what,
            place,
            detail: error.to_string(),
        }
    };
    match activation::in_force(ledger, KIND, below)? {
        Some((activation, bytes)) => {
            let table = Table::parse(&bytes).map_err(unusable(format!("entry {}", activation.seq)))?;
            Ok((table, Some(activation)))
        }
        None => Ok((Table::shipped().map_err(unusable("this version".to_owned()))?, None)),
    }
}
