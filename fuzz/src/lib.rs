//! The fuzz targets as functions; `targets/` has one program for each.

mod targets;

pub use targets::*;
