//! `verdict replay what-if`.

use serde_json::{Value, json};
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::visible;
use verdict_replay::policy::{Decision, Policy, RuleRef};
use verdict_replay::what_if::{Edit, RuleTrace, Spoke, WhatIf, WhatIfError, recorded_input, what_if};

use super::{incident, policy};
use crate::cli::Context;
use crate::exit::{CliError, Exit, Kind};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict replay what-if --event 412 --policy active --set /action/arguments/amount_cents=900
  verdict replay what-if --event 412 --policy policies/ --set /classification=public --unset /user
  verdict replay what-if --event 412 --policy shop@2 \\
      --set-json '/provenance/sources=[{\"kind\":\"user_prompt\",\"trust\":\"trusted\"}]' --format json

The input is that of the one builder, in the state that history had; without an edit the decision is that of a replay.
Places are JSON pointers into the input, and a place that no input has is refused. What follows from an edit (digest,
features, lowest trust) is computed again. Nothing is written to the ledger.")]
pub(crate) struct Args {
    /// The event, by position or id.
    #[arg(long, value_name = "SEQ|ID")]
    event: String,
    /// Policy: name@version, digest (its first 8 digits do), `active`, or a path with a `/`.
    #[arg(long, value_name = "REF")]
    policy: String,
    /// Set a member to a text, an integer, true or false, whichever its place has.
    #[arg(long, value_name = "POINTER=VALUE")]
    set: Vec<String>,
    /// Set a member to JSON.
    #[arg(long, value_name = "POINTER=JSON")]
    set_json: Vec<String>,
    /// Take a member away.
    #[arg(long, value_name = "POINTER")]
    unset: Vec<String>,
    /// Also print both inputs.
    #[arg(long)]
    inputs: bool,
}

/// Decides one recorded input, edited, and shows what changes.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let as_json = context.output.is_json()?;
    let edits = edits(args)?;
    let policy = policy::compile(&args.policy, context)?;
    let ledger = context.reader()?;
    let seq = incident::position(&ledger, &args.event)?;
    let recorded = recorded_input(&ledger, seq, ledger.head().size)?;
    let answer = what_if(&recorded, &edits, &policy)?;
    if as_json {
        context.output.json(&json!({
            "schema": "verdict-what-if/1", "seq": seq, "policy": {
                "name": policy.bundle().name(), "version": policy.bundle().version(), "digest": policy.bundle().digest(),
                "engine": policy.engine_id(),
            },
            "answer": answer,
        }))?;
        return Ok(Exit::Clean);
    }
    let mut text = format!(
        "event {seq}: {} {} under {}@{}\n",
        recorded.action.kind.as_str(),
        visible(&recorded.action.name),
        visible(policy.bundle().name()),
        visible(policy.bundle().version())
    );
    text.push_str(&told(&answer, &policy, args.inputs));
    context.output.result(&text)?;
    if !answer.missing.is_empty() {
        context.output.warn(&format!(
            "erased or withheld, so the recorded input lacks it: {}",
            visible(&answer.missing.join(", "))
        ));
    }
    Ok(Exit::Clean)
}

/// Whole values first, then single members, then what goes.
fn edits(args: &Args) -> Result<Vec<Edit>, CliError> {
    let json = args.set_json.iter().map(|text| Edit::parse_set_json(text));
    let set = args.set.iter().map(|text| Edit::parse_set(text));
    let unset = args.unset.iter().map(|pointer| Edit::unset(pointer));
    Ok(json.chain(set).chain(unset).collect::<Result<Vec<_>, _>>()?)
}

fn told(answer: &WhatIf, policy: &Policy, inputs: bool) -> String {
    let mut text = String::new();
    if answer.changed.is_empty() {
        text.push_str("\nnothing is edited\n");
    } else {
        text.push_str("\nedited\n");
        for change in &answer.changed {
            let derived = if change.derived { "  (follows from it)" } else { "" };
            let pair = format!("{} -> {}", shown(change.before.as_ref()), shown(change.after.as_ref()));
            text.push_str(&format!("  {}  {}{derived}\n", visible(&change.pointer), visible(&pair)));
        }
    }
    text.push_str(&format!("\nbefore  {}\n", decided(&answer.before)));
    text.push_str(&format!("after   {}\n", decided(&answer.after)));
    for (word, findings) in [("appeared", &answer.appeared), ("gone", &answer.gone)] {
        for finding in findings {
            let reason = finding.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let line = format!("{} {}{}{reason}", finding.effect, finding.rule.id, place(&finding.rule));
            text.push_str(&format!("{word:<9} {}\n", visible(&line)));
        }
    }
    text.push_str("\nrules\n");
    text.push_str(&rules(&answer.rules));
    if answer.rules.is_empty() {
        text.push_str(&format!("  none; the default is {}\n", policy.bundle().default_effect()));
    }
    if inputs {
        text.push_str(&format!(
            "\nrecorded input\n{:#}\n\nedited input\n{:#}\n",
            answer.recorded, answer.edited
        ));
    }
    text
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), ToString::to_string)
}

fn decided(decision: &Decision) -> String {
    if let Some(error) = &decision.error {
        return visible(&format!("unknown: {error}"));
    }
    let rules: Vec<String> =
        decision.rules.iter().map(|rule| format!("{}{}", rule.id, place(rule))).collect();
    let by = if rules.is_empty() { "the default, no rule spoke".to_owned() } else { rules.join(", ") };
    visible(&format!("{}, by {by}", decision.effect))
}

fn place(rule: &RuleRef) -> String {
    match (&rule.file, rule.line) {
        (Some(file), Some(line)) => format!(" at {file}:{line}"),
        _ => String::new(),
    }
}

fn rules(rules: &[RuleTrace]) -> String {
    let mut table = Table::new(&[
        ("  rule", Align::Left),
        ("before", Align::Left),
        ("after", Align::Left),
        ("place", Align::Left),
        ("source", Align::Left),
    ]);
    let word = |spoke: Option<&Spoke>| match spoke {
        None => "silent".to_owned(),
        Some(spoke) if spoke.decided => format!("{}, decides", spoke.effect),
        Some(spoke) => spoke.effect.to_string(),
    };
    for rule in rules {
        table.row(vec![
            format!("  {}", visible(&rule.rule.id)),
            word(rule.before.as_ref()),
            word(rule.after.as_ref()),
            visible(place(&rule.rule).trim_start_matches(" at ")),
            visible(rule.source.as_deref().unwrap_or_default()),
        ]);
    }
    table.lines(160).join("\n") + "\n"
}

impl From<WhatIfError> for CliError {
    fn from(error: WhatIfError) -> Self {
        match error {
            WhatIfError::Ledger(error) => error.into(),
            WhatIfError::Replay(error) => error.into(),
            WhatIfError::Schema { .. } => Self::unusable(error.to_string())
                .hint("replay/docs/policies.md lists the members of an input"),
            WhatIfError::NoEntry { .. } | WhatIfError::NoAction { .. } | WhatIfError::NoPoint { .. } => {
                Self::unusable(error.to_string()).hint("`verdict find` shows events and their positions")
            }
            WhatIfError::Edit { .. } | WhatIfError::TooManyEdits { .. } => Self::unusable(error.to_string()),
            _ => Self::of(Kind::Environment, &error),
        }
    }
}
