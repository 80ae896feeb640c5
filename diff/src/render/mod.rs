//! Reports: the same numbers for people, for programs and for a pull-request comment.
//!
//! Names of agents, tools and rules come from traffic and from policy authors; every renderer makes control and
//! bidirectional characters visible and escapes for its own format, so that no name can redraw a report.

mod human;
mod json;
mod markdown;
pub mod table;
pub mod text;

pub use human::human;
pub use json::{SCHEMA, json};
pub use markdown::{MAX_BYTES, markdown};
