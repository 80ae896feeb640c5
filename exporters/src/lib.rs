//! Signed evidence bundles that verify offline, and their verifier.
//!
//! # What it is
//! - [`evidence::export`]: takes a trace or a range out of a ledger and writes one ZIP archive that is a BagIt bag,
//!   with exact entries, proofs, policies, a report, and one signature over every file.
//! - [`evidence::verify`]: checks such a file with keys that the verifier brings, and names the first file and the
//!   first entry that do not hold.
//!
//! # What it is not
//! It signs no checkpoint and appends nothing: recording an export is the caller's, with
//! [`evidence::export_event`]. It does not extract archives.
//!
//! # Invariants
//! - The same material and options give the same bytes: no clock, no randomness, nothing unordered.
//! - Entries go into a bundle as the bytes that were hashed; nothing is serialised again.
//! - No byte of an archive is free: whatever is not a file's content is prescribed by the format.
//! - A key inside a bundle is never trusted.

mod archive;
mod bag;
mod dsse;
pub mod evidence;
mod statement;
