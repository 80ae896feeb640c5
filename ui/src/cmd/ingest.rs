//! `verdict ingest`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use verdict_diff::render::text::counted;
use verdict_ledger::ingest::{self, Format, IngestError, Limits, Mapped, Signal};
use verdict_ledger::{Batch, Ledger};

use super::entries;
use crate::cli::Context;
use crate::exit::{CliError, Exit, chain};
use crate::output::Output;
use crate::progress::Progress;

/// Records that are named one by one when the rest of their file is taken; more are counted.
const REJECTED_SHOWN: usize = 20;
/// Records that are named one by one when their file is refused: enough to see what is wrong with it.
const REFUSED_SHOWN: usize = 5;
/// What to do when a server has the ledger open.
const WHILE_SERVED: &str = "send native events to the server: `curl -H 'content-type: application/x-ndjson' --data-binary @FILE http://127.0.0.1:7878/api/v1/events` (OTLP goes to /v1/traces and /v1/logs); or stop it, ingest, start it again";
/// Directories inside directories that are followed.
const DEPTH_MAX: usize = 16;
/// Records appended in one atomic write.
const RECORDS_PER_BATCH: usize = 10_000;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  verdict ingest traces.pb spans.json.gz events.ndjson
  verdict ingest recordings/                     every file below it whose name says that it may hold events
  some-agent | verdict ingest -                  native events, one JSON object a line
  verdict ingest --input-format otlp-proto body  when the bytes do not tell

The same file twice adds nothing. A file with a record that cannot be taken is refused as a whole,
with line and byte; --keep-going takes the rest of it and ends with exit code 2. In a directory, empty
files and JSON of another kind are skipped with a warning.")]
pub(crate) struct Args {
    /// Files, directories, or `-` for stdin.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    inputs: Vec<PathBuf>,
    /// Format of the files.
    #[arg(long, value_enum, default_value_t = InputFormat::Auto, value_name = "FORMAT")]
    input_format: InputFormat,
    /// Take what can be taken and name the rest.
    #[arg(long)]
    keep_going: bool,
}

/// Format of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum InputFormat {
    /// Told by the content, then by the name.
    Auto,
    /// One native event a line.
    Native,
    /// An OTLP protobuf request; traces, logs or metrics is told by the content.
    OtlpProto,
    /// OTLP/JSON: one request, or one a line.
    OtlpJson,
    /// Audit log of the AISecOps Interceptor.
    Aisecops,
    /// CloudEvents 1.0: one, a batch, or one a line.
    Cloudevents,
    /// OPA decision logs: an array, or one entry a line.
    Opa,
    /// MCP transcript: one JSON-RPC message a line.
    Mcp,
    /// Callback events of LangChain or LangGraph.
    Langchain,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    files: u64,
    skipped: u64,
    events: u64,
    appended: u64,
    duplicates: u64,
    conflicts: u64,
    rejected: u64,
    failed_files: u64,
    size: u64,
}

/// Adds files.
pub(crate) fn run(args: &Args, context: &Context) -> Result<Exit, CliError> {
    let output = context.output;
    let json = output.is_json()?;
    let inputs = expand(&args.inputs)?;
    let ledger = context.writer(WHILE_SERVED)?;
    let mut summary = Summary::default();
    let progress = Progress::start(output, "ingest");
    let mut outcome = Ok(());
    for (done, input) in inputs.iter().enumerate() {
        progress.at(done as u64, inputs.len() as u64);
        if let Err(error) = take(input, args, &ledger, output, &mut summary) {
            summary.failed_files += 1;
            if args.keep_going && error.kind == crate::exit::Kind::Unusable {
                output.error(&error);
                continue;
            }
            outcome = Err(error);
            break;
        }
    }
    drop(progress);
    if outcome.is_ok() && summary.files + summary.failed_files == 0 {
        outcome = Err(CliError::unusable(format!(
            "nothing was read: {} skipped",
            counted(summary.skipped, "file")
        ))
        .hint("name a file by itself to see why it is not taken"));
    }
    // Also after a failure: what was acknowledged is to be under a checkpoint.
    let settled = ledger.settle();
    summary.size = ledger.head().size;
    if json {
        output.json(&summary)?;
    } else {
        tell(output, &summary)?;
    }
    if summary.conflicts > 0 {
        output.warn(&format!(
            "{} events have an id that is already there with other content; both are kept, and both are shown",
            summary.conflicts
        ));
    }
    outcome?;
    settled?;
    Ok(if summary.failed_files + summary.rejected > 0 { Exit::Unusable } else { Exit::Clean })
}

fn tell(output: Output, summary: &Summary) -> Result<(), CliError> {
    let mut text = format!(
        "{}, {}: {} appended, {} already there",
        counted(summary.files, "file"),
        counted(summary.events, "event"),
        summary.appended,
        summary.duplicates
    );
    for (count, told) in [
        (summary.conflicts, format!("{} in conflict", summary.conflicts)),
        (summary.rejected, format!("{} rejected", summary.rejected)),
        (summary.failed_files, format!("{} failed", counted(summary.failed_files, "file"))),
        (summary.skipped, format!("{} skipped", counted(summary.skipped, "file"))),
    ] {
        if count > 0 {
            text.push_str(&format!(", {told}"));
        }
    }
    output.result(&format!("{text}; the ledger has {}\n", entries(summary.size)))
}

