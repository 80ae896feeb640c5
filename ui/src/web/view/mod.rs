//! Turning values into what a page shows. Everything here is a pure function.

pub(crate) mod answers;
pub(crate) mod badge;
pub(crate) mod execution;
pub(crate) mod json;
pub(crate) mod number;
pub(crate) mod page;
pub(crate) mod summary;
pub(crate) mod text;
pub(crate) mod time;
pub(crate) mod url;
pub(crate) mod waterfall;
