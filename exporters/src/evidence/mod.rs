//! Evidence bundles: export, and verification without the ledger. `docs/evidence.md` describes the format.

mod build;
mod check;
mod compliance;
mod content;
mod facts;
mod history;
mod material;
mod policies;
mod proof;
mod redaction;
mod report;
mod transcript;
mod verify;

pub use crate::archive::{ArchiveError, Limits};
pub use crate::statement::{
    CheckpointRef, Counts, PREDICATE_TYPE, PolicyInForce, Predicate, SelectionRef, Tool,
};
pub use build::{Built, ExportError, ExportOptions, build, export, export_event};
pub use check::{Check, Status};
pub use history::HistoryEntry;
pub use material::{Material, MaterialError, PolicyMaterial, Reevaluation, Selection};
pub use redaction::Withhold;
pub use verify::{Outcome, SizeRange, VerifierKeys, VerifyError, VerifyReport, verify};