/// One thing to read.
#[derive(Debug)]
struct Input {
    path: PathBuf,
    /// Found in a directory rather than named: may turn out to hold no events.
    found: bool,
}

impl Input {
    fn is_stdin(&self) -> bool {
        !self.found && self.path.as_os_str() == "-"
    }

    fn name(&self) -> String {
        if self.is_stdin() { "(stdin)".to_owned() } else { self.path.display().to_string() }
    }
}

fn take(
    input: &Input,
    args: &Args,
    ledger: &Ledger,
    output: Output,
    summary: &mut Summary,
) -> Result<(), CliError> {
    let limits = Limits::default();
    let bytes = read(input, &limits)?;
    let Some(format) = format_of(input, args.input_format, &bytes) else {
        let broken = broken(input, &bytes, &limits);
        if input.found && broken.is_none() {
            summary.skipped += 1;
            let why = if bytes.is_empty() { "it is empty" } else { "no format that is known" };
            output.warn(&format!("skipped {}: {why}", input.name()));
            return Ok(());
        }
        return Err(unrecognised(input, &bytes, broken));
    };
    let mapped = ingest::map(format, &bytes, &limits).map_err(|error| unusable(input, format, &error))?;
    drop(bytes);
    summary.files += 1;
    for warning in &mapped.warnings {
        output.warn(&format!("{}: {warning}", input.name()));
    }
    if !mapped.rejected.is_empty() {
        if !args.keep_going {
            return Err(refused(input, format, &mapped));
        }
        for rejected in mapped.rejected.iter().take(REJECTED_SHOWN) {
            output.warn(&format!("{}: {rejected}", input.name()));
        }
        if mapped.rejected.len() > REJECTED_SHOWN {
            output.warn(&format!("{}: {} more", input.name(), mapped.rejected.len() - REJECTED_SHOWN));
        }
        summary.rejected += mapped.rejected.len() as u64;
    }
    append(input, mapped, ledger, summary)
}

fn append(input: &Input, mapped: Mapped, ledger: &Ledger, summary: &mut Summary) -> Result<(), CliError> {
    summary.events += mapped.events.len() as u64;
    let batch =
        mapped.into_batch(None).map_err(|error| CliError::unusable(chain(&error)).at(input.name()))?;
    let mut blobs = batch.blobs;
    let mut records = batch.records;
    while !records.is_empty() {
        let rest = records.split_off(records.len().min(RECORDS_PER_BATCH));
        let part = Batch { records, blobs: blobs.clone() };
        let receipt = ledger.append(part).map_err(|error| CliError::from(error).at(input.name()))?;
        summary.appended += receipt.appended;
        summary.duplicates += receipt.duplicates;
        summary.conflicts += receipt.conflicts;
        // Of a part that added nothing the raw bodies were not kept, and what comes after it names them.
        if receipt.appended > 0 {
            blobs.clear();
        }
        records = rest;
    }
    Ok(())
}

