//! The published policy versions.

use askama::Template;
use axum::extract::State;
use verdict_replay::policy::registry::{self, Published};

use super::{Page, render};
use crate::web::error::{PageError, chain};
use crate::web::view::page::Shell;
use crate::web::view::time::{self, Moment};
use crate::web::view::{text, url};
use crate::web::{AppState, blocking};

/// One version.
#[derive(Debug)]
struct Row {
    label: String,
    digest: String,
    digest_short: String,
    engine: String,
    seq: u64,
    published: Moment,
    by: String,
    reason: String,
    active: bool,
    /// Comparison with the version published before under the same name.
    diff: Option<(String, String)>,
}

#[derive(Debug, Template)]
#[template(path = "policies.html")]
struct PoliciesPage {
    shell: Shell,
    rows: Vec<Row>,
    ledger_arg: String,
}

/// `GET /policies`
pub(crate) async fn show(State(state): State<AppState>, shell: Shell) -> Page {
    blocking::run(move || {
        let published = list(&state)?;
        let mut rows: Vec<Row> = published
            .iter()
            .enumerate()
            .map(|(index, policy)| row(policy, published.get(..index).unwrap_or_default()))
            .collect();
        rows.reverse();
        render(&PoliciesPage { rows, ledger_arg: state.ledger_arg(), shell })
    })
    .await
}

/// Lists what is published, in order of publication.
pub(crate) fn list(state: &AppState) -> Result<Vec<Published>, PageError> {
    registry::list(state.ledger()).map_err(|error| PageError::Policy { detail: chain(&error) })
}

/// Writes how a version is referred to.
pub(crate) fn label(policy: &Published) -> String {
    format!("{}@{}", policy.name, policy.version)
}

fn row(policy: &Published, earlier: &[Published]) -> Row {
    let digest = policy.digest.to_string();
    let before =
        earlier.iter().rev().find(|other| other.name == policy.name && other.digest != policy.digest);
    Row {
        label: label(policy),
        digest_short: text::short_hex(&policy.digest.to_hex()),
        engine: policy.engine.clone(),
        seq: policy.seq,
        published: time::moment(policy.ts_ns),
        by: policy.by.clone(),
        reason: policy.reason.clone(),
        active: policy.active,
        diff: before.map(|before| {
            let from = before.digest.to_string();
            (url::with_query("/diff", &[("from", &from), ("to", &digest)]), label(before))
        }),
        digest,
    }
}
