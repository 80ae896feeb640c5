//! `verdict explain`.

use anstyle::{AnsiColor, Style};
use verdict_diff::render::text::{time, visible};
use verdict_ledger::action::labels::LabelSource;
use verdict_replay::answers::{Answers, ExplainError, How, explain};
use verdict_replay::incident::Limits;

use super::{incident, viewing};
use crate::cli::Context;
use crate::exit::{CliError, Exit, Kind};

/// Columns of the text.
const COLUMNS: usize = 100;
/// Events that are named behind a statement.
const SEQS_SHOWN: usize = 6;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict explain 412
  verdict explain harbor-07-05
  verdict explain 412 --format json | jq '.answers[] | select(.question == \"decision\")'

Each statement names the events that say it, in brackets. What is not the action's own word is marked: inherited (from
an ancestor, the trace or the session), inferred, order (it came earlier, and nothing more is known), unknown.")]
pub(crate) struct Args {
    /// An event of the action, by position or id.
    #[arg(value_name = "SEQ|ID")]
    event: String,
    /// Entries in which links and approvals of others are looked for, around the event.
    #[arg(long, default_value_t = Limits::default().scan, value_name = "N")]
    scan: u64,
}

/// Answers what an investigator asks about an action.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let as_json = context.output.is_json()?;
    let ledger = context.reader()?;
    let seq = incident::position(&ledger, &args.event)?;
    let rules = viewing::rules(&ledger, LabelSource::defaults())?;
    let limits = Limits { scan: args.scan, ..Limits::default() };
    let settled = viewing::settled_before_ns(context);
    let answers = explain(&ledger, &rules, seq, ledger.head().size, settled, limits)?;
    if as_json {
        context.output.json(&answers)?;
        return Ok(Exit::Clean);
    }
    context.output.result(&told(&answers, context.output.colour()))?;
    for stop in &answers.stops {
        context.output.warn(&visible(stop));
    }
    Ok(Exit::Clean)
}

fn told(answers: &Answers, colour: bool) -> String {
    let (bold, dim) = if colour {
        (Style::new().bold(), AnsiColor::BrightBlack.on_default())
    } else {
        (Style::new(), Style::new())
    };
    let action = &answers.action;
    let mut text = String::new();
    for line in wrapped(&visible(&answers.headline), COLUMNS) {
        text.push_str(&format!("{bold}{line}{bold:#}\n"));
    }
    let start =
        action.start_ns.parse().ok().filter(|ns| *ns > 0).map_or_else(|| "not stated".to_owned(), time);
    let trace = action.trace_id.map_or_else(|| "none".to_owned(), |trace| trace.to_string());
    text.push_str(&format!("{dim}{start}, trace {trace}, {}{dim:#}\n", events(&action.seqs)));
    for answer in &answers.answers {
        text.push_str(&format!("\n{bold}{}{bold:#}\n", answer.asks));
        for said in &answer.says {
            let mark = match said.how {
                How::Stated | How::Unknown => String::new(),
                how => format!("{}: ", how.as_str()),
            };
            let evidence =
                if said.seqs.is_empty() { String::new() } else { format!(" [{}]", events(&said.seqs)) };
            let line = format!("{mark}{}{evidence}", visible(&said.text));
            for (index, part) in wrapped(&line, COLUMNS - 4).into_iter().enumerate() {
                text.push_str(if index == 0 { "  - " } else { "    " });
                text.push_str(&part);
                text.push('\n');
            }
        }
    }
    text
}

fn events(seqs: &[u64]) -> String {
    let shown: Vec<String> = seqs.iter().take(SEQS_SHOWN).map(u64::to_string).collect();
    let more = seqs.len().saturating_sub(SEQS_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let word = if seqs.len() == 1 { "event" } else { "events" };
    format!("{word} {}{more}", shown.join(", "))
}

/// Breaks at spaces; a word that is longer than a line stays whole, so that it can be copied.
pub(crate) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        let length = line.chars().count();
        if length > 0 && length + 1 + word.chars().count() > columns {
            lines.push(word.to_owned());
        } else {
            if length > 0 {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

impl From<ExplainError> for CliError {
    fn from(error: ExplainError) -> Self {
        match error {
            ExplainError::Incident(error) => error.into(),
            ExplainError::Registry(error) => error.into(),
            ExplainError::NoAction { .. } => Self::unusable(error.to_string()),
            _ => Self::of(Kind::Environment, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_never_inside_a_word() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("averyverylongword x", 5), ["averyverylongword", "x"]);
        assert_eq!(wrapped("", 5), [""]);
        assert_eq!(events(&[3]), "event 3");
        assert_eq!(events(&(0..9).collect::<Vec<_>>()), "events 0, 1, 2, 3, 4, 5 and 3 more");
    }
}
