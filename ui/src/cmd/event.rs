//! `verdict event`.

use clap::ValueEnum;
use serde_json::{Value, json};
use verdict_diff::render::table::{Align, Table};
use verdict_diff::render::text::{time, visible};
use verdict_ledger::ingest::{self, Limits, Located};
use verdict_ledger::{Ledger, Record};

use crate::cli::Context;
use crate::exit::{CliError, Exit, Kind};

/// Characters of a value that a table shows.
const VALUE_CHARS_MAX: usize = 60;

/// Commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show one entry, where it came from, and where in the original bytes its fields stand
    #[command(after_help = "\
Examples:
  verdict event show 4211
  verdict event show 4211 --format json
  verdict event show 4211 --raw > piece.bin                 the bytes that this event was read from
  verdict event show 4211 --raw=body > body.bin             the whole body in which it came
  verdict event show 4211 --field /usage/input_tokens       where in the body that stands

Offsets count from the first byte of the body as it is kept, after decompression. A field that is read from a
word (a kind, a ruling) or made (an id) stands nowhere as it is, and is called derived.")]
    Show(ShowArgs),
}

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Position of the entry.
    #[arg(value_name = "ENTRY")]
    seq: u64,
    /// Write original bytes instead: those that the event was read from, or the whole body.
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "piece", conflicts_with = "field")]
    raw: Option<Raw>,
    /// Say where in the body a field came from, by JSON pointer; one inside of it will do.
    #[arg(long, value_name = "POINTER")]
    field: Option<String>,
}

/// Which bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Raw {
    /// Those of the record that `source.path` names.
    Piece,
    /// All that came in one request or file.
    Body,
}

/// Runs an event command.
pub(crate) fn run(command: &Command, context: &Context) -> Result<Exit, CliError> {
    let Command::Show(args) = command;
    // Bytes have one form.
    let json = args.raw.is_none() && context.output.is_json()?;
    let ledger = context.reader()?;
    let size = ledger.head().size;
    let record = ledger.record(args.seq)?.ok_or_else(|| {
        CliError::unusable(format!("the ledger has no entry {}", args.seq))
            .hint(format!("it has the entries 0 to {}", size.saturating_sub(1)))
    })?;
    if let Some(raw) = args.raw {
        context.output.bytes(&bytes(&ledger, &record, raw)?)?;
        return Ok(Exit::Clean);
    }
    let located = locate(&ledger, &record);
    if let Some(field) = &args.field {
        return one_field(&record, field, located, json, context);
    }
    let superseded_by = superseded_by(&ledger, &record)?;
    if json {
        context.output.json(&report(&ledger, &record, located.as_ref().ok(), superseded_by)?)?;
    } else {
        context.output.result(&told(&record, &located, superseded_by)?)?;
        if let Err(error) = &located {
            context.output.note(&error.message);
        }
    }
    Ok(Exit::Clean)
}

/// Reads the body in which an event came.
fn body(ledger: &Ledger, record: &Record) -> Result<Vec<u8>, CliError> {
    let seq = record.seq;
    let event = record.event.as_ref().ok_or_else(|| {
        CliError::unusable(format!(
            "entry {seq} is a {}: the ledger wrote it itself, no body came",
            record.kind
        ))
    })?;
    let raw = event
        .source
        .raw
        .ok_or_else(|| CliError::unusable(format!("entry {seq} names no raw body: its sender kept none")))?;
    ledger.blob(&raw)?.ok_or_else(|| {
        CliError::unusable(format!("the raw body {raw} of entry {seq} is not here any more"))
            .hint("`verdict find --kind payload.erased` lists what was erased, and why")
    })
}

fn bytes(ledger: &Ledger, record: &Record, wanted: Raw) -> Result<Vec<u8>, CliError> {
    let body = body(ledger, record)?;
    let (Raw::Piece, Some(event)) = (wanted, &record.event) else { return Ok(body) };
    let range = ingest::locate_record(event, &body, &Limits::default())
        .map_err(|error| CliError::of(Kind::Untrusted, &error).hint("--raw=body writes the whole body"))?;
    Ok(body.get(range).unwrap_or_default().to_vec())
}

/// Meets the event with its bytes.
fn locate(ledger: &Ledger, record: &Record) -> Result<Located, CliError> {
    let body = body(ledger, record)?;
    let Some(event) = &record.event else { return Err(CliError::unusable("no event")) };
    ingest::locate(event, &body, &Limits::default()).map_err(|error| CliError::of(Kind::Untrusted, &error))
}

/// Finds the event that took the place of this one.
fn superseded_by(ledger: &Ledger, record: &Record) -> Result<Option<u64>, CliError> {
    let Some(event) = &record.event else { return Ok(None) };
    let mut newest = None;
    for seq in ledger.readings_of(event)? {
        let other = ledger.record(seq)?.and_then(|record| record.event);
        let mapper = other.filter(|other| other.source.mapper > event.source.mapper).map(|o| o.source.mapper);
        newest = newest.max(mapper.map(|mapper| (mapper, seq)));
    }
    Ok(newest.map(|(_, seq)| seq))
}

