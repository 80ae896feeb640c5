//! `verdict policy list`, `history` and `show`.

use serde_json::json;
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::{time, visible};
use verdict_replay::policy::registry::{self, Published, What};

use super::compile;
use crate::cli::Context;
use crate::exit::{CliError, Exit};

pub(super) fn list(context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let published = registry::list(&context.reader()?)?;
    if json {
        let policies: Vec<_> = published.iter().map(listed).collect();
        context.output.json(&json!({"policies": policies}))?;
        return Ok(Exit::Clean);
    }
    if published.is_empty() {
        context.output.note("no policy is published; publish one with `verdict policy publish PATH`");
        return Ok(Exit::Clean);
    }
    let mut table = Table::new(&[
        ("", Align::Left),
        ("policy", Align::Left),
        ("digest", Align::Left),
        ("entry", Align::Right),
        ("published", Align::Left),
        ("by", Align::Left),
    ]);
    for Published { name, version, digest, seq, ts_ns, by, active, .. } in &published {
        table.row(vec![
            if *active { "active" } else { "" }.to_owned(),
            visible(&format!("{name}@{version}")),
            digest.to_string().chars().take("sha256:".len() + 16).collect(),
            seq.to_string(),
            time(*ts_ns),
            visible(by),
        ]);
    }
    context.output.result(&(table.lines(100).join("\n") + "\n"))?;
    Ok(Exit::Clean)
}

/// Nanoseconds pass 2^53 and are text in JSON.
fn listed(published: &Published) -> serde_json::Value {
    let Published {
        name,
        version,
        digest,
        archive,
        engine,
        seq,
        ts_ns,
        by,
        reason,
        active,
        tests,
        overridden,
    } = published;
    json!({
        "name": name, "version": version, "digest": digest, "archive": archive, "engine": engine, "seq": seq,
        "ts_ns": ts_ns.to_string(), "by": by, "reason": reason, "active": active,
        "tests": tests, "override": overridden,
    })
}

/// Lists what happened to policies.
pub(super) fn history(name: Option<&str>, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let mut changes = registry::history(&context.reader()?)?;
    if let Some(name) = name {
        let known = changes.len();
        changes.retain(|change| change.name == name);
        if changes.is_empty() && known > 0 {
            return Err(CliError::unusable(format!(
                "nothing was ever published under the name `{}`",
                visible(name)
            ))
            .hint("see `verdict policy list`"));
        }
    }
    if json {
        let changes: Vec<_> = changes
            .iter()
            .map(|change| {
                json!({
                    "seq": change.seq, "ts_ns": change.ts_ns.to_string(), "what": change.what, "name": change.name,
                    "version": change.version, "digest": change.digest, "previous": change.previous,
                    "by": change.by, "reason": change.reason, "override": change.overridden,
                })
            })
            .collect();
        context.output.json(&json!({"changes": changes}))?;
        return Ok(Exit::Clean);
    }
    if changes.is_empty() {
        context.output.note("no policy was ever published; publish one with `verdict policy publish PATH`");
        return Ok(Exit::Clean);
    }
    let mut table = Table::new(&[
        ("entry", Align::Right),
        ("time", Align::Left),
        ("what", Align::Left),
        ("policy", Align::Left),
        ("digest", Align::Left),
        ("by", Align::Left),
        ("reason", Align::Left),
    ]);
    for change in &changes {
        let what = match (change.what, &change.overridden) {
            (What::Activated, _) => "in force",
            (What::Published, None) => "published",
            (What::Published, Some(_)) => "published, tests failed",
        };
        let reason = match &change.overridden {
            Some(why) => format!("{} (override: {why})", change.reason),
            None => change.reason.clone(),
        };
        table.row(vec![
            change.seq.to_string(),
            time(change.ts_ns),
            what.to_owned(),
            visible(&format!("{}@{}", change.name, change.version)),
            change.digest.to_string().chars().take("sha256:".len() + 16).collect(),
            visible(&change.by),
            visible(&reason),
        ]);
    }
    context.output.result(&(table.lines(140).join("\n") + "\n"))?;
    Ok(Exit::Clean)
}

pub(super) fn show(reference: &str, file: Option<&str>, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let policy = compile(reference, context)?;
    let bundle = policy.bundle();
    if let Some(file) = file {
        let Some(bytes) = bundle.files().get(file) else {
            return Err(CliError::unusable(format!("the bundle has no file `{file}`"))
                .hint(format!("see `verdict policy show {reference}`")));
        };
        context.output.bytes(bytes)?;
        return Ok(Exit::Clean);
    }
    if json {
        let files: Vec<_> = bundle
            .listing()
            .iter()
            .map(|(path, sha256)| json!({"path": path, "sha256": sha256.to_hex()}))
            .collect();
        context.output.json(&json!({
            "name": bundle.name(), "version": bundle.version(), "digest": bundle.digest(),
            "engine": policy.engine_id(), "default_effect": bundle.default_effect(),
            "files": files, "rules": policy.rules(),
        }))?;
        return Ok(Exit::Clean);
    }
    let mut text = format!(
        "{}@{}\n  digest   {}\n  engine   {}\n  default  {}\nfiles\n",
        visible(bundle.name()),
        visible(bundle.version()),
        bundle.digest(),
        policy.engine_id().0,
        bundle.default_effect()
    );
    for (path, sha256) in bundle.listing() {
        text.push_str(&format!("  {}  {}\n", sha256.to_hex(), visible(path)));
    }
    text.push_str("rules\n");
    for rule in policy.rules() {
        let place = match (&rule.file, rule.line) {
            (Some(file), Some(line)) => format!("  {}:{line}", visible(file)),
            _ => String::new(),
        };
        text.push_str(&format!("  {}{place}\n", visible(&rule.id)));
    }
    context.output.result(&text)?;
    Ok(Exit::Clean)
}
