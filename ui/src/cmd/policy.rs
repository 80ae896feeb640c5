//! `verdict policy`.

use std::path::{Path, PathBuf};

use serde_json::json;
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::{counted, time, visible};
use verdict_replay::policy::registry::{self, Published};
use verdict_replay::policy::test::{self, Outcome};
use verdict_replay::policy::{Bundle, Policy, check};

use crate::cli::{Attribution, Context};
use crate::exit::{CliError, Exit};

/// What to do when a server has the ledger open.
const WHILE_SERVED: &str = "a policy version is an entry of the ledger: stop `verdict serve` (agents send again what it did not acknowledge), run this, start it again";

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Store a bundle in the ledger, so that this version can be run again at any time
    #[command(after_help = "\
Example:
  verdict policy publish policies/ --activate --by ci --reason 'PR 214: refund limit'")]
    Publish {
        /// Bundle: a directory or a .tar.gz.
        path: PathBuf,
        /// Also say that it is in force from now on.
        #[arg(long)]
        activate: bool,
        #[command(flatten)]
        attribution: Attribution,
    },
    /// Say that a published version is in force from now on
    Activate {
        /// Policy: name@version, or a digest or its first 8 digits or more.
        reference: String,
        #[command(flatten)]
        attribution: Attribution,
    },
    /// List published versions
    List,
    /// Show one version: identity, files, rules
    Show {
        /// Policy: name@version, digest (its first 8 digits do), `active`, or a path with a `/`.
        reference: String,
        /// Print this file of the bundle instead.
        #[arg(long, value_name = "PATH")]
        file: Option<String>,
    },
    /// Compile a bundle and name every problem with file and line
    Check {
        /// Policy: a path, or what `show` takes.
        reference: String,
    },
    /// Run the tests of a bundle
    Test {
        /// Policy: a path, or what `show` takes.
        reference: String,
        /// Also list lines that no test evaluated.
        #[arg(long)]
        coverage: bool,
    },
}

/// Runs a policy command.
pub(crate) fn run(command: Command, context: &Context) -> Result<Exit, CliError> {
    match command {
        Command::Publish { path, activate, attribution } => publish(&path, activate, &attribution, context),
        Command::Activate { reference, attribution } => activate(&reference, &attribution, context),
        Command::List => list(context),
        Command::Show { reference, file } => show(&reference, file.as_deref(), context),
        Command::Check { reference } => check_bundle(&reference, context),
        Command::Test { reference, coverage } => test_bundle(&reference, coverage, context),
    }
}

/// Finds the bundle of a reference; a path needs no ledger.
pub(crate) fn resolve(reference: &str, context: &Context) -> Result<Bundle, CliError> {
    let path = Path::new(reference);
    if reference.contains(std::path::is_separator) || (path.exists() && !context.ledger.exists()) {
        return Bundle::load(path).map_err(|error| CliError::from(error).at(reference));
    }
    Ok(registry::resolve(Some(&context.reader()?), reference)?)
}

/// Finds and compiles the bundle of a reference.
pub(crate) fn compile(reference: &str, context: &Context) -> Result<Policy, CliError> {
    Policy::compile(resolve(reference, context)?).map_err(|error| CliError::from(error).at(reference))
}

fn publish(
    path: &Path,
    activate: bool,
    attribution: &Attribution,
    context: &Context,
) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let place = path.display();
    let bundle = Bundle::load(path).map_err(|error| CliError::from(error).at(place))?;
    // Before the ledger is opened: a bundle that does not compile must not wait for the writer.
    Policy::compile(bundle.clone()).map_err(|error| CliError::from(error).at(path.display()))?;
    let ledger = context.writer(WHILE_SERVED)?;
    let (by, reason) = (&attribution.by, &attribution.reason);
    let receipt = registry::publish(&ledger, &bundle, by, reason)?;
    if activate {
        registry::activate(&ledger, &bundle.digest(), by, reason)?;
    }
    ledger.settle()?;
    let known = receipt.duplicates > 0;
    if json {
        context.output.json(&json!({
            "name": bundle.name(), "version": bundle.version(), "digest": bundle.digest(),
            "seq": receipt.seqs.first(), "already_published": known, "activated": activate,
        }))?;
    } else {
        let what = if known { "already published" } else { "published" };
        let active = if activate { ", in force from now on" } else { "" };
        context.output.result(&format!(
            "{what} {}@{}{active}\n  {}\n",
            visible(bundle.name()),
            visible(bundle.version()),
            bundle.digest()
        ))?;
    }
    Ok(Exit::Clean)
}

fn activate(reference: &str, attribution: &Attribution, context: &Context) -> Result<Exit, CliError> {
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

fn list(context: &Context) -> Result<Exit, CliError> {
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
    let Published { name, version, digest, archive, engine, seq, ts_ns, by, reason, active } = published;
    json!({
        "name": name, "version": version, "digest": digest, "archive": archive, "engine": engine, "seq": seq,
        "ts_ns": ts_ns.to_string(), "by": by, "reason": reason, "active": active,
    })
}

fn show(reference: &str, file: Option<&str>, context: &Context) -> Result<Exit, CliError> {
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

fn check_bundle(reference: &str, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let bundle = resolve(reference, context)?;
    let problems = check::check(&bundle);
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if json {
        context.output.json(&json!({
            "name": bundle.name(), "version": bundle.version(), "digest": bundle.digest(), "problems": problems,
        }))?;
    } else {
        let mut text: String = problems.iter().map(|problem| visible(&problem.to_string()) + "\n").collect();
        text.push_str(&format!(
            "{}@{}: {}, {}\n",
            visible(bundle.name()),
            visible(bundle.version()),
            counted(errors as u64, "error"),
            counted((problems.len() - errors) as u64, "warning")
        ));
        context.output.result(&text)?;
    }
    if errors > 0 {
        return Ok(Exit::Unusable);
    }
    // What the checks let pass must also compile as a whole.
    Policy::compile(bundle).map_err(|error| CliError::from(error).at(reference))?;
    Ok(Exit::Clean)
}

fn test_bundle(reference: &str, coverage: bool, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    let bundle = resolve(reference, context)?;
    let report = test::run(&bundle).map_err(|error| CliError::from(error).at(reference))?;
    if report.tests.is_empty() {
        return Err(CliError::unusable(format!("{reference}: the bundle has no tests"))
            .hint("write rules named test_… in tests/*.rego; a run of no tests proves nothing"));
    }
    if json {
        context.output.json(&report)?;
    } else {
        let mut text = String::new();
        for result in &report.tests {
            let (word, detail) = match &result.outcome {
                Outcome::Pass => ("pass", String::new()),
                Outcome::Skip => ("skip", String::new()),
                Outcome::Fail { detail } => ("FAIL", format!(": {}", visible(detail))),
                Outcome::Error { detail } => ("ERROR", format!(": {}", visible(detail))),
            };
            text.push_str(&format!(
                "{word:<5}  {}:{}  {}{detail}\n",
                visible(&result.file),
                result.line,
                visible(&result.name)
            ));
        }
        if coverage {
            for file in &report.coverage {
                let lines: Vec<String> = file.not_covered.iter().map(u32::to_string).collect();
                let missed = if lines.is_empty() { "none".to_owned() } else { lines.join(", ") };
                text.push_str(&format!("{}: lines not evaluated: {missed}\n", visible(&file.file)));
            }
        }
        text.push_str(&format!(
            "{}, {} failed\n",
            counted(report.tests.len() as u64, "test"),
            report.failures()
        ));
        context.output.result(&text)?;
    }
    Ok(if report.failures() > 0 { Exit::Finding } else { Exit::Clean })
}