fn one_field(
    record: &Record,
    field: &str,
    located: Result<Located, CliError>,
    json: bool,
    context: &Context,
) -> Result<Exit, CliError> {
    let located = located?;
    let event = serde_json::to_value(&record.event).unwrap_or_default();
    if event.pointer(field).is_none() || field.is_empty() {
        return Err(CliError::unusable(format!("entry {} has no field `{}`", record.seq, visible(field)))
            .hint("`verdict event show ENTRY` lists the fields, for example /action/name"));
    }
    let inside =
        |name: &str| name == field || name.strip_prefix(field).is_some_and(|rest| rest.starts_with('/'));
    let found: Vec<_> = located.found.iter().filter(|origin| inside(&origin.field)).collect();
    let derived: Vec<_> = located.derived.iter().filter(|name| inside(name)).collect();
    if json {
        context.output.json(&json!({"field": field, "found": found, "derived": derived}))?;
        return Ok(Exit::Clean);
    }
    let mut text = String::new();
    for origin in found {
        text.push_str(&format!(
            "{}  bytes {}..{}  {}\n",
            visible(&origin.field),
            origin.start,
            origin.end,
            visible(&origin.pointer)
        ));
    }
    for name in derived {
        text.push_str(&format!("{}  derived: it does not stand in the body as it is\n", visible(name)));
    }
    if text.is_empty() {
        // What the receiver wrote: where it came from, and the id.
        text = format!("{}  written by the receiver\n", visible(field));
    }
    context.output.result(&text)?;
    Ok(Exit::Clean)
}

fn report(
    ledger: &Ledger,
    record: &Record,
    located: Option<&Located>,
    superseded_by: Option<u64>,
) -> Result<Value, CliError> {
    let raw = record.event.as_ref().and_then(|event| event.source.raw);
    let erased = ledger.erasures_of(record.seq, raw.as_ref())?;
    let converted: Vec<Value> = located
        .into_iter()
        .flat_map(|located| &located.converted)
        .map(|leaf| json!({"pointer": leaf.pointer, "start": leaf.start, "end": leaf.end, "value": leaf.value}))
        .collect();
    Ok(json!({
        "seq": record.seq.to_string(), "type": record.kind, "ts_ns": record.ts_ns.to_string(),
        "event": record.event, "body": record.event.is_none().then_some(&record.body),
        "withheld": record.withheld, "erased": erased,
        "superseded_by": superseded_by.map(|seq| seq.to_string()),
        "origin": located.map(|located| json!({
            "found": located.found, "derived": located.derived, "converted": converted,
        })),
    }))
}

fn told(
    record: &Record,
    located: &Result<Located, CliError>,
    superseded_by: Option<u64>,
) -> Result<String, CliError> {
    let unreadable =
        |error: serde_json::Error| CliError::new(Kind::Untrusted, format!("entry {}: {error}", record.seq));
    let mut text =
        format!("entry {} {}\nreceived {}\n", record.seq, visible(&record.kind), time(record.ts_ns));
    let Some(event) = &record.event else {
        let body = serde_json::to_string_pretty(&record.body).map_err(unreadable)?;
        text.push_str(&(body.lines().map(visible).collect::<Vec<_>>().join("\n") + "\n"));
        return Ok(text);
    };
    let source = &event.source;
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!("{name:<9}{}\n", visible(&value)));
        }
    };
    line("id", Some(event.id.clone()));
    let profile = source.profile.as_ref().map(|profile| format!(", profile {profile}")).unwrap_or_default();
    line("read as", Some(format!("{}{profile}, mapper {}", source.format, source.mapper)));
    line("sender", source.peer.clone());
    line("body", source.raw.map(|raw| raw.to_string()));
    line("place", source.path.clone());
    line("lost", (source.lost > 0).then(|| format!("{} fields, by the source's own count", source.lost)));
    line("instead", source.supersedes.as_ref().map(|id| format!("of event {id}")));
    line(
        "now read",
        superseded_by.map(|seq| format!("as entry {seq} says, which takes the place of this one")),
    );
    line("withheld", (!record.withheld.is_empty()).then(|| record.withheld.join(" ")));
    let value = serde_json::to_value(event).map_err(unreadable)?;
    let mut fields = Vec::new();
    flatten(&value, &mut String::new(), &mut fields);
    let mut table = Table::new(&[
        ("field", Align::Left),
        ("value", Align::Left),
        ("bytes", Align::Left),
        ("in the body", Align::Left),
    ]);
    // What the receiver wrote is above.
    fields.retain(|(field, _)| field != "/id" && field != "/source" && !field.starts_with("/source/"));
    for (field, value) in fields {
        let origin = located.as_ref().ok().and_then(|l| l.found.iter().find(|origin| origin.field == field));
        let derived = located.as_ref().is_ok_and(|located| located.derived.contains(&field));
        table.row(vec![
            visible(&field),
            short(&value),
            origin.map(|origin| format!("{}..{}", origin.start, origin.end)).unwrap_or_default(),
            match origin {
                Some(origin) => visible(&origin.pointer),
                None if derived => "(derived)".to_owned(),
                None => String::new(),
            },
        ]);
    }
    text.push_str(&(table.lines(400).join("\n") + "\n"));
    Ok(text)
}

fn flatten(value: &Value, pointer: &mut String, out: &mut Vec<(String, Value)>) {
    let len = pointer.len();
    let mut under = |token: &str, inner: &Value| {
        pointer.push('/');
        pointer.push_str(token);
        flatten(inner, pointer, out);
        pointer.truncate(len);
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            members
                .iter()
                .for_each(|(name, inner)| under(&verdict_ledger::canon::escape_pointer(name), inner));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(index, inner)| under(&index.to_string(), inner));
        }
        other => out.push((pointer.clone(), other.clone())),
    }
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = visible(&text);
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
