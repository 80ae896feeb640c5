//! `verdict redact`.

use serde_json::json;
use verdict_diff::render::text::{counted, visible};
use verdict_ledger::clock::{Clock as _, SystemClock};
use verdict_ledger::erasure::{Basis, ErasurePlan, ErasureReceipt};

use super::entries;
use super::selecting::{Selecting, WHILE_SERVED, held_lines, listed};
use crate::cli::Context;
use crate::exit::{CliError, Exit, Kind};

/// Raw bodies that are named one by one.
const BODIES_SHOWN: usize = 10;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict redact --user ada@example.org --tenant harbor      what would go? changes nothing
  verdict redact --event 4711 --field /action/arguments
  verdict redact --tool run_sql --since 2026-11-01 --before 2026-12-01
  verdict redact --user ada@example.org --tenant harbor --apply \\
    --legal-basis 'Art. 17(1)(b) GDPR' --reason 'consent withdrawn' --requested-by ada@example.org

Options of a selection narrow each other. What goes are values: disclosed members, and the raw
bodies that the events came in, which hold them too. Entries stay, and every proof made before
still verifies. What a legal hold is on stays, and an entry says so. --reason and --legal-basis
stand in the log for good: no personal data in them. A backup of the ledger still has what was
erased: erase again after restoring one.

Exit codes: 0 done, or shown; 1 a hold kept some of it; 2 unusable selection or no basis; 4 files,
or the ledger is being served.")]
pub(crate) struct Args {
    #[command(flatten)]
    selecting: Selecting,
    /// Only this disclosed member, as JSON pointer; may be repeated.
    #[arg(long = "field", value_name = "POINTER")]
    fields: Vec<String>,
    /// Erase; without it, only say what would go.
    #[arg(long, visible_alias = "yes")]
    apply: bool,
    /// Legal basis, for the log.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    legal_basis: String,
    /// Why, for the log.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    reason: String,
    /// Who asked for it; the log keeps only a commitment, and the name where it can be erased.
    #[arg(long, value_name = "NAME")]
    requested_by: Option<String>,
    /// Who does this; recorded as given.
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true, value_name = "NAME")]
    by: String,
    /// Only rewrite the database files, after an erasure that was cut short before it did.
    #[arg(long, conflicts_with_all = ["apply", "fields"])]
    compact: bool,
}

/// Erases, or says what would go.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let json = context.output.is_json()?;
    if args.compact {
        context.writer(WHILE_SERVED)?.compact_erased()?;
        if json {
            context.output.json(&json!({"compacted": true}))?;
        } else {
            context.output.result("the files hold nothing any more that was erased\n")?;
        }
        return Ok(Exit::Clean);
    }
    let selection = args.selecting.selection(&args.fields);
    let now_ns = SystemClock.now_ns();
    if !args.apply {
        let plan = context.reader()?.plan_erasure(&selection, now_ns)?;
        if json {
            context.output.json(&plan_json(&plan))?;
        } else {
            context.output.result(&told(&plan))?;
            if plan.entries.is_empty() && plan.held.is_empty() {
                args.selecting.hint().into_iter().for_each(|hint| context.output.note(hint));
            } else {
                context.output.note("nothing was changed; --apply erases it");
            }
        }
        return Ok(if plan.held.is_empty() { Exit::Clean } else { Exit::Finding });
    }
    let basis = Basis {
        legal_basis: args.legal_basis.clone(),
        reason: args.reason.clone(),
        by: args.by.clone(),
        requested_by: args.requested_by.clone(),
    };
    let ledger = context.writer(WHILE_SERVED)?;
    let receipt = ledger.erase(&selection, &basis, now_ns)?;
    ledger.settle()?;
    if json {
        context.output.json(&receipt_json(&receipt))?;
    } else {
        context.output.result(&done(&receipt))?;
    }
    ended(&receipt)
}

