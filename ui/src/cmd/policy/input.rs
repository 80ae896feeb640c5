//! `verdict policy schema` and `input`.

use std::path::Path;

use serde_json::Value;
use verdict_diff::render::text::visible;
use verdict_replay::input;
use verdict_replay::policy::cedar;
use verdict_replay::run::{LedgerSource, ReplayError, input_of};

use crate::cli::{Context, Format};
use crate::exit::{CliError, Exit};

/// Prints the schema of the input document.
pub(super) fn schema(context: &Context) -> Result<Exit, CliError> {
    match context.output.format(&[Format::Json, Format::Cedar])? {
        Format::Cedar => {
            let text = cedar::schema::text().map_err(CliError::unusable)?;
            context.output.result(&text)?;
        }
        // As it is written, with its members in the order in which people read them.
        _ => context.output.result(input::JSON_SCHEMA)?,
    }
    Ok(Exit::Clean)
}

/// Prints an input document, or writes it into a directory.
pub(super) fn run(event: Option<&str>, out: Option<&Path>, context: &Context) -> Result<Exit, CliError> {
    let format = context.output.format(&[Format::Json, Format::Cedar])?;
    let document = match event {
        Some(event) => recorded(event, context)?,
        None => input::minimal(),
    };
    let files = match format {
        Format::Cedar => {
            let (request, entities) =
                cedar::files(&document).map_err(|error| CliError::unusable(error.to_string()))?;
            vec![("request", request), ("entities", entities)]
        }
        _ => vec![("input", document)],
    };
    let Some(out) = out else {
        match files.as_slice() {
            [(_, only)] => context.output.json(only)?,
            several => {
                let members: serde_json::Map<_, _> =
                    several.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
                context.output.json(&Value::Object(members))?;
            }
        }
        return Ok(Exit::Clean);
    };
    std::fs::create_dir_all(out).map_err(|error| CliError::io("cannot make", out, &error))?;
    for (name, value) in files {
        let path = out.join(format!("{name}.json"));
        let text = format!("{value:#}\n");
        std::fs::write(&path, text).map_err(|error| CliError::io("cannot write", &path, &error))?;
        context.output.note(&format!("wrote {}", path.display()));
    }
    Ok(Exit::Clean)
}

/// Builds the input of a recorded decision: the one that a replay decides.
fn recorded(event: &str, context: &Context) -> Result<Value, CliError> {
    let ledger = context.reader()?;
    let seq = match event.parse() {
        Ok(seq) => seq,
        Err(_) => *ledger.find_id(event)?.first().ok_or_else(|| {
            CliError::unusable(format!("no event has the id `{}`", visible(event)))
                .hint("see `verdict find` and `verdict trace show`; entry numbers work too")
        })?,
    };
    let source = LedgerSource::new(&ledger).map_err(|source| ReplayError::Ledger { seq, source })?;
    let asked = input_of(&source, seq, None)?.ok_or_else(|| {
        CliError::unusable(format!("entry {seq} is no part of an action that policies decide")).hint(
            "policies decide actions of kind tool, data, message, agent and model; see `verdict trace show`",
        )
    })?;
    if !asked.missing.is_empty() {
        let missing = asked.missing.join(", ");
        context.output.warn(&format!("erased or withheld, and so not in this input: {}", visible(&missing)));
    }
    Ok(asked.input)
}
