//! `verdict policy publish` and `activate`.

use std::path::Path;

use serde_json::json;
use verdict_diff::render::text::visible;
use verdict_replay::policy::{Bundle, Policy, registry};

use super::{Verification, WHILE_SERVED};
use crate::cli::{Attribution, Context};
use crate::exit::{CliError, Exit};

pub(super) fn publish(
    path: &Path,
    activate: bool,
    overriding: Option<&str>,
    verification: &Verification,
    attribution: &Attribution,
    context: &Context,
) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let place = path.display().to_string();
    let bundle = Bundle::load(path).map_err(|error| CliError::from(error).at(&place))?;
    if overriding.is_some_and(|why| why.trim().is_empty()) {
        return Err(CliError::unusable("--override needs a reason: it is all that the record will say"));
    }
    let verified = verification.verify(&bundle).map_err(|error| error.at(&place))?;
    // Before the ledger is opened: what is refused must not wait for the writer.
    Policy::compile(bundle.clone()).map_err(|error| CliError::from(error).at(&place))?;
    let tests = registry::admit(&bundle, overriding).map_err(|error| CliError::from(error).at(&place))?;
    let ledger = context.writer(WHILE_SERVED)?;
    let (by, reason) = (&attribution.by, &attribution.reason);
    let receipt = registry::publish_overriding(&ledger, &bundle, by, reason, overriding)?;
    if activate {
        registry::activate(&ledger, &bundle.digest(), by, reason)?;
    }
    ledger.settle()?;
    let known = receipt.duplicates > 0;
    if json {
        context.output.json(&json!({
            "name": bundle.name(), "version": bundle.version(), "digest": bundle.digest(),
            "seq": receipt.seqs.first(), "already_published": known, "activated": activate,
            "tests": tests, "override": overriding.filter(|_| tests.failed > 0), "signature": verified,
        }))?;
    } else {
        let what = if known { "already published" } else { "published" };
        let active = if activate { ", in force from now on" } else { "" };
        context.output.result(&format!(
            "{what} {}@{}{active}\n  {}\n{}",
            visible(bundle.name()),
            visible(bundle.version()),
            bundle.digest(),
            verified.map_or_else(String::new, |verified| format!(
                "  signed with {} by the key {}\n",
                verified.algorithm, verified.key
            ))
        ))?;
        if tests.failed > 0 {
            context.output.warn(&format!(
                "{} of its own tests failed; the record says why it was published",
                tests.failed
            ));
        } else if tests.passed == 0 {
            context.output.note("the bundle has no tests");
        }
    }
    Ok(Exit::Clean)
}

pub(super) fn activate(
    reference: &str,
    attribution: &Attribution,
    context: &Context,
) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let ledger = context.writer(WHILE_SERVED)?;
    let bundle = registry::resolve(Some(&ledger), reference)?;
    let receipt = registry::activate(&ledger, &bundle.digest(), &attribution.by, &attribution.reason)?;
    ledger.settle()?;
    let known = receipt.duplicates > 0;
    if json {
        context.output.json(&json!({
            "name": bundle.name(), "version": bundle.version(), "digest": bundle.digest(), "activated": true,
            "already_active": known,
        }))?;
    } else {
        context.output.result(&format!(
            "{}@{} {}\n  {}\n",
            visible(bundle.name()),
            visible(bundle.version()),
            if known { "was in force already" } else { "is in force from now on" },
            bundle.digest()
        ))?;
    }
    Ok(Exit::Clean)
}