/// Says how an erasure ended.
pub(crate) fn ended(receipt: &ErasureReceipt) -> Result<Exit, CliError> {
    match &receipt.not_compacted {
        Some(detail) => Err(CliError::new(
            Kind::Environment,
            format!("the values are erased, and the files that held them could not be rewritten: {detail}"),
        )
        .hint("run `verdict redact --compact` when the disk is well again")),
        None if !receipt.held.is_empty() => Ok(Exit::Finding),
        None => Ok(Exit::Clean),
    }
}

/// A plan, in JSON.
pub(crate) fn plan_json(plan: &ErasurePlan) -> serde_json::Value {
    let (values, bytes) = plan.values();
    json!({
        "dry_run": true, "size": plan.size, "selection": plan.scope, "values": values, "bytes": bytes,
        "by_member": plan.by_member(), "entries": plan.entries, "bodies": plan.bodies, "held": plan.held,
        "nothing_left": plan.nothing_left,
    })
}

/// A plan, for people.
pub(crate) fn told(plan: &ErasurePlan) -> String {
    let (values, bytes) = plan.values();
    let mut text = format!(
        "would erase {} ({}) of {}\n",
        counted(values, "value"),
        counted(bytes, "byte"),
        entries(plan.entries.len() as u64)
    );
    for (member, count) in plan.by_member() {
        text.push_str(&format!("  {count:>8}  {}\n", visible(&member)));
    }
    let seqs: Vec<u64> = plan.entries.iter().map(|entry| entry.seq).collect();
    if !seqs.is_empty() {
        text.push_str(&format!("  entries {}\n", listed(&seqs)));
    }
    if !plan.bodies.is_empty() {
        let bytes: u64 = plan.bodies.iter().map(|body| body.bytes).sum();
        let count = plan.bodies.len() as u64;
        let bodies = if count == 1 { "1 raw body".to_owned() } else { format!("{count} raw bodies") };
        text.push_str(&format!("and {bodies} ({} as stored)\n", counted(bytes, "byte")));
    }
    for body in plan.bodies.iter().take(BODIES_SHOWN) {
        text.push_str(&format!("  {}", body.digest));
        if !body.others.is_empty() {
            text.push_str(&format!("\n    entries that lose it too: {}", listed(&body.others)));
        }
        text.push('\n');
    }
    if !plan.held.is_empty() {
        text.push_str(&format!(
            "legal holds keep {}\n{}",
            entries(plan.held.len() as u64),
            held_lines(&plan.held)
        ));
    }
    if plan.nothing_left > 0 {
        text.push_str(&format!("nothing is left to erase of {}\n", entries(plan.nothing_left)));
    }
    text
}

/// A receipt, in JSON.
pub(crate) fn receipt_json(receipt: &ErasureReceipt) -> serde_json::Value {
    json!({
        "dry_run": false, "erasure": receipt.erasure, "entries": receipt.entries, "values": receipt.values,
        "bytes": receipt.bytes, "bodies": receipt.bodies, "keys_destroyed": receipt.keys,
        "held": receipt.held, "deferred": receipt.deferred, "compacted": receipt.not_compacted.is_none(),
    })
}

/// A receipt, for people.
pub(crate) fn done(receipt: &ErasureReceipt) -> String {
    if receipt.entries.is_empty() && receipt.held.is_empty() {
        return "nothing was left to erase\n".to_owned();
    }
    let bodies = receipt.bodies.len();
    let mut text = format!(
        "erased {} ({}), {bodies} raw {}, {}\n",
        counted(receipt.values, "value"),
        counted(receipt.bytes, "byte"),
        if bodies == 1 { "body" } else { "bodies" },
        counted(receipt.keys, "data key")
    );
    if !receipt.entries.is_empty() {
        text.push_str(&format!("  recorded in {}\n", listed(&receipt.entries)));
    }
    if !receipt.held.is_empty() {
        text.push_str(&format!(
            "legal holds kept {}\n{}",
            entries(receipt.held.len() as u64),
            held_lines(&receipt.held)
        ));
    }
    text
}
