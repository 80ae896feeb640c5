//! Who may do what on the server.
//!
//! - [`token`]: the form of an API token and its digest; the token itself is never kept.
//! - [`store`]: the token file beside the ledger, changed by `verdict token` while the server runs.
//! - [`gate`]: what the server asks: who sends this, and may they?
//! - `session`: a browser that has shown a token.
//!
//! Scopes are additive. `admin` includes the others; nothing else includes anything, but that numbers about the
//! server may be read by whoever may read the ledger.

pub mod gate;
mod session;
pub mod store;
pub mod throttle;
pub mod token;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a token or a certificate allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Append what agents say.
    Ingest,
    /// Read everything, change nothing.
    Read,
    /// Read `/metrics`.
    Metrics,
    /// Everything.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Read, Self::Metrics, Self::Admin];

    /// Returns the name on the command line, in files and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a scope; scopes are ingest, read, metrics, admin")]
pub struct ScopeError {
    name: String,
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(name: &str) -> Result<Self, ScopeError> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == name)
            .ok_or_else(|| ScopeError { name: name.to_owned() })
    }
}

/// What a route asks for. Every route declares it; there is no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Nothing: probes, the way in, files of the pages.
    Public,
    /// One scope.
    Scope(Scope),
}

impl Permission {
    /// Appending.
    pub const INGEST: Self = Self::Scope(Scope::Ingest);
    /// Reading.
    pub const READ: Self = Self::Scope(Scope::Read);
    /// Deciding what others left open.
    pub const ADMIN: Self = Self::Scope(Scope::Admin);
    /// Numbers about the server.
    pub const METRICS: Self = Self::Scope(Scope::Metrics);

    /// Tells whether scopes suffice; the error is the scope that is missing.
    pub fn check(self, scopes: &[Scope]) -> Result<(), Scope> {
        let Self::Scope(wanted) = self else { return Ok(()) };
        let enough = |scope: &Scope| {
            *scope == wanted || *scope == Scope::Admin || (wanted == Scope::Metrics && *scope == Scope::Read)
        };
        if scopes.iter().any(enough) { Ok(()) } else { Err(wanted) }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::Scope(scope) => scope.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_give_what_they_say_and_admin_gives_all() {
        assert_eq!(Permission::READ.check(&[Scope::Ingest]), Err(Scope::Read));
        assert_eq!(Permission::INGEST.check(&[Scope::Read, Scope::Metrics]), Err(Scope::Ingest));
        assert_eq!(Permission::METRICS.check(&[Scope::Read]), Ok(()));
        assert_eq!(Permission::READ.check(&[Scope::Metrics]), Err(Scope::Read));
        assert_eq!(Permission::ADMIN.check(&[Scope::Read, Scope::Ingest, Scope::Metrics]), Err(Scope::Admin));
        assert_eq!(Permission::Public.check(&[]), Ok(()));
        for permission in [Permission::READ, Permission::INGEST, Permission::METRICS, Permission::ADMIN] {
            assert_eq!(permission.check(&[Scope::Admin]), Ok(()));
            assert!(permission.check(&[]).is_err());
        }
    }

    #[test]
    fn names_are_read_back() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert!("Read".parse::<Scope>().unwrap_err().to_string().contains("ingest, read, metrics, admin"));
    }
}
