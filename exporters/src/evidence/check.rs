//! One line of a verification: what was checked, how it went, and where it first went wrong.

use serde::Serialize;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It holds.
    Ok,
    /// It does not hold: something was changed.
    Failed,
    /// It cannot be told: no key of the verifier's made the signature.
    Untrusted,
    /// It was not made, because something that it needs failed before or was not given.
    NotRun,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Name of the check, as `docs/evidence.md` lists it.
    pub name: &'static str,
    /// How it went.
    pub status: Status,
    /// File inside the bundle, or part of the archive, where it first went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Entry where it first went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// One line for people.
    pub detail: String,
}

/// What a check saw when everything holds, in words, or where it went wrong.
pub(crate) type Checked = Result<((), String), Fault>;

/// Where and how a check went wrong.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    status: Status,
    file: Option<String>,
    seq: Option<u64>,
    detail: String,
}

impl Fault {
    /// Something was changed.
    pub(crate) fn failed(file: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { status: Status::Failed, file: Some(file.into()), seq: None, detail: detail.into() }
    }

    /// A signature is by nobody that the verifier knows.
    pub(crate) fn untrusted(file: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { status: Status::Untrusted, ..Self::failed(file, detail) }
    }

    /// The check cannot be made.
    pub(crate) fn not_run(detail: impl Into<String>) -> Self {
        Self { status: Status::NotRun, file: None, seq: None, detail: detail.into() }
    }

    /// Adds the entry.
    pub(crate) fn at(mut self, seq: impl Into<Option<u64>>) -> Self {
        self.seq = seq.into();
        self
    }
}

/// The checks made so far, in order.
#[derive(Debug, Default)]
pub(crate) struct Checks(pub(crate) Vec<Check>);

impl Checks {
    /// Files the result of a check and hands on what it yielded.
    pub(crate) fn record<T>(&mut self, name: &'static str, result: Result<(T, String), Fault>) -> Option<T> {
        let (value, check) = match result {
            Ok((value, detail)) => {
                (Some(value), Check { name, status: Status::Ok, file: None, seq: None, detail })
            }
            Err(Fault { status, file, seq, detail }) => (None, Check { name, status, file, seq, detail }),
        };
        self.0.push(check);
        value
    }
}
