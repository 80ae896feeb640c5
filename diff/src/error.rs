//! Why two runs cannot be compared.

/// Why two runs cannot be compared. Each of these means that a comparison would not be about the same decisions,
/// so the caller must treat the result as not trustworthy rather than as "no change".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// The runs come from ledgers with different names.
    #[error("the runs are over different ledgers: `{from}` and `{to}`")]
    DifferentLedger {
        /// Origin of the first run.
        from: String,
        /// Origin of the second run.
        to: String,
    },
    /// The runs cover different entries.
    #[error("the runs cover different entries: {from_first}..{from_end} and {to_first}..{to_end}")]
    DifferentRange {
        /// First entry of the first run.
        from_first: u64,
        /// One past the last entry of the first run.
        from_end: u64,
        /// First entry of the second run.
        to_first: u64,
        /// One past the last entry of the second run.
        to_end: u64,
    },
    /// The same range has different contents.
    #[error("the ledger has two different roots at size {size}: {from} and {to}")]
    DifferentRoot {
        /// Size of the tree.
        size: u64,
        /// Root in the first run, hex.
        from: String,
        /// Root in the second run, hex.
        to: String,
    },
    /// The policies were asked with differently built inputs.
    #[error("the runs use different input schemas: `{from}` and `{to}`")]
    DifferentInputSchema {
        /// Schema of the first run.
        from: String,
        /// Schema of the second run.
        to: String,
    },
    /// The runs rebuild history differently.
    #[error("the runs use different semantics")]
    DifferentSemantics,
    /// The runs do not hold the same decision points.
    #[error(
        "decision point {index} is action {} in one run and action {} in the other",
        shown(*.from), shown(*.to)
    )]
    DifferentPoints {
        /// Position in the runs.
        index: usize,
        /// Action key in the first run.
        from: Option<u64>,
        /// Action key in the second run.
        to: Option<u64>,
    },
    /// A decision point does not look the same in both runs.
    #[error("action {key} has a different {what} in the two runs")]
    DifferentPoint {
        /// Action key.
        key: u64,
        /// What differs.
        what: &'static str,
    },
    /// The result has no canonical form, so it cannot be named by a digest.
    #[error("the result has no canonical JSON form")]
    Canonical {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

fn shown(key: Option<u64>) -> String {
    key.map_or_else(|| "(none)".to_owned(), |key| key.to_string())
}
