//! What happens to every request before and after its handler, outermost first: request id and log line,
//! security headers, panic to error page, host check, origin check, who may, number of requests at once, time limit.

pub(crate) mod auth;
pub(crate) mod headers;
pub(crate) mod host;
pub(crate) mod limits;
pub(crate) mod log;
pub(crate) mod origin;
