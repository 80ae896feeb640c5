//! What model calls cost: reported amounts as they are, and a price table for those that say how many tokens they
//! used and not what that cost.
//!
//! A table is a file that people write; `docs/pricing.md` in the crate's docs describes it. Its identity is its label
//! and the SHA-256 of its bytes, and every amount that it gives names it as its basis, so that anybody who has the
//! file can compute the amount again. The ledger keeps the file of every table that was put in force ([`registry`]).
//!
//! # Invariants
//! - What a source reports is never replaced by what a table says.
//! - What a table does not know is unpriced with a reason, never zero.
//! - Amounts in different currencies are never added.
//! - No floats: prices are integer nano-units for a million tokens.

pub mod breakdown;
mod decimal;
mod price;
pub mod registry;
mod table;

use serde::Serialize;

pub use price::{Tokens, apply, price};
pub(crate) use table::is_label;
pub use table::{Band, Price, Rates, Table, TableError};

/// Label of the variant of a price, read from the attributes that the table names.
pub const VARIANT: &str = "price_variant";

/// Why a price table gives an action no cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unpriced {
    /// The source names no model.
    NoModel,
    /// Input or output tokens are not stated. A call that failed states none, as a rule.
    NoTokens,
    /// No row is for the model.
    UnknownModel,
    /// The source names no provider, and those that have the model ask for different prices.
    SeveralProviders,
    /// The call was made before the first price of its model, or after the last.
    OutOfDate,
    /// The source names a variant, such as a batch, that no row is for.
    UnknownVariant,
    /// The row has no price for a sort of tokens that was used.
    NoRate,
    /// The numbers contradict each other, or are too large to be true.
    Implausible,
}

impl Unpriced {
    /// Returns the wire name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoModel => "no_model",
            Self::NoTokens => "no_tokens",
            Self::UnknownModel => "unknown_model",
            Self::SeveralProviders => "several_providers",
            Self::OutOfDate => "out_of_date",
            Self::UnknownVariant => "unknown_variant",
            Self::NoRate => "no_rate",
            Self::Implausible => "implausible",
        }
    }

    /// Says it to people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoModel => "no model is stated",
            Self::NoTokens => "input or output tokens are not stated",
            Self::UnknownModel => "the price table has no such model",
            Self::SeveralProviders => "no provider is stated, and their prices differ",
            Self::OutOfDate => "the price table has no price for that day",
            Self::UnknownVariant => "the price table has no such variant of the model",
            Self::NoRate => "the price table has no price for a sort of tokens that was used",
            Self::Implausible => "the numbers of tokens contradict each other",
        }
    }
}