fn read(input: &Input, limits: &Limits) -> Result<Vec<u8>, CliError> {
    let too_much = u64::try_from(limits.body_bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let ended = if input.is_stdin() {
        io::stdin().lock().take(too_much).read_to_end(&mut bytes)
    } else {
        fs::File::open(&input.path).and_then(|file| file.take(too_much).read_to_end(&mut bytes))
    };
    ended.map_err(|error| CliError::io("cannot read", Path::new(&input.name()), &error))?;
    if bytes.len() > limits.body_bytes_max {
        return Err(CliError::unusable(format!(
            "{}: larger than {} bytes",
            input.name(),
            limits.body_bytes_max
        ))
        .hint("split it, for example with `split -l 100000`, and ingest the parts"));
    }
    Ok(bytes)
}

fn format_of(input: &Input, asked: InputFormat, bytes: &[u8]) -> Option<Format> {
    // No bytes are a legal OTLP request without spans, but a file of none is a copy or export gone wrong.
    if bytes.is_empty() && asked == InputFormat::Auto {
        return None;
    }
    let name = input.path.file_name().map(|name| name.to_string_lossy());
    match asked {
        InputFormat::Auto => Format::detect(name.as_deref(), None, bytes),
        InputFormat::Native => Some(Format::Native),
        InputFormat::OtlpJson => Some(Format::OtlpJson),
        InputFormat::Aisecops => Some(Format::AiSecOps),
        InputFormat::Cloudevents => Some(Format::CloudEvents),
        InputFormat::Opa => Some(Format::OpaDecisions),
        InputFormat::Mcp => Some(Format::Mcp),
        InputFormat::Langchain => Some(Format::LangChain),
        InputFormat::OtlpProto => {
            match Format::detect(name.as_deref(), Some("application/x-protobuf"), bytes) {
                Some(Format::OtlpProtobuf(signal)) => Some(Format::OtlpProtobuf(signal)),
                // Not readable as any signal: reading it as traces tells where it breaks.
                _ => Some(Format::OtlpProtobuf(Signal::Traces)),
            }
        }
    }
}

/// Tells where bytes break that by their name or by a word in them were to be OTLP.
fn broken(input: &Input, bytes: &[u8], limits: &Limits) -> Option<String> {
    if bytes.is_empty() {
        return None;
    }
    let name = input.path.to_string_lossy().to_ascii_lowercase();
    let plain = Path::new(name.strip_suffix(".gz").unwrap_or(&name));
    let named = plain.extension().is_some_and(|extension| extension == "pb");
    let holds = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    let format = if named {
        Format::OtlpProtobuf(Signal::Traces)
    } else if holds(b"\"resourceSpans\"") || holds(b"\"resourceLogs\"") {
        Format::OtlpJson
    } else {
        return None;
    };
    let error = ingest::map(format, bytes, limits).err()?;
    Some(format!("as {} it breaks: {}", format.as_str(), chain(&error)))
}

fn unrecognised(input: &Input, bytes: &[u8], broken: Option<String>) -> CliError {
    let told = broken.is_some() || bytes.is_empty();
    let what = match (bytes.is_empty(), broken) {
        (true, _) if input.is_stdin() => "nothing came in".to_owned(),
        (true, _) => "the file is empty".to_owned(),
        (false, Some(broken)) => format!("no format that is known; {broken}"),
        (false, None) => "no format that is known".to_owned(),
    };
    let error = CliError::unusable(format!("{}: {what}", input.name()))
        .hint("taken are native events, CloudEvents, OPA decision logs, AISecOps logs, MCP transcripts and LangChain callbacks (JSON: one a line, or an array), and OTLP as protobuf or JSON; gzip or not");
    if told { error } else { error.hint("name the format with --input-format to see where the file breaks") }
}

fn unusable(input: &Input, format: Format, error: &IngestError) -> CliError {
    CliError::unusable(chain(error))
        .at(input.name())
        .hint(format!("it was read as {}; nothing of it was added", format.as_str()))
        .hint("fix or remove the named place, or name another format with --input-format")
}

fn refused(input: &Input, format: Format, mapped: &Mapped) -> CliError {
    let mut places = mapped.rejected.iter().map(ToString::to_string);
    let mut error = CliError::unusable(format!("{}: {}", input.name(), places.next().unwrap_or_default()));
    error.hints.extend(places.take(REFUSED_SHOWN - 1).map(|place| format!("also {place}")));
    if mapped.rejected.len() > REFUSED_SHOWN {
        error = error.hint(format!("and {} more", mapped.rejected.len() - REFUSED_SHOWN));
    }
    if mapped.events.is_empty() {
        error = error.hint(format!(
            "not one record of it can be read as {}: if it is something else, name the format with --input-format",
            format.as_str()
        ));
    }
    error.hint("nothing of this file was added; fix it, or use --keep-going to take the rest of it")
}

/// Lists the files of directories, sorted, so that the same directory gives the same log.
fn expand(inputs: &[PathBuf]) -> Result<Vec<Input>, CliError> {
    let mut out = Vec::new();
    for path in inputs {
        if path.as_os_str() == "-" || !path.is_dir() {
            out.push(Input { path: path.clone(), found: false });
            continue;
        }
        let mut found = BTreeSet::new();
        walk(path, 0, &mut found)?;
        if found.is_empty() {
            return Err(CliError::unusable(format!(
                "{}: no file whose name says that it may hold events",
                path.display()
            ))
            .hint("looked for .pb, .json, .jsonl and .ndjson, gzip or not; name other files one by one"));
        }
        out.extend(found.into_iter().map(|path| Input { path, found: true }));
    }
    Ok(out)
}

fn walk(dir: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) -> Result<(), CliError> {
    let fail = |error: io::Error| CliError::io("cannot read directory", dir, &error);
    if depth > DEPTH_MAX {
        return Err(CliError::unusable(format!(
            "{}: nested deeper than {DEPTH_MAX} directories",
            dir.display()
        )));
    }
    for entry in fs::read_dir(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Symbolic links are not followed: they can form a circle.
        let kind = entry.file_type().map_err(fail)?;
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), depth + 1, found)?;
        } else if kind.is_file() && may_hold_events(&name) {
            found.insert(entry.path());
        }
    }
    Ok(())
}

fn may_hold_events(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    // Captured requests keep their headers beside the body.
    !name.ends_with(".headers.json")
        && [".pb", ".json", ".jsonl", ".ndjson"].iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_hold_events() {
        for name in ["a.pb", "a.pb.gz", "b.JSON", "c.ndjson.gz", "d.jsonl"] {
            assert!(may_hold_events(name), "{name}");
        }
        for name in ["README.md", "record.py", "001.headers.json", "requirements.txt", "gz"] {
            assert!(!may_hold_events(name), "{name}");
        }
    }
}
